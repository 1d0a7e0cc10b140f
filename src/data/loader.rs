//! Batches for training: shuffled, augmented, resized, made ahead of time on threads of their own.
//!
//! Everything about step `s` of epoch `e` follows from the seed and the pair `(e, s)`:
//!
//! - the order of the images, from [`order`] (stream `train/shuffle`, epoch);
//! - the resolution, from [`resolution`] (stream `train/resolution`, epoch and step);
//! - what happens to each image, from [`Augmentation::draw`] (stream `train/augment`, epoch and the
//!   image's position in it).
//!
//! So a loader may start at any [`Position`], and a resumed run sees the batches that it would have
//! seen; the number of threads changes nothing. Epochs are to be counted through all phases of a
//! training, or each phase be given a seed of its own; else phases see the same shuffles.
//!
//! The last images of an epoch's order that do not fill a batch are left out of that epoch, so
//! that batch statistics and step counts are always those of whole batches. A split smaller than
//! one batch is a batch.
//!
//! Buffers come back when a [`Batch`] is dropped and are used again, so once all are in use a step
//! allocates nothing.
//!
//! [`Loader::start`] makes images. [`Loader::describe`] draws the same and leaves the making to a
//! device that has the stored pixels: its batches hold which images, windows, flips and operations.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rand::RngExt;
use rand::seq::SliceRandom;

use super::augment::{Augmentation, Drawn, Renderer};
use super::prefetch::Queue;
use super::{Dataset, Error, Pixels, Selection, Source, Split};
use crate::random::stream;

/// How batches are made.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Images of a batch.
    pub batch: usize,
    /// The seed of order, resolutions and augmentation.
    pub seed: u64,
    /// What may happen to an image.
    pub augmentation: Augmentation,
    /// The resolutions that a step draws from; the caller's, in pixels.
    pub resolutions: Vec<usize>,
    /// Means of pixels scaled to 0..1, a channel each.
    pub mean: [f32; 3],
    /// Their standard deviations.
    pub std: [f32; 3],
    /// Threads that make batches, 1 at least.
    pub threads: usize,
    /// Batches that are made ahead, 1 at least.
    pub ahead: usize,
}

impl Settings {
    /// Those of a training: one thread keeps ahead of a device's steps.
    pub fn new(
        batch: usize,
        seed: u64,
        augmentation: Augmentation,
        resolutions: Vec<usize>,
        pixels: Pixels,
    ) -> Settings {
        let Pixels { mean, std } = pixels;
        Settings { batch, seed, augmentation, resolutions, mean, std, threads: 1, ahead: 3 }
    }
}

/// A step of an epoch, both counted from 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The epoch.
    pub epoch: u64,
    /// The step of it. One past the last is the first of the next epoch.
    pub step: u64,
}

/// The images of a step. Its buffers go back to the loader when it is dropped.
#[derive(Debug)]
pub struct Batch {
    /// The class of each image.
    pub labels: Vec<u32>,
    /// Height and width, in pixels: the step's resolution.
    pub side: usize,
    /// The step that the batch is for.
    pub position: Position,
    /// Images x side x side x 3, normalised; empty where they are described.
    pixels: Vec<f32>,
    /// Images of a described batch, by their indices; empty where the pixels are made.
    indices: Vec<u32>,
    drawn: Vec<Drawn>,
    /// A described batch's data set, mean and standard deviation.
    described: Option<(Arc<Dataset>, [f32; 3], [f32; 3])>,
    home: Pool,
}

impl Batch {
    /// The images.
    pub fn images(&self) -> Source<'_> {
        match &self.described {
            None => Source::Made(&self.pixels),
            Some((dataset, mean, std)) => Source::Stored(Selection {
                dataset,
                indices: &self.indices,
                drawn: &self.drawn,
                mean: *mean,
                std: *std,
            }),
        }
    }
}

/// What a batch holds its contents in.
#[derive(Debug, Default)]
struct Buffers {
    labels: Vec<u32>,
    pixels: Vec<f32>,
    indices: Vec<u32>,
    drawn: Vec<Drawn>,
}

