//! The image operations of AutoAugment on u8 images, as the Python Imaging Library (PIL) defines
//! them; the policies were found with these, down to their rounding.
//!
//! - Shear, translation and rotation take the nearest pixel, found in 16.16 fixed point; what comes
//!   from outside is grey 128, about the mean of CIFAR's pixels, as in the published program.
//! - The `autocontrast` to `invert` group are tables of 256 entries, a channel each or one for all.
//! - The enhancers blend the image with a degenerate one (black, its mean grey, its grey version,
//!   its smoothed version) in f32 and cut off the fraction.

/// The value of pixels that come from outside of the image.
const OUTSIDE: u8 = 128;

/// An operation with its parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Operation {
    /// Output (x, y) shows input (x + m y, y).
    ShearX(f64),
    /// Output (x, y) shows input (x, y + m x).
    ShearY(f64),
    /// The picture moves right by so many pixels.
    TranslateX(i32),
    /// The picture moves down by so many pixels.
    TranslateY(i32),
    /// The picture turns counter-clockwise about its centre, by degrees.
    Rotate(f64),
    /// Each channel is stretched to 0..=255.
    AutoContrast,
    /// Each channel's histogram is made even.
    Equalize,
    /// 255 minus the pixel.
    Invert,
    /// Pixels from the threshold up are inverted.
    Solarize(u16),
    /// Only so many of the upper bits, 1 to 8, are kept.
    Posterize(u8),
    /// 0 is the image's mean grey, 1 the image.
    Contrast(f32),
    /// 0 is the grey image, 1 the image.
    Color(f32),
    /// 0 is black, 1 the image.
    Brightness(f32),
    /// 0 is the smoothed image, 1 the image.
    Sharpness(f32),
}

/// What an operation does to the pixels of images of one size: what is left when everything that
/// needs the size or a function of the C library is worked out. Only whole numbers, single products
/// and sums in f32 and f64, so a GPU gives the same bits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Change {
    /// Output (x, y) shows the input's pixel (c + a x + b y, f + d x + e y), in 16.16 fixed point.
    Move([i64; 6]),
    /// As the operation; so are all below.
    AutoContrast,
    Equalize,
    Invert,
    Solarize(u16),
    /// The bits that are kept.
    Posterize(u8),
    Contrast(f32),
    Color(f32),
    Brightness(f32),
    Sharpness(f32),
}

impl Operation {
    /// Apply it to `image`, `side x side x 3`; `scratch` is as long and is overwritten.
    pub(super) fn apply(self, image: &mut Vec<u8>, scratch: &mut Vec<u8>, side: usize) {
        self.change(side).apply(image, scratch, side);
    }

    /// What it does to images of `side x side` pixels.
    pub(crate) fn change(self, side: usize) -> Change {
        match self {
            Self::ShearX(m) => affine([1.0, m, 0.0, 0.0, 1.0, 0.0]),
            Self::ShearY(m) => affine([1.0, 0.0, 0.0, m, 1.0, 0.0]),
            Self::TranslateX(d) => affine([1.0, 0.0, f64::from(-d), 0.0, 1.0, 0.0]),
            Self::TranslateY(d) => affine([1.0, 0.0, 0.0, 0.0, 1.0, f64::from(-d)]),
            Self::Rotate(degrees) => affine(rotation(degrees, side)),
            Self::AutoContrast => Change::AutoContrast,
            Self::Equalize => Change::Equalize,
            Self::Invert => Change::Invert,
            Self::Solarize(threshold) => Change::Solarize(threshold),
            Self::Posterize(bits) => Change::Posterize(0xff_u8 << (8 - bits.clamp(1, 8))),
            Self::Contrast(factor) => Change::Contrast(factor),
            Self::Color(factor) => Change::Color(factor),
            Self::Brightness(factor) => Change::Brightness(factor),
            Self::Sharpness(factor) => Change::Sharpness(factor),
        }
    }
}

