//! How a block of `kernels/mbconv.cu`, `kernels/mbconv_passes.cu` and `kernels/expand_depthwise.cu` goes about its
//! work: how many images it owns, how many channels it expands at a time, and where things lie in its shared memory.

use super::super::expand_depthwise;
use super::super::mbconv_pass::{self, Pass, Units};
use super::Params;
use serde::Serialize;

pub(super) const THREADS: u32 = 256;
const WARPS: u32 = THREADS / 32;
/// Numbers of a 16-byte chunk, the unit of all that lies in shared memory.
const CHUNK: u32 = 8;
const CHUNK_BYTES: u32 = 16;
/// `kFront` and the others of `kernels/mbconv_block.cuh`.
const FRONT: u32 = 8;
const EXPAND_TILES: u32 = 4;
const PROJECT_TILES: u32 = 6;
const PROJECT_ROW: u32 = 8;
/// Outputs of a row that a thread of the stem makes.
const STEM_STRIP: u32 = 4;

/// How a block goes about it: `MbconvConfig` of the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Config {
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

/// What blocks are to make.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    shape: Params,
    end: End,
    /// Images among which those of a block are: all of them, or a batch.
    batch_images: u32,
}

impl Job {
    pub fn whole(shape: &Params) -> Job {
        Job { shape: *shape, end: End::Output, batch_images: shape.images }
    }

    /// The first half of an MBConv.
    pub fn of_pair(p: &expand_depthwise::Params) -> Job {
        let batch_images = p.batch_images.unwrap_or(p.shape.images);
        Job { shape: p.shape, end: End::Filtered, batch_images }
    }

    pub fn of_pass(p: &mbconv_pass::Params) -> Job {
        Job { shape: p.shape, end: End::Statistics(p.pass, p.units()), batch_images: p.batch_images }
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
        self.candidates().any(|plan| plan.shared_bytes <= shared_bytes)
    }

    /// The quickest configuration that fits, by estimate.
    pub fn plan(&self, shared_bytes: u32, multiprocessors: u32) -> Option<Plan> {
        self.candidates()
            .filter(|plan| plan.shared_bytes <= shared_bytes)
            .min_by_key(|plan| (cycles(self, plan, shared_bytes, multiprocessors), plan.shared_bytes))
    }

