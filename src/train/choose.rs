//! Which sub-networks a step trains, and which a validation looks at.
//!
//! A step draws every choice on its own and uniformly: kernel, expansion and branches of each layer,
//! the depth of each stage, the exit, and the width where several super-networks train together.
//! All choices are drawn, those of layers that the depth leaves out too, so a draw never depends on
//! another; then the network is brought to its canonical form.

use super::phase::Phase;
use crate::random::{Stream, stream};
use crate::space::backbone::{BRANCH_MASKS, LAYERS, STAGES};
use crate::space::{Arch, Family};
use rand::RngExt;
use rand::seq::IndexedRandom;

/// The values that the sub-networks of a phase are made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Choices {
    family: Family,
    widths: Vec<Option<f64>>,
    kernels: Vec<u8>,
    expansions: Vec<u8>,
    depths: Vec<u8>,
    /// Allowed numbers of branches, ascending.
    branches: Vec<u8>,
    /// Allowed exits, from 1, ascending.
    exits: Vec<u8>,
}

impl Choices {
    /// The choices of `phase` for super-networks of `family`, one of each of `widths`. A phase of the
    /// largest network alone has one choice in everything but the width.
    pub fn new(phase: &Phase, family: Family, widths: &[Option<f64>]) -> Choices {
        let largest = Phase::new("", 1, 1.0);
        let from = if phase.full { &largest } else { phase };
        let sorted = |list: &[u8]| {
            let mut list = list.to_vec();
            list.sort_unstable();
            list
        };
        Choices {
            family,
            widths: widths.to_vec(),
            kernels: sorted(&from.kernels),
            expansions: sorted(&from.expansions),
            depths: sorted(&from.depths),
            branches: if family.parallel { sorted(&from.branches) } else { vec![3] },
            exits: if family.early_exits { sorted(&from.exits) } else { vec![STAGES as u8] },
        }
    }

    /// The largest and the smallest network of each width, the widest first, on images of side `resolution`. Of
    /// few branches a layer keeps the MBConv.
    pub fn ends(&self, resolution: u32) -> Vec<[Arch; 2]> {
        let of_width = |&width: &Option<f64>| {
            [<[u8]>::last, <[u8]>::first].map(|pick: fn(&[u8]) -> Option<&u8>| {
                let mut arch = Arch::largest(self.family, resolution, width);
                let of = |values: &[u8], usual: u8| pick(values).copied().unwrap_or(usual);
                arch.nd = of(&self.exits, arch.nd);
                arch.d = [of(&self.depths, arch.d[0]); STAGES];
                arch.ks = [of(&self.kernels, arch.ks[0]); LAYERS];
                arch.e = [of(&self.expansions, arch.e[0]); LAYERS];
                if self.family.parallel {
                    arch.nw = [branches(of(&self.branches, 3)); LAYERS];
                }
                arch.canonical()
            })
        };
        self.widths.iter().rev().map(of_width).collect()
    }

    /// The sub-networks of step `step` of epoch `epoch`, with images of side `resolution`.
    pub fn networks(&self, seed: u64, epoch: u64, step: u64, count: usize, resolution: u32) -> Vec<Arch> {
        let mut rng = stream(seed, "train/networks", epoch, step);
        (0..count).map(|_| self.draw(resolution, &mut rng)).collect()
    }

    fn draw(&self, resolution: u32, rng: &mut Stream) -> Arch {
        let width = self.widths.choose(rng).copied().flatten();
        let mut arch = Arch::largest(self.family, resolution, width);
        let pick = |from: &[u8], rng: &mut Stream| from[rng.random_range(0..from.len())];
        arch.nd = pick(&self.exits, rng);
        for depth in &mut arch.d {
            *depth = pick(&self.depths, rng);
        }
        let masks: Vec<u8> = if self.family.parallel {
            BRANCH_MASKS.into_iter().filter(|m| self.branches.contains(&(m.count_ones() as u8))).collect()
        } else {
            vec![arch.nw[0]]
        };
        for layer in 0..LAYERS {
            arch.ks[layer] = pick(&self.kernels, rng);
            arch.e[layer] = pick(&self.expansions, rng);
            arch.nw[layer] = pick(&masks, rng);
        }
        arch.canonical()
    }

