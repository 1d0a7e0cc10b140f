//! What a fine-tuning begins with: the weights and data of a search, and the networks of its front.

use super::Error;
use crate::config::{self, Config};
use crate::evaluator::load_supernet;
use crate::finetune::Picked;
use crate::finetune::pick::Front;
use crate::search::adaptation::ADAPTED_FILE;
use crate::space::Arch;
use crate::supernet::Supernet;
use crate::train::results::WEIGHTS_FILE;
use std::path::{Path, PathBuf};

/// The configuration with the data and weights of the search in `source` where it gives none itself.
///
/// # Errors
/// No run, or one whose configuration cannot be read.
pub fn inherit(config: &Config, source: &Path) -> Result<Config, config::Error> {
    let mut own = config.clone();
    let theirs = config::load("search", Some(&source.join("config.toml")), &[], None)?;
    if own.data.name.is_none() {
        own.data = theirs.data;
    }
    if own.supernet.weights.is_none() {
        own.supernet = theirs.supernet;
    }
    Ok(own)
}

/// The weights that the networks of a run directory belong to: those that its search has adapted,
/// else those that it has trained, else the configuration's; `None` is the built-in super-network.
pub fn weights_of(run: &Path, config: &Config) -> Option<PathBuf> {
    let own = [ADAPTED_FILE, WEIGHTS_FILE].map(|name| run.join(name)).into_iter().find(|file| file.exists());
    own.or_else(|| config.supernet.weights.clone())
}

/// Those weights, loaded.
///
/// # Errors
/// Weights that cannot be read or do not fit.
pub fn supernet(run: &Path, config: &Config) -> Result<Supernet, Error> {
    let family = config.supernet.family.map(|family| family.as_str().parse()).transpose()?;
    Ok(load_supernet(weights_of(run, config).as_deref(), family)?)
}

/// The networks that `[finetune]` asks for, of the front in `source` or one that is given.
///
/// # Errors
/// No front, one that cannot be read, or limits that leave nothing; an architecture that is none.
pub fn pick(config: &Config, source: &Path, supernet: &Supernet) -> Result<Vec<Picked>, Error> {
    if let Some(text) = &config.finetune.arch {
        let place = "finetune.arch".to_string();
        let text = match text.trim_start().starts_with('{') {
            true => text.clone(),
            false => std::fs::read_to_string(text).map_err(|e| Error::Missing {
                place: format!("finetune.arch = {text}"),
                reason: format!("{e}: give an architecture in JSON, or a file with it"),
            })?,
        };
        let arch = Arch::parse(supernet.family, &text).map_err(|source| Error::Given { place, source })?;
        return Ok(vec![Picked::given(supernet, &arch)]);
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
    Ok(Front::parse(&bytes, &place, supernet)?.pick(&config.finetune)?)
}
