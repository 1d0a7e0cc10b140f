//! One survival step by whichever algorithm, for archives that are cut back to their size.

use super::{Error, Points, directions, nsga2, nsga3};
use crate::random::Stream;

/// Which evolutionary algorithm decides who survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Fronts, then niches of reference directions.
    Nsga3,
    /// Fronts, then crowding distance.
    Nsga2,
    /// One objective alone: the smallest values.
    Ga,
}

impl Algorithm {
    /// The rule of the authors of NAT and NATv2: the plain genetic algorithm for one objective,
    /// NSGA-II for two, NSGA-III for more.
    pub fn auto(objectives: usize) -> Self {
        match objectives {
            0 | 1 => Self::Ga,
            2 => Self::Nsga2,
            _ => Self::Nsga3,
        }
    }

    /// What it comes to for this many objectives: for one, all are the plain genetic algorithm.
    ///
    /// # Errors
    /// [`Error::SingleObjective`] for the genetic algorithm on several.
    pub fn resolve(self, objectives: usize) -> Result<Self, Error> {
        match self {
            _ if objectives <= 1 => Ok(Self::Ga),
            Self::Ga => Err(Error::SingleObjective { objectives }),
            other => Ok(other),
        }
    }
}

/// The indices of the `count` points that survive, best fronts first (all of them if there are no
/// more). NSGA-III starts afresh each time, with `count` Riesz-energy directions of seed
/// `direction_seed`; with one objective the smallest values survive, the lower index on a tie.
///
/// # Errors
/// [`Error::SingleObjective`] for the genetic algorithm on several objectives.
pub fn survive(
    points: &Points,
    count: usize,
    algorithm: Algorithm,
    direction_seed: u64,
    rng: &mut Stream,
) -> Result<Vec<usize>, Error> {
    let algorithm = algorithm.resolve(points.dimension())?;
    Ok(match algorithm {
        Algorithm::Ga => smallest(points, count),
        Algorithm::Nsga2 => nsga2::survive(points, count),
        Algorithm::Nsga3 => {
            let directions = directions::riesz(points.dimension(), count.max(1), direction_seed);
            nsga3::Survival::new(directions).survive(points, count, rng)
        }
    })
}

/// The indices of the `count` points with the smallest first objective, in that order, the lower
/// index first on a tie.
pub fn smallest(points: &Points, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|&a, &b| points.row(a)[0].total_cmp(&points.row(b)[0]));
    order.truncate(count);
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moo::sorting;
    use crate::random::stream;
    use rand::RngExt;

    fn scatter(m: usize, n: usize) -> Points {
        let mut rng = stream(3, "moo/test", m as u64, n as u64);
        Points::from_rows(m, (0..n).map(|_| (0..m).map(|_| rng.random::<f64>()).collect::<Vec<_>>()))
    }

    #[test]
    fn an_archive_is_cut_to_its_size_by_every_algorithm() {
        for (m, algorithm) in [
            (1, Algorithm::Ga),
            (1, Algorithm::Nsga3),
            (2, Algorithm::Nsga2),
            (2, Algorithm::Nsga3),
            (3, Algorithm::Nsga3),
        ] {
            let points = scatter(m, 2998);
            let survive = || survive(&points, 298, algorithm, 42, &mut stream(1, "moo/test", 0, 0));
            let survivors = survive().unwrap();
            assert_eq!(survivors, survive().unwrap());
            assert_eq!(survivors.len(), 298);
            let front = sorting::non_dominated(&points);
            assert!(front.len() > 298 || front.iter().all(|i| survivors.contains(i)), "{m} {algorithm:?}");
        }
    }

    #[test]
    fn one_objective_sorts_and_ties_keep_their_order() {
        let points = Points::from_rows(1, [[2.0], [1.0], [f64::NAN], [1.0], [f64::INFINITY]]);
        assert_eq!(smallest(&points, 4), [1, 3, 0, 2]);
    }

    #[test]
    fn algorithms_are_resolved_by_the_number_of_objectives() {
        assert_eq!(
            [1, 2, 3, 4].map(Algorithm::auto),
            [Algorithm::Ga, Algorithm::Nsga2, Algorithm::Nsga3, Algorithm::Nsga3]
        );
        assert_eq!(Algorithm::Nsga2.resolve(1), Ok(Algorithm::Ga));
        assert_eq!(Algorithm::Nsga3.resolve(2), Ok(Algorithm::Nsga3));
        assert_eq!(Algorithm::Ga.resolve(2), Err(Error::SingleObjective { objectives: 2 }));
    }

    #[test]
    fn nothing_survives_from_nothing() {
        let mut rng = stream(1, "moo/test", 0, 0);
        for algorithm in [Algorithm::Nsga2, Algorithm::Nsga3] {
            assert_eq!(survive(&Points::new(2), 5, algorithm, 42, &mut rng), Ok(vec![]));
            assert_eq!(survive(&scatter(2, 9), 0, algorithm, 42, &mut rng), Ok(vec![]));
            assert_eq!(survive(&scatter(2, 9), 50, algorithm, 42, &mut rng).map(|s| s.len()), Ok(9));
        }
    }
}
