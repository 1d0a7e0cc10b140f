//! `natv2 doctor`: what this machine has and what is missing, for every device.
//!
//! The report is a list of [`Section`]s of [`Finding`]s, each with a state and, where something can
//! be done, a remedy. A new section is a function here and a line in [`examine`].

use super::doctor_tools::tools;
use super::threads::{self, ThreadCount};
use super::{Error, output};
use crate::device::{self, Device};
use crate::engine::{Calibration, Cropped, Engine};
use crate::exit::Exit;
use crate::ops::simd::Isa;
use crate::random::stream;
use crate::space::Arch;
use crate::space::walk::Exits;
use crate::supernet::{Supernet, Tensor};
use clap::Args;
use rand::RngExt;
use serde::Serialize;
use serde_json::json;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

const AFTER_HELP: &str = "\
Examples:
  natv2 doctor
  natv2 doctor --json

Every device that opens runs a small network, whose outputs are compared with those of the plain
reference. Exit code 0 if the CPU and every other device that is there work, whatever is missing; 1 if
one of them does not.";

/// Largest difference to the reference, relative to the largest output or 1.
const TOLERANCE: f32 = 2e-4;

/// Arguments of `natv2 doctor`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Doctor {
    /// The report as one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Findings about one thing.
#[derive(Debug, Serialize)]
struct Section {
    name: &'static str,
    findings: Vec<Finding>,
}

/// Whether a finding is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// It works.
    Ok,
    /// A fact, neither good nor bad.
    Info,
    /// Not there; natv2 works without it.
    Missing,
    /// It is there and does not work.
    Broken,
}

/// One thing found.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    name: String,
    state: State,
    value: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    pub(super) fn new(name: &str, state: State, value: impl Into<String>) -> Finding {
        Finding { name: name.into(), state, value: value.into(), remedy: None }
    }

    fn info(name: &str, value: impl Into<String>) -> Finding {
        Finding::new(name, State::Info, value)
    }

    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Finding {
        self.remedy = Some(remedy.into());
        self
    }
}

impl Doctor {
    pub(super) fn run(self) -> Result<Exit, Error> {
        threads::start(None)?;
        let sections = examine();
        if self.json {
            output::json(&json!({"version": 1, "sections": sections}))?
        } else {
            output::print(&text(&sections))?
        }
        verdict(&sections).map(|()| Exit::Done)
    }
}

/// Whether all devices work that are there; the CPU is there.
fn verdict(sections: &[Section]) -> Result<(), Error> {
    let devices = || sections.iter().filter(|section| section.name == DEVICES).flat_map(|s| &s.findings);
    let broken = devices().filter(|f| f.state == State::Broken || (f.name == "cpu" && f.state != State::Ok));
    let mut names: Vec<&str> = broken.map(|finding| finding.name.as_str()).collect();
    if !devices().any(|finding| finding.name == "cpu") {
        names.push("cpu");
    }
    if names.is_empty() {
        Ok(())
    } else {
        Err(Error::Check(format!(
            "a device is there and does not work: {}; see the report",
            names.join(", ")
        )))
    }
}

/// The section of what was run on.
const DEVICES: &str = "devices";

fn examine() -> Vec<Section> {
    vec![
        Section { name: "natv2", findings: program() },
        Section { name: "processor", findings: processor() },
        Section { name: "memory", findings: memory() },
        Section { name: "cuda", findings: cuda() },
        Section { name: "emulator", findings: emulator() },
        Section { name: "tools", findings: tools() },
        Section { name: DEVICES, findings: devices() },
    ]
}

fn text(sections: &[Section]) -> String {
    let mut out = String::new();
    for section in sections {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{}", section.name);
        for Finding { name, state, value, remedy } in &section.findings {
            let mark = match state {
                State::Ok => "ok",
                State::Info => "",
                State::Missing => "--",
                State::Broken => "!!",
            };
            let _ = writeln!(out, "  {mark:<3}{name:<18} {value}");
            if let Some(remedy) = remedy {
                let _ = writeln!(out, "     {:<18} -> {remedy}", "");
            }
        }
    }
    out
}

fn program() -> Vec<Finding> {
    let profile =
        if cfg!(debug_assertions) { "with checks (dev profile)" } else { "optimised (release profile)" };
    let mut build = Finding::info("build", profile);
    if cfg!(debug_assertions) {
        build = build.remedy("figures count only from a build with --release");
    }
    vec![
        Finding::info("version", env!("CARGO_PKG_VERSION")),
        build,
        Finding::info("platform", format!("{} on {}", std::env::consts::ARCH, std::env::consts::OS)),
    ]
}

