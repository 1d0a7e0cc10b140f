//! What this program knows of a data set by its name: one row a data set.
//!
//! Names, readers, splits, normalisation, augmentation, recalibration, downloads and help texts all come from
//! [`ALL`]. A data set whose files have a known [`Layout`] takes a row here; another layout takes a variant and a
//! reader too, as `cifar` and `folder` are.

use super::Error;
use super::augment::Preset;
use super::cifar::CIFAR100_FINE;

/// Mean and standard deviation of pixels scaled to 0..1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pixels {
    /// Per channel.
    pub mean: [f32; 3],
    /// Per channel.
    pub std: [f32; 3],
}

/// The part of the training images that is the validation split where nothing else is known.
const TENTH: f64 = 0.1;
/// CIFAR's outside the published trainings, whose AutoAugment takes more epochs than minutes have: after eight,
/// sub-networks are one to three points better with small crops within the image, and five worse with crops over a
/// border.
const CIFAR_AUGMENTATION: Preset = Preset::TinyImagenet;
/// ImageNet's, as everywhere for photographs.
pub(super) const PHOTOS: Pixels = Pixels { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

/// What is known of a data set before any file is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// What it is called on command lines, in configurations and on cards.
    pub name: &'static str,
    /// How it is read.
    pub layout: Layout,
    /// What its folder should hold; empty for one that is built in.
    pub expected: &'static str,
    /// The part of the training images that is the validation split where nothing else is said; `None` where the
    /// splits are fixed.
    pub held_back: Option<f64>,
    /// Normalisation.
    pub pixels: Pixels,
    /// What happens to training images where nothing else is said: what trainings of minutes are best with.
    pub augmentation: Preset,
    /// What happens to them in the `paper` profile: what happened in the published work, where that had the data.
    pub published_augmentation: Preset,
    /// Training images that batch norms are recalibrated on before an evaluation where nothing else is said.
    pub calibration_images: usize,
    /// Where it is published; `None` for one that cannot be fetched.
    pub archive: Option<Archive>,
}

/// How a data set is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Layout {
    /// From this program itself.
    BuiltIn,
    /// From files of records: labels, then pixels. The validation split is a number of images.
    Records(Records),
    /// From folders of images, with lists of the classes and of the test images' labels, as Tiny ImageNet has them.
    /// The validation split is a share of each class.
    Listed,
    /// From any tree with a folder a class. The validation split is a share of each class.
    Folders,
}

/// Files of records.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Records {
    /// Height and width of the images.
    pub side: usize,
    /// Label bytes before the pixels; the last one is used.
    pub label_bytes: usize,
    /// Names of the classes, in the order of the labels.
    pub classes: &'static [&'static str],
    /// The name of a training file; `*` stands for the number by which they are ordered.
    pub training_files: &'static str,
    /// The name of the test file.
    pub test_file: &'static str,
    /// Training and test images that were published.
    pub published: [usize; 2],
}

/// A published archive and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// The data set's name again, for progress and messages.
    pub name: &'static str,
    /// What people call the data set.
    pub title: &'static str,
    /// Where it is published, up to the file's name: the first that is reached is taken.
    pub bases: &'static [&'static str],
    /// The file's name; `.zip` or `.tar.gz`.
    pub file: &'static str,
    /// The file's bytes.
    pub bytes: u64,
    /// The file's MD5, in hexadecimal digits.
    pub md5: &'static str,
    /// The folder in it that holds everything.
    pub folder: &'static str,
    /// What the folder holds, as far as it is looked at.
    pub parts: &'static [(&'static str, Part)],
}

/// A file or folder of an unpacked archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A file of so many bytes.
    Bytes(u64),
    /// A file that is not empty.
    File,
    /// A folder with so many files in it and below that are not empty.
    Files(usize),
}