/// Buffers that wait to be used again.
type Pool = Arc<Mutex<Vec<Buffers>>>;

impl Drop for Batch {
    fn drop(&mut self) {
        let buffers = Buffers {
            labels: std::mem::take(&mut self.labels),
            pixels: std::mem::take(&mut self.pixels),
            indices: std::mem::take(&mut self.indices),
            drawn: std::mem::take(&mut self.drawn),
        };
        self.home.lock().unwrap_or_else(PoisonError::into_inner).push(buffers);
    }
}

/// The images to train on: the training split, and with it the validation split where the last
/// fine-tuning asks for that, in file order.
pub fn training_images(dataset: &Dataset, with_validation: bool) -> Vec<u32> {
    let mut images = dataset.split(Split::Train).to_vec();
    if with_validation {
        images.extend(dataset.split(Split::Val));
    }
    images
}

/// Steps of an epoch: the whole batches in `images`, or 1 where there is none.
pub fn steps_per_epoch(images: usize, batch: usize) -> u64 {
    (images / batch.max(1)).max(1) as u64
}

/// Shuffle `images` (in file order) into the order of an epoch.
pub fn order(seed: u64, epoch: u64, images: &mut [u32]) {
    images.shuffle(&mut stream(seed, "train/shuffle", epoch, 0));
}

/// The resolution of a step: one of `choices`, each as likely.
///
/// # Panics
/// If there are no choices.
pub fn resolution(seed: u64, at: Position, choices: &[usize]) -> usize {
    choices[stream(seed, "train/resolution", at.epoch, at.step).random_range(0..choices.len())]
}

/// Batches without end, step after step and epoch after epoch.
#[derive(Debug)]
pub struct Loader {
    queue: Queue<Batch>,
    steps: u64,
}

impl Loader {
    /// Start making the batches from position `start` on, of those images of the data set.
    ///
    /// # Errors
    /// [`Error::NothingToTrainOn`] without images; [`Error::OutOfRange`] for a batch of 0, an index
    /// outside the data set, no or impossible resolutions, mean and deviation as
    /// [`Transform::new`](super::Transform::new) has it, and an augmentation that does not fit the
    /// data set; [`Error::LoaderThread`].
    pub fn start(
        dataset: Arc<Dataset>,
        images: Vec<u32>,
        settings: Settings,
        start: Position,
    ) -> Result<Self, Error> {
        Self::begin(dataset, images, settings, start, false)
    }

    /// As [`Loader::start`], with the same draws, but the images are only described.
    ///
    /// # Errors
    /// As [`Loader::start`].
    pub fn describe(
        dataset: Arc<Dataset>,
        images: Vec<u32>,
        settings: Settings,
        start: Position,
    ) -> Result<Self, Error> {
        Self::begin(dataset, images, settings, start, true)
    }

    fn begin(
        dataset: Arc<Dataset>,
        images: Vec<u32>,
        settings: Settings,
        start: Position,
        describes: bool,
    ) -> Result<Self, Error> {
        check(&dataset, &images, &settings)?;
        let largest = settings.resolutions.iter().copied().max().unwrap_or(0);
        let steps = steps_per_epoch(images.len(), settings.batch);
        let images: Arc<[u32]> = images.into();
        let settings = Arc::new(settings);
        let pool = Pool::default();
        let new_renderer =
            || Renderer::new(&dataset, largest, settings.mean, settings.std, settings.augmentation.pad);
        let threads = settings.threads.max(1);
        let mut renderers = (0..threads).map(|_| new_renderer()).collect::<Result<Vec<_>, Error>>()?;
        let first = start.epoch * steps + start.step;
        let maker = || {
            let mut worker = Worker {
                dataset: Arc::clone(&dataset),
                images: Arc::clone(&images),
                settings: Arc::clone(&settings),
                pool: Arc::clone(&pool),
                largest,
                steps,
                describes,
                renderer: renderers.pop().expect("one a thread was made"),
                order: Vec::with_capacity(images.len()),
                epoch: None,
            };
            move |number: u64, stop: &AtomicBool| worker.make(number, stop)
        };
        let queue = Queue::start(threads, settings.ahead, first, maker)
            .map_err(|source| Error::LoaderThread { source })?;
        Ok(Self { queue, steps })
    }

