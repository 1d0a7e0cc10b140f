//! Training steps of whole super-networks: gradients against finite differences, devices against
//! each other, and what a step leaves alone.

use natv2::data::Source;
use natv2::device::Device;
use natv2::random::stream;
use natv2::space::sample::{Policy, sample};
use natv2::space::{Arch, ExitScaling, Family, Space};
use natv2::supernet::{Blank, Supernet};
use natv2::train::{
    Batch, Decays, Gradient, Optimiser, OptimiserState, Rule, Settings, Student, Teaching, Team, Trainer,
    Weighting,
};
use rand::RngExt;
use std::collections::BTreeMap;
use std::sync::Arc;

const SIDE: usize = 32;
const CLASSES: usize = 3;
const JOINT: Weighting = Weighting::Joint([0.06, 0.13, 0.20, 0.27, 0.34]);

const OPTIMISER: Optimiser = Optimiser {
    rule: Rule::Sgd { momentum: 0.9, nesterov: true },
    decay: 3e-5,
    decays: Decays::Weights,
    clip: None,
};

const SETTINGS: Settings =
    Settings { rate: 0.05, smoothing: 0.1, kd_ratio: 1.0, dropout: 0.2, seed: 5, epoch: 1, step: 2 };

/// Random weights of which none is a round number.
fn supernet(family: Family) -> Supernet {
    let blank = Blank::new(family, 0.1, CLASSES);
    let mut supernet = Supernet::random(&blank, 1).unwrap();
    let mut random = stream(2, "test/weights", 0, 0);
    let mut tensors = supernet.layout.unpack(&supernet.packed);
    for (name, tensor) in &mut tensors {
        let size = if name.ends_with("running_var") { 0.0 } else { 0.1 };
        tensor.data.iter_mut().for_each(|v| *v += size * random.random_range(-1.0f32..1.0));
    }
    let checkpoint = natv2::supernet::Checkpoint::from_tensors("test", tensors);
    supernet.packed = supernet.layout.pack(&checkpoint).unwrap();
    supernet
}

/// A network that mixes kernels, expansions and branches, read at all its exits.
fn student(family: Family, seed: u64) -> Student {
    let space = Space::new(family, &[SIDE as u32], &[0.1], ExitScaling::Once).unwrap();
    let genotype = sample(&space, Policy::NatV2, &mut stream(seed, "test/arch", 0, 0));
    let arch = Arch { nd: 5, ..space.decode(&genotype).unwrap() };
    Student { arch, weighting: if family.early_exits { JOINT } else { Weighting::Own } }
}

fn batch(images: usize) -> (Vec<f32>, Vec<u32>) {
    let mut random = stream(3, "test/images", 0, 0);
    let pixels = (0..images * SIDE * SIDE * 3).map(|_| random.random_range(-1.7f32..1.7)).collect();
    (pixels, (0..images).map(|i| (i % CLASSES) as u32).collect())
}

fn open(name: &str) -> Arc<dyn Device> {
    natv2::device::open(name).unwrap()
}

/// Loss and gradient of one distilled student with dropout.
fn gradient(device: &Arc<dyn Device>, supernet: &Supernet, student: &Student, images: usize) -> Gradient {
    let (pixels, labels) = batch(images);
    let batch = Batch { images: Source::Made(&pixels), labels: &labels, side: SIDE };
    let mut trainer = Trainer::new(device.clone(), supernet.clone(), OPTIMISER).unwrap();
    // The teacher does not move with the weights.
    let teacher = self::supernet(supernet.family);
    let teacher = trainer.teacher(Arc::new(teacher), student.weighting).unwrap();
    trainer.gradient(&batch, std::slice::from_ref(student), Teaching::Network(&teacher), &SETTINGS).unwrap()
}

/// The logarithm of the softmax of the weighted sum of some exits' logits, one row an image.
fn answers(logits: &[Vec<f32>], weights: &[f32], images: usize) -> Vec<Vec<f64>> {
    let stride = logits[0].len() / images;
    let row = |image: usize| {
        let sum = |class: usize| -> f64 {
            let exits = logits.iter().zip(weights);
            exits.map(|(exit, w)| f64::from(*w) * f64::from(exit[image * stride + class])).sum()
        };
        let sums: Vec<f64> = (0..CLASSES).map(sum).collect();
        let all = sums.iter().map(|sum| sum.exp()).sum::<f64>().ln();
        sums.into_iter().map(|sum| sum - all).collect()
    };
    (0..images).map(row).collect()
}

