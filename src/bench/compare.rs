//! `natv2 bench compare`: what criterion measured last, against a baseline that it saved.
//!
//! Criterion keeps every benchmark in a folder of its own: `new/` is the last run, `NAME/` what
//! `--save-baseline NAME` kept. Both hold `benchmark.json`, with the benchmark's name, and
//! `estimates.json`, with point estimates and confidence intervals. Two of them are compared by their
//! medians; one that is slower by more than the bound is a regression. The instruction counts of
//! `benches/instructions.rs` are files of the same form.

use crate::exit::exits;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder or file that cannot be read.
    #[error("{file}: cannot be read ({reason}): run `cargo bench` first, or name its folder with --criterion", file = .file.display())]
    Read {
        /// The file or folder.
        file: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A file that is none of criterion's.
    #[error("{file}: {reason}: it is damaged, or of another version of criterion; run the benchmark again", file = .file.display())]
    Form {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Nothing to compare.
    #[error("no benchmark in {folder} has both a last run and a baseline `{name}`: save one with `cargo bench -- --save-baseline {name}`; {found}", folder = .folder.display())]
    NoBaseline {
        /// Where criterion keeps them.
        folder: PathBuf,
        /// The baseline asked for.
        name: String,
        /// The baselines that there are.
        found: String,
    },
}

exits! { Error: Failure [Read, Form, NoBaseline] }

/// What to compare.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Where criterion keeps its results.
    pub folder: PathBuf,
    /// The baseline.
    pub baseline: String,
    /// What is compared with it: `new`, or another baseline.
    pub with: String,
    /// The largest ratio that is no regression.
    pub bound: f64,
    /// Only benchmarks whose name contains this.
    pub only: Option<String>,
}

/// An estimate of criterion's.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
struct Estimate {
    point_estimate: f64,
    confidence_interval: Option<Interval>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
struct Interval {
    lower_bound: f64,
    upper_bound: f64,
}

#[derive(Debug, Deserialize)]
struct Estimates {
    median: Option<Estimate>,
    mean: Option<Estimate>,
}

#[derive(Debug, Deserialize)]
struct Benchmark {
    full_id: String,
    /// Not criterion's: what is counted, where that is no time.
    unit: Option<String>,
}

/// How two runs differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Slower by more than the bound.
    Regression,
    /// Faster by more than the bound.
    Improvement,
    /// Within the bound.
    Same,
}

/// A benchmark in both runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The benchmark's name.
    pub id: String,
    /// What is measured: `ns`, or `instructions`.
    pub unit: String,
    /// The baseline's median.
    pub baseline: f64,
    /// The other's.
    pub now: f64,
    /// The other over the baseline: above 1 is slower.
    pub ratio: f64,
    /// The same, at the ends of the confidence intervals that are closest and furthest.
    pub interval: Option<[f64; 2]>,
    /// What that means.
    pub verdict: Verdict,
}

/// All benchmarks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Version of this JSON.
    pub version: u32,
    /// The baseline's name.
    pub baseline: String,
    /// What is compared with it.
    pub with: String,
    /// The largest ratio that is no regression.
    pub bound: f64,
    /// Benchmarks in both, slowest change first.
    pub benchmarks: Vec<Row>,
    /// Those that only the baseline has.
    pub only_baseline: Vec<String>,
    /// Those that the baseline does not have.
    pub only_now: Vec<String>,
    /// How many are regressions.
    pub regressions: usize,
}

/// Folders below `folder` that hold estimates: benchmark folders with the names of their runs.
fn runs(folder: &Path) -> Result<Vec<(PathBuf, Vec<String>)>, Error> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(at) = waiting.pop() {
        let failed = |error: std::io::Error| Error::Read { file: at.clone(), reason: error.to_string() };
        let mut names = Vec::new();
        for entry in fs::read_dir(&at).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_string();
            // `change` holds ratios of criterion's own comparison, not times.
            if path.join("estimates.json").is_file() && name != "change" {
                names.push(name);
            } else if path.is_dir() && !path.is_symlink() {
                // No links: they could lead in circles.
                waiting.push(path);
            }
        }
        if !names.is_empty() {
            names.sort();
            found.push((at, names));
        }
    }
    found.sort();
    Ok(found)
}

fn parse<T: for<'a> Deserialize<'a>>(file: &Path) -> Result<T, Error> {
    let text = fs::read_to_string(file)
        .map_err(|error| Error::Read { file: file.into(), reason: error.to_string() })?;
    serde_json::from_str(&text).map_err(|error| Error::Form { file: file.into(), reason: error.to_string() })
}

/// The median of a run; its mean where there is none.
fn estimate(run: &Path) -> Result<Estimate, Error> {
    let file = run.join("estimates.json");
    let estimates: Estimates = parse(&file)?;
    let found = estimates.median.or(estimates.mean);
    let good = |estimate: &Estimate| estimate.point_estimate.is_finite() && estimate.point_estimate > 0.0;
    found.filter(good).ok_or_else(|| Error::Form { file, reason: "it has no median above 0".into() })
}

