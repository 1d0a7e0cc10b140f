//! Whole small fine-tunings, in f32 and in 16 bits: same bytes for any number of threads and any interruption, the second
//! step from inherited weights, networks that are kept as they were inherited, ensembles that are pruned and tested once,
//! results that are written again where they were lost.

use crate::common::{newest, stopped_before};
use natv2::config::{self, Config};
use natv2::data::augment::Preset;
use natv2::data::loader::{self, Loader, Position};
use natv2::data::{Dataset, Facts, Spec, Split};
use natv2::device::{Cpu, Device};
use natv2::engine::{Calibration, Engine, Precision, SplitImages};
use natv2::export::NetworkState;
use natv2::finetune::prune::{Score, best_subset, ensemble, weights};
use natv2::finetune::{Epoch, Inputs, Outcome, Part, Picked, Summary, finetune};
use natv2::run::{Event, Output, RunDirectory, StopFlag, events};
use natv2::space::walk::Exits;
use natv2::space::{Arch, Family, cost};
use natv2::supernet::{Blank, Card, Checkpoint, Init, Network, Supernet, Target, convert};
use natv2::train::{Batch, Settings, Student, Teaching, Trainer, Weighting};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

fn config(sets: &[&str]) -> Config {
    let sets: Vec<String> = sets.iter().map(|set| format!("finetune.{set}")).collect();
    config::load("finetune", None, &sets, Some(config::Profile::Tiny)).unwrap()
}

fn digits() -> Arc<Dataset> {
    Arc::new(natv2::data::open(&Spec::new("digits", None)).unwrap())
}

fn cpu() -> Arc<dyn Device> {
    Arc::new(Cpu)
}

fn small(family: Family) -> Arch {
    Arch { ks: [5; 20], e: [3; 20], d: [2; 5], ..Arch::largest(family, 32, None) }
}

/// A fine-tuning of two networks of the built-in super-network.
fn two(config: &Config) -> Inputs<'_> {
    let supernets = vec![Supernet::open(None, None).unwrap()];
    let first = Picked::given(&supernets, &small(Family::SE_B));
    let other = Arch { ks: [3; 20], d: [2, 3, 2, 2, 2], ..small(Family::SE_B) };
    let second = Picked { number: 2, ..Picked::given(&supernets, &other) };
    let settings = (config.seed, &config.finetune, &config.train);
    Inputs::new(settings, Preset::None, supernets, digits(), vec![first, second]).unwrap()
}

/// A fine-tuning of two networks of random weights, with layers of all branches where the family has any.
fn of_family(config: &Config, family: Family) -> Inputs<'_> {
    let blank = Blank::new(family, 0.1, 10);
    let supernets = vec![Supernet::random(&blank, 1).unwrap()];
    let nw =
        |first| if family.parallel { std::array::from_fn(|at| 1 + (first + at as u8) % 7) } else { [4; 20] };
    let first = Arch { nw: nw(0), d: [3; 5], ..small(family) };
    let second = Arch { nw: nw(3), nd: if family.early_exits { 3 } else { 5 }, ..small(family) };
    let pick = |number, arch: &Arch| Picked { number, ..Picked::given(&supernets, arch) };
    let picked = vec![pick(1, &first), pick(2, &second)];
    let settings = (config.seed, &config.finetune, &config.train);
    Inputs::new(settings, Preset::None, supernets, digits(), picked).unwrap()
}

/// A fine-tuning of an ensemble of random weights.
fn early(config: &Config) -> Inputs<'_> {
    let family = Family { early_exits: true, ..Family::SE_B };
    let blank = Blank::new(family, 0.1, 10);
    let supernets = vec![Supernet::random(&blank, 1).unwrap()];
    let picked = Picked::given(&supernets, &Arch { nd: 4, ..small(family) });
    let settings = (config.seed, &config.finetune, &config.train);
    Inputs::new(settings, Preset::None, supernets, digits(), vec![picked]).unwrap()
}

/// A fine-tuning of an ensemble whose last exit is the built-in super-network's, and the others random.
fn trained_last(config: &Config) -> Inputs<'_> {
    let family = Family { early_exits: true, ..Family::SE_B };
    let plain = Supernet::open(None, None).unwrap();
    let target = Target { family, classes: None, scaling: None, init: Init::HeFanOut, seed: 1 };
    let supernets = vec![convert(&plain.checkpoint(), &plain.card, &target).unwrap().supernet];
    let picked = Picked::given(&supernets, &small(family));
    let settings = (config.seed, &config.finetune, &config.train);
    Inputs::new(settings, Preset::None, supernets, digits(), vec![picked]).unwrap()
}

