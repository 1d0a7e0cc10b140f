//! Buffers of a device that are kept for what runs next.
//!
//! On a card allocating waits for everything that runs, and so does freeing. So buffers come back here, and
//! a new one is a little larger than was asked for: what comes next is of about that size, and sizes that
//! grow step by step come to an end after a few.

use super::feed::Feeder;
use crate::device::{Buffer, Device, Error};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Elements that are allocated where `len` are needed: up to the next quarter of an octave.
pub(crate) fn roomy(len: usize) -> usize {
    let octave = len.checked_next_power_of_two().unwrap_or(len);
    len.checked_next_multiple_of((octave / 8).max(64)).unwrap_or(len)
}

/// A buffer of at least `len` elements and room to grow; of just so many where memory is short.
///
/// # Errors
/// There is no memory for it.
pub(crate) fn allocate(device: &dyn Device, len: usize) -> Result<Buffer, Error> {
    match device.allocate(roomy(len)) {
        Err(Error::OutOfMemory { .. }) => device.allocate(len),
        other => other,
    }
}

/// A buffer of at least `len` elements: the one at hand, if it is large enough. What it held may be gone.
///
/// # Errors
/// There is no memory for it.
pub(crate) fn fitting(device: &dyn Device, at_hand: Option<Buffer>, len: usize) -> Result<Buffer, Error> {
    match at_hand {
        Some(buffer) if buffer.len() >= len => Ok(buffer),
        other => {
            // Both need not be there at a time.
            drop(other);
            allocate(device, len)
        }
    }
}

/// Buffers of one stream of a device that nothing uses at present, and feeders with theirs.
#[derive(Default)]
pub(super) struct Pool {
    /// Free buffers; the one that came back last stands last.
    buffers: Mutex<Vec<Buffer>>,
    feeders: Mutex<Vec<Feeder>>,
}

impl Pool {
    fn buffers(&self) -> MutexGuard<'_, Vec<Buffer>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn feeders(&self) -> MutexGuard<'_, Vec<Feeder>> {
        self.feeders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer of at least `len` elements: the smallest that fits, but none that is far too large for it.
    ///
    /// # Errors
    /// There is no memory for it, also without what is kept here.
    pub(super) fn take(&self, device: &dyn Device, len: usize) -> Result<Buffer, Error> {
        let mut buffers = self.buffers();
        let fitting = buffers.iter().enumerate().filter(|(_, b)| b.len() >= len && b.len() <= 4 * len + 4096);
        // Of buffers of equal size, take the one that came back last: its last use is likely to go on.
        if let Some((index, _)) = fitting.rev().min_by_key(|(_, buffer)| buffer.len()) {
            return Ok(buffers.remove(index));
        }
        drop(buffers);
        match allocate(device, len) {
            Err(Error::OutOfMemory { .. }) => {
                self.buffers().clear();
                device.allocate(len)
            }
            other => other,
        }
    }

    /// Takes a buffer back. A few sizes for every lane are worth keeping; of more that goes which was not
    /// used for longest.
    pub(super) fn give_back(&self, device: &dyn Device, buffer: Buffer) {
        let mut buffers = self.buffers();
        buffers.push(buffer);
        if buffers.len() > 4 * device.lanes() + 4 {
            buffers.remove(0);
        }
    }

    /// Calls `with` with a feeder that nothing else uses meanwhile.
    pub(super) fn with_feeder<R>(&self, with: impl FnOnce(&mut Feeder) -> R) -> R {
        // Taken and not locked: batches are made side by side.
        let mut feeder = self.feeders().pop().unwrap_or_default();
        let result = with(&mut feeder);
        self.feeders().push(feeder);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Cpu, Memory};
    use crate::ops::{Call, Threads};
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    proptest! {
        #[test]
        fn room_is_a_quarter_at_most_and_growing_ends_soon(len in 256usize..1 << 40) {
            let room = roomy(len);
            prop_assert!(room >= len && room <= len + len / 4 + 64, "{len}: {room}");
            prop_assert_eq!(roomy(room), room);
            // Eight sizes are two octaves.
            let eight = (0..8).fold(room, |size, _| roomy(size + 1));
            prop_assert_eq!(eight, 4 * room);
        }
    }

    #[test]
    fn no_length_is_too_large_to_be_refused_by_the_device() {
        assert_eq!((roomy(0), roomy(1), roomy(usize::MAX)), (0, 64, usize::MAX));
    }

    #[test]
    fn what_comes_back_is_taken_again_and_the_longest_unused_goes() {
        let (pool, device) = (Pool::default(), Cpu);
        let sizes: Vec<usize> = (0..4 * device.lanes() + 5).map(|index| 1000 << (4 * index).min(4)).collect();
        let buffers: Vec<Buffer> = sizes.iter().map(|&len| pool.take(&device, len).unwrap()).collect();
        buffers.into_iter().for_each(|buffer| pool.give_back(&device, buffer));
        // The first is gone, and what is much larger does not serve in its place.
        assert_eq!(pool.buffers().len(), 4 * device.lanes() + 4);
        assert!(pool.buffers().iter().all(|buffer| buffer.len() > roomy(1000)));
        let kept = pool.buffers().len();
        assert_eq!(pool.take(&device, 1000).unwrap().len(), roomy(1000));
        assert_eq!(pool.buffers().len(), kept);
        let taken = pool.take(&device, 900 << 4).unwrap();
        assert_eq!((taken.len(), pool.buffers().len()), (roomy(1000 << 4), kept - 1));
    }

    /// A CPU that refuses so many allocations.
    struct Short(AtomicUsize);

    impl Device for Short {
        fn describe(&self) -> String {
            Cpu.describe()
        }
        fn arithmetic(&self) -> String {
            Cpu.arithmetic()
        }
        fn allocate(&self, len: usize) -> Result<Buffer, Error> {
            let refused =
                self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            match refused {
                Ok(_) => Err(Error::OutOfMemory { device: self.describe(), bytes: 4 * len }),
                Err(_) => Cpu.allocate(len),
            }
        }
        fn upload(&self, buffer: &mut Buffer, offset: usize, data: &[f32]) -> Result<(), Error> {
            Cpu.upload(buffer, offset, data)
        }
        fn download(&self, buffer: &Buffer, offset: usize, out: &mut [f32]) -> Result<(), Error> {
            Cpu.download(buffer, offset, out)
        }
        fn run(&self, calls: &[Call], memory: Memory<'_>, threads: Threads) -> Result<(), Error> {
            Cpu.run(calls, memory, threads)
        }
        fn lanes(&self) -> usize {
            1
        }
        fn chunk(&self, _: usize) -> usize {
            1
        }
    }

    #[test]
    fn where_memory_is_short_the_room_goes_first_and_then_what_is_kept() {
        let (pool, device) = (Pool::default(), Short(AtomicUsize::new(0)));
        let refuse = |times| device.0.store(times, Ordering::Relaxed);
        let (len, kept) = (1001, || pool.buffers().len());
        pool.give_back(&device, pool.take(&device, 10).unwrap());
        refuse(1);
        assert_eq!((pool.take(&device, len).unwrap().len(), kept()), (len, 1));
        refuse(2);
        assert_eq!((pool.take(&device, len).unwrap().len(), kept()), (len, 0));
        refuse(3);
        let error = pool.take(&device, len).map(|buffer| buffer.len()).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { bytes: 4004, .. }), "{error}");
        refuse(1);
        assert_eq!(fitting(&device, Some(Cpu.allocate(5).unwrap()), len).unwrap().len(), len);
    }
}
