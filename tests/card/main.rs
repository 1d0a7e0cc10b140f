//! What is to be proved on a card, in one program: the checks of other test programs that hold on any device, on
//! the device that `NATV2_TEST_DEVICE` names and on no other.
//!
//! `scripts/gpu-check.sh` packs it and runs it group by group (`fused::`, `golden::`, `engine::`). `cargo test` leaves it
//! out, since it has no check that the other programs lack; `NATV2_TEST_DEVICE=cuda cargo test --test card` runs it. The
//! tests that the included files have of their own are here too, under the names of their files.
#![allow(clippy::duplicate_mod)] // each of the files is a program too, and brings what it shares with others

#[path = "../batches.rs"]
mod batches;
#[path = "../golden_networks.rs"]
mod golden_networks;
#[path = "../golden_step.rs"]
mod golden_step;
#[path = "../ops.rs"]
mod ops;
#[path = "../ops_formats.rs"]
mod ops_formats;
#[path = "../ops_half.rs"]
mod ops_half;
#[path = "../ops_mbconv.rs"]
mod ops_mbconv;
#[path = "../ops_mbconv_pass.rs"]
mod ops_mbconv_pass;
#[path = "../population.rs"]
mod population;
#[path = "../recording.rs"]
mod recording;
#[path = "../resident.rs"]
mod resident;

use natv2::device::Device;
use natv2::engine::Precision;
use std::sync::Arc;

/// The device that is checked.
fn device() -> Arc<dyn Device> {
    let name = std::env::var("NATV2_TEST_DEVICE")
        .unwrap_or_else(|_| panic!("error: set NATV2_TEST_DEVICE to cuda, cuda:N or emulated"));
    natv2::device::open(&name).unwrap_or_else(|error| panic!("error: {error}"))
}

/// Fused MBConvs, their passes, and operators in 16 bits.
mod fused {
    use super::*;

    #[test]
    fn mbconv() {
        ops_mbconv::on_any_device(&*device());
    }

    #[test]
    fn passes() {
        ops_mbconv_pass::on_any_device(&*device());
    }

    #[test]
    fn products_in_16_bits() {
        ops_half::on_any_device(&*device());
    }

    #[test]
    fn operators_in_16_bits() {
        ops_formats::on_any_device(&*device());
    }
}

/// Whole networks and training steps against independent values, and every operator in f32. The golden tests
/// open the device themselves; that it is named and there is seen first.
mod golden {
    use super::*;

    #[test]
    fn ofa_logits() {
        device();
        golden_networks::golden_ofa_logits();
    }

    #[test]
    fn ofav2_logits() {
        device();
        golden_networks::golden_ofav2_logits();
    }

    #[test]
    fn ofav2_synthetic() {
        device();
        golden_networks::golden_ofav2_synthetic();
    }

    #[test]
    fn ofa_step() {
        device();
        golden_step::golden_ofa_step();
    }

    #[test]
    fn ofav2_step() {
        device();
        golden_step::golden_ofav2_step();
    }

    /// Four images of the shapes of real networks: the f64 reference has to run them too.
    #[test]
    fn operators() {
        ops::on_any_device(&*device(), 4);
    }
}

/// Many networks and batches at once, data sets that live on the device, recordings.
mod engine {
    use super::*;

    /// Twenty-four networks and one again: enough for both streams of a card.
    #[test]
    fn populations() {
        population::on_any_device(&device(), &[Precision::F32, Precision::Bf16], 24);
    }

    #[test]
    fn batches_at_once() {
        batches::on_any_device(&device());
    }

    #[test]
    fn graphs() {
        recording::on_any_device(&device());
    }

    #[test]
    fn resident_data() {
        resident::on_any_device(&[device()]);
    }
}
