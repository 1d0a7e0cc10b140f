//! Training transforms: what happens to an image before the network sees it, as data.
//!
//! An [`Augmentation`] says what may happen (a preset's name or a table in a configuration), a
//! [`Drawn`] what happens to one image, a [`Renderer`] does it. In this order:
//!
//! 1. `policy`: the u8 operations of AutoAugment, at the image's own size ([`Operation`]);
//! 2. `pad`: black pixels around it;
//! 3. `crop`: a window at random, of random area and aspect ratio, or of the image's own size;
//! 4. `flip`: left and right swapped, half of the times;
//! 5. the window straight to r x r and normalised, u8 to f32 once, exactly as a
//!    [`Transform`](super::Transform) does it for the whole image.
//!
//! NAT and OFA resize first and apply AutoAugment to the result; the policy was found at 32 x 32,
//! where it is also cheapest.
//!
//! What is drawn depends on `(seed, epoch, position of the image in the epoch)` and nothing else,
//! so any image of any epoch can be made again, by any thread, on any device.
//!
//! | preset | for | is |
//! | --- | --- | --- |
//! | `none` | evaluation | the whole image |
//! | `digits` | digits | a window of 8 to 10 pixels of the image with a border of 1; never flipped |
//! | `flip` | | flip |
//! | `cifar` | CIFAR-10, CIFAR-100 as published | flip, AutoAugment |
//! | `cifar-classic` | | a border of 4 pixels, a window of 32, flip |
//! | `tiny-imagenet` | Tiny ImageNet, CIFAR-10, CIFAR-100 | a window of 85 to 100 % of the area, flip |
//! | `photos` | image folders | a window of 35 to 100 % of the area, flip |

mod operations;
mod policy;
mod render;

pub(crate) use operations::Change;
pub use operations::Operation;
pub use policy::Policy;
pub use render::Renderer;

use std::fmt;

use rand::RngExt;
use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

use super::Error;
use crate::random::{Stream, stream};
use crate::words::{parsed, words};

words!(
    /// A named augmentation: see the [module's table](self).
    Preset {
        /// The whole image.
        None = "none",
        /// Small shifts and zooms.
        Digits = "digits",
        /// Half of the images mirrored.
        Flip = "flip",
        /// Flip and AutoAugment.
        Cifar = "cifar",
        /// Border, window, flip.
        CifarClassic = "cifar-classic",
        /// RandomResizedCrop of 0.85 to 1 and flip.
        TinyImagenet = "tiny-imagenet",
        /// RandomResizedCrop of 0.35 to 1 and flip.
        Photos = "photos",
    }
);

impl Preset {
    /// What it stands for.
    pub fn augmentation(self) -> Augmentation {
        let none = Augmentation::default();
        let window = |least| Some(Crop { scale: [least, 1.0], ..Crop::default() });
        match self {
            Self::None => none,
            // Of 10 x 10 pixels: windows of 8 x 8 to 10 x 10.
            Self::Digits => {
                let crop = Some(Crop { scale: [0.64, 1.0], ratio: [0.85, 1.0 / 0.85] });
                Augmentation { pad: 1, crop, ..none }
            }
            Self::Flip => Augmentation { flip: true, ..none },
            Self::Cifar => Augmentation { policy: Some(Policy::Cifar), flip: true, ..none },
            Self::CifarClassic => Augmentation { pad: 4, flip: true, ..none },
            Self::TinyImagenet => Augmentation { crop: window(0.85), flip: true, ..none },
            Self::Photos => Augmentation { crop: window(0.35), flip: true, ..none },
        }
    }
}

parsed!(Preset, Error, |name| Error::UnknownAugmentation { name: name.to_owned() });

/// What may happen to a training image. Reads from a preset's name or from a table of these keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Augmentation {
    /// AutoAugment with this policy; for images whose pixels go to 255.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Black pixels put around the image, at most as many as it has.
    pub pad: u32,
    /// A window of random size. Without it the window is as large as the image, and its place is
    /// random where there is a border.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop: Option<Crop>,
    /// Whether half of the images are mirrored. Not for digits or letters.
    pub flip: bool,
}

/// torchvision's `RandomResizedCrop`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Crop {
    /// Smallest and largest share of the area.
    pub scale: [f64; 2],
    /// Smallest and largest ratio of width to height, drawn evenly in its logarithm.
    pub ratio: [f64; 2],
}

impl Default for Crop {
    fn default() -> Self {
        Self { scale: [1.0, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0] }
    }
}

/// What happens to one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawn {
    /// Applied in order.
    pub operations: [Option<Operation>; 2],
    /// The part of the image that is shown.
    pub window: Window,
    /// Whether left and right are swapped.
    pub flip: bool,
}

