//! A super-network on a device, and what can be asked of it.
//!
//! A network is prepared once (its batch norms recalibrated on training images, or folded from the
//! checkpoint's statistics) and then run over images in chunks, each on an arena of its own; many
//! networks at once as a [`Tree`]. Inference treats images independently and each image's arithmetic
//! is the same in any chunk, chunks are summed in order, and so are the averages of recalibration's
//! batches: a result depends neither on threads nor on chunking, nor on what else is evaluated.

use super::feed::Feeder;
use super::plan::{Mode, Program, Reads, Section, Target, lower_tree};
use super::repeated::{Graphs, Repeated};
use super::tree::Tree;
use super::{Error, Precision};
use crate::data::Selection;
use crate::device::{Buffer, Device, Memory};
use crate::ops::{Call, Threads};
use crate::space::Arch;
use crate::space::walk::Exits;
use crate::supernet::Supernet;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

/// Memory for what a population shares: 512 MiB.
pub const BUDGET: usize = 512 << 20;

/// Images that networks run on, in a fixed order.
pub trait Images: Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes images `first..` as `[n, side, side, 3]`, normalised, until `out` is full.
    fn load(&self, first: usize, side: usize, out: &mut [f32], threads: Threads);

    /// What images `first..first + count` are made of, where that is stored pixels.
    fn stored(&self, first: usize, count: usize) -> Option<Selection<'_>> {
        let _ = (first, count);
        None
    }

    /// The class of an image.
    fn label(&self, index: usize) -> u32;
}

/// Where a network's batch-norm statistics come from.
#[derive(Clone, Copy)]
pub enum Calibration<'a> {
    /// The checkpoint's running statistics.
    Stored,
    /// Recomputed on the first `count` images, in batches of `batch` that count equally. With fewer
    /// images than a batch there is one batch of all; a last partial batch is left out.
    Batches {
        /// Training images.
        images: &'a dyn Images,
        /// How many to use.
        count: usize,
        /// Images of a batch.
        batch: usize,
    },
}

/// How good a network is on a set of images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Correct answers.
    pub correct: usize,
    /// Images.
    pub images: usize,
    /// Mean cross entropy, in nats.
    pub loss: f64,
}

impl Evaluation {
    /// Accuracy in per cent.
    pub fn top1(&self) -> f64 {
        100.0 * self.correct as f64 / self.images as f64
    }
}

/// A super-network on a device.
pub struct Engine {
    device: Arc<dyn Device>,
    supernet: Arc<Supernet>,
    weights: Arc<Buffer>,
    arenas: Mutex<Vec<Buffer>>,
    feeders: Mutex<Vec<Feeder>>,
    budget: usize,
    precision: Precision,
    graphs: Graphs,
    /// This engine on the device's other order, once it was asked for.
    beside: OnceLock<Option<Box<Engine>>>,
}

/// Networks whose batch norms are folded: the buffer whose start is their section.
pub(super) struct Prepared(pub(super) Buffer);

/// Recalibration's batches, as they will be run.
#[derive(Clone, Copy)]
pub(super) struct Batches<'a> {
    images: &'a dyn Images,
    /// Images of a batch.
    pub(super) size: usize,
    /// How many batches.
    pub(super) count: usize,
}

impl<'a> Calibration<'a> {
    /// The batches, or none for stored statistics.
    pub(super) fn batches(self) -> Result<Option<Batches<'a>>, Error> {
        let Calibration::Batches { images, count, batch } = self else { return Ok(None) };
        let count = count.min(images.len());
        if count == 0 || batch == 0 {
            return Err(Error::NoImages { what: "recalibrate" });
        }
        let size = batch.min(count);
        Ok(Some(Batches { images, size, count: count / size }))
    }
}

