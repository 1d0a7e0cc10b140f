//! Images that the device makes out of stored pixels are those of the host, to the bit: in the
//! operators, in training and in evaluation, whether the data set lives on the device or is sent with
//! each batch. And little is sent.

use natv2::data::augment::{Augmentation, Crop, Drawn, Operation, Policy, Preset, Renderer, Window};
use natv2::data::loader::{self, Loader, Position};
use natv2::data::{Dataset, Facts, Pixels, Source, Spec, Split};
use natv2::device::{Device, Memory};
use natv2::engine::SplitImages;
use natv2::ops::augment::{self, Augment, describe};
use natv2::ops::preprocess::{self, Preprocess, pack, window};
use natv2::ops::{Call, Region, Slot, Threads};
use natv2::random::stream;
use rand::RngExt;
use std::sync::Arc;

/// Random images of 32 x 32 in CIFAR's format, some dark, some of few colours.
fn cifar(images: usize) -> Arc<Dataset> {
    let folder = tempfile::tempdir().unwrap();
    let mut random = stream(0, "test/images", 0, 0);
    let mut bytes: Vec<u8> = (0..3073 * images).map(|_| random.random()).collect();
    for (number, record) in bytes.chunks_exact_mut(3073).enumerate() {
        record[0] %= 10;
        record[1..].iter_mut().for_each(|value| match number % 4 {
            1 => *value = 40 + *value / 8,
            2 => *value = *value / 64 * 64,
            3 => *value = 17,
            _ => (),
        });
    }
    std::fs::write(folder.path().join("data_batch_1.bin"), &bytes[..3073 * (images - 20)]).unwrap();
    std::fs::write(folder.path().join("test_batch.bin"), &bytes[3073 * (images - 20)..]).unwrap();
    Arc::new(natv2::data::open(&Spec::new("cifar10", Some(folder.path()))).unwrap())
}

/// What a call writes to `y`, with `weights` and `network` as they are given.
fn run(
    device: &dyn Device,
    call: impl Into<Call>,
    weights: &[f32],
    network: &[f32],
    (arena, y): (usize, Slot),
) -> Vec<f32> {
    let holding = |values: &[f32]| {
        let mut buffer = device.allocate(values.len()).unwrap();
        device.upload(&mut buffer, 0, values).unwrap();
        buffer
    };
    let (weights, network) = (holding(weights), holding(network));
    let mut arena = device.allocate(arena).unwrap();
    let memory = Memory { weights: &weights, network: &network, arena: &mut arena };
    device.run(&[call.into()], memory, Threads::All).unwrap();
    let mut out = vec![0.0; y.len];
    device.download(&arena, y.offset, &mut out).unwrap();
    out
}

fn network(offset: usize, len: usize) -> Slot {
    Slot { region: Region::Network, offset, len }
}

