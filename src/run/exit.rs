//! The codes that the program ends with. Batch systems act on them.

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything that was asked for is done.
    Done = 0,
    /// A failure: of the machine, the data or the program.
    Failure = 1,
    /// Wrong use: arguments or configuration.
    Usage = 2,
    /// Stopped on request after a checkpoint: the same command resumes. 75 is `EX_TEMPFAIL` of
    /// sysexits.h, which batch systems can be told to requeue on.
    Stopped = 75,
    /// Aborted at once by a second SIGINT.
    Aborted = 130,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        std::process::ExitCode::from(exit as u8)
    }
}
