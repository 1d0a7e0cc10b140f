//! A super-network in training on a device: one optimiser step at a time.

use super::loss_scale::LossScale;
use super::optimiser::{self, Optimiser, Rule};
use super::program::{self, Program, StepSlots};
use super::slots::{TrainingSlots, arena};
use super::teaching::{Answers, Teaching};
use super::{Error, OptimiserState, Weighting};
use crate::data::loader::{self, Loader};
use crate::data::{self, Dataset, Source};
use crate::device::{Buffer, Device, Memory};
use crate::engine::Precision;
use crate::engine::feed::Feeder;
use crate::engine::pool;
use crate::ops::{Call, Slot, Threads};
use crate::random::stream;
use crate::space::Arch;
use crate::space::walk::Exits;
use crate::supernet::{Supernet, Tensor};
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Images of a step and their classes.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The images, or what they are made of.
    pub images: Source<'a>,
    /// Class of each image.
    pub labels: &'a [u32],
    /// Side of the images, in pixels.
    pub side: usize,
}

/// The batches of a training on that device, from a step on that is counted through all epochs: made ones, or
/// where the device makes its inputs itself, described ones. The images are the same bits.
///
/// # Errors
/// As [`Loader::start`].
pub fn batches(
    device: &dyn Device,
    dataset: Arc<Dataset>,
    images: Vec<u32>,
    settings: loader::Settings,
    step: u64,
) -> Result<Loader, data::Error> {
    let start = loader::position_of(step, loader::steps_per_epoch(images.len(), settings.batch));
    match device.residents() {
        Some(_) => Loader::describe(dataset, images, settings, start),
        None => Loader::start(dataset, images, settings, start),
    }
}

impl<'a> From<&'a loader::Batch> for Batch<'a> {
    fn from(batch: &'a loader::Batch) -> Batch<'a> {
        Batch { images: batch.images(), labels: &batch.labels, side: batch.side }
    }
}

/// A sub-network of a step. Its resolution is that of the batch, whatever the architecture says.
#[derive(Debug, Clone, PartialEq)]
pub struct Student {
    /// The architecture.
    pub arch: Arch,
    /// The exits that are trained: one, or all of them jointly with AEP's weights.
    pub weighting: Weighting,
}

/// What a step is made with.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Settings {
    /// Learning rate.
    pub rate: f32,
    /// Label smoothing.
    pub smoothing: f32,
    /// Weight of the distillation loss where there is a teacher.
    pub kd_ratio: f32,
    /// Dropout before the classifier.
    pub dropout: f32,
    /// Names the random stream of the dropout masks.
    pub seed: u64,
    /// As `seed`.
    pub epoch: u64,
    /// As `seed`.
    pub step: u64,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Mean loss of each student over the batch.
    pub losses: Vec<f64>,
    /// Correct answers of each student's last exit.
    pub correct: Vec<usize>,
    /// Norm of the accumulated gradient before clipping.
    pub norm: f64,
    /// Super-networks that left the step out, since their gradient overflowed f16.
    pub skipped: usize,
}

impl Report {
    /// Mean loss of a student.
    pub fn loss(&self) -> f64 {
        self.losses.iter().sum::<f64>() / self.losses.len() as f64
    }

    /// The norm, for the watch over a training; none of a step that was left out, whose scale was at fault.
    pub fn watched_norm(&self) -> Option<f64> {
        (self.skipped == 0).then_some(self.norm)
    }
}

/// A step's gradient, for checks and curiosity.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradient {
    /// Losses.
    pub report: Report,
    /// The gradient of every tensor that has one, by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Mean and biased variance, one behind the other, of each batch norm of the last student.
    pub statistics: Vec<(String, Vec<f32>)>,
    /// Logits of the last student at each exit read, `[images, classes]` with rows filled up with
    /// zeros to a multiple of 8.
    pub logits: Vec<Vec<f32>>,
}

/// A step that is under way.
pub(super) struct LaunchedStep(AccumulatedGradient);

/// A gradient in the work buffer.
struct AccumulatedGradient {
    shared: StepSlots,
    touched: BTreeSet<usize>,
    last: Option<Program>,
}

/// A network whose answers others learn from: a copy, which training does not touch.
pub struct Teacher {
    supernet: Arc<Supernet>,
    weights: Buffer,
    arch: Arch,
    weighting: Weighting,
}

