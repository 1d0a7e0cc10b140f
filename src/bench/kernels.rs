//! `natv2 bench kernels`: every kernel checked, then timed.
//!
//! Each case of [`ops::cases`](crate::ops::cases) runs on the device and on the f64 reference; a
//! kernel that is wrong is reported, not timed away. The reference of many images takes minutes, so a case
//! may be checked at fewer images than it is timed at; a row says at how many. Times are medians with the caches flushed
//! before every run, stand beside what the performance model gives the call, and are set against what the device was measured to do at most: a copy, chains of
//! multiply-adds, and chains of products on tensor cores, where a call's operations are for those. A share above 100 % of the copy means operands that stayed in a cache
//! in spite of that.

use crate::device::{Buffer, Device, Error, Memory, Peak, Reference};
use crate::engine::Precision;
use crate::engine::model::{Bound, Machine, estimate};
use crate::ops::cases::{self, Case};
use crate::ops::halves::Format;
use crate::ops::{Call, Region, Threads};
use crate::space::walk::{Layer, walk};
use crate::space::{Arch, Channels, ExitScaling, Family};
use serde::Serialize;
use std::fmt;

/// Largest error of a correct kernel on maps in f32: squared difference over squared reference.
pub const TOLERANCE: f64 = 1e-10;

/// Largest error of a correct kernel. Numbers of 16 bits have neighbours 2^-10 or 2^-7 of them away, and
/// one in thousands lies near enough to a tie to be rounded to the other one.
pub fn tolerance(format: Option<Format>) -> f64 {
    match format {
        None => TOLERANCE,
        Some(Format::F16) => 1e-8,
        Some(Format::Bf16) => 1e-7,
    }
}

/// That of a call. A whole MBConv and its passes round several times, and hand on what was rounded the other
/// way.
fn tolerance_of(call: &Call, format: Option<Format>) -> f64 {
    if call.jobs().is_empty() { tolerance(format) } else { 10.0 * tolerance(format) }
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Images of a call that is timed.
    pub images: usize,
    /// Images of a call that is checked; as many as are timed if `None`, and never more.
    pub check_images: Option<usize>,
    /// Resolutions of the sub-networks, in pixels.
    pub resolutions: Vec<usize>,
    /// Also the shapes at the edges.
    pub edges: bool,
    /// In 16 bits, also the fused MBConvs of a middle network of width 1.0, each shape once.
    pub middle: bool,
    /// Runs of which the median is taken; at least one.
    pub repetitions: usize,
    /// Only operators whose name contains this.
    pub only: Option<String>,
    /// What maps are stored as.
    pub precision: Precision,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            images: 64,
            check_images: None,
            resolutions: vec![64],
            edges: false,
            middle: false,
            repetitions: 11,
            only: None,
            precision: Precision::F32,
        }
    }
}

/// One kernel on one shape.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The operator.
    pub operator: &'static str,
    /// The shape.
    pub shape: String,
    /// Images of the call that was checked; `None` for a shape at the edges, which has its own and is checked as
    /// it is timed.
    pub checked_images: Option<usize>,
    /// Squared difference to the f64 reference over the squared reference.
    pub error: f64,
    /// Whether every element was written and the error is below [`tolerance`].
    pub correct: bool,
    /// Median time, in seconds.
    pub seconds: f64,
    /// Gigabytes a second, each operand counted once.
    pub gigabytes_per_second: f64,
    /// Billions of operations a second.
    pub gigaflops: f64,
    /// Share of the copy's rate, 0 to 1.
    pub share_of_copy: f64,
    /// Share of the peak of multiply-adds, 0 to 1; more where tensor cores take most.
    pub share_of_arithmetic: f64,
    /// The peak that its operations are for.
    pub peak: Peak,
    /// Share of that peak, 0 to 1; of both, the least time that they could take it, over the time.
    pub share_of_peak: f64,
    /// Seconds that the [performance model](crate::engine::model) gives it on this device, with its measured peaks.
    pub estimated_seconds: f64,
    /// What most of these are for.
    pub bound: Bound,
}

/// The figures of a device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Version of this JSON.
    pub version: u32,
    /// What maps are stored as.
    pub precision: Precision,
    /// The device.
    pub device: String,
    /// Images of a call.
    pub images: usize,
    /// Images of a call that was checked.
    pub check_images: usize,
    /// Measured copy, in gigabytes a second, read and written.
    pub copy_gigabytes_per_second: f64,
    /// Measured arithmetic, in billions of operations a second.
    pub peak_gigaflops: f64,
    /// The same of products of 16-bit numbers, where there are tensor cores.
    pub peak_product_gigaflops: Option<f64>,
    /// The kernels.
    pub kernels: Vec<Row>,
}

