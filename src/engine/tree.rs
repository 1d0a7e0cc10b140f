//! A population as a tree: what its networks have in common runs once.
//!
//! What a network's layer computes depends on its choices up to that layer alone, and on the
//! resolution; with recalibration so do its batch norms' statistics, since a batch is normalised by
//! its own. So the networks of one resolution form a tree: a node is a layer or a head, a path from
//! a root the network read there. A plan runs it, and keeps a node's output until all
//! that grows from it has run.
//!
//! Layers are compared as [`parts`] describes them, without what does not run: the kernel and the
//! expansion of a layer without its MBConv.

use crate::ops::sums::added;
use crate::space::backbone::{Channels, LAYERS};
use crate::space::walk::{Exits, Layer, Part, parts};
use crate::space::{Arch, Family};
use serde::Serialize;

/// A part of networks and what grows from it: heads first, then layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What runs.
    pub part: Part,
    /// Of a head, its number among those of the tree.
    pub leaf: Option<usize>,
    /// Nodes.
    pub children: Vec<usize>,
}

/// How much work a tree saves. A layer, a head, and stem and first block together count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Saving {
    /// Layer executions that the networks need one by one.
    pub executions: usize,
    /// Layer executions that were run.
    pub distinct: usize,
}

added!(Saving { executions, distinct });

impl std::fmt::Display for Saving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let share = 100.0 * (1.0 - self.distinct as f64 / self.executions.max(1) as f64);
        let Saving { executions, distinct } = self;
        write!(
            f,
            "{distinct} layer executions instead of {executions} ({share:.0} % saved by shared prefixes)"
        )
    }
}

/// Networks of one family, width and resolution, by their prefixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Family of the networks.
    pub family: Family,
    /// Side of the images.
    pub side: usize,
    /// All nodes.
    pub nodes: Vec<Node>,
    /// Nodes that read the images: one, or more where too much would be kept.
    pub roots: Vec<usize>,
    /// Number of heads.
    pub leaves: usize,
    /// The heads that each network is read at, in the order of its exits.
    pub reads: Vec<Vec<usize>>,
    executions: usize,
}

/// The parts of a network, as trees compare them.
fn compared<'a>(channels: &Channels, arch: &'a Arch, exits: Exits) -> impl Iterator<Item = Part> + use<'a> {
    parts(channels, arch, exits).map(|part| match part {
        Part::Layer(layer) if !layer.branches.mbconv => {
            Part::Layer(Layer { kernel: 0, expansion: 0, mid: 0, squeeze: None, ..layer })
        }
        part => part,
    })
}

impl Tree {
    /// The tree of networks, which are of one family, width and resolution.
    pub fn new(channels: &Channels, networks: &[(&Arch, Exits)]) -> Tree {
        let (family, side) = match networks.first() {
            Some((arch, _)) => (arch.family, arch.r as usize),
            None => (Family::SE_B, 0),
        };
        debug_assert!(networks.iter().all(|(arch, _)| arch.family == family && arch.r as usize == side));
        let (nodes, roots) = (Vec::new(), Vec::new());
        let mut tree = Tree { family, side, nodes, roots, leaves: 0, reads: Vec::new(), executions: 0 };
        for &(arch, exits) in networks {
            let (mut at, mut reads) = (None, Vec::with_capacity(exits.len()));
            for part in compared(channels, arch, exits) {
                tree.executions += 1;
                let node = tree.grow(at, part);
                match tree.nodes[node].leaf {
                    Some(leaf) => reads.push(leaf),
                    None => at = Some(node),
                }
            }
            tree.reads.push(reads);
        }
        tree
    }

    /// The child of `parent`, or the root, that is that part; a new one if there is none.
    fn grow(&mut self, parent: Option<usize>, part: Part) -> usize {
        let new = self.nodes.len();
        let siblings = match parent {
            Some(parent) => &self.nodes[parent].children,
            None => &self.roots,
        };
        // Sorted networks find theirs at the end.
        let found = siblings.iter().rev().find(|&&id| self.nodes[id].part == part);
        if let Some(&id) = found {
            return id;
        }
        let leaf = matches!(part, Part::Exit(_)).then_some(self.leaves);
        let place = match leaf {
            Some(_) => siblings.iter().filter(|&&id| self.nodes[id].leaf.is_some()).count(),
            None => siblings.len(),
        };
        self.leaves += usize::from(leaf.is_some());
        self.nodes.push(Node { part, leaf, children: Vec::new() });
        self.children_mut(parent).insert(place, new);
        new
    }

