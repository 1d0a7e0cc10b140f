//! Network inputs that a device makes out of stored pixels.
//!
//! Where the data set lives on the device ([`Residents`]), a batch
//! takes from the host which images are wanted and what was drawn for each: 4 bytes an image, 24 with a
//! window, 128 with AutoAugment, where the finished images would be `12 r^2`. Where it does not, the
//! images' stored pixels are sent too, `4 side^2` bytes each. Either way the device crops, mirrors,
//! augments, resizes and normalises, and the numbers are those of the host's
//! [`Renderer`](crate::data::augment::Renderer), to the bit.
//!
//! [`Residents`]: crate::device::Residents

use super::pool::fitting;
use crate::data::Selection;
use crate::device::{Buffer, Device, Error, Memory};
use crate::ops::augment::{self, Augment, describe};
use crate::ops::preprocess::{self, Preprocess, packed, window};
use crate::ops::{Call, Region, Slot, Threads};

/// Buffers that batches are made with; they grow to what the largest needs and stay.
#[derive(Default)]
pub(crate) struct Feeder {
    /// Numbers of images, windows, operations.
    descriptors: Option<Buffer>,
    /// Stored pixels that came with the batch.
    sent: Option<Buffer>,
    /// Pixels between operations and behind them.
    pixels: Option<Buffer>,
    staging: Vec<f32>,
}

impl Feeder {
    /// Makes the images of a sound selection at `to` of `arena`: `[images, side, side, 3]`.
    ///
    /// # Errors
    /// The device fails.
    ///
    /// # Panics
    /// If the selection is not sound.
    pub(crate) fn make(
        &mut self,
        device: &dyn Device,
        selection: &Selection<'_>,
        side: usize,
        (to, arena): (Slot, &mut Buffer),
        threads: Threads,
    ) -> Result<(), Error> {
        assert!(selection.is_sound(), "images that the data set does not have");
        let (dataset, images) = (selection.dataset, selection.indices);
        let pages = match device.residents() {
            Some(residents) => {
                residents.pages(device, dataset.shared_pixels(), 3 * dataset.side() * dataset.side())?
            }
            None => None,
        };
        match pages {
            Some(pages) => {
                let x = Slot::weights(0, pages.len());
                let numbers = images.iter().map(|&index| index as f32);
                let batch = self.describe(device, selection, numbers)?;
                pages.with(device, dataset.pixels(), images, |stored| {
                    self.run(device, (selection, batch), (x, stored), side, (to, arena), threads)
                })?
            }
            None => {
                self.staging.clear();
                images.iter().for_each(|&index| self.staging.extend(packed(dataset.image(index))));
                let x = Slot::weights(0, self.staging.len());
                let mut sent = fitting(device, self.sent.take(), x.len)?;
                device.upload(&mut sent, 0, &self.staging)?;
                let batch = self.describe(device, selection, (0..images.len()).map(|i| i as f32))?;
                self.run(device, (selection, batch), (x, &sent), side, (to, arena), threads)?;
                self.sent = Some(sent);
                Ok(())
            }
        }
    }

    /// Sends what the device needs to know of the images; `numbers` is where each lies.
    fn describe(
        &mut self,
        device: &dyn Device,
        selection: &Selection<'_>,
        numbers: impl Iterator<Item = f32>,
    ) -> Result<Description, Error> {
        let (drawn, side) = (selection.drawn, selection.dataset.side());
        let elements = &mut self.staging;
        let since = |elements: &Vec<f32>, offset| Slot {
            region: Region::Network,
            offset,
            len: elements.len() - offset,
        };
        elements.clear();
        elements.extend(numbers);
        let indices = since(elements, 0);
        let start = elements.len();
        elements.extend(drawn.iter().flat_map(window));
        let windows = (!drawn.is_empty()).then(|| since(elements, start));
        let start = elements.len();
        let operations = selection.operations().map(|all| {
            all.for_each(|pair| describe(pair, side, elements));
            since(elements, start)
        });
        let mut buffer = fitting(device, self.descriptors.take(), elements.len())?;
        device.upload(&mut buffer, 0, elements)?;
        Ok(Description { buffer, indices, windows, operations })
    }

    /// Makes the images out of `stored`, in which the description's numbers count.
    fn run(
        &mut self,
        device: &dyn Device,
        (selection, batch): (&Selection<'_>, Description),
        (x, stored): (Slot, &Buffer),
        side: usize,
        (to, arena): (Slot, &mut Buffer),
        threads: Threads,
    ) -> Result<(), Error> {
        let (dataset, images) = (selection.dataset, selection.indices.len());
        let side_in = dataset.side();
        let mut last = Preprocess {
            params: preprocess::Params {
                images: images as u32,
                side_in: side_in as u32,
                side_out: side as u32,
                first: 0,
                scale: dataset.scale(),
                mean: selection.mean,
                std: selection.std,
            },
            x,
            indices: Some(batch.indices),
            windows: batch.windows,
            y: to.part(0, images * side * side * 3),
        };
        if let Some(operations) = batch.operations {
            let len = images * side_in * side_in;
            let part = |offset| Slot { region: Region::Arena, offset, len };
            let mut pixels = fitting(device, self.pixels.take(), 2 * len)?;
            let first = Augment {
                params: augment::Params { images: images as u32, side: side_in as u32 },
                x,
                indices: batch.indices,
                operations,
                scratch: part(0),
                y: part(len),
            };
            let memory = Memory { weights: stored, network: &batch.buffer, arena: &mut pixels };
            device.run(&[Call::from(first)], memory, threads)?;
            (last.x, last.indices) = (Slot::weights(len, len), None);
            let memory = Memory { weights: &pixels, network: &batch.buffer, arena };
            device.run(&[Call::from(last)], memory, threads)?;
            self.pixels = Some(pixels);
        } else {
            let memory = Memory { weights: stored, network: &batch.buffer, arena };
            device.run(&[Call::from(last)], memory, threads)?;
        }
        self.descriptors = Some(batch.buffer);
        Ok(())
    }
}

/// What a device was told of a batch, and where it lies.
struct Description {
    buffer: Buffer,
    indices: Slot,
    windows: Option<Slot>,
    operations: Option<Slot>,
}