impl Report {
    /// Whether every kernel was right.
    pub fn all_correct(&self) -> bool {
        self.kernels.iter().all(|row| row.correct)
    }

    /// The report as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = self.precision.unless_f32(" in ");
        let checked = if self.check_images == self.images {
            String::new()
        } else {
            format!(", checked at {}", self.check_images)
        };
        writeln!(f, "{}: {} images{precision}{checked}, caches flushed", self.device, self.images)?;
        let (copy, peak) = (self.copy_gigabytes_per_second, self.peak_gigaflops);
        let products = peak_of_products(self.peak_product_gigaflops);
        writeln!(f, "measured peaks: copy {copy:.1} GB/s, multiply-adds {peak:.0} GFLOP/s{products}\n")?;
        let width = self.kernels.iter().map(|row| row.shape.len()).max().unwrap_or(0).max(5);
        writeln!(
            f,
            "{:<20} {:<width$} {:>9} {:>8} {:>6} {:>9} {:>6} {:<6} {:>9} {:<9} {:>8}",
            "operator", "shape", "us", "GB/s", "copy", "GFLOP/s", "peak", "of", "model us", "bound", "error"
        )?;
        for row in &self.kernels {
            writeln!(
                f,
                "{:<20} {:<width$} {:>9.1} {:>8.1} {:>5.0}% {:>9.1} {:>5.0}% {:<6} {:>9.1} {:<9} {:>8.0e}{}",
                row.operator,
                row.shape,
                row.seconds * 1e6,
                row.gigabytes_per_second,
                100.0 * row.share_of_copy,
                row.gigaflops,
                100.0 * row.share_of_peak,
                row.peak.as_str(),
                row.estimated_seconds * 1e6,
                row.bound,
                row.error,
                if row.correct { "" } else { "  WRONG" }
            )?;
        }
        Ok(())
    }
}

/// The peak of products in a table.
pub(super) fn peak_of_products(gigaflops: Option<f64>) -> String {
    gigaflops.map_or_else(String::new, |peak| format!(", products of 16-bit numbers {peak:.0} GFLOP/s"))
}

/// Checks and times the kernels of a device.
///
/// # Errors
/// The device fails. A wrong result is not an error but a row that says so.
pub fn run(device: &dyn Device, options: &Options) -> Result<Report, Error> {
    let peaks = device.peaks()?;
    let machine = Machine::with_peaks(device, peaks)?;
    let format = options.precision.format();
    let check_images = options.check_images.unwrap_or(options.images).min(options.images);
    let networks = |images: usize| -> Vec<Case> {
        let network = |&r: &usize| match format {
            None => cases::network(images, r),
            Some(format) => cases::network_in(format, images, r),
        };
        let mut cases: Vec<Case> = options.resolutions.iter().flat_map(network).collect();
        if let (true, Some(format)) = (options.middle, format) {
            let channels = Channels::new(1.0, ExitScaling::Once);
            for &r in &options.resolutions {
                let layers: Vec<Layer> =
                    walk(&channels, &Arch::middle(Family::SE_B, r as u32, None)).collect();
                let mbconvs = cases::mbconvs_of(format, images, &layers, device.block_bytes());
                let new = |case: &Case| cases.iter().all(|known| known.name != case.name);
                let mbconvs: Vec<Case> = mbconvs.into_iter().filter(new).collect();
                cases.extend(mbconvs);
            }
        }
        cases
    };
    // The same layers in the same order.
    let fewer = (check_images < options.images).then(|| networks(check_images));
    let timed = networks(options.images).into_iter().enumerate().map(|(index, case)| {
        let checked = fewer.as_ref().map(|fewer| fewer[index].clone());
        (case, checked, Some(check_images))
    });
    let edges = || format.map_or_else(cases::edges, cases::edges_in);
    let edges = options.edges.then(edges).into_iter().flatten().map(|case| (case, None, None));
    let wanted = |(case, ..): &(Case, Option<Case>, Option<usize>)| match &options.only {
        Some(part) => case.call.name().to_lowercase().contains(&part.to_lowercase()),
        None => true,
    };
    let mut kernels = Vec::new();
    for (case, fewer, checked_images) in timed.chain(edges).filter(wanted) {
        let error = check(device, fewer.as_ref().unwrap_or(&case))?;
        let seconds = time(device, &case, options.repetitions)?;
        let work = case.call.work();
        let (bytes, flops) = (work.bytes as f64 / seconds, work.flops as f64 / seconds);
        let estimated = estimate(&case.call, &machine);
        let (least, peak) = peaks.least_seconds(work.flops, case.call.tensor_flops());
        kernels.push(Row {
            operator: case.call.name(),
            shape: case.name,
            checked_images,
            correct: error.is_some_and(|error| error < tolerance_of(&case.call, format)),
            error: error.unwrap_or(f64::INFINITY),
            seconds,
            gigabytes_per_second: bytes / 1e9,
            gigaflops: flops / 1e9,
            share_of_copy: bytes / peaks.copy,
            share_of_arithmetic: flops / peaks.arithmetic,
            peak,
            share_of_peak: least / seconds,
            estimated_seconds: estimated.seconds(),
            bound: estimated.bound(),
        });
    }
    Ok(Report {
        version: 1,
        precision: options.precision,
        device: device.describe(),
        images: options.images,
        check_images,
        copy_gigabytes_per_second: peaks.copy / 1e9,
        peak_gigaflops: peaks.arithmetic / 1e9,
        peak_product_gigaflops: peaks.products.map(|products| products / 1e9),
        kernels,
    })
}