/// A rectangle of whole pixels. It may reach out of the image, where all is black.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First column; negative is left of the image.
    pub left: i32,
    /// First row; negative is above the image.
    pub top: i32,
    /// Columns, 1 at least.
    pub width: u32,
    /// Rows, 1 at least.
    pub height: u32,
}

impl Drawn {
    /// The whole image as it is.
    pub fn plain(side: usize) -> Self {
        let side = side as u32;
        let window = Window { left: 0, top: 0, width: side, height: side };
        Self { operations: [None, None], window, flip: false }
    }
}

impl Augmentation {
    /// Check it against the images that it is for: their side in pixels, and the pixel value that
    /// stands for 1.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] with the key that does not fit.
    pub fn check(&self, side: usize, scale: f32) -> Result<(), Error> {
        let wrong = |setting, value: String, expected| Err(Error::OutOfRange { setting, value, expected });
        if self.policy.is_some() && scale != 255.0 {
            let expected =
                "AutoAugment is for images with pixels of 0 to 255; remove the key or use preset `digits`";
            return wrong("augment.policy", "cifar".to_owned(), expected);
        }
        if self.pad as usize > side {
            let expected = "a border of at most the side of the images is needed";
            return wrong("augment.pad", self.pad.to_string(), expected);
        }
        if let Some(Crop { scale, ratio }) = self.crop {
            if !(scale[0] > 0.0 && scale[0] <= scale[1] && scale[1] <= 1.0) {
                let expected = "two shares of the area are needed, above 0, rising, at most 1";
                return wrong("augment.crop.scale", format!("{scale:?}"), expected);
            }
            if !(ratio[0] > 0.0 && ratio[0] <= ratio[1] && ratio[1].is_finite()) {
                let expected = "two ratios of width to height are needed, above 0, rising";
                return wrong("augment.crop.ratio", format!("{ratio:?}"), expected);
            }
        }
        Ok(())
    }

    /// What happens to the image at `position` of an epoch, for images of `side` pixels.
    pub fn draw(&self, side: usize, seed: u64, epoch: u64, position: u64) -> Drawn {
        let mut random = stream(seed, "train/augment", epoch, position);
        let flip = random.random::<bool>() && self.flip;
        let mut drawn = Drawn { flip, ..Drawn::plain(side) };
        if let Some(crop) = self.crop {
            drawn.window = crop.draw(side as u32 + 2 * self.pad, &mut random);
            drawn.window.left -= self.pad as i32;
            drawn.window.top -= self.pad as i32;
        } else if self.pad > 0 {
            let mut place = || random.random_range(0..=2 * self.pad) as i32 - self.pad as i32;
            (drawn.window.left, drawn.window.top) = (place(), place());
        }
        if let Some(policy) = self.policy {
            drawn.operations = policy.draw(side, &mut random);
        }
        drawn
    }
}

impl Crop {
    /// A window of a square of `side` pixels, as torchvision draws it: ten tries, then the largest
    /// centred one within the ratios.
    fn draw(&self, side: u32, random: &mut Stream) -> Window {
        let whole = f64::from(side);
        let [least, most] = self.ratio.map(f64::ln);
        for _ in 0..10 {
            let area = whole * whole * between(self.scale, random);
            let ratio = between([least, most], random).exp();
            let [width, height] =
                [area * ratio, area / ratio].map(|square| square.sqrt().round_ties_even() as u32);
            if (1..=side).contains(&width) && (1..=side).contains(&height) {
                let top = random.random_range(0..=side - height) as i32;
                let left = random.random_range(0..=side - width) as i32;
                return Window { left, top, width, height };
            }
        }
        let shorter = |ratio: f64| ((whole * ratio).round_ties_even() as u32).clamp(1, side);
        let (width, height) = if self.ratio[0] > 1.0 {
            (side, shorter(1.0 / self.ratio[0]))
        } else if self.ratio[1] < 1.0 {
            (shorter(self.ratio[1]), side)
        } else {
            (side, side)
        };
        let middle = |length: u32| ((side - length) / 2) as i32;
        Window { left: middle(width), top: middle(height), width, height }
    }
}

fn between([low, high]: [f64; 2], random: &mut Stream) -> f64 {
    low + (high - low) * random.random::<f64>()
}

impl<'de> Deserialize<'de> for Augmentation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            policy: Option<Policy>,
            #[serde(default)]
            pad: u32,
            crop: Option<Crop>,
            #[serde(default)]
            flip: bool,
        }
        struct NameOrTable;
        impl<'de> Visitor<'de> for NameOrTable {
            type Value = Augmentation;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a preset's name, or a table of `policy`, `pad`, `crop`, `flip`")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Augmentation, E> {
                name.parse::<Preset>().map(Preset::augmentation).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Augmentation, A::Error> {
                let Table { policy, pad, crop, flip } = Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Augmentation { policy, pad, crop, flip })
            }
        }
        deserializer.deserialize_any(NameOrTable)
    }
}

#[cfg(test)]
mod tests;
