//! Recalibrated batch-norm statistics, stored in a network.
//!
//! Evaluation recomputes the statistics of a sub-network from training images each time; a network
//! that runs elsewhere must carry them. The numbers are those that evaluation uses, so a network with
//! its statistics stored computes the same logits, bit for bit.

use super::Error;
use crate::device::Device;
use crate::engine::{self, Calibration, Engine, Images};
use crate::supernet::Network;
use std::sync::Arc;

/// Recomputes the statistics of every batch norm of `network` on the first `count` images, in batches
/// of `batch` that count equally, and stores them in it; see [`Engine::recalibrated`].
///
/// # Errors
/// No images; a device that fails; statistics that are not finite, in which case the network is as
/// it was.
pub fn recalibrate(
    network: &mut Network,
    device: Arc<dyn Device>,
    images: &dyn Images,
    count: usize,
    batch: usize,
) -> Result<(), Error> {
    if count.min(images.len()) == 0 || batch == 0 {
        return Err(engine::Error::NoImages { what: "recalibrate" }.into());
    }
    let engine = Engine::new(device, Arc::new(network.weights().clone()))?;
    let calibration = Calibration::Batches { images, count, batch };
    let packed = engine.recalibrated(network.arch(), network.exits(), calibration)?.packed;
    if let Some(&value) = packed.iter().find(|value| !value.is_finite()) {
        return Err(Error::NotFinite { value });
    }
    network.weights_mut().packed = packed;
    Ok(())
}

/// What a card says of statistics that were recalibrated on the first `count` training images of a data set.
pub fn recalibrated_on(count: usize, dataset: &str, batch: usize) -> String {
    format!(
        "recalibrated on the first {count} training images of {dataset}, in batches of {}",
        batch.min(count)
    )
}
