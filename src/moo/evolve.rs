//! The evolutionary search over integer genomes: what NAT runs between two rounds of evaluation.
//!
//! Latin-hypercube start, then per generation: tournaments, two-point crossover, polynomial
//! mutation, repair, no genome twice, and survival of parents and offspring together. The problem
//! sees all genomes of a generation at once, so it can evaluate them in parallel.

use super::survival::{Algorithm, smallest};
use super::variation::{Dealer, latin_hypercube, polynomial_mutation, two_point_crossover};
use super::{Error, Points, directions, nsga2, nsga3};
use crate::random::Stream;
use rand::RngExt;
use std::collections::HashSet;

/// What is searched: bounds of the genes, which genomes are meaningful, and their objectives.
pub trait Problem {
    /// The largest value of every gene.
    fn upper(&self) -> &[u8];
    /// The smallest value of every gene.
    fn lower(&self) -> &[u8];
    /// Turns a genome within the bounds into the canonical one that stands for the same thing.
    fn repair(&self, genome: &mut [u8]);
    /// The objectives of every genome, in order, all to be minimised.
    fn evaluate(&self, genomes: &[Vec<u8>]) -> Points;
}

/// Settings of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Who survives. With one objective, always the genetic algorithm.
    pub algorithm: Algorithm,
    /// Individuals in a generation.
    pub population: usize,
    /// Generations, the initial one included.
    pub generations: usize,
    /// Probability that two parents are crossed; they are copied otherwise.
    pub crossover: f64,
    /// Distribution index of the polynomial mutation.
    pub eta: f64,
    /// Probability that a gene mutates; 1 / number of genes if not given.
    pub mutation: Option<f64>,
    /// Latin hypercubes to choose the start from.
    pub hypercubes: usize,
    /// Reference directions of NSGA-III; as many as the population if not given.
    pub directions: Option<usize>,
    /// Seed of the reference directions.
    pub direction_seed: u64,
    /// Rounds of mating that may pass before a generation makes do with fewer new genomes.
    pub attempts: usize,
}

impl Default for Settings {
    /// NATv2's: NSGA-III, 100 individuals, 20 generations.
    fn default() -> Self {
        Self {
            algorithm: Algorithm::Nsga3,
            population: 100,
            generations: 20,
            crossover: 0.9,
            eta: 1.0,
            mutation: None,
            hypercubes: 20,
            directions: None,
            direction_seed: 42,
            attempts: 100,
        }
    }
}

impl Settings {
    fn check(&self) -> Result<(), Error> {
        let positive = [
            ("population", self.population),
            ("generations", self.generations),
            ("directions", self.directions.unwrap_or(1)),
        ];
        for (name, value) in positive {
            if value == 0 {
                return Err(Error::Setting { name, value: 0.0, expected: "at least 1" });
            }
        }
        for (name, value) in [("crossover", self.crossover), ("mutation", self.mutation.unwrap_or(0.0))] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::Setting { name, value, expected: "a probability from 0 to 1" });
            }
        }
        if !(self.eta >= 0.0 && self.eta.is_finite()) {
            return Err(Error::Setting { name: "eta", value: self.eta, expected: "finite and not negative" });
        }
        Ok(())
    }
}

/// The last generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Its genomes, all different, best fronts first.
    pub genomes: Vec<Vec<u8>>,
    /// Their objectives.
    pub objectives: Points,
    /// How many genomes were evaluated in all.
    pub evaluations: usize,
}

/// Runs a search from a latin-hypercube start.
///
/// # Errors
/// If a setting is out of range, the bounds do not fit together, the genetic algorithm is asked to
/// handle several objectives, or the problem returns points of the wrong number or dimension.
pub fn run(problem: &impl Problem, settings: &Settings, rng: &mut Stream) -> Result<Outcome, Error> {
    run_from(problem, settings, &[], rng)
}

/// Runs a search whose first generation holds the genomes of `initial` (as MSuNAS starts from its
/// archive), filled up by a latin hypercube.
///
/// # Errors
/// As [`run`], and if an initial genome does not fit the bounds.
pub fn run_from(
    problem: &impl Problem,
    settings: &Settings,
    initial: &[Vec<u8>],
    rng: &mut Stream,
) -> Result<Outcome, Error> {
    settings.check()?;
    check_bounds(problem, initial)?;
    let mut seen = Seen::default();
    let genomes = first_generation(problem, settings, initial, &mut seen, rng);
    let objectives = problem.evaluate(&genomes);
    let m = objectives.dimension();
    check_points(&objectives, genomes.len(), m)?;
    let mut survival = Survival::new(settings, m)?;
    let mut evaluations = genomes.len();
    let mut population = Population { genomes, objectives, crowding: Vec::new() };
    population.survive(&mut survival, settings.population, rng);

    for _ in 1..settings.generations {
        seen.reset(&population.genomes);
        let offspring = mate(problem, settings, &population, &survival, &mut seen, rng);
        if offspring.is_empty() {
            // Nothing new can be found: so it would be in every later generation, but for chance.
            continue;
        }
        let objectives = problem.evaluate(&offspring);
        check_points(&objectives, offspring.len(), m)?;
        evaluations += offspring.len();
        population.genomes.extend(offspring);
        population.objectives.append(&objectives);
        population.survive(&mut survival, settings.population, rng);
    }
    Ok(Outcome { genomes: population.genomes, objectives: population.objectives, evaluations })
}

