//! The loop of everything that trains: the phases of a training, the two parts of a fine-tuning, the rounds of
//! a search that adapts its super-network.
//!
//! A [`Run`] owns what is the same in all of them: stops, the watch over the losses, the ends of epochs,
//! commits, and the way back when a training diverges. Its users say the rest:
//!
//! - a [`Snapshot`] is what a checkpoint holds, and how it is written;
//! - a [`Stretch`] is a number of steps, such as a phase: what a step is, which is the last, what the end of an
//!   epoch does, when a checkpoint is due and whether it is one to go back to;
//! - the `advance` of [`Run::until_done`] is what comes before and behind a stretch, and what comes last.
//!
//! The run directory's side, restoring, committing and rolling back, is in `record`.

use super::checks::{Health, Reason, Watch};
use super::record::Stage;
use super::tally::Figures;
use super::{Error, Report, Tally};
use crate::run::{self, Checkpoint, Curves, Journal, Progress, Transaction};
use serde::{Deserialize, Serialize};

/// The steps of this epoch so far, and the watch over the losses; a part of every training's state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Monitor {
    /// The steps of this epoch so far.
    #[serde(flatten)]
    pub tally: Tally,
    /// The watch over the losses.
    pub watch: Watch,
}

/// A step that was taken.
pub(crate) struct Taken {
    pub report: Report,
    pub images: usize,
    /// The loss of a network that guesses.
    pub guess: f64,
    pub ends_epoch: bool,
}

/// How far a run was advanced.
pub(crate) enum Advanced {
    Further,
    ToTheEnd,
    /// A stop was asked for first.
    Stopped,
}

/// An error that may be divergence.
pub(crate) trait Diverges {
    /// What is wrong with the training, where the error is that it diverges: then it goes back to its last
    /// proven checkpoint.
    fn divergence(&self) -> Option<Reason>;
}

/// All that a checkpoint of a training holds: its state, and the weights and optimiser as they were last taken off
/// the device.
pub(crate) trait Snapshot: Sized {
    type Error: From<Error> + From<run::Error> + Diverges;
    /// What stands before the number of a step in a line for people.
    const PLACE: &'static str = "";
    /// The kind of an epoch's entry in the journal.
    const EPOCH: &'static str = "epoch";
    /// Whether epochs are drawn as curves.
    const CURVES: bool = true;
    /// Steps of the whole training.
    fn steps(&self) -> u64;
    /// The number of its checkpoint, and of the journal's entries.
    fn number(&self) -> u64 {
        self.steps()
    }
    fn monitor(&mut self) -> &mut Monitor;
    /// Counts a divergence that was rolled back, where these are counted.
    fn count_rollback(&mut self) {}
    fn write(&self, checkpoint: &mut Transaction) -> Result<(), Self::Error>;
}

/// A number of steps, with what they are made with, such as batches and a teacher.
pub(crate) trait Stretch {
    type Snapshot: Snapshot;
    /// An epoch's entry of the journal.
    type Epoch: Serialize;
    fn is_over(&self, snapshot: &Self::Snapshot) -> bool;
    /// Takes a step, and counts it.
    fn step(&mut self, snapshot: &mut Self::Snapshot) -> Result<Taken, ErrorOf<Self>>;
    /// Takes weights and optimiser off the device, where they must hold numbers.
    fn take(&self, snapshot: &mut Self::Snapshot) -> Result<(), ErrorOf<Self>>;
    /// Validates what was taken, and remembers how the epoch went, whose steps come to `tally`.
    fn end_epoch(
        &mut self,
        snapshot: &mut Self::Snapshot,
        tally: Tally,
    ) -> Result<(Self::Epoch, Figures), ErrorOf<Self>>;
    /// Whether a checkpoint is due behind a step, which may have ended an epoch; `Some(true)` is one to go back
    /// to when later steps turn out to be bad.
    fn due(&self, snapshot: &Self::Snapshot, ended: Option<&Self::Epoch>) -> Option<bool>;
}

type ErrorOf<T> = <<T as Stretch>::Snapshot as Snapshot>::Error;

/// How a snapshot is read from a checkpoint.
pub(super) type Reader<'a, S> = Box<dyn Fn(&Checkpoint) -> Result<S, <S as Snapshot>::Error> + 'a>;

/// A training in a run directory.
pub(crate) struct Run<'a, S: Snapshot> {
    pub stage: Stage<'a>,
    pub(super) journal: Journal,
    pub(super) curves: Option<Curves>,
    pub(super) read: Reader<'a, S>,
    /// What the next checkpoint holds.
    pub snapshot: S,
}

impl<S: Snapshot> Run<'_, S> {
    /// Advances until all is done, back and on again at a smaller rate where the training diverges; `false` if a
    /// stop was asked for first.
    pub(crate) fn until_done(
        &mut self,
        mut advance: impl FnMut(&mut Self) -> Result<Advanced, S::Error>,
    ) -> Result<bool, S::Error> {
        loop {
            match advance(self) {
                Ok(Advanced::Further) => {}
                Ok(Advanced::ToTheEnd) => return Ok(true),
                Ok(Advanced::Stopped) => return Ok(false),
                Err(error) => match error.divergence() {
                    // Weights that no step has moved are what they were: then nothing would help.
                    Some(reason) if self.snapshot.steps() > 0 => self.roll_back(&reason)?,
                    _ => return Err(error),
                },
            }
        }
    }

    /// Takes the steps that a stretch has left, each `units` of what is shown; `false` if a stop was asked for
    /// first.
    pub(crate) fn steps<T: Stretch<Snapshot = S>>(
        &mut self,
        stretch: &mut T,
        progress: Progress,
        units: u64,
    ) -> Result<bool, S::Error> {
        while !stretch.is_over(&self.snapshot) {
            if self.stage.stop.requested() {
                stretch.take(&mut self.snapshot)?;
                self.commit(false)?;
                return Ok(false);
            }
            let Taken { report, images, guess, ends_epoch } = stretch.step(&mut self.snapshot)?;
            let Monitor { tally, watch } = self.snapshot.monitor();
            tally.add(&report, images);
            if let Health::Diverged(reason) = watch.observe(report.loss(), report.watched_norm(), guess) {
                progress.finish();
                return Err(Error::from(reason).into());
            }
            let mut ended = None;
            if ends_epoch {
                // What holds no numbers is seen before the stretch ends, wherever it began.
                stretch.take(&mut self.snapshot)?;
                let tally = std::mem::take(&mut self.snapshot.monitor().tally);
                let (entry, figures) = stretch.end_epoch(&mut self.snapshot, tally)?;
                self.append(S::EPOCH, &entry)?;
                self.draw(&figures)?;
                progress.message(figures.line());
                ended = Some(entry);
            }
            progress.advance(units);
            if let Some(proven) = stretch.due(&self.snapshot, ended.as_ref()) {
                if ended.is_none() {
                    stretch.take(&mut self.snapshot)?;
                }
                self.commit(proven)?;
            }
        }
        progress.finish();
        Ok(true)
    }
}