fn arena(offset: usize, len: usize) -> Slot {
    Slot { region: Region::Arena, offset, len }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Every operation with many parameters, and pairs of them as the policy draws them.
fn programs(side: usize) -> Vec<[Option<Operation>; 2]> {
    use Operation::*;
    let mut random = stream(3, "test/operations", side as u64, 0);
    let mut all: Vec<[Option<Operation>; 2]> = vec![[None, None]];
    for _ in 0..12 {
        let share = random.random_range(-1.0..1.0);
        let pixels = random.random_range(-(side as i32) - 2..side as i32 + 2);
        let factor = random.random_range(0.0f32..2.0);
        for operation in [
            ShearX(share),
            ShearY(share),
            TranslateX(pixels),
            TranslateY(pixels),
            Rotate(180.0 * share),
            AutoContrast,
            Equalize,
            Invert,
            Solarize(random.random_range(0..=256)),
            Posterize(random.random_range(0..10)),
            Contrast(factor),
            Color(factor),
            Brightness(factor),
            Sharpness(factor),
        ] {
            all.push(if random.random() { [Some(operation), None] } else { [None, Some(operation)] });
        }
    }
    let policy = Augmentation { policy: Some(Policy::Cifar), ..Augmentation::default() };
    all.extend((0..60).map(|position| policy.draw(side, 1, 0, position).operations));
    all
}

#[test]
fn engine_operations_are_those_of_the_host_to_the_bit() {
    check_operations(&crate::devices_in_both_orders());
}

#[test]
fn engine_windows_are_those_of_the_host_to_the_bit() {
    check_windows(&crate::devices_in_both_orders());
}

fn check_operations(devices: &[Arc<dyn Device>]) {
    let definitions = natv2::device::open("reference-f64").unwrap();
    for side in [1usize, 2, 7, 32, 45] {
        let mut random = stream(4, "test/pixels", side as u64, 0);
        let stored = 9;
        let pixels: Vec<u8> = (0..stored * side * side * 3)
            .map(|i| random.random::<u8>() >> (i / (side * side * 3) % 5))
            .collect();
        let programs = programs(side);
        let (images, len) = (programs.len(), programs.len() * side * side);
        let mut elements: Vec<f32> = (0..images).map(|i| (i * 5 % stored) as f32).collect();
        programs.iter().for_each(|pair| describe(pair, side, &mut elements));
        let call = Augment {
            params: augment::Params { images: images as u32, side: side as u32 },
            x: Slot::weights(0, stored * side * side),
            indices: network(0, images),
            operations: network(images, elements.len() - images),
            scratch: arena(0, len),
            y: arena(len, len),
        };
        let on =
            |device: &dyn Device| run(device, call.clone(), &pack(&pixels), &elements, (2 * len, call.y));
        let wanted = on(&*definitions);
        assert!(wanted.iter().all(|pixel| pixel.fract() == 0.0 && (0.0..16_777_216.0).contains(pixel)));
        for device in devices {
            let found = on(&**device);
            for (i, pair) in programs.iter().enumerate() {
                let own = i * side * side..(i + 1) * side * side;
                assert_eq!(found[own.clone()], wanted[own], "{} {side}: {pair:?}", device.describe());
            }
        }
    }
}

fn check_windows(devices: &[Arc<dyn Device>]) {
    let definitions = natv2::device::open("reference-f64").unwrap();
    let data = cifar(60);
    let pixels = Facts::of("cifar10").unwrap().pixels;
    let augmentations = [
        Preset::None.augmentation(),
        Preset::CifarClassic.augmentation(),
        Augmentation {
            pad: 9,
            crop: Some(Crop { scale: [0.01, 1.0], ratio: [0.3, 3.0] }),
            flip: true,
            policy: None,
        },
    ];
    let mut drawn: Vec<Drawn> = Vec::new();
    for augmentation in &augmentations {
        drawn.extend((0..20).map(|position| augmentation.draw(32, 2, 0, position)));
    }
    // Out of sight, and a pixel alone.
    for window in [(40, 0, 32, 32), (-32, -32, 32, 32), (31, 31, 1, 1), (-1, 5, 1, 40)] {
        let (left, top, width, height) = window;
        drawn.push(Drawn { window: Window { left, top, width, height }, flip: true, ..Drawn::plain(32) });
    }
    let images = drawn.len();
    let indices: Vec<u32> = (0..images as u32).map(|i| i * 7 % 60).collect();
    let mut elements: Vec<f32> = indices.iter().map(|&index| index as f32).collect();
    elements.extend(drawn.iter().flat_map(window));
    let mut renderer = Renderer::new(&data, 64, pixels.mean, pixels.std, 32).unwrap();
    for r in [32, 41, 64] {
        let y = arena(0, images * r * r * 3);
        let call = Preprocess {
            params: preprocess::Params {
                images: images as u32,
                side_in: 32,
                side_out: r as u32,
                first: 0,
                scale: 255.0,
                mean: pixels.mean,
                std: pixels.std,
            },
            x: Slot::weights(0, data.len() * 32 * 32),
            indices: Some(network(0, images)),
            windows: Some(network(images, 5 * images)),
            y,
        };
        let mut wanted = vec![f32::NAN; y.len];
        for ((out, &index), drawn) in wanted.chunks_exact_mut(r * r * 3).zip(&indices).zip(&drawn) {
            renderer.render(data.image(index), drawn, r, out);
        }
        let on = |device: &dyn Device| run(device, call.clone(), &pack(data.pixels()), &elements, (y.len, y));
        let far = on(&*definitions).iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 2e-6, "{far}");
        for device in devices {
            assert!(bits(&on(&**device)) == bits(&wanted), "{} at {r}", device.describe());
        }
    }
}

