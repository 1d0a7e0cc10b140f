//! Which super-networks there are to run: those of files, or the one that is built in; one, or several of
//! different widths.

use super::{Card, Checkpoint, Error, Supernet};
use crate::space::{Family, Space};
use std::path::Path;

/// The small super-network that ships with the package, trained on the embedded digits.
const BUILT_IN: (&str, &[u8], &str) = (
    "(built in) ofa_mbv3_w025_digits.safetensors",
    include_bytes!("../../checkpoints/ofa_mbv3_w025_digits.safetensors"),
    include_str!("../../checkpoints/ofa_mbv3_w025_digits.card.json"),
);

impl Supernet {
    /// Loads a checkpoint and its card, or the built-in ones. `family` overrides the card.
    ///
    /// # Errors
    /// A checkpoint or card that cannot be read or does not fit.
    pub fn open(weights: Option<&Path>, family: Option<Family>) -> Result<Supernet, Error> {
        let Some(file) = weights else {
            let (name, bytes, card) = BUILT_IN;
            let card = Card::parse(card, Path::new(name))?;
            return Supernet::from_checkpoint(&Checkpoint::parse(bytes, Path::new(name))?, card, family);
        };
        Supernet::load(file, family)
    }

    /// As [`Supernet::open`], and a second one of another width where there is a file of it, as [`together`]
    /// orders them, with their space.
    ///
    /// # Errors
    /// As [`Supernet::open`] and [`together`].
    pub fn open_all(
        weights: Option<&Path>,
        wide_weights: Option<&Path>,
        family: Option<Family>,
    ) -> Result<(Vec<Supernet>, Space), Error> {
        let mut supernets = vec![Supernet::open(weights, family)?];
        if wide_weights.is_some() {
            supernets.push(Supernet::open(wide_weights, family)?);
        }
        together(supernets)
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
