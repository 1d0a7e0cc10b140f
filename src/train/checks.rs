//! Is the training still healthy?
//!
//! A loss or a gradient that is no number, a loss that explodes, a validation that gives no number, or
//! weights, statistics or an optimiser that hold none, are divergence. [`Watch`] sees the first at the step
//! where they happen, [`validated`] the next, and [`sound`] the last, before any of it is written: what is
//! in a checkpoint can be read again. The training then goes back to its last *proven* checkpoint (that of
//! its phase's start, or one that a validation came before) and on from there at half the rate, a few
//! times. All of that is state: it is in the checkpoint, so a run that was interrupted decides as one that
//! was not.

use crate::engine;
use crate::supernet::Supernet;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Losses that the running median is of.
const WINDOW: usize = 64;
/// With fewer losses than this nothing is said to explode.
const LEAST: usize = 8;
/// A loss this many times the median explodes.
const BOUND: f64 = 20.0;
/// How often a phase goes back before the run gives up.
pub const MOST_ROLLBACKS: u32 = 5;
/// Batches smaller than this are named among the causes: their batch norms see next to nothing.
const SMALL_BATCH: usize = 16;

/// What is wrong with a training.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// The loss is NaN or infinite.
    Loss(f64),
    /// The norm of the gradient is NaN or infinite.
    Gradient(f64),
    /// The loss is far above those of the steps before.
    Exploded {
        /// The loss.
        loss: f64,
        /// The median of the losses before.
        median: f64,
    },
    /// The loss of a validation is NaN or infinite.
    Validation(f64),
    /// What would be written holds a value that no checkpoint may hold.
    State {
        /// The tensor, or the optimiser's vector.
        tensor: String,
        /// The value.
        value: f32,
    },
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reason::Loss(loss) => write!(f, "the loss is {loss}"),
            Reason::Gradient(norm) => write!(f, "the norm of the gradient is {norm}"),
            Reason::Exploded { loss, median } => {
                write!(f, "the loss is {loss:.4}, and that of the steps before was {median:.4} (median)")
            }
            Reason::Validation(loss) => write!(f, "the loss of a validation is {loss}"),
            Reason::State { tensor, value } => write!(f, "`{tensor}` holds {value}"),
        }
    }
}

/// Whether a step was a good one.
#[derive(Debug, Clone, PartialEq)]
pub enum Health {
    /// It was.
    Healthy,
    /// It must be undone.
    Diverged(Reason),
}

/// Whether tensors may be written: all numbers are finite, and no running variance is negative, as those who
/// read them again demand.
///
/// # Errors
/// The first that may not.
pub fn sound<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a [f32])>) -> Result<(), Reason> {
    for (name, values) in tensors {
        let variance = name.ends_with("running_var");
        let bad = |value: &&f32| !value.is_finite() || (variance && **value < 0.0);
        if let Some(&value) = values.iter().find(bad) {
            return Err(Reason::State { tensor: name.into(), value });
        }
    }
    Ok(())
}

/// As [`sound`], of a super-network or a network on its own.
///
/// # Errors
/// The first tensor that may not be written.
pub fn sound_weights(weights: &Supernet) -> Result<(), Reason> {
    let tensors = weights.layout.tensors().iter();
    sound(tensors.map(|tensor| (tensor.name.as_str(), &weights.packed[tensor.offset..][..tensor.len])))
}

/// The loss of a network that guesses among `classes`, with a teacher's term of weight `kd_ratio` in it.
pub fn guess(classes: usize, kd_ratio: f64) -> f64 {
    (1.0 + kd_ratio) * (classes as f64).ln()
}

/// What an engine's error says of the training whose weights it ran: a network without a finite loss is
/// divergence, all else is none.
pub fn validated(error: &engine::Error) -> Option<Reason> {
    match error {
        engine::Error::NotFinite { loss, .. } => Some(Reason::Validation(*loss)),
        _ => None,
    }
}

/// A training that diverged more often than it may.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the training diverged {times} times, the last time because {reason}: {remedy}")]
pub struct KeepsDiverging {
    /// How often.
    pub times: u32,
    /// What was wrong last, in words.
    pub reason: String,
    /// What to do, in words.
    pub remedy: String,
}

