//! `natv2 bench plan`: what a plan costs before it runs, beside the least that it could.
//!
//! The numbers are the [model's](crate::engine::model): no network runs here. Of every operator, and of every MBConv of
//! one network in 16 bits, it says what bounds it on each machine. Cards come from their
//! data sheets; "this machine" is measured when it is asked for. A plan in another precision is another
//! plan, lowered as the engine does it.

use crate::device::Device;
use crate::engine::mbconv::{MbconvChoice, choices};
use crate::engine::model::chosen::Table;
use crate::engine::model::floor::{blocks_within, prefixes};
use crate::engine::model::machine::{card_batches, card_chunk};
use crate::engine::model::time;
use crate::engine::model::{
    Chosen, EvaluationPlan, Floor, LeastWork, Machine, OperatorTally, Pass, Precision, ReadTo, Scheduling,
    SecondsBy, Workload, evaluation, floor_seconds, layers, seconds, tally, total,
};
use crate::engine::plan::Target;
use crate::engine::tree::Saving;
use crate::ops::mbconv::Block;
use crate::space::walk::Exits;
use crate::space::{Arch, Family, cost};
use crate::supernet::Layout;
use crate::train::{Decays, Optimiser, Rule, StepShape, StepTeacher, Student, Weighting, step_calls};
use crate::words::words;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

words!(
    /// What is planned.
    Mode {
        /// Images with stored statistics.
        Inference = "inference",
        /// The statistics of training images.
        Recalibration = "recalibration",
        /// Both: what a search does with every network.
        Evaluation = "evaluation",
        /// One optimiser step.
        Training = "training",
    }
);

/// What to plan.
pub struct Options<'a> {
    /// The super-network's layout.
    pub layout: &'a Layout,
    /// Family of the networks.
    pub family: Family,
    /// The networks, each at its exits. Training takes them as the students of one step, at the
    /// resolution of the first.
    pub networks: &'a [(Arch, Exits)],
    /// What is planned.
    pub mode: Mode,
    /// Images that networks are measured on, or images of a training step.
    pub images: usize,
    /// Training images for recalibration, in batches of `calibration_batch`.
    pub calibration_images: usize,
    /// Images of a recalibration batch.
    pub calibration_batch: usize,
    /// Images of an inference pass; what the machine takes if `None`.
    pub batch: Option<usize>,
    /// A teacher in the training step: the largest network.
    pub teacher: bool,
    /// Cards.
    pub cards: Vec<Machine>,
    /// A device to measure and to plan for.
    pub device: Option<&'a dyn Device>,
    /// What the plan stores maps in.
    pub precision: Precision,
    /// Whether MBConvs that fit are one call, in 16 bits.
    pub fuse: bool,
}

/// What the calls of an operator come to, and their time on every machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The operator.
    pub operator: &'static str,
    /// Calls, launches, bytes, operations, planned for a card.
    #[serde(flatten)]
    pub tally: OperatorTally,
    /// Seconds, by machine that runs the precision.
    #[serde(flatten)]
    pub times: Times,
}

/// What something takes, by machine.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Times {
    /// Seconds.
    pub seconds: BTreeMap<String, f64>,
    /// The same, by what they are taken for.
    pub parts: BTreeMap<String, SecondsBy>,
    /// What most of them are taken for.
    pub bounds: BTreeMap<String, time::Bound>,
}

/// An MBConv of one network, and what it takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Layer {
    /// How it runs.
    #[serde(flatten)]
    pub choice: MbconvChoice,
    /// What it takes for all images, where it is one call or a pair.
    #[serde(flatten)]
    pub times: Times,
}

/// A plan's time on a machine next to its floor's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Time {
    /// Estimated seconds.
    pub seconds: f64,
    /// Seconds of the launches among them.
    pub launch_seconds: f64,
    /// All of them, by what they are taken for.
    pub parts: SecondsBy,
    /// What most of them are taken for.
    pub bound: time::Bound,
    /// The floor's seconds.
    pub floor_seconds: f64,
    /// The one over the other.
    pub ratio: f64,
    /// Layers whose expanded map of an image fits the shared memory of a block.
    pub blocks_in_shared: Option<u64>,
}

