//! What can be wrong with a search's settings or with the problem it is given.

use crate::exit::exits;

/// Why a search could not be run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The plain genetic algorithm compares single numbers.
    #[error("algorithm \"ga\" takes one objective, and there are {objectives}: use \"nsga3\" or \"nsga2\"")]
    SingleObjective {
        /// How many objectives the problem has.
        objectives: usize,
    },
    /// The two bounds have different lengths, or none.
    #[error("a genome needs as many lower as upper bounds, and at least one; found {lower} and {upper}")]
    BoundsLength {
        /// Number of lower bounds.
        lower: usize,
        /// Number of upper bounds.
        upper: usize,
    },
    /// The bounds of a gene are the wrong way round.
    #[error("gene {gene} has its lower bound {lower} above its upper bound {upper}")]
    BoundsOrder {
        /// The gene's index.
        gene: usize,
        /// Its lower bound.
        lower: u8,
        /// Its upper bound.
        upper: u8,
    },
    /// A genome that the search was to start from has another length or leaves the bounds.
    #[error("initial genome {index} does not fit the bounds of the problem")]
    Initial {
        /// The genome's index.
        index: usize,
    },
    /// A setting out of its range.
    #[error("{name} is {value}; it must be {expected}")]
    Setting {
        /// The setting's name.
        name: &'static str,
        /// What it was.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// The problem returned another number of points, or of objectives, than before.
    #[error(
        "the problem was to evaluate {genomes} genomes in {objectives} objectives and returned {points} points of {dimension}"
    )]
    Evaluation {
        /// How many genomes were asked for.
        genomes: usize,
        /// How many objectives were expected.
        objectives: usize,
        /// How many points came back.
        points: usize,
        /// How many objectives they have.
        dimension: usize,
    },
}

exits! { Error: Failure [SingleObjective, BoundsLength, BoundsOrder, Initial, Setting, Evaluation] }
