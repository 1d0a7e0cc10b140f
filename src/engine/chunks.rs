//! An inference program over many images, chunk after chunk, and what is read of it.
//!
//! A device of one lane, a card, is given one chunk behind the other and waited for in the end: what a chunk
//! leaves to be read is copied behind that of the chunks before it, on the device, and all of it is read at
//! once. So the host loads and launches a chunk while the one before runs. On several lanes chunks run side by
//! side, and each is read when it is done. Either way a program's results lie behind one another and are
//! one copy, whatever the number of heads.

use super::plan::Program;
use super::prepare::FoldedNetworks;
use super::repeated::Repeated;
use super::{Engine, Error, Images};
use crate::device::{Buffer, Memory};
use crate::ops::grad::activation::{Activate, Params};
use crate::ops::{Activation, Call, Region, Slot, Threads};
use rayon::prelude::*;
use std::cell::RefCell;

/// Elements of results that wait on a device at most: 16 MiB.
const WAITING: usize = 1 << 22;

/// How many chunks' results, of `len` elements each, wait on a device of so many lanes until they are read
/// together; 1 where each is read at once.
pub(super) fn waiting(len: usize, chunks: usize, lanes: usize) -> usize {
    if lanes > 1 { 1 } else { (WAITING / len.max(1)).min(chunks).max(1) }
}

/// The call that puts a program's results aside, as number `index`: from the program's arena, as the
/// weights, to the buffer of those that wait.
pub(super) fn put_aside(results: Slot, index: usize) -> Call {
    let Slot { offset, len, .. } = results;
    Call::from(Activate {
        params: Params { len: len as u32, activation: Activation::None as u32, format: 0 },
        x: Slot::weights(offset, len),
        mask: None,
        y: Slot { region: Region::Arena, offset: index * len, len },
    })
}

/// What an inference program has left of all its chunks.
pub(super) struct Results {
    /// Chunk after chunk.
    values: Vec<f32>,
    /// Where in the arena those of a chunk were.
    place: Slot,
    /// Images of a chunk, and of all.
    images: (usize, usize),
}

impl Results {
    /// What was left at `slot`, one of the program's results, `[images, per_image]` of each chunk.
    pub(super) fn at(&self, slot: Slot, per_image: usize) -> impl Iterator<Item = &[f32]> {
        let (of_chunk, all) = self.images;
        let chunks = self.values.chunks_exact(self.place.len).enumerate();
        chunks.map(move |(index, chunk)| {
            let count = of_chunk.min(all - index * of_chunk);
            &chunk[slot.offset - self.place.offset..][..count * per_image]
        })
    }
}

/// The results of chunk after chunk, some of which wait on the device.
struct PendingResults<'a> {
    engine: &'a Engine,
    place: Slot,
    /// The buffer in which results wait; none where each chunk is read at once.
    buffer: Option<Buffer>,
    most: usize,
    count: usize,
    read: Vec<f32>,
}

