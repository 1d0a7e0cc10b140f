//! Every tensor of a super-network: its once-for-all name, its shape, and its place in the packed
//! buffer.
//!
//! Packing reorders each tensor on its own, so the packed buffer holds exactly the numbers of the checkpoint, and
//! behind them the *derived* part: depthwise filters of sizes 5 and 3, made by the kernel transform whenever weights
//! change.

use super::init::parts_of;
use crate::launch::Slot;
use crate::launch::panels::panelled_len;
use crate::ops::halves::PER_ELEMENT;
use crate::space::Arch;
use crate::space::backbone::{Channels, Head};
use crate::space::visit::{self, Convolution, Linear, LinearPlace, Place};
use crate::space::walk::Exits;
use std::collections::BTreeMap;

/// How a tensor lies in the packed buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As it is.
    Flat,
    /// `[cout, cin, 1, 1]` or `[cout, cin]` to panels `[ceil(cout / 16)][cin][16]`, zeros behind the
    /// last output channel.
    Panels,
    /// `[c, 1, k, k]` to `[k][k][c]`.
    Depthwise,
    /// `[cout, 3, 3, 3]` to `[ky][kx][cin][cout]`.
    Stem,
    /// `[n]` to a multiple of 8, zeros behind.
    Padded,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorLayout {
    /// Its name in a checkpoint.
    pub name: String,
    /// Its shape in a checkpoint.
    pub shape: Vec<usize>,
    /// How it is packed.
    pub packing: Packing,
    /// First element in the packed buffer.
    pub offset: usize,
    /// Elements in the packed buffer.
    pub len: usize,
}

/// Panelled weights of a pointwise convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Panels {
    /// First element.
    pub offset: usize,
    /// Stored input channels.
    pub cin: usize,
    /// Stored output channels.
    pub cout: usize,
}

impl Panels {
    /// The panels of the first `cout` output channels.
    pub fn prefix(&self, cout: usize) -> Slot {
        debug_assert!(cout <= self.cout);
        Slot::weights(self.offset, panelled_len(cout, self.cin))
    }
}

/// The four vectors of a batch norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchNorm {
    /// First element of the weight.
    pub gamma: usize,
    /// First element of the bias.
    pub beta: usize,
    /// First element of the running mean.
    pub mean: usize,
    /// First element of the running variance.
    pub variance: usize,
}

/// Squeeze-and-excitation weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Squeeze {
    /// Channels to hidden units.
    pub reduce: Panels,
    /// First element of its bias.
    pub reduce_bias: usize,
    /// Hidden units to channels.
    pub expand: Panels,
    /// First element of its bias.
    pub expand_bias: usize,
}

/// An elastic layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Block {
    /// First 1x1 convolution of the MBConv.
    pub expand: Panels,
    /// Its batch norm.
    pub expand_bn: BatchNorm,
    /// First elements of the depthwise filters of sizes 3, 5 and 7.
    pub depthwise: [usize; 3],
    /// First elements of the matrices 5 to 3 and 7 to 5.
    pub matrices: [usize; 2],
    /// Stored channels of the filters.
    pub channels: usize,
    /// Batch norm behind the depthwise convolution.
    pub depthwise_bn: BatchNorm,
    /// Squeeze-and-excitation, where the stage has it.
    pub squeeze: Option<Squeeze>,
    /// Second 1x1 convolution.
    pub project: Panels,
    /// Its batch norm.
    pub project_bn: BatchNorm,
}

impl Block {
    /// The depthwise filter `[kernel, kernel, channels]` of a size: 3, 5 or 7.
    pub fn filter(&self, kernel: usize) -> Slot {
        Slot::weights(self.depthwise[(kernel - 3) / 2], kernel * kernel * self.channels)
    }
}

/// A classification head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeadLayout {
    /// Channel counts.
    pub head: Head,
    /// First 1x1 convolution.
    pub expand: Panels,
    /// Its batch norm.
    pub expand_bn: BatchNorm,
    /// Second 1x1 convolution.
    pub mix: Panels,
    /// Linear layer.
    pub classifier: Panels,
    /// First element of its bias.
    pub classifier_bias: usize,
}

/// The stem and the fixed first block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FirstLayers {
    /// Filters of the stem.
    pub stem: usize,
    /// Its batch norm.
    pub stem_bn: BatchNorm,
    /// Depthwise filter of the fixed first block.
    pub depthwise: usize,
    /// Its batch norm.
    pub depthwise_bn: BatchNorm,
    /// 1x1 convolution of the fixed first block.
    pub project: Panels,
    /// Its batch norm.
    pub project_bn: BatchNorm,
}

