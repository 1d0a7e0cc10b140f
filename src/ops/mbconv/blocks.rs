//! How a block of `mbconv.cu`, `mbconv_passes.cu` and `expand_depthwise.cu` in `kernels/mbconv/` goes about its
//! work: how many images it owns, how many channels it expands at a time, and where things lie in its shared memory.

mod estimate;
mod memory;

pub(crate) use estimate::{Estimate, resident};

use super::super::expand_depthwise;
use super::super::mbconv_pass::{self, Pass, Units};
use super::Params;
use crate::launch::{Multiprocessors, launched};
use memory::Memory;
use serde::Serialize;
use std::hash::{Hash, Hasher};

pub(super) const THREADS: u32 = 256;
const WARPS: u32 = THREADS / 32;
/// Numbers of a 16-byte chunk, the unit of all that lies in shared memory.
const CHUNK: u32 = 8;
const CHUNK_BYTES: u32 = 16;
/// `kFront` and the others of `kernels/mbconv/nat_mbconv_block.cuh`.
const FRONT: u32 = 8;
const EXPAND_TILES: u32 = 4;
const PROJECT_TILES: u32 = 6;
const PROJECT_ROW: u32 = 8;
/// Outputs of a row that a thread of the stem makes.
const STEM_STRIP: u32 = 4;

launched! {
    /// How a block goes about it: `MbconvConfig` of the kernel.
    #[derive(Debug, PartialEq, Eq)]
    pub(crate) struct Config = "MbconvConfig" {
        /// Images of a block.
        pub images: u32,
        /// Expanded channels at a time.
        pub slice: u32,
        /// Output channels: groups of so many tiles of 8.
        pub groups: u32,
        pub tiles: u32,
        /// From one pixel, and one row of pixels, of the expanded slice to the next, in chunks.
        pub expanded_pixel: u32,
        pub expanded_row: u32,
        /// Where things lie, in chunks.
        pub x_at: u32,
        pub weights_at: u32,
        pub filter_at: u32,
        pub project_at: u32,
        pub kept_at: u32,
        /// Bands of an image, and output rows of each; where there are several, a block has one.
        pub bands: u32,
        pub band_rows: u32,
    }
}

/// A configuration and the shared memory that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub config: Config,
    pub shared_bytes: u32,
}

/// How far blocks go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// To the output.
    Output,
    /// To the depthwise output, which they leave with the means of its rows.
    Filtered,
    /// To what a pass leaves statistics of units of.
    Statistics(Pass, Units),
}

impl End {
    /// Another for ends of other kernels.
    fn number(&self) -> u32 {
        match *self {
            End::Output => 0,
            End::Statistics(pass, _) => pass as u32,
            End::Filtered => 4,
        }
    }
}

/// What blocks are to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Job {
    /// The shape, without what blocks do not depend on.
    shape: Params,
    end: End,
    /// Images among which those of a block are: all of them, or a batch.
    batch_images: u32,
}

/// Of a few numbers that tell nearly all jobs apart: every launch waits for it.
impl Hash for Job {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Params { images, side_in, cin, mid, cout, kernel, stride, .. } = self.shape;
        let both = |a: u32, b: u32| u64::from(a) << 32 | u64::from(b);
        let filter = 8 * kernel + stride;
        let words = [
            both(images, self.batch_images),
            both(side_in, cin),
            both(mid, cout),
            both(filter, self.end.number()),
        ];
        words.into_iter().for_each(|word| state.write_u64(word));
    }
}

/// A job on a card: shared memory of a block, and the multiprocessors.
type JobOnCard = (Job, u32, Multiprocessors);

/// The configurations that were picked.
static PICKED: Memory<JobOnCard, Option<Plan>> = Memory::new();
/// Those that take the least shared memory.
static SMALLEST: Memory<Job, Option<Plan>> = Memory::new();

/// A shape without what blocks do not depend on: shapes that differ in nothing else have the same blocks.
fn bare(shape: &Params) -> Params {
    Params {
        activation: 0,
        weight_cin: u32::from(shape.expands()),
        weight_channels: 0,
        weight_mid: 0,
        se_channels: 0,
        se_hidden: 0,
        stem_activation: 0,
        shortcut: 0,
        format: 0,
        ..*shape
    }
}

impl Job {
    pub fn whole(shape: &Params) -> Job {
        Job { shape: bare(shape), end: End::Output, batch_images: shape.images }
    }

