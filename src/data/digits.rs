//! `digits`: 1,797 real handwritten digits of 8 x 8 pixels, embedded, so that the main job runs
//! anywhere. See the [module's attribution](super).
//!
//! The asset has a 65-byte record an image: label, then 64 pixels with values 0 to 16. The grey
//! image is repeated to three channels, and 16 stands for 1.

use std::sync::Arc;

use super::{Dataset, Error, Facts, Spec};

static RECORDS: &[u8] = include_bytes!("assets/digits.bin");
const SIDE: usize = 8;
const RECORD: usize = 1 + SIDE * SIDE;

pub(super) fn open(facts: &'static Facts, spec: &Spec) -> Result<Dataset, Error> {
    for (setting, given) in [
        ("data.validation_images", spec.validation.images.is_some()),
        ("data.validation_fraction", spec.validation.fraction.is_some()),
    ] {
        if given {
            let instead =
                "its splits are fixed (index modulo 5: 3 is validation, 4 is test); remove the setting";
            return Err(Error::SettingDoesNotApply { setting, dataset: facts.name, instead });
        }
    }
    let mut images = Vec::with_capacity(RECORDS.len() / RECORD * SIDE * SIDE * 3);
    let mut labels = Vec::with_capacity(RECORDS.len() / RECORD);
    for record in RECORDS.chunks_exact(RECORD) {
        labels.push(u32::from(record[0]));
        images.extend(record[1..].iter().flat_map(|&grey| [grey; 3]));
    }
    let of_rest = |rests: &[u32]| (0..labels.len() as u32).filter(|i| rests.contains(&(i % 5))).collect();
    Ok(Dataset {
        facts,
        classes: (0..10).map(|digit| digit.to_string()).collect(),
        side: SIDE,
        scale: 16.0,
        splits: [of_rest(&[0, 1, 2]), of_rest(&[3]), of_rest(&[4])],
        images: Arc::new(images),
        labels,
        origin: None,
    })
}
