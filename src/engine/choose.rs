//! The first half of lowering: which parts of a tree run together, and how each of them runs.
//!
//! What comes out is a list of [`Choice`]s in the order in which they run. It says of each why it runs so, and it
//! holds for any number of images: the second half (`emit.rs`) makes calls of it for so many. `natv2 bench plan`
//! prints it.
//!
//! In f32, and on devices whose blocks have no shared memory to speak of, the walk is depth-first, so that few maps
//! are kept at a time. Where MBConvs are single kernels it goes depth by depth: those of all nodes of one depth are
//! one call, which is far fewer launches.

use super::Precision;
use super::lowering::Mode;
use super::mbconv::{MbconvParts, head_pass};
use super::tree::Tree;
use crate::ops::expand_depthwise;
use crate::ops::halves::Format;
use crate::ops::mbconv;
use crate::ops::mbconv_pass::{self, Pass};
use crate::space::walk::{Exit, Part};
use crate::supernet::Layout;
use serde::Serialize;
use std::fmt;

/// What plans are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// What maps are stored as.
    pub precision: Precision,
    /// Bytes of shared memory that a block of the device can have: in 16 bits, MBConvs of inference of
    /// which an image fits are one call. 0 where nothing is gained by it, as on a CPU.
    pub block_bytes: u32,
}

impl Target {
    /// The 16-bit format and the shared memory of blocks that hold whole MBConvs, where there are such.
    pub(super) fn blocks(&self) -> Option<(Format, u32)> {
        self.precision.format().filter(|_| self.block_bytes > 0).map(|format| (format, self.block_bytes))
    }
}

/// A target without blocks.
impl From<Precision> for Target {
    fn from(precision: Precision) -> Target {
        Target { precision, block_bytes: 0 }
    }
}

/// What a tree is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Images, with folded batch norms.
    Inference,
    /// The statistics of batches.
    Recalibration {
        /// Images of a batch.
        batch: usize,
    },
}

impl Purpose {
    /// In a word.
    pub fn word(&self) -> &'static str {
        match self {
            Purpose::Inference => "inference",
            Purpose::Recalibration { .. } => "recalibration",
        }
    }

    /// What a mode is for, on so many images.
    pub(super) fn of(mode: Mode, images: usize) -> Purpose {
        match mode {
            Mode::Inference => Purpose::Inference,
            Mode::Recalibration { at_once, .. } => Purpose::Recalibration { batch: images / at_once.max(1) },
        }
    }
}

/// How a part runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// An operator at a time.
    Operators,
    /// The branches that read a layer's input are one call, all else an operator at a time.
    Branches,
    /// Its MBConv is one call, or the passes of recalibration.
    Whole,
    /// Its MBConv is a pair of calls: up to the filter, and the projection.
    Pair,
    /// Its stem is an operator, and the first block behind it one call.
    BehindStem,
    /// A head in recalibration: a pass that leaves statistics and no map.
    Statistics,
    /// A head whose features lie beside those of its stage's other heads, to be read at once.
    Collected,
}

/// Why a part runs so, and not better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It fits a block, which needs so many bytes of shared memory at least.
    Fits {
        /// Of the smallest block.
        bytes: u32,
    },
    /// No block has the shared memory that the smallest needs.
    TooLarge {
        /// Of the smallest block.
        bytes: u32,
    },
    /// There is no such kernel.
    NoKernel,
    /// Maps are f32, for which no kernel does more.
    F32,
    /// The device's blocks have no shared memory to speak of.
    NoBlocks,
    /// None of its branches is an MBConv.
    NoMbconv,
    /// Its branches read one input.
    OneInput,
    /// All heads of a stage have the same weights behind their pools.
    SameWeights,
    /// Recalibration needs no more of a head than the statistics of its first convolution.
    OnlyStatistics,
}