fn run(folder: &Path, inputs: &Inputs<'_>, threads: usize) -> Summary {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let run = RunDirectory::open(folder).unwrap();
    let outcome = pool.install(|| finetune(inputs, cpu(), &run, &StopFlag::new(), Output::Silent));
    match outcome.unwrap() {
        Outcome::Finished(summary) => summary,
        Outcome::Stopped => panic!("nobody asked for a stop"),
    }
}

/// Runs with stops after ever longer times; how many there were.
fn interrupted(folder: &Path, inputs: &Inputs<'_>) -> usize {
    for stops in 0.. {
        let flag = StopFlag::new();
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(1 + 150 * stops));
                flag.request();
            });
            let run = RunDirectory::open(folder).unwrap();
            finetune(inputs, cpu(), &run, &flag, Output::Silent).unwrap()
        });
        if let Outcome::Finished(_) = outcome {
            return stops as usize;
        }
    }
    unreachable!()
}

fn files(folder: &Path, names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| std::fs::read(folder.join(name)).unwrap()).collect()
}

#[test]
fn results_depend_neither_on_threads_nor_on_interruptions() {
    assert_eq!(interruptions(&["keep=always-train"]), 0);
}

/// At this rate one of them is kept as it was inherited.
#[test]
fn nor_do_they_where_networks_are_kept() {
    assert_eq!(interruptions(&[]), 0);
}

/// Fine-tunes two networks straight on, and stopped before every single step, the first ones of parts among them,
/// which must come to the same; the result, and the divergences.
fn step_by_step(sets: &[&str]) -> (Result<bool, String>, Vec<String>) {
    let config = config(sets);
    let (done, told) = compared(&two(&config), |_, _, go| {
        let mut stops = 0;
        loop {
            match go(&StopFlag::at_look(1)) {
                Ok(false) => stops += 1,
                done => {
                    assert!(stops > 5, "{stops}");
                    return done;
                }
            }
        }
    });
    let back = told.into_iter().filter(|event| event.kind == "rollback");
    (done, back.map(|event| event.data.as_str().unwrap().to_string()).collect())
}

/// Fine-tunes straight on, and with the stops of `stopping`, which must come to the same: it gets the folder, what the
/// straight one told, and how to go on. What it came to, and the straight one's events.
fn compared(
    inputs: &Inputs<'_>,
    stopping: impl Fn(&Path, &[Event], &dyn Fn(&StopFlag) -> Result<bool, String>) -> Result<bool, String>,
) -> (Result<bool, String>, Vec<Event>) {
    let folder = tempfile::tempdir().unwrap();
    let [straight, stopped] = ["straight", "stopped"].map(|name| folder.path().join(name));
    let go = |folder: &Path, flag: &StopFlag| {
        let run = RunDirectory::open(folder).unwrap();
        let done = finetune(inputs, cpu(), &run, flag, Output::Silent);
        // Whatever came of it, what is there can be read again.
        for step in std::fs::read_dir(folder.join("checkpoints/finetune")).unwrap() {
            for name in ["weights.safetensors", "optimiser.safetensors"] {
                let file = step.as_ref().unwrap().path().join(name);
                assert!(!file.exists() || Checkpoint::read(&file).is_ok(), "{}", file.display());
            }
        }
        done.map(|outcome| matches!(outcome, Outcome::Finished(_))).map_err(|error| error.to_string())
    };
    let done = go(&straight, &StopFlag::new());
    let told = events(&straight).unwrap();
    assert_eq!(done, stopping(&stopped, &told, &|flag| go(&stopped, flag)));
    if done.is_ok() {
        let of = |picked: &Picked| {
            ["safetensors", "card.json"].map(|end| format!("network-{}.{end}", picked.number))
        };
        let names: Vec<String> = inputs.picked.iter().flat_map(of).chain(["finetuned.json".into()]).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(files(&straight, &names), files(&stopped, &names));
        assert_eq!(newest(&straight, "finetune"), newest(&stopped, "finetune"));
    }
    (done, told)
}

#[test]
fn stops_before_every_step_change_nothing() {
    assert_eq!(step_by_step(&[]), (Ok(true), Vec::new()));
}