/// A machine and what the plan takes on it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MachinePlan {
    /// Its peaks.
    #[serde(flatten)]
    pub machine: Machine,
    /// Cycles a second that go with its f32 rate.
    pub clock: Option<f64>,
    /// Images of its largest inference pass; 0 where there is none.
    pub chunk: usize,
    /// What its plan comes to.
    pub plan: OperatorTally,
    /// The plan in f32.
    pub f32: Time,
    /// The plan in bf16; `None` where there is none, or no tensor core to run it on.
    pub bf16: Option<Time>,
}

/// The floor of the whole plan.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bound {
    /// Bytes of fused layers, maps and weights.
    pub fused_bytes: u64,
    /// Bytes of single operators.
    pub unfused_bytes: u64,
    /// Operations.
    pub flops: u64,
    /// Those of depthwise filters among them, which are not for tensor cores.
    pub filter_flops: u64,
    /// Layers with an expanded map.
    pub blocks: u64,
}

/// What a plan costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Version of this JSON.
    pub version: u32,
    /// What is planned.
    pub mode: Mode,
    /// Family of the networks.
    pub family: String,
    /// Width multiplier.
    pub width: f64,
    /// Classes.
    pub classes: usize,
    /// Networks.
    pub networks: usize,
    /// Multiply-accumulates of an image, summed over the networks.
    pub macs: u64,
    /// Images that networks are measured on, or of a training step.
    pub images: usize,
    /// Images that recalibrate.
    pub calibration_images: usize,
    /// What shared prefixes save.
    pub saving: Saving,
    /// What maps are stored in, in all that follows but the machines' own times.
    pub precision: Precision,
    /// The plan for a card: calls, launches, bytes, operations.
    pub total: OperatorTally,
    /// The same, by operator.
    pub operators: Vec<Row>,
    /// Of one network in 16 bits: its MBConvs, which of them are one kernel or a pair, and the block that takes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mbconvs: Vec<Layer>,
    /// Shared memory of a block that they were planned for.
    pub block_bytes: u32,
    /// Which parts of the networks run how, in order, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chosen: Vec<Chosen>,
    /// The floor.
    pub floor: Bound,
    /// Bytes of the plan over those of the floor.
    pub traffic_ratio: f64,
    /// The machines.
    pub machines: Vec<MachinePlan>,
}

impl Bound {
    fn new((images, floor): (usize, Floor), weights: u64, precision: Precision) -> Bound {
        let stored = |maps: u64| precision.bytes() * (images as u64 * maps + weights);
        Bound {
            fused_bytes: stored(floor.fused),
            unfused_bytes: stored(floor.unfused),
            flops: 2 * images as u64 * floor.macs,
            filter_flops: 2 * images as u64 * floor.filter_macs,
            blocks: floor.blocks,
        }
    }

    fn plus(self, other: Bound) -> Bound {
        Bound {
            fused_bytes: self.fused_bytes + other.fused_bytes,
            unfused_bytes: self.unfused_bytes + other.unfused_bytes,
            flops: self.flops + other.flops,
            filter_flops: self.filter_flops + other.filter_flops,
            blocks: self.blocks.max(other.blocks),
        }
    }
}

