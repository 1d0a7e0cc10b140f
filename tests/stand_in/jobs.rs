//! Small jobs of natv2 on the stand-in driver, which take a second or less each.

use crate::common::ends_within;
use crate::common::stand_in::natv2;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// Whether tests are to take their time: `NATV2_STAND_IN_LONG=1`.
pub fn is_long() -> bool {
    std::env::var_os("NATV2_STAND_IN_LONG").is_some_and(|value| value == "1")
}

/// How long a job may take: it hangs where it takes longer.
const LIMIT: Duration = Duration::from_secs(120);

/// What is in place of the run directory in arguments.
const RUN: &str = "RUN";

/// A job of natv2.
pub struct Job {
    arguments: Vec<String>,
    /// What it comes to: files of the run directory, without times; or the key `results` of what it prints, where it
    /// has none; or nothing, where all that it prints are times.
    files: &'static [&'static str],
    prints_results: bool,
}

/// How a job has ended.
pub struct Outcome {
    pub code: Option<i32>,
    /// What it came to, by name.
    pub results: BTreeMap<String, Vec<u8>>,
    /// Standard error.
    pub said: String,
    /// How often each symbol of the driver was called, and how many kernels have run.
    pub calls: Vec<(String, u64)>,
}

impl Outcome {
    /// How often a symbol was called.
    pub fn count(&self, symbol: &str) -> u64 {
        self.calls.iter().find(|(name, _)| name == symbol).map_or(0, |(_, count)| *count)
    }
}

/// Pictures of noise, 32 pixels wide: two of each of ten classes to train on, one to choose by and one to test on.
fn pictures() -> &'static str {
    static FOLDER: OnceLock<String> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stand-in-pictures");
        for (split, images) in [("train", 2), ("val", 1), ("test", 1)] {
            for class in 0..10 {
                let class_folder = folder.join(split).join(format!("class {class}"));
                std::fs::create_dir_all(&class_folder).expect("a folder");
                for number in 0..images {
                    let file = File::create(class_folder.join(format!("{number}.png"))).expect("a file");
                    let mut encoder = png::Encoder::new(file, 32, 32);
                    encoder.set_color(png::ColorType::Rgb);
                    let shade = |i: usize| ((i * (number + 7)) % 90 + 15 * class) as u8;
                    let pixels: Vec<u8> = (0..32 * 32 * 3).map(shade).collect();
                    let mut writer = encoder.write_header().expect("a header");
                    writer.write_image_data(&pixels).expect("pixels");
                }
            }
        }
        folder.to_str().expect("UTF-8").to_owned()
    })
}