impl Change {
    /// Apply it to `image`, `side x side x 3`; `scratch` is as long and is overwritten.
    pub(crate) fn apply(self, image: &mut Vec<u8>, scratch: &mut Vec<u8>, side: usize) {
        match self {
            Self::Move(map) => moved(map, image, scratch, side),
            Self::AutoContrast => by_channel(image, stretched),
            Self::Equalize => by_channel(image, equalized),
            Self::Invert => each(image, |x| 255 - x),
            Self::Solarize(threshold) => each(image, |x| if u16::from(x) < threshold { x } else { 255 - x }),
            Self::Posterize(mask) => each(image, |x| x & mask),
            Self::Contrast(factor) => {
                let sum: u64 = image.chunks_exact(3).map(|rgb| u64::from(grey(rgb))).sum();
                let mean = (sum as f64 / (side * side) as f64 + 0.5) as u8;
                let table = table(|x| blend(mean, x, factor));
                each(image, |x| table[usize::from(x)]);
            }
            Self::Color(factor) => {
                for rgb in image.chunks_exact_mut(3) {
                    let degenerate = grey(rgb);
                    for x in rgb {
                        *x = blend(degenerate, *x, factor);
                    }
                }
            }
            Self::Brightness(factor) => {
                let table = table(|x| blend(0, x, factor));
                each(image, |x| table[usize::from(x)]);
            }
            Self::Sharpness(factor) => {
                smooth(image, scratch, side);
                for (x, &degenerate) in image.iter_mut().zip(scratch.iter()) {
                    *x = blend(degenerate, *x, factor);
                }
            }
        }
    }
}

/// PIL's "L": ITU-R 601 luma in 16-bit fixed point.
fn grey(rgb: &[u8]) -> u8 {
    ((u32::from(rgb[0]) * 19_595 + u32::from(rgb[1]) * 38_470 + u32::from(rgb[2]) * 7_471 + 0x8000) >> 16)
        as u8
}

/// `from + factor (to - from)`, cut to 0..=255 and to whole numbers (`as` does both).
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    (f32::from(from) + factor * (f32::from(to) - f32::from(from))) as u8
}

fn each(image: &mut [u8], f: impl Fn(u8) -> u8) {
    for x in image {
        *x = f(*x);
    }
}

fn table(f: impl Fn(u8) -> u8) -> [u8; 256] {
    std::array::from_fn(|x| f(x as u8))
}

/// Replace each channel by way of a table that its histogram gives.
fn by_channel(image: &mut [u8], make: impl Fn(&[u32; 256]) -> Option<[u8; 256]>) {
    let mut counts = [[0u32; 256]; 3];
    for rgb in image.chunks_exact(3) {
        for (counts, &x) in counts.iter_mut().zip(rgb) {
            counts[usize::from(x)] += 1;
        }
    }
    let tables = counts.map(|counts| make(&counts).unwrap_or_else(|| table(|x| x)));
    for rgb in image.chunks_exact_mut(3) {
        for (table, x) in tables.iter().zip(rgb) {
            *x = table[usize::from(*x)];
        }
    }
}

fn stretched(counts: &[u32; 256]) -> Option<[u8; 256]> {
    let low = counts.iter().position(|&n| n > 0)?;
    let high = counts.iter().rposition(|&n| n > 0).filter(|&high| high > low)?;
    let scale = 255.0 / (high - low) as f64;
    let offset = -(low as f64) * scale;
    Some(table(|x| (f64::from(x) * scale + offset) as u8))
}

fn equalized(counts: &[u32; 256]) -> Option<[u8; 256]> {
    let last = counts.iter().rfind(|&&n| n > 0)?;
    let step = (counts.iter().sum::<u32>() - last) / 255;
    if step == 0 {
        return None;
    }
    let mut sum = step / 2;
    Some(std::array::from_fn(|x| {
        let value = (sum / step).min(255) as u8;
        sum += counts[x];
        value
    }))
}

