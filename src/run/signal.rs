//! Stopping on request: SIGINT, SIGTERM and SIGUSR1 ask the run to finish its step, write a
//! checkpoint and leave with [`Exit::Stopped`]. A second SIGINT ends the
//! program at once with [`Exit::Aborted`], which is as safe as `kill -9`.
//!
//! Batch systems send SIGUSR1 or SIGTERM some time before a job's limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;

use super::error::{Error, Result};
use super::exit::Exit;

const SIGNALS: [(i32, &str); 3] = [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM"), (SIGUSR1, "SIGUSR1")];
/// The value of a flag that was raised by [`StopFlag::request`] and not by a signal.
const BY_PROGRAM: usize = usize::MAX;

/// A flag that says the run should stop. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct StopFlag {
    /// 0, or the signal that came last.
    signal: Arc<AtomicUsize>,
}

impl StopFlag {
    /// A flag that only [`request`](Self::request) raises.
    pub fn new() -> Self {
        Self::default()
    }

    /// A flag that the three signals raise, from now to the end of the process. To be called once.
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
            flag::register_usize(signal, stop.signal.clone(), signal as usize).map_err(Error::Signals)?;
        }
        Ok(stop)
    }

    /// Whether a stop was asked for.
    pub fn requested(&self) -> bool {
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
