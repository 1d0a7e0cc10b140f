//! Lists of calls that a device makes ready once and runs again give the bits of plain runs, are made
//! once for each arena and where it pays, are kept for programs that come again, and never run on other buffers
//! than their own.

use natv2::device::{self, Buffer, Device, Error, Memory, Recording, Stamp};
use natv2::engine::{Calibration, Cropped, Engine, Graphs, Precision};
use natv2::ops::update::{Fill, FillParams};
use natv2::ops::{Call, Region, Slot, Threads};
use natv2::random::stream;
use natv2::space::walk::Exits;
use natv2::space::{Arch, Family};
use natv2::supernet::{Blank, Supernet, Tensor};
use rand::RngExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn emulator() -> Arc<dyn Device> {
    device::open("emulated").unwrap()
}

/// The emulator, which counts and takes few images at a time.
struct Counting {
    device: Arc<dyn Device>,
    records: bool,
    /// Lists run plainly, recorded, and replayed.
    counts: [AtomicUsize; 3],
    /// Stamps, and copies to the host.
    stamps: AtomicUsize,
    reads: AtomicUsize,
}

impl Counting {
    fn new(records: bool) -> Counting {
        let (stamps, reads) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Counting { device: emulator(), records, counts: Default::default(), stamps, reads }
    }

    fn count(&self, what: usize) {
        self.counts[what].fetch_add(1, Ordering::Relaxed);
    }

    fn take(&self) -> [usize; 3] {
        [0, 1, 2].map(|what| self.counts[what].swap(0, Ordering::Relaxed))
    }
}

impl Device for Counting {
    fn describe(&self) -> String {
        self.device.describe()
    }
    fn arithmetic(&self) -> String {
        self.device.arithmetic()
    }
    fn allocate(&self, len: usize) -> Result<Buffer, Error> {
        self.device.allocate(len)
    }
    fn upload(&self, buffer: &mut Buffer, offset: usize, data: &[f32]) -> Result<(), Error> {
        self.device.upload(buffer, offset, data)
    }
    fn download(&self, buffer: &Buffer, offset: usize, out: &mut [f32]) -> Result<(), Error> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.device.download(buffer, offset, out)
    }
    fn stamp(&self) -> Result<Stamp, Error> {
        self.stamps.fetch_add(1, Ordering::Relaxed);
        self.device.stamp()
    }
    fn elapsed(&self, from: &Stamp, to: &Stamp) -> Result<Duration, Error> {
        self.device.elapsed(from, to)
    }
    fn run(&self, calls: &[Call], memory: Memory<'_>, threads: Threads) -> Result<(), Error> {
        self.count(0);
        self.device.run(calls, memory, threads)
    }
    fn record(&self, calls: &[Call], memory: Memory<'_>) -> Result<Option<Recording>, Error> {
        if !self.records {
            return Ok(None);
        }
        self.count(1);
        self.device.record(calls, memory)
    }
    fn replay(&self, recording: &Recording, memory: Memory<'_>, threads: Threads) -> Result<bool, Error> {
        let replayed = self.device.replay(recording, memory, threads)?;
        if replayed {
            self.count(2);
        }
        Ok(replayed)
    }
    fn lanes(&self) -> usize {
        2
    }
    fn chunk(&self, _: usize) -> usize {
        4
    }
}

fn images(count: usize, purpose: &str) -> Tensor {
    let mut rng = stream(8, purpose, 0, 0);
    let data = (0..count * 3 * 32 * 32).map(|_| rng.random_range(-2.0f32..2.0)).collect();
    Tensor { shape: vec![count, 3, 32, 32], data }
}

