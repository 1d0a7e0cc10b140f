//! Instruction counts, for changes that are smaller than the noise of a clock.
//!
//! `cargo bench --bench instructions [-- FILTER] [--save-baseline NAME]` runs every piece of work under
//! valgrind, once with one iteration and once with three; half the difference is what an iteration
//! costs, without the start of the program. The counts are kept below `target/instructions` in
//! criterion's form, so `natv2 bench compare --criterion target/instructions` compares them. One
//! thread; AVX2 at best, since valgrind has no more. Hash tables are seeded at random, so counts
//! differ by some 0.03 per cent between runs. Without valgrind nothing is counted, and a line says so.

mod common;
#[path = "../tests/search/predictor/table.rs"]
mod table;

use common::lowered::{CASES, Lowered, OnPaper};
use common::synthetic::Synthetic;
use natv2::engine::Precision;
use natv2::engine::plan::{Mode, Reads, lower, lower_tree};
use natv2::engine::tree::Tree;
use natv2::moo::{Points, directions, evolve, sorting};
use natv2::predictor::{self, Features, Settings};
use natv2::random::stream;
use natv2::space::sample::{Policy, sample};
use natv2::space::walk::Exits;
use natv2::space::{Arch, Channels, ExitScaling, Family, Space};
use natv2::supernet::{Layout, init::parts_of};
use rand::RngExt;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Makes what the work needs, then does it so often.
type Work = fn(usize);

const WORK: [(&str, Work); 19] = [
    ("moo/nsga3, 100x20", nsga3),
    ("moo/sorting, 2000x3", fronts),
    ("predictor/fit 10x300", fit),
    ("predictor/predict 2000", predict),
    ("plan/lower, inference", |times| lowering(times, Mode::Inference)),
    ("plan/lower, recalibration", |times| lowering(times, Mode::Recalibration { batches: 5, at_once: 1 })),
    ("plan/lower, a tree of 32", tree),
    ("host/lowering, one network, inference", |times| host_lowering(times, 0)),
    ("host/lowering, one network, recalibration", |times| host_lowering(times, 1)),
    ("host/lowering, a tree of 32, inference", |times| host_lowering(times, 2)),
    ("host/lowering, a tree of 32, recalibration", |times| host_lowering(times, 3)),
    ("host/geometry, one network, inference", |times| host_geometry(times, 0)),
    ("host/geometry, one network, recalibration", |times| host_geometry(times, 1)),
    ("host/geometry, a tree of 32, inference", |times| host_geometry(times, 2)),
    ("host/geometry, a tree of 32, recalibration", |times| host_geometry(times, 3)),
    ("host/recording, one network, inference", |times| host_recording(times, 0)),
    ("host/recording, one network, recalibration", |times| host_recording(times, 1)),
    ("host/recording, a tree of 32, inference", |times| host_recording(times, 2)),
    ("host/recording, a tree of 32, recalibration", |times| host_recording(times, 3)),
];

fn nsga3(times: usize) {
    let (problem, settings) = (Synthetic::new(), evolve::Settings::default());
    // Made once in the life of a process.
    directions::riesz(3, settings.population, settings.direction_seed);
    for _ in 0..times {
        let outcome = evolve::run(black_box(&problem), &settings, &mut stream(1, "bench/moo", 0, 0));
        black_box(outcome.expect("a search"));
    }
}

fn fronts(times: usize) {
    let mut rng = stream(1, "bench/moo", 3, 2000);
    let points = Points::from_rows(3, (0..2000).map(|_| (0..3).map(|_| rng.random()).collect::<Vec<f64>>()));
    for _ in 0..times {
        black_box(sorting::fronts(black_box(&points)));
    }
}

/// The rows that predictors are fitted to, and their targets.
fn rows() -> (Features, Vec<f64>) {
    let (genotypes, errors) = table::load();
    let features = Features::from_rows(&genotypes[..300]).expect("rows of equal length");
    (features, errors[..300].to_vec())
}

fn fit(times: usize) {
    let (features, errors) = rows();
    for _ in 0..times {
        black_box(predictor::fit(&Settings::default(), black_box(&features), &errors, 1).expect("a fit"));
    }
}

fn predict(times: usize) {
    let (features, errors) = rows();
    let ensemble = predictor::fit(&Settings::default(), &features, &errors, 1).expect("a fit");
    let (genotypes, _) = table::load();
    let unseen: Vec<&Vec<u8>> = genotypes.iter().cycle().skip(300).take(2000).collect();
    let unseen = Features::from_rows(&unseen).expect("rows of equal length");
    for _ in 0..times {
        black_box(ensemble.predict(black_box(&unseen)));
    }
}

fn layout() -> Layout {
    Layout::new(Channels::new(1.0, ExitScaling::Once), 200, parts_of(Family::SE_B))
}

