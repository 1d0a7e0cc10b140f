//! The bytes of an image of which a program gives nothing but the beginning.

use super::{Error, MOST_BYTES, elf, fatbin};
use std::slice;

/// What the structure begins with that nvcc puts before a fat binary in a program.
const WRAPPER: [u8; 4] = 0x4662_43b1_u32.to_le_bytes();

/// The version of it of which the fat binary is whole, and not to be linked first.
const WHOLE: u32 = 1;

/// That structure.
#[repr(C)]
struct Wrapper {
    magic: [u8; 4],
    version: u32,
    data: *const u8,
    file: *const u8,
}

/// The bytes of the image that begins there: a fat binary, or the structure that leads to one; machine code; or PTX,
/// up to the NUL behind it, which is left out.
///
/// # Errors
/// [`Error::Invalid`] where it is none of these.
///
/// # Safety
/// `start` is null or an image begins there whose bytes stay as they are for `'a`. What the image says of its length
/// is believed. Where something else than an image begins there, it can be read up to its first byte that is no text.
pub unsafe fn bytes_at<'a>(start: *const u8) -> Result<&'a [u8], Error> {
    if start.is_null() {
        return Err(Error::invalid("it is a null pointer"));
    }
    // SAFETY: the caller's; each looks no further than what it looks for is there.
    let (wrapper, fat, machine) =
        unsafe { (begins(start, WRAPPER), begins(start, fatbin::MAGIC), begins(start, elf::MAGIC)) };
    if wrapper {
        // SAFETY: the structure is there, at any address.
        let wrapper = unsafe { start.cast::<Wrapper>().read_unaligned() };
        // SAFETY: it leads to an image.
        let leads = wrapper.version == WHOLE
            && !wrapper.data.is_null()
            && unsafe { begins(wrapper.data, fatbin::MAGIC) };
        if !leads {
            return Err(Error::invalid("a structure around a fat binary does not lead to one"));
        }
        // SAFETY: a fat binary begins there.
        return unsafe { whole_fatbin(wrapper.data) };
    }
    // SAFETY: a fat binary, an ELF file, or something else begins there.
    unsafe {
        match (fat, machine) {
            (true, _) => whole_fatbin(start),
            (_, true) => whole_elf(start),
            _ => whole_text(start),
        }
    }
}

/// Whether these bytes are there.
///
/// # Safety
/// The first byte can be read, and each behind one that is as it should be.
unsafe fn begins(start: *const u8, magic: [u8; 4]) -> bool {
    // SAFETY: `all` stops at the first that differs.
    magic.iter().enumerate().all(|(offset, &byte)| unsafe { start.add(offset).read() } == byte)
}

/// So many bytes.
///
/// # Safety
/// They can be read, and stay as they are.
unsafe fn first<'a>(start: *const u8, length: u64) -> Result<&'a [u8], Error> {
    match usize::try_from(length) {
        // SAFETY: the caller's.
        Ok(bytes) if length <= MOST_BYTES => Ok(unsafe { slice::from_raw_parts(start, bytes) }),
        _ => Err(Error::invalid(format!("it says that it has {length} bytes, more than any image"))),
    }
}

/// # Safety
/// A fat binary begins there.
unsafe fn whole_fatbin<'a>(start: *const u8) -> Result<&'a [u8], Error> {
    // SAFETY: it has its header, and as many bytes as that says.
    unsafe { first(start, fatbin::length(first(start, fatbin::HEADER as u64)?)?) }
}

/// # Safety
/// An ELF file begins there.
unsafe fn whole_elf<'a>(start: *const u8) -> Result<&'a [u8], Error> {
    // SAFETY: it has its header, and the other headers where that says.
    let headers = unsafe { first(start, elf::headers_end(first(start, elf::HEADER as u64)?)?)? };
    // SAFETY: it has the sections where their headers say.
    unsafe { first(start, elf::end(headers)?) }
}

/// # Safety
/// The bytes up to the first that is no text can be read.
unsafe fn whole_text<'a>(start: *const u8) -> Result<&'a [u8], Error> {
    let mut length = 0_u64;
    loop {
        // SAFETY: all before it is text, and so it can be read; it is not further than `MOST_BYTES`.
        let byte = unsafe { start.add(length as usize).read() };
        let is_text = matches!(byte, b'\t'..=b'\r' | b' '..=b'~' | 0x80..);
        match byte {
            // SAFETY: all of these have been read.
            0 if length > 0 => return unsafe { first(start, length) },
            _ if is_text && length < MOST_BYTES => length += 1,
            _ => return Err(Error::invalid("it begins like no fat binary, no machine code and no PTX")),
        }
    }
}
