//! What a training learns from, and what it begins with, as a configuration says.

use super::Error;
use super::task::Material;
use crate::config::{Config, Training};
use crate::data::augment::Preset;
use crate::data::{self, Dataset, Split, Validation, loader};
use crate::engine::{CALIBRATION_BATCH, Values, whole_batches};
use crate::space::walk::Exits;
use crate::space::{Arch, Family};
use crate::supernet::{Blank, Card, Checkpoint, Init, Supernet, Target, convert, together};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;

/// Resolutions of a training that nothing else says: OFAv2's.
const RESOLUTIONS: std::ops::RangeInclusive<usize> = 48..=64;
/// Training draws from multiples of this, between the resolutions of the search too.
const RESOLUTION_STEP: usize = 4;
/// Calibration images where nothing says.
const CALIBRATION_IMAGES: usize = 960;

/// Opens the data set of a configuration; `card` is that of the weights that training begins with.
///
/// # Errors
/// Data that cannot be read.
pub fn dataset(config: &Config, card: &Card) -> Result<Dataset, Error> {
    let validation =
        Validation { images: config.data.validation_images, fraction: config.data.validation_fraction };
    Ok(data::open(&card.spec(config.data.name.clone(), config.data.dir.clone(), validation))?)
}

/// The super-networks that a training begins with, ascending by width: the configuration's weights,
/// with new classifiers where the data set has other classes, or random ones. What is new is drawn by `init`.
///
/// # Errors
/// Weights that cannot be read, do not fit, or do not go together.
pub fn start(
    config: &Config,
    init: Init,
    dataset: impl FnOnce(&Card) -> Result<Dataset, Error>,
) -> Result<(Vec<Supernet>, Dataset), Error> {
    let s = &config.supernet;
    let family = s.family;
    let Some(file) = &s.weights else {
        let dataset = dataset(&Card::default())?;
        let widths = [Some(s.width.unwrap_or(1.0)), s.wide_width];
        let new = |width| {
            let blank = Blank {
                family: family.unwrap_or(Family::SE_B),
                width,
                classes: s.classes.unwrap_or(dataset.classes().len()),
                scaling: s.exit_scaling,
                init,
            };
            Supernet::random(&blank, config.seed)
        };
        let supernets = widths.into_iter().flatten().map(new).collect::<Result<_, _>>()?;
        return Ok((supernets, dataset));
    };
    let dataset = dataset(&Card::beside(file)?)?;
    let classes = dataset.classes().len();
    let supernets = [Some(file), s.wide_weights.as_ref()];
    let supernets =
        supernets.into_iter().flatten().map(|file| given(file, family, classes, (init, config.seed)));
    Ok((together(supernets.collect::<Result<_, Error>>()?)?.0, dataset))
}

/// The weights of a file, with new classifiers or parts where it has other classes or another family.
fn given(
    file: &Path,
    family: Option<Family>,
    classes: usize,
    (init, seed): (Init, u64),
) -> Result<Supernet, Error> {
    let checkpoint = Checkpoint::read(file)?;
    let card = Card::beside(file)?;
    let own = Supernet::from_checkpoint(&checkpoint, card.clone(), None)?;
    let family = family.unwrap_or(own.family);
    if own.classes() == classes && own.family == family {
        return Ok(own);
    }
    let target = Target { family, classes: Some(classes), scaling: None, init, seed };
    Ok(convert(&checkpoint, &card, &target)?.supernet)
}

impl Material {
    /// The images and transforms of a training.
    ///
    /// # Errors
    /// A data set with other classes than the super-network, or nothing to train on.
    pub fn new(
        training: &Training,
        supernet: &Supernet,
        dataset: Arc<Dataset>,
        augmentation: Preset,
        with_validation: bool,
    ) -> Result<Material, Error> {
        if dataset.classes().len() > supernet.classes() {
            return Err(Error::Classes {
                dataset: dataset.name().into(),
                found: dataset.classes().len(),
                expected: supernet.classes(),
            });
        }
        let card = &supernet.card;
        let own = card.data.as_deref() == Some(dataset.name());
        let usual = dataset.facts().pixels;
        let pixels = if own { card.pixels(usual) } else { usual };
        let images = loader::training_images(&dataset, with_validation);
        let wanted = training
            .calibration_images
            .or(card.calibration_images.filter(|_| own))
            .unwrap_or(CALIBRATION_IMAGES);
        let train = dataset.split(Split::Train);
        let calibration = train[..whole_batches(wanted.min(train.len()))].to_vec();
        let mut validation = dataset.split(Split::Val).to_vec();
        validation.truncate(training.validation_images.unwrap_or(validation.len()));
        let resolutions: Vec<usize> =
            match (&training.resolutions, card.resolutions.first(), card.resolutions.last()) {
                (Some(given), ..) => given.iter().map(|&r| r as usize).collect(),
                (None, Some(&first), Some(&last)) => {
                    (first as usize..=last as usize).step_by(RESOLUTION_STEP).collect()
                }
                _ => RESOLUTIONS.step_by(RESOLUTION_STEP).collect(),
            };
        // Found out here, not in the first validation.
        if let Some(&lowest) = resolutions.first() {
            let arch = Arch::largest(supernet.family, lowest as u32, None);
            let values =
                Values::fewest([(&arch, Exits::single(&arch))], calibration.len(), CALIBRATION_BATCH);
            values.map_or(Ok(()), |values| values.check())?;
        }
        let mut hash = Sha256::new();
        for &index in images.iter().chain(&validation) {
            hash.update(dataset.image(index));
            hash.update(dataset.label(index).to_le_bytes());
        }
        let fingerprint = short(hash);
        Ok(Material {
            images,
            validation,
            calibration,
            pixels,
            augmentation: augmentation.augmentation(),
            resolutions,
            fingerprint,
            dataset,
        })
    }
}

/// What a training's result depends on besides its configuration, as a short name.
pub(crate) fn fingerprint(start: &[Supernet], data: &str, arithmetic: &str) -> String {
    let mut hash = Sha256::new();
    for supernet in start {
        hash.update(bytemuck::cast_slice::<f32, u8>(&supernet.packed));
        hash.update(supernet.family.to_string());
    }
    hash.update(data);
    hash.update(arithmetic);
    short(hash)
}

fn short(hash: Sha256) -> String {
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
