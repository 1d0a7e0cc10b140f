//! Searches that adapt the super-network, in f32 and in 16 bits: same bytes for any number of threads and
//! any interruption, and accuracies that are those of the adapted weights.

use crate::common::newest;
use natv2::config::{self, Config};
use natv2::device::Cpu;
use natv2::engine::Precision;
use natv2::evaluator::{Evaluator, Options};
use natv2::run::{Output, RunDirectory, StopFlag, events, latest_checkpoint};
use natv2::search::{Entry, Outcome, State, search};
use natv2::space::Family;
use natv2::supernet::{Blank, Card, Checkpoint, Supernet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

fn options(weights: Option<PathBuf>) -> Options {
    Options { weights, calibration_images: Some(50), ..Options::default() }
}

static EVALUATOR: LazyLock<Evaluator> =
    LazyLock::new(|| Evaluator::open(&options(None), Arc::new(Cpu)).unwrap());

/// Random weights of a family, written to `file`.
fn of_family(file: &Path, family: Family, width: f64) -> Evaluator {
    let blank = Blank::new(family, width, 10);
    let supernet = Supernet::random(&blank, 1).unwrap();
    std::fs::write(file, supernet.checkpoint().to_bytes().unwrap()).unwrap();
    let card = Card { data: Some("digits".into()), resolutions: vec![32, 48], ..supernet.card };
    std::fs::write(Card::path(file), card.to_json()).unwrap();
    Evaluator::open(&options(Some(file.into())), Arc::new(Cpu)).unwrap()
}

/// Two rounds of two epochs of three steps, at rates that leave a mark.
fn config(sets: &[&str]) -> Config {
    let usual = ["adaptation.epochs=2", "adaptation.rate=0.05", "adaptation.warmup_rate=0.01"];
    let sets: Vec<String> = usual.iter().chain(sets).map(|s| s.to_string()).collect();
    config::load("search", None, &sets, Some(config::Profile::Tiny)).unwrap()
}

fn state(folder: &Path) -> State {
    State::restored(latest_checkpoint(folder, "search").unwrap()).unwrap().unwrap()
}

/// Runs to the end, or to a stop after `patience`; whether it ended.
fn go(folder: &Path, evaluator: &Evaluator, config: &Config, threads: usize, patience: Duration) -> bool {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let run = RunDirectory::open(folder).unwrap();
    let stop = Arc::new(StopFlag::new());
    let (done, ended) = std::sync::mpsc::channel::<()>();
    let watcher = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            if ended.recv_timeout(patience).is_err() {
                stop.request();
            }
        })
    };
    let outcome = pool.install(|| search(config, evaluator, &run, &stop, Output::Silent)).unwrap();
    let _ = done.send(());
    watcher.join().unwrap();
    matches!(outcome, Outcome::Finished(..))
}

fn whole(folder: &Path, evaluator: &Evaluator, config: &Config, threads: usize) {
    assert!(go(folder, evaluator, config, threads, Duration::from_secs(3600)));
}

fn files(folder: &Path) -> [Vec<u8>; 4] {
    ["archive.json", "front.json", "adapted.safetensors", "adapted.card.json"]
        .map(|name| std::fs::read(folder.join(name)).unwrap())
}

/// Networks with their measured answers.
fn answers(entries: &[Entry]) -> Vec<(Vec<u8>, usize, u64)> {
    entries.iter().map(|e| (e.genotype.clone(), e.correct, e.loss.to_bits())).collect()
}

#[test]
fn accuracies_are_those_of_the_adapted_weights_and_threads_change_nothing() {
    accuracies(&EVALUATOR, &config(&[]));
}

/// Whoever evaluates in 16 bits sees the weights that the last step left, not rows made before it.
#[test]
fn so_they_are_in_16_bits() {
    let options = Options { precision: Precision::F16, ..options(None) };
    let evaluator = Evaluator::open(&options, Arc::new(Cpu)).unwrap();
    accuracies(&evaluator, &config(&["search.precision=f16", "adaptation.precision=bf16"]));
}

