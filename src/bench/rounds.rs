//! How times are taken: a round that does not count, then several that do, and what is compared in
//! turns, so that a machine that others use too treats all alike.

use serde::Serialize;
use std::fs;
use std::time::Instant;

/// Times of the rounds, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Times {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
    /// How many there were.
    pub rounds: usize,
}

impl Times {
    /// Summarises the times of at least one round.
    pub fn of(mut seconds: Vec<f64>) -> Times {
        seconds.sort_by(f64::total_cmp);
        let at = |index: usize| seconds.get(index).copied().unwrap_or(f64::NAN);
        let rounds = seconds.len();
        Times { median: at(rounds / 2), least: at(0), most: at(rounds.saturating_sub(1)), rounds }
    }

    /// Distance of the most from the least, as a share of the median.
    pub fn spread(&self) -> f64 {
        (self.most - self.least) / self.median
    }
}

/// Work that is timed, over and over.
pub type Work<'a, E> = &'a mut dyn FnMut() -> Result<(), E>;

/// Times every work once a round, in turns, behind a round that does not count.
///
/// # Errors
/// What the work says.
pub fn alternate<E>(rounds: usize, works: &mut [Work<'_, E>]) -> Result<Vec<Times>, E> {
    let mut seconds = vec![Vec::with_capacity(rounds); works.len()];
    for round in 0..rounds.max(1) + 1 {
        for (work, seconds) in works.iter_mut().zip(&mut seconds) {
            let start = Instant::now();
            work()?;
            if round > 0 {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
    }
    Ok(seconds.into_iter().map(Times::of).collect())
}

/// Times one work.
///
/// # Errors
/// As [`alternate`].
pub fn time<E>(rounds: usize, mut work: impl FnMut() -> Result<(), E>) -> Result<Times, E> {
    let mut times = alternate(rounds, &mut [&mut work])?;
    Ok(times.pop().unwrap_or_else(|| Times::of(Vec::new())))
}

/// The most memory of this process that was resident since [`reset_peak`], in bytes, where the system
/// says so. A GPU's own memory is not in it.
pub fn peak_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

/// Begins a new peak. Where the system cannot, peaks are those since the process began.
pub fn reset_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Bytes as megabytes, or a dash.
pub fn megabytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".into(), |bytes| format!("{:.0}", bytes as f64 / 1e6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_take_turns_and_the_first_does_not_count() {
        let mut order = std::cell::RefCell::new(Vec::new());
        let (mut a, mut b) = (
            || -> Result<(), ()> {
                order.borrow_mut().push('a');
                Ok(())
            },
            || -> Result<(), ()> {
                order.borrow_mut().push('b');
                Ok(())
            },
        );
        let times = alternate(2, &mut [&mut a, &mut b]).unwrap();
        assert_eq!(order.get_mut().iter().collect::<String>(), "ababab");
        assert!(times.len() == 2 && times.iter().all(|t| t.rounds == 2 && t.least <= t.median));
        assert_eq!(time(3, || Err("stop")), Err("stop"));
    }

    #[test]
    fn the_median_is_the_middle() {
        let times = Times::of(vec![3.0, 1.0, 2.0]);
        assert_eq!((times.least, times.median, times.most, times.spread()), (1.0, 2.0, 3.0, 1.0));
    }
}
