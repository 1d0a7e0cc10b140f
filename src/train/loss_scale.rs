//! The scale of a loss whose gradients pass through f16.
//!
//! Gradients of maps are small, and f16 has nothing below 6e-8: the loss is multiplied by a power of two,
//! which is taken out of the gradient of the weights again, in f32, where it is exact. A scale that is too
//! large makes a gradient infinite; the step is then left out and the scale halved. After many good steps it
//! is doubled (Micikevicius et al., Mixed Precision Training, 2018). bf16 has the range of f32 and needs
//! none.

use crate::engine::Precision;
use serde::{Deserialize, Serialize};

/// The scale that training begins with.
const START: f32 = 65_536.0;
/// Good steps one after the other before it is doubled.
const PATIENCE: u32 = 2_000;
/// The largest: with it the gradient's squares still have room in f32.
const MOST: f32 = 16_777_216.0;

/// The scale of one super-network's losses: a part of its optimiser's state.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    /// The factor, a power of two.
    factor: f32,
    /// Good steps since it last changed.
    good: u32,
}

impl Default for LossScale {
    fn default() -> LossScale {
        LossScale { factor: START, good: 0 }
    }
}

impl LossScale {
    /// The factor on losses in that precision.
    pub fn factor(&self, precision: Precision) -> f32 {
        match precision {
            Precision::F16 => self.factor,
            Precision::F32 | Precision::Bf16 => 1.0,
        }
    }

    /// Whether it is as a training begins: then files say nothing of it.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub fn is_fresh(&self) -> bool {
        *self == LossScale::default()
    }

    /// Takes note of a step's gradient norm. Whether the step was left out for a scale that was too large:
    /// the norm is no finite number, and a smaller scale may help. Where none can, the gradient is what it is.
    pub fn overflows(&mut self, precision: Precision, norm: f64) -> bool {
        if precision != Precision::F16 {
            return false;
        }
        if norm.is_finite() {
            self.good += 1;
            if self.good == PATIENCE {
                *self = LossScale { factor: (2.0 * self.factor).min(MOST), good: 0 };
            }
            return false;
        }
        let smaller = self.factor > 1.0;
        *self = LossScale { factor: (self.factor / 2.0).max(1.0), good: 0 };
        smaller
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const F16: Precision = Precision::F16;

    #[test]
    fn overflows_halve_it_down_to_one_and_are_left_out() {
        let mut scale = LossScale::default();
        assert_eq!(scale.factor(F16), 65_536.0);
        for halvings in 1..=16 {
            let norm = if halvings % 2 == 0 { f64::NAN } else { f64::INFINITY };
            assert!(scale.overflows(F16, norm));
            assert_eq!(scale.factor(F16), 65_536.0 / 2f32.powi(halvings));
        }
        // Nothing is left to halve: what is no number is none without a scale either.
        assert!(!scale.overflows(F16, f64::NAN));
        assert_eq!(scale.factor(F16), 1.0);
    }

    #[test]
    fn many_good_steps_in_a_row_double_it() {
        let mut scale = LossScale::default();
        for _ in 1..PATIENCE {
            assert!(!scale.overflows(F16, 1.0));
        }
        assert_eq!(scale.factor(F16), START);
        // An overflow begins the count anew.
        assert!(scale.overflows(F16, f64::INFINITY));
        for _ in 1..PATIENCE {
            assert!(!scale.overflows(F16, 1.0));
        }
        assert_eq!(scale.factor(F16), START / 2.0);
        assert!(!scale.overflows(F16, 1.0));
        assert_eq!(scale.factor(F16), START);
        for _ in 0..20 * PATIENCE {
            assert!(!scale.overflows(F16, 1.0));
        }
        assert_eq!(scale.factor(F16), MOST);
    }

    #[test]
    fn other_precisions_have_none() {
        for precision in [Precision::F32, Precision::Bf16] {
            let mut scale = LossScale::default();
            assert_eq!(scale.factor(precision), 1.0);
            assert!(!scale.overflows(precision, f64::NAN));
            assert_eq!(scale, LossScale::default());
        }
    }

    #[test]
    fn it_survives_a_checkpoint() {
        let mut scale = LossScale::default();
        scale.overflows(F16, f64::INFINITY);
        scale.overflows(F16, 1.0);
        let text = serde_json::to_string(&scale).unwrap();
        assert_eq!(serde_json::from_str::<LossScale>(&text).unwrap(), scale);
    }
}
