//! A super-network on a device, and what can be asked of it.
//!
//! A network is prepared once (its batch norms recalibrated on training images, or folded from the
//! checkpoint's statistics) and then run over images in chunks, on an arena a lane; many networks at
//! once as a [`Tree`]. Inference treats images independently and each image's arithmetic
//! is the same in any chunk, chunks are summed in order, and so are the averages of recalibration's
//! batches: a result depends neither on threads nor on chunking, nor on what else is evaluated.

use super::plan::{Mode, Program, Reads, Target, TreePlan};
use super::plans::Plans;
use super::pool::Pool;
use super::prepare::Batches;
use super::repeated::{Graphs, Recordings, Repeated};
use super::tree::Tree;
use super::{Error, Precision};
use crate::data::Selection;
use crate::device::{Buffer, Device};
use crate::ops::{Call, Slot, Threads, score};
use crate::space::Arch;
use crate::space::walk::Exits;
use crate::supernet::Supernet;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, OnceLock};

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

/// Images of a recalibration batch.
pub const CALIBRATION_BATCH: usize = 100;

/// As many of `images` as make whole batches of a recalibration, or all where there is not one.
pub fn whole_batches(images: usize) -> usize {
    images - if images > CALIBRATION_BATCH { images % CALIBRATION_BATCH } else { 0 }
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
    /// Shared with the engines that come of this one.
    pool: Arc<Pool>,
    recordings: Recordings,
    /// Shared as the pool is: plans depend on the layout and not on the weights.
    plans: Arc<Plans>,
    budget: usize,
    graphs: Graphs,
    precision: Precision,
    /// This engine on the device's second stream, once it was asked for.
    second: OnceLock<Option<Box<Engine>>>,
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
        let weights = Arc::new(precision.weights(&*device, &supernet)?);
        let (pool, plans, recordings, second) = Default::default();
        let (budget, graphs) = (BUDGET, Graphs::Auto);
        Ok(Engine { device, supernet, weights, pool, recordings, plans, budget, graphs, precision, second })
    }

    /// Uses at most about `bytes` for what the networks of a population share: outputs that are kept
    /// for more than one network, and batch norms. Results do not depend on it, only the time does.
    #[must_use]
    pub fn with_budget(self, bytes: usize) -> Engine {
        Engine { budget: bytes, second: OnceLock::new(), ..self }
    }

    /// Records lists of calls so. Results do not depend on it, only the time does.
    #[must_use]
    pub fn with_graphs(self, graphs: Graphs) -> Engine {
        Engine { graphs, second: OnceLock::new(), ..self }
    }

    /// An engine like this one on the same device, with other weights. It uses the buffers that this one
    /// leaves unused.
    ///
    /// # Errors
    /// The device fails.
    pub fn again(&self, supernet: Arc<Supernet>) -> Result<Engine, Error> {
        let weights = Arc::new(self.precision.weights(&*self.device, &supernet)?);
        let second = match self.second.get() {
            Some(Some(second)) => {
                let (device, pool) = (second.device.clone(), second.pool.clone());
                let second = self.like(device, supernet.clone(), weights.clone(), pool, OnceLock::from(None));
                // The weights are there before the second stream reads them.
                self.device.synchronise()?;
                OnceLock::from(Some(Box::new(second)))
            }
            Some(None) => OnceLock::from(None),
            None => OnceLock::new(),
        };
        Ok(self.like(self.device.clone(), supernet, weights, self.pool.clone(), second))
    }

    /// The same settings with other parts.
    fn like(
        &self,
        device: Arc<dyn Device>,
        supernet: Arc<Supernet>,
        weights: Arc<Buffer>,
        pool: Arc<Pool>,
        second: OnceLock<Option<Box<Engine>>>,
    ) -> Engine {
        let Engine { budget, graphs, precision, .. } = *self;
        let (recordings, plans) = (Recordings::default(), self.plans.clone());
        Engine { device, supernet, weights, pool, recordings, plans, budget, graphs, precision, second }
    }

    /// The same engine on a second stream, where the device has one; they share the weights.
    pub(super) fn on_second_stream(&self) -> Result<Option<&Engine>, Error> {
        if let Some(found) = self.second.get() {
            return Ok(found.as_deref());
        }
        let other = self.device.with_own_stream()?.map(|device| {
            let (supernet, weights) = (self.supernet.clone(), self.weights.clone());
            Box::new(self.like(device, supernet, weights, Arc::default(), OnceLock::from(None)))
        });
        // The weights are there before the other reads them.
        self.device.synchronise()?;
        Ok(self.second.get_or_init(|| other).as_deref())
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
        let plan = self.plan(Tree::new(self.supernet.channels(), &[(arch, exits)]));
        let never = || false;
        let Some(prepared) =
            self.prepare(&plan, calibration.batches([(arch, exits)])?, Threads::All, &never)?
        else {
            return Ok(Vec::new());
        };
        let program = self.inference(&plan, images.len(), Reads::Logits);
        let results = self.over(&program, &prepared, images, Threads::All, &never)?;
        self.give_back(prepared.0);
        let Some(results) = results else { return Ok(Vec::new()) };
        let (classes, stride) = (self.supernet.classes(), program.logit_stride);
        let exit = |&slot: &Slot| {
            let rows = results.at(slot, stride).flat_map(|chunk| chunk.chunks_exact(stride));
            let mut out = Vec::with_capacity(images.len() * classes);
            rows.for_each(|row| out.extend(&row[..classes]));
            out
        };
        Ok(program.logits.iter().map(exit).collect())
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
        let network = [(arch, exits)];
        let tree = Tree::new(self.supernet.channels(), &network);
        let batches = calibration.batches(network)?;
        let results = self.evaluate_tree((tree, &network), images, batches, threads, &|| false)?;
        // Nothing asks for a stop, so there is the one network's result.
        Ok(results.unwrap_or_default().pop().unwrap_or_default())
    }

    /// How good the networks of a tree are at their exits, in the order in which it was made of them; `None`
    /// once `stop` says so.
    pub(super) fn evaluate_tree(
        &self,
        (tree, networks): (Tree, &[(&Arch, Exits)]),
        images: &dyn Images,
        batches: Option<Batches<'_>>,
        threads: Threads,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<Vec<Vec<Evaluation>>>, Error> {
        let plan = self.plan(tree);
        let Some(prepared) = self.prepare(&plan, batches, threads, stop)? else { return Ok(None) };
        let program = self.inference(&plan, images.len(), Reads::Scores);
        let results = self.over(&program, &prepared, images, threads, stop)?;
        self.give_back(prepared.0);
        let Some(results) = results else { return Ok(None) };
        let network = |(reads, (arch, _)): (&Vec<usize>, &(&Arch, Exits))| {
            let leaf = |&leaf: &usize| {
                let found = summarise(results.at(program.scores[leaf], score::PER_IMAGE), arch);
                found.map_err(|error| error.recalibrated(batches.is_some()))
            };
            reads.iter().map(leaf).collect::<Result<Vec<_>, Error>>()
        };
        plan.tree().reads.iter().zip(networks).map(network).collect::<Result<Vec<_>, Error>>().map(Some)
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

    /// The inference program, for as many images at a time as suit the device.
    pub(super) fn inference(&self, plan: &TreePlan<'_>, images: usize, reads: Reads) -> Arc<Program> {
        let one = plan.arena_len(&self.supernet.layout, 1, Mode::Inference, reads);
        let chunk = even(images, self.device.chunk(one));
        self.program(plan, chunk, Mode::Inference, reads)
    }

    /// The plan of a tree of networks of this super-network, in this precision; the one that is kept, if one is.
    pub(super) fn plan(&self, tree: Tree) -> Arc<TreePlan<'static>> {
        let target = Target { precision: self.precision, block_bytes: self.device.block_bytes() };
        self.plans.of(tree, target)
    }

    /// A plan's program for so many images.
    pub(super) fn program(
        &self,
        plan: &TreePlan<'_>,
        images: usize,
        mode: Mode,
        reads: Reads,
    ) -> Arc<Program> {
        plan.kept_program(&self.supernet.layout, images, mode, reads)
    }

    /// Calls that will run `runs` times, with a network.
    pub(super) fn repeated<'a>(
        &'a self,
        calls: &'a Arc<Vec<Call>>,
        network: &'a Buffer,
        runs: usize,
    ) -> Repeated<'a> {
        let kept = (&self.recordings, self.graphs);
        Repeated::new(&*self.device, kept, calls, (&self.weights, network), runs)
    }

    pub(super) fn weights(&self) -> &Buffer {
        &self.weights
    }

    #[cfg(test)]
    pub(super) fn plans(&self) -> &Plans {
        &self.plans
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// A buffer of at least `len` elements, from earlier work if one fits.
    pub(super) fn arena(&self, len: usize) -> Result<Buffer, Error> {
        Ok(self.pool.take(&*self.device, len)?)
    }

    pub(super) fn give_back(&self, buffer: Buffer) {
        self.pool.give_back(&*self.device, buffer);
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

/// Sums the scores of one exit of a network, `[images, 2]` of each chunk, in order.
pub(super) fn summarise<'a>(
    chunks: impl Iterator<Item = &'a [f32]>,
    arch: &Arch,
) -> Result<Evaluation, Error> {
    let (mut correct, mut images, mut loss) = (0, 0, 0.0f64);
    for score in chunks.flat_map(|chunk| chunk.chunks_exact(score::PER_IMAGE)) {
        loss += f64::from(score[0]);
        correct += usize::from(score[1] == 1.0);
        images += 1;
    }
    let loss = loss / images as f64;
    if loss.is_finite() {
        Ok(Evaluation { correct, images, loss })
    } else {
        Err(Error::NotFinite {
            network: serde_json::to_string(arch).unwrap_or_default(),
            loss,
            hint: "the stored batch-norm statistics may not belong to this network: recalibrate, or check the weights",
        })
    }
}
