//! What a kernel launch consists of, on a GPU and on the emulator alike.
//!
//! A kernel takes its arguments the way `cuLaunchKernel` wants them: an array of pointers to the
//! values. [`Arguments`] makes that array from references and remembers the sizes, so that a
//! launch whose arguments are not the kernel's is refused where that can be known.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// Geometry of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Blocks in x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y and z.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block, in bytes.
    pub shared_bytes: u32,
}

impl Geometry {
    /// `blocks` blocks of `threads` threads in one dimension, without dynamic shared memory.
    pub fn linear(blocks: u32, threads: u32) -> Geometry {
        Geometry { grid: [blocks, 1, 1], block: [threads, 1, 1], shared_bytes: 0 }
    }

    /// As many blocks of `threads` threads as give each of `items` its thread. At least one block.
    pub fn covering(items: u32, threads: u32) -> Geometry {
        Geometry::linear(items.div_ceil(threads.max(1)).max(1), threads)
    }
}

/// The arguments of a launch, borrowed.
#[derive(Clone, Default)]
pub struct Arguments<'a> {
    pointers: Vec<*mut c_void>,
    bytes: Vec<usize>,
    borrowed: PhantomData<&'a ()>,
}

impl<'a> Arguments<'a> {
    /// No argument.
    pub fn new() -> Arguments<'a> {
        Arguments::default()
    }

    /// One argument, as most kernels have it: a params struct.
    ///
    /// `T` must be laid out as the kernel's parameter: `#[repr(C)]`, or a primitive number.
    pub fn of<T: Copy>(value: &'a T) -> Arguments<'a> {
        Arguments::new().and(value)
    }

    /// One more argument.
    #[must_use]
    pub fn and<T: Copy>(mut self, value: &'a T) -> Arguments<'a> {
        const { assert!(align_of::<T>() <= align_of::<u64>(), "what a RecordedLaunch can hold") };
        self.pointers.push(std::ptr::from_ref(value).cast_mut().cast());
        self.bytes.push(size_of::<T>());
        self
    }

    /// Pointers to the values. A launch reads through them and never writes.
    pub fn pointers(&self) -> &[*mut c_void] {
        &self.pointers
    }

    /// The sizes of the values in bytes.
    pub fn bytes(&self) -> &[usize] {
        &self.bytes
    }
}

/// A launch that can be made again: it has copies of its arguments.
#[derive(Clone, Debug)]
pub struct RecordedLaunch {
    /// The kernel's name.
    pub kernel: &'static str,
    /// Its geometry.
    pub geometry: Geometry,
    /// The values, each in whole words; the bytes between a struct's fields are as they were.
    values: Vec<Box<[MaybeUninit<u64>]>>,
    bytes: Vec<usize>,
}

impl RecordedLaunch {
    /// Copies a launch.
    pub fn new(kernel: &'static str, geometry: Geometry, arguments: &Arguments<'_>) -> RecordedLaunch {
        let copy = |(&from, &bytes): (&*mut c_void, &usize)| {
            let mut to = vec![MaybeUninit::uninit(); bytes.div_ceil(size_of::<u64>())].into_boxed_slice();
            // SAFETY: `Arguments` holds references to values of these sizes; `to` is new and as large.
            unsafe {
                std::ptr::copy_nonoverlapping(from.cast::<u8>(), to.as_mut_ptr().cast::<u8>(), bytes);
            }
            to
        };
        let values = arguments.pointers.iter().zip(&arguments.bytes).map(copy).collect();
        RecordedLaunch { kernel, geometry, values, bytes: arguments.bytes.clone() }
    }

    /// The arguments again.
    pub fn arguments(&self) -> Arguments<'_> {
        Arguments {
            pointers: self.values.iter().map(|value| value.as_ptr().cast_mut().cast()).collect(),
            bytes: self.bytes.clone(),
            borrowed: PhantomData,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covering_gives_every_item_a_thread() {
        assert_eq!(Geometry::covering(1, 256).grid, [1, 1, 1]);
        assert_eq!(Geometry::covering(256, 256).grid, [1, 1, 1]);
        assert_eq!(Geometry::covering(257, 256).grid, [2, 1, 1]);
        assert_eq!(Geometry::covering(0, 256).grid, [1, 1, 1]);
    }

    #[test]
    fn arguments_remember_sizes() {
        let (a, b) = (1u64, 2.0f32);
        let arguments = Arguments::of(&a).and(&b);
        assert_eq!(arguments.bytes(), [8, 4]);
        assert_eq!(arguments.pointers().len(), 2);
    }

    #[test]
    fn a_recorded_launch_has_its_own_arguments() {
        let recorded = {
            let (a, b) = (7u64, [2u8, 3, 5]);
            RecordedLaunch::new("some_kernel", Geometry::linear(2, 64), &Arguments::of(&a).and(&b))
        };
        let arguments = recorded.arguments();
        assert_eq!(arguments.bytes(), [8, 3]);
        // SAFETY: the pointers are to copies of the two values.
        let (a, b) =
            unsafe { (*arguments.pointers()[0].cast::<u64>(), *arguments.pointers()[1].cast::<[u8; 3]>()) };
        assert_eq!((a, b), (7, [2, 3, 5]));
    }
}