/// The arena after the call of a case.
///
/// # Errors
/// The device fails.
pub fn arena_after(device: &dyn Device, case: &Case, threads: Threads) -> Result<Vec<f32>, Error> {
    arena_from(device, case, &case.operands(1), threads)
}

/// The same, of other operands.
///
/// # Errors
/// The device fails.
pub fn arena_from(
    device: &dyn Device,
    case: &Case,
    (host_weights, host_arena): &(Vec<f32>, Vec<f32>),
    threads: Threads,
) -> Result<Vec<f32>, Error> {
    let (mut weights, mut arena) = (device.allocate(case.weights)?, device.allocate(case.arena)?);
    device.upload(&mut weights, 0, host_weights)?;
    device.upload(&mut arena, 0, host_arena)?;
    let memory = Memory { weights: &weights, network: &weights, arena: &mut arena };
    device.run(std::slice::from_ref(&case.call), memory, threads)?;
    let mut out = vec![0.0; case.arena];
    device.download(&arena, 0, &mut out)?;
    Ok(out)
}

/// Squared difference of the case's results to the f64 reference, over the squared reference;
/// `None` where the call left something unwritten that it should write, or wrote elsewhere.
///
/// # Errors
/// The device fails.
pub fn check(device: &dyn Device, case: &Case) -> Result<Option<f64>, Error> {
    let wanted = arena_after(&Reference::<f64>::new(), case, Threads::All)?;
    check_against(device, case, &wanted)
}

/// The same, with what the f64 reference leaves in the arena: many devices are compared with one run of it.
///
/// # Errors
/// The device fails.
pub fn check_against(device: &dyn Device, case: &Case, wanted: &[f32]) -> Result<Option<f64>, Error> {
    let found = arena_after(device, case, Threads::All)?;
    let (_, before) = case.operands(1);
    // A call may leave anything in its scratch, must write its results, and nothing else. Of what it
    // updates in place, NaN is what lies beyond the prefix in use.
    let reads = case.call.reads();
    let mut may = vec![false; case.arena];
    for slot in case.call.writes() {
        may[slot.offset..][..slot.len].fill(true);
    }
    let mut must = vec![false; case.arena];
    for slot in case.results() {
        let updated = reads.contains(&slot);
        for i in slot.offset..slot.offset + slot.len {
            must[i] = !(updated && before[i].is_nan());
            may[i] = must[i];
        }
    }
    let same = |a: f32, b: f32| a == b || (a.is_nan() && b.is_nan());
    let sound = (0..case.arena).all(|i| match (must[i], may[i]) {
        (true, _) => found[i].is_finite(),
        (false, true) => true,
        (false, false) => same(found[i], before[i]),
    });
    let (mut difference, mut square) = (0.0f64, 0.0f64);
    for slot in case.results() {
        let elements = |arena: &[f32]| -> Vec<f32> {
            let range = slot.offset..slot.offset + slot.len;
            range.filter(|&i| must[i]).map(|i| arena[i]).collect()
        };
        let numbers = |arena: &[f32]| match case.stored(slot) {
            Some(format) => format.unpack(&elements(arena)),
            None => elements(arena),
        };
        for (found, wanted) in numbers(&found).into_iter().zip(numbers(wanted)) {
            let (found, wanted) = (f64::from(found), f64::from(wanted));
            difference += (found - wanted) * (found - wanted);
            square += wanted * wanted;
        }
    }
    Ok(sound.then(|| difference / square.max(f64::MIN_POSITIVE)))
}