/// A super-network in training.
pub struct Trainer {
    device: Arc<dyn Device>,
    supernet: Supernet,
    precision: Precision,
    places: TrainingSlots,
    optimiser: Optimiser,
    loss_scale: LossScale,
    state: Buffer,
    work: Buffer,
    feeder: Feeder,
    /// What goes to the device in one copy, or has come.
    staging: Vec<f32>,
    /// Steps that each tensor has taken.
    steps: Vec<u64>,
}

impl Trainer {
    /// Puts a super-network on a device, with an optimiser that has not yet moved.
    ///
    /// # Errors
    /// The device fails.
    pub fn new(device: Arc<dyn Device>, supernet: Supernet, optimiser: Optimiser) -> Result<Trainer, Error> {
        Trainer::in_precision(device, supernet, optimiser, Precision::F32)
    }

    /// The same with maps in a precision, and 1x1 convolutions on weights rounded to it. The weights that
    /// are trained, their gradient and the optimiser's state are f32.
    ///
    /// # Errors
    /// The device fails.
    pub fn in_precision(
        device: Arc<dyn Device>,
        supernet: Supernet,
        optimiser: Optimiser,
        precision: Precision,
    ) -> Result<Trainer, Error> {
        let places = TrainingSlots::new(&supernet.layout, precision.format());
        let state = state_of(&*device, &supernet, &places)?;
        let work = device.allocate(places.reserved)?;
        let steps = vec![0; supernet.layout.tensors().len()];
        Ok(Trainer {
            device,
            supernet,
            precision,
            places,
            optimiser,
            loss_scale: LossScale::default(),
            state,
            work,
            feeder: Feeder::default(),
            staging: Vec::new(),
            steps,
        })
    }

    /// The device.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// The super-network as it was when training began: its layout, family and card.
    pub fn supernet(&self) -> &Supernet {
        &self.supernet
    }

    /// The largest network of a super-network as a teacher, which may be another's than this one. It answers
    /// in this one's precision.
    ///
    /// # Errors
    /// The device fails, or the teacher has other classes.
    pub fn teacher(&self, supernet: Arc<Supernet>, weighting: Weighting) -> Result<Teacher, Error> {
        if supernet.classes() != self.supernet.classes() {
            return Err(Error::TeacherClasses {
                teacher: supernet.classes(),
                student: self.supernet.classes(),
                file: supernet.file.display().to_string(),
            });
        }
        let weights = self.precision.weights(&*self.device, &supernet)?;
        let arch = Arch::largest(supernet.family, 32, Some(supernet.channels().width));
        Ok(Teacher { supernet, weights, arch, weighting })
    }

    /// One step: the students' gradients, added up, and an update with them.
    ///
    /// # Errors
    /// A batch or students that do not fit, a device that fails. A loss that is no number is no
    /// error here: see [`Report::losses`].
    pub fn step(
        &mut self,
        batch: &Batch<'_>,
        students: &[Student],
        teaching: Teaching<'_>,
        settings: &Settings,
    ) -> Result<Report, Error> {
        let launched = self.launch(batch, students, teaching, settings)?;
        self.finish(launched)
    }

    /// The part of a step that waits for nothing.
    pub(super) fn launch(
        &mut self,
        batch: &Batch<'_>,
        students: &[Student],
        teaching: Teaching<'_>,
        settings: &Settings,
    ) -> Result<LaunchedStep, Error> {
        let accumulated = self.accumulate(batch, students, teaching, settings)?;
        self.update(&accumulated.touched, settings.rate)?;
        Ok(LaunchedStep(accumulated))
    }

