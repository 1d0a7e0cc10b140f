//! A CUDA card as a [`Runtime`].

use super::Runtime;
use crate::device::Error;
use crate::device::cuda::{CudaError, CudaEvent, CudaGraph, CudaMemory, CudaRuntime};
use crate::launch::{Arguments, Geometry, RecordedLaunch};
use crate::ops::Threads;
use std::time::Duration;

/// A CUDA card.
#[derive(Debug)]
pub struct Card(CudaRuntime);

impl Card {
    /// Opens card number `ordinal` and loads a kernel, so that a card that cannot run them is found
    /// out now.
    ///
    /// # Errors
    /// There is no driver, no such card, or no image of the kernels that it takes.
    pub fn new(ordinal: usize) -> Result<Card, Error> {
        let open = || {
            let runtime = CudaRuntime::new(ordinal)?;
            runtime.load("fill_f32")?;
            Ok(runtime)
        };
        open().map(Card).map_err(|error: CudaError| Error::Unavailable {
            name: format!("cuda:{ordinal}"),
            reason: error.to_string(),
        })
    }

    fn failed(&self, error: CudaError) -> Error {
        told(self.0.card().ordinal, error)
    }
}

/// What goes wrong on a card, as devices tell it. Where the card is full callers may do with less, so that is told
/// from the rest, whichever call found it out.
fn told(ordinal: usize, error: CudaError) -> Error {
    let device = format!("cuda:{ordinal}");
    match error {
        CudaError::OutOfMemory { bytes, .. } => Error::OutOfMemory { device, bytes },
        other => Error::Failed { device, reason: other.to_string() },
    }
}

impl Runtime for Card {
    type Memory = CudaMemory;
    type Event = CudaEvent;
    type Graph = CudaGraph;

    fn describe(&self) -> String {
        let card = self.0.card();
        let (major, minor) = card.compute_capability;
        format!(
            "cuda:{} ({}, compute capability {major}.{minor}, {:.1} GB)",
            card.ordinal,
            card.name,
            card.memory_bytes as f64 / 1e9
        )
    }

    fn arithmetic(&self) -> String {
        let (major, minor) = self.0.card().compute_capability;
        format!("cuda {major}.{minor}")
    }

    fn with_own_stream(&self) -> Result<Card, Error> {
        self.0.with_own_stream().map(Card).map_err(|error| self.failed(error))
    }

    fn allocate(&self, bytes: usize) -> Result<CudaMemory, Error> {
        let quads = bytes.div_ceil(16);
        let memory = self.0.alloc(16 * quads).map_err(|error| self.failed(error))?;
        // In pieces that a kernel can count in 32 bits.
        for first in (0..quads).step_by(1 << 30) {
            let piece = (quads - first).min(1 << 30) as u32;
            let args = super::FillArgs {
                y: memory.address() + 16 * first as u64,
                quads: piece,
                value: f32::from_bits(crate::device::emulated::POISON),
            };
            // SAFETY: the memory has this many quads from there on.
            unsafe { self.0.launch("fill_f32", Geometry::covering(piece, 256), &Arguments::of(&args)) }
                .map_err(|error| self.failed(error))?;
        }
        Ok(memory)
    }

    fn address(&self, memory: &CudaMemory) -> u64 {
        memory.address()
    }

    fn upload(&self, memory: &mut CudaMemory, offset: usize, from: &[u8]) -> Result<(), Error> {
        self.0.upload(memory, offset, from).map_err(|error| self.failed(error))
    }

    fn download(&self, memory: &CudaMemory, offset: usize, to: &mut [u8]) -> Result<(), Error> {
        self.0.download(memory, offset, to).map_err(|error| self.failed(error))
    }

    unsafe fn launch(
        &self,
        kernel: &'static str,
        geometry: Geometry,
        arguments: &Arguments<'_>,
        _: Threads,
    ) -> Result<(), Error> {
        // SAFETY: passed on to the caller.
        unsafe { self.0.launch(kernel, geometry, arguments) }.map_err(|error| self.failed(error))
    }

    fn graph(&self, launches: Vec<RecordedLaunch>) -> Result<Option<CudaGraph>, Error> {
        // Drivers of CUDA 11 make graphs through another function.
        if self.0.cuda_version() < (12, 0) {
            return Ok(None);
        }
        match self.0.graph(&launches) {
            Ok(graph) => Ok(Some(graph)),
            Err(error) if error.is_about_the_graph() => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    unsafe fn launch_graph(&self, graph: &CudaGraph, _: Threads) -> Result<bool, Error> {
        // SAFETY: passed on to the caller.
        match unsafe { self.0.launch_graph(graph) } {
            Ok(()) => Ok(true),
            // Drivers bring a graph to the card when it is first started, and may find no room for it then.
            Err(error) if error.is_about_the_graph() => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn synchronise(&self) -> Result<(), Error> {
        self.0.synchronise().map_err(|error| self.failed(error))
    }

    fn record(&self) -> Result<CudaEvent, Error> {
        self.0.record().map_err(|error| self.failed(error))
    }

    fn event(&self) -> Result<CudaEvent, Error> {
        self.0.event().map_err(|error| self.failed(error))
    }

    fn mark(&self, event: &mut CudaEvent) -> Result<(), Error> {
        self.0.mark(event).map_err(|error| self.failed(error))
    }

    fn load(&self, kernel: &'static str) -> Result<(), Error> {
        self.0.load(kernel).map_err(|error| self.failed(error))
    }

    fn cover_rounds(&self) -> u32 {
        // Two warps a scheduler with eight chains each: some 20 cycles a round.
        1 << 12
    }

    fn elapsed(&self, from: &CudaEvent, to: &CudaEvent) -> Result<Duration, Error> {
        to.since(from).map_err(|error| self.failed(error))
    }

    fn lanes(&self) -> usize {
        1
    }

    fn multiprocessors(&self) -> u32 {
        self.0.card().multiprocessors
    }

    fn multiply_adds(&self) -> u32 {
        // CUDA programming guide, arithmetic throughput: 64 of compute capability 8.0, 128 of all later ones.
        if self.0.card().compute_capability <= (8, 0) { 64 } else { 128 }
    }

    fn shared_bytes(&self) -> u32 {
        u32::try_from(self.0.card().shared_bytes_per_block).unwrap_or(u32::MAX)
    }

    fn cache_bytes(&self) -> usize {
        self.0.card().l2_bytes.max(1 << 20)
    }

    fn arena_budget(&self) -> (usize, usize) {
        let bytes = (self.0.card().memory_bytes / 8).min(super::CARD_ARENA_BYTES);
        (bytes / size_of::<f32>(), super::CARD_IMAGES)
    }

    fn resident_budget(&self) -> usize {
        // A quarter: Tiny ImageNet takes 1.8 GB.
        self.0.card().memory_bytes / 4
    }

    fn peak_sizes(&self) -> (usize, u32) {
        (1 << 27, 1 << 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_card_is_told_from_one_that_fails() {
        let full = told(1, CudaError::OutOfMemory { bytes: 4096, free: 12, total: 99 });
        assert!(matches!(&full, Error::OutOfMemory { device, bytes: 4096 } if device == "cuda:1"), "{full}");
        let pinned = told(0, CudaError::OutOfHostMemory { bytes: 4096 });
        assert!(matches!(&pinned, Error::Failed { reason, .. } if reason.contains("ulimit -l")), "{pinned}");
        assert!(matches!(told(0, CudaError::NoCard), Error::Failed { .. }));
    }
}