fn check_bounds(problem: &impl Problem, initial: &[Vec<u8>]) -> Result<(), Error> {
    let (lower, upper) = (problem.lower(), problem.upper());
    if lower.len() != upper.len() || lower.is_empty() {
        return Err(Error::BoundsLength { lower: lower.len(), upper: upper.len() });
    }
    for (gene, (&lower, &upper)) in lower.iter().zip(upper).enumerate() {
        if lower > upper {
            return Err(Error::BoundsOrder { gene, lower, upper });
        }
    }
    let fits = |genome: &Vec<u8>| {
        genome.len() == lower.len()
            && genome.iter().zip(lower.iter().zip(upper)).all(|(g, (lo, hi))| lo <= g && g <= hi)
    };
    match initial.iter().position(|genome| !fits(genome)) {
        Some(index) => Err(Error::Initial { index }),
        None => Ok(()),
    }
}

fn check_points(points: &Points, genomes: usize, objectives: usize) -> Result<(), Error> {
    if points.len() == genomes && points.dimension() == objectives {
        return Ok(());
    }
    Err(Error::Evaluation { genomes, objectives, points: points.len(), dimension: points.dimension() })
}

/// The genomes of which no second copy is wanted. Only asked for membership, so the order of the
/// hash set matters nowhere.
#[derive(Default)]
struct Seen(HashSet<Vec<u8>>);

impl Seen {
    fn reset(&mut self, genomes: &[Vec<u8>]) {
        self.0.clear();
        self.0.extend(genomes.iter().cloned());
    }

    /// Whether the genome is new; if so it no longer is.
    fn admit(&mut self, genome: &[u8]) -> bool {
        !self.0.contains(genome) && self.0.insert(genome.to_vec())
    }
}

fn first_generation(
    problem: &impl Problem,
    settings: &Settings,
    initial: &[Vec<u8>],
    seen: &mut Seen,
    rng: &mut Stream,
) -> Vec<Vec<u8>> {
    let mut genomes: Vec<Vec<u8>> = Vec::with_capacity(settings.population);
    let admit = |mut genome: Vec<u8>, genomes: &mut Vec<Vec<u8>>, seen: &mut Seen| {
        problem.repair(&mut genome);
        if seen.admit(&genome) {
            genomes.push(genome);
        }
    };
    for genome in initial {
        admit(genome.clone(), &mut genomes, seen);
    }
    // Repair maps some genomes to the same one; further hypercubes fill the places.
    let mut tries = settings.hypercubes;
    for _ in 0..=settings.attempts {
        let missing = settings.population.saturating_sub(genomes.len());
        if missing == 0 {
            break;
        }
        for genome in latin_hypercube(problem.lower(), problem.upper(), missing, tries, rng) {
            admit(genome, &mut genomes, seen);
        }
        tries = 1;
    }
    genomes
}

struct Population {
    genomes: Vec<Vec<u8>>,
    objectives: Points,
    /// For NSGA-II alone.
    crowding: Vec<f64>,
}

impl Population {
    fn survive(&mut self, survival: &mut Survival, count: usize, rng: &mut Stream) {
        let survivors = match survival {
            Survival::Nsga3(state) => state.survive(&self.objectives, count, rng),
            Survival::Nsga2 => {
                let survivors = nsga2::survivors(&self.objectives, count);
                self.crowding = survivors.crowding;
                survivors.indices
            }
            Survival::Ga => smallest(&self.objectives, count),
        };
        self.genomes = survivors.iter().map(|&i| std::mem::take(&mut self.genomes[i])).collect();
        self.objectives = self.objectives.select(&survivors);
    }
}

enum Survival {
    Nsga3(Box<nsga3::Survival>),
    Nsga2,
    Ga,
}

impl Survival {
    fn new(settings: &Settings, objectives: usize) -> Result<Self, Error> {
        Ok(match settings.algorithm.resolve(objectives)? {
            Algorithm::Nsga3 => {
                let count = settings.directions.unwrap_or(settings.population);
                let directions = directions::riesz(objectives, count, settings.direction_seed);
                Self::Nsga3(Box::new(nsga3::Survival::new(directions)))
            }
            Algorithm::Nsga2 => Self::Nsga2,
            Algorithm::Ga => Self::Ga,
        })
    }

