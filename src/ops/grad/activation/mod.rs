//! Activations on their own (heads have layers without batch norm), dropout, and sums of columns.

pub mod cpu;
pub(crate) mod gpu;
pub mod reference;

use crate::ops::Work;
use crate::ops::operator::operator;

/// Shape of an element-wise activation, shared with the kernels.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    /// Elements; a multiple of 8.
    pub len: u32,
    /// An [`Activation`](crate::ops::Activation).
    pub activation: u32,
}

operator! {
    /// `y = activation(x) * mask`. A mask of 0 and `1 / (1 - rate)` is dropout.
    Activate(Params) => host ActivateArgs, gpu ActivateAddresses = "ActivateArgs" {
        /// `[len]`
        read x,
        /// `[len]`
        optional mask,
        /// `[len]`
        write y,
    }
}

impl Activate {
    pub(in crate::ops) fn work(&self) -> Work {
        let len = u64::from(self.params.len);
        Work { bytes: 4 * len * (2 + u64::from(self.mask.is_some())), flops: 4 * len }
    }
}

operator! {
    /// `dx = dy * mask * activation'(x)`
    ActivateGrad(Params) => host GradArgs, gpu GradAddresses = "ActivateGradArgs" {
        /// `[len]`
        read x,
        /// `[len]`
        read dy,
        /// `[len]`
        optional mask,
        /// `[len]`
        write dx,
    }
}

impl ActivateGrad {
    pub(in crate::ops) fn work(&self) -> Work {
        let len = u64::from(self.params.len);
        Work { bytes: 4 * len * (3 + u64::from(self.mask.is_some())), flops: 4 * len }
    }
}

/// Shape of a sum of columns, shared with the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ColumnsParams {
    /// Rows.
    pub rows: u32,
    /// Columns; a multiple of 8.
    pub columns: u32,
}

operator! {
    /// The gradient of a bias: `y[c] += sum over rows of x[row, c]`.
    ColumnSum(ColumnsParams) => host ColumnsArgs, gpu ColumnsAddresses = "ColumnSumArgs" {
        /// `[rows, columns]`
        read x,
        /// Scratch of [`ColumnSum::partials_len`] elements.
        write partials,
        /// `[columns]`; added to.
        update y,
    }
}

impl ColumnSum {
    /// Elements of the scratch slot: a row a block of [`BLOCK_ROWS`](crate::ops::batch_norm::BLOCK_ROWS).
    pub fn partials_len(rows: usize, columns: usize) -> usize {
        rows.div_ceil(crate::ops::batch_norm::BLOCK_ROWS) * columns
    }

    pub(in crate::ops) fn work(&self) -> Work {
        let len = u64::from(self.params.rows) * u64::from(self.params.columns);
        Work { bytes: 4 * len, flops: len }
    }
}
