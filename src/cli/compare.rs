//! `natv2 compare`: other search methods, and other settings, on the same super-network and budget.

use super::session::{Session, enough_values, stopped};
use super::shared::{self, Attempt};
use super::{Error, Talk, output};
use crate::config::{self, Config, Method};
use crate::data::Split;
use crate::evaluator::{self, Evaluator};
use crate::exit::Exit;
use crate::pipeline::found::Weights;
use crate::pipeline::options;
use crate::pipeline::whole::{REPORT_FILE, write_report};
use crate::run::{RunDirectory, StopFlag};
use crate::search::compare::budget::{self, Budget, Counts};
use crate::search::compare::page;
use crate::search::compare::results::{self, Comparison, FinishedSearch, Spread};
use crate::search::compare::{Variant, incomparable};
use crate::search::{Outcome, search};
use crate::shown::{self, OfRun};
use crate::space::show::grouped;
use clap::Args;
use std::fmt::Write;
use std::path::Path;

const AFTER_HELP: &str = "\
Examples:
  natv2 compare                                  NATv2, NAT and random search, three seeds each
  natv2 compare --methods natv2,nat --set supernet.weights=net.safetensors \\
      --set data.name=cifar10 --set data.dir=DATA_FOLDER --run runs/methods
  natv2 compare --vary predictor.kind=gbdt,cart --seeds 0,1,2,3,4
  natv2 compare --variant nat:search.method=nat \\
      --variant features:search.method=nat,predictor.encoding=integer \\
      --variant archive:search.method=nat,predictor.encoding=integer,search.update=natv2,search.growth=natv2 \\
      --variant natv2:search.method=natv2        the steps from NAT to NATv2

Each search is one of its own in DIR/VARIANT-SEED, as natv2 search makes it. Stop at any time (Ctrl-C); the
same command goes on, and more seeds or variants may be added to it: what is finished is used again.
Several processes may work on one DIR, such as the jobs of an array with a seed each: each takes searches
that no other has. What a process writes at its end is of its own seeds; the command with all of them then
makes the table from what is finished.

Budget: the first variant sets the number of evaluations, repeated ones included; the others get as
near to it as whole numbers allow. Where the archive grows, its start and search.candidates are scaled
together; else search.candidates alone. Counts that a variant gives itself stay. Iterations, and so
adaptation steps, are those of the configuration.

Files in the run directory: comparison.json and report.html, at the end.

