//! The operators that networks are made of.
//!
//! One folder an operator: `mod.rs` holds the parameters that the Rust side and the
//! CUDA kernel share (`params!`), the call with its operands, and the formulas for bytes and FLOPs;
//! `reference.rs` the plain implementation, generic over f32 and f64, which is the truth; `cpu.rs`
//! the fast f32 one, which takes the same `Args`, so a test can run either on the same operands;
//! `gpu.rs` the launch geometry of its kernel in `kernels/`. A list of operands (`operator!`) joins
//! them, and a row of the table below registers the operator: devices, performance model and
//! benchmarks know it from there. [`cases`] is the one table of shapes that the tests and the
//! benchmark of the kernels run from; a test asks it for a case of every operator.
//!
//! A [`Call`] names its operands as [`Slot`]s, places in a device's buffers, and so can be made
//! once in a plan and replayed on any device.
//!
//! Layouts: activations NHWC, every channel count a multiple of 8 (checked when a plan is made).
//! Pointwise weights lie in panels of [`PANEL`] output channels, `[cout / 16][cin][16]`, depthwise
//! filters as `[k][k][c]`. A sub-network's weights are prefixes of these: the first `cout / 16`
//! panels, the first `cin` rows of each. Buffers hold f32 elements; [`halves`] says how 16-bit
//! numbers lie in them; an operator whose parameters have a `format` takes maps of either kind.

pub mod augment;
pub mod batch_norm;
pub mod branches;
pub mod cases;
pub mod depthwise;
pub mod expand_depthwise;
pub mod grad;
pub mod half_rows;
pub mod halves;
pub mod kernel_transform;
pub mod loss;
pub mod mbconv;
pub mod mbconv_pass;
pub(crate) mod operator;
pub mod parallel;
pub mod pointwise;
pub mod pointwise_half;
pub mod pool;
pub mod preprocess;
pub(crate) mod real;
pub mod score;
pub mod simd;
pub mod squeeze_excite;
pub mod stem;
pub mod sum;
pub(crate) mod sums;
mod tile;
pub mod update;
mod widened;

pub use crate::launch::{PANEL, Region, Slot};
pub use crate::space::Activation;
pub use real::Real;

use crate::launch::{self, Launcher};
use crate::ops::sums::added;
use halves::Format;
use mbconv::blocks::Job;
use operator::{Cost, Operands, Operator, Resolve};

/// Memory traffic and arithmetic of a call, for the performance model and the benchmarks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Bytes read and written once each.
    pub bytes: u64,
    /// Floating point operations; a multiply-add counts as two.
    pub flops: u64,
}

added!(Work { bytes, flops });

/// The rows of the matrix `[rows, channels]` that a call may split between threads, and whether it
/// should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// Run on the calling thread: others run other images.
    One,
    /// Split the call over the rayon pool.
    All,
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($($call:ident)::+),)*) => {
        /// One operator applied to operands in a device's buffers.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Call { $($(#[$doc])* $name($($call)::+),)* }

        $(impl From<$($call)::+> for Call {
            fn from(call: $($call)::+) -> Call { Call::$name(call) }
        })*

        impl Call {
            /// The operators' names, in the order of the table.
            pub const NAMES: &[&str] = &[$(stringify!($name),)*];

            /// The operator's name, as kernels, benches and tables use it.
            pub fn name(&self) -> &'static str {
                match self { $(Call::$name(_) => stringify!($name),)* }
            }

            /// Every slot that the call reads.
            pub fn reads(&self) -> Vec<Slot> {
                match self { $(Call::$name(call) => call.reads(),)* }
            }

            /// Every slot that the call writes; those in `reads` too are updated in place.
            pub fn writes(&self) -> Vec<Slot> {
                match self { $(Call::$name(call) => call.writes(),)* }
            }

            /// What is written and is no scratch.
            pub fn results(&self) -> Vec<Slot> {
                match self { $(Call::$name(call) => call.results(),)* }
            }

            /// What an operand is stored as, where that is 16-bit numbers.
            pub fn stored(&self, slot: Slot) -> Option<Format> {
                match self { $(Call::$name(call) => call.stored(slot),)* }
            }

            /// Bytes and FLOPs.
            pub fn work(&self) -> Work {
                match self { $(Call::$name(call) => call.work(),)* }
            }

            /// The FLOPs of the call that are matrix products of 16-bit numbers, for which GPUs have tensor cores. All
            /// other FLOPs, those of depthwise filters above all, are for the FMA units, which compute in f32.
            pub fn tensor_flops(&self) -> u64 {
                match self { $(Call::$name(call) => call.tensor_flops(),)* }
            }

            /// What the thread blocks of a whole MBConv, of its first half, or of a pass of recalibration are to make,
            /// for each of the calls that are launched together. Other calls have no jobs.
            pub(crate) fn jobs(&self) -> Vec<Job> {
                match self { $(Call::$name(call) => call.jobs(),)* }
            }

            /// Runs the call by its definition. One on 16-bit maps is run on their numbers, and what it writes is
            /// rounded.
            pub(crate) fn run_definition<T: Real>(&self, memory: &impl Resolve<T>) {
                debug_assert!(self.is_sound(), "{self:?}");
                match self { $(Call::$name(call) => call.run_definition(memory),)* }
            }

            /// The same by the fast path on the host.
            pub(crate) fn run_fast(&self, memory: &impl Resolve<f32>, threads: Threads) {
                debug_assert!(self.is_sound(), "{self:?}");
                match self { $(Call::$name(call) => call.run_fast(memory, threads),)* }
            }

            /// Launches the call's kernels.
            pub(crate) fn launch(&self, to: &Launcher<'_>) -> Result<(), launch::Error> {
                debug_assert!(self.is_launchable(), "{self:?}");
                match self { $(Call::$name(call) => call.launch(to),)* }
            }

            /// Whether kernels read the call's operands 16 bytes at a time.
            fn is_by_quads(&self) -> bool {
                fn of<O: Operator>(_: &O) -> bool {
                    O::BY_QUADS
                }
                match self { $(Call::$name(call) => of(call),)* }
            }

            /// The structs that the kernels of all operators take; what several take, once for each.
            #[cfg(test)]
            pub(crate) fn layouts() -> Vec<launch::Layout> {
                [$(<$($call)::+>::layouts(),)*].concat()
            }
        }
    };
}

