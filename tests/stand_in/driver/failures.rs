//! Calls that are made to fail.
//!
//! A list as `cuMemAlloc_v2:3:CUDA_ERROR_OUT_OF_MEMORY,cuEventRecord:5+:CUDA_ERROR_UNKNOWN`: a symbol, which of its
//! calls, counted from 1, and what it returns. `5+` is the fifth and all behind it, `*` all, and `?9` one of the first
//! nine, drawn from the seed. The symbol `kernel` counts the kernels as they run: their errors show at a later call, as
//! a card's do.

use crate::codes;
use cudarc::driver::sys::CUresult;
use natv2::random::stream;
use rand::RngExt;

/// What counts kernels as they run.
pub const KERNEL: &str = "kernel";

/// Calls that are to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    symbol: String,
    from: u64,
    to: u64,
    code: CUresult,
}

impl Failure {
    /// The failures of a list.
    ///
    /// # Errors
    /// A sentence about the entry that is none.
    pub fn list(text: &str, seed: u64) -> Result<Vec<Failure>, String> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(|entry| Failure::of(entry, seed)).collect()
    }

    fn of(entry: &str, seed: u64) -> Result<Failure, String> {
        let parts: Vec<&str> = entry.split(':').collect();
        let [symbol, which, code] = parts[..] else {
            return Err(format!("{entry:?} is not SYMBOL:WHICH:CODE"));
        };
        let code =
            codes::by_name(code).ok_or_else(|| format!("{code:?} is no code that a call can return"))?;
        let number = |text: &str| {
            let number = text.parse().ok().filter(|&number: &u64| number > 0);
            number.ok_or_else(|| format!("{which:?} is not N, N+, * or ?N, with N from 1 on"))
        };
        let (from, to) = match (which, which.strip_suffix('+'), which.strip_prefix('?')) {
            ("*", ..) => (1, u64::MAX),
            (_, Some(first), _) => (number(first)?, u64::MAX),
            (_, _, Some(most)) => {
                let drawn = stream(seed, symbol, 0, 0).random_range(1..=number(most)?);
                (drawn, drawn)
            }
            _ => (number(which)?, number(which)?),
        };
        Ok(Failure { symbol: symbol.to_owned(), from, to, code })
    }

    /// What the call number `count` of `symbol` is to return.
    pub fn of_call(list: &[Failure], symbol: &str, count: u64) -> Option<CUresult> {
        let met =
            |failure: &&Failure| failure.symbol == symbol && (failure.from..=failure.to).contains(&count);
        list.iter().find(met).map(|failure| failure.code)
    }
}