#[cfg(natv2_emulator)]
#[test]
fn evaluation_and_recalibration_are_recorded_once_and_keep_their_bits() {
    let blank = Blank::new(Family::SE_B, 0.25, 10);
    let supernet = Arc::new(Supernet::random(&blank, 3).unwrap());
    let arch = Arch { ks: [3; 20], e: [3; 20], d: [2; 5], ..Arch::largest(Family::SE_B, 32, None) };
    let exits = Exits::single(&arch);
    // Five chunks, the last of them not full, and three batches.
    let (test, train) = (images(18, "test/images"), images(12, "train/images"));
    let labels: Vec<u32> = (0..18).map(|index| index % 10).collect();
    let (test, train) = (Cropped::new(&test, &labels).unwrap(), Cropped::new(&train, &[]).unwrap());
    let batches = Calibration::Batches { images: &train, count: 12, batch: 4 };
    let run = |records: bool| {
        let device = Arc::new(Counting::new(records));
        let engine = Engine::new(device.clone(), supernet.clone()).unwrap();
        device.take();
        let evaluate = |calibration, threads| {
            let [found] = engine.evaluate(&arch, exits, &test, calibration, threads).unwrap()[..] else {
                panic!("one exit")
            };
            (found.correct, found.loss.to_bits(), device.take())
        };
        let recalibrated = evaluate(batches, Threads::One);
        let stored = evaluate(Calibration::Stored, Threads::One);
        let side_by_side = evaluate(batches, Threads::All);
        let logits = engine.logits(&arch, exits, &test, batches).unwrap();
        let logits: Vec<u32> = logits.concat().iter().map(|logit| logit.to_bits()).collect();
        (recalibrated, stored, side_by_side, logits)
    };
    let (with, without) = (run(true), run(false));
    let results = |(correct, loss, _): (usize, u64, [usize; 3])| (correct, loss);
    assert_eq!(results(with.0), results(without.0));
    assert_eq!(results(with.1), results(without.1));
    assert_eq!(results(with.2), results(without.2));
    assert_eq!(results(with.0), results(with.2));
    assert_eq!(with.3, without.3);
    // The lists that begin the averages and fold them run once.
    assert_eq!((with.0.2, without.0.2), ([2, 2, 3 + 5], [2 + 3 + 5, 0, 0]));
    // The same inference with the statistics elsewhere.
    assert_eq!((with.1.2, without.1.2), ([1, 1, 5], [1 + 5, 0, 0]));
    // Side by side each chunk may meet an arena of its own; every run is a replay all the same. The batches
    // meet the arena that they met before.
    let [plain, recorded, replayed] = with.2.2;
    assert!((plain, replayed) == (2, 3 + 5) && recorded <= 5, "{:?}", with.2.2);
}

#[cfg(natv2_emulator)]
#[test]
fn what_runs_twice_is_recorded_when_it_comes_again_or_as_is_asked_for() {
    let blank = Blank::new(Family::SE_B, 0.25, 10);
    let supernet = Arc::new(Supernet::random(&blank, 3).unwrap());
    let largest = Arch::largest(Family::SE_B, 32, None);
    let arch = Arch { ks: [3; 20], e: [3; 20], d: [2; 5], ..largest.clone() };
    let other = Arch { ks: [5; 20], ..arch.clone() };
    // Two chunks and two batches.
    let (test, train) = (images(8, "test/two"), images(8, "train/two"));
    let (test, train) = (Cropped::new(&test, &[]).unwrap(), Cropped::new(&train, &[]).unwrap());
    let batches = Calibration::Batches { images: &train, count: 8, batch: 4 };
    let mut losses = Vec::new();
    let mut run = |graphs| {
        let device = Arc::new(Counting::new(true));
        let engine = Engine::new(device.clone(), supernet.clone()).unwrap().with_graphs(graphs);
        device.take();
        [&arch, &arch, &other].map(|arch| {
            let found = engine.evaluate(arch, Exits::single(arch), &test, batches, Threads::One).unwrap();
            losses.push(found[0].loss.to_bits());
            device.take()
        })
    };
    let (plain, recorded, replayed) = ([2 + 2 + 2, 0, 0], [2, 2, 4], [2, 0, 4]);
    assert_eq!(run(Graphs::Never), [plain; 3]);
    assert_eq!(run(Graphs::Always), [recorded, replayed, recorded]);
    assert_eq!(run(Graphs::Auto), [plain, recorded, plain]);
    assert_eq!(losses[..3], losses[3..6]);
    assert_eq!(losses[..3], losses[6..]);
    assert!("auto".parse() == Ok(Graphs::Auto) && "sometimes".parse::<Graphs>().is_err());
}

#[cfg(natv2_emulator)]
#[test]
fn a_latency_is_that_of_passes_that_follow_one_another() {
    let blank = Blank::new(Family::SE_B, 0.25, 10);
    let supernet = Arc::new(Supernet::random(&blank, 3).unwrap());
    let arch = Arch { ks: [3; 20], e: [3; 20], d: [2; 5], ..Arch::largest(Family::SE_B, 32, None) };
    let timed = |records: bool, graphs: Graphs| {
        let device = Arc::new(Counting::new(records));
        let engine = Engine::new(device.clone(), supernet.clone()).unwrap().with_graphs(graphs);
        device.take();
        [0, 1].map(|_| {
            assert!(engine.latency(&arch, 2, 3).unwrap().is_finite());
            (device.take(), device.stamps.swap(0, Ordering::Relaxed), device.reads.swap(0, Ordering::Relaxed))
        })
    };
    // Folding, zeros for images; three passes to warm up and three that count. The device says when a pass
    // was done, and nothing is read in between.
    assert_eq!(timed(true, Graphs::Auto), [([2, 1, 6], 3 + 1, 0), ([2, 0, 6], 3 + 1, 0)]);
    // Elsewhere the host waits for each but the first.
    for (records, graphs) in [(false, Graphs::Auto), (true, Graphs::Never)] {
        assert_eq!(timed(records, graphs), [([2 + 6, 0, 0], 0, 5); 2], "{records} {graphs:?}");
    }
}