    /// The configuration that takes the least shared memory.
    pub fn smallest(&self) -> Option<Plan> {
        self.candidates().min_by_key(|plan| plan.shared_bytes)
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

/// The block that is picked on a device with so many multiprocessors, or, where none fits, the smallest.
pub fn block(p: &Params, shared_bytes: u32, multiprocessors: u32) -> Option<Block> {
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
    let (expanded_row, behind) = match job.filters() {
        true => (expanded_row(p, slice, expanded_pixel), behind(p)),
        false => (p.side_in * expanded_pixel, 0),
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
    let (weights_at, filter_at) = match p.expands() {
        true => {
            let row = odd(p.cin / CHUNK);
            let weights_at = x_at + rows_in * row;
            (weights_at, weights_at + slice * row + expand_vectors)
        }
        false => (x_at, x_at),
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

/// Chunks from one row of a stem's images to the next: `image_row` of `kernels/mbconv_stem.cuh`.
fn image_row(p: &Params) -> u32 {
    let pixels = 1 + (3 * p.image_side + 3).div_ceil(4);
    odd(pixels.max(6 * p.side_in.div_ceil(STEM_STRIP) + 1))
}

/// Rows of so many images, with one of zeros before each and one behind the last; or those of an image that a band
/// needs.
fn image_rows(p: &Params, images: u32, band_rows: u32) -> u32 {
    match band_rows == p.side_out {
        true => images * (p.image_side + 1) + 1,
        false => 2 * lines(p, images, band_rows).0 + 1,
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

/// An estimate of the whole call in cycles of a multiprocessor: instructions at the rates of an H100,
/// weights from its L2 cache, and waits that another block of the multiprocessor fills.
fn cycles(job: &Job, plan: &Plan, shared_bytes: u32, multiprocessors: u32) -> u64 {
    let (p, c) = (&job.shape, &plan.config);
    let (lines_in, lines_out) = lines(p, c.images, c.band_rows);
    let (rows_in, rows_out) = (lines_in * p.side_in, lines_out * p.side_out);
    let slices = p.mid.div_ceil(c.slice);
    let rounds = |items: u32, at_a_time: u32| u64::from(items.div_ceil(at_a_time));
    // A product of 16 x 8 x 16 takes two cycles, and eight warps take turns.
    let products = |items: u32, tiles: u32, channels: u32| {
        rounds(items, WARPS) * u64::from(channels.div_ceil(16) * 2 * tiles * 2 * WARPS)
    };
    let expansion = match p.expands() {
        true => {
            let across = c.slice.div_ceil(8 * EXPAND_TILES);
            let tiles = EXPAND_TILES.min(c.slice / 8);
            products(rows_in.div_ceil(32) * across, tiles, p.cin) * u64::from(slices)
        }
        // Multiply-adds of a strip, and what it takes to load: four instructions a cycle.
        false if p.has_stem() => {
            let strips = rows_in / p.side_in * p.side_in.div_ceil(STEM_STRIP) * p.mid / CHUNK;
            rounds(strips, THREADS) * u64::from((27 * STEM_STRIP * CHUNK + 150) * WARPS / 4)
        }
        false => 0,
    };
    let projection = products(rows_out.div_ceil(32) * c.groups, c.tiles, p.mid);
    // Four instructions a cycle: multiply-adds of a strip, and what it takes to load and widen its inputs.
    let strip = strip(p);
    let strips = lines_out * p.side_out.div_ceil(strip) * c.slice / 4;
    let row = 4 * strip * p.kernel + 6 * ((strip - 1) * p.stride + p.kernel) + 2 * p.kernel;
    let filter = match job.filters() {
        true => rounds(strips, THREADS) * u64::from(slices * p.kernel.min(p.side_in) * row * WARPS / 4),
        false => 0,
    };
    let layers = u64::from(2 * p.mid * p.hidden);
    let squeeze_excite = layers * u64::from(c.images.next_multiple_of(4)) / 100;
    let left = match job.end {
        End::Output => 0,
        // A thread copies a chunk in 12 instructions, and adds two channels of a pixel in 6.
        End::Filtered => {
            let copies = rounds(rows_out * c.slice / CHUNK, THREADS) * 12;
            let means = rounds(lines_out * c.slice / 2, THREADS) * u64::from(6 * p.side_out + 20);
            (copies + means) * u64::from(WARPS / 4 * slices)
        }
        // A warp takes 32 rows of a unit by 8 channels in 40 instructions, and then adds up what its lanes have.
        End::Statistics(pass, units) => {
            let (rows, channels) = match pass {
                Pass::Expanded => (rows_in, c.slice),
                Pass::Filtered => (rows_out, c.slice),
                Pass::Projected => (rows_out, p.cout),
            };
            let times = if job.projects() { 1 } else { slices };
            let items = rows.div_ceil(units.rows) * channels / CHUNK;
            rounds(items, WARPS) * u64::from((40 * units.rows.div_ceil(32) + 150) * WARPS / 4 * times)
        }
    };
    // 64 bytes a cycle from the L2 cache, 16 from memory.
    let halves = p.mid * (if p.expands() { p.cin } else { 0 } + p.cout);
    let taps = if job.filters() { p.kernel * p.kernel } else { 0 };
    let weights = (u64::from(2 * halves + 4 * taps * p.mid) + 4 * layers) / 64;
    let input = match p.has_stem() {
        true => 12 * image_rows(p, c.images, c.band_rows) * p.image_side,
        false => 2 * rows_in * p.cin,
    };
    let output = 2 * rows_out * if job.end == End::Filtered { p.mid } else { p.cout };
    let maps = u64::from(input + output) / 16;
    let work = expansion + filter + squeeze_excite + projection + left + weights + maps;
    let projected = if job.projects() { p.mid.div_ceil(64) } else { 0 };
    let waits = 1000 * u64::from(slices + projected);
    // Registers allow two blocks, three of the first pass; each takes a kilobyte of its own.
    let most = if job.filters() { 2 } else { 3 };
    let resident = ((shared_bytes + 1024) / (plan.shared_bytes + 1024)).clamp(1, most);
    let waves = rounds(job.blocks(c), multiprocessors.max(1) * resident);
    waves * (u64::from(resident) * work).max(work + waits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::halves::Format;
    use crate::space::backbone::{
        Channels, EXPANSIONS, ExitScaling, KERNELS, LAYERS, MAX_DEPTH, STAGE_TABLE, expanded, squeezed,
        strided,
    };

    /// An H100, an A100, and what every card gives without being asked for more.
    const H100: u32 = 227 << 10;
    const A100: u32 = 163 << 10;
    const PLAIN: u32 = 48 << 10;

    /// Layer `index` of a network; the first layers of a stage have its stride.
    fn layer(images: u32, width: f64, r: usize, index: usize, kernel: u8, expansion: u8) -> Params {
        let channels = Channels::new(width, ExitScaling::Once);
        let stage = index / MAX_DEPTH;
        let first = index.is_multiple_of(MAX_DEPTH);
        let stride = |stage: usize| STAGE_TABLE[stage].stride;
        let side_of = |stages: usize| (0..stages).fold(strided(r, 2), |side, s| strided(side, stride(s)));
        let (side_in, stride) = if first { (side_of(stage), stride(stage)) } else { (side_of(stage + 1), 1) };
        let cin = channels.layer_input(index);
        let mid = expanded(cin, expansion) as u32;
        let hidden = if STAGE_TABLE[stage].squeeze_excite { squeezed(mid as usize) as u32 } else { 0 };
        Params {
            images,
            side_in: side_in as u32,
            side_out: strided(side_in, stride) as u32,
            cin: cin as u32,
            mid,
            cout: channels.stages[stage] as u32,
            kernel: u32::from(kernel),
            stride: stride as u32,
            activation: STAGE_TABLE[stage].activation as u32,
            hidden,
            weight_cin: cin as u32,
            weight_channels: mid,
            weight_mid: mid,
            se_channels: mid,
            se_hidden: hidden,
            image_side: 0,
            stem_activation: 0,
            shortcut: 0,
            format: Format::F16 as u32,
        }
    }

    /// The stem and the fixed block behind it.
    fn first(images: u32, width: f64, r: usize) -> Params {
        let channels = Channels::new(width, ExitScaling::Once);
        let (side, mid, cout) = (strided(r, 2) as u32, channels.stem as u32, channels.first as u32);
        Params {
            images,
            side_in: side,
            side_out: side,
            cin: 3,
            mid,
            cout,
            kernel: 3,
            stride: 1,
            activation: 1,
            hidden: 0,
            weight_cin: 0,
            weight_channels: mid,
            weight_mid: mid,
            se_channels: 0,
            se_hidden: 0,
            image_side: r as u32,
            stem_activation: 2,
            shortcut: u32::from(mid == cout),
            format: Format::F16 as u32,
        }
    }

    fn layers(images: u32, width: f64, r: usize) -> impl Iterator<Item = (usize, u8, u8, Params)> {
        let choices = KERNELS.iter().flat_map(|&k| EXPANSIONS.map(|e| (k, e)));
        choices.flat_map(move |(k, e)| (0..LAYERS).map(move |i| (i, k, e, layer(images, width, r, i, k, e))))
    }

    /// Kilobytes of the smallest configuration of a shape.
    fn least(p: &Params) -> u32 {
        Job::whole(p).smallest().unwrap().shared_bytes.div_ceil(1024)
    }

    #[test]
    fn every_layer_up_to_64_pixels_fits_an_h100() {
        for width in [0.25, 1.0, 1.2] {
            for r in (32..=64).step_by(4) {
                for (index, k, e, p) in layers(100, width, r) {
                    assert!(fits(&p, H100), "width {width}, {r} pixels, layer {index}, k{k}, e{e}");
                }
                assert!(fits(&first(100, width, r), H100), "width {width}, {r} pixels, stem");
            }
        }
    }

    #[test]
    fn plans_fit_and_their_parts_are_apart() {
        for (limit, multiprocessors) in [(H100, 132), (A100, 108), (PLAIN, 1)] {
            for images in [1, 7, 1000] {
                for (_, _, _, p) in layers(images, 1.0, 56) {
                    let Some(Plan { config: c, shared_bytes }) = Job::whole(&p).plan(limit, multiprocessors)
                    else {
                        assert!(!fits(&p, limit));
                        continue;
                    };
                    assert!(shared_bytes <= limit);
                    let (lines_in, lines_out) = lines(&p, c.images, c.band_rows);
                    let pixels = lines_in * p.side_in;
                    let ends = [
                        (FRONT + lines_in * c.expanded_row + margin(&p) * c.expanded_pixel, c.x_at),
                        (c.x_at + pixels * p.cin / CHUNK, c.weights_at),
                        (c.weights_at + c.slice * p.cin / CHUNK + c.slice / 2, c.filter_at),
                        (c.filter_at + (p.kernel * p.kernel + 2) * c.slice / 4, c.kept_at),
                        (FRONT + 2 * 8 * c.groups * c.tiles * PROJECT_ROW, c.kept_at),
                        (c.kept_at + lines_out * p.side_out * p.mid / CHUNK, shared_bytes / CHUNK_BYTES),
                    ];
                    assert!(ends.iter().all(|(end, next)| end <= next), "{p:?} {c:?}");
                    assert!(8 * c.groups * c.tiles >= p.cout && c.tiles.is_multiple_of(2));
                    assert!((1..=PROJECT_TILES).contains(&c.tiles) && c.images < 2 * p.images);
                }
            }
        }
    }

    #[test]
    fn bands_cover_an_image_and_every_layer_without_squeeze_excite_fits_in_some() {
        for r in [96, 128, 224] {
            let stem = (0, 3, 1, first(100, 1.0, r));
            let layers = layers(100, 1.0, r).filter(|layer| layer.3.hidden == 0);
            for (index, k, e, p) in layers.chain([stem]) {
                let job = Job::whole(&p);
                assert!(job.fits(A100), "{r} pixels, layer {index}, k{k}, e{e}");
                for Plan { config: c, .. } in job.candidates() {
                    assert!(c.bands * c.band_rows >= p.side_out && (c.bands - 1) * c.band_rows < p.side_out);
                    assert!(c.bands == 1 || (c.images == 1 && job.blocks(&c) == p.images * c.bands));
                }
            }
        }
    }

    #[test]
    fn blocks_of_passes_have_whole_units_and_their_parts_are_apart() {
        for (batches, batch_images) in [(1, 1), (3, 7), (2, 100)] {
            for (_, _, _, whole) in layers(batches * batch_images, 1.0, 64) {
                for pass in Pass::ALL {
                    let params = mbconv_pass::Params::of(whole, pass, batch_images);
                    let (job, p, units) = (Job::of_pass(&params), params.shape, params.units());
                    assert!(job.plan(H100, 132).is_some_and(|plan| plan.shared_bytes <= H100), "{params:?}");
                    for Plan { config: c, shared_bytes } in job.candidates() {
                        assert!(c.images == batch_images || c.images.is_multiple_of(units.images));
                        assert!(c.images <= batch_images && job.blocks(&c) * c.images >= p.images);
                        assert!(c.bands == 1 || (c.images == 1 && c.band_rows.is_multiple_of(units.lines)));
                        assert!(c.bands == 1 || p.hidden == 0);
                        let (lines_in, lines_out) = lines(&p, c.images, c.band_rows);
                        let (rows_in, rows_out) = (lines_in * p.side_in, lines_out * p.side_out);
                        let vectors = |there: bool| if there { c.slice / 2 } else { 0 };
                        let input = c.x_at + rows_in * p.cin / CHUNK;
                        let slice = FRONT + rows_in * c.slice / CHUNK;
                        let zeros = margin(&p) * c.expanded_pixel;
                        let weights = c.weights_at + c.slice * p.cin / CHUNK + vectors(job.filters());
                        let filter = p.kernel * p.kernel * c.slice / 4 + vectors(job.projects());
                        let end = shared_bytes / CHUNK_BYTES;
                        let mut ends = vec![(slice + zeros, c.x_at), (input, c.weights_at)];
                        match pass {
                            Pass::Expanded => ends.push((weights, end)),
                            Pass::Filtered => ends.extend([
                                (weights, c.filter_at),
                                (c.filter_at + filter, c.kept_at),
                                (c.kept_at + rows_out * c.slice / CHUNK, end),
                            ]),
                            Pass::Projected => ends.extend([
                                (weights, c.filter_at),
                                (c.filter_at + filter, c.kept_at),
                                (FRONT + 2 * 8 * c.groups * c.tiles * PROJECT_ROW, c.kept_at),
                                (c.kept_at + rows_out * p.mid / CHUNK, end),
                            ]),
                        }
                        assert!(ends.iter().all(|(end, next)| end <= next), "{params:?} {c:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_first_passes_of_large_maps_take_less_memory_than_the_whole() {
        for (index, k, e, p) in layers(100, 1.0, 64).filter(|layer| layer.3.pixels_out() >= 64) {
            let taken = |pass: Pass| {
                let params = mbconv_pass::Params::of(p, pass, 100);
                Job::of_pass(&params).smallest().unwrap().shared_bytes
            };
            let images = Job::whole(&p).candidates().filter(|plan| plan.config.bands == 1);
            let whole = images.map(|plan| plan.shared_bytes).min().unwrap();
            let [expanded, filtered, projected] = Pass::ALL.map(taken);
            assert!(expanded < filtered && filtered < projected, "layer {index}, k{k}, e{e}");
            assert_eq!(projected, whole, "layer {index}, k{k}, e{e}");
        }
    }

    #[test]
    fn parts_of_a_block_with_a_stem_are_apart_and_two_fit_a_multiprocessor_of_an_h100() {
        for (width, r) in [(0.25, 33), (1.0, 64), (1.0, 47), (1.2, 32), (1.0, 160)] {
            let p = first(1000, width, r);
            let job = Job::whole(&p);
            let picked = job.plan(H100, 132).unwrap();
            assert!(r != 64 || 2 * (picked.shared_bytes + 1024) <= 228 << 10, "{picked:?}");
            for Plan { config: c, shared_bytes } in job.candidates() {
                assert!(c.slice >= p.mid);
                let (lines_in, lines_out) = lines(&p, c.images, c.band_rows);
                let image_rows = match c.bands {
                    1 => c.images * (p.image_side + 1) + 1,
                    _ => 2 * lines_in + 1,
                };
                let slice = FRONT + lines_in * c.expanded_row + c.expanded_pixel;
                let end = shared_bytes / CHUNK_BYTES;
                let ends = [
                    (slice, c.weights_at),
                    (c.weights_at + (27 + 2) * c.slice / 4, c.filter_at),
                    (c.filter_at + (9 + 2) * c.slice / 4, c.x_at),
                    (c.x_at, c.kept_at),
                    (c.x_at + image_rows * (3 * p.image_side).div_ceil(4), end),
                    (slice, c.project_at),
                    (c.project_at + 2 * 8 * c.groups * c.tiles * PROJECT_ROW, c.kept_at),
                    (c.kept_at + lines_out * p.side_out * p.mid / CHUNK, end),
                ];
                assert!(ends.iter().all(|(end, next)| end <= next), "{p:?} {c:?}");
            }
        }
    }

    /// Which layers of larger images fit; printed as the table of the module's page.
    #[test]
    fn what_fits_is_as_the_module_says() {
        let mut table = String::new();
        for r in [64, 96, 128, 160, 192, 224] {
            let row = (0..LAYERS)
                .filter(|index| index % MAX_DEPTH < 2)
                .map(|index| layers(1, 1.0, r).filter(|l| l.0 == index).map(|l| least(&l.3)).max().unwrap());
            let row: Vec<u32> = std::iter::once(least(&first(1, 1.0, r))).chain(row).collect();
            let cells: Vec<String> = row.iter().map(|kb| format!(" {kb:>4} |")).collect();
            table += &format!("| {r:>3} |{}\n", cells.concat());
        }
        println!("{table}");
        let page = include_str!("mod.rs").replace("//! ", "");
        assert!(page.contains(&table), "the table of mod.rs is out of date:\n{table}");
    }

    /// Bytes of the chain that a call replaces, its maps in 16 bits too.
    fn chain_bytes(p: &Params, fused: u64) -> u64 {
        let [rows_in, rows_out, mid] =
            [p.images * p.pixels_in(), p.images * p.pixels_out(), p.mid].map(u64::from);
        let expanded = 2 * 2 * rows_in * mid;
        // Squeeze-excite reads the depthwise output once more; its gates are small.
        let filtered = 2 * (2 + u64::from(p.hidden > 0)) * rows_out * mid;
        fused + expanded + filtered
    }

    #[test]
    fn the_layers_of_a_network_move_a_fraction_of_the_bytes_of_their_chains() {
        let images = 256;
        let slot = |len: u32| crate::ops::Slot::weights(0, len as usize);
        let (mut fused, mut chain) = (0, 0);
        for index in 0..LAYERS {
            let params = layer(images, 1.0, 64, index, 5, 4);
            let (first, se) = (index % MAX_DEPTH == 0, (params.hidden > 0).then(|| slot(0)));
            let call = super::super::Mbconv {
                params,
                x: slot(0),
                stem: None,
                expand: Some(slot(0)),
                expand_scale: Some(slot(0)),
                expand_shift: Some(slot(0)),
                filter: slot(0),
                filter_scale: slot(0),
                filter_shift: slot(0),
                reduce: se,
                reduce_bias: se,
                excite: se,
                excite_bias: se,
                project: slot(0),
                project_scale: slot(0),
                project_shift: slot(0),
                residual: (!first).then(|| slot(1)),
                y: slot(0),
            };
            let bytes = call.work().bytes;
            fused += bytes;
            chain += chain_bytes(&params, bytes);
        }
        println!("{} and {} bytes an image", fused / u64::from(images), chain / u64::from(images));
        assert!(5 * fused < chain, "{fused} {chain}");
    }
}