    fn children_mut(&mut self, parent: Option<usize>) -> &mut Vec<usize> {
        match parent {
            Some(parent) => &mut self.nodes[parent].children,
            None => &mut self.roots,
        }
    }

    /// The same networks in a tree that never keeps more than `numbers` numbers of outputs for
    /// `images` images at a time, beside what runs: where it would, the layers before are run again.
    #[must_use]
    pub fn bounded(mut self, images: usize, numbers: usize) -> Tree {
        let mut index = 0;
        while index < self.roots.len() {
            self.bound(self.roots[index], None, &mut Vec::new(), 0, (images, numbers));
            index += 1;
        }
        self
    }

    /// Bounds what grows from `id`. `kept` is the last node before it whose output is kept, `chain`
    /// what lies between, and `held` what is kept by then.
    fn bound(
        &mut self,
        id: usize,
        mut kept: Option<usize>,
        chain: &mut Vec<usize>,
        mut held: usize,
        (images, elements): (usize, usize),
    ) {
        let depth = chain.len();
        chain.push(id);
        let is_layer = |nodes: &[Node], id: usize| matches!(nodes[id].part, Part::Layer(_));
        let first = self.nodes[id].children.iter().position(|&child| is_layer(&self.nodes, child));
        let mut inner = Vec::new();
        let mut through = chain.clone();
        if let Some(first) = first.filter(|first| first + 1 < self.nodes[id].children.len()) {
            let size = images * self.output_len(id);
            if held + size <= elements {
                (held, kept) = (held + size, Some(id));
                through = Vec::new();
            } else {
                // All but the first get a chain of their own, from what is kept.
                for child in self.nodes[id].children.split_off(first + 1) {
                    let mut next = child;
                    for &node in chain.iter().rev() {
                        let (part, leaf) = (self.nodes[node].part, None);
                        self.nodes.push(Node { part, leaf, children: vec![next] });
                        next = self.nodes.len() - 1;
                    }
                    self.children_mut(kept).push(next);
                }
            }
        }
        std::mem::swap(&mut inner, &mut through);
        let mut index = 0;
        while index < self.nodes[id].children.len() {
            let child = self.nodes[id].children[index];
            if is_layer(&self.nodes, child) {
                self.bound(child, kept, &mut inner, held, (images, elements));
            }
            index += 1;
        }
        chain.truncate(depth);
    }

    /// Elements of a node's output for one image, with what later layers of its stage still add.
    fn output_len(&self, id: usize) -> usize {
        match self.nodes[id].part {
            Part::First(first) => first.cout * first.side * first.side,
            Part::Layer(layer) => {
                let maps = 1 + if self.family.dense { layer.position.min(2) } else { 0 };
                maps * layer.side_out * layer.side_out * layer.cout
            }
            Part::Exit(_) => 0,
        }
    }

    /// What the tree saves.
    pub fn saving(&self) -> Saving {
        Saving { executions: self.executions, distinct: self.nodes.len() }
    }
}

/// A network among those that are cut into groups.
struct Candidate {
    /// Its choices in the order in which trees branch, to sort by: resolution, layers, exits.
    key: (u32, Vec<[usize; 4]>, Vec<usize>),
    /// Elements of the batch norms of its first layers, of each layer, and of all its heads.
    first: usize,
    layers: Vec<usize>,
    heads: usize,
}

impl Candidate {
    fn new(channels: &Channels, arch: &Arch, exits: Exits) -> Candidate {
        let mut key = (arch.r, Vec::with_capacity(LAYERS), exits.iter().collect());
        let (mut first, mut layers, mut heads) = (0, Vec::with_capacity(LAYERS), 0);
        for part in compared(channels, arch, exits) {
            let len = section_len(&part);
            match part {
                Part::First(_) => first = len,
                Part::Exit(_) => heads += len,
                Part::Layer(Layer { index, kernel, expansion, branches, .. }) => {
                    key.1.push([index, kernel, usize::from(expansion), usize::from(branches.mask())]);
                    layers.push(len);
                }
            }
        }
        Candidate { key, first, layers, heads }
    }

