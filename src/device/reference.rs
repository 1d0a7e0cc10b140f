//! The operators' definitions as a device, in f32 or f64.

use super::host::{self, HostOps, Resolver};
use super::{Buffer, Device, Error, Memory};
use crate::ops::{
    Call, Real, Threads, batch_norm, branches, depthwise, kernel_transform, pointwise, pool, preprocess,
    score, squeeze_excite, stem, sum,
};
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
        calls.iter().for_each(|call| host::run(self, call, &resolver));
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

impl<T: Real> HostOps<T> for Reference<T> {
    fn stem(&self, p: &stem::Params, a: stem::Args<'_, T>) {
        stem::reference::run(p, a);
    }
    fn pointwise(&self, p: &pointwise::Params, a: pointwise::Args<'_, T>) {
        pointwise::reference::run(p, a);
    }
    fn branches(&self, p: &branches::Params, a: branches::Args<'_, T>) {
        branches::reference::run(p, a);
    }
    fn depthwise(&self, p: &depthwise::Params, a: depthwise::Args<'_, T>) {
        depthwise::reference::run(p, a);
    }
    fn squeeze_excite(&self, p: &squeeze_excite::Params, a: squeeze_excite::Args<'_, T>) {
        squeeze_excite::reference::run(p, a);
    }
    fn global_pool(&self, p: &pool::Params, a: pool::Args<'_, T>) {
        pool::reference::global(p, a);
    }
    fn max_pool(&self, p: &pool::Params, a: pool::Args<'_, T>) {
        pool::reference::max(p, a);
    }
    fn sum(&self, p: &sum::Params, a: sum::Args<'_, T>) {
        sum::reference::run(p, a);
    }
    fn statistics(&self, p: &batch_norm::StatisticsParams, a: batch_norm::StatisticsArgs<'_, T>) {
        batch_norm::reference::statistics(p, a);
    }
    fn merge(&self, p: &batch_norm::MergeParams, a: batch_norm::MergeArgs<'_, T>) {
        batch_norm::reference::merge(p, a);
    }
    fn average(&self, p: &batch_norm::AverageParams, a: batch_norm::AverageArgs<'_, T>) {
        batch_norm::reference::average(p, a);
    }
    fn fold(&self, p: &batch_norm::FoldParams, a: batch_norm::FoldArgs<'_, T>) {
        batch_norm::reference::fold(p, a);
    }
    fn apply(&self, p: &batch_norm::ApplyParams, a: batch_norm::ApplyArgs<'_, T>) {
        batch_norm::reference::apply(p, a);
    }
    fn kernel_transform(&self, p: &kernel_transform::Params, a: kernel_transform::Args<'_, T>) {
        kernel_transform::reference::run(p, a);
    }
    fn score(&self, p: &score::Params, a: score::Args<'_, T>) {
        score::reference::run(p, a);
    }
    fn preprocess(&self, p: &preprocess::Params, a: preprocess::Args<'_, T>) {
        preprocess::reference::run(p, a);
    }
    fn training(&self, call: &Call, resolver: &Resolver<'_, T>) {
        host::run_definition(call, resolver);
    }
}
