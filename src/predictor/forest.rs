//! Evaluating the trees of all models.
//!
//! The models' means and scales are folded in (a leaf's value carries its model's scale over the
//! number of models), so a prediction is one base plus one leaf a tree, added in the order of the
//! trees.
//!
//! Small trees are evaluated without walking them (QuickScorer; Lucchese et al., 2015): the leaves
//! are numbered from left to right as bits of a word, a cut that sends a row right clears the leaves
//! to its left, and the lowest bit that is left when all cuts have spoken is the row's leaf. A cut is
//! then a comparison and a mask, the same for all rows, and a block of rows runs through it in vector
//! lanes. Larger trees are walked.

use super::Features;
use super::model::Model;
use super::tree::{Node, Tree};
use rayon::prelude::*;
use std::ops::Range;

/// Rows evaluated together.
const LANES: usize = 64;
/// Blocks of rows that a thread takes at once.
const BLOCKS: usize = 8;
/// Leaves of a small tree: the bits of a word.
const SMALL: usize = 32;

/// A cut of a small tree.
#[derive(Debug, Clone, Copy)]
struct Cut {
    feature: u16,
    threshold: u16,
    /// The leaves that are left when a row goes right.
    right: u32,
}

#[derive(Debug, Clone)]
enum Form {
    /// Where its cuts and its leaves' values, from left to right, lie in the forest.
    Small { cuts: Range<usize>, values: Range<usize> },
    /// A tree to walk.
    Large(Tree),
}

/// The trees of an ensemble.
#[derive(Debug, Clone)]
pub(super) struct Forest {
    base: f64,
    trees: Vec<Form>,
    cuts: Vec<Cut>,
    values: Vec<f64>,
}

impl Forest {
    pub(super) fn new(models: &[Model]) -> Self {
        let share = 1.0 / models.len() as f64;
        let base = models.iter().map(|m| m.base * share).sum();
        let mut forest = Forest { base, trees: Vec::new(), cuts: Vec::new(), values: Vec::new() };
        for model in models {
            for tree in &model.trees {
                forest.push(tree, model.scale * share);
            }
        }
        forest
    }

    fn push(&mut self, tree: &Tree, scale: f64) {
        if tree.values.len() > SMALL {
            let values = tree.values.iter().map(|v| v * scale).collect();
            self.trees.push(Form::Large(Tree { nodes: tree.nodes.clone(), values }));
            return;
        }
        let (cuts, values) = (self.cuts.len(), self.values.len());
        let mut order = Vec::with_capacity(tree.values.len());
        list(&tree.nodes, tree.root(), &mut self.cuts, &mut order);
        self.values.extend(order.iter().map(|&leaf| tree.values[leaf] * scale));
        self.trees.push(Form::Small { cuts: cuts..self.cuts.len(), values: values..self.values.len() });
    }

    pub(super) fn trees(&self) -> usize {
        self.trees.len()
    }

    pub(super) fn predict(&self, features: &Features) -> Vec<f64> {
        let mut out = vec![self.base; features.rows()];
        out.par_chunks_mut(BLOCKS * LANES).enumerate().for_each(|(chunk, out)| {
            let mut lanes = vec![[0u16; LANES]; features.columns()];
            for (block, out) in out.chunks_mut(LANES).enumerate() {
                self.add_block(features, (BLOCKS * chunk + block) * LANES, &mut lanes, out);
            }
        });
        out
    }

    /// Adds all trees to the rows from `first` on, at most [`LANES`]; `lanes` is room for a column each.
    fn add_block(&self, features: &Features, first: usize, lanes: &mut [[u16; LANES]], out: &mut [f64]) {
        for lane in 0..out.len() {
            for (lanes, &value) in lanes.iter_mut().zip(features.row(first + lane)) {
                lanes[lane] = u16::from(value);
            }
        }
        for tree in &self.trees {
            match tree {
                Form::Small { cuts, values } => {
                    let (cuts, values) = (&self.cuts[cuts.clone()], &self.values[values.clone()]);
                    if values.len() <= 16 {
                        add_small::<u16>(cuts, values, lanes, out);
                    } else {
                        add_small::<u32>(cuts, values, lanes, out);
                    }
                }
                Form::Large(tree) => {
                    for (lane, out) in out.iter_mut().enumerate() {
                        *out += walk(tree, features.row(first + lane));
                    }
                }
            }
        }
    }

    pub(super) fn predict_row(&self, row: &[u8]) -> f64 {
        let mut sum = self.base;
        for tree in &self.trees {
            sum += match tree {
                Form::Small { cuts, values } => {
                    let mut left = u32::MAX;
                    for cut in &self.cuts[cuts.clone()] {
                        let goes_right = u16::from(row[usize::from(cut.feature)]) > cut.threshold;
                        left &= if goes_right { cut.right } else { u32::MAX };
                    }
                    self.values[values.start + left.trailing_zeros() as usize]
                }
                Form::Large(tree) => walk(tree, row),
            };
        }
        sum
    }
}