/// Compares every benchmark that has both runs.
///
/// # Errors
/// Files that cannot be read or understood; no benchmark with both.
pub fn run(options: &Options) -> Result<Report, Error> {
    let Options { folder, baseline, with, bound, only } = options;
    let wanted = |id: &str| only.as_ref().is_none_or(|part| id.to_lowercase().contains(&part.to_lowercase()));
    let (mut benchmarks, mut only_baseline, mut only_now) = (Vec::new(), Vec::new(), Vec::new());
    let mut others: BTreeMap<String, usize> = BTreeMap::new();
    for (at, names) in runs(folder)? {
        let has = |name: &String| names.contains(name);
        names
            .iter()
            .filter(|name| *name != with)
            .for_each(|name| *others.entry(name.clone()).or_default() += 1);
        if !has(baseline) && !has(with) {
            continue;
        }
        let of = if has(with) { with } else { baseline };
        let about: Benchmark = parse(&at.join(of).join("benchmark.json"))?;
        if !wanted(&about.full_id) {
            continue;
        }
        match (has(baseline), has(with)) {
            (true, true) => {
                let (before, now) = (estimate(&at.join(baseline))?, estimate(&at.join(with))?);
                benchmarks.push(row(about, &before, &now, *bound));
            }
            (true, false) => only_baseline.push(about.full_id),
            (false, _) => only_now.push(about.full_id),
        }
    }
    if benchmarks.is_empty() {
        let list: Vec<&str> = others.keys().map(String::as_str).collect();
        let found = if list.is_empty() {
            "there are none yet".into()
        } else {
            format!("there are {}", list.join(", "))
        };
        return Err(Error::NoBaseline { folder: folder.clone(), name: baseline.clone(), found });
    }
    benchmarks.sort_by(|a, b| b.ratio.total_cmp(&a.ratio).then_with(|| a.id.cmp(&b.id)));
    Ok(Report {
        version: 1,
        baseline: baseline.clone(),
        with: with.clone(),
        bound: *bound,
        regressions: benchmarks.iter().filter(|row| row.verdict == Verdict::Regression).count(),
        benchmarks,
        only_baseline,
        only_now,
    })
}

fn row(about: Benchmark, before: &Estimate, now: &Estimate, bound: f64) -> Row {
    let ratio = now.point_estimate / before.point_estimate;
    let interval = before.confidence_interval.zip(now.confidence_interval);
    Row {
        id: about.full_id,
        unit: about.unit.unwrap_or_else(|| "ns".into()),
        baseline: before.point_estimate,
        now: now.point_estimate,
        ratio,
        interval: interval.map(|(before, now)| {
            [now.lower_bound / before.upper_bound, now.upper_bound / before.lower_bound]
        }),
        verdict: match ratio {
            ratio if ratio > bound => Verdict::Regression,
            ratio if ratio < 1.0 / bound => Verdict::Improvement,
            _ => Verdict::Same,
        },
    }
}

/// A number of nanoseconds or instructions with three or four digits.
fn readable(value: f64, unit: &str) -> String {
    let steps: &[(f64, &str)] = match unit {
        "ns" => &[(1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns")],
        _ => &[(1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")],
    };
    let (size, name) = steps.iter().find(|(size, _)| value >= *size).copied().unwrap_or((1.0, steps[3].1));
    let scaled = value / size;
    let digits = if scaled >= 100.0 { 1 } else { 3 };
    format!("{scaled:.digits$} {name}").trim_end().to_string()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.benchmarks.iter().map(|row| row.id.chars().count()).max().unwrap_or(0).max(9);
        let now = if self.with == "new" { "last run" } else { &self.with };
        writeln!(
            f,
            "{:<width$} {:>12} {:>12} {:>7} {:>15}",
            "benchmark", self.baseline, now, "ratio", "interval"
        )?;
        for row in &self.benchmarks {
            let interval =
                row.interval.map_or_else(|| "-".into(), |[low, high]| format!("{low:.3} to {high:.3}"));
            writeln!(
                f,
                "{:<width$} {:>12} {:>12} {:>7.3} {interval:>15}{}",
                row.id,
                readable(row.baseline, &row.unit),
                readable(row.now, &row.unit),
                row.ratio,
                match row.verdict {
                    Verdict::Regression => "  REGRESSION",
                    Verdict::Improvement => "  faster",
                    Verdict::Same => "",
                }
            )?;
        }
        for (what, ids) in
            [("only in the baseline", &self.only_baseline), ("not in the baseline", &self.only_now)]
        {
            if !ids.is_empty() {
                writeln!(f, "{what}: {}", ids.join("; "))?;
            }
        }
        let count = self.benchmarks.len();
        writeln!(
            f,
            "\n{} of {count} slower than {} by more than {}",
            self.regressions, self.baseline, self.bound
        )
    }
}
