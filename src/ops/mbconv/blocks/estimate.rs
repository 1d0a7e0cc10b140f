//! How long a call takes, by which a block is picked.

use super::super::super::mbconv_pass::Pass;
use super::{CHUNK, EXPAND_TILES, End, Job, Plan, STEM_STRIP, THREADS, WARPS, image_rows, lines, strip};

/// An estimate of the whole call in cycles of a multiprocessor: instructions at the rates of an H100,
/// weights from its L2 cache, and waits that another block of the multiprocessor fills.
pub(super) fn cycles(job: &Job, plan: &Plan, shared_bytes: u32, multiprocessors: u32) -> u64 {
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
