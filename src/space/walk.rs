//! An architecture unrolled into its parts, with every shape.
//!
//! A network is a list of [`Part`]s: the first layers, then elastic layers, and a head behind each stage that is
//! read. What a part is made of, operator by operator, stands in [`visit`](super::visit). Costs, plans, training,
//! exports and drawings all read these two, so that they cannot disagree about what a network is.

use super::backbone::{
    Activation, Channels, Head, LAYERS, MAX_DEPTH, STAGE_TABLE, STAGES, expanded, squeezed, strided,
};
use super::{Arch, Error, Family};

/// Which of the three parallel branches of a layer run (OFAv2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Branches {
    /// The elastic MBConv, with its identity shortcut where the layer has one.
    pub mbconv: bool,
    /// 1x1 convolution, batch norm, activation.
    pub pointwise: bool,
    /// Max-pool where the layer strides, 1x1 convolution with bias where channels change, batch
    /// norm, activation.
    pub transform: bool,
}

impl Branches {
    /// The branches of a mask 1..=7: bit 2 MBConv, bit 1 pointwise, bit 0 transform.
    pub fn from_mask(mask: u8) -> Branches {
        Branches { mbconv: mask & 4 != 0, pointwise: mask & 2 != 0, transform: mask & 1 != 0 }
    }

    /// Their mask.
    pub fn mask(self) -> u8 {
        let Branches { mbconv, pointwise, transform } = self;
        4 * u8::from(mbconv) + 2 * u8::from(pointwise) + u8::from(transform)
    }

    /// How many there are.
    pub fn count(self) -> usize {
        self.mask().count_ones() as usize
    }
}

/// A part of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The stem and the fixed first block.
    First(First),
    /// An elastic layer.
    Layer(Layer),
    /// A head, from which nothing goes on.
    Exit(Exit),
}

/// The layers that all networks begin with: the stem, and the fixed first block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct First {
    /// Side of the images.
    pub image: usize,
    /// Channels of the stem.
    pub stem: usize,
    /// Output channels.
    pub cout: usize,
    /// Side of all their maps.
    pub side: usize,
}

/// A head, and the map that it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Exit {
    /// The stage before it, from 0.
    pub stage: usize,
    /// Whether it is one of five exits, and not the plain head.
    pub early: bool,
    /// Side of that stage's output map.
    pub side: usize,
    /// Channel counts.
    pub head: Head,
}

/// One elastic layer of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layer {
    /// Index among the 20 layers of the super-network; its tensors are `blocks.{index + 1}`.
    pub index: usize,
    /// Stage, from 0.
    pub stage: usize,
    /// Position in the stage, from 0.
    pub position: usize,
    /// Input channels.
    pub cin: usize,
    /// Output channels.
    pub cout: usize,
    /// Expansion ratio.
    pub expansion: u8,
    /// Channels of the expanded map.
    pub mid: usize,
    /// Hidden units of squeeze-and-excitation, where the stage has it.
    pub squeeze: Option<usize>,
    /// Depthwise kernel.
    pub kernel: usize,
    /// Stride of the depthwise convolution, and of the other branches.
    pub stride: usize,
    /// Activation inside the MBConv and of the other branches.
    pub activation: Activation,
    /// Side of the input map.
    pub side_in: usize,
    /// Side of the output map.
    pub side_out: usize,
    /// Whether the MBConv adds its input to its output.
    pub shortcut: bool,
    /// The branches that run.
    pub branches: Branches,
}

impl Layer {
    /// Layers of the stage (from 1) whose outputs are added to this one's, the `k`th, where the family has `dense`
    /// skips: y1 ..= y(k-2). The term k-1 is the MBConv's own shortcut, and the stage's input has other channels.
    pub fn skips(&self, dense: bool) -> std::ops::RangeInclusive<usize> {
        let k = if dense { self.position + 1 } else { 0 };
        1..=k.saturating_sub(2)
    }
}