    /// What the first student of a step under way teaches.
    pub(super) fn answers(&self, LaunchedStep(step): &LaunchedStep) -> Answers<'_> {
        Answers { work: &self.work, slot: step.shared.teacher }
    }

    /// What came of a step, once the device is through with it.
    pub(super) fn finish(&mut self, LaunchedStep(accumulated): LaunchedStep) -> Result<Report, Error> {
        let (mut report, unmoved) = self.report(&accumulated)?;
        if unmoved {
            accumulated.touched.iter().for_each(|&index| self.steps[index] -= 1);
        }
        report.skipped = usize::from(self.loss_scale.overflows(self.precision, report.norm));
        Ok(report)
    }

    /// The gradient of a step without the step; running statistics move as in a step.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn gradient(
        &mut self,
        batch: &Batch<'_>,
        students: &[Student],
        teaching: Teaching<'_>,
        settings: &Settings,
    ) -> Result<Gradient, Error> {
        let accumulated = self.accumulate(batch, students, teaching, settings)?;
        let (report, _) = self.report(&accumulated)?;
        // No norm was computed.
        let report = Report { norm: f64::NAN, ..report };
        let layout = &self.supernet.layout;
        let mut packed = vec![0.0; layout.len()];
        self.device.download(&self.work, 0, &mut packed)?;
        let unscale = 1.0 / self.scale();
        packed.iter_mut().for_each(|gradient| *gradient *= unscale);
        let names: BTreeSet<&str> =
            accumulated.touched.iter().map(|&index| layout.tensors()[index].name.as_str()).collect();
        let mut tensors = layout.unpack(&packed);
        tensors.retain(|name, _| names.contains(name.as_str()));
        let download = |slot: Slot| -> Result<Vec<f32>, Error> {
            let mut out = vec![0.0; slot.len];
            self.device.download(&self.work, slot.offset, &mut out)?;
            Ok(out)
        };
        let (last, logits) = accumulated.last.map_or((Vec::new(), Vec::new()), |p| (p.norms, p.logits));
        let statistics = last
            .into_iter()
            .map(|(gamma, slot)| {
                let index = layout.tensors().partition_point(|tensor| tensor.offset <= gamma) - 1;
                let name = layout.tensors()[index].name.trim_end_matches(".weight").to_string();
                Ok((name, download(slot)?))
            })
            .collect::<Result<_, Error>>()?;
        let logits = logits.into_iter().map(download).collect::<Result<_, Error>>()?;
        Ok(Gradient { report, tensors, statistics, logits })
    }

    /// The gradient of a step, left in the work buffer.
    fn accumulate(
        &mut self,
        batch: &Batch<'_>,
        students: &[Student],
        teaching: Teaching<'_>,
        settings: &Settings,
    ) -> Result<AccumulatedGradient, Error> {
        let images = batch.labels.len();
        self.check(batch, students)?;
        let layout = &self.supernet.layout;
        let format = self.precision.format();
        let networks: Vec<(Arch, Exits)> =
            students.iter().map(|student| student.network(batch.side)).collect();
        let dropout = |number| settings.dropout > 0.0 && teaching.of(number).has_dropout();
        let shared = StepSlots::new(layout, &self.places, format, (images, batch.side), &networks, dropout);
        let mut programs = Vec::new();
        for (number, (arch, exits)) in networks.iter().enumerate() {
            let weights = students[number].weighting.weights();
            let objective = teaching.of(number).objective(weights, settings, self.scale());
            let parts = (layout, &self.places, &shared);
            programs.push(program::student(parts, number, (arch, *exits), images, objective));
        }
        let teacher = match teaching {
            Teaching::Network(teacher) => Some(teacher),
            _ => None,
        };
        let teachers_pass = teacher.map(|teacher| {
            // The teacher's pass begins where the students' do, whatever its own layout reserves.
            let arch = Arch { r: batch.side as u32, ..teacher.arch.clone() };
            let (exits, weights) = (teacher.weighting.exits(&arch), teacher.weighting.weights());
            let parts = (&teacher.supernet.layout, &shared);
            program::teacher(parts, (&arch, exits), images, weights)
        });
        let needed = programs.iter().chain(&teachers_pass).map(|program| program.work_len).max().unwrap_or(0);
        self.make_room(needed.max(shared.end))?;
        match batch.images {
            Source::Made(pixels) => self.device.upload(&mut self.work, shared.input.offset, pixels)?,
            Source::Stored(selection) => {
                let to = (shared.input, &mut self.work);
                self.feeder.make(&*self.device, &selection, batch.side, to, Threads::All)?;
            }
        }
        self.send(&shared, batch.labels, settings)?;
        if let (Some(teacher), Some(program)) = (teacher, &teachers_pass) {
            run(&*self.device, &program.calls, &teacher.weights, &mut self.work)?;
        }
        if let Teaching::Beside(answers) = teaching {
            let copied = program::copied(&shared, answers.slot);
            run(&*self.device, &[copied], answers.work, &mut self.work)?;
        }
        let zero = program::zeros(program::whole_gradient(&self.supernet.layout));
        run(&*self.device, &[zero], &self.state, &mut self.work)?;
        // Nothing is read before all of it is under way: while one student runs, the next is launched.
        let mut offsets = BTreeSet::new();
        for program in &programs {
            run(&*self.device, &program.calls, &self.state, &mut self.work)?;
            run(&*self.device, &program.running, &self.work, &mut self.state)?;
            offsets.extend(&program.touched);
        }
        let layout = &self.supernet.layout;
        run(&*self.device, &optimiser::derived_gradients(layout, &offsets), &self.state, &mut self.work)?;
        Ok(AccumulatedGradient {
            shared,
            touched: optimiser::tensors(layout, &offsets),
            last: programs.pop(),
        })
    }

    /// Makes the work buffer at least so large, whatever it holds.
    fn make_room(&mut self, len: usize) -> Result<(), Error> {
        if self.work.len() < len {
            // Both need not be there at a time.
            self.work = self.device.allocate(0)?;
            self.work = pool::allocate(&*self.device, len)?;
        }
        Ok(())
    }

    /// The factor on losses and gradients.
    fn scale(&self) -> f32 {
        self.loss_scale.factor(self.precision)
    }

    /// An optimiser's step with the gradient in the work buffer, and everything that follows from
    /// new weights. The norm of the gradient is left there; where that is no finite number, the device takes no
    /// step.
    fn update(&mut self, touched: &BTreeSet<usize>, rate: f32) -> Result<(), Error> {
        let layout = &self.supernet.layout;
        let norm = optimiser::norm(layout, &self.places, touched, self.optimiser.clip, 1.0 / self.scale());
        run(&*self.device, &norm, &self.state, &mut self.work)?;
        touched.iter().for_each(|&index| self.steps[index] += 1);
        let update = self.optimiser.update(layout, &self.places, touched, &self.steps, rate);
        run(&*self.device, &update, &self.work, &mut self.state)?;
        run(&*self.device, &self.places.refresh, &self.work, &mut self.state)
    }

    fn check(&self, batch: &Batch<'_>, students: &[Student]) -> Result<(), Error> {
        let (images, classes) = (batch.labels.len(), self.supernet.classes());
        let values = match batch.images {
            Source::Made(pixels) => pixels.len(),
            Source::Stored(selection) if !selection.is_sound() => 0,
            Source::Stored(selection) => selection.indices.len() * batch.side * batch.side * 3,
        };
        if images == 0 || values != images * batch.side * batch.side * 3 {
            return Err(Error::Batch { images, side: batch.side, values });
        }
        if let Some(&label) = batch.labels.iter().find(|&&label| label as usize >= classes) {
            return Err(Error::Label { label, classes });
        }
        for student in students {
            if !self.supernet.has_width(student.arch.w) {
                return Err(Error::Width {
                    found: student.arch.w.unwrap_or(f64::NAN),
                    expected: self.supernet.channels().width,
                });
            }
        }
        Ok(())
    }

    /// Sends labels and all students' dropout masks, which are drawn here.
    fn send(&mut self, shared: &StepSlots, labels: &[u32], settings: &Settings) -> Result<(), Error> {
        let start = shared.sent.offset;
        self.staging.clear();
        self.staging.resize(shared.sent.len, 0.0);
        let places = self.staging[shared.labels.offset - start..].iter_mut();
        places.zip(labels).for_each(|(place, &label)| *place = label as f32);
        let keep = 1.0 - settings.dropout;
        for (student, own) in shared.students.iter().enumerate() {
            let mut random =
                stream(settings.seed, &format!("train/dropout/{student}"), settings.epoch, settings.step);
            for slot in &own.masks {
                for place in &mut self.staging[slot.offset - start..][..slot.len] {
                    *place = if random.random::<f32>() < keep { 1.0 / keep } else { 0.0 };
                }
            }
        }
        Ok(self.device.upload(&mut self.work, start, &self.staging)?)
    }

    /// Waits for the device and reads what a step has found, in one copy: each student's loss over all exits
    /// and correct answers of the last, the norm, and whether the optimiser took no step for it.
    fn report(
        &mut self,
        AccumulatedGradient { shared, .. }: &AccumulatedGradient,
    ) -> Result<(Report, bool), Error> {
        let images = shared.labels.len;
        let start = self.places.clip.offset;
        let found = &mut self.staging;
        found.clear();
        found.resize(shared.scores.offset + shared.scores.len - start, 0.0);
        self.device.download(&self.work, start, found)?;
        let mut report =
            Report { losses: Vec::new(), correct: Vec::new(), norm: f64::from(found[0]), skipped: 0 };
        for own in &shared.students {
            let (mut loss, mut correct) = (0.0, 0);
            for slot in &own.scores {
                let scores = &found[slot.offset - start..][..slot.len];
                loss += scores.iter().step_by(2).map(|&loss| f64::from(loss)).sum::<f64>();
                correct = scores.iter().skip(1).step_by(2).filter(|&&correct| correct == 1.0).count();
            }
            // The scale is a power of two: taking it out again changes no bit.
            report.losses.push(loss / f64::from(self.loss_scale.factor(self.precision)) / images as f64);
            report.correct.push(correct);
        }
        Ok((report, found[2] != 0.0))
    }

    /// The super-network as it is now.
    ///
    /// # Errors
    /// The device fails.
    pub fn weights(&self) -> Result<Supernet, Error> {
        let mut packed = vec![0.0; self.supernet.packed.len()];
        let stored = self.supernet.layout.derived();
        self.device.download(&self.state, 0, &mut packed[..stored])?;
        Ok(Supernet { packed, ..self.supernet.clone() })
    }

    /// The optimiser's state.
    ///
    /// # Errors
    /// The device fails.
    pub fn optimiser_state(&self) -> Result<OptimiserState, Error> {
        let len = self.supernet.layout.derived();
        let vector = |which| -> Result<Vec<f32>, Error> {
            let mut out = vec![0.0; len];
            let slot = self.places.moment(&self.supernet.layout, which, 0, len);
            self.device.download(&self.state, slot.offset, &mut out)?;
            Ok(out)
        };
        let second = matches!(self.optimiser.rule, Rule::AdamW).then(|| vector(1)).transpose()?;
        let (steps, loss_scale) = (self.steps.clone(), self.loss_scale);
        Ok(OptimiserState { first: vector(0)?, second, steps, loss_scale })
    }

    /// Replaces weights and optimiser state, to go on from a checkpoint or after channels were sorted.
    ///
    /// # Errors
    /// Weights or a state of another super-network, or a device that fails.
    pub fn restore(&mut self, supernet: &Supernet, state: &OptimiserState) -> Result<(), Error> {
        let layout = &self.supernet.layout;
        let len = layout.derived();
        let fits = state.first.len() == len
            && state.second.as_ref().is_none_or(|second| second.len() == len)
            && state.steps.len() == layout.tensors().len()
            && supernet.layout == *layout;
        if !fits {
            return Err(Error::OtherState);
        }
        self.device.upload(&mut self.state, 0, &supernet.packed)?;
        let vectors = [Some(&state.first), state.second.as_ref()];
        for (which, vector) in vectors.into_iter().enumerate() {
            let slot = self.places.moment(layout, which, 0, len);
            match vector {
                Some(vector) => self.device.upload(&mut self.state, slot.offset, vector)?,
                None => run(&*self.device, &[program::zeros(slot)], &self.work, &mut self.state)?,
            }
        }
        self.steps.clone_from(&state.steps);
        self.loss_scale = state.loss_scale;
        run(&*self.device, &self.places.refresh, &self.work, &mut self.state)
    }
}

