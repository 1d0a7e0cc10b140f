//! Data sets that live on a device, as stored pixels.
//!
//! A data set's images are kept once a device, for whatever runs there: trainers, engines, one after
//! another or side by side. Memory for all of them is taken at the first use, and they are copied
//! page by page as they are asked for, so that a look at a few images of a large set costs a few
//! pages. What does not fit the device's budget is refused, once, with a note; its images are then to
//! be sent with each batch.

use super::{Buffer, Device, Error};
use crate::ops::preprocess::packed;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

/// Images of a page.
const PAGE: usize = 256;
/// A number of an image is an element, and exact up to here.
const MOST_IMAGES: usize = 1 << 24;

type Note = Box<dyn Fn(&str) + Send + Sync>;

/// The data sets on a device.
pub struct Residents {
    budget: usize,
    held: Mutex<Vec<KnownDataset>>,
    note: Mutex<Option<Note>>,
}

/// A data set that was asked for.
struct KnownDataset {
    /// Its pixels on the host, by which it is known; while this is here no others are at their address.
    pixels: Weak<Vec<u8>>,
    /// Its pixels here, or nothing where they do not fit.
    pages: Option<Arc<Pages>>,
}

/// A data set's stored pixels on a device.
pub struct Pages {
    /// Elements of an image.
    image: usize,
    state: RwLock<(Buffer, Vec<bool>)>,
    elements: usize,
}

impl fmt::Debug for Residents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Residents").field("budget", &self.budget).finish_non_exhaustive()
    }
}

impl Residents {
    /// Room for `budget` bytes.
    pub fn new(budget: usize) -> Residents {
        Residents { budget, held: Mutex::default(), note: Mutex::default() }
    }

    /// Calls `note` with what the user should know; once a data set.
    pub fn on_note(&self, note: impl Fn(&str) + Send + Sync + 'static) {
        *self.note.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(note));
    }

    /// The pages of a data set, `pixels` of so many bytes an image; `None` where it does not fit.
    ///
    /// # Errors
    /// The device fails otherwise than for want of memory.
    pub fn pages(
        &self,
        device: &dyn Device,
        pixels: &Arc<Vec<u8>>,
        image_bytes: usize,
    ) -> Result<Option<Arc<Pages>>, Error> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|held| held.pixels.strong_count() > 0);
        if let Some(found) = held.iter().find(|held| held.pixels.as_ptr() == Arc::as_ptr(pixels)) {
            return Ok(found.pages.clone());
        }
        let taken: usize = held.iter().flat_map(|held| &held.pages).map(|pages| 4 * pages.elements).sum();
        let (elements, images) = (pixels.len() / 3, pixels.len() / image_bytes.max(1));
        let fits = images <= MOST_IMAGES && taken.saturating_add(4 * elements) <= self.budget;
        // Whatever stream of the device asks for pages next: they are there.
        let allocated = || {
            let buffer = device.allocate(elements)?;
            device.synchronise()?;
            Ok(buffer)
        };
        let buffer = match fits.then(allocated) {
            Some(Ok(buffer)) => Some(buffer),
            None | Some(Err(Error::OutOfMemory { .. })) => None,
            Some(Err(error)) => return Err(error),
        };
        if buffer.is_none() {
            self.say(&format!(
                "the data set takes {:.2} GB on the device, more than there is room for: its images are sent with each batch",
                4e-9 * elements as f64
            ));
        }
        let pages = buffer.map(|buffer| {
            let there = vec![false; images.div_ceil(PAGE)];
            Arc::new(Pages { image: image_bytes / 3, state: RwLock::new((buffer, there)), elements })
        });
        held.push(KnownDataset { pixels: Arc::downgrade(pixels), pages: pages.clone() });
        Ok(pages)
    }

    fn say(&self, text: &str) {
        if let Some(note) = &*self.note.lock().unwrap_or_else(PoisonError::into_inner) {
            note(text);
        }
    }
}

impl Pages {
    /// Elements of all images.
    pub fn len(&self) -> usize {
        self.elements
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.elements == 0
    }

    /// Calls `use_them` with the buffer, in which those images are, each at its place; `pixels` are
    /// those that the pages were made for.
    ///
    /// # Errors
    /// The device fails.
    ///
    /// # Panics
    /// If there is no such image.
    pub fn with<R>(
        &self,
        device: &dyn Device,
        pixels: &[u8],
        images: &[u32],
        use_them: impl FnOnce(&Buffer) -> R,
    ) -> Result<R, Error> {
        let page = |&image: &u32| image as usize / PAGE;
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if images.iter().all(|image| state.1[page(image)]) {
            return Ok(use_them(&state.0));
        }
        drop(state);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let (buffer, there) = &mut *state;
        let mut staging = Vec::new();
        let mut missing: Vec<usize> = images.iter().map(page).filter(|&index| !there[index]).collect();
        missing.sort_unstable();
        missing.dedup();
        for &index in &missing {
            let first = index * PAGE * self.image;
            let end = (first + PAGE * self.image).min(self.elements);
            staging.clear();
            staging.extend(packed(&pixels[3 * first..3 * end]));
            device.upload(buffer, first, &staging)?;
        }
        // Another stream of the device may read them as soon as they are said to be there.
        device.synchronise()?;
        missing.into_iter().for_each(|index| there[index] = true);
        drop(state);
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        Ok(use_them(&state.0))
    }
}
