//! The ways in which a device can run networks, side by side: one stream or two, graphs or none.
//!
//! For machines on which nothing is there yet: a super-network of random weights, and noise that is stored on the
//! device. Measured are a middle network and random populations, recalibration included, each way on an engine of
//! its own. All ways give the same results, to the bit, which is checked. Beside the times it says what they cost
//! the host.

use super::rounds::Times;
use super::watch::{Asked, Idle, Meter};
use crate::data::{Dataset, Split};
use crate::device::{Device, Memory};
use crate::engine::{
    self, CALIBRATION_BATCH, Calibration, Engine, Evaluation, Graphs, Images, Precision, SplitImages,
};
use crate::evaluator::Error;
use crate::ops::update::{Fill, FillParams};
use crate::ops::{Call, Region, Slot, Threads};
use crate::random::stream;
use crate::space::sample::{Policy, sample};
use crate::space::walk::Exits;
use crate::space::{Arch, ExitScaling, Family, Space};
use crate::supernet::{Blank, Supernet};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// What to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Family of the super-network.
    pub family: Family,
    /// Its width multiplier.
    pub width: f64,
    /// Its classes.
    pub classes: usize,
    /// Resolutions of the networks, in pixels. The images have the largest, and so has the middle network.
    pub resolutions: Vec<u32>,
    /// Images that networks are measured on.
    pub images: usize,
    /// Images that recalibrate.
    pub calibration_images: usize,
    /// Rounds of a measurement.
    pub rounds: usize,
    /// Sizes of the random populations.
    pub populations: Vec<usize>,
    /// Streams: 1 or 2.
    pub streams: Vec<usize>,
    /// When programs are recorded.
    pub graphs: Vec<Graphs>,
    /// What maps are stored as.
    pub precision: Precision,
    /// Seed of weights, images and populations.
    pub seed: u64,
}

/// What it costs to launch a kernel that has next to nothing to do, in microseconds; each is the least of a few lists.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Launch {
    /// Kernels of a list.
    pub calls: usize,
    /// Time of the host until it can go on.
    pub host_us: f64,
    /// Time from the first kernel to the end of the last, divided by their number.
    pub us: f64,
    /// Time of the host to record a kernel of a list; `None` where nothing is recorded.
    pub recording_us: Option<f64>,
    /// As `host_us`, where the list was recorded.
    pub graph_host_us: Option<f64>,
    /// As `us`, where it was.
    pub graph_us: Option<f64>,
}

/// What an evaluation takes of the host, in seconds of all its threads together; on a card these lie before, beside
/// and behind what the card does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Host {
    /// The same evaluation on a device that does nothing, on the clock: making plans, choosing images, summing up.
    pub planning: f64,
    /// What it asks of the device, in the mean of the rounds.
    #[serde(flatten)]
    pub asked: Asked,
}

/// The round that does not count: it loads kernels, finds memory, and records what is kept for the others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FirstRound {
    /// Seconds of the evaluation.
    pub seconds: f64,
    /// What it asks of the device.
    #[serde(flatten)]
    pub asked: Asked,
}

/// Networks, run in one way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Way {
    /// `network`, a middle one, or `population`.
    pub work: &'static str,
    /// How many networks.
    pub networks: usize,
    /// Streams.
    pub streams: usize,
    /// When programs are recorded: `auto`, `always` or `never`.
    pub graphs: &'static str,
    /// The first evaluation.
    pub first: FirstRound,
    /// Seconds of a later one.
    pub seconds: Times,
    /// Networks a second.
    pub networks_per_second: f64,
    /// Images a second, those of each network; those that recalibrate are not counted.
    pub images_per_second: f64,
    /// Kernels of an evaluation, launched one at a time or in graphs.
    pub launches: u64,
    /// What it takes of the host.
    pub host: Host,
    /// Whether the results are those of the first way, to the bit.
    pub equal: bool,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurements {
    /// What a launch costs.
    pub launch: Launch,
    /// The ways.
    pub ways: Vec<Way>,
}

type Networks = Vec<(Arch, Exits)>;

/// Kernels of a list by which launches are timed.
const LAUNCHES: usize = 256;

