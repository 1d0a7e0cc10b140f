//! Recalibrated statistics, kept: weights whose stored batch-norm statistics are those that
//! recalibration finds for one network.
//!
//! An evaluation recomputes the statistics and forgets them. A network that leaves the
//! super-network takes them along: with [`Calibration::Stored`] it then gives the same logits, bit
//! for bit, as it did with recalibration.

use super::tree::Tree;
use super::{Calibration, Engine, Error};
use crate::ops::Threads;
use crate::space::Arch;
use crate::space::walk::Exits;
use crate::supernet::Supernet;

impl Engine {
    /// The weights, with the running statistics of the batch norms of `arch` (those that a pass to
    /// `exits` meets) replaced by what recalibration finds. With [`Calibration::Stored`] they stay.
    ///
    /// # Errors
    /// An architecture that the weights do not hold, no images, a device that fails.
    pub fn recalibrated(
        &self,
        arch: &Arch,
        exits: Exits,
        calibration: Calibration<'_>,
    ) -> Result<Supernet, Error> {
        self.check(arch, exits, 1, "recalibrate")?;
        let mut supernet = self.supernet().clone();
        let plan = self.plan(Tree::new(supernet.channels(), &[(arch, exits)]));
        let Some(batches) = calibration.batches([(arch, exits)])? else { return Ok(supernet) };
        let Some(prepared) = self.prepare(&plan, Some(batches), Threads::All, &|| false)? else {
            return Ok(supernet);
        };
        let section = plan.section(&self.supernet().layout);
        let mut averages = vec![0.0; section.len];
        self.device().download(&prepared.0, 0, &mut averages)?;
        self.give_back(prepared.0);
        // Both lists fold the batch norms in the same order: one from the weights, one from the averages.
        for (stored, averaged) in section.stored.calls.iter().zip(&section.averaged.calls) {
            for (to, from) in [(stored.mean, averaged.mean), (stored.variance, averaged.variance)] {
                supernet.packed[to.offset..][..to.len].copy_from_slice(&averages[from.offset..][..from.len]);
            }
        }
        Ok(supernet)
    }
}

#[cfg(test)]
mod tests {
    use crate::device::Cpu;
    use crate::engine::{Calibration, Cropped, Engine};
    use crate::random::stream;
    use crate::space::walk::Exits;
    use crate::space::{Arch, Family};
    use crate::supernet::Supernet;
    use rand::RngExt;
    use std::sync::Arc;

    #[test]
    fn kept_statistics_give_the_bits_of_recalibration() {
        let mut random = stream(1, "test/images", 0, 0);
        let mut tensor = |images: usize| crate::supernet::Tensor {
            shape: vec![images, 3, 32, 32],
            data: (0..images * 3 * 32 * 32).map(|_| random.random_range(-1.0f32..1.0)).collect(),
        };
        let (test, train) = (tensor(5), tensor(12));
        let (test, train) = (Cropped::new(&test, &[]).unwrap(), Cropped::new(&train, &[]).unwrap());
        let recalibrate = Calibration::Batches { images: &train, count: 12, batch: 4 };
        let arch = Arch { ks: [5; 20], ..Arch::largest(Family::SE_B, 32, None) };
        let engine = Engine::new(Arc::new(Cpu), Arc::new(Supernet::open(None, None).unwrap())).unwrap();
        let exits = Exits::single(&arch);
        let wanted = engine.logits(&arch, exits, &test, recalibrate).unwrap();
        let kept = engine.recalibrated(&arch, exits, recalibrate).unwrap();
        assert_ne!(kept.packed, engine.supernet().packed);
        let kept = Engine::new(Arc::new(Cpu), Arc::new(kept)).unwrap();
        assert_eq!(kept.logits(&arch, exits, &test, Calibration::Stored).unwrap(), wanted);
        let same = engine.recalibrated(&arch, exits, Calibration::Stored).unwrap();
        assert_eq!(same.packed, engine.supernet().packed);
    }
}