/// Where what a convolution needs lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvolutionLayout {
    /// Its filters.
    pub filters: Filters,
    /// The batch norm behind it.
    pub bn: BatchNorm,
    /// Its own bias, where it has one.
    pub bias: Option<Slot>,
}

/// Filters of a convolution, for as many channels as the super-network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filters {
    /// The stem's.
    Stem(Slot),
    /// A filter a channel, of so many channels.
    Depthwise(Slot, usize),
    /// A 1x1 convolution.
    Panels(Panels),
    /// There is nothing to convolve.
    None,
}

/// Which optional tensors a super-network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parts {
    /// The plain head of SE families.
    pub head: bool,
    /// The five exits of EE families.
    pub exits: bool,
    /// The parallel branches of P families.
    pub parallel: bool,
}

impl Parts {
    /// A tensor that stands for the first part of `needed` that is not here.
    pub fn first_missing(self, needed: Parts) -> Option<&'static str> {
        [
            (self.head, needed.head, "plain head (tensor `final_expand_layer.conv.weight`)"),
            (self.exits, needed.exits, "exits (tensor `exits.0.final_expand_layer.conv.weight`)"),
            (
                self.parallel,
                needed.parallel,
                "parallel branches (tensor `blocks.1.parallel.pointwise.conv.weight`)",
            ),
        ]
        .into_iter()
        .find_map(|(here, needed, what)| (needed && !here).then_some(what))
    }
}

/// Where everything is.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    pub(super) channels: Channels,
    pub(super) classes: usize,
    pub(super) parts: Parts,
    pub(super) tensors: Vec<TensorLayout>,
    pub(super) derived: usize,
    pub(super) len: usize,
    /// The one network whose tensors these are, and its exits; `None` for a super-network.
    pub(super) only: Option<(Arch, Exits)>,
    /// The layers that all networks share.
    pub first: FirstLayers,
    /// The elastic layers.
    pub blocks: Vec<Block>,
    /// What lies beside their MBConvs, where the super-network has parallel branches.
    pub beside: BTreeMap<Place, ConvolutionLayout>,
    /// The plain head.
    pub head: Option<HeadLayout>,
    /// The exits.
    pub exits: Vec<HeadLayout>,
}

impl Layout {
    /// Where what a convolution needs lies.
    ///
    /// # Panics
    /// If the layout has no such convolution.
    pub fn convolution(&self, what: &Convolution) -> ConvolutionLayout {
        let first = &self.first;
        let (filters, bn, bias) = match what.place {
            Place::Stem => (Filters::Stem(Slot::weights(first.stem, 27 * what.cout)), first.stem_bn, None),
            Place::FirstFilter => {
                let filter = Slot::weights(first.depthwise, 9 * what.cout);
                (Filters::Depthwise(filter, what.cout), first.depthwise_bn, None)
            }
            Place::FirstProject => (Filters::Panels(first.project), first.project_bn, None),
            Place::Expand(index) => {
                let block = &self.blocks[index];
                (Filters::Panels(block.expand), block.expand_bn, None)
            }
            Place::Filter(index) => {
                let block = &self.blocks[index];
                (Filters::Depthwise(block.filter(what.kernel), block.channels), block.depthwise_bn, None)
            }
            Place::Project(index) => {
                let block = &self.blocks[index];
                (Filters::Panels(block.project), block.project_bn, None)
            }
            Place::Head(number) => {
                let head = self.head_numbered(number);
                (Filters::Panels(head.expand), head.expand_bn, None)
            }
            beside => {
                let there = self.beside.get(&beside);
                return *there.expect("a super-network of a P family has its parallel branches");
            }
        };
        ConvolutionLayout { filters, bn, bias }
    }

    /// The panels of a 1x1 convolution.
    ///
    /// # Panics
    /// If it is none.
    pub fn panels(&self, what: &Convolution) -> Panels {
        match self.convolution(what).filters {
            Filters::Panels(panels) => panels,
            other => panic!("{what:?} has {other:?} for weights"),
        }
    }

    /// The rows of a 1x1 convolution, as an engine has them.
    ///
    /// # Panics
    /// If it is none.
    pub fn rows_of(&self, what: &Convolution) -> Slot {
        self.rows(&self.panels(what), what.cout)
    }

