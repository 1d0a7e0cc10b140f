//! Convolutions with their batch norms, in a mode.
//!
//! In *inference* a batch norm is a scale and a shift in the epilogue of its convolution. In *recalibration* each
//! convolution writes its raw output, whose batch statistics are reduced, kept for their average over batches, and used
//! to normalise this batch.

use super::build::{Builder, Epilogue, Map};
use super::norms::Norm;
use crate::ops::Slot;
use crate::ops::batch_norm::BatchFold;
use crate::ops::halves::Format;
use crate::space::visit::{Convolution, Kind};

/// What a list of calls is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// Batch norms are folded; reads the section of an earlier pass.
    Inference,
    /// Batch statistics, averaged over this many batches; fills the section.
    Recalibration {
        /// Batches that will be run.
        batches: usize,
        /// Batches of one run, behind one another: so many go into a program's images.
        at_once: usize,
    },
}

impl Mode {
    /// Batches of one run.
    pub(super) fn at_once(self) -> usize {
        match self {
            Mode::Inference => 1,
            Mode::Recalibration { at_once, .. } => at_once,
        }
    }
}

/// Calls under construction, in a mode.
pub(super) struct Lowering<'a> {
    pub build: Builder<'a>,
    pub mode: Mode,
}

impl Lowering<'_> {
    /// Images of a batch.
    pub(super) fn batch_images(&self) -> u32 {
        (self.build.images / self.mode.at_once()) as u32
    }

    /// The 16-bit format of what runs in blocks.
    pub(super) fn block_format(&self) -> Format {
        self.build.format.unwrap_or(Format::Bf16)
    }

    /// A convolution of `x` to `y`, with its batch norm: folded into its epilogue in inference; in recalibration the
    /// raw convolution, and statistics and application behind it.
    pub(super) fn normalised(&mut self, what: &Convolution, norm: &Norm, x: Map, y: Map, then: Epilogue) {
        let identity = what.kind == Kind::Identity;
        let vectors = match self.mode {
            Mode::Inference if !identity => {
                let folded = Some((norm.scale, norm.shift));
                self.build.convolve(what, x, y, Epilogue { folded, ..then });
                return;
            }
            Mode::Inference => (norm.scale, norm.shift),
            Mode::Recalibration { .. } => {
                let raw = Epilogue { gate: then.gate, ..Epilogue::default() };
                self.build.convolve(what, x, y, raw);
                self.batch_fold(if identity { x } else { y }, norm)
            }
        };
        let from = if identity { x } else { y };
        let call =
            self.build.apply((from.slot, y), self.mode.at_once(), vectors, what.activation, then.residual);
        self.build.push(call);
    }

    /// Statistics of `x`, for the section, and the scale and shift of each batch. Their places are given back at
    /// once: calls run in order, and the next to take them comes behind the application.
    pub(super) fn batch_fold(&mut self, x: Map, norm: &Norm) -> (Slot, Slot) {
        let len = self.mode.at_once() * norm.channels;
        let folded = self.build.take(2 * len);
        let (scale, shift) = (folded.part(0, len), folded.part(len, len));
        let fold = BatchFold { gamma: norm.gamma, beta: norm.beta, scale, shift };
        self.build.statistics(x, self.mode.at_once(), norm.batch, Some(fold));
        self.build.give_back(folded);
        (scale, shift)
    }
}
