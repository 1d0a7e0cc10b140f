//! A population on a device with two streams of work: both take part, results are those of one stream, an
//! error of either comes out, and a stop ends both.

use natv2::device::{Cpu, Device, Error, Memory};
use natv2::engine::{Calibration, Cropped, Engine, Evaluation};
use natv2::ops::{Call, Threads};
use natv2::random::stream;
use natv2::space::sample::{Policy, sample};
use natv2::space::walk::Exits;
use natv2::space::{Arch, ExitScaling, Family, Space};
use natv2::supernet::{Blank, Supernet, Tensor};
use rand::RngExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::common::devices::memory_of;

/// What the streams of a device have done.
#[derive(Default)]
struct Log {
    runs: [AtomicUsize; 2],
    /// Whether networks are being evaluated.
    evaluating: AtomicBool,
    /// Whether the second stream then fails.
    fails: AtomicBool,
}

/// One of the streams.
struct OneStream {
    number: usize,
    /// How many there are.
    streams: usize,
    log: Arc<Log>,
}

impl Device for OneStream {
    fn describe(&self) -> String {
        Cpu.describe()
    }
    memory_of!(self, Cpu);
    fn run(&self, calls: &[Call], memory: Memory<'_>, threads: Threads) -> Result<(), Error> {
        self.log.runs[self.number].fetch_add(1, Ordering::Relaxed);
        // The first leaves something to the second, however late that begins.
        let alone = || self.number + 1 < self.streams && self.log.runs[1].load(Ordering::Relaxed) == 0;
        while self.log.evaluating.load(Ordering::Relaxed) && alone() {
            std::thread::yield_now();
        }
        if self.number == 1 && self.log.fails.load(Ordering::Relaxed) {
            return Err(Error::Failed { device: "second stream".into(), reason: "told to".into() });
        }
        Cpu.run(calls, memory, threads)
    }
    fn with_own_stream(&self) -> Result<Option<Arc<dyn Device>>, Error> {
        let (number, streams, log) = (self.number + 1, self.streams, self.log.clone());
        Ok((number < streams).then(|| Arc::new(OneStream { number, streams, log }) as Arc<dyn Device>))
    }
    fn lanes(&self) -> usize {
        1
    }
    fn chunk(&self, _: usize) -> usize {
        4
    }
}

fn images(count: usize, purpose: &str) -> Tensor {
    let mut random = stream(2, purpose, 0, 0);
    let data = (0..count * 3 * 32 * 32).map(|_| random.random_range(-2.0f32..2.0)).collect();
    Tensor { shape: vec![count, 3, 32, 32], data }
}

type Found = Result<Option<Vec<Vec<Evaluation>>>, natv2::engine::Error>;

/// Evaluates forty networks; `stop_after` says after how many.
fn evaluate(streams: usize, fails: bool, stop_after: usize) -> (Found, Arc<Log>) {
    let log = Arc::new(Log::default());
    let blank = Blank::new(Family::SE_B, 0.25, 10);
    let supernet = Arc::new(Supernet::random(&blank, 3).unwrap());
    let device = Arc::new(OneStream { number: 0, streams, log: log.clone() });
    let engine = Engine::new(device, supernet).unwrap();
    let space = Space::new(Family::SE_B, &[32], &[0.25], ExitScaling::Once).unwrap();
    let mut random = stream(3, "networks", 0, 0);
    let networks: Vec<(Arch, Exits)> = (0..40)
        .map(|_| {
            let arch = space.decode(&sample(&space, Policy::Nat, &mut random)).unwrap();
            (arch.clone(), Exits::single(&arch))
        })
        .collect();
    let (test, train) = (images(5, "test"), images(6, "train"));
    let (test, train) = (Cropped::new(&test, &[]).unwrap(), Cropped::new(&train, &[]).unwrap());
    let calibration = Calibration::Batches { images: &train, count: 6, batch: 3 };
    log.fails.store(fails, Ordering::Relaxed);
    log.evaluating.store(true, Ordering::Relaxed);
    let done = AtomicUsize::new(0);
    let stop = || done.load(Ordering::Relaxed) >= stop_after;
    let count = |_: usize, _: &[Evaluation]| {
        done.fetch_add(1, Ordering::Relaxed);
    };
    let found = engine.evaluate_population(&networks, &test, calibration, &stop, &count);
    (found.map(|found| found.map(|population| population.results)), log)
}

#[test]
fn two_streams_share_a_population_and_leave_the_results_of_one() {
    let (one, log) = evaluate(1, false, usize::MAX);
    assert_eq!(log.runs[1].load(Ordering::Relaxed), 0);
    let (two, log) = evaluate(2, false, usize::MAX);
    assert!(log.runs.iter().all(|runs| runs.load(Ordering::Relaxed) > 0), "both take part");
    assert_eq!(one.unwrap().unwrap(), two.unwrap().unwrap());
}

#[test]
fn an_error_of_the_second_stream_is_the_result() {
    let (found, _) = evaluate(2, true, usize::MAX);
    let error = found.unwrap_err().to_string();
    assert!(error.contains("second stream") && error.contains("told to"), "{error}");
}

#[test]
fn a_stop_ends_both_streams() {
    let (found, _) = evaluate(2, false, 10);
    assert!(found.unwrap().is_none());
}
