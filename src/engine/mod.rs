//! How networks run: plans, arenas, recalibration, evaluation.
//!
//! - [`arena`]: places for activations, given out and taken back while a plan is made;
//! - [`tree`]: a population as a tree, so that what its networks have in common runs once;
//! - `build`: calls of single operators: shapes to parameters;
//! - [`plan`]: a sub-network, or a tree of them, lowered to lists of calls on one arena;
//! - [`Engine`]: a super-network on a device, and what can be asked of it: logits, accuracies;
//! - [`Population`]: many networks evaluated as trees;
//! - [`Engine::recalibrated`]: a network's recomputed batch-norm statistics, kept in its weights;
//! - [`model`]: what plans cost before they run: bytes, operations, launches, time on a named machine;
//! - [`Precision`]: f32, or 16 bits for what crosses memory between operators;
//! - [`choose`]: which parts of a tree run together, and how each of them runs;
//! - `emit`: calls for what was chosen, as a `program`; `lowering`: convolutions with their batch norms, in a mode;
//! - `norms`: the batch norms of a tree; `heads`: what is read of it;
//! - `plans`: plans that are kept for the next time;
//! - [`mbconv`]: MBConvs that may run as one; `fuse`: as one call, or as a pair;
//! - `passes`: those of recalibration;
//! - `parallel`: the branches beside them;
//! - `feed`: network inputs that a GPU makes out of stored pixels, for evaluation and training;
//! - `prepare`: batch norms folded, of stored statistics or of recalibration's;
//! - `values`: how many values recalibration has of a channel, and whether they are enough;
//! - `chunks`: a program over many images, and what is read of it;
//! - `latency`: how long a network takes;
//! - `repeated`: programs that run once a chunk or a batch, recorded where a device can ([`Graphs`]);
//! - `pool`: buffers that are kept for what runs next;
//! - [`ensemble`]: the exits of a network weighted into one output.

pub mod arena;
pub(crate) mod build;
pub mod choose;
mod chunks;
mod cropped;
mod emit;
pub mod ensemble;
mod evaluate;
pub(crate) mod feed;
mod fuse;
mod heads;
mod latency;
mod lowering;
pub mod mbconv;
pub mod model;
mod norms;
mod parallel;
mod passes;
pub mod plan;
mod plans;
pub(crate) mod pool;
mod population;
mod precision;
mod prepare;
mod program;
mod repeated;
mod selected;
mod statistics;
pub mod tree;
mod values;

pub use cropped::Cropped;
pub use evaluate::{BUDGET, CALIBRATION_BATCH, Calibration, Engine, Evaluation, Images, whole_batches};
pub use population::{Population, evaluate_widths, of_width};
pub use precision::Precision;
pub use repeated::Graphs;
pub use selected::SplitImages;
pub use values::{FEW_VALUES, Values};

use crate::exit::exits;
use crate::{device, space};

/// What can go wrong while networks run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device failed.
    #[error(transparent)]
    Device(#[from] device::Error),
    /// An architecture that does not belong here.
    #[error(transparent)]
    Space(#[from] space::Error),
    /// An architecture of a width that the weights do not have.
    #[error(
        "the architecture has width {found}, and {file} holds width {expected}: use weights of that width"
    )]
    Width {
        /// The architecture's width.
        found: f64,
        /// The super-network's.
        expected: f64,
        /// Its file.
        file: String,
    },
    /// A network that stand-alone weights are not.
    #[error(
        "the weights taken from {file} are those of one network, and this is another: use the super-network"
    )]
    OtherNetwork {
        /// The file that the weights come from.
        file: String,
    },
    /// No images to run on.
    #[error("there are no images to {what} on: give at least one")]
    NoImages {
        /// What they are for.
        what: &'static str,
    },
    /// Recalibration on one value a channel.
    #[error(
        "recalibration on {values}, and one value has no variance: recalibrate on more images, {} or more are \
         enough (--calibration-images, the setting calibration_images, or the tensor `calibration`)",
        values.enough()
    )]
    OneValue {
        /// The values.
        values: Values,
    },
    /// A result that is no number.
    #[error("the loss of network {network} is {loss}: {hint}")]
    NotFinite {
        /// The architecture.
        network: String,
        /// The loss.
        loss: f64,
        /// What to do.
        hint: &'static str,
    },
}

exits! { Error:
    Usage [Width, OtherNetwork, OneValue],
    Failure [NoImages, NotFinite];
    held [Device, Space]
}

impl Error {
    /// With the right hint for a network whose statistics were `recalibrated`.
    fn recalibrated(self, recalibrated: bool) -> Error {
        match self {
            Error::NotFinite { network, loss, .. } if recalibrated => Error::NotFinite {
                network,
                loss,
                hint: "the weights are damaged, or come from a training that diverged: use others",
            },
            other => other,
        }
    }
}