JSON: {\"version\":1,\"run\",\"data\",\"objectives\",\"reference\",\"budget\",\"seeds\",\"variants\":[{\"name\",
\"settings\",\"top1\",\"test_top1\",\"params\",\"macs\",\"hypervolume\",\"tau\",\"runs\":[..]}],\"coverage\"}, spreads
as {\"mean\",\"deviation\",\"least\",\"most\"}.";

/// Seeds where none are given.
const SEEDS: u64 = 3;

/// Arguments of `natv2 compare`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Compare {
    #[command(flatten)]
    session: Session,
    /// Search methods, each a variant: natv2, nat, random [default: all, where nothing else is
    /// compared].
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    methods: Vec<String>,
    /// A variant: its name and its settings over all others; may be repeated.
    #[arg(long = "variant", value_name = "NAME:KEY=VALUE,..")]
    variants: Vec<String>,
    /// A variant for each value of a setting; may be repeated.
    #[arg(long, value_name = "KEY=A,B,..")]
    vary: Vec<String>,
    /// Seeds; each variant searches once with each [default: the configuration's and the two after it].
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    seeds: Vec<u64>,
    /// Whether all variants evaluate as many networks as the first (equal), or what their
    /// configurations say (as-is).
    #[arg(long, value_name = "BUDGET", default_value = "equal")]
    budget: Budget,
}

/// A search of a comparison.
struct SearchToCompare {
    variant: Variant,
    seed: u64,
    config: Config,
}

impl Compare {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let talk = self.session.globals.talk;
        let stop = StopFlag::install()?;
        let config = self.session.with("compare", &[])?;
        let place = self.session.place(&config);
        // A directory of another comparison is found before anything is loaded.
        if place.exists() {
            shared::enter(&place, &config, &stop, &talk)?;
        }
        let seeds = self.seeds(&config)?;
        let entrants = self.entrants(&seeds, &talk)?;
        for entrant in &entrants {
            entrant.check(&place)?;
        }
        // Weights and data of the first must be good before a directory is made.
        let device = self.session.globals.open()?;
        let mut open = OpenData { options: options(&entrants[0].config), evaluator: None };
        let evaluator = open.evaluator.insert(Evaluator::open(&open.options, device.clone())?);
        talk.notes_of(evaluator.supernets());
        enough_values(evaluator, &talk)?;
        shared::enter(&place, &config, &stop, &talk)?;
        talk.note(&format!("run directory: {}", place.display()));

        let mut images = None;
        let search = |index: usize| {
            let entrant: &SearchToCompare = &entrants[index];
            let (of, Variant { name, .. }, seed) = (entrants.len(), &entrant.variant, entrant.seed);
            let folder = place.join(entrant.variant.folder(seed));
            let Some(directory) = shared::take(&folder, &entrant.config)? else { return Ok(Attempt::InUse) };
            talk.note(&format!("search {} of {of}: {name}, seed {seed}", index + 1));
            let evaluator = open.get(&entrant.config, &device)?;
            same_images(&mut images, evaluator, &entrant.variant)?;
            Ok(match entrant.search(evaluator, &directory, &stop, &talk)? {
                Some(result) => Attempt::Done(result),
                None => Attempt::Stopped,
            })
        };
        let Some(results) = shared::every(entrants.len(), search, &stop, &talk)? else {
            return Ok(stopped(&stop, &talk));
        };
        let mut finished: Vec<(Variant, Vec<FinishedSearch>)> = Vec::new();
        for (entrant, result) in entrants.iter().zip(results) {
            match finished.iter_mut().find(|(variant, _)| *variant == entrant.variant) {
                Some((_, runs)) => runs.push(result),
                None => finished.push((entrant.variant.clone(), vec![result])),
            }
        }
        let (data, _) = images.unwrap_or_default();
        let objectives = &entrants[0].config.search.objectives;
        let comparison = Comparison::new(&data, objectives, self.budget, &finished);
        let Some(directory) = shared::enter(&place, &config, &stop, &talk)? else {
            return Ok(stopped(&stop, &talk));
        };
        directory.write_atomic(results::FILE, &comparison.to_bytes())?;
        let run = place.display().to_string();
        let page = crate::report::render_comparison(&page::page(&comparison, &config, &place));
        directory.write_where_possible(REPORT_FILE, page.as_bytes())?;
        if talk.json {
            let mut value = serde_json::to_value(&comparison).expect("a comparison is JSON");
            value["run"] = run.into();
            output::json(&value)?;
        } else {
            let SearchToCompare { variant, seed, config } = &entrants[0];
            let search = place.join(variant.folder(*seed));
            let tested = comparison.variants.first().is_some_and(|first| first.test_top1.is_some());
            let weights = Weights::found(&search, config);
            output::print(&text(&comparison, &place, &weights.commands(&search, config, tested)))?;
        }
        Ok(Exit::Done)
    }

    fn seeds(&self, config: &Config) -> Result<Vec<u64>, Error> {
        let seeds: Vec<u64> = if self.seeds.is_empty() {
            (0..SEEDS).map(|further| config.seed.saturating_add(further)).collect()
        } else {
            self.seeds.clone()
        };
        match seeds.iter().enumerate().find(|(at, seed)| seeds[..*at].contains(seed)) {
            Some((_, twice)) => Err(Error::Usage(format!("--seeds: {twice} is given twice: once is enough"))),
            None => Ok(seeds),
        }
    }

    /// What is compared, in the order asked for.
    fn variants(&self) -> Result<Vec<Variant>, Error> {
        let mut variants = Vec::new();
        let nothing_else = self.variants.is_empty() && self.vary.is_empty();
        let all: Vec<String> = Method::ALL.iter().map(|method| method.as_str().to_string()).collect();
        let methods = if self.methods.is_empty() && nothing_else { &all } else { &self.methods };
        for method in methods {
            let settings = vec![format!("search.method={method}")];
            variants.push(Variant { name: method.clone(), settings });
        }
        let refuse =
            |flag: &str, text: &String, reason: String| Error::unusable(&format!("{flag} {text}"), reason);
        for text in &self.vary {
            variants.extend(Variant::vary(text).map_err(|reason| refuse("--vary", text, reason))?);
        }
        for text in &self.variants {
            variants.push(Variant::parse(text).map_err(|reason| refuse("--variant", text, reason))?);
        }
        match variants.iter().enumerate().find(|(at, v)| variants[..*at].iter().any(|w| w.name == v.name)) {
            Some((_, twice)) => Err(Error::Usage(format!(
                "two variants are called {}: give one another name with --variant NAME:KEY=VALUE,..",
                twice.name
            ))),
            None => Ok(variants),
        }
    }

    /// Every search, all variants of a seed before the next seed; says what budget each variant has.
    fn entrants(&self, seeds: &[u64], talk: &Talk) -> Result<Vec<SearchToCompare>, Error> {
        let mut resolved: Vec<(Variant, Config)> = Vec::new();
        for mut variant in self.variants()? {
            let mut config = self.session.with("search", &variant.settings)?;
            if let Some((first, its)) = resolved.first() {
                if self.budget == Budget::Equal {
                    let total = Counts::of(its).evaluations();
                    variant.settings.extend(budget::fitted(&variant, &config, total));
                    config = self.session.with("search", &variant.settings)?;
                }
                if let Some(key) = incomparable(its, &config) {
                    return Err(Error::Usage(format!(
                        "variants {} and {} differ in {key}, and cannot be compared then: give it for all, \
                         with --set",
                        first.name, variant.name
                    )));
                }
            }
            talk.note(&planned(&variant, &config));
            resolved.push((variant, config));
        }
        let entrant = |seed: u64, variant: &Variant| {
            let further = [variant.settings.clone(), vec![format!("seed={seed}")]].concat();
            let config = self.session.with("search", &further)?;
            Ok(SearchToCompare { variant: variant.clone(), seed, config })
        };
        let all = seeds.iter().flat_map(|&seed| resolved.iter().map(move |(variant, _)| (seed, variant)));
        all.map(|(seed, variant)| entrant(seed, variant)).collect()
    }
}

