//! ELF files: their sections and symbols.

use super::Error;
use super::bytes::{part, u8_at, u16_at, u32_at, u64_at};
use std::collections::BTreeMap;

/// What an ELF file begins with.
pub const MAGIC: [u8; 4] = *b"\x7fELF";

/// The bytes of its header.
pub const HEADER: usize = 64;

/// The bytes of a header of a section, of a header of a segment, and of a symbol.
const SECTION_HEADER: u64 = 64;
const SEGMENT_HEADER: u64 = 56;
const SYMBOL: usize = 24;

/// Kinds of sections: the table of symbols, and one without bytes in the file.
const SYMBOLS: u32 = 2;
const NO_BITS: u32 = 8;

/// The machine that NVIDIA's processors are.
const CUDA: u16 = 190;

/// The longest name. Those of C++ can have a few hundred bytes.
const LONGEST_NAME: usize = 1 << 14;

/// A section.
#[derive(Debug, Clone, Copy)]
pub struct Section<'a> {
    /// How many bytes it has, in the file or not.
    pub size: u64,
    /// Those in the file.
    pub bytes: &'a [u8],
    kind: u32,
    /// The section with its names, of a table of symbols.
    link: u32,
}

/// A symbol.
#[derive(Debug, Clone, Copy)]
pub struct Symbol<'a> {
    /// Its number in the table.
    pub index: u32,
    /// Its name.
    pub name: &'a str,
    /// What it is, and how it binds.
    pub info: u8,
    /// How it is seen, and what it is to CUDA.
    pub other: u8,
}

/// An ELF file of machine code for CUDA.
#[derive(Debug)]
pub struct Elf<'a> {
    /// The version of the interface, which says what the flags are.
    pub interface: u8,
    /// The flags of the header.
    pub flags: u32,
    sections: Vec<Section<'a>>,
    numbers: BTreeMap<&'a str, usize>,
}

fn damaged(what: &str) -> Error {
    Error::invalid(format!("{what} of the machine code, an ELF file, is damaged"))
}

/// The headers of the sections, and the number of the section with their names.
fn headers(bytes: &[u8]) -> Option<(impl Iterator<Item = &[u8]> + Clone, u16)> {
    let (offset, count, names) = (u64_at(bytes, 40)?, u16_at(bytes, 60)?, u16_at(bytes, 62)?);
    let headers = part(bytes, offset, u64::from(count) * SECTION_HEADER)?;
    Some((headers.chunks_exact(SECTION_HEADER as usize), names))
}

/// Where the headers of an ELF file end, from the bytes of its first one.
pub fn headers_end(header: &[u8]) -> Result<u64, Error> {
    let end = || {
        let (segments, sections) = (u64_at(header, 32)?, u64_at(header, 40)?);
        let (segment_count, section_count) = (u16_at(header, 56)?, u16_at(header, 60)?);
        let segments = segments.checked_add(u64::from(segment_count) * SEGMENT_HEADER)?;
        let sections = sections.checked_add(u64::from(section_count) * SECTION_HEADER)?;
        Some(segments.max(sections).max(HEADER as u64))
    };
    end().ok_or_else(|| damaged("the header"))
}

/// Where the last header or section of an ELF file ends, from its bytes up to [`headers_end`].
pub fn end(bytes: &[u8]) -> Result<u64, Error> {
    let end = || {
        let mut end = bytes.len() as u64;
        for header in headers(bytes)?.0 {
            if u32_at(header, 4)? != NO_BITS {
                end = end.max(u64_at(header, 24)?.checked_add(u64_at(header, 32)?)?);
            }
        }
        Some(end)
    };
    end().ok_or_else(|| damaged("the table of sections"))
}

/// The name at an offset of a section of names.
fn name_at(names: &[u8], offset: u32) -> Option<&str> {
    let rest = names.get(usize::try_from(offset).ok()?..)?;
    let length = rest.iter().take(LONGEST_NAME).position(|&byte| byte == 0)?;
    std::str::from_utf8(rest.get(..length)?).ok()
}

impl<'a> Elf<'a> {
    /// The file of these bytes.
    pub fn read(bytes: &'a [u8]) -> Result<Elf<'a>, Error> {
        // 64 bits, the low byte first, and a program for CUDA.
        let known = bytes.starts_with(&MAGIC) && bytes.get(4..6) == Some(&[2, 1]);
        if !known || u16_at(bytes, 18) != Some(CUDA) {
            return Err(Error::invalid("it is an ELF file, and not one of machine code for CUDA"));
        }
        let (Some(interface), Some(flags)) = (u8_at(bytes, 8), u32_at(bytes, 48)) else {
            return Err(damaged("the header"));
        };
        let (sections, numbers) = sections(bytes).ok_or_else(|| damaged("the table of sections"))?;
        Ok(Elf { interface, flags, sections, numbers })
    }

    /// The section of a name.
    pub fn section(&self, name: &str) -> Option<&Section<'a>> {
        self.sections.get(*self.numbers.get(name)?)
    }

    /// The symbols.
    pub fn symbols(&self) -> Result<Vec<Symbol<'a>>, Error> {
        let all = self.sections.iter().find(|section| section.kind == SYMBOLS);
        let found = all.and_then(|table| {
            let names = self.sections.get(usize::try_from(table.link).ok()?)?.bytes;
            let symbol = |(index, bytes): (usize, &'a [u8])| {
                let (name, info, other) = (u32_at(bytes, 0)?, u8_at(bytes, 4)?, u8_at(bytes, 5)?);
                Some(Symbol { index: u32::try_from(index).ok()?, name: name_at(names, name)?, info, other })
            };
            table.bytes.chunks_exact(SYMBOL).enumerate().map(symbol).collect()
        });
        found.ok_or_else(|| damaged("the table of symbols"))
    }
}

type Sections<'a> = (Vec<Section<'a>>, BTreeMap<&'a str, usize>);

fn sections(bytes: &[u8]) -> Option<Sections<'_>> {
    let (headers, names) = headers(bytes)?;
    let section = |header| {
        let (kind, offset, size) = (u32_at(header, 4)?, u64_at(header, 24)?, u64_at(header, 32)?);
        let link = u32_at(header, 40)?;
        let contents = if kind == NO_BITS { &[] } else { part(bytes, offset, size)? };
        Some(Section { size, bytes: contents, kind, link })
    };
    let sections: Vec<Section> = headers.clone().map(section).collect::<Option<_>>()?;
    let names = sections.get(usize::from(names))?.bytes;
    let mut numbers = BTreeMap::new();
    for (number, header) in headers.enumerate() {
        numbers.entry(name_at(names, u32_at(header, 0)?)?).or_insert(number);
    }
    Some((sections, numbers))
}
