//! What `cuModuleLoadData` is given: the kernels in it, and what each of them takes.
//!
//! An image is a fat binary (`fatbin.rs`), which holds the same code for several architectures, or one of these alone:
//! machine code as an ELF file (`cubin.rs`, `elf.rs`, `info.rs`), or PTX (`ptx.rs`), text that the driver compiles.
//! Nothing of it is documented but PTX and ELF; the rest is what nvcc 12.8 and 13.0 write, as nvdisasm names it.
//!
//! An image can be damaged: every number in it is checked before it is used, and the worst of bytes give an [`Error`].

mod bytes;
mod cubin;
mod elf;
mod fatbin;
mod info;
mod lz4;
mod pointer;
mod ptx;
mod ptx_text;
mod target;

pub use pointer::bytes_at;

use std::collections::BTreeMap;
use std::fmt;
use target::Target;

/// A parameter of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// Where it begins among the bytes of all parameters.
    pub offset: u32,
    /// Its size.
    pub bytes: u32,
}

/// What the code of a kernel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Machine code.
    Machine,
    /// PTX.
    Ptx {
        /// Whether it does nothing but return: on its architecture the kernel was compiled away.
        empty_body: bool,
    },
}

/// A kernel of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Its name.
    pub name: String,
    /// Its parameters in their order.
    pub parameters: Vec<Parameter>,
    /// Shared memory that a block has without asking, in bytes.
    pub static_shared_bytes: u32,
    /// Registers of a thread. Those of PTX are not known before it is compiled: 0.
    pub registers: u32,
    /// The most threads that a block may have: the launch bounds, else 1024.
    pub max_threads: u32,
    /// Local memory of a thread, its stack included, in bytes.
    pub local_bytes: u32,
    /// The compute capability that the code was made for.
    pub architecture: (u32, u32),
    /// What the code is.
    pub kind: Kind,
}

impl Kernel {
    /// Fails where it takes more than any card can give.
    fn check(&self) -> Result<(), Error> {
        let last = self.parameters.last();
        // Both are from numbers of four bytes.
        let parameters = last.map_or(0, |last| u64::from(last.offset) + u64::from(last.bytes));
        let limits = [
            ("registers", self.registers.into(), MOST_REGISTERS),
            ("bytes of parameters", parameters, MOST_PARAMETERS),
            ("bytes of local memory", self.local_bytes.into(), MOST_LOCAL),
            ("bytes of static shared memory", self.static_shared_bytes.into(), MOST_SHARED),
        ];
        match limits.into_iter().find(|&(_, taken, most)| taken > u64::from(most)) {
            Some((what, taken, most)) => Err(Error::invalid(format!(
                "{} takes {taken} {what}, and no kernel can have more than {most}",
                self.name
            ))),
            None => Ok(()),
        }
    }
}

/// The code that a card takes from an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its kernels by their names.
    pub kernels: BTreeMap<String, Kernel>,
    /// The compute capability that the code was made for.
    pub architecture: (u32, u32),
    /// The release of CUDA that it belongs to, where it says so. A driver takes PTX of its own release and of those
    /// before it, and machine code of its own major release and of those before it.
    pub release: Option<(u32, u32)>,
}

/// Why an image cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// It is damaged, or it is no image.
    Invalid(String),
    /// It has no code for this card.
    NoBinary {
        /// The card's compute capability.
        card: (u32, u32),
        /// What it has code for, as `sm_90` for machine code and `compute_80` for PTX.
        held: Vec<String>,
    },
}

impl Error {
    fn invalid(what: impl Into<String>) -> Error {
        Error::Invalid(what.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Invalid(what) => {
                write!(formatter, "this is no image of kernels that can be loaded: {what}; build it again")
            }
            Error::NoBinary { card: (major, minor), held } => write!(
                formatter,
                "the image has code for {}, and none of it runs on a card of compute capability {major}.{minor}; \
                 build it for that one too",
                if held.is_empty() { "nothing".to_owned() } else { held.join(", ") }
            ),
        }
    }
}

impl std::error::Error for Error {}

/// The most threads that a block of any kernel may have.
const MOST_THREADS: u32 = 1024;

/// What a kernel can take at most, in bytes but for registers: registers, parameters, local memory of a thread, and as
/// much shared memory as a multiprocessor has memory.
const MOST_REGISTERS: u32 = 255;
const MOST_PARAMETERS: u32 = 32_764;
const MOST_LOCAL: u32 = 512 << 10;
const MOST_SHARED: u32 = 256 << 10;

/// How many bytes an image may have, packed or not. One of natv2's has 5 MB; only damaged ones want so many.
const MOST_BYTES: u64 = 1 << 28;

/// The code that a card of this compute capability takes, and its kernels.
///
/// It takes machine code of its own major compute capability, of the highest minor one that is not above its own;
/// where there is none it takes PTX, of the highest version that is not above its own. Code for one card alone, as
/// `sm_90a`, runs on no other.
///
/// # Errors
/// [`Error::Invalid`] where the image, or the part of it that the card would take, cannot be read;
/// [`Error::NoBinary`] where no part of it is for this card.
pub fn read(bytes: &[u8], card: (u32, u32)) -> Result<Image, Error> {
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Error::invalid(format!("it has {} bytes, more than any image", bytes.len())));
    }
    if bytes.starts_with(&fatbin::MAGIC) {
        return match fatbin::choose(bytes, card)? {
            fatbin::Code::Machine(code, wanted) => checked(cubin::read(&code)?, wanted),
            fatbin::Code::Ptx(code, wanted) => checked(ptx::read(&code)?, wanted),
        };
    }
    let (image, runs, name) = if bytes.starts_with(&elf::MAGIC) {
        let (image, target) = cubin::read(bytes)?;
        (image, target.machine_code_runs_on(card), target.name("sm_"))
    } else {
        let (image, target) = ptx::read(bytes)?;
        (image, target.ptx_runs_on(card), target.name("compute_"))
    };
    if runs { Ok(image) } else { Err(Error::NoBinary { card, held: vec![name] }) }
}

/// The image of a part of a fat binary, which must be what the fat binary says that it is for.
fn checked((image, target): (Image, Target), wanted: Target) -> Result<Image, Error> {
    if target.version == wanted.version {
        return Ok(image);
    }
    Err(Error::invalid(format!(
        "what the fat binary holds for {} says that it is for {}",
        wanted.name("sm_"),
        target.name("sm_")
    )))
}
