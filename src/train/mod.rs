//! Training of weight-sharing super-networks.
//!
//! - [`Trainer`]: a super-network on a device, trained a step at a time: gradients of several
//!   sub-networks are added up in the shared weights' gradient, then an [`Optimiser`] moves;
//! - [`Teaching`]: who teaches the students of a step; [`Team`]: super-networks of different widths that train together;
//! - `tape` and `backward`: one sub-network's forward pass and the backward pass that follows from
//!   it, as calls on one arena;
//! - [`step_calls`]: a step as lists of calls, for the performance model;
//! - `slots`: where weights, gradients and the optimiser's state lie;
//! - [`OptimiserState`], [`LossScale`]: what an interrupted training goes on with, besides weights;
//! - [`Task`], [`Material`]: what a training is of;
//! - `training_loop`: the loop of all that trains, here and in the modules below, with `record`, its side in
//!   the run directory;
//! - [`train()`]: the phases of a training in a run directory, from a checkpoint to the end;
//! - [`phase`], [`rate`], [`choose`], `lesson`, [`checks`]: what a phase is, its learning rate, the
//!   sub-networks of its steps and their teachers, and what is taken for divergence;
//! - [`material`], [`results`]: what a training begins with and what it leaves;
//! - [`forecast`]: how long one will take, and how many epochs fit into some minutes.

mod backward;
mod calls;
pub mod checks;
pub mod choose;
pub mod forecast;
mod lesson;
mod looping;
mod loss_scale;
pub mod material;
mod optimiser;
mod optimiser_state;
pub mod phase;
mod program;
pub mod rate;
pub(crate) mod record;
pub mod results;
mod slots;
mod state;
pub(crate) mod tally;
mod tape;
mod task;
mod teaching;
mod team;
mod trainer;
pub(crate) mod training_loop;

pub use crate::config::Decays;
pub use calls::{CallList, StepShape, StepTeacher, step_calls};
pub use looping::{Outcome, train};
pub use loss_scale::LossScale;
pub use optimiser::{Optimiser, Rule};
pub use optimiser_state::OptimiserState;
pub use record::{BeganWith, OtherInputs};
pub use state::{Best, Epoch, Snapshot, State};
pub use tally::Tally;
pub use task::{Material, Task, evaluate, exit_weights};
pub use teaching::{Answers, Teaching};
pub use team::{Team, TeamState};
pub use trainer::{Batch, Gradient, Report, Settings, Student, Teacher, Trainer, batches};

use crate::exit::exits;
use crate::{data, device, engine, run, space, supernet};

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
    /// The engine failed in a validation.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The run directory failed.
    #[error(transparent)]
    Run(#[from] run::Error),
    /// The data failed.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// Weights that do not fit, or do not go together.
    #[error(transparent)]
    Supernet(#[from] supernet::Error),
    /// An architecture or a space that is none.
    #[error(transparent)]
    Space(#[from] space::Error),
    /// A data set with more classes than the super-network.
    #[error(
        "{dataset} has {found} classes and the super-network {expected}: leave supernet.classes out, or give it as many"
    )]
    Classes {
        /// The data set.
        dataset: String,
        /// Its classes.
        found: usize,
        /// The super-network's.
        expected: usize,
    },
    /// A run that began with other inputs.
    #[error(transparent)]
    OtherInputs(#[from] Box<OtherInputs>),
    /// Divergence, which a training goes back from.
    #[error("the training diverged: {0}")]
    Diverged(checks::Reason),
    /// Divergence again and again.
    #[error(transparent)]
    KeepsDiverging(#[from] checks::KeepsDiverging),
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
    /// A training of nothing.
    #[error("there is no super-network to train: give at least one")]
    NoSupernet,
    /// A budget of minutes that is too small.
    #[error(transparent)]
    TooShort(#[from] forecast::TooShort),
    /// A checkpoint of another super-network.
    #[error(
        "the optimiser's state is not one of this super-network: start again, or give the weights that it belongs to"
    )]
    OtherState,
}

exits! { Error:
    Usage [Classes, OtherInputs, TooShort],
    Failure [Diverged, KeepsDiverging, Batch, Label, Width, TeacherClasses, NoSupernet, OtherState];
    held [Device, Engine, Run, Data, Supernet, Space]
}

impl training_loop::Diverges for Error {
    fn divergence(&self) -> Option<checks::Reason> {
        match self {
            Error::Diverged(reason) => Some(reason.clone()),
            Error::Engine(error) => checks::validated(error),
            _ => None,
        }
    }
}

impl From<checks::Reason> for Error {
    fn from(reason: checks::Reason) -> Error {
        Error::Diverged(reason)
    }
}