#[cfg(natv2_emulator)]
mod emulated {
    use super::*;
    use natv2::data::Selection;
    use natv2::device::emulated::ThreadOrder;
    use natv2::device::{Emulator, Error, Gpu, Runtime};
    use natv2::engine::{Calibration, Engine, Evaluation, Images};
    use natv2::launch::{Arguments, Geometry, RecordedLaunch};
    use natv2::space::walk::Exits;
    use natv2::space::{Arch, Family};
    use natv2::supernet::{Blank, Supernet};
    use natv2::train::{
        Batch, Decays, Optimiser, Rule, Settings, Student, Teaching, Trainer, Weighting, batches,
    };
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// The emulator, which counts what is sent to it, and has no memory for an allocation of the size at the end.
    struct Counting(Emulator, Arc<AtomicUsize>, Option<usize>);

    impl Runtime for Counting {
        type Memory = <Emulator as Runtime>::Memory;
        type Event = <Emulator as Runtime>::Event;
        type Graph = <Emulator as Runtime>::Graph;

        fn describe(&self) -> String {
            self.0.describe()
        }
        fn arithmetic(&self) -> String {
            self.0.arithmetic()
        }
        fn with_own_stream(&self) -> Result<Counting, Error> {
            Ok(Counting(self.0.with_own_stream()?, self.1.clone(), self.2))
        }
        fn allocate(&self, bytes: usize) -> Result<Self::Memory, Error> {
            if self.2 == Some(bytes) {
                Err(Error::OutOfMemory { device: self.describe(), bytes })
            } else {
                self.0.allocate(bytes)
            }
        }
        fn address(&self, memory: &Self::Memory) -> u64 {
            self.0.address(memory)
        }
        fn upload(&self, memory: &mut Self::Memory, offset: usize, from: &[u8]) -> Result<(), Error> {
            self.1.fetch_add(from.len(), Ordering::Relaxed);
            self.0.upload(memory, offset, from)
        }
        fn download(&self, memory: &Self::Memory, offset: usize, to: &mut [u8]) -> Result<(), Error> {
            self.0.download(memory, offset, to)
        }
        unsafe fn launch(
            &self,
            kernel: &'static str,
            geometry: Geometry,
            arguments: &Arguments<'_>,
            threads: Threads,
        ) -> Result<(), Error> {
            // SAFETY: passed on to the caller.
            unsafe { self.0.launch(kernel, geometry, arguments, threads) }
        }
        fn graph(&self, launches: Vec<RecordedLaunch>) -> Result<Option<Self::Graph>, Error> {
            self.0.graph(launches)
        }
        unsafe fn launch_graph(&self, graph: &Self::Graph, threads: Threads) -> Result<bool, Error> {
            // SAFETY: passed on to the caller.
            unsafe { self.0.launch_graph(graph, threads) }
        }
        fn synchronise(&self) -> Result<(), Error> {
            self.0.synchronise()
        }
        fn record(&self) -> Result<Self::Event, Error> {
            self.0.record()
        }
        fn elapsed(&self, from: &Self::Event, to: &Self::Event) -> Result<Duration, Error> {
            self.0.elapsed(from, to)
        }
        fn lanes(&self) -> usize {
            self.0.lanes()
        }
        fn multiprocessors(&self) -> u32 {
            self.0.multiprocessors()
        }
        fn shared_bytes(&self) -> u32 {
            self.0.shared_bytes()
        }
        fn cache_bytes(&self) -> usize {
            self.0.cache_bytes()
        }
        fn arena_budget(&self) -> (usize, usize) {
            self.0.arena_budget()
        }
        fn resident_budget(&self) -> usize {
            self.0.resident_budget()
        }
        fn peak_sizes(&self) -> (usize, u32) {
            self.0.peak_sizes()
        }
    }

    /// A device, and the bytes that it was sent since last asked.
    fn device(budget: Option<usize>) -> (Arc<dyn Device>, impl Fn() -> usize) {
        device_without(budget, None)
    }

    /// The same without memory for an allocation of that many bytes.
    fn device_without(
        budget: Option<usize>,
        refused: Option<usize>,
    ) -> (Arc<dyn Device>, impl Fn() -> usize) {
        let sent = Arc::new(AtomicUsize::new(0));
        let gpu = Gpu::new(Counting(Emulator::new(ThreadOrder::Forward).unwrap(), sent.clone(), refused));
        let gpu = match budget {
            Some(bytes) => gpu.with_resident_budget(bytes),
            None => gpu,
        };
        (Arc::new(gpu), move || sent.swap(0, Ordering::Relaxed))
    }