fn accuracies(evaluator: &Evaluator, config: &Config) {
    let folder = tempfile::tempdir().unwrap();
    let folders = [folder.path().join("one"), folder.path().join("two")];
    whole(&folders[0], evaluator, config, 1);
    whole(&folders[1], evaluator, config, 2);
    assert_eq!(files(&folders[0]), files(&folders[1]));

    let state = state(&folders[0]);
    assert_eq!((state.iteration, state.adaptation.steps, state.adaptation.pending), (2, 12, None));
    let epochs = &state.adaptation.epochs;
    assert_eq!(
        epochs.iter().map(|e| (e.iteration, e.epoch)).collect::<Vec<_>>(),
        [(1, 1), (1, 2), (2, 3), (2, 4)]
    );
    assert!(epochs.iter().all(|e| e.loss.is_finite() && e.loss > 0.0 && e.rate > 0.0));
    assert!(epochs[0].rate > epochs[1].rate && epochs[2].rate > epochs[3].rate, "one cosine");
    assert_eq!(state.history[0].adaptation, None);
    for done in &state.history[1..] {
        let adapted = done.adaptation.unwrap();
        assert_eq!((adapted.steps, adapted.reevaluated), (6, 12));
        assert!(adapted.top1_before != adapted.top1_after);
    }
    assert_eq!((state.evaluations, state.adaptation.reevaluations), (30, 24));

    // The same networks measured with the weights that were written, and with those it began with.
    let weights = folders[0].join("adapted.safetensors");
    let precision = evaluator.engine().precision();
    let adapted = Evaluator::open(&Options { precision, ..options(Some(weights)) }, Arc::new(Cpu)).unwrap();
    let archs: Vec<_> =
        state.archive.entries.iter().map(|e| adapted.space().decode(&e.genotype).unwrap()).collect();
    let measured = |evaluator: &Evaluator| {
        let results = evaluator
            .evaluate(&archs, natv2::data::Split::Val, config.search.eval_images, &|| false, &|_, _| ())
            .unwrap()
            .unwrap();
        let pairs = state.archive.entries.iter().zip(results);
        pairs.map(|(e, r)| (e.genotype.clone(), r.correct, r.loss.to_bits())).collect::<Vec<_>>()
    };
    assert_eq!(measured(&adapted), answers(&state.archive.entries));
    let before = measured(evaluator);
    assert!(before.iter().zip(answers(&state.archive.entries)).all(|(a, b)| a.2 != b.2));
    let card = Card::beside(&folders[0].join("adapted.safetensors")).unwrap();
    assert!(card.trained.unwrap().ends_with("natv2 search: adaptation (12 steps, seed 0)"));

    // The journal tells it in order.
    let kinds: Vec<String> = events(&folders[0]).unwrap().into_iter().map(|event| event.kind).collect();
    let round = ["adaptation", "adaptation", "reevaluation", "iteration", "front"];
    let expected: Vec<&str> = ["iteration", "front"].into_iter().chain(round).chain(round).collect();
    assert_eq!(kinds, expected);
    // And so does the page.
    let (run, weights) = (Path::new("runs/x"), Some(Path::new("runs/x/adapted.safetensors")));
    let next = natv2::shown::OfRun { run, config, weights, wide_weights: None, tested: true };
    let context = natv2::search::page::Context {
        command: "search",
        space: evaluator.space(),
        classes: 10,
        config,
        data: None,
        trained: false,
        next: &next,
    };
    let page = natv2::search::page::page(&context, &state, &[], &[]).unwrap();
    let html = natv2::report::render(&page);
    assert!(
        html.contains("adaptation: training loss") && html.contains("--weights runs/x/adapted.safetensors")
    );
    // What is not f32 is said, and asked for again.
    let half = config.adaptation.precision == config::Precision::Bf16;
    assert_eq!(html.contains("2 epochs a round in bf16"), half);
    assert_eq!(html.contains(" --precision f16 --archs"), half);
}

#[test]
fn stops_at_any_moment_end_in_the_same_bits() {
    assert_eq!(stops(&[]), 0);
}

