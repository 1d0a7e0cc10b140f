//! A super-network on a device, and what can be asked of it.
//!
//! A network is prepared once (its batch norms recalibrated on training images, or folded from the
//! checkpoint's statistics) and then run over images in chunks, each on an arena of its own.
//! Inference treats images independently and each image's arithmetic is the same in any chunk, and
//! chunks are summed in order, so a result depends neither on threads nor on chunking.

use super::Error;
use super::plan::{Mode, Program, Section, lower};
use crate::device::{Buffer, Device, Memory};
use crate::ops::Threads;
use crate::space::Arch;
use crate::space::walk::Exits;
use crate::supernet::{Supernet, derive_calls};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::time::Instant;

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
    weights: Buffer,
    arenas: Mutex<Vec<Buffer>>,
}

/// A network whose batch norms are folded: the buffer whose start is its section.
struct Prepared(Buffer);

impl Engine {
    /// Puts a super-network on a device and makes its derived filters there.
    ///
    /// # Errors
    /// The device fails.
    pub fn new(device: Arc<dyn Device>, supernet: Arc<Supernet>) -> Result<Engine, Error> {
        let mut weights = device.allocate(supernet.packed.len())?;
        device.upload(&mut weights, 0, &supernet.packed)?;
        let none = device.allocate(0)?;
        let memory = Memory { weights: &none, network: &none, arena: &mut weights };
        device.run(&derive_calls(&supernet.layout), memory, Threads::All)?;
        Ok(Engine { device, supernet, weights, arenas: Mutex::new(Vec::new()) })
    }

    /// The device.
    pub fn device(&self) -> &dyn Device {
        &*self.device
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
        let prepared = self.prepare(arch, exits, calibration, Threads::All)?;
        let program = self.inference(arch, exits, images.len());
        let classes = self.supernet.classes();
        let mut out = vec![Vec::with_capacity(images.len() * classes); exits.len()];
        for first in (0..images.len()).step_by(program.images) {
            let count = program.images.min(images.len() - first);
            let mut arena = self.arena(program.arena_len)?;
            self.infer(&program, images, first, &prepared, &mut arena, Threads::All)?;
            let mut chunk = vec![0.0; count * program.logit_stride];
            for (out, slot) in out.iter_mut().zip(&program.logits) {
                self.device.download(&arena, slot.offset, &mut chunk)?;
                chunk.chunks_exact(program.logit_stride).for_each(|row| out.extend(&row[..classes]));
            }
            self.give_back(arena);
        }
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
        let prepared = self.prepare(arch, exits, calibration, threads)?;
        let program = self.inference(arch, exits, images.len());
        let chunks = images.len().div_ceil(program.images);
        let chunk = |index: usize| self.score(&program, images, index * program.images, &prepared);
        // A device of one lane, a card, is filled by one chunk.
        let scores: Vec<Vec<f32>> = match threads {
            Threads::All if self.device.lanes() > 1 => {
                (0..chunks).into_par_iter().map(chunk).collect::<Result<_, Error>>()?
            }
            _ => (0..chunks).map(chunk).collect::<Result<_, Error>>()?,
        };
        self.give_back(prepared.0);
        (0..exits.len())
            .map(|exit| summarise(scores.iter().map(|s| s.as_slice()), exit, exits.len()))
            .collect()
    }

    /// Evaluates many networks, each at its own exit; `done` is called with the index and the result
    /// of each as it is finished, in any order. Results are in the order asked for.
    ///
    /// With as many networks as lanes, a lane runs whole networks, so that no thread ever waits.
    /// Once `stop` says so no further network is begun, and the answer is `None`.
    ///
    /// # Errors
    /// The first error in the order asked for.
    pub fn evaluate_all(
        &self,
        archs: &[Arch],
        images: &dyn Images,
        calibration: Calibration<'_>,
        stop: &(dyn Fn() -> bool + Sync),
        done: &(dyn Fn(usize, &Evaluation) + Sync),
    ) -> Result<Option<Vec<Evaluation>>, Error> {
        let one = |(index, arch): (usize, &Arch), threads| -> Result<Option<Evaluation>, Error> {
            if stop() {
                return Ok(None);
            }
            let result = self.evaluate(arch, Exits::single(arch), images, calibration, threads)?[0];
            done(index, &result);
            Ok(Some(result))
        };
        match self.device.lanes() > 1 && archs.len() >= 2 * self.device.lanes() {
            false => archs.iter().enumerate().map(|item| one(item, Threads::All)).collect(),
            // One at a time from the front, so that the lanes end together.
            true => {
                let items = archs.par_iter().enumerate().with_max_len(1);
                items.map(|item| one(item, Threads::One)).collect()
            }
        }
    }

