//! Recalibration of MBConvs in passes, on the host in the place of a device whose blocks hold images: the
//! statistics are those of the operators one by one, and those of many networks together are each one's own.

use natv2::device::{Cpu, Device, Error, Memory};
use natv2::engine::plan::{Mode, Program, Reads, Target, lower_tree};
use natv2::engine::tree::Tree;
use natv2::engine::{Calibration, Cropped, Engine, Precision};
use natv2::ops::{Call, Threads};
use natv2::random::stream;
use natv2::space::walk::Exits;
use natv2::space::{Arch, Family};
use natv2::supernet::{Blank, Supernet, Tensor};
use rand::RngExt;
use std::sync::Arc;

use crate::common::devices::memory_of;

/// The host, with blocks of so many bytes.
struct Blocks(u32);

/// Blocks that hold every image here, and blocks that do not: some MBConvs have their last pass in two, and their
/// others in bands.
const LARGE: u32 = 227 << 10;
const SMALL: u32 = 27 << 9;

impl Device for Blocks {
    fn describe(&self) -> String {
        Cpu.describe()
    }
    memory_of!(self, Cpu);
    fn run(&self, calls: &[Call], memory: Memory<'_>, threads: Threads) -> Result<(), Error> {
        Cpu.run(calls, memory, threads)
    }
    fn lanes(&self) -> usize {
        Cpu.lanes()
    }
    fn chunk(&self, arena: usize) -> usize {
        Cpu.chunk(arena)
    }
    fn block_bytes(&self) -> u32 {
        self.0
    }
}

const FAMILIES: [Family; 2] = [Family::SE_B, Family { early_exits: true, dense: true, parallel: true }];

fn images(count: usize, purpose: &str) -> (Tensor, Vec<u32>) {
    let mut random = stream(6, purpose, 0, 0);
    let data = (0..count * 3 * 32 * 32).map(|_| random.random_range(-2.0f32..2.0)).collect();
    let labels = (0..count).map(|_| random.random_range(0..10)).collect();
    (Tensor { shape: vec![count, 3, 32, 32], data }, labels)
}

fn supernet(family: Family) -> Arc<Supernet> {
    let blank = Blank::new(family, 0.25, 10);
    Arc::new(Supernet::random(&blank, 5).unwrap())
}

/// Networks that differ in the first layer, in the second and further on.
fn networks(family: Family) -> Vec<(Arch, Exits)> {
    let first = Arch { ks: [3; 20], e: [3; 20], d: [2; 5], ..Arch::largest(family, 32, None) };
    let change = |(at, e, k, d): (usize, u8, u8, u8)| {
        let mut arch = first.clone();
        (arch.e[at], arch.ks[at], arch.d[4]) = (e, k, d);
        arch
    };
    let changes = [(0, 4, 3, 2), (0, 6, 3, 3), (0, 3, 7, 2), (1, 4, 3, 4), (4, 6, 5, 2)];
    let archs = std::iter::once(first.clone()).chain(changes.map(change));
    archs.map(|arch| (arch.clone(), Exits::up_to(&arch))).collect()
}

#[test]
fn statistics_are_those_of_the_operators_one_by_one() {
    let (train, _) = images(15, "passes/train");
    let train = Cropped::new(&train, &[]).unwrap();
    for family in FAMILIES {
        let net = supernet(family);
        let arch = Arch { ks: [5; 20], d: [2; 5], ..Arch::largest(family, 32, None) };
        let of = |device: Arc<dyn Device>, precision: Precision| {
            let engine = Engine::in_precision(device, net.clone(), precision).unwrap();
            let calibration = Calibration::Batches { images: &train, count: 15, batch: 5 };
            engine.recalibrated(&arch, Exits::up_to(&arch), calibration).unwrap().packed
        };
        let distance = |a: &[f32], b: &[f32]| -> f64 {
            let changed = (0..net.packed.len()).filter(|&i| b[i] != net.packed[i] || a[i] != b[i]);
            let parts = changed.map(|i| (f64::from(a[i] - b[i]).powi(2), f64::from(b[i]).powi(2)));
            let (difference, size) = parts.fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
            assert!(size > 1000.0, "{family}: {size}");
            difference / size
        };
        let exact = of(Arc::new(Cpu), Precision::F32);
        for (precision, block) in
            [(Precision::F16, LARGE), (Precision::Bf16, LARGE), (Precision::Bf16, SMALL)]
        {
            let (passes, apart) = (of(Arc::new(Blocks(block)), precision), of(Arc::new(Cpu), precision));
            let [theirs, own] = [&apart, &passes].map(|found| distance(found, &exact));
            let between = distance(&passes, &apart);
            println!("{family} {precision} {block}: {between:e} between, {own:e} and {theirs:e} from f32");
            // Sums in another order turn some roundings, which the layers behind multiply.
            assert!(own < 1.2 * theirs && between < theirs, "{between:e} {own:e} {theirs:e}");
        }
    }
}