    /// The first half of an MBConv.
    pub fn of_pair(p: &expand_depthwise::Params) -> Job {
        let batch_images = p.batch_images.unwrap_or(p.shape.images);
        Job { shape: bare(&p.shape), end: End::Filtered, batch_images }
    }

    pub fn of_pass(p: &mbconv_pass::Params) -> Job {
        Job { shape: bare(&p.shape), end: End::Statistics(p.pass, p.units()), batch_images: p.batch_images }
    }

    fn filters(&self) -> bool {
        !matches!(self.end, End::Statistics(Pass::Expanded, _))
    }

    fn projects(&self) -> bool {
        matches!(self.end, End::Output | End::Statistics(Pass::Projected, _))
    }

    /// Whether a block can have so many images: it has whole units, or all images of a batch.
    fn can_have(&self, images: u32) -> bool {
        match self.end {
            End::Statistics(_, units) => images >= self.batch_images || images.is_multiple_of(units.images),
            End::Output | End::Filtered => true,
        }
    }

    /// Blocks that each have so many images, the last of a batch fewer, or a band of one.
    pub fn blocks(&self, c: &Config) -> u32 {
        let batches = self.shape.images / self.batch_images.max(1);
        batches * self.batch_images.div_ceil(c.images) * c.bands
    }

    /// Output rows of the bands that an image can be cut into: squeeze-excite needs all of them, and of units of
    /// rows a band has whole ones.
    fn band_rows(&self) -> impl Iterator<Item = u32> + use<> {
        let side = self.shape.side_out;
        let unit = match self.end {
            End::Statistics(_, units) => units.lines,
            End::Output | End::Filtered => 1,
        };
        let bands = 2..=if self.shape.hidden > 0 { 1 } else { side };
        let mut last = side;
        bands
            .map(move |bands| side.div_ceil(bands).next_multiple_of(unit).min(side))
            .filter(move |&rows| std::mem::replace(&mut last, rows) != rows)
    }

    /// Whether a configuration fits so much shared memory.
    pub fn fits(&self, shared_bytes: u32) -> bool {
        self.smallest().is_some_and(|plan| plan.shared_bytes <= shared_bytes)
    }

    /// The quickest configuration that fits, by the estimate for these multiprocessors. Worked out once.
    pub fn plan(&self, shared_bytes: u32, multiprocessors: Multiprocessors) -> Option<Plan> {
        PICKED.get((*self, shared_bytes, multiprocessors), Job::pick)
    }

    /// What [`Job::plan`] keeps.
    fn pick(&(ref job, shared_bytes, multiprocessors): &JobOnCard) -> Option<Plan> {
        #[cfg(test)]
        tests::PICKS.set(tests::PICKS.get() + 1);
        job.candidates().filter(|plan| plan.shared_bytes <= shared_bytes).min_by_key(|plan| {
            let estimate = Estimate::new(job, plan, shared_bytes, multiprocessors.multiply_adds);
            (estimate.cycles(multiprocessors.count), plan.shared_bytes)
        })
    }

    /// How long the call takes with the configuration that is picked; nothing where none fits.
    pub fn estimate(&self, shared_bytes: u32, multiprocessors: Multiprocessors) -> Option<Estimate> {
        let plan = self.plan(shared_bytes, multiprocessors)?;
        Some(Estimate::new(self, &plan, shared_bytes, multiprocessors.multiply_adds))
    }

    /// Whether it is an elastic layer's, which is expanded, and not that of a stem.
    pub fn expands(&self) -> bool {
        self.shape.expands()
    }

    /// Operations of it that tensor cores make.
    pub fn tensor_flops(&self) -> u64 {
        self.shape.tensor_flops()
    }

    /// What calls of one kernel have in common, and how many of them a launch takes.
    pub fn kernel(&self) -> (u32, u32, bool, u32, usize) {
        let p = &self.shape;
        let together = match self.end {
            End::Output => super::gpu::GROUP,
            End::Filtered => 1,
            End::Statistics(..) => mbconv_pass::gpu::GROUP,
        };
        (p.kernel, p.stride, p.has_stem(), self.end.number(), together)
    }

    /// The configuration that takes the least shared memory. Worked out once.
    pub fn smallest(&self) -> Option<Plan> {
        SMALLEST.get(*self, |job| job.candidates().min_by_key(|plan| plan.shared_bytes))
    }

