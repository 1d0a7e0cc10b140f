//! A card of paper: it has an H100's blocks and runs nothing, so that all that is measured is the host's work.

use natv2::device::{Error, Gpu, Runtime};
use natv2::launch::{Arguments, Geometry, RecordedLaunch};
use natv2::ops::Threads;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Shared memory of a block of an H100.
pub const BLOCK_BYTES: u32 = 227 << 10;

/// The runtime of such a card.
#[derive(Clone, Default)]
pub struct Paper {
    /// Where the next memory lies.
    next: Arc<AtomicU64>,
}

/// The card as a device.
pub fn card() -> Gpu<Paper> {
    Gpu::new(Paper::default())
}

impl Runtime for Paper {
    /// An address.
    type Memory = u64;
    type Event = ();
    type Graph = Vec<RecordedLaunch>;

    fn describe(&self) -> String {
        "paper".into()
    }
    fn arithmetic(&self) -> String {
        "none".into()
    }
    fn with_own_stream(&self) -> Result<Paper, Error> {
        Ok(self.clone())
    }
    fn allocate(&self, bytes: usize) -> Result<u64, Error> {
        Ok(self.next.fetch_add(bytes.next_multiple_of(256) as u64, Ordering::Relaxed))
    }
    fn address(&self, memory: &u64) -> u64 {
        *memory
    }
    fn upload(&self, _: &mut u64, _: usize, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }
    fn download(&self, _: &u64, _: usize, to: &mut [u8]) -> Result<(), Error> {
        to.fill(0);
        Ok(())
    }
    unsafe fn launch(
        &self,
        kernel: &'static str,
        geometry: Geometry,
        arguments: &Arguments<'_>,
        _: Threads,
    ) -> Result<(), Error> {
        black_box((kernel, geometry, arguments));
        Ok(())
    }
    fn graph(&self, launches: Vec<RecordedLaunch>) -> Result<Option<Vec<RecordedLaunch>>, Error> {
        Ok(Some(launches))
    }
    unsafe fn launch_graph(&self, graph: &Vec<RecordedLaunch>, _: Threads) -> Result<bool, Error> {
        black_box(graph);
        Ok(true)
    }
    fn synchronise(&self) -> Result<(), Error> {
        Ok(())
    }
    fn record(&self) -> Result<(), Error> {
        Ok(())
    }
    fn elapsed(&self, (): &(), (): &()) -> Result<Duration, Error> {
        Ok(Duration::ZERO)
    }
    fn lanes(&self) -> usize {
        1
    }
    fn multiprocessors(&self) -> u32 {
        132
    }
    fn shared_bytes(&self) -> u32 {
        BLOCK_BYTES
    }
    fn cache_bytes(&self) -> usize {
        50 << 20
    }
    fn arena_budget(&self) -> (usize, usize) {
        (1 << 28, 4096)
    }
    fn resident_budget(&self) -> usize {
        1 << 30
    }
    fn peak_sizes(&self) -> (usize, u32) {
        (1 << 18, 1)
    }
}