impl Options<'_> {
    /// Batches and images of a batch, as recalibration has them.
    fn calibration(&self) -> Option<(usize, usize)> {
        let batch = self.calibration_batch.min(self.calibration_images).max(1);
        let wanted =
            matches!(self.mode, Mode::Recalibration | Mode::Evaluation) && self.calibration_images > 0;
        wanted.then(|| (self.calibration_images / batch, batch))
    }

    fn measured_images(&self) -> usize {
        if self.mode == Mode::Recalibration { 0 } else { self.images }
    }

    /// The passes on a machine that takes work so; `None` where there is no such plan.
    fn passes(&self, precision: Precision, takes: MachineScheduling<'_>) -> Option<EvaluationPlan> {
        if self.mode == Mode::Training {
            let (passes, saving) = (self.step(precision), Saving::default());
            return Some(EvaluationPlan { passes, saving, chunk: self.images, chosen: Vec::new() });
        }
        let workload = Workload { images: self.measured_images(), calibration: self.calibration() };
        let forced = |arena: usize| self.batch.unwrap_or_else(|| (takes.chunk)(arena));
        let taking =
            Scheduling { lanes: takes.lanes, streams: takes.streams, chunk: &forced, batches: takes.batches };
        let target = Target { precision, block_bytes: if self.fuse { takes.block_bytes } else { 0 } };
        Some(evaluation(self.layout, self.networks, workload, taking, target))
    }

    fn step(&self, precision: Precision) -> Vec<Pass> {
        let students: Vec<Student> = self
            .networks
            .iter()
            .map(|(arch, _)| Student { arch: arch.clone(), weighting: Weighting::Own })
            .collect();
        let optimiser = Optimiser {
            rule: Rule::Sgd { momentum: 0.9, nesterov: true },
            decay: 3e-5,
            decays: Decays::Weights,
            clip: None,
        };
        let shape = StepShape {
            students: &students,
            teacher: if self.teacher { StepTeacher::Network(self.family) } else { StepTeacher::None },
            images: self.images,
            side: self.side(),
            dropout: true,
            precision,
        };
        let lists = step_calls(self.layout, &optimiser, &shape);
        lists.iter().map(|list| Pass::new(&list.calls, list.arena_len, None, 1)).collect()
    }

    /// Resolution of a training step.
    fn side(&self) -> usize {
        self.networks.first().map_or(0, |(arch, _)| arch.r as usize)
    }

    fn bound(&self, precision: Precision) -> Bound {
        let of = |networks: &[(Arch, Exits)], until| {
            Floor::of(self.layout, &prefixes(self.layout.channels(), networks), until)
        };
        if self.mode == Mode::Training {
            return self.training_bound(precision);
        }
        let logits = of(self.networks, ReadTo::Logits);
        let mut bound = Bound::new((self.measured_images(), logits), 0, precision);
        if self.measured_images() > 0 {
            bound = bound.plus(Bound::new((0, Floor::default()), logits.weights, precision));
        }
        if let Some((batches, batch)) = self.calibration() {
            let norms = of(self.networks, ReadTo::Norms);
            bound = bound.plus(Bound::new((batches * batch, norms), norms.weights, precision));
        }
        bound
    }

    /// Forward and back, a student's maps cross the memory five times where inference's do two: in and
    /// out, and on the way back the input again, the gradient behind and the gradient in front. Its
    /// weights are read twice and their gradient is written; the update reads gradient, weight and
    /// velocity and writes the last two. In 16 bits what is read twice is rows of half the bytes, and the
    /// update writes them, both ways round: as many bytes.
    fn training_bound(&self, precision: Precision) -> Bound {
        let mut sum = Bound { fused_bytes: 0, unfused_bytes: 0, flops: 0, filter_flops: 0, blocks: 0 };
        let side = self.side() as u32;
        let one = |arch: &Arch| {
            let network = [(Arch { r: side, ..arch.clone() }, Exits::single(arch))];
            Floor::of(self.layout, &prefixes(self.layout.channels(), &network), ReadTo::Logits)
        };
        for (arch, _) in self.networks {
            let floor = one(arch);
            let maps = |elements: u64| elements * 5 / 2;
            let back = Floor {
                fused: maps(floor.fused),
                unfused: maps(floor.unfused),
                macs: 3 * floor.macs,
                filter_macs: 3 * floor.filter_macs,
                ..floor
            };
            sum = sum.plus(Bound::new((self.images, back), 0, precision));
            sum = sum.plus(Bound::new((0, Floor::default()), 8 * floor.weights, Precision::F32));
        }
        if self.teacher {
            let floor = one(&Arch::largest(self.family, side, None));
            sum = sum.plus(Bound::new((self.images, floor), floor.weights, precision));
        }
        sum
    }
}

