//! Image files to pixels: JPEG and PNG, told apart by their first bytes, to 8-bit RGB.
//!
//! Grey images are repeated to three channels, palettes expanded, 16-bit samples cut to 8 bits, an
//! alpha channel dropped. Orientation tags are ignored, as data sets' own loaders do. Damage is an
//! error, also where a lenient decoder would fill the rest with grey.

use std::io::Cursor;

use png::ColorType;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// The largest width and height accepted, in pixels (also the JPEG decoder's default).
const LARGEST: u32 = 16_384;

/// A decoded image: `height x width x 3`.
pub(super) struct Picture {
    pub width: usize,
    pub height: usize,
    pub pixels: Vec<u8>,
}

/// A file that does not decode: the format that it was read as, and what the decoder says.
pub(super) type Failure = (&'static str, String);

pub(super) fn decode(bytes: &[u8]) -> Result<Picture, Failure> {
    if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        jpeg(bytes).map_err(|reason| ("JPEG", reason))
    } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        png(bytes).map_err(|reason| ("PNG", reason))
    } else {
        let reason = if bytes.is_empty() { "the file is empty" } else { "its first bytes are of neither" };
        Err(("JPEG or PNG", reason.to_owned()))
    }
}

fn jpeg(bytes: &[u8]) -> Result<Picture, String> {
    let options = DecoderOptions::default().set_strict_mode(true).jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let pixels = decoder.decode().map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions().ok_or("no frame in the file")?;
    checked(Picture { width, height, pixels })
}

fn png(bytes: &[u8]) -> Result<Picture, String> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
    let (width, height) = (reader.info().width, reader.info().height);
    if width.max(height) > LARGEST {
        return Err(format!("{width} x {height} pixels; at most {LARGEST} x {LARGEST} are read"));
    }
    let size = reader.output_buffer_size().ok_or("too large for this machine")?;
    let mut samples = vec![0; size];
    let frame = reader.next_frame(&mut samples).map_err(|error| error.to_string())?;
    samples.truncate(frame.buffer_size());
    let pixels = match frame.color_type {
        ColorType::Rgb => samples,
        ColorType::Rgba => samples.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        ColorType::Grayscale => samples.iter().flat_map(|&grey| [grey; 3]).collect(),
        ColorType::GrayscaleAlpha => samples.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        ColorType::Indexed => return Err("a palette that does not expand".to_owned()),
    };
    checked(Picture { width: frame.width as usize, height: frame.height as usize, pixels })
}

/// Decoders are trusted with the pixels, not with memory: what follows indexes by these sizes.
fn checked(picture: Picture) -> Result<Picture, String> {
    let expected = picture.width * picture.height * 3;
    match picture.pixels.len() {
        0 => Err("no pixels in the file".to_owned()),
        found if found == expected => Ok(picture),
        found => Err(format!("{found} samples instead of {expected}")),
    }
}

/// The largest centred square of a picture, brought to `side x side` pixels by a triangle filter
/// that widens with the reduction (antialiased), and rounded to u8.
///
/// This is for photographs of any size, once, at loading; it is not the resize of a
/// [`Transform`](super::Transform).
pub(super) fn fit(picture: &Picture, side: usize) -> Vec<u8> {
    let square = picture.width.min(picture.height);
    let (left, top) = ((picture.width - square) / 2, (picture.height - square) / 2);
    if square == side {
        let rows = picture.pixels.chunks_exact(picture.width * 3).skip(top).take(side);
        return rows.flat_map(|row| &row[left * 3..][..side * 3]).copied().collect();
    }
    let taps = triangle(square, side);
    // Columns first: square x side x 3, then rows.
    let mut wide = Vec::with_capacity(square * side * 3);
    for y in 0..square {
        let row = &picture.pixels[((top + y) * picture.width + left) * 3..][..square * 3];
        for (first, weights) in &taps {
            let mut sum = [0f32; 3];
            for (pixel, weight) in row[first * 3..].chunks_exact(3).zip(weights) {
                for c in 0..3 {
                    sum[c] += weight * f32::from(pixel[c]);
                }
            }
            wide.extend(sum);
        }
    }
    let mut out = Vec::with_capacity(side * side * 3);
    for (first, weights) in &taps {
        for column in 0..side * 3 {
            let samples = wide[first * side * 3 + column..].iter().step_by(side * 3);
            let sum: f32 = samples.zip(weights).map(|(sample, weight)| weight * sample).sum();
            out.push(sum.round() as u8);
        }
    }
    out
}