impl How {
    /// In words, for a mode.
    pub fn in_words(self, mode: &Purpose) -> &'static str {
        match (self, mode) {
            (How::Operators, _) => "operator by operator",
            (How::Branches, _) => "branches as one call",
            (How::Whole, Purpose::Inference) => "one kernel",
            (How::Whole, _) => "passes",
            (How::Pair, Purpose::Inference) => "a pair of kernels",
            (How::Pair, _) => "passes, then a pair",
            (How::BehindStem, Purpose::Inference) => "stem, then one kernel",
            (How::BehindStem, _) => "stem, then passes",
            (How::Statistics, _) => "statistics alone",
            (How::Collected, _) => "features, read together",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |bytes: u32| f64::from(bytes) / 1024.0;
        match *self {
            Why::Fits { bytes } => write!(f, "a block needs {:.1} KiB at least, and has them", kib(bytes)),
            Why::TooLarge { bytes } => write!(f, "a block would need {:.1} KiB at least", kib(bytes)),
            Why::NoKernel => f.write_str("there is no such kernel"),
            Why::F32 => f.write_str("maps are f32"),
            Why::NoBlocks => f.write_str("blocks have no shared memory to hold an image"),
            Why::NoMbconv => f.write_str("it has no MBConv"),
            Why::OneInput => f.write_str("they read the same input"),
            Why::SameWeights => f.write_str("heads of a stage have the same weights behind their pools"),
            Why::OnlyStatistics => f.write_str("recalibration needs nothing else of a head"),
        }
    }
}

/// Nodes that run next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// One node, all of it.
    Node {
        /// The node.
        id: usize,
        /// How it runs.
        how: How,
        /// Why.
        why: Why,
    },
    /// The MBConvs of several layers of one depth, as one call; what follows each of them is a [`Choice::Rest`].
    Layers(Vec<(usize, Why)>),
    /// The statistics of the heads at one depth, as one call.
    Heads(Vec<(usize, Why)>),
    /// What is left of a node that has run: the dense skips behind it, and the maps that it needs no more.
    Rest(usize),
    /// What is read of all heads whose features were collected, stage by stage.
    Collected,
}

impl Choice {
    /// The nodes of a list of choices, each with how it runs and why, and whether it is one call with others.
    pub fn nodes(choices: &[Choice]) -> impl Iterator<Item = (usize, How, Why, bool)> {
        choices.iter().flat_map(|choice| {
            let of_group = |ids: &[(usize, Why)], how: How| -> Vec<_> {
                ids.iter().map(|&(id, why)| (id, how, why, ids.len() > 1)).collect()
            };
            match choice {
                Choice::Node { id, how, why } => vec![(*id, *how, *why, false)],
                Choice::Layers(ids) => of_group(ids, How::Whole),
                Choice::Heads(ids) => of_group(ids, How::Statistics),
                Choice::Rest(_) | Choice::Collected => Vec::new(),
            }
        })
    }
}

/// What of a tree runs how, in order.
pub fn choose(layout: &Layout, tree: &Tree, purpose: Purpose, target: Target) -> Vec<Choice> {
    let chooser = Chooser { layout, tree, purpose, target };
    if chooser.groups() { chooser.by_depth() } else { chooser.depth_first() }
}

struct Chooser<'a> {
    layout: &'a Layout,
    tree: &'a Tree,
    purpose: Purpose,
    target: Target,
}