    /// The time of a forward pass of `arch` on `batch` images, in milliseconds: the median of
    /// `repeats` passes behind as many to warm up, with all threads, on images of zeros.
    ///
    /// # Errors
    /// An architecture of another width, no images, a device that fails.
    pub fn latency(&self, arch: &Arch, batch: usize, repeats: usize) -> Result<f64, Error> {
        let exits = Exits::single(arch);
        self.check(arch, exits, batch.min(repeats), "time a network")?;
        let prepared = self.prepare(arch, exits, Calibration::Stored, Threads::All)?;
        let program = lower(&self.supernet.layout, arch, exits, batch, Mode::Inference).0;
        let mut arena = self.arena(program.arena_len)?;
        self.device.upload(&mut arena, program.input.offset, &vec![0.0; program.input.len])?;
        let mut logits = vec![0.0; program.logits[0].len];
        let mut times = Vec::with_capacity(repeats);
        for pass in 0..2 * repeats {
            let start = Instant::now();
            let memory = Memory { weights: &self.weights, network: &prepared.0, arena: &mut arena };
            self.device.run(&program.calls, memory, Threads::All)?;
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

    fn check(&self, arch: &Arch, exits: Exits, images: usize, what: &'static str) -> Result<(), Error> {
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

    /// Fills the section of a network.
    fn prepare(
        &self,
        arch: &Arch,
        exits: Exits,
        calibration: Calibration<'_>,
        threads: Threads,
    ) -> Result<Prepared, Error> {
        let layout = &self.supernet.layout;
        match calibration {
            Calibration::Stored => {
                let (_, section) = lower(layout, arch, exits, 1, Mode::Inference);
                let mut arena = self.arena(section.len)?;
                self.run(&section.stored, &mut arena, threads)?;
                Ok(Prepared(arena))
            }
            Calibration::Batches { images, count, batch } => {
                let count = count.min(images.len());
                if count == 0 || batch == 0 {
                    return Err(Error::NoImages { what: "recalibrate" });
                }
                let batch = batch.min(count);
                let batches = count / batch;
                let (program, section) = lower(layout, arch, exits, batch, Mode::Recalibration { batches });
                let mut arena = self.arena(program.arena_len)?;
                self.recalibrate(&program, &section, images, batches, &mut arena, threads)?;
                Ok(Prepared(arena))
            }
        }
    }

    fn recalibrate(
        &self,
        program: &Program,
        section: &Section,
        images: &dyn Images,
        batches: usize,
        arena: &mut Buffer,
        threads: Threads,
    ) -> Result<(), Error> {
        self.device.upload(arena, 0, &vec![0.0; section.len])?;
        for index in 0..batches {
            self.load(program, images, index * program.images, arena, threads)?;
            self.run(&program.calls, arena, threads)?;
        }
        self.run(&section.averaged, arena, threads)
    }

    /// Calls that write to `arena` and need no other network.
    fn run(&self, calls: &[crate::ops::Call], arena: &mut Buffer, threads: Threads) -> Result<(), Error> {
        let memory = Memory { weights: &self.weights, network: &self.weights, arena };
        Ok(self.device.run(calls, memory, threads)?)
    }

    /// The inference program, for as many images at a time as suit the device.
    fn inference(&self, arch: &Arch, exits: Exits, images: usize) -> Program {
        let layout = &self.supernet.layout;
        let one = lower(layout, arch, exits, 1, Mode::Inference).0.arena_len;
        let chunk = self.device.chunk(one).min(images);
        lower(layout, arch, exits, chunk, Mode::Inference).0
    }

    /// Loads the program's images from `first` on; fewer where there are no more.
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
        let side = program.side;
        let len = program.images.min(images.len() - first) * side * side * 3;
        // Taken, not borrowed: while loading waits for other threads, this one may be given another
        // network to run.
        let mut staging = STAGING.take();
        staging.resize(staging.len().max(len), 0.0);
        images.load(first, side, &mut staging[..len], threads);
        self.device.upload(arena, program.input.offset, &staging[..len])?;
        STAGING.set(staging);
        Ok(())
    }

    fn infer(
        &self,
        program: &Program,
        images: &dyn Images,
        first: usize,
        prepared: &Prepared,
        arena: &mut Buffer,
        threads: Threads,
    ) -> Result<(), Error> {
        self.load(program, images, first, arena, threads)?;
        let memory = Memory { weights: &self.weights, network: &prepared.0, arena };
        Ok(self.device.run(&program.calls, memory, threads)?)
    }

    /// Cross entropies and hits of one chunk: for each exit, `[images, 2]`.
    fn score(
        &self,
        program: &Program,
        images: &dyn Images,
        first: usize,
        prepared: &Prepared,
    ) -> Result<Vec<f32>, Error> {
        let count = program.images.min(images.len() - first);
        let mut arena = self.arena(program.arena_len)?;
        self.infer(program, images, first, prepared, &mut arena, Threads::One)?;
        let mut labels = vec![0.0; program.images];
        labels[..count].iter_mut().enumerate().for_each(|(i, label)| *label = images.label(first + i) as f32);
        self.device.upload(&mut arena, program.labels.offset, &labels)?;
        self.run(&program.scoring, &mut arena, Threads::One)?;
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
        if let Some((index, _)) = fitting.min_by_key(|(_, buffer)| buffer.len()) {
            return Ok(arenas.swap_remove(index));
        }
        drop(arenas);
        Ok(self.device.allocate(len)?)
    }

    fn give_back(&self, buffer: Buffer) {
        let mut arenas = self.arenas.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        arenas.push(buffer);
        // A few sizes for every lane are worth keeping; beyond that the smallest goes.
        if arenas.len() > 4 * self.device.lanes() + 4
            && let Some((index, _)) = arenas.iter().enumerate().min_by_key(|(_, b)| b.len())
        {
            arenas.swap_remove(index);
        }
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
