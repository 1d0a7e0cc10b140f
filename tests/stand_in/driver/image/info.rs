//! The attributes that machine code has in its sections `.nv.info`: what a kernel takes.
//!
//! An attribute is a byte that says how its value is written, one that says what it is, and the value.

use super::Parameter;
use super::bytes::{u8_at, u16_at, u32_at};

/// How values are written: not at all, as a byte, as two, or as so many as two bytes say. All fill up to four.
const NOTHING: u8 = 1;
const BYTE: u8 = 2;
const HALF: u8 = 3;
const SIZED: u8 = 4;

/// What attributes are, by nvdisasm's names: `MAX_THREADS`, `PARAM_CBANK`, `REQNTID`, `FRAME_SIZE`, `MIN_STACK_SIZE`,
/// `KPARAM_INFO`, `CBANK_PARAM_SIZE`, `REGCOUNT`, `CUDA_API_VERSION`, `KPARAM_INFO_V2`.
const MAX_THREADS: u8 = 0x05;
const PARAMETER_BANK: u8 = 0x0a;
const REQUIRED_THREADS: u8 = 0x10;
const FRAME_SIZE: u8 = 0x11;
const STACK_SIZE: u8 = 0x12;
const PARAMETER: u8 = 0x17;
const PARAMETERS_SIZE: u8 = 0x19;
const REGISTERS: u8 = 0x2f;
const CUDA_VERSION: u8 = 0x37;
const PARAMETER_AGAIN: u8 = 0x45;

/// What an attribute says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute {
    /// The most threads of a block, or just how many it must have, along each axis.
    Threads([u32; 3]),
    /// Where the parameters are in the bank of constants of the kernel, and how many bytes they have.
    Bank { offset: u16, bytes: u16 },
    /// How many bytes the parameters have.
    ParametersSize(u16),
    /// A parameter of the kernel, with its number.
    Parameter(u16, Parameter),
    /// The registers of a symbol.
    Registers { symbol: u32, count: u32 },
    /// The stack of a symbol, its own or the whole of it.
    Stack { symbol: u32, bytes: u32 },
    /// The release of CUDA, ten times the major one and the minor one.
    CudaVersion(u32),
    /// Anything else.
    Other,
}

/// The attributes of a section; `None` where it is damaged.
pub fn attributes(bytes: &[u8]) -> Option<Vec<Attribute>> {
    let (mut found, mut at) = (Vec::new(), 0);
    // What is behind the last one fills up.
    while bytes.len().saturating_sub(at) >= 4 {
        let (format, what) = (u8_at(bytes, at)?, u8_at(bytes, at + 1)?);
        let (value, next) = match format {
            NOTHING => (&[][..], at + 4),
            BYTE => (bytes.get(at + 2..at + 3)?, at + 4),
            HALF => (bytes.get(at + 2..at + 4)?, at + 4),
            SIZED => {
                let end = at + 4 + usize::from(u16_at(bytes, at + 2)?);
                (bytes.get(at + 4..end)?, end.next_multiple_of(4))
            }
            _ => return None,
        };
        found.push(attribute(what, value)?);
        at = next;
    }
    Some(found)
}

fn attribute(what: u8, value: &[u8]) -> Option<Attribute> {
    let word = |number: usize| u32_at(value, 4 * number);
    Some(match what {
        MAX_THREADS | REQUIRED_THREADS => Attribute::Threads([word(0)?, word(1)?, word(2)?]),
        PARAMETER_BANK => Attribute::Bank { offset: u16_at(value, 4)?, bytes: u16_at(value, 6)? },
        PARAMETERS_SIZE => Attribute::ParametersSize(u16_at(value, 0)?),
        PARAMETER | PARAMETER_AGAIN => {
            // Behind the offset is a word with the size in its upper 14 bits, or the size, which can be more.
            let bytes = if what == PARAMETER { word(2)? >> 18 } else { u16_at(value, 8)?.into() };
            Attribute::Parameter(u16_at(value, 4)?, Parameter { offset: u16_at(value, 6)?.into(), bytes })
        }
        REGISTERS => Attribute::Registers { symbol: word(0)?, count: word(1)? },
        FRAME_SIZE | STACK_SIZE => Attribute::Stack { symbol: word(0)?, bytes: word(1)? },
        CUDA_VERSION => Attribute::CudaVersion(word(0)?),
        _ => Attribute::Other,
    })
}
