//! Data sets: reading, splits, and the way from stored pixels to a network's input.
//!
//! [`open`] turns a [`Spec`] into a [`Dataset`]: all images as u8 in HWC order (three channels, one
//! square size), their labels, and three lists of indices ([`Split`]) in *file order*. A
//! [`Transform`] then makes batches of f32 in NHWC order at any resolution, for evaluation;
//! for training a [`loader::Loader`] makes shuffled and augmented ones ([`augment`]) on threads of
//! its own. Where a device makes the images out of stored pixels, a [`Selection`] says which ones and
//! how. [`fetch`] downloads the published sets. What is known of each by its name is a row of [`facts`]. Nothing
//! here knows of networks or devices.
//!
//! | name | read from | images | validation split |
//! | --- | --- | --- | --- |
//! | `digits` | this program | 1,797 of 8 x 8 | index modulo 5 equal to 3 (4 is the test split) |
//! | `cifar10`, `cifar100` | official binary files | 60,000 of 32 x 32 | the last training images, a tenth |
//! | `tiny-imagenet` | official folder layout | 110,000 of 64 x 64 | the last of each class, 15 % |
//! | `image-folder` | a folder a class | any | the last of each class, a tenth |
//!
//! **File order** is the order in which calibration and evaluation take their first N images. For
//! `digits` and CIFAR it is the order of the records, batch after batch. A folder has no such
//! order, and class after class would make the first 500 images show a single class, so there it
//! takes turns: the first image of every class (classes and files in name order), then the second
//! of every class, and so on. Tiny ImageNet's test images keep the order of `val_annotations.txt`.
//!
//! **Attribution.** `digits` is the test part of *Optical Recognition of Handwritten Digits* by
//! E. Alpaydin and C. Kaynak (UCI Machine Learning Repository, 1998, doi:10.24432/C50P49), licensed
//! CC BY 4.0, in the form in which scikit-learn (BSD-3-Clause) packages it; `scripts/make_digits.py`
//! turned its table into bytes and changed no value.

pub mod augment;
mod cifar;
mod decode;
mod digits;
mod error;
pub mod facts;
#[cfg(feature = "fetch")]
pub mod fetch;
mod folder;
mod info;
pub mod loader;
mod noise;
mod prefetch;
mod selection;
mod transform;

pub use error::Error;
pub use facts::{Facts, NAMES, Pixels};
pub use info::{Info, SplitInfo};
pub use selection::{Selection, Source};
pub use transform::{RESOLUTIONS, Real, Resize, Transform};

use crate::words::{parsed, words};
use facts::Layout;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which data set to open, from where, and how to split it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Spec {
    /// One of [`NAMES`].
    pub name: String,
    /// The folder with the files, or its parent. `digits` needs none.
    pub dir: Option<PathBuf>,
    /// How large the validation split is.
    pub validation: Validation,
    /// `image-folder`: the side in pixels to which every image is brought at loading; without it
    /// the images must all have one square size. The largest centred square of the image is resized
    /// with a triangle filter and rounded to u8. The other data sets have their own size.
    pub side: Option<usize>,
}

impl Spec {
    /// The data set `name` with its default splits.
    pub fn new(name: impl Into<String>, dir: Option<&Path>) -> Self {
        Self { name: name.into(), dir: dir.map(Path::to_owned), ..Self::default() }
    }
}

/// The size of the validation split, where the data set does not fix it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Validation {
    /// CIFAR: how many of the last training images. Before `fraction` where both are given.
    pub images: Option<usize>,
    /// Folders: which share of the last images of each class, in [0, 1), rounded to whole images.
    /// CIFAR: which share of the training images. The default is a tenth, for Tiny ImageNet 0.15.
    pub fraction: Option<f64>,
}

impl Validation {
    /// How many of `available` images the fraction asks for; one image at least is left.
    fn share_of(fraction: f64, available: usize) -> usize {
        ((available as f64 * fraction).round() as usize).min(available.saturating_sub(1))
    }

    fn check(&self) -> Result<(), Error> {
        match self.fraction {
            Some(f) if !(0.0..1.0).contains(&f) => Err(Error::OutOfRange {
                setting: "data.validation_fraction",
                value: f.to_string(),
                expected: "a fraction from 0 to below 1 is needed",
            }),
            _ => Ok(()),
        }
    }
}

words!(
    /// A part of a data set.
    #[derive(PartialOrd, Ord)]
    Split {
        /// Training images; the validation images are not among them.
        Train = "train",
        /// Images held back from training, on which a search measures.
        Val = "val",
        /// Images that nothing but the last measurement looks at.
        Test = "test",
    }
);

parsed!(Split, Error, |name| Error::UnknownSplit { name: name.to_owned() });

/// A data set in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    facts: &'static Facts,
    classes: Vec<String>,
    side: usize,
    scale: f32,
    /// `len x side x side x 3`; shared, so that a device that has a copy knows it again.
    images: Arc<Vec<u8>>,
    labels: Vec<u32>,
    splits: [Vec<u32>; 3],
    /// What it was opened with, the folder from the root.
    origin: Option<Box<Spec>>,
}