/// The first and the last step of every part of a fine-tuning that told these events.
fn edges(told: &[Event]) -> Vec<u64> {
    let epochs: Vec<&Event> = told.iter().filter(|event| event.kind == "epoch").collect();
    let parts = epochs.chunk_by(|a, b| a.data["part"] == b.data["part"]);
    let ends: Vec<u64> = parts.map(|part| part[part.len() - 1].step).collect();
    let starts = [0].into_iter().chain(ends.iter().copied());
    starts.zip(&ends).flat_map(|(start, end)| [start, end - 1]).collect()
}

#[test]
fn stops_before_the_first_and_the_last_step_of_both_parts_change_nothing() {
    for family in Family::all() {
        let exits = if family.early_exits { "exits=mix" } else { "exits=single" };
        let small = ["keep=always-train", "batch=8", "epoch_images=24", "calibration_images=20"];
        let config = config(&[&[exits, "rate=0.01"], &small[..]].concat());
        let inputs = of_family(&config, family);
        let (done, told) =
            compared(&inputs, |folder, told, go| stopped_before((folder, "finetune"), &edges(told), go));
        assert_eq!(done, Ok(true), "{family}");
        // Two parts of each of two networks.
        let edges = edges(&told);
        assert!(edges.len() == 8 && edges.is_sorted_by(|a, b| a < b), "{family}: {edges:?}");
    }
}

#[test]
fn divergence_goes_back_wherever_it_is_seen_first() {
    let (_, back) = step_by_step(&["rate=5"]);
    assert!(back.iter().any(|reason| reason.contains("validation")), "{back:?}");
    let (done, back) = step_by_step(&["rate=99", "batch=2"]);
    let message = done.unwrap_err();
    assert_eq!(back.len(), 5, "{back:?}");
    let parts =
        ["network 1: ", "diverged 6 times", "finetune.batch more images", "lower finetune.rate (it is 99)"];
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
}

/// The scale of the losses is a part of what an interrupted training goes on with; it begins too large for
/// the first steps.
#[test]
fn nor_do_they_in_16_bits() {
    let skipped = interruptions(&["precision=f16", "keep=always-train"]);
    assert!(skipped > 0, "no step ever overflowed");
}

/// Compares fine-tunings on one thread, on two and with interruptions; the steps that were left out.
fn interruptions(sets: &[&str]) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let [one, two_threads, stopped] = ["one", "two", "stopped"].map(|name| folder.path().join(name));
    let config = config(sets);
    let inputs = two(&config);
    let summary = run(&one, &inputs, 1);
    assert_eq!(run(&two_threads, &inputs, 2), summary);
    assert!(interrupted(&stopped, &inputs) > 0);
    let names = [
        "finetuned.json",
        "network-1.safetensors",
        "network-2.safetensors",
        "network-1.card.json",
        "network-2.card.json",
    ];
    assert_eq!(files(&one, &names), files(&two_threads, &names));
    assert_eq!(files(&one, &names), files(&stopped, &names));
    // A finished run gives its result again.
    assert_eq!(run(&one, &inputs, 2), summary);
    let events = |folder: &Path| -> Vec<(String, Value)> {
        natv2::run::events(folder).unwrap().into_iter().map(|event| (event.kind, event.data)).collect()
    };
    assert_eq!(events(&one), events(&stopped));

    assert_eq!(summary.networks.len(), 2);
    for network in &summary.networks {
        let parts = |part: Part| network.history.iter().filter(|e| e.part == part).count() as u64;
        assert_eq!((parts(Part::Train), parts(Part::Final)), (network.epochs, network.best_epoch));
        let validated = network.history.iter().filter(|e| e.part == Part::Train);
        let trained = validated.map(|e| e.validation_top1.unwrap()).fold(0.0, f64::max);
        let inherited = network.inherited_top1.unwrap();
        let keeps = !sets.contains(&"keep=always-train") && inherited >= trained;
        let (state, best, epochs) = if keeps {
            (NetworkState::Inherited, inherited, 0..=0)
        } else {
            (NetworkState::FineTuned, trained, 1..=2)
        };
        assert_eq!(network.state, state);
        assert!(epochs.contains(&network.best_epoch) && network.exits == [5]);
        assert_eq!((network.validation_top1, network.before.macs), (best, network.after.macs));
        assert!(network.before.top1.unwrap() > 50.0 && network.after.top1.unwrap() > 50.0);
    }
    summary.networks.iter().flat_map(|network| &network.history).map(|epoch| epoch.skipped).sum()
}

