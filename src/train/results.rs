//! What a training leaves: the super-network's file, its card, and how good its sub-networks are.

use super::Error;
use super::state::{Epoch, Snapshot};
use super::task::{Material, Task, evaluate};
use crate::data::Split;
use crate::device::Device;
use crate::engine::Evaluation;
use crate::random::stream;
use crate::run::RunDirectory;
use crate::space::sample::{Policy, sample};
use crate::space::walk::Exits;
use crate::space::{Arch, Space, cost};
use crate::supernet::{Card, Supernet, of_width};
use serde::Serialize;
use std::sync::Arc;

/// The files of a finished training in the run directory.
pub const WEIGHTS_FILE: &str = "supernet.safetensors";
/// The card of the weights.
pub const CARD_FILE: &str = "supernet.card.json";
/// The summary.
pub const SUMMARY_FILE: &str = "training.json";

/// As [`WEIGHTS_FILE`] and so on, of the wider of two super-networks.
pub const WIDE_WEIGHTS_FILE: &str = "supernet-wide.safetensors";
const WIDE_CARD_FILE: &str = "supernet-wide.card.json";
/// The summary of a wider one that trained on its own.
pub const WIDE_SUMMARY_FILE: &str = "training-wide.json";

/// Random sub-networks of a summary.
const RANDOM: usize = 20;

/// A sub-network's accuracy on the test images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// The architecture.
    pub arch: Arch,
    /// Accuracy, per cent.
    pub top1: f64,
    /// Mean cross entropy.
    pub loss: f64,
    /// Parameters.
    pub params: u64,
    /// Multiply-accumulates.
    pub macs: u64,
}

/// What a training came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Version of this form.
    pub version: u32,
    /// The super-network's family.
    pub family: String,
    /// Steps of all phases.
    pub steps: u64,
    /// Divergences that were rolled back.
    pub rollbacks: u32,
    /// The split that the accuracies are on: `test`, or `val` where there are no test images.
    pub split: &'static str,
    /// The smallest sub-network at the smallest resolution.
    pub smallest: Measured,
    /// The largest at the largest.
    pub largest: Measured,
    /// Random ones.
    pub random: Vec<Measured>,
    /// Every epoch.
    pub epochs: Vec<Epoch>,
}

/// The number of a summary's sub-networks.
pub(super) const NETWORKS: usize = 2 + RANDOM;

/// The images that a summary is on, and the name of their split: where there are no test images, those of the
/// validation.
pub(super) fn tested(material: &Material) -> (&'static str, &[u32]) {
    match material.dataset.split(Split::Test) {
        [] => ("val", &material.validation),
        test => ("test", test),
    }
}

/// Measures sub-networks of a finished training.
///
/// # Errors
/// The device fails; a network that gives no numbers is divergence ([`Error::Diverged`]).
pub fn summary(task: &Task<'_>, snapshot: &Snapshot, device: &Arc<dyn Device>) -> Result<Summary, Error> {
    let weights = &snapshot.team.weights;
    let (split, images) = tested(&task.material);
    let resolutions: Vec<u32> = task.material.resolutions.iter().map(|&r| r as u32).collect();
    let widths: Vec<f64> = weights.iter().map(|supernet| supernet.channels().width).collect();
    let (Some(narrow), Some(wide)) = (weights.first(), weights.last()) else { return Err(Error::NoSupernet) };
    let space = Space::new(narrow.family, &resolutions, &widths, narrow.scaling())?;
    let (first, last) = (resolutions[0], resolutions[resolutions.len() - 1]);
    let ends = |of: &Supernet, r: u32| Arch::largest(of.family, r, Some(of.channels().width));
    let mut networks = vec![smallest(ends(narrow, first)), ends(wide, last)];
    let mut random = stream(task.seed, "train/summary", 0, 0);
    for _ in 0..RANDOM {
        networks.push(space.decode(&sample(&space, Policy::NatV2, &mut random))?);
    }
    let results = evaluate(device, weights, &networks, &task.material, images)?;
    let measured = |(arch, result): (Arch, &Evaluation)| {
        let of = of_width(weights, &arch).unwrap_or(narrow);
        let cost = cost(of.channels(), &arch, Exits::single(&arch), of.classes());
        Measured { arch, top1: result.top1(), loss: result.loss, params: cost.params, macs: cost.macs }
    };
    let mut measured = networks.into_iter().zip(&results).map(measured);
    let mut next = || measured.next().expect("a result a network");
    Ok(Summary {
        version: 1,
        family: narrow.family.to_string(),
        steps: snapshot.state.total,
        rollbacks: snapshot.state.rollbacks,
        split,
        smallest: next(),
        largest: next(),
        random: measured.collect(),
        epochs: snapshot.state.history.clone(),
    })
}

