//! Many networks at once: what they have in common runs once.
//!
//! The population is cut into groups of one resolution, sorted so that neighbours share most, and
//! each group runs as a [`Tree`]: recalibration batch by batch, inference chunk by chunk, each over
//! the whole tree depth-first. A group bounds what is lost at a stop and how much memory its batch
//! norms take; a cut costs the prefix that the networks on its two sides share, which then runs
//! twice. Every result is that of the network alone, to the bit.

use super::tree::{Saving, Tree, groups};
use super::{Calibration, Engine, Error, Evaluation, Images};
use crate::ops::Threads;
use crate::space::walk::Exits;
use crate::space::{Arch, Channels};
use rayon::prelude::*;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The most networks of a group.
const GROUP: usize = 32;
/// The fewest that a group is cut down to so that two streams of a device have something to run.
const SMALL_GROUP: usize = 8;

/// What was measured of a population.
#[derive(Debug, Clone, PartialEq)]
pub struct Population {
    /// Every network at each of its exits, from the first on; in the order asked for.
    pub results: Vec<Vec<Evaluation>>,
    /// The work that shared prefixes have saved.
    pub saving: Saving,
}

/// How a population is cut for a device.
pub(super) struct Grouping {
    /// Networks that run as one tree.
    pub(super) groups: Vec<Vec<usize>>,
    /// Whether groups run side by side, each on one lane.
    pub(super) side_by_side: bool,
    /// Elements that a tree may keep at its branches.
    pub(super) share: usize,
}

/// Cuts a population for `lanes` lanes, or one with `streams` streams, and `budget` bytes of memory; a group
/// keeps `fill` lanes busy.
pub(super) fn cut(
    channels: &Channels,
    networks: &[(Arch, Exits)],
    (lanes, streams): (usize, usize),
    fill: usize,
    budget: usize,
) -> Grouping {
    // Batches and chunks keep the lanes busy within a group; only with more lanes than batches
    // are there groups to run side by side.
    let side_by_side = lanes > fill && networks.len() >= 2 * lanes;
    let size = match (side_by_side, streams) {
        (true, _) => (networks.len() / (2 * lanes)).min(GROUP),
        (false, 0..=1) => GROUP,
        (false, _) => networks.len().div_ceil(2 * streams).clamp(SMALL_GROUP, GROUP),
    };
    let share = budget / size_of::<f32>() / lanes.max(1) / streams.max(1);
    Grouping { groups: groups(channels, networks, size, share), side_by_side, share }
}

/// The engine of some of different widths that has a network; the first where none has, which says so.
pub fn of_width(engines: &[Engine], arch: &Arch) -> usize {
    engines.iter().position(|engine| engine.supernet().has_width(arch.w)).unwrap_or(0)
}

/// As [`Engine::evaluate_population`], each network on the engine of its width. Networks of different
/// widths share no weights, so there is a population an engine.
///
/// # Errors
/// As [`Engine::evaluate_population`].
pub fn evaluate_widths(
    engines: &[Engine],
    networks: &[(Arch, Exits)],
    images: &dyn Images,
    calibration: Calibration<'_>,
    stop: &(dyn Fn() -> bool + Sync),
    done: &(dyn Fn(usize, &[Evaluation]) + Sync),
) -> Result<Option<Population>, Error> {
    if let [engine] = engines {
        return engine.evaluate_population(networks, images, calibration, stop, done);
    }
    let mut all = Population { results: vec![Vec::new(); networks.len()], saving: Saving::default() };
    for (number, engine) in engines.iter().enumerate() {
        let own: Vec<usize> =
            (0..networks.len()).filter(|&index| of_width(engines, &networks[index].0) == number).collect();
        let members: Vec<_> = own.iter().map(|&index| networks[index].clone()).collect();
        let done = |index: usize, results: &[Evaluation]| done(own[index], results);
        let part = engine.evaluate_population(&members, images, calibration, stop, &done)?;
        let Some(part) = part else { return Ok(None) };
        all.saving += part.saving;
        own.iter().zip(part.results).for_each(|(&index, result)| all.results[index] = result);
    }
    Ok(Some(all))
}