impl Dataset {
    /// What is known of it by its name.
    pub fn facts(&self) -> &'static Facts {
        self.facts
    }

    /// Its name, one of [`NAMES`], or `noise`.
    pub fn name(&self) -> &'static str {
        self.facts.name
    }

    /// The names of its classes, in the order of the labels.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Height and width of every image, in pixels.
    pub fn side(&self) -> usize {
        self.side
    }

    /// The pixel value that stands for 1: 255, or 16 for `digits`.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// How many images there are in all splits together.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image at all ([`open`] gives no such data set).
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// All pixels: image, row, column, channel.
    pub fn pixels(&self) -> &[u8] {
        &self.images
    }

    /// As [`pixels`](Self::pixels), to hold on to.
    pub fn shared_pixels(&self) -> &Arc<Vec<u8>> {
        &self.images
    }

    /// The pixels of one image: row, column, channel.
    pub fn image(&self, index: u32) -> &[u8] {
        let size = self.side * self.side * 3;
        &self.images[index as usize * size..][..size]
    }

    /// The class of every image.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The class of one image.
    pub fn label(&self, index: u32) -> u32 {
        self.labels[index as usize]
    }

    /// What it was opened with, the folder as a path from the root; `None` where it was not opened.
    pub fn origin(&self) -> Option<&Spec> {
        self.origin.as_deref()
    }

    /// The folder that it was read from, or its parent; `None` where it is built in.
    pub fn folder(&self) -> Option<&Path> {
        self.origin()?.dir.as_deref().filter(|_| !self.facts.is_built_in())
    }

    /// The images of a split, in file order. May be empty, for example where the test file is
    /// missing.
    pub fn split(&self, split: Split) -> &[u32] {
        &self.splits[split as usize]
    }
}

/// Read a data set.
///
/// # Errors
/// An unknown name or setting, a missing folder, and every kind of damaged file: see [`Error`].
pub fn open(spec: &Spec) -> Result<Dataset, Error> {
    spec.validation.check()?;
    let facts = Facts::of(&spec.name);
    if let (Some(_), Ok(facts)) = (spec.side, &facts)
        && facts.layout != Layout::Folders
    {
        let (setting, instead) = ("data.side", "its images have one size; remove the setting");
        return Err(Error::SettingDoesNotApply { setting, dataset: facts.name, instead });
    }
    if let Some(side) = spec.side.filter(|side| !(1..=1024).contains(side)) {
        let expected = "a side from 1 to 1024 pixels is needed";
        return Err(Error::OutOfRange { setting: "data.side", value: side.to_string(), expected });
    }
    let facts = facts?;
    let dataset = match &facts.layout {
        Layout::BuiltIn => digits::open(facts, spec),
        Layout::Records(records) => cifar::open(facts, records, spec),
        Layout::Listed => folder::listed(facts, spec),
        Layout::Folders => folder::any(facts, spec),
    }?;
    // Whoever is told of it later may be in another working directory.
    let dir = spec.dir.as_ref().map(|dir| std::path::absolute(dir).unwrap_or_else(|_| dir.clone()));
    Ok(Dataset { origin: Some(Box::new(Spec { dir, ..spec.clone() })), ..dataset })
}

/// The folder that a specification names, checked to be one.
fn folder_of<'a>(spec: &'a Spec, facts: &Facts) -> Result<&'a Path, Error> {
    let Facts { name: dataset, expected, .. } = *facts;
    let folder = spec.dir.as_deref().ok_or(Error::NoFolderGiven { dataset, expected })?;
    if folder.is_dir() { Ok(folder) } else { Err(Error::MissingFolder { folder: folder.to_owned() }) }
}

/// The folder that a specification names if it `holds` the data set, else its subfolder of the published name,
/// else the first of its subfolders, in name order, that does.
fn folder_or_child(spec: &Spec, facts: &Facts, holds: impl Fn(&Path) -> bool) -> Result<PathBuf, Error> {
    let folder = folder_of(spec, facts)?;
    let named = facts.archive.as_ref().map(|archive| folder.join(archive.folder));
    if let Some(found) = [Some(folder.to_owned()), named].into_iter().flatten().find(|path| holds(path)) {
        return Ok(found);
    }
    let found = entries(folder)?.into_iter().find(|path| path.is_dir() && holds(path));
    let Facts { name: dataset, expected, .. } = *facts;
    found.ok_or(Error::NoFiles { dataset, folder: folder.to_owned(), expected })
}

/// What is in a folder, in name order, without hidden entries.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Read { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// The indices below `count` as 32-bit numbers.
fn index_range(range: std::ops::Range<usize>) -> Result<std::ops::Range<u32>, Error> {
    let end = u32::try_from(range.end).map_err(|_| Error::TooManyImages { count: range.end })?;
    Ok(range.start as u32..end)
}

#[cfg(test)]
mod tests;
