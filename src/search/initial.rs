//! The networks that a search starts from.
//!
//! NATv2 draws many more than the archive holds, with depths spread evenly, and keeps the survivors;
//! NAT draws what the archive holds. Both add the smallest and the largest network of the space.

use super::Error;
use crate::random::stream;
use crate::space::sample::{Policy, sample};
use crate::space::{Genotype, Repair, Space};
use std::collections::HashSet;

/// The smallest and the largest network of a space.
pub fn bounds(space: &Space) -> [Genotype; 2] {
    [space.lower(), space.upper()].map(|bound| {
        let mut genotype = bound.to_vec();
        space.repair(&mut genotype, Repair::Fill);
        genotype
    })
}

/// Draws for the initial archive, without the bounds: `archive * oversample - 2` under NATv2's
/// policy, `archive - 2` under NAT's. All different.
///
/// # Errors
/// The space has too few networks.
pub fn draw(
    space: &Space,
    policy: Policy,
    archive: usize,
    oversample: usize,
    seed: u64,
) -> Result<Vec<Genotype>, Error> {
    let count = if policy == Policy::Nat { archive } else { archive * oversample };
    let mut taken: HashSet<Genotype> = bounds(space).into_iter().collect();
    distinct(space, policy, count.saturating_sub(2), &mut taken, &mut stream(seed, "search/initial", 0, 0))
}

/// `count` random networks that are not in `taken`, which they join.
///
/// # Errors
/// The space has too few networks.
pub fn distinct(
    space: &Space,
    policy: Policy,
    count: usize,
    taken: &mut HashSet<Genotype>,
    rng: &mut crate::random::Stream,
) -> Result<Vec<Genotype>, Error> {
    let mut drawn = Vec::with_capacity(count);
    let mut misses = 0;
    while drawn.len() < count {
        let genotype = sample(space, policy, rng);
        if taken.insert(genotype.clone()) {
            drawn.push(genotype)
        } else {
            misses += 1
        }
        if misses > 1000 + 20 * count {
            return Err(Error::SmallSpace { wanted: count });
        }
    }
    Ok(drawn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::Family;

    #[test]
    fn draws_are_distinct_repeatable_and_leave_the_bounds_out() {
        let space = Space::paper(Family::SE_B);
        for (policy, expected) in [(Policy::NatV2, 58), (Policy::Nat, 10)] {
            let drawn = draw(&space, policy, 12, 5, 3).unwrap();
            assert_eq!(drawn, draw(&space, policy, 12, 5, 3).unwrap());
            assert_ne!(drawn, draw(&space, policy, 12, 5, 4).unwrap());
            let set: HashSet<_> = drawn.iter().collect();
            assert_eq!((drawn.len(), set.len()), (expected, expected));
            assert!(bounds(&space).iter().all(|bound| !set.contains(bound)));
        }
    }
}