fn processor() -> Vec<Finding> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = field(&cpuinfo, "model name").unwrap_or("unknown");
    let features = features();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = ThreadCount::wanted(None);
    let mut isa =
        Finding::new("instruction set", State::Ok, format!("{} (best of this processor)", Isa::best()));
    if Isa::best() == Isa::Portable {
        isa.state = State::Missing;
        isa = isa.remedy("a processor with AVX2 and FMA is several times faster");
    }
    let mut findings = vec![
        Finding::info("model", model),
        Finding::info("features", if features.is_empty() { "none known".into() } else { features.join(" ") }),
        isa,
        Finding::info("cores", format!("{cores} for this process")),
        Finding::info("threads", threads.to_string()),
    ];
    for (name, value) in &threads.unread {
        let finding = Finding::new(name, State::Missing, format!("{value:?}, which is no number"));
        findings.push(finding.remedy("it is passed over: give it a number, or give --threads"));
    }
    let caches = caches(Path::new("/sys/devices/system/cpu/cpu0/cache"));
    if !caches.is_empty() {
        findings.push(Finding::info("caches", caches.join(", ")));
    }
    findings
}

/// Vector features of this processor that the operators have code for, or that users ask about.
fn features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let known = [
            ("sse4.2", is_x86_feature_detected!("sse4.2")),
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("f16c", is_x86_feature_detected!("f16c")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
            ("avx512vl", is_x86_feature_detected!("avx512vl")),
            ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        ];
        known.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}

/// `L1d 48K` and so on, as Linux lists them.
fn caches(folder: &Path) -> Vec<String> {
    let read = |index: usize, file: &str| {
        let text = std::fs::read_to_string(folder.join(format!("index{index}")).join(file)).ok()?;
        Some(text.trim().to_string())
    };
    (0..8)
        .map_while(|index| {
            let (level, kind, size) = (read(index, "level")?, read(index, "type")?, read(index, "size")?);
            let kind = match kind.as_str() {
                "Data" => "d",
                "Instruction" => "i",
                _ => "",
            };
            Some(format!("L{level}{kind} {size}"))
        })
        .collect()
}

/// The value of the first line `name : value` of a file such as /proc/cpuinfo.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

fn memory() -> Vec<Finding> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = |name: &str| field(&meminfo, name)?.split_whitespace().next()?.parse::<f64>().ok();
    let gib = |kilobytes: f64| format!("{:.1} GiB", kilobytes / f64::from(1 << 20));
    let mut findings = Vec::new();
    if let (Some(total), Some(available)) = (kilobytes("MemTotal"), kilobytes("MemAvailable")) {
        findings.push(Finding::info("memory", format!("{}, {} available", gib(total), gib(available))));
    } else {
        findings.push(Finding::info("memory", "unknown"));
    }
    // Batch systems and containers limit a job below what the machine has.
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = limits.iter().find_map(|file| std::fs::read_to_string(file).ok()?.trim().parse::<f64>().ok());
    if let Some(bytes) = limit.filter(|bytes| *bytes < 1e15) {
        findings.push(Finding::info("limit of this job", gib(bytes / 1024.0)));
    }
    findings
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Vec<Finding> {
    let finding = Finding::new("support", State::Missing, "this program was built without it");
    vec![finding.remedy("build with the feature `cuda`, which is on by default")]
}