    /// The filters of a convolution that looks beyond a pixel.
    ///
    /// # Panics
    /// If it does not.
    pub fn filter(&self, what: &Convolution) -> Slot {
        match self.convolution(what).filters {
            Filters::Stem(slot) | Filters::Depthwise(slot, _) => slot,
            other => panic!("{what:?} has {other:?} for weights"),
        }
    }

    /// Channels that the stored filters of a convolution have for an input: those of the super-network.
    pub fn stored_inputs(&self, what: &Convolution) -> usize {
        match self.convolution(what).filters {
            Filters::Panels(panels) => panels.cin,
            Filters::Depthwise(_, channels) => channels,
            Filters::Stem(_) | Filters::None => what.cin,
        }
    }

    /// The weights of squeeze-and-excitation.
    ///
    /// # Panics
    /// If the layout has none there.
    pub fn squeeze(&self, what: &visit::Squeeze) -> Squeeze {
        self.blocks[what.index].squeeze.expect("the stage has squeeze-and-excitation")
    }

    /// The weights of a linear layer, and its bias, where it has one.
    ///
    /// # Panics
    /// If the layout has no such layer.
    pub fn linear(&self, what: &Linear) -> (Panels, Option<Slot>) {
        let head = self.head_numbered(what.exit);
        match what.place {
            LinearPlace::Mix => (head.mix, None),
            LinearPlace::Classifier => {
                (head.classifier, Some(Slot::weights(head.classifier_bias, what.stored())))
            }
        }
    }

    /// An exit, from 0, or the plain head.
    fn head_numbered(&self, number: Option<usize>) -> &HeadLayout {
        match number {
            Some(number) => &self.exits[number],
            None => self.head.as_ref().expect("a super-network of an SE family has its head"),
        }
    }

    /// Channel counts.
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Which optional tensors there are.
    pub fn parts(&self) -> Parts {
        self.parts
    }

    /// What `arch` needs and these weights do not have.
    pub fn missing(&self, arch: &Arch) -> Option<&'static str> {
        self.parts.first_missing(parts_of(arch.family))
    }

    /// Whether these are the tensors of one stand-alone network rather than of a super-network.
    pub fn is_network(&self) -> bool {
        self.only.is_some()
    }

    /// Whether `arch`, read at `exits`, runs on these tensors as far as they are those of one network
    /// only. Its resolution is free.
    pub fn holds(&self, arch: &Arch, exits: Exits) -> bool {
        self.only.as_ref().is_none_or(|(only, their)| {
            let same = Arch { r: only.r, w: only.w, nd: only.nd, ..arch.clone() };
            // A network that ends earlier has fewer layers, and the exits say which.
            let cut = |a: &Arch| Arch { nd: exits.last() as u8 + 1, ..a.clone() }.canonical();
            let same =
                if arch.family.early_exits { cut(&same) == cut(only) } else { same.canonical() == *only };
            same && exits.iter().all(|exit| their.contains(exit))
        })
    }

    /// The tensors of a checkpoint, in packed order.
    pub fn tensors(&self) -> &[TensorLayout] {
        &self.tensors
    }

    /// First element of the derived part.
    pub fn derived(&self) -> usize {
        self.derived
    }

    /// Elements of the packed buffer, the derived part included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Elements of the packed buffer with the 16-bit rows of the 1x1 convolutions behind it.
    pub fn len_with_rows(&self) -> usize {
        self.len + self.derived.div_ceil(PER_ELEMENT)
    }

    /// The 16-bit rows of the first `cout` outputs of a 1x1 convolution, as an engine has them behind the
    /// packed buffer: every row's first half as far into that part as its panels are into the buffer.
    pub fn rows(&self, panels: &Panels, cout: usize) -> Slot {
        debug_assert!(cout <= panels.cout);
        Slot::weights(self.len + panels.offset / PER_ELEMENT, cout * panels.cin / PER_ELEMENT)
    }

    /// The 1x1 convolutions, the linear layers of heads among them; not those of squeeze-and-excitation. A
    /// stand-alone network has only those that it runs.
    pub fn convolutions(&self) -> impl Iterator<Item = Panels> {
        let blocks = self.blocks.iter().flat_map(|block| [block.expand, block.project]);
        let beside = self.beside.values().filter_map(|convolution| match convolution.filters {
            Filters::Panels(panels) => Some(panels),
            _ => None,
        });
        let heads = self.head.iter().chain(&self.exits);
        let heads = heads.flat_map(|head| [head.expand, head.mix, head.classifier]);
        let all = std::iter::once(self.first.project).chain(blocks).chain(beside).chain(heads);
        all.filter(|panels| panels.cout > 0)
    }

    /// Never: every super-network has tensors.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
