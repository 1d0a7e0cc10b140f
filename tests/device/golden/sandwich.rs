//! Sandwich steps, in which the largest network teaches the smallest and two others, against independent reference
//! values: those of `scripts/golden_sandwich_step.py`.
//!
//! Devices and tolerances are those of other [steps](super::step).

use super::step::{self, StepFile};
use crate::common;
use natv2::data::Source;
use natv2::space::{Arch, Family};
use natv2::supernet::{Card, Supernet};
use natv2::train::{Batch, Student, Teaching, Trainer, Weighting};

#[test]
pub(crate) fn golden_sandwich_step() {
    for stem in common::stems("sandwich_w", |stem| stem.ends_with("_step")) {
        let file = common::read(&format!("{stem}.json"));
        let tensors = StepFile::read(&format!("{stem}.safetensors"));
        let base = file["weights"].as_str().unwrap().trim_end_matches(".safetensors");
        let checkpoint = step::load(&format!("{base}.safetensors"));
        let images = step::load(&format!("{base}_inputs.safetensors"));
        for (device, t) in step::devices() {
            for (index, case) in common::cases(&file).iter().enumerate() {
                let family: Family = case["family"].as_str().unwrap().parse().unwrap();
                let what = format!("{}, {stem} case {index} ({family})", device.describe());
                let supernet = Supernet::from_checkpoint(&checkpoint, Card::default(), Some(family)).unwrap();
                let side = case["r"].as_u64().unwrap() as usize;
                let (pixels, labels) = step::inputs(&images, &tensors, side);
                let batch = Batch { images: Source::Made(&pixels), labels: &labels, side };
                let all = |weights| {
                    if family.early_exits { step::joint(&case[weights]) } else { Weighting::Own }
                };
                let networks = case["students"].as_array().unwrap();
                assert_eq!((networks.len(), networks[0]["which"].as_str()), (4, Some("largest")), "{what}");
                let students: Vec<Student> = networks
                    .iter()
                    .enumerate()
                    .map(|(number, network)| Student {
                        arch: Arch::from_json(family, &common::arch_fields(network)).unwrap(),
                        weighting: if number == 0 { all("exit_weights") } else { Weighting::Own },
                    })
                    .collect();
                let smoothing = case["label_smoothing"].as_f64().unwrap() as f32;
                let teaching = Teaching::First(all("answer_weights"));
                let mut trainer = Trainer::new(device.clone(), supernet, step::OPTIMISER).unwrap();
                let settings = step::settings(smoothing, 1.0);
                let found = trainer.gradient(&batch, &students, teaching, &settings).unwrap();
                assert_eq!(found.report.losses.len(), networks.len(), "{what}");
                for (number, (&loss, network)) in found.report.losses.iter().zip(networks).enumerate() {
                    step::check_loss(loss, network, t, &format!("{what}, network {number}"));
                }
                step::check_gradients(&found, case, &tensors.part(index, "grad"), t, &what);
                // Those of the last network are there.
                let reference = &tensors.tensors[&format!("case{index}.logits.{}.0", networks.len() - 1)];
                step::check_logits(&found.logits[0], reference, t.statistics, &what);
            }
        }
    }
}