/// The fewest looks for a stop that `onward` takes; more of them are taken too. Each try is a part of a search, so
/// they begin at a guess and go away from it in strides that double.
fn fewest(guess: usize, onward: impl Fn(usize) -> bool) -> usize {
    let (mut too_few, mut enough, mut stride) = (0, guess.max(1), 1);
    if onward(enough) {
        while too_few == 0 && enough > 1 {
            let less = enough.saturating_sub(stride).max(1);
            if onward(less) {
                enough = less
            } else {
                too_few = less
            }
            stride *= 2;
        }
    } else {
        (too_few, enough) = (enough, enough + stride);
        while !onward(enough) {
            stride *= 2;
            (too_few, enough) = (enough, enough + stride);
        }
    }
    while enough - too_few > 1 {
        let middle = (too_few + enough) / 2;
        if onward(middle) { enough = middle } else { too_few = middle }
    }
    enough
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A search that is stopped where a test wants it.
struct Stopping<'a> {
    evaluator: &'a Evaluator,
    config: &'a Config,
    /// The run, and where the next part of it is tried.
    folders: [PathBuf; 2],
}

impl Stopping<'_> {
    /// Goes on in a folder; whether it came to its end.
    fn go(&self, folder: &Path, stop: &StopFlag) -> Result<bool, String> {
        let run = RunDirectory::open(folder).unwrap();
        let done = search(self.config, self.evaluator, &run, stop, Output::Silent);
        done.map(|outcome| matches!(outcome, Outcome::Finished(..))).map_err(|error| error.to_string())
    }

    /// Goes on to the first checkpoint that is `far` enough, which gets the numbers of the one before and of this one,
    /// and stops there, or to the end. `looks` is a guess how many looks for a stop that takes, and then their number.
    fn on_to(
        &self,
        looks: &mut usize,
        far: impl Fn(Option<u64>, Option<u64>) -> bool,
    ) -> Result<bool, String> {
        let at = |folder: &Path| {
            let checkpoint = latest_checkpoint(folder, "search").unwrap().checkpoint;
            checkpoint.map(|checkpoint| checkpoint.step())
        };
        let [run, probe] = &self.folders;
        let before = if run.exists() { at(run) } else { None };
        *looks = fewest(*looks, |looks| {
            let _ = std::fs::remove_dir_all(probe);
            if run.exists() {
                copy(run, probe);
            }
            self.go(probe, &StopFlag::at_look(looks)) != Ok(false) || far(before, at(probe))
        });
        self.go(run, &StopFlag::at_look(*looks))
    }

    /// What the newest checkpoint says.
    fn state(&self) -> Option<State> {
        State::restored(latest_checkpoint(&self.folders[0], "search").unwrap()).unwrap()
    }
}

