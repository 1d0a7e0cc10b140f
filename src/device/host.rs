//! What devices in host memory share: aligned buffers, and slots resolved to slices.

use super::{Buffer, Device, Error, Memory};
use crate::ops::operator::Resolve;
use crate::ops::{
    self, Call, Real, Region, Slot, Threads, batch_norm, branches, depthwise, kernel_transform, pointwise,
    pool, preprocess, score, squeeze_excite, stem, sum,
};
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
    /// Maps that a call finds widened in place of what their slots hold.
    wide: &'a [Wide<T>],
}

/// The numbers of a slot's 16-bit map.
struct Wide<T> {
    slot: Slot,
    start: *mut T,
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
            wide: &[],
        }
    }

    fn widened(&self, slot: Slot) -> Option<&Wide<T>> {
        self.wide.iter().find(|wide| wide.slot == slot)
    }

    fn read(&self, slot: Slot) -> &'a [T] {
        if let Some(wide) = self.widened(slot) {
            // SAFETY: as in the arena: `run` keeps the numbers for 'a and touches them only when the
            // call is done, and a call that writes a slot does not read it too.
            return unsafe { std::slice::from_raw_parts(wide.start, wide.len) };
        }
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

    #[allow(clippy::mut_from_ref)]
    fn write(&self, slot: Slot) -> &'a mut [T] {
        if let Some(wide) = self.widened(slot) {
            // SAFETY: as in `read`.
            return unsafe { std::slice::from_raw_parts_mut(wide.start, wide.len) };
        }
        assert!(slot.region == Region::Arena && slot.offset + slot.len <= self.len, "slot outside the arena");
        // SAFETY: as in `read`; one call never resolves overlapping slots if one is written.
        unsafe { std::slice::from_raw_parts_mut(self.arena.add(slot.offset), slot.len) }
    }

    fn optional(&self, slot: Option<Slot>) -> Option<&'a [T]> {
        slot.map(|slot| self.read(slot))
    }

    fn batch_fold(&self, fold: Option<batch_norm::BatchFold>) -> Option<batch_norm::BatchFoldArgs<'a, T>> {
        fold.map(|fold| batch_norm::BatchFoldArgs {
            gamma: self.read(fold.gamma),
            beta: self.read(fold.beta),
            scale: self.write(fold.scale),
            shift: self.write(fold.shift),
        })
    }
}

impl<'a, T: Real> Resolve<'a, T> for Resolver<'a, T> {
    fn read(&self, slot: Slot) -> &'a [T] {
        Resolver::read(self, slot)
    }

    fn write(&self, slot: Slot) -> &'a mut [T] {
        Resolver::write(self, slot)
    }
}

macro_rules! named {
    (
        calls { $($call:ident($($module:ident)::+, $function:ident),)* }
        groups { $($group:ident($($of:ident)::+, $each:ident),)* }
    ) => {
        /// Runs a call of the list by its definition.
        pub(super) fn run_definition<T: Real>(call: &Call, r: &Resolver<'_, T>) {
            match call {
                $(Call::$call(c) => ops::$($module)::+::reference::$function(&c.params, c.resolve(r)),)*
                $(Call::$group(group) => group.calls.iter().for_each(|c| {
                    ops::$($of)::+::reference::$each(&c.params, c.resolve(r));
                }),)*
                other => unreachable!("{other:?} has an arm of its own"),
            }
        }

        /// Runs a call of the list by its fast path.
        pub(super) fn run_fast(call: &Call, r: &Resolver<'_, f32>, threads: Threads) {
            match call {
                $(Call::$call(c) => ops::$($module)::+::cpu::$function(&c.params, c.resolve(r), threads),)*
                $(Call::$group(group) => group.calls.iter().for_each(|c| {
                    ops::$($of)::+::cpu::$each(&c.params, c.resolve(r), threads);
                }),)*
                other => unreachable!("{other:?} has an arm of its own"),
            }
        }
    };
}

