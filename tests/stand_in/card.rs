//! A card on the stand-in driver gives what the emulator gives, bit for bit: operators and training (`populations` has
//! the rest). And the host's side of it: copies through staging, times, memory that is taken again, a card that is full.
#![cfg(all(natv2_emulator, natv2_fatbin))]

use crate::common::stand_in::alone;
use natv2::bench::kernels::{arena_after, check};
use natv2::data::Source;
use natv2::device::{self, Device, Error, Memory};
use natv2::ops::halves::Format;
use natv2::ops::{Threads, cases};
use natv2::random::stream;
use natv2::space::{Arch, Family};
use natv2::supernet::{Blank, Supernet, Tensor};
use natv2::train::{Batch, Decays, Optimiser, Rule, Settings, Student, Teaching, Trainer, Weighting};
use rand::RngExt;
use std::sync::Arc;

/// 1 GiB.
const MEMORY: [(&str, &str); 1] = [("MEMORY", "1073741824")];

fn card() -> Arc<dyn Device> {
    device::open("cuda").expect("the card")
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

#[test]
fn kernels_give_what_they_give_on_the_emulator_one_by_one_and_as_graphs() {
    let Some(driver) = alone!(&MEMORY) else { return };
    let (card, emulated) = (card(), device::open("emulated").expect("the emulator"));
    assert!(card.describe().contains("stand-in driver"), "{}", card.describe());
    let mut names = Vec::new();
    let all = cases::network(1, 32).into_iter().chain(cases::network_in(Format::Bf16, 1, 32));
    for case in all.filter(|case| case.arena < 1 << 17) {
        if names.contains(&case.call.name()) {
            continue;
        }
        names.push(case.call.name());
        let found = arena_after(&*card, &case, Threads::All).expect("the card runs it");
        let wanted = arena_after(&*emulated, &case, Threads::All).expect("the emulator runs it");
        assert_eq!(bits(&found), bits(&wanted), "{} {}", case.call.name(), case.name);

        let (weights, before) = case.operands(1);
        let mut w = card.allocate(case.weights).expect("weights");
        let mut arena = card.allocate(case.arena).expect("arena");
        card.upload(&mut w, 0, &weights).expect("upload");
        card.upload(&mut arena, 0, &before).expect("upload");
        let mut memory = Memory { weights: &w, network: &w, arena: &mut arena };
        let calls = std::slice::from_ref(&case.call);
        let recording = card.record(calls, memory.again()).expect("record").expect("a graph");
        assert!(card.replay(&recording, memory, Threads::All).expect("replay"));
        let mut found = vec![0.0; case.arena];
        card.download(&arena, 0, &mut found).expect("download");
        assert_eq!(bits(&found), bits(&wanted), "{} {} as a graph", case.call.name(), case.name);
    }
    assert!(names.len() > 30 && driver.count("cuGraphLaunch") > 30, "{names:?}");
    // Whole MBConvs have blocks that large; depthwise filters do not.
    assert!(names.contains(&"Mbconv") && driver.count("carve-out of 100") > 0);
    assert!(driver.count("carve-out of 100") < driver.count("cuModuleGetFunction"));
}

/// Steps of training, at random sizes of students, give the weights that they give on the emulator.
#[test]
fn training_gives_the_weights_that_it_gives_on_the_emulator() {
    let Some(_driver) = alone!(&MEMORY) else { return };
    let blank = Blank::new(Family::SE_B, 0.1, 10);
    let optimiser = Optimiser {
        rule: Rule::Sgd { momentum: 0.9, nesterov: true },
        decay: 3e-5,
        decays: Decays::Weights,
        clip: Some(1.0),
    };
    let trained = |device: Arc<dyn Device>| {
        let supernet = Supernet::random(&blank, 1).expect("a super-network");
        let mut trainer = Trainer::new(device, supernet, optimiser).expect("a trainer");
        for step in 0..4 {
            let (images, labels) = images(8, "steps");
            let pixels: Vec<f32> = images.data;
            let students: Vec<Student> = (0..2)
                .map(|index| {
                    let mut arch = Arch { d: [2; 5], ..Arch::largest(Family::SE_B, 32, None) };
                    (arch.ks, arch.e) = ([3; 20], [3; 20]);
                    arch.ks[4 * ((step as usize + index) % 5)] = 5;
                    Student { arch, weighting: Weighting::Own }
                })
                .collect();
            let batch = Batch { images: Source::Made(&pixels), labels: &labels, side: 32 };
            let settings =
                Settings { rate: 0.05, smoothing: 0.1, kd_ratio: 0.0, dropout: 0.1, seed: 1, epoch: 0, step };
            trainer.step(&batch, &students, Teaching::Labels, &settings).expect("a step");
        }
        bits(&trainer.weights().expect("weights").packed)
    };
    let wanted = trained(device::open("emulated").expect("the emulator"));
    assert!(trained(card()) == wanted, "the same weights");
}

/// Images of noise, 32 pixels wide.
fn images(count: usize, purpose: &str) -> (Tensor, Vec<u32>) {
    let mut random = stream(5, purpose, 0, 0);
    let data = (0..count * 3 * 32 * 32).map(|_| random.random::<f32>() * 4.0 - 2.0).collect();
    let labels = (0..count as u32).map(|index| index % 10).collect();
    (Tensor { shape: vec![count, 3, 32, 32], data }, labels)
}

#[test]
fn copies_larger_than_their_staging_arrive_whole() {
    let Some(_driver) = alone!(&MEMORY) else { return };
    let card = card();
    // Not a multiple of what goes at a time, and begun inside the buffer.
    let numbers: Vec<f32> = (0..5_000_003).map(|i| (i % 8191) as f32).collect();
    let mut buffer = card.allocate(numbers.len() + 8).expect("a buffer");
    card.upload(&mut buffer, 5, &numbers).expect("upload");
    let mut found = vec![0.0; numbers.len() + 8];
    card.download(&buffer, 0, &mut found).expect("download");
    assert!(found[5..numbers.len() + 5] == numbers[..]);
    assert!(found[..5].iter().chain(&found[numbers.len() + 5..]).all(|number| number.is_nan()));
}

#[test]
fn times_begin_while_the_card_is_busy() {
    let Some(driver) = alone!(&MEMORY) else { return };
    let card = card();
    let case = cases::network(1, 32).into_iter().find(|case| case.call.name() == "Pointwise").expect("one");
    let (weights, arena) = (card.allocate(case.weights), card.allocate(case.arena));
    let (weights, mut arena) = (weights.expect("weights"), arena.expect("arena"));
    let mut memory = Memory { weights: &weights, network: &weights, arena: &mut arena };
    let calls = std::slice::from_ref(&case.call);
    let idle = "an event on an idle stream";
    for flush in [false, true] {
        let (times, count) = driver
            .counted(idle, || card.time_each(calls, memory.again(), Threads::All, 3, flush).expect("times"));
        assert_eq!((times.len(), count), (3, 0));
    }
    assert_eq!(driver.counted(idle, || card.time(calls, memory.again(), Threads::All)).1, 0);
    assert_eq!(driver.counted(idle, || card.time_many(calls, memory, Threads::All, 9)).1, 0);
    // The check sees what it is about.
    card.synchronise().expect("done");
    assert_eq!(driver.counted(idle, || card.stamp().expect("a stamp")).1, 1);
}

#[test]
fn memory_is_taken_again_without_stopping_the_card_and_never_too_early() {
    let Some(driver) = alone!(&MEMORY) else { return };
    let card = card();
    let other = card.with_own_stream().expect("another stream").expect("one");
    let case = cases::network(1, 32).into_iter().find(|case| case.call.name() == "Pointwise").expect("one");
    let run = |device: &dyn Device| check(device, &case).expect("it runs").expect("all is written") < 1e-10;
    assert!(run(&*card) && run(&*other));
    let before = (driver.count("cuMemAlloc_v2"), driver.count("cuMemFree_v2"));
    for _ in 0..50 {
        assert!(run(&*card) && run(&*other));
    }
    let after = (driver.count("cuMemAlloc_v2"), driver.count("cuMemFree_v2"));
    assert_eq!(after.1, before.1, "nothing is freed");
    assert!(after.0 <= before.0 + 4, "{} allocations for 200 buffers", after.0 - before.0);

    // One stream has a buffer in use when it is dropped: the other gets memory elsewhere, and the same later.
    let len = 3 << 18;
    let write = |device: &dyn Device, value: f32| {
        let mut buffer = device.allocate(len).expect("a buffer");
        device.upload(&mut buffer, 0, &vec![value; len]).expect("upload");
        buffer
    };
    let allocate = |device: &dyn Device| device.allocate(len).expect("a buffer");
    drop(write(&*card, 1.0));
    other.synchronise().expect("done");
    let ((), count) = driver.counted("cuMemAlloc_v2", || drop(allocate(&*card)));
    assert_eq!(count, 0, "what comes later on the stream comes later");
    other.synchronise().expect("done");
    drop(write(&*card, 2.0));
    let (_elsewhere, count) = driver.counted("cuMemAlloc_v2", || allocate(&*other));
    assert_eq!(count, 1, "the first may still be written");
    card.synchronise().expect("done");
    other.synchronise().expect("done");
    let (_held, count) = driver.counted("cuMemAlloc_v2", || allocate(&*other));
    assert_eq!(count, 0, "all have come by");
}

/// One stream makes room for a data set, and another is the first to copy images there.
#[test]
fn images_that_another_stream_copies_stay_where_they_are() {
    let Some(_driver) = alone!(&MEMORY) else { return };
    let card = card();
    let other = card.with_own_stream().expect("another stream").expect("one");
    let pixels: Arc<Vec<u8>> = Arc::new((0..3 * 32 * 32 * 3).map(|value| (value % 251) as u8).collect());
    let residents = card.residents().expect("room for data sets");
    let pages = residents.pages(&*card, &pixels, 3 * 32 * 32).expect("no failure").expect("room");
    let images = |device: &dyn Device| {
        let copied = pages.with(device, &pixels, &[0, 1, 2], |stored| {
            let mut found = vec![0.0; pages.len()];
            device.download(stored, 0, &mut found).map(|()| bits(&found))
        });
        copied.expect("they are copied").expect("download")
    };
    let found = images(&*other);
    card.synchronise().expect("done");
    assert!(images(&*other) == found, "something came behind them");
    assert!(found.iter().all(|&pixel| pixel != device::emulated::POISON), "none is missing");
}

#[test]
fn a_full_card_says_so_and_first_gives_back_what_nobody_holds() {
    let Some(driver) = alone!(&MEMORY) else { return };
    let card = card();
    let room = |bytes: usize| driver.set_memory(driver.used() + bytes);
    let mebibyte = (1 << 20) / 4;
    room(8 << 20);
    let full = card.allocate(9 * mebibyte).map(drop).expect_err("no room");
    assert!(
        matches!(&full, Error::OutOfMemory { device, bytes } if device == "cuda:0" && *bytes == 9 << 20),
        "{full}"
    );
    let (held, kept) = (card.allocate(3 * mebibyte).expect("3"), card.allocate(4 * mebibyte).expect("4"));
    drop(kept);
    // 4 are kept, 1 is free.
    let buffer = card.allocate(5 * mebibyte).expect("what was kept is given back");
    assert!(matches!(card.allocate(mebibyte).map(drop), Err(Error::OutOfMemory { .. })));
    // The card goes on.
    let mut number = [0.0];
    card.download(&buffer, 5 * mebibyte - 1, &mut number).expect("download");
    assert!(number[0].is_nan());
    drop((held, buffer));
    assert!(card.allocate(8 * mebibyte).is_ok());
}