/// A state buffer with a super-network's weights, and an optimiser's zeros.
fn state_of(device: &dyn Device, supernet: &Supernet, places: &TrainingSlots) -> Result<Buffer, Error> {
    let mut state = device.allocate(places.state_len)?;
    device.upload(&mut state, 0, &supernet.packed)?;
    let none = device.allocate(0)?;
    let moments = arena(places.moments, places.state_len - places.moments);
    run(device, &[program::zeros(moments)], &none, &mut state)?;
    run(device, &places.refresh, &none, &mut state)?;
    Ok(state)
}

fn run(device: &dyn Device, calls: &[Call], read: &Buffer, written: &mut Buffer) -> Result<(), Error> {
    let memory = Memory { weights: read, network: read, arena: written };
    Ok(device.run(calls, memory, Threads::All)?)
}

impl Student {
    /// The network on images of that side, and the exits that are read.
    pub(super) fn network(&self, side: usize) -> (Arch, Exits) {
        let arch = Arch { r: side as u32, ..self.arch.clone() };
        let exits = self.weighting.exits(&arch);
        (arch, exits)
    }
}

/// The exits of a student or a teacher and their weights, from 0.
impl Weighting {
    pub(super) fn exits(&self, arch: &Arch) -> Exits {
        match self {
            Weighting::Own => Exits::single(arch),
            Weighting::Joint(_) => Exits::up_to(arch),
        }
    }

    pub(super) fn weights(&self) -> [f32; 5] {
        match self {
            Weighting::Own => [1.0; 5],
            Weighting::Joint(weights) => *weights,
        }
    }
}