/// The counts of a variant, before it begins.
fn planned(variant: &Variant, config: &Config) -> String {
    let (counts, search) = (Counts::of(config), &config.search);
    let again = match counts.reevaluations {
        0 => String::new(),
        again => format!(", {} of them repeated", grouped(again as u64)),
    };
    format!(
        "{}: {} evaluations{again}; archive {}, {} candidates in each of {} iterations",
        variant.name,
        grouped(counts.evaluations() as u64),
        search.archive,
        search.candidates,
        search.iterations
    )
}

impl SearchToCompare {
    /// A directory that is there already must be this search's.
    fn check(&self, comparison: &Path) -> Result<(), Error> {
        let path = comparison.join(self.variant.folder(self.seed)).join("config.toml");
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(config::check_stored(&path, &text, &self.config)?),
            // What else may be wrong with it is found when it is opened.
            Err(_) => Ok(()),
        }
    }

    /// Searches in its directory; `None` if a stop was asked for first.
    fn search(
        &self,
        evaluator: &Evaluator,
        directory: &RunDirectory,
        stop: &StopFlag,
        talk: &Talk,
    ) -> Result<Option<FinishedSearch>, Error> {
        match search(&self.config, evaluator, directory, stop, talk.progress())? {
            Outcome::Stopped => Ok(None),
            Outcome::Finished(_, state) => {
                write_report(directory, evaluator, &self.config, &state)?;
                Ok(Some(FinishedSearch::new(self.seed, *state, directory.path())?))
            }
        }
    }
}

/// The super-network and the data that the last search used. The next search uses them again if it can.
struct OpenData {
    options: evaluator::Options,
    evaluator: Option<Evaluator>,
}