    /// The sub-networks of a validation: every combination of the smallest and the largest value of
    /// each dimension, of `resolutions` too, the same in all layers and stages. Where that makes
    /// more than `most`, as many are drawn, the same in every validation of a run.
    ///
    /// A layer with fewer branches keeps the MBConv, then the 1x1 convolution.
    pub fn extremes(&self, resolutions: &[u32], most: usize, seed: u64) -> Vec<Arch> {
        let mut all: Vec<Arch> = Vec::new();
        for width in ends(&self.widths) {
            for &resolution in &ends(resolutions) {
                all.push(Arch::largest(self.family, resolution, width));
            }
        }
        let mut vary = |values: &[u8], set: fn(&mut Arch, u8)| {
            let values = ends(values);
            let each = |arch: &Arch| {
                let with = |&value: &u8| {
                    let mut arch = arch.clone();
                    set(&mut arch, value);
                    arch
                };
                values.iter().map(with).collect::<Vec<_>>()
            };
            all = all.iter().flat_map(each).collect();
        };
        vary(&self.exits, |arch, exit| arch.nd = exit);
        if self.family.parallel {
            vary(&self.branches, |arch, count| arch.nw = [branches(count); LAYERS]);
        }
        vary(&self.depths, |arch, depth| arch.d = [depth; STAGES]);
        vary(&self.expansions, |arch, ratio| arch.e = [ratio; LAYERS]);
        vary(&self.kernels, |arch, kernel| arch.ks = [kernel; LAYERS]);
        let mut rng = stream(seed, "train/extremes", 0, 0);
        let mut kept = rand::seq::index::sample(&mut rng, all.len(), most.min(all.len())).into_vec();
        kept.sort_unstable();
        kept.into_iter().map(|index| all[index].canonical()).collect()
    }
}

/// So many branches: the MBConv, then the 1x1 convolution.
fn branches(count: u8) -> u8 {
    [4, 6, 7][usize::from(count.clamp(1, 3)) - 1]
}

