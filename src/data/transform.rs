//! From stored pixels to a network's input: normalise and resize in one step.
//!
//! `resize = "bilinear"` means half-pixel centres, no antialiasing, coordinates clamped at the
//! edge: PyTorch's `interpolate(mode="bilinear", align_corners=False)`. A pixel goes from u8 to f32
//! once, as `(x / scale - mean) / std`, and the *normalised* pixels are interpolated straight to
//! r x r; nothing is rounded to u8 between. Because the four weights of a point sum to 1,
//! interpolating first and normalising then would give the same up to rounding (5e-7).
//!
//! Along an axis, output x looks at source coordinate `(x + 1/2) side / r - 1/2`, which is a ratio
//! of integers; so the taps are exact, the same for rows and columns, and made once a call. Rows
//! are normalised and widened to r columns once each and kept while they are needed (two at a
//! time, in the L1 cache). Normalising and the pass over rows that writes the output run over
//! contiguous memory; widening handles a pixel as four lanes, the fourth to be overwritten by the
//! next pixel. So all three vectorise. [`Transform::reference`] is the formula written down plainly, generic
//! over f32 and f64, which the fast path is checked against.

use std::ops::RangeInclusive;
use std::ops::{Add, Div, Mul, Sub};

use rayon::prelude::*;

use super::{Dataset, Error};
use crate::words::{parsed, words};

/// The resolutions that a transform takes, in pixels.
pub const RESOLUTIONS: RangeInclusive<usize> = 32..=1024;

words!(
    /// How images are brought to a resolution, as a card names it.
    #[derive(Default)]
    Resize {
        /// Half-pixel centres, no antialiasing, clamped at the edge.
        #[default]
        Bilinear = "bilinear",
    }
);

parsed!(Resize, Error, |name| Error::UnknownResize { name: name.to_owned() });

/// Floating-point types that [`Transform::reference`] computes in.
pub trait Real:
    Copy
    + From<f32>
    + From<u8>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
{
    /// The quotient of two whole numbers (exact operands, one rounding).
    fn ratio(numerator: i64, denominator: i64) -> Self;
}

impl Real for f32 {
    fn ratio(numerator: i64, denominator: i64) -> Self {
        numerator as f32 / denominator as f32
    }
}

impl Real for f64 {
    fn ratio(numerator: i64, denominator: i64) -> Self {
        numerator as f64 / denominator as f64
    }
}

/// Normalisation and resolution of a network's input.
#[derive(Debug, Clone, PartialEq)]
pub struct Transform {
    resolution: usize,
    mean: [f32; 3],
    std: [f32; 3],
    scale: f32,
}

/// Output position `p` is `(1 - weight) source[near] + weight source[far]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tap<T> {
    pub near: usize,
    pub far: usize,
    pub weight: T,
}

/// The tap of output position `x` when `side` source pixels become `resolution`.
pub(super) fn tap<T: Real>(x: usize, side: usize, resolution: usize) -> Tap<T> {
    // (x + 1/2) side / resolution - 1/2 over the denominator 2 resolution, clamped from below.
    let denominator = 2 * resolution as i64;
    let numerator = ((2 * x as i64 + 1) * side as i64 - resolution as i64).max(0);
    let near = (numerator / denominator) as usize;
    Tap { near, far: (near + 1).min(side - 1), weight: T::ratio(numerator % denominator, denominator) }
}

impl Transform {
    /// A transform to `resolution` x `resolution` pixels. `mean` and `std` are those of pixels
    /// divided by `scale` (that of the data set: [`Dataset::scale`]).
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a resolution outside [`RESOLUTIONS`], a mean that is not finite, a
    /// standard deviation or scale that is not positive and finite.
    pub fn new(resolution: usize, mean: [f32; 3], std: [f32; 3], scale: f32) -> Result<Self, Error> {
        if !RESOLUTIONS.contains(&resolution) {
            return Err(Error::OutOfRange {
                setting: "r",
                value: resolution.to_string(),
                expected: "a resolution from 32 to 1024 is needed",
            });
        }
        let positive = |x: &f32| x.is_finite() && *x > 0.0;
        if !mean.iter().all(|x| x.is_finite()) {
            let value = format!("{mean:?}");
            return Err(Error::OutOfRange { setting: "mean", value, expected: "finite numbers are needed" });
        }
        if !std.iter().all(positive) {
            let value = format!("{std:?}");
            return Err(Error::OutOfRange { setting: "std", value, expected: "numbers above 0 are needed" });
        }
        if !positive(&scale) {
            let value = scale.to_string();
            return Err(Error::OutOfRange {
                setting: "scale",
                value,
                expected: "a number above 0 is needed",
            });
        }
        Ok(Self { resolution, mean, std, scale })
    }

