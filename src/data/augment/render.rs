//! Carrying out what was drawn: operations on u8, then the window straight to r x r in f32.
//!
//! The resampling is that of [`Transform`](crate::data::Transform), on the window instead of the
//! whole image: a window of w x h pixels is resized as an image of that size would be (clamped at
//! *its* edges), as torchvision's crop-then-resize does. A flip reverses the columns' taps, so it
//! costs nothing. A [`Renderer`] keeps its buffers: no allocation an image once warm.
//! [`Renderer::reference`] is the formula written down plainly.

use super::{Drawn, Operation, Window};
use crate::data::transform::{Affine, Real, Rows, Tap, tap, widen};
use crate::data::{Dataset, Error, Transform};

/// Makes network inputs out of images of one size. Not shared between threads.
#[derive(Debug)]
pub struct Renderer {
    side: usize,
    transform: Transform,
    affine: Affine,
    rows: Rows,
    columns: Vec<Tap<f32>>,
    changed: Vec<u8>,
    scratch: Vec<u8>,
    window: Vec<u8>,
}

impl Renderer {
    /// A renderer for the images of a data set, at resolutions up to `largest`, with mean and
    /// standard deviation of pixels divided by the data set's scale. `pad` is the augmentation's.
    ///
    /// # Errors
    /// As [`Transform::new`].
    pub fn new(
        dataset: &Dataset,
        largest: usize,
        mean: [f32; 3],
        std: [f32; 3],
        pad: u32,
    ) -> Result<Self, Error> {
        let transform = Transform::new(largest, mean, std, dataset.scale())?;
        let side = dataset.side();
        let widest = side + 2 * pad as usize;
        Ok(Self {
            side,
            affine: Affine::new(&transform, widest),
            rows: Rows::new(widest, largest),
            transform,
            columns: Vec::with_capacity(largest),
            changed: Vec::with_capacity(side * side * 3),
            scratch: Vec::with_capacity(side * side * 3),
            window: Vec::with_capacity(widest * widest * 3),
        })
    }

    /// Make `out`, `r x r x 3`, of `image`, `side x side x 3`.
    ///
    /// # Panics
    /// If the lengths do not fit, `r` is larger than the largest, or the window is empty or wider
    /// than the padded image.
    pub fn render(&mut self, image: &[u8], drawn: &Drawn, r: usize, out: &mut [f32]) {
        let side = self.side;
        assert_eq!(image.len(), side * side * 3, "an image of the data set");
        assert_eq!(out.len(), r * r * 3, "the output must fit the resolution");
        assert!(r <= self.transform.resolution(), "the renderer was made for smaller resolutions");
        let image = operated(image, &drawn.operations, side, &mut self.changed, &mut self.scratch);
        let (width, height) = (drawn.window.width as usize, drawn.window.height as usize);
        let (pixels, stride) = match inside(&drawn.window, side) {
            Some(start) => (&image[start..], side * 3),
            None => {
                cut_out(image, side, &drawn.window, &mut self.window);
                (&self.window[..], width * 3)
            }
        };
        self.columns.clear();
        self.columns.extend((0..r).map(|x| tap::<f32>(if drawn.flip { r - 1 - x } else { x }, width, r)));
        let (columns, affine) = (&self.columns, &self.affine);
        self.rows.forget();
        for (y, out) in out.chunks_exact_mut(r * 3).enumerate() {
            let tap = tap::<f32>(y, height, r);
            let make = |y: usize, normalised: &mut [f32], wide: &mut [f32]| {
                affine.apply(&pixels[y * stride..][..width * 3], normalised);
                widen(normalised, columns, wide);
            };
            let (near, far) = self.rows.get(tap.near, tap.far, make);
            let (above, below) = (1.0 - tap.weight, tap.weight);
            for ((out, &a), &b) in out.iter_mut().zip(near).zip(far) {
                *out = above * a + below * b;
            }
        }
    }

    /// The same written plainly: every output from its four neighbours by the formula, in the
    /// float type asked for.
    pub fn reference<T: Real>(&self, image: &[u8], drawn: &Drawn, r: usize) -> Vec<T> {
        let (mut changed, mut scratch) = (Vec::new(), Vec::new());
        let image = operated(image, &drawn.operations, self.side, &mut changed, &mut scratch);
        let Window { left, top, width, height } = drawn.window;
        let (mean, std, scale) = (self.transform.mean(), self.transform.std(), self.transform.scale());
        let one = T::from(1.0f32);
        let pixel = |y: usize, x: usize, c: usize| {
            let within = |at: i64| (0..self.side as i64).contains(&at).then_some(at as usize);
            let value = match (within(i64::from(top) + y as i64), within(i64::from(left) + x as i64)) {
                (Some(y), Some(x)) => image[(y * self.side + x) * 3 + c],
                _ => 0,
            };
            (T::from(value) / T::from(scale) - T::from(mean[c])) / T::from(std[c])
        };
        let mut out = Vec::with_capacity(r * r * 3);
        for y in 0..r {
            let v = tap::<T>(y, height as usize, r);
            for x in 0..r {
                let h = tap::<T>(if drawn.flip { r - 1 - x } else { x }, width as usize, r);
                for c in 0..3 {
                    let row = |y| (one - h.weight) * pixel(y, h.near, c) + h.weight * pixel(y, h.far, c);
                    out.push((one - v.weight) * row(v.near) + v.weight * row(v.far));
                }
            }
        }
        out
    }
}

/// The image after the operations, which is itself where there are none.
fn operated<'a>(
    image: &'a [u8],
    operations: &[Option<Operation>],
    side: usize,
    changed: &'a mut Vec<u8>,
    scratch: &mut Vec<u8>,
) -> &'a [u8] {
    if operations.iter().all(Option::is_none) {
        return image;
    }
    changed.clear();
    changed.extend_from_slice(image);
    for operation in operations.iter().flatten() {
        operation.apply(changed, scratch, side);
    }
    changed
}

/// Where a window that is within the image begins.
fn inside(window: &Window, side: usize) -> Option<usize> {
    let start = |at: i32, length: u32| {
        usize::try_from(at).ok().filter(|at| at.saturating_add(length as usize) <= side)
    };
    let (x, y) = (start(window.left, window.width)?, start(window.top, window.height)?);
    Some((y * side + x) * 3)
}

/// Copy a window, black where it is outside.
fn cut_out(image: &[u8], side: usize, window: &Window, out: &mut Vec<u8>) {
    let (width, height) = (window.width as usize, window.height as usize);
    out.clear();
    out.resize(width * height * 3, 0);
    // Columns of the image that the window shows.
    let first = i64::from(window.left).clamp(0, side as i64);
    let end = (i64::from(window.left) + width as i64).clamp(first, side as i64);
    let (skip, first, count) =
        ((first - i64::from(window.left)).max(0) as usize, first as usize, (end - first) as usize);
    for (y, out) in out.chunks_exact_mut(width * 3).enumerate() {
        let y = i64::from(window.top) + y as i64;
        if (0..side as i64).contains(&y) && count > 0 {
            let row = &image[(y as usize * side + first) * 3..][..count * 3];
            out[skip * 3..][..count * 3].copy_from_slice(row);
        }
    }
}
