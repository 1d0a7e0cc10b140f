//! The networks of a run by name: the one place that decides what "network N of run R" is.
//!
//! A network that the run fine-tuned is what fine-tuning made of it, with its exits, their weights and its
//! statistics. Any other network is a part of the super-network, and so is one that is asked for as it was
//! inherited.

use super::found::{self, Weights, weights};
use super::{Error, finetune};
use crate::config::Config;
use crate::evaluator::Options;
use crate::export::{Accuracies, NetworkState};
use crate::finetune::{Finetuned, results};
use crate::space::{Arch, Space, numbers};
use crate::supernet::{Supernet, of_width};
use crate::train;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The networks of a run.
#[derive(Debug)]
pub struct Networks {
    run: PathBuf,
    /// The run whose search found them: this one, or that which its fine-tuning names.
    source: PathBuf,
    config: Config,
    weights: Weights,
    supernets: Vec<Supernet>,
    space: Space,
    /// Rows of `front.json` with their numbers.
    front: Vec<(usize, Value)>,
    tuned: Vec<Finetuned>,
}

/// A network of a run in one of its states.
#[derive(Debug)]
pub struct Chosen {
    /// Its number in the front, if it has one.
    pub number: Option<usize>,
    /// The state.
    pub state: NetworkState,
    /// The architecture, as these weights have it.
    pub arch: Arch,
    /// What it is taken out of: a super-network, or itself as a stand-alone network.
    pub supernet: Supernet,
    /// Its files.
    pub weights: Weights,
    /// What the run has measured of it and its own card does not say.
    pub known: Accuracies,
}

impl Networks {
    /// The networks of the run in `run`, whose configuration is `config`.
    ///
    /// # Errors
    /// Results or weights that cannot be read; weights that are lost.
    pub fn open(run: &Path, config: &Config) -> Result<Networks, Error> {
        let elsewhere = config.finetune.search.as_deref().filter(|_| !run.join(FRONT).exists());
        let source = elsewhere.unwrap_or(run).to_path_buf();
        let config = match elsewhere {
            Some(source) => found::inherit(config, source)?,
            None => config.clone(),
        };
        let family = super::options(&config).family;
        let weights = weights(&source, &config)?;
        let (supernets, space) = weights.load(family)?;
        let front = rows(&source.join(FRONT))?;
        let tuned = finetune::Summary::read(run)?.map(|summary| summary.networks).unwrap_or_default();
        Ok(Networks { run: run.into(), source, config, weights, supernets, space, front, tuned })
    }

    /// Whether the run has neither a front nor fine-tuned networks yet.
    pub fn is_empty(&self) -> bool {
        self.front.is_empty() && self.tuned.is_empty()
    }

    /// The search space of the networks.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The run's data, and settings that go with them; its weights are a [`Chosen`]'s.
    pub fn options(&self) -> Options {
        super::options(&self.config)
    }

    /// The network with a number.
    ///
    /// # Errors
    /// No such number: says which there are. Files that are damaged.
    pub fn numbered(&self, number: usize, inherited: bool) -> Result<Chosen, Error> {
        let Some((_, row)) = self.front.iter().find(|(other, _)| *other == number) else {
            // A fine-tuning whose front has gone, or that was given its network.
            let tuned = self.tuned.iter().find(|tuned| tuned.number == number);
            let tuned = tuned.ok_or_else(|| self.no_such(number))?;
            let arch = self.parse(&tuned.picked, &self.run.join(results::SUMMARY_FILE), number)?;
            return self.chosen(&arch, Some(number), Accuracies::default(), inherited);
        };
        let arch = self.parse(&row["arch"], &self.source.join(FRONT), number)?;
        self.chosen(&arch, Some(number), measured(row), inherited)
    }

    /// The network with an architecture, whether the search has found it or not.
    ///
    /// # Errors
    /// Files that are damaged.
    pub fn with(&self, arch: &Arch, inherited: bool) -> Result<Chosen, Error> {
        let alike = |row: &Value| self.alike(&row["arch"], arch);
        if let Some((number, row)) = self.front.iter().find(|(_, row)| alike(row)) {
            return self.chosen(arch, Some(*number), measured(row), inherited);
        }
        let archive = rows(&self.source.join("archive.json"))?;
        let known = archive.iter().find(|(_, row)| alike(row)).map(|(_, row)| measured(row));
        self.chosen(arch, None, known.unwrap_or_default(), inherited)
    }

