//! Everything that can end a subcommand, and the exit code that it ends with.

use crate::bench::compare;
use crate::exit::exits;
use crate::ops::simd::Isa;
use crate::{pipeline, space};
use std::io;
use std::path::PathBuf;

/// Why a subcommand failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Whatever a stage of a run can fail by, in a stage or in any other command: weights, data, the device ..
    #[error(transparent)]
    Stage(Box<pipeline::Error>),
    /// A download.
    #[cfg(feature = "fetch")]
    #[error(transparent)]
    Fetch(#[from] crate::data::fetch::Error),
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

exits! { Error:
    Done [ClosedPipe],
    Usage [Usage, TooLarge],
    Failure [Inputs, Output, Stdout, Threads, Isa, Check];
    held [Stage, #[cfg(feature = "fetch")] Fetch, Compare]
}

impl<E> From<E> for Error
where
    pipeline::Error: From<E>,
{
    fn from(error: E) -> Error {
        Error::Stage(Box::new(error.into()))
    }
}

impl Error {
    /// What is wrong with an architecture or genotype that was given there.
    pub(super) fn given(place: impl Into<String>) -> impl FnOnce(space::Error) -> Error {
        |source| pipeline::Error::Given { place: place.into(), source }.into()
    }

    /// Text that was given there, by a flag or in a file, and that cannot be read as what it should be.
    pub(super) fn unusable(place: &str, reason: impl Into<String>) -> Error {
        pipeline::Error::Unusable { place: place.into(), reason: reason.into() }.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use crate::{
        config, data, device, engine, evaluator, export, finetune, launch, moo, predictor, run, search,
        supernet, train,
    };

    /// That an error ends the program with that code, whichever others it comes through.
    macro_rules! ends {
        ($exit:ident, $error:expr; $($through:ty),*) => {
            assert_eq!($error.exit(), Exit::$exit);
            assert_eq!(Error::from($error).exit(), Exit::$exit, "{:?}", $error);
            $(
                assert_eq!(<$through>::from($error).exit(), Exit::$exit, "{:?}", $error);
                assert_eq!(Error::from(<$through>::from($error)).exit(), Exit::$exit, "{:?}", $error);
            )*
        };
    }

    #[test]
    fn an_error_ends_the_program_alike_however_many_hold_it() {
        let (name, reason, file) = (String::new, String::new, PathBuf::new);
        let unknown = || data::Error::UnknownDataset { name: name() };
        let no_folder = || data::Error::MissingFolder { folder: file() };
        ends!(Usage, unknown(); evaluator::Error, train::Error, search::Error, finetune::Error, pipeline::Error);
        ends!(Failure, no_folder(); evaluator::Error, train::Error, search::Error, finetune::Error, pipeline::Error);
        for (exit, source) in [(Exit::Usage, unknown()), (Exit::Failure, no_folder())] {
            assert_eq!(evaluator::Error::OfCard { card: file(), source }.exit(), exit);
        }
        let family = space::Family::SE_B;
        let not_served = || supernet::Error::Family { file: file(), family, what: name() };
        let damaged = || supernet::Error::Format { file: file(), reason: reason() };
        ends!(Usage, not_served(); evaluator::Error, train::Error, finetune::Error, pipeline::Error);
        ends!(Failure, damaged(); evaluator::Error, train::Error, finetune::Error, pipeline::Error);
        let outside = || space::Error::UnknownFamily { name: name() };
        ends!(Usage, outside(); engine::Error, evaluator::Error, train::Error, search::Error, finetune::Error);
        let other = || engine::Error::OtherNetwork { file: name() };
        let nothing = || engine::Error::NoImages { what: "" };
        ends!(Usage, other(); evaluator::Error, export::Error, train::Error, search::Error, finetune::Error);
        ends!(Failure, nothing(); evaluator::Error, export::Error, train::Error, search::Error, finetune::Error);
        let absent = || device::Error::Unavailable { name: name(), reason: reason() };
        ends!(Failure, absent(); engine::Error, export::Error, train::Error, finetune::Error, pipeline::Error);
        assert_eq!(device::Error::from(launch::Error::TooLarge { items: 0 }).exit(), Exit::Failure);
        let not_a_run = || run::Error::NotARun { path: file(), reason: "" };
        let gone = || run::Error::NoCheckpoint;
        ends!(Usage, not_a_run(); train::Error, search::Error, finetune::Error, pipeline::Error);
        ends!(Failure, gone(); train::Error, search::Error, finetune::Error, pipeline::Error);
        let undefined = || config::Error::Set { text: name() };
        ends!(Usage, undefined(); pipeline::Error);
        let classes = || evaluator::Error::Classes { dataset: name(), found: 0, file: file(), expected: 1 };
        ends!(Usage, classes(); search::Error, export::Error, pipeline::Error);
        let diverged = || train::Error::OtherState;
        ends!(Failure, diverged(); search::Error, finetune::Error, pipeline::Error);
        ends!(Usage, search::Error::SmallSpace { wanted: 1 }; pipeline::Error);
        ends!(Failure, search::Error::from(predictor::Error::Empty); pipeline::Error);
        ends!(Failure, search::Error::from(moo::Error::SingleObjective { objectives: 2 }); pipeline::Error);
        ends!(Usage, finetune::Error::NothingPicked(reason()); pipeline::Error);
        ends!(Failure, export::Error::NotFinite { value: 0.0 }; pipeline::Error);
    }

    #[test]
    fn a_closed_pipe_is_no_failure_and_a_stopped_download_can_be_resumed() {
        assert_eq!(Error::ClosedPipe.exit(), Exit::Done);
        #[cfg(feature = "fetch")]
        assert_eq!(Error::from(data::fetch::Error::Stopped { file: PathBuf::new() }).exit(), Exit::Stopped);
    }
}
