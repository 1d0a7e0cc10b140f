//! `natv2 bench profile`: where the time of networks goes, operator by operator.
//!
//! Networks run as they always do, by the engine and the trainer, on a device that passes everything
//! on and times every call on its own. The time of a call is *device time*: a call on one of several
//! lanes takes its share of the device, a call that all lanes work on takes the whole of it for as
//! long as it lasts, idle lanes included. So rates are set against the peaks of the whole device, and
//! what the calls do not account for is loading, planning, moving results, and lanes without work.

use super::kernels::peak_of_products;
use crate::data::Source;
use crate::device::{Buffer, Device, Error as DeviceError, Memory, Peaks, Residents};
use crate::engine::{CALIBRATION_BATCH, Calibration, Engine, Error as EngineError, Images, Precision};
use crate::ops::sums::added;
use crate::ops::{Call, Threads};
use crate::random::stream;
use crate::space::walk::Exits;
use crate::space::{Arch, cost};
use crate::supernet::Supernet;
use crate::train::{Batch, Decays, Error, Optimiser, Rule, Settings, Student, Teaching, Trainer, Weighting};
use rand::RngExt;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What to profile.
pub struct Options<'a> {
    /// The networks: evaluated as a population, and trained as the students of one step, at the
    /// resolution of the first.
    pub networks: &'a [(Arch, Exits)],
    /// Whether they are evaluated.
    pub evaluation: bool,
    /// Whether they are trained.
    pub training: bool,
    /// Images that they are measured on.
    pub images: usize,
    /// Images that recalibrate.
    pub calibration_images: usize,
    /// Images of a training step.
    pub batch: usize,
    /// Rounds; the quickest counts.
    pub rounds: usize,
    /// What maps are stored as.
    pub precision: Precision,
}

/// An operator's calls in a pass.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Row {
    /// The operator.
    pub operator: &'static str,
    /// Its calls.
    pub calls: u64,
    /// Their device time, in seconds.
    pub seconds: f64,
    /// Share of the time of all passes of the work, what is outside of calls included, 0 to 1.
    pub share: f64,
    /// Billions of operations a second; a multiply-add counts as two.
    pub gigaflops: f64,
    /// Share of the peak of multiply-adds, 0 to 1; more where tensor cores take most.
    pub share_of_arithmetic: f64,
    /// Share of the peaks of the units that its operations are for, 0 to 1: the least time that they could take, over
    /// the time.
    pub share_of_peak: f64,
    /// Gigabytes a second, each operand of a call once; operands that a cache keeps count too.
    pub gigabytes_per_second: f64,
    /// Share of the copy's rate; above 1 where operands stay in a cache.
    pub share_of_copy: f64,
}

/// The calls of one kind of pass.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pass {
    /// Recalibration, inference or step.
    pub name: &'static str,
    /// By operator, the most time first.
    pub operators: Vec<Row>,
    /// All of them.
    pub total: Row,
}

/// An evaluation or a training step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    /// Its name in the table.
    pub work: &'static str,
    /// Images that go through the networks, those that recalibrate included.
    pub images: usize,
    /// Seconds on the clock.
    pub seconds: f64,
    /// Share of them that no call accounts for, 0 to 1.
    pub outside: f64,
    /// Its passes.
    pub passes: Vec<Pass>,
}

/// The figures of a device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Version of this JSON.
    pub version: u32,
    /// The device.
    pub device: String,
    /// Family of the networks.
    pub family: String,
    /// Width multiplier.
    pub width: f64,
    /// Networks.
    pub networks: usize,
    /// Multiply-accumulates of an image, summed over the networks.
    pub macs: u64,
    /// Measured copy, in gigabytes a second, read and written.
    pub copy_gigabytes_per_second: f64,
    /// Measured arithmetic, in billions of operations a second.
    pub peak_gigaflops: f64,
    /// The same of products of 16-bit numbers, where there are tensor cores.
    pub peak_product_gigaflops: Option<f64>,
    /// What maps are stored as.
    pub precision: Precision,
    /// Evaluation and training step.
    pub profiles: Vec<Profile>,
}

/// What a pass of the engine is for.
const RECALIBRATION: &str = "recalibration";
const INFERENCE: &str = "inference";
const STEP: &str = "step";

/// What the calls of an operator come to.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    calls: u64,
    bytes: u64,
    flops: u64,
    /// The least time of the operations.
    least: f64,
    /// Device time.
    seconds: f64,
}

added!(Sum { calls, bytes, flops, least, seconds });

