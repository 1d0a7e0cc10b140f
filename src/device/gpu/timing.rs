//! Times as the device takes them, between events.
//!
//! An event fires when the device comes to it. On a card with nothing to do that is at once, and what is measured
//! from there on holds the host's work for the next launch, microseconds of it. So everything is made beforehand,
//! kernels are loaded, and in front of each first event there is something that keeps the card busy until the host
//! has asked for what is timed: the kernel that flushes the cache, or a short chain of arithmetic.
//!
//! A list of so many launches that the host is slower than the card stays one that the host is part of.

use super::{FillArgs, Gpu, PeakArgs, Runtime};
use crate::device::Error;
use crate::launch::{Arguments, Geometry};
use crate::ops::Threads;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Threads of the block that keeps a card busy.
const COVER_THREADS: u32 = 256;

/// Memory that is taken when first asked for.
pub(super) struct LazyMemory<M>(Mutex<Option<M>>);

impl<M> Default for LazyMemory<M> {
    fn default() -> LazyMemory<M> {
        LazyMemory(Mutex::new(None))
    }
}

impl<M> LazyMemory<M> {
    /// Its address, of `bytes` bytes.
    fn address<R: Runtime<Memory = M>>(&self, runtime: &R, bytes: usize) -> Result<u64, Error> {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = match memory.take() {
            Some(there) => memory.insert(there),
            None => memory.insert(runtime.allocate(bytes)?),
        };
        Ok(runtime.address(memory))
    }
}

/// What runs in front of what is timed.
#[derive(Clone, Copy)]
pub(super) enum BeforeTiming {
    /// Overwrites the card's caches.
    Flush(FillArgs),
    /// Keeps the card busy and leaves the caches alone.
    Cover(PeakArgs),
}

impl<R: Runtime> Gpu<R> {
    /// What is to run in front: memory is taken here and not when it runs.
    pub(super) fn front(&self, flush: bool) -> Result<BeforeTiming, Error> {
        Ok(if flush {
            let bytes = 2 * self.runtime.cache_bytes();
            let y = self.flush.address(&self.runtime, bytes)?;
            self.runtime.load("fill_f32")?;
            BeforeTiming::Flush(FillArgs { y, quads: (bytes / 16) as u32, value: 0.0 })
        } else {
            let y = self.cover.address(&self.runtime, COVER_THREADS as usize * size_of::<f32>())?;
            self.runtime.load("peak_f32")?;
            let rounds = self.runtime.cover_rounds();
            BeforeTiming::Cover(PeakArgs { y, rounds, factor: 0.999, term: 1.0 })
        })
    }

    pub(super) fn run_front(&self, front: &BeforeTiming) -> Result<(), Error> {
        match front {
            BeforeTiming::Flush(args) => self.launch_items("fill_f32", args.quads as usize, args),
            BeforeTiming::Cover(args) => {
                let geometry = Geometry::linear(1, COVER_THREADS);
                // SAFETY: `front` has taken a float of `y` for every thread.
                unsafe { self.runtime.launch("peak_f32", geometry, &Arguments::of(args), Threads::All) }
            }
        }
    }

