//! Accuracies of the built-in super-network's sub-networks against a table measured by the
//! once-for-all package on PyTorch.

use natv2::data::Split;
use natv2::device::Cpu;
use natv2::evaluator::{Evaluator, Options};
use natv2::space::{Arch, Family};
use serde_json::Value;
use std::sync::Arc;

#[test]
fn digits_accuracies_are_within_one_image_of_the_table() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/checkpoints/ofa_mbv3_w025_digits.accuracies.json");
    let table: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let rows = table["rows"].as_array().unwrap();
    let archs: Vec<Arch> =
        rows.iter().map(|row| Arch::from_json(Family::SE_B, &row["arch"]).unwrap()).collect();
    let evaluator = Evaluator::open(&Options::default(), Arc::new(Cpu)).unwrap();
    assert_eq!(evaluator.calibration_images() as u64, table["calibration_images"].as_u64().unwrap());

    let results = evaluator.evaluate(&archs, Split::Test, None, &|| false, &|_, _| ()).unwrap().unwrap();
    assert_eq!(results.len(), rows.len());
    let image = 100.0 / results[0].images as f64;
    for (row, result) in rows.iter().zip(&results) {
        let (top1, loss) = (row["top1"].as_f64().unwrap(), row["loss"].as_f64().unwrap());
        // The table rounds to two decimals.
        assert!((result.top1() - top1).abs() <= image + 0.01, "{} against {top1}: {row}", result.top1());
        assert!((result.loss - loss).abs() <= 1e-3, "{} against {loss}: {row}", result.loss);
    }
}