impl Engine {
    /// Puts a super-network on a device and makes its derived filters there.
    ///
    /// # Errors
    /// The device fails.
    pub fn new(device: Arc<dyn Device>, supernet: Arc<Supernet>) -> Result<Engine, Error> {
        Engine::in_precision(device, supernet, Precision::F32)
    }

    /// The same with maps in a precision, and 16-bit rows of the 1x1 convolutions behind the weights.
    ///
    /// # Errors
    /// The device fails.
    pub fn in_precision(
        device: Arc<dyn Device>,
        supernet: Arc<Supernet>,
        precision: Precision,
    ) -> Result<Engine, Error> {
        let weights = precision.weights(&*device, &supernet)?;
        let (arenas, feeders) = (Mutex::default(), Mutex::default());
        let (weights, beside) = (Arc::new(weights), OnceLock::new());
        let graphs = Graphs::default();
        Ok(Engine { device, supernet, weights, arenas, feeders, budget: BUDGET, precision, graphs, beside })
    }

    /// Uses at most about `bytes` for what the networks of a population share: outputs that are kept
    /// for more than one network, and batch norms. Results do not depend on it, only the time does.
    #[must_use]
    pub fn with_budget(self, bytes: usize) -> Engine {
        Engine { budget: bytes, ..self }
    }

    /// Records programs when that says so. Results do not depend on it, only the time does.
    #[must_use]
    pub fn with_graphs(self, graphs: Graphs) -> Engine {
        Engine { graphs, beside: OnceLock::new(), ..self }
    }

    /// The same engine with an order of its own, where the device has another; they share the weights.
    pub(super) fn beside(&self) -> Result<Option<&Engine>, Error> {
        if let Some(found) = self.beside.get() {
            return Ok(found.as_deref());
        }
        let other = self.device.beside()?.map(|device| {
            Box::new(Engine {
                device,
                supernet: self.supernet.clone(),
                weights: self.weights.clone(),
                arenas: Mutex::default(),
                feeders: Mutex::default(),
                budget: self.budget,
                precision: self.precision,
                graphs: self.graphs,
                beside: OnceLock::from(None),
            })
        });
        // The weights are there before the other reads them.
        self.device.synchronise()?;
        Ok(self.beside.get_or_init(|| other).as_deref())
    }

    pub(crate) fn budget(&self) -> usize {
        self.budget
    }

    /// What maps are stored as.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// What the bits of a result depend on beside weights and images: the device's arithmetic, and the
    /// precision where it is not f32.
    pub fn arithmetic(&self) -> String {
        self.precision.arithmetic(&*self.device)
    }

    /// The device.
    pub fn device(&self) -> &dyn Device {
        &*self.device
    }

    /// The device, to put other things on it.
    pub fn shared_device(&self) -> Arc<dyn Device> {
        self.device.clone()
    }

    /// The super-network.
    pub fn supernet(&self) -> &Supernet {
        &self.supernet
    }

    /// Logits of `arch` for every image of `images`, one list `[images][classes]` for each exit.
    ///
    /// # Errors
    /// An architecture of another width, no images, a device that fails.
    pub fn logits(
        &self,
        arch: &Arch,
        exits: Exits,
        images: &dyn Images,
        calibration: Calibration<'_>,
    ) -> Result<Vec<Vec<f32>>, Error> {
        self.check(arch, exits, images.len(), "compute logits")?;
        let tree = Tree::new(self.supernet.channels(), &[(arch, exits)]);
        let never = || false;
        let Some(prepared) = self.prepare(&tree, calibration.batches()?, Threads::All, &never)? else {
            return Ok(Vec::new());
        };
        let program = self.inference(&tree, images.len(), Reads::Logits);
        let repeated = self.repeated(&program, images.len(), &prepared);
        let classes = self.supernet.classes();
        let mut out = vec![Vec::with_capacity(images.len() * classes); exits.len()];
        for first in (0..images.len()).step_by(program.images) {
            let count = program.images.min(images.len() - first);
            let mut arena = self.arena(program.arena_len)?;
            self.load(&program, images, first, &mut arena, Threads::All)?;
            repeated.run(&mut arena, Threads::All)?;
            let mut chunk = vec![0.0; count * program.logit_stride];
            for (out, slot) in out.iter_mut().zip(&program.logits) {
                self.device.download(&arena, slot.offset, &mut chunk)?;
                chunk.chunks_exact(program.logit_stride).for_each(|row| out.extend(&row[..classes]));
            }
            self.give_back(arena);
        }
        drop(repeated);
        self.give_back(prepared.0);
        Ok(out)
    }

