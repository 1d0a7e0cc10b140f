//! What the host waits for: results are read once and at the end, whatever the number of chunks, heads and
//! students; and nothing is allocated for what has run before, on a card a wait too.

use natv2::data::Source;
use natv2::device::{Buffer, Cpu, Device, Error, Memory, Residents};
use natv2::engine::{Calibration, Cropped, Engine, Evaluation};
use natv2::ops::{Call, Threads};
use natv2::random::stream;
use natv2::space::sample::{Policy, sample};
use natv2::space::walk::Exits;
use natv2::space::{Arch, ExitScaling, Family, Space};
use natv2::supernet::{Blank, Supernet, Tensor};
use natv2::train::{Batch, Decays, Optimiser, Rule, Settings, Student, Teaching, Team, Trainer, Weighting};
use rand::RngExt;
use std::sync::{Arc, Mutex};

/// What a device was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Allocate,
    Upload,
    Run,
    Download,
}
use Event::{Allocate, Download, Run, Upload};

/// A device that takes four images at a time and keeps a list.
struct Watched {
    device: Arc<dyn Device>,
    lanes: usize,
    events: Mutex<Vec<Event>>,
}

impl Watched {
    fn new(device: Arc<dyn Device>, lanes: usize) -> Arc<Watched> {
        Arc::new(Watched { device, lanes, events: Mutex::default() })
    }

    fn note(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    /// What was asked for since the last time.
    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap())
    }
}

impl Device for Watched {
    fn describe(&self) -> String {
        self.device.describe()
    }
    fn arithmetic(&self) -> String {
        self.device.arithmetic()
    }
    fn allocate(&self, len: usize) -> Result<Buffer, Error> {
        self.note(Allocate);
        self.device.allocate(len)
    }
    fn upload(&self, buffer: &mut Buffer, offset: usize, data: &[f32]) -> Result<(), Error> {
        self.note(Upload);
        self.device.upload(buffer, offset, data)
    }
    fn download(&self, buffer: &Buffer, offset: usize, out: &mut [f32]) -> Result<(), Error> {
        self.note(Download);
        self.device.download(buffer, offset, out)
    }
    fn run(&self, calls: &[Call], memory: Memory<'_>, threads: Threads) -> Result<(), Error> {
        self.note(Run);
        self.device.run(calls, memory, threads)
    }
    fn residents(&self) -> Option<&Residents> {
        self.device.residents()
    }
    fn lanes(&self) -> usize {
        self.lanes
    }
    fn chunk(&self, _: usize) -> usize {
        4
    }
}

fn count(events: &[Event], wanted: Event) -> usize {
    events.iter().filter(|&&event| event == wanted).count()
}

const FAMILY: Family = Family { early_exits: true, dense: true, parallel: true };

fn supernet() -> Arc<Supernet> {
    let blank = Blank::new(FAMILY, 0.25, 10);
    Arc::new(Supernet::random(&blank, 3).unwrap())
}

/// Networks of two resolutions, read at all their exits.
fn networks(count: usize, seed: u64) -> Vec<(Arch, Exits)> {
    let space = Space::new(FAMILY, &[32, 40], &[0.25], ExitScaling::Once).unwrap();
    let mut random = stream(seed, "waits/networks", 0, 0);
    let network = |index: usize| {
        let arch = space.decode(&sample(&space, Policy::NatV2, &mut random)).unwrap();
        let arch = Arch { r: if index.is_multiple_of(2) { 32 } else { 40 }, nd: 5, ..arch };
        (arch.clone(), Exits::up_to(&arch))
    };
    (0..count).map(network).collect()
}

fn images(count: usize, purpose: &str) -> Tensor {
    let mut random = stream(2, purpose, 0, 0);
    let data = (0..count * 3 * 40 * 40).map(|_| random.random_range(-2.0f32..2.0)).collect();
    Tensor { shape: vec![count, 3, 40, 40], data }
}

fn bits(results: &[Vec<Evaluation>]) -> Vec<(usize, u64)> {
    results.iter().flatten().map(|found| (found.correct, found.loss.to_bits())).collect()
}

