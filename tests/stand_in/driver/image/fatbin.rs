//! Fat binaries: the same code for several architectures, each part packed or not.
//!
//! A header of 16 bytes is followed by parts, each with a header of its own: what it is, how long it is, packed and
//! unpacked, and what it is for.

use super::bytes::{part, u16_at, u32_at, u64_at};
use super::target::{Scope, Target};
use super::{Error, MOST_BYTES, lz4};
use ruzstd::decoding::StreamingDecoder;
use std::borrow::Cow;
use std::io::Read;

/// What a fat binary begins with.
pub const MAGIC: [u8; 4] = 0xba55_ed50_u32.to_le_bytes();

/// The bytes of its header, at least.
pub const HEADER: usize = 16;

/// The bytes of a part's header, at least.
const PART_HEADER: u32 = 64;

/// What a part is. Others, such as intermediate code for linking, are passed over.
const PTX: u16 = 1;
const MACHINE_CODE: u16 = 2;

/// Flags of a part.
const LZ4: u64 = 0x2000;
const ZSTD: u64 = 0x8000;
const ALONE: u64 = 0x10_0000;
const FAMILY: u64 = 0x20_0000;

/// The window of a Zstandard frame that is always allowed, as the format advises.
const LEAST_WINDOW: u64 = 8 << 20;

/// The part of a fat binary that a card takes, unpacked.
#[derive(Debug)]
pub enum Code<'a> {
    /// Machine code, and what the fat binary says that it is for.
    Machine(Cow<'a, [u8]>, Target),
    /// PTX, and what the fat binary says that it is for.
    Ptx(Cow<'a, [u8]>, Target),
}

/// A part as it lies there.
#[derive(Debug, Clone, Copy)]
struct Part<'a> {
    kind: u16,
    target: Target,
    flags: u64,
    /// Packed, if it is.
    bytes: &'a [u8],
    unpacked_bytes: u64,
}

/// The bytes of a fat binary, its header included, from the bytes of its header.
pub fn length(header: &[u8]) -> Result<u64, Error> {
    let length = || {
        let (version, header_bytes, size) = (u16_at(header, 4)?, u16_at(header, 6)?, u64_at(header, 8)?);
        let known = header.starts_with(&MAGIC) && version == 1 && usize::from(header_bytes) >= HEADER;
        size.checked_add(header_bytes.into()).filter(|&length| known && length <= MOST_BYTES)
    };
    length().ok_or_else(|| Error::invalid("the header of a fat binary is damaged"))
}

/// The part that a card of this compute capability takes.
pub fn choose(bytes: &[u8], card: (u32, u32)) -> Result<Code<'_>, Error> {
    let parts = parts(bytes)?;
    let of_kind = |kind| parts.iter().filter(move |part| part.kind == kind);
    let machine = of_kind(MACHINE_CODE).filter(|part| part.target.machine_code_runs_on(card));
    if let Some(part) = machine.max_by_key(|part| part.target) {
        return Ok(Code::Machine(part.unpack()?, part.target));
    }
    let ptx = of_kind(PTX).filter(|part| part.target.ptx_runs_on(card));
    if let Some(part) = ptx.max_by_key(|part| part.target) {
        return Ok(Code::Ptx(part.unpack()?, part.target));
    }
    let held = parts.iter().map(|part| part.target.name(if part.kind == PTX { "compute_" } else { "sm_" }));
    Err(Error::NoBinary { card, held: held.collect() })
}

fn parts(bytes: &[u8]) -> Result<Vec<Part<'_>>, Error> {
    let length = length(bytes)?;
    let header = u16_at(bytes, 6).map_or(0, u64::from);
    let Some(mut rest) = part(bytes, header, length.saturating_sub(header)) else {
        return Err(Error::invalid(format!(
            "a fat binary of {length} bytes has been cut off after {}",
            bytes.len()
        )));
    };
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let damaged = || Error::invalid(format!("part {} of a fat binary is damaged", parts.len() + 1));
        let (found, behind) = Part::first(rest).ok_or_else(damaged)?;
        parts.push(found);
        rest = behind;
    }
    parts.retain(|part| part.kind == PTX || part.kind == MACHINE_CODE);
    Ok(parts)
}

impl<'a> Part<'a> {
    /// The first part, and what is behind it.
    fn first(bytes: &'a [u8]) -> Option<(Part<'a>, &'a [u8])> {
        let kind = u16_at(bytes, 0)?;
        let header = u32_at(bytes, 4).filter(|&header| header >= PART_HEADER)?;
        // A multiple of eight, where the packed bytes may be fewer.
        let padded = u64_at(bytes, 8)?;
        let packed = u64::from(u32_at(bytes, 16)?);
        let flags = u64_at(bytes, 40)?;
        let unpacked_bytes = u64_at(bytes, 56)?;
        let scope = match (flags & ALONE != 0, flags & FAMILY != 0) {
            (true, _) => Scope::Alone,
            (_, true) => Scope::Family,
            _ => Scope::Later,
        };
        let target = Target::of(u32_at(bytes, 28)?, scope);
        let payload = part(bytes, header.into(), padded)?;
        let is_packed = flags & (LZ4 | ZSTD) != 0;
        let payload_bytes = if is_packed { part(payload, 0, packed)? } else { payload };
        let behind = bytes.get(usize::try_from(u64::from(header).checked_add(padded)?).ok()?..)?;
        Some((Part { kind, target, flags, bytes: payload_bytes, unpacked_bytes }, behind))
    }

    fn unpack(&self) -> Result<Cow<'a, [u8]>, Error> {
        if self.flags & (LZ4 | ZSTD) == 0 {
            return Ok(Cow::Borrowed(self.bytes));
        }
        let unpacked = self.unpacked_bytes;
        let unpacked = usize::try_from(unpacked).ok().filter(|_| unpacked <= MOST_BYTES).and_then(|wanted| {
            if self.flags & ZSTD != 0 { zstd(self.bytes, wanted) } else { lz4::unpack(self.bytes, wanted) }
        });
        let damaged =
            || Error::invalid(format!("what a fat binary holds for {} is damaged", self.target.name("sm_")));
        unpacked.map(Cow::Owned).ok_or_else(damaged)
    }
}

/// What a Zstandard frame holds, which must be `wanted` bytes; `None` where it is damaged.
fn zstd(bytes: &[u8], wanted: usize) -> Option<Vec<u8>> {
    let wanted_bytes = wanted as u64;
    let window = wanted_bytes.max(LEAST_WINDOW);
    let decoder = StreamingDecoder::new_with_max_window_size(bytes, window).ok()?;
    let mut unpacked = Vec::new();
    // One byte more shows a frame that is too long.
    decoder.take(wanted_bytes + 1).read_to_end(&mut unpacked).ok()?;
    (unpacked.len() == wanted).then_some(unpacked)
}
