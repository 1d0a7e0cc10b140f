//! Presets, what is drawn, and the fast way from a window to a network's input.

use super::*;
use crate::data::facts::ALL;
use crate::data::{Dataset, Facts, Transform};
use proptest::prelude::*;

/// `((37 y + 53 x + 91 c + 11 x y + x x c) mod 256) / (1 + y / 4 mod 2)`.
pub(super) fn pattern(side: usize) -> Vec<u8> {
    let value = |y: usize, x: usize, c: usize| {
        ((37 * y + 53 * x + 91 * c + 11 * x * y + x * x * c) % 256 / (1 + y / 4 % 2)) as u8
    };
    (0..side * side * 3).map(|i| value(i / 3 / side, i / 3 % side, i % 3)).collect()
}

pub(super) fn weighted_sum(image: &[u8]) -> u64 {
    image.iter().enumerate().map(|(i, &x)| (i as u64 + 1) * u64::from(x)).sum()
}

const MEAN: [f32; 3] = [0.4914, 0.4822, 0.4465];
const STD: [f32; 3] = [0.247, 0.2435, 0.2616];

fn dataset(side: usize) -> Dataset {
    Dataset {
        facts: Facts::of("cifar10").unwrap(),
        classes: vec!["only".to_owned()],
        side,
        scale: 255.0,
        images: std::sync::Arc::new(pattern(side)),
        labels: vec![0],
        splits: Default::default(),
        origin: None,
    }
}

fn renderer(side: usize, largest: usize, pad: u32) -> Renderer {
    Renderer::new(&dataset(side), largest, MEAN, STD, pad).unwrap()
}

#[test]
fn presets_are_what_they_are_called_and_fit_their_data() {
    for preset in Preset::ALL {
        assert_eq!(preset.as_str().parse::<Preset>().unwrap(), preset);
    }
    for facts in &ALL {
        let (side, scale) = if facts.is_built_in() { (8, 16.0) } else { (32, 255.0) };
        for preset in [facts.augmentation, facts.published_augmentation] {
            preset.augmentation().check(side, scale).unwrap();
            assert_eq!(preset.augmentation().flip, !facts.is_built_in(), "{}", facts.name);
        }
    }
    // AutoAugment is CIFAR's where a training is as published.
    let operates = |preset: Preset| preset.augmentation().policy.is_some();
    assert!(ALL.iter().all(|facts| !operates(facts.augmentation)));
    assert!(
        ALL.iter().all(|facts| operates(facts.published_augmentation) == facts.name.starts_with("cifar"))
    );
    let message = "imagenet".parse::<Preset>().unwrap_err().to_string();
    assert!(message.contains("`imagenet`") && message.contains("none, digits, flip, cifar,"), "{message}");
}

#[test]
fn reads_from_a_name_or_a_table_and_writes_a_table() {
    #[derive(Debug, Deserialize)]
    struct Data {
        augment: Augmentation,
    }
    let read = |text: &str| toml::from_str::<Data>(text).map(|data| data.augment);
    for preset in Preset::ALL {
        let augmentation = read(&format!("augment = \"{preset}\"")).unwrap();
        assert_eq!(augmentation, preset.augmentation());
        let text = toml::to_string(&augmentation).unwrap();
        assert_eq!(toml::from_str::<Augmentation>(&text).unwrap(), augmentation, "{text}");
    }
    let augmentation = read("[augment]\npolicy = \"cifar\"\ncrop = { scale = [0.2, 1] }").unwrap();
    let crop = Crop { scale: [0.2, 1.0], ratio: [0.75, 4.0 / 3.0] };
    let expected = Augmentation { policy: Some(Policy::Cifar), pad: 0, crop: Some(crop), flip: false };
    assert_eq!(augmentation, expected);
    for (text, part) in [
        ("augment = \"cifra\"", "`cifra`"),
        ("augment = 3", "a preset's name, or a table"),
        ("[augment]\npaddling = 4", "unknown field `paddling`"),
        ("[augment]\ncrop = { scale = 0.5 }", "scale"),
    ] {
        let message = read(text).unwrap_err().to_string();
        assert!(message.contains(part), "{text}: {message}");
    }
}

