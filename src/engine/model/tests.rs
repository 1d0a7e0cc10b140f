use super::floor::{blocks_within, prefixes};
use super::machine::{card_batches, card_chunk};
use super::*;
use crate::engine::plan::Target;
use crate::space::walk::{Exits, walk};
use crate::space::{Arch, Channels, ExitScaling, Family, cost};
use crate::supernet::{Layout, init::parts_of};

fn layout(family: Family, width: f64) -> Layout {
    Layout::new(Channels::new(width, ExitScaling::Once), 200, parts_of(family))
}

fn alone(arch: &Arch) -> Vec<(Arch, Exits)> {
    vec![(arch.clone(), Exits::single(arch))]
}

fn inference(layout: &Layout, networks: &[(Arch, Exits)], images: usize) -> EvaluationPlan {
    let workload = Workload { images, calibration: None };
    planned(layout, networks, workload, &|_| images, Precision::F32)
}

fn planned(
    layout: &Layout,
    networks: &[(Arch, Exits)],
    workload: Workload,
    chunk: &dyn Fn(usize) -> usize,
    precision: Precision,
) -> EvaluationPlan {
    evaluation(
        layout,
        networks,
        workload,
        Scheduling { lanes: 1, streams: 1, chunk, batches: &|_| 1 },
        precision,
    )
}

#[test]
fn a_plan_moves_what_its_unfused_operators_move() {
    for (family, nw) in [(Family::SE_B, 4), ("EE_D".parse().unwrap(), 4), ("SE_P".parse().unwrap(), 2)] {
        let layout = layout(family, 1.0);
        let arch = Arch { nw: [nw; 20], ..Arch::middle(family, 64, None) };
        let networks = alone(&arch);
        let floor = Floor::of(&layout, &prefixes(layout.channels(), &networks), ReadTo::Logits);
        let macs = cost(layout.channels(), &arch, Exits::single(&arch), 200).macs;
        assert_eq!(floor.macs, macs, "{family}");
        assert!(floor.fused < floor.unfused, "{family}");
        // With many images the maps outweigh weights, gates and scores.
        let images = 1000;
        let passes = inference(&layout, &networks, images).passes;
        let bytes = total(&passes).bytes as f64 / images as f64;
        // Squeeze-and-excitation does not read its map: the depthwise convolution leaves the means.
        let squeezed = walk(layout.channels(), &arch).filter(|l| l.branches.mbconv && l.squeeze.is_some());
        let pooled: usize = squeezed.map(|layer| layer.mid * layer.side_out * layer.side_out).sum();
        let unfused = 4.0 * (floor.unfused - pooled as u64) as f64;
        assert!((bytes / unfused - 1.0).abs() < 0.02, "{family}: {bytes} and {unfused}");
        // A product's operations are twice its multiply-accumulates; the rest is small.
        let flops = total(&passes).flops as f64 / images as f64 / macs as f64;
        assert!((2.0..2.3).contains(&flops), "{family}: {flops}");
    }
}

#[test]
fn recalibration_moves_more_and_ends_before_the_classifier() {
    let layout = layout(Family::SE_B, 1.0);
    let networks = alone(&Arch::middle(Family::SE_B, 64, None));
    let workload = Workload { images: 0, calibration: Some((5, 100)) };
    let recalibrated = planned(&layout, &networks, workload, &card_chunk, Precision::F32);
    let plain = inference(&layout, &networks, 500);
    let (more, less) = (total(&recalibrated.passes), total(&plain.passes));
    assert!(more.bytes > 2 * less.bytes && more.launches > 5 * less.launches, "{more:?} {less:?}");
    let tallies = tally(&recalibrated.passes);
    assert!(
        !tallies.contains_key("Score") && tallies["BnStatistics"].launches > tallies["BnStatistics"].calls
    );
    // All batches in one pass: as many bytes, in a fifth of the launches.
    let together = Scheduling { lanes: 1, streams: 1, chunk: &card_chunk, batches: &card_batches };
    let together = total(&evaluation(&layout, &networks, workload, together, Precision::F32).passes);
    assert!(together.launches < more.launches / 4 && together.bytes <= more.bytes, "{together:?}");
    // Statistics fold themselves; the 49 averages are folded at the end, in one launch.
    assert_eq!((tallies["BnFold"].calls, tallies["BnFold"].launches), (1, 1));
    assert_eq!(tallies["BnStatistics"].calls, 5 * 49);
    let trees = prefixes(layout.channels(), &networks);
    let (norms, logits) =
        (Floor::of(&layout, &trees, ReadTo::Norms), Floor::of(&layout, &trees, ReadTo::Logits));
    assert!(norms.macs < logits.macs && norms.weights < logits.weights && norms.fused < logits.fused);
}