/// How a machine takes work.
#[derive(Clone, Copy)]
struct MachineScheduling<'a> {
    /// Lists of calls side by side.
    lanes: usize,
    /// CUDA streams of one lane.
    streams: usize,
    /// Images of a pass.
    chunk: &'a dyn Fn(usize) -> usize,
    /// Recalibration's batches of a pass.
    batches: &'a dyn Fn(usize) -> usize,
    /// Shared memory of a block.
    block_bytes: u32,
}

impl MachineScheduling<'_> {
    fn card(shared_bytes: Option<u64>) -> MachineScheduling<'static> {
        let block_bytes = shared_bytes.map_or(0, |bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
        MachineScheduling { lanes: 1, streams: 2, chunk: &card_chunk, batches: &card_batches, block_bytes }
    }
}

/// Plans, and estimates the plan on every machine.
///
/// # Errors
/// A device that is to be measured fails.
pub fn run(options: &Options<'_>) -> Result<Report, crate::device::Error> {
    let precision = options.precision;
    let none = EvaluationPlan { passes: Vec::new(), saving: Saving::default(), chunk: 0, chosen: Vec::new() };
    // What fits the smallest blocks fits all; without a card, those of this process's device.
    let least = options.cards.iter().filter_map(Machine::blocks).min_by_key(|blocks| blocks.0);
    let own =
        options.device.map(|device| (device.block_bytes(), device.multiprocessors().unwrap_or_default()));
    let blocks = least.or(own).unwrap_or_default();
    let card = MachineScheduling::card(Some(u64::from(blocks.0)));
    let inference = matches!(options.mode, Mode::Inference | Mode::Evaluation);
    let choices = match options.networks {
        [(arch, _)] if precision != Precision::F32 && options.fuse && inference => {
            choices(options.layout, arch, options.images, blocks)
        }
        _ => Vec::new(),
    };
    let plan = options.passes(precision, card).unwrap_or_else(|| none.clone());
    // Every machine is held against the same ones.
    let bounds = Precision::ALL.map(|own| options.bound(own));
    let bound = |own: Precision| bounds[own as usize];
    let floor = bound(precision);
    let trees = prefixes(options.layout.channels(), options.networks);
    let on = |machine: Machine, takes: MachineScheduling<'_>| {
        let time = |own: Precision| -> Option<Time> {
            let planned = options.passes(own, takes)?;
            let parts: SecondsBy = seconds(&planned.passes, &machine, own)?.into_values().sum();
            let Bound { fused_bytes: bytes, flops, filter_flops, .. } = bound(own);
            let floor_seconds = floor_seconds(LeastWork { bytes, flops, filter_flops }, &machine, own)?;
            let in_shared = |bytes: u64| blocks_within(&trees, bytes / own.bytes());
            Some(Time {
                seconds: parts.seconds(),
                launch_seconds: parts.launches,
                parts,
                bound: parts.bound(),
                floor_seconds,
                ratio: parts.seconds() / floor_seconds,
                blocks_in_shared: machine.shared_bytes.map(in_shared),
            })
        };
        // Every machine computes in f32.
        let f32 = time(Precision::F32)?;
        let bf16 = time(Precision::Bf16);
        let planned = options.passes(precision, takes).unwrap_or_else(|| none.clone());
        let clock = machine.clock();
        Some(MachinePlan { chunk: planned.chunk, plan: total(&planned.passes), clock, f32, bf16, machine })
    };
    let mut times: Vec<(String, BTreeMap<&'static str, SecondsBy>)> = Vec::new();
    let mut of_layers: Vec<(String, Vec<SecondsBy>)> = Vec::new();
    let mut taken = |machine: &Machine, planned: &EvaluationPlan| {
        let name = machine.name.clone();
        times.push((name.clone(), seconds(&planned.passes, machine, precision).unwrap_or_default()));
        of_layers.push((name, layers(&planned.passes, machine)));
    };
    let mut machines = Vec::new();
    for card in &options.cards {
        taken(card, &plan);
        machines.extend(on(card.clone(), MachineScheduling::card(card.shared_bytes)));
    }
    if let Some(device) = options.device {
        let machine = Machine::measured(device)?;
        let chunk = |arena| device.chunk(arena);
        let batches = |arena| device.batches(arena);
        let (lanes, block_bytes) = (device.lanes(), device.block_bytes());
        let streams = 1 + usize::from(device.with_own_stream()?.is_some());
        let takes = MachineScheduling { lanes, streams, chunk: &chunk, batches: &batches, block_bytes };
        let own = options.passes(precision, takes).unwrap_or_else(|| none.clone());
        taken(&machine, &own);
        machines.extend(on(machine, takes));
    }
    let mut operators: Vec<Row> = tally(&plan.passes)
        .into_iter()
        .map(|(operator, tally)| {
            let of = |(name, all): &(String, BTreeMap<&str, SecondsBy>)| {
                all.get(operator).map(|&parts| (name.clone(), parts))
            };
            Row { operator, tally, times: Times::of(times.iter().filter_map(of)) }
        })
        .collect();
    let count = choices.len();
    // Where a layer is in more calls than a pair, they cannot be told apart.
    let known = || of_layers.iter().filter(|(_, layers)| layers.len() == count);
    let layer = |(index, choice): (usize, MbconvChoice)| {
        let times = Times::of(known().map(|(name, layers)| (name.clone(), layers[index])));
        Layer { choice, times }
    };
    let mbconvs = choices.into_iter().enumerate().map(layer).collect();
    operators.sort_by(|a, b| b.tally.bytes.cmp(&a.tally.bytes).then(a.operator.cmp(b.operator)));
    let total = total(&plan.passes);
    let channels = options.layout.channels();
    let macs = |(arch, exits): &(Arch, Exits)| cost(channels, arch, *exits, options.layout.classes()).macs;
    Ok(Report {
        version: VERSION,
        mode: options.mode,
        family: options.family.to_string(),
        width: channels.width,
        classes: options.layout.classes(),
        networks: options.networks.len(),
        macs: options.networks.iter().map(macs).sum(),
        images: options.measured_images(),
        calibration_images: options.calibration().map_or(0, |(batches, batch)| batches * batch),
        saving: plan.saving,
        precision,
        total,
        operators,
        mbconvs,
        block_bytes: card.block_bytes,
        chosen: plan.chosen,
        floor,
        traffic_ratio: total.bytes as f64 / floor.fused_bytes.max(1) as f64,
        machines,
    })
}