/// Of two super-networks the wider one's first student teaches the others of both: they learn from its answers
/// alone, without labels, smoothing or dropout.
#[test]
fn the_first_student_teaches_those_of_both_widths() {
    let family: Family = "EE_D".parse().unwrap();
    let of_width = |width| Supernet::random(&Blank::new(family, width, CLASSES), 4).unwrap();
    let (narrow, wide) = (of_width(0.1), of_width(0.15));
    let largest = |width| Arch::largest(family, SIDE as u32, Some(width));
    let small = |width| Arch { d: [2; 5], e: [3; 20], ks: [3; 20], nd: 2, ..largest(width) };
    let own = |arch| Student { arch, weighting: Weighting::Own };
    let first = Student { arch: largest(0.15), weighting: JOINT };
    let others = [own(small(0.1)), own(small(0.15)), own(largest(0.1))];
    let images = 6;
    let (pixels, labels) = batch(images);
    let batch = Batch { images: Source::Made(&pixels), labels: &labels, side: SIDE };
    let plain = Settings { dropout: 0.0, ..SETTINGS };
    for device in ["cpu", "reference-f64", "emulated"] {
        let device = open(device);
        let alone = |supernet: &Supernet, student: &Student| {
            let mut trainer = Trainer::new(device.clone(), supernet.clone(), OPTIMISER).unwrap();
            trainer.gradient(&batch, std::slice::from_ref(student), Teaching::Labels, &plain).unwrap()
        };
        let Weighting::Joint(weights) = JOINT else { unreachable!() };
        let teacher = alone(&wide, &first);
        let taught = answers(&teacher.logits, &weights, images);
        let mut team = Team::new(&device, vec![narrow.clone(), wide.clone()], OPTIMISER).unwrap();
        let students: Vec<Student> = std::iter::once(&first).chain(&others).cloned().collect();
        // Dropout is the first student's alone; here it has none, so that its answers are those from above.
        let report = team.step(&batch, &students, Teaching::First(JOINT), &plain).unwrap();
        assert!((report.losses[0] - teacher.report.losses[0]).abs() < 1e-4);
        for (student, loss) in others.iter().zip(&report.losses[1..]) {
            let of = if student.arch.w == Some(0.1) { &narrow } else { &wide };
            let found = answers(&alone(of, student).logits, &[1.0], images);
            let entropy = |(taught, found): (&Vec<f64>, &Vec<f64>)| -> f64 {
                taught.iter().zip(found).map(|(p, q)| -p.exp() * q).sum()
            };
            let wanted = taught.iter().zip(&found).map(entropy).sum::<f64>() / images as f64;
            assert!((loss - wanted).abs() < 1e-4, "{}: {loss}, not {wanted}", device.describe());
        }
        let again = team.step(&batch, &students, Teaching::First(JOINT), &plain).unwrap();
        assert!(again.losses.iter().zip(&report.losses).all(|(a, b)| a != b), "both have moved");
    }
}

/// Dropout and label smoothing are for the student that learns from labels.
#[test]
fn those_who_are_taught_have_no_dropout() {
    let supernet = supernet(Family::SE_B);
    let largest =
        Student { arch: Arch::largest(Family::SE_B, SIDE as u32, Some(0.1)), weighting: Weighting::Own };
    let (pixels, labels) = batch(4);
    let batch = Batch { images: Source::Made(&pixels), labels: &labels, side: SIDE };
    let losses = |dropout: f32| {
        let mut trainer = Trainer::new(open("cpu"), supernet.clone(), OPTIMISER).unwrap();
        let twice = [largest.clone(), largest.clone()];
        let settings = Settings { dropout, ..SETTINGS };
        let found = trainer.gradient(&batch, &twice, Teaching::First(Weighting::Own), &settings).unwrap();
        (found.report.losses, found.logits)
    };
    let ((plain, logits), (dropped, same)) = (losses(0.0), losses(0.6));
    // The second student's answers are the same, what it learns from and the first one's are not.
    assert_eq!(logits, same);
    assert!(plain[0] != dropped[0] && plain[1] != dropped[1], "{plain:?} {dropped:?}");
}

