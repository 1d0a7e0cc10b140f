//! The codes that the program ends with. Batch systems act on them.
//!
//! The rule: what was asked for is wrong use (2): arguments, configuration, architectures and genotypes outside
//! the space, weights and data that do not belong together. What was found is a failure (1): files that are
//! missing, damaged or cannot be written, a machine without the device.
//!
//! Every error knows its exit: `exits!` says it below each `enum Error`.

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

/// The exit of each kind of an error: the kinds that end with one code, code after code, and last the kinds that
/// hold another module's error and end as it does. A kind that stands in no list does not compile.
macro_rules! exits {
    ($error:ident: $($exit:ident [$($kind:ident),+ $(,)?]),* $(; held [$($(#[$when:meta])? $held:ident),+ $(,)?])?) => {
        impl $error {
            /// The code to leave the program with.
            pub fn exit(&self) -> $crate::exit::Exit {
                match self {
                    $($($error::$kind { .. })|+ => $crate::exit::Exit::$exit,)*
                    $($($(#[$when])? $error::$held(error) => error.exit(),)+)?
                }
            }
        }
    };
}
pub(crate) use exits;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        let codes =
            [Exit::Done, Exit::Failure, Exit::Usage, Exit::Stopped, Exit::Aborted].map(|exit| exit as u8);
        assert_eq!(codes, [0, 1, 2, 75, 130]);
        assert_eq!(std::process::ExitCode::from(Exit::Stopped), std::process::ExitCode::from(75));
    }
}
