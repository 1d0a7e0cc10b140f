//! Units of rows: what a pass leaves statistics of.

use super::super::batch_norm::MergeParams;
use super::super::real::Real;

/// Rows of a unit at most where it is a part of an image, unless a line of pixels has more.
const MOST_ROWS: u32 = 256;
/// Where an image has as many pixels, no unit is more than one.
const WHOLE_IMAGE: u32 = 64;
/// Images of a unit at most.
const MOST_IMAGES: u32 = 32;

/// How the rows of a batch are cut: some lines of an image, or several images where these are small. It
/// depends on the shape alone, and so statistics do not depend on what a device does at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Units {
    /// Whole images of a unit; 1 also where it is a part of one.
    pub images: u32,
    /// Lines of pixels of a unit where it is a part of an image, or has one.
    pub lines: u32,
    /// Rows of a unit; the last of a span can have fewer.
    pub rows: u32,
    /// Rows behind which units begin anew: those of an image, or of the batch.
    pub span: u32,
}

impl Units {
    /// The units of a batch of images of that side; those of several images have at most `rows` rows.
    pub fn new(side: u32, batch_images: u32, rows: u32) -> Units {
        let pixels = side * side;
        if pixels >= WHOLE_IMAGE {
            let lines = (MOST_ROWS / side).clamp(1, side);
            return Units { images: 1, lines, rows: lines * side, span: pixels };
        }
        let most = (rows / pixels).clamp(1, MOST_IMAGES);
        let images = 1 << most.ilog2();
        Units { images, lines: side, rows: images * pixels, span: batch_images * pixels }
    }
}

/// Statistics of the units of a map `[batches][rows][channels]`, to `[batches][units][2][channels]`: mean, and
/// the sum of squared deviations from it.
pub(super) fn leave<T: Real>(merge: &MergeParams, map: &[T], partials: &mut [T]) {
    let channels = merge.channels as usize;
    let (mut rest, mut units) = (map, partials.chunks_exact_mut(2 * channels));
    for _ in 0..merge.batches {
        for (count, unit) in merge.units().zip(&mut units) {
            let (rows, behind) = rest.split_at(count * channels);
            let (means, squares) = unit.split_at_mut(channels);
            let share = T::one() / T::of(count as f64);
            for c in 0..channels {
                let column = || rows.iter().skip(c).step_by(channels).copied();
                means[c] = column().fold(T::zero(), |sum, x| sum + x) * share;
                squares[c] = column().fold(T::zero(), |sum, x| sum + (x - means[c]) * (x - means[c]));
            }
            rest = behind;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(units: &Units, rows: u32, channels: u32, batches: u32) -> MergeParams {
        let (unit_rows, span_rows) = (units.rows, units.span);
        MergeParams { rows, unit_rows, span_rows, channels, batches, epsilon: 0.0 }
    }

    #[test]
    fn units_cover_every_row_of_a_batch_once() {
        for (side, batch_images, rows) in [
            (1, 100, 64),
            (2, 7, 16),
            (3, 5, 64),
            (6, 4, 16),
            (8, 3, 64),
            (16, 2, 16),
            (23, 2, 64),
            (300, 1, 64),
            (1, 1, 16),
        ] {
            let pixels = side * side;
            let units = Units::new(side, batch_images, rows);
            assert!(units.rows <= MOST_ROWS.max(side) && units.images <= MOST_IMAGES);
            assert!(units.images > 1 || units.rows == units.lines * side, "{units:?}");
            let (mut next, per_span) = (0, units.span.div_ceil(units.rows));
            let merge = merge(&units, batch_images * pixels, 8, 1);
            for (index, count) in (0..merge.unit_count() as u32).zip(merge.units()) {
                let (first, count) =
                    (index / per_span * units.span + index % per_span * units.rows, count as u32);
                assert_eq!(first, next, "{units:?} {index}");
                assert!((1..=units.rows).contains(&count), "{units:?} {index}");
                // Nothing but whole images, or a part of one.
                assert!(count % pixels == 0 || first / pixels == (first + count - 1) / pixels);
                next += count;
            }
            assert_eq!(next, batch_images * pixels, "{units:?}");
        }
    }

    #[test]
    fn statistics_of_units_are_those_of_their_rows() {
        // Two batches of three images of four pixels, one channel and another; two images a unit.
        let units = Units::new(2, 3, 8);
        let merge = merge(&units, 12, 2, 2);
        assert_eq!((units.images, merge.unit_count()), (2, 2));
        let map: Vec<f64> = (0..24).flat_map(|row| [f64::from(row), 1.0]).collect();
        let mut partials = vec![f64::NAN; 2 * 2 * 2 * 2];
        leave(&merge, &map, &mut partials);
        let wanted = [3.5, 1.0, 42.0, 0.0, 9.5, 1.0, 5.0, 0.0, 15.5, 1.0, 42.0, 0.0, 21.5, 1.0, 5.0, 0.0];
        assert_eq!(partials, wanted);
    }
}