    /// The state of a network that is asked for.
    fn chosen(
        &self,
        arch: &Arch,
        number: Option<usize>,
        known: Accuracies,
        inherited: bool,
    ) -> Result<Chosen, Error> {
        let tuned = self.tuned.iter().find(|tuned| !inherited && self.alike(&tuned.picked, arch));
        let Some(tuned) = tuned else {
            let supernet = of_width(&self.supernets, arch).or(self.supernets.first());
            let supernet = supernet.ok_or(train::Error::NoSupernet)?.clone();
            let (arch, state, weights) = (arch.clone(), NetworkState::Inherited, self.weights.clone());
            return Ok(Chosen { number, state, arch, supernet, weights, known });
        };
        let (file, supernet) = results::read(&self.run, tuned)?;
        let Some((arch, _)) = supernet.network() else {
            let reason = "it is a super-network".into();
            return Err(finetune::Error::Result { file: file.display().to_string(), reason }.into());
        };
        let (arch, weights) = (arch.clone(), Weights { narrow: Some(file), wide: None });
        // Its card says what is known of it.
        let known = Accuracies::default();
        Ok(Chosen { number, state: tuned.state, arch, supernet, weights, known })
    }

    /// Whether an architecture of a file is this one.
    fn alike(&self, value: &Value, arch: &Arch) -> bool {
        let other = Arch::from_json(self.space.family(), value);
        // One that was given without a width is of the only one.
        other.is_ok_and(|other| {
            Arch { w: arch.w.and(other.w), ..other }.canonical()
                == Arch { w: other.w.and(arch.w), ..arch.clone() }.canonical()
        })
    }

    fn parse(&self, value: &Value, file: &Path, number: usize) -> Result<Arch, Error> {
        let place = || format!("{}, network {number}", file.display());
        Arch::from_json(self.space.family(), value).map_err(|source| Error::Given { place: place(), source })
    }

    fn no_such(&self, number: usize) -> Error {
        let mut numbers: Vec<usize> = self.front.iter().map(|(number, _)| *number).collect();
        numbers.extend(self.tuned.iter().map(|tuned| tuned.number).filter(|_| self.front.is_empty()));
        numbers.sort_unstable();
        let place = format!("network {number} of {}", self.run.display());
        let reason = if numbers.is_empty() {
            "the run has no front yet: let the search finish its first iteration".into()
        } else if numbers.iter().enumerate().all(|(index, number)| index + 1 == *number) {
            format!("the front has networks 1 to {}", numbers.len())
        } else {
            let list: Vec<String> = numbers.iter().map(usize::to_string).collect();
            format!("the front has networks {}", list.join(", "))
        };
        Error::Unusable { place, reason }
    }
}

const FRONT: &str = "front.json";

/// What a row says of accuracies.
fn measured(row: &Value) -> Accuracies {
    Accuracies { validation: row["top1"].as_f64(), test: row["test_top1"].as_f64() }
}

/// The networks of a file of a search, with their numbers where they are those of a front; none where there
/// is no such file yet.
fn rows(file: &Path) -> Result<Vec<(usize, Value)>, Error> {
    let fail = |reason: String| {
        let file = file.display().to_string();
        Error::from(finetune::Error::Result { file, reason })
    };
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(format!("it cannot be read ({error})"))),
    };
    let value: Value = serde_json::from_str(&text)
        .map_err(|e| fail(format!("it is damaged ({e}), or of another version")))?;
    let Value::Array(rows) = &value["networks"] else {
        return Err(fail("it has no list `networks`".into()));
    };
    let numbers =
        if file.ends_with(FRONT) { numbers::listed(rows).map_err(fail)? } else { vec![0; rows.len()] };
    Ok(numbers.into_iter().zip(rows.iter().cloned()).collect())
}