#[test]
fn in_16_bits_it_ends_near_where_it_does_in_f32() {
    let folder = tempfile::tempdir().unwrap();
    for exits in ["single", "unif"] {
        let result = |precision: &str| {
            let sets = [format!("precision={precision}"), format!("exits={exits}"), "rate=0.003".into()];
            let always = "keep=always-train";
            let config = config(&[&sets[0], &sets[1], &sets[2], "epoch_images=160", "epochs=2", always]);
            let mut inputs = if exits == "single" { two(&config) } else { early(&config) };
            inputs.picked.truncate(1);
            run(&folder.path().join(format!("{exits}-{precision}")), &inputs, 2).networks.remove(0)
        };
        let exact = result("f32");
        for precision in ["f16", "bf16"] {
            let found = result(precision);
            let first = |epoch: &&Epoch| epoch.part == Part::Train;
            for (found, exact) in found.history.iter().filter(first).zip(&exact.history) {
                // Measured: up to 1.2 % apart.
                let apart = (found.loss / exact.loss - 1.0).abs();
                assert!(apart > 0.0 && apart < 0.05, "{exits}, {precision}: {found:?}, and {exact:?} in f32");
                let some = if precision == "f16" { 3 } else { 0 };
                assert!(exact.skipped == 0 && found.skipped <= some, "{exits}, {precision}: {found:?}");
            }
            // Measured: within 1 % of the trained network's, and 3 % of random weights'.
            let loss = found.after.loss.unwrap() / exact.after.loss.unwrap();
            assert!((loss - 1.0).abs() < 0.1, "{exits}, {precision}: test loss {loss} times that of f32");
        }
    }
}

#[test]
fn the_second_step_begins_with_the_inherited_weights_and_takes_as_many_epochs_as_were_best() {
    for precision in Precision::ALL {
        second_step(precision);
    }
}

fn second_step(precision: Precision) {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&["rate=0.01", &format!("precision={precision}"), "keep=always-train"]);
    let inputs = two(&config);
    let result = run(folder.path(), &inputs, 2).networks.remove(0);

    let (dataset, arch) = (digits(), &inputs.picked[0].arch);
    let images = loader::training_images(&dataset, true);
    let pixels = Facts::of("digits").unwrap().pixels;
    let settings = loader::Settings {
        batch: 16,
        seed: 0,
        augmentation: Facts::of("digits").unwrap().augmentation.augmentation(),
        resolutions: vec![32],
        mean: pixels.mean,
        std: pixels.std,
        threads: 1,
        ahead: 1,
    };
    let mut loader = Loader::start(dataset, images, settings, Position::default()).unwrap();
    let inherited = inputs.inherited(&cpu(), arch).unwrap();
    let mut trainer = Trainer::in_precision(cpu(), inherited.clone(), inputs.optimiser(), precision).unwrap();
    // Epochs of 48 images, and the cosine of both epochs, however many there are.
    for step in 0..3 * result.best_epoch {
        let rate = 1e-8 + 0.5 * (0.01 - 1e-8) * (1.0 + (std::f64::consts::PI * step as f64 / 6.0).cos());
        let settings = Settings {
            rate: rate as f32,
            smoothing: 0.0,
            kd_ratio: 0.0,
            dropout: 0.0,
            seed: 0,
            epoch: step / 3,
            step,
        };
        let images = loader.next_batch().unwrap();
        let batch = Batch { images: images.images(), labels: &images.labels, side: 32 };
        let student = Student { arch: arch.clone(), weighting: Weighting::Own };
        trainer.step(&batch, &[student], Teaching::Labels, &settings).unwrap();
    }
    let trained = trainer.weights().unwrap();
    assert_ne!(trained.packed, inherited.packed);
    let file = folder.path().join(&result.weights);
    assert_eq!(std::fs::read(file).unwrap(), trained.checkpoint().to_bytes().unwrap());
}

