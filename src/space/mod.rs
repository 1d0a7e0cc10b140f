//! What can be searched: super-network families, architectures, genotypes and their exact costs.
//!
//! Nothing here does input or output, and nothing here knows weights. The pieces, in reading order:
//!
//! - [`Family`]: which of the eight OFAv2 super-networks, as three independent facts;
//! - [`backbone`]: the OFA MobileNetV3 stage table and the channel counts at a width multiplier;
//! - [`Arch`]: one sub-network, as people and files write it;
//! - [`walk`](mod@walk): an architecture unrolled into its parts with shapes, and [`visit`]: these taken apart into
//!   operators. Costs, plans, training, exports and drawings all read them, so that they cannot disagree;
//! - [`Space`]: the genotype (encode, decode, bounds, canonical form, repair) and random sampling;
//! - [`cost`](mod@cost): trainable parameters and multiply-accumulates in closed form;
//! - [`Strategy`]: how the exits of a network are weighted;
//! - [`numbers`]: the numbers of the networks of a front;
//! - [`show`](mod@show): a network drawn as text.

mod arch;
pub mod backbone;
pub mod cost;
mod family;
mod genotype;
pub mod numbers;
pub mod sample;
pub mod show;
mod strategy;
pub mod visit;
pub mod walk;

pub use arch::{Arch, MAX_RESOLUTION, MIN_RESOLUTION};
pub use backbone::{Activation, Channels, ExitScaling};
pub use cost::{Cost, cost};
pub use family::Family;
pub use genotype::{Genotype, Repair, Space};
pub use strategy::{ExitWeights, Strategy};
pub use walk::{Layer, walk};

use crate::exit::exits;
use crate::words::Word;

/// What is wrong with a family, an architecture or a genotype, and where.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A family name that is none of the eight.
    #[error("unknown family `{name}`: use one of {}", Family::WORDS.join(", "))]
    UnknownFamily {
        /// What was given.
        name: String,
    },
    /// Text that is no architecture at all.
    #[error(
        "the architecture is not valid JSON of the form {{\"r\":64,\"ks\":[..],\"e\":[..],\"d\":[..]}}: {reason}"
    )]
    Malformed {
        /// What the parser said.
        reason: String,
    },
    /// A field that must be there.
    #[error("the architecture has no field `{field}`: {remedy}")]
    MissingField {
        /// The field's name.
        field: &'static str,
        /// What to write there.
        remedy: &'static str,
    },
    /// A field that this family does not have.
    #[error("field `{field}` of the architecture does not belong to family {family}: {remedy}")]
    UnexpectedField {
        /// The field's name.
        field: String,
        /// The family.
        family: Family,
        /// What to do.
        remedy: String,
    },
    /// A list of the wrong length.
    #[error(
        "field `{field}` of the architecture has {found} entries: it must have {expected}, stage by stage"
    )]
    Length {
        /// The field's name.
        field: &'static str,
        /// How many it has.
        found: usize,
        /// How many it must have.
        expected: usize,
    },
    /// A value that is no choice of the space.
    #[error("{place} is {value}, which is not in the space: choose from {choices}")]
    Choice {
        /// The field and the position.
        place: String,
        /// The value found.
        value: String,
        /// What is allowed.
        choices: String,
    },
    /// A genotype of the wrong length.
    #[error("the genotype has {found} genes: family {family} has {expected}")]
    GenotypeLength {
        /// How many it has.
        found: usize,
        /// How many it must have.
        expected: usize,
        /// The family.
        family: Family,
    },
    /// A genotype that skips a layer and then goes on.
    #[error(
        "gene {gene} of the genotype follows a skipped layer of stage {stage}: set it to 0, or the one before to a layer"
    )]
    Hole {
        /// The gene's index.
        gene: usize,
        /// The stage, from 1.
        stage: usize,
    },
    /// A space that cannot be encoded.
    #[error("{what}")]
    Space {
        /// What is wrong, and the remedy.
        what: String,
    },
}

exits! { Error:
    Usage [UnknownFamily, Malformed, MissingField, UnexpectedField, Length, Choice, GenotypeLength, Hole, Space]
}
