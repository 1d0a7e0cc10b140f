//! Measuring networks, each only once. Results are kept in a cache on disk, which survives any interruption; the
//! key is made of the weights, the images and the canonical genotype.

use super::{Entry, Error};
use crate::config::{Config, Objective};
use crate::data::Split;
use crate::engine::Evaluation;
use crate::engine::tree::Saving;
use crate::evaluator::Evaluator;
use crate::run::{Cache, Output, Progress, StopFlag};
use crate::space::walk::Exits;
use crate::space::{Arch, Cost, Genotype, cost};
use crate::supernet::Supernet;
use std::sync::Mutex;

/// Measures networks of a search.
pub struct Meter<'a> {
    evaluator: &'a Evaluator,
    /// The same with adapted weights, once there are any.
    adapted: Option<Evaluator>,
    config: &'a Config,
    cache: Cache,
    stop: &'a StopFlag,
    output: Output,
    fingerprint: String,
    saving: Saving,
}

impl<'a> Meter<'a> {
    /// A meter that keeps its results in `cache`.
    ///
    /// # Errors
    /// The validation split is empty.
    pub fn new(
        evaluator: &'a Evaluator,
        config: &'a Config,
        cache: Cache,
        stop: &'a StopFlag,
        output: Output,
    ) -> Result<Meter<'a>, Error> {
        let fingerprint = evaluator.fingerprint(Split::Val, config.search.eval_images)?;
        Ok(Meter {
            evaluator,
            adapted: None,
            config,
            cache,
            stop,
            output,
            fingerprint,
            saving: Saving::default(),
        })
    }

    /// Measures with these weights from now on. What was measured with others stays in the cache, under
    /// their name.
    ///
    /// # Errors
    /// The device fails.
    pub fn adapt(&mut self, weights: Vec<Supernet>) -> Result<(), Error> {
        // The old weights need not lie on the device beside the new ones.
        self.adapted = None;
        let adapted = self.evaluator.with_weights(weights)?;
        self.fingerprint = adapted.fingerprint(Split::Val, self.config.search.eval_images)?;
        self.adapted = Some(adapted);
        Ok(())
    }

    /// The layer executions that shared prefixes have saved so far.
    pub fn saving(&self) -> Saving {
        self.saving
    }

    /// What validation accuracies depend on besides the network.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Measures networks on the validation split, in the order given; `None` if a stop was asked for
    /// before all were done.
    ///
    /// # Errors
    /// Evaluating or writing the cache fails.
    pub fn measure(
        &mut self,
        genotypes: &[Genotype],
        what: &'static str,
    ) -> Result<Option<Vec<Entry>>, Error> {
        let archs: Vec<Arch> =
            genotypes.iter().map(|g| self.evaluator.space().decode(g)).collect::<Result<_, _>>()?;
        let fingerprint = self.fingerprint.clone();
        let count = self.config.search.eval_images;
        let Some(results) = self.evaluate(&archs, genotypes, Split::Val, count, &fingerprint, what)? else {
            return Ok(None);
        };
        let latencies = if self.config.search.objectives.contains(&Objective::Latency) {
            self.latencies(&archs, genotypes)?
        } else {
            Some(vec![None; archs.len()])
        };
        let Some(latencies) = latencies else { return Ok(None) };
        let rows = genotypes.iter().zip(&archs).zip(results.iter().zip(latencies));
        let entry =
            |((genotype, arch), (result, latency_ms)): ((&Genotype, &Arch), (&Evaluation, Option<f64>))| {
                Ok(Entry {
                    genotype: genotype.clone(),
                    correct: result.correct,
                    images: result.images,
                    loss: result.loss,
                    cost: self.cost(arch)?,
                    latency_ms,
                })
            };
        rows.map(entry).collect::<Result<Vec<Entry>, Error>>().map(Some)
    }

    /// Accuracies on the test split, in per cent, in the order given. `None` if a stop was asked for
    /// first.
    ///
    /// # Errors
    /// Evaluating or writing the cache fails.
    pub fn test(&mut self, genotypes: &[Genotype]) -> Result<Option<Vec<f64>>, Error> {
        let archs: Vec<Arch> =
            genotypes.iter().map(|g| self.evaluator.space().decode(g)).collect::<Result<_, _>>()?;
        let fingerprint = format!(
            "test-{}",
            self.adapted.as_ref().unwrap_or(self.evaluator).fingerprint(Split::Test, None)?
        );
        let results =
            self.evaluate(&archs, genotypes, Split::Test, None, &fingerprint, "testing the front")?;
        Ok(results.map(|results| results.iter().map(Evaluation::top1).collect()))
    }

    /// Parameters and multiply-accumulates of a network.
    ///
    /// # Errors
    /// A width outside the space.
    pub fn cost(&self, arch: &Arch) -> Result<Cost, Error> {
        let classes = self.evaluator.engine().supernet().classes();
        Ok(cost(self.evaluator.space().channels(arch)?, arch, Exits::single(arch), classes))
    }

    fn evaluate(
        &mut self,
        archs: &[Arch],
        genotypes: &[Genotype],
        split: Split,
        count: Option<usize>,
        fingerprint: &str,
        what: &'static str,
    ) -> Result<Option<Vec<Evaluation>>, Error> {
        let keys: Vec<String> = genotypes.iter().map(|g| format!("{fingerprint} {}", name(g))).collect();
        let mut results: Vec<Option<Evaluation>> = keys.iter().map(|key| self.cache.get(key)).collect();
        let missing: Vec<usize> = (0..keys.len()).filter(|&i| results[i].is_none()).collect();
        let progress =
            Progress::start(self.output, what, (keys.len() - missing.len()) as u64, keys.len() as u64);
        let wanted: Vec<(Arch, Exits)> =
            missing.iter().map(|&i| (archs[i].clone(), Exits::single(&archs[i]))).collect();
        // The cache, the first error of writing it, and the best accuracy so far.
        let shared = Mutex::new((&mut self.cache, None, f64::NEG_INFINITY));
        let done = |index: usize, results: &[Evaluation]| {
            let Some(result) = results.last() else { return };
            let mut guard = shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let (cache, failure, best) = &mut *guard;
            if failure.is_none() {
                *failure = cache.insert(&keys[missing[index]], result).err();
            }
            if result.top1() > *best {
                *best = result.top1();
                progress.message(format!("best {best:.2} %"));
            }
            progress.advance(1);
        };
        let stop = || self.stop.requested();
        let evaluator = self.adapted.as_ref().unwrap_or(self.evaluator);
        let evaluated = evaluator.evaluate_population(&wanted, split, count, &stop, &done)?;
        let failure = shared.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).1;
        if let Some(error) = failure {
            return Err(error.into());
        }
        let Some(evaluated) = evaluated else { return Ok(None) };
        progress.finish();
        self.saving += evaluated.saving;
        // Nothing that a checkpoint builds on is measured twice.
        self.cache.sync()?;
        for (index, result) in missing.into_iter().zip(evaluated.results) {
            results[index] = result.last().copied();
        }
        Ok(results.into_iter().collect())
    }

    /// Latencies, one network after the other on an otherwise idle device.
    fn latencies(
        &mut self,
        archs: &[Arch],
        genotypes: &[Genotype],
    ) -> Result<Option<Vec<Option<f64>>>, Error> {
        let (batch, repeats) = (self.config.search.latency_batch, self.config.search.latency_repeats);
        let device = self.evaluator.engine().device().describe();
        let progress = Progress::start(self.output, "timing", 0, archs.len() as u64);
        let mut out = Vec::with_capacity(archs.len());
        for (arch, genotype) in archs.iter().zip(genotypes) {
            if self.stop.requested() {
                return Ok(None);
            }
            let key = format!("latency {device} batch {batch} repeats {repeats} {}", name(genotype));
            let latency = match self.cache.get::<f64>(&key) {
                Some(latency) => latency,
                None => {
                    let latency = self.evaluator.engine_of(arch).latency(arch, batch, repeats)?;
                    self.cache.insert(&key, &latency)?;
                    latency
                }
            };
            out.push(Some(latency));
            progress.advance(1);
        }
        self.cache.sync()?;
        progress.finish();
        Ok(Some(out))
    }
}

/// A genotype as a word.
pub fn name(genotype: &[u8]) -> String {
    genotype.iter().map(u8::to_string).collect::<Vec<_>>().join("-")
}
