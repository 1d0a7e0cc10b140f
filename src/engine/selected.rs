//! Images of a data set, as networks take them.

use super::Images;
use crate::data::{Dataset, Pixels, Selection, Transform};
use crate::ops::Threads;

/// Some images of a data set, as networks take them.
#[derive(Debug, Clone, Copy)]
pub struct SplitImages<'a> {
    dataset: &'a Dataset,
    indices: &'a [u32],
    pixels: Pixels,
}

impl<'a> SplitImages<'a> {
    /// The images of a data set at `indices`, normalised so.
    pub fn new(dataset: &'a Dataset, indices: &'a [u32], pixels: Pixels) -> SplitImages<'a> {
        SplitImages { dataset, indices, pixels }
    }

    /// Which images of the data set.
    pub fn indices(&self) -> &'a [u32] {
        self.indices
    }
}

impl Images for SplitImages<'_> {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn load(&self, first: usize, side: usize, out: &mut [f32], threads: Threads) {
        let Pixels { mean, std } = self.pixels;
        let transform = Transform::new(side, mean, std, self.dataset.scale())
            .expect("architectures are checked for their resolution, cards for mean and deviation");
        let indices = &self.indices[first..first + out.len() / transform.output_len()];
        match threads {
            Threads::One => transform.apply_serial(self.dataset, indices, out),
            Threads::All => transform.apply(self.dataset, indices, out),
        }
    }

    fn stored(&self, first: usize, count: usize) -> Option<Selection<'_>> {
        let Pixels { mean, std } = self.pixels;
        let indices = &self.indices[first..first + count];
        Some(Selection { dataset: self.dataset, indices, drawn: &[], mean, std })
    }

    fn label(&self, index: usize) -> u32 {
        self.dataset.label(self.indices[index])
    }
}