#[test]
fn scores_of_a_tree_are_read_at_once_whatever_the_number_of_leaves() {
    let (test, train) = (images(18, "test"), images(6, "train"));
    let labels: Vec<u32> = (0..18).map(|index| index % 10).collect();
    let (test, train) = (Cropped::new(&test, &labels).unwrap(), Cropped::new(&train, &[]).unwrap());
    let calibration = Calibration::Batches { images: &train, count: 6, batch: 3 };
    let networks = networks(6, 1);
    let alone = Engine::new(Arc::new(Cpu), supernet()).unwrap();
    let alone: Vec<Vec<Evaluation>> = networks
        .iter()
        .map(|(arch, exits)| alone.evaluate(arch, *exits, &test, calibration, Threads::One).unwrap())
        .collect();
    for lanes in [1, 2] {
        let device = Watched::new(Arc::new(Cpu), lanes);
        let engine = Engine::new(device.clone(), supernet()).unwrap();
        device.take();
        let found = engine.evaluate_population(&networks, &test, calibration, &|| false, &|_, _| ());
        assert_eq!(bits(&found.unwrap().unwrap().results), bits(&alone), "{lanes} lanes");
        let events = device.take();
        // Two trees of fifteen leaves and five chunks each.
        match lanes {
            1 => {
                assert_eq!(count(&events, Download), 2, "{events:?}");
                let trees: Vec<&[Event]> = events.split(|&event| event == Download).collect();
                // Behind every chunk and every batch, and nothing behind the last.
                assert!(trees[..2].iter().all(|tree| count(tree, Run) > 5 + 2) && trees[2].is_empty());
            }
            _ => assert_eq!(count(&events, Download), 2 * 5, "{events:?}"),
        }
    }
}

#[test]
fn logits_of_all_exits_are_read_at_once() {
    let test = images(10, "test");
    let test = Cropped::new(&test, &[]).unwrap();
    let (arch, exits) = &networks(1, 2)[0];
    let logits = |device: Arc<dyn Device>| {
        let engine = Engine::new(device, supernet()).unwrap();
        let logits = engine.logits(arch, *exits, &test, Calibration::Stored).unwrap();
        logits.into_iter().map(|exit| exit.into_iter().map(f32::to_bits).collect()).collect()
    };
    let device = Watched::new(Arc::new(Cpu), 1);
    let found: Vec<Vec<u32>> = logits(device.clone());
    assert_eq!(found, logits(Arc::new(Cpu)));
    assert!(found.len() == 5 && found.iter().all(|exit| exit.len() == 10 * 10));
    let events = device.take();
    assert_eq!((count(&events, Download), events.last()), (1, Some(&Download)), "{events:?}");
}

#[test]
fn a_stop_ends_an_evaluation_before_its_next_chunk() {
    let test = images(40, "test");
    let test = Cropped::new(&test, &[]).unwrap();
    let device = Watched::new(Arc::new(Cpu), 1);
    let engine = Engine::new(device.clone(), supernet()).unwrap();
    device.take();
    // Loading is one upload for images and one for labels.
    let stop = || count(&device.events.lock().unwrap(), Upload) >= 6;
    let found =
        engine.evaluate_population(&networks(1, 1), &test, Calibration::Stored, &stop, &|_, _| ()).unwrap();
    assert!(found.is_none());
    let events = device.take();
    assert_eq!((count(&events, Upload), count(&events, Download)), (6, 0), "{events:?}");
}

#[test]
fn populations_that_come_again_allocate_nothing() {
    let (test, train) = (images(18, "test"), images(6, "train"));
    let (test, train) = (Cropped::new(&test, &[]).unwrap(), Cropped::new(&train, &[]).unwrap());
    let calibration = Calibration::Batches { images: &train, count: 6, batch: 3 };
    let device = Watched::new(Arc::new(Cpu), 1);
    let engine = Engine::new(device.clone(), supernet()).unwrap();
    let allocations = |engine: &Engine, seed: u64| {
        device.take();
        let networks = networks(6, seed);
        engine.evaluate_population(&networks, &test, calibration, &|| false, &|_, _| ()).unwrap().unwrap();
        count(&device.take(), Allocate)
    };
    // The same again, and after two of them others of about that size.
    assert!(allocations(&engine, 1) > 0);
    assert_eq!(allocations(&engine, 1), 0);
    allocations(&engine, 2);
    assert_eq!([3, 4, 5].map(|seed| allocations(&engine, seed)), [0; 3]);
    // Nor does an engine with other weights that goes on where this one ends.
    let next = engine.again(supernet()).unwrap();
    assert_eq!(allocations(&next, 6), 0);
}

/// Images that the device makes: descriptions and pages stay as well.
#[cfg(natv2_emulator)]
#[test]
fn images_made_on_the_device_allocate_nothing_again() {
    use natv2::data::Split;
    use natv2::evaluator::{Evaluator, Options};
    let device = Watched::new(natv2::device::open("emulated").unwrap(), 1);
    let options = Options { calibration_images: Some(8), ..Options::default() };
    let evaluator = Evaluator::open(&options, device.clone()).unwrap();
    let arch = Arch { ks: [3; 20], e: [3; 20], d: [2; 5], ..Arch::largest(Family::SE_B, 32, None) };
    let archs = [arch.clone(), Arch { ks: [5; 20], ..arch }];
    let run = || {
        device.take();
        evaluator.evaluate(&archs, Split::Test, Some(10), &|| false, &|_, _| ()).unwrap().unwrap();
        device.take()
    };
    run();
    let events = run();
    assert_eq!((count(&events, Allocate), count(&events, Download)), (0, 1), "{events:?}");
}

