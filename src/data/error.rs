//! What can be wrong with a data set, each with the file or setting and what to do about it.

use crate::exit::exits;
use crate::words::Word;
use std::path::PathBuf;

/// A failure to open a data set or to make a transform.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No data set of that name.
    #[error("unknown data set `{name}`{}; known data sets: {}", did_you_mean(.name), super::NAMES.join(", "))]
    UnknownDataset {
        /// The name asked for.
        name: String,
    },
    /// No split of that name.
    #[error("unknown split `{name}`; known splits: {}", super::Split::WORDS.join(", "))]
    UnknownSplit {
        /// The name asked for.
        name: String,
    },
    /// The data set is read from disk and no folder was given.
    #[error(
        "data set `{dataset}` is read from a folder: name it with --data-dir or `data.dir`; it should hold {expected}"
    )]
    NoFolderGiven {
        /// The data set asked for.
        dataset: &'static str,
        /// What the folder should hold.
        expected: &'static str,
    },
    /// The folder is not there, or is not a folder.
    #[error("{}: no such folder; --data-dir or `data.dir` must name the folder of the data set or its parent", .folder.display())]
    MissingFolder {
        /// The folder asked for.
        folder: PathBuf,
    },
    /// The folder is there, but holds nothing of the data set.
    #[error("{}: no files of data set `{dataset}` here; expected {expected}, in this folder or one directly below it", .folder.display())]
    NoFiles {
        /// The data set asked for.
        dataset: &'static str,
        /// The folder asked for.
        folder: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// A binary file without a single byte.
    #[error("{}: the file is empty; expected whole records of {record} bytes. Download it again, or delete it if the batch is not needed", .file.display())]
    EmptyFile {
        /// The file.
        file: PathBuf,
        /// Bytes of a record.
        record: usize,
    },
    /// A binary file that ends inside a record.
    #[error("{}: {size} bytes is not a multiple of the {record}-byte record ({} whole records and {} bytes over): the file is truncated or is not the binary version of {dataset}. Download it again", .file.display(), .size / *.record as u64, .size % *.record as u64)]
    PartialRecord {
        /// The file.
        file: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// Bytes of a record.
        record: usize,
        /// The data set being read.
        dataset: &'static str,
    },
    /// A label that names no class.
    #[error("{}: record {record} has label {label}, and data set `{dataset}` has classes 0 to {}: the file is damaged or belongs to another data set. Download it again", .file.display(), .classes - 1)]
    LabelOutOfRange {
        /// The file.
        file: PathBuf,
        /// The record, counted from 0.
        record: usize,
        /// The label it has.
        label: u8,
        /// How many classes there are.
        classes: usize,
        /// The data set being read.
        dataset: &'static str,
    },
    /// Two files whose names are those of one batch.
    #[error("{} and {} are both batch {number} of {dataset}, whose images would count twice: remove one of them, or give it a name of another form", .first.display(), .second.display())]
    SameBatch {
        /// A file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// The number that both names have.
        number: u32,
        /// The data set being read.
        dataset: &'static str,
    },
    /// A file or folder that the system does not let us read.
    #[error("{}: cannot be read: {source}", .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// An image file that does not decode.
    #[error("{}: cannot be decoded as {format}: {reason}. Replace the file, or remove it from the data set", .file.display())]
    UndecodableImage {
        /// The file.
        file: PathBuf,
        /// The format that it was read as.
        format: &'static str,
        /// What the decoder says.
        reason: String,
    },
    /// An image whose size differs from the others', and no common size asked for.
    #[error("{}: {width} x {height} pixels, and {}: replace it, or (data set `image-folder`) give `data.side`, the side in pixels to which every image is resized at loading", .file.display(), match .expected { Some(side) => format!("the images before it have {side} x {side}"), None => "images of one data set must be square and of one size".to_owned() })]
    MixedSizes {
        /// The file.
        file: PathBuf,
        /// Its width.
        width: usize,
        /// Its height.
        height: usize,
        /// The side of the images before it.
        expected: Option<usize>,
    },
    /// A folder tree without images.
    #[error("{}: no images found; expected one folder a class with .jpg, .jpeg or .png files in it", .folder.display())]
    NoImages {
        /// The folder.
        folder: PathBuf,
    },
    /// A class that has test images and no training images.
    #[error("{}: the training images have no such class. Remove the folder, or add the class to them", .folder.display())]
    UnknownClass {
        /// The class's folder.
        folder: PathBuf,
    },
    /// A line of a list file (class names, annotations) that does not fit.
    #[error("{}, line {line}: {reason}", .file.display())]
    BadLine {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A validation split that leaves nothing to train on.
    #[error(
        "`data.validation_images` = {asked}, and {dataset} has {available} training images here: it must leave some to train on. Lower it, or add the missing data batches"
    )]
    ValidationTooLarge {
        /// Images asked for.
        asked: usize,
        /// Training images that there are.
        available: usize,
        /// The data set being read.
        dataset: &'static str,
    },
    /// A setting out of its range.
    #[error("`{setting}` = {value}: {expected}")]
    OutOfRange {
        /// The setting's name.
        setting: &'static str,
        /// The value given.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A setting that this data set does not have.
    #[error("`{setting}` does not apply to data set `{dataset}`: {instead}")]
    SettingDoesNotApply {
        /// The setting's name.
        setting: &'static str,
        /// The data set asked for.
        dataset: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// More images than memory, or indices of 32 bits, can hold.
    #[error(
        "{count} images do not fit into memory, or are more than {}: give fewer images or a smaller `data.side`",
        u32::MAX
    )]
    TooManyImages {
        /// How many there are.
        count: usize,
    },
    /// No augmentation of that name.
    #[error("unknown augmentation `{name}`; known presets: {}; or give a table of `policy`, `pad`, `crop`, `flip`", super::augment::Preset::WORDS.join(", "))]
    UnknownAugmentation {
        /// The name asked for.
        name: String,
    },
    /// Nothing to train on.
    #[error(
        "data set `{dataset}` has no images to train on: add training images, or lower the validation split"
    )]
    NothingToTrainOn {
        /// The data set.
        dataset: &'static str,
    },
    /// A thread that the system does not give.
    #[error(
        "cannot start a thread that loads images ({source}): lower the number of threads, or raise the system's limit"
    )]
    LoaderThread {
        /// What the system says.
        source: std::io::Error,
    },
    /// A loader's thread that panicked.
    #[error(
        "loading batch {step} of epoch {epoch} failed: {reason}. This is an error of the program: please report it"
    )]
    Loader {
        /// The epoch.
        epoch: u64,
        /// The step of it.
        step: u64,
        /// What the panic says.
        reason: String,
    },
    /// A way of resizing that this program does not have.
    #[error(
        "`resize` = `{name}` in the card: only `bilinear` (half-pixel centres, no antialiasing) is known; train and calibrate with it, or convert the images beforehand"
    )]
    UnknownResize {
        /// The name given.
        name: String,
    },
}

exits! { Error:
    Usage [
        UnknownDataset, UnknownSplit, NoFolderGiven, ValidationTooLarge, OutOfRange, SettingDoesNotApply,
    ],
    Failure [
        MissingFolder, NoFiles, EmptyFile, PartialRecord, LabelOutOfRange, SameBatch, Read, UndecodableImage,
        MixedSizes, NoImages, UnknownClass, BadLine, TooManyImages, UnknownAugmentation, NothingToTrainOn,
        LoaderThread, Loader, UnknownResize,
    ]
}

fn did_you_mean(name: &str) -> String {
    let wanted = name.to_lowercase();
    super::NAMES
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&wanted, known), known))
        .min()
        .filter(|(distance, known)| *distance <= 2.max(known.len() / 3))
        .map_or_else(String::new, |(_, known)| format!(" (did you mean `{known}`?)"))
}