/// The 3 x 3 mean with weight 5 in the middle (of 13), rounded; the border stays.
fn smooth(image: &[u8], out: &mut Vec<u8>, side: usize) {
    out.clear();
    out.extend_from_slice(image);
    let width = side * 3;
    for y in 1..side.saturating_sub(1) {
        let [above, here, below] = [y - 1, y, y + 1].map(|y| &image[y * width..][..width]);
        let out = &mut out[y * width..][..width];
        for i in 3..width - 3 {
            let around = |row: &[u8]| u32::from(row[i - 3]) + u32::from(row[i]) + u32::from(row[i + 3]);
            let sum = around(above) + around(here) + around(below) + 4 * u32::from(here[i]);
            // A sum of integers over 13 is never half-way between two.
            out[i] = ((2 * sum + 13) / 26) as u8;
        }
    }
}

/// The map from output to input coordinates of a rotation about the centre.
fn rotation(degrees: f64, side: usize) -> [f64; 6] {
    let angle = -degrees.to_radians();
    // PIL rounds to 15 digits, which makes quarter turns exact.
    let round = |x: f64| (x * 1e15).round() / 1e15;
    let (sin, cos) = (round(angle.sin()), round(angle.cos()));
    let centre = side as f64 / 2.0;
    let at = |a: f64, b: f64| centre - a * centre - b * centre;
    [cos, sin, at(cos, sin), -sin, cos, at(-sin, cos)]
}

/// Output (x, y) shows the pixel of the input at `(a x + b y + c, d x + e y + f)`, pixel centres at
/// halves.
fn affine([a, b, c, d, e, f]: [f64; 6]) -> Change {
    let fixed = |x: f64| (x * 65_536.0 + 0.5).floor() as i64;
    let (c, f) = (c + a * 0.5 + b * 0.5, f + d * 0.5 + e * 0.5);
    Change::Move([a, b, c, d, e, f].map(fixed))
}

fn moved([a, b, c, d, e, f]: [i64; 6], image: &mut Vec<u8>, scratch: &mut Vec<u8>, side: usize) {
    scratch.clear();
    scratch.resize(image.len(), OUTSIDE);
    for (y, out) in scratch.chunks_exact_mut(side * 3).enumerate() {
        let (mut from_x, mut from_y) = (c + b * y as i64, f + e * y as i64);
        for out in out.chunks_exact_mut(3) {
            let inside = |at: i64| usize::try_from(at >> 16).ok().filter(|&at| at < side);
            if let (Some(x), Some(y)) = (inside(from_x), inside(from_y)) {
                out.copy_from_slice(&image[(y * side + x) * 3..][..3]);
            }
            from_x += a;
            from_y += d;
        }
    }
    std::mem::swap(image, scratch);
}

#[cfg(test)]
mod tests {
    use super::Operation::{self, *};
    use crate::data::augment::tests::{pattern, weighted_sum};

