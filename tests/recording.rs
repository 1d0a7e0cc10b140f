//! Lists of calls that a device makes ready once and runs again give the bits of plain runs, are made
//! once for each arena, and never run on other buffers than their own.
#![cfg(natv2_emulator)]

use natv2::device::emulated::ThreadOrder;
use natv2::device::{Buffer, Device, Emulator, Error, Gpu, Memory, Recording};
use natv2::engine::{Calibration, Cropped, Engine};
use natv2::ops::update::{Fill, FillParams};
use natv2::ops::{Call, Region, Slot, Threads};
use natv2::random::stream;
use natv2::space::walk::Exits;
use natv2::space::{Arch, ExitScaling, Family};
use natv2::supernet::{Blank, Supernet, Tensor};
use rand::RngExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

mod common;
use common::devices::memory_of;

fn emulator() -> Gpu<Emulator> {
    Gpu::new(Emulator::new(ThreadOrder::Forward).unwrap())
}

/// The emulator, which counts and takes few images at a time.
struct Counting {
    device: Gpu<Emulator>,
    records: bool,
    /// Lists run plainly, recorded, and replayed.
    counts: [AtomicUsize; 3],
}

impl Counting {
    fn new(records: bool) -> Counting {
        Counting { device: emulator(), records, counts: Default::default() }
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
    memory_of!(self, self.device);
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
        self.device.lanes()
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

#[test]
fn evaluation_and_recalibration_are_recorded_once_and_keep_their_bits() {
    let blank = Blank { family: Family::SE_B, width: 0.25, classes: 10, scaling: ExitScaling::Once };
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
        // Two chunks and two batches are too few.
        let few = Calibration::Batches { images: &train, count: 8, batch: 4 };
        device.take();
        let two = images(8, "test/two");
        engine.evaluate(&arch, exits, &Cropped::new(&two, &[]).unwrap(), few, Threads::One).unwrap();
        (recalibrated, stored, side_by_side, logits, device.take())
    };
    let (with, without) = (run(true), run(false));
    let results = |(correct, loss, _): (usize, u64, [usize; 3])| (correct, loss);
    assert_eq!(results(with.0), results(without.0));
    assert_eq!(results(with.1), results(without.1));
    assert_eq!(results(with.2), results(without.2));
    assert_eq!(results(with.0), results(with.2));
    assert_eq!(with.3, without.3);
    // The list that folds runs once.
    assert_eq!((with.0.2, without.0.2), ([1, 2, 3 + 5], [1 + 3 + 5, 0, 0]));
    assert_eq!((with.1.2, without.1.2), ([1, 1, 5], [1 + 5, 0, 0]));
    // Side by side each chunk may meet an arena of its own; every run is a replay all the same.
    let [plain, recorded, replayed] = with.2.2;
    assert!((plain, replayed) == (1, 3 + 5) && (2..=1 + 5).contains(&recorded), "{:?}", with.2.2);
    assert_eq!(with.4, [1 + 2 + 2, 0, 0]);
}

#[test]
fn a_recording_goes_with_its_buffers_alone() {
    let device = emulator();
    let len = 64;
    let mut buffers: Vec<Buffer> = (0..4).map(|_| device.allocate(len).unwrap()).collect();
    let [weights, network, arena, other] = &mut buffers[..] else { panic!("four buffers") };
    let y = Slot { region: Region::Arena, offset: 0, len };
    let calls = [1.0, 2.0].map(|value| Call::from(Fill { params: FillParams { len: len as u32, value }, y }));
    let memory = Memory { weights, network, arena };
    let recording = device.record(&calls, memory).unwrap().expect("the emulator records");
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