/// The first and the last of a list, once if they are the same.
fn ends<T: Copy + PartialEq>(list: &[T]) -> Vec<T> {
    let mut ends: Vec<T> = list.first().into_iter().chain(list.last()).copied().collect();
    ends.dedup();
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Schedule;
    use crate::data::loader::{Position, resolution};
    use crate::train::phase::built_in;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn phase(name: &str, family: Family) -> Phase {
        built_in(Schedule::Eps, family).into_iter().find(|phase| phase.name == name).unwrap()
    }

    fn choices(name: &str, family: &str) -> Choices {
        let family = family.parse().unwrap();
        Choices::new(&phase(name, family), family, &[Some(1.0)])
    }

    #[test]
    fn a_phase_of_the_largest_network_has_no_choice() {
        for family in Family::all() {
            let choices = Choices::new(&phase("full", family), family, &[Some(1.0)]);
            let largest = Arch::largest(family, 64, Some(1.0));
            assert_eq!(choices.networks(1, 2, 3, 2, 64), [largest.clone(), largest.clone()]);
            assert_eq!(choices.extremes(&[64], 32, 0), [largest]);
        }
    }

    #[test]
    fn the_ends_have_the_largest_and_the_smallest_of_everything() {
        for family in Family::all() {
            let phase = built_in(Schedule::Sandwich, family).pop().unwrap();
            let choices = Choices::new(&phase, family, &[Some(1.0), Some(1.2)]);
            let [[wide, _], [narrow, smallest]] = choices.ends(56).try_into().unwrap();
            let largest = |width| Arch::largest(family, 56, Some(width));
            assert_eq!((wide, narrow), (largest(1.2), largest(1.0)), "{family}");
            let wanted = Arch {
                ks: [3; LAYERS],
                e: [3; LAYERS],
                d: [2; STAGES],
                nw: if family.parallel { [4; LAYERS] } else { smallest.nw },
                nd: if family.early_exits { 1 } else { smallest.nd },
                ..largest(1.0)
            };
            assert_eq!(smallest, wanted.canonical(), "{family}");
            // A narrower choice has nearer ends.
            let some = Phase { depths: vec![4, 3], kernels: vec![5], ..phase };
            let [[_, smallest]] = Choices::new(&some, family, &[Some(1.0)]).ends(32).try_into().unwrap();
            assert_eq!((smallest.d[0], smallest.ks[0], smallest.e[0]), (3, 5, 3));
        }
    }

    #[test]
    fn draws_depend_on_seed_epoch_and_step_and_on_nothing_else() {
        let choices = choices("width-2", "EE_DP");
        let first = choices.networks(7, 1, 2, 4, 48);
        assert_eq!(first, choices.networks(7, 1, 2, 4, 48));
        assert_eq!(first[..2], choices.networks(7, 1, 2, 2, 48));
        for other in [(8, 1, 2), (7, 2, 2), (7, 1, 3)] {
            assert_ne!(first, choices.networks(other.0, other.1, other.2, 4, 48));
        }
        assert_eq!(first.iter().map(|a| serde_json::to_string(a).unwrap()).collect::<BTreeSet<_>>().len(), 4);
        let sides: BTreeSet<usize> =
            (0..50).map(|step| resolution(1, Position { epoch: 0, step }, &[48, 56, 64])).collect();
        assert_eq!(sides, [48, 56, 64].into());
    }

    /// Shares of every value of every gene that is always there.
    #[test]
    fn draws_are_uniform() {
        let family: Family = "EE_P".parse().unwrap();
        let choices = Choices::new(&phase("width-2", family), family, &[Some(1.0), Some(1.2)]);
        let drawn = choices.networks(1, 0, 0, 20_000, 64);
        let share = |count: usize, of: usize| {
            let share = count as f64 / drawn.len() as f64;
            assert!((share * of as f64 - 1.0).abs() < 0.1, "{share} against 1/{of}");
        };
        let count = |test: &dyn Fn(&Arch) -> bool| drawn.iter().filter(|arch| test(arch)).count();
        (1..=5).for_each(|exit| share(count(&|a| a.nd == exit), 5));
        (1..=7).for_each(|mask| share(count(&|a| a.nw[1] == mask), 7));
        [2, 3, 4].iter().for_each(|&d| share(count(&|a| a.d[0] == d), 3));
        [3, 5, 7].iter().for_each(|&k| share(count(&|a| a.ks[0] == k), 3));
        [3, 4, 6].iter().for_each(|&e| share(count(&|a| a.e[1] == e), 3));
        [1.0, 1.2].iter().for_each(|&w| share(count(&|a| a.w == Some(w)), 2));
        // Layers choose on their own.
        share(count(&|a| (a.ks[0], a.ks[1]) == (3, 7)), 9);
    }

    #[test]
    fn extremes_are_the_corners_of_what_the_phase_allows() {
        let all = choices("width-2", "SE_B").extremes(&[48, 56, 64], 32, 0);
        assert_eq!(all.len(), 16);
        let corners: BTreeSet<_> = all.iter().map(|a| (a.r, a.d[0], a.e[0], a.ks[0])).collect();
        assert_eq!(corners.len(), 16);
        for (r, d, e, k) in corners {
            assert!(
                [48, 64].contains(&r) && [2, 4].contains(&d) && [3, 6].contains(&e) && [3, 7].contains(&k)
            );
        }
        assert_eq!(choices("width-1", "SE_B").extremes(&[64], 32, 0).iter().map(|a| a.e[0]).min(), Some(4));
        assert_eq!(choices("kernel", "SE_B").extremes(&[64], 32, 0).len(), 2);
        let some = choices("width-2", "EE_DP").extremes(&[48, 64], 32, 0);
        assert_eq!(some.len(), 32);
        let different: BTreeSet<String> = some.iter().map(|a| serde_json::to_string(a).unwrap()).collect();
        assert_eq!(different.len(), 32);
        assert_eq!(some, choices("width-2", "EE_DP").extremes(&[48, 64], 32, 0));
        assert_ne!(some, choices("width-2", "EE_DP").extremes(&[48, 64], 32, 1));
        let levels: BTreeSet<u8> =
            choices("level-1", "SE_P").extremes(&[64], 32, 0).iter().map(|a| a.nw[0]).collect();
        assert_eq!(levels, [6, 7].into());
    }

    proptest! {
        #[test]
        fn every_draw_is_within_its_phase(seed: u64, family in 0..8usize, at in 0..12usize, step in 0..1000u64) {
            let family = Family::all().nth(family).unwrap();
            let phases = built_in(Schedule::Eps, family);
            let phase = &phases[at % phases.len()];
            let choices = Choices::new(phase, family, &[None]);
            let extremes = choices.extremes(&[48, 64], 32, seed);
            for arch in choices.networks(seed, 0, step, 3, 64).iter().chain(&extremes) {
                prop_assert_eq!(arch.w, None);
                prop_assert_eq!(&arch.canonical(), arch);
                prop_assert!(phase.exits.contains(&arch.nd) || !family.early_exits);
                for layer in (0..LAYERS).filter(|&layer| arch.is_active(layer)) {
                    prop_assert!(phase.kernels.contains(&arch.ks[layer]));
                    prop_assert!(phase.expansions.contains(&arch.e[layer]));
                    prop_assert!(phase.depths.contains(&arch.d[layer / 4]));
                    let branches = arch.nw[layer].count_ones() as u8;
                    let allowed = if family.parallel { &phase.branches[..] } else { &[1] };
                    prop_assert!(allowed.contains(&branches));
                }
            }
        }
    }
}
