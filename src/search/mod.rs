//! The search: NATv2's archive loop, NAT's, and random search beside them.
//!
//! ```text
//! archive = initial networks, evaluated
//! for each iteration:
//!     predictor  = fit(archive)
//!     candidates = inner search over (predicted error, exact costs), then a spread-out subset
//!     archive    = update(archive + evaluated candidates)
//!     weights    = trained on sub-networks like the archive's best, where adaptation is asked for
//!     archive    = evaluated again, for its accuracies are those of other weights
//! ```
//!
//! - [`Entry`] is a network with what was measured of it, [`Archive`] the set that the search keeps;
//! - [`initial`](mod@initial) makes the first archive, [`candidates`] proposes, [`measure`] evaluates
//!   through a cache on disk;
//! - [`distribution`] says what sub-networks like the archive's best are, [`adaptation`] trains them;
//! - [`State`] is everything that a resumed search needs; one checkpoint holds it;
//! - [`about`] says what a search began with;
//! - [`results`] writes `archive.json` and `front.json`, [`page`](mod@page) fills the report;
//! - [`compare`] sets searches of different methods against each other.
//!
//! Every random draw comes from a stream named by the run's seed, its purpose and the iteration, and
//! evaluations do not depend on threads, so a search gives the same bytes however often it was
//! interrupted.

pub mod about;
pub mod adaptation;
mod archive;
pub mod candidates;
pub mod compare;
pub mod distribution;
pub mod initial;
mod looping;
pub mod measure;
pub mod page;
pub mod results;
mod state;

pub use archive::{Archive, Entry, algorithm, objective_value, points};
pub use looping::{Outcome, search};
pub use state::{Iteration, STAGE, State};

use crate::exit::exits;
use crate::train::training_loop::Diverges;
use crate::{data, engine, evaluator, moo, predictor, run, space, train};

/// What can go wrong in a search.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Evaluating.
    #[error(transparent)]
    Evaluator(#[from] evaluator::Error),
    /// Running networks.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The run directory.
    #[error(transparent)]
    Run(#[from] run::Error),
    /// The optimiser.
    #[error(transparent)]
    Moo(#[from] moo::Error),
    /// The predictor.
    #[error(transparent)]
    Predictor(#[from] predictor::Error),
    /// A genotype or architecture.
    #[error(transparent)]
    Space(#[from] space::Error),
    /// The data.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// A comparison's file that is whole and yet not one.
    #[error("{file} holds no comparison ({reason}): run natv2 compare again")]
    Comparison {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// Too small a space.
    #[error(
        "the space has fewer than {wanted} different networks: make search.archive or search.oversample smaller"
    )]
    SmallSpace {
        /// How many were asked for.
        wanted: usize,
    },
    /// Adaptation.
    #[error(transparent)]
    Train(#[from] train::Error),
}

exits! { Error:
    Usage [SmallSpace],
    Failure [Comparison];
    held [Evaluator, Engine, Run, Moo, Predictor, Space, Data, Train]
}

impl Diverges for Error {
    fn divergence(&self) -> Option<train::checks::Reason> {
        match self {
            Error::Train(error) => error.divergence(),
            Error::Engine(error) | Error::Evaluator(evaluator::Error::Engine(error)) => {
                train::checks::validated(error)
            }
            _ => None,
        }
    }
}