calls! {
    /// The first convolution, 3x3 stride 2 on three channels.
    Stem(stem::Stem),
    /// 1x1 convolution or linear layer.
    Pointwise(pointwise::Pointwise),
    /// 1x1 convolution or linear layer in 16-bit numbers.
    PointwiseHalf(pointwise_half::PointwiseHalf),
    /// A whole inverted bottleneck in 16-bit numbers.
    Mbconv(mbconv::Mbconv),
    /// Such MBConvs of many networks.
    MbconvGroup(mbconv::MbconvGroup),
    /// Expansion and depthwise filter of an MBConv in 16-bit numbers.
    ExpandDepthwise(expand_depthwise::ExpandDepthwise),
    /// An MBConv of recalibration, as far as one of its batch norms.
    MbconvPass(mbconv_pass::MbconvPass),
    /// Those of many networks at one depth.
    MbconvPassGroup(mbconv_pass::MbconvPassGroup),
    /// The parallel branches of a layer from one pass over their input.
    Branches(branches::Branches),
    /// Depthwise convolution.
    Depthwise(depthwise::Depthwise),
    /// Squeeze-and-excitation gate.
    SqueezeExcite(squeeze_excite::SqueezeExcite),
    /// Mean over the pixels of an image.
    GlobalPool(pool::GlobalPool),
    /// 2x2 maximum, stride 2, ceil mode.
    MaxPool(pool::MaxPool),
    /// Element-wise sum.
    Sum(sum::Sum),
    /// Mean and variance of batches.
    BnStatistics(batch_norm::BnStatistics),
    /// The same of partial statistics of many layers.
    BnMerge(batch_norm::BnMerge),
    /// Statistics averaged over batches.
    BnAverage(batch_norm::BnAverage),
    /// Statistics and affine parameters to a scale and a shift.
    BnFold(batch_norm::BnFold),
    /// Scale, shift, activation, and a sum.
    BnApply(batch_norm::BnApply),
    /// The same of many layers.
    BnApplyGroup(batch_norm::BnApplyGroup),
    /// Smaller depthwise filters from larger ones.
    KernelTransform(kernel_transform::KernelTransformGroup),
    /// Cross entropy and correctness of every image.
    Score(score::Score),
    /// Stored pixels to a network's input.
    Preprocess(preprocess::Preprocess),
    /// AutoAugment's operations on stored pixels.
    Augment(augment::Augment),
    /// Gradient of a pointwise call's weights.
    PointwiseWeights(grad::pointwise::PointwiseWeights),
    /// The same in 16-bit numbers.
    PointwiseHalfWeights(grad::pointwise_half::PointwiseHalfWeights),
    /// Weights of 1x1 convolutions as rows of 16-bit numbers.
    HalfRows(half_rows::HalfRows),
    /// Panels of the transposed matrix.
    Transpose(grad::pointwise::TransposeGroup),
    /// Gradient of a pixel stride.
    Scatter(grad::pointwise::Scatter),
    /// Gradient of a depthwise call's input.
    DepthwiseInput(grad::depthwise::DepthwiseInput),
    /// Gradient of a depthwise call's filter.
    DepthwiseWeights(grad::depthwise::DepthwiseWeights),
    /// Gradient of the stem's filters.
    StemWeights(grad::stem::StemWeights),
    /// Sums that batch norm's gradient needs.
    BnGradSums(grad::batch_norm::BnGradSums),
    /// Gradient of a batch norm's input.
    BnGradInput(grad::batch_norm::BnGradInput),
    /// Running statistics.
    BnRunning(grad::batch_norm::BnRunningGroup),
    /// Gradient of squeeze-and-excitation.
    SqueezeExciteGrad(grad::squeeze_excite::SqueezeExciteGrad),
    /// Gradient of the mean over an image.
    GlobalPoolGrad(grad::pool::GlobalPoolGrad),
    /// Gradient of the 2x2 maximum.
    MaxPoolGrad(grad::pool::MaxPoolGrad),
    /// Activation and dropout on their own.
    Activate(grad::activation::Activate),
    /// Their gradient.
    ActivateGrad(grad::activation::ActivateGrad),
    /// Gradient of a bias.
    ColumnSum(grad::activation::ColumnSum),
    /// Gradient of the kernel transform.
    KernelTransformGrad(grad::kernel_transform::KernelTransformGradGroup),
    /// A teacher's probabilities.
    SoftTargets(loss::SoftTargets),
    /// Losses and their gradients.
    Loss(loss::Loss),
    /// One value everywhere.
    Fill(update::Fill),
    /// Sum of squares of a tensor.
    SumOfSquares(update::SumOfSquares),
    /// Gradient norm and clipping factor.
    ClipFactor(update::ClipFactor),
    /// A step of SGD.
    Sgd(update::Sgd),
    /// A step of AdamW.
    AdamW(update::AdamW),
}