    fn supernet() -> Supernet {
        let blank = Blank::new(Family::SE_B, 0.1, 10);
        Supernet::random(&blank, 1).unwrap()
    }

    fn smallest(r: u32) -> Arch {
        Arch { ks: [3; 20], e: [3; 20], d: [2; 5], ..Arch::largest(Family::SE_B, r, None) }
    }

    const BATCH: usize = 8;

    fn settings(augmentation: Augmentation) -> loader::Settings {
        let Pixels { mean, std } = Facts::of("cifar10").unwrap().pixels;
        let (batch, resolutions) = (BATCH, vec![32, 36]);
        loader::Settings { batch, seed: 3, augmentation, resolutions, mean, std, threads: 1, ahead: 1 }
    }

    /// Weights after three steps, and what each sent for its images.
    fn trained(
        device: &Arc<dyn Device>,
        sent: &impl Fn() -> usize,
        mut loader: Loader,
    ) -> (Vec<u32>, Vec<usize>) {
        let optimiser = Optimiser {
            rule: Rule::Sgd { momentum: 0.9, nesterov: true },
            decay: 3e-5,
            decays: Decays::Weights,
            clip: None,
        };
        let mut trainer = Trainer::new(device.clone(), supernet(), optimiser).unwrap();
        let student = Student { arch: smallest(32), weighting: Weighting::Own };
        let mut bytes = Vec::new();
        for step in 0..3 {
            let images = loader.next_batch().unwrap();
            let settings =
                Settings { rate: 0.05, smoothing: 0.0, kd_ratio: 0.0, dropout: 0.0, seed: 1, epoch: 0, step };
            let batch = Batch { images: images.images(), labels: &images.labels, side: images.side };
            sent();
            trainer.step(&batch, std::slice::from_ref(&student), Teaching::Labels, &settings).unwrap();
            bytes.push(sent() - 4 * images.labels.len());
        }
        (bits(&trainer.weights().unwrap().packed), bytes)
    }

    #[test]
    fn training_on_stored_pixels_gives_the_bits_of_training_on_images() {
        let data = cifar(120);
        let images = loader::training_images(&data, false);
        for augmentation in [Preset::Cifar.augmentation(), Preset::Photos.augmentation()] {
            let operates = augmentation.policy.is_some();
            let start =
                || (data.clone(), images.clone(), settings(augmentation.clone()), Position::default());
            let (resident, sent) = device(None);
            let (a, b, c, d) = start();
            let (wanted, made) = trained(&resident, &sent, Loader::start(a, b, c, d).unwrap());
            assert!(
                made.iter().all(|&bytes| [32, 36].map(|r| BATCH * r * r * 12).contains(&bytes)),
                "{made:?}"
            );

            let (a, b, c, _) = start();
            let loader = batches(&*resident, a, b, c, 0).unwrap();
            let (found, described) = trained(&resident, &sent, loader);
            assert!(found == wanted, "the same weights");
            // The set is one page, which the first step takes along.
            let each = BATCH * if operates { 4 * (1 + 5 + 26) } else { 4 * (1 + 5) };
            assert_eq!(described, [each + data.len() * 32 * 32 * 4, each, each]);

            // Over the budget, and within it on a device that has no memory left for the set.
            let full = device_without(None, Some(data.len() * 32 * 32 * 4));
            for (streaming, sent) in [device_without(Some(1000), None), full] {
                let notes = Arc::new(Mutex::new(Vec::new()));
                let list = notes.clone();
                let residents = streaming.residents().unwrap();
                residents.on_note(move |text| list.lock().unwrap().push(text.to_string()));
                let (a, b, c, _) = start();
                let loader = batches(&*streaming, a, b, c, 0).unwrap();
                let (found, streamed) = trained(&streaming, &sent, loader);
                assert!(found == wanted, "the same weights");
                assert_eq!(streamed, [each + BATCH * 32 * 32 * 4; 3]);
                let notes = notes.lock().unwrap();
                assert_eq!(notes.len(), 1, "{notes:?}");
                assert!(notes[0].contains("its images are sent with each batch"), "{notes:?}");
            }
        }
    }