    /// Height and width of the output, in pixels.
    pub fn resolution(&self) -> usize {
        self.resolution
    }

    /// Means of the scaled pixels, a channel each.
    pub fn mean(&self) -> [f32; 3] {
        self.mean
    }

    /// Standard deviations of the scaled pixels, a channel each.
    pub fn std(&self) -> [f32; 3] {
        self.std
    }

    /// The pixel value that stands for 1.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// How many numbers an image becomes: resolution x resolution x 3.
    pub fn output_len(&self) -> usize {
        self.resolution * self.resolution * 3
    }

    /// Write images of a data set in NHWC order; threads share the images out, and each image is
    /// the same whatever its neighbours and the number of threads.
    ///
    /// # Panics
    /// If `out` is not `indices.len() x` [`output_len`](Self::output_len) long, or an index is not
    /// one of the data set.
    pub fn apply(&self, dataset: &Dataset, indices: &[u32], out: &mut [f32]) {
        assert_eq!(out.len(), indices.len() * self.output_len(), "the output must fit the images");
        const PIECE: usize = 8;
        let pieces = out.par_chunks_mut(PIECE * self.output_len()).zip(indices.par_chunks(PIECE));
        pieces.for_each(|(out, indices)| self.apply_serial(dataset, indices, out));
    }

    /// [`Transform::apply`] on the calling thread alone.
    ///
    /// # Panics
    /// As [`Transform::apply`].
    pub fn apply_serial(&self, dataset: &Dataset, indices: &[u32], out: &mut [f32]) {
        assert_eq!(out.len(), indices.len() * self.output_len(), "the output must fit the images");
        let side = dataset.side();
        let taps: Vec<Tap<f32>> = (0..self.resolution).map(|x| tap(x, side, self.resolution)).collect();
        let affine = Affine::new(self, side);
        let mut rows = Rows::new(side, self.resolution);
        for (out, &index) in out.chunks_exact_mut(self.output_len()).zip(indices) {
            self.one(dataset.image(index), side, &taps, &affine, &mut rows, out);
        }
    }

    /// One image, `side x side x 3`, to `out`.
    fn one(
        &self,
        image: &[u8],
        side: usize,
        taps: &[Tap<f32>],
        affine: &Affine,
        rows: &mut Rows,
        out: &mut [f32],
    ) {
        if side == self.resolution {
            for (row, out) in image.chunks_exact(side * 3).zip(out.chunks_exact_mut(side * 3)) {
                affine.apply(row, out);
            }
            return;
        }
        rows.forget();
        for (tap, out) in taps.iter().zip(out.chunks_exact_mut(self.resolution * 3)) {
            let make = |y: usize, normalised: &mut [f32], wide: &mut [f32]| {
                affine.apply(&image[y * side * 3..][..side * 3], normalised);
                widen(normalised, taps, wide);
            };
            let (near, far) = rows.get(tap.near, tap.far, make);
            let (left, right) = (1.0 - tap.weight, tap.weight);
            for ((out, &a), &b) in out.iter_mut().zip(near).zip(far) {
                *out = left * a + right * b;
            }
        }
    }

    /// The same for one image of `side x side x 3`, written plainly: every output from its four
    /// neighbours by the formula, in the float type asked for.
    pub fn reference<T: Real>(&self, image: &[u8], side: usize) -> Vec<T> {
        let r = self.resolution;
        let one = T::from(1.0f32);
        let mut out = Vec::with_capacity(self.output_len());
        for y in 0..r {
            let v = tap::<T>(y, side, r);
            for x in 0..r {
                let h = tap::<T>(x, side, r);
                for c in 0..3 {
                    let pixel = |y: usize, x: usize| {
                        let value = T::from(image[(y * side + x) * 3 + c]);
                        (value / T::from(self.scale) - T::from(self.mean[c])) / T::from(self.std[c])
                    };
                    let row = |y| (one - h.weight) * pixel(y, h.near) + h.weight * pixel(y, h.far);
                    out.push((one - v.weight) * row(v.near) + v.weight * row(v.far));
                }
            }
        }
        out
    }
}

