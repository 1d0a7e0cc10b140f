//! What a fine-tuning begins with: the weights and data of a search, and the networks of its front.

use super::Error;
use crate::config::{self, Config};
use crate::evaluator::{load_supernet, together};
use crate::finetune::Picked;
use crate::finetune::pick::Front;
use crate::search::adaptation::{ADAPTED_FILE, WIDE_ADAPTED_FILE};
use crate::space::{Arch, Family, Space};
use crate::supernet::Supernet;
use crate::train;
use crate::train::results::{WEIGHTS_FILE, WIDE_WEIGHTS_FILE};
use std::path::{Path, PathBuf};

/// The configuration with the data and weights of the search in `source` where it gives none itself.
///
/// # Errors
/// No run, or one whose configuration cannot be read.
pub fn inherit(config: &Config, source: &Path) -> Result<Config, config::Error> {
    let mut own = config.clone();
    let theirs = config::load("search", Some(&source.join("config.toml")), &[], None)?;
    if own.data.name.is_none() {
        // What happens to images may be another than in the search's adaptation.
        let augmentation = own.data.augmentation.or(theirs.data.augmentation);
        own.data = config::Data { augmentation, ..theirs.data };
    }
    if own.supernet.weights.is_none() {
        own.supernet = theirs.supernet;
    }
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

    /// The super-networks, ascending by width, and the space of both.
    ///
    /// # Errors
    /// Weights that cannot be read, do not fit or do not go together.
    pub fn load(&self, family: Option<Family>) -> Result<(Vec<Supernet>, Space), Error> {
        let mut supernets = vec![load_supernet(self.narrow.as_deref(), family)?];
        if let Some(wide) = &self.wide {
            supernets.push(load_supernet(Some(wide), family)?);
        }
        Ok(together(supernets)?)
    }
}

/// The super-networks that the networks of a run directory belong to, and their space.
///
/// # Errors
/// As [`Weights::load`].
pub fn supernets(run: &Path, config: &Config) -> Result<(Vec<Supernet>, Space), Error> {
    let family = config.supernet.family.map(|family| family.as_str().parse()).transpose()?;
    Weights::found(run, config).load(family)
}

/// The networks that `[finetune]` asks for, of the front in `source` or one that is given.
///
/// # Errors
/// No front, one that cannot be read, or limits that leave nothing; an architecture that is none.
pub fn pick(config: &Config, source: &Path, supernets: &[Supernet]) -> Result<Vec<Picked>, Error> {
    if let Some(text) = &config.finetune.arch {
        let place = "finetune.arch".to_string();
        let text = match text.trim_start().starts_with('{') {
            true => text.clone(),
            false => std::fs::read_to_string(text).map_err(|e| Error::Missing {
                place: format!("finetune.arch = {text}"),
                reason: format!("{e}: give an architecture in JSON, or a file with it"),
            })?,
        };
        let given = supernets.first().map(|supernet| Arch::parse(supernet.family, &text));
        let arch = given.ok_or(train::Error::NoSupernet)?.map_err(|source| Error::Given { place, source })?;
        return Ok(vec![Picked::given(supernets, &arch)]);
    }
    let file = source.join("front.json");
    let place = file.display().to_string();
    let bytes = std::fs::read(&file).map_err(|error| Error::Missing {
        place: place.clone(),
        reason: format!(
            "{error}: there is no front to pick from; search first, and give its run directory with \
             --set finetune.search=DIR, or one network with --set finetune.arch=FILE"
        ),
    })?;
    Ok(Front::parse(&bytes, &place, supernets)?.pick(&config.finetune)?)
}