impl OpenData {
    /// Those of a configuration, opened unless they are.
    fn get(
        &mut self,
        config: &Config,
        device: &std::sync::Arc<dyn crate::device::Device>,
    ) -> Result<&Evaluator, Error> {
        let wanted = options(config);
        let open = match self.evaluator.take() {
            Some(evaluator) if self.options == wanted => evaluator,
            _ => Evaluator::open(&wanted, device.clone())?,
        };
        self.options = wanted;
        Ok(self.evaluator.insert(open))
    }
}

/// Accuracies compare where they are of the same images.
fn same_images(
    images: &mut Option<(String, usize)>,
    evaluator: &Evaluator,
    variant: &Variant,
) -> Result<(), Error> {
    let dataset = evaluator.dataset();
    let now = (dataset.name().to_string(), dataset.split(Split::Val).len());
    let first = images.get_or_insert_with(|| now.clone());
    if *first == now {
        Ok(())
    } else {
        Err(Error::Usage(format!(
            "variant {} is of {} with {} validation images, and the first of {} with {}: give the data for all, with \
             --set data.name and --set data.validation_images",
            variant.name, now.0, now.1, first.0, first.1
        )))
    }
}

/// The comparison as tables, where it is, and what to do next, with its first search.
fn text(comparison: &Comparison, path: &Path, first: &OfRun<'_>) -> String {
    let run = path.display();
    let wide = comparison.variants.iter().map(|variant| variant.name.len()).max().unwrap_or(0).max(7);
    let mut out = format!(
        "{} variants on {}, {} seeds: mean and standard deviation; val % and what follows are of the network with the \
         best\nvalidation accuracy of each search, hypervolumes have one reference point ({})\n\n",
        comparison.variants.len(),
        comparison.data,
        comparison.seeds.len(),
        page::reference(comparison)
    );
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{:<wide$}  {:>8}  {:>11}  {:>8}  {:>13}  {:>13}  {:>19}  {:>21}  {:>17}  {:>11}",
        "variant",
        "networks",
        "evaluations",
        "steps",
        "val %",
        "test %",
        "parameters",
        "MACs",
        "hypervolume",
        "tau"
    );
    for variant in &comparison.variants {
        let Some(run) = variant.runs.first() else { continue };
        let _ = writeln!(
            out,
            "{:<wide$}  {:>8}  {:>11}  {:>8}  {:>13}  {:>13}  {:>19}  {:>21}  {:>17}  {:>11}",
            variant.name,
            grouped(run.networks as u64),
            grouped(run.evaluations as u64),
            grouped(run.adaptation_steps),
            spread(variant.top1, 2),
            spread(variant.test_top1, 2),
            counted(variant.params),
            counted(variant.macs),
            spread(variant.hypervolume, 5),
            spread(variant.tau, 2)
        );
    }
    if comparison.variants.len() > 1 {
        let _ = write!(
            out,
            "\nshare of a column's front that the row's front covers (C-metric), %\n\n{:<wide$}",
            "covers"
        );
        for variant in &comparison.variants {
            let _ = write!(out, "  {:>wide$}", variant.name);
        }
        out.push('\n');
        for (variant, row) in comparison.variants.iter().zip(&comparison.coverage) {
            let _ = write!(out, "{:<wide$}", variant.name);
            for share in row {
                let _ = write!(out, "  {:>wide$}", share.map_or("-".into(), |s| format!("{:.0}", 100.0 * s)));
            }
            out.push('\n');
        }
    }
    let _ = write!(
        out,
        "\nresults: {run}/{} and report.html (open it in a browser); searches: {run}/VARIANT-SEED\n",
        results::FILE
    );
    let _ = writeln!(out, "next: {}    {}", first.evaluate_front(), shown::status(path));
    out
}

fn spread(spread: Option<Spread>, decimals: usize) -> String {
    spread.map_or("-".into(), |spread| match spread.deviation {
        Some(deviation) => format!("{:.decimals$} ± {deviation:.decimals$}", spread.mean),
        None => format!("{:.decimals$}", spread.mean),
    })
}

fn counted(spread: Option<Spread>) -> String {
    spread.map_or("-".into(), |spread| {
        let mean = grouped(spread.mean.round() as u64);
        match spread.deviation {
            Some(deviation) => format!("{mean} ± {}", grouped(deviation.round() as u64)),
            None => mean,
        }
    })
}