/// Measures what a launch costs.
///
/// # Errors
/// The device fails.
pub fn launch_costs(device: &dyn Device) -> Result<Launch, crate::device::Error> {
    let (mut arena, none) = (device.allocate(16)?, device.allocate(0)?);
    let y = Slot { region: Region::Arena, offset: 0, len: 16 };
    let calls = vec![Call::from(Fill { params: FillParams { len: 16, value: 0.0 }, y }); LAUNCHES];
    let mut memory = Memory { weights: &none, network: &none, arena: &mut arena };
    let each = |seconds: f64| 1e6 * seconds / LAUNCHES as f64;
    // The host's time and the whole time of the quickest of a few lists behind one that does not count.
    let least = |run: &mut dyn FnMut() -> Result<(), crate::device::Error>| {
        let (mut host, mut whole) = (f64::INFINITY, f64::INFINITY);
        for round in 0..6 {
            device.synchronise()?;
            let start = Instant::now();
            run()?;
            let launched = start.elapsed().as_secs_f64();
            device.synchronise()?;
            if round > 0 {
                (host, whole) = (host.min(launched), whole.min(start.elapsed().as_secs_f64()));
            }
        }
        Ok::<_, crate::device::Error>((each(host), each(whole)))
    };
    let (host_us, us) = least(&mut || device.run(&calls, memory.again(), Threads::One))?;
    let start = Instant::now();
    let recording = device.record(&calls, memory.again())?;
    let recorded = each(start.elapsed().as_secs_f64());
    let graph = match &recording {
        None => None,
        Some(recording) => {
            Some(least(&mut || device.replay(recording, memory.again(), Threads::One).map(drop))?)
        }
    };
    Ok(Launch {
        calls: LAUNCHES,
        host_us,
        us,
        recording_us: graph.map(|_| recorded),
        graph_host_us: graph.map(|(host, _)| host),
        graph_us: graph.map(|(_, whole)| whole),
    })
}

/// A super-network of random weights, and noise.
struct Workbench<'a> {
    device: Arc<dyn Device>,
    supernet: Arc<Supernet>,
    test: SplitImages<'a>,
    calibration: Calibration<'a>,
    precision: Precision,
    rounds: usize,
}

impl Workbench<'_> {
    fn engine(&self, device: Arc<dyn Device>, graphs: Graphs) -> Result<Engine, Error> {
        Ok(Engine::in_precision(device, self.supernet.clone(), self.precision)?.with_graphs(graphs))
    }

    fn evaluate(&self, engine: &Engine, networks: &Networks) -> Result<Vec<Vec<Evaluation>>, Error> {
        let found =
            engine.evaluate_population(networks, &self.test, self.calibration, &|| false, &|_, _| ())?;
        // Nothing asks for a stop, so there always are results.
        Ok(found.map(|population| population.results).unwrap_or_default())
    }

    /// Launches of an evaluation, and the host's seconds of it where the device does nothing.
    fn planned(&self, networks: &Networks, streams: usize) -> Result<(u64, f64), Error> {
        let idle = Arc::new(Idle::new(self.device.clone(), streams));
        let engine = self.engine(idle.clone(), Graphs::Never)?;
        let launches = idle.launches_of(|| self.evaluate(&engine, networks).map(drop))?;
        let start = Instant::now();
        self.evaluate(&engine, networks)?;
        Ok((launches, start.elapsed().as_secs_f64()))
    }

    /// One way, and its results.
    fn way(
        &self,
        (work, networks): (&'static str, &Networks),
        streams: usize,
        graphs: Graphs,
        (launches, planning): (u64, f64),
    ) -> Result<(Way, Vec<Vec<Evaluation>>), Error> {
        let meter = Arc::new(Meter::new(self.device.clone(), streams));
        let engine = self.engine(meter.clone(), graphs)?;
        meter.take();
        let start = Instant::now();
        let results = self.evaluate(&engine, networks)?;
        let first = FirstRound { seconds: start.elapsed().as_secs_f64(), asked: meter.take() };
        let rounds = self.rounds.max(1);
        let mut seconds = Vec::with_capacity(rounds);
        let mut equal = true;
        for _ in 0..rounds {
            let start = Instant::now();
            let again = self.evaluate(&engine, networks)?;
            seconds.push(start.elapsed().as_secs_f64());
            equal &= again == results;
        }
        let asked = meter.take().over(rounds);
        let seconds = Times::of(seconds);
        let networks_per_second = networks.len() as f64 / seconds.median;
        let images = self.test.len() as f64;
        let way = Way {
            work,
            networks: networks.len(),
            streams,
            graphs: word(graphs),
            first,
            networks_per_second,
            images_per_second: images * networks_per_second,
            seconds,
            launches,
            host: Host { planning, asked },
            equal,
        };
        Ok((way, results))
    }
}

fn word(graphs: Graphs) -> &'static str {
    match graphs {
        Graphs::Auto => "auto",
        Graphs::Always => "always",
        Graphs::Never => "never",
    }
}

/// Random networks of a space, under NATv2's policy.
pub(super) fn random(space: &Space, count: usize, seed: u64) -> Result<Networks, crate::space::Error> {
    let mut rng = stream(seed, "bench/evaluate", count as u64, 0);
    let one = |_| {
        let arch = space.decode(&sample(space, Policy::NatV2, &mut rng))?;
        Ok((arch.clone(), Exits::single(&arch)))
    };
    (0..count).map(one).collect()
}

