//! The table of 550 sub-networks and their CIFAR-10 accuracies that ships with the checkpoints, as
//! rows of 22 genes and errors in per cent.
//!
//! A genotype is [resolution, width, 20 layers]; a layer is 1 + 3 x expansion index + kernel index,
//! or 0 where it is skipped.

use serde_json::Value;

/// Genotypes and top-1 errors of the table.
pub fn load() -> (Vec<Vec<u8>>, Vec<f64>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/checkpoints/ofa_mbv3_w025_cifar10.accuracies.json");
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let table: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    let rows = table["rows"].as_array().expect("the table has rows");
    (
        rows.iter().map(|row| genotype(&row["arch"])).collect(),
        rows.iter().map(|row| 100.0 - row["top1"].as_f64().expect("top1 is a number")).collect(),
    )
}

fn genotype(arch: &Value) -> Vec<u8> {
    let index = |value: &Value, choices: [u64; 3]| {
        let value = value.as_u64().expect("a choice is an integer");
        choices.iter().position(|&c| c == value).expect("a choice of the space") as u8
    };
    let mut genes = vec![index(&arch["r"], [32, 40, 48]), 0];
    for layer in 0..20 {
        let depth = arch["d"][layer / 4].as_u64().expect("a depth is an integer");
        genes.push(if (layer as u64 % 4) < depth {
            1 + 3 * index(&arch["e"][layer], [3, 4, 6]) + index(&arch["ks"][layer], [3, 5, 7])
        } else {
            0
        });
    }
    genes
}
