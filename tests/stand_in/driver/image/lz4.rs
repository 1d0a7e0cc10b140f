//! LZ4 blocks, as fat binaries hold them where nvcc was told to compress for speed.

use super::bytes::u16_at;

/// The length that begins with these four bits: where they are 15, bytes are added up to the first that is not 255.
fn length(bytes: &[u8], at: &mut usize, first: u8) -> Option<usize> {
    let (mut length, mut last) = (usize::from(first), if first == 15 { 255 } else { 0 });
    while last == 255 {
        last = *bytes.get(*at)?;
        *at += 1;
        length = length.checked_add(usize::from(last))?;
    }
    Some(length)
}

/// What a block holds, which must be `wanted` bytes; `None` where it is damaged.
///
/// A block is a row of sequences: bytes that stand there, then a copy of some that came before. The last has no copy.
pub fn unpack(bytes: &[u8], wanted: usize) -> Option<Vec<u8>> {
    let (mut at, mut unpacked) = (0, Vec::new());
    while let Some(&token) = bytes.get(at) {
        at += 1;
        let literals = length(bytes, &mut at, token >> 4)?;
        let end = at.checked_add(literals)?;
        unpacked.extend_from_slice(bytes.get(at..end)?);
        at = end;
        if at == bytes.len() {
            break;
        }
        let distance = usize::from(u16_at(bytes, at)?);
        at += 2;
        // Copies shorter than four bytes are not worth it.
        let copied = length(bytes, &mut at, token & 15)?.checked_add(4)?;
        let start = unpacked.len().checked_sub(distance).filter(|_| distance > 0)?;
        if unpacked.len().checked_add(copied)? > wanted {
            return None;
        }
        // A copy may reach into what it writes.
        for from in start..start + copied {
            let byte = *unpacked.get(from)?;
            unpacked.push(byte);
        }
    }
    (unpacked.len() == wanted).then_some(unpacked)
}
