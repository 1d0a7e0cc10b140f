//! How many values recalibration has of a channel, and whether they are enough.
//!
//! A batch norm's statistics are taken over the images of a batch and the pixels of its map, and averaged
//! over the batches. The last map of a network has the fewest pixels: one at 32 px, four at 64 px. One value
//! has a variance of zero, and dividing by it gives numbers of any size, so recalibration refuses that. Few
//! values give a variance that is far off: of n values its relative standard error is about sqrt(2 / n), 25 %
//! for 32.
//! Measured on six random networks of the built-in super-network at 32 px, test accuracies in per cent:
//!
//! | images | 2 | 4 | 8 | 16 | 32 | 64 | 100 | 500 |
//! | --- | --- | --- | --- | --- | --- | --- | --- | --- |
//! | mean | 11.1 | 14.6 | 53.9 | 76.6 | 82.2 | 82.6 | 83.5 | 86.1 |

use super::{Calibration, Error};
use crate::space::Arch;
use crate::space::walk::{Exits, smallest_side};

/// With fewer values of a channel than this, in all batches together, accuracies are worth a note.
pub const FEW_VALUES: usize = 32;

/// The values that the statistics of a batch norm are taken over, in the network and the batch norm that have
/// the fewest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Values {
    /// Images of a batch.
    pub images: usize,
    /// How many batches.
    pub batches: usize,
    /// Side of the network's input, in pixels.
    pub resolution: u32,
    /// Side of its smallest map, in pixels.
    pub side: usize,
}

impl Values {
    /// The fewest values that any of `networks` has on `count` images in batches of `batch`; none without a network.
    pub fn fewest<'a>(
        networks: impl IntoIterator<Item = (&'a Arch, Exits)>,
        count: usize,
        batch: usize,
    ) -> Option<Values> {
        let images = batch.min(count);
        let batches = count / images.max(1);
        let of = |(arch, exits)| {
            let side = smallest_side(arch, exits);
            Values { images, batches, resolution: arch.r, side }
        };
        networks.into_iter().map(of).min_by_key(|values| values.side)
    }

    /// How many they are in a batch.
    pub fn of_batch(&self) -> usize {
        self.images * self.side * self.side
    }

    /// How many they are in all.
    pub fn count(&self) -> usize {
        self.of_batch() * self.batches
    }

    /// What to say where they are few; nothing where they are refused.
    pub fn note(&self) -> Option<String> {
        (self.count() < FEW_VALUES && self.check().is_ok()).then(|| {
            format!(
                "the batch norms are recalibrated on {self}; of so few values variances are far off, and so may be \
                 the accuracies: recalibrate on {} images or more (--calibration-images, or the setting)",
                self.enough()
            )
        })
    }

    /// Images that are enough.
    pub fn enough(&self) -> usize {
        FEW_VALUES.div_ceil(self.side * self.side)
    }

    /// Refuses statistics of one value.
    ///
    /// # Errors
    /// There is one, or none.
    pub fn check(&self) -> Result<(), Error> {
        match self.of_batch() {
            0 | 1 => Err(Error::OneValue { values: *self }),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Display for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Values { resolution, side, .. } = self;
        let (images, values) = (self.images * self.batches, self.of_batch());
        let some = if images == 1 { "image" } else { "images" };
        let many = if values == 1 { "value" } else { "values" };
        write!(
            f,
            "{images} {some}: at {resolution} px the last map is {side} x {side}, so a batch norm sees {values} {many} a \
             channel"
        )
    }
}

impl Calibration<'_> {
    /// The values that the networks' batch norms will see; `None` for stored statistics or no network.
    pub fn values<'a>(&self, networks: impl IntoIterator<Item = (&'a Arch, Exits)>) -> Option<Values> {
        match *self {
            Calibration::Stored => None,
            Calibration::Batches { images, count, batch } => {
                Values::fewest(networks, count.min(images.len()), batch)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_values_are_those_of_the_last_map() {
        let arch = |r, nd| Arch { nd, ..Arch::largest("EE_B".parse().unwrap(), r, None) };
        let values = |r, nd, images| {
            let arch = arch(r, nd);
            Values::fewest([(&arch, Exits::single(&arch))], images, 100).unwrap()
        };
        for (r, nd, images, count) in [(32, 5, 1, 1), (33, 5, 1, 4), (64, 5, 1, 4), (32, 5, 250, 200)] {
            assert_eq!(values(r, nd, images).count(), count, "{r} px, exit {nd}");
        }
        // Earlier exits have larger maps.
        assert!(values(32, 2, 1).count() > values(32, 4, 1).count());
        let (small, large) = (arch(32, 5), arch(64, 5));
        let both = [&large, &small].map(|arch| (arch, Exits::single(arch)));
        assert_eq!(Values::fewest(both, 3, 100).unwrap().resolution, 32);
        assert_eq!(Values::fewest([], 3, 100), None);
        // Batches of one image are as bad however many there are.
        let ones = Values::fewest([(&small, Exits::single(&small))], 50, 1).unwrap();
        assert!(ones.check().is_err() && ones.note().is_none() && ones.count() == 50);
        assert!(values(32, 5, 1).check().is_err() && values(32, 5, 1).note().is_none());
        assert!(values(32, 5, 2).check().is_ok() && values(32, 5, 2).note().is_some());
        assert!(values(32, 5, FEW_VALUES - 1).note().is_some() && values(32, 5, FEW_VALUES).note().is_none());
        assert_eq!((values(32, 5, 1).enough(), values(64, 5, 1).enough()), (32, 8));
        let message = values(32, 5, 1).check().unwrap_err().to_string();
        for part in ["1 image:", "32 px", "1 value a channel", "--calibration-images"] {
            assert!(message.contains(part), "{message}");
        }
    }
}
