//! Yardsticks: what a device can do at most.

use super::Error;
use crate::ops::simd::{Kernel, Vector, dispatch};
use crate::words::words;
use rayon::prelude::*;
use std::any::Any;
use std::hint::black_box;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Measured peaks of a device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peaks {
    /// Bytes a second that a copy reads and writes together.
    pub copy: f64,
    /// f32 operations a second of chains of multiply-adds, which count as two.
    pub arithmetic: f64,
    /// Operations a second of products of 16-bit numbers with f32 sums, as the kernels make them on tensor cores; `None`
    /// where there are none.
    pub products: Option<f64>,
}

words!(
    /// The peak that arithmetic is held against.
    Peak {
        /// f32 multiply-adds.
        Fma = "fma",
        /// Products of 16-bit numbers on tensor cores.
        Tensor = "tensor",
        /// Either, each for its part.
        Both = "both",
    }
);

impl Peaks {
    /// The least seconds of so many operations, of which `tensor` are products of 16-bit numbers: both units work at
    /// their peaks, and side by side. Also, which of them have something to do. What tensor cores would take
    /// is for the others where there are none.
    pub fn least_seconds(&self, flops: u64, tensor: u64) -> (f64, Peak) {
        let Some(products) = self.products.filter(|_| tensor > 0) else {
            return (flops as f64 / self.arithmetic, Peak::Fma);
        };
        let others = flops.saturating_sub(tensor);
        let peak = if others == 0 { Peak::Tensor } else { Peak::Both };
        ((tensor as f64 / products).max(others as f64 / self.arithmetic), peak)
    }
}

/// A point in time on a device, among its calls.
pub struct Stamp(Box<dyn Any>);

impl Stamp {
    /// Wraps a device's own kind of point.
    pub(super) fn new<P: Any>(point: P) -> Stamp {
        Stamp(Box::new(point))
    }

    /// The device's own point; a stamp of another device is a programming error.
    pub(super) fn point<P: Any>(&self) -> &P {
        self.0.downcast_ref().expect("a stamp of this device")
    }
}

/// Size of the first core's second-level cache, as Linux tells it; elsewhere that of most cores.
pub(super) fn host_cache_bytes() -> usize {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/cpu0/cache/index2/size").unwrap_or_default();
    let text = text.trim();
    let (number, unit) = match (text.strip_suffix('K'), text.strip_suffix('M')) {
        (Some(number), _) => (number, 10),
        (_, Some(number)) => (number, 20),
        _ => (text, 0),
    };
    number.parse::<usize>().map_or(1 << 20, |number| number << unit)
}

/// `amount` a second.
pub(super) fn rate(amount: f64, time: Duration) -> f64 {
    amount / time.as_secs_f64().max(1e-9)
}

/// Elements of each array that a copy is timed with: beyond the caches of most processors.
const COPIED: usize = 1 << 24;
/// Rounds of a thread's chains.
const ROUNDS: usize = 1 << 20;

/// The peaks of the host, on all threads of the rayon pool.
pub(super) fn host_peaks() -> Result<Peaks, Error> {
    let (x, mut y) = (vec![1.0f32; COPIED], vec![0.0f32; COPIED]);
    let piece = 1 << 16;
    let copied = best(|| {
        y.par_chunks_mut(piece).zip(x.par_chunks(piece)).for_each(|(y, x)| y.copy_from_slice(x));
        black_box(&y);
    });
    let threads = rayon::current_num_threads();
    let mut flops = vec![0.0; threads];
    let computed = best(|| flops.par_iter_mut().for_each(|flops| dispatch(Chains { flops })));
    Ok(Peaks {
        copy: rate(8.0 * COPIED as f64, copied),
        arithmetic: rate(flops.iter().sum::<f64>(), computed),
        products: None,
    })
}

fn best(mut run: impl FnMut()) -> Duration {
    let timed = (0..6).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed()
    });
    timed.min().unwrap_or_default()
}

/// Twelve independent chains of multiply-adds.
struct Chains<'a> {
    flops: &'a mut f64,
}

impl Kernel for Chains<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (factor, term) = (V::splat(0.999), V::splat(1.0));
        let mut chains: [V; 12] = std::array::from_fn(|i| V::splat(i as f32));
        for _ in 0..ROUNDS {
            for chain in &mut chains {
                *chain = chain.mul_add(factor, term);
            }
        }
        let sum = chains.into_iter().fold(V::splat(0.0), V::add);
        let mut out = [0.0; 16];
        sum.store(&mut out);
        black_box(out);
        *self.flops = (2 * 12 * V::LANES * ROUNDS) as f64;
    }
}

/// Writes to more memory than the host's caches hold.
pub(super) fn flush_host() {
    static MEMORY: OnceLock<Mutex<Vec<u8>>> = OnceLock::new();
    let memory = MEMORY.get_or_init(|| Mutex::new(vec![0; 96 << 20]));
    let mut memory = memory.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    memory
        .par_chunks_mut(1 << 20)
        .for_each(|piece| piece.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1)));
    black_box(&*memory);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_held_against_the_units_that_it_is_for() {
        let peaks = Peaks { copy: 1.0, arithmetic: 10.0, products: Some(100.0) };
        assert_eq!(peaks.least_seconds(50, 0), (5.0, Peak::Fma));
        assert_eq!(peaks.least_seconds(50, 50), (0.5, Peak::Tensor));
        // The filter of an MBConv may take longer than its products.
        assert_eq!(peaks.least_seconds(250, 200), (5.0, Peak::Both));
        assert_eq!(peaks.least_seconds(901, 900), (9.0, Peak::Both));
        assert_eq!(Peaks { products: None, ..peaks }.least_seconds(50, 50), (5.0, Peak::Fma));
    }
}
