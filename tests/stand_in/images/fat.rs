//! Fat binaries: which part a card takes, and how it is packed.

use super::made::{self, Packing, Part, fat, machine_part, ptx_part};
use crate::image::{Error, read};

const ALONE: u64 = 0x10_0000;
const FAMILY: u64 = 0x20_0000;

/// The one kernel of the part that a card takes.
fn taken(image: &[u8], card: (u32, u32)) -> Option<String> {
    match read(image, card) {
        Ok(image) => {
            assert_eq!(image.kernels.len(), 1);
            image.kernels.into_keys().next()
        }
        Err(Error::NoBinary { card: named, .. }) if named == card => None,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_card_takes_machine_code_of_its_own_generation_and_else_ptx() {
    let mut alone = machine_part(90, "sm_90a");
    alone.scope = ALONE;
    let mut family = ptx_part(100, "f", "compute_100f");
    family.scope = FAMILY;
    let mut ptx_alone = ptx_part(120, "a", "compute_120a");
    ptx_alone.scope = ALONE;
    let image = fat(&[
        ptx_part(75, "", "compute_75"),
        machine_part(80, "sm_80"),
        machine_part(86, "sm_86"),
        alone,
        ptx_alone,
        family,
        ptx_part(80, "", "compute_80"),
        machine_part(90, "sm_90"),
    ]);
    let cases = [
        ((7, 0), None),
        ((7, 5), Some("compute_75")),
        ((8, 0), Some("sm_80")),
        ((8, 6), Some("sm_86")),
        ((8, 9), Some("sm_86")),
        ((9, 0), Some("sm_90a")),
        ((9, 1), Some("sm_90")),
        ((10, 0), Some("compute_100f")),
        ((10, 3), Some("compute_100f")),
        ((11, 0), Some("compute_80")),
        ((12, 0), Some("compute_120a")),
        ((12, 1), Some("compute_80")),
    ];
    for (card, wanted) in cases {
        assert_eq!(taken(&image, card).as_deref(), wanted, "{card:?}");
    }
    let error = read(&image, (7, 0)).expect_err("no code");
    let said = error.to_string();
    assert!(said.contains("compute_75, sm_80, sm_86, sm_90a, compute_120a, compute_100f"), "{said}");
    assert!(said.contains("7.0") && said.contains("build it for that one too"), "{said}");
}

#[test]
fn parts_are_unpacked_however_they_are_packed() {
    for packing in [Packing::Not, Packing::Zstd, Packing::Lz4] {
        for part in [machine_part(90, "one"), ptx_part(80, "", "one")] {
            let image = fat(&[Part { packing, ..part }]);
            assert_eq!(taken(&image, (9, 0)).as_deref(), Some("one"), "{packing:?}");
        }
    }
}

/// One block with copies: from one byte before, which repeats it, and from far before.
#[test]
fn copies_of_lz4_reach_into_what_they_write() {
    let begin = ".version 9.0\n.target sm_80\n.entry one() { exit; }\n//";
    let text = format!("{begin}{}.version 9.0", "-".repeat(300));
    let mut block = vec![0xff, (begin.len() + 1 - 15) as u8];
    block.extend(begin.bytes().chain([b'-']));
    // 299 more of the last byte: 4, 15, 255 and 25.
    block.extend([1, 0, 255, 25]);
    // No byte as it is, and 12 from the beginning.
    let distance = (text.len() - 12) as u16;
    block.push(8);
    block.extend(distance.to_le_bytes());
    let image = |block: &[u8], unpacked: usize| {
        let mut image = fat(&[Part { packing: Packing::Lz4, ..ptx_part(80, "", "other") }]);
        image.truncate(16 + 64);
        image.extend(block);
        image[8..16].copy_from_slice(&(64 + block.len() as u64).to_le_bytes());
        image[24..32].copy_from_slice(&(block.len() as u64).to_le_bytes());
        image[32..36].copy_from_slice(&(block.len() as u32).to_le_bytes());
        image[72..80].copy_from_slice(&(unpacked as u64).to_le_bytes());
        image
    };
    assert_eq!(taken(&image(&block, text.len()), (8, 0)).as_deref(), Some("one"));
    for length in [0, text.len() - 1, text.len() + 1, 1 << 40] {
        let error = read(&image(&block, length), (8, 0)).expect_err("another length");
        assert!(matches!(error, Error::Invalid(_)), "{length}: {error}");
    }
    let at = block.len() - 2;
    for distance in [0, text.len() as u16 - 11] {
        block[at..].copy_from_slice(&distance.to_le_bytes());
        let error = read(&image(&block, text.len()), (8, 0)).expect_err("nothing is there");
        assert!(matches!(error, Error::Invalid(_)), "{distance}: {error}");
    }
}

#[test]
fn parts_of_other_kinds_are_passed_over() {
    let other = Part { kind: 8, ..machine_part(90, "other") };
    assert_eq!(taken(&fat(&[other.clone(), ptx_part(80, "", "one")]), (9, 0)).as_deref(), Some("one"));
    assert_eq!(taken(&fat(&[other]), (9, 0)), None);
    assert_eq!(taken(&fat(&[]), (9, 0)), None);
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let wrong = |image: &[u8]| match read(image, (9, 0)).expect_err("it is wrong") {
        Error::Invalid(what) => what,
        other => panic!("{other}"),
    };
    let said = wrong(&fat(&[Part { number: 90, ..machine_part(80, "one") }]));
    assert!(said.contains("for sm_90 says that it is for sm_80"), "{said}");

    let whole = fat(&[Part { packing: Packing::Zstd, ..machine_part(90, "one") }]);
    let said = wrong(&whole[..whole.len() - 1]);
    assert!(said.contains("has been cut off"), "{said}");
    // The length unpacked, then the length packed, and the length with what fills up.
    for (at, value) in [(72, 7_u64), (72, 1 << 40), (32, 3), (32, 1 << 31), (24, 1 << 40)] {
        let mut image = whole.clone();
        let bytes = if at == 32 { 4 } else { 8 };
        image[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
        let said = wrong(&image);
        assert!(said.contains("is damaged"), "{at}: {said}");
    }
}

/// A frame of a few bytes that asks for a window of gigabytes.
#[test]
fn no_memory_is_taken_for_what_a_damaged_frame_asks() {
    let mut frame = made::zstd(b"x");
    frame[5..9].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut image = fat(&[Part { packing: Packing::Zstd, ..machine_part(90, "one") }]);
    image[80..80 + frame.len()].copy_from_slice(&frame);
    assert!(matches!(read(&image, (9, 0)), Err(Error::Invalid(_))));
}
