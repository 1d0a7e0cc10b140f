//! AutoAugment's policy for CIFAR-10: E. D. Cubuk et al., "AutoAugment: Learning Augmentation
//! Policies from Data", CVPR 2019, appendix.
//!
//! A policy has 25 sub-policies, of which each image draws one. A sub-policy is two operations, each
//! with a probability and a level of 0 to 9; operations that have a direction draw it. What a level
//! means is as in torchvision's `AutoAugment`, which differs from the paper in one point that
//! programs have settled on: an enhancer's factor is 1 +- level / 10 with a drawn sign.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::operations::Operation;
use crate::random::Stream;

/// A published policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The one for CIFAR-10; also used for CIFAR-100.
    Cifar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    AutoContrast,
    Equalize,
    Invert,
    Solarize,
    Posterize,
    Contrast,
    Color,
    Brightness,
    Sharpness,
}

use Kind::*;

/// An operation, its probability in tenths, its level (0 where it has none).
type Member = (Kind, u8, u8);

#[rustfmt::skip]
static CIFAR: [[Member; 2]; 25] = [
    [(Invert, 1, 0), (Contrast, 2, 6)],
    [(Rotate, 7, 2), (TranslateX, 3, 9)],
    [(Sharpness, 8, 1), (Sharpness, 9, 3)],
    [(ShearY, 5, 8), (TranslateY, 7, 9)],
    [(AutoContrast, 5, 0), (Equalize, 9, 0)],
    [(ShearY, 2, 7), (Posterize, 3, 7)],
    [(Color, 4, 3), (Brightness, 6, 7)],
    [(Sharpness, 3, 9), (Brightness, 7, 9)],
    [(Equalize, 6, 0), (Equalize, 5, 0)],
    [(Contrast, 6, 7), (Sharpness, 6, 5)],
    [(Color, 7, 7), (TranslateX, 5, 8)],
    [(Equalize, 3, 0), (AutoContrast, 4, 0)],
    [(TranslateY, 4, 3), (Sharpness, 2, 6)],
    [(Brightness, 9, 6), (Color, 2, 8)],
    [(Solarize, 5, 2), (Invert, 0, 0)],
    [(Equalize, 2, 0), (AutoContrast, 6, 0)],
    [(Equalize, 2, 0), (Equalize, 6, 0)],
    [(Color, 9, 9), (Equalize, 6, 0)],
    [(AutoContrast, 8, 0), (Solarize, 2, 8)],
    [(Brightness, 1, 3), (Color, 7, 0)],
    [(Solarize, 4, 5), (AutoContrast, 9, 0)],
    [(TranslateY, 9, 9), (TranslateY, 7, 9)],
    [(AutoContrast, 9, 0), (Solarize, 8, 3)],
    [(Equalize, 8, 0), (Invert, 1, 0)],
    [(TranslateY, 7, 9), (AutoContrast, 9, 0)],
];

impl Policy {
    /// Draw the operations of an image of `side x side` pixels. Always takes as many numbers.
    pub(super) fn draw(self, side: usize, random: &mut Stream) -> [Option<Operation>; 2] {
        let Policy::Cifar = self;
        let members = CIFAR[random.random_range(0..CIFAR.len())];
        members.map(|(kind, tenths, level)| {
            let happens = random.random_range(0..10u8) < tenths;
            let negative = random.random::<bool>();
            happens.then(|| operation(kind, level, negative, side))
        })
    }
}

/// What a level means.
fn operation(kind: Kind, level: u8, negative: bool, side: usize) -> Operation {
    let sign = if negative { -1.0 } else { 1.0 };
    let share = |full: f64| sign * full * f64::from(level) / 9.0;
    // 150 pixels of ImageNet's 331, as a share of this image.
    let pixels = || (150 * side * usize::from(level) / (331 * 9)) as i32 * if negative { -1 } else { 1 };
    let factor = (1.0 + sign * f64::from(level) / 10.0) as f32;
    match kind {
        ShearY => Operation::ShearY(share(0.3)),
        TranslateX => Operation::TranslateX(pixels()),
        TranslateY => Operation::TranslateY(pixels()),
        Rotate => Operation::Rotate(share(30.0)),
        AutoContrast => Operation::AutoContrast,
        Equalize => Operation::Equalize,
        Invert => Operation::Invert,
        Solarize => Operation::Solarize((255 * (9 - u16::from(level))).div_ceil(9)),
        Posterize => Operation::Posterize(8 - (8 * level + 9) / 18),
        Contrast => Operation::Contrast(factor),
        Color => Operation::Color(factor),
        Brightness => Operation::Brightness(factor),
        Sharpness => Operation::Sharpness(factor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::augment::tests::{pattern, weighted_sum};
    use crate::random::stream;

    /// Both operations of every sub-policy, one after the other, with positive and with negative
    /// direction, on the pattern of 32 x 32, by Pillow 13. The parameters are those of torchvision
    /// 0.29 (`AutoAugment._augmentation_space(10, (32, 32))`) without its f32 rounding, which
    /// differs by at most 1 in a pixel in three of the fifty.
    #[test]
    fn sub_policies_give_the_values_of_pil() {
        #[rustfmt::skip]
        let expected: [(u64, u64); 25] = [
            (784230457, 766294386), (512356967, 510743894), (421892261, 420096945), (468037186, 550544766), (581070239, 581070239),
            (447150344, 430868632), (623512963, 124412997), (648345835, 40007046), (680219805, 680219805), (425472382, 434495457),
            (498147094, 492075381), (581070239, 581070239), (465592794, 461998904), (607159542, 166451380), (870977435, 870977435),
            (581070239, 581070239), (680219805, 680219805), (705137379, 572521625), (580795166, 580795166), (529252131, 293953169),
            (537863326, 537863326), (604826816, 599345616), (307823709, 307823709), (622562401, 622562401), (484004928, 543171688),
        ];
        let run = |members: [Member; 2], negative| {
            let (mut image, mut scratch) = (pattern(32), Vec::new());
            for (kind, _, level) in members {
                operation(kind, level, negative, 32).apply(&mut image, &mut scratch, 32);
            }
            weighted_sum(&image)
        };
        assert_eq!(weighted_sum(&pattern(32)), 423_015_104);
        for (members, sums) in CIFAR.into_iter().zip(expected) {
            assert_eq!((run(members, false), run(members, true)), sums, "{members:?}");
        }
    }

    #[test]
    fn operations_happen_as_often_as_the_table_says() {
        const DRAWS: u64 = 40_000;
        let mut random = stream(1, "test", 0, 0);
        let (mut happened, mut right) = (0u64, 0u64);
        for _ in 0..DRAWS {
            for operation in Policy::Cifar.draw(32, &mut random).into_iter().flatten() {
                happened += 1;
                right += u64::from(operation == Operation::TranslateX(14));
            }
        }
        let tenths: u64 = CIFAR.iter().flatten().map(|member| u64::from(member.1)).sum();
        let expected = DRAWS * tenths / 250;
        assert!(happened.abs_diff(expected) < expected / 50, "{happened} of {expected}");
        // Once in 25, with probability 0.3, half of the times to the right.
        let expected = DRAWS * 3 / 500;
        assert!(right.abs_diff(expected) < expected / 3, "{right} of {expected}");
    }
}