named! {
    calls {
        PointwiseHalf(pointwise_half, run),
        Mbconv(mbconv, run),
        MbconvPass(mbconv_pass, run),
        ExpandDepthwise(expand_depthwise, run),
        Augment(augment, run),
        PointwiseWeights(grad::pointwise, weights),
        PointwiseHalfWeights(grad::pointwise_half, weights),
        HalfRows(half_rows, run),
        Scatter(grad::pointwise, scatter),
        DepthwiseInput(grad::depthwise, input),
        DepthwiseWeights(grad::depthwise, weights),
        StemWeights(grad::stem, weights),
        BnGradSums(grad::batch_norm, sums),
        BnGradInput(grad::batch_norm, input),
        SqueezeExciteGrad(grad::squeeze_excite, run),
        GlobalPoolGrad(grad::pool, global),
        MaxPoolGrad(grad::pool, max),
        Activate(grad::activation, forward),
        ActivateGrad(grad::activation, backward),
        ColumnSum(grad::activation, columns),
        SoftTargets(loss, targets),
        Loss(loss, loss),
        Fill(update, fill),
        SumOfSquares(update, squares),
        ClipFactor(update, clip),
        Sgd(update, sgd),
        AdamW(update, adamw),
    }
    groups {
        MbconvGroup(mbconv, run),
        MbconvPassGroup(mbconv_pass, run),
        Transpose(grad::pointwise, transpose),
        BnRunning(grad::batch_norm, running),
        KernelTransformGrad(grad::kernel_transform, run),
    }
}