impl Call {
    /// Whether the call writes nothing that it reads elsewhere, and no place twice.
    fn is_sound(&self) -> bool {
        let (reads, writes) = (self.reads(), self.writes());
        let distinct = writes.iter().enumerate().all(|(i, a)| writes[i + 1..].iter().all(|b| !a.overlaps(b)));
        distinct
            && writes.iter().all(|w| w.region == Region::Arena)
            && writes.iter().all(|w| reads.iter().all(|r| r == w || !r.overlaps(w)))
    }

    /// Whether kernels can take a call as it is planned: it writes nothing that it reads elsewhere, and what kernels
    /// read 16 bytes at a time lies at multiples of that. Builds with checks ask it of every call.
    pub fn is_launchable(&self) -> bool {
        let aligned = |slots: Vec<Slot>| slots.iter().all(|slot| slot.offset.is_multiple_of(4));
        self.is_sound() && (!self.is_by_quads() || (aligned(self.reads()) && aligned(self.writes())))
    }
}

#[cfg(test)]
mod tests {
    use super::Call;
    use super::cases::{edges, edges_in, mbconv_passes, network_in};
    use super::halves::Format;

    #[test]
    fn products_of_16_bit_numbers_are_a_part_of_the_operations() {
        // Nothing in f32 is for tensor cores.
        assert!(edges().iter().all(|case| case.call.tensor_flops() == 0));
        let format = Format::Bf16;
        let cases = [network_in(format, 3, 64), edges_in(format), mbconv_passes()].concat();
        for case in &cases {
            let (all, tensor) = (case.call.work().flops, case.call.tensor_flops());
            assert!(tensor <= all, "{}: {tensor} of {all}", case.name);
            let whole = matches!(case.call, Call::PointwiseHalf(_) | Call::PointwiseHalfWeights(_));
            // Sums of pooled outputs are all that is left of a product.
            assert!(!whole || 10 * tensor > 9 * all, "{}: {tensor} of {all}", case.name);
            // An MBConv has a filter too.
            let fused = matches!(case.call, Call::Mbconv(_) | Call::ExpandDepthwise(_));
            assert!(!fused || tensor < all, "{}: {tensor} of {all}", case.name);
        }
        assert!(cases.iter().filter(|case| case.call.tensor_flops() > 0).count() > 50);
    }

    #[test]
    fn products_of_a_layer_are_those_of_its_separate_calls() {
        let found = network_in(Format::F16, 5, 64).into_iter().find_map(|case| match case.call {
            Call::Mbconv(call) if call.params.expands() => Some(call.params),
            _ => None,
        });
        let params = found.unwrap();
        let apart = params.expansion().shape.flops() + params.projection().shape.flops();
        assert_eq!(params.tensor_flops(), apart);
        assert_eq!(params.front().tensor_flops(), params.expansion().shape.flops());
    }
}