#[test]
fn an_ensemble_keeps_the_exits_that_help_and_is_a_network_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&["exits=asc", "rate=0.003", "epochs=3", "keep=always-train"]);
    let inputs = early(&config);
    let result = run(folder.path(), &inputs, 2).networks.remove(0);
    let family = inputs.family;
    let arch = Arch::from_json(family, &result.arch).unwrap();
    assert_eq!(Some(&usize::from(arch.nd)), result.exits.last());
    let full = [0.1, 0.2, 0.3, 0.4];
    let kept: f64 = result.exits.iter().map(|exit| full[exit - 1]).sum();
    assert!(kept < 1.0, "no exit was removed: {:?}", result.exits);
    // What is left of an ensemble weighs as much as all of it did.
    let beta: Vec<f64> = result.exits.iter().map(|exit| full[exit - 1] / kept).collect();
    assert_eq!((&result.beta, result.strategy.as_str()), (&beta, "asc"));
    let list: Vec<String> = result.exits.iter().map(usize::to_string).collect();
    let exits = Exits::parse(&list.join(","), &arch).unwrap();
    let counted = cost(inputs.supernets[0].channels(), &arch, exits, 10);
    assert_eq!((result.after.params, result.after.macs), (counted.params, counted.macs));
    assert_eq!(result.before.params, inputs.picked[0].params);

    // The file alone gives the accuracy that was written down.
    let shape = Network::extract(&inputs.supernets[0], &arch, exits).unwrap();
    let file = folder.path().join(&result.weights);
    let checkpoint = Checkpoint::read(&file).unwrap();
    let names = |checkpoint: &Checkpoint| checkpoint.names().map(String::from).collect::<Vec<_>>();
    assert_eq!(names(&checkpoint), names(&shape.checkpoint()));
    let weights = shape.weights();
    let packed = weights.layout.pack(&checkpoint).unwrap();
    let engine = Engine::new(cpu(), Arc::new(Supernet { packed, ..weights.clone() })).unwrap();
    let dataset = digits();
    let test = dataset.split(Split::Test);
    let images = SplitImages::new(&dataset, test, Facts::of("digits").unwrap().pixels);
    let logits = engine.logits(&arch, exits, &images, Calibration::Stored).unwrap();
    let labels: Vec<u32> = test.iter().map(|&index| dataset.label(index)).collect();
    let all: Vec<usize> = (0..logits.len()).collect();
    let scored = Score::new(&ensemble(&logits, &all, &beta), &labels);
    assert_eq!((Some(scored.top1()), Some(scored.loss)), (result.after.top1, result.after.loss));
    let card = Card::beside(&file).unwrap();
    let own = card.network.unwrap();
    assert_eq!((card.family, json!(own.arch)), (Some(family), result.arch.clone()));
    assert_eq!((own.exits, card.resolutions), (exits, vec![arch.r]));
    match result.strategy.as_str() {
        "single" => assert_eq!(own.other.get("exit_weights"), None),
        _ => assert_eq!(own.other["exit_weights"], json!(beta)),
    }
}

/// Logits of every exit of weights on the validation images that a fine-tuning looks at.
fn validated(
    inputs: &Inputs<'_>,
    weights: &Supernet,
    arch: &Arch,
    exits: Exits,
) -> (Vec<Vec<f32>>, Vec<u32>) {
    let dataset = digits();
    let images = &dataset.split(Split::Val)[..inputs.settings.validation_images.unwrap()];
    let labels = images.iter().map(|&index| dataset.label(index)).collect();
    let images = SplitImages::new(&dataset, images, Facts::of("digits").unwrap().pixels);
    let engine = Engine::new(cpu(), Arc::new(weights.clone())).unwrap();
    (engine.logits(arch, exits, &images, Calibration::Stored).unwrap(), labels)
}