#[test]
fn what_does_not_fit_the_images_is_named() {
    let fails = |augmentation: Augmentation, scale| augmentation.check(32, scale).unwrap_err().to_string();
    assert!(fails(Preset::Cifar.augmentation(), 16.0).starts_with("`augment.policy` = cifar: "));
    let augmentation = Augmentation { pad: 33, ..Augmentation::default() };
    assert!(fails(augmentation, 255.0).starts_with("`augment.pad` = 33: "));
    for (scale, ratio, key) in [
        ([0.0, 1.0], [1.0, 1.0], "scale"),
        ([0.9, 0.8], [1.0, 1.0], "scale"),
        ([0.5, 1.1], [1.0, 1.0], "scale"),
        ([f64::NAN, 1.0], [1.0, 1.0], "scale"),
        ([0.5, 1.0], [0.0, 1.0], "ratio"),
        ([0.5, 1.0], [2.0, 1.0], "ratio"),
        ([0.5, 1.0], [1.0, f64::INFINITY], "ratio"),
    ] {
        let augmentation = Augmentation { crop: Some(Crop { scale, ratio }), ..Augmentation::default() };
        let message = fails(augmentation, 255.0);
        assert!(message.starts_with(&format!("`augment.crop.{key}` = ")), "{message}");
    }
}

#[test]
fn what_is_drawn_depends_on_seed_epoch_and_position_alone() {
    let augmentation =
        Augmentation { pad: 4, crop: Preset::Photos.augmentation().crop, ..Preset::Cifar.augmentation() };
    let draw = |seed, epoch, position| augmentation.draw(32, seed, epoch, position);
    let base = draw(1, 2, 3);
    assert_eq!(base, draw(1, 2, 3));
    for other in [draw(0, 2, 3), draw(1, 0, 3), draw(1, 2, 0)] {
        assert_ne!(base.window, other.window);
    }
    assert_eq!(Preset::None.augmentation().draw(32, 1, 2, 3), Drawn::plain(32));
}

#[test]
fn windows_and_flips_have_the_distribution_asked_for() {
    const DRAWS: u64 = 20_000;
    // A border of 4: 81 places, each as likely.
    let mut places = [0u64; 81];
    let mut flips = 0;
    let classic = Preset::CifarClassic.augmentation();
    for position in 0..DRAWS {
        let Drawn { window, flip, .. } = classic.draw(32, 5, 0, position);
        assert_eq!((window.width, window.height), (32, 32));
        places[((window.top + 4) * 9 + window.left + 4) as usize] += 1;
        flips += u64::from(flip);
    }
    assert!(flips.abs_diff(DRAWS / 2) < 300, "{flips}");
    let even = DRAWS / 81;
    assert!(places.iter().all(|&n| n.abs_diff(even) < even / 2), "{places:?}");

    let (mut area, mut logarithm) = (0.0, 0.0);
    for position in 0..DRAWS {
        let Window { left, top, width, height } =
            Preset::Photos.augmentation().draw(64, 5, 0, position).window;
        assert!(left >= 0 && top >= 0 && left as u32 + width <= 64 && top as u32 + height <= 64);
        let share = f64::from(width * height) / 4096.0;
        assert!((0.34..=1.0).contains(&share), "{share}");
        area += share / DRAWS as f64;
        logarithm += (f64::from(width) / f64::from(height)).ln() / DRAWS as f64;
    }
    // Large windows of the wrong shape do not fit and are drawn again, so below the middle of 0.675.
    assert!((0.62..0.66).contains(&area), "{area}");
    assert!(logarithm.abs() < 0.01, "{logarithm}");

    let digits = Preset::Digits.augmentation();
    let windows: std::collections::BTreeSet<_> =
        (0..2000).map(|i| digits.draw(8, 5, 0, i)).map(|d| (d.window.width, d.window.left, d.flip)).collect();
    assert!(windows.iter().all(|&(width, left, flip)| (7..=10).contains(&width) && left >= -1 && !flip));
    assert!(windows.len() > 8, "{windows:?}");
}