#[test]
fn a_shared_prefix_is_counted_once() {
    let layout = layout(Family::SE_B, 1.0);
    let one = Arch::middle(Family::SE_B, 64, None);
    let mut other = one.clone();
    other.e[19 - 1] = 6;
    let (alone, both) =
        (alone(&one), vec![(one.clone(), Exits::single(&one)), (other.clone(), Exits::single(&other))]);
    let floor = |networks: &[(Arch, Exits)]| {
        Floor::of(&layout, &prefixes(layout.channels(), networks), ReadTo::Logits)
    };
    let (single, pair) = (floor(&alone), floor(&both));
    // They differ in the last layer: that and the head run twice.
    assert!(pair.blocks == single.blocks + 1 && pair.fused < single.fused + single.fused / 4);
    let (single, pair) = (inference(&layout, &alone, 100), inference(&layout, &both, 100));
    assert_eq!(pair.saving.executions, 2 * single.saving.executions);
    assert_eq!(pair.saving.distinct, single.saving.distinct + 2);
    assert!(total(&pair.passes).bytes < total(&single.passes).bytes * 3 / 2);
}

#[test]
fn time_follows_peaks_launches_and_caches() {
    let machine = Machine {
        name: "plain".into(),
        bandwidth: 1e9,
        f32_flops: 1e9,
        tensor_flops: Some(1e12),
        launch_seconds: 0.0,
        cache_bytes: 0,
        shared_bytes: None,
        multiprocessors: None,
        multiply_adds: None,
        lanes: 1,
    };
    let layout = layout(Family::SE_B, 0.25);
    let passes = inference(&layout, &alone(&Arch::middle(Family::SE_B, 48, None)), 10).passes;
    let all = total(&passes);
    let time = |machine: &Machine, precision| -> f64 {
        seconds(&passes, machine, precision).unwrap().values().map(SecondsBy::seconds).sum()
    };
    let plain = time(&machine, Precision::F32);
    // Between the longer of the two roofs and both behind one another.
    let (traffic, arithmetic) = (all.bytes as f64 / 1e9, all.flops as f64 / 1e9);
    assert!(plain >= traffic.max(arithmetic) && plain <= traffic + arithmetic);
    let launching = Machine { launch_seconds: 1e-3, ..machine.clone() };
    assert!((time(&launching, Precision::F32) - plain - 1e-3 * all.launches as f64).abs() < 1e-6);
    // Without arithmetic it is the bytes alone, in any precision.
    let fast = Machine { f32_flops: f64::INFINITY, tensor_flops: Some(f64::INFINITY), ..machine.clone() };
    assert!((time(&fast, Precision::F32) - traffic).abs() < 1e-9);
    assert_eq!(time(&fast, Precision::F32), time(&fast, Precision::Bf16));
    let cached = Machine { cache_bytes: 1 << 30, ..fast.clone() };
    assert!(time(&cached, Precision::F32) < 0.5 * time(&fast, Precision::F32));
    let without = Machine { tensor_flops: None, ..machine };
    assert!(seconds(&passes, &without, Precision::Bf16).is_none());
}

#[test]
fn a_plan_in_16_bits_moves_half_of_its_maps() {
    for (family, nw) in [(Family::SE_B, 4), ("EE_D".parse().unwrap(), 4), ("SE_P".parse().unwrap(), 2)] {
        let layout = layout(family, 1.0);
        let networks = alone(&Arch { nw: [nw; 20], ..Arch::middle(family, 64, None) });
        let bytes = |calibration, precision| {
            let workload = Workload { images: 1000, calibration };
            total(&planned(&layout, &networks, workload, &|_| 1000, precision).passes).bytes as f64
        };
        for calibration in [None, Some((5, 100))] {
            let ratio = bytes(calibration, Precision::Bf16) / bytes(calibration, Precision::F32);
            // Images, gates and what lies behind the pooled features stay f32, and parallel branches are
            // calls of their own.
            let most = if family.parallel { 0.6 } else { 0.58 };
            assert!((0.5..most).contains(&ratio), "{family}: {ratio}");
            assert_eq!(bytes(calibration, Precision::Bf16), bytes(calibration, Precision::F16));
        }
    }
}

#[test]
fn small_maps_fit_shared_memory() {
    let layout = layout(Family::SE_B, 1.0);
    let arch = Arch::largest(Family::SE_B, 64, None);
    let trees = prefixes(layout.channels(), &alone(&arch));
    // 32 x 32 pixels of 144 channels are the largest expanded map but the first layer's.
    assert_eq!(blocks_within(&trees, u64::MAX), 20);
    assert_eq!(blocks_within(&trees, 32 * 32 * 96), 20);
    assert_eq!(blocks_within(&trees, 32 * 32 * 96 - 1), 19);
    assert_eq!(blocks_within(&trees, 0), 0);
}