/// Version of the JSON. In the first one times left out arithmetic on other units than the fastest, and multiprocessors
/// that wait.
const VERSION: u32 = 2;

impl Times {
    fn of(all: impl Iterator<Item = (String, SecondsBy)>) -> Times {
        let mut times = Times::default();
        for (name, parts) in all {
            times.seconds.insert(name.clone(), parts.seconds());
            times.bounds.insert(name.clone(), parts.bound());
            times.parts.insert(name, parts);
        }
        times
    }

    /// Columns of milliseconds on machines, each with what bounds it.
    fn columns(&self, machines: &[MachinePlan]) -> String {
        let column = |on: &MachinePlan| {
            let name = &on.machine.name;
            match self.seconds.get(name).zip(self.bounds.get(name)) {
                Some((seconds, bound)) => format!(" {:>9.3} {bound:<9}", 1e3 * seconds),
                None => format!(" {:>9} {:<9}", "-", ""),
            }
        };
        machines.iter().map(column).collect()
    }
}

impl Report {
    /// Heads of [`Times::columns`].
    fn heads(&self) -> String {
        let head =
            |on: &MachinePlan| format!(" {:>9} {:<9}", format!("{} ms", short(&on.machine.name)), "bound");
        self.machines.iter().map(head).collect()
    }

