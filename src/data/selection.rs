//! Some images of a data set, and what happens to each on its way to a network: what a device needs
//! to make them out of stored pixels.

use super::Dataset;
use super::augment::{Drawn, Operation};

/// Which images of a data set to make, and how.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    /// The data set.
    pub dataset: &'a Dataset,
    /// The images, in the order in which they are wanted.
    pub indices: &'a [u32],
    /// What happens to each; empty for whole images as they are.
    pub drawn: &'a [Drawn],
    /// Means of scaled pixels, a channel each.
    pub mean: [f32; 3],
    /// Their standard deviations.
    pub std: [f32; 3],
}

impl Selection<'_> {
    /// Whether it holds as many draws as images, or none, and only images that there are.
    pub fn is_sound(&self) -> bool {
        let drawn = self.drawn.is_empty() || self.drawn.len() == self.indices.len();
        drawn && self.indices.iter().all(|&index| (index as usize) < self.dataset.len())
    }

    /// The operations of each image, where any image has one.
    pub(crate) fn operations(&self) -> Option<impl Iterator<Item = &[Option<Operation>; 2]>> {
        let any = self.drawn.iter().any(|drawn| drawn.operations.iter().any(Option::is_some));
        any.then(|| self.drawn.iter().map(|drawn| &drawn.operations))
    }
}

/// A batch of images: made, or to be made by the device.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// `[images, side, side, 3]`, normalised.
    Made(&'a [f32]),
    /// To be made out of stored pixels.
    Stored(Selection<'a>),
}