/// Weights and arena of a case on a device, ready to be timed.
fn ready(device: &dyn Device, case: &Case) -> Result<(Buffer, Buffer), Error> {
    let (mut weights, mut arena) = (device.allocate(case.weights)?, device.allocate(case.arena)?);
    for (slot, numbers) in case.repeating(1) {
        let buffer = if slot.region == Region::Weights { &mut weights } else { &mut arena };
        for from in (0..slot.len).step_by(numbers.len().max(1)) {
            let len = numbers.len().min(slot.len - from);
            device.upload(buffer, slot.offset + from, &numbers[..len])?;
        }
    }
    Ok((weights, arena))
}

/// Median time of the case's call, in seconds.
fn time(device: &dyn Device, case: &Case, repetitions: usize) -> Result<f64, Error> {
    let (weights, mut arena) = ready(device, case)?;
    let mut memory = Memory { weights: &weights, network: &weights, arena: &mut arena };
    let calls = std::slice::from_ref(&case.call);
    // The first run does not count.
    device.run(calls, memory.again(), Threads::All)?;
    let mut times = device.time_each(calls, memory, Threads::All, repetitions.max(1), true)?;
    times.sort_unstable();
    Ok(times[times.len() / 2].as_secs_f64().max(1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Cpu, Peaks};

    #[test]
    fn a_report_has_a_row_a_case_and_all_are_right() {
        let options = Options {
            images: 1,
            check_images: None,
            resolutions: vec![32],
            repetitions: 1,
            only: Some("pool".into()),
            edges: false,
            middle: false,
            precision: Precision::F32,
        };
        let report = run(&Cpu, &options).unwrap();
        let operators: Vec<&str> = report.kernels.iter().map(|row| row.operator).collect();
        assert_eq!(operators, ["GlobalPool", "MaxPool", "GlobalPoolGrad", "MaxPoolGrad"]);
        assert!(report.all_correct() && report.copy_gigabytes_per_second > 0.0);
        assert!(report.kernels.iter().all(|row| row.seconds > 0.0 && row.gigabytes_per_second > 0.0));
        assert_eq!(report.json()["kernels"][0]["operator"], "GlobalPool");
        assert_eq!(report.to_string().lines().count(), 8);
        // The same operators in 16 bits, whose numbers are compared and not their packed elements.
        let report = run(&Cpu, &Options { precision: Precision::Bf16, ..options }).unwrap();
        let errors: Vec<f64> = report.kernels.iter().map(|row| row.error).collect();
        assert!(report.all_correct() && errors.len() == 4, "{errors:?}");
        assert_eq!(report.json()["precision"], "bf16");
    }

    /// The CPU as a device that has tensor cores which are twice as quick as it is.
    struct WithTensorCores;

    impl Device for WithTensorCores {
        fn describe(&self) -> String {
            Cpu.describe()
        }
        fn arithmetic(&self) -> String {
            Cpu.arithmetic()
        }
        fn allocate(&self, len: usize) -> Result<Buffer, Error> {
            Cpu.allocate(len)
        }
        fn upload(&self, buffer: &mut Buffer, offset: usize, data: &[f32]) -> Result<(), Error> {
            Cpu.upload(buffer, offset, data)
        }
        fn download(&self, buffer: &Buffer, offset: usize, out: &mut [f32]) -> Result<(), Error> {
            Cpu.download(buffer, offset, out)
        }
        fn run(&self, calls: &[Call], memory: Memory<'_>, threads: Threads) -> Result<(), Error> {
            Cpu.run(calls, memory, threads)
        }
        fn lanes(&self) -> usize {
            Cpu.lanes()
        }
        fn chunk(&self, arena_of_one: usize) -> usize {
            Cpu.chunk(arena_of_one)
        }
        fn peaks(&self) -> Result<Peaks, Error> {
            Ok(Peaks { copy: 1e9, arithmetic: 1e9, products: Some(2e9) })
        }
    }

    #[test]
    fn rows_are_held_against_the_peaks_of_their_units() {
        let options = |only: &str, precision| Options {
            images: 1,
            check_images: None,
            resolutions: vec![32],
            repetitions: 1,
            only: Some(only.into()),
            edges: false,
            middle: false,
            precision,
        };
        let peaks = |only, precision| {
            let report = run(&WithTensorCores, &options(only, precision)).unwrap();
            assert!(report.to_string().contains("products of 16-bit numbers 2 GFLOP/s"));
            for row in &report.kernels {
                let of_both = (row.share_of_peak / row.share_of_arithmetic, row.peak);
                let sound = match of_both {
                    (ratio, Peak::Fma) => (ratio - 1.0).abs() < 1e-9,
                    (ratio, Peak::Tensor) => (ratio - 0.5).abs() < 1e-9,
                    (ratio, Peak::Both) => (0.3..1.0).contains(&ratio),
                };
                assert!(sound, "{row:?}");
                // An estimate is no quicker than the peaks.
                assert!(row.estimated_seconds > 0.99 * row.share_of_peak * row.seconds, "{row:?}");
            }
            let mut peaks: Vec<Peak> = report.kernels.iter().map(|row| row.peak).collect();
            peaks.dedup();
            peaks
        };
        assert_eq!(peaks("pointwise", Precision::F32), [Peak::Fma]);
        let products = peaks("pointwisehalf", Precision::Bf16);
        assert!(products.contains(&Peak::Tensor) && !products.contains(&Peak::Fma), "{products:?}");
        assert_eq!(peaks("mbconv", Precision::Bf16).last(), Some(&Peak::Both));
        assert_eq!(peaks("depthwiseinput", Precision::Bf16), [Peak::Fma]);
    }

    #[test]
    fn a_kernel_may_be_checked_at_fewer_images_than_it_is_timed_at() {
        for precision in Precision::ALL {
            let options = Options {
                images: 3,
                check_images: Some(2),
                resolutions: vec![32],
                repetitions: 1,
                only: Some("globalpool".into()),
                edges: false,
                middle: false,
                precision,
            };
            let networks = |images: usize| match precision.format() {
                None => cases::network(images, 32),
                Some(format) => cases::network_in(format, images, 32),
            };
            // What is checked is what is timed, but for the images.
            let names =
                |images| -> Vec<&str> { networks(images).iter().map(|case| case.call.name()).collect() };
            assert_eq!(names(2), names(3));
            let report = run(&Cpu, &options).unwrap();
            assert!(report.all_correct() && (report.check_images, report.kernels.len()) == (2, 2));
            assert!(report.kernels.iter().all(|row| row.checked_images == Some(2)));
            assert!(report.kernels.iter().all(|row| row.shape.contains("3 x ")), "{:?}", report.kernels);
            assert!(report.to_string().contains("3 images") && report.to_string().contains("checked at 2"));
            // Never at more, and edges as they are.
            let report = run(&Cpu, &Options { images: 1, edges: true, ..options }).unwrap();
            assert_eq!(report.check_images, 1);
            assert!(report.kernels.iter().any(|row| row.checked_images.is_none()));
        }
    }

    #[test]
    fn a_middle_network_adds_each_of_its_fused_mbconvs_once() {
        let options = Options {
            images: 2,
            check_images: Some(1),
            resolutions: vec![32],
            repetitions: 1,
            only: Some("mbconv".into()),
            precision: Precision::Bf16,
            ..Options::default()
        };
        let rows = |middle: bool| {
            let report = run(&Cpu, &Options { middle, ..options.clone() }).unwrap();
            assert!(report.all_correct());
            let fused = report.kernels.into_iter().filter(|row| row.operator == "Mbconv");
            fused.map(|row| row.shape).collect::<Vec<_>>()
        };
        let (without, with) = (rows(false), rows(true));
        let names: std::collections::BTreeSet<&String> = with.iter().collect();
        assert!(names.len() == with.len() && with.starts_with(&without), "{with:?}");
        // Two shapes a stage, of which stage 2's first is in the table already.
        assert_eq!(with.len() - without.len(), 2 * 5 - 1, "{with:?}");
    }

    #[test]
    fn numbers_of_every_operator_in_16_bits_are_compared_as_they_are_stored() {
        // Of products in 16 bits one leaves f32; passes leave 16-bit maps and statistics in f32.
        for operator in ["pointwisehalf", "mbconv"] {
            let options = Options {
                images: 1,
                check_images: None,
                resolutions: vec![32],
                repetitions: 1,
                only: Some(operator.into()),
                edges: false,
                middle: false,
                precision: Precision::Bf16,
            };
            let report = run(&Cpu, &options).unwrap();
            let wrong: Vec<&Row> = report.kernels.iter().filter(|row| !row.correct).collect();
            assert!(wrong.is_empty() && report.kernels.len() > 10, "{wrong:?}");
        }
    }
}
