//! Searches of different methods on one super-network, set against each other.
//!
//! A [`Variant`] is a set of settings over a common configuration: another method, another policy,
//! another family. Every variant searches once a seed, each time as a search of its own in
//! `DIR/VARIANT-SEED`. What is compared:
//!
//! - [`budget`] makes the variants evaluate equally many networks, as far as whole numbers allow;
//! - [`results`] is `comparison.json`: the best network, hypervolumes with one reference point for all,
//!   the predictor's tau, which fronts cover which;
//! - [`page`] fills the report.

pub mod budget;
pub mod page;
pub mod results;

use crate::config::Config;
use crate::config::keys::{self, Kind};
use std::path::Path;

/// Settings over the common configuration, under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Its name, which is part of the names of its run directories.
    pub name: String,
    /// `key=value`, in the order of [`Variant::parse`].
    pub settings: Vec<String>,
}

/// What a name of a variant must be.
const NAMES: &str = "names have up to 60 letters, digits, '-', '_' and '.', and begin with a letter or digit";

impl Variant {
    /// Reads `NAME:key=value,key=value`; a comma within a value stays there, as no `=` follows it.
    ///
    /// # Errors
    /// What is wrong with the text, as words that follow it.
    pub fn parse(text: &str) -> Result<Variant, String> {
        let (name, settings) = text.split_once(':').unwrap_or((text, ""));
        let mut parsed: Vec<String> = Vec::new();
        for piece in settings.split(',').filter(|piece| !piece.trim().is_empty()) {
            match parsed.last_mut() {
                _ if piece.contains('=') => parsed.push(piece.trim().into()),
                Some(last) => *last += &format!(",{piece}"),
                None => return Err(format!("{piece:?} is no setting: write NAME:key=value,key=value")),
            }
        }
        Variant { name: name.trim().into(), settings: parsed }.checked()
    }

    /// One variant for each value of `KEY=A,B,..`, named by the key's last part and the value.
    ///
    /// # Errors
    /// What is wrong with the text, as words that follow it.
    pub fn vary(text: &str) -> Result<Vec<Variant>, String> {
        let (key, values) =
            text.split_once('=').ok_or("is no setting with values: write KEY=A,B,..".to_string())?;
        let short = key.trim().rsplit('.').next().unwrap_or_default();
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') { c } else { '-' };
        let variant = |value: &str| {
            let value = value.trim();
            let name = format!("{short}-{}", value.chars().map(plain).collect::<String>());
            Variant { name, settings: vec![format!("{}={value}", key.trim())] }.checked()
        };
        values.split(',').map(variant).collect()
    }

    fn checked(self) -> Result<Variant, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let named = (1..=60).contains(&self.name.len())
            && self.name.bytes().all(plain)
            && self.name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !named {
            return Err(format!("the name {:?} cannot be one of a folder: {NAMES}", self.name));
        }
        if self.sets("seed") || self.sets("profile") {
            Err("seeds are given with --seeds and the profile with --profile, for all variants".into())
        } else {
            Ok(self)
        }
    }

    /// Whether it gives a key itself.
    pub fn sets(&self, key: &str) -> bool {
        self.settings.iter().any(|setting| setting.split('=').next().is_some_and(|k| k.trim() == key))
    }

    /// The name of its run directory for a seed.
    pub fn folder(&self, seed: u64) -> String {
        format!("{}-{seed}", self.name)
    }

    /// Its settings as results list them: of a path only the last part, so that results do not depend on
    /// where things lie.
    pub fn listed(&self) -> Vec<String> {
        let listed = |setting: &String| {
            let (key, value) = setting.split_once('=')?;
            let known = keys::find(key.trim())?;
            let name = Path::new(value.trim().trim_matches('"')).file_name()?.to_string_lossy();
            matches!(known.kind, Kind::Path).then(|| format!("{}={name}", key.trim()))
        };
        self.settings.iter().map(|setting| listed(setting).unwrap_or_else(|| setting.clone())).collect()
    }
}

/// The first key in which two variants must not differ and do: their accuracies would be of other images,
/// or their hypervolumes of other objectives.
pub fn incomparable(first: &Config, other: &Config) -> Option<&'static str> {
    let differs = [
        ("search.objectives", first.search.objectives != other.search.objectives),
        ("search.eval_images", first.search.eval_images != other.search.eval_images),
        ("data.name", first.data.name != other.data.name),
        ("data.dir", first.data.dir != other.data.dir),
        ("data.validation_images", first.data.validation_images != other.data.validation_images),
        ("data.validation_fraction", first.data.validation_fraction != other.data.validation_fraction),
    ];
    differs.into_iter().find(|(_, differs)| *differs).map(|(key, _)| key)
}