#[test]
fn a_ratio_that_never_fits_gives_the_largest_centred_window() {
    for (ratio, expected) in [
        ([4.0, 4.0], Window { left: 0, top: 24, width: 64, height: 16 }),
        ([0.25, 0.25], Window { left: 24, top: 0, width: 16, height: 64 }),
    ] {
        let crop = Some(Crop { scale: [1.0, 1.0], ratio });
        let augmentation = Augmentation { crop, ..Augmentation::default() };
        assert_eq!(augmentation.draw(64, 0, 0, 0).window, expected);
    }
    let crop = Some(Crop { scale: [1.0, 1.0], ratio: [1.0, 1.0] });
    assert_eq!(Augmentation { crop, ..Augmentation::default() }.draw(64, 0, 0, 0), Drawn::plain(64));
}

#[test]
fn nothing_drawn_gives_the_transform_of_evaluation_bit_for_bit() {
    let data = dataset(32);
    let mut renderer = renderer(32, 64, 0);
    for r in [32, 48, 64] {
        let transform = Transform::new(r, MEAN, STD, 255.0).unwrap();
        let mut expected = vec![f32::NAN; transform.output_len()];
        transform.apply_serial(&data, &[0], &mut expected);
        let mut out = vec![f32::NAN; expected.len()];
        renderer.render(data.image(0), &Drawn::plain(32), r, &mut out);
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        // At its own size a transform only normalises; the interpolation multiplies by 1 and adds 0.
        assert_eq!(bits(&out), bits(&expected), "{r}");
    }
}

#[test]
fn a_window_is_cropped_moved_and_mirrored() {
    // Resolution 32 of a window of 32 shows pixels as they are.
    let image = pattern(40);
    let mut renderer = Renderer::new(&dataset(40), 32, [0.0; 3], [1.0; 3], 40).unwrap();
    let mut out = vec![0.0; 32 * 32 * 3];
    for (left, top) in [(0, 0), (8, 3), (-5, 2), (20, 30), (-32, -31), (-40, 0), (40, 40), (0, -40)] {
        for flip in [false, true] {
            let window = Window { left, top, width: 32, height: 32 };
            renderer.render(&image, &Drawn { window, flip, ..Drawn::plain(40) }, 32, &mut out);
            for (i, &value) in out.iter().enumerate() {
                let (y, x, c) = (i / 96, i / 3 % 32, i % 3);
                let (y, x) = (top + y as i32, left + if flip { 31 - x } else { x } as i32);
                let known = (0..40).contains(&y) && (0..40).contains(&x);
                let expected = if known { image[(y as usize * 40 + x as usize) * 3 + c] } else { 0 };
                assert!((value * 255.0 - f32::from(expected)).abs() < 1e-3, "{left} {top} {flip}: {y} {x}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_fast_path_agrees_with_the_reference(
        side in 1usize..48, r in 32usize..100, pad in 0u32..9, seed in any::<u64>(), policy in any::<bool>(),
    ) {
        let pad = pad.min(side as u32);
        let augmentation = Augmentation {
            policy: policy.then_some(Policy::Cifar),
            pad,
            crop: (seed % 3 > 0).then_some(Crop { scale: [0.1, 1.0], ratio: [0.4, 2.5] }),
            flip: true,
        };
        let image = pattern(side);
        let mut renderer = renderer(side, 100, pad);
        for position in 0..3 {
            let drawn = augmentation.draw(side, seed, 0, position);
            let mut fast = vec![f32::NAN; r * r * 3];
            renderer.render(&image, &drawn, r, &mut fast);
            let single = renderer.reference::<f32>(&image, &drawn, r);
            let double = renderer.reference::<f64>(&image, &drawn, r);
            for i in 0..fast.len() {
                prop_assert!((f64::from(fast[i]) - double[i]).abs() < 2e-6);
                prop_assert!((single[i] - fast[i]).abs() < 1e-6);
            }
        }
    }
}