    /// Every configuration there is; any gives the same results.
    fn candidates(&self) -> impl Iterator<Item = Plan> + use<> {
        let (job, p) = (*self, self.shape);
        let most = self.batch_images.max(1);
        let images = (0..6).map(|log| 1 << log).filter(move |&n: &u32| n < 2 * most);
        let images = images.map(move |n| n.min(most)).filter(move |&n| job.can_have(n));
        let bands = self.band_rows().map(|rows| (1, rows));
        images.map(move |n| (n, p.side_out)).chain(bands).flat_map(move |(n, band_rows)| {
            // With a stem there is one slice.
            let least = if p.has_stem() { p.mid } else { 0 };
            let slices = [16, 32, 64].into_iter().filter(move |&slice| slice == 16 || slice < 2 * p.mid);
            let slices = slices.filter(move |&slice| slice >= least);
            slices.map(move |slice| lay_out(&job, n, slice, band_rows))
        })
    }
}

/// Bytes of shared memory of the smallest block for the shape; none where there is no kernel for it.
pub fn least_shared_bytes(p: &Params) -> Option<u32> {
    Job::whole(p).smallest().map(|plan| plan.shared_bytes)
}

/// Whether there is a kernel for the shape on a device whose blocks can have `shared_bytes` of shared memory.
pub fn fits(p: &Params, shared_bytes: u32) -> bool {
    Job::whole(p).fits(shared_bytes)
}

/// How a block goes about a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Block {
    /// Images that it owns.
    pub images: u32,
    /// Bands of an image; of several it owns one.
    pub bands: u32,
    /// Expanded channels that it has at a time.
    pub slice: u32,
    /// Its shared memory.
    pub shared_bytes: u32,
}

/// The block that is picked on a device with these multiprocessors, or, where none fits, the smallest.
pub fn block(p: &Params, shared_bytes: u32, multiprocessors: Multiprocessors) -> Option<Block> {
    let job = Job::whole(p);
    job.plan(shared_bytes, multiprocessors).or_else(|| job.smallest()).map(Block::from)
}

impl From<Plan> for Block {
    fn from(plan: Plan) -> Block {
        let Config { images, bands, slice, .. } = plan.config;
        Block { images, bands, slice, shared_bytes: plan.shared_bytes }
    }
}

/// Chunks from one row of so many to the next: an odd number puts eight rows on different banks.
fn odd(chunks: u32) -> u32 {
    chunks | 1
}

/// Pixels of zeros before each row of the expanded slice.
fn margin(p: &Params) -> u32 {
    p.kernel / 2
}

/// Outputs of a row that a thread makes.
fn strip(p: &Params) -> u32 {
    match p.side_out {
        0..=2 => 2,
        3..=4 => 4,
        _ => 8,
    }
}

/// Chunks from one row of the expanded slice to the next. Where less than a line of banks belongs to a
/// pixel, neighbouring threads read the same columns of neighbouring outputs, one below the other, and
/// the distance of their rows puts these on different banks.
fn expanded_row(p: &Params, slice: u32, pixel: u32) -> u32 {
    let apart = |row: u32| match slice {
        64 => true,
        32 => p.stride * row % 8 == 4,
        _ => p.stride * row % 4 == 2,
    };
    let least = (p.side_in + margin(p)) * pixel;
    (least..least + 8).find(|&row| apart(row)).unwrap_or(least)
}

/// Rows of pixels of a block before and behind the filter.
fn lines(p: &Params, images: u32, band_rows: u32) -> (u32, u32) {
    if band_rows == p.side_out {
        return (images * p.side_in, images * p.side_out);
    }
    // With those above and below that its outputs need.
    (p.side_in.min((band_rows - 1) * p.stride + p.kernel), band_rows)
}