/// Searches straight on, and with the stops of `stopping`, which must come to the same; the result, and the
/// divergences.
fn compared(
    (evaluator, config): (&Evaluator, &Config),
    stopping: impl FnOnce(&Stopping<'_>) -> Result<bool, String>,
) -> (Result<bool, String>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let [straight, stopped, probe] = ["straight", "stopped", "probe"].map(|name| folder.path().join(name));
    let search = Stopping { evaluator, config, folders: [stopped.clone(), probe] };
    let done = search.go(&straight, &StopFlag::new());
    assert_eq!(done, stopping(&search));
    if done.is_ok() {
        assert_eq!(files(&straight), files(&stopped));
        assert_eq!(state(&straight), state(&stopped));
        assert_eq!(newest(&straight, "search"), newest(&stopped, "search"));
    }
    for step in std::fs::read_dir(stopped.join("checkpoints/search")).unwrap() {
        let file = step.unwrap().path().join("weights.safetensors");
        assert!(!file.exists() || Checkpoint::read(&file).is_ok(), "{}", file.display());
    }
    let back = events(&straight).unwrap().into_iter().filter(|event| event.kind == "rollback");
    (done, back.map(|event| event.data.as_str().unwrap().to_string()).collect())
}

/// Settings of a search that is stopped often.
const SMALL: [&str; 4] =
    ["search.archive=6", "search.oversample=1", "predictor.folds=3", "adaptation.epochs=1"];

/// Stopped wherever a stop makes a checkpoint, the first step of every round among them.
fn step_by_step(sets: &[&str]) -> (Result<bool, String>, Vec<String>) {
    compared((&EVALUATOR, &config(&[&SMALL[..], sets].concat())), |search| {
        let (mut at_starts, mut within, mut looks) = (0, 0, 1);
        loop {
            let done = search.on_to(&mut looks, |before, now| now != before);
            if done != Ok(false) {
                assert!(at_starts > 0 && within > 0, "{at_starts} {within}");
                return done;
            }
            let Some(state) = search.state() else { continue };
            match state.adaptation.pending {
                Some(_) if state.adaptation.steps == 3 * state.iteration => at_starts += 1,
                Some(_) => within += 1,
                None => {}
            }
        }
    })
}

#[test]
fn stops_before_steps_of_a_round_change_nothing() {
    assert_eq!(step_by_step(&["adaptation.rate=0.05"]), (Ok(true), Vec::new()));
}

#[test]
fn stops_before_the_first_and_the_last_step_of_a_round_change_nothing_in_any_family() {
    let folder = tempfile::tempdir().unwrap();
    let few = ["search.iterations=1", "search.candidates=4", "search.eval_images=20", "adaptation.epochs=2"];
    let batches = ["adaptation.batch=8", "adaptation.epoch_images=24", "adaptation.networks=2"];
    let config = config(&[&SMALL[..], &few, &batches].concat());
    // What one family's first step takes, another's takes or nearly.
    let mut to_the_first = 1;
    for family in Family::all() {
        let evaluator = of_family(&folder.path().join(format!("{family}.safetensors")), family, 0.1);
        let done = compared((&evaluator, &config), |search| {
            // Checkpoint 0 is the initial archive, 1 the candidates', and each step has one more. From there to the
            // last step there is a look before the round and one before each step.
            for (steps, looks) in [(0, &mut to_the_first), (5, &mut 6)] {
                assert_eq!(search.on_to(looks, |_, now| now >= Some(1 + steps)), Ok(false));
                let adaptation = search.state().unwrap().adaptation;
                assert!(
                    adaptation.steps == steps && adaptation.pending.is_some(),
                    "{family}: {adaptation:?}"
                );
            }
            search.go(&search.folders[0], &StopFlag::new())
        });
        assert_eq!(done, (Ok(true), Vec::new()), "{family}");
    }
}

#[test]
fn divergence_goes_back_wherever_it_is_seen_first() {
    let (_, back) = step_by_step(&["adaptation.rate=300"]);
    assert!(back.iter().any(|reason| reason.contains("validation")), "{back:?}");
    let (done, back) = step_by_step(&["adaptation.rate=900000", "adaptation.clip=0"]);
    let message = done.unwrap_err();
    assert_eq!(back.len(), 5, "{back:?}");
    let parts =
        ["diverged 6 times", "lower adaptation.rate (it is 900000)", "clip gradients (adaptation.clip)"];
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
}

/// The scale of the losses is a part of what an interrupted adaptation goes on with: it begins too large for
/// this much distillation, and steps are left out.
#[test]
fn so_they_do_in_16_bits() {
    let skipped = stops(&["adaptation.precision=f16", "adaptation.kd_ratio=20"]);
    assert!(skipped > 0, "no step ever overflowed");
}

/// A search that was stopped during an adaptation is said to be inside it.
fn status_says_so(folder: &Path, config: &Config, state: &State) {
    std::fs::write(folder.join("config.toml"), config.to_toml()).unwrap();
    let status = |flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_natv2"));
        let output = command.arg("status").arg(folder).args(flags).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let done = state.adaptation.epochs.iter().filter(|epoch| epoch.iteration == state.iteration + 1).count();
    let said = format!("{} of 2 iterations done, adapting ({done} of 2 epochs done", state.iteration);
    let (text, json) = (status(&[]), status(&["--json"]));
    assert!(text.contains(&said), "{text}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["adaptation"]["epoch"], &json["adaptation"]["epochs"]), (&done.into(), &2.into()));
}

/// Compares a search that is stopped again and again with one that is not; the steps that were left out.
fn stops(sets: &[&str]) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let (straight, stopped) = (folder.path().join("straight"), folder.path().join("stopped"));
    let config = config(&[&["adaptation.checkpoint_steps=4"], sets].concat());
    let start = std::time::Instant::now();
    whole(&straight, &EVALUATOR, &config, 2);
    let length = start.elapsed();
    let mut within = 0;
    for attempt in 0.. {
        // Sooner or later it gets through, however loaded the machine is.
        let patience = length.mul_f64(0.06 + 0.013 * f64::from(attempt));
        if go(&stopped, &EVALUATOR, &config, 1 + attempt as usize % 2, patience) {
            break;
        }
        let restored = latest_checkpoint(&stopped, "search").unwrap();
        let Some(state) = State::restored(restored).unwrap() else { continue };
        if state.adaptation.pending.is_some() {
            within += 1;
            status_says_so(&stopped, &config, &state);
        }
    }
    assert!(within > 0, "no stop ever came during an adaptation");
    assert_eq!(files(&straight), files(&stopped));
    assert_eq!(state(&straight), state(&stopped));
    // A finished run gives its result again, and leaves the same files.
    whole(&stopped, &EVALUATOR, &config, 1);
    assert_eq!(files(&straight), files(&stopped));
    state(&straight).adaptation.epochs.iter().map(|epoch| epoch.skipped).sum()
}

#[test]
fn losses_in_16_bits_are_near_those_in_f32() {
    let epochs = |precision: &str| {
        let folder = tempfile::tempdir().unwrap();
        let precision = format!("adaptation.precision={precision}");
        let gentle = ["search.iterations=1", "adaptation.rate=0.005", "adaptation.networks=2"];
        let config = config(&[&gentle[..], &["adaptation.epoch_images=96", &precision]].concat());
        whole(folder.path(), &EVALUATOR, &config, 2);
        state(folder.path()).adaptation.epochs
    };
    let exact = epochs("f32");
    for precision in ["f16", "bf16"] {
        for (found, exact) in epochs(precision).iter().zip(&exact) {
            // Measured: up to 0.15 % apart.
            let apart = (found.loss / exact.loss - 1.0).abs();
            assert!(apart > 0.0 && apart < 0.02, "{precision}: {found:?}, and {exact:?} in f32");
            let some = if precision == "f16" { 3 } else { 0 };
            assert!(exact.skipped == 0 && found.skipped <= some, "{precision}: {found:?}");
        }
    }
}

#[test]
fn every_distribution_and_method_adapts() {
    for sets in [
        &["adaptation.distribution=uniform"][..],
        &["adaptation.distribution=best-fit", "adaptation.kd_ratio=0"],
        &["search.method=nat", "adaptation.clip=0"],
        &["search.method=random", "search.objectives=top1,macs"],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let sets = [&["adaptation.epochs=1", "search.iterations=1"], sets].concat();
        let config = config(&sets);
        whole(folder.path(), &EVALUATOR, &config, 2);
        let state = state(folder.path());
        let size = if config.search.method == config::Method::Nat { 15 } else { 12 };
        assert_eq!((state.adaptation.steps, state.archive.entries.len()), (3, size), "{sets:?}");
        assert_eq!(state.adaptation.reevaluations, size);
    }
}

#[test]
fn early_exits_learn_from_the_ensemble() {
    let folder = tempfile::tempdir().unwrap();
    let family: Family = "EE_DP".parse().unwrap();
    let evaluator = of_family(&folder.path().join("ee.safetensors"), family, 0.25);
    let run = folder.path().join("run");
    let sets = ["search.iterations=1", "search.archive=6", "search.oversample=1", "predictor.folds=3"];
    whole(&run, &evaluator, &config(&sets), 2);
    let state = state(&run);
    assert_eq!(state.adaptation.steps, 6);
    // The labels' cross entropy and the ensemble's, each about that of a guess among ten.
    let guess = 2.0 * 10f64.ln();
    assert!(
        state.adaptation.epochs.iter().all(|epoch| (epoch.loss / guess - 1.0).abs() < 0.15),
        "{:?}",
        state.adaptation.epochs
    );
}