/// The leaves that a row may still reach, one bit each: as narrow as the tree allows.
trait Leaves: Copy {
    const ALL: Self;
    fn low_bits(of: u32) -> Self;
    /// Keeps the leaves of `right`, or all if the row goes left.
    fn keep(&mut self, right: Self, goes_right: bool);
    fn lowest(self) -> usize;
}

macro_rules! leaves {
    ($word:ty) => {
        impl Leaves for $word {
            const ALL: Self = <$word>::MAX;
            #[inline(always)]
            fn low_bits(of: u32) -> Self {
                of as $word
            }
            #[inline(always)]
            fn keep(&mut self, right: Self, goes_right: bool) {
                *self &= right | if goes_right { 0 } else { <$word>::MAX };
            }
            #[inline(always)]
            fn lowest(self) -> usize {
                self.trailing_zeros() as usize
            }
        }
    };
}
leaves!(u16);
leaves!(u32);

/// Adds a small tree to up to [`LANES`] rows; lanes beyond them hold old rows and are not read.
fn add_small<Word: Leaves>(cuts: &[Cut], values: &[f64], lanes: &[[u16; LANES]], out: &mut [f64]) {
    let mut left = [Word::ALL; LANES];
    for cut in cuts {
        let right = Word::low_bits(cut.right);
        // Values are at most 255, so signed comparison, which every vector unit has, is right.
        let threshold = cut.threshold as i16;
        for (left, &value) in left.iter_mut().zip(&lanes[usize::from(cut.feature)]) {
            left.keep(right, value as i16 > threshold);
        }
    }
    for (out, left) in out.iter_mut().zip(&left) {
        *out += values[left.lowest()];
    }
}

/// The leaf of a row.
fn walk(tree: &Tree, row: &[u8]) -> f64 {
    let mut at = tree.root();
    while at >= 0 {
        let node = &tree.nodes[at as usize];
        at = node.child[usize::from(row[usize::from(node.feature)] > node.threshold)];
    }
    tree.values[!at as usize]
}

/// Lists leaves from left to right and the cuts between them. Deep only as the tree has leaves, at
/// most [`SMALL`].
fn list(nodes: &[Node], at: i32, cuts: &mut Vec<Cut>, order: &mut Vec<usize>) {
    if at < 0 {
        order.push(!at as usize);
        return;
    }
    let node = &nodes[at as usize];
    let first = order.len();
    list(nodes, node.child[0], cuts, order);
    let left = order.len() - first;
    let cleared = ((1u64 << left) - 1) << first;
    cuts.push(Cut { feature: node.feature, threshold: u16::from(node.threshold), right: !(cleared as u32) });
    list(nodes, node.child[1], cuts, order);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A comb of n leaves: x <= 0, x <= 1, ...
    fn comb(leaves: usize) -> Tree {
        let nodes = (0..leaves - 1)
            .map(|i| Node {
                feature: 0,
                threshold: i as u8,
                child: [!(i as i32), if i + 2 == leaves { !(i as i32 + 1) } else { i as i32 + 1 }],
            })
            .collect();
        Tree { nodes, values: (0..leaves).map(|i| i as f64).collect() }
    }

    #[test]
    fn small_and_large_trees_find_the_leaf() {
        for leaves in [2, 31, 32, 33, 200] {
            let model = Model { base: 10.0, scale: 2.0, trees: vec![comb(leaves)] };
            let forest = Forest::new(&[model]);
            assert_eq!(matches!(forest.trees[0], Form::Small { .. }), leaves <= SMALL);
            let features = Features::new(1, (0..=255).collect()).unwrap();
            let all = forest.predict(&features);
            for x in 0..=255u8 {
                let want = 10.0 + 2.0 * usize::from(x).min(leaves - 1) as f64;
                assert_eq!(all[usize::from(x)], want, "{leaves} leaves, x = {x}");
                assert_eq!(forest.predict_row(&[x]), want);
            }
        }
    }

    #[test]
    fn a_tree_without_cuts_is_its_leaf() {
        let tree = Tree { nodes: vec![], values: vec![3.0] };
        let models = [1.0, 2.0].map(|base| Model { base, scale: 1.0, trees: vec![tree.clone()] });
        let forest = Forest::new(&models);
        assert_eq!(forest.predict(&Features::new(1, vec![0, 9]).unwrap()), [4.5, 4.5]);
        assert_eq!(walk(&tree, &[0]), 3.0);
    }
}
