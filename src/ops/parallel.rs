//! Splitting a call over threads.
//!
//! Work is cut into pieces of a fixed size that does not depend on the number of threads, and every
//! output element is computed by one piece alone, so results do not depend on threads either.

use super::Threads;
use rayon::prelude::*;

/// Calls `body(index, piece)` for consecutive pieces of `size` elements of `out`.
pub fn pieces(threads: Threads, out: &mut [f32], size: usize, body: impl Fn(usize, &mut [f32]) + Sync) {
    // A single piece is not worth waking a thread for.
    match threads {
        Threads::All if out.len() > size => {
            out.par_chunks_mut(size).enumerate().for_each(|(index, piece)| body(index, piece));
        }
        _ => out.chunks_mut(size).enumerate().for_each(|(index, piece)| body(index, piece)),
    }
}

/// Calls `body(index, pieces)` for consecutive pieces of several arrays, each with its own size of
/// piece; the first array says how many there are.
pub fn pieces_of<const N: usize>(
    threads: Threads,
    out: [(&mut [f32], usize); N],
    body: impl Fn(usize, [&mut [f32]; N]) + Sync,
) {
    let count = out.first().map_or(0, |(all, size)| all.len().div_ceil(*size));
    let mut chunks = out.map(|(all, size)| all.chunks_mut(size));
    let all = (0..count).map(|index| (index, chunks.each_mut().map(|c| c.next().unwrap_or_default())));
    match threads {
        Threads::All if count > 1 => {
            all.collect::<Vec<_>>().into_par_iter().for_each(|(index, pieces)| body(index, pieces));
        }
        _ => all.for_each(|(index, pieces)| body(index, pieces)),
    }
}
