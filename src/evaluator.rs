//! A super-network on a data set: the accuracy of its sub-networks.
//!
//! This is where pixels meet networks: [`Evaluator::open`] loads weights, card and images, and
//! checks that they belong together; what the card leaves open is filled in from the data set.

use crate::data::{self, Dataset, Selection, Spec, Split, Transform, Validation};
use crate::device::Device;
use crate::engine::ensemble::{ExitEvaluations, Strategy};
use crate::engine::{
    self, Calibration, Engine, Evaluation, Graphs, Images, Population, Precision, evaluate_widths, of_width,
};
use crate::ops::Threads;
use crate::space::walk::Exits;
use crate::space::{self, Arch, Family, Space};
use crate::supernet::{self, Card, Checkpoint, Supernet};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Images of a recalibration batch.
pub const CALIBRATION_BATCH: usize = 100;

/// The small super-network that ships with the package, trained on the embedded digits.
const BUILT_IN: (&str, &[u8], &str) = (
    "(built in) ofa_mbv3_w025_digits.safetensors",
    include_bytes!("../checkpoints/ofa_mbv3_w025_digits.safetensors"),
    include_str!("../checkpoints/ofa_mbv3_w025_digits.card.json"),
);

/// What can go wrong between weights and data.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The weights.
    #[error(transparent)]
    Supernet(#[from] supernet::Error),
    /// The data set.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// The search space.
    #[error(transparent)]
    Space(#[from] space::Error),
    /// Running.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// Weights and data that do not belong together.
    #[error("data set `{dataset}` has {found} classes, and {file} was trained for {expected}: choose the data set that the weights belong to", file = .file.display())]
    Classes {
        /// The data set.
        dataset: String,
        /// Its classes.
        found: usize,
        /// The weights.
        file: PathBuf,
        /// Their classes.
        expected: usize,
    },
    /// Super-networks that cannot be searched side by side.
    #[error("{first} and {second} cannot be searched side by side: {what}", first = .first.display(), second = .second.display())]
    Together {
        /// One.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// In what they differ, or do not, and what to do.
        what: String,
    },
    /// A split without images.
    #[error("the {split} split of data set `{dataset}` has no images: {remedy}")]
    EmptySplit {
        /// The split.
        split: Split,
        /// The data set.
        dataset: String,
        /// What to do.
        remedy: &'static str,
    },
}

/// What to open. What is `None` follows the card, or the data set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Options {
    /// The checkpoint; `None` is the built-in one.
    pub weights: Option<PathBuf>,
    /// A second super-network, of another width.
    pub wide_weights: Option<PathBuf>,
    /// The family.
    pub family: Option<Family>,
    /// Name of the data set.
    pub data: Option<String>,
    /// Its folder.
    pub data_dir: Option<PathBuf>,
    /// CIFAR: images of the validation split.
    pub validation_images: Option<usize>,
    /// Folders: share of the validation split.
    pub validation_fraction: Option<f64>,
    /// Training images for recalibration.
    pub calibration_images: Option<usize>,
    /// What maps are stored as while networks run.
    pub precision: Precision,
}

/// A super-network on a device, or several of different widths, a data set, and how its pixels become
/// inputs.
pub struct Evaluator {
    /// By width, ascending.
    engines: Vec<Engine>,
    dataset: Arc<Dataset>,
    pixels: Pixels,
    calibration_images: usize,
    space: Space,
}

/// Mean and standard deviation of pixels scaled to 0..1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pixels {
    /// Per channel.
    pub mean: [f32; 3],
    /// Per channel.
    pub std: [f32; 3],
}

impl Pixels {
    /// The usual values for a data set.
    pub fn usual(dataset: &str) -> Pixels {
        let (mean, std) = match dataset {
            "digits" => ([0.3053; 3], [0.376; 3]),
            "cifar10" => ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
            "cifar100" => ([0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]),
            "tiny-imagenet" => ([0.4802, 0.4481, 0.3975], [0.2770, 0.2691, 0.2821]),
            // ImageNet's, as everywhere for photographs.
            _ => ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        };
        Pixels { mean, std }
    }
}

/// Loads a checkpoint and its card, or the built-in ones.
///
/// # Errors
/// A checkpoint or card that cannot be read or does not fit.
pub fn load_supernet(weights: Option<&Path>, family: Option<Family>) -> Result<Supernet, supernet::Error> {
    match weights {
        Some(file) => Supernet::load(file, family),
        None => {
            let (name, bytes, card) = BUILT_IN;
            let card = Card::parse(card, Path::new(name))?;
            Supernet::from_checkpoint(&Checkpoint::parse(bytes, Path::new(name))?, card, family)
        }
    }
}

