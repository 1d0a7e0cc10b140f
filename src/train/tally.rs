//! What the steps of an epoch add up to.

use super::Report;
use serde::{Deserialize, Serialize};

/// Whether nothing was left out, as always but in f16: then files say nothing of it.
#[allow(clippy::trivially_copy_pass_by_ref)]
pub(crate) fn nothing(skipped: &u64) -> bool {
    *skipped == 0
}

/// The steps of an epoch that were left out, behind its other figures in a line for people.
pub(crate) fn left_out(skipped: u64) -> String {
    match skipped {
        0 => String::new(),
        1 => ", 1 step left out (overflow of f16)".into(),
        skipped => format!(", {skipped} steps left out (overflow of f16)"),
    }
}

/// Whether nobody teaches: then files say nothing of the teacher's weight.
#[allow(clippy::trivially_copy_pass_by_ref)]
pub(crate) fn untaught(kd_ratio: &f64) -> bool {
    *kd_ratio == 0.0
}

/// What a loss holds beside cross entropy, behind it in a line for people: the term of a teacher with that
/// weight.
fn distilled(kd_ratio: f64) -> &'static str {
    if kd_ratio > 0.0 { " with distillation" } else { "" }
}

/// Losses and answers of an epoch's steps so far; a part of a training's state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Mean losses of the steps' sub-networks, summed, and the number of steps.
    epoch_loss: (f64, u64),
    /// Correct answers and answers.
    epoch_correct: (u64, u64),
    /// Steps that a super-network left out.
    #[serde(default, skip_serializing_if = "nothing")]
    epoch_skipped: u64,
}

impl Tally {
    /// Counts a step on `images` images.
    pub fn add(&mut self, report: &Report, images: usize) {
        self.epoch_loss.0 += report.loss();
        self.epoch_loss.1 += 1;
        self.epoch_correct.0 += report.correct.iter().map(|&correct| correct as u64).sum::<u64>();
        self.epoch_correct.1 += (report.correct.len() * images) as u64;
        self.epoch_skipped += report.skipped as u64;
    }

    /// Steps that a super-network left out.
    pub fn skipped(&self) -> u64 {
        self.epoch_skipped
    }

    /// Mean loss of a sub-network.
    pub fn loss(&self) -> f64 {
        self.epoch_loss.0 / self.epoch_loss.1.max(1) as f64
    }

    /// Accuracy on the images as they were augmented, per cent.
    pub fn top1(&self) -> f64 {
        100.0 * self.epoch_correct.0 as f64 / self.epoch_correct.1.max(1) as f64
    }
}

/// What an epoch came to, for people and curves.
#[derive(Default)]
pub(crate) struct Figures {
    /// From 1.
    pub epoch: u64,
    pub tally: Tally,
    /// Weight of the teacher's term in the loss.
    pub kd_ratio: f64,
    /// Of the last step.
    pub rate: f64,
    pub validation_loss: Option<f64>,
    pub validation_top1: Option<f64>,
    /// What stands before the names of the curves.
    pub curves: String,
}

impl Figures {
    /// The line for people.
    pub(super) fn line(&self) -> String {
        let validation = self.validation_top1.map(|top1| format!(", validation {top1:.2} %"));
        format!(
            "epoch {}: loss {:.4}{}, training {:.2} %{}{}",
            self.epoch,
            self.tally.loss(),
            distilled(self.kd_ratio),
            self.tally.top1(),
            validation.unwrap_or_default(),
            left_out(self.tally.skipped())
        )
    }

    /// The curves, by name.
    pub(super) fn scalars(&self) -> Vec<(String, f64)> {
        let all = [
            ("loss", Some(self.tally.loss())),
            ("train_top1", Some(self.tally.top1())),
            ("rate", Some(self.rate)),
            ("validation_loss", self.validation_loss),
            ("validation_top1", self.validation_top1),
        ];
        let named = |(name, value): (&str, Option<f64>)| Some((format!("{}{name}", self.curves), value?));
        all.into_iter().filter_map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_is_said_in_a_line() {
        let lines = [0, 1, 2].map(left_out);
        assert_eq!(lines[0], "");
        assert!(lines[1].starts_with(", 1 step left") && lines[2].starts_with(", 2 steps left"), "{lines:?}");
    }

    #[test]
    fn a_loss_with_a_teachers_term_is_said_to_hold_it() {
        assert_eq!([0.0, 0.5].map(distilled), ["", " with distillation"]);
        assert!(untaught(&0.0) && !untaught(&0.5));
    }

    #[test]
    fn steps_add_up() {
        let mut tally = Tally::default();
        assert_eq!((tally.loss(), tally.top1()), (0.0, 0.0));
        tally.add(&Report { losses: vec![1.0, 2.0], correct: vec![3, 4], norm: 1.0, skipped: 0 }, 8);
        tally.add(&Report { losses: vec![0.5], correct: vec![1], norm: f64::NAN, skipped: 1 }, 8);
        assert_eq!((tally.loss(), tally.top1()), (1.0, 100.0 * 8.0 / 24.0));
        assert_eq!(tally.skipped(), 1);
        let text = serde_json::to_string(&tally).unwrap();
        assert_eq!(serde_json::from_str::<Tally>(&text).unwrap(), tally);
    }
}
