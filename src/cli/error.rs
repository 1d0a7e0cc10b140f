//! Everything that can end a subcommand, and the exit code that it ends with.
//!
//! The rule: what was asked for is wrong use (2) — arguments, configuration, architectures and
//! genotypes outside the space, weights and data that do not belong together. What was found is a
//! failure (1) — files that are missing, damaged or cannot be written, a machine without the device.

use crate::bench::compare;
use crate::ops::simd::Isa;
use crate::run::Exit;
use crate::{
    config, data, device, engine, evaluator, export, finetune, pipeline, run, search, space, supernet, train,
};
use std::io;
use std::path::PathBuf;

/// Why a subcommand failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The run directory.
    #[error(transparent)]
    Run(#[from] run::Error),
    /// Weights and data together.
    #[error(transparent)]
    Evaluator(#[from] evaluator::Error),
    /// The weights.
    #[error(transparent)]
    Supernet(#[from] supernet::Error),
    /// The data set.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// A download.
    #[cfg(feature = "fetch")]
    #[error(transparent)]
    Fetch(#[from] data::fetch::Error),
    /// The search space.
    #[error(transparent)]
    Space(#[from] space::Error),
    /// Running networks.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The device.
    #[error(transparent)]
    Device(#[from] device::Error),
    /// An export.
    #[error(transparent)]
    Export(#[from] export::Error),
    /// The search.
    #[error(transparent)]
    Search(Box<search::Error>),
    /// Training failed.
    #[error(transparent)]
    Train(Box<train::Error>),
    /// Fine-tuning failed.
    #[error(transparent)]
    Finetune(Box<finetune::Error>),
    /// A stage of a run failed.
    #[error(transparent)]
    Pipeline(Box<pipeline::Error>),
    /// An architecture or genotype that was given, and where.
    #[error("{place}: {source}")]
    Given {
        /// The flag, or the file and line.
        place: String,
        /// What is wrong.
        source: space::Error,
    },
    /// Text given with a flag, or a file named there, that cannot be read as what it should be.
    #[error("{place}: {reason}")]
    Text {
        /// The flag or the file.
        place: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// Flags that do not go together, or one that is missing.
    #[error("{0}")]
    Usage(String),
    /// A file of input tensors that cannot be read.
    #[error("{file}: {reason}", file = .file.display())]
    Inputs {
        /// The file.
        file: PathBuf,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A resolution larger than the images.
    #[error(
        "the architecture's resolution is {r} px, and the images of tensor `{tensor}` of {file} can be cropped to {side} px at most: lower `r`, or give larger images", file = .file.display()
    )]
    TooLarge {
        /// The architecture's resolution.
        r: u32,
        /// The largest crop.
        side: usize,
        /// The tensor.
        tensor: &'static str,
        /// Its file.
        file: PathBuf,
    },
    /// A file that cannot be written.
    #[error("{file}: cannot be written: {reason}: check the folder, its permissions and the space left", file = .file.display())]
    Output {
        /// The file.
        file: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Standard output that takes no more.
    #[error("standard output cannot be written: {0}")]
    Stdout(io::Error),
    /// Standard output that its reader has closed, as `head` does: no failure.
    #[error("standard output is closed")]
    ClosedPipe,
    /// Threads that the system does not give.
    #[error("cannot start {count} threads ({reason}): give a lower number with --threads")]
    Threads {
        /// How many.
        count: usize,
        /// What the system said.
        reason: String,
    },
    /// An instruction set that this processor does not have.
    #[error("--isa {asked}: this processor has {best} at best: leave the flag out or give that")]
    Isa {
        /// The set asked for.
        asked: Isa,
        /// The best that there is.
        best: Isa,
    },
    /// Benchmarks that cannot be compared.
    #[error(transparent)]
    Compare(#[from] compare::Error),
    /// A check that found something wrong; it has been printed.
    #[error("{0}")]
    Check(String),
}

impl Error {
    /// The code to leave the program with.
    pub fn exit(&self) -> Exit {
        match self {
            Error::Config(_)
            | Error::Space(_)
            | Error::Given { .. }
            | Error::Text { .. }
            | Error::Usage(_)
            | Error::TooLarge { .. } => Exit::Usage,
            Error::Run(error) => error.exit(),
            Error::Evaluator(error) => of_evaluator(error),
            Error::Supernet(error) => of_supernet(error),
            Error::Data(error) => of_data(error),
            #[cfg(feature = "fetch")]
            Error::Fetch(error) => of_fetch(error),
            Error::Engine(error) => of_engine(error),
            Error::Export(error) => of_export(error),
            Error::Search(error) => of_search(error),
            Error::Train(error) => of_train(error),
            Error::Finetune(error) => of_finetune(error),
            Error::Pipeline(error) => of_pipeline(error),
            Error::ClosedPipe => Exit::Done,
            Error::Device(_)
            | Error::Inputs { .. }
            | Error::Output { .. }
            | Error::Stdout(_)
            | Error::Threads { .. }
            | Error::Isa { .. }
            | Error::Compare(_)
            | Error::Check(_) => Exit::Failure,
        }
    }
}

impl From<search::Error> for Error {
    fn from(error: search::Error) -> Error {
        Error::Search(Box::new(error))
    }
}

impl From<finetune::Error> for Error {
    fn from(error: finetune::Error) -> Error {
        Error::Finetune(Box::new(error))
    }
}

impl From<pipeline::Error> for Error {
    fn from(error: pipeline::Error) -> Error {
        Error::Pipeline(Box::new(error))
    }
}

impl From<train::Error> for Error {
    fn from(error: train::Error) -> Error {
        Error::Train(Box::new(error))
    }
}

fn of_pipeline(error: &pipeline::Error) -> Exit {
    match error {
        pipeline::Error::Evaluator(error) => of_evaluator(error),
        pipeline::Error::Supernet(error) => of_supernet(error),
        pipeline::Error::Data(error) => of_data(error),
        pipeline::Error::Engine(error) => of_engine(error),
        pipeline::Error::Run(error) => error.exit(),
        pipeline::Error::Train(error) => of_train(error),
        pipeline::Error::Search(error) => of_search(error),
        pipeline::Error::Finetune(error) => of_finetune(error),
        pipeline::Error::Export(error) => of_export(error),
        pipeline::Error::Device(_) => Exit::Failure,
        pipeline::Error::Config(_)
        | pipeline::Error::Space(_)
        | pipeline::Error::Given { .. }
        | pipeline::Error::Missing { .. } => Exit::Usage,
    }
}

fn of_export(error: &export::Error) -> Exit {
    match error {
        export::Error::Evaluator(error) => of_evaluator(error),
        export::Error::Engine(error) => of_engine(error),
        _ => Exit::Failure,
    }
}

fn of_evaluator(error: &evaluator::Error) -> Exit {
    match error {
        evaluator::Error::Supernet(error) => of_supernet(error),
        evaluator::Error::Data(error) | evaluator::Error::OfCard { source: error, .. } => of_data(error),
        evaluator::Error::Engine(error) => of_engine(error),
        evaluator::Error::Space(_) | evaluator::Error::Classes { .. } | evaluator::Error::Together { .. } => {
            Exit::Usage
        }
        evaluator::Error::EmptySplit { .. } => Exit::Failure,
    }
}

fn of_supernet(error: &supernet::Error) -> Exit {
    match error {
        supernet::Error::Family { .. }
        | supernet::Error::Width { .. }
        | supernet::Error::OneNetwork { .. }
        | supernet::Error::Blank { .. } => Exit::Usage,
        _ => Exit::Failure,
    }
}

fn of_data(error: &data::Error) -> Exit {
    match error {
        data::Error::UnknownDataset { .. }
        | data::Error::UnknownSplit { .. }
        | data::Error::NoFolderGiven { .. }
        | data::Error::ValidationTooLarge { .. }
        | data::Error::OutOfRange { .. }
        | data::Error::SettingDoesNotApply { .. } => Exit::Usage,
        _ => Exit::Failure,
    }
}

#[cfg(feature = "fetch")]
fn of_fetch(error: &data::fetch::Error) -> Exit {
    match error {
        data::fetch::Error::NotFetched { .. } => Exit::Usage,
        data::fetch::Error::Stopped { .. } => Exit::Stopped,
        _ => Exit::Failure,
    }
}

fn of_engine(error: &engine::Error) -> Exit {
    match error {
        engine::Error::Space(_)
        | engine::Error::Width { .. }
        | engine::Error::OtherNetwork { .. }
        | engine::Error::OneValue { .. } => Exit::Usage,
        _ => Exit::Failure,
    }
}

fn of_search(error: &search::Error) -> Exit {
    match error {
        search::Error::Evaluator(error) => of_evaluator(error),
        search::Error::Engine(error) => of_engine(error),
        search::Error::Run(error) => error.exit(),
        search::Error::Data(error) => of_data(error),
        search::Error::Train(error) => of_train(error),
        search::Error::Space(_) | search::Error::SmallSpace { .. } | search::Error::OtherInputs { .. } => {
            Exit::Usage
        }
        _ => Exit::Failure,
    }
}

fn of_train(error: &train::Error) -> Exit {
    match error {
        train::Error::Engine(error) => of_engine(error),
        train::Error::Run(error) => error.exit(),
        train::Error::Data(error) => of_data(error),
        train::Error::Supernet(error) => of_supernet(error),
        train::Error::Together(error) => of_evaluator(error),
        train::Error::Space(_) | train::Error::Classes { .. } | train::Error::OtherInputs { .. } => {
            Exit::Usage
        }
        _ => Exit::Failure,
    }
}

fn of_finetune(error: &finetune::Error) -> Exit {
    match error {
        finetune::Error::Engine(error) => of_engine(error),
        finetune::Error::Run(error) => error.exit(),
        finetune::Error::Data(error) => of_data(error),
        finetune::Error::Supernet(error) => of_supernet(error),
        finetune::Error::Train(error) => of_train(error),
        finetune::Error::Space(_)
        | finetune::Error::NothingPicked(_)
        | finetune::Error::NoExits { .. }
        | finetune::Error::OtherInputs { .. } => Exit::Usage,
        _ => Exit::Failure,
    }
}
