//! Is the training still healthy?
//!
//! A loss or a gradient that is no number, or a loss that explodes, ends a training. [`Watch`] sees
//! both at the step where they happen; the training then goes back to its last checkpoint and on from
//! there at half the rate, a few times. All of that is state: it is in the checkpoint, so a run that
//! was interrupted decides as one that was not.

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

/// What is wrong with a step.
#[derive(Debug, Clone, Copy, PartialEq)]
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
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reason::Loss(loss) => write!(f, "the loss is {loss}"),
            Reason::Gradient(norm) => write!(f, "the norm of the gradient is {norm}"),
            Reason::Exploded { loss, median } => {
                write!(f, "the loss is {loss:.4}, and that of the steps before was {median:.4} (median)")
            }
        }
    }
}

/// Whether a step was a good one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Health {
    /// It was.
    Healthy,
    /// It must be undone.
    Diverged(Reason),
}

/// A training that diverged more often than it may.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "the training diverged {times} times in one phase, the last time because {reason}: use smaller rates \
     (train.rate_scale), clip gradients (train.clip), or look at the data"
)]
pub struct Hopeless {
    /// How often.
    pub times: u32,
    /// What was wrong last, in words.
    pub reason: String,
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
    pub fn rolled_back(&self, restored: Watch, reason: Reason) -> Result<Watch, Hopeless> {
        let rollbacks = self.rollbacks.max(restored.rollbacks) + 1;
        if rollbacks > MOST_ROLLBACKS {
            return Err(Hopeless { times: rollbacks, reason: reason.to_string() });
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
        let Health::Diverged(reason @ Reason::Exploded { loss, median }) = found else { panic!("{found:?}") };
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
            watch = watch.rolled_back(checkpoint.clone(), Reason::Loss(f64::NAN)).unwrap();
            assert_eq!((watch.rollbacks(), watch.rate_factor()), (times, 0.5f64.powi(times as i32)));
            assert_eq!(watch.recent, checkpoint.recent);
            let text = serde_json::to_string(&watch).unwrap();
            assert_eq!(serde_json::from_str::<Watch>(&text).unwrap(), watch);
        }
        let error = watch.rolled_back(checkpoint, Reason::Loss(f64::NAN)).unwrap_err().to_string();
        assert!(
            error.contains("6 times") && error.contains("train.rate_scale") && error.contains("NaN"),
            "{error}"
        );
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
