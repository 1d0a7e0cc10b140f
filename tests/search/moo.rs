//! Multi-objective routines against values of pymoo 0.6.2 (`nsga3.json`) and of the decision-making
//! rules (`selection.json`). The files alone say what is checked; any others of the same form,
//! in the folder that `NATV2_GOLDEN` names, can take their place.

use natv2::moo::{
    Points, directions, hypervolume, normalisation::Normalisation, nsga3::Directions, sorting, subset,
    tradeoff,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;

fn golden<T: DeserializeOwned>(name: &str) -> T {
    let folder = std::env::var_os("NATV2_GOLDEN")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), PathBuf::from);
    let path = folder.join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Equal to 1e-9 relative. Distances that should be zero are so but for the rounding of objectives
/// of order one.
#[track_caller]
fn close(found: f64, expected: f64, what: &str) {
    assert!(
        (found - expected).abs() <= 1e-9 * expected.abs() + 1e-14,
        "{what}: {found}, expected {expected}"
    );
}

#[track_caller]
fn all_close(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    found.iter().zip(expected).for_each(|(&f, &e)| close(f, e, what));
}

fn points(rows: &[Vec<f64>]) -> Points {
    Points::from_rows(rows[0].len(), rows)
}

#[derive(Deserialize)]
struct Nsga3 {
    das_dennis: Vec<DasDennis>,
    sorting: Vec<Sorting>,
    hypervolume: Vec<Hypervolume>,
    survival: Vec<Survival>,
}

#[derive(Deserialize)]
struct DasDennis {
    objectives: usize,
    partitions: usize,
    count: usize,
    sum_of_squares: f64,
    first: Vec<f64>,
    last: Vec<f64>,
}

#[derive(Deserialize)]
struct Sorting {
    objectives: Vec<Vec<f64>>,
    fronts: Vec<Vec<usize>>,
}

#[derive(Deserialize)]
struct Hypervolume {
    objectives: Vec<Vec<f64>>,
    reference: Vec<f64>,
    value: f64,
}

#[derive(Deserialize)]
struct Survival {
    objectives: Vec<Vec<f64>>,
    partitions: usize,
    ideal: Vec<f64>,
    nadir: Vec<f64>,
    extreme_points: Vec<Vec<f64>>,
    niche_of_individual: Vec<usize>,
    distance_to_niche: Vec<f64>,
}

#[test]
fn golden_nsga3() {
    let golden: Nsga3 = golden("nsga3.json");
    let sections =
        [golden.das_dennis.len(), golden.sorting.len(), golden.hypervolume.len(), golden.survival.len()];
    assert!(sections.iter().all(|&n| n > 0), "a section without cases: {sections:?}");

    for case in golden.das_dennis {
        let lattice = directions::das_dennis(case.objectives, case.partitions);
        assert_eq!(lattice.len(), case.count);
        close(lattice.rows().flatten().map(|x| x * x).sum(), case.sum_of_squares, "sum of squares");
        all_close(lattice.row(0), &case.first, "first direction");
        all_close(lattice.row(case.count - 1), &case.last, "last direction");
    }
    for (i, case) in golden.sorting.iter().enumerate() {
        let mut expected = case.fronts.clone();
        expected.iter_mut().for_each(|front| front.sort_unstable());
        assert_eq!(sorting::fronts(&points(&case.objectives)), expected, "sorting {i}");
        assert_eq!(sorting::fronts_plain(&points(&case.objectives)), expected, "plain sorting {i}");
    }
    for (i, case) in golden.hypervolume.iter().enumerate() {
        let points = points(&case.objectives);
        close(hypervolume::hypervolume(&points, &case.reference), case.value, &format!("hypervolume {i}"));
    }
    for (i, case) in golden.survival.iter().enumerate() {
        let points = points(&case.objectives);
        let mut normalisation = Normalisation::new(points.dimension());
        normalisation.update(&points, &sorting::non_dominated(&points));
        all_close(normalisation.ideal(), &case.ideal, &format!("survival {i}, ideal"));
        all_close(normalisation.nadir(), &case.nadir, &format!("survival {i}, nadir"));
        let extremes = normalisation.extreme_points();
        assert_eq!(extremes.len(), case.extreme_points.len());
        for (found, expected) in extremes.rows().zip(&case.extreme_points) {
            all_close(found, expected, &format!("survival {i}, extreme points"));
        }
        let lattice = directions::das_dennis(points.dimension(), case.partitions);
        let all: Vec<usize> = (0..points.len()).collect();
        let association =
            Directions::new(lattice).associate(&points, &all, normalisation.ideal(), normalisation.nadir());
        assert_eq!(association.niche, case.niche_of_individual, "survival {i}");
        all_close(&association.distance, &case.distance_to_niche, &format!("survival {i}, distances"));
    }
}

#[derive(Deserialize)]
struct Selection {
    high_tradeoff: Vec<HighTradeoff>,
    spacing: Vec<Spacing>,
}

#[derive(Deserialize)]
struct HighTradeoff {
    objectives: Vec<Vec<f64>>,
    /// `null` stands for infinity.
    mu: Vec<Option<f64>>,
    best4: Vec<usize>,
}

#[derive(Deserialize)]
struct Spacing {
    front: Vec<Vec<f64>>,
    selected: Vec<Vec<f64>>,
    fitness: f64,
}

#[test]
fn golden_selection() {
    let golden: Selection = golden("selection.json");
    assert!(!golden.high_tradeoff.is_empty() && !golden.spacing.is_empty(), "a section without cases");
    for (i, case) in golden.high_tradeoff.iter().enumerate() {
        let points = points(&case.objectives);
        let mu = tradeoff::tradeoff(&points);
        assert_eq!(mu.len(), case.mu.len());
        for (&found, expected) in mu.iter().zip(&case.mu) {
            match expected {
                Some(expected) => close(found, *expected, &format!("trade-off {i}")),
                None => assert_eq!(found, f64::INFINITY, "trade-off {i}"),
            }
        }
        let mut best4 = case.best4.clone();
        best4.sort_unstable();
        assert_eq!(tradeoff::best(&points, 4), best4, "trade-off {i}");
    }
    for (i, case) in golden.spacing.iter().enumerate() {
        close(
            subset::fitness(&points(&case.front), &points(&case.selected)),
            case.fitness,
            &format!("spacing {i}"),
        );
    }
}