    /// Steps of an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.steps
    }

    /// Which step [`next_batch`](Self::next_batch) is for.
    pub fn position(&self) -> Position {
        position_of(self.queue.due(), self.steps)
    }

    /// The batch of the next step; waits until it is there.
    ///
    /// # Errors
    /// [`Error::Loader`] if making it panicked, now and at every later call.
    pub fn next_batch(&mut self) -> Result<Batch, Error> {
        self.queue.next().map_err(|reason| {
            let Position { epoch, step } = self.position();
            Error::Loader { epoch, step, reason }
        })
    }
}

/// Where step `number`, counted through all epochs, is in epochs of `steps` steps.
pub fn position_of(number: u64, steps: u64) -> Position {
    Position { epoch: number / steps, step: number % steps }
}

fn check(dataset: &Dataset, images: &[u32], settings: &Settings) -> Result<(), Error> {
    let wrong = |setting, value: String, expected| Err(Error::OutOfRange { setting, value, expected });
    if images.is_empty() {
        return Err(Error::NothingToTrainOn { dataset: dataset.name() });
    }
    if let Some(outside) = images.iter().find(|&&index| index as usize >= dataset.len()) {
        return wrong("images", outside.to_string(), "an index of an image of the data set is needed");
    }
    if settings.batch == 0 {
        return wrong("batch", "0".to_owned(), "a batch of at least one image is needed");
    }
    if settings.resolutions.is_empty() {
        return wrong("resolutions", "[]".to_owned(), "at least one resolution is needed");
    }
    for &r in &settings.resolutions {
        super::Transform::new(r, settings.mean, settings.std, dataset.scale())?;
    }
    settings.augmentation.check(dataset.side(), dataset.scale())
}

/// What a thread has.
struct Worker {
    dataset: Arc<Dataset>,
    images: Arc<[u32]>,
    settings: Arc<Settings>,
    pool: Pool,
    largest: usize,
    steps: u64,
    /// Whether the images are left to others to make.
    describes: bool,
    renderer: Renderer,
    /// The images in the order of `epoch`.
    order: Vec<u32>,
    epoch: Option<u64>,
}

