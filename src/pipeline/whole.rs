//! One stage after the other, from where the run directory stands.

use super::found::{self, Weights};
use super::training::{self, Stage, Trained};
use super::{Error, options};
use crate::config::Config;
use crate::device::Device;
use crate::evaluator::{Evaluator, Options};
use crate::export::{self, onnx};
use crate::finetune::{self, Inputs, finetune};
use crate::run::{Output, RunDirectory, StopFlag};
use crate::search::about::About;
use crate::search::results::FrontPoints;
use crate::search::{self, State, page, search};
use crate::shown::OfRun;
use crate::space::Space;
use crate::supernet::Network;
use crate::train::results::WEIGHTS_FILE;
use serde::Serialize;
use std::path::Path;
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
    pub training: Option<Trained>,
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

/// What a whole run begins with.
pub enum FirstStage<'a> {
    /// A training or a warm-up.
    Training(training::LoadedTraining<'a>),
    /// A search of weights that are ready for it.
    Search(Box<Evaluator>),
}

/// Loads what a whole run in the directory `run`, which need not exist, begins with.
///
/// # Errors
/// Weights or data that cannot be read, or that do not belong together.
pub fn begin<'a>(config: &'a Config, run: &Path, device: &Arc<dyn Device>) -> Result<FirstStage<'a>, Error> {
    Ok(match training::needed(config)? {
        Some(stage) => {
            let prepared = training::prepare(config, stage)?;
            prepared.check_search(config.search.calibration_images)?;
            FirstStage::Training(prepared)
        }
        None => FirstStage::Search(Box::new(evaluator(config, Weights::trained(run, config), device)?)),
    })
}

/// Runs every stage that `config` needs in `run`, from where it stands: training or warm-up, search,
/// fine-tuning, export, report.
///
/// # Errors
/// A stage fails; the run directory is as it was at its last checkpoint.
pub fn whole(
    config: &Config,
    start: FirstStage<'_>,
    device: &Arc<dyn Device>,
    run: &RunDirectory,
    stop: &StopFlag,
    output: Output,
) -> Result<Outcome, Error> {
    let (summary, evaluator) = match start {
        FirstStage::Training(prepared) => {
            output.note(match prepared.stage() {
                Stage::Warmup => "warm-up of the super-network on the data set",
                Stage::Train => "training the super-network",
            });
            let dataset = prepared.dataset();
            let Some(summary) = prepared.run(device, run, stop, output)? else {
                return Ok(Outcome::Stopped);
            };
            let own = options(config);
            let (supernets, space) = Weights::trained(run.path(), config).load(own.family)?;
            let trained = {
                let images = own.calibration_images;
                Evaluator::new(supernets, space, dataset, images, own.precision, device.clone())?
            };
            (Some(summary), Box::new(trained))
        }
        FirstStage::Search(evaluator) => {
            let notes = evaluator.supernets().flat_map(|supernet| &supernet.notes);
            notes.for_each(|note| output.note(note));
            (None, evaluator)
        }
    };
    if let Some(note) = evaluator.few_values_of_space()? {
        output.note(&format!("note: {note}"));
    }
    output.note("searching");
    let (found, state) = match search(config, &evaluator, run, stop, output)? {
        search::Outcome::Stopped => return Ok(Outcome::Stopped),
        search::Outcome::Finished(found, state) => (found, state),
    };
    output.note("fine-tuning what was found");
    let (supernets, _) = found::supernets_of_front(run.path(), config)?;
    let dataset = evaluator.shared_dataset();
    let picked = found::pick(config, run.path(), &supernets)?;
    let settings = (config.seed, &config.finetune, &config.train);
    let inputs = Inputs::new(settings, config.augmentation(dataset.facts()), supernets, dataset, picked)?;
    let tuned = match finetune(&inputs, device.clone(), run, stop, output)? {
        finetune::Outcome::Stopped => return Ok(Outcome::Stopped),
        finetune::Outcome::Finished(tuned) => tuned,
    };
    let exported =
        tuned.networks.iter().map(|network| export_onnx(run, network)).collect::<Result<_, _>>()?;
    write_report(run, &evaluator, config, &state)?;
    Ok(Outcome::Finished(Box::new(Summary {
        version: 1,
        run: run.path().display().to_string(),
        training: summary,
        search: found,
        networks: tuned.networks,
        exported,
    })))
}

/// The super-networks of a search on its data.
///
/// # Errors
/// As [`Evaluator::open`].
pub fn evaluator(config: &Config, weights: Weights, device: &Arc<dyn Device>) -> Result<Evaluator, Error> {
    let options = Options { weights: weights.narrow, wide_weights: weights.wide, ..options(config) };
    let evaluator = Evaluator::open(&options, device.clone())?;
    // Refused before a directory is made.
    evaluator.few_values_of_space()?;
    Ok(evaluator)
}

/// The name of a fine-tuned network's file for other programs.
pub(super) fn onnx_file(weights: &str) -> String {
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

/// The page of a run: its search, and what was fine-tuned in the same directory; `next` are the commands about
/// it, `command` and `config` are what it was run with.
///
/// # Errors
/// A genotype of another space; a result that cannot be read.
pub fn report(
    (space, classes): (&Space, usize),
    (command, config): (&str, &Config),
    state: &State,
    next: &OfRun<'_>,
) -> Result<String, Error> {
    let run = next.run;
    let data = About::read(run)?.map(|about| about.data);
    let trained = run.join(WEIGHTS_FILE).exists();
    let context = page::Context { command, space, classes, config, data, trained, next };
    let tuned = finetune::Summary::read(run)?.map(|summary| page::tuned(&summary)).unwrap_or_default();
    let fronts = FrontPoints::read(run)?;
    let page = page::page(&context, state, &tuned, &fronts)?;
    Ok(crate::report::render(&page))
}

/// Writes that page into the run directory.
///
/// # Errors
/// As [`report`]; writing fails.
pub fn write_report(
    run: &RunDirectory,
    evaluator: &Evaluator,
    config: &Config,
    state: &State,
) -> Result<(), Error> {
    let classes = evaluator.engine().supernet().classes();
    let weights = Weights::found(run.path(), config);
    let next = weights.commands(run.path(), config, state.test_top1.is_some());
    let page = report((evaluator.space(), classes), (&config.command, config), state, &next)?;
    Ok(run.write_where_possible(REPORT_FILE, page.as_bytes())?)
}
