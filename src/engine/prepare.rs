//! Networks made ready: their batch norms folded, from the stored statistics or from those of batches.

use super::evaluate::even;
use super::plan::{Mode, Reads, TreePlan};
use super::{Calibration, Engine, Error, Images};
use crate::device::{Buffer, Memory};
use crate::ops::update::{Fill, FillParams};
use crate::ops::{Call, Region, Slot, Threads};
use crate::space::Arch;
use crate::space::walk::Exits;
use rayon::prelude::*;

/// Networks whose batch norms are folded: the buffer whose start is their section.
pub(super) struct FoldedNetworks(pub(super) Buffer);

/// Recalibration's batches, as they will be run.
#[derive(Clone, Copy)]
pub(super) struct Batches<'a> {
    images: &'a dyn Images,
    /// Images of a batch.
    pub(super) size: usize,
    /// How many batches.
    pub(super) count: usize,
}

impl Batches<'_> {
    /// The mode of a run of so many.
    fn mode(&self, at_once: usize) -> Mode {
        Mode::Recalibration { batches: self.count, at_once }
    }
}

impl<'a> Calibration<'a> {
    /// The batches, or none for stored statistics.
    ///
    /// # Errors
    /// No images, or so few that a batch norm of one of the networks has one value of a channel.
    pub(super) fn batches<'n>(
        self,
        networks: impl IntoIterator<Item = (&'n Arch, Exits)>,
    ) -> Result<Option<Batches<'a>>, Error> {
        let values = self.values(networks);
        let Calibration::Batches { images, count, batch } = self else { return Ok(None) };
        let count = count.min(images.len());
        if count == 0 || batch == 0 {
            return Err(Error::NoImages { what: "recalibrate" });
        }
        values.map_or(Ok(()), |values| values.check())?;
        let size = batch.min(count);
        Ok(Some(Batches { images, size, count: count / size }))
    }
}

/// The call that leaves zeros at the start of the arena: averages are added up there.
pub(super) fn zeros(len: usize) -> Call {
    let y = Slot { region: Region::Arena, offset: 0, len };
    Call::from(Fill { params: FillParams { len: len as u32, value: 0.0 }, y })
}

impl Engine {
    /// Fills the section of a tree: from the stored statistics, or from those of batches.
    pub(super) fn prepare(
        &self,
        plan: &TreePlan<'_>,
        batches: Option<Batches<'_>>,
        threads: Threads,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<FoldedNetworks>, Error> {
        let section = plan.section(&self.supernet().layout);
        let Some(batches) = batches else {
            let mut arena = self.arena(section.len)?;
            self.run(&[Call::from(section.stored.clone())], &mut arena, threads)?;
            return Ok(Some(FoldedNetworks(arena)));
        };
        let lanes = match threads {
            Threads::All => self.device().batch_lanes(),
            Threads::One => 1,
        };
        // As many rounds of one batch a lane as there are whole ones; what is left has all threads.
        let side_by_side = if lanes > 1 { batches.count / lanes * lanes } else { 0 };
        if side_by_side == 0 {
            return self.prepare_in_order(plan, batches, threads, stop);
        }
        let program = self.program(plan, batches.size, batches.mode(1), Reads::Scores);
        let repeated = self.repeated(&program.calls, self.weights(), batches.count);
        // Each batch's share of the averages, to be added up in order: the same sums as without lanes.
        let share = |index: usize, threads| -> Result<Option<Vec<f32>>, Error> {
            if stop() {
                return Ok(None);
            }
            let mut arena = self.arena(program.arena_len)?;
            self.run(&[zeros(section.len)], &mut arena, threads)?;
            self.load(&program, batches.images, index * batches.size, &mut arena, threads)?;
            repeated.run(&mut arena, threads)?;
            let mut averages = vec![0.0; section.len];
            self.device().download(&arena, 0, &mut averages)?;
            self.give_back(arena);
            Ok(Some(averages))
        };
        let rounds =
            (0..side_by_side).into_par_iter().with_max_len(1).map(|index| share(index, Threads::One));
        let rounds: Option<Vec<Vec<f32>>> = rounds.collect::<Result<_, Error>>()?;
        let rest = (side_by_side..batches.count).map(|index| share(index, threads));
        let rest: Option<Vec<Vec<f32>>> = rest.collect::<Result<_, Error>>()?;
        let (Some(rounds), Some(rest)) = (rounds, rest) else { return Ok(None) };
        let mut sums = vec![0.0; section.len];
        for averages in rounds.iter().chain(&rest) {
            sums.iter_mut().zip(averages).for_each(|(sum, average)| *sum += average);
        }
        let mut arena = self.arena(section.len)?;
        self.device().upload(&mut arena, 0, &sums)?;
        self.run(&[Call::from(section.averaged.clone())], &mut arena, threads)?;
        Ok(Some(FoldedNetworks(arena)))
    }

    /// Fills a section with as many batches a run as the device takes, fewer in the last.
    fn prepare_in_order(
        &self,
        plan: &TreePlan<'_>,
        batches: Batches<'_>,
        threads: Threads,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<FoldedNetworks>, Error> {
        let layout = &self.supernet().layout;
        let section = plan.section(layout);
        let one = plan.arena_len(layout, batches.size, batches.mode(1), Reads::Scores);
        let at_once = even(batches.count, self.device().batches(one));
        let lower =
            |at_once: usize| self.program(plan, at_once * batches.size, batches.mode(at_once), Reads::Scores);
        let program = lower(at_once);
        let mut arena = self.arena(program.arena_len)?;
        self.run(&[zeros(section.len)], &mut arena, threads)?;
        let (runs, rest) = (batches.count / at_once, batches.count % at_once);
        let rest = (rest > 0).then(|| lower(rest));
        let repeated = self.repeated(&program.calls, self.weights(), runs);
        for run in 0..runs {
            if stop() {
                return Ok(None);
            }
            self.load(&program, batches.images, run * program.images, &mut arena, threads)?;
            repeated.run(&mut arena, threads)?;
        }
        if let Some(rest) = rest {
            self.load(&rest, batches.images, runs * program.images, &mut arena, threads)?;
            self.repeated(&rest.calls, self.weights(), 1).run(&mut arena, threads)?;
        }
        self.run(&[Call::from(section.averaged.clone())], &mut arena, threads)?;
        Ok(Some(FoldedNetworks(arena)))
    }

    /// Calls that write to `arena` and need no other network.
    pub(super) fn run(&self, calls: &[Call], arena: &mut Buffer, threads: Threads) -> Result<(), Error> {
        let memory = Memory { weights: self.weights(), network: self.weights(), arena };
        Ok(self.device().run(calls, memory, threads)?)
    }
}
