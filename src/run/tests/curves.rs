//! Tests of the curves, against a reader of event files written from the format's description alone:
//! CRCs bit by bit, and a walk over any protocol buffer.

use proptest::prelude::*;

use super::*;

/// A file's scalars by step, in order. Panics where the file is not as TensorBoard wants it.
pub(super) fn scalars(bytes: &[u8]) -> Vec<(u64, Vec<(String, f32)>)> {
    let mut events = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (head, tail) = rest.split_at(12);
        let length = u64::from_le_bytes(head[..8].try_into().unwrap()) as usize;
        assert_eq!(mask(crc(&head[..8])), u32::from_le_bytes(head[8..].try_into().unwrap()));
        let (event, tail) = tail.split_at(length);
        let (check, tail) = tail.split_at(4);
        assert_eq!(mask(crc(event)), u32::from_le_bytes(check.try_into().unwrap()));
        events.push(fields(event));
        rest = tail;
    }
    let header = events.remove(0);
    assert!(header.iter().any(|(number, field)| *number == 3 && field.bytes() == b"brain.Event:2"));
    let scalars = |event: Vec<(u64, Field)>| {
        let time = event.iter().find(|(number, _)| *number == 1).unwrap();
        assert!(matches!(time.1, Field::Fixed64(bits) if f64::from_bits(bits) > 1.6e9));
        let step = event.iter().find(|(number, _)| *number == 2).map_or(0, |(_, field)| field.number());
        let summary = event.iter().find(|(number, _)| *number == 5).unwrap();
        let values = fields(summary.1.bytes()).into_iter().map(|(number, value)| {
            assert_eq!(number, 1);
            let value = fields(value.bytes());
            let [(1, tag), (2, Field::Fixed32(bits))] = &value[..] else { panic!("{value:?}") };
            (String::from_utf8(tag.bytes().to_vec()).unwrap(), f32::from_bits(*bits))
        });
        (step, values.collect())
    };
    events.into_iter().map(scalars).collect()
}

#[derive(Debug)]
enum Field {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(Vec<u8>),
}

impl Field {
    fn bytes(&self) -> &[u8] {
        let Field::Bytes(bytes) = self else { panic!("{self:?}") };
        bytes
    }

    fn number(&self) -> u64 {
        let &Field::Varint(number) = self else { panic!("{self:?}") };
        number
    }
}

/// The fields of a protocol buffer by number.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte % 128) << shift;
            if byte < 128 {
                return value;
            }
            shift += 7;
        }
    }
    fn take<'a>(bytes: &mut &'a [u8], n: usize) -> &'a [u8] {
        let (head, tail) = bytes.split_at(n);
        *bytes = tail;
        head
    }
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key % 8 {
            0 => Field::Varint(varint(&mut bytes)),
            1 => Field::Fixed64(u64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
            2 => {
                let length = varint(&mut bytes) as usize;
                Field::Bytes(take(&mut bytes, length).to_vec())
            }
            5 => Field::Fixed32(u32::from_le_bytes(take(&mut bytes, 4).try_into().unwrap())),
            other => panic!("wire type {other}"),
        };
        out.push((key / 8, field));
    }
    out
}

/// CRC-32C, bit by bit: reflected polynomial 0x82f63b78.
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

fn mask(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

fn file(dir: &TempDir) -> std::path::PathBuf {
    dir.path().join("tensorboard/train/events.out.tfevents.1.natv2")
}

fn open(dir: &TempDir) -> Curves {
    Curves::open(file(dir).parent().unwrap(), Faulty::recorder()).unwrap()
}

#[test]
fn what_is_added_is_read_back_by_other_code() {
    assert_eq!(crc(b"123456789"), 0xe306_9283);
    let dir = folder();
    let mut curves = open(&dir);
    curves.add(0, &[("loss", 2.5), ("rate", 1e-3)]).unwrap();
    curves.add(300, &[("top1/largest, größte", 95.25)]).unwrap();
    curves.add(1 << 40, &[("loss", f64::NAN)]).unwrap();
    curves.sync().unwrap();
    let read = scalars(&fs::read(file(&dir)).unwrap());
    assert_eq!(read[0], (0, vec![("loss".into(), 2.5), ("rate".into(), 1e-3)]));
    assert_eq!(read[1], (300, vec![("top1/largest, größte".into(), 95.25)]));
    assert_eq!((read[2].0, read[2].1[0].1.is_nan(), read.len()), (1 << 40, true, 3));
    drop(curves);
    let mut again = open(&dir);
    assert_eq!(again.warning(), None);
    again.add((1 << 40) + 1, &[("loss", 1.0)]).unwrap();
    assert_eq!(scalars(&fs::read(file(&dir)).unwrap()).len(), 4);
}

#[test]
fn rewinding_cuts_what_came_after_the_checkpoint() {
    let dir = folder();
    let mut curves = open(&dir);
    let steps =
        || scalars(&fs::read(file(&dir)).unwrap()).into_iter().map(|(step, _)| step).collect::<Vec<_>>();
    for step in [1, 2, 2, 3, 5] {
        curves.add(step, &[("loss", step as f64)]).unwrap();
    }
    assert_eq!((curves.rewind(Some(9)).unwrap(), steps()), (0, vec![1, 2, 2, 3, 5]));
    assert_eq!((curves.rewind(Some(4)).unwrap(), steps()), (1, vec![1, 2, 2, 3]));
    curves.add(5, &[("loss", 0.5)]).unwrap();
    drop(curves);
    let mut curves = open(&dir);
    assert_eq!((curves.rewind(Some(2)).unwrap(), steps()), (2, vec![1, 2, 2]));
    curves.add(3, &[("loss", 0.5)]).unwrap();
    assert_eq!((curves.rewind(None).unwrap(), steps()), (4, vec![]));
    curves.add(0, &[("loss", 0.5)]).unwrap();
    assert_eq!(steps(), [0]);
}

#[test]
fn a_torn_or_damaged_record_and_what_follows_is_removed() {
    let dir = folder();
    let mut curves = open(&dir);
    for step in 0..3 {
        curves.add(step, &[("loss", 1.0)]).unwrap();
    }
    drop(curves);
    let whole = fs::read(file(&dir)).unwrap();
    let record = (whole.len() - 40) / 3;
    for cut in 0..whole.len() {
        fs::write(file(&dir), &whole[..cut]).unwrap();
        let mut curves = open(&dir);
        curves.add(7, &[("loss", 2.0)]).unwrap();
        let steps: Vec<u64> = scalars(&fs::read(file(&dir)).unwrap()).iter().map(|(step, _)| *step).collect();
        assert_eq!(steps.last(), Some(&7));
        assert!(steps.len() <= 3 && steps.len() >= cut.saturating_sub(40) / (record + 1), "{cut}: {steps:?}");
    }
    let mut damaged = whole.clone();
    damaged[whole.len() - 6] ^= 1;
    fs::write(file(&dir), damaged).unwrap();
    let curves = open(&dir);
    assert!(curves.warning().unwrap().contains("no whole records"), "{:?}", curves.warning());
    assert_eq!(scalars(&fs::read(file(&dir)).unwrap()).len(), 2);
}

proptest! {
    #[test]
    fn any_bytes_open_to_a_file_that_is_whole(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let dir = folder();
        fs::create_dir_all(file(&dir).parent().unwrap()).unwrap();
        fs::write(file(&dir), bytes).unwrap();
        let mut curves = open(&dir);
        curves.add(1, &[("loss", 1.0)]).unwrap();
        prop_assert_eq!(scalars(&fs::read(file(&dir)).unwrap()).len(), 1);
    }
}
