//! Machine code: an ELF file, with what each kernel takes in its attributes and in the sizes of its sections.

use super::elf::{Elf, Symbol};
use super::info::{Attribute, attributes};
use super::target::{Scope, Target};
use super::{Error, Image, Kernel, Kind, MOST_THREADS, Parameter};
use std::collections::BTreeMap;

/// The version of the interface from which on the flags of the header are laid out anew.
const NEW_FLAGS: u8 = 8;

/// What a symbol is if it is a function, and one of CUDA's bits of it if it is a kernel.
const FUNCTION: u8 = 2;
const ENTRY: u8 = 0x10;

/// Shared memory that the system has at the beginning of each block's, and counts with the kernel's, from sm_90 on.
const SYSTEM_SHARED: u64 = 1024;

/// The section that is there where it does so.
const SYSTEM_SECTION: &str = ".nv.shared.reserved.0";

/// The attribute of `.nv.compat` that says that the code runs on no other card.
const ALONE: [u8; 3] = [2, 9, 1];

/// The image of these bytes, and what it is for.
pub fn read(bytes: &[u8]) -> Result<(Image, Target), Error> {
    let elf = Elf::read(bytes)?;
    let target = target(&elf);
    let global = section_attributes(&elf, ".nv.info")?;
    let (mut registers, mut stacks) = (BTreeMap::new(), BTreeMap::new());
    for attribute in global {
        match attribute {
            Attribute::Registers { symbol, count } => {
                registers.insert(symbol, count);
            }
            Attribute::Stack { symbol, bytes } => {
                let stack: &mut u32 = stacks.entry(symbol).or_default();
                *stack = bytes.max(*stack);
            }
            _ => {}
        }
    }
    let mut image = Image { kernels: BTreeMap::new(), architecture: target.version, release: None };
    for symbol in elf.symbols()? {
        if symbol.info & 15 != FUNCTION || symbol.other & ENTRY == 0 {
            continue;
        }
        let facts = Facts::read(&elf, &symbol)?;
        let missing =
            |what| Error::invalid(format!("the machine code of {} does not say {what}", symbol.name));
        let kernel = Kernel {
            name: symbol.name.to_owned(),
            parameters: facts.parameters,
            static_shared_bytes: shared_bytes(&elf, symbol.name)?,
            registers: *registers.get(&symbol.index).ok_or_else(|| missing("how many registers it has"))?,
            max_threads: facts.max_threads,
            local_bytes: *stacks.get(&symbol.index).ok_or_else(|| missing("how large its stack is"))?,
            architecture: target.version,
            kind: Kind::Machine,
        };
        kernel.check()?;
        image.release = image.release.max(facts.release);
        if image.kernels.insert(symbol.name.to_owned(), kernel).is_some() {
            return Err(Error::invalid(format!("the machine code has two kernels {}", symbol.name)));
        }
    }
    Ok((image, target))
}

/// What the header says that the code is for.
fn target(elf: &Elf<'_>) -> Target {
    let new = elf.interface >= NEW_FLAGS;
    let number = if new { elf.flags >> 8 } else { elf.flags } & 0xff;
    // nvcc 12 says in a flag that it runs on no other card, nvcc 13 in a section, of attributes that all have four
    // bytes up to that one.
    let flag = if new { 0x8 } else { 0x800 };
    let said = elf.section(".nv.compat").map_or(&[][..], |section| section.bytes);
    let alone = elf.flags & flag != 0 || said.chunks_exact(4).any(|attribute| attribute.starts_with(&ALONE));
    let scope = if alone { Scope::Alone } else { Scope::Later };
    Target::of(number, scope)
}

fn section_attributes(elf: &Elf<'_>, name: &str) -> Result<Vec<Attribute>, Error> {
    let section = elf.section(name).and_then(|section| attributes(section.bytes));
    section.ok_or_else(|| {
        Error::invalid(format!("the section {name} of the machine code is missing or damaged"))
    })
}

/// The static shared memory of a kernel.
fn shared_bytes(elf: &Elf<'_>, kernel: &str) -> Result<u32, Error> {
    let size = elf.section(&format!(".nv.shared.{kernel}")).map_or(0, |section| section.size);
    let system = if size > 0 && elf.section(SYSTEM_SECTION).is_some() { SYSTEM_SHARED } else { 0 };
    let own = size.checked_sub(system).and_then(|size| u32::try_from(size).ok());
    own.ok_or_else(|| {
        Error::invalid(format!("the machine code of {kernel} has {size} bytes of shared memory"))
    })
}

/// What the attributes of a kernel say.
struct Facts {
    parameters: Vec<Parameter>,
    max_threads: u32,
    release: Option<(u32, u32)>,
}

impl Facts {
    fn read(elf: &Elf<'_>, symbol: &Symbol<'_>) -> Result<Facts, Error> {
        let name = symbol.name;
        if elf.section(&format!(".text.{name}")).is_none_or(|section| section.bytes.is_empty()) {
            return Err(Error::invalid(format!("the machine code has no instructions of {name}")));
        }
        let mut facts = Facts { parameters: Vec::new(), max_threads: MOST_THREADS, release: None };
        let (mut parameters, mut sizes, mut bank) = (Vec::new(), Vec::new(), None);
        for attribute in section_attributes(elf, &format!(".nv.info.{name}"))? {
            match attribute {
                Attribute::Threads(axes) => {
                    let threads = axes.into_iter().try_fold(1_u32, |product, axis| product.checked_mul(axis));
                    let threads = threads.filter(|&threads| threads > 0);
                    let none = || Error::invalid(format!("the launch bounds of {name} are {axes:?}"));
                    facts.max_threads = facts.max_threads.min(threads.ok_or_else(none)?);
                }
                Attribute::Parameter(number, parameter) => parameters.push((number, parameter)),
                Attribute::ParametersSize(size) => sizes.push(u32::from(size)),
                Attribute::Bank { offset, bytes } => {
                    sizes.push(bytes.into());
                    bank = Some(u64::from(offset) + u64::from(bytes));
                }
                Attribute::CudaVersion(version) => {
                    facts.release = facts.release.max(Some((version / 10, version % 10)));
                }
                _ => {}
            }
        }
        // nvcc writes the last one first.
        parameters.sort_by_key(|&(number, _)| number);
        let end = parameters_end(&parameters);
        let agree =
            end.is_some_and(|end| sizes.iter().all(|&size| size == end) && sizes.is_empty() == (end == 0));
        if !agree {
            return Err(Error::invalid(format!(
                "the parameters of {name} are {parameters:?}, and said to have {sizes:?} bytes"
            )));
        }
        let constants = elf.section(&format!(".nv.constant0.{name}")).map_or(0, |section| section.size);
        if bank.is_some_and(|end| end > constants) {
            return Err(Error::invalid(format!(
                "the bank of constants of {name} has no place for its parameters"
            )));
        }
        facts.parameters = parameters.into_iter().map(|(_, parameter)| parameter).collect();
        Ok(facts)
    }
}

/// Where the last of the parameters ends; `None` where they are not numbered from 0 on or lie over one another.
fn parameters_end(parameters: &[(u16, Parameter)]) -> Option<u32> {
    let mut end = 0_u32;
    for (expected, (number, parameter)) in parameters.iter().enumerate() {
        if usize::from(*number) != expected || parameter.offset < end || parameter.bytes == 0 {
            return None;
        }
        end = parameter.offset.checked_add(parameter.bytes)?;
    }
    Some(end)
}