const JOINT: Weighting = Weighting::Joint([0.06, 0.13, 0.20, 0.27, 0.34]);
const RULES: [Rule; 2] = [Rule::Sgd { momentum: 0.9, nesterov: true }, Rule::AdamW];

fn optimiser(rule: Rule) -> Optimiser {
    Optimiser { rule, decay: 3e-5, decays: Decays::Weights, clip: Some(1.0) }
}

fn trainer(device: Arc<dyn Device>, rule: Rule) -> Trainer {
    Trainer::new(device, Supernet::clone(&supernet()), optimiser(rule)).unwrap()
}

fn students(seed: u64) -> Vec<Student> {
    let networks = networks(3, seed).into_iter();
    networks.map(|(arch, _)| Student { arch, weighting: JOINT }).collect()
}

fn settings(dropout: f32) -> Settings {
    Settings { rate: 1e-3, smoothing: 0.1, kd_ratio: 0.0, dropout, seed: 5, epoch: 1, step: 2 }
}

/// A step, and its losses' bits, correct answers and norm.
fn step(trainer: &mut Trainer, students: &[Student], dropout: f32) -> (Vec<u64>, Vec<usize>, f64) {
    let (images, side) = (4, 32);
    let mut random = stream(3, "waits/batch", 0, 0);
    let pixels: Vec<f32> = (0..images * side * side * 3).map(|_| random.random_range(-1.7..1.7)).collect();
    let batch = Batch { images: Source::Made(&pixels), labels: &[1, 2, 3, 4], side };
    let report = trainer.step(&batch, students, Teaching::Labels, &settings(dropout)).unwrap();
    (report.losses.into_iter().map(f64::to_bits).collect(), report.correct, report.norm)
}

#[test]
fn a_step_is_read_once_and_in_the_end() {
    for rule in RULES {
        let device = Watched::new(Arc::new(Cpu), 1);
        let mut trainer = trainer(device.clone(), rule);
        for dropout in [0.0, 0.2] {
            device.take();
            let (losses, _, norm) = step(&mut trainer, &students(1), dropout);
            assert!(losses.len() == 3 && norm > 0.0 && norm.is_finite());
            let events = device.take();
            assert_eq!((count(&events, Download), events.last()), (1, Some(&Download)), "{events:?}");
            // The images; and labels with the masks of all students and exits.
            assert_eq!(count(&events, Upload), 2, "{events:?}");
        }
    }
}

#[test]
fn the_second_super_network_of_a_step_is_launched_before_the_first_is_waited_for() {
    let device = Watched::new(Arc::new(Cpu), 1);
    let of_width = |width| {
        let blank = Blank::new(FAMILY, width, 10);
        Supernet::random(&blank, 3).unwrap()
    };
    let shared: Arc<dyn Device> = device.clone();
    let mut team = Team::new(&shared, vec![of_width(0.25), of_width(0.35)], optimiser(RULES[0])).unwrap();
    let mut students = students(1);
    let widths = [0.35, 0.25, 0.35].map(Some);
    students.iter_mut().zip(widths).for_each(|(student, width)| student.arch.w = width);
    let pixels = vec![0.5; 2 * 32 * 32 * 3];
    let batch = Batch { images: Source::Made(&pixels), labels: &[1, 2], side: 32 };
    device.take();
    let report = team.step(&batch, &students, Teaching::Labels, &settings(0.0)).unwrap();
    assert!(report.losses.iter().all(|loss| loss.is_finite()), "{report:?}");
    let events = device.take();
    assert!(count(&events, Download) == 2 && events.ends_with(&[Run, Download, Download]), "{events:?}");
}

#[test]
fn students_of_a_step_have_the_losses_that_they_have_alone() {
    let all = students(1);
    let (losses, correct, _) = step(&mut trainer(Arc::new(Cpu), RULES[0]), &all, 0.0);
    for (index, student) in all.iter().enumerate() {
        let alone = step(&mut trainer(Arc::new(Cpu), RULES[0]), std::slice::from_ref(student), 0.0);
        assert_eq!((alone.0[0], alone.1[0]), (losses[index], correct[index]), "student {index}");
    }
}

#[test]
fn steps_allocate_nothing_once_there_were_a_few() {
    for rule in RULES {
        let device = Watched::new(Arc::new(Cpu), 1);
        let mut trainer = trainer(device.clone(), rule);
        (1..4).for_each(|seed| drop(step(&mut trainer, &students(seed), 0.2)));
        for seed in 4..8 {
            device.take();
            step(&mut trainer, &students(seed), 0.2);
            assert_eq!(count(&device.take(), Allocate), 0, "students {seed}");
        }
    }
}
