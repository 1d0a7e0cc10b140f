//! Activations on their own (heads have layers without batch norm), dropout, and sums of columns.

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use crate::ops::Work;
use crate::ops::halves::bytes;
use crate::ops::operator::{Cost, operator, params};

params! {
    /// Shape of an element-wise activation, shared with the kernels.
    #[derive(Eq)]
    Params = "ActivateParams" {
        /// Elements; a multiple of 8.
        len: u32,
        /// An [`Activation`](crate::ops::Activation).
        activation: u32,
        /// What maps are stored as: a [`Format`](crate::ops::halves::Format)'s number, or 0 for f32. Masks
        /// are f32.
        format: u32,
    }
}

impl Params {
    /// Bytes of so many maps, and of a mask.
    fn bytes(&self, maps: u64, mask: bool) -> u64 {
        u64::from(self.len) * (maps * bytes(self.format) + if mask { 4 } else { 0 })
    }
}

operator! {
    /// `y = activation(x) * mask`. A mask of 0 and `1 / (1 - rate)` is dropout.
    Activate(Params) as forward => host ActivateArgs, gpu ActivateAddresses = "ActivateArgs" {
        /// `[len]`
        read x: map,
        /// `[len]`
        optional mask,
        /// `[len]`
        write y: map,
    }
}

impl Cost for Activate {
    fn work(&self) -> Work {
        let p = &self.params;
        Work { bytes: p.bytes(2, self.mask.is_some()), flops: 4 * u64::from(p.len) }
    }
}

operator! {
    /// `dx = dy * mask * activation'(x)`
    ActivateGrad(Params) as backward => host GradArgs, gpu GradAddresses = "ActivateGradArgs" {
        /// `[len]`
        read x: map,
        /// `[len]`
        read dy: map,
        /// `[len]`
        optional mask,
        /// `[len]`
        write dx: map,
    }
}

impl Cost for ActivateGrad {
    fn work(&self) -> Work {
        let p = &self.params;
        Work { bytes: p.bytes(3, self.mask.is_some()), flops: 4 * u64::from(p.len) }
    }
}

params! {
    /// Shape of a sum of columns, shared with the kernel.
    #[derive(Eq)]
    ColumnsParams = "ColumnSumParams" {
        /// Rows.
        rows: u32,
        /// Columns; a multiple of 8.
        columns: u32,
        /// What the map is stored as: a [`Format`](crate::ops::halves::Format)'s number, or 0 for f32.
        format: u32,
    }
}

operator! {
    /// The gradient of a bias: `y[c] += sum over rows of x[row, c]`.
    ColumnSum(ColumnsParams) as columns => host ColumnsArgs, gpu ColumnsAddresses = "ColumnSumArgs" {
        /// `[rows, columns]`
        read x: map,
        /// Scratch of [`ColumnSum::partials_len`] elements.
        write partials: scratch,
        /// `[columns]`; added to.
        update y,
    }
}

impl ColumnSum {
    /// Elements of the scratch slot: a row a block of [`BLOCK_ROWS`](crate::ops::batch_norm::BLOCK_ROWS).
    pub fn partials_len(rows: usize, columns: usize) -> usize {
        rows.div_ceil(crate::ops::batch_norm::BLOCK_ROWS) * columns
    }
}

impl Cost for ColumnSum {
    fn work(&self) -> Work {
        let len = u64::from(self.params.rows) * u64::from(self.params.columns);
        Work { bytes: bytes(self.params.format) * len, flops: len }
    }
}