/// Puts super-networks of different widths, at least one, in order, and gives the space of all of them: NATv2
/// searches two side by side.
///
/// # Errors
/// Different families, classes, resolutions or pixels, or the same width twice.
pub fn together(mut supernets: Vec<Supernet>) -> Result<(Vec<Supernet>, Space), Error> {
    supernets.sort_by(|a, b| a.channels().width.total_cmp(&b.channels().width));
    for pair in supernets.windows(2) {
        let (a, b) = (&pair[0], &pair[1]);
        let differ = |what: &str, a: String, b: String| (a != b).then(|| format!("{what} {a} and {b}"));
        let pixels = |card: &Card| format!("{:?} {:?}", card.mean, card.std);
        let what = differ("families are", a.family.to_string(), b.family.to_string())
            .or_else(|| differ("classes are", a.classes().to_string(), b.classes().to_string()))
            .or_else(|| {
                let resolutions = |s: &Supernet| format!("{:?}", s.card.search_resolutions());
                differ("resolutions of their cards are", resolutions(a), resolutions(b))
            })
            .or_else(|| differ("mean and deviation of their cards are", pixels(&a.card), pixels(&b.card)))
            .or_else(|| b.has_width(Some(a.channels().width)).then(|| "both have the same width".into()));
        if let Some(what) = what {
            let what = format!("{what}; give super-networks that differ in width alone");
            return Err(Error::Together { first: a.file.clone(), second: b.file.clone(), what });
        }
    }
    let widths: Vec<f64> = supernets.iter().map(|supernet| supernet.channels().width).collect();
    let narrow = &supernets[0];
    let space = Space::new(narrow.family, narrow.card.search_resolutions(), &widths, narrow.scaling())?;
    Ok((supernets, space))
}

/// The data set that is asked for, else that of the weights' card, else the digits. What the card says
/// about its own data set holds for no other.
pub fn data_of(
    name: Option<String>,
    dir: Option<PathBuf>,
    validation: Validation,
    card: Option<&Card>,
) -> Spec {
    let name = name.or_else(|| card?.data.clone()).unwrap_or_else(|| "digits".into());
    let own = card.filter(|card| card.data.as_ref() == Some(&name));
    let images = validation.images.or(own.and_then(|card| card.validation_images));
    Spec { name, dir, validation: Validation { images, ..validation }, side: None }
}

/// As many of `images` as make whole batches of a recalibration, or all where there is not one.
pub fn whole_batches(images: usize) -> usize {
    images - if images > CALIBRATION_BATCH { images % CALIBRATION_BATCH } else { 0 }
}

impl Evaluator {
    /// Loads weights and data and puts the super-network on the device.
    ///
    /// # Errors
    /// Weights or data that cannot be read, or that do not belong together.
    pub fn open(options: &Options, device: Arc<dyn Device>) -> Result<Evaluator, Error> {
        let mut supernets = vec![load_supernet(options.weights.as_deref(), options.family)?];
        if let Some(wide) = &options.wide_weights {
            supernets.push(load_supernet(Some(wide), options.family)?);
        }
        let (supernets, space) = together(supernets)?;
        let validation =
            Validation { images: options.validation_images, fraction: options.validation_fraction };
        let card = supernets.first().map(|supernet| &supernet.card);
        let spec = data_of(options.data.clone(), options.data_dir.clone(), validation, card);
        let dataset = Arc::new(data::open(&spec)?);
        let images = options.calibration_images;
        Evaluator::new(supernets, space, dataset, images, options.precision, device)
    }

