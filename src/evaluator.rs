//! A super-network on a data set: the accuracy of its sub-networks.
//!
//! This is where pixels meet networks: [`Evaluator::open`] loads weights, card and images, and
//! checks that they belong together; what the card leaves open is filled in from the data set.

use crate::data::{self, Dataset, Pixels, Split, Validation};
use crate::device::Device;
use crate::engine::ensemble::ExitEvaluations;
use crate::engine::{
    self, CALIBRATION_BATCH, Calibration, Engine, Evaluation, Graphs, Population, Precision, SplitImages,
    evaluate_widths, of_width, whole_batches,
};
use crate::exit::Exit;
use crate::space::walk::Exits;
use crate::space::{self, Arch, Family, MIN_RESOLUTION, Space};
use crate::supernet::{self, Card, Supernet};
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::sync::Arc;

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
    /// Data that a card says where to find, and that cannot be read there.
    #[error("{source}; {card} names that folder: where the data are elsewhere now, give their folder (--data-dir, or the setting data.dir)", card = .card.display())]
    OfCard {
        /// The card.
        card: PathBuf,
        /// What is wrong.
        source: data::Error,
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

impl Error {
    /// The code to leave the program with.
    pub fn exit(&self) -> Exit {
        match self {
            Error::Supernet(error) => error.exit(),
            Error::Data(error) | Error::OfCard { source: error, .. } => error.exit(),
            Error::Space(error) => error.exit(),
            Error::Engine(error) => error.exit(),
            Error::Classes { .. } => Exit::Usage,
            Error::EmptySplit { .. } => Exit::Failure,
        }
    }
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
    /// Whether weights that are those of one network run with the statistics that they hold. Those of a
    /// super-network are always recalibrated.
    pub stored_statistics: bool,
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
    /// No recalibration: the weights' own statistics.
    stored: bool,
    space: Space,
}

impl Evaluator {
    /// Loads weights and data and puts the super-network on the device.
    ///
    /// # Errors
    /// Weights or data that cannot be read, or that do not belong together.
    pub fn open(options: &Options, device: Arc<dyn Device>) -> Result<Evaluator, Error> {
        let (weights, wide_weights) = (options.weights.as_deref(), options.wide_weights.as_deref());
        let (supernets, space) = Supernet::open_all(weights, wide_weights, options.family)?;
        let validation =
            Validation { images: options.validation_images, fraction: options.validation_fraction };
        let first = &supernets[0];
        let spec = first.card.spec(options.data.clone(), options.data_dir.clone(), validation);
        let of_card = options.data_dir.is_none() && spec.dir.is_some();
        let failed = |source| {
            if of_card {
                Error::OfCard { card: Card::path(&first.file), source }
            } else {
                Error::Data(source)
            }
        };
        let dataset = Arc::new(data::open(&spec).map_err(failed)?);
        let own = |supernet: &Supernet| supernet.network().is_some();
        let stored = options.stored_statistics && supernets.iter().all(own);
        let images = options.calibration_images;
        let evaluator = Evaluator::on(supernets, space, dataset, images, options.precision, device)?;
        if stored { Ok(Evaluator { stored, ..evaluator }) } else { evaluator.recalibrating() }
    }

    /// Puts super-networks, as [`supernet::together`] orders them, with their space on a device, beside data
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
        Evaluator::on(supernets, space, dataset, calibration_images, precision, device)?.recalibrating()
    }

    fn on(
        supernets: Vec<Supernet>,
        space: Space,
        dataset: Arc<Dataset>,
        calibration_images: Option<usize>,
        precision: Precision,
        device: Arc<dyn Device>,
    ) -> Result<Evaluator, Error> {
        let supernet = &supernets[0];
        let card = &supernet.card;
        if dataset.classes().len() != supernet.classes() {
            return Err(Error::Classes {
                dataset: dataset.name().into(),
                found: dataset.classes().len(),
                file: supernet.file.clone(),
                expected: supernet.classes(),
            });
        }
        let facts = dataset.facts();
        let pixels = card.pixels(facts.pixels);
        let calibration_images =
            calibration_images.or(card.calibration_images).unwrap_or(facts.calibration_images);
        let engine = |supernet| Engine::in_precision(device.clone(), Arc::new(supernet), precision);
        let engines = supernets.into_iter().map(engine).collect::<Result<_, _>>()?;
        Ok(Evaluator { engines, dataset, pixels, calibration_images, stored: false, space })
    }

    /// The same with recalibrated statistics, whatever the weights hold.
    ///
    /// # Errors
    /// There are no training images to recalibrate on.
    pub fn recalibrating(self) -> Result<Evaluator, Error> {
        self.images(Split::Train, None)?;
        Ok(Evaluator { stored: false, ..self })
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
    /// in whole batches; none where the statistics are those that the weights hold.
    pub fn calibration_images(&self) -> usize {
        if self.stored {
            return 0;
        }
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
        Ok(SplitImages::new(&self.dataset, indices, self.pixels))
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
        for &index in images.indices().iter().chain(calibration) {
            hash.update(self.dataset.image(index));
            hash.update(self.dataset.label(index).to_le_bytes());
        }
        Ok(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }

    /// Evaluates networks, each at its own exit; see
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

    /// Evaluates networks, each at its exits, and what they have in common once, with recalibrated batch
    /// norms unless the weights' own statistics were asked for; see [`Engine::evaluate_population`].
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
        let images = self.images(split, count)?;
        let train = self.calibration()?;
        let calibration = self.statistics(train.as_ref());
        Ok(evaluate_widths(&self.engines, networks, &images, calibration, stop, done)?)
    }

    /// The training images that statistics are taken from, where they are not the weights' own.
    fn calibration(&self) -> Result<Option<SplitImages<'_>>, Error> {
        (!self.stored).then(|| self.images(Split::Train, None)).transpose()
    }

    fn statistics<'a>(&self, train: Option<&'a SplitImages<'a>>) -> Calibration<'a> {
        match train {
            Some(images) => {
                Calibration::Batches { images, count: self.calibration_images, batch: CALIBRATION_BATCH }
            }
            None => Calibration::Stored,
        }
    }

    /// What to say of networks whose recalibrated statistics come from few values; `None` where they come
    /// from enough, or are the weights' own.
    ///
    /// # Errors
    /// There are no training images.
    pub fn few_values<'a>(
        &self,
        networks: impl IntoIterator<Item = (&'a Arch, Exits)>,
    ) -> Result<Option<String>, Error> {
        let train = self.calibration()?;
        Ok(self.statistics(train.as_ref()).values(networks).and_then(|values| values.note()))
    }

    /// As [`Evaluator::few_values`], of any network of the space: one at the lowest resolution has the
    /// fewest.
    ///
    /// # Errors
    /// There are no training images, or so few that there is one value of a channel.
    pub fn few_values_of_space(&self) -> Result<Option<String>, Error> {
        let lowest = self.space.resolutions().first().copied().unwrap_or(MIN_RESOLUTION);
        let arch = Arch::largest(self.space.family(), lowest, None);
        let train = self.calibration()?;
        let values = self.statistics(train.as_ref()).values([(&arch, Exits::single(&arch))]);
        values.map_or(Ok(()), |values| values.check())?;
        Ok(values.and_then(|values| values.note()))
    }

    /// Evaluates a network at each of `exits` and, with weights, as their weighted ensemble, from
    /// one pass.
    ///
    /// # Errors
    /// As [`Evaluator::images`] and [`Engine::evaluate_exits`].
    pub fn evaluate_exits(
        &self,
        arch: &Arch,
        exits: Exits,
        weights: Option<&[f64]>,
        split: Split,
        count: Option<usize>,
    ) -> Result<ExitEvaluations, Error> {
        let images = self.images(split, count)?;
        let train = self.calibration()?;
        let calibration = self.statistics(train.as_ref());
        Ok(self.engine_of(arch).evaluate_exits(arch, exits, weights, &images, calibration)?)
    }
}
