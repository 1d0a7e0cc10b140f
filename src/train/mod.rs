//! Training of weight-sharing super-networks.
//!
//! - [`Trainer`]: a super-network on a device, trained a step at a time: gradients of several
//!   sub-networks are added up in the shared weights' gradient, then an [`Optimiser`] moves;
//! - `tape` and `backward`: one sub-network's forward pass and the backward pass that follows from
//!   it, as calls on one arena;
//! - `places`: where weights, gradients and the optimiser's state lie.

mod backward;
mod optimiser;
mod places;
mod program;
mod tape;
mod trainer;

pub use optimiser::{Decays, Optimiser, Rule};
pub use trainer::{Batch, Gradient, OptimiserState, Report, Settings, Student, Teacher, Trainer};

use crate::device;

/// Which exits of a network are read, and with what weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weighting {
    /// The network's own exit.
    Own,
    /// All exits up to the network's own, with these weights (AEP).
    Joint([f32; 5]),
}

/// What can go wrong in training.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device failed.
    #[error(transparent)]
    Device(#[from] device::Error),
    /// Images that are not as many as their labels say.
    #[error("a batch of {images} labels and {values} values is not that many images of side {side}")]
    Batch {
        /// Labels.
        images: usize,
        /// Side of the images.
        side: usize,
        /// Values of all images.
        values: usize,
    },
    /// A label that the super-network has no class for.
    #[error("label {label} is no class of a super-network of {classes} classes: choose data of as many")]
    Label {
        /// The label.
        label: u32,
        /// Classes.
        classes: usize,
    },
    /// An architecture of another width.
    #[error("the architecture has width {found}, and the super-network in training {expected}")]
    Width {
        /// The architecture's width.
        found: f64,
        /// The super-network's.
        expected: f64,
    },
    /// A teacher of another task.
    #[error(
        "the teacher {file} has {teacher} classes and the super-network {student}: choose another teacher"
    )]
    TeacherClasses {
        /// Classes of the teacher.
        teacher: usize,
        /// Classes of the student.
        student: usize,
        /// Where the teacher comes from.
        file: String,
    },
    /// A checkpoint of another super-network.
    #[error(
        "the optimiser's state is not one of this super-network: start again, or give the weights that it belongs to"
    )]
    OtherState,
}