    /// Puts super-networks, as [`together`] orders them, with their space on a device, beside data
    /// that are loaded. Without `calibration_images` it is the card's number, or the data set's usual.
    ///
    /// # Errors
    /// Data of other classes or without training images, a device that fails.
    pub fn new(
        supernets: Vec<Supernet>,
        space: Space,
        dataset: Arc<Dataset>,
        calibration_images: Option<usize>,
        precision: Precision,
        device: Arc<dyn Device>,
    ) -> Result<Evaluator, Error> {
        let supernet = &supernets[0];
        let card = &supernet.card;
        let name = dataset.name();
        if dataset.classes().len() != supernet.classes() {
            return Err(Error::Classes {
                dataset: name.into(),
                found: dataset.classes().len(),
                file: supernet.file.clone(),
                expected: supernet.classes(),
            });
        }
        let usual = Pixels::usual(name);
        let pixels = Pixels { mean: card.mean.unwrap_or(usual.mean), std: card.std.unwrap_or(usual.std) };
        let calibration_images = calibration_images.or(card.calibration_images).unwrap_or(match name {
            "cifar10" | "cifar100" => 960,
            "tiny-imagenet" => 1000,
            _ => 500,
        });
        let engine = |supernet| Engine::in_precision(device.clone(), Arc::new(supernet), precision);
        let engines = supernets.into_iter().map(engine).collect::<Result<_, _>>()?;
        let evaluator = Evaluator { engines, dataset, pixels, calibration_images, space };
        evaluator.images(Split::Train, None)?;
        Ok(evaluator)
    }

    /// Records lists of calls so: see [`Engine::with_graphs`].
    #[must_use]
    pub fn with_graphs(self, graphs: Graphs) -> Evaluator {
        let engines = self.engines.into_iter().map(|engine| engine.with_graphs(graphs)).collect();
        Evaluator { engines, ..self }
    }

    /// The engine, of the narrowest super-network where there are several.
    pub fn engine(&self) -> &Engine {
        &self.engines[0]
    }

    /// The engine of the super-network that has a network; the narrowest where none has.
    pub fn engine_of(&self, arch: &Arch) -> &Engine {
        &self.engines[of_width(&self.engines, arch)]
    }

    /// The super-networks, by width.
    pub fn supernets(&self) -> impl Iterator<Item = &Supernet> {
        self.engines.iter().map(Engine::supernet)
    }

    /// The data set.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// The data set, for a thread of its own.
    pub fn shared_dataset(&self) -> Arc<Dataset> {
        self.dataset.clone()
    }

    /// How pixels become inputs.
    pub fn pixels(&self) -> Pixels {
        self.pixels
    }

    /// The same device, data and space with other weights of the same layouts, in the order of
    /// [`Evaluator::supernets`]: super-networks that have been trained on.
    ///
    /// # Errors
    /// The device fails.
    pub fn with_weights(&self, supernets: Vec<Supernet>) -> Result<Evaluator, Error> {
        let engine = |(old, supernet): (&Engine, Supernet)| old.again(Arc::new(supernet));
        let engines = self.engines.iter().zip(supernets).map(engine).collect::<Result<_, _>>()?;
        let (dataset, space) = (self.dataset.clone(), self.space.clone());
        Ok(Evaluator { engines, dataset, space, ..*self })
    }

    /// The search space of the card.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// Training images that recalibration really uses: those asked for, as far as there are any,
    /// in whole batches.
    pub fn calibration_images(&self) -> usize {
        let count = self.calibration_images.min(self.dataset.split(Split::Train).len());
        whole_batches(count)
    }

