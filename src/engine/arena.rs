//! Places for activations in one buffer.
//!
//! A plan asks for places and gives them back in the order in which its calls will run, so one
//! buffer of the size of the largest moment serves the whole network, and running allocates nothing.

use crate::ops::{Region, Slot};
use std::collections::BTreeMap;

/// Places are multiples of this many elements: 64 bytes of f32.
const GRAIN: usize = 16;

/// Gives out places, first fit.
#[derive(Debug, Clone, Default)]
pub struct Arena {
    /// Free ranges below `len`, ascending, never adjacent.
    free: Vec<(usize, usize)>,
    len: usize,
    /// By their places, how many hold one that more than one holds, beside one.
    shared: BTreeMap<usize, usize>,
}

impl Arena {
    /// An arena whose first `reserved` elements are spoken for.
    pub fn with_reserved(reserved: usize) -> Arena {
        Arena { len: reserved.next_multiple_of(GRAIN), ..Arena::default() }
    }

    /// Elements that a place of `len` elements takes.
    pub fn size(len: usize) -> usize {
        len.next_multiple_of(GRAIN)
    }

    /// A place of `len` elements.
    pub fn take(&mut self, len: usize) -> Slot {
        let rounded = Arena::size(len);
        let offset = match self.free.iter().position(|&(_, size)| size >= rounded) {
            Some(index) => {
                let (start, size) = self.free[index];
                if size == rounded {
                    self.free.remove(index);
                } else {
                    self.free[index] = (start + rounded, size - rounded)
                }
                start
            }
            // Grow, from the last free range on if it reaches the end.
            None => {
                let start = match self.free.last() {
                    Some(&(start, size)) if start + size == self.len => {
                        self.free.pop();
                        start
                    }
                    _ => self.len,
                };
                self.len = start + rounded;
                start
            }
        };
        Slot { region: Region::Arena, offset, len }
    }

    /// Says that so many more hold a place: as many more have to give it back.
    pub fn share(&mut self, slot: Slot, more: usize) {
        if more > 0 {
            *self.shared.entry(slot.offset).or_default() += more;
        }
    }

    /// Takes a place back, once all that hold it have given it back.
    pub fn give_back(&mut self, slot: Slot) {
        if let Some(others) = self.shared.get_mut(&slot.offset) {
            *others -= 1;
            if *others == 0 {
                self.shared.remove(&slot.offset);
            }
            return;
        }
        let (start, size) = (slot.offset, Arena::size(slot.len));
        let index = self.free.partition_point(|&(other, _)| other < start);
        self.free.insert(index, (start, size));
        // Join with the neighbours.
        if index + 1 < self.free.len() && start + size == self.free[index + 1].0 {
            self.free[index].1 += self.free.remove(index + 1).1;
        }
        if index > 0 && self.free[index - 1].0 + self.free[index - 1].1 == start {
            self.free[index - 1].1 += self.free.remove(index).1;
        }
    }

    /// Elements needed.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was ever taken.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_in_use_never_overlap(steps in prop::collection::vec((any::<bool>(), 1usize..200), 1..80)) {
            let mut arena = Arena::with_reserved(24);
            let mut used: Vec<Slot> = Vec::new();
            for (take, n) in steps {
                if take || used.is_empty() {
                    let slot = arena.take(n);
                    prop_assert!(slot.offset >= 24 && slot.offset + slot.len <= arena.len());
                    prop_assert!(used.iter().all(|other| !other.overlaps(&slot)));
                    used.push(slot);
                } else {
                    arena.give_back(used.swap_remove(n % used.len()));
                }
            }
            let len = arena.len();
            used.drain(..).for_each(|slot| arena.give_back(slot));
            let all = arena.take(len - 32);
            prop_assert_eq!((all.offset, arena.len()), (32, len));
        }
    }

    #[test]
    fn a_shared_place_is_free_once_all_have_given_it_back() {
        let mut arena = Arena::default();
        let slot = arena.take(20);
        arena.share(slot, 2);
        for _ in 0..2 {
            arena.give_back(slot);
            assert!(!arena.take(20).overlaps(&slot));
        }
        arena.give_back(slot);
        assert_eq!(arena.take(20), slot);
    }
}