/// The smallest network of the family of `arch` at its resolution and width.
pub(super) fn smallest(arch: Arch) -> Arch {
    // The cheapest single branch that is static is not always trained as well as the MBConv.
    let nw = if arch.family.parallel { [4; 20] } else { arch.nw };
    let nd = if arch.family.early_exits { 1 } else { arch.nd };
    Arch { ks: [3; 20], e: [3; 20], d: [2; 5], nw, nd, ..arch }
}

/// The card of trained weights.
pub fn card(task: &Task<'_>, snapshot: &Snapshot, weights: &Supernet) -> Card {
    let Material { dataset, pixels, calibration, resolutions, .. } = &task.material;
    let phases: Vec<&str> = task.phases.iter().map(|phase| phase.name.as_str()).collect();
    let mut card = Card::default();
    card.made_on(dataset);
    Card {
        family: Some(weights.family),
        width: Some(weights.channels().width),
        classes: Some(weights.classes()),
        class_names: if dataset.classes().len() == weights.classes() {
            dataset.classes().to_vec()
        } else {
            Vec::new()
        },
        resolutions: searched(resolutions),
        mean: Some(pixels.mean),
        std: Some(pixels.std),
        resize: Some("bilinear".into()),
        calibration_images: Some(calibration.len()),
        trained: Some(format!(
            "natv2 {}: {} ({} steps, seed {})",
            task.stage,
            phases.join(", "),
            snapshot.state.total,
            task.seed
        )),
        ..card
    }
}

/// The resolutions of a search: the smallest, the middle and the largest of training's.
fn searched(resolutions: &[usize]) -> Vec<u32> {
    let mut out: Vec<u32> =
        [0, resolutions.len() / 2, resolutions.len() - 1].map(|index| resolutions[index] as u32).to_vec();
    out.dedup();
    out
}

/// Writes the super-networks and their cards, and the summary; one that is the wider of two which
/// trained one after the other goes by the wide one's names.
///
/// # Errors
/// Writing fails.
pub fn publish(
    run: &RunDirectory,
    task: &Task<'_>,
    snapshot: &Snapshot,
    summary: &Summary,
) -> Result<(), Error> {
    let names =
        [(CARD_FILE, WEIGHTS_FILE, SUMMARY_FILE), (WIDE_CARD_FILE, WIDE_WEIGHTS_FILE, WIDE_SUMMARY_FILE)];
    let names = &names[usize::from(task.wide)..];
    for (weights, (card_file, weights_file, _)) in snapshot.team.weights.iter().zip(names) {
        let supernet = Supernet { card: card(task, snapshot, weights), ..weights.clone() };
        run.write_atomic(card_file, supernet.card.to_json().as_bytes())?;
        run.write_atomic(weights_file, &supernet.checkpoint().to_bytes()?)?;
    }
    let text = serde_json::to_string_pretty(summary).expect("a summary holds nothing that JSON cannot");
    Ok(run.write_atomic(names[0].2, text.as_bytes())?)
}
