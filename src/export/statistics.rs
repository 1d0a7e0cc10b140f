//! Recalibrated batch-norm statistics, stored in a network.
//!
//! Evaluation recomputes the statistics of a sub-network from training images each time; a network
//! that runs elsewhere must carry them. The numbers are those that evaluation uses, so a network with
//! its statistics stored computes the same logits, bit for bit.

use super::Error;
use crate::device::{Device, Memory};
use crate::engine::plan::{Mode, lower};
use crate::engine::{self, Images};
use crate::ops::{Call, Threads};
use crate::supernet::Network;

/// Recomputes the statistics of every batch norm of `network` on the first `count` images, in batches
/// of `batch` that count equally (see [`Calibration::Batches`]), and stores them in it.
///
/// # Errors
/// No images; a device that fails; statistics that are not finite, in which case the network is as
/// it was.
///
/// [`Calibration::Batches`]: crate::engine::Calibration::Batches
pub fn recalibrate(
    network: &mut Network,
    device: &dyn Device,
    images: &dyn Images,
    count: usize,
    batch: usize,
) -> Result<(), Error> {
    let count = count.min(images.len());
    if count == 0 || batch == 0 {
        return Err(engine::Error::NoImages { what: "recalibrate" }.into());
    }
    let batch = batch.min(count);
    let batches = count / batch;
    let packed = &network.weights().packed;
    let mut weights = device.allocate(packed.len())?;
    device.upload(&mut weights, 0, packed)?;
    let mode = Mode::Recalibration { batches };
    let (program, section) = lower(&network.weights().layout, network.arch(), network.exits(), batch, mode);
    let mut arena = device.allocate(program.arena_len)?;
    device.upload(&mut arena, 0, &vec![0.0; section.len])?;
    let mut staging = vec![0.0; batch * program.side * program.side * 3];
    for index in 0..batches {
        images.load(index * batch, program.side, &mut staging, Threads::All);
        device.upload(&mut arena, program.input.offset, &staging)?;
        let memory = Memory { weights: &weights, network: &weights, arena: &mut arena };
        device.run(&program.calls, memory, Threads::All)?;
    }

    // The averages are where the section's folding reads them, and the stored statistics where the
    // other list of foldings, batch norm by batch norm the same, reads those.
    let mut averages = vec![0.0; section.len];
    device.download(&arena, 0, &mut averages)?;
    let mut packed = network.weights().packed.clone();
    for (stored, averaged) in section.stored.iter().zip(&section.averaged) {
        let (Call::BnFold(stored), Call::BnFold(averaged)) = (stored, averaged) else { continue };
        for (to, from) in [(stored.mean, averaged.mean), (stored.variance, averaged.variance)] {
            let values = &averages[from.offset..][..from.len];
            if let Some(&value) = values.iter().find(|value| !value.is_finite()) {
                return Err(Error::NotFinite { value });
            }
            packed[to.offset..][..to.len].copy_from_slice(values);
        }
    }
    network.weights_mut().packed = packed;
    Ok(())
}