/// `(x / scale - mean) / std` as `x * factor + offset`, for all numbers of a row.
#[derive(Debug)]
pub(super) struct Affine {
    factor: Vec<f32>,
    offset: Vec<f32>,
}

impl Affine {
    pub(super) fn new(transform: &Transform, side: usize) -> Self {
        let channel = |c: usize| (f64::from(transform.mean[c]), f64::from(transform.std[c]));
        let factor = |(_, std): (f64, f64)| (1.0 / (f64::from(transform.scale) * std)) as f32;
        let offset = |(mean, std): (f64, f64)| (-mean / std) as f32;
        Self {
            factor: (0..side * 3).map(|i| factor(channel(i % 3))).collect(),
            offset: (0..side * 3).map(|i| offset(channel(i % 3))).collect(),
        }
    }

    pub(super) fn apply(&self, row: &[u8], out: &mut [f32]) {
        for (((out, &x), &factor), &offset) in out.iter_mut().zip(row).zip(&self.factor).zip(&self.offset) {
            *out = f32::from(x) * factor + offset;
        }
    }
}

/// A normalised row widened to the output's columns. Both have room for a fourth lane behind
/// their last pixel.
pub(super) fn widen(row: &[f32], taps: &[Tap<f32>], out: &mut [f32]) {
    for (x, tap) in taps.iter().enumerate() {
        // One check of the bounds a pixel, not one a lane.
        let near: &[f32; 4] = row[tap.near * 3..][..4].try_into().expect("four lanes");
        let far: &[f32; 4] = row[tap.far * 3..][..4].try_into().expect("four lanes");
        let (left, right) = (1.0 - tap.weight, tap.weight);
        let out: &mut [f32; 4] = (&mut out[x * 3..x * 3 + 4]).try_into().expect("four lanes");
        *out = std::array::from_fn(|c| left * near[c] + right * far[c]);
    }
}

/// The two widened rows in use, by their source row: successive outputs mostly share them.
#[derive(Debug)]
pub(super) struct Rows {
    wide: [Vec<f32>; 2],
    source: [Option<usize>; 2],
    normalised: Vec<f32>,
}

impl Rows {
    /// For rows of up to `side` pixels and outputs of up to `resolution` columns.
    pub(super) fn new(side: usize, resolution: usize) -> Self {
        let row = vec![0.0; resolution * 3 + 1];
        Self { wide: [row.clone(), row], source: [None; 2], normalised: vec![0.0; side * 3 + 1] }
    }

    pub(super) fn forget(&mut self) {
        self.source = [None; 2];
    }

