//! The least that networks can cost, whatever the plan.
//!
//! *Fused*: every layer reads its input and writes its output once, the maps in between never leave
//! the processor. *Unfused*: every operator reads and writes its own maps. Both are counted in
//! elements of one image, next to the weights, which are read at least once. A population's floor
//! is that of its distinct prefixes: one tree for each resolution, however it is cut later.
//!
//! Recalibration's floor is the same maps: that batch norms need a batch's statistics before they
//! can go on makes it hard to reach, but a plan that computes maps again instead of storing them
//! comes close.

use crate::engine::tree::Tree;
use crate::ops::sums::added;
use crate::space::Arch;
use crate::space::backbone::Channels;
use crate::space::cost::Counter;
use crate::space::visit::{Convolution, Kind, Linear, Squeeze, Visitor};
use crate::space::walk::{Exit, Exits, Layer, Part};
use crate::supernet::Layout;
use serde::Serialize;
use std::collections::BTreeMap;

/// Elements and operations that cannot be saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Floor {
    /// Elements of maps that fused layers read and write for one image.
    pub fused: u64,
    /// Elements of maps that single operators read and write for one image.
    pub unfused: u64,
    /// Weights, each once.
    pub weights: u64,
    /// Multiply-accumulates of one image.
    pub macs: u64,
    /// Multiply-accumulates of depthwise filters among them. Tensor cores cannot take these: each filter has one channel.
    pub filter_macs: u64,
    /// Layers with an expanded map.
    pub blocks: u64,
}

added!(Floor { fused, unfused, weights, macs, filter_macs, blocks });

/// Whether networks are read to their logits, or only as far as the last batch norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadTo {
    /// Logits: inference.
    Logits,
    /// The last batch norm: recalibration.
    Norms,
}

/// The distinct prefixes of a population: a tree for each resolution.
pub fn prefixes(channels: &Channels, networks: &[(Arch, Exits)]) -> Vec<Tree> {
    let mut by_resolution: BTreeMap<u32, Vec<(&Arch, Exits)>> = BTreeMap::new();
    for (arch, exits) in networks {
        by_resolution.entry(arch.r).or_default().push((arch, *exits));
    }
    by_resolution.values().map(|networks| Tree::new(channels, networks)).collect()
}

impl Floor {
    /// The floor of the networks of some trees.
    pub fn of(layout: &Layout, trees: &[Tree], until: ReadTo) -> Floor {
        let mut floor = Floor::default();
        for tree in trees {
            let dense = tree.family.dense;
            tree.nodes.iter().for_each(|node| floor += part(&node.part, dense, layout.classes(), until));
        }
        floor
    }
}

/// The floor of one part, whatever else reads its maps.
fn part(part: &Part, dense: bool, classes: usize, until: ReadTo) -> Floor {
    let mut traffic = Traffic { counter: Counter::new(classes), until, unfused: 0, filter_macs: 0 };
    let (fused, blocks) = match part {
        Part::First(first) => {
            let image = 3 * first.image * first.image;
            (image + traffic.first(first, &image), 0)
        }
        Part::Layer(layer) => {
            let input = layer.cin * layer.side_in * layer.side_in;
            let output = traffic.layer(layer, &input);
            let skips = layer.skips(dense).count();
            if skips > 0 {
                traffic.sum(layer, &vec![output; 1 + skips]);
            }
            (input + output * (1 + skips), usize::from(layer.branches.mbconv))
        }
        Part::Exit(exit) => {
            let input = exit.head.cin * exit.side * exit.side;
            traffic.exit(exit, &input);
            (input + if until == ReadTo::Logits { classes } else { 0 }, 0)
        }
    };
    let cost = traffic.counter.cost;
    Floor {
        fused: fused as u64,
        unfused: traffic.unfused as u64,
        weights: cost.params,
        macs: cost.macs,
        filter_macs: traffic.filter_macs as u64,
        blocks: blocks as u64,
    }
}

/// What operators read and write that each have maps of their own. A map is the number of its elements.
struct Traffic {
    counter: Counter,
    until: ReadTo,
    unfused: usize,
    filter_macs: usize,
}

impl Visitor for Traffic {
    type Map = usize;
    /// Gates are few.
    type Gate = ();

    fn classes(&self) -> usize {
        self.counter.classes()
    }

    fn convolution(&mut self, what: &Convolution, _: &usize, _: Option<&()>, added: Option<&usize>) -> usize {
        self.counter.convolution(what, &(), None, None);
        let output = what.elements_out();
        self.unfused += what.elements_in() + output + added.copied().unwrap_or(0);
        if what.kind == Kind::Depthwise {
            self.filter_macs += what.weights_of_output() * output;
        }
        output
    }

    fn squeeze(&mut self, what: &Squeeze, x: &usize) {
        self.counter.squeeze(what, &());
        self.unfused += x;
    }

    fn max_pool(&mut self, layer: &Layer, x: &usize) -> usize {
        let output = layer.cin * layer.side_out * layer.side_out;
        self.unfused += x + output;
        output
    }

    fn sum(&mut self, _layer: &Layer, terms: &[usize]) -> usize {
        self.unfused += terms.iter().sum::<usize>() + terms[0];
        terms[0]
    }

    fn mean(&mut self, exit: &Exit, x: &usize) -> usize {
        self.unfused += x + exit.head.expand;
        exit.head.expand
    }

    fn linear(&mut self, exit: &Exit, what: &Linear, x: &usize) -> usize {
        self.counter.linear(exit, what, &());
        self.unfused += x + what.cout;
        what.cout
    }

    fn logits(&mut self, _exit: &Exit, _logits: usize) {}

    fn exit(&mut self, exit: &Exit, x: &usize) {
        // Recalibration ends with the batch norm: what lies behind it has none.
        let wide = self.convolution(&exit.expand(), x, None, None);
        if self.until == ReadTo::Logits {
            let pooled = self.mean(exit, &wide);
            self.behind_pool(exit, pooled);
        }
    }
}

/// Layers of some trees whose expanded map of one image has at most `elements` elements, so that a
/// block of a fused kernel could hold it.
pub fn blocks_within(trees: &[Tree], elements: u64) -> u64 {
    let fits = |part: &Part| match part {
        Part::Layer(layer) if layer.branches.mbconv => {
            (layer.mid * layer.side_in * layer.side_in) as u64 <= elements
        }
        _ => false,
    };
    trees.iter().flat_map(|tree| &tree.nodes).filter(|node| fits(&node.part)).count() as u64
}
