//! Memory of the cards, and pinned memory of the host.
//!
//! Both are pieces of one stretch of addresses that is reserved and cannot be touched. A piece can be touched from its
//! allocation to its release; its end lies at a page that cannot, and its addresses are never given out again. So an
//! access behind the end, or after the release, stops the process (`crash`).

use natv2::device::emulated::POISON;
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Bytes that allocations begin at a multiple of.
const ALIGNMENT: usize = 256;
/// Bytes of a page of the machine.
const PAGE: usize = 4096;
/// Bytes of all addresses that are reserved.
const RESERVED: usize = 1 << 40;
/// Where they are to lie. The parameters of kernels are searched for addresses, and halves of words among them hold
/// numbers, or whatever was there before where a struct has a gap. So the upper half of an address is a rare number ..
const WANTED: usize = 0x6b51_0000_0000;
/// .. and the lower half is one of these, which are larger than counts, and rare as f32.
const LOWER: std::ops::Range<usize> = 0xc800_0000..0xff00_0000;

/// The addresses that are reserved.
struct Space {
    base: usize,
    next: Mutex<usize>,
}

/// Reserved when memory is first asked for; `None` where the system does not do it.
fn space() -> Option<&'static Space> {
    static SPACE: OnceLock<Option<Space>> = OnceLock::new();
    let reserve = || {
        let base = map(WANTED, RESERVED, 0)?;
        Some(Space { base, next: Mutex::new(base) })
    };
    SPACE.get_or_init(reserve).as_ref()
}

/// Maps memory that cannot be touched; the address.
fn map(at: usize, bytes: usize, flags: libc::c_int) -> Option<usize> {
    let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: without MAP_FIXED nothing that is there is touched; with it `at` is of a piece that was mapped here.
    let mapped = unsafe { libc::mmap(at as *mut _, bytes, libc::PROT_NONE, flags, -1, 0) };
    (mapped != libc::MAP_FAILED).then_some(mapped as usize)
}

/// The lower half of an address.
fn lower(address: usize) -> usize {
    address & 0xffff_ffff
}

/// Whether a number is an address that may have been given out.
pub fn is_address(number: usize) -> bool {
    let reserved = |space: &Space| (space.base..space.base + RESERVED).contains(&number);
    LOWER.contains(&lower(number)) && space().is_some_and(reserved)
}

/// Where a piece of so many bytes can lie, from `next` on. One that is too large for the lower halves begins at the
/// first of them.
fn place(next: usize, room: usize) -> Option<usize> {
    let first = |address: usize| address - lower(address) + LOWER.start;
    if !LOWER.contains(&lower(next)) {
        return if lower(next) < LOWER.start { Some(first(next)) } else { first(next).checked_add(1 << 32) };
    }
    let fits = room <= LOWER.end - lower(next) || lower(next) == LOWER.start;
    if fits { Some(next) } else { first(next).checked_add(1 << 32) }
}

/// The first and the last of the reserved addresses.
pub fn reserved() -> Option<(usize, usize)> {
    space().map(|space| (space.base, space.base + RESERVED))
}

/// Pieces of memory, by their addresses.
#[derive(Debug, Default)]
pub struct Pieces {
    /// The bytes that were asked for.
    live: BTreeMap<usize, usize>,
}

/// Bytes of the pages that so many bytes take.
fn pages(bytes: usize) -> Option<usize> {
    bytes.checked_next_multiple_of(PAGE)
}

impl Pieces {
    /// A new one, poisoned; `None` where the system has no memory or there are no addresses left.
    pub fn allocate(&mut self, bytes: usize) -> Option<usize> {
        let space = space()?;
        let room = pages(bytes)?;
        let mut next = space.next.lock().unwrap_or_else(PoisonError::into_inner);
        let first = place(*next, room)?;
        let behind = first.checked_add(room)?.checked_add(PAGE)?;
        if behind > space.base + RESERVED {
            eprintln!("stand-in driver: all addresses have been given out once; none is given out twice");
            return None;
        }
        // SAFETY: these pages are reserved, and nobody else has them.
        if unsafe { libc::mprotect(first as *mut _, room, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
            return None;
        }
        let start = first + room - bytes.checked_next_multiple_of(ALIGNMENT)?;
        *next = behind;
        self.live.insert(start, bytes);
        poison(start, bytes);
        Some(start)
    }

    /// Takes one away, from here on nobody may touch it; its bytes, or `None` where none begins there.
    pub fn release(&mut self, start: usize) -> Option<usize> {
        let bytes = self.live.remove(&start)?;
        let first = start / PAGE * PAGE;
        map(first, pages(start + bytes - first)?, libc::MAP_FIXED)?;
        Some(bytes)
    }

    /// Whether a range lies inside one of them.
    pub fn holds(&self, at: usize, bytes: usize) -> bool {
        let behind = |start: usize, room: usize| at - start <= room && bytes <= room - (at - start);
        self.live.range(..=at).next_back().is_some_and(|(&start, &room)| behind(start, room))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.live.len()
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> usize {
        self.live.values().sum()
    }

    /// Releases all.
    pub fn clear(&mut self) {
        while let Some((&start, _)) = self.live.first_key_value() {
            self.release(start);
        }
    }
}

/// Fills memory with [`POISON`].
pub fn poison(start: usize, bytes: usize) {
    let pattern = POISON.to_le_bytes();
    // SAFETY: callers pass memory that is theirs, of that many bytes.
    let memory = unsafe { std::slice::from_raw_parts_mut(start as *mut u8, bytes) };
    for chunk in memory.chunks_mut(pattern.len()) {
        chunk.copy_from_slice(&pattern[..chunk.len()]);
    }
}

/// Whether memory holds nothing but [`POISON`].
pub fn is_poisoned(start: usize, bytes: usize) -> bool {
    let pattern = POISON.to_le_bytes();
    read(start, bytes).chunks(pattern.len()).all(|chunk| *chunk == pattern[..chunk.len()])
}

/// What memory holds.
pub fn read<'a>(start: usize, bytes: usize) -> &'a [u8] {
    // SAFETY: callers pass a range that they have checked, and read before anything else happens.
    unsafe { std::slice::from_raw_parts(start as *const u8, bytes) }
}

/// A number that changes when the memory does.
pub fn hash(start: usize, bytes: usize) -> u32 {
    crc32c::crc32c(read(start, bytes))
}