/// Two small networks of the built-in super-network.
fn networks() -> String {
    let network = |filter: u8| {
        let (mut filters, factors) = (vec![3; 20], vec![3; 20]);
        filters[4] = filter;
        serde_json::json!({"r": 32, "w": 0.25, "ks": filters, "e": factors, "d": [2, 2, 2, 2, 2]})
    };
    Value::from(vec![network(3), network(5)]).to_string()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

impl Job {
    /// Populations on two streams, as graphs, of which times are printed.
    pub fn bench() -> Job {
        let arguments = words(
            "bench evaluate --width 0.1 --images 4 --calibration-images 4 --resolution 32 --streams 2 --graphs always \
             --population 2 --rounds 1",
        );
        Job { arguments, files: &[], prints_results: false }
    }

    /// Accuracies and losses of two networks on pictures.
    pub fn evaluate() -> Job {
        let arguments = words("evaluate --json --calibration-images 8");
        Job { arguments, files: &[], prints_results: true }.with(&[
            "--archs",
            &networks(),
            "--data",
            "image-folder",
            "--data-dir",
            pictures(),
        ])
    }

    /// A search with an iteration, and adaptation.
    pub fn search() -> Job {
        let arguments = words(
            "search --profile tiny --run RUN --set adaptation.epochs=1 --set search.iterations=1 --set search.archive=4 \
             --set search.candidates=1 --set search.oversample=1 --set adaptation.epoch_images=8 \
             --set adaptation.networks=1 --set adaptation.batch=8 --set search.calibration_images=8 \
             --set search.eval_images=8",
        );
        let files = &["front.json", "archive.json", "adapted.safetensors", "adapted.card.json"];
        Job { arguments, files, prints_results: false }.with_pictures()
    }

    /// Two steps of training.
    pub fn train() -> Job {
        let arguments = words(
            "train --profile tiny --run RUN --set supernet.width=0.1 --set train.schedule=full \
             --set train.epoch_images=16 --set train.batch=8 --set train.validation_images=8 \
             --set train.calibration_images=8 --set train.checkpoint_steps=1",
        );
        Job { arguments, files: &["supernet.safetensors"], prints_results: false }.with_pictures()
    }

    /// Fine-tuning of what a search has found.
    pub fn finetune(search: &Path) -> Job {
        let arguments = words(
            "finetune --profile tiny --run RUN --set finetune.epochs=2 --set finetune.count=1 --set finetune.batch=8 \
             --set finetune.epoch_images=8 --set finetune.validation_images=8 --set finetune.calibration_images=8",
        );
        let search = format!("finetune.search='{}'", search.display());
        let files = &["network-1.safetensors", "finetuned.json"];
        Job { arguments, files, prints_results: false }.with_pictures().with(&["--set", &search])
    }

    fn with(mut self, arguments: &[&str]) -> Job {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    fn with_pictures(self) -> Job {
        let folder = format!("data.dir='{}'", pictures());
        self.with(&["--set", "data.name=image-folder", "--set", &folder])
    }

    /// Whether it has no run directory.
    pub fn keeps_nothing(&self) -> bool {
        self.files.is_empty()
    }

    /// Runs it, with its run directory below that folder and with those settings of the driver; `None` in builds
    /// without the emulator.
    pub fn run(&self, folder: &Path, settings: &[(&str, &str)]) -> Option<Outcome> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file = |name: &str| folder.join(format!("{name}-{number}"));
        let (run, report, printed, said) =
            (folder.join("run"), file("report"), file("printed"), file("said"));
        let report_name = report.to_str().expect("UTF-8");
        let settings = [settings, &[("REPORT", report_name)]].concat();
        let mut command = natv2(&[], &settings)?;
        let put = |argument: &String| if argument == RUN { run.clone() } else { argument.into() };
        command.args(self.arguments.iter().map(put)).args(["--device", "cuda"]);
        let to = |path: &Path| Stdio::from(File::create(path).expect("a file"));
        let mut child = command.stdout(to(&printed)).stderr(to(&said)).spawn().expect("it runs");
        if !ends_within(&mut child, LIMIT) {
            child.kill().expect("it is stopped");
            panic!("{:?} with {settings:?} hangs", self.arguments);
        }
        let code = child.wait().expect("it has ended").code();
        let results = if self.prints_results { printed_results(&printed) } else { self.kept(&run) };
        let said = String::from_utf8_lossy(&std::fs::read(said).expect("a file")).into_owned();
        Some(Outcome { code, results, said, calls: calls(&report) })
    }

    /// The files that it comes to; those that are there.
    fn kept(&self, run: &Path) -> BTreeMap<String, Vec<u8>> {
        let read = |name: &&str| Some(((*name).to_owned(), std::fs::read(run.join(name)).ok()?));
        self.files.iter().filter_map(read).collect()
    }
}

/// `results` of what a job has printed as JSON.
fn printed_results(printed: &Path) -> BTreeMap<String, Vec<u8>> {
    let text = std::fs::read(printed).expect("a file");
    let value: Value = serde_json::from_slice(&text).unwrap_or_default();
    let results =
        value.get("results").map(|results| ("results".to_owned(), results.to_string().into_bytes()));
    results.into_iter().collect()
}

/// What the driver has counted of its functions.
fn calls(report: &Path) -> Vec<(String, u64)> {
    let text = std::fs::read(report).unwrap_or_default();
    let value: Value = serde_json::from_slice(&text).unwrap_or_default();
    let counts = value["counts"].as_object().cloned().unwrap_or_default();
    let is_call = |name: &str| name == "kernel" || name.starts_with("cu");
    counts
        .into_iter()
        .filter(|(name, _)| is_call(name))
        .filter_map(|(name, count)| Some((name, count.as_u64()?)))
        .collect()
}

/// What `work` says of each, on two threads; those that it says something of.
pub fn side_by_side<T: Sync>(all: &[T], work: impl Fn(&T) -> Option<String> + Sync) -> Vec<String> {
    let (next, said) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(text) = work(one) {
                        said.lock().expect("no thread died").push(text);
                    }
                }
            });
        }
    });
    said.into_inner().expect("no thread died")
}