fn lowering(times: usize, mode: Mode) {
    let layout = layout();
    let middle = Arch::middle(Family::SE_B, 64, None);
    for _ in 0..times {
        black_box(lower(black_box(&layout), &middle, Exits::single(&middle), 64, mode, Precision::F32));
    }
}

fn tree(times: usize) {
    let layout = layout();
    let space = Space::new(Family::SE_B, &[64], &[1.0], ExitScaling::Once).expect("a space");
    let mut rng = stream(1, "bench/plan", 0, 0);
    let archs: Vec<Arch> =
        (0..32).map(|_| space.decode(&sample(&space, Policy::NatV2, &mut rng)).expect("decodes")).collect();
    let members: Vec<(&Arch, Exits)> = archs.iter().map(|arch| (arch, Exits::single(arch))).collect();
    for _ in 0..times {
        let tree = Tree::new(layout.channels(), black_box(&members));
        black_box(lower_tree(&layout, &tree, 64, Mode::Inference, Reads::Scores, Precision::F32));
    }
}

fn host_lowering(times: usize, case: usize) {
    let (_, count, recalibrated) = CASES[case];
    let lowered = Lowered::new(count, recalibrated);
    (0..times).for_each(|_| drop(black_box(lowered.lower())));
}

/// A program whose first launches are behind it.
fn launched(case: usize) -> OnPaper {
    let (_, count, recalibrated) = CASES[case];
    let mut paper = OnPaper::new(Lowered::new(count, recalibrated).lower());
    paper.launch();
    paper
}

fn host_geometry(times: usize, case: usize) {
    let mut paper = launched(case);
    (0..times).for_each(|_| paper.launch());
}

fn host_recording(times: usize, case: usize) {
    let mut paper = launched(case);
    (0..times).for_each(|_| paper.record());
}

/// Instructions of a process that does work `name` so often; `None` where valgrind cannot run.
fn count(name: &str, times: usize, folder: &Path) -> Option<u64> {
    let out = folder.join(format!(".valgrind-{}", std::process::id()));
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no"])
        .arg(format!("--cachegrind-out-file={}", out.display()))
        .arg(std::env::current_exe().ok()?)
        .args(["--work", name, &times.to_string()])
        .env("RAYON_NUM_THREADS", "1")
        .output()
        .ok()?;
    let text = fs::read_to_string(&out).unwrap_or_default();
    // It may not have been written.
    let _ = fs::remove_file(&out);
    let summary = text.lines().find_map(|line| line.strip_prefix("summary:"));
    let found = summary.and_then(|line| line.split_whitespace().next()?.parse().ok());
    if found.is_none() {
        eprintln!("{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    found
}

/// Keeps a count as criterion keeps a time.
fn keep(folder: &Path, name: &str, run: &str, instructions: f64) -> std::io::Result<()> {
    let to = folder.join(name.replace('/', "_")).join(run);
    fs::create_dir_all(&to)?;
    let estimate = serde_json::json!({"point_estimate": instructions});
    let estimates = serde_json::json!({"median": estimate, "mean": estimate});
    fs::write(to.join("estimates.json"), estimates.to_string())?;
    let about = serde_json::json!({"full_id": format!("instructions/{name}"), "unit": "instructions"});
    fs::write(to.join("benchmark.json"), about.to_string())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name, times] = &arguments[..]
        && flag == "--work"
    {
        let (_, work) = WORK.iter().find(|(known, _)| known == name).expect("a name of the list");
        work(times.parse().expect("a number"));
        return ExitCode::SUCCESS;
    }
    // What cargo and criterion's users add to every benchmark.
    let mut filter = None;
    let mut baseline = None;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--test" => {
                WORK.iter().for_each(|(_, work)| work(1));
                return ExitCode::SUCCESS;
            }
            "--save-baseline" => baseline = rest.next(),
            flag if flag.starts_with('-') => {}
            text => filter = Some(text),
        }
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let folder = target.join("instructions");
    fs::create_dir_all(&folder).expect("a folder below target");
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("instructions: valgrind is not installed, so nothing is counted");
        return ExitCode::SUCCESS;
    }
    for (name, _) in WORK.iter().filter(|(name, _)| filter.is_none_or(|part| name.contains(part))) {
        let (Some(once), Some(thrice)) = (count(name, 1, &folder), count(name, 3, &folder)) else {
            return ExitCode::FAILURE;
        };
        let each = thrice.saturating_sub(once) as f64 / 2.0;
        println!("{:<56} {each:>14.0} instructions", format!("instructions/{name}"));
        for run in ["new"].into_iter().chain(baseline.map(String::as_str)) {
            keep(&folder, name, run, each).expect("a file below target");
        }
    }
    ExitCode::SUCCESS
}