    #[test]
    fn selections_that_do_not_fit_are_refused() {
        let data = cifar(40);
        let (device, _) = device(None);
        let optimiser = Optimiser { rule: Rule::AdamW, decay: 0.0, decays: Decays::All, clip: None };
        let mut trainer = Trainer::new(device, supernet(), optimiser).unwrap();
        let student = Student { arch: smallest(32), weighting: Weighting::Own };
        let Pixels { mean, std } = Facts::of("cifar10").unwrap().pixels;
        let drawn = [Drawn::plain(32)];
        for (indices, drawn) in [(vec![0, 40], &drawn[..0]), (vec![0], &drawn[..0]), (vec![0, 1], &drawn[..])]
        {
            let selection = Selection { dataset: &data, indices: &indices, drawn, mean, std };
            let batch = Batch { images: Source::Stored(selection), labels: &[0, 1], side: 32 };
            let settings = Settings {
                rate: 0.1,
                smoothing: 0.0,
                kd_ratio: 0.0,
                dropout: 0.0,
                seed: 0,
                epoch: 0,
                step: 0,
            };
            let error = trainer
                .step(&batch, std::slice::from_ref(&student), Teaching::Labels, &settings)
                .unwrap_err();
            assert!(error.to_string().contains("batch of 2 labels"), "{error}");
        }
    }

    /// Images without what they are made of, so that the host makes them.
    struct Made<'a>(SplitImages<'a>);

    impl Images for Made<'_> {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn load(&self, first: usize, side: usize, out: &mut [f32], threads: Threads) {
            self.0.load(first, side, out, threads);
        }
        fn label(&self, index: usize) -> u32 {
            self.0.label(index)
        }
    }

    #[test]
    fn evaluation_on_stored_pixels_gives_the_bits_of_evaluation_on_images() {
        let data = cifar(700);
        let pixels = Facts::of("cifar10").unwrap().pixels;
        let split = |split| SplitImages::new(&data, data.split(split), pixels);
        let (test, train) = (split(Split::Test), split(Split::Train));
        let (made_test, made_train) = (Made(test), Made(train));
        let networks: Vec<(Arch, Exits)> =
            [32, 32, 40].map(smallest).into_iter().map(|arch| (arch.clone(), Exits::single(&arch))).collect();
        let measure = |device: &Arc<dyn Device>, test: &dyn Images, train: &dyn Images| {
            let engine = Engine::new(device.clone(), Arc::new(supernet())).unwrap();
            let calibration = Calibration::Batches { images: train, count: 20, batch: 10 };
            let found = engine.evaluate_population(&networks, test, calibration, &|| false, &|_, _| ());
            let results: Vec<Evaluation> = found.unwrap().unwrap().results.concat();
            let (arch, exits) = &networks[2];
            let logits = engine.logits(arch, *exits, test, calibration).unwrap();
            let losses = results.iter().map(|e| (e.correct, e.images, e.loss.to_bits()));
            (losses.collect::<Vec<_>>(), bits(&logits.concat()))
        };
        let (resident, sent) = device(None);
        let wanted = measure(&resident, &made_test, &made_train);
        let made = sent();
        assert!(measure(&resident, &test, &train) == wanted);
        let described = sent();
        // Two of the three pages were looked at, and stay.
        assert!(measure(&resident, &test, &train) == wanted);
        let (again, pages) = (sent(), 4 * 32 * 32 * (256 + 700 - 512));
        assert_eq!(described - again, pages);
        let images = |sizes: &[usize]| sizes.iter().map(|r| 12 * r * r).sum::<usize>();
        // Recalibration and test at 32 px (both networks in one pass) and twice at 40.
        assert_eq!(made - again, 40 * (images(&[32, 40, 40]) - 3 * 4));
        let (streaming, _) = device(Some(0));
        assert!(measure(&streaming, &test, &train) == wanted);
    }

    #[test]
    fn a_set_that_is_gone_makes_room() {
        let (device, sent) = device(Some(4 * 32 * 32 * 150));
        let residents = device.residents().unwrap();
        let fits = |data: &Dataset| {
            let pages = residents.pages(&*device, data.shared_pixels(), 3 * 32 * 32).unwrap();
            pages.is_some()
        };
        let (first, second) = (cifar(100), cifar(101));
        assert!(fits(&first) && !fits(&second) && fits(&first) && !fits(&second));
        drop(first);
        let third = cifar(102);
        assert!(fits(&third) && !fits(&second));
        assert_eq!(sent(), 0, "nothing was asked for");
    }
}