/// What can be done about a training that diverges, in the terms of its settings: the factor or rate that it
/// goes by (`rate`, a key of `section`), the limit of its gradients where there is that setting, and its batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Remedy {
    /// The settings' section.
    pub section: &'static str,
    /// The key of the rate there, and its value.
    pub rate: (&'static str, f64),
    /// `clip`, where the section has it.
    pub clip: Option<f64>,
    /// `batch`.
    pub batch: usize,
}

impl std::fmt::Display for Remedy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Remedy { section, rate: (key, value), clip, batch } = *self;
        if batch < SMALL_BATCH {
            write!(f, "give {section}.batch more images (it is {batch}: too few for batch norms), ")?;
        }
        write!(f, "lower {section}.{key} (it is {value})")?;
        match clip {
            Some(0.0) => write!(f, ", clip gradients ({section}.clip)")?,
            Some(clip) => write!(f, ", clip gradients at less ({section}.clip is {clip})")?,
            None => {}
        }
        write!(f, ", or look at the data")
    }
}

/// The watch over a phase; part of its state.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Watch {
    recent: VecDeque<f64>,
    rollbacks: u32,
}

impl Watch {
    /// The watch over a new phase.
    pub fn new() -> Watch {
        Watch::default()
    }

    /// Looks at a step: the mean loss of its sub-networks, the norm of its gradient where it is
    /// known, and the loss of a network that guesses, below which nothing has exploded (late in a
    /// training the median is near zero, and one hard batch is many times that).
    ///
    /// A good step counts towards the median; one that diverged leaves the watch as it was.
    pub fn observe(&mut self, loss: f64, gradient: Option<f64>, guess: f64) -> Health {
        if !loss.is_finite() {
            return Health::Diverged(Reason::Loss(loss));
        }
        if let Some(norm) = gradient.filter(|norm| !norm.is_finite()) {
            return Health::Diverged(Reason::Gradient(norm));
        }
        if self.recent.len() >= LEAST {
            let median = self.median();
            if loss > BOUND * median.max(guess) {
                return Health::Diverged(Reason::Exploded { loss, median });
            }
        }
        if self.recent.len() == WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back(loss);
        Health::Healthy
    }

    fn median(&self) -> f64 {
        let mut sorted: Vec<f64> = self.recent.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }

    /// The watch to go on with after this one saw a step diverge: that of the checkpoint, `restored`,
    /// which now knows of one rollback more. Write it back into the checkpoint before going on.
    ///
    /// # Errors
    /// This phase has gone back too often.
    pub fn rolled_back(
        &self,
        restored: Watch,
        reason: &Reason,
        remedy: Remedy,
    ) -> Result<Watch, KeepsDiverging> {
        let rollbacks = self.rollbacks.max(restored.rollbacks) + 1;
        if rollbacks > MOST_ROLLBACKS {
            let (reason, remedy) = (reason.to_string(), remedy.to_string());
            return Err(KeepsDiverging { times: rollbacks, reason, remedy });
        }
        Ok(Watch { rollbacks, ..restored })
    }

    /// How often this phase went back.
    pub fn rollbacks(&self) -> u32 {
        self.rollbacks
    }