    /// The winner of a tournament of two.
    fn tournament(&self, population: &Population, a: usize, b: usize, rng: &mut Stream) -> usize {
        let value = |i: usize| population.objectives.row(i)[0];
        match self {
            Self::Nsga2 => nsga2::tournament(&population.objectives, &population.crowding, a, b, rng),
            Self::Ga if value(a) < value(b) => a,
            Self::Ga if value(b) < value(a) => b,
            // NSGA-III puts all selection into survival.
            Self::Ga | Self::Nsga3(_) => [a, b][usize::from(rng.random::<bool>())],
        }
    }
}

/// New genomes, as many as the population has places if that many can be found.
fn mate(
    problem: &impl Problem,
    settings: &Settings,
    population: &Population,
    survival: &Survival,
    seen: &mut Seen,
    rng: &mut Stream,
) -> Vec<Vec<u8>> {
    let (lower, upper) = (problem.lower(), problem.upper());
    let rate = settings.mutation.unwrap_or(1.0 / lower.len() as f64);
    let mut offspring: Vec<Vec<u8>> = Vec::with_capacity(settings.population);
    for _ in 0..settings.attempts {
        let missing = settings.population - offspring.len();
        if missing == 0 {
            break;
        }
        let mut dealer = Dealer::new(population.genomes.len());
        let mut parent = |rng: &mut Stream| {
            let (a, b) = (dealer.deal(rng), dealer.deal(rng));
            population.genomes[survival.tournament(population, a, b, rng)].clone()
        };
        for _ in 0..missing.div_ceil(2) {
            let mut children = [parent(rng), parent(rng)];
            if rng.random::<f64>() < settings.crossover {
                let [a, b] = &mut children;
                two_point_crossover(a, b, rng);
            }
            for mut child in children {
                polynomial_mutation(&mut child, lower, upper, settings.eta, rate, rng);
                problem.repair(&mut child);
                if offspring.len() < settings.population && seen.admit(&child) {
                    offspring.push(child);
                }
            }
        }
    }
    offspring
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moo::{hypervolume::hypervolume, sorting};
    use crate::random::stream;

    /// `m` objectives that pull the genes to different targets; zeros are pushed to the end.
    struct Targets {
        m: usize,
        lower: Vec<u8>,
        upper: Vec<u8>,
    }

    impl Targets {
        fn new(m: usize, genes: usize) -> Self {
            Self { m, lower: vec![0; genes], upper: vec![9; genes] }
        }
    }

    impl Problem for Targets {
        fn upper(&self) -> &[u8] {
            &self.upper
        }
        fn lower(&self) -> &[u8] {
            &self.lower
        }
        fn repair(&self, genome: &mut [u8]) {
            if let Some(zero) = genome.iter().position(|&g| g == 0) {
                genome[zero..].fill(0);
            }
        }
        fn evaluate(&self, genomes: &[Vec<u8>]) -> Points {
            let objective = |g: &Vec<u8>, j: usize| {
                g.iter()
                    .enumerate()
                    .map(|(i, &x)| (f64::from(x) - ((i + 4 * j) % 10) as f64).powi(2))
                    .sum::<f64>()
            };
            Points::from_rows(
                self.m,
                genomes.iter().map(|g| (0..self.m).map(|j| objective(g, j)).collect::<Vec<_>>()),
            )
        }
    }

    fn rng(seed: u64) -> Stream {
        stream(seed, "moo/test", 0, 0)
    }

    #[test]
    fn every_algorithm_improves_on_its_start() {
        for (m, algorithm) in [
            (1, Algorithm::Ga),
            (2, Algorithm::Nsga2),
            (2, Algorithm::Nsga3),
            (3, Algorithm::Nsga2),
            (3, Algorithm::Nsga3),
            (4, Algorithm::Nsga3),
        ] {
            let problem = Targets::new(m, 12);
            let settings = Settings { algorithm, population: 60, generations: 30, ..Settings::default() };
            let volume = |generations| {
                let outcome =
                    run(&problem, &Settings { generations, ..settings.clone() }, &mut rng(5)).unwrap();
                assert_eq!(outcome.genomes.len(), 60);
                assert_eq!(outcome.evaluations, 60 * generations);
                assert_eq!(problem.evaluate(&outcome.genomes), outcome.objectives);
                hypervolume(&outcome.objectives, &vec![400.0; m])
            };
            let (start, end) = (volume(1), volume(30));
            assert!(end > 1.05 * start, "{m} {algorithm:?}: {start} to {end}");
        }
    }

    #[test]
    fn populations_hold_repaired_genomes_once_and_repeat_by_seed() {
        let problem = Targets::new(3, 8);
        let settings = Settings { population: 40, generations: 6, ..Settings::default() };
        let outcome = run(&problem, &settings, &mut rng(1)).unwrap();
        assert_eq!(outcome, run(&problem, &settings, &mut rng(1)).unwrap());
        assert_ne!(outcome, run(&problem, &settings, &mut rng(2)).unwrap());
        let distinct: HashSet<_> = outcome.genomes.iter().collect();
        assert_eq!(distinct.len(), 40);
        for genome in &outcome.genomes {
            let mut repaired = genome.clone();
            problem.repair(&mut repaired);
            assert_eq!(&repaired, genome);
        }
    }

    #[test]
    fn a_space_smaller_than_the_population_is_searched_whole() {
        let mut problem = Targets::new(2, 3);
        problem.upper = vec![1, 2, 0];
        let settings = Settings { population: 50, generations: 4, ..Settings::default() };
        let outcome = run(&problem, &settings, &mut rng(1)).unwrap();
        // 0.., 10, 11, 12: three canonical genomes start with 1, one with 0.
        assert_eq!(outcome.genomes.len(), 4);
        problem.upper = vec![0; 3];
        assert_eq!(run(&problem, &settings, &mut rng(1)).unwrap().genomes, [[0, 0, 0]]);
    }

    #[test]
    fn initial_genomes_take_part() {
        let problem = Targets::new(1, 6);
        let best: Vec<u8> = (0..6).map(|i| i as u8).collect();
        let near = vec![1, 1, 2, 3, 4, 5];
        let settings =
            Settings { population: 10, generations: 1, algorithm: Algorithm::Ga, ..Settings::default() };
        let outcome = run_from(&problem, &settings, &[near.clone(), near.clone()], &mut rng(1)).unwrap();
        assert_eq!(outcome.genomes[0], near);
        assert_eq!(outcome.genomes.len(), 10);
        let outside = run_from(&problem, &settings, &[best, vec![10; 6]], &mut rng(1));
        assert_eq!(outside, Err(Error::Initial { index: 1 }));
    }

    #[test]
    fn objectives_that_are_not_numbers_lose() {
        struct Broken(Targets);
        impl Problem for Broken {
            fn upper(&self) -> &[u8] {
                self.0.upper()
            }
            fn lower(&self) -> &[u8] {
                self.0.lower()
            }
            fn repair(&self, _: &mut [u8]) {}
            fn evaluate(&self, genomes: &[Vec<u8>]) -> Points {
                let plain = self.0.evaluate(genomes);
                let spoil = |g: &Vec<u8>, row: &[f64]| {
                    let odd = !g[0].is_multiple_of(2);
                    row.iter().map(|&x| if odd { f64::NAN } else { x }).collect::<Vec<_>>()
                };
                Points::from_rows(
                    plain.dimension(),
                    genomes.iter().zip(plain.rows()).map(|(g, r)| spoil(g, r)),
                )
            }
        }
        for algorithm in [Algorithm::Nsga3, Algorithm::Nsga2] {
            let settings = Settings { algorithm, population: 30, generations: 8, ..Settings::default() };
            let outcome = run(&Broken(Targets::new(3, 6)), &settings, &mut rng(1)).unwrap();
            let front = sorting::non_dominated(&outcome.objectives);
            assert!(front.iter().all(|&i| outcome.genomes[i][0].is_multiple_of(2)));
        }
    }

    #[test]
    fn wrong_settings_and_problems_are_named() {
        let problem = Targets::new(2, 4);
        let with = |change: fn(&mut Settings)| {
            let mut settings = Settings { population: 8, generations: 2, ..Settings::default() };
            change(&mut settings);
            run(&problem, &settings, &mut rng(1))
        };
        let names = [
            with(|s| s.population = 0),
            with(|s| s.generations = 0),
            with(|s| s.directions = Some(0)),
            with(|s| s.crossover = 1.5),
            with(|s| s.mutation = Some(f64::NAN)),
            with(|s| s.eta = f64::INFINITY),
        ]
        .map(|result| match result {
            Err(Error::Setting { name, .. }) => name,
            other => panic!("{other:?}"),
        });
        assert_eq!(names, ["population", "generations", "directions", "crossover", "mutation", "eta"]);
        assert_eq!(with(|s| s.algorithm = Algorithm::Ga), Err(Error::SingleObjective { objectives: 2 }));
        let mut crossed = Targets::new(2, 4);
        crossed.lower[2] = 10;
        let settings = Settings::default();
        assert_eq!(
            run(&crossed, &settings, &mut rng(1)),
            Err(Error::BoundsOrder { gene: 2, lower: 10, upper: 9 })
        );
        crossed.lower.clear();
        assert_eq!(run(&crossed, &settings, &mut rng(1)), Err(Error::BoundsLength { lower: 0, upper: 4 }));
    }
}
