//! Super-networks of different widths that train together: NATv2 adapts two at once, each with an
//! optimiser of its own (arXiv 2307.00960). One super-network is a team of one.
//!
//! Sub-networks of a step go to the super-network of their width. One without a sub-network in a step
//! does not move in it.

use super::checks::{sound, sound_weights};
use super::trainer::LaunchedStep;
use super::{
    Batch, Error, LossScale, Optimiser, OptimiserState, Report, Rule, Settings, Student, Teacher, Teaching,
    Trainer, Weighting,
};
use crate::device::Device;
use crate::engine::Precision;
use crate::run::{self, Checkpoint as Stored, Transaction};
use crate::supernet::{Checkpoint, Supernet};
use std::sync::Arc;

/// Files of a checkpoint, of the first super-network.
const WEIGHTS: &str = "weights.safetensors";
const OPTIMISER: &str = "optimiser.safetensors";

/// Super-networks in training, by width.
pub struct Team {
    members: Vec<Trainer>,
}

/// Weights and optimisers of a team.
#[derive(Debug, Clone)]
pub struct TeamState {
    /// Each super-network.
    pub weights: Vec<Supernet>,
    /// Its optimiser.
    pub optimisers: Vec<OptimiserState>,
}

impl Team {
    /// Puts super-networks, at least one and ascending by width, on a device, with optimisers that
    /// have not yet moved.
    ///
    /// # Errors
    /// The device fails, or there is no super-network.
    pub fn new(
        device: &Arc<dyn Device>,
        supernets: Vec<Supernet>,
        optimiser: Optimiser,
    ) -> Result<Team, Error> {
        Team::in_precision(device, supernets, optimiser, Precision::F32)
    }

    /// The same in a precision.
    ///
    /// # Errors
    /// The device fails, or there is no super-network.
    pub fn in_precision(
        device: &Arc<dyn Device>,
        supernets: Vec<Supernet>,
        optimiser: Optimiser,
        precision: Precision,
    ) -> Result<Team, Error> {
        let member = |supernet| Trainer::in_precision(device.clone(), supernet, optimiser, precision);
        if supernets.is_empty() {
            return Err(Error::NoSupernet);
        }
        Ok(Team { members: supernets.into_iter().map(member).collect::<Result<_, _>>()? })
    }

    /// The super-networks as they were when training began.
    pub fn supernets(&self) -> impl Iterator<Item = &Supernet> {
        self.members.iter().map(Trainer::supernet)
    }

    /// The first of them.
    pub fn narrowest(&self) -> &Supernet {
        self.members[0].supernet()
    }

    /// The largest network of a super-network as a teacher for all.
    ///
    /// # Errors
    /// As [`Trainer::teacher`].
    pub fn teacher(&self, supernet: Arc<Supernet>, weighting: Weighting) -> Result<Teacher, Error> {
        self.members[0].teacher(supernet, weighting)
    }

    /// One step of each super-network that has students, each clipped on its own. The losses are in
    /// the order of the students, the norm is the largest of those that moved.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn step(
        &mut self,
        batch: &Batch<'_>,
        students: &[Student],
        teaching: Teaching<'_>,
        settings: &Settings,
    ) -> Result<Report, Error> {
        if let [member] = &mut self.members[..] {
            return member.step(batch, students, teaching, settings);
        }
        let owner = |student: &Student| {
            self.members.iter().position(|member| member.supernet().has_width(student.arch.w)).unwrap_or(0)
        };
        let owners: Vec<usize> = students.iter().map(owner).collect();
        let mut all = Report {
            losses: vec![f64::NAN; students.len()],
            correct: vec![0; students.len()],
            norm: 0.0,
            skipped: 0,
        };
        // That of the first student comes first, for it may teach; while one runs, the next is launched.
        let first = owners.first().copied().unwrap_or(0);
        let others = (0..self.members.len()).filter(|&number| number != first);
        let mut launched: Vec<(usize, Vec<usize>, LaunchedStep)> = Vec::new();
        for number in std::iter::once(first).chain(others) {
            let own: Vec<usize> = (0..students.len()).filter(|&index| owners[index] == number).collect();
            if own.is_empty() {
                continue;
            }
            let members: Vec<Student> = own.iter().map(|&index| students[index].clone()).collect();
            let step = match (teaching, launched.first(), self.members.get_disjoint_mut([number, first])) {
                (Teaching::First(_), Some((.., step)), Ok([member, teacher])) => {
                    let teaching = Teaching::Beside(teacher.answers(step));
                    member.launch(batch, &members, teaching, settings)?
                }
                _ => self.members[number].launch(batch, &members, teaching, settings)?,
            };
            launched.push((number, own, step));
        }
        for (number, own, launched) in launched {
            let report = self.members[number].finish(launched)?;
            for (at, &index) in own.iter().enumerate() {
                (all.losses[index], all.correct[index]) = (report.losses[at], report.correct[at]);
            }
            all.skipped += report.skipped;
            if report.skipped > 0 {
                continue;
            }
            // Not `max`, which would lose a norm that is no number.
            all.norm = if all.norm > report.norm { all.norm } else { report.norm };
        }
        Ok(all)
    }

    /// The super-networks as they are now.
    ///
    /// # Errors
    /// The device fails.
    pub fn weights(&self) -> Result<Vec<Supernet>, Error> {
        self.members.iter().map(Trainer::weights).collect()
    }

    /// Everything as it is now.
    ///
    /// # Errors
    /// The device fails.
    pub fn state(&self) -> Result<TeamState, Error> {
        let optimisers = self.members.iter().map(Trainer::optimiser_state).collect::<Result<_, _>>()?;
        Ok(TeamState { weights: self.weights()?, optimisers })
    }

    /// Goes on from a state.
    ///
    /// # Errors
    /// A state of other super-networks, or a device that fails.
    pub fn restore(&mut self, state: &TeamState) -> Result<(), Error> {
        if state.weights.len() != self.members.len() || state.optimisers.len() != self.members.len() {
            return Err(Error::OtherState);
        }
        let states = state.weights.iter().zip(&state.optimisers);
        self.members
            .iter_mut()
            .zip(states)
            .try_for_each(|(member, (weights, optimiser))| member.restore(weights, optimiser))
    }
}

