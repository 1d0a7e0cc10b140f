//! All that the driver knows, and the way in: what every call checks before it does anything.

use crate::context::Context;
use crate::failures::Failure;
use crate::report::{EXIT_CODE, Report};
use crate::settings::Settings;
use crate::{codes, crash};
use cudarc::driver::sys::CUresult;
use natv2::random::stream;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// What a call comes to: nothing, or the code that it returns.
pub type Outcome = Result<(), CUresult>;

/// What all contexts have in common.
pub struct Shared {
    pub settings: Settings,
    pub report: Report,
    pub random: ChaCha8Rng,
    /// Threads that kernels run on.
    pub threads: usize,
    /// The primary context of each card, and how often it was retained.
    pub primary: BTreeMap<i32, (usize, u32)>,
    /// How often work is done before anybody waits for it.
    eagerness: f64,
    initialised: bool,
    next_handle: usize,
}

/// The driver.
pub struct State {
    pub shared: Shared,
    pub contexts: BTreeMap<usize, Context>,
}

thread_local! {
    /// The contexts of this thread, the current one last.
    static CURRENT: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(|| {
    let settings = Settings::of_environment().unwrap_or_else(|reason| {
        eprintln!("stand-in driver: {reason}");
        std::process::exit(2)
    });
    let (random, eagerness) = interleaving(settings.seed);
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    // SAFETY: the function is this library's, which is never unloaded.
    unsafe { libc::atexit(at_exit) };
    let (report, primary) = (Report::default(), BTreeMap::new());
    let shared = Shared {
        settings,
        report,
        random,
        threads,
        primary,
        eagerness,
        initialised: false,
        next_handle: 0x5a00_0000_0000,
    };
    Mutex::new(State { shared, contexts: BTreeMap::new() })
});

/// What a seed draws from, and how often it does work before anybody waits for it.
fn interleaving(seed: u64) -> (ChaCha8Rng, f64) {
    let mut random = stream(seed, "stand-in driver", 0, 0);
    let drawn = [0.0, 0.05, 0.3, 0.9][random.random_range(0..4)];
    (random, if seed == 0 { 0.0 } else { drawn })
}

/// The driver, for one call at a time.
pub fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names what was left, and ends the process with [`EXIT_CODE`] where there was a fault.
extern "C" fn at_exit() {
    // A thread that still makes a call keeps the lock: then there is nothing to be said for certain.
    let Ok(mut state) = STATE.try_lock() else { return };
    let State { shared, contexts } = &mut *state;
    for (_, context) in std::mem::take(contexts) {
        shared
            .report
            .fault(format!("a context of card {} was not given back when the process ended", context.card));
        context.end(shared, "the process ended");
    }
    if let Some(file) = &shared.settings.report {
        shared.report.write(file, shared.settings.seed);
    }
    if !shared.report.faults().is_empty() {
        eprintln!("stand-in driver: {} faults", shared.report.faults().len());
        // SAFETY: ends the process, whose other handlers have run or are not needed.
        unsafe { libc::_exit(EXIT_CODE) }
    }
}

impl Shared {
    /// Another interleaving from now on.
    pub fn set_seed(&mut self, seed: u64) {
        self.settings.seed = seed;
        (self.random, self.eagerness) = interleaving(seed);
    }

    /// A handle that no other object has or had.
    pub fn handle(&mut self) -> usize {
        self.next_handle += 16;
        self.next_handle
    }

    /// Counts a call, or what is counted like one; the code that it is made to return.
    pub fn counted(&mut self, symbol: &str) -> Option<CUresult> {
        let count = self.report.count(symbol);
        Failure::of_call(&self.settings.failures, symbol, count)
    }

    /// Whether nothing is done before it has to be.
    pub fn is_late(&self) -> bool {
        self.settings.seed == 0
    }

    /// Pieces of work to be done now that nobody waits for yet.
    pub fn drift(&mut self) -> u32 {
        if self.eagerness > 0.0 && self.random.random_bool(self.eagerness) {
            self.random.random_range(1..=8)
        } else {
            0
        }
    }

    /// Says why a call is refused: its code alone says little.
    pub fn note(&mut self, text: String) {
        eprintln!("stand-in driver: {text}");
    }
}

fn code(outcome: Outcome) -> CUresult {
    outcome.err().unwrap_or(CUresult::CUDA_SUCCESS)
}

/// A call that can be made at any time.
pub fn always(symbol: &str, work: impl FnOnce(&mut State) -> Outcome) -> CUresult {
    let mut state = lock();
    match state.shared.counted(symbol) {
        Some(failure) => failure,
        None => code(work(&mut state)),
    }
}

/// The call that comes before all others.
pub fn initialise() -> CUresult {
    always("cuInit", |state| {
        state.shared.initialised = true;
        crash::watch();
        Ok(())
    })
}

/// A call that needs no context.
pub fn initialised(symbol: &str, work: impl FnOnce(&mut State) -> Outcome) -> CUresult {
    always(symbol, |state| {
        if state.shared.initialised { work(state) } else { Err(CUresult::CUDA_ERROR_NOT_INITIALIZED) }
    })
}

/// A call that gives a context back. It does so whatever it returns.
pub fn gives_back_context(symbol: &str, work: impl FnOnce(&mut State) -> Outcome) -> CUresult {
    let mut state = lock();
    let injected = state.shared.counted(symbol);
    if !state.shared.initialised {
        return CUresult::CUDA_ERROR_NOT_INITIALIZED;
    }
    let outcome = work(&mut state);
    injected.unwrap_or_else(|| code(outcome))
}

/// A call on the context of its thread.
pub fn in_context(symbol: &str, work: impl FnOnce(&mut Shared, &mut Context) -> Outcome) -> CUresult {
    on_current(symbol, false, work)
}

/// A call that gives something back. It does so whatever it returns: of a card that has failed too.
pub fn gives_back(symbol: &str, work: impl FnOnce(&mut Shared, &mut Context) -> Outcome) -> CUresult {
    on_current(symbol, true, work)
}

fn on_current(
    symbol: &str,
    gives_back: bool,
    work: impl FnOnce(&mut Shared, &mut Context) -> Outcome,
) -> CUresult {
    let mut state = lock();
    let State { shared, contexts } = &mut *state;
    let injected = shared.counted(symbol);
    if !shared.initialised {
        return CUresult::CUDA_ERROR_NOT_INITIALIZED;
    }
    let Some(context) = current() else {
        shared.note(format!("{symbol} is refused: no context is current on its thread"));
        return CUresult::CUDA_ERROR_INVALID_CONTEXT;
    };
    let Some(context) = contexts.get_mut(&context) else {
        shared.note(format!("{symbol} is refused: the context of its thread was given back"));
        return CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED;
    };
    if let Some(failure) = injected.filter(|failure| codes::sticks(*failure)) {
        context.fail(failure);
    }
    context.drift(shared);
    if let Some(failure) = injected.or(context.error) {
        if gives_back {
            // The object is gone, and its owner is told of the failure.
            let _ = work(shared, context);
        }
        return failure;
    }
    let outcome = work(shared, context);
    // An error of earlier work shows here.
    code(outcome.and(context.error.map_or(Ok(()), Err)))
}

/// The context that is current on this thread.
pub fn current() -> Option<usize> {
    CURRENT.with_borrow(|contexts| contexts.last().copied().filter(|context| *context != 0))
}

/// Makes a context current in place of the one that is; 0 for none.
pub fn set_current(context: usize) {
    CURRENT.with_borrow_mut(|contexts| {
        contexts.pop();
        if context != 0 {
            contexts.push(context);
        }
    });
}

/// Makes a context current, above the one that is.
pub fn push_current(context: usize) {
    CURRENT.with_borrow_mut(|contexts| contexts.push(context));
}

/// Takes the current context away.
pub fn pop_current() -> Option<usize> {
    CURRENT.with_borrow_mut(Vec::pop)
}
