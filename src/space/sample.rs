//! Random networks under the initialisation policies of NAT and NATv2.

use super::backbone::{DEPTHS, MAX_DEPTH};
use super::{Genotype, Repair, Space};
use crate::words::words;
use rand::{Rng, RngExt};

words!(
    /// Which of the two methods something follows: here, how the genes of a random network are drawn.
    Policy {
        /// As NATv2: an optional layer is skipped with probability 1/3, and so is all that follows it: depths
        /// 2, 3 and 4 have probabilities 1/3, 2/9 and 4/9.
        NatV2 = "natv2",
        /// As NAT: every gene uniform, zeros pushed to the end of the stage: nearly all stages are full.
        Nat = "nat",
    }
);

/// One random network, as its canonical genotype.
pub fn sample(space: &Space, policy: Policy, rng: &mut impl Rng) -> Genotype {
    let first = space.first_layer_gene();
    let bounds = space.lower().iter().zip(space.upper()).enumerate();
    let mut genotype: Genotype = bounds
        .map(|(gene, (&lower, &upper))| {
            let optional = gene >= first && (gene - first) % MAX_DEPTH >= usize::from(DEPTHS[0]);
            match policy {
                Policy::NatV2 if optional && rng.random_range(0..3) == 0 => 0,
                Policy::NatV2 if optional => rng.random_range(1..=upper),
                _ => rng.random_range(lower..=upper),
            }
        })
        .collect();
    space.repair(&mut genotype, if policy == Policy::Nat { Repair::Push } else { Repair::Fill });
    genotype
}

#[cfg(test)]
mod tests {
    use super::super::Family;
    use super::*;
    use crate::random::stream;

    /// Shares of depths 2, 3 and 4 over many draws.
    fn depths(policy: Policy) -> [f64; 3] {
        let space = Space::paper(Family::SE_B);
        let mut rng = stream(1, "depths", 0, 0);
        let mut counts = [0usize; 3];
        for _ in 0..20_000 {
            let arch = space.decode(&sample(&space, policy, &mut rng)).unwrap();
            arch.d.iter().for_each(|&d| counts[usize::from(d) - 2] += 1);
        }
        counts.map(|c| c as f64 / 100_000.0)
    }

    #[test]
    fn depths_follow_the_policies() {
        for (policy, expected) in
            [(Policy::NatV2, [1.0 / 3.0, 2.0 / 9.0, 4.0 / 9.0]), (Policy::Nat, [0.01, 0.18, 0.81])]
        {
            for (share, expected) in depths(policy).into_iter().zip(expected) {
                assert!((share - expected).abs() < 0.008, "{policy:?}: {share} against {expected}");
            }
        }
    }
}
