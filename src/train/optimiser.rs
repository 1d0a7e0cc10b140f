//! From a step's gradient to new weights.
//!
//! A step updates whole tensors: a tensor is touched if any sub-network of the step used a part of
//! it, and then momentum and weight decay act on all of it; a tensor that none used stays as it is.

use super::slots::{TrainingSlots, arena};
use crate::config::Decays;
use crate::ops::grad::kernel_transform::{KernelTransformGrad, KernelTransformGradGroup};
use crate::ops::update::{
    AdamW, AdamWParams, AdamWSegment, ClipFactor, ClipParams, Segment, Sgd, SgdParams, SgdSegment,
    SquaresParams, SumOfSquares,
};
use crate::ops::{Call, Slot, kernel_transform};
use crate::supernet::{Layout, TensorLayout};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The rule by which weights change.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Stochastic gradient descent with momentum.
    Sgd {
        /// Momentum: 0.9.
        momentum: f32,
        /// Whether the momentum is Nesterov's.
        nesterov: bool,
    },
    /// AdamW with the usual 0.9, 0.999 and 1e-8.
    AdamW,
}

/// An optimiser: rule, weight decay, clipping. Its state lies in the trainer's buffers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Optimiser {
    /// The rule.
    pub rule: Rule,
    /// Weight decay.
    pub decay: f32,
    /// What it acts on.
    pub decays: Decays,
    /// The largest norm of the accumulated gradient, if it is clipped.
    pub clip: Option<f32>,
}

/// The tensors, by index, that hold one of `offsets` or, for derived filters, that it comes from.
pub(super) fn tensors(layout: &Layout, offsets: &BTreeSet<usize>) -> BTreeSet<usize> {
    let index = |offset: usize| layout.tensors().partition_point(|tensor| tensor.offset <= offset) - 1;
    let mut found: BTreeSet<usize> =
        offsets.iter().filter(|&&offset| offset < layout.derived()).map(|&offset| index(offset)).collect();
    for block in &layout.blocks {
        let [three, five, seven] = block.depthwise;
        let [to_three, to_five] = block.matrices;
        if offsets.contains(&three) && !layout.is_network() {
            found.extend([to_three, to_five, seven].map(index));
        }
        if offsets.contains(&five) && !layout.is_network() {
            found.extend([to_five, seven].map(index));
        }
    }
    found
}

/// Takes the gradients of derived filters back to the filters and matrices that they come from.
pub(super) fn derived_gradients(layout: &Layout, offsets: &BTreeSet<usize>) -> Vec<Call> {
    let mut groups = Vec::new();
    // What the smaller filters give to the larger is there before it is taken further.
    for to in [3, 5] {
        let mut calls = Vec::new();
        for block in layout.blocks.iter().filter(|_| !layout.is_network()) {
            let three = offsets.contains(&block.depthwise[0]);
            if !three && (to == 3 || !offsets.contains(&block.depthwise[1])) {
                continue;
            }
            let from: usize = to + 2;
            let filter = |size: usize| (block.depthwise[(size - 3) / 2], size * size * block.channels);
            let matrix = (block.matrices[(to - 3) / 2], to.pow(4));
            let weights = |(offset, len)| Slot::weights(offset, len);
            let gradient = |(offset, len)| arena(offset, len);
            calls.push(KernelTransformGrad {
                params: kernel_transform::Params {
                    channels: block.channels as u32,
                    from: from as u32,
                    to: to as u32,
                },
                x: weights(filter(from)),
                matrix: weights(matrix),
                dy: gradient(filter(to)),
                dx: gradient(filter(from)),
                dmatrix: gradient(matrix),
            });
        }
        if !calls.is_empty() {
            groups.push(Call::from(KernelTransformGradGroup { calls }));
        }
    }
    groups
}

fn segment(tensor: &TensorLayout) -> Segment {
    Segment { offset: tensor.offset as u32, len: tensor.len as u32 }
}

/// The norm of the gradient over the touched tensors and the clipping factor. The gradient is multiplied
/// by one over `unscale`, and a step takes that back.
pub(super) fn norm(
    layout: &Layout,
    places: &TrainingSlots,
    touched: &BTreeSet<usize>,
    clip: Option<f32>,
    unscale: f32,
) -> Vec<Call> {
    let tensors = || touched.iter().map(|&index| &layout.tensors()[index]);
    let partials = SumOfSquares::partials_len(tensors().map(|tensor| tensor.len));
    let squares = places.squares.part(0, touched.len());
    vec![
        Call::from(SumOfSquares {
            params: SquaresParams { segments: tensors().map(segment).collect() },
            x: arena(0, layout.derived()),
            partials: places.partials.part(0, partials),
            y: squares,
        }),
        Call::from(ClipFactor {
            params: ClipParams { count: touched.len() as u32, limit: clip.unwrap_or(f32::INFINITY), unscale },
            squares,
            out: places.clip,
        }),
    ]
}

impl Optimiser {
    /// A step on the touched tensors; `steps` counts the steps of every tensor, this one included.
    /// To be run with the work buffer as weights and the state as arena, behind [`norm`]: with a norm
    /// that is no finite number it changes nothing.
    pub(super) fn update(
        &self,
        layout: &Layout,
        places: &TrainingSlots,
        touched: &BTreeSet<usize>,
        steps: &[u64],
        rate: f32,
    ) -> Vec<Call> {
        let tensors = touched.iter().map(|&index| (index, &layout.tensors()[index]));
        let len = layout.derived();
        let moment = |which| places.moment(layout, which, 0, len);
        let (g, w) = (Slot::weights(0, len), arena(0, len));
        let clip = Some(Slot::weights(places.clip.offset, places.clip.len));
        let call = match self.rule {
            Rule::Sgd { momentum, nesterov } => {
                let of = |(_, tensor)| SgdSegment { at: segment(tensor), decay: self.decay_of(tensor) };
                let params = SgdParams { rate, momentum, nesterov, segments: tensors.map(of).collect() };
                Call::from(Sgd { params, g, clip, velocity: moment(0), w })
            }
            Rule::AdamW => {
                let (beta1, beta2) = (0.9f32, 0.999f32);
                let correction =
                    |beta: f32, index: usize| (1.0 - f64::from(beta).powf(steps[index] as f64)) as f32;
                let of = |(index, tensor)| AdamWSegment {
                    at: segment(tensor),
                    decay: self.decay_of(tensor),
                    correction1: correction(beta1, index),
                    correction2: correction(beta2, index),
                };
                let segments = tensors.map(of).collect();
                let params = AdamWParams { rate, beta1, beta2, epsilon: 1e-8, segments };
                Call::from(AdamW { params, g, clip, m: moment(0), v: moment(1), w })
            }
        };
        vec![call]
    }

    fn decay_of(&self, tensor: &TensorLayout) -> f32 {
        match self.decays {
            Decays::All => self.decay,
            Decays::Weights if tensor.shape.len() > 1 => self.decay,
            Decays::Weights => 0.0,
        }
    }
}