/// All data sets. The first is taken where nothing says which.
pub static ALL: [Facts; 5] = [
    Facts {
        name: "digits",
        layout: Layout::BuiltIn,
        expected: "",
        held_back: None,
        pixels: Pixels { mean: [0.3053; 3], std: [0.376; 3] },
        // Of 8 x 8 pixels even a small shift hides a part: trainings of minutes end 4 points lower.
        augmentation: Preset::None,
        published_augmentation: Preset::None,
        calibration_images: 500,
        archive: None,
    },
    Facts {
        name: "cifar10",
        layout: Layout::Records(Records {
            side: 32,
            label_bytes: 1,
            classes: &[
                "airplane",
                "automobile",
                "bird",
                "cat",
                "deer",
                "dog",
                "frog",
                "horse",
                "ship",
                "truck",
            ],
            training_files: "data_batch_*.bin",
            test_file: "test_batch.bin",
            published: [50_000, 10_000],
        }),
        expected: "data_batch_1.bin to data_batch_5.bin and test_batch.bin (the binary version)",
        held_back: Some(TENTH),
        pixels: Pixels { mean: [0.4914, 0.4822, 0.4465], std: [0.2470, 0.2435, 0.2616] },
        augmentation: CIFAR_AUGMENTATION,
        published_augmentation: Preset::Cifar,
        calibration_images: 960,
        archive: Some(Archive {
            name: "cifar10",
            title: "CIFAR-10",
            bases: &["https://www.cs.toronto.edu/~kriz/"],
            file: "cifar-10-binary.tar.gz",
            bytes: 170_052_171,
            md5: "c32a1d4ab5d03f1284b67883e8d87530",
            folder: "cifar-10-batches-bin",
            parts: &[
                ("data_batch_1.bin", Part::Bytes(30_730_000)),
                ("data_batch_2.bin", Part::Bytes(30_730_000)),
                ("data_batch_3.bin", Part::Bytes(30_730_000)),
                ("data_batch_4.bin", Part::Bytes(30_730_000)),
                ("data_batch_5.bin", Part::Bytes(30_730_000)),
                ("test_batch.bin", Part::Bytes(30_730_000)),
            ],
        }),
    },
    Facts {
        name: "cifar100",
        layout: Layout::Records(Records {
            side: 32,
            label_bytes: 2,
            classes: &CIFAR100_FINE,
            training_files: "train.bin",
            test_file: "test.bin",
            published: [50_000, 10_000],
        }),
        expected: "train.bin and test.bin (the binary version)",
        held_back: Some(TENTH),
        pixels: Pixels { mean: [0.5071, 0.4865, 0.4409], std: [0.2673, 0.2564, 0.2762] },
        augmentation: CIFAR_AUGMENTATION,
        published_augmentation: Preset::Cifar,
        calibration_images: 960,
        archive: Some(Archive {
            name: "cifar100",
            title: "CIFAR-100",
            bases: &["https://www.cs.toronto.edu/~kriz/"],
            file: "cifar-100-binary.tar.gz",
            bytes: 168_513_733,
            md5: "03b5dce01913d631647c71ecec9e9cb8",
            folder: "cifar-100-binary",
            parts: &[("train.bin", Part::Bytes(153_700_000)), ("test.bin", Part::Bytes(30_740_000))],
        }),
    },
    Facts {
        name: "tiny-imagenet",
        layout: Layout::Listed,
        expected: "wnids.txt, words.txt, train/ and val/ (the official layout)",
        // 15,000 of 100,000 images, as the OFAv2 experiments have it.
        held_back: Some(0.15),
        pixels: Pixels { mean: [0.4802, 0.4481, 0.3975], std: [0.2770, 0.2691, 0.2821] },
        augmentation: Preset::TinyImagenet,
        published_augmentation: Preset::TinyImagenet,
        calibration_images: 1000,
        archive: Some(Archive {
            name: "tiny-imagenet",
            title: "Tiny ImageNet",
            // Published as plain http; where the host answers https, that is taken.
            bases: &["https://cs231n.stanford.edu/", "http://cs231n.stanford.edu/"],
            file: "tiny-imagenet-200.zip",
            bytes: 248_100_043,
            md5: "90528d7ca1a48142e341f4ef8d21d0de",
            folder: "tiny-imagenet-200",
            parts: &[
                ("wnids.txt", Part::File),
                ("words.txt", Part::File),
                // 500 images and a list of boxes for each of 200 classes.
                ("train", Part::Files(100_200)),
                ("val/images", Part::Files(10_000)),
                ("val/val_annotations.txt", Part::File),
            ],
        }),
    },
    Facts {
        name: "image-folder",
        layout: Layout::Folders,
        expected: "one folder a class with .jpg, .jpeg or .png files in it",
        held_back: Some(TENTH),
        pixels: PHOTOS,
        augmentation: Preset::Photos,
        published_augmentation: Preset::Photos,
        calibration_images: 500,
        archive: None,
    },
];

