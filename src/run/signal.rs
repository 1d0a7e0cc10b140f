//! Stopping on request: SIGINT, SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 ask the run to finish its step, write a
//! checkpoint and leave with [`Exit::Stopped`]. A second SIGINT ends the
//! program at once with [`Exit::Aborted`], which is as safe as `kill -9`.
//!
//! Batch systems send SIGTERM, SIGUSR1 or SIGUSR2 some time before a job's limit, as their users choose. A
//! terminal that is lost sends SIGHUP; where `nohup` has the program ignore it, it stays ignored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::flag;

use super::error::{Error, Result};
use crate::exit::Exit;

const SIGNALS: [(i32, &str); 5] = [
    (SIGINT, "SIGINT"),
    (SIGTERM, "SIGTERM"),
    (SIGHUP, "SIGHUP"),
    (SIGUSR1, "SIGUSR1"),
    (SIGUSR2, "SIGUSR2"),
];
/// The value of a flag that was raised by [`StopFlag::request`] and not by a signal.
const BY_PROGRAM: usize = usize::MAX;

/// A flag that says the run should stop. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct StopFlag {
    /// 0, or the signal that came last.
    signal: Arc<AtomicUsize>,
    /// Looks at the flag before it rises by itself.
    looks: Option<Arc<AtomicUsize>>,
}

impl StopFlag {
    /// A flag that only [`request`](Self::request) raises.
    pub fn new() -> Self {
        Self::default()
    }

    /// A flag that rises by itself at the look number `looks`, from 0: for tests that stop a run at one exact
    /// place after the other.
    pub fn at_look(looks: usize) -> Self {
        Self { looks: Some(Arc::new(AtomicUsize::new(looks))), ..Self::default() }
    }

    /// A flag that these signals raise, from now to the end of the process. To be called once.
    ///
    /// # Errors
    /// [`Error::Signals`] where the system refuses a handler.
    pub fn install() -> Result<Self> {
        let stop = Self::new();
        // In this order: the first SIGINT finds `interrupted` down and raises it, a second ends us.
        let interrupted = Arc::new(AtomicBool::new(false));
        flag::register_conditional_shutdown(SIGINT, Exit::Aborted as i32, interrupted.clone())
            .map_err(Error::Signals)?;
        flag::register(SIGINT, interrupted).map_err(Error::Signals)?;
        for (signal, _) in SIGNALS {
            if signal == SIGHUP && ignored(SIGHUP) {
                continue;
            }
            flag::register_usize(signal, stop.signal.clone(), signal as usize).map_err(Error::Signals)?;
        }
        Ok(stop)
    }

    /// Whether a stop was asked for.
    pub fn requested(&self) -> bool {
        let left = |left: usize| left.checked_sub(1);
        if self
            .looks
            .as_ref()
            .is_some_and(|l| l.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_err())
        {
            self.request();
        }
        self.signal.load(Ordering::SeqCst) != 0
    }

    /// Asks for a stop.
    pub fn request(&self) {
        let _ = self.signal.compare_exchange(0, BY_PROGRAM, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// The signal that asked for it, by name.
    pub fn signal(&self) -> Option<&'static str> {
        let value = self.signal.load(Ordering::SeqCst);
        SIGNALS.iter().find(|(signal, _)| *signal as usize == value).map(|(_, name)| *name)
    }
}

/// Whether whoever began this process has it ignore a signal; `false` where the system does not say.
fn ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