impl Chooser<'_> {
    /// Whether whole MBConvs are single calls, or passes, so that those of many nodes can be one.
    fn groups(&self) -> bool {
        self.target.blocks().is_some()
    }

    fn depth_first(&self) -> Vec<Choice> {
        let mut choices = Vec::with_capacity(self.tree.nodes.len());
        let mut left: Vec<usize> = self.tree.roots.iter().rev().copied().collect();
        while let Some(id) = left.pop() {
            choices.push(self.node(id));
            left.extend(self.tree.nodes[id].children.iter().rev());
        }
        choices
    }

    fn by_depth(&self) -> Vec<Choice> {
        let mut choices = Vec::with_capacity(2 * self.tree.nodes.len());
        let mut level = self.tree.roots.clone();
        while !level.is_empty() {
            let (mut layers, mut heads) = (Vec::new(), Vec::new());
            let start = choices.len();
            for &id in &level {
                let part = &self.tree.nodes[id].part;
                let (how, why) = how(self.layout, part, self.purpose, self.target);
                match (part, how) {
                    (Part::Layer(layer), How::Whole) if layer.branches.count() == 1 => layers.push((id, why)),
                    (_, How::Statistics) => heads.push((id, why)),
                    _ => {
                        choices.push(Choice::Node { id, how, why });
                        continue;
                    }
                }
                choices.push(Choice::Rest(id));
            }
            // The only one of its depth has nobody to run with.
            if let [(id, why)] = layers[..] {
                let own = choices[start..].iter_mut().find(|choice| **choice == Choice::Rest(id));
                own.into_iter().for_each(|choice| *choice = Choice::Node { id, how: How::Whole, why });
                layers.clear();
            }
            let together = [(layers, Choice::Layers as fn(_) -> _), (heads, Choice::Heads)];
            let together = together.into_iter().filter(|(ids, _)| !ids.is_empty());
            choices.splice(start..start, together.map(|(ids, of)| of(ids)));
            level = level.iter().flat_map(|&id| self.tree.nodes[id].children.iter().copied()).collect();
        }
        if self.purpose == Purpose::Inference {
            choices.push(Choice::Collected);
        }
        choices
    }

    fn node(&self, id: usize) -> Choice {
        let part = &self.tree.nodes[id].part;
        let (how, why) = how(self.layout, part, self.purpose, self.target);
        Choice::Node { id, how, why }
    }
}

/// How a part runs on a target, and why.
pub fn how(layout: &Layout, part: &Part, purpose: Purpose, target: Target) -> (How, Why) {
    let Some((format, block_bytes)) = target.blocks() else {
        let why = if target.precision.format().is_none() { Why::F32 } else { Why::NoBlocks };
        return match part {
            Part::Layer(layer) if why == Why::F32 && layer.branches.count() > 1 => {
                (How::Branches, Why::OneInput)
            }
            _ => (How::Operators, why),
        };
    };
    let blocks = Blocks { layout, purpose, format, block_bytes };
    match part {
        Part::First(first) => match blocks.mbconv(&MbconvParts::with_stem(first)) {
            (Some(how), why) => (how, why),
            (None, _) => match blocks.mbconv(&MbconvParts::behind_stem(first)) {
                (Some(_), why) => (How::BehindStem, why),
                (None, why) => (How::Operators, why),
            },
        },
        Part::Layer(layer) if !layer.branches.mbconv => (How::Operators, Why::NoMbconv),
        Part::Layer(layer) => {
            let (how, why) = blocks.mbconv(&MbconvParts::of(layer));
            (how.unwrap_or(How::Operators), why)
        }
        Part::Exit(_) if purpose == Purpose::Inference => (How::Collected, Why::SameWeights),
        Part::Exit(exit) => match blocks.has_room(blocks.statistics(exit)) {
            Why::Fits { .. } => (How::Statistics, Why::OnlyStatistics),
            why => (How::Operators, why),
        },
    }
}

/// What a device's blocks can do in 16 bits.
struct Blocks<'a> {
    layout: &'a Layout,
    purpose: Purpose,
    format: Format,
    block_bytes: u32,
}