    /// The factor on the phase's rates: halved at every rollback.
    pub fn rate_factor(&self) -> f64 {
        0.5f64.powi(self.rollbacks as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GUESS: f64 = 2.3;
    const NAN: Reason = Reason::Loss(f64::NAN);
    const REMEDY: Remedy =
        Remedy { section: "warmup", rate: ("rate_scale", 100.0), clip: Some(0.0), batch: 64 };

    fn watched(losses: &[f64]) -> Watch {
        let mut watch = Watch::new();
        for &loss in losses {
            assert_eq!(watch.observe(loss, Some(1.0), GUESS), Health::Healthy, "{loss}");
        }
        watch
    }

    #[test]
    fn what_is_no_number_is_seen_at_once_and_leaves_no_trace() {
        let mut watch = watched(&[]);
        for loss in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(matches!(watch.observe(loss, None, GUESS), Health::Diverged(Reason::Loss(_))));
        }
        let found = watch.observe(1.0, Some(f64::NAN), GUESS);
        assert!(matches!(found, Health::Diverged(Reason::Gradient(_))));
        assert_eq!(watch, Watch::new());
    }

    #[test]
    fn an_explosion_is_measured_against_the_median_and_a_guess() {
        // The first losses of a random network may be anything.
        let mut watch = watched(&[1e4, 3.0, 2.5, 2.4, 2.3, 2.2, 2.2, 2.1]);
        assert_eq!(watch.observe(46.0, None, GUESS), Health::Healthy);
        let found = watch.observe(1e3, None, GUESS);
        let Health::Diverged(reason) = found else { panic!("{found:?}") };
        let Reason::Exploded { loss, median } = reason else { panic!("{reason}") };
        assert_eq!((loss, median), (1e3, 2.4));
        assert!(reason.to_string().contains("1000.0000") && reason.to_string().contains("2.4000"));
        // A small loss may jump to that of a bad guess.
        let mut late = watched(&[1e-4; 100]);
        assert_eq!(late.observe(2.0, None, GUESS), Health::Healthy);
        assert!(matches!(late.observe(100.0, None, GUESS), Health::Diverged(_)));
    }

    #[test]
    fn every_rollback_halves_the_rate_until_there_are_too_many() {
        let checkpoint = watched(&[2.0; 10]);
        let mut watch = watched(&[2.0; 15]);
        assert_eq!(watch.rate_factor(), 1.0);
        for times in 1..=MOST_ROLLBACKS {
            watch = watch.rolled_back(checkpoint.clone(), &NAN, REMEDY).unwrap();
            assert_eq!((watch.rollbacks(), watch.rate_factor()), (times, 0.5f64.powi(times as i32)));
            assert_eq!(watch.recent, checkpoint.recent);
            let text = serde_json::to_string(&watch).unwrap();
            assert_eq!(serde_json::from_str::<Watch>(&text).unwrap(), watch);
        }
        let error = watch.rolled_back(checkpoint, &NAN, REMEDY).unwrap_err().to_string();
        let parts = ["6 times", "NaN", "lower warmup.rate_scale (it is 100)", "clip gradients (warmup.clip)"];
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }

    #[test]
    fn what_to_do_is_said_in_the_terms_of_the_section() {
        assert!(!REMEDY.to_string().contains("batch"), "{REMEDY}");
        let small = Remedy { section: "finetune", rate: ("rate", 0.5), clip: None, batch: 2 }.to_string();
        assert!(
            small.starts_with("give finetune.batch more images (it is 2") && !small.contains("clip"),
            "{small}"
        );
        let clipped = Remedy { clip: Some(5.0), ..REMEDY }.to_string();
        assert!(clipped.contains("warmup.clip is 5"), "{clipped}");
    }

    #[test]
    fn what_no_reader_takes_is_not_sound() {
        let found = |name: &'static str, values: &[f32]| sound([("fine", &[0.0, -1.0][..]), (name, values)]);
        assert_eq!(found("a.running_var", &[0.0, 6e17]), Ok(()));
        assert_eq!(found("a.running_mean", &[-1.0]), Ok(()));
        for (name, value) in [("a.weight", f32::INFINITY), ("a.weight", f32::NAN), ("a.running_var", -1e-9)] {
            let reason = found(name, &[1.0, value]).unwrap_err();
            assert!(reason.to_string().starts_with(&format!("`{name}` holds")), "{reason}");
        }
    }

    proptest! {
        #[test]
        fn the_state_is_bounded_and_comes_back_to_the_bit(losses in prop::collection::vec(0.0..40.0f64, 0..200)) {
            let mut watch = Watch::new();
            for loss in losses {
                prop_assert_eq!(watch.observe(loss, None, GUESS), Health::Healthy);
            }
            prop_assert!(watch.recent.len() <= WINDOW);
            let text = serde_json::to_string(&watch).unwrap();
            prop_assert_eq!(serde_json::from_str::<Watch>(&text).unwrap(), watch);
        }
    }
}