/// What kind of parameter a tensor is: its name without numbers.
fn kind(name: &str) -> String {
    name.split('.').filter(|part| part.parse::<u32>().is_err()).collect::<Vec<_>>().join(".")
}

#[test]
fn gradients_are_finite_differences_in_every_family() {
    let device = open("reference-f64");
    for family in Family::all() {
        let (supernet, student) = (supernet(family), student(family, 7));
        let images = 4;
        let at = gradient(&device, &supernet, &student, images);
        let mut kinds: BTreeMap<String, Vec<&String>> = BTreeMap::new();
        at.tensors.keys().for_each(|name| kinds.entry(kind(name)).or_default().push(name));
        assert!(kinds.len() >= 20, "{family}: {kinds:?}");
        for (kind, names) in kinds {
            // Along the gradient, and across it at random.
            let mut random = stream(4, &kind, 0, 0);
            let size = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
            let along: Vec<f64> =
                names.iter().flat_map(|name| &at.tensors[*name].data).map(|&v| f64::from(v)).collect();
            let across: Vec<f64> = along.iter().map(|_| random.random_range(-1.0..1.0)).collect();
            let (along_size, across_size) = (size(&along).max(1e-9), size(&across));
            // Small enough for the corners of activations, large enough for losses in f32.
            let step = (1e-5 / along_size).min(1e-3);
            let moved = |sign: f64| {
                let mut tensors = supernet.layout.unpack(&supernet.packed);
                let (mut index, mut dot) = (0, 0.0);
                for name in &names {
                    for value in &mut tensors.get_mut(*name).unwrap().data {
                        let direction = along[index] / along_size + across[index] / across_size;
                        let before = *value;
                        *value = (f64::from(before) + sign * step * direction) as f32;
                        // What rounding to f32 has left of the step counts.
                        dot += along[index] * (f64::from(*value) - f64::from(before));
                        index += 1;
                    }
                }
                let checkpoint = natv2::supernet::Checkpoint::from_tensors("test", tensors);
                let packed = supernet.layout.pack(&checkpoint).unwrap();
                let moved = Supernet { packed, ..supernet.clone() };
                (gradient(&device, &moved, &student, images).report.losses[0], dot)
            };
            let ((up, up_dot), (down, down_dot)) = (moved(1.0), moved(-1.0));
            let (found, wanted) = (up - down, up_dot - down_dot);
            // Losses come back in f32.
            let limit = 0.02 * wanted.abs() + 5e-7;
            assert!((found - wanted).abs() < limit, "{family}: {kind}: {found} by differences, {wanted}");
        }
    }
}

#[test]
fn devices_agree_on_gradients_in_every_family() {
    let mut names = vec!["cpu"];
    if cfg!(natv2_emulator) {
        names.push("emulated");
    }
    for family in Family::all() {
        let (supernet, student) = (supernet(family), student(family, 8));
        let wanted = gradient(&open("reference-f64"), &supernet, &student, 3);
        for name in &names {
            let found = gradient(&open(name), &supernet, &student, 3);
            assert!((found.report.losses[0] / wanted.report.losses[0] - 1.0).abs() < 1e-5, "{family} {name}");
            let norm = |data: &[f32]| data.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            let largest = wanted.tensors.values().map(|t| norm(&t.data)).fold(0.0, f64::max);
            assert_eq!(found.tensors.len(), wanted.tensors.len());
            for (tensor, reference) in &wanted.tensors {
                let differences: Vec<f32> =
                    found.tensors[tensor].data.iter().zip(&reference.data).map(|(a, b)| a - b).collect();
                let limit = 5e-2 * norm(&reference.data) + 1e-3 * largest;
                assert!(norm(&differences) < limit, "{family} {name} {tensor}");
            }
        }
    }
}

/// Weights and optimiser state after a few steps of two students each.
fn after(optimiser: Optimiser, steps: u64) -> (Supernet, OptimiserState) {
    let family = Family::all().last().unwrap();
    let mut trainer = Trainer::new(open("cpu"), supernet(family), optimiser).unwrap();
    run(&mut trainer, family, 0..steps);
    (trainer.weights().unwrap(), trainer.optimiser_state().unwrap())
}

