//! Damaged images: whatever they hold, they are read or refused, and what is read of them can be.

use super::made::{self, Packing, Part, fat, machine_code, machine_part, ptx_part};
use crate::image::{Error, read};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Reads it as three cards do, and says how many refuse it as damaged.
fn refused(image: &[u8]) -> usize {
    let one = |card| match read(image, card) {
        Ok(image) => {
            for kernel in image.kernels.values() {
                assert!((1..=1024).contains(&kernel.max_threads) && kernel.registers <= 255);
                let mut end = 0;
                for parameter in &kernel.parameters {
                    assert!(parameter.offset >= end);
                    end = parameter.offset + parameter.bytes;
                }
                assert!(end < 1 << 15);
            }
            0
        }
        Err(error @ Error::NoBinary { .. }) => {
            assert!(error.to_string().contains("the image has code for"));
            0
        }
        Err(Error::Invalid(_)) => 1,
    };
    [(8, 0), (9, 0), (12, 0)].into_iter().map(one).sum()
}

/// Small images of all kinds.
fn small() -> Vec<Vec<u8>> {
    let mut kernel = made::kernel("spread", &[(0, 8), (8, 40), (48, 4)]);
    kernel.attributes.extend(made::bounds([128, 1, 1]));
    kernel.shared = Some(2048);
    let header = made::Header { compatible: Some(vec![2, 9, 0, 0, 2, 2, 1, 0]), ..made::header(90) };
    let code = machine_code(&header, &[kernel, made::kernel("none", &[])]);
    let text = ptx_part(80, "", "one").bytes;
    let packed = |packing| {
        let machine = Part { packing, bytes: code.clone(), ..machine_part(90, "one") };
        fat(&[Part { packing, ..ptx_part(80, "", "one") }, machine, machine_part(80, "two")])
    };
    vec![packed(Packing::Not), packed(Packing::Zstd), packed(Packing::Lz4), code, text]
}

#[test]
fn small_images_with_any_byte_changed_are_read_or_refused() {
    for image in small() {
        assert_eq!(refused(&image), 0);
        let mut count = 0;
        for at in 0..image.len() {
            for change in [0x01, 0x80, 0xff, image[at]] {
                let mut changed = image.clone();
                changed[at] ^= change;
                count += refused(&changed);
            }
        }
        assert!(count > image.len() / 50, "{count} refusals of {} bytes", image.len());
    }
}

#[test]
fn small_images_cut_off_anywhere_are_read_or_refused() {
    for image in small() {
        let count: usize = (0..image.len()).map(|length| refused(&image[..length])).sum();
        // Text and machine code are refused by two of the cards, or by one, for another reason.
        assert!(count >= image.len(), "{count} refusals of {} bytes", image.len());
    }
}

#[test]
fn bytes_of_no_kind_are_refused() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let beginnings = small().into_iter().map(|image| image[..16].to_vec()).chain([vec![]]);
    for begin in beginnings {
        for _ in 0..500 {
            let length = random.random_range(0..600);
            let mut image = begin.clone();
            image.extend((0..length).map(|_| random.random::<u8>()));
            assert!(refused(&image) > 0 || image.len() < 20, "{image:?}");
        }
    }
}

/// Some bytes of an image changed, copied elsewhere, or cut off.
#[cfg(natv2_fatbin)]
fn damage(image: &[u8], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut damaged = image.to_vec();
    for _ in 0..random.random_range(1..8) {
        let at = random.random_range(0..damaged.len());
        match random.random_range(0..4) {
            0 => damaged[at] ^= 1 << random.random_range(0..8),
            1 => damaged[at] = random.random(),
            2 => {
                let length = random.random_range(0..64).min(damaged.len() - at);
                let from = random.random_range(0..=damaged.len() - length);
                damaged.copy_within(from..from + length, at);
            }
            _ => damaged[at..].iter_mut().take(8).for_each(|byte| *byte = 0xff),
        }
    }
    if random.random_range(0..4) == 0 {
        damaged.truncate(random.random_range(0..damaged.len()));
    }
    damaged
}

/// The smallest of this build: their parts are packed, so that most of what is damaged is what unpacks them.
#[cfg(natv2_fatbin)]
#[test]
fn images_of_this_build_that_are_damaged_are_read_or_refused() {
    let mut images: Vec<&[u8]> =
        natv2::device::cuda::kernel_sources().iter().filter_map(|source| source.fatbin).collect();
    images.sort_by_key(|image| image.len());
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let mut count = 0;
    for image in images.into_iter().take(4) {
        for _ in 0..600 {
            count += refused(&damage(image, &mut random));
        }
    }
    assert!(count > 1000, "{count} refusals");
}
