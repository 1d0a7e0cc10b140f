//! How long a network takes.

use super::plan::{Mode, Program, Reads};
use super::repeated::Repeated;
use super::tree::Tree;
use super::{Engine, Error};
use crate::device::{Buffer, Recording};
use crate::ops::update::{Fill, FillParams};
use crate::ops::{Call, Threads};
use crate::space::Arch;
use crate::space::walk::Exits;
use std::time::Instant;

impl Engine {
    /// The time of a forward pass of `arch` on `batch` images, in milliseconds: the median of
    /// `repeats` passes behind as many to warm up, with all threads, on images of zeros.
    ///
    /// Where lists of calls are recorded, the passes follow one another without a pause, and the device
    /// says when each was done: it is the network that is measured, and not what a launch costs the host.
    /// Elsewhere the host's clock runs from the first call until the logits are there.
    ///
    /// # Errors
    /// An architecture of another width, no images, a device that fails.
    pub fn latency(&self, arch: &Arch, batch: usize, repeats: usize) -> Result<f64, Error> {
        let exits = Exits::single(arch);
        self.check(arch, exits, batch.min(repeats), "time a network")?;
        let plan = self.plan(Tree::new(self.supernet().channels(), &[(arch, exits)]));
        let Some(prepared) = self.prepare(&plan, None, Threads::All, &|| false)? else { return Ok(0.0) };
        let program = self.program(&plan, batch, Mode::Inference, Reads::Logits);
        let mut arena = self.arena(program.arena_len)?;
        let params = FillParams { len: program.input.len as u32, value: 0.0 };
        self.run(&[Call::from(Fill { params, y: program.input })], &mut arena, Threads::All)?;
        let repeated = self.repeated(&program.calls, &prepared.0, 2 * repeats);
        // The first pass to warm up.
        let recording = repeated.run(&mut arena, Threads::All)?;
        let mut times = match recording {
            Some(recording) => self.times_on_device(&repeated, &recording, &mut arena, repeats)?,
            None => self.times_on_host(&repeated, &program, &mut arena, repeats)?,
        };
        drop(repeated);
        self.give_back(arena);
        self.give_back(prepared.0);
        times.sort_by(f64::total_cmp);
        Ok(times[repeats / 2])
    }

    fn times_on_device(
        &self,
        repeated: &Repeated<'_>,
        recording: &Recording,
        arena: &mut Buffer,
        repeats: usize,
    ) -> Result<Vec<f64>, Error> {
        let device = self.device();
        for _ in 1..repeats {
            repeated.replay(recording, arena, Threads::All)?;
        }
        // Nothing is waited for before all passes are under way, so that none waits for the host.
        let mut stamps = vec![device.stamp()?];
        for _ in 0..repeats {
            repeated.replay(recording, arena, Threads::All)?;
            stamps.push(device.stamp()?);
        }
        let time = |pair: &[_]| Ok(device.elapsed(&pair[0], &pair[1])?.as_secs_f64() * 1e3);
        stamps.windows(2).map(time).collect()
    }

    fn times_on_host(
        &self,
        repeated: &Repeated<'_>,
        program: &Program,
        arena: &mut Buffer,
        repeats: usize,
    ) -> Result<Vec<f64>, Error> {
        let mut logits = vec![0.0; program.results.len];
        let mut times = Vec::with_capacity(repeats);
        for pass in 1..2 * repeats {
            let start = Instant::now();
            repeated.run(arena, Threads::All)?;
            // Reading the result waits for the device.
            self.device().download(arena, program.results.offset, &mut logits)?;
            if pass >= repeats {
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
        Ok(times)
    }
}