    /// Pillow 13, for `im` the pattern of 8 x 8:
    /// ```python
    /// im.transform(im.size, Image.AFFINE, (1, m, 0, 0, 1, 0), Image.NEAREST, fillcolor=(128,) * 3)   # ShearX(m)
    /// im.transform(im.size, Image.AFFINE, (1, 0, -d, 0, 1, 0), Image.NEAREST, fillcolor=(128,) * 3)  # TranslateX(d)
    /// im.rotate(degrees, fillcolor=(128,) * 3)
    /// ImageOps.autocontrast(im), .equalize(im), .invert(im), .solarize(im, t), .posterize(im, bits)
    /// ImageEnhance.Contrast(im).enhance(f), .Color, .Brightness, .Sharpness
    /// out = np.array(..).astype(np.int64); out[3, 1:5].ravel(), ((np.arange(192) + 1) * out.ravel()).sum()
    /// ```
    #[test]
    fn operations_give_the_values_of_pil() {
        #[rustfmt::skip]
        let cases: [(Operation, [u8; 12], u64); 24] = [
            (ShearX(0.3), [27, 122, 217, 113, 213, 57, 199, 50, 157, 29, 145, 5], 1661599),
            (ShearX(-0.2), [111, 202, 37, 197, 33, 125, 27, 122, 217, 113, 213, 57], 1529438),
            (ShearY(0.25), [197, 33, 125, 43, 90, 10, 91, 13, 63, 12, 65, 119], 1571944),
            (TranslateX(3), [128, 128, 128, 128, 128, 128, 111, 202, 37, 197, 33, 125], 1782588),
            (TranslateX(-2), [113, 213, 57, 199, 50, 157, 29, 145, 5, 115, 242, 113], 1676748),
            (TranslateY(2), [101, 193, 29, 165, 4, 99, 229, 73, 173, 37, 144, 251], 1889642),
            (TranslateY(-3), [42, 88, 6, 102, 21, 69, 33, 83, 5, 93, 18, 72], 1886996),
            (Rotate(30.0), [224, 63, 158, 224, 63, 158, 113, 213, 57, 199, 50, 157], 1627082),
            (Rotate(-20.0 / 3.0), [197, 33, 125, 27, 122, 217, 113, 213, 57, 199, 50, 157], 1424884),
            (AutoContrast, [219, 33, 125, 30, 122, 218, 125, 213, 57, 221, 50, 158], 1473487),
            (Equalize, [197, 33, 125, 27, 122, 217, 113, 213, 57, 199, 50, 157], 1424884),
            (Invert, [58, 222, 130, 228, 133, 38, 142, 42, 198, 56, 205, 98], 3299756),
            (Solarize(113), [58, 33, 130, 27, 133, 38, 142, 42, 57, 56, 50, 98], 1148080),
            (Solarize(198), [197, 33, 125, 27, 122, 38, 113, 42, 57, 56, 50, 157], 1191841),
            (Posterize(5), [192, 32, 120, 24, 120, 216, 112, 208, 56, 192, 48, 152], 1360360),
            (Posterize(4), [192, 32, 112, 16, 112, 208, 112, 208, 48, 192, 48, 144], 1292080),
            (Contrast(1.6), [255, 0, 143, 0, 138, 255, 123, 255, 34, 255, 23, 194], 1317346),
            (Contrast(0.4), [135, 70, 107, 67, 105, 143, 102, 142, 79, 136, 77, 119], 1618644),
            (Color(1.9), [255, 0, 153, 0, 138, 255, 66, 255, 0, 255, 0, 202], 1484750),
            (Color(0.3), [124, 75, 102, 80, 109, 137, 149, 179, 132, 134, 89, 122], 1431277),
            (Brightness(1.7), [255, 56, 212, 45, 207, 255, 192, 255, 96, 255, 85, 255], 2238757),
            (Brightness(0.4), [78, 13, 50, 10, 48, 86, 45, 85, 22, 79, 20, 62], 562548),
            (Sharpness(1.9), [249, 0, 151, 0, 131, 255, 122, 255, 16, 255, 10, 190], 1444422),
            (Sharpness(0.1), [144, 87, 98, 80, 112, 153, 103, 148, 97, 134, 89, 123], 1431252),
        ];
        for (operation, row, sum) in cases {
            let mut image = pattern(8);
            operation.apply(&mut image, &mut Vec::new(), 8);
            assert_eq!(image[(3 * 8 + 1) * 3..][..12], row, "{operation:?}");
            assert_eq!(weighted_sum(&image), sum, "{operation:?}");
        }
    }

    #[test]
    fn images_of_one_colour_and_one_pixel_are_no_trouble() {
        for operation in [
            ShearX(0.3),
            TranslateY(-40),
            Rotate(90.0),
            AutoContrast,
            Equalize,
            Contrast(0.1),
            Color(1.9),
            Sharpness(1.9),
        ] {
            for side in [1, 2, 3, 40] {
                let mut image = vec![128; side * side * 3];
                operation.apply(&mut image, &mut Vec::new(), side);
                assert_eq!(image, vec![128; side * side * 3], "{operation:?} of side {side}");
            }
        }
    }
}
