//! What the environment says of the driver and its cards.

use crate::failures::Failure;
use std::path::PathBuf;
use std::str::FromStr;

/// The settings; `lib.rs` says what they are for.
#[derive(Debug, Clone)]
pub struct Settings {
    pub seed: u64,
    pub failures: Vec<Failure>,
    /// Bytes of each card.
    pub memory: usize,
    pub cards: i32,
    /// As `13000`.
    pub cuda: i32,
    pub compute: (u32, u32),
    pub report: Option<PathBuf>,
    pub terminated: bool,
    /// The kernel that does not run, counted from 1; 0 for none.
    pub skip: u64,
}

impl Settings {
    /// Those of the environment.
    ///
    /// # Errors
    /// A sentence about the variable that is wrong.
    pub fn of_environment() -> Result<Settings, String> {
        Settings::found(|name| std::env::var(format!("NATV2_STAND_IN_{name}")).ok())
    }

    /// Shared memory that a block can have, static and dynamic, in bytes: as the CUDA programming guide has it for the
    /// compute capability.
    pub fn most_shared(&self) -> u32 {
        let kibibytes = match self.compute {
            (7, 0) => 96,
            (7, _) => 64,
            (8, 0 | 7) => 163,
            (8, _) | (12, _) => 99,
            _ => 227,
        };
        kibibytes << 10
    }

    fn found(variable: impl Fn(&str) -> Option<String>) -> Result<Settings, String> {
        let wrong = |name: &str, value: &str, wanted: &str| {
            format!("NATV2_STAND_IN_{name} is {value:?}, and has to be {wanted}")
        };
        let text = |name: &str| variable(name).filter(|value| !value.is_empty());
        let seed = number(&text, "SEED", 0).map_err(|value| wrong("SEED", &value, "a number"))?;
        let compute = text("COMPUTE").unwrap_or_else(|| "9.0".to_owned());
        let parts = compute.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        Ok(Settings {
            seed,
            failures: Failure::list(&text("FAIL").unwrap_or_default(), seed)
                .map_err(|reason| format!("NATV2_STAND_IN_FAIL: {reason}"))?,
            memory: number(&text, "MEMORY", 2 << 30).map_err(|value| wrong("MEMORY", &value, "bytes"))?,
            cards: number(&text, "CARDS", 1).map_err(|value| wrong("CARDS", &value, "a number"))?,
            cuda: number(&text, "CUDA", 13000)
                .map_err(|value| wrong("CUDA", &value, "a version, as 13000"))?,
            compute: parts.ok_or_else(|| wrong("COMPUTE", &compute, "two numbers, as 9.0"))?,
            report: text("REPORT").map(PathBuf::from),
            skip: number(&text, "SKIP", 0).map_err(|value| wrong("SKIP", &value, "a number"))?,
            terminated: text("TERMINATED").is_some_and(|value| value != "0"),
        })
    }
}

fn number<T: FromStr>(text: &dyn Fn(&str) -> Option<String>, name: &str, default: T) -> Result<T, String> {
    text(name).map_or(Ok(default), |value| value.trim().parse().map_err(|_| value))
}