#[test]
fn a_network_that_no_epoch_makes_better_is_kept_as_it_was_inherited() {
    // Steps that ruin what was trained.
    for rate in ["rate=0.5", "rate=2"] {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&[rate, "min_rate=0", "momentum=0"]);
        let mut inputs = two(&config);
        inputs.picked.truncate(1);
        let result = run(folder.path(), &inputs, 2).networks.remove(0);
        assert_eq!((result.state, result.best_epoch), (NetworkState::Inherited, 0), "{rate}");
        assert!(result.epochs > 0 && result.history.iter().all(|epoch| epoch.part == Part::Train));
        let arch = &inputs.picked[0].arch;
        let inherited = inputs.inherited(&cpu(), arch).unwrap();
        let (logits, labels) = validated(&inputs, &inherited, arch, Exits::single(arch));
        let top1 = Score::new(&logits[0], &labels).top1();
        assert_eq!((result.inherited_top1, result.validation_top1), (Some(top1), top1));
        assert_eq!(result.before, result.after);
        let file = folder.path().join(&result.weights);
        assert_eq!(std::fs::read(&file).unwrap(), inherited.checkpoint().to_bytes().unwrap());
        let card = Card::beside(&file).unwrap();
        assert!(card.trained.as_ref().unwrap().contains("kept as inherited"), "{:?}", card.trained);
        assert_eq!(NetworkState::of(&card), Some(NetworkState::Inherited));
        let own = card.network.unwrap();
        assert!(own.statistics.unwrap().starts_with("recalibrated on the first 50 training images"));
        assert_eq!(own.other["top1"], json!({"validation": top1, "test": result.after.top1}));
        // The paper's rule trains it all the same.
        let always = self::config(&[rate, "min_rate=0", "momentum=0", "keep=always-train"]);
        let mut inputs = two(&always);
        inputs.picked.truncate(1);
        let trained = run(&folder.path().join("always"), &inputs, 2).networks.remove(0);
        assert_eq!((trained.state, trained.inherited_top1), (NetworkState::FineTuned, Some(top1)));
        assert!(trained.best_epoch > 0 && trained.history.iter().any(|epoch| epoch.part == Part::Final));
        let first = |history: &[Epoch]| -> Vec<Epoch> {
            history.iter().filter(|epoch| epoch.part == Part::Train).cloned().collect()
        };
        assert_eq!(first(&trained.history), first(&result.history));
    }
}

#[test]
fn an_ensemble_that_no_epoch_makes_better_is_pruned_as_it_was_inherited() {
    let folder = tempfile::tempdir().unwrap();
    for prune in [true, false] {
        let config = config(&["exits=asc", "rate=0.1", "min_rate=0", &format!("prune={prune}")]);
        let inputs = trained_last(&config);
        let result = run(&folder.path().join(format!("{prune}")), &inputs, 2).networks.remove(0);
        assert_eq!((result.state, result.best_epoch), (NetworkState::Inherited, 0));
        let arch = &inputs.picked[0].arch;
        let inherited = inputs.inherited(&cpu(), arch).unwrap();
        let (logits, labels) = validated(&inputs, &inherited, arch, Exits::up_to(arch));
        let full = [0.0667, 0.1333, 0.2, 0.2667, 0.3333];
        let every = [0, 1, 2, 3, 4];
        let (kept, scored) = if prune {
            best_subset(&logits, &full, &labels)
        } else {
            (every.to_vec(), Score::new(&ensemble(&logits, &every, &full), &labels))
        };
        assert_eq!(result.exits, kept.iter().map(|exit| exit + 1).collect::<Vec<_>>());
        assert_eq!(result.beta, weights(&full, &kept));
        assert!((result.beta.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!((result.inherited_top1, result.validation_top1), (Some(scored.top1()), scored.top1()));
        // The file answers as the ensemble did.
        let network = Network::load(&folder.path().join(format!("{prune}")).join(&result.weights)).unwrap();
        assert_eq!(network.exits().len(), kept.len());
        let (own, _) = validated(&inputs, network.weights(), network.arch(), network.exits());
        let all: Vec<usize> = (0..own.len()).collect();
        assert_eq!(Score::new(&ensemble(&own, &all, &result.beta), &labels), scored);
    }
}

#[test]
fn results_that_were_lost_or_damaged_are_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&["epochs=1"]);
    let inputs = two(&config);
    let summary = run(folder.path(), &inputs, 2);
    let names = ["finetuned.json", "network-1.safetensors", "network-2.safetensors", "network-2.card.json"];
    let whole = files(folder.path(), &names);
    for (name, bytes) in names.iter().zip(&whole) {
        let at = folder.path().join(name);
        let mut changed = bytes.clone();
        *changed.last_mut().unwrap() ^= 1;
        for damage in [None, Some(&b""[..]), Some(&bytes[..bytes.len() / 2]), Some(&changed)] {
            match damage {
                Some(bytes) => std::fs::write(&at, bytes).unwrap(),
                None => std::fs::remove_file(&at).unwrap(),
            }
            assert_eq!(run(folder.path(), &inputs, 2), summary);
            assert_eq!(files(folder.path(), &names), whole, "{name}");
        }
    }
    // Without its checkpoint a network that can be read counts, and one that cannot is named.
    let again = || {
        let run = RunDirectory::open(folder.path()).unwrap();
        finetune(&inputs, cpu(), &run, &StopFlag::new(), Output::Silent)
    };
    let checkpoint = folder.path().join("checkpoints/network-2/00000000/network.safetensors");
    std::fs::write(&checkpoint, "").unwrap();
    assert!(matches!(again().unwrap(), Outcome::Finished(found) if found == summary));
    std::fs::remove_dir_all(folder.path().join("checkpoints/network-2")).unwrap();
    assert!(matches!(again().unwrap(), Outcome::Finished(found) if found == summary));
    std::fs::remove_file(folder.path().join("network-2.card.json")).unwrap();
    let message = again().unwrap_err().to_string();
    assert!(message.contains("network-2.safetensors") && message.contains("finetune.number=2"), "{message}");
}