    /// Which MBConvs are one kernel, which a pair, and why.
    fn write_mbconvs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.mbconvs.is_empty() || self.block_bytes == 0 {
            return Ok(());
        }
        let kilo = |bytes: u32| bytes.div_ceil(1024);
        let (from, to, filter) = ("pixels", "channels", "filter");
        write!(
            f,
            "\n\n{:<6} {from:>10} {to:>16} {filter:>7} {:>4}{}  of {} KB a block",
            "layer",
            "SE",
            self.heads(),
            kilo(self.block_bytes)
        )?;
        for Layer { choice, times } in &self.mbconvs {
            let MbconvChoice {
                layer,
                sides,
                channels: [cin, mid, cout],
                filter: [kernel, stride],
                hidden,
                ..
            } = choice;
            let pixels = format!("{} to {}", sides[0], sides[1]);
            let channels = format!("{cin} to {mid} to {cout}");
            let filter = format!("{kernel}x{kernel}/{stride}");
            write!(
                f,
                "\n{:<6} {pixels:>10} {channels:>16} {filter:>7} {hidden:>4}{}  ",
                format!("{}.{}", layer[0], layer[1]),
                times.columns(&self.machines)
            )?;
            let block = |f: &mut fmt::Formatter<'_>, block: Block| {
                let Block { images, bands, slice, shared_bytes } = block;
                let kilo = kilo(shared_bytes);
                match (images, bands) {
                    (1, 1) => write!(f, "{kilo} KB: 1 image, {slice} channels at a time"),
                    (_, 1) => write!(f, "{kilo} KB: {images} images, {slice} channels at a time"),
                    _ => write!(f, "{kilo} KB: one of {bands} bands, {slice} channels at a time"),
                }
            };
            let least = choice.block.map_or(0, |block| kilo(block.shared_bytes));
            match (choice.fused, choice.block, choice.pair) {
                (true, Some(whole), _) => block(f, whole)?,
                (_, _, Some(first)) => {
                    write!(f, "{least} KB at least: a pair, of ")?;
                    block(f, first)?;
                }
                _ => write!(f, "{least} KB at least: an operator at a time")?,
            }
        }
        Ok(())
    }

    /// Images that go through a network, all together.
    fn all_images(&self) -> usize {
        (self.images + self.calibration_images).max(1)
    }
}

