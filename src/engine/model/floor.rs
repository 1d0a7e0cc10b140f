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

use crate::engine::tree::{Step, Tree};
use crate::ops::sums::added;
use crate::space::backbone::{Channels, strided};
use crate::space::walk::{Exits, Layer, head};
use crate::space::{Arch, Cost};
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
            for node in &tree.nodes {
                floor += step(layout, tree, &node.step, until);
            }
        }
        floor
    }
}

/// Side of the map behind each stage, as the layers of a tree have it.
fn side_behind(tree: &Tree, stage: usize) -> usize {
    // Every network strides alike, so any layer of the stage will do.
    let layer = tree.nodes.iter().find_map(|node| match node.step {
        Step::Layer(layer) if layer.stage == stage => Some(layer),
        _ => None,
    });
    layer.map_or(0, |layer| layer.side_out)
}

fn step(layout: &Layout, tree: &Tree, step: &Step, until: ReadTo) -> Floor {
    let channels = layout.channels();
    let mut cost = Cost::default();
    let (fused, unfused, filter, blocks) = match step {
        Step::First => {
            let side = strided(tree.side, 2);
            cost.first(channels, side);
            let (image, pixels) = (3 * tree.side * tree.side, side * side);
            let shortcut = if channels.stem == channels.first { channels.first } else { 0 };
            let inner = 4 * channels.stem + shortcut;
            let filter = 9 * channels.stem * pixels;
            (image + pixels * channels.first, image + pixels * (inner + channels.first), filter, 0)
        }
        Step::Layer(layer) => {
            cost.layer(layer);
            let skips = if tree.family.dense { layer.position.saturating_sub(1).min(2) } else { 0 };
            let (input, output) = maps(layer);
            let filter = layer.kernel * layer.kernel * layer.mid * layer.side_out * layer.side_out;
            (
                input + output * (1 + skips),
                unfused_layer(layer) + if skips > 0 { output * (2 + skips) } else { 0 },
                if layer.branches.mbconv { filter } else { 0 },
                usize::from(layer.branches.mbconv),
            )
        }
        Step::Head { stage, .. } => {
            let head = head(channels, tree.family, *stage);
            let side = side_behind(tree, *stage);
            cost.head_expansion(&head, side);
            let (input, wide) = (head.cin * side * side, head.expand * side * side);
            match until {
                ReadTo::Norms => (input, input + wide, 0, 0),
                ReadTo::Logits => {
                    let classes = layout.classes();
                    cost.head_classifier(&head, classes);
                    (input + classes, input + 2 * wide + 2 * head.expand + 2 * head.mix + classes, 0, 0)
                }
            }
        }
    };
    Floor {
        fused: fused as u64,
        unfused: unfused as u64,
        weights: cost.params,
        macs: cost.macs,
        filter_macs: filter as u64,
        blocks: blocks as u64,
    }
}

/// Elements of a layer's input and output.
fn maps(layer: &Layer) -> (usize, usize) {
    (layer.cin * layer.side_in * layer.side_in, layer.cout * layer.side_out * layer.side_out)
}

fn unfused_layer(layer: &Layer) -> usize {
    let (input, output) = maps(layer);
    let (before, behind) =
        (layer.mid * layer.side_in * layer.side_in, layer.mid * layer.side_out * layer.side_out);
    let mut elements = 0;
    let mut terms = 0;
    if layer.branches.mbconv {
        let gated = if layer.squeeze.is_some() { behind } else { 0 };
        elements += input + before + before + behind + gated + behind + output;
        terms += usize::from(layer.shortcut);
    }
    if layer.branches.pointwise {
        // Of a strided convolution's input only the pixels that it reads.
        elements += layer.cin * layer.side_out * layer.side_out + output;
        terms += usize::from(layer.branches.mbconv);
    }
    if layer.branches.transform {
        let pooled = layer.cin * layer.side_out * layer.side_out;
        elements += if layer.stride > 1 { input + pooled } else { 0 } + pooled + output;
        terms += usize::from(layer.branches.mbconv || layer.branches.pointwise);
    }
    elements + terms * output
}

/// Layers of some trees whose expanded map of one image has at most `elements` elements, so that a
/// block of a fused kernel could hold it.
pub fn blocks_within(trees: &[Tree], elements: u64) -> u64 {
    let fits = |step: &Step| match step {
        Step::Layer(layer) if layer.branches.mbconv => {
            (layer.mid * layer.side_in * layer.side_in) as u64 <= elements
        }
        _ => false,
    };
    trees.iter().flat_map(|tree| &tree.nodes).filter(|node| fits(&node.step)).count() as u64
}