    /// The times of `work`, so many of them, with the caches flushed before each or as it left them. Nothing is
    /// waited for in between. What `work` launches should be loaded.
    pub(super) fn timed(
        &self,
        repetitions: usize,
        flush: bool,
        mut work: impl FnMut() -> Result<(), Error>,
    ) -> Result<Vec<Duration>, Error> {
        let front = self.front(flush)?;
        let pair = |_| Ok([self.runtime.event()?, self.runtime.event()?]);
        let mut events = (0..repetitions).map(pair).collect::<Result<Vec<_>, Error>>()?;
        self.runtime.synchronise()?;
        for [from, to] in &mut events {
            self.run_front(&front)?;
            self.runtime.mark(from)?;
            work()?;
            self.runtime.mark(to)?;
        }
        events.iter().map(|[from, to]| self.runtime.elapsed(from, to)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Buffer, Device, Memory};
    use crate::launch::RecordedLaunch;
    use crate::ops::update::{Fill, FillParams};
    use crate::ops::{Call, Region, Slot};
    use std::cell::Cell;

    /// A runtime that runs nothing and writes down what it is asked for.
    #[derive(Default)]
    struct Paper {
        asked: Mutex<Vec<String>>,
        events: Mutex<u64>,
    }

    impl Paper {
        fn note(&self, what: impl Into<String>) {
            self.asked.lock().unwrap().push(what.into());
        }

        fn take(&self) -> Vec<String> {
            std::mem::take(&mut *self.asked.lock().unwrap())
        }
    }

    struct PaperEvent(u64, Cell<bool>);

    impl Runtime for Paper {
        type Memory = usize;
        type Event = PaperEvent;
        type Graph = ();

        fn describe(&self) -> String {
            "paper".into()
        }
        fn arithmetic(&self) -> String {
            "none".into()
        }
        fn with_own_stream(&self) -> Result<Paper, Error> {
            Ok(Paper::default())
        }
        fn allocate(&self, bytes: usize) -> Result<usize, Error> {
            self.note(format!("allocate {bytes}"));
            Ok(bytes)
        }
        fn address(&self, _: &usize) -> u64 {
            256
        }
        fn upload(&self, _: &mut usize, _: usize, _: &[u8]) -> Result<(), Error> {
            Ok(())
        }
        fn download(&self, _: &usize, _: usize, _: &mut [u8]) -> Result<(), Error> {
            Ok(())
        }
        unsafe fn launch(
            &self,
            kernel: &'static str,
            _: Geometry,
            _: &Arguments<'_>,
            _: Threads,
        ) -> Result<(), Error> {
            self.note(kernel);
            Ok(())
        }
        fn graph(&self, _: Vec<RecordedLaunch>) -> Result<Option<()>, Error> {
            Ok(None)
        }
        unsafe fn launch_graph(&self, (): &(), _: Threads) -> Result<bool, Error> {
            Ok(true)
        }
        fn load(&self, kernel: &'static str) -> Result<(), Error> {
            self.note(format!("load {kernel}"));
            Ok(())
        }
        fn synchronise(&self) -> Result<(), Error> {
            self.note("synchronise");
            Ok(())
        }
        fn record(&self) -> Result<PaperEvent, Error> {
            let mut event = self.event()?;
            self.mark(&mut event)?;
            Ok(event)
        }
        fn event(&self) -> Result<PaperEvent, Error> {
            let mut events = self.events.lock().unwrap();
            *events += 1;
            self.note("event");
            Ok(PaperEvent(*events, Cell::new(false)))
        }
        fn mark(&self, event: &mut PaperEvent) -> Result<(), Error> {
            self.note(format!("mark {}", event.0));
            event.1.set(true);
            Ok(())
        }
        fn elapsed(&self, from: &PaperEvent, to: &PaperEvent) -> Result<Duration, Error> {
            assert!(from.1.get() && to.1.get(), "both are recorded");
            self.note(format!("elapsed {} {}", from.0, to.0));
            Ok(Duration::from_micros(to.0 - from.0))
        }
        fn lanes(&self) -> usize {
            1
        }
        fn multiprocessors(&self) -> u32 {
            1
        }
        fn shared_bytes(&self) -> u32 {
            1 << 16
        }
        fn cache_bytes(&self) -> usize {
            1 << 10
        }
        fn arena_budget(&self) -> (usize, usize) {
            (1, 1)
        }
        fn resident_budget(&self) -> usize {
            0
        }
        fn peak_sizes(&self) -> (usize, u32) {
            (1 << 12, 1)
        }
    }

    fn fill() -> Call {
        let y = Slot { region: Region::Arena, offset: 0, len: 16 };
        Fill { params: FillParams { len: 16, value: 0.0 }, y }.into()
    }

    /// What is asked for to time two calls.
    fn asked(time: impl Fn(&Gpu<Paper>, &[Call], Memory<'_>)) -> Vec<String> {
        let device = Gpu::new(Paper::default());
        let (none, mut arena) = (Buffer::new(0usize, 0), Buffer::new(16usize, 16));
        time(&device, &[fill(), fill()], Memory { weights: &none, network: &none, arena: &mut arena });
        device.runtime.take()
    }

    #[test]
    fn nothing_is_made_or_waited_for_between_the_first_event_and_the_last() {
        let repetition = |front: &str, from: usize| {
            let marks = [from, from + 1].map(|event| format!("mark {event}"));
            [front, &marks[0], "update_fill_f32", "update_fill_f32", &marks[1]].map(str::to_owned)
        };
        let loads = ["load update_fill_f32"; 2];
        let found = asked(|device, calls, memory| {
            let times = device.time_each(calls, memory, Threads::All, 2, true).unwrap();
            assert_eq!(times, [Duration::from_micros(1); 2]);
        });
        let before = ["allocate 2048", "load fill_f32", "event", "event", "event", "event", "synchronise"];
        let wanted: Vec<String> = [
            &loads.map(str::to_owned)[..],
            &before.map(str::to_owned),
            &repetition("fill_f32", 1),
            &repetition("fill_f32", 3),
            &["elapsed 1 2", "elapsed 3 4"].map(str::to_owned),
        ]
        .concat();
        assert_eq!(found, wanted);

        let found = asked(|device, calls, memory| {
            device.time(calls, memory, Threads::All).unwrap();
        });
        let before = ["allocate 1024", "load peak_f32", "event", "event", "synchronise"];
        let wanted: Vec<String> = [
            &loads.map(str::to_owned)[..],
            &before.map(str::to_owned),
            &repetition("peak_f32", 1),
            &["elapsed 1 2".to_owned()],
        ]
        .concat();
        assert_eq!(found, wanted);
    }

    #[test]
    fn many_runs_of_a_list_go_between_two_events() {
        let found = asked(|device, calls, memory| {
            device.time_many(calls, memory, Threads::All, 3).unwrap();
        });
        let start = found.iter().position(|line| line == "synchronise").unwrap();
        let mut wanted = vec!["synchronise", "peak_f32", "mark 1"];
        wanted.extend(["update_fill_f32"; 6]);
        wanted.extend(["mark 2", "elapsed 1 2"]);
        assert_eq!(found[start..], wanted);
        assert_eq!(found.iter().filter(|line| *line == "event").count(), 2);
    }

    #[test]
    fn peaks_are_timed_behind_a_run_that_does_not_count() {
        let device = Gpu::new(Paper::default());
        device.peaks().unwrap();
        let asked = device.runtime.take();
        let first = asked.iter().position(|line| line == "copy_f32").unwrap();
        let synchronised = asked.iter().position(|line| line == "synchronise").unwrap();
        assert!(first < synchronised, "{asked:?}");
        let mut lines = asked[synchronised..].iter();
        let from = lines.position(|line| line.starts_with("mark")).unwrap();
        assert_eq!(asked[synchronised + from - 1], "peak_f32");
        assert_eq!(asked[synchronised + from + 1], "copy_f32");
    }
}