/// Passes of a middle network's inference in bf16 on a card, as it takes them.
fn fused(width: f64, images: usize, card: &Machine) -> Vec<Pass> {
    let layout = layout(Family::SE_B, width);
    let networks = alone(&Arch::middle(Family::SE_B, 64, None));
    let block_bytes = card.shared_bytes.unwrap() as u32;
    let target = Target { precision: Precision::Bf16, block_bytes };
    let taking = Scheduling { lanes: 1, streams: 1, chunk: &card_chunk, batches: &|_| 1 };
    evaluation(&layout, &networks, Workload { images, calibration: None }, taking, target).passes
}

fn sum(passes: &[Pass], card: &Machine) -> SecondsBy {
    seconds(passes, card, Precision::Bf16).unwrap().into_values().sum()
}

#[test]
fn mbconvs_take_the_cycles_that_their_blocks_are_picked_by() {
    let cards = Machine::cards();
    let h100 = &cards[1];
    let passes = fused(1.0, 1000, h100);
    let jobs: Vec<Job> =
        passes.iter().flat_map(|pass| &pass.items).flat_map(|item| item.jobs.clone()).collect();
    // The stem with its block, and three layers of each stage.
    assert_eq!(jobs.len(), 16);
    let (shared_bytes, all) = h100.blocks().unwrap();
    let cycles: u64 = jobs.iter().map(|job| job.estimate(shared_bytes, all).unwrap().cycles(132)).sum();
    let found = seconds(&passes, h100, Precision::Bf16).unwrap()["Mbconv"];
    let wanted = cycles as f64 / h100.clock().unwrap() + found.launches;
    assert!((found.seconds() / wanted - 1.0).abs() < 1e-12, "{found:?} and {wanted}");
    assert_eq!(found.launches, 16.0 * h100.launch_seconds);
    assert!((0.5e-3..0.7e-3).contains(&wanted), "{wanted}");
}

/// The longer of traffic and of all operations at the rate of the fastest unit that takes them, and the launches: what
/// times were once taken to be.
fn roofline(passes: &[Pass], card: &Machine, precision: Precision) -> f64 {
    let call = |pass: &Pass, item: &Item| {
        let cached = 4 * pass.arena_len as u64 <= card.cache_bytes;
        let bytes = if cached { item.outside } else { item.work.bytes };
        let fast = precision != Precision::F32 && item.tensor_flops > 0;
        let rate = if fast { card.tensor_flops.unwrap() } else { card.f32_flops };
        let once = (bytes as f64 / card.bandwidth).max(item.work.flops as f64 / rate);
        pass.runs as f64 * (once + item.launches as f64 * card.launch_seconds)
    };
    passes.iter().flat_map(|pass| pass.items.iter().map(move |item| call(pass, item))).sum()
}

#[test]
fn times_are_never_below_the_roofline_and_grow_with_the_work() {
    let cards = Machine::cards();
    for card in &cards {
        let mut last = 0.0;
        for images in [1, 10, 100, 500, 1000, 2000, 8000] {
            let passes = fused(1.0, images, card);
            let parts = sum(&passes, card);
            assert!(parts.seconds() >= roofline(&passes, card, Precision::Bf16), "{images} on {}", card.name);
            // Blocks are picked by the rates of an H100: on another card a few images may have worse ones than more.
            let picked = card.multiply_adds == cards[1].multiply_adds || images >= 100;
            assert!(!picked || parts.seconds() >= last, "{images} images on {}: {parts:?}", card.name);
            let all = [parts.traffic, parts.launches, parts.tensor, parts.fma, parts.occupancy];
            assert!(all.iter().all(|&part| part >= 0.0), "{parts:?}");
            last = parts.seconds();
            let layout = layout(Family::SE_B, 1.0);
            let passes = inference(&layout, &alone(&Arch::middle(Family::SE_B, 64, None)), images).passes;
            let parts: SecondsBy = seconds(&passes, card, Precision::F32).unwrap().into_values().sum();
            assert!(parts.seconds() >= roofline(&passes, card, Precision::F32), "{images} on {}", card.name);
            assert!(parts.tensor == 0.0 && parts.fma + parts.traffic > 0.0);
        }
        // Of wider networks too.
        assert!(sum(&fused(1.2, 1000, card), card).seconds() > sum(&fused(1.0, 1000, card), card).seconds());
    }
    // A card that is better in everything is quicker, and one of more bandwidth no slower.
    let [a100, h100, h200] = cards.try_into().unwrap();
    let time = |card: &Machine| sum(&fused(1.0, 1000, card), card).seconds();
    assert!(time(&a100) > time(&h100) && time(&h100) >= time(&h200));
}

