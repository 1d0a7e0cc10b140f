//! One stage after the other, from where the run directory stands.

use super::training::{self, Stage};
use super::{Error, found, options};
use crate::config::Config;
use crate::device::Device;
use crate::evaluator::{Evaluator, Options};
use crate::export::{self, onnx};
use crate::finetune::{self, Inputs, finetune};
use crate::run::{Output, RunDirectory, StopFlag};
use crate::search::{self, State, page, search};
use crate::space::Space;
use crate::supernet::Network;
use crate::train;
use crate::train::material::dataset;
use crate::train::results::WEIGHTS_FILE;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The page's file in a run directory.
pub const REPORT_FILE: &str = "report.html";

/// What a whole run came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Version of this form.
    pub version: u32,
    /// The run directory.
    pub run: String,
    /// What the training or the warm-up came to, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<train::results::Summary>,
    /// What the search came to.
    #[serde(flatten)]
    pub search: search::results::Summary,
    /// The networks that were fine-tuned.
    pub networks: Vec<finetune::Finetuned>,
    /// Their files for other programs, in the same order.
    pub exported: Vec<String>,
}

/// How a whole run ended.
#[derive(Debug)]
pub enum Outcome {
    /// It is over.
    Finished(Box<Summary>),
    /// A stop was asked for; the same call goes on.
    Stopped,
}

/// Runs every stage that `config` needs in `run`, from where it stands: training or warm-up, search,
/// fine-tuning, export, report. `prepared` is the training, if [`training::needed`] says that there
/// is one.
///
/// # Errors
/// A stage fails; the run directory is as it was at its last checkpoint.
pub fn whole(
    config: &Config,
    prepared: Option<training::Prepared<'_>>,
    device: &Arc<dyn Device>,
    run: &RunDirectory,
    stop: &StopFlag,
    output: Output,
) -> Result<Outcome, Error> {
    let mut summary = None;
    if let Some(prepared) = prepared {
        output.note(match prepared.task.stage {
            stage if stage == Stage::Warmup.name() => "warm-up of the super-network on the data set",
            _ => "training the super-network",
        });
        summary = prepared.run(device.clone(), run, stop, output)?;
        if summary.is_none() {
            return Ok(Outcome::Stopped);
        }
    }
    let trained = summary.is_some().then(|| run.path().join(WEIGHTS_FILE));
    let evaluator = evaluator(config, trained, device)?;
    output.note("searching");
    let (found, state) = match search(config, &evaluator, run, stop, output)? {
        search::Outcome::Stopped => return Ok(Outcome::Stopped),
        search::Outcome::Finished(found, state) => (found, state),
    };
    output.note("fine-tuning what was found");
    let supernet = match state.adaptation.steps {
        0 => evaluator.engine().supernet().clone(),
        _ => found::supernet(run.path(), config)?,
    };
    let dataset = Arc::new(dataset(config, Some(&supernet.card)).map_err(Error::from)?);
    let picked = found::pick(config, run.path(), &supernet)?;
    let settings = (config.seed, &config.finetune, &config.train);
    let inputs = Inputs::new(settings, config.data.augmentation, supernet, dataset, picked)?;
    let tuned = match finetune(&inputs, device.clone(), run, stop, output)? {
        finetune::Outcome::Stopped => return Ok(Outcome::Stopped),
        finetune::Outcome::Finished(tuned) => tuned,
    };
    let exported =
        tuned.networks.iter().map(|network| export_onnx(run, network)).collect::<Result<_, _>>()?;
    let classes = evaluator.engine().supernet().classes();
    write_report(run, evaluator.space(), classes, config, &state)?;
    Ok(Outcome::Finished(Box::new(Summary {
        version: 1,
        run: run.path().display().to_string(),
        training: summary,
        search: found,
        networks: tuned.networks,
        exported,
    })))
}

/// The super-network of a search on its data: with the weights given, else the configuration's.
///
/// # Errors
/// As [`Evaluator::open`].
pub fn evaluator(
    config: &Config,
    weights: Option<PathBuf>,
    device: &Arc<dyn Device>,
) -> Result<Evaluator, Error> {
    let own = options(config)?;
    let weights = weights.or(own.weights);
    Ok(Evaluator::open(&Options { weights, ..own }, device.clone())?)
}

/// The name of a fine-tuned network's file for other programs.
fn onnx_file(weights: &str) -> String {
    Path::new(weights).with_extension("onnx").display().to_string()
}

/// Writes a fine-tuned network for other programs, its batch norms folded.
fn export_onnx(run: &RunDirectory, tuned: &finetune::Finetuned) -> Result<String, Error> {
    let network = Network::load(&run.path().join(&tuned.weights))?;
    let weights = tuned.ensemble().map(|ensemble| ensemble.weights);
    let options = onnx::Options { fold: true, weights, each_exit: false };
    let bytes = onnx::model(&network, &options, &export::metadata(&network))?;
    let name = onnx_file(&tuned.weights);
    run.write_atomic(&name, &bytes)?;
    Ok(name)
}

/// Writes the page of a search into its run directory.
///
/// # Errors
/// A genotype of another space; writing fails.
pub fn write_report(
    run: &RunDirectory,
    space: &Space,
    classes: usize,
    config: &Config,
    state: &State,
) -> Result<(), Error> {
    let page = page::page(space, classes, config, state, &run.path().display().to_string())?;
    Ok(run.write_atomic(REPORT_FILE, crate::report::render(&page).as_bytes())?)
}
