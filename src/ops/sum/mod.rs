//! Element-wise sum of two to four maps: dense skips and parallel branches.

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use super::Work;
use super::halves::bytes;
use super::operator::{Cost, operator, params};

params! {
    /// Shape of a sum, shared with the kernel.
    #[derive(Eq)]
    Params = "SumParams" {
        /// Numbers of a map; a multiple of 8.
        len: u32,
        /// Maps to add: 2, 3 or 4.
        terms: u32,
        /// What maps are stored as: a [`Format`](super::halves::Format)'s number, or 0 for f32.
        format: u32,
    }
}

operator! {
    /// `y = x[0] + x[1] (+ x[2]) (+ x[3])`
    Sum(Params) as run => host Args, gpu Addresses = "SumArgs" {
        /// The maps to add.
        terms(4) x: map,
        /// Their sum.
        write y: map,
    } with {
        quads: u32,
    }
}

impl Cost for Sum {
    fn work(&self) -> Work {
        let (len, terms) = (u64::from(self.params.len), u64::from(self.params.terms));
        Work { bytes: bytes(self.params.format) * len * (terms + 1), flops: len * (terms - 1) }
    }
}