impl TeamState {
    /// The state of super-networks whose optimisers have not yet moved.
    pub fn new(weights: Vec<Supernet>, rule: Rule) -> TeamState {
        let optimisers =
            weights.iter().map(|supernet| OptimiserState::zeros(&supernet.layout, rule)).collect();
        TeamState { weights, optimisers }
    }

    /// The steps that each tensor of each super-network has taken, one behind the other. A checkpoint's
    /// writer keeps them, for tensors' files hold floats.
    pub fn tensor_steps(&self) -> Vec<u64> {
        self.optimisers.iter().flat_map(|optimiser| optimiser.steps.iter().copied()).collect()
    }

    /// The scale of each super-network's losses; none where all are as they were at the start.
    pub fn loss_scales(&self) -> Vec<LossScale> {
        let scales: Vec<LossScale> = self.optimisers.iter().map(|optimiser| optimiser.loss_scale).collect();
        if scales.iter().all(LossScale::is_fresh) { Vec::new() } else { scales }
    }

    /// Whether it may be written.
    ///
    /// # Errors
    /// [`Error::Diverged`].
    pub fn sound(&self) -> Result<(), Error> {
        self.weights.iter().try_for_each(sound_weights)?;
        Ok(self.optimisers.iter().try_for_each(|optimiser| sound(optimiser.vectors()))?)
    }

    /// Adds everything but the steps and the scales to a checkpoint.
    ///
    /// # Errors
    /// Writing fails; [`Error::Diverged`] where it may not be written.
    pub fn write(&self, checkpoint: &mut Transaction) -> Result<(), Error> {
        self.sound()?;
        write_weights(checkpoint, WEIGHTS, &self.weights)?;
        for (number, optimiser) in self.optimisers.iter().enumerate() {
            checkpoint.add(&numbered(OPTIMISER, number), &optimiser.to_bytes()?)?;
        }
        Ok(())
    }

    /// Reads what [`TeamState::write`] wrote; `like` are the super-networks that training began with,
    /// `steps` those of [`TeamState::tensor_steps`], `scales` those of [`TeamState::loss_scales`].
    ///
    /// # Errors
    /// Files that are not those of a training of these super-networks.
    pub fn read(
        stored: &Stored,
        like: &[Supernet],
        steps: &[u64],
        scales: &[LossScale],
    ) -> Result<TeamState, Error> {
        let weights = read_weights(stored, WEIGHTS, like)?;
        let (mut optimisers, mut rest) = (Vec::new(), steps);
        for (number, supernet) in like.iter().enumerate() {
            let name = numbered(OPTIMISER, number);
            let path = stored.path().join(&name);
            let own = rest.split_at_checked(supernet.layout.tensors().len());
            let (own, others) = own.ok_or_else(|| run::Error::State {
                path: path.clone(),
                reason: "the state has too few steps of tensors".into(),
            })?;
            let loss_scale = scales.get(number).copied().unwrap_or_default();
            optimisers.push(OptimiserState::parse(&stored.read(&name)?, &path, own.to_vec(), loss_scale)?);
            rest = others;
        }
        Ok(TeamState { weights, optimisers })
    }
}

/// `NAME.safetensors` of the first, `NAME-2.safetensors` of the second.
fn numbered(name: &str, index: usize) -> String {
    match index {
        0 => name.into(),
        _ => name.replacen('.', &format!("-{}.", index + 1), 1),
    }
}

/// Adds super-networks to a checkpoint.
///
/// # Errors
/// Writing fails.
pub(super) fn write_weights(
    checkpoint: &mut Transaction,
    name: &str,
    supernets: &[Supernet],
) -> Result<(), Error> {
    for (number, supernet) in supernets.iter().enumerate() {
        checkpoint.add(&numbered(name, number), &supernet.checkpoint().to_bytes()?)?;
    }
    Ok(())
}

/// Reads what [`write_weights`] added.
///
/// # Errors
/// Files that are not those of these super-networks.
pub(super) fn read_weights(stored: &Stored, name: &str, like: &[Supernet]) -> Result<Vec<Supernet>, Error> {
    like.iter()
        .enumerate()
        .map(|(number, like)| read_supernet(stored, &numbered(name, number), like))
        .collect()
}

/// Reads a super-network of a checkpoint with the layout of another.
///
/// # Errors
/// A file that is not that of such a super-network.
pub(super) fn read_supernet(stored: &Stored, name: &str, like: &Supernet) -> Result<Supernet, Error> {
    let path = stored.path().join(name);
    let checkpoint = Checkpoint::parse(&stored.read(name)?, &path)?;
    Ok(Supernet { packed: like.layout.pack(&checkpoint)?, file: path, ..like.clone() })
}
