//! Launch geometry of `kernels/train/update.cu`: a launch names as many tensors as 4 KiB of arguments can.

use super::{
    AdamW, AdamWSegment, BLOCK, ClipFactor, Fill, Segment, Sgd, SgdSegment, SquaresParams, SumOfSquares,
};
use crate::launch::{Error, Geometry, Launcher, launched};

const THREADS: u32 = 256;

/// A thread for every four of `len` elements, which are numbered in 32 bits, those behind the last too.
fn fours(len: u32, to: &Launcher<'_>) -> Result<Geometry, Error> {
    to.count(u64::from(len) + 4 * u64::from(THREADS))?;
    to.covering(u64::from(len).div_ceil(4), THREADS)
}

/// A thread four elements.
pub(crate) fn fill(call: &Fill, to: &Launcher<'_>) -> Result<(), Error> {
    let geometry = fours(call.params.len, to)?;
    to.launch("update_fill_f32", geometry, &call.addresses(to))
}

/// The part of `segments` that a launch takes, and the blocks of it, where a block covers `covered`
/// elements. `made` is given the first block of each.
fn segments<S, A: Default + Copy, const N: usize>(
    segments: &[S],
    at: impl Fn(&S) -> Segment,
    covered: u32,
    made: impl Fn(&S, u32) -> A,
    to: &Launcher<'_>,
) -> Result<([A; N], u32, u64), Error> {
    let (mut all, mut blocks) = ([A::default(); N], 0u64);
    for (argument, segment) in all.iter_mut().zip(segments) {
        let Segment { offset, len } = at(segment);
        // Elements behind the last are numbered in 32 bits too.
        to.count(u64::from(offset) + u64::from(len) + u64::from(covered))?;
        *argument = made(segment, to.count(blocks)? as u32);
        blocks += u64::from(len.div_ceil(covered));
    }
    Ok((all, segments.len() as u32, blocks))
}

/// Tensors of a launch of each kernel.
const SQUARES: usize = 320;
const SGD: usize = 240;
const ADAMW: usize = 160;

/// Elements of a block of threads, of which each takes four.
const STEP: u32 = 4 * THREADS;

launched! {
    #[derive(Default)]
    struct SquaresSegment = "SquaresSegment" {
        offset: u32,
        len: u32,
        first_block: u32,
    }
}

launched! {
    pub(super) struct SquaresArgs = "SumOfSquaresArgs" {
        x: u64,
        partials: u64,
        y: u64,
        count: u32,
        segments: [SquaresSegment; SQUARES],
    }
}

/// A block [`BLOCK`] elements of a tensor; then a block all those of one.
pub(crate) fn squares(call: &SumOfSquares, to: &Launcher<'_>) -> Result<(), Error> {
    let SquaresParams { segments: all } = &call.params;
    let mut partials = 0;
    for (index, part) in all.chunks(SQUARES).enumerate() {
        let made =
            |&Segment { offset, len }: &Segment, first_block| SquaresSegment { offset, len, first_block };
        let (segments, count, blocks) = segments(part, |&at| at, BLOCK as u32, made, to)?;
        let own = SumOfSquares::partials_len(part.iter().map(|segment| segment.len as usize));
        let args = SquaresArgs {
            x: to.at(call.x),
            partials: to.at(call.partials.part(partials, own)),
            y: to.at(call.y.part(index * SQUARES, part.len())),
            count,
            segments,
        };
        to.launch("square_partials_f32", to.blocks(blocks, THREADS)?, &args)?;
        to.launch("square_merge_f32", to.blocks(u64::from(count), THREADS)?, &args)?;
        partials += own;
    }
    Ok(())
}

/// One block.
pub(crate) fn clip(call: &ClipFactor, to: &Launcher<'_>) -> Result<(), Error> {
    to.launch("clip_factor_f32", to.blocks(1, THREADS)?, &call.addresses(to))
}

launched! {
    #[derive(Default)]
    struct SgdPlace = "SgdSegment" {
        offset: u32,
        len: u32,
        first_block: u32,
        decay: f32,
    }
}

launched! {
    pub(super) struct SgdArgs = "SgdArgs" {
        g: u64,
        clip: u64,
        velocity: u64,
        w: u64,
        rate: f32,
        momentum: f32,
        nesterov: u32,
        count: u32,
        segments: [SgdPlace; SGD],
    }
}

/// A thread four elements.
pub(crate) fn sgd(call: &Sgd, to: &Launcher<'_>) -> Result<(), Error> {
    let p = &call.params;
    for part in p.segments.chunks(SGD) {
        let made = |&SgdSegment { at: Segment { offset, len }, decay }: &SgdSegment, first_block| SgdPlace {
            offset,
            len,
            first_block,
            decay,
        };
        let (segments, count, blocks) = segments(part, |segment| segment.at, STEP, made, to)?;
        let args = SgdArgs {
            g: to.at(call.g),
            clip: to.at_or_null(call.clip),
            velocity: to.at(call.velocity),
            w: to.at(call.w),
            rate: p.rate,
            momentum: p.momentum,
            nesterov: u32::from(p.nesterov),
            count,
            segments,
        };
        to.launch("sgd_f32", to.blocks(blocks, THREADS)?, &args)?;
    }
    Ok(())
}

launched! {
    #[derive(Default)]
    struct AdamWPlace = "AdamWSegment" {
        offset: u32,
        len: u32,
        first_block: u32,
        decay: f32,
        correction1: f32,
        correction2: f32,
    }
}

launched! {
    pub(super) struct AdamWArgs = "AdamWArgs" {
        g: u64,
        clip: u64,
        m: u64,
        v: u64,
        w: u64,
        rate: f32,
        beta1: f32,
        beta2: f32,
        epsilon: f32,
        count: u32,
        segments: [AdamWPlace; ADAMW],
    }
}

/// A thread four elements.
pub(crate) fn adamw(call: &AdamW, to: &Launcher<'_>) -> Result<(), Error> {
    let p = &call.params;
    for part in p.segments.chunks(ADAMW) {
        let made = |segment: &AdamWSegment, first_block| AdamWPlace {
            offset: segment.at.offset,
            len: segment.at.len,
            first_block,
            decay: segment.decay,
            correction1: segment.correction1,
            correction2: segment.correction2,
        };
        let (segments, count, blocks) = segments(part, |segment| segment.at, STEP, made, to)?;
        let args = AdamWArgs {
            g: to.at(call.g),
            clip: to.at_or_null(call.clip),
            m: to.at(call.m),
            v: to.at(call.v),
            w: to.at(call.w),
            rate: p.rate,
            beta1: p.beta1,
            beta2: p.beta2,
            epsilon: p.epsilon,
            count,
            segments,
        };
        to.launch("adamw_f32", to.blocks(blocks, THREADS)?, &args)?;
    }
    Ok(())
}
