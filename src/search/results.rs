//! What a search leaves for others: `archive.json`, `front.json`, and the object that `--json` prints.
//!
//! Neither file holds a time, a path or a machine's name, so equal runs give equal bytes.

use super::adaptation::{ADAPTED_FILE, WIDE_ADAPTED_FILE};
use super::{Archive, Entry, Error, STAGE, State};
use crate::config::{Config, Objective};
use crate::run;
use crate::space::numbers::Place;
use crate::space::{self, Arch, Genotype, Space};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Version of the form of all three.
pub const VERSION: u32 = 1;

/// A network as the files list it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Network {
    /// Its number in the front; none where it is not in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<usize>,
    /// Its canonical genotype.
    pub genotype: Genotype,
    /// Its architecture.
    pub arch: Arch,
    /// Validation accuracy, per cent.
    pub top1: f64,
    /// Trainable parameters.
    pub params: u64,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Milliseconds of a forward pass, where the search measures it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// Test accuracy, per cent; of a front, once its search is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_top1: Option<f64>,
}

#[derive(Serialize)]
struct File<'a> {
    version: u32,
    objectives: &'a [Objective],
    networks: Vec<Network>,
}

/// Networks sorted by genotype, those of the front with their numbers.
fn networks(
    space: &Space,
    entries: &[Entry],
    front: &[Entry],
    test: Option<&[f64]>,
) -> Result<Vec<Network>, Error> {
    let numbers: BTreeMap<&Genotype, usize> =
        front.iter().map(|entry| &entry.genotype).zip(numbers(front)).collect();
    let network = |(index, entry): (usize, &Entry)| {
        Ok(Network {
            number: numbers.get(&entry.genotype).copied(),
            genotype: entry.genotype.clone(),
            arch: space.decode(&entry.genotype)?,
            top1: entry.top1(),
            params: entry.cost.params,
            macs: entry.cost.macs,
            latency_ms: entry.latency_ms,
            test_top1: test.map(|test| test[index]),
        })
    };
    let mut networks: Vec<Network> = entries.iter().enumerate().map(network).collect::<Result<_, Error>>()?;
    networks.sort_by(|a, b| a.genotype.cmp(&b.genotype));
    Ok(networks)
}

/// The number of each network of a front, from 1.
pub fn numbers(front: &[Entry]) -> Vec<usize> {
    let places: Vec<Place<'_>> = front.iter().map(|entry| (entry.cost.macs, Some(&entry.genotype))).collect();
    space::numbers::numbers(&places)
}

/// The front of a state.
///
/// # Errors
/// A genotype of another space.
pub fn front(space: &Space, config: &Config, state: &State) -> Result<Vec<Network>, Error> {
    let front = state.archive.front(&config.search.objectives);
    networks(space, &front, &front, state.test_top1.as_deref())
}

/// The bytes of `archive.json` and `front.json`.
///
/// # Errors
/// A genotype of another space.
pub fn files(space: &Space, config: &Config, state: &State) -> Result<[(&'static str, Vec<u8>); 2], Error> {
    let render = |networks: Vec<Network>| {
        let file = File { version: VERSION, objectives: &config.search.objectives, networks };
        let mut bytes = serde_json::to_vec_pretty(&file).expect("networks hold nothing that JSON cannot");
        bytes.push(b'\n');
        bytes
    };
    let front_entries = state.archive.front(&config.search.objectives);
    let archive = networks(space, &state.archive.entries, &front_entries, None)?;
    Ok([("archive.json", render(archive)), ("front.json", render(front(space, config, state)?))])
}

/// The front after an iteration as the journal keeps it, so that hypervolumes can be computed for
/// another reference point later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrontPoints {
    /// The iteration; 0 is the initial archive.
    pub iteration: u64,
    /// A row of objectives for each network, all minimised (accuracy as error in per cent).
    pub points: Vec<Vec<f64>>,
}

impl FrontPoints {
    /// The kind of the journal's event.
    pub const EVENT: &str = "front";

    /// The fronts that the journal of the run in `path` holds, by iteration.
    ///
    /// # Errors
    /// A journal that is damaged.
    pub fn read(path: &Path) -> Result<Vec<FrontPoints>, Error> {
        let fronts = run::events(path)?.into_iter();
        let fronts = fronts.filter(|event| event.stage == STAGE && event.kind == FrontPoints::EVENT);
        Ok(fronts.filter_map(|event| serde_json::from_value(event.data).ok()).collect())
    }

    /// The front of an archive.
    pub fn of(archive: &Archive, objectives: &[Objective], iteration: u64) -> FrontPoints {
        let points = super::points(&archive.front(objectives), objectives);
        FrontPoints { iteration, points: points.rows().map(<[f64]>::to_vec).collect() }
    }
}

/// What `natv2 search --json` prints at its end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Version of this form.
    pub version: u32,
    /// The run directory.
    pub run: String,
    /// The front, sorted by genotype.
    pub front: Vec<Network>,
    /// Share of the reference box that the archive dominates.
    pub hypervolume: f64,
    /// Networks evaluated.
    pub evaluations: usize,
    /// The adapted super-network's file, which the accuracies belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// That of the wider one, where there are two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wide_weights: Option<String>,
}

impl Summary {
    /// The summary of a finished search.
    ///
    /// # Errors
    /// A genotype of another space.
    pub fn new(
        space: &Space,
        config: &Config,
        state: &State,
        run: &std::path::Path,
    ) -> Result<Summary, Error> {
        let adapted = state.adaptation.steps > 0;
        let file = |name: &str| run.join(name).display().to_string();
        Ok(Summary {
            version: VERSION,
            run: run.display().to_string(),
            front: front(space, config, state)?,
            hypervolume: state.history.last().map_or(0.0, |last| last.hypervolume),
            evaluations: state.evaluations,
            weights: adapted.then(|| file(ADAPTED_FILE)),
            wide_weights: (adapted && space.widths().len() > 1).then(|| file(WIDE_ADAPTED_FILE)),
        })
    }
}