impl Worker {
    /// The batch of a step counted through all epochs, or nothing if told to stop.
    fn make(&mut self, number: u64, stop: &AtomicBool) -> Option<Batch> {
        let position = position_of(number, self.steps);
        let Position { epoch, step } = position;
        let seed = self.settings.seed;
        if self.epoch != Some(epoch) {
            self.order.clear();
            self.order.extend_from_slice(&self.images);
            order(seed, epoch, &mut self.order);
            self.epoch = Some(epoch);
        }
        let count = self.settings.batch.min(self.order.len());
        let first = step as usize * count;
        let side = resolution(seed, position, &self.settings.resolutions);
        let recycled = self.pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Buffers { mut labels, mut pixels, mut indices, mut drawn } = recycled.unwrap_or_default();
        labels.clear();
        indices.clear();
        drawn.clear();
        labels.reserve(count);
        let settings = &*self.settings;
        let described = self.describes.then(|| (self.dataset.clone(), settings.mean, settings.std));
        if !self.describes {
            pixels.reserve_exact((count * self.largest * self.largest * 3).saturating_sub(pixels.len()));
            pixels.resize(count * side * side * 3, 0.0);
        }
        for (i, &index) in self.order[first..first + count].iter().enumerate() {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            let place = (first + i) as u64;
            let what = settings.augmentation.draw(self.dataset.side(), seed, epoch, place);
            if self.describes {
                indices.push(index);
                drawn.push(what);
            } else {
                let out = &mut pixels[i * side * side * 3..][..side * side * 3];
                self.renderer.render(self.dataset.image(index), &what, side, out);
            }
            labels.push(self.dataset.label(index));
        }
        let home = Arc::clone(&self.pool);
        let batch = Batch { labels, side, position, pixels, indices, drawn, described, home };
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::super::augment::Preset;
    use super::super::{Spec, Transform, open};
    use super::*;

    fn digits() -> Arc<Dataset> {
        Arc::new(open(&Spec::new("digits", None)).unwrap())
    }

    fn settings() -> Settings {
        Settings {
            batch: 100,
            seed: 7,
            augmentation: Preset::Digits.augmentation(),
            resolutions: vec![32, 40],
            mean: [0.3053; 3],
            std: [0.376; 3],
            threads: 1,
            ahead: 2,
        }
    }

    type Seen = (Position, usize, Vec<u32>, Vec<u32>);

    fn next(loader: &mut Loader) -> Seen {
        let batch = loader.next_batch().unwrap();
        let bits = batch.pixels.iter().map(|x| x.to_bits()).collect();
        (batch.position, batch.side, batch.labels.clone(), bits)
    }

    #[test]
    fn batches_do_not_depend_on_threads_queue_or_where_one_starts() {
        let data = digits();
        let images = training_images(&data, false);
        let start = |settings: Settings, epoch, step| {
            Loader::start(Arc::clone(&data), images.clone(), settings, Position { epoch, step }).unwrap()
        };
        let mut loader = start(settings(), 0, 0);
        assert_eq!(loader.steps_per_epoch(), 10);
        let whole: Vec<Seen> = (0..25).map(|_| next(&mut loader)).collect();
        for (number, seen) in whole.iter().enumerate() {
            let position = Position { epoch: number as u64 / 10, step: number as u64 % 10 };
            assert_eq!(seen.0, position);
            assert_eq!(seen.1, resolution(7, position, &[32, 40]));
            assert_eq!((seen.2.len(), seen.3.len()), (100, 100 * seen.1 * seen.1 * 3));
        }
        assert!([32, 40].iter().all(|r| whole.iter().filter(|seen| seen.1 == *r).count() > 5));
        for (threads, ahead) in [(2, 1), (3, 4)] {
            let mut loader = start(Settings { threads, ahead, ..settings() }, 0, 0);
            assert!(whole.iter().all(|seen| *seen == next(&mut loader)), "{threads} {ahead}");
        }
        for (epoch, step) in [(0, 10), (1, 3), (2, 4)] {
            let mut loader = start(settings(), epoch, step);
            let from = (epoch * 10 + step) as usize;
            assert_eq!(loader.position(), whole[from].0);
            assert!(whole[from..].iter().all(|seen| *seen == next(&mut loader)), "{epoch} {step}");
        }
        let mut loader = start(Settings { seed: 8, ..settings() }, 0, 0);
        assert_ne!(next(&mut loader).2, whole[0].2);
    }

    #[test]
    fn described_batches_are_the_ones_that_would_be_made() {
        let data = digits();
        let images = training_images(&data, false);
        let at = Position { epoch: 2, step: 4 };
        let mut made = Loader::start(Arc::clone(&data), images.clone(), settings(), at).unwrap();
        let mut described = Loader::describe(Arc::clone(&data), images, settings(), at).unwrap();
        let mut renderer = Renderer::new(&data, 40, [0.3053; 3], [0.376; 3], 1).unwrap();
        for _ in 0..12 {
            let (made, described) = (made.next_batch().unwrap(), described.next_batch().unwrap());
            assert_eq!((made.position, made.side), (described.position, described.side));
            assert_eq!(made.labels, described.labels);
            let (Source::Made(pixels), Source::Stored(selection)) = (made.images(), described.images())
            else {
                panic!("one is made, the other described");
            };
            let mut one = vec![0.0; made.side * made.side * 3];
            assert_eq!((selection.indices.len(), selection.drawn.len()), (100, 100));
            let both = selection.indices.iter().zip(selection.drawn);
            for ((&index, drawn), wanted) in both.zip(pixels.chunks_exact(one.len())) {
                renderer.render(selection.dataset.image(index), drawn, made.side, &mut one);
                assert_eq!(one, wanted);
            }
        }
    }

    #[test]
    fn an_epoch_shows_every_image_at_most_once_and_leaves_out_less_than_a_batch() {
        let data = digits();
        let images = training_images(&data, true);
        assert_eq!(images.len(), 1079 + 359);
        // Without augmentation an image is recognised by its pixels.
        let transform = Transform::new(32, [0.3053; 3], [0.376; 3], 16.0).unwrap();
        let settings =
            Settings { augmentation: Augmentation::default(), resolutions: vec![32], ..settings() };
        let mut loader =
            Loader::start(Arc::clone(&data), images.clone(), settings, Position { epoch: 3, step: 0 })
                .unwrap();
        let mut expected = images.clone();
        order(7, 3, &mut expected);
        assert_ne!(expected, images);
        let steps = loader.steps_per_epoch();
        assert_eq!(steps, 14);
        let mut made = vec![0.0; 100 * transform.output_len()];
        for indices in expected.chunks_exact(100) {
            let batch = loader.next_batch().unwrap();
            transform.apply_serial(&data, indices, &mut made);
            assert_eq!(batch.pixels, made);
            assert!(batch.labels.iter().zip(indices).all(|(&label, &index)| label == data.label(index)));
        }
        assert_eq!(loader.position(), Position { epoch: 4, step: 0 });
        expected.sort_unstable();
        let mut sorted = images;
        sorted.sort_unstable();
        assert_eq!(expected, sorted, "a permutation");
    }

    #[test]
    fn a_split_smaller_than_a_batch_is_a_batch() {
        let data = digits();
        let mut loader =
            Loader::start(data, vec![4, 9, 14], settings(), Position { epoch: 0, step: 0 }).unwrap();
        assert_eq!(loader.steps_per_epoch(), 1);
        for epoch in 0..3 {
            let batch = loader.next_batch().unwrap();
            assert_eq!((batch.labels.len(), batch.position), (3, Position { epoch, step: 0 }));
        }
    }

    #[test]
    fn buffers_are_used_again() {
        let data = digits();
        let images = training_images(&data, false);
        let mut loader = Loader::start(data, images, settings(), Position::default()).unwrap();
        let mut addresses = std::collections::BTreeSet::new();
        for _ in 0..40 {
            let batch = loader.next_batch().unwrap();
            assert_eq!(batch.pixels.capacity(), 100 * 40 * 40 * 3, "made for the largest resolution");
            addresses.insert(batch.pixels.as_ptr().addr());
        }
        // Two that wait, one being made, one in use.
        assert!(addresses.len() <= 4, "{}", addresses.len());
    }

    #[test]
    fn a_panic_in_a_thread_is_an_error_that_names_the_step() {
        let broken = || |_: u64, _: &AtomicBool| -> Option<Batch> { panic!("out of range") };
        let mut loader = Loader { queue: Queue::start(2, 2, 23, broken).unwrap(), steps: 10 };
        for _ in 0..2 {
            let message = loader.next_batch().unwrap_err().to_string();
            assert!(message.starts_with("loading batch 3 of epoch 2 failed: out of range. "), "{message}");
        }
    }

    #[test]
    fn what_cannot_be_loaded_is_named() {
        let data = digits();
        let fails = |images: Vec<u32>, settings: Settings| {
            Loader::start(Arc::clone(&data), images, settings, Position::default()).unwrap_err().to_string()
        };
        assert!(fails(vec![], settings()).contains("`digits` has no images to train on"));
        assert!(fails(vec![0, 1797], settings()).starts_with("`images` = 1797: "));
        assert!(fails(vec![0], Settings { batch: 0, ..settings() }).starts_with("`batch` = 0: "));
        let none = Settings { resolutions: vec![], ..settings() };
        assert!(fails(vec![0], none).starts_with("`resolutions` = []: "));
        let small = Settings { resolutions: vec![32, 16], ..settings() };
        assert!(fails(vec![0], small).starts_with("`r` = 16: "));
        let policy = Settings { augmentation: Preset::Cifar.augmentation(), ..settings() };
        assert!(fails(vec![0], policy).starts_with("`augment.policy` = cifar: "));
        let flat = Settings { std: [0.0; 3], ..settings() };
        assert!(fails(vec![0], flat).starts_with("`std` = "));
    }
}