    /// Layers at its beginning that it has in common with another of its resolution.
    fn common(&self, other: &Candidate) -> Option<usize> {
        let same = |(a, b): &(&[usize; 4], &[usize; 4])| a == b;
        let common = || self.key.1.iter().zip(&other.key.1).take_while(same).count();
        (self.key.0 == other.key.0).then(common)
    }

    /// Elements of all that is not among so many layers at the beginning.
    fn behind(&self, common: usize) -> usize {
        self.heads + self.layers[common..].iter().sum::<usize>()
    }
}

/// Elements that a batch norm takes in a section for a channel: mean, variance, scale and shift.
pub(super) const VECTORS: usize = 4;

/// Elements that the batch norms of a part take in a section.
fn section_len(part: &Part) -> usize {
    part.convolutions().map(|convolution| VECTORS * convolution.cout).sum()
}

/// Cuts a population into groups of one resolution whose networks have most in common: at most
/// `networks` each, with batch norms of at most `elements` elements. What comes back are indices.
pub fn groups(
    channels: &Channels,
    population: &[(Arch, Exits)],
    networks: usize,
    elements: usize,
) -> Vec<Vec<usize>> {
    let all: Vec<Candidate> =
        population.iter().map(|(arch, exits)| Candidate::new(channels, arch, *exits)).collect();
    let mut order: Vec<usize> = (0..population.len()).collect();
    order.sort_by(|&a, &b| all[a].key.cmp(&all[b].key));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut len = 0;
    for index in order {
        let network = &all[index];
        let last = groups.last_mut().filter(|group| group.len() < networks);
        // What the group would take with it, if it is to have it.
        let joined = last.and_then(|group| {
            let behind = network.behind(network.common(&all[*group.last()?])?);
            (len + behind <= elements).then_some((group, behind))
        });
        match joined {
            Some((group, behind)) => {
                len += behind;
                group.push(index);
            }
            None => {
                len = network.first + network.behind(0);
                groups.push(vec![index]);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream;
    use crate::space::sample::{Policy, sample};
    use crate::space::{ExitScaling, Space};
    use proptest::prelude::*;
    use rand::RngExt;
    use std::collections::HashSet;

    /// Networks of a family with prefixes in common: each second one is another with a change.
    fn population(space: &Space, count: usize, seed: u64) -> Vec<(Arch, Exits)> {
        let mut rng = stream(seed, "tree/tests", 0, 0);
        let mut archs: Vec<Arch> = Vec::new();
        for index in 0..count {
            let mut arch = space.decode(&sample(space, Policy::Nat, &mut rng)).unwrap();
            if index % 2 == 1 {
                arch = archs[rng.random_range(0..archs.len())].clone();
                arch.ks[rng.random_range(0..20)] = 7;
                arch.d[rng.random_range(0..5)] = rng.random_range(2..5);
            }
            archs.push(arch);
        }
        let exits = |(index, arch): (usize, &Arch)| match index % 3 {
            0 => Exits::up_to(arch),
            _ => Exits::single(arch),
        };
        let exits: Vec<Exits> = archs.iter().enumerate().map(exits).collect();
        archs.into_iter().zip(exits).collect()
    }

    /// The heads that following `steps` from some root ends at; every way that exists is tried.
    fn reached(tree: &Tree, siblings: &[usize], steps: &[Part]) -> Option<Vec<usize>> {
        let Some((step, rest)) = steps.split_first() else { return Some(Vec::new()) };
        siblings.iter().filter(|&&id| tree.nodes[id].part == *step).find_map(|&id| {
            match tree.nodes[id].leaf {
                // Behind a head the way goes on from its sibling.
                Some(leaf) => {
                    let mut heads = vec![leaf];
                    heads.extend(reached(tree, siblings, rest)?);
                    Some(heads)
                }
                None => reached(tree, &tree.nodes[id].children, rest),
            }
        })
    }

    fn most_held(tree: &Tree, siblings: &[usize], images: usize) -> usize {
        let held = |&id: &usize| {
            let node = &tree.nodes[id];
            let layers = node.children.iter().filter(|&&c| tree.nodes[c].leaf.is_none()).count();
            let own = if layers > 1 { images * tree.output_len(id) } else { 0 };
            own + most_held(tree, &node.children, images)
        };
        siblings.iter().map(held).max().unwrap_or(0)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_network_is_in_its_tree_and_every_prefix_once(family in 0usize..8, count in 1usize..24, seed: u64) {
            let family = Family::all().nth(family).unwrap();
            let space = Space::new(family, &[32], &[0.25], ExitScaling::Once).unwrap();
            let channels = *space.channels(&Arch::largest(family, 32, None)).unwrap();
            let networks = population(&space, count, seed);
            let members: Vec<(&Arch, Exits)> = networks.iter().map(|(arch, exits)| (arch, *exits)).collect();
            let tree = Tree::new(&channels, &members);

            let mut prefixes = HashSet::new();
            let mut executions = 0;
            for (index, (arch, exits)) in members.iter().enumerate() {
                let steps: Vec<Part> = compared(&channels, arch, *exits).collect();
                executions += steps.len();
                let mut prefix = String::new();
                for step in &steps {
                    match step {
                        Part::Exit(_) => drop(prefixes.insert(format!("{prefix}{step:?}"))),
                        _ => {
                            prefix += &format!("{step:?}");
                            prefixes.insert(prefix.clone());
                        }
                    }
                }
                let found = reached(&tree, &tree.roots, &steps);
                prop_assert_eq!(found.as_ref(), Some(&tree.reads[index]));
            }
            prop_assert_eq!(tree.saving(), Saving { executions, distinct: prefixes.len() });
        }

        #[test]
        fn a_bounded_tree_keeps_no_more_than_its_bound(
            family in 0usize..8, count in 1usize..24, seed: u64, limit in 0usize..100_000,
        ) {
            let family = Family::all().nth(family).unwrap();
            let space = Space::new(family, &[32], &[0.25], ExitScaling::Once).unwrap();
            let channels = *space.channels(&Arch::largest(family, 32, None)).unwrap();
            let networks = population(&space, count, seed);
            let members: Vec<(&Arch, Exits)> = networks.iter().map(|(arch, exits)| (arch, *exits)).collect();
            let whole = Tree::new(&channels, &members);
            let tree = whole.clone().bounded(2, limit);
            prop_assert!(most_held(&tree, &tree.roots, 2) <= limit);
            prop_assert_eq!(tree.leaves, whole.leaves);
            let mut parents = vec![0; tree.nodes.len()];
            let children = tree.nodes.iter().flat_map(|node| &node.children).chain(&tree.roots);
            children.for_each(|&child| parents[child] += 1);
            prop_assert!(parents.iter().all(|&count| count == 1), "a node has one parent");
            prop_assert_eq!(&whole.clone().bounded(2, usize::MAX / 4).nodes, &whole.nodes);
            // Every head is behind the layers of its networks, though no longer behind one node.
            for (index, (arch, exits)) in members.iter().enumerate() {
                for (exit, &leaf) in exits.iter().zip(&tree.reads[index]) {
                    let until = |part: &Part| match part {
                        Part::First(_) => true,
                        Part::Layer(layer) => layer.stage <= exit,
                        Part::Exit(head) => head.stage == exit,
                    };
                    let steps: Vec<Part> = compared(&channels, arch, *exits).filter(until).collect();
                    prop_assert_eq!(reached(&tree, &tree.roots, &steps), Some(vec![leaf]));
                }
            }
        }

        #[test]
        fn groups_are_a_partition_by_resolution(count in 1usize..60, seed: u64, size in 1usize..20, limit in 0usize..40_000) {
            let space = Space::new(Family::SE_B, &[32, 40, 48], &[0.25], ExitScaling::Once).unwrap();
            let channels = *space.channels(&Arch::largest(Family::SE_B, 32, None)).unwrap();
            let networks = population(&space, count, seed);
            let groups = groups(&channels, &networks, size, limit);
            let mut all: Vec<usize> = groups.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..count).collect::<Vec<_>>());
            for group in &groups {
                prop_assert!(group.len() <= size && !group.is_empty());
                prop_assert!(group.iter().all(|&i| networks[i].0.r == networks[group[0]].0.r));
                let members: Vec<(&Arch, Exits)> = group.iter().map(|&i| (&networks[i].0, networks[i].1)).collect();
                let tree = Tree::new(&channels, &members);
                let len: usize = tree.nodes.iter().map(|n| section_len(&n.part)).sum();
                prop_assert!(len <= limit || group.len() == 1, "{len} of {limit}");
            }
        }
    }
}
