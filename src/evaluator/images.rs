//! Images as networks take them.

use crate::data::{Dataset, Selection, Transform};
use crate::engine::Images;
use crate::ops::Threads;

/// Mean and standard deviation of pixels scaled to 0..1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pixels {
    /// Per channel.
    pub mean: [f32; 3],
    /// Per channel.
    pub std: [f32; 3],
}

impl Pixels {
    /// The usual values for a data set.
    pub fn usual(dataset: &str) -> Pixels {
        let (mean, std) = match dataset {
            "digits" => ([0.3053; 3], [0.376; 3]),
            "cifar10" => ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
            "cifar100" => ([0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]),
            "tiny-imagenet" => ([0.4802, 0.4481, 0.3975], [0.2770, 0.2691, 0.2821]),
            // ImageNet's, as everywhere for photographs.
            _ => ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        };
        Pixels { mean, std }
    }
}

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