/// The devices that record: the one with a name, else the emulator.
fn recorders() -> impl Iterator<Item = Arc<dyn Device>> {
    let named = crate::named();
    let emulator = if named.is_some() { None } else { crate::emulators().next() };
    named.into_iter().chain(emulator)
}

#[test]
fn engine_graphs_give_the_bits_of_plain_runs() {
    recorders().for_each(|device| graphs_give_the_bits_of_plain_runs(&device));
}

#[test]
fn engine_recordings_go_with_their_buffers() {
    recorders().for_each(|device| a_recording_goes_with_its_buffers(&*device));
}

fn graphs_give_the_bits_of_plain_runs(device: &Arc<dyn Device>) {
    let blank = Blank::new(Family::SE_B, 0.25, 10);
    let supernet = Arc::new(Supernet::random(&blank, 3).unwrap());
    let arch = Arch { ks: [5; 20], e: [4; 20], d: [2; 5], ..Arch::largest(Family::SE_B, 32, None) };
    let exits = Exits::single(&arch);
    let (test, train) = (images(18, "test/images"), images(12, "train/images"));
    let labels: Vec<u32> = (0..18).map(|index| index % 10).collect();
    let (test, train) = (Cropped::new(&test, &labels).unwrap(), Cropped::new(&train, &[]).unwrap());
    let batches = Calibration::Batches { images: &train, count: 12, batch: 4 };
    for precision in [Precision::F32, Precision::Bf16] {
        let [never, always] = [Graphs::Never, Graphs::Always].map(|graphs| {
            let engine = Engine::in_precision(device.clone(), supernet.clone(), precision).unwrap();
            let engine = engine.with_graphs(graphs);
            // The second time starts what the first has recorded.
            [0, 1].map(|_| {
                let logits = engine.logits(&arch, exits, &test, batches).unwrap().concat();
                let scores = engine.evaluate(&arch, exits, &test, batches, Threads::All).unwrap();
                let logits: Vec<u32> = logits.iter().map(|logit| logit.to_bits()).collect();
                (logits, scores[0].correct, scores[0].loss.to_bits())
            })
        });
        assert!(never[0] == never[1] && always[0] == never[0] && always[1] == never[0], "{precision}");
    }
}

fn a_recording_goes_with_its_buffers(device: &dyn Device) {
    let len = 64;
    let mut buffers: Vec<Buffer> = (0..4).map(|_| device.allocate(len).unwrap()).collect();
    let [weights, network, arena, other] = &mut buffers[..] else { panic!("four buffers") };
    let y = Slot { region: Region::Arena, offset: 0, len };
    let calls = [1.0, 2.0].map(|value| Call::from(Fill { params: FillParams { len: len as u32, value }, y }));
    let memory = Memory { weights, network, arena };
    let recording = device.record(&calls, memory).unwrap().expect("the device records");
    let contents = |buffer: &Buffer| {
        let mut out = vec![0.0; buffer.len()];
        device.download(buffer, 0, &mut out).unwrap();
        out
    };
    assert!(contents(arena).iter().all(|value| value.is_nan()), "recording has run something");

    let replay = |memory: Memory<'_>| device.replay(&recording, memory, Threads::One).unwrap();
    assert!(!replay(Memory { weights, network, arena: other }));
    assert!(!replay(Memory { weights: network, network, arena }));
    assert!(!replay(Memory { weights, network: weights, arena }));
    assert!(contents(arena).iter().chain(&contents(other)).all(|value| value.is_nan()));
    assert!(replay(Memory { weights, network, arena }));
    assert_eq!(contents(arena), [2.0; 64]);
    assert!(contents(other).iter().all(|value| value.is_nan()));

    // Again, on what the arena holds now; and a shorter buffer is another one, wherever it lies.
    device.upload(arena, 0, &[7.0; 64]).unwrap();
    assert!(replay(Memory { weights, network, arena }));
    assert_eq!(contents(arena), [2.0; 64]);
    let mut short = device.allocate(len / 2).unwrap();
    assert!(!replay(Memory { weights, network, arena: &mut short }));
    assert!(contents(&short).iter().all(|value| value.is_nan()));
}