impl Engine {
    /// Evaluates many networks, each at its exits, every distinct prefix once; `done` is called with
    /// the index and the results of each network once its group is finished, in any order.
    ///
    /// Once `stop` says so nothing more is begun, and the answer is `None`.
    ///
    /// # Errors
    /// An architecture of another width, no images, a device that fails, a loss that is no number.
    pub fn evaluate_population(
        &self,
        networks: &[(Arch, Exits)],
        images: &dyn Images,
        calibration: Calibration<'_>,
        stop: &(dyn Fn() -> bool + Sync),
        done: &(dyn Fn(usize, &[Evaluation]) + Sync),
    ) -> Result<Option<Population>, Error> {
        let empty = Population { results: Vec::new(), saving: Saving::default() };
        if networks.is_empty() {
            return Ok(Some(empty));
        }
        networks.iter().try_for_each(|(arch, exits)| self.check(arch, *exits, images.len(), "evaluate"))?;
        let batches = calibration.batches(networks.iter().map(|(arch, exits)| (arch, *exits)))?;
        let channels = self.supernet().channels();
        let fill = batches.map_or(images.len(), |batches| batches.count);
        let second = self.on_second_stream()?;
        let streams = 1 + usize::from(second.is_some());
        let Grouping { groups, side_by_side, share } =
            cut(channels, networks, (self.device().lanes(), streams), fill, self.budget());
        // Once one stream has failed, the other need not go on.
        let failed = AtomicBool::new(false);
        let stop = &|| failed.load(Ordering::Relaxed) || stop();
        let run = |engine: &Engine, group: &Vec<usize>, threads| -> Result<Option<Population>, Error> {
            if stop() {
                return Ok(None);
            }
            let members: Vec<(&Arch, Exits)> =
                group.iter().map(|&i| (&networks[i].0, networks[i].1)).collect();
            let at_a_time = batches.map_or(1, |batches| batches.size);
            let tree = Tree::new(channels, &members).bounded(at_a_time, self.precision().numbers(share));
            let saving = tree.saving();
            let results = engine.evaluate_tree((tree, &members), images, batches, threads, stop)?;
            let Some(results) = results else { return Ok(None) };
            group.iter().zip(&results).for_each(|(&index, result)| done(index, result));
            Ok(Some(Population { results, saving }))
        };
        let found: Option<Vec<Population>> = match (side_by_side, second) {
            // One at a time from the front, so that the lanes end together.
            (true, _) => {
                let groups = groups.par_iter().with_max_len(1);
                groups.map(|group| run(self, group, Threads::One)).collect::<Result<_, Error>>()?
            }
            // Each stream takes the next group: one's recalibration runs while the other infers.
            (false, Some(second)) if groups.len() > 1 => {
                let next = AtomicUsize::new(0);
                let results: Vec<OnceLock<_>> = groups.iter().map(|_| OnceLock::new()).collect();
                let stream = |engine: &Engine| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(group) = groups.get(index) else { break };
                        let result = run(engine, group, Threads::All);
                        failed.fetch_or(result.is_err(), Ordering::Relaxed);
                        let _ = results[index].set(result);
                    }
                };
                std::thread::scope(|scope| {
                    scope.spawn(|| stream(second));
                    stream(self);
                });
                // An error first: what the other stream has left undone is its consequence.
                let results = results.into_iter().filter_map(OnceLock::into_inner);
                results.collect::<Result<Vec<_>, Error>>()?.into_iter().collect()
            }
            _ => groups.iter().map(|group| run(self, group, Threads::All)).collect::<Result<_, Error>>()?,
        };
        let Some(found) = found else { return Ok(None) };
        let mut population = Population { results: vec![Vec::new(); networks.len()], ..empty };
        for (group, found) in groups.iter().zip(found) {
            population.saving += found.saving;
            group.iter().zip(found.results).for_each(|(&index, result)| population.results[index] = result);
        }
        Ok(Some(population))
    }
}
