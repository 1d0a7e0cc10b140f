//! Images given as an NCHW tensor, cropped to the top-left corner.

use super::Images;
use crate::ops::Threads;
use crate::supernet::Tensor;

/// The images of a tensor `[n, 3, height, width]`; each is cropped to the side asked for.
#[derive(Debug, Clone)]
pub struct Cropped<'a> {
    tensor: &'a Tensor,
    labels: &'a [u32],
}

impl<'a> Cropped<'a> {
    /// The images of `tensor`, with class 0 where `labels` has no entry; `None` if the tensor is not
    /// of the form `[n, 3, height, width]`.
    pub fn new(tensor: &'a Tensor, labels: &'a [u32]) -> Option<Cropped<'a>> {
        let fits = matches!(tensor.shape[..], [_, 3, _, _]);
        fits.then_some(Cropped { tensor, labels })
    }

    /// The largest side that can be cropped.
    pub fn max_side(&self) -> usize {
        self.tensor.shape[2].min(self.tensor.shape[3])
    }
}

impl Images for Cropped<'_> {
    fn len(&self) -> usize {
        self.tensor.shape[0]
    }

    fn load(&self, first: usize, side: usize, out: &mut [f32], _: Threads) {
        let (height, width) = (self.tensor.shape[2], self.tensor.shape[3]);
        for (image, out) in (first..).zip(out.chunks_exact_mut(side * side * 3)) {
            for (position, value) in out.iter_mut().enumerate() {
                let (pixel, channel) = (position / 3, position % 3);
                let row = (image * 3 + channel) * height + pixel / side;
                *value = self.tensor.data[row * width + pixel % side];
            }
        }
    }

    fn label(&self, index: usize) -> u32 {
        self.labels.get(index).copied().unwrap_or(0)
    }
}