/// An implementation of every operator on host slices.
pub(super) trait HostOps<T> {
    fn stem(&self, p: &stem::Params, a: stem::Args<'_, T>);
    fn pointwise(&self, p: &pointwise::Params, a: pointwise::Args<'_, T>);
    fn branches(&self, p: &branches::Params, a: branches::Args<'_, T>);
    fn depthwise(&self, p: &depthwise::Params, a: depthwise::Args<'_, T>);
    fn squeeze_excite(&self, p: &squeeze_excite::Params, a: squeeze_excite::Args<'_, T>);
    fn global_pool(&self, p: &pool::Params, a: pool::Args<'_, T>);
    fn max_pool(&self, p: &pool::Params, a: pool::Args<'_, T>);
    fn sum(&self, p: &sum::Params, a: sum::Args<'_, T>);
    fn statistics(&self, p: &batch_norm::StatisticsParams, a: batch_norm::StatisticsArgs<'_, T>);
    fn merge(&self, p: &batch_norm::MergeParams, a: batch_norm::MergeArgs<'_, T>);
    fn average(&self, p: &batch_norm::AverageParams, a: batch_norm::AverageArgs<'_, T>);
    fn fold(&self, p: &batch_norm::FoldParams, a: batch_norm::FoldArgs<'_, T>);
    fn apply(&self, p: &batch_norm::ApplyParams, a: batch_norm::ApplyArgs<'_, T>);
    fn kernel_transform(&self, p: &kernel_transform::Params, a: kernel_transform::Args<'_, T>);
    fn score(&self, p: &score::Params, a: score::Args<'_, T>);
    fn preprocess(&self, p: &preprocess::Params, a: preprocess::Args<'_, T>);
    /// Any call of training, and the others of the list above.
    fn training(&self, call: &Call, resolver: &Resolver<'_, T>);
}

/// Runs one call. One on 16-bit maps is run on their numbers, and what it writes is rounded.
pub(super) fn run<T: Real>(ops: &impl HostOps<T>, call: &Call, r: &Resolver<'_, T>) {
    let Some(ops::Widened { format, call, maps }) = ops::widened(call) else {
        return run_plain(ops, call, r);
    };
    let (reads, writes) = (call.reads(), call.writes());
    let numbers = |&slot: &Slot| {
        if reads.contains(&slot) {
            format.widen(r.read(slot))
        } else {
            vec![T::nan(); ops::halves::PER_ELEMENT * slot.len]
        }
    };
    let mut all: Vec<Vec<T>> = maps.iter().map(numbers).collect();
    let place = |(&slot, numbers): (&Slot, &mut Vec<T>)| Wide {
        slot,
        start: numbers.as_mut_ptr(),
        len: numbers.len(),
    };
    let wide: Vec<Wide<T>> = maps.iter().zip(&mut all).map(place).collect();
    run_plain(ops, &call, &Resolver { wide: &wide, ..*r });
    for (&slot, numbers) in maps.iter().zip(&all).filter(|(slot, _)| writes.contains(slot)) {
        format.narrow(numbers, r.write(slot));
    }
}

/// Runs one call on maps in f32.
fn run_plain<T: Real>(ops: &impl HostOps<T>, call: &Call, r: &Resolver<'_, T>) {
    debug_assert!(crate::ops::is_sound(call), "{call:?}");
    match call {
        Call::Stem(c) => ops.stem(
            &c.params,
            stem::Args {
                x: r.read(c.x),
                w: r.read(c.w),
                scale: r.optional(c.scale),
                shift: r.optional(c.shift),
                y: r.write(c.y),
            },
        ),
        Call::Pointwise(c) => ops.pointwise(
            &c.params,
            pointwise::Args {
                x: r.read(c.x),
                w: r.read(c.w),
                scale: r.optional(c.scale),
                shift: r.optional(c.shift),
                gate: r.optional(c.gate),
                residual: r.optional(c.residual),
                y: r.write(c.y),
            },
        ),
        Call::Branches(c) => {
            let branch = |branch: &Option<branches::Branch>| {
                branch.map(|b| branches::BranchArgs {
                    w: r.optional(b.w),
                    scale: r.optional(b.scale),
                    shift: r.optional(b.shift),
                    y: b.y.map(|y| r.write(y)),
                })
            };
            let args = branches::Args {
                x: r.read(c.x),
                expand: branch(&c.expand),
                pointwise: branch(&c.pointwise),
                transform: branch(&c.transform),
                sum: c.sum.map(|sum| r.write(sum)),
            };
            ops.branches(&c.params, args);
        }
        Call::Depthwise(c) => ops.depthwise(
            &c.params,
            depthwise::Args {
                x: r.read(c.x),
                w: r.read(c.w),
                scale: r.optional(c.scale),
                shift: r.optional(c.shift),
                y: r.write(c.y),
                pool: c.pool.map(|pool| r.write(pool)),
            },
        ),
        Call::SqueezeExcite(c) => ops.squeeze_excite(
            &c.params,
            squeeze_excite::Args {
                x: r.read(c.x),
                reduce: r.read(c.reduce),
                reduce_bias: r.read(c.reduce_bias),
                expand: r.read(c.expand),
                expand_bias: r.read(c.expand_bias),
                gate: r.write(c.gate),
            },
        ),
        Call::GlobalPool(c) => ops.global_pool(&c.params, pool::Args { x: r.read(c.x), y: r.write(c.y) }),
        Call::MaxPool(c) => ops.max_pool(&c.params, pool::Args { x: r.read(c.x), y: r.write(c.y) }),
        Call::Sum(c) => {
            let x = c.x.iter().map(|&slot| r.read(slot)).collect();
            ops.sum(&c.params, sum::Args { x, y: r.write(c.y) });
        }
        Call::BnStatistics(c) => ops.statistics(
            &c.params,
            batch_norm::StatisticsArgs {
                x: r.read(c.x),
                partials: r.write(c.partials),
                batch: r.write(c.batch),
                fold: r.batch_fold(c.fold),
            },
        ),
        Call::BnMerge(c) => c.merges.iter().for_each(|one| {
            let args = batch_norm::MergeArgs {
                partials: r.read(one.partials),
                batch: r.write(one.batch),
                fold: r.batch_fold(one.fold),
            };
            ops.merge(&one.params, args);
        }),
        Call::BnAverage(c) => c.averages.iter().for_each(|one| {
            let args = batch_norm::AverageArgs { batch: r.read(one.batch), average: r.write(one.average) };
            ops.average(&one.params, args);
        }),
        Call::BnFold(c) => c.folds.iter().for_each(|fold| {
            let args = batch_norm::FoldArgs {
                gamma: r.read(fold.gamma),
                beta: r.read(fold.beta),
                mean: r.read(fold.mean),
                variance: r.read(fold.variance),
                bias: r.optional(fold.bias),
                scale: r.write(fold.scale),
                shift: r.write(fold.shift),
            };
            ops.fold(&fold.params, args);
        }),
        Call::BnApply(c) => ops.apply(
            &c.params,
            batch_norm::ApplyArgs {
                x: (c.x != c.y).then(|| r.read(c.x)),
                scale: r.read(c.scale),
                shift: r.read(c.shift),
                residual: r.optional(c.residual),
                y: r.write(c.y),
            },
        ),
        // Their formats may differ.
        Call::BnApplyGroup(c) => c.calls.iter().for_each(|call| run(ops, &Call::from(call.clone()), r)),
        Call::KernelTransform(group) => group.calls.iter().for_each(|c| {
            let args = kernel_transform::Args { x: r.read(c.x), matrix: r.read(c.matrix), y: r.write(c.y) };
            ops.kernel_transform(&c.params, args);
        }),
        Call::Score(c) => ops.score(
            &c.params,
            score::Args { logits: r.read(c.logits), labels: r.read(c.labels), out: r.write(c.out) },
        ),
        Call::Preprocess(c) => ops.preprocess(
            &c.params,
            preprocess::Args {
                x: r.read(c.x),
                indices: r.optional(c.indices),
                windows: r.optional(c.windows),
                y: r.write(c.y),
            },
        ),
        other => ops.training(other, r),
    }
}