    /// How good `arch` is at each exit of `exits`, from one pass.
    ///
    /// # Errors
    /// As [`Engine::logits`], and a loss that is no number.
    pub fn evaluate(
        &self,
        arch: &Arch,
        exits: Exits,
        images: &dyn Images,
        calibration: Calibration<'_>,
        threads: Threads,
    ) -> Result<Vec<Evaluation>, Error> {
        self.check(arch, exits, images.len(), "evaluate")?;
        let tree = Tree::new(self.supernet.channels(), &[(arch, exits)]);
        let results = self.evaluate_tree(&tree, images, calibration.batches()?, threads, &|| false)?;
        // Nothing asks for a stop, so there is the one network's result.
        Ok(results.unwrap_or_default().pop().unwrap_or_default())
    }

    /// How good the networks of a tree are at their exits, in the order in which it was made; `None`
    /// once `stop` says so.
    pub(super) fn evaluate_tree(
        &self,
        tree: &Tree,
        images: &dyn Images,
        batches: Option<Batches<'_>>,
        threads: Threads,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<Vec<Vec<Evaluation>>>, Error> {
        let Some(prepared) = self.prepare(tree, batches, threads, stop)? else { return Ok(None) };
        let program = self.inference(tree, images.len(), Reads::Scores);
        let repeated = self.repeated(&program, images.len(), &prepared);
        let chunks = images.len().div_ceil(program.images);
        let chunk = |index: usize| match stop() {
            true => Ok(None),
            false => self.score(&program, images, index * program.images, &repeated).map(Some),
        };
        // A device of one lane, a card, is filled by one chunk.
        let scores: Option<Vec<Vec<f32>>> = match threads {
            Threads::All if self.device.lanes() > 1 => {
                (0..chunks).into_par_iter().map(chunk).collect::<Result<_, Error>>()?
            }
            _ => (0..chunks).map(chunk).collect::<Result<_, Error>>()?,
        };
        drop(repeated);
        self.give_back(prepared.0);
        let Some(scores) = scores else { return Ok(None) };
        let leaf = |&leaf: &usize| summarise(scores.iter().map(|s| s.as_slice()), leaf, tree.leaves);
        let network = |reads: &Vec<usize>| reads.iter().map(leaf).collect::<Result<Vec<_>, Error>>();
        tree.reads.iter().map(network).collect::<Result<Vec<_>, Error>>().map(Some)
    }

    /// The time of a forward pass of `arch` on `batch` images, in milliseconds: the median of
    /// `repeats` passes behind as many to warm up, with all threads, on images of zeros.
    ///
    /// # Errors
    /// An architecture of another width, no images, a device that fails.
    pub fn latency(&self, arch: &Arch, batch: usize, repeats: usize) -> Result<f64, Error> {
        let exits = Exits::single(arch);
        self.check(arch, exits, batch.min(repeats), "time a network")?;
        let tree = Tree::new(self.supernet.channels(), &[(arch, exits)]);
        let Some(prepared) = self.prepare(&tree, None, Threads::All, &|| false)? else { return Ok(0.0) };
        let program = self.lower(&tree, batch, Mode::Inference, Reads::Logits).0;
        let mut arena = self.arena(program.arena_len)?;
        self.device.upload(&mut arena, program.input.offset, &vec![0.0; program.input.len])?;
        let mut logits = vec![0.0; program.logits[0].len];
        let mut times = Vec::with_capacity(repeats);
        for pass in 0..2 * repeats {
            let start = Instant::now();
            self.infer(&program, &prepared, &mut arena, Threads::All)?;
            // Reading the result waits for the device.
            self.device.download(&arena, program.logits[0].offset, &mut logits)?;
            if pass >= repeats {
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
        self.give_back(arena);
        self.give_back(prepared.0);
        times.sort_by(f64::total_cmp);
        Ok(times[repeats / 2])
    }

    pub(super) fn check(
        &self,
        arch: &Arch,
        exits: Exits,
        images: usize,
        what: &'static str,
    ) -> Result<(), Error> {
        if images == 0 {
            return Err(Error::NoImages { what });
        }
        if !self.supernet.layout.holds(arch, exits) {
            return Err(Error::OtherNetwork { file: self.supernet.file.display().to_string() });
        }
        match arch.w {
            Some(found) if !self.supernet.has_width(arch.w) => Err(Error::Width {
                found,
                expected: self.supernet.channels().width,
                file: self.supernet.file.display().to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// Fills the section of a tree: from the stored statistics, or from those of batches.
    pub(super) fn prepare(
        &self,
        tree: &Tree,
        batches: Option<Batches<'_>>,
        threads: Threads,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<Prepared>, Error> {
        let Some(batches) = batches else {
            let (_, section) = self.lower(tree, 1, Mode::Inference, Reads::Scores);
            let mut arena = self.arena(section.len)?;
            self.run(&[Call::from(section.stored)], &mut arena, threads)?;
            return Ok(Some(Prepared(arena)));
        };
        let lower = |at_once: usize| {
            let mode = Mode::Recalibration { batches: batches.count, at_once };
            self.lower(tree, at_once * batches.size, mode, Reads::Scores)
        };
        let one = lower(1);
        let lanes = match threads {
            Threads::All => self.device.batch_lanes(),
            Threads::One => 1,
        };
        // As many rounds of one batch a lane as there are whole ones; what is left has all threads.
        let side_by_side = if lanes > 1 { batches.count / lanes * lanes } else { 0 };
        if side_by_side == 0 {
            return self.prepare_in_order(&lower, one, batches, threads, stop);
        }
        let (program, section) = one;
        let zero = vec![0.0; section.len];
        let nothing = (&*self.weights, &*self.weights);
        let repeated = Repeated::new(&*self.device, &program.calls, nothing, (self.graphs, batches.count));
        // Each batch's share of the averages, to be added up in order: the same sums as without lanes.
        let share = |index: usize, threads| -> Result<Option<Vec<f32>>, Error> {
            if stop() {
                return Ok(None);
            }
            let mut arena = self.arena(program.arena_len)?;
            self.device.upload(&mut arena, 0, &zero)?;
            self.load(&program, batches.images, index * batches.size, &mut arena, threads)?;
            repeated.run(&mut arena, threads)?;
            let mut averages = vec![0.0; section.len];
            self.device.download(&arena, 0, &mut averages)?;
            self.give_back(arena);
            Ok(Some(averages))
        };
        let rounds =
            (0..side_by_side).into_par_iter().with_max_len(1).map(|index| share(index, Threads::One));
        let rounds: Option<Vec<Vec<f32>>> = rounds.collect::<Result<_, Error>>()?;
        let rest = (side_by_side..batches.count).map(|index| share(index, threads));
        let rest: Option<Vec<Vec<f32>>> = rest.collect::<Result<_, Error>>()?;
        let (Some(rounds), Some(rest)) = (rounds, rest) else { return Ok(None) };
        let mut sums = zero;
        for averages in rounds.iter().chain(&rest) {
            sums.iter_mut().zip(averages).for_each(|(sum, average)| *sum += average);
        }
        let mut arena = self.arena(section.len)?;
        self.device.upload(&mut arena, 0, &sums)?;
        self.run(&[Call::from(section.averaged)], &mut arena, threads)?;
        Ok(Some(Prepared(arena)))
    }

    /// Fills a section with as many batches a run as the device takes, fewer in the last; `lower` gives
    /// programs for so many, `one` is that for one.
    fn prepare_in_order(
        &self,
        lower: &dyn Fn(usize) -> (Program, Section),
        one: (Program, Section),
        batches: Batches<'_>,
        threads: Threads,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<Prepared>, Error> {
        let at_once = even(batches.count, self.device.batches(one.0.arena_len));
        let (program, section) = if at_once > 1 { lower(at_once) } else { one };
        let mut arena = self.arena(program.arena_len)?;
        self.device.upload(&mut arena, 0, &vec![0.0; section.len])?;
        let (runs, rest) = (batches.count / at_once, batches.count % at_once);
        let rest = (rest > 0).then(|| lower(rest).0);
        let nothing = (&*self.weights, &*self.weights);
        let repeated = Repeated::new(&*self.device, &program.calls, nothing, (self.graphs, runs));
        for run in 0..runs {
            if stop() {
                return Ok(None);
            }
            self.load(&program, batches.images, run * program.images, &mut arena, threads)?;
            repeated.run(&mut arena, threads)?;
        }
        if let Some(rest) = rest {
            self.load(&rest, batches.images, runs * program.images, &mut arena, threads)?;
            self.run(&rest.calls, &mut arena, threads)?;
        }
        self.run(&[Call::from(section.averaged)], &mut arena, threads)?;
        Ok(Some(Prepared(arena)))
    }

    /// Calls that write to `arena` and need no other network.
    fn run(&self, calls: &[Call], arena: &mut Buffer, threads: Threads) -> Result<(), Error> {
        let memory = Memory { weights: &self.weights, network: &self.weights, arena };
        Ok(self.device.run(calls, memory, threads)?)
    }

    /// The inference program, for as many images at a time as suit the device.
    fn inference(&self, tree: &Tree, images: usize, reads: Reads) -> Program {
        let one = self.lower(tree, 1, Mode::Inference, reads).0.arena_len;
        let chunk = even(images, self.device.chunk(one));
        self.lower(tree, chunk, Mode::Inference, reads).0
    }

    /// A tree of networks of this super-network, in this precision.
    pub(super) fn lower(&self, tree: &Tree, images: usize, mode: Mode, reads: Reads) -> (Program, Section) {
        let target = Target { precision: self.precision, block_bytes: self.device.block_bytes() };
        lower_tree(&self.supernet.layout, tree, images, mode, reads, target)
    }

    /// Loads the program's images from `first` on; fewer where there are no more. A device that makes
    /// its inputs itself does so.
    fn load(
        &self,
        program: &Program,
        images: &dyn Images,
        first: usize,
        arena: &mut Buffer,
        threads: Threads,
    ) -> Result<(), Error> {
        thread_local! {
            static STAGING: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
        }
        let (side, count) = (program.side, program.images.min(images.len() - first));
        if self.device.residents().is_some()
            && let Some(selection) = images.stored(first, count)
        {
            let feeders = || self.feeders.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let mut feeder = feeders().pop().unwrap_or_default();
            feeder.make(&*self.device, &selection, side, (program.input, arena), threads)?;
            feeders().push(feeder);
            return Ok(());
        }
        let len = count * side * side * 3;
        // Taken, not borrowed: while loading waits for other threads, this one may be given another
        // network to run.
        let mut staging = STAGING.take();
        staging.resize(staging.len().max(len), 0.0);
        images.load(first, side, &mut staging[..len], threads);
        self.device.upload(arena, program.input.offset, &staging[..len])?;
        STAGING.set(staging);
        Ok(())
    }

    /// An inference program, to be run on `images` images.
    fn repeated<'a>(&'a self, program: &'a Program, images: usize, prepared: &'a Prepared) -> Repeated<'a> {
        let runs = images.div_ceil(program.images);
        Repeated::new(&*self.device, &program.calls, (&self.weights, &prepared.0), (self.graphs, runs))
    }

    /// Runs a program whose images are loaded.
    fn infer(
        &self,
        program: &Program,
        prepared: &Prepared,
        arena: &mut Buffer,
        threads: Threads,
    ) -> Result<(), Error> {
        let memory = Memory { weights: &self.weights, network: &prepared.0, arena };
        Ok(self.device.run(&program.calls, memory, threads)?)
    }

    /// Cross entropies and hits of one chunk: for each head, `[images, 2]`.
    fn score(
        &self,
        program: &Program,
        images: &dyn Images,
        first: usize,
        repeated: &Repeated<'_>,
    ) -> Result<Vec<f32>, Error> {
        let count = program.images.min(images.len() - first);
        let mut arena = self.arena(program.arena_len)?;
        self.load(program, images, first, &mut arena, Threads::One)?;
        let mut labels = vec![0.0; program.images];
        labels[..count].iter_mut().enumerate().for_each(|(i, label)| *label = images.label(first + i) as f32);
        self.device.upload(&mut arena, program.labels.offset, &labels)?;
        repeated.run(&mut arena, Threads::One)?;
        let mut out = vec![0.0; 2 * count * program.scores.len()];
        for (out, slot) in out.chunks_exact_mut(2 * count).zip(&program.scores) {
            self.device.download(&arena, slot.offset, out)?;
        }
        self.give_back(arena);
        Ok(out)
    }

    /// A buffer of at least `len` elements, from earlier work if one fits.
    fn arena(&self, len: usize) -> Result<Buffer, Error> {
        let mut arenas = self.arenas.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let fitting = arenas.iter().enumerate().filter(|(_, b)| b.len() >= len && b.len() <= 4 * len + 4096);
        // Of equals that which came back last: what it was used for last is likely to go on.
        if let Some((index, _)) = fitting.rev().min_by_key(|(_, buffer)| buffer.len()) {
            return Ok(arenas.remove(index));
        }
        drop(arenas);
        Ok(self.device.allocate(len)?)
    }

    pub(super) fn give_back(&self, buffer: Buffer) {
        let mut arenas = self.arenas.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        arenas.push(buffer);
        // A few sizes for every lane are worth keeping; beyond that the smallest goes.
        if arenas.len() > 4 * self.device.lanes() + 4
            && let Some((index, _)) = arenas.iter().enumerate().min_by_key(|(_, b)| b.len())
        {
            arenas.remove(index);
        }
    }
}

/// Images of a chunk, at most `most`, so that all chunks have as many but for the last, which lacks
/// few: a pass over a chunk that is not full takes as long as over one that is.
pub(super) fn even(images: usize, most: usize) -> usize {
    match images {
        0 => 1,
        _ => images.div_ceil(images.div_ceil(most.max(1))),
    }
}

/// Sums the scores of one exit over all chunks, in order.
pub(super) fn summarise<'a>(
    chunks: impl Iterator<Item = &'a [f32]>,
    exit: usize,
    exits: usize,
) -> Result<Evaluation, Error> {
    let (mut correct, mut images, mut loss) = (0, 0, 0.0f64);
    for chunk in chunks {
        let len = chunk.len() / exits;
        for score in chunk[exit * len..][..len].chunks_exact(2) {
            loss += f64::from(score[0]);
            correct += usize::from(score[1] == 1.0);
            images += 1;
        }
    }
    let loss = loss / images as f64;
    match loss.is_finite() {
        true => Ok(Evaluation { correct, images, loss }),
        false => Err(Error::NotFinite {
            loss,
            hint: "the stored batch-norm statistics may not belong to this network: recalibrate, or check the weights",
        }),
    }
}
