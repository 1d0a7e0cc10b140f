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

/// The most arguments that a launch has. Kernels take one, a struct; those of tests a few more.
pub const MOST_ARGUMENTS: usize = 8;

/// The arguments of a launch, borrowed. Holds no memory of its own: launches are made by the hundred thousand.
#[derive(Clone, Copy)]
pub struct Arguments<'a> {
    /// A null pointer is behind the last, by which a driver that looks for one sees how many there are.
    pointers: [*mut c_void; MOST_ARGUMENTS + 1],
    bytes: [usize; MOST_ARGUMENTS],
    count: usize,
    borrowed: PhantomData<&'a ()>,
}

impl Default for Arguments<'_> {
    fn default() -> Self {
        Arguments {
            pointers: [std::ptr::null_mut(); MOST_ARGUMENTS + 1],
            bytes: [0; MOST_ARGUMENTS],
            count: 0,
            borrowed: PhantomData,
        }
    }
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
    ///
    /// # Panics
    /// If there are [`MOST_ARGUMENTS`] already.
    #[must_use]
    pub fn and<T: Copy>(self, value: &'a T) -> Arguments<'a> {
        const { assert!(align_of::<T>() <= align_of::<u64>(), "what a RecordedLaunch can hold") };
        // SAFETY: the value is there for as long as it is borrowed.
        unsafe { self.and_raw(std::ptr::from_ref(value).cast_mut().cast(), size_of::<T>()) }
    }

    /// One more argument, of a type that is not known here.
    ///
    /// # Panics
    /// If there are [`MOST_ARGUMENTS`] already.
    ///
    /// # Safety
    /// A value of so many bytes is at the pointer, for as long as the arguments are used.
    #[must_use]
    pub unsafe fn and_raw(mut self, pointer: *mut c_void, bytes: usize) -> Arguments<'a> {
        assert!(self.count < MOST_ARGUMENTS, "a launch has at most {MOST_ARGUMENTS} arguments");
        self.pointers[self.count] = pointer;
        self.bytes[self.count] = bytes;
        self.count += 1;
        self
    }

    /// Pointers to the values. A launch reads through them and never writes.
    pub fn pointers(&self) -> &[*mut c_void] {
        &self.pointers[..self.count]
    }

    /// The same for interfaces that take them to be written to, which a launch does not do.
    pub fn pointers_mut(&mut self) -> &mut [*mut c_void] {
        &mut self.pointers[..self.count]
    }

    /// The sizes of the values in bytes.
    pub fn bytes(&self) -> &[usize] {
        &self.bytes[..self.count]
    }
}

/// A launch that can be made again: it has copies of its arguments.
#[derive(Clone, Debug)]
pub struct RecordedLaunch {
    /// The kernel's name.
    pub kernel: &'static str,
    /// Its geometry.
    pub geometry: Geometry,
    /// The values one behind the other, each in whole words; the bytes between a struct's fields are as they were.
    words: Box<[MaybeUninit<u64>]>,
    /// The bytes of each.
    bytes: [usize; MOST_ARGUMENTS],
    count: usize,
}

/// Words that so many bytes take.
fn words(bytes: usize) -> usize {
    bytes.div_ceil(size_of::<u64>())
}

impl RecordedLaunch {
    /// Copies a launch.
    pub fn new(kernel: &'static str, geometry: Geometry, arguments: &Arguments<'_>) -> RecordedLaunch {
        let all: usize = arguments.bytes().iter().copied().map(words).sum();
        let mut copies = Box::new_uninit_slice(all);
        let mut free = &mut copies[..];
        for (from, &bytes) in arguments.pointers().iter().zip(arguments.bytes()) {
            let (to, behind) = free.split_at_mut(words(bytes));
            // SAFETY: `Arguments` holds references to values of these sizes; `to` is new and as large.
            unsafe {
                std::ptr::copy_nonoverlapping(from.cast::<u8>(), to.as_mut_ptr().cast::<u8>(), bytes);
            }
            free = behind;
        }
        RecordedLaunch { kernel, geometry, words: copies, bytes: arguments.bytes, count: arguments.count }
    }

    /// The arguments again.
    pub fn arguments(&self) -> Arguments<'_> {
        let mut left = &self.words[..];
        self.bytes[..self.count].iter().fold(Arguments::new(), |arguments, &bytes| {
            let (value, behind) = left.split_at(words(bytes));
            left = behind;
            // SAFETY: the copies are this launch's, which is borrowed.
            unsafe { arguments.and_raw(value.as_ptr().cast_mut().cast(), bytes) }
        })
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
        let all = (0..MOST_ARGUMENTS).fold(Arguments::new(), |arguments, _| arguments.and(&b));
        assert_eq!(all.bytes(), [4; MOST_ARGUMENTS]);
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
