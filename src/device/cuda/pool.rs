//! Blocks of a card's memory that nobody holds any more, and when they may be used again.
//!
//! The driver stops all streams of a card to take or to free memory, so memory that is dropped is kept for whoever
//! asks next. A block that was dropped may still be in use: what was launched before runs on. So the owner of the
//! list marks a point on every stream of the card at the drop. Whatever uses the block lies before these marks, since
//! a launch borrows the memory, and the block may be used again
//!
//! - by anyone, when all its marks have been passed;
//! - on a stream, when all marks on other streams have been passed: what comes later on that stream comes later
//!   anyhow. Another stream gets at the block only through someone who has waited for the first
//!   ([`Device::with_own_stream`](crate::device::Device::with_own_stream)).
//!
//! This file knows nothing of the driver, so that the rules are tested without a card.

use super::error::CudaError;

/// The number of a stream; never used twice.
pub(super) type StreamId = u64;

/// A point on a stream behind everything that was asked of it before.
pub(super) trait Mark {
    /// Whether the stream has come by.
    fn passed(&self) -> bool;
}

/// Memory that nobody holds.
pub(super) struct Block<M> {
    pub start: u64,
    /// Its bytes.
    pub room: usize,
    /// A mark on each stream that there was at the drop.
    marks: Vec<(StreamId, M)>,
}

impl<M: Mark> Block<M> {
    /// Whether what is asked of a stream from now on may use it.
    fn is_free_for(&self, stream: StreamId) -> bool {
        self.marks.iter().all(|(marked, mark)| *marked == stream || mark.passed())
    }
}

/// The blocks, in the order in which they were dropped.
pub(super) struct FreeList<M> {
    blocks: Vec<Block<M>>,
    /// Marks of blocks that are in use again.
    spare: Vec<M>,
    held: usize,
    limit: usize,
}

/// Bytes to take for an allocation of so many: sizes that are nearly the same come to the same.
pub(super) fn room(bytes: usize) -> usize {
    let step = if bytes < 1 << 20 { 512 } else { 1 << 16 };
    bytes.max(1).checked_next_multiple_of(step).unwrap_or(bytes)
}

impl<M: Mark> FreeList<M> {
    /// No blocks yet, and never more than `limit` bytes of them.
    pub fn new(limit: usize) -> FreeList<M> {
        FreeList { blocks: Vec::new(), spare: Vec::new(), held: 0, limit }
    }

    /// A block of at least `room` bytes for what is asked of a stream from now on, and an eighth more at most: the
    /// smallest of them.
    pub fn take(&mut self, room: usize, stream: StreamId) -> Option<(u64, usize)> {
        let most = room.saturating_add(room / 8);
        let fits = |block: &Block<M>| (room..=most).contains(&block.room) && block.is_free_for(stream);
        let sized = self.blocks.iter().enumerate().filter(|(_, block)| fits(block));
        let (index, _) = sized.min_by_key(|(_, block)| block.room)?;
        let block = self.blocks.remove(index);
        self.held -= block.room;
        self.spare.extend(block.marks.into_iter().map(|(_, mark)| mark));
        Some((block.start, block.room))
    }

    /// Keeps a block; gives those back that are more than the limit, the oldest first.
    #[must_use]
    pub fn put(&mut self, start: u64, room: usize, marks: Vec<(StreamId, M)>) -> Vec<Block<M>> {
        self.blocks.push(Block { start, room, marks });
        self.held += room;
        let mut over = 0;
        while self.held > self.limit && over < self.blocks.len() {
            self.held -= self.blocks[over].room;
            over += 1;
        }
        self.blocks.drain(..over).collect()
    }

    /// A mark that may be set anew.
    pub fn spare(&mut self) -> Option<M> {
        self.spare.pop()
    }

    /// All blocks, to be given back to the driver.
    #[must_use]
    pub fn drain(&mut self) -> Vec<Block<M>> {
        self.held = 0;
        std::mem::take(&mut self.blocks)
    }

