//! Recalibration of several batches in one pass leaves the bits that they leave one after the other,
//! also where the last pass has fewer.

use natv2::device::{Device, Error, Memory};
use natv2::engine::{Calibration, Cropped, Engine, Precision};
use natv2::ops::{Call, Threads};
use natv2::random::stream;
use natv2::space::walk::Exits;
use natv2::space::{Arch, Family};
use natv2::supernet::{Blank, Supernet, Tensor};
use rand::RngExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::devices::memory_of;

/// A device that takes so many batches at once.
struct AtOnce {
    device: Arc<dyn Device>,
    batches: usize,
    /// Lists of calls that were run.
    runs: AtomicUsize,
}

impl Device for AtOnce {
    fn describe(&self) -> String {
        self.device.describe()
    }
    memory_of!(self, self.device);
    fn run(&self, calls: &[Call], memory: Memory<'_>, threads: Threads) -> Result<(), Error> {
        self.runs.fetch_add(1, Ordering::Relaxed);
        self.device.run(calls, memory, threads)
    }
    fn lanes(&self) -> usize {
        1
    }
    fn batches(&self, _: usize) -> usize {
        self.batches
    }
    fn chunk(&self, _: usize) -> usize {
        8
    }
}

/// The bits of a network's logits behind five batches of three images, and how many lists were run.
fn logits(
    device: Arc<dyn Device>,
    supernet: &Arc<Supernet>,
    precision: Precision,
    batches: usize,
) -> (Vec<u32>, usize) {
    let mut random = stream(4, "batches/images", 0, 0);
    let mut tensor = |count: usize| Tensor {
        shape: vec![count, 3, 32, 32],
        data: (0..count * 3 * 32 * 32).map(|_| random.random_range(-2.0f32..2.0)).collect(),
    };
    let (train, test) = (tensor(15), tensor(4));
    let (train, test) = (Cropped::new(&train, &[]).unwrap(), Cropped::new(&test, &[]).unwrap());
    let largest = Arch::largest(supernet.family, 32, None);
    let arch = Arch { ks: [3; 20], d: [2; 5], ..largest };
    let device = Arc::new(AtOnce { device, batches, runs: AtomicUsize::new(0) });
    let engine = Engine::in_precision(device.clone(), supernet.clone(), precision).unwrap();
    let calibration = Calibration::Batches { images: &train, count: 15, batch: 3 };
    device.runs.store(0, Ordering::Relaxed);
    let logits = engine.logits(&arch, Exits::single(&arch), &test, calibration).unwrap();
    let bits = logits.concat().into_iter().map(f32::to_bits).collect();
    (bits, device.runs.load(Ordering::Relaxed))
}

#[test]
fn engine_batches_at_once_leave_the_bits_of_batches_one_by_one() {
    crate::devices().iter().for_each(one_by_one_and_at_once);
}

fn one_by_one_and_at_once(device: &Arc<dyn Device>) {
    for family in [Family::SE_B, Family { early_exits: true, dense: true, parallel: true }] {
        let blank = Blank::new(family, 0.25, 10);
        let supernet = Arc::new(Supernet::random(&blank, 5).unwrap());
        for precision in [Precision::F32, Precision::Bf16] {
            let of = |batches: usize| logits(device.clone(), &supernet, precision, batches);
            let (one_by_one, runs) = of(1);
            // Zeros, recalibration's runs, its folding, and inference.
            assert_eq!(runs, 5 + 3);
            for (batches, runs) in [(5, 1), (2, 3), (100, 1)] {
                let found = of(batches);
                let name = device.describe();
                assert!(found.0 == one_by_one, "{family} {precision}, {batches} at once, {name}");
                assert_eq!(found.1, runs + 3, "{batches} at once");
            }
        }
    }
}
