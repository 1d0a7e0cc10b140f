//! Whether a network computes with the statistics that it holds, before it is written with them.
//!
//! Nothing has run it by then: statistics that are those of another network, or weights of a training that
//! diverged, would show in the program that it is written for.

use super::Error;
use crate::device::Cpu;
use crate::engine::{Calibration, Cropped, Engine};
use crate::supernet::{Network, Tensor};
use std::sync::Arc;

/// Images that it is run on.
const IMAGES: usize = 2;

/// Runs a network with its own statistics on two images of noise, on the CPU.
///
/// # Errors
/// [`Error::NoNumbers`] where a logit is no finite number; an architecture that the engine refuses.
pub fn check(network: &Network) -> Result<(), Error> {
    let (arch, weights) = (network.arch(), network.weights());
    let side = arch.r as usize;
    // In the range of normalised pixels.
    let data = (0..IMAGES * 3 * side * side).map(|i| ((i * 7919) % 1021) as f32 / 255.0 - 2.0).collect();
    let tensor = Tensor { shape: vec![IMAGES, 3, side, side], data };
    let images = Cropped::new(&tensor, &[]).expect("images as a network takes them");
    let engine = Engine::new(Arc::new(Cpu), Arc::new(weights.clone()))?;
    let logits = engine.logits(arch, network.exits(), &images, Calibration::Stored)?;
    match logits.iter().flatten().find(|logit| !logit.is_finite()) {
        Some(&value) => Err(Error::NoNumbers {
            network: serde_json::to_string(arch).unwrap_or_default(),
            file: weights.file.clone(),
            value,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::walk::Exits;
    use crate::space::{Arch, Family};
    use crate::supernet::Supernet;

    #[test]
    fn a_network_that_overflows_inside_is_named() {
        let supernet = Supernet::open(None, None).unwrap();
        let arch = Arch::largest(Family::SE_B, 32, None);
        let mut network = Network::extract(&supernet, &arch, Exits::single(&arch)).unwrap();
        check(&network).unwrap();
        // Finite as it is, and more than f32 holds once the variance is divided out.
        let layout = network.weights().layout.clone();
        let mut tensors = network.tensors();
        let scales = tensors.iter_mut().filter(|(name, _)| name.ends_with(".bn.weight"));
        assert!(scales.map(|(_, scale)| scale.data.fill(3e38)).count() > 20);
        let checkpoint = crate::supernet::Checkpoint::from_tensors("net.safetensors", tensors);
        network.weights_mut().packed = layout.pack(&checkpoint).unwrap();
        let error = check(&network).unwrap_err();
        assert!(matches!(error, Error::NoNumbers { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains("\"r\":32") && message.contains("--stored-statistics"), "{message}");
    }
}