#[cfg(feature = "cuda")]
fn cuda() -> Vec<Finding> {
    use crate::device::cuda::ImageCache;
    use crate::device::cuda::{CudaError, Nvrtc, architectures, driver_library, probe};
    let embedded = cfg!(natv2_fatbin);
    let mut findings = vec![if embedded {
        Finding::new(
            "kernels",
            State::Ok,
            format!(
                "compiled into this program for {} (sm: machine code; compute: PTX, for newer cards)",
                architectures().join(", ")
            ),
        )
    } else {
        Finding::new(
            "kernels",
            State::Missing,
            "not compiled into this program: NVRTC makes them at run time",
        )
        .remedy("build where nvcc is on PATH to have them in the program")
    }];
    findings.push(match Nvrtc::load() {
        Ok(nvrtc) => {
            let version = nvrtc
                .version()
                .map_or("of unknown version".into(), |(major, minor)| format!("{major}.{minor}"));
            Finding::new("nvrtc", State::Ok, format!("{version}, {}", nvrtc.path().display()))
        }
        // Without kernels in the program and without NVRTC there is no way to run on a card.
        Err(reason) if embedded => {
            Finding::new("nvrtc", State::Missing, format!("{reason}; needed for older drivers only"))
        }
        Err(reason) => Finding::new("nvrtc", State::Missing, reason)
            .remedy("install the CUDA toolkit's NVRTC, or set CUDA_HOME to where it is"),
    });
    if let Some(folder) = ImageCache::of_environment().folder() {
        let kept = std::fs::read_dir(folder).map_or(0, Iterator::count);
        let value = format!("{} ({kept} kept of what NVRTC has made; NATV2_CACHE sets it)", folder.display());
        findings.push(Finding::info("image cache", value));
    }
    let probed = probe();
    findings.extend(driver_library().as_ref().map(library));
    match probed {
        Ok(driver) => {
            let (major, minor) = driver.cuda_version;
            findings.push(Finding::new("driver", State::Ok, format!("supports CUDA {major}.{minor}")));
            findings.extend(driver.cards.iter().map(|card| {
                let (major, minor) = card.compute_capability;
                Finding::new(
                    &format!("card {}", card.ordinal),
                    State::Ok,
                    format!(
                        "{}, compute capability {major}.{minor}, {:.1} GiB, {} multiprocessors, {} MHz, memory {} MHz",
                        card.name,
                        card.memory_bytes as f64 / f64::from(1 << 30),
                        card.multiprocessors,
                        card.clock_khz / 1000,
                        card.memory_clock_khz / 1000
                    ),
                )
            }));
        }
        // Each of these says what to do.
        Err(error @ (CudaError::NoDriver | CudaError::NoCard)) => {
            findings.push(Finding::new("driver", State::Missing, error.to_string()));
        }
        Err(error) => findings.push(Finding::new("driver", State::Broken, error.to_string())),
    }
    findings
}

/// The driver library that the loader has picked.
#[cfg(feature = "cuda")]
fn library(loaded: &crate::device::cuda::DriverLibrary) -> Finding {
    let path = loaded.path.display();
    if loaded.stub {
        Finding::new(
            "driver library",
            State::Broken,
            format!("{path}, a toolkit's stub: it stands in for the driver when programs are linked, and runs nothing"),
        )
        .remedy(
            "take its folder off LD_LIBRARY_PATH, so that the driver's own libcuda.so is found, or install the driver",
        )
    } else {
        Finding::info("driver library", path.to_string())
    }
}

/// The kernels on the CPU.
fn emulator() -> Vec<Finding> {
    vec![match device::emulated::EmulatedRuntime::new(1) {
        Ok(_) => {
            let count = device::emulated::kernels().len();
            Finding::new("kernels", State::Ok, format!("{count} compiled for the CPU into this program"))
        }
        // It says what to do.
        Err(error) => Finding::new("kernels", State::Missing, error.to_string()),
    }]
}

fn devices() -> Vec<Finding> {
    let probe = match Probe::new() {
        Ok(probe) => probe,
        Err(error) => return vec![Finding::new("cpu", State::Broken, error.to_string())],
    };
    let names = ["cpu", "emulated", "cuda"].map(str::to_owned);
    names.into_iter().chain(further_cards()).map(|name| probe.device(&name)).collect()
}

/// The cards behind the first, which `cuda` is.
fn further_cards() -> impl Iterator<Item = String> {
    #[cfg(feature = "cuda")]
    let count = device::cuda::probe().map_or(0, |driver| driver.cards.len());
    #[cfg(not(feature = "cuda"))]
    let count = 0;
    (1..count).map(|ordinal| format!("cuda:{ordinal}"))
}

/// A small network with images, and what the reference makes of them.
struct Probe {
    supernet: Arc<Supernet>,
    arch: Arch,
    images: Tensor,
    expected: Vec<f32>,
}

impl Probe {
    fn new() -> Result<Probe, Error> {
        let supernet = Arc::new(Supernet::open(None, None)?);
        let mut arch = Arch::largest(supernet.family, 32, None);
        (arch.ks, arch.e, arch.d) = ([5; 20], [3; 20], [2; 5]);
        let mut rng = stream(0, "doctor", 0, 0);
        let data = (0..4 * 3 * 32 * 32).map(|_| rng.random_range(-1.0f32..1.0)).collect();
        let images = Tensor { shape: vec![4, 3, 32, 32], data };
        let mut probe = Probe { supernet, arch, images, expected: Vec::new() };
        probe.expected = probe.logits(device::open("reference-f64")?)?;
        Ok(probe)
    }