    /// Bytes of all blocks.
    pub fn held(&self) -> usize {
        self.held
    }
}

/// What `attempt` gives; where it finds the card full and `give_back` gives something back, what it gives then.
pub(super) fn with_room<T>(
    mut attempt: impl FnMut() -> Result<T, CudaError>,
    give_back: impl FnOnce() -> bool,
) -> Result<T, CudaError> {
    match attempt() {
        Err(error) if error.is_out_of_memory() && give_back() => attempt(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream;
    use rand::RngExt;
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::rc::Rc;

    /// How far each stream has come.
    type Done = Rc<RefCell<Vec<u64>>>;

    struct Point {
        done: Done,
        stream: usize,
        position: u64,
    }

    impl Mark for Point {
        fn passed(&self) -> bool {
            self.done.borrow()[self.stream] >= self.position
        }
    }

    fn marks(done: &Done, positions: &[u64]) -> Vec<(StreamId, Point)> {
        let mark = |(stream, &position): (usize, &u64)| {
            (stream as StreamId, Point { done: done.clone(), stream, position })
        };
        positions.iter().enumerate().map(mark).collect()
    }

    #[test]
    fn a_block_waits_for_other_streams_and_not_for_its_own() {
        let done: Done = Rc::new(RefCell::new(vec![0, 0]));
        let mut list = FreeList::new(usize::MAX);
        assert!(list.put(4096, 1024, marks(&done, &[3, 5])).is_empty());
        assert_eq!(list.held(), 1024);
        // Both streams are behind.
        assert_eq!(list.take(1024, 0), None);
        assert_eq!(list.take(1024, 7), None);
        // The second has come by: only what comes on the first may go ahead, which is not there yet.
        done.borrow_mut()[1] = 5;
        assert_eq!(list.take(1024, 1), None);
        assert_eq!(list.take(1024, 7), None, "a stream that is new waits for all");
        assert_eq!(list.take(1024, 0), Some((4096, 1024)));
        assert_eq!((list.held(), list.take(1024, 0)), (0, None));
        assert!(list.spare().is_some() && list.spare().is_some() && list.spare().is_none());
    }

    #[test]
    fn the_smallest_that_is_not_much_too_large_is_taken() {
        let mut list = FreeList::<Point>::new(usize::MAX);
        for (start, room) in [(1, 1100), (2, 1030), (3, 1200), (4, 900)] {
            assert!(list.put(start, room, Vec::new()).is_empty());
        }
        assert_eq!(list.take(1024, 0), Some((2, 1030)));
        assert_eq!(list.take(1024, 0), Some((1, 1100)));
        assert_eq!(list.take(1024, 0), None, "1200 is more than an eighth too large");
        assert_eq!(list.take(usize::MAX, 0), None);
        assert_eq!(list.drain().len(), 2);
        assert_eq!(list.held(), 0);
    }

    #[test]
    fn no_more_is_kept_than_the_limit() {
        let mut list = FreeList::<Point>::new(1000);
        assert!(list.put(1, 400, Vec::new()).is_empty());
        assert!(list.put(2, 500, Vec::new()).is_empty());
        let starts = |blocks: Vec<Block<Point>>| blocks.iter().map(|b| b.start).collect::<Vec<_>>();
        assert_eq!(starts(list.put(3, 450, Vec::new())), [1]);
        assert_eq!(list.held(), 950);
        assert_eq!(starts(list.put(4, 1001, Vec::new())), [2, 3, 4]);
        assert_eq!(list.held(), 0);
    }

    #[test]
    fn a_full_card_is_tried_once_more_when_something_was_given_back() {
        let full = || CudaError::OutOfMemory { bytes: 8, free: 1, total: 9 };
        let failed =
            |code: &str| CudaError::Driver { call: "cuModuleLoadData".into(), code: code.into(), advice: "" };
        // Attempts are answered in this order.
        let tried = |answers: Vec<Result<u8, CudaError>>, kept: bool| {
            let (mut answers, mut given_back) = (answers.into_iter(), false);
            let found = with_room(
                || answers.next().expect("no more attempts"),
                || {
                    given_back = true;
                    kept
                },
            );
            (found, given_back, answers.len())
        };
        assert_eq!(tried(vec![Ok(3)], true), (Ok(3), false, 0));
        assert_eq!(tried(vec![Err(full()), Ok(3)], true), (Ok(3), true, 0));
        assert_eq!(tried(vec![Err(failed("CUDA_ERROR_OUT_OF_MEMORY")), Ok(3)], true), (Ok(3), true, 0));
        assert_eq!(tried(vec![Err(full()), Err(full()), Ok(3)], true), (Err(full()), true, 1));
        assert_eq!(tried(vec![Err(full()), Ok(3)], false), (Err(full()), true, 1));
        let other = failed("CUDA_ERROR_INVALID_VALUE");
        assert_eq!(tried(vec![Err(other.clone()), Ok(3)], true), (Err(other), false, 1));
    }

    #[test]
    fn sizes_are_rounded_up_a_little() {
        assert_eq!([0, 1, 512, 513].map(room), [512, 512, 512, 1024]);
        assert_eq!(room((1 << 20) + 1), (1 << 20) + (1 << 16));
        assert_eq!(room(usize::MAX), usize::MAX);
    }

    /// Streams go ahead, memory is taken, used on some of them, dropped and taken again, at random: no stream ever
    /// gets a block that another one may still be using.
    #[test]
    fn no_block_is_handed_on_while_another_stream_uses_it() {
        const STREAMS: usize = 3;
        let mut random = stream(0, "device/cuda/pool", 0, 0);
        let done: Done = Rc::new(RefCell::new(vec![0; STREAMS]));
        let mut asked = [0u64; STREAMS];
        let mut list = FreeList::new(20_000);
        // By address: the room, and the last use on each stream.
        let mut held: Vec<(u64, usize)> = Vec::new();
        let mut uses: BTreeMap<u64, [u64; STREAMS]> = BTreeMap::new();
        let (mut fresh, mut reused) = (0u64, 0);
        for _ in 0..20_000 {
            let on = random.random_range(0..STREAMS);
            match random.random_range(0..4) {
                0 => {
                    let come = random.random_range(done.borrow()[on]..=asked[on]);
                    done.borrow_mut()[on] = come;
                }
                1 => {
                    let wanted = room(random.random_range(1..4096));
                    let (start, bytes) = list.take(wanted, on as StreamId).unwrap_or_else(|| {
                        fresh += 1;
                        (fresh << 20, wanted)
                    });
                    assert!(held.iter().all(|&(other, _)| other != start), "nobody else holds it");
                    if let Some(last) = uses.get(&start) {
                        reused += 1;
                        let behind = |s: usize| s == on || done.borrow()[s] >= last[s];
                        assert!((0..STREAMS).all(behind), "{last:?} of {:?} on {on}", done.borrow());
                    }
                    uses.insert(start, [0; STREAMS]);
                    // Who has it on one stream waits there before it is used on others.
                    if random.random_bool(0.5) {
                        done.borrow_mut()[on] = asked[on];
                    } else {
                        asked[on] += 1;
                        uses.entry(start).or_default()[on] = asked[on];
                    }
                    held.push((start, bytes));
                }
                2 if !held.is_empty() => {
                    let (start, _) = held[random.random_range(0..held.len())];
                    let elsewhere = uses[&start]
                        .iter()
                        .enumerate()
                        .any(|(s, &position)| s != on && position > done.borrow()[s]);
                    if !elsewhere {
                        asked[on] += 1;
                        uses.entry(start).or_default()[on] = asked[on];
                    }
                }
                _ if !held.is_empty() => {
                    let (start, bytes) = held.swap_remove(random.random_range(0..held.len()));
                    for block in list.put(start, bytes, marks(&done, &asked)) {
                        uses.remove(&block.start);
                    }
                }
                _ => {}
            }
        }
        assert!(reused > 500 && fresh > 100, "{reused} reused, {fresh} fresh");
    }
}