impl Sum {
    fn row(self, operator: &'static str, peaks: Peaks, whole: f64) -> Row {
        let rate = |amount: u64| amount as f64 / self.seconds.max(1e-12);
        let (flops, bytes) = (rate(self.flops), rate(self.bytes));
        Row {
            operator,
            calls: self.calls,
            seconds: self.seconds,
            share: self.seconds / whole,
            gigaflops: flops / 1e9,
            share_of_arithmetic: flops / peaks.arithmetic,
            share_of_peak: self.least / self.seconds.max(1e-12),
            gigabytes_per_second: bytes / 1e9,
            share_of_copy: bytes / peaks.copy,
        }
    }
}

type Log = BTreeMap<(&'static str, &'static str), Sum>;

/// A device that times every call.
struct Stopwatch {
    inner: Arc<dyn Device>,
    peaks: Peaks,
    training: bool,
    log: Mutex<Log>,
}

impl Stopwatch {
    fn new(inner: Arc<dyn Device>, peaks: Peaks, training: bool) -> Arc<Stopwatch> {
        Arc::new(Stopwatch { inner, peaks, training, log: Mutex::new(Log::new()) })
    }

    fn take(&self) -> Log {
        std::mem::take(&mut *self.log.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Inference reads the network that another pass has prepared; recalibration has none to read.
    fn pass(&self, memory: &Memory<'_>) -> &'static str {
        match (self.training, std::ptr::eq(memory.weights, memory.network)) {
            (true, _) => STEP,
            (false, true) => RECALIBRATION,
            (false, false) => INFERENCE,
        }
    }
}

impl Device for Stopwatch {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn arithmetic(&self) -> String {
        self.inner.arithmetic()
    }
    fn allocate(&self, len: usize) -> Result<Buffer, DeviceError> {
        self.inner.allocate(len)
    }
    fn upload(&self, buffer: &mut Buffer, offset: usize, data: &[f32]) -> Result<(), DeviceError> {
        self.inner.upload(buffer, offset, data)
    }
    fn download(&self, buffer: &Buffer, offset: usize, out: &mut [f32]) -> Result<(), DeviceError> {
        self.inner.download(buffer, offset, out)
    }
    fn run(&self, calls: &[Call], memory: Memory<'_>, threads: Threads) -> Result<(), DeviceError> {
        let pass = self.pass(&memory);
        let Memory { weights, network, arena } = memory;
        let lanes = match threads {
            Threads::One => self.lanes().max(1) as f64,
            Threads::All => 1.0,
        };
        let mut sums = Log::new();
        for call in calls {
            let memory = Memory { weights, network, arena: &mut *arena };
            let time: Duration = self.inner.time(std::slice::from_ref(call), memory, threads)?;
            let (work, seconds) = (call.work(), time.as_secs_f64() / lanes);
            let (least, _) = self.peaks.least_seconds(work.flops, call.tensor_flops());
            *sums.entry((pass, call.name())).or_default() +=
                Sum { calls: 1, bytes: work.bytes, flops: work.flops, least, seconds };
        }
        let mut log = self.log.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        sums.into_iter().for_each(|(key, sum)| *log.entry(key).or_default() += sum);
        Ok(())
    }
    fn block_bytes(&self) -> u32 {
        self.inner.block_bytes()
    }
    fn lanes(&self) -> usize {
        self.inner.lanes()
    }
    fn batch_lanes(&self) -> usize {
        self.inner.batch_lanes()
    }
    fn batches(&self, arena_of_one: usize) -> usize {
        self.inner.batches(arena_of_one)
    }
    fn chunk(&self, arena_of_one: usize) -> usize {
        self.inner.chunk(arena_of_one)
    }
    fn residents(&self) -> Option<&Residents> {
        self.inner.residents()
    }
    fn synchronise(&self) -> Result<(), DeviceError> {
        self.inner.synchronise()
    }
    fn cache_bytes(&self) -> usize {
        self.inner.cache_bytes()
    }
}

/// Images of noise, for which nothing is computed: each is another window of one list of numbers.
struct Noise {
    values: Vec<f32>,
    count: usize,
}

/// Windows that are different.
const WINDOWS: usize = 1024;

impl Noise {
    fn new(count: usize, side: usize) -> Noise {
        let mut random = stream(0, "bench/profile", 0, 0);
        let values = (0..side * side * 3 + 7 * WINDOWS).map(|_| random.random_range(-1.7..1.7)).collect();
        Noise { values, count }
    }
}

impl Images for Noise {
    fn len(&self) -> usize {
        self.count
    }

    fn load(&self, first: usize, side: usize, out: &mut [f32], _: Threads) {
        let len = side * side * 3;
        for (image, out) in (first..).zip(out.chunks_exact_mut(len)) {
            out.copy_from_slice(&self.values[7 * (image % WINDOWS)..][..len]);
        }
    }

    fn label(&self, _: usize) -> u32 {
        0
    }
}

/// The quickest of some rounds behind one that does not count: its log and its seconds.
fn quickest<E>(
    watch: &Stopwatch,
    rounds: usize,
    mut work: impl FnMut() -> Result<(), E>,
) -> Result<(Log, f64), E> {
    work()?;
    let mut least = (watch.take(), f64::INFINITY);
    for _ in 0..rounds.max(1) {
        watch.take();
        let start = Instant::now();
        work()?;
        let seconds = start.elapsed().as_secs_f64();
        if seconds < least.1 {
            least = (watch.take(), seconds);
        }
    }
    Ok(least)
}

fn profile(work: &'static str, images: usize, (log, seconds): (Log, f64), peaks: Peaks) -> Profile {
    let mut passes = Vec::new();
    for name in [RECALIBRATION, INFERENCE, STEP] {
        let of_pass = || log.iter().filter(|((pass, _), _)| *pass == name);
        let mut total = Sum::default();
        of_pass().for_each(|(_, &sum)| total += sum);
        if total.calls == 0 {
            continue;
        }
        let mut operators: Vec<Row> =
            of_pass().map(|(&(_, operator), &sum)| sum.row(operator, peaks, seconds)).collect();
        operators.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        passes.push(Pass { name, operators, total: total.row("total", peaks, seconds) });
    }
    let inside: f64 = passes.iter().map(|pass| pass.total.share).sum();
    Profile { work, images, seconds, outside: (1.0 - inside).max(0.0), passes }
}

fn evaluation(
    device: Arc<dyn Device>,
    supernet: &Supernet,
    options: &Options<'_>,
    peaks: Peaks,
) -> Result<Profile, Error> {
    let watch = Stopwatch::new(device, peaks, false);
    let engine = Engine::in_precision(watch.clone(), Arc::new(supernet.clone()), options.precision)?;
    let side = options.networks.iter().map(|(arch, _)| arch.r as usize).max().unwrap_or(0);
    let (test, train) = (Noise::new(options.images, side), Noise::new(options.calibration_images, side));
    let count = options.calibration_images;
    let calibration = Calibration::Batches { images: &train, count, batch: CALIBRATION_BATCH };
    let found = quickest(&watch, options.rounds, || {
        let found = engine.evaluate_population(options.networks, &test, calibration, &|| false, &|_, _| ());
        match found {
            // Random weights may give a loss that is no number; it took its time all the same.
            Ok(_) | Err(EngineError::NotFinite { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    })?;
    let batch = CALIBRATION_BATCH.min(count).max(1);
    Ok(profile("evaluation", options.images + count / batch * batch, found, peaks))
}

fn step(
    device: Arc<dyn Device>,
    supernet: &Supernet,
    options: &Options<'_>,
    peaks: Peaks,
) -> Result<Profile, Error> {
    let watch = Stopwatch::new(device, peaks, true);
    let rule = Rule::Sgd { momentum: 0.9, nesterov: true };
    let optimiser = Optimiser { rule, decay: 3e-5, decays: Decays::Weights, clip: None };
    let precision = options.precision;
    let mut trainer = Trainer::in_precision(watch.clone(), supernet.clone(), optimiser, precision)?;
    let student = |(arch, _): &(Arch, Exits)| Student { arch: arch.clone(), weighting: Weighting::Own };
    let students: Vec<Student> = options.networks.iter().map(student).collect();
    let side = students.first().map_or(0, |student| student.arch.r as usize);
    let mut images = vec![0.0; options.batch * side * side * 3];
    Noise::new(options.batch, side).load(0, side, &mut images, Threads::All);
    let labels: Vec<u32> = (0..options.batch).map(|i| (i % supernet.classes()) as u32).collect();
    let batch = Batch { images: Source::Made(&images), labels: &labels, side };
    // A rate so small that the weights stay what they are.
    let settings =
        Settings { rate: 1e-9, smoothing: 0.1, kd_ratio: 0.0, dropout: 0.1, seed: 0, epoch: 0, step: 0 };
    let found = quickest(&watch, options.rounds, || {
        trainer.step(&batch, &students, Teaching::Labels, &settings)?;
        Ok::<_, Error>(watch.synchronise()?)
    })?;
    Ok(profile("training step", options.batch, found, peaks))
}

/// Runs the networks and says where their time goes.
///
/// # Errors
/// Networks that the weights do not hold, a device that fails.
pub fn run(device: Arc<dyn Device>, supernet: &Supernet, options: &Options<'_>) -> Result<Report, Error> {
    let peaks = device.peaks()?;
    // On a thread of the pool: from outside, every call on all threads would put this one to sleep.
    let profiles = rayon::scope(|_| {
        let mut profiles = Vec::new();
        if options.evaluation {
            profiles.push(evaluation(device.clone(), supernet, options, peaks)?);
        }
        if options.training {
            profiles.push(step(device.clone(), supernet, options, peaks)?);
        }
        Ok::<_, Error>(profiles)
    })?;
    let macs =
        |(arch, exits): &(Arch, Exits)| cost(supernet.channels(), arch, *exits, supernet.classes()).macs;
    Ok(Report {
        version: 1,
        device: device.describe(),
        family: supernet.family.to_string(),
        width: supernet.channels().width,
        networks: options.networks.len(),
        macs: options.networks.iter().map(macs).sum(),
        copy_gigabytes_per_second: peaks.copy / 1e9,
        peak_gigaflops: peaks.arithmetic / 1e9,
        peak_product_gigaflops: peaks.products.map(|products| products / 1e9),
        precision: options.precision,
        profiles,
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} network{} of {}, width {}{}, {:.2} MMACs an image",
            self.device,
            self.networks,
            if self.networks == 1 { "" } else { "s" },
            self.family,
            self.width,
            self.precision.unless_f32(" in "),
            self.macs as f64 / 1e6
        )?;
        let (copy, peak) = (self.copy_gigabytes_per_second, self.peak_gigaflops);
        let products = peak_of_products(self.peak_product_gigaflops);
        writeln!(f, "measured peaks: copy {copy:.1} GB/s, multiply-adds {peak:.0} GFLOP/s{products}")?;
        for Profile { work, images, seconds, outside, passes } in &self.profiles {
            writeln!(f, "\n{work}: {images} images in {:.2} ms", 1e3 * seconds)?;
            for Pass { name, operators, total } in passes {
                writeln!(
                    f,
                    "{name:<20} {:>8} {:>10} {:>7} {:>9} {:>6} {:>8} {:>6}",
                    "calls", "ms", "time", "GFLOP/s", "peak", "GB/s", "copy"
                )?;
                for row in operators.iter().chain([total]) {
                    writeln!(
                        f,
                        "  {:<18} {:>8} {:>10.3} {:>6.1}% {:>9.1} {:>5.0}% {:>8.1} {:>5.0}%",
                        row.operator,
                        row.calls,
                        1e3 * row.seconds,
                        100.0 * row.share,
                        row.gigaflops,
                        100.0 * row.share_of_peak,
                        row.gigabytes_per_second,
                        100.0 * row.share_of_copy
                    )?;
                }
            }
            let rest = 1e3 * seconds * outside;
            writeln!(f, "{:<20} {:>8} {rest:>10.3} {:>6.1}%", "outside of calls", "", 100.0 * outside)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Cpu;

    #[test]
    fn times_belong_to_the_pass_that_took_them() {
        let supernet = Supernet::open(None, None).unwrap();
        let arch = Arch { d: [2; 5], ..Arch::largest(supernet.family, 32, None) };
        let networks = [(arch.clone(), Exits::single(&arch))];
        let options = Options {
            networks: &networks,
            evaluation: true,
            training: true,
            images: 5,
            calibration_images: 8,
            batch: 4,
            rounds: 1,
            precision: Precision::F32,
        };
        let half = run(Arc::new(Cpu), &supernet, &Options { precision: Precision::Bf16, ..options }).unwrap();
        let ran = |report: &Report, name: &str| {
            let mut passes = report.profiles.iter().flat_map(|profile| &profile.passes);
            passes.all(|pass| pass.operators.iter().any(|row| row.operator == name))
        };
        assert!(ran(&half, "PointwiseHalf") && half.to_string().contains(" in bf16,"), "{half}");
        let report = run(Arc::new(Cpu), &supernet, &options).unwrap();
        assert!(!ran(&report, "PointwiseHalf"));
        let passes: Vec<&Pass> = report.profiles.iter().flat_map(|profile| &profile.passes).collect();
        let names: Vec<&str> = passes.iter().map(|pass| pass.name).collect();
        assert_eq!(names, [RECALIBRATION, INFERENCE, STEP]);
        let has = |pass: &Pass, name: &str| pass.operators.iter().any(|row| row.operator == name);
        assert!(has(passes[0], "BnStatistics") && !has(passes[1], "BnStatistics"));
        assert!(has(passes[1], "Score") && !has(passes[0], "Score"));
        assert!(has(passes[2], "PointwiseWeights"));
        for pass in passes {
            assert_eq!(pass.operators.iter().map(|row| row.calls).sum::<u64>(), pass.total.calls);
            // Without tensor cores there is one peak.
            assert!((pass.total.share_of_peak / pass.total.share_of_arithmetic - 1.0).abs() < 1e-9);
            assert!(pass.operators.windows(2).all(|rows| rows[0].seconds >= rows[1].seconds));
        }
        assert_eq!((report.profiles[0].images, report.profiles[1].images), (13, 4));
    }
}
