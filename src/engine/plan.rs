//! Networks lowered to calls.
//!
//! Lowering follows the parts of an architecture, or of a [`Tree`] of many, in two steps. First it is chosen which
//! parts run together and how each runs (`choose.rs`), once for a tree; then calls are made of that for a number of
//! images (`emit.rs`). Where a tree branches, the output is kept in its place until the last branch has read it.
//! Plans exist in two modes. In *inference* a batch norm is a scale and a shift in the epilogue of its convolution. In
//! *recalibration* each convolution writes its raw output, whose batch statistics are reduced, averaged over batches,
//! and used to normalise this batch. The batch norms of a tree share one [`Section`] (`norms.rs`).
//!
//! Maps are stored in a [`Precision`](super::Precision).

use super::choose::{Choice, Purpose, choose};
use super::emit::Source;
use super::norms::Norms;
use super::tree::Tree;
use crate::space::Arch;
use crate::space::walk::Exits;
use crate::supernet::Layout;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub use super::build::BN_EPSILON;
pub use super::choose::Target;
pub use super::lowering::Mode;
pub use super::norms::Section;
pub use super::program::{Program, Reads};

/// A tree with all that is chosen of it, each once.
pub struct TreePlan<'t> {
    tree: Cow<'t, Tree>,
    target: Target,
    norms: Norms,
    section: OnceLock<Section>,
    choices: Kept<Purpose, Arc<Vec<Choice>>>,
    programs: Kept<Wanted, Arc<Program>>,
    /// Elements of arenas.
    sizes: Kept<Wanted, usize>,
    /// Programs that were made so far.
    #[cfg(test)]
    made: std::sync::atomic::AtomicUsize,
}

/// What a program is for: images, mode, and what is read.
type Wanted = (usize, Mode, Reads);

/// Answers of a kind that a plan keeps: the programs of an evaluation are three.
const KEPT: usize = 4;

/// What was made last, by what it was made for.
struct Kept<K, V>(Mutex<VecDeque<(K, V)>>);

impl<K: PartialEq, V: Clone> Kept<K, V> {
    fn new() -> Kept<K, V> {
        Kept(Mutex::new(VecDeque::new()))
    }

    /// What is kept, or what `make` makes.
    fn get(&self, key: K, make: impl FnOnce() -> V) -> V {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, value)) = kept.iter().find(|(other, _)| *other == key) {
            return value.clone();
        }
        let value = make();
        kept.push_back((key, value.clone()));
        if kept.len() > KEPT {
            kept.pop_front();
        }
        value
    }
}

impl<'t> TreePlan<'t> {
    /// The plan of a tree.
    pub fn new(tree: Cow<'t, Tree>, target: impl Into<Target>) -> TreePlan<'t> {
        let norms = Norms::new(&tree);
        TreePlan {
            tree,
            target: target.into(),
            norms,
            section: OnceLock::new(),
            choices: Kept::new(),
            programs: Kept::new(),
            sizes: Kept::new(),
            #[cfg(test)]
            made: Default::default(),
        }
    }

    /// The tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The batch norms.
    pub fn section(&self, layout: &Layout) -> &Section {
        self.section.get_or_init(|| self.norms.section(layout))
    }

    /// What runs how, in order.
    pub fn choices(&self, layout: &Layout, purpose: Purpose) -> Arc<Vec<Choice>> {
        self.choices.get(purpose, || Arc::new(choose(layout, &self.tree, purpose, self.target)))
    }

    /// The program for so many images at a time. Recalibration gives neither logits nor scores.
    pub fn program(&self, layout: &Layout, images: usize, mode: Mode, reads: Reads) -> Program {
        #[cfg(test)]
        self.made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let choices = self.choices(layout, Purpose::of(mode, images));
        self.source(layout, &choices).program(images, mode, reads)
    }

    /// The same program, kept for the next time.
    pub(super) fn kept_program(
        &self,
        layout: &Layout,
        images: usize,
        mode: Mode,
        reads: Reads,
    ) -> Arc<Program> {
        let make = || Arc::new(self.program(layout, images, mode, reads));
        self.programs.get((images, mode, reads), make)
    }

    /// Elements of the arena of that program, without its calls.
    pub fn arena_len(&self, layout: &Layout, images: usize, mode: Mode, reads: Reads) -> usize {
        self.sizes.get((images, mode, reads), || {
            let choices = self.choices(layout, Purpose::of(mode, images));
            self.source(layout, &choices).arena_len(images, mode, reads)
        })
    }

    /// How often something was chosen of the tree, and how many programs were made that are kept.
    #[cfg(test)]
    pub(super) fn lowered(&self) -> (usize, usize) {
        (self.choices.0.lock().unwrap().len(), self.made.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// Whether it is the plan of that tree for that target.
    pub(super) fn is_of(&self, tree: &Tree, target: Target) -> bool {
        self.target == target && *self.tree == *tree
    }

    fn source<'a>(&'a self, layout: &'a Layout, choices: &'a [Choice]) -> Source<'a> {
        let (tree, norms, format) = (&self.tree, &self.norms, self.target.precision.format());
        Source { layout, tree, norms, choices, format }
    }
}

/// Lowers `arch`, read at `exits`, for `images` images at a time; inference gives logits.
///
/// The last exit bounds the network. The layout must have the parts that the architecture's family
/// needs, which a [`Supernet`](crate::supernet::Supernet) of that family does.
pub fn lower(
    layout: &Layout,
    arch: &Arch,
    exits: Exits,
    images: usize,
    mode: Mode,
    target: impl Into<Target>,
) -> (Program, Section) {
    let tree = Tree::new(layout.channels(), &[(arch, exits)]);
    lower_tree(layout, &tree, images, mode, Reads::Logits, target)
}

/// Lowers all networks of a tree, for `images` images at a time. Recalibration gives neither logits
/// nor scores.
pub fn lower_tree(
    layout: &Layout,
    tree: &Tree,
    images: usize,
    mode: Mode,
    reads: Reads,
    target: impl Into<Target>,
) -> (Program, Section) {
    let plan = TreePlan::new(Cow::Borrowed(tree), target);
    (plan.program(layout, images, mode, reads), plan.norms.section(layout))
}
