//! The learning rate of every step of a phase.
//!
//! A warm-up that rises in a straight line, then half a cosine down to zero:
//!
//! ```text
//! step t of the warm-up:  start + (rate - start) (t + 1) / warm-up steps
//! step t after it:        rate / 2 (1 + cos(pi t / steps))
//! ```
//!
//! The warm-up comes before the cosine and does not shorten it, as in the once-for-all package.
//! Without a start of its own it is flat: the authors' programs give -1 there, which means the
//! rate itself.

use super::phase::Phase;
use std::f64::consts::PI;

/// The rates of a phase.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    rate: f64,
    start: f64,
    warmup: u64,
    cosine: u64,
}

impl Rate {
    /// The rates of `phase` with `steps` steps an epoch.
    pub fn new(phase: &Phase, steps: u64) -> Rate {
        Rate {
            rate: phase.rate,
            start: phase.warmup_rate.unwrap_or(phase.rate),
            warmup: phase.warmup_epochs as u64 * steps,
            cosine: phase.epochs as u64 * steps,
        }
    }

    /// Steps of the phase.
    pub fn steps(&self) -> u64 {
        self.warmup + self.cosine
    }

    /// The rate of a step of the phase, from 0.
    pub fn at(&self, step: u64) -> f64 {
        match step.checked_sub(self.warmup) {
            None => self.start + (self.rate - self.start) * (step + 1) as f64 / self.warmup as f64,
            Some(step) => {
                let done = step.min(self.cosine) as f64 / self.cosine.max(1) as f64;
                0.5 * self.rate * (1.0 + (PI * done).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-15
    }

    #[test]
    fn a_cosine_from_the_rate_to_zero() {
        let rate = Rate::new(&Phase::new("a", 4, 0.08), 25);
        assert_eq!((rate.steps(), rate.at(0)), (100, 0.08));
        assert!(close(rate.at(50), 0.04) && close(rate.at(25), 0.04 * (1.0 + 0.5f64.sqrt())));
        // The last step still moves; the one that would follow does not.
        assert!(rate.at(99) > 0.0 && rate.at(100).abs() < 1e-18 && rate.at(1000) == rate.at(100));
        assert!((0..99).all(|step| rate.at(step) > rate.at(step + 1)));
    }

    #[test]
    fn a_warm_up_rises_to_the_rate_before_the_cosine() {
        let phase = Phase { warmup_epochs: 2, warmup_rate: Some(1e-4), ..Phase::new("a", 3, 7.5e-3) };
        let rate = Rate::new(&phase, 10);
        assert_eq!(rate.steps(), 50);
        assert!(close(rate.at(0), 1e-4 + (7.5e-3 - 1e-4) / 20.0));
        assert!(close(rate.at(19), 7.5e-3) && close(rate.at(20), 7.5e-3) && close(rate.at(35), 3.75e-3));
        assert!((0..19).all(|step| rate.at(step) < rate.at(step + 1)));
    }

    #[test]
    fn a_warm_up_is_flat_where_no_start_is_given() {
        let rate = Rate::new(&Phase { warmup_epochs: 5, ..Phase::new("a", 120, 0.03) }, 7);
        assert!((0..=35).all(|step| rate.at(step) == 0.03));
        assert!(rate.at(36) < 0.03);
    }
}
