//! The operators' definitions as a device, in f32 or f64.

use super::host::{self, Resolver};
use super::{Buffer, Device, Error, Memory};
use crate::ops::{Call, Real, Threads};
use std::marker::PhantomData;

/// The definitions, computed in `T`; what goes in and out is f32.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reference<T>(PhantomData<T>);

impl<T> Reference<T> {
    /// The reference device.
    pub fn new() -> Reference<T> {
        Reference(PhantomData)
    }
}

impl<T: Real> Device for Reference<T> {
    fn describe(&self) -> String {
        format!("reference ({})", std::any::type_name::<T>())
    }

    fn arithmetic(&self) -> String {
        self.describe()
    }

    fn allocate(&self, len: usize) -> Result<Buffer, Error> {
        host::allocate::<T>(self, len)
    }

    fn upload(&self, buffer: &mut Buffer, offset: usize, data: &[f32]) -> Result<(), Error> {
        host::upload::<T>(buffer, offset, data);
        Ok(())
    }

    fn download(&self, buffer: &Buffer, offset: usize, out: &mut [f32]) -> Result<(), Error> {
        host::download::<T>(buffer, offset, out);
        Ok(())
    }

    fn run(&self, calls: &[Call], mut memory: Memory<'_>, _: Threads) -> Result<(), Error> {
        let resolver = Resolver::<T>::new(&mut memory);
        calls.iter().for_each(|call| call.run_definition(&resolver));
        Ok(())
    }

    fn lanes(&self) -> usize {
        rayon::current_num_threads()
    }

    fn chunk(&self, arena_of_one: usize) -> usize {
        // Half a megabyte of f32: inside the second-level cache of every recent server core.
        ((1 << 17) / arena_of_one.max(1)).clamp(2, 64)
    }
}