    /// The first `count` images of a split, or all.
    ///
    /// # Errors
    /// There are none.
    pub fn images(&self, split: Split, count: Option<usize>) -> Result<SplitImages<'_>, Error> {
        let all = self.dataset.split(split);
        let indices = &all[..count.unwrap_or(all.len()).min(all.len())];
        if indices.is_empty() {
            let remedy = match split {
                Split::Train => {
                    "recalibration needs training images: add them, or make the validation split smaller"
                }
                Split::Val => "make the validation split larger",
                Split::Test => "add the test files, or use --split val",
            };
            return Err(Error::EmptySplit { split, dataset: self.dataset.name().into(), remedy });
        }
        Ok(SplitImages { dataset: &self.dataset, indices, pixels: self.pixels })
    }

    /// What the results of [`Evaluator::evaluate`] depend on besides the architecture, as a short
    /// hexadecimal name: weights, images, recalibration, device kind, instruction set and precision.
    pub fn fingerprint(&self, split: Split, count: Option<usize>) -> Result<String, Error> {
        let images = self.images(split, count)?;
        let mut hash = Sha256::new();
        for supernet in self.supernets() {
            hash.update(bytemuck::cast_slice::<f32, u8>(&supernet.packed));
        }
        hash.update(bytemuck::cast_slice::<f32, u8>(&[self.pixels.mean, self.pixels.std].concat()));
        hash.update(self.engine().arithmetic());
        hash.update(self.engine().supernet().family.to_string());
        hash.update((self.calibration_images() as u64).to_le_bytes());
        let calibration = &self.dataset.split(Split::Train)[..self.calibration_images()];
        for &index in images.indices.iter().chain(calibration) {
            hash.update(self.dataset.image(index));
            hash.update(self.dataset.label(index).to_le_bytes());
        }
        Ok(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }

    /// Evaluates networks, each at its own exit with recalibrated batch norms; see
    /// [`Evaluator::evaluate_population`].
    ///
    /// # Errors
    /// As [`Evaluator::evaluate_population`].
    pub fn evaluate(
        &self,
        archs: &[Arch],
        split: Split,
        count: Option<usize>,
        stop: &(dyn Fn() -> bool + Sync),
        done: &(dyn Fn(usize, &Evaluation) + Sync),
    ) -> Result<Option<Vec<Evaluation>>, Error> {
        let networks: Vec<_> = archs.iter().map(|arch| (arch.clone(), Exits::single(arch))).collect();
        let done =
            |index: usize, results: &[Evaluation]| results.iter().for_each(|result| done(index, result));
        let population = self.evaluate_population(&networks, split, count, stop, &done)?;
        Ok(population.map(|population| population.results.into_iter().flatten().collect()))
    }

    /// Evaluates networks, each at its exits with recalibrated batch norms, and what they have in
    /// common once; see [`Engine::evaluate_population`].
    ///
    /// # Errors
    /// As [`Evaluator::images`] and [`Engine::evaluate_population`].
    pub fn evaluate_population(
        &self,
        networks: &[(Arch, Exits)],
        split: Split,
        count: Option<usize>,
        stop: &(dyn Fn() -> bool + Sync),
        done: &(dyn Fn(usize, &[Evaluation]) + Sync),
    ) -> Result<Option<Population>, Error> {
        let (images, train) = (self.images(split, count)?, self.images(Split::Train, None)?);
        let calibration =
            Calibration::Batches { images: &train, count: self.calibration_images, batch: CALIBRATION_BATCH };
        Ok(evaluate_widths(&self.engines, networks, &images, calibration, stop, done)?)
    }

    /// Evaluates a network at each of `exits` and, with a strategy, as their weighted ensemble, from
    /// one pass, with recalibrated batch norms.
    ///
    /// # Errors
    /// As [`Evaluator::images`] and [`Engine::evaluate_exits`].
    pub fn evaluate_exits(
        &self,
        arch: &Arch,
        exits: Exits,
        strategy: Option<Strategy>,
        split: Split,
        count: Option<usize>,
    ) -> Result<ExitEvaluations, Error> {
        let (images, train) = (self.images(split, count)?, self.images(Split::Train, None)?);
        let calibration =
            Calibration::Batches { images: &train, count: self.calibration_images, batch: CALIBRATION_BATCH };
        let weights = strategy.map(|strategy| strategy.weights(exits.len()));
        let beta = weights.as_ref().map(|weights| &weights.beta[..]);
        Ok(self.engine_of(arch).evaluate_exits(arch, exits, beta, &images, calibration)?)
    }
}

/// Some images of a data set, as networks take them.
#[derive(Debug, Clone, Copy)]
pub struct SplitImages<'a> {
    dataset: &'a Dataset,
    indices: &'a [u32],
    pixels: Pixels,
}

impl<'a> SplitImages<'a> {
    /// The images of a data set at `indices`, normalised so.
    pub fn new(dataset: &'a Dataset, indices: &'a [u32], pixels: Pixels) -> SplitImages<'a> {
        SplitImages { dataset, indices, pixels }
    }
}

impl Images for SplitImages<'_> {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn load(&self, first: usize, side: usize, out: &mut [f32], threads: Threads) {
        let Pixels { mean, std } = self.pixels;
        let transform = Transform::new(side, mean, std, self.dataset.scale())
            .expect("architectures are checked for their resolution, cards for mean and deviation");
        let indices = &self.indices[first..first + out.len() / transform.output_len()];
        match threads {
            Threads::One => transform.apply_serial(self.dataset, indices, out),
            Threads::All => transform.apply(self.dataset, indices, out),
        }
    }

    fn stored(&self, first: usize, count: usize) -> Option<Selection<'_>> {
        let Pixels { mean, std } = self.pixels;
        let indices = &self.indices[first..first + count];
        Some(Selection { dataset: self.dataset, indices, drawn: &[], mean, std })
    }

    fn label(&self, index: usize) -> u32 {
        self.dataset.label(self.indices[index])
    }
}