/// A machine's name without what its parentheses say.
fn short(name: &str) -> &str {
    name.split(" (").next().unwrap_or(name)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mega = |value: u64| value as f64 / 1e6;
        let Report { family, width, classes, networks, .. } = self;
        writeln!(
            f,
            "{}: {networks} network{} of {family}, width {width}, {classes} classes, {:.2} MMACs an image; \
             {} images, {} to recalibrate",
            self.mode,
            if *networks == 1 { "" } else { "s" },
            mega(self.macs),
            self.images,
            self.calibration_images
        )?;
        if self.saving.distinct < self.saving.executions {
            writeln!(f, "{}", self.saving)?;
        }
        write!(f, "\n{:<20} {:>8} {:>9} {:>11} {:>11}", "operator", "calls", "launches", "MB", "MFLOP")?;
        writeln!(f, "{}", self.heads())?;
        for row in &self.operators {
            let OperatorTally { calls, launches, bytes, flops } = row.tally;
            let (mb, mflop) = (mega(bytes), mega(flops));
            let columns = row.times.columns(&self.machines);
            writeln!(f, "{:<20} {calls:>8} {launches:>9} {mb:>11.2} {mflop:>11.1}{columns}", row.operator)?;
        }
        let OperatorTally { calls, launches, bytes, flops } = self.total;
        write!(f, "{:<20} {calls:>8} {launches:>9} {:>11.2} {:>11.1}", "total", mega(bytes), mega(flops))?;
        let of = |on: &MachinePlan| {
            let name = &on.machine.name;
            let all: Vec<SecondsBy> =
                self.operators.iter().filter_map(|row| row.times.parts.get(name)).copied().collect();
            (!all.is_empty()).then(|| (name.clone(), all.into_iter().sum()))
        };
        write!(f, "{}", Times::of(self.machines.iter().filter_map(of)).columns(&self.machines))?;
        let calls =
            |name| self.operators.iter().find(|row| row.operator == name).map_or(0, |row| row.tally.calls);
        let (alone, together, apart) = (calls("Mbconv"), calls("MbconvGroup"), calls("Depthwise"));
        let pairs = calls("ExpandDepthwise");
        if alone + together > 0 {
            write!(
                f,
                "\n\nMBConvs: {alone} calls of one each and {together} of several networks together, of which an image \
                 fits a block; {pairs} pairs of calls; {apart} an operator at a time"
            )?;
        }
        let passes = [calls("MbconvPass"), calls("MbconvPassGroup")];
        if passes != [0; 2] {
            let [alone, together] = passes;
            write!(
                f,
                "\n\nMBConvs of recalibration: passes that leave statistics and no expanded map, {alone} of one network each \
                 and {together} of several together"
            )?;
        }
        self.write_mbconvs(f)?;
        if !self.chosen.is_empty() {
            write!(f, "\n\n{}", Table(&self.chosen))?;
        }
        let all = self.all_images() as f64;
        writeln!(f, "\n\nTraffic in {}, the whole and an image:", self.precision)?;
        for (name, bytes) in [
            ("this plan", bytes),
            ("operators one by one", self.floor.unfused_bytes),
            ("floor: fused layers", self.floor.fused_bytes),
        ] {
            writeln!(f, "  {name:<22} {:>11.2} MB {:>9.3} MB", mega(bytes), mega(bytes) / all)?;
        }
        writeln!(f, "  the plan moves {:.2} times the floor\n", self.traffic_ratio)?;
        writeln!(
            f,
            "{:<10} {:>6} {:>9} {:>10} {:>10} {:>7} {:>9} {:>10} {:>10} {:>7} {:>9}",
            "machine",
            "images",
            "launches",
            "f32 ms",
            "floor ms",
            "ratio",
            "in shared",
            "bf16 ms",
            "floor ms",
            "ratio",
            "in shared"
        )?;
        for on in &self.machines {
            let time = |time: &Time| {
                let shared = time.blocks_in_shared.map(|count| format!("{count}/{}", self.floor.blocks));
                format!(
                    "{:>10.3} {:>10.3} {:>7.2} {:>9}",
                    1e3 * time.seconds,
                    1e3 * time.floor_seconds,
                    time.ratio,
                    shared.unwrap_or_else(|| "-".into())
                )
            };
            let bf16 = on
                .bf16
                .as_ref()
                .map_or_else(|| format!("{:>10} {:>10} {:>7} {:>9}", "-", "-", "-", "-"), time);
            let name = short(&on.machine.name);
            writeln!(f, "{name:<10} {:>6} {:>9} {} {bf16}", on.chunk, on.plan.launches, time(&on.f32))?;
        }
        for on in &self.machines {
            let Machine { bandwidth, f32_flops, tensor_flops, launch_seconds, multiprocessors, .. } =
                &on.machine;
            let units = multiprocessors
                .zip(on.clock)
                .map(|(count, clock)| format!(", {count} multiprocessors at {:.2} GHz", clock / 1e9));
            let tensor =
                tensor_flops.map(|t| format!(", {:.0} in 16-bit products", t / 1e12)).unwrap_or_default();
            writeln!(
                f,
                "{}: {:.0} GB/s, {:.2} TFLOP/s in f32{tensor}{}, {:.2} us a launch, {:.1} MB of cache",
                on.machine.name,
                bandwidth / 1e9,
                f32_flops / 1e12,
                units.unwrap_or_default(),
                1e6 * launch_seconds,
                on.machine.cache_bytes as f64 / f64::from(1 << 20)
            )?;
        }
        Ok(())
    }
}