/// For every output position the first source position and the weights from there, which sum to 1.
fn triangle(from: usize, to: usize) -> Vec<(usize, Vec<f32>)> {
    let ratio = from as f64 / to as f64;
    let support = ratio.max(1.0);
    (0..to)
        .map(|x| {
            let centre = (x as f64 + 0.5) * ratio;
            let first = (centre - support + 0.5).floor().max(0.0) as usize;
            let end = ((centre + support + 0.5).floor() as usize).clamp(first + 1, from);
            let weight = |i: usize| (1.0 - ((i as f64 + 0.5 - centre) / support).abs()).max(0.0);
            let total: f64 = (first..end).map(weight).sum();
            (first, (first..end).map(|i| (weight(i) / total) as f32).collect())
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A PNG file of 8-bit samples; a palette has black and (10, 20, 30).
    pub(in crate::data) fn png_of(width: u32, height: u32, color: ColorType, samples: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(color);
        encoder.set_depth(png::BitDepth::Eight);
        if color == ColorType::Indexed {
            encoder.set_palette(vec![0, 0, 0, 10, 20, 30]);
        }
        encoder.write_header().unwrap().write_image_data(samples).unwrap();
        bytes
    }

    /// 8 x 8 grey JPEG of one value, quality 75, as Pillow 13 writes it:
    /// `Image.new("L", (8, 8), 77).save(f, "JPEG")`.
    const GREY_JPEG: &[u8] = include_bytes!("assets/grey77.jpg");

    #[test]
    fn every_kind_of_png_becomes_rgb() {
        for (color, samples, expected) in [
            (ColorType::Rgb, vec![1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]),
            (ColorType::Rgba, vec![1, 2, 3, 0, 4, 5, 6, 255], [1, 2, 3, 4, 5, 6]),
            (ColorType::Grayscale, vec![7, 9], [7, 7, 7, 9, 9, 9]),
            (ColorType::GrayscaleAlpha, vec![7, 0, 9, 1], [7, 7, 7, 9, 9, 9]),
            (ColorType::Indexed, vec![1, 0], [10, 20, 30, 0, 0, 0]),
        ] {
            let picture =
                decode(&png_of(2, 1, color, &samples)).unwrap_or_else(|e| panic!("{color:?}: {e:?}"));
            assert_eq!(
                (picture.width, picture.height, &picture.pixels[..]),
                (2, 1, &expected[..]),
                "{color:?}"
            );
        }
    }

    #[test]
    fn a_grey_jpeg_becomes_rgb() {
        let picture = decode(GREY_JPEG).unwrap();
        assert_eq!((picture.width, picture.height), (8, 8));
        assert_eq!(picture.pixels, [77; 8 * 8 * 3]);
    }

    #[test]
    fn damage_is_an_error_with_a_reason() {
        let whole = png_of(2, 1, ColorType::Rgb, &[1, 2, 3, 4, 5, 6]);
        for length in 8..whole.len() - 12 {
            assert_eq!(decode(&whole[..length]).err().map(|e| e.0), Some("PNG"), "cut at {length}");
        }
        for length in 3..GREY_JPEG.len() - 3 {
            assert_eq!(decode(&GREY_JPEG[..length]).err().map(|e| e.0), Some("JPEG"), "cut at {length}");
        }
        // A header that promises 65,536 columns is refused before memory is taken.
        let mut huge = whole.clone();
        huge[16..20].copy_from_slice(&65_536u32.to_be_bytes());
        huge[29..33].copy_from_slice(&[0xe4, 0x10, 0x74, 0x8f]);
        assert!(decode(&huge).err().unwrap().1.contains("at most 16384"));
        assert_eq!(decode(b"").err().unwrap().1, "the file is empty");
        assert_eq!(decode(b"GIF89a").err().unwrap().0, "JPEG or PNG");
    }

    /// Pillow 13:
    /// ```python
    /// y, x, c = np.meshgrid(range(20), range(30), range(3), indexing="ij")
    /// a = ((7 * y + 13 * x + 29 * c + x * y) % 256).astype(np.uint8)
    /// np.array(Image.fromarray(a[:, 5:25]).resize((side, side), Image.BILINEAR))
    /// ```
    #[test]
    fn fit_gives_the_values_of_pillow() {
        let value = |y: usize, x: usize, c: usize| ((7 * y + 13 * x + 29 * c + x * y) % 256) as u8;
        let pixels = (0..20 * 30 * 3).map(|i| value(i / 90, i / 3 % 30, i % 3)).collect();
        let picture = Picture { width: 30, height: 20, pixels };
        for (side, expected) in FITTED {
            let fitted = fit(&picture, side);
            assert_eq!(fitted.len(), side * side * 3);
            for ((y, x, c), pillow) in expected {
                let ours = i32::from(fitted[(y * side + x) * 3 + c]);
                assert!((ours - pillow).abs() <= 1, "{side}: {y} {x} {c}: {ours}, Pillow {pillow}");
            }
        }
        assert_eq!(fit(&picture, 20)[..3], [65, 94, 123], "the middle columns start at 5");
    }

    type Points = [((usize, usize, usize), i32); 5];
    const FITTED: [(usize, Points); 2] = [
        (8, [((0, 0, 0), 91), ((0, 7, 1), 102), ((4, 2, 2), 133), ((6, 1, 0), 91), ((7, 7, 2), 129)]),
        (33, [((0, 0, 0), 65), ((0, 32, 1), 85), ((16, 11, 2), 127), ((31, 1, 0), 45), ((32, 32, 2), 191)]),
    ];
}