fn lay_out(job: &Job, images: u32, slice: u32, band_rows: u32) -> Plan {
    let p = &job.shape;
    let (lines_in, lines_out) = lines(p, images, band_rows);
    let (rows_in, rows_out) = (lines_in * p.side_in, lines_out * p.side_out);
    let expanded_pixel = odd(slice / CHUNK);
    // A filter needs zeros around an image.
    let (expanded_row, behind) = if job.filters() {
        (expanded_row(p, slice, expanded_pixel), behind(p))
    } else {
        (p.side_in * expanded_pixel, 0)
    };
    let (groups, tiles) = if job.projects() { columns(p, rows_out) } else { (0, 0) };
    let (vectors, taps) = (2 * slice / 4, p.kernel * p.kernel * slice / 4);
    // What is measured has neither scale nor shift.
    let (expand_vectors, filter, kept) = match job.end {
        End::Statistics(Pass::Expanded, _) => (0, 0, 0),
        End::Statistics(Pass::Filtered, _) => (vectors, taps, rows_out * expanded_pixel),
        End::Filtered => (vectors, taps + vectors, rows_out * expanded_pixel),
        _ => (vectors, taps + vectors, rows_out * odd(p.mid / CHUNK)),
    };
    let projection = (2 * 8 * groups * tiles * PROJECT_ROW).max(WARPS * 16 * 2 * (tiles + 1));
    let place = |[x_at, weights_at, filter_at, project_at, kept_at]: [u32; 5], chunks: u32| Plan {
        config: Config {
            images,
            slice,
            groups,
            tiles,
            expanded_pixel,
            expanded_row,
            x_at,
            weights_at,
            filter_at,
            project_at,
            kept_at,
            bands: p.side_out.div_ceil(band_rows),
            band_rows,
        },
        shared_bytes: CHUNK_BYTES * chunks,
    };
    let behind_slice = FRONT + lines_in * expanded_row + behind * expanded_pixel;
    if p.has_stem() {
        // What the filters leave is in place of the images.
        let filter_at = behind_slice + 27 * slice / 4 + vectors;
        let x_at = filter_at + filter;
        let kept_at = x_at.max(behind_slice + projection);
        let chunks = (kept_at + kept).max(x_at + image_rows(p, images, band_rows) * image_row(p));
        return place([x_at, behind_slice, filter_at, behind_slice, kept_at], chunks);
    }
    // The slices.
    let x_at = behind_slice;
    let (weights_at, filter_at) = if p.expands() {
        let row = odd(p.cin / CHUNK);
        let weights_at = x_at + rows_in * row;
        (weights_at, weights_at + slice * row + expand_vectors)
    } else {
        (x_at, x_at)
    };
    let slices = filter_at + filter;
    if !job.projects() {
        return place([x_at, weights_at, filter_at, 0, slices], slices + kept);
    }
    // Squeeze-excite: means and hidden units of fours of images, and gates.
    let fours = images.div_ceil(4);
    let gates = FRONT + (p.mid + p.hidden) * fours + images * p.mid / 4;
    let kept_at = slices.max(if p.hidden > 0 { gates } else { 0 }).max(FRONT + projection);
    place([x_at, weights_at, filter_at, FRONT, kept_at], kept_at + kept)
}

/// Chunks from one row of a stem's images to the next: `image_row` of `kernels/mbconv/nat_mbconv_stem.cuh`.
fn image_row(p: &Params) -> u32 {
    let pixels = 1 + (3 * p.image_side + 3).div_ceil(4);
    odd(pixels.max(6 * p.side_in.div_ceil(STEM_STRIP) + 1))
}

/// Rows of so many images, with one of zeros before each and one behind the last; or those of an image that a band
/// needs.
fn image_rows(p: &Params, images: u32, band_rows: u32) -> u32 {
    if band_rows == p.side_out {
        images * (p.image_side + 1) + 1
    } else {
        2 * lines(p, images, band_rows).0 + 1
    }
}

/// Pixels behind the last row of the expanded slice: its zeros, and what its last strip reads behind them.
fn behind(p: &Params) -> u32 {
    let read = (p.side_out.next_multiple_of(strip(p)) - 1) * p.stride + 1 + 2 * margin(p);
    read.max(p.side_in + 2 * margin(p)) - (p.side_in + margin(p))
}

/// How the output channels are shared out over warps: groups of so many tiles, an even number.
fn columns(p: &Params, rows: u32) -> (u32, u32) {
    let pairs = p.cout.div_ceil(16);
    let tiles = |groups: u32| 2 * pairs.div_ceil(groups);
    let time = |&groups: &u32| (rows.div_ceil(32) * groups).div_ceil(WARPS) * tiles(groups);
    let groups = (pairs.div_ceil(PROJECT_TILES / 2)..=pairs).min_by_key(time).unwrap_or(1);
    (groups, tiles(groups))
}

#[cfg(test)]
mod tests;