#[test]
fn every_layer_has_what_bounds_it() {
    let cards = Machine::cards();
    let h100 = &cards[1];
    let layout = layout(Family::SE_B, 1.0);
    // Filters of 7, on the largest map with a stride: the first layer.
    let arch = Arch { ks: [7; 20], ..Arch::middle(Family::SE_B, 64, None) };
    let target = Target { precision: Precision::Bf16, block_bytes: h100.shared_bytes.unwrap() as u32 };
    let taking = Scheduling { lanes: 1, streams: 1, chunk: &card_chunk, batches: &|_| 1 };
    let workload = Workload { images: 1000, calibration: None };
    let passes = evaluation(&layout, &alone(&arch), workload, taking, target).passes;
    let layers = layers(&passes, h100);
    assert_eq!(layers.len(), 15);
    assert_eq!(layers[0].bound(), Bound::Fma, "{:?}", layers[0]);
    // With the stem they are all MBConvs that there are.
    let all = seconds(&passes, h100, Precision::Bf16).unwrap()["Mbconv"].seconds();
    let elastic: f64 = layers.iter().map(SecondsBy::seconds).sum();
    assert!(elastic < all && elastic > 0.8 * all, "{elastic} of {all}");
    // A single image is too little for a card: what it takes are launches, and waits.
    let few = evaluation(&layout, &alone(&arch), Workload { images: 1, calibration: None }, taking, target);
    let parts: SecondsBy = seconds(&few.passes, h100, Precision::Bf16).unwrap().into_values().sum();
    assert!(parts.launches + parts.occupancy > 0.9 * parts.seconds(), "{parts:?}");
    // On larger images, pairs.
    let large = Arch { r: 160, ..arch };
    let a100 = &cards[0];
    let target = Target { block_bytes: a100.shared_bytes.unwrap() as u32, ..target };
    let passes = evaluation(&layout, &alone(&large), workload, taking, target).passes;
    assert!(tally(&passes).contains_key("ExpandDepthwise"));
    assert_eq!(super::layers(&passes, a100).len(), 15);
}

#[test]
fn filters_are_a_floor_of_their_own() {
    let h100 = &Machine::cards()[1];
    let layout = layout(Family::SE_B, 1.0);
    let networks = alone(&Arch::middle(Family::SE_B, 64, None));
    let floor = Floor::of(&layout, &prefixes(layout.channels(), &networks), ReadTo::Logits);
    assert!(floor.filter_macs > floor.macs / 20 && floor.filter_macs < floor.macs / 4, "{floor:?}");
    let seconds = |least, precision| floor_seconds(least, h100, precision).unwrap();
    let (flops, filter_flops) = (2 * floor.macs, 2 * floor.filter_macs);
    let least = LeastWork { bytes: 0, flops, filter_flops };
    assert_eq!(seconds(least, Precision::Bf16), filter_flops as f64 / h100.f32_flops);
    let products = LeastWork { filter_flops: 0, ..least };
    assert_eq!(seconds(products, Precision::Bf16), flops as f64 / h100.tensor_flops.unwrap());
    assert_eq!(seconds(least, Precision::F32), flops as f64 / h100.f32_flops);
    let bytes = LeastWork { bytes: 1 << 40, ..least };
    assert_eq!(seconds(bytes, Precision::Bf16), (1u64 << 40) as f64 / h100.bandwidth);
}

#[test]
fn calls_that_are_launched_together_share_waves() {
    let cards = Machine::cards();
    let h100 = &cards[1];
    let layout = layout(Family::SE_B, 1.0);
    // Two networks that differ from the first layer on, with few images: neither fills the card alone.
    let one = Arch::middle(Family::SE_B, 64, None);
    let other = Arch { e: [3; 20], ..one.clone() };
    let both = vec![(one.clone(), Exits::single(&one)), (other.clone(), Exits::single(&other))];
    let target = Target { precision: Precision::Bf16, block_bytes: h100.shared_bytes.unwrap() as u32 };
    let taking = Scheduling { lanes: 1, streams: 1, chunk: &card_chunk, batches: &|_| 1 };
    let mbconvs = |networks: &[(Arch, Exits)]| -> f64 {
        let workload = Workload { images: 50, calibration: None };
        let passes = evaluation(&layout, networks, workload, taking, target).passes;
        let all = seconds(&passes, h100, Precision::Bf16).unwrap();
        ["Mbconv", "MbconvGroup"].iter().filter_map(|name| all.get(name)).map(SecondsBy::seconds).sum()
    };
    let (together, apart) = (mbconvs(&both), mbconvs(&alone(&one)) + mbconvs(&alone(&other)));
    assert!(together < apart, "{together} and {apart}");
}
