//! Streams: queues of work, and when it is done.
//!
//! What is asked of a stream waits in its queue until somebody waits for it: then the work before that point is done,
//! and of other streams what it waits for. That is as late as a card may be. With a seed other than 0 heads of other
//! queues are taken in between, and now and then some work is done before anybody waits, as a card does.
//!
//! Work is done on the thread that waits, one piece at a time.

use crate::context::Context;
use crate::emulator::{self, Launch};
use crate::failures::KERNEL;
use crate::state::Shared;
use crate::{crash, memory};
use cudarc::driver::sys::CUresult;
use rand::RngExt;
use std::collections::VecDeque;
use std::time::Instant;

/// The stream that a null handle names: it and the streams that are not non-blocking wait for each other.
pub const DEFAULT: usize = 0;
/// Queries of work that is not done, after which some is: a card goes on, however late.
const PATIENCE: u64 = 64;

/// The piece of work number `number` of a stream, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    pub stream: usize,
    pub number: u64,
}

/// Where the host's end of a copy to a card is.
#[derive(Debug)]
pub enum Source {
    /// Pinned memory, which the card reads when it comes to it, and the hash of what was there at the call.
    Pinned { from: usize, hash: u32 },
    /// A copy, which the driver makes of memory that is not pinned.
    Copied(Vec<u8>),
}

/// Something to do.
#[derive(Debug)]
pub enum Work {
    Upload {
        to: usize,
        from: Source,
        bytes: usize,
    },
    /// `poisoned`: what is copied to has been filled with poison, so that who reads it too early sees that.
    Download {
        to: usize,
        from: usize,
        bytes: usize,
        poisoned: bool,
    },
    Copy {
        to: usize,
        from: usize,
        bytes: usize,
    },
    Set {
        at: usize,
        value: u8,
        bytes: usize,
    },
    /// A kernel, and the handle of its module.
    Launch {
        launch: Box<Launch>,
        module: usize,
    },
    /// A kernel that does nothing.
    Idle,
    Record {
        event: usize,
    },
    /// Nothing but what it waits for.
    Wait,
}

#[derive(Debug)]
struct Item {
    work: Work,
    /// Is done when all of these are.
    after: Vec<Point>,
}

/// A queue.
#[derive(Debug, Default)]
pub struct Stream {
    queue: VecDeque<Item>,
    asked: u64,
    done: u64,
    /// Waits for the default stream, and that for it.
    pub blocking: bool,
    /// Whether its handle is still good. Its work goes on.
    pub open: bool,
    queries: u64,
}

impl Stream {
    /// A stream without work.
    pub fn new(blocking: bool) -> Stream {
        Stream { blocking, open: true, ..Stream::default() }
    }

    /// Whether nothing is left to do.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Forgets its work, as a card does that has failed.
    pub fn forget(&mut self) {
        self.queue.clear();
        self.done = self.asked;
    }

    /// The pieces of work that are still to be done.
    pub fn waiting(&self) -> impl Iterator<Item = &Work> {
        self.queue.iter().map(|item| &item.work)
    }
}

impl Work {
    /// Whether it reads or writes that range of pinned memory.
    pub fn touches(&self, start: usize, bytes: usize) -> bool {
        let (at, length) = match self {
            Work::Upload { from: Source::Pinned { from, .. }, bytes, .. } => (*from, *bytes),
            Work::Download { to, bytes, .. } => (*to, *bytes),
            _ => return false,
        };
        at < start + bytes && start < at + length
    }
}

impl Context {
    /// Puts work behind what was asked of the stream before; the point behind it.
    pub fn ask(&mut self, stream: usize, work: Work, mut after: Vec<Point>) -> Result<Point, CUresult> {
        let waits_for_default = match self.streams.get(&stream) {
            Some(found) if found.open => found.blocking,
            _ => return Err(CUresult::CUDA_ERROR_INVALID_HANDLE),
        };
        if stream == DEFAULT {
            let blocking = self.streams.iter().filter(|(id, other)| **id != DEFAULT && other.blocking);
            after.extend(blocking.map(|(&id, other)| Point { stream: id, number: other.asked }));
        } else if waits_for_default && let Some(default) = self.streams.get(&DEFAULT) {
            after.push(Point { stream: DEFAULT, number: default.asked });
        }
        after.retain(|point| !self.is_done(*point));
        let found = self.streams.get_mut(&stream).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?;
        found.queue.push_back(Item { work, after });
        found.asked += 1;
        Ok(Point { stream, number: found.asked })
    }

    /// Whether the stream has come by.
    pub fn is_done(&self, point: Point) -> bool {
        self.streams.get(&point.stream).is_none_or(|stream| stream.done >= point.number)
    }

    /// As [`is_done`](Context::is_done), for a call that asks and does not wait: what is not done may be, next time.
    pub fn query(&mut self, shared: &mut Shared, point: Point) -> bool {
        if self.is_done(point) {
            return true;
        }
        if let Some(stream) = self.streams.get_mut(&point.stream) {
            stream.queries += 1;
            if stream.queries.is_multiple_of(PATIENCE) {
                let head = self.head(point);
                self.step(shared, head);
            }
        }
        self.is_done(point)
    }

    /// Does what has to be done until the stream has come by.
    pub fn run_to(&mut self, shared: &mut Shared, point: Point) {
        while !self.is_done(point) {
            let next = if shared.is_late() { self.head(point) } else { self.any_head(shared) };
            self.step(shared, next);
        }
    }

