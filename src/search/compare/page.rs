//! The report's page of a comparison, made from `comparison.json` and from what its first search says of its data.

use super::Variant;
use super::results::{Comparison, Network, Run, Spread, VariantResult};
use crate::config::{Config, Objective};
use crate::report::{self, Band, Command, Estimate, Group, Point, Quantity};
use crate::search::about::About;
use crate::search::measure::name;
use crate::search::page::{data_facts, described, quantity};
use crate::shown;
use crate::space::show::grouped;
use std::path::Path;

/// The page of a comparison in the directory `run`, whose common configuration is `config`.
pub fn page(comparison: &Comparison, config: &Config, run: &Path) -> report::Comparison {
    let objectives = &comparison.objectives;
    let seeds: Vec<String> = comparison.seeds.iter().map(u64::to_string).collect();
    let variants: Vec<&str> = comparison.variants.iter().map(|variant| variant.name.as_str()).collect();
    // Searches of an earlier version do not say.
    let first = comparison.variants.first().and_then(|variant| Some((variant, variant.runs.first()?)));
    let about = first.and_then(|(variant, search)| {
        let variant = Variant { name: variant.name.clone(), settings: Vec::new() };
        About::read(&run.join(variant.folder(search.seed))).ok().flatten()
    });
    let (data, images) = match about {
        Some(about) => data_facts(Some(&about.data), config),
        None => (comparison.data.clone(), "–".into()),
    };
    let facts = [
        ("data", data),
        ("images", images),
        ("variants", comparison.variants.len().to_string()),
        ("seeds", seeds.join(", ")),
        ("budget", comparison.budget.clone()),
        ("reference point", reference(comparison)),
        ("profile", config.profile.to_string()),
    ];
    report::Comparison {
        title: format!("natv2 compare · {}", variants.join(", ")),
        summary: format!(
            "{} searches with {} seeds each. The best network of a search is the one with the highest accuracy \
             on the validation images, which the search saw; its test accuracy is on images that it never saw.",
            comparison.variants.len() * seeds.len(),
            seeds.len()
        ),
        facts: facts.map(|(name, value)| (name.into(), value)).into(),
        objectives: objectives.iter().map(|&objective| described(objective)).collect(),
        columns: columns(),
        groups: comparison.variants.iter().map(|variant| group(variant, objectives)).collect(),
        coverage: comparison.coverage.clone(),
        commands: comparison.variants.iter().flat_map(|variant| commands(variant, run)).collect(),
        configuration: config.to_toml(),
    }
}

/// The reference point in words.
pub fn reference(comparison: &Comparison) -> String {
    let part = |(&objective, &value): (&Objective, &f64)| match objective {
        Objective::Top1 => format!("error {value:.2} %"),
        Objective::Params => format!("{} parameters", grouped(value.round() as u64)),
        Objective::Macs => format!("{} MACs", grouped(value.round() as u64)),
        Objective::Latency => format!("{value:.3} ms"),
    };
    comparison.objectives.iter().zip(&comparison.reference).map(part).collect::<Vec<_>>().join(", ")
}

fn columns() -> Vec<Quantity> {
    vec![
        quantity("networks", ""),
        quantity("evaluations", ""),
        quantity("adaptation steps", ""),
        quantity("best top-1", "%"),
        quantity("its test top-1", "%"),
        quantity("its parameters", ""),
        quantity("its MACs", ""),
        quantity("hypervolume", ""),
        quantity("predictor tau", ""),
    ]
}

fn group(variant: &VariantResult, objectives: &[Objective]) -> Group {
    let estimate = |spread: Option<Spread>| {
        spread.map(|spread| Estimate { mean: spread.mean, deviation: spread.deviation })
    };
    let counted = |count: fn(&Run) -> f64| {
        let counts: Vec<f64> = variant.runs.iter().map(count).collect();
        estimate(Spread::of(&counts))
    };
    let point = |seed: u64, number: usize, network: &Network| Point {
        label: format!("seed {seed}, network {number}"),
        hover: name(&network.genotype),
        values: objectives.iter().map(|&objective| network.value(objective)).collect(),
    };
    let points = variant.runs.iter().flat_map(|run| {
        run.front.iter().enumerate().map(move |(index, network)| point(run.seed, index + 1, network))
    });
    Group {
        name: variant.name.clone(),
        note: variant.settings.join(" "),
        points: points.collect(),
        values: vec![
            counted(|run| run.networks as f64),
            counted(|run| run.evaluations as f64),
            counted(|run| run.adaptation_steps as f64),
            estimate(variant.top1),
            estimate(variant.test_top1),
            estimate(variant.params),
            estimate(variant.macs),
            estimate(variant.hypervolume),
            estimate(variant.tau),
        ],
        curve: curve(variant),
    }
}

/// The hypervolume of a variant by iteration, where all of its searches have one.
fn curve(variant: &VariantResult) -> Vec<Band> {
    let steps = variant.runs.iter().map(|run| run.steps.len()).min().unwrap_or(0);
    let band = |index: usize| {
        let at = |run: &Run| run.steps[index].evaluations as f64;
        let places = Spread::of(&variant.runs.iter().map(at).collect::<Vec<f64>>())?;
        let volumes: Option<Vec<f64>> = variant.runs.iter().map(|run| run.steps[index].hypervolume).collect();
        let volumes = Spread::of(&volumes?)?;
        Some(Band { at: places.mean, mean: volumes.mean, least: volumes.least, most: volumes.most })
    };
    (0..steps).filter_map(band).collect()
}

/// What to run next with the best network of each search.
fn commands(variant: &VariantResult, run: &Path) -> Vec<Command> {
    let command = |(index, search): (usize, &Run)| {
        let number = search.front.iter().position(|network| *network == search.best)? + 1;
        let folder = format!("{}-{}", variant.name, search.seed);
        Some(Command {
            purpose: format!(
                "the best network of {} with seed {}, for other programs",
                variant.name, search.seed
            ),
            line: shown::export(&run.join(&folder), number, Path::new(&format!("{folder}-{number}.onnx")))
                .to_string(),
            folded: index > 0,
        })
    };
    variant.runs.iter().enumerate().filter_map(command).collect()
}