/// Their names.
pub const NAMES: [&str; ALL.len()] = {
    let mut names = [""; ALL.len()];
    let mut row = 0;
    while row < names.len() {
        names[row] = ALL[row].name;
        row += 1;
    }
    names
};

impl Facts {
    /// Those of the data set `name`.
    ///
    /// # Errors
    /// [`Error::UnknownDataset`] if there is none.
    pub fn of(name: &str) -> Result<&'static Facts, Error> {
        ALL.iter().find(|facts| facts.name == name).ok_or_else(|| Error::UnknownDataset { name: name.into() })
    }

    /// Whether it is read from this program and needs no folder.
    pub fn is_built_in(&self) -> bool {
        self.layout == Layout::BuiltIn
    }

    /// Its records, if it is read from such.
    pub fn records(&self) -> Option<&Records> {
        match &self.layout {
            Layout::Records(records) => Some(records),
            _ => None,
        }
    }
}

/// Names as a sentence has them: `a, b or c`.
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    crate::words::joined(&names.into_iter().collect::<Vec<_>>(), "or")
}

/// What a flag for the validation split of folders says of itself.
pub fn shares_help() -> String {
    let by_class = |facts: &&Facts| matches!(facts.layout, Layout::Listed | Layout::Folders);
    let share = |facts: &Facts| {
        facts.held_back.filter(|&share| share != TENTH).map(|share| format!("; {} {share}", facts.name))
    };
    let others: String = ALL.iter().filter(by_class).filter_map(share).collect();
    format!("Folders: share of the validation split in each class [default: {TENTH}{others}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_name_and_makes_sense() {
        for facts in &ALL {
            assert_eq!(Facts::of(facts.name).unwrap(), facts);
            assert_eq!(ALL.iter().filter(|other| other.name == facts.name).count(), 1, "{}", facts.name);
            assert!(facts.pixels.std.iter().all(|&deviation| deviation > 0.0), "{}", facts.name);
            assert!(facts.held_back.is_none_or(|share| (0.0..1.0).contains(&share)), "{}", facts.name);
            assert!(facts.calibration_images > 0, "{}", facts.name);
            // What is built in has no folder and no download; what is not says what its folder holds.
            assert_eq!(facts.is_built_in(), facts.expected.is_empty(), "{}", facts.name);
            assert!(!facts.is_built_in() || facts.archive.is_none(), "{}", facts.name);
            assert!(
                facts.archive.as_ref().is_none_or(|archive| archive.name == facts.name),
                "{}",
                facts.name
            );
        }
        assert!(ALL[0].is_built_in(), "the one that is taken where nothing says which needs no files");
        assert!(matches!(Facts::of("mnist"), Err(Error::UnknownDataset { .. })));
    }

    #[test]
    fn names_are_listed_as_a_sentence_has_them() {
        assert_eq!(listed(NAMES), "digits, cifar10, cifar100, tiny-imagenet or image-folder");
        assert_eq!((listed(["a"]), listed([])), ("a".into(), String::new()));
    }
}