impl Blocks<'_> {
    /// How an MBConv runs, unless operator by operator, and why.
    fn mbconv(&self, parts: &MbconvParts) -> (Option<How>, Why) {
        let images = match self.purpose {
            Purpose::Inference => 1,
            Purpose::Recalibration { batch } => batch,
        };
        let whole = parts.params(self.layout, images, self.format);
        // What comes before the last call must be there, and that call.
        let (last, mut before, batch_images) = match self.purpose {
            Purpose::Inference => (mbconv::least_shared_bytes(&whole), None, None),
            Purpose::Recalibration { batch } => {
                let bytes = |pass| {
                    mbconv_pass::least_shared_bytes(&mbconv_pass::Params::of(whole, pass, batch as u32))
                };
                let before = Pass::ALL.into_iter().filter(|&pass| pass != Pass::Projected);
                let before = before.filter(|&pass| whole.expands() || pass != Pass::Expanded);
                let mut before = before.map(|pass| self.has_room(bytes(pass)));
                let worst = before.rfind(|why| !why.fits());
                (bytes(Pass::Projected), worst, Some(batch as u32))
            }
        };
        if whole.has_stem() && self.purpose != Purpose::Inference {
            before = Some(Why::NoKernel);
        }
        if let Some(why) = before {
            return (None, why);
        }
        let why = self.has_room(last);
        let half = expand_depthwise::Params { shape: whole.front(), batch_images };
        let pair = || self.has_room(expand_depthwise::least_shared_bytes(&half)).fits();
        let how = if why.fits() {
            Some(How::Whole)
        } else if !whole.has_stem() && pair() {
            Some(How::Pair)
        } else {
            None
        };
        (how, why)
    }

    /// The least shared memory of a block of the pass that leaves the statistics of a head.
    fn statistics(&self, exit: &Exit) -> Option<u32> {
        let Purpose::Recalibration { batch } = self.purpose else { return None };
        let images = (batch as u32, batch as u32);
        mbconv_pass::least_shared_bytes(&head_pass(self.layout, exit, images, self.format))
    }

    /// Whether a block has the shared memory that the smallest takes.
    fn has_room(&self, smallest: Option<u32>) -> Why {
        match smallest {
            Some(bytes) if bytes <= self.block_bytes => Why::Fits { bytes },
            Some(bytes) => Why::TooLarge { bytes },
            None => Why::NoKernel,
        }
    }
}

impl Why {
    fn fits(self) -> bool {
        matches!(self, Why::Fits { .. })
    }