fn run(trainer: &mut Trainer, family: Family, steps: std::ops::Range<u64>) {
    let (pixels, labels) = batch(6);
    let batch = Batch { images: Source::Made(&pixels), labels: &labels, side: SIDE };
    for step in steps {
        let students = [student(family, 2 * step), student(family, 2 * step + 1)];
        let report =
            trainer.step(&batch, &students, Teaching::Labels, &Settings { step, ..SETTINGS }).unwrap();
        assert_eq!((report.losses.len(), report.correct.len()), (2, 2));
        assert!(report.norm.is_finite() && report.norm > 0.0, "{report:?}");
    }
}

#[test]
fn steps_do_not_depend_on_the_number_of_threads_and_resume_to_the_bit() {
    for rule in [Rule::Sgd { momentum: 0.9, nesterov: false }, Rule::AdamW] {
        let optimiser = Optimiser { rule, clip: Some(1.0), ..OPTIMISER };
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (one, one_state) = pool(1).install(|| after(optimiser, 3));
        let (two, two_state) = pool(2).install(|| after(optimiser, 3));
        assert_eq!(one.packed, two.packed);
        assert_eq!(one_state, two_state);

        let family = one.family;
        let (half, state) = after(optimiser, 1);
        let mut trainer = Trainer::new(open("cpu"), supernet(family), optimiser).unwrap();
        trainer.restore(&half, &state).unwrap();
        run(&mut trainer, family, 1..3);
        assert_eq!(trainer.weights().unwrap().packed, one.packed);
        assert_eq!(trainer.optimiser_state().unwrap(), one_state);
    }
}

#[test]
fn tensors_that_no_student_uses_stay_untouched() {
    let family = Family { early_exits: true, ..Family::SE_B };
    let before = supernet(family);
    let mut trainer = Trainer::new(open("cpu"), before.clone(), OPTIMISER).unwrap();
    let (pixels, labels) = batch(4);
    let batch = Batch { images: Source::Made(&pixels), labels: &labels, side: SIDE };
    let arch = Arch { nd: 2, ks: [7; 20], ..student(family, 1).arch };
    let students = [Student { arch, weighting: Weighting::Own }];
    trainer.step(&batch, &students, Teaching::Labels, &SETTINGS).unwrap();
    let after = trainer.weights().unwrap();
    let (before, after) = (before.layout.unpack(&before.packed), after.layout.unpack(&after.packed));
    let block = |name: &str| name.split('.').nth(1).and_then(|n| n.parse::<u32>().ok());
    let mut changed = 0;
    for (name, tensor) in &after {
        let same = tensor == &before[name];
        let unused = name.ends_with("_matrix")
            || name.starts_with("exits.") && !name.starts_with("exits.1.")
            || name.starts_with("blocks.") && block(name).is_some_and(|b| b > 8);
        assert!(same || !unused, "{name} changed");
        changed += usize::from(!same);
    }
    assert!(changed > 40, "{changed}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let family = Family::SE_B;
    let mut trainer = Trainer::new(open("cpu"), supernet(family), OPTIMISER).unwrap();
    let (pixels, labels) = batch(2);
    let students = [student(family, 1)];
    let mut error = |images: &[f32], labels: &[u32], students: &[Student]| {
        let batch = Batch { images: Source::Made(images), labels, side: SIDE };
        trainer.step(&batch, students, Teaching::Labels, &SETTINGS).unwrap_err().to_string()
    };
    assert!(error(&pixels[1..], &labels, &students).contains("batch of 2 labels"));
    assert!(error(&[], &[], &students).contains("batch of 0 labels"));
    assert!(error(&pixels, &[0, 3], &students).contains("label 3 is no class"));
    let mut wide = students.clone();
    wide[0].arch.w = Some(1.2);
    assert!(error(&pixels, &labels, &wide).contains("width 1.2"));
    let blank = Blank::new(family, 0.1, 7);
    let other = Supernet::random(&blank, 0).unwrap();
    let refused = trainer.teacher(Arc::new(other.clone()), Weighting::Own).err().unwrap().to_string();
    assert!(refused.contains("7 classes and the super-network 3"), "{refused}");
    let state = trainer.optimiser_state().unwrap();
    assert!(trainer.restore(&other, &state).is_err());
}
