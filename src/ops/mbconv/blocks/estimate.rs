//! How long a call takes: by this a block is picked, and by this the performance model tells its time.

use super::super::super::mbconv_pass::Pass;
use super::{CHUNK, EXPAND_TILES, End, Job, Plan, STEM_STRIP, THREADS, WARPS, image_rows, lines, strip};

/// Threads whose instructions a multiprocessor issues in a cycle: those of four warps.
const ISSUED: u32 = 4 * 32;

/// Cycles of a block, each by what it takes them for. A block goes from one to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cycles {
    /// Products on tensor cores.
    pub tensor: u64,
    /// Depthwise filter, stem, squeeze-excite, and what is left behind: f32 multiply-adds with the loads that feed
    /// them.
    pub multiply_adds: u64,
    /// Weights from the L2 cache, and maps from memory and to it.
    pub traffic: u64,
    /// Waits that another block of the multiprocessor fills.
    pub waits: u64,
}

/// An estimate of a call in cycles: instructions at the rates of an H100, but for the multiply-adds of a card that
/// makes fewer in a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// Blocks that there are.
    pub blocks: u32,
    /// Blocks that a multiprocessor can have at a time.
    pub resident: u32,
    /// Cycles of each.
    pub block: Cycles,
}

impl Cycles {
    /// Those without waits.
    pub fn work(&self) -> u64 {
        self.tensor + self.multiply_adds + self.traffic
    }

    /// Cycles from the beginning of as many blocks as are resident to their end.
    pub fn wave(&self, resident: u32) -> u64 {
        (u64::from(resident) * self.work()).max(self.work() + self.waits)
    }
}

impl Estimate {
    /// Cycles from the beginning of the first block to the end of the last.
    pub fn cycles(&self, multiprocessors: u32) -> u64 {
        let resident = resident(self.blocks, self.resident, multiprocessors);
        let waves = u64::from(self.blocks.div_ceil(multiprocessors.max(1) * resident));
        waves * self.block.wave(resident)
    }

    /// That of a call in blocks of that plan.
    pub fn new(job: &Job, plan: &Plan, shared_bytes: u32, multiply_adds: u32) -> Estimate {
        // Registers allow two blocks, three of the first pass; each takes a kilobyte of its own.
        let most = if job.filters() { 2 } else { 3 };
        let resident = ((shared_bytes + 1024) / (plan.shared_bytes + 1024)).clamp(1, most);
        Estimate {
            blocks: job.blocks(&plan.config),
            resident,
            block: cycles(job, plan, u64::from(multiply_adds)),
        }
    }
}

/// Blocks that a multiprocessor has at a time where it can have so many: fewer where there are too few for all.
pub(crate) fn resident(blocks: u32, most: u32, multiprocessors: u32) -> u32 {
    most.min(blocks.div_ceil(multiprocessors.max(1))).max(1)
}

fn cycles(job: &Job, plan: &Plan, lanes: u64) -> Cycles {
    let (p, c) = (&job.shape, &plan.config);
    let (lines_in, lines_out) = lines(p, c.images, c.band_rows);
    let (rows_in, rows_out) = (lines_in * p.side_in, lines_out * p.side_out);
    let slices = p.mid.div_ceil(c.slice);
    let rounds = |items: u32, at_a_time: u32| u64::from(items.div_ceil(at_a_time));
    // A product of 16 x 8 x 16 takes two cycles, and eight warps take turns.
    let products = |items: u32, tiles: u32, channels: u32| {
        rounds(items, WARPS) * u64::from(channels.div_ceil(16) * 2 * tiles * 2 * WARPS)
    };
    // Four instructions a cycle of all warps, as far as there are lanes for the multiply-adds among them.
    let issued = |multiply_adds: u32, others: u32| {
        let slower = u64::from(multiply_adds) * u64::from(ISSUED) / lanes.max(1);
        u64::from(multiply_adds + others).max(slower)
    };
    let (expansion, stem) = if p.expands() {
        let across = c.slice.div_ceil(8 * EXPAND_TILES);
        let tiles = EXPAND_TILES.min(c.slice / 8);
        (products(rows_in.div_ceil(32) * across, tiles, p.cin) * u64::from(slices), 0)
    } else if p.has_stem() {
        // Multiply-adds of a strip, and what it takes to load.
        let strips = rows_in / p.side_in * p.side_in.div_ceil(STEM_STRIP) * p.mid / CHUNK;
        let strip = issued(27 * STEM_STRIP * CHUNK, 150);
        (0, rounds(strips, THREADS) * (strip * u64::from(WARPS) / 4))
    } else {
        (0, 0)
    };
    let projection = products(rows_out.div_ceil(32) * c.groups, c.tiles, p.mid);
    // Multiply-adds of a strip, and what it takes to load and widen its inputs.
    let strip = strip(p);
    let strips = lines_out * p.side_out.div_ceil(strip) * c.slice / 4;
    let row = issued(4 * strip * p.kernel, 6 * ((strip - 1) * p.stride + p.kernel) + 2 * p.kernel);
    let filter = if job.filters() {
        rounds(strips, THREADS) * (u64::from(slices * p.kernel.min(p.side_in) * WARPS) * row / 4)
    } else {
        0
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
    let input = if p.has_stem() {
        12 * image_rows(p, c.images, c.band_rows) * p.image_side
    } else {
        2 * rows_in * p.cin
    };
    let output = 2 * rows_out * if job.end == End::Filtered { p.mid } else { p.cout };
    let maps = u64::from(input + output) / 16;
    let projected = if job.projects() { p.mid.div_ceil(64) } else { 0 };
    Cycles {
        tensor: expansion + projection,
        multiply_adds: stem + filter + squeeze_excite + left,
        traffic: weights + maps,
        waits: 1000 * u64::from(slices + projected),
    }
}