#[test]
fn networks_together_leave_what_each_leaves_alone() {
    let ((train, _), (test, labels)) = (images(12, "passes/train"), images(5, "passes/test"));
    let (train, test) = (Cropped::new(&train, &[]).unwrap(), Cropped::new(&test, &labels).unwrap());
    for family in FAMILIES {
        let networks = networks(family);
        for block in [LARGE, SMALL] {
            let device = Arc::new(Blocks(block));
            let engine = Engine::in_precision(device, supernet(family), Precision::Bf16).unwrap();
            let calibration = Calibration::Batches { images: &train, count: 12, batch: 4 };
            let found = engine
                .evaluate_population(&networks, &test, calibration, &|| false, &|_, _| ())
                .unwrap()
                .unwrap();
            for ((arch, exits), found) in networks.iter().zip(&found.results) {
                let alone = engine.evaluate(arch, *exits, &test, calibration, Threads::One).unwrap();
                assert_eq!(&alone, found, "{family}");
            }
        }
    }
}

#[test]
fn a_tree_has_few_calls_and_no_expanded_map() {
    let family = Family::SE_B;
    let (net, networks) = (supernet(family), networks(family));
    let members: Vec<(&Arch, Exits)> = networks.iter().map(|(arch, exits)| (arch, *exits)).collect();
    let tree = Tree::new(net.channels(), &members);
    let mode = Mode::Recalibration { batches: 4, at_once: 4 };
    let lowered = |block_bytes: u32| {
        let target = Target { precision: Precision::Bf16, block_bytes };
        lower_tree(&net.layout, &tree, 4 * 8, mode, Reads::Scores, target)
    };
    let ((passes, section), (apart, section_apart)) = (lowered(LARGE), lowered(0));
    assert_eq!(section.len, section_apart.len);
    let count_in = |program: &Program, name| program.calls.iter().filter(|call| call.name() == name).count();
    let count = |name| count_in(&passes, name);
    // The stem alone is an operator at a time.
    assert_eq!([count("Depthwise"), count("PointwiseHalf"), count("BnStatistics")], [0, 0, 1]);
    // With small blocks some have the projection and its batch norm apart, and a few all.
    let small = lowered(SMALL).0;
    let [pairs, apart_there] = ["ExpandDepthwise", "Depthwise"].map(|name| count_in(&small, name));
    assert!(pairs > 20 && 2 * apart_there < pairs, "{pairs} {apart_there}");
    assert!(count_in(&small, "MbconvPass") + count_in(&small, "MbconvPassGroup") > 2 * pairs);
    assert!(count_in(&small, "PointwiseHalf") >= pairs && count_in(&small, "SqueezeExcite") > 0);
    assert!(small.work().bytes < apart.work().bytes);
    // Twelve depths of layers, three passes each; two of the first block, and heads at three depths.
    let passes_of = [count("MbconvPassGroup"), count("MbconvPass")];
    assert_eq!(passes_of.iter().sum::<usize>(), 12 * 3 + 2 + 3, "{passes_of:?}");
    assert!(4 * passes.calls.len() < apart.calls.len(), "{} {}", passes.calls.len(), apart.calls.len());
    assert!(2 * passes.work().bytes < apart.work().bytes);
}
