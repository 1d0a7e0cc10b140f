//! The shared weights of a super-network.
//!
//! - [`Layout`]: every tensor by its once-for-all name ([`Names`]), its shape, and its place in the packed
//!   buffer that engines read; sub-networks are prefixes of these places, never copies;
//! - [`Checkpoint`]: safetensors files, with typed errors for everything that can be wrong, and [`numbers`]:
//!   what is stored in 16 or 64 bits, as f32;
//! - [`Card`]: what a checkpoint's data, classes and pixels are;
//! - [`Supernet`]: all of it together, loaded and ready to be put on a device;
//! - [`init`]: random weights; [`convert()`]: a file of one family made into another's;
//! - [`Sorting`]: channels in order of importance, before expansion ratios become elastic;
//! - [`Network`]: one sub-network taken out, with its own tensors at their own sizes; saved with a
//!   card that describes it, it is loaded like a super-network, and put back into one.

mod build;
mod card;
mod checkpoint;
mod convert;
mod extract;
pub mod init;
mod insert;
mod layout;
mod names;
pub mod numbers;
mod open;
mod pack;
mod save;
mod sort;

pub use card::{Card, NetworkCard};
pub use checkpoint::{Checkpoint, Tensor};
pub use convert::{Conversion, Target, convert};
pub use extract::Network;
pub use init::{Blank, Init};
pub use insert::Insertion;
pub use layout::{
    BatchNorm, Block, ConvolutionLayout, Filters, FirstLayers, HeadLayout, Layout, Packing, Panels, Parts,
    Squeeze, TensorLayout,
};
pub use names::{NORM, Names, Unit};
pub use open::together;
pub use pack::derive_calls;
pub use sort::Sorting;

use crate::exit::exits;
use crate::space::walk::Exits;
use crate::space::{self, Arch, Channels, ExitScaling, Family, Space};
use std::path::{Path, PathBuf};