    fn logits(&self, device: Arc<dyn Device>) -> Result<Vec<f32>, Error> {
        let engine = Engine::new(device, self.supernet.clone())?;
        let images = Cropped::new(&self.images, &[])
            .ok_or_else(|| Error::Check("the probe's images have no N x 3 x H x W".into()))?;
        let calibration = Calibration::Batches { images: &images, count: 4, batch: 4 };
        Ok(engine.logits(&self.arch, Exits::single(&self.arch), &images, calibration)?.concat())
    }

    /// Opens a device and compares its outputs with the reference's.
    fn device(&self, name: &str) -> Finding {
        let device = match device::open(name) {
            Ok(device) => device,
            Err(device::Error::Unavailable { reason, .. }) => {
                return Finding::new(name, State::Missing, reason);
            }
            Err(error) => return Finding::new(name, State::Broken, error.to_string()),
        };
        let description = device.describe();
        let logits = match self.logits(device) {
            Ok(logits) => logits,
            Err(error) => return Finding::new(name, State::Broken, format!("{description}: {error}")),
        };
        let largest = self.expected.iter().fold(1.0f32, |m, v| m.max(v.abs()));
        let pairs = logits.iter().zip(&self.expected);
        // NaN counts as the largest of all.
        let difference =
            pairs.map(|(x, y)| (x - y).abs() / largest).fold(0.0f32, |m, d| if d <= m { m } else { d });
        if logits.len() == self.expected.len() && difference <= TOLERANCE {
            Finding::new(
                name,
                State::Ok,
                format!("{description} works: within {difference:.0e} of the reference"),
            )
        } else {
            Finding::new(
                name,
                State::Broken,
                format!("{description} computes wrong results: {difference:.1e} from the reference"),
            )
            .remedy("use another device, and report this with the output of `natv2 doctor --json`")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t\t: 143\nmodel name\t: A Processor: Fast\n";
        assert_eq!(field(text, "model name"), Some("A Processor: Fast"));
        assert_eq!(field(text, "name"), None);
    }

    #[test]
    fn a_wrong_device_is_told_from_a_right_one() {
        let mut probe = Probe::new().unwrap();
        assert_eq!(probe.device("cpu").state, State::Ok);
        probe.expected[3] += 0.1;
        let finding = probe.device("cpu");
        assert_eq!(finding.state, State::Broken);
        assert!(finding.remedy.is_some());
        assert_eq!(probe.device("cuda:99").state, State::Missing);
    }

    #[test]
    fn a_device_that_is_there_and_broken_fails_the_check_and_a_missing_one_does_not() {
        let found = |cpu: State, cuda: State, driver: State| {
            let finding = |name: &str, state| Finding::new(name, state, "");
            verdict(&[
                Section { name: "cuda", findings: vec![finding("driver", driver)] },
                Section { name: DEVICES, findings: vec![finding("cpu", cpu), finding("cuda", cuda)] },
            ])
        };
        assert!(found(State::Ok, State::Ok, State::Ok).is_ok());
        assert!(found(State::Ok, State::Missing, State::Broken).is_ok());
        let error = found(State::Ok, State::Broken, State::Ok).unwrap_err().to_string();
        assert!(error.contains("does not work: cuda; see"), "{error}");
        let error = found(State::Broken, State::Broken, State::Ok).unwrap_err().to_string();
        assert!(error.contains("cpu, cuda"), "{error}");
        assert!(found(State::Missing, State::Ok, State::Ok).is_err() && verdict(&[]).is_err());
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn a_stub_in_place_of_the_driver_is_named() {
        use crate::device::cuda::DriverLibrary;
        let found = library(&DriverLibrary { path: "/opt/cuda/lib64/stubs/libcuda.so".into(), stub: true });
        assert_eq!(found.state, State::Broken);
        assert!(found.value.starts_with("/opt/cuda/lib64/stubs/libcuda.so, a toolkit's stub"), "{found:?}");
        assert!(found.remedy.is_some_and(|remedy| remedy.contains("LD_LIBRARY_PATH")));
        let found = library(&DriverLibrary { path: "/usr/lib/libcuda.so.580".into(), stub: false });
        assert_eq!((found.state, found.value.as_str()), (State::Info, "/usr/lib/libcuda.so.580"));
    }

    #[test]
    fn the_report_shows_states_and_remedies() {
        let finding = Finding::new("driver", State::Missing, "none").remedy("install it");
        let text = text(&[Section { name: "cuda", findings: vec![finding] }]);
        assert_eq!(text, "cuda\n  -- driver             none\n                        -> install it\n");
    }
}