/// Measures a middle network and random populations in every way.
///
/// # Errors
/// A width or a resolution that there is not, a device that fails, a loss that is no number.
pub fn run(device: Arc<dyn Device>, options: &Options) -> Result<(Measurements, Arc<Supernet>), Error> {
    let Options { family, width, classes, images, calibration_images, seed, .. } = *options;
    let blank = Blank::new(family, width, classes);
    let supernet = Arc::new(Supernet::random(&blank, seed)?);
    let mut resolutions = options.resolutions.clone();
    resolutions.sort_unstable();
    resolutions.dedup();
    let space = Space::new(family, &resolutions, &[width], ExitScaling::Once)?;
    let side = resolutions.last().copied().unwrap_or(0);
    let dataset = Dataset::noise((calibration_images, images), side as usize, classes, seed);
    let pixels = dataset.facts().pixels;
    let of = |split| SplitImages::new(&dataset, dataset.split(split), pixels);
    let (test, train) = (of(Split::Test), of(Split::Train));
    let launch = launch_costs(&*device).map_err(engine::Error::from)?;
    let ground = Workbench {
        supernet: supernet.clone(),
        test,
        calibration: Calibration::Batches {
            images: &train,
            count: calibration_images,
            batch: CALIBRATION_BATCH,
        },
        precision: options.precision,
        rounds: options.rounds,
        device: device.clone(),
    };
    // Where nothing is recorded, or there is one order, other ways are the same.
    let graphs = match launch.graph_us {
        Some(_) => distinct(&options.graphs),
        None => vec![Graphs::Never],
    };
    let streams = match device.with_own_stream().map_err(engine::Error::from)? {
        Some(_) => distinct(&options.streams),
        None => vec![1],
    };
    let one = Arch::middle(family, side, None);
    let alone = vec![(one.clone(), Exits::single(&one))];
    // One network is one group of them, which runs on one stream.
    let mut works = vec![("network", alone, vec![1])];
    for &count in options.populations.iter().filter(|&&count| count > 0) {
        works.push(("population", random(&space, count, seed)?, streams.clone()));
    }
    let mut ways = Vec::new();
    for (work, networks, streams) in &works {
        let mut first = None;
        for &streams in streams {
            let planned = ground.planned(networks, streams)?;
            for &graphs in &graphs {
                let (mut way, results) = ground.way((work, networks), streams, graphs, planned)?;
                way.equal &= *first.get_or_insert_with(|| results.clone()) == results;
                ways.push(way);
            }
        }
    }
    Ok((Measurements { launch, ways }, supernet))
}

/// Each once, in the order in which they come first.
fn distinct<T: Copy + PartialEq>(all: &[T]) -> Vec<T> {
    let mut found: Vec<T> = Vec::with_capacity(all.len());
    all.iter().for_each(|&one| {
        if !found.contains(&one) {
            found.push(one);
        }
    });
    found
}

impl fmt::Display for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Launch { calls, host_us, us, .. } = self;
        write!(
            f,
            "a launch of next to nothing, {calls} behind one another: {host_us:.2} us of the host, {us:.2} us until done"
        )?;
        match (self.recording_us, self.graph_host_us, self.graph_us) {
            (Some(recording), Some(host), Some(whole)) => {
                write!(f, "; in a graph {host:.2} and {whole:.2} us, {recording:.2} us to record")
            }
            _ => write!(f, "; nothing is recorded here"),
        }
    }
}

/// The ways as a table.
pub(super) fn table(ways: &[Way], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "{:<12} {:>7} {:>7} {:>10} {:>10} {:>7} {:>10} {:>11} {:>9}   {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}  of the host, ms",
        "networks",
        "streams",
        "graphs",
        "first ms",
        "ms",
        "spread",
        "networks/s",
        "images/s",
        "launches",
        "planning",
        "launching",
        "recording",
        "starting",
        "copying",
        "waiting"
    )?;
    for way in ways {
        let Host { planning, asked } = way.host;
        let name = match way.work {
            "network" => "a middle one".into(),
            _ => format!("{} random", way.networks),
        };
        writeln!(
            f,
            "{name:<12} {:>7} {:>7} {:>10.2} {:>10.2} {:>6.0}% {:>10.1} {:>11.0} {:>9}   {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}{}",
            way.streams,
            way.graphs,
            1e3 * way.first.seconds,
            1e3 * way.seconds.median,
            100.0 * way.seconds.spread(),
            way.networks_per_second,
            way.images_per_second,
            way.launches,
            1e3 * planning,
            1e3 * asked.launching,
            1e3 * asked.recording,
            1e3 * asked.starting,
            1e3 * asked.copying,
            1e3 * asked.waiting,
            if way.equal { "" } else { "  DIFFERENT RESULTS" }
        )?;
    }
    Ok(())
}