/// The parts of `arch` read at `exits`, in order. The last exit ends the network.
pub fn parts<'a>(channels: &Channels, arch: &'a Arch, exits: Exits) -> impl Iterator<Item = Part> + use<'a> {
    let image = arch.r as usize;
    let first = First { image, stem: channels.stem, cout: channels.first, side: strided(image, 2) };
    let channels = *channels;
    let mut layers = walk(&channels, arch).take_while(move |layer| layer.stage <= exits.last());
    let mut exit = None;
    let rest = std::iter::from_fn(move || {
        if let Some(exit) = exit.take() {
            return Some(Part::Exit(exit));
        }
        let layer = layers.next()?;
        let Layer { stage, position, side_out: side, .. } = layer;
        if position + 1 == usize::from(arch.d[stage]) && exits.contains(stage) {
            let head = head(&channels, arch.family, stage);
            exit = Some(Exit { stage, early: arch.family.early_exits, side, head });
        }
        Some(Part::Layer(layer))
    });
    std::iter::once(Part::First(first)).chain(rest)
}

/// The layers of `arch`, in order.
pub fn walk<'a>(channels: &Channels, arch: &'a Arch) -> impl Iterator<Item = Layer> + use<'a> {
    let channels = *channels;
    let mut side = strided(arch.r as usize, 2);
    (0..LAYERS).filter(|&index| arch.is_active(index)).map(move |index| {
        let (stage, position) = (index / MAX_DEPTH, index % MAX_DEPTH);
        let table = STAGE_TABLE[stage];
        let stride = if position == 0 { table.stride } else { 1 };
        let cin = channels.layer_input(index);
        let mid = expanded(cin, arch.e[index]);
        let side_in = side;
        side = strided(side, stride);
        Layer {
            index,
            stage,
            position,
            cin,
            cout: channels.stages[stage],
            expansion: arch.e[index],
            mid,
            squeeze: table.squeeze_excite.then(|| squeezed(mid)),
            kernel: usize::from(arch.ks[index]),
            stride,
            activation: table.activation,
            side_in,
            side_out: side,
            shortcut: position != 0,
            branches: Branches::from_mask(arch.nw[index]),
        }
    })
}

/// Side of the smallest map of `arch` read at `exits`: that of the last stage, which its last head reads.
pub fn smallest_side(arch: &Arch, exits: Exits) -> usize {
    STAGE_TABLE[..=exits.last()].iter().fold(strided(arch.r as usize, 2), |side, of| strided(side, of.stride))
}

/// A set of exits of an early-exit network, or the one plain head of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exits(u8);

impl Exits {
    /// Only the exit that `arch` names.
    pub fn single(arch: &Arch) -> Exits {
        Exits(1 << (arch.nd - 1))
    }

    /// Every exit up to the one that `arch` names.
    pub fn up_to(arch: &Arch) -> Exits {
        if arch.family.early_exits { Exits((1 << arch.nd) - 1) } else { Exits::single(arch) }
    }

    /// The exits of a list such as `1,3,5`, or `all`, for `arch`.
    ///
    /// # Errors
    /// A number that is no exit of this architecture.
    pub fn parse(text: &str, arch: &Arch) -> Result<Exits, Error> {
        if text.trim() == "all" {
            return Ok(Exits::up_to(arch));
        }
        let mut set = 0;
        for part in text.split(',') {
            let exit = part.trim().parse::<u8>().ok().filter(|e| (1..=arch.nd).contains(e));
            let exit = exit.filter(|&e| arch.family.early_exits || e == arch.nd);
            set |= 1
                << (exit.ok_or_else(|| Error::Choice {
                    place: "an entry of the list of exits".into(),
                    value: format!("`{part}`"),
                    choices: if arch.family.early_exits {
                        format!("1 to {}, the exit of the architecture, or `all`", arch.nd)
                    } else {
                        format!("`all`: family {} has one plain head", arch.family)
                    },
                })? - 1);
        }
        Ok(Exits(set))
    }

    /// The exits, from 0, in order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..STAGES).filter(move |exit| self.0 >> exit & 1 == 1)
    }

    /// Whether the exit after `stage` (from 0) is in the set.
    pub fn contains(self, stage: usize) -> bool {
        self.0 >> stage & 1 == 1
    }

    /// The last exit, from 0: what lies behind it is not part of the network.
    pub fn last(self) -> usize {
        self.iter().last().unwrap_or(STAGES - 1)
    }

    /// How many there are.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Never: there is always one to read.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The head that a network of `family` has after `stage` (from 0).
fn head(channels: &Channels, family: Family, stage: usize) -> Head {
    if family.early_exits { channels.exits[stage] } else { channels.head }
}
