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

use super::{Dataset, Error, Spec, Validation, entries, folder_of, folder_or_child, index_range};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;

/// What tells the two data sets apart.
pub(super) struct Kind {
    name: &'static str,
    folder: &'static str,
    expected: &'static str,
    /// Label bytes before the pixels; the last one is used.
    label_bytes: usize,
    classes: &'static [&'static str],
    /// The number by which a training file is ordered, or nothing if the name is not of one.
    training_file: fn(&str) -> Option<u32>,
    test_file: &'static str,
}

pub(super) static CIFAR10: Kind = Kind {
    name: "cifar10",
    folder: "cifar-10-batches-bin",
    expected: "data_batch_1.bin to data_batch_5.bin and test_batch.bin (the binary version)",
    label_bytes: 1,
    classes: &["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    training_file: |name| name.strip_prefix("data_batch_")?.strip_suffix(".bin")?.parse().ok(),
    test_file: "test_batch.bin",
};

pub(super) static CIFAR100: Kind = Kind {
    name: "cifar100",
    folder: "cifar-100-binary",
    expected: "train.bin and test.bin (the binary version)",
    label_bytes: 2,
    classes: &CIFAR100_FINE,
    training_file: |name| (name == "train.bin").then_some(0),
    test_file: "test.bin",
};

#[rustfmt::skip]
const CIFAR100_FINE: [&str; 100] = [
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

pub(super) fn open(kind: &'static Kind, spec: &Spec) -> Result<Dataset, Error> {
    let given = folder_of(spec, kind.name, kind.expected)?;
    let folder = folder_or_child(given, kind.folder, |path| holds(kind, path))?.ok_or_else(|| {
        Error::NoFiles { dataset: kind.name, folder: given.to_owned(), expected: kind.expected }
    })?;

    let mut dataset = Dataset {
        name: kind.name,
        classes: kind.classes.iter().map(|&name| name.to_owned()).collect(),
        side: SIDE,
        scale: 255.0,
        images: Arc::default(),
        labels: Vec::new(),
        splits: Default::default(),
        origin: None,
    };
    let mut training: Vec<(u32, PathBuf)> = entries(&folder)?
        .into_iter()
        .filter_map(|path| Some(((kind.training_file)(path.file_name()?.to_str()?)?, path)))
        .collect();
    training.sort();
    if let Some(twins) = training.windows(2).find(|twins| twins[0].0 == twins[1].0) {
        return Err(Error::SameBatch {
            first: twins[0].1.clone(),
            second: twins[1].1.clone(),
            number: twins[0].0,
            dataset: kind.name,
        });
    }
    for (_, file) in &training {
        read(kind, file, &mut dataset)?;
    }
    let train_count = dataset.len();
    let test = folder.join(kind.test_file);
    if test.is_file() {
        read(kind, &test, &mut dataset)?;
    }

    let held_back = validation_count(kind, &spec.validation, train_count)?;
    dataset.splits = [
        index_range(0..train_count - held_back)?.collect(),
        index_range(train_count - held_back..train_count)?.collect(),
        index_range(train_count..dataset.len())?.collect(),
    ];
    Ok(dataset)
}

fn holds(kind: &Kind, folder: &Path) -> bool {
    folder.join(kind.test_file).is_file()
        || entries(folder).is_ok_and(|paths| {
            paths
                .iter()
                .any(|path| path.file_name().and_then(|n| n.to_str()).and_then(kind.training_file).is_some())
        })
}

fn validation_count(kind: &Kind, validation: &Validation, available: usize) -> Result<usize, Error> {
    match *validation {
        // Only the test file is there: nothing to hold back, and nothing to train on anyway.
        _ if available == 0 => Ok(0),
        Validation { images: Some(asked), .. } if asked >= available => {
            Err(Error::ValidationTooLarge { asked, available, dataset: kind.name })
        }
        Validation { images: Some(asked), .. } => Ok(asked),
        Validation { fraction: Some(fraction), .. } => Ok(Validation::share_of(fraction, available)),
        _ => Ok(available / 10),
    }
}

/// Append the records of a file.
fn read(kind: &Kind, file: &Path, dataset: &mut Dataset) -> Result<(), Error> {
    let record_size = kind.label_bytes + 3 * PLANE;
    let bytes = std::fs::read(file).map_err(|source| Error::Read { path: file.to_owned(), source })?;
    if bytes.is_empty() {
        return Err(Error::EmptyFile { file: file.to_owned(), record: record_size });
    }
    if bytes.len() % record_size != 0 {
        return Err(Error::PartialRecord {
            file: file.to_owned(),
            size: bytes.len() as u64,
            record: record_size,
            dataset: kind.name,
        });
    }
    let count = bytes.len() / record_size;
    dataset.labels.reserve(count);
    let images = Arc::make_mut(&mut dataset.images);
    images.reserve(count * 3 * PLANE);
    for (record, content) in bytes.chunks_exact(record_size).enumerate() {
        let (labels, planes) = content.split_at(kind.label_bytes);
        let label = labels[kind.label_bytes - 1];
        if usize::from(label) >= kind.classes.len() {
            return Err(Error::LabelOutOfRange {
                file: file.to_owned(),
                record,
                label,
                classes: kind.classes.len(),
                dataset: kind.name,
            });
        }
        dataset.labels.push(u32::from(label));
        let (red, others) = planes.split_at(PLANE);
        let (green, blue) = others.split_at(PLANE);
        images.extend(red.iter().zip(green).zip(blue).flat_map(|((&r, &g), &b)| [r, g, b]));
    }
    Ok(())
}
