//! Plans of trees that were evaluated last, kept for the next time.
//!
//! A search evaluates its archive again after every round of adaptation, a benchmark the same networks again and
//! again: then nothing is chosen anew, and programs are the same objects, so what was recorded of them is found at
//! once.

use super::plan::{Target, TreePlan};
use super::tree::Tree;
use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

/// Plans that are kept: as many groups of 32 as an archive of 300 and its candidates have, and a few more. A plan of 32
/// networks takes one to two megabytes with its programs.
const KEPT: usize = 16;

/// Plans by their trees; the one that was used last stands last.
#[derive(Default)]
pub(super) struct Plans(Mutex<Vec<Arc<TreePlan<'static>>>>);

impl Plans {
    /// The plan of a tree.
    pub(super) fn of(&self, tree: Tree, target: Target) -> Arc<TreePlan<'static>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().rposition(|plan| plan.is_of(&tree, target));
        let plan = match found {
            Some(index) => kept.remove(index),
            None => Arc::new(TreePlan::new(Cow::Owned(tree), target)),
        };
        kept.push(plan.clone());
        if kept.len() > KEPT {
            kept.remove(0);
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Cpu;
    use crate::engine::{Calibration, Cropped, Engine, Precision};
    use crate::random::stream;
    use crate::space::walk::Exits;
    use crate::space::{Arch, Channels, ExitScaling, Family};
    use crate::supernet::Supernet;
    use rand::RngExt;

    #[test]
    fn the_plans_of_the_last_trees_are_kept() {
        let channels = Channels::new(0.25, ExitScaling::Once);
        let tree = |side: u32| {
            let arch = Arch::largest(Family::SE_B, side, None);
            Tree::new(&channels, &[(&arch, Exits::single(&arch))])
        };
        let (plans, target) = (Plans::default(), Target::from(Precision::F32));
        let first = plans.of(tree(32), target);
        assert!(Arc::ptr_eq(&first, &plans.of(tree(32), target)));
        let other = Target { block_bytes: 1, ..target };
        assert!(!Arc::ptr_eq(&first, &plans.of(tree(32), other)));
        (0..KEPT as u32).for_each(|index| drop(plans.of(tree(40 + 4 * index), target)));
        assert!(!Arc::ptr_eq(&first, &plans.of(tree(32), target)), "the oldest is gone");
        assert_eq!(plans.0.lock().unwrap().len(), KEPT);
    }

    #[test]
    fn a_tree_is_lowered_once() {
        let mut random = stream(1, "plans/tests", 0, 0);
        let tensor = crate::supernet::Tensor {
            shape: vec![24, 3, 32, 32],
            data: (0..24 * 3 * 32 * 32).map(|_| random.random_range(-1.0f32..1.0)).collect(),
        };
        let images = Cropped::new(&tensor, &[0; 24]).unwrap();
        let calibration = Calibration::Batches { images: &images, count: 24, batch: 8 };
        let largest = Arch::largest(Family::SE_B, 32, None);
        let archs =
            [largest.clone(), Arch { ks: [3; 20], ..largest.clone() }, Arch { e: [3; 20], ..largest }];
        let networks: Vec<(Arch, Exits)> =
            archs.iter().map(|arch| (arch.clone(), Exits::single(arch))).collect();
        let engine = Engine::new(Arc::new(Cpu), Arc::new(Supernet::open(None, None).unwrap())).unwrap();
        let evaluate = || {
            let found = engine.evaluate_population(&networks, &images, calibration, &|| false, &|_, _| ());
            found.unwrap().unwrap().results
        };
        let first = evaluate();
        let made = |engine: &Engine| -> Vec<(usize, usize)> {
            let plans = engine.plans().0.lock().unwrap();
            plans.iter().map(|plan| plan.lowered()).collect()
        };
        // Once each for recalibration and inference, and a program of each.
        assert_eq!(made(&engine), [(2, 2)]);
        assert_eq!(evaluate(), first);
        assert_eq!(made(&engine), [(2, 2)], "nothing is made again");
    }
}
