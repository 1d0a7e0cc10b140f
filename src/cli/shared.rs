//! One directory that several processes work on, as the jobs of an array do.
//!
//! A process locks the directory itself only for an instant: to say what it is for, and to write results. Each
//! piece of work has a run directory inside, which is locked while the work lasts. A process that finds a piece
//! locked takes the next one and comes back later. Then it reads what another process has finished, and goes on
//! with what another has left unfinished.

use super::session;
use super::{Error, Talk};
use crate::config::Config;
use crate::pipeline;
use crate::run::{self, RunDirectory, StopFlag};
use std::path::Path;
use std::time::{Duration, Instant};

/// Between two looks at what others hold.
const PAUSE: Duration = Duration::from_millis(200);
/// Whoever waits for longer says so.
const PATIENCE: Duration = Duration::from_secs(2);

/// How an attempt at a piece of work ended.
pub(super) enum Attempt<T> {
    /// Its result.
    Done(T),
    /// Another process has it.
    InUse,
    /// A stop was asked for.
    Stopped,
}

/// The run directory of that configuration, or `None` where another process has it.
///
/// # Errors
/// As [`session::enter`].
pub(super) fn take(path: &Path, config: &Config) -> Result<Option<RunDirectory>, Error> {
    match session::enter(path, config) {
        Err(Error::Stage(error)) if matches!(*error, pipeline::Error::Run(run::Error::InUse { .. })) => {
            Ok(None)
        }
        entered => entered.map(Some),
    }
}

/// As [`take`], once nobody else has it; `None` if a stop was asked for first.
///
/// # Errors
/// As [`session::enter`].
pub(super) fn enter(
    path: &Path,
    config: &Config,
    stop: &StopFlag,
    talk: &Talk,
) -> Result<Option<RunDirectory>, Error> {
    let mut waiting = Waiting::new();
    loop {
        if let Some(directory) = take(path, config)? {
            return Ok(Some(directory));
        }
        if stop.requested() {
            return Ok(None);
        }
        waiting.pause(talk);
    }
}

/// The results of `count` pieces of work, in their order, whoever did them; `None` if a stop was asked for first.
///
/// # Errors
/// A piece fails.
pub(super) fn every<T>(
    count: usize,
    mut work: impl FnMut(usize) -> Result<Attempt<T>, Error>,
    stop: &StopFlag,
    talk: &Talk,
) -> Result<Option<Vec<T>>, Error> {
    let mut done: Vec<Option<T>> = (0..count).map(|_| None).collect();
    let mut waiting = Waiting::new();
    loop {
        let mut took = false;
        for (index, result) in done.iter_mut().enumerate().filter(|(_, result)| result.is_none()) {
            match work(index)? {
                Attempt::Done(value) => (*result, took) = (Some(value), true),
                Attempt::InUse => {}
                Attempt::Stopped => return Ok(None),
            }
        }
        match () {
            () if done.iter().all(Option::is_some) => {
                return Ok(Some(done.into_iter().flatten().collect()));
            }
            () if stop.requested() => return Ok(None),
            () if took => waiting = Waiting::new(),
            () => waiting.pause(talk),
        }
    }
}

/// Waiting for others.
struct Waiting {
    since: Instant,
    said: bool,
}

impl Waiting {
    fn new() -> Waiting {
        Waiting { since: Instant::now(), said: false }
    }

    fn pause(&mut self, talk: &Talk) {
        if !self.said && self.since.elapsed() >= PATIENCE {
            self.said = true;
            talk.note("waiting for other processes that work in this directory");
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn what_others_hold_is_come_back_to() {
        let talk = Talk { quiet: true, json: false };
        // The second is in use twice, the third once.
        let mut held = [0, 2, 1];
        let mut order = Vec::new();
        let work = |index: usize| {
            if held[index] > 0 {
                held[index] -= 1;
                return Ok(Attempt::InUse);
            }
            order.push(index);
            Ok(Attempt::Done(10 * index))
        };
        let results = every(3, work, &StopFlag::new(), &talk).unwrap();
        assert_eq!((results, order), (Some(vec![0, 10, 20]), vec![0, 2, 1]));
    }

    #[test]
    fn a_stop_ends_the_waiting_and_the_work() {
        let talk = Talk { quiet: true, json: false };
        let stop = StopFlag::new();
        stop.request();
        assert!(every(1, |_| Ok(Attempt::<()>::InUse), &stop, &talk).unwrap().is_none());
        let mut outcomes = VecDeque::from([Attempt::Done(1), Attempt::Stopped]);
        let work = |_| Ok(outcomes.pop_front().unwrap_or(Attempt::InUse));
        assert!(every(3, work, &StopFlag::new(), &talk).unwrap().is_none());
    }
}