impl<'a> PendingResults<'a> {
    /// Room for the results of at most `most` chunks.
    fn new(engine: &'a Engine, place: Slot, most: usize) -> Result<PendingResults<'a>, Error> {
        let buffer = (most > 1).then(|| engine.arena(most * place.len)).transpose()?;
        Ok(PendingResults { engine, place, buffer, most, count: 0, read: Vec::new() })
    }

    /// Takes what a chunk has left in its arena.
    fn take(&mut self, arena: &Buffer, threads: Threads) -> Result<(), Error> {
        if self.buffer.is_none() {
            return self.read(arena, self.place);
        }
        if self.count == self.most {
            self.read_waiting()?;
        }
        if let Some(buffer) = &mut self.buffer {
            let memory = Memory { weights: arena, network: self.engine.weights(), arena: buffer };
            self.engine.device().run(&[put_aside(self.place, self.count)], memory, threads)?;
            self.count += 1;
        }
        Ok(())
    }

    fn read(&mut self, from: &Buffer, slot: Slot) -> Result<(), Error> {
        let start = self.read.len();
        self.read.resize(start + slot.len, 0.0);
        Ok(self.engine.device().download(from, slot.offset, &mut self.read[start..])?)
    }

    fn read_waiting(&mut self) -> Result<(), Error> {
        let Some(buffer) = self.buffer.take() else { return Ok(()) };
        let len = std::mem::take(&mut self.count) * self.place.len;
        self.read(&buffer, Slot { region: Region::Arena, offset: 0, len })?;
        self.buffer = Some(buffer);
        Ok(())
    }

    /// All results, chunk after chunk.
    fn finish(mut self) -> Result<Vec<f32>, Error> {
        self.read_waiting()?;
        self.buffer.take().into_iter().for_each(|buffer| self.engine.give_back(buffer));
        Ok(self.read)
    }
}

impl Engine {
    /// Runs an inference program over images, side by side where the device has lanes and `threads` are all
    /// of them; `None` once `stop` says so.
    pub(super) fn over(
        &self,
        program: &Program,
        prepared: &FoldedNetworks,
        images: &dyn Images,
        threads: Threads,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<Results>, Error> {
        let chunks = images.len().div_ceil(program.images);
        let repeated = self.repeated(&program.calls, &prepared.0, chunks);
        // Scores are for many images; what logits are asked for may be few, which then have all threads.
        let scored = !program.scores.is_empty();
        let lanes = threads == Threads::All && scored && self.device().lanes() > 1;
        let values = if lanes {
            self.side_by_side(program, &repeated, images, stop)?
        } else {
            self.in_order(program, &repeated, images, threads, stop)?
        };
        let all = images.len();
        Ok(values.map(|values| Results { values, place: program.results, images: (program.images, all) }))
    }

    fn in_order(
        &self,
        program: &Program,
        repeated: &Repeated<'_>,
        images: &dyn Images,
        threads: Threads,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<Vec<f32>>, Error> {
        let chunks = images.len().div_ceil(program.images);
        let mut arena = self.arena(program.arena_len)?;
        let most = waiting(program.results.len, chunks, self.device().lanes());
        let mut waiting = PendingResults::new(self, program.results, most)?;
        for index in 0..chunks {
            if stop() {
                return Ok(None);
            }
            self.load(program, images, index * program.images, &mut arena, threads)?;
            repeated.run(&mut arena, threads)?;
            waiting.take(&arena, threads)?;
        }
        let values = waiting.finish()?;
        self.give_back(arena);
        Ok(Some(values))
    }

    fn side_by_side(
        &self,
        program: &Program,
        repeated: &Repeated<'_>,
        images: &dyn Images,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<Vec<f32>>, Error> {
        let chunk = |index: usize| -> Result<Option<Vec<f32>>, Error> {
            if stop() {
                return Ok(None);
            }
            let mut arena = self.arena(program.arena_len)?;
            self.load(program, images, index * program.images, &mut arena, Threads::One)?;
            repeated.run(&mut arena, Threads::One)?;
            let mut out = vec![0.0; program.results.len];
            self.device().download(&arena, program.results.offset, &mut out)?;
            self.give_back(arena);
            Ok(Some(out))
        };
        let chunks = 0..images.len().div_ceil(program.images);
        let values: Option<Vec<Vec<f32>>> =
            chunks.into_par_iter().map(chunk).collect::<Result<_, Error>>()?;
        Ok(values.map(|values| values.concat()))
    }

    /// Loads the program's images from `first` on, fewer where there are no more, and their labels if it gives
    /// scores. A device that makes its inputs itself does so.
    pub(super) fn load(
        &self,
        program: &Program,
        images: &dyn Images,
        first: usize,
        arena: &mut Buffer,
        threads: Threads,
    ) -> Result<(), Error> {
        thread_local! {
            static STAGING: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
        }
        // Taken, not borrowed: while loading waits for other threads, this one may be given another
        // network to run.
        let mut staging = STAGING.take();
        let (device, side) = (self.device(), program.side);
        let count = program.images.min(images.len() - first);
        let selection = device.residents().and_then(|_| images.stored(first, count));
        match selection {
            Some(selection) => self.pool().with_feeder(|feeder| {
                feeder.make(device, &selection, side, (program.input, arena), threads)
            })?,
            None => {
                let len = count * side * side * 3;
                staging.resize(staging.len().max(len), 0.0);
                images.load(first, side, &mut staging[..len], threads);
                device.upload(arena, program.input.offset, &staging[..len])?;
            }
        }
        if !program.scores.is_empty() {
            staging.resize(staging.len().max(program.images), 0.0);
            let labels = &mut staging[..program.images];
            let known = |index: usize| if index < count { images.label(first + index) as f32 } else { 0.0 };
            labels.iter_mut().enumerate().for_each(|(index, label)| *label = known(index));
            device.upload(arena, program.labels.offset, labels)?;
        }
        STAGING.set(staging);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Cpu;
    use crate::supernet::Supernet;
    use std::sync::Arc;

    #[test]
    fn results_are_read_in_their_order_however_many_wait() {
        let engine = Engine::new(Arc::new(Cpu), Arc::new(Supernet::open(None, None).unwrap())).unwrap();
        let place = Slot { region: Region::Arena, offset: 16, len: 32 };
        let chunk = |index: usize| (0..32).map(move |i| if i == 7 { -0.0 } else { (100 * index + i) as f32 });
        let wanted: Vec<u32> = (0..5).flat_map(chunk).map(f32::to_bits).collect();
        for most in [1, 2, 3, 5, 9] {
            let mut waiting = PendingResults::new(&engine, place, most).unwrap();
            let mut arena = engine.arena(64).unwrap();
            for index in 0..5 {
                let values: Vec<f32> = chunk(index).collect();
                engine.device().upload(&mut arena, place.offset, &values).unwrap();
                waiting.take(&arena, Threads::One).unwrap();
            }
            let found: Vec<u32> = waiting.finish().unwrap().into_iter().map(f32::to_bits).collect();
            assert!(found == wanted, "{most}");
        }
    }

    #[test]
    fn as_much_waits_as_there_is_room_for() {
        assert_eq!((waiting(64, 5, 1), waiting(64, 5, 2), waiting(64, 1, 1)), (5, 1, 1));
        assert_eq!((waiting(WAITING / 3, 5, 1), waiting(2 * WAITING, 5, 1), waiting(0, 0, 1)), (3, 1, 1));
    }

    #[test]
    fn results_of_a_chunk_that_is_not_full_are_those_of_its_images() {
        let place = Slot { region: Region::Arena, offset: 100, len: 32 };
        let values = (0..64).map(|value| value as f32).collect();
        let results = Results { values, place, images: (3, 5) };
        let second = Slot { region: Region::Arena, offset: 116, len: 6 };
        let found: Vec<&[f32]> = results.at(second, 2).collect();
        assert_eq!(found, [&[16.0, 17.0, 18.0, 19.0, 20.0, 21.0][..], &[48.0, 49.0, 50.0, 51.0]]);
    }
}
