//! What a fine-tuning begins with: the weights and data of a search, and the networks of its front.

use super::Error;
use super::stored::StoredRun;
use crate::config::{Config, Data};
use crate::finetune::pick::Front;
use crate::finetune::{self, Picked};
use crate::run::{self, Event};
use crate::search;
use crate::search::adaptation::{ADAPTED_FILE, WIDE_ADAPTED_FILE};
use crate::shown::OfRun;
use crate::space::{Arch, Family, Space};
use crate::supernet::Supernet;
use crate::train;
use crate::train::results::{WEIGHTS_FILE, WIDE_WEIGHTS_FILE};
use std::path::{Path, PathBuf};

/// The configuration with the data and weights of the search in `source` where it gives none itself.
///
/// # Errors
/// No run, or one whose configuration cannot be read or names files that are not there.
pub fn inherit(config: &Config, source: &Path) -> Result<Config, Error> {
    let mut own = config.clone();
    let stored = StoredRun::read(source)?;
    let theirs = stored.config.clone();
    if own.data.name.is_none() {
        // What happens to images may be another than in the search's adaptation.
        let augmentation = own.data.augmentation.or(theirs.data.augmentation);
        own.data = Data { augmentation, ..theirs.data };
    }
    if own.supernet.weights.is_none() {
        own.supernet = theirs.supernet;
    }
    stored.check(Weights::found(source, &own).files().chain(own.data.dir.as_deref()))?;
    Ok(own)
}

/// Files of weights: of a super-network, and of a wider second one where there are two. Without a
/// first one it is the built-in super-network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Weights {
    /// The narrower, or the only one.
    pub narrow: Option<PathBuf>,
    /// The wider.
    pub wide: Option<PathBuf>,
}

impl Weights {
    /// Two files of a run directory, if the first is there.
    fn of(run: &Path, narrow: &str, wide: &str) -> Option<Weights> {
        let file = |name: &str| Some(run.join(name)).filter(|file| file.exists());
        file(narrow).map(|narrow| Weights { narrow: Some(narrow), wide: file(wide) })
    }

    /// Those that a run directory's training has left, else the configuration's.
    pub fn trained(run: &Path, config: &Config) -> Weights {
        Weights::of(run, WEIGHTS_FILE, WIDE_WEIGHTS_FILE).unwrap_or_else(|| Weights {
            narrow: config.supernet.weights.clone(),
            wide: config.supernet.wide_weights.clone(),
        })
    }

    /// Those that the networks of a run directory belong to: adapted by its search, else as
    /// [`Weights::trained`].
    pub fn found(run: &Path, config: &Config) -> Weights {
        Weights::of(run, ADAPTED_FILE, WIDE_ADAPTED_FILE).unwrap_or_else(|| Weights::trained(run, config))
    }

    /// The files that there are to be.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.narrow, &self.wide].into_iter().filter_map(|file| file.as_deref())
    }

    /// The commands that are shown about a run whose networks belong to these; `tested` is whether its front
    /// was measured on test images.
    pub fn commands<'a>(&'a self, run: &'a Path, config: &'a Config, tested: bool) -> OfRun<'a> {
        OfRun { run, config, weights: self.narrow.as_deref(), wide_weights: self.wide.as_deref(), tested }
    }

    /// The super-networks, ascending by width, and the space of both.
    ///
    /// # Errors
    /// Weights that cannot be read, do not fit or do not go together.
    pub fn load(&self, family: Option<Family>) -> Result<(Vec<Supernet>, Space), Error> {
        Ok(Supernet::open_all(self.narrow.as_deref(), self.wide.as_deref(), family)?)
    }
}

/// The weights that the networks of a run's front belong to, where it has one.
///
/// # Errors
/// They are not there, since the run is not over or they were lost: with others, accuracies would be others.
pub fn weights(run: &Path, config: &Config) -> Result<Weights, Error> {
    if run.join("front.json").exists() {
        let adapted = |event: &Event| event.stage == search::STAGE && event.kind == "adaptation";
        let trained = ["train", "warmup"].iter().any(|stage| run.join("checkpoints").join(stage).exists());
        let needed = if run::events(run)?.iter().any(adapted) {
            Some(ADAPTED_FILE)
        } else {
            trained.then_some(WEIGHTS_FILE)
        };
        if let Some(file) = needed.map(|name| run.join(name)).filter(|file| !file.exists()) {
            let reason = "the run's networks belong to these weights, and they are not there: the run is not over, \
                          or they were lost";
            let file = file.display().to_string();
            return Err(finetune::Error::Result { file, reason: reason.into() }.into());
        }
    }
    Ok(Weights::found(run, config))
}

/// The super-networks that the networks of a run directory belong to, and their space.
///
/// # Errors
/// As [`weights()`] and [`Weights::load`].
pub fn supernets_of_front(run: &Path, config: &Config) -> Result<(Vec<Supernet>, Space), Error> {
    weights(run, config)?.load(super::options(config).family)
}

/// The same for an unfinished run too, where what matters is their shape.
///
/// # Errors
/// As [`Weights::load`].
pub fn supernets(run: &Path, config: &Config) -> Result<(Vec<Supernet>, Space), Error> {
    let family = config.supernet.family;
    Weights::found(run, config).load(family)
}

/// The networks that `[finetune]` asks for, of the front in `source` or one that is given.
///
/// # Errors
/// No front, one that cannot be read, or limits that leave nothing; an architecture that is none.
pub fn pick(config: &Config, source: &Path, supernets: &[Supernet]) -> Result<Vec<Picked>, Error> {
    if let Some(text) = &config.finetune.arch {
        let place = "finetune.arch".to_string();
        let text = if text.trim_start().starts_with('{') {
            text.clone()
        } else {
            std::fs::read_to_string(text).map_err(|e| Error::Unusable {
                place: format!("finetune.arch = {text}"),
                reason: format!("{e}: give an architecture in JSON, or a file with it"),
            })?
        };
        let given = supernets.first().map(|supernet| Arch::parse(supernet.family, &text));
        let arch = given.ok_or(train::Error::NoSupernet)?.map_err(|source| Error::Given { place, source })?;
        return Ok(vec![Picked::given(supernets, &arch)]);
    }
    let file = source.join("front.json");
    let place = file.display().to_string();
    let bytes = std::fs::read(&file).map_err(|error| Error::Unusable {
        place: place.clone(),
        reason: format!(
            "{error}: there is no front to pick from; search first, and give its run directory with \
             --set finetune.search=DIR, or one network with --set finetune.arch=FILE"
        ),
    })?;
    Ok(Front::parse(&bytes, &place, supernets)?.pick(&config.finetune)?)
}