    /// Whether two reasons differ in nothing but bytes.
    pub fn is_like(self, other: Why) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }

    /// Of two such reasons, the one with the larger block.
    #[must_use]
    pub fn or_larger(self, other: Why) -> Why {
        let bytes = |why| match why {
            Why::Fits { bytes } | Why::TooLarge { bytes } => bytes,
            _ => 0,
        };
        if bytes(other) > bytes(self) { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Precision;
    use crate::random::stream;
    use crate::space::sample::{Policy, sample};
    use crate::space::walk::Exits;
    use crate::space::{Arch, Channels, ExitScaling, Family, Space};
    use crate::supernet::init::parts_of;

    const RECALIBRATION: Purpose = Purpose::Recalibration { batch: 20 };

    fn layout(family: Family) -> Layout {
        Layout::new(Channels::new(1.0, ExitScaling::Once), 10, parts_of(family))
    }

    fn tree(layout: &Layout, family: Family, side: u32) -> Tree {
        let space = Space::new(family, &[side], &[1.0], ExitScaling::Once).unwrap();
        let mut rng = stream(3, "choose/tests", 0, 0);
        let archs: Vec<Arch> =
            (0..6).map(|_| space.decode(&sample(&space, Policy::NatV2, &mut rng)).unwrap()).collect();
        let members: Vec<_> = archs.iter().map(|arch| (arch, Exits::up_to(arch))).collect();
        Tree::new(layout.channels(), &members)
    }

    fn blocks(kib: u32) -> Target {
        Target { precision: Precision::Bf16, block_bytes: kib << 10 }
    }

    #[test]
    fn every_node_runs_once_and_behind_what_it_reads() {
        for family in Family::all() {
            let layout = layout(family);
            let tree = tree(&layout, family, 64);
            let mut parents = vec![None; tree.nodes.len()];
            for (id, node) in tree.nodes.iter().enumerate() {
                node.children.iter().for_each(|&child| parents[child] = Some(id));
            }
            for purpose in [Purpose::Inference, RECALIBRATION] {
                for target in [Precision::F32.into(), Precision::F16.into(), blocks(100), blocks(227)] {
                    let choices = choose(&layout, &tree, purpose, target);
                    let mut ran = vec![false; tree.nodes.len()];
                    for (id, ..) in Choice::nodes(&choices) {
                        assert!(!std::mem::replace(&mut ran[id], true), "{family}: {id} runs twice");
                        assert!(parents[id].is_none_or(|parent| ran[parent]), "{family}: {id}");
                    }
                    assert!(ran.iter().all(|&ran| ran), "{family}");
                }
            }
        }
    }

    #[test]
    fn what_can_run_as_one_does_and_the_rest_says_why_not() {
        let family: Family = "EE_P".parse().unwrap();
        let layout = layout(family);
        let tree = tree(&layout, family, 64);
        let all = |purpose, target: Target| -> Vec<(Part, How, Why, bool)> {
            let choices = choose(&layout, &tree, purpose, target);
            let found = Choice::nodes(&choices);
            found.map(|(id, how, why, together)| (tree.nodes[id].part, how, why, together)).collect()
        };
        for (part, how, why, _) in all(Purpose::Inference, Precision::F32.into()) {
            let several = matches!(part, Part::Layer(layer) if layer.branches.count() > 1);
            let wanted = if several { (How::Branches, Why::OneInput) } else { (How::Operators, Why::F32) };
            assert_eq!((how, why), wanted, "{part:?}");
        }
        let without = all(Purpose::Inference, Precision::F16.into());
        assert!(without.iter().all(|(_, how, why, _)| (*how, *why) == (How::Operators, Why::NoBlocks)));

        let large = all(Purpose::Inference, blocks(227));
        for (part, how, why, together) in &large {
            match part {
                Part::Layer(layer) if !layer.branches.mbconv => {
                    assert_eq!((*how, *why), (How::Operators, Why::NoMbconv));
                }
                Part::Exit(_) => assert_eq!((*how, *why), (How::Collected, Why::SameWeights)),
                _ => assert!(*how == How::Whole && matches!(why, Why::Fits { bytes } if *bytes <= 227 << 10)),
            }
            assert!(!together || matches!(part, Part::Layer(layer) if layer.branches.count() == 1));
        }
        assert!(large.iter().any(|(.., together)| *together));
        // Recalibration has no kernel for the stem, and leaves heads at their statistics.
        for (part, how, why, _) in all(RECALIBRATION, blocks(227)) {
            match part {
                Part::First(_) => assert_eq!(how, How::BehindStem),
                Part::Exit(_) => assert_eq!((how, why), (How::Statistics, Why::OnlyStatistics)),
                Part::Layer(_) => {}
            }
        }
        // Blocks that hold next to nothing.
        for (part, how, why, _) in all(Purpose::Inference, blocks(1)) {
            if matches!(part, Part::Layer(layer) if layer.branches.mbconv) {
                assert!(how == How::Operators && matches!(why, Why::TooLarge { bytes } if bytes > 1 << 10));
            }
        }
    }

    #[test]
    fn a_choice_holds_for_any_number_of_images() {
        let layout = layout(Family::SE_B);
        let arch = Arch { ks: [7; 20], e: [6; 20], ..Arch::largest(Family::SE_B, 160, None) };
        let tree = Tree::new(layout.channels(), &[(&arch, Exits::single(&arch))]);
        for block_bytes in [64 << 10, 100 << 10, 163 << 10, 227 << 10] {
            let blocks = Target { precision: Precision::F16, block_bytes };
            for (id, how, ..) in Choice::nodes(&choose(&layout, &tree, Purpose::Inference, blocks)) {
                let Part::Layer(layer) = tree.nodes[id].part else { continue };
                for images in [1, 2, 7, 64, 1000] {
                    let params = MbconvParts::of(&layer).params(&layout, images, Format::F16);
                    assert_eq!(how == How::Whole, mbconv::fits(&params, block_bytes), "{layer:?}, {images}");
                }
            }
        }
    }
}
