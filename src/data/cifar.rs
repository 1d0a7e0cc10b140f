//! CIFAR-10 and CIFAR-100 from their official binary files (A. Krizhevsky, "Learning Multiple
//! Layers of Features from Tiny Images", 2009).
//!
//! A record is one label byte (CIFAR-100: coarse, then fine label; the fine one is used) and 3,072
//! pixels: red plane, green plane, blue plane, each 32 x 32 row by row. Files are read in the order
//! of their numbers. Data batches may be missing, also the test file; a file is bad only if it is
//! empty, or does not consist of whole records, or holds a label that names no class. Two names of one
//! number, as `data_batch_1.bin` and `data_batch_01.bin`, are refused: the images would count twice.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::facts::Records;
use super::{Dataset, Error, Facts, Spec, Validation, entries, folder_or_child, index_range};

#[rustfmt::skip]
pub(super) const CIFAR100_FINE: [&str; 100] = [
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
    "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
    "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur",
    "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard",
    "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain",
    "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree",
    "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket",
    "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
    "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
];

pub(super) fn open(facts: &'static Facts, records: &Records, spec: &Spec) -> Result<Dataset, Error> {
    let folder = folder_or_child(spec, facts, |path| holds(records, path))?;
    let name = facts.name;
    let mut dataset = Dataset {
        facts,
        classes: records.classes.iter().map(|&name| name.to_owned()).collect(),
        side: records.side,
        scale: 255.0,
        images: Arc::default(),
        labels: Vec::new(),
        splits: Default::default(),
        origin: None,
    };
    let mut training: Vec<(u32, PathBuf)> = entries(&folder)?
        .into_iter()
        .filter_map(|path| Some((number_of(records, path.file_name()?.to_str()?)?, path)))
        .collect();
    training.sort();
    if let Some(twins) = training.windows(2).find(|twins| twins[0].0 == twins[1].0) {
        return Err(Error::SameBatch {
            first: twins[0].1.clone(),
            second: twins[1].1.clone(),
            number: twins[0].0,
            dataset: name,
        });
    }
    for (_, file) in &training {
        read(records, file, &mut dataset)?;
    }
    let train_count = dataset.len();
    let test = folder.join(records.test_file);
    if test.is_file() {
        read(records, &test, &mut dataset)?;
    }

    let held_back = validation_count(facts, &spec.validation, train_count)?;
    dataset.splits = [
        index_range(0..train_count - held_back)?.collect(),
        index_range(train_count - held_back..train_count)?.collect(),
        index_range(train_count..dataset.len())?.collect(),
    ];
    Ok(dataset)
}

/// The number by which a training file is ordered, or nothing if the name is not of one.
fn number_of(records: &Records, name: &str) -> Option<u32> {
    match records.training_files.split_once('*') {
        Some((before, after)) => name.strip_prefix(before)?.strip_suffix(after)?.parse().ok(),
        None => (name == records.training_files).then_some(0),
    }
}

fn holds(records: &Records, folder: &Path) -> bool {
    let is_training = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| number_of(records, name).is_some())
    };
    folder.join(records.test_file).is_file()
        || entries(folder).is_ok_and(|paths| paths.iter().any(is_training))
}

fn validation_count(facts: &Facts, validation: &Validation, available: usize) -> Result<usize, Error> {
    match *validation {
        // Only the test file is there: nothing to hold back, and nothing to train on anyway.
        _ if available == 0 => Ok(0),
        Validation { images: Some(asked), .. } if asked >= available => {
            Err(Error::ValidationTooLarge { asked, available, dataset: facts.name })
        }
        Validation { images: Some(asked), .. } => Ok(asked),
        Validation { fraction: Some(fraction), .. } => Ok(Validation::share_of(fraction, available)),
        _ => Ok((available as f64 * facts.held_back.unwrap_or(0.0)) as usize),
    }
}

/// Append the records of a file.
fn read(records: &Records, file: &Path, dataset: &mut Dataset) -> Result<(), Error> {
    let plane = records.side * records.side;
    let record_size = records.label_bytes + 3 * plane;
    let bytes = std::fs::read(file).map_err(|source| Error::Read { path: file.to_owned(), source })?;
    if bytes.is_empty() {
        return Err(Error::EmptyFile { file: file.to_owned(), record: record_size });
    }
    if bytes.len() % record_size != 0 {
        return Err(Error::PartialRecord {
            file: file.to_owned(),
            size: bytes.len() as u64,
            record: record_size,
            dataset: dataset.name(),
        });
    }
    let count = bytes.len() / record_size;
    dataset.labels.reserve(count);
    let images = Arc::make_mut(&mut dataset.images);
    images.reserve(count * 3 * plane);
    for (record, content) in bytes.chunks_exact(record_size).enumerate() {
        let (labels, planes) = content.split_at(records.label_bytes);
        let label = labels[records.label_bytes - 1];
        if usize::from(label) >= records.classes.len() {
            return Err(Error::LabelOutOfRange {
                file: file.to_owned(),
                record,
                label,
                classes: records.classes.len(),
                dataset: dataset.facts.name,
            });
        }
        dataset.labels.push(u32::from(label));
        let (red, others) = planes.split_at(plane);
        let (green, blue) = others.split_at(plane);
        images.extend(red.iter().zip(green).zip(blue).flat_map(|((&r, &g), &b)| [r, g, b]));
    }
    Ok(())
}