    /// The point behind all that was asked of a stream.
    pub fn end_of(&self, stream: usize) -> Result<Point, CUresult> {
        let found = self.streams.get(&stream).filter(|found| found.open);
        let number = found.ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?.asked;
        Ok(Point { stream, number })
    }

    /// Does all that was asked of all streams.
    pub fn run_all(&mut self, shared: &mut Shared) {
        let ends = self.streams.iter().map(|(&stream, found)| Point { stream, number: found.asked });
        for point in ends.collect::<Vec<_>>() {
            self.run_to(shared, point);
        }
    }

    /// Does some work that nobody waits for yet, where the seed says so.
    pub fn drift(&mut self, shared: &mut Shared) {
        for _ in 0..shared.drift() {
            if self.streams.values().all(Stream::is_idle) {
                return;
            }
            let next = self.any_head(shared);
            self.step(shared, next);
        }
    }

    /// The stream whose head has to be done first for a point that is not done.
    fn head(&self, point: Point) -> usize {
        let mut stream = point.stream;
        // What an item waits for was asked for before it, so that this comes to an end.
        while let Some(item) = self.streams.get(&stream).and_then(|found| found.queue.front())
            && let Some(before) = item.after.iter().find(|before| !self.is_done(**before))
        {
            stream = before.stream;
        }
        stream
    }

    /// Any stream whose head can be done.
    fn any_head(&self, shared: &mut Shared) -> usize {
        let ready = |(&id, stream): (&usize, &Stream)| {
            let item = stream.queue.front()?;
            item.after.iter().all(|point| self.is_done(*point)).then_some(id)
        };
        let heads: Vec<usize> = self.streams.iter().filter_map(ready).collect();
        heads.get(shared.random.random_range(0..heads.len().max(1))).copied().unwrap_or(DEFAULT)
    }

    /// Does the work at the head of a stream.
    fn step(&mut self, shared: &mut Shared, stream: usize) {
        let Some(found) = self.streams.get_mut(&stream) else { return };
        let Some(item) = found.queue.pop_front() else {
            // Nothing is there that could be waited for.
            found.done = found.asked;
            return;
        };
        found.done += 1;
        self.perform(shared, item.work);
    }

    fn perform(&mut self, shared: &mut Shared, work: Work) {
        match work {
            Work::Upload { to, from: Source::Copied(values), bytes } => {
                write(to, values.as_ptr(), bytes.min(values.len()));
            }
            Work::Upload { to, from: Source::Pinned { from, hash }, bytes } => {
                if !self.pinned.holds(from, bytes) {
                    shared.report.fault(format!(
                        "a copy of {bytes} bytes to the card reads pinned memory that was freed after the call"
                    ));
                    return;
                }
                if memory::hash(from, bytes) != hash {
                    shared.report.fault(format!(
                        "the source of a copy of {bytes} bytes to the card changed between the call and the copy"
                    ));
                }
                write(to, from as *const u8, bytes);
            }
            Work::Download { to, from, bytes, poisoned } => {
                if !self.pinned.holds(to, bytes) {
                    shared.report.fault(format!(
                        "a copy of {bytes} bytes from the card writes pinned memory that was freed after the call"
                    ));
                    return;
                }
                if poisoned && !memory::is_poisoned(to, bytes) {
                    shared.report.fault(format!(
                        "the host wrote where a copy of {bytes} bytes from the card was still to arrive"
                    ));
                }
                write(to, from as *const u8, bytes);
            }
            Work::Copy { to, from, bytes } => write(to, from as *const u8, bytes),
            Work::Set { at, value, bytes } => {
                // SAFETY: the range was checked at the call, and freeing waits for the card.
                unsafe { std::ptr::write_bytes(at as *mut u8, value, bytes) };
            }
            Work::Launch { launch, .. } => self.run_kernel(shared, &launch),
            Work::Record { event } => {
                if let Some(event) = self.events.get_mut(&event) {
                    event.time = Some(Instant::now());
                }
            }
            Work::Idle | Work::Wait => {}
        }
    }

    fn run_kernel(&mut self, shared: &mut Shared, launch: &Launch) {
        if let Some(code) = shared.counted(KERNEL) {
            self.fail(code);
            return;
        }
        if shared.report.counted(KERNEL) == shared.settings.skip {
            return;
        }
        crash::running(Some(&launch.kernel.name));
        // SAFETY: the sizes of the parameters were checked at the call. Where a pointer among them is wrong the kernel
        // meets a page that cannot be touched.
        let result = unsafe { emulator::run(launch, shared.threads) };
        crash::running(None);
        if let Err(message) = result {
            shared.report.fault(format!("a launch failed on the card: {message}"));
            self.fail(CUresult::CUDA_ERROR_LAUNCH_FAILED);
        }
    }

    /// The card has failed: what waits is forgotten, and calls return the code from now on.
    pub fn fail(&mut self, code: CUresult) {
        self.error.get_or_insert(code);
        self.streams.values_mut().for_each(Stream::forget);
    }
}

/// Copies to memory that was checked at the call.
fn write(to: usize, from: *const u8, bytes: usize) {
    // SAFETY: both ranges were checked at the call, and freeing memory of the card waits for it; pinned memory is
    // checked again by the caller. They may overlap.
    unsafe { std::ptr::copy(from, to as *mut u8, bytes) };
}
