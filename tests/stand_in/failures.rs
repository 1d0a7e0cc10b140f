//! Calls of the driver that fail, one at a time: natv2 names the call and ends as after any error, or goes on where that
//! does no harm, and then with the right results. Nothing is left behind on the card, and a run goes on where it was.
//!
//! Here each symbol that a small job calls fails at its first call and at one in the middle, each time in another way.
//! With `NATV2_STAND_IN_LONG=1` it fails at the first three, in the middle and at the last, in every way, in a search
//! and a training too; that takes an hour.
#![cfg(all(natv2_emulator, natv2_fatbin))]

use crate::common::stand_in::alone;
use crate::jobs::{Job, Outcome, is_long, side_by_side};
use cudarc::driver::sys;
use std::sync::atomic::{AtomicU32, Ordering};

/// What calls return. A card does not recover from those in the middle.
const CODES: [&str; 5] = [
    "CUDA_ERROR_OUT_OF_MEMORY",
    "CUDA_ERROR_LAUNCH_FAILED",
    "CUDA_ERROR_DEVICE_UNAVAILABLE",
    "CUDA_ERROR_UNKNOWN",
    "CUDA_ERROR_NOT_SUPPORTED",
];

/// A call that is to fail.
#[derive(Debug, Clone)]
struct Failure {
    symbol: String,
    which: u64,
    code: &'static str,
}

impl Failure {
    /// Whether natv2 has said what failed. A code that sticks may show at a call behind the one that met it, and is
    /// then told of that; where memory is full, what it was for is told in place of the call.
    fn is_named(&self, said: &str) -> bool {
        let name = self.symbol.trim_end_matches("_v2");
        let sticks = CODES[1..4].contains(&self.code) || self.symbol == "kernel";
        let full = self.code == "CUDA_ERROR_OUT_OF_MEMORY"
            && match name {
                "cuMemAlloc" => said.contains("cannot allocate"),
                "cuMemHostAlloc" => said.contains("cannot pin"),
                _ => false,
            };
        let told = |line: &str| line.starts_with("error: ") && line.contains(" failed: ");
        full || said.lines().any(|line| {
            // natv2 may be about to try something else, and says why.
            let told = told(line) || line.contains("cannot be loaded: ");
            told && line.contains(self.code) && (line.contains(name) || sticks)
        })
    }
}

/// The failures of a job that calls so many of each symbol: two a symbol, or 25. Where the job keeps something, there
/// is more of it later.
fn failures(counts: &[(String, u64)], keeps_nothing: bool, long: bool) -> Vec<Failure> {
    let mut found = Vec::new();
    for (index, (symbol, count)) in counts.iter().enumerate() {
        let middle = count.div_ceil(2);
        let short = if keeps_nothing { [1, middle] } else { [middle, *count] };
        let mut calls = if long { vec![1, 2, 3, middle, *count] } else { short.to_vec() };
        calls.sort_unstable();
        calls.dedup();
        for (place, which) in calls.into_iter().filter(|which| which <= count).enumerate() {
            let codes = if long { &CODES[..] } else { &CODES[(index + 2 * place) % CODES.len()..][..1] };
            found.extend(codes.iter().map(|&code| Failure { symbol: symbol.clone(), which, code }));
        }
    }
    found
}

/// What is wrong with how the job ends where that call fails. A job that keeps something is taken up again then.
fn complaint(job: &Job, failure: &Failure, wanted: &Outcome) -> Option<String> {
    let Failure { symbol, which, code } = failure;
    let folder = tempfile::tempdir().expect("a folder");
    let found = job.run(folder.path(), &[("FAIL", &format!("{symbol}:{which}:{code}"))])?;
    let wrong =
        |what: &str, found: &Outcome| Some(format!("{failure:?}: {what}: {:?}, {}", found.code, found.said));
    match found.code {
        Some(0) if found.results == wanted.results => None,
        Some(0) => wrong("other results", &found),
        Some(1) if !failure.is_named(&found.said) => wrong("is not named", &found),
        Some(1) if job.keeps_nothing() => None,
        Some(1) => {
            let further = job.run(folder.path(), &[])?;
            let same = further.code == Some(0) && further.results == wanted.results;
            if same { None } else { wrong("does not go on to the same results", &further) }
        }
        _ => wrong("ends otherwise", &found),
    }
}

/// Makes each of the failures of a job happen.
fn sweep(job: &Job, long: bool, among: impl Fn(&str) -> bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(wanted) = job.run(folder.path(), &[]) else { return };
    assert_eq!(wanted.code, Some(0), "{}", wanted.said);
    let counts: Vec<_> = wanted.calls.iter().filter(|(symbol, _)| among(symbol)).cloned().collect();
    let failures = failures(&counts, job.keeps_nothing(), long);
    assert!(counts.len() > 1 && failures.len() > counts.len(), "{counts:?}");
    let complaints = side_by_side(&failures, |failure| complaint(job, failure, &wanted));
    assert!(complaints.is_empty(), "{} of {}:\n{}", complaints.len(), failures.len(), complaints.join("\n"));
}

