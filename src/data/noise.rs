//! Data sets of noise, for measuring: pixels and classes are drawn, so nothing can be learned from them.

use super::Dataset;
use super::augment::Preset;
use super::facts::{Facts, Layout, PHOTOS};
use crate::random::stream;
use rand::{Rng, RngExt};
use std::sync::Arc;

/// No row of [`facts::ALL`](super::facts::ALL): nobody can ask for it by name.
static NOISE: Facts = Facts {
    name: "noise",
    layout: Layout::BuiltIn,
    expected: "",
    held_back: None,
    pixels: PHOTOS,
    augmentation: Preset::Photos,
    published_augmentation: Preset::Photos,
    calibration_images: 500,
    archive: None,
};

impl Dataset {
    /// `test` images to measure on behind `train` that recalibrate, of `side` x `side` pixels and `classes`
    /// classes. The same seed gives the same images.
    ///
    /// # Panics
    /// If there are no classes, or more images than 32 bits count.
    pub fn noise((train, test): (usize, usize), side: usize, classes: usize, seed: u64) -> Dataset {
        let mut random = stream(seed, "data/noise", 0, 0);
        let mut images = vec![0; (train + test) * side * side * 3];
        random.fill_bytes(&mut images);
        let last = u32::try_from(train + test).expect("images that 32 bits count");
        let labels = (0..last).map(|_| random.random_range(0..classes) as u32).collect();
        Dataset {
            facts: &NOISE,
            classes: (0..classes).map(|class| class.to_string()).collect(),
            side,
            scale: 255.0,
            images: Arc::new(images),
            labels,
            splits: [(0..train as u32).collect(), Vec::new(), (train as u32..last).collect()],
            origin: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Split;

    #[test]
    fn noise_has_the_images_and_classes_asked_for() {
        let noise = Dataset::noise((30, 70), 4, 7, 1);
        assert_eq!(noise, Dataset::noise((30, 70), 4, 7, 1));
        assert_ne!(noise.pixels(), Dataset::noise((30, 70), 4, 7, 2).pixels());
        assert_eq!((noise.len(), noise.side(), noise.classes().len()), (100, 4, 7));
        assert_eq!(noise.split(Split::Train).len(), 30);
        assert_eq!(noise.split(Split::Test)[..2], [30, 31]);
        assert!(noise.split(Split::Val).is_empty());
        assert!((0..7).all(|class| noise.labels().contains(&class)));
        assert!((0..noise.len() as u32).all(|image| noise.image(image).len() == 48));
    }
}