#[test]
fn a_state_of_an_earlier_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&["epochs=1"]);
    let inputs = two(&config);
    let run = RunDirectory::open(folder.path()).unwrap();
    let mut checkpoint = run.checkpoint("finetune", 0).unwrap();
    checkpoint.add("state.json", b"{\"version\":1,\"network\":0}").unwrap();
    checkpoint.commit().unwrap();
    let error = finetune(&inputs, cpu(), &run, &StopFlag::new(), Output::Silent).unwrap_err().to_string();
    assert!(error.contains("version 1, and 2 is known") && error.contains("--run"), "{error}");
}

#[test]
fn what_cannot_be_is_refused() {
    let config = config(&["exits=unif"]);
    let supernets = vec![Supernet::open(None, None).unwrap()];
    let picked = vec![Picked::given(&supernets, &small(Family::SE_B))];
    let settings = (0, &config.finetune, &config.train);
    let error = Inputs::new(settings, Preset::None, supernets, digits(), picked).err().unwrap().to_string();
    assert!(error.contains("finetune.exits = \"unif\"") && error.contains("SE_B"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let gentle = self::config(&["epochs=1"]);
    let inputs = two(&gentle);
    run(folder.path(), &inputs, 2);
    let mut other = two(&gentle);
    other.picked.truncate(1);
    let run = RunDirectory::open(folder.path()).unwrap();
    let refused = finetune(&other, cpu(), &run, &StopFlag::new(), Output::Silent).unwrap_err().to_string();
    assert!(refused.contains("other networks, weights, images or arithmetic"), "{refused}");
}

fn natv2(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_natv2")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_picks_from_a_search_and_prints_what_came_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (search, run) = (path("search"), path("run"));
    let (code, _, message) = natv2(&["finetune", "--profile", "tiny", "--run", &run]);
    assert!(code == 2 && message.contains("finetune.search"), "{message}");
    assert!(!Path::new(&run).exists());

    let tiny = ["--profile", "tiny", "--device", "cpu", "--quiet"];
    let (code, _, message) =
        natv2(&[&["search", "--run", &search, "--set", "search.iterations=1"], &tiny[..]].concat());
    assert_eq!(code, 0, "{message}");
    let from = format!("finetune.search={search}");
    let arguments = |extra: &[&'static str]| -> Vec<String> {
        let all = [&["finetune", "--run", &run, "--set", &from], &tiny[..], extra].concat();
        all.into_iter().map(String::from).collect()
    };
    let call = |extra: &[&'static str]| {
        let list = arguments(extra);
        natv2(&list.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let best = ["--set", "finetune.pick=best", "--set", "finetune.count=1", "--precision", "bf16"];
    let (code, out, message) = call(&[&best[..], &["--json"]].concat());
    assert_eq!(code, 0, "{message}");
    let value: Value = serde_json::from_str(&out).unwrap();
    let networks = value["networks"].as_array().unwrap();
    assert_eq!((&value["version"], networks.len(), &value["run"]), (&1.into(), 1, &run.as_str().into()));
    let front: Value =
        serde_json::from_slice(&std::fs::read(Path::new(&search).join("front.json")).unwrap()).unwrap();
    let front = front["networks"].as_array().unwrap();
    let top = front.iter().map(|n| n["top1"].as_f64().unwrap()).fold(0.0, f64::max);
    assert_eq!(networks[0]["search_top1"].as_f64(), Some(top));
    assert!(front.iter().any(|n| n["genotype"] == networks[0]["genotype"]));
    // Finished: the table.
    let (code, out, _) = call(&best);
    assert!(code == 0 && out.contains("before %") && out.contains("network-N.safetensors"), "{out}");
    // In f32 it would be another.
    let (code, _, message) = call(&best[..4]);
    assert!(code == 2 && message.contains("precision is \"bf16\""), "{message}");
}
