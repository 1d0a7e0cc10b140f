//! What devices in host memory share: aligned buffers, and slots resolved to slices.

use super::{Buffer, Device, Error, Memory};
use crate::ops::operator::Resolve;
use crate::ops::{Real, Region, Slot};
use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;

/// Cache line and vector size.
const ALIGNMENT: usize = 64;

/// Aligned host memory of a fixed number of elements.
pub(super) struct HostMemory<T> {
    start: NonNull<T>,
    len: usize,
}

// SAFETY: the memory is owned, plain numbers, and only changed through `&mut`.
unsafe impl<T: Send> Send for HostMemory<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for HostMemory<T> {}

impl<T: Real> HostMemory<T> {
    fn layout(len: usize) -> Option<Layout> {
        Layout::array::<T>(len.max(1)).ok()?.align_to(ALIGNMENT).ok()
    }

    fn new(len: usize) -> Option<HostMemory<T>> {
        // SAFETY: the layout has a size above zero.
        let start = NonNull::new(unsafe { alloc(Self::layout(len)?) }.cast::<T>())?;
        // SAFETY: `start` is valid for `len` writes of plain numbers.
        (0..len).for_each(|i| unsafe { start.as_ptr().add(i).write(T::nan()) });
        Some(HostMemory { start, len })
    }

    pub(super) fn slice(&self) -> &[T] {
        // SAFETY: `len` initialised elements, borrowed with `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    pub(super) fn slice_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, borrowed mutably with `self`.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T> Drop for HostMemory<T> {
    fn drop(&mut self) {
        let layout = Layout::array::<T>(self.len.max(1)).and_then(|l| l.align_to(ALIGNMENT));
        // SAFETY: the same layout as in `new`, which succeeded for this length.
        layout.into_iter().for_each(|layout| unsafe { dealloc(self.start.as_ptr().cast(), layout) });
    }
}

/// `Device::allocate` for host memory of `T`.
pub(super) fn allocate<T: Real>(device: &dyn Device, len: usize) -> Result<Buffer, Error> {
    let memory = HostMemory::<T>::new(len)
        .ok_or_else(|| Error::OutOfMemory { device: device.describe(), bytes: len * size_of::<T>() })?;
    Ok(Buffer::new(memory, len))
}

/// `Device::upload` for host memory of `T`.
pub(super) fn upload<T: Real>(buffer: &mut Buffer, offset: usize, data: &[f32]) {
    let memory = buffer.memory_mut::<HostMemory<T>>().slice_mut();
    for (to, &from) in memory[offset..offset + data.len()].iter_mut().zip(data) {
        *to = T::of(f64::from(from));
    }
}

/// `Device::download` for host memory of `T`.
pub(super) fn download<T: Real>(buffer: &Buffer, offset: usize, out: &mut [f32]) {
    let memory = buffer.memory::<HostMemory<T>>().slice();
    for (to, from) in out.iter_mut().zip(&memory[offset..]) {
        *to = from.wide() as f32;
    }
}

/// Slots of one list of calls as slices.
pub(super) struct Resolver<'a, T> {
    weights: &'a [T],
    network: &'a [T],
    arena: *mut T,
    len: usize,
}

impl<'a, T: Real> Resolver<'a, T> {
    pub(super) fn new(memory: &'a mut Memory<'_>) -> Resolver<'a, T> {
        let arena = memory.arena.memory_mut::<HostMemory<T>>().slice_mut();
        Resolver {
            weights: memory.weights.memory::<HostMemory<T>>().slice(),
            network: memory.network.memory::<HostMemory<T>>().slice(),
            len: arena.len(),
            arena: arena.as_mut_ptr(),
        }
    }
}

impl<T> Resolve<T> for Resolver<'_, T> {
    fn read(&self, slot: Slot) -> &[T] {
        match slot.region {
            Region::Weights => &self.weights[slot.offset..][..slot.len],
            Region::Network => &self.network[slot.offset..][..slot.len],
            Region::Arena => {
                assert!(slot.offset + slot.len <= self.len, "slot outside the arena");
                // SAFETY: inside the arena, which is borrowed for 'a. Plans are checked so that no
                // call reads what it writes through another slot, and calls run one after another.
                unsafe { std::slice::from_raw_parts(self.arena.add(slot.offset), slot.len) }
            }
        }
    }

    fn write(&self, slot: Slot) -> &mut [T] {
        assert!(slot.region == Region::Arena && slot.offset + slot.len <= self.len, "slot outside the arena");
        // SAFETY: as in `read`; one call never resolves overlapping slots if one is written.
        unsafe { std::slice::from_raw_parts_mut(self.arena.add(slot.offset), slot.len) }
    }
}
