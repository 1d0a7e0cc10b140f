//! What was worked out of a shape is kept: the same few come with every network, at every launch and whenever one is
//! lowered.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::{PoisonError, RwLock};

/// Answers that are kept at most. A super-network has some hundred shapes at a resolution and a number of images, so
/// that a search has room for all that it meets.
const MOST: usize = 1 << 14;

/// Answers by question, for all threads. Each is a function of its question alone, so that it does not matter which are
/// kept. One that is full begins anew, which costs no more than was worked out since it last did.
pub(super) struct Memory<Q, A> {
    answers: RwLock<HashMap<Q, A, BuildHasherDefault<WordHasher>>>,
}

impl<Q: Hash + Eq, A: Copy> Memory<Q, A> {
    pub(super) const fn new() -> Memory<Q, A> {
        Memory { answers: RwLock::new(HashMap::with_hasher(BuildHasherDefault::new())) }
    }

    /// The answer that is kept, or that `work_out` gives.
    pub(super) fn get(&self, question: Q, work_out: impl FnOnce(&Q) -> A) -> A {
        let known = self.answers.read().unwrap_or_else(PoisonError::into_inner).get(&question).copied();
        known.unwrap_or_else(|| {
            // Nobody waits meanwhile; who asks the same gets the same.
            let answer = work_out(&question);
            let mut answers = self.answers.write().unwrap_or_else(PoisonError::into_inner);
            if answers.len() >= MOST {
                answers.clear();
            }
            answers.insert(question, answer);
            answer
        })
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.answers.read().unwrap().len()
    }
}

/// A hash of a few words, at some cycles a word. Nobody chooses shapes so that they collide.
#[derive(Default)]
pub(super) struct WordHasher(u64);

impl Hasher for WordHasher {
    fn finish(&self) -> u64 {
        // Tables take their place from the low bits, and the product's are the poorer.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn an_answer_is_worked_out_once_and_no_more_are_kept_than_there_is_room_for() {
        let (memory, worked_out) = (Memory::new(), Cell::new(0));
        let ask = |question: u32| {
            let double = |&question: &u32| {
                worked_out.set(worked_out.get() + 1);
                2 * question
            };
            assert_eq!(memory.get(question, double), 2 * question);
        };
        (0..100).chain(0..100).for_each(ask);
        assert_eq!((worked_out.get(), memory.len()), (100, 100));
        (0..MOST as u32 + 1).for_each(ask);
        assert_eq!((worked_out.get(), memory.len()), (MOST + 1, 1));
        ask(MOST as u32);
        ask(7);
        assert_eq!((worked_out.get(), memory.len()), (MOST + 2, 2));
    }

    #[test]
    fn threads_share_their_answers() {
        let memory = Memory::new();
        let ask = || (0..1000u64).map(|question| memory.get(question, |q| q * q)).sum::<u64>();
        let sums: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let sum = (0..1000).map(|question| question * question).sum::<u64>();
        assert_eq!(sums, [sum; 4]);
        assert_eq!(memory.len(), 1000);
    }
}