    /// Rows `near` and `far` of the source, made by `make(row, scratch, out)` where not at hand.
    pub(super) fn get(
        &mut self,
        near: usize,
        far: usize,
        mut make: impl FnMut(usize, &mut [f32], &mut [f32]),
    ) -> (&[f32], &[f32]) {
        // Rows come in rising order, so the old far row is the one that may be the new near row.
        if self.source[0] != Some(near) && self.source[1] == Some(near) {
            self.wide.swap(0, 1);
            self.source.swap(0, 1);
        }
        for (slot, row) in [near, far].into_iter().enumerate() {
            if self.source[slot] != Some(row) {
                make(row, &mut self.normalised, &mut self.wide[slot]);
                self.source[slot] = Some(row);
            }
        }
        (&self.wide[0], &self.wide[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CIFAR: ([f32; 3], [f32; 3]) = ([0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]);

    /// `(7 y + 13 x + 29 c + x y) mod (scale + 1)` at row y, column x, channel c.
    fn pattern(side: usize, scale: usize) -> Vec<u8> {
        let value = |y, x, c| ((7 * y + 13 * x + 29 * c + x * y) % (scale + 1)) as u8;
        (0..side * side * 3).map(|i| value(i / 3 / side, i / 3 % side, i % 3)).collect()
    }

    fn dataset(side: usize, scale: f32, images: Vec<u8>) -> Dataset {
        let count = images.len() / (side * side * 3);
        Dataset {
            facts: crate::data::Facts::of("digits").unwrap(),
            classes: vec!["only".to_owned()],
            side,
            scale,
            images: std::sync::Arc::new(images),
            labels: vec![0; count],
            splits: Default::default(),
            origin: None,
        }
    }

    /// PyTorch 2.15 in float64 (in float32 its coordinates are rounded, and values are off by up to
    /// 1.6e-5; the taps here are exact):
    /// ```python
    /// y, x, c = torch.meshgrid(torch.arange(side), torch.arange(side), torch.arange(3), indexing="ij")
    /// t = ((7 * y + 13 * x + 29 * c + x * y) % (scale + 1)).permute(2, 0, 1)[None].double() / scale
    /// t = (t - mean[:, None, None]) / std[:, None, None]
    /// F.interpolate(t, size=(r, r), mode="bilinear", align_corners=False)[0].permute(1, 2, 0)[y, x, c]
    /// ```
    #[test]
    fn gives_the_values_of_pytorch() {
        type Case = (usize, usize, usize, ([f32; 3], [f32; 3]), [((usize, usize, usize), f64); 7]);
        #[rustfmt::skip]
        let cases: [Case; 4] = [
            (8, 48, 16, ([0.3053; 3], [0.376; 3]), [
                ((0, 0, 0), -0.8119681058), ((0, 47, 1), -0.6457446959), ((24, 16, 2), -0.1089816012),
                ((1, 2, 0), -0.8119681058), ((46, 45, 1), 1.515159633), ((47, 47, 2), 0.6840425837),
                ((16, 46, 0), -0.230186171),
            ]),
            (32, 48, 255, CIFAR, [
                ((0, 0, 0), -1.989473747), ((0, 47, 1), 0.8541933742), ((24, 16, 2), 1.524942095),
                ((1, 2, 0), -1.683845415), ((46, 45, 1), 0.4931728452), ((47, 47, 2), -0.1627616082),
                ((16, 46, 0), -0.620100053),
            ]),
            (64, 40, 255, ([0.4802, 0.4481, 0.3975], [0.277, 0.2691, 0.2821]), [
                ((0, 0, 0), -1.647356041), ((0, 39, 1), -0.2514627479), ((20, 13, 2), 1.485879724),
                ((1, 2, 0), -0.806979487), ((38, 37, 1), 0.03766366818), ((39, 39, 2), 0.3048216596),
                ((13, 38, 0), 0.8239399698),
            ]),
            (32, 224, 255, CIFAR, [
                ((0, 0, 0), -1.989473747), ((0, 223, 1), 0.8541933742), ((112, 74, 2), 1.303268297),
                ((1, 2, 0), -1.989473747), ((222, 221, 1), -0.7885171367), ((223, 223, 2), -0.1627616082),
                ((74, 222, 0), -1.665133477),
            ]),
        ];
        for (side, r, scale, (mean, std), points) in cases {
            let transform = Transform::new(r, mean, std, scale as f32).unwrap();
            let data = dataset(side, scale as f32, pattern(side, scale));
            let mut fast = vec![f32::NAN; transform.output_len()];
            transform.apply(&data, &[0], &mut fast);
            let plain = transform.reference::<f64>(data.image(0), side);
            for ((y, x, c), expected) in points {
                let at = (y * r + x) * 3 + c;
                assert!(
                    (f64::from(fast[at]) - expected).abs() < 2e-6,
                    "{side} to {r}, {y} {x} {c}: {}",
                    fast[at]
                );
                assert!((plain[at] - expected).abs() < 1e-8, "{side} to {r}, {y} {x} {c}: {}", plain[at]);
            }
        }
    }

    #[test]
    fn a_tap_is_exact_and_clamped_at_both_edges() {
        // 2 pixels to 4: centres at -1/4, 1/4, 3/4, 5/4.
        let taps: Vec<Tap<f32>> = (0..4).map(|x| tap(x, 2, 4)).collect();
        let expected = [(0, 1, 0.0), (0, 1, 0.25), (0, 1, 0.75), (1, 1, 0.25)];
        assert_eq!(taps, expected.map(|(near, far, weight)| Tap { near, far, weight }));
        // 4 to 2: centres at 1/2 and 5/2. No antialiasing: only two pixels are looked at.
        assert_eq!(tap::<f32>(1, 4, 2), Tap { near: 2, far: 3, weight: 0.5 });
        // The largest case stays inside.
        assert_eq!(tap::<f32>(1023, 8, 1024).far, 7);
    }

    #[test]
    fn the_same_size_is_normalisation_alone() {
        let transform = Transform::new(32, CIFAR.0, CIFAR.1, 255.0).unwrap();
        let data = dataset(32, 255.0, pattern(32, 255));
        let mut out = vec![f32::NAN; transform.output_len()];
        transform.apply(&data, &[0], &mut out);
        for (i, (&pixel, &x)) in data.pixels().iter().zip(&out).enumerate() {
            let expected = (f32::from(pixel) / 255.0 - CIFAR.0[i % 3]) / CIFAR.1[i % 3];
            assert!((x - expected).abs() < 5e-7, "{i}: {x} {expected}");
        }
    }

    #[test]
    fn images_do_not_depend_on_their_neighbours() {
        let images: Vec<u8> = (0..20 * 8 * 8 * 3).map(|i| (i * i % 251) as u8).collect();
        let data = dataset(8, 255.0, images);
        let transform = Transform::new(33, CIFAR.0, CIFAR.1, 255.0).unwrap();
        let order = [19, 0, 7, 7, 3, 12, 1, 18, 2, 5, 9];
        let mut batch = vec![f32::NAN; order.len() * transform.output_len()];
        transform.apply(&data, &order, &mut batch);
        for (&index, from_batch) in order.iter().zip(batch.chunks_exact(transform.output_len())) {
            let mut alone = vec![f32::NAN; transform.output_len()];
            transform.apply(&data, &[index], &mut alone);
            assert_eq!(alone, from_batch);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn the_fast_path_agrees_with_the_reference(side in 1usize..70, r in 32usize..140, seed in any::<u32>()) {
            let mut state = seed | 1;
            let image: Vec<u8> = (0..side * side * 3)
                .map(|_| { state = state.wrapping_mul(747_796_405).wrapping_add(12345); (state >> 24) as u8 })
                .collect();
            let transform = Transform::new(r, CIFAR.0, CIFAR.1, 255.0).unwrap();
            let data = dataset(side, 255.0, image);
            let mut fast = vec![f32::NAN; transform.output_len()];
            transform.apply(&data, &[0], &mut fast);
            let single = transform.reference::<f32>(data.image(0), side);
            let double = transform.reference::<f64>(data.image(0), side);
            for i in 0..fast.len() {
                prop_assert!((f64::from(fast[i]) - double[i]).abs() < 2e-6);
                prop_assert!((single[i] - fast[i]).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn settings_out_of_range_are_errors_that_name_the_setting() {
        for r in [0, 31, 1025, 3_000_000] {
            let message = Transform::new(r, CIFAR.0, CIFAR.1, 255.0).unwrap_err().to_string();
            assert_eq!(message, format!("`r` = {r}: a resolution from 32 to 1024 is needed"));
        }
        for r in [32, 1024] {
            assert!(Transform::new(r, CIFAR.0, CIFAR.1, 255.0).is_ok());
        }
        let names = |mean, std, scale| Transform::new(32, mean, std, scale).unwrap_err().to_string();
        assert!(names([0.0, f32::NAN, 0.0], CIFAR.1, 255.0).starts_with("`mean` = [0.0, NaN, 0.0]:"));
        assert!(names(CIFAR.0, [0.2, 0.0, 0.2], 255.0).starts_with("`std` = "));
        assert!(names(CIFAR.0, CIFAR.1, -1.0).starts_with("`scale` = -1:"));
        assert!("bilinear".parse::<Resize>().is_ok());
        assert!("bicubic".parse::<Resize>().unwrap_err().to_string().contains("`resize` = `bicubic`"));
    }
}