/// What can be wrong with a checkpoint or its card.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that cannot be read.
    #[error("{file}: {source}: check the path and the permissions", file = .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is no safetensors file.
    #[error("{file} is not a whole safetensors file ({reason}): copy or convert it again", file = .file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A tensor that must be there.
    #[error("{file} has no tensor `{tensor}`, which {needed}", file = .file.display())]
    MissingTensor {
        /// The file.
        file: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Who needs it, and what to do.
        needed: String,
    },
    /// A tensor of the wrong shape.
    #[error("tensor `{tensor}` of {file} has shape {found:?}, and {expected:?} is needed for {why}", file = .file.display())]
    Shape {
        /// The file.
        file: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Its shape. Boxed, as this is the largest kind of error, and many others hold it.
        found: Box<[usize]>,
        /// The shape needed.
        expected: Box<[usize]>,
        /// What for.
        why: String,
    },
    /// A tensor of the network that holds no real numbers.
    #[error("tensor `{tensor}` of {file} holds {found}, and weights are {}: save the checkpoint with it as one of these", numbers::READ, file = .file.display())]
    Type {
        /// The file.
        file: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Its type.
        found: String,
    },
    /// A tensor of 64-bit numbers one of which is too large for 32 bits.
    #[error("tensor `{tensor}` of {file} holds {value:e} at element {index}, and networks compute in F32, whose largest number is 3.4e38: the checkpoint is damaged or comes from a training that diverged", file = .file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The first such element.
        index: usize,
        /// Its value.
        value: f64,
    },
    /// A running variance that is none.
    #[error("tensor `{tensor}` of {file} holds {value} at element {index}, and no variance is below zero: the checkpoint is damaged or comes from a training that diverged", file = .file.display())]
    Variance {
        /// The file.
        file: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The first such element.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// A tensor with a value that is not a finite number.
    #[error("tensor `{tensor}` of {file} holds {value} at element {index}: the checkpoint is damaged or comes from a training that diverged", file = .file.display())]
    NotFinite {
        /// The file.
        file: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The first such element.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// A card that cannot be understood.
    #[error("{file}: field `{field}`: {reason}", file = .file.display())]
    Card {
        /// The file.
        file: PathBuf,
        /// The field.
        field: String,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A super-network that cannot be made.
    #[error("there is no super-network of {what}")]
    Blank {
        /// What is wrong, and what would be right.
        what: String,
    },
    /// A sub-network of a width that the weights do not have.
    #[error("the architecture has width {found}, and {file} holds width {expected}: use weights of that width", file = .file.display())]
    Width {
        /// The architecture's width.
        found: f64,
        /// The super-network's.
        expected: f64,
        /// Its file.
        file: PathBuf,
    },
    /// A stand-alone network where a super-network is needed, or another network of it.
    #[error("{file} holds one network, {what}", file = .file.display())]
    OneNetwork {
        /// The file.
        file: PathBuf,
        /// What is wrong with that, and what to do.
        what: String,
    },
    /// A search space that there is not.
    #[error(transparent)]
    Space(#[from] space::Error),
    /// Super-networks that cannot be searched side by side.
    #[error("{first} and {second} cannot be searched side by side: {what}", first = .first.display(), second = .second.display())]
    Together {
        /// One.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// In what they differ, or do not, and what to do.
        what: String,
    },
    /// A family that the file's tensors cannot serve.
    #[error("{file} cannot serve family {family}: it has no {what}: choose another with --family", file = .file.display())]
    Family {
        /// The file.
        file: PathBuf,
        /// The family asked for.
        family: Family,
        /// The first tensor that is missing.
        what: String,
    },
}

exits! { Error:
    Usage [Family, Width, OneNetwork, Blank, Together],
    Failure [Read, Format, MissingTensor, Shape, Type, TooLarge, Variance, NotFinite, Card];
    held [Space]
}

/// A super-network: its layout and all its numbers, packed.
#[derive(Debug, Clone)]
pub struct Supernet {
    /// The family that its networks belong to.
    pub family: Family,
    /// Where every tensor is.
    pub layout: Layout,
    /// The packed numbers, `layout.len()` of them; the derived part is made on the device.
    pub packed: Vec<f32>,
    /// What the checkpoint says about itself.
    pub card: Card,
    /// Where it came from, for messages.
    pub file: PathBuf,
    /// What people should know of how it was read: see [`Checkpoint::notes`].
    pub notes: Vec<String>,
}

impl Supernet {
    /// Loads a checkpoint and the card beside it. `family` overrides the card.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged or does not fit; the first such tensor is named.
    pub fn load(file: &Path, family: Option<Family>) -> Result<Supernet, Error> {
        let checkpoint = Checkpoint::read(file)?;
        let card = Card::beside(file)?;
        Supernet::from_checkpoint(&checkpoint, card, family)
    }

    /// Builds a super-network from tensors already read.
    ///
    /// # Errors
    /// As [`Supernet::load`].
    pub fn from_checkpoint(
        checkpoint: &Checkpoint,
        card: Card,
        family: Option<Family>,
    ) -> Result<Supernet, Error> {
        if let Some(network) = &card.network {
            let (arch, exits) = (network.arch.clone(), network.exits);
            return extract::load(checkpoint, card, family, &arch, exits);
        }
        let parts = checkpoint.parts();
        if checkpoint.tensor("blocks.1.conv.point_linear.conv.weight").is_some() {
            let path = Card::path(checkpoint.file());
            let what =
                format!("and its card {} does not describe it: put the card beside it", path.display());
            return Err(Error::OneNetwork { file: checkpoint.file().into(), what });
        }
        let family = family.or(card.family).unwrap_or(if parts.head || !parts.exits {
            Family::SE_B
        } else {
            Family { early_exits: true, ..Family::SE_B }
        });
        let needed = init::parts_of(family);
        // A file without any head is no super-network at all; its width will say what is missing.
        if (parts.head || parts.exits)
            && let Some(what) = parts.first_missing(needed)
        {
            return Err(Error::Family { file: checkpoint.file().into(), family, what: what.into() });
        }
        let (width, scaling) = checkpoint.width(card.width)?;
        let classes = checkpoint.classes((!parts.head).then_some(0))?;
        let layout = Layout::new(Channels::new(width, scaling), classes, parts);
        let packed = layout.pack(checkpoint)?;
        let notes = checkpoint.notes().to_vec();
        Ok(Supernet { family, layout, packed, card, file: checkpoint.file().into(), notes })
    }

    /// The one network that these weights are, and its exits; `None` for a super-network.
    pub fn network(&self) -> Option<(&Arch, Exits)> {
        self.layout.only.as_ref().map(|(arch, exits)| (arch, *exits))
    }

    /// Channel counts.
    pub fn channels(&self) -> &Channels {
        self.layout.channels()
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.layout.classes()
    }

    /// The search space of these weights: the card's resolutions, else the paper's, at their width.
    ///
    /// # Errors
    /// Resolutions that are no space; a card's are checked when it is read.
    pub fn space(&self) -> Result<Space, space::Error> {
        Space::new(self.family, self.card.search_resolutions(), &[self.channels().width], self.scaling())
    }

    /// How the exits' widths follow the width multiplier.
    pub fn scaling(&self) -> ExitScaling {
        let same = |scaling: &ExitScaling| Channels::new(self.channels().width, *scaling) == *self.channels();
        ExitScaling::ALL.into_iter().find(same).unwrap_or_default()
    }

    /// Whether an architecture of width `width` runs on these weights.
    pub fn has_width(&self, width: Option<f64>) -> bool {
        width.is_none_or(|w| (w - self.channels().width).abs() < 1e-9)
    }
}

/// The super-network of some of different widths that has an architecture; the first for one without a
/// width.
pub fn of_width<'a>(supernets: &'a [Supernet], arch: &Arch) -> Option<&'a Supernet> {
    supernets.iter().find(|supernet| supernet.has_width(arch.w))
}