#[test]
fn a_call_that_fails_is_named_or_does_no_harm() {
    // Two streams and graphs.
    sweep(&Job::bench(), is_long(), |_| true);
}

#[test]
fn what_is_measured_is_right_or_not_there() {
    sweep(&Job::evaluate(), is_long(), |_| true);
}

/// Calls that most others depend on.
fn is_central(symbol: &str) -> bool {
    ["kernel", "cuMemAlloc_v2", "cuMemcpyDtoHAsync_v2", "cuEventRecord", "cuCtxGetCurrent"].contains(&symbol)
}

#[test]
fn a_search_goes_on_where_a_call_has_failed() {
    sweep(&Job::search(), is_long(), |symbol| is_long() || is_central(symbol));
}

#[test]
fn a_training_goes_on_where_a_call_has_failed() {
    sweep(&Job::train(), is_long(), |symbol| is_long() || is_central(symbol));
}

#[test]
fn fine_tuning_goes_on_where_a_call_has_failed() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(searched) = Job::search().run(folder.path(), &[]) else { return };
    assert_eq!(searched.code, Some(0), "{}", searched.said);
    let job = Job::finetune(&folder.path().join("run"));
    let few = |symbol: &str| symbol == "kernel" || symbol == "cuMemcpyDtoHAsync_v2";
    sweep(&job, is_long(), |symbol| is_long() || few(symbol));
}

/// However often it fails that something is given back, what was computed is there, and the card is empty at the end.
#[test]
fn what_cannot_be_given_back_hides_no_results() {
    let symbols = [
        "cuMemFree_v2",
        "cuMemFreeHost",
        "cuStreamDestroy_v2",
        "cuEventDestroy_v2",
        "cuModuleUnload",
        "cuGraphDestroy",
        "cuGraphExecDestroy",
        "cuDevicePrimaryCtxRelease_v2",
    ];
    for job in [Job::bench(), Job::evaluate()] {
        let folder = tempfile::tempdir().expect("a folder");
        let Some(wanted) = job.run(folder.path(), &[]) else { return };
        let complaints = side_by_side(&symbols, |symbol| {
            let found =
                job.run(folder.path(), &[("FAIL", &format!("{symbol}:*:CUDA_ERROR_INVALID_VALUE"))])?;
            let same = found.code == Some(0) && found.results == wanted.results;
            (!same).then(|| format!("{symbol}: {:?} {}", found.code, found.said))
        });
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }
}

#[test]
fn images_that_do_not_fit_the_card_are_sent_with_each_batch() {
    let (job, folder) = (Job::train(), tempfile::tempdir().expect("a folder"));
    let Some(wanted) = job.run(folder.path(), &[]) else { return };
    let note = "its images are sent with each batch";
    assert!(wanted.code == Some(0) && !wanted.said.contains(note), "{}", wanted.said);
    let allocations: Vec<u64> = (1..=wanted.count("cuMemAlloc_v2")).collect();
    let (sent, full) = (AtomicU32::new(0), AtomicU32::new(0));
    let complaints = side_by_side(&allocations, |&which| {
        // What is kept for others is given back, and the card is still full.
        let fail = [which, which + 1]
            .map(|which| format!("cuMemAlloc_v2:{which}:CUDA_ERROR_OUT_OF_MEMORY"))
            .join(",");
        let folder = tempfile::tempdir().expect("a folder");
        let found = job.run(folder.path(), &[("FAIL", &fail)])?;
        let is_good = match found.code {
            Some(0) => found.results == wanted.results,
            code => code == Some(1) && found.said.contains("cannot allocate"),
        };
        let counter = if found.code == Some(1) { &full } else { &sent };
        counter.fetch_add(u32::from(found.code == Some(1) || found.said.contains(note)), Ordering::Relaxed);
        (!is_good).then(|| format!("{fail}: {:?}, {}", found.code, found.said))
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    let (sent, full) = (sent.into_inner(), full.into_inner());
    assert!(sent > 0 && full > 0, "of {allocations:?} {sent} are of images, {full} of what has to be there");
}

/// NVRTC looks for tables of the driver's, and reads a null pointer where that function is missing.
#[test]
fn the_driver_says_that_it_has_no_tables_for_nvrtc() {
    let Some(_driver) = alone!() else { return };
    let (mut table, id) = (std::ptr::null(), sys::CUuuid { bytes: [0; 16] });
    // SAFETY: the driver is there, writes at most a pointer, and reads the number.
    let found = unsafe { sys::cuGetExportTable(&mut table, &id) };
    assert!(found == sys::CUresult::CUDA_ERROR_NOT_FOUND && table.is_null());
}
