//! The card beside a checkpoint, `NAME.card.json`: what its numbers were trained on.

use super::Error;
use crate::data::{Dataset, NAMES, Pixels, Spec, Split, Validation};
use crate::space::backbone::PAPER_RESOLUTIONS;
use crate::space::walk::Exits;
use crate::space::{Arch, Family};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// What a checkpoint says about itself. Everything is optional; a flag overrides it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Card {
    /// The family that it was trained as.
    pub family: Option<Family>,
    /// Width multiplier.
    pub width: Option<f64>,
    /// Number of classes.
    pub classes: Option<usize>,
    /// Names of the classes, in order.
    pub class_names: Vec<String>,
    /// Name of the data set.
    pub data: Option<String>,
    /// The folder that the data set was read from: from the root where this program wrote the card; a
    /// relative one is relative to the card's. None for one that is built in.
    pub data_dir: Option<PathBuf>,
    /// Resolutions of its search space, ascending.
    pub resolutions: Vec<u32>,
    /// Mean of the pixels, scaled to 0..1, per channel.
    pub mean: Option<[f32; 3]>,
    /// Standard deviation of the pixels, scaled to 0..1, per channel.
    pub std: Option<[f32; 3]>,
    /// How images are resized.
    pub resize: Option<String>,
    /// Training images that batch norms are recalibrated on.
    pub calibration_images: Option<usize>,
    /// Training images kept apart for validation.
    pub validation_images: Option<usize>,
    /// Share of the images of each class kept apart for validation.
    pub validation_fraction: Option<f64>,
    /// How it was trained, in words.
    pub trained: Option<String>,
    /// The one network whose tensors the file holds; `None` for a super-network.
    pub network: Option<NetworkCard>,
    /// Fields that nothing here reads, kept for whoever wrote them.
    pub other: Map<String, Value>,
}

/// What the card of a stand-alone network says of it; its field `network`.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkCard {
    /// The architecture.
    pub arch: Arch,
    /// The exits that it has; in the file a list that counts from 1.
    pub exits: Exits,
    /// Where its batch-norm statistics come from, in words.
    pub statistics: Option<String>,
    /// Everything else: costs, accuracies, weights of the exits.
    pub other: Map<String, Value>,
}

impl NetworkCard {
    /// Reads the field `network` of a card.
    fn read(value: &Value, family: Family) -> Result<NetworkCard, String> {
        let mut other = value.as_object().cloned().ok_or("an object is expected")?;
        let arch = other.remove("arch").ok_or("it has no `arch`: give the architecture")?;
        let arch = Arch::from_json(family, &arch).map_err(|e| e.to_string())?;
        let exits = other.remove("exits").ok_or("it has no `exits`: give the list of its exits, from 1")?;
        let numbers: Option<Vec<String>> =
            exits.as_array().and_then(|list| list.iter().map(|e| Some(e.as_u64()?.to_string())).collect());
        let numbers =
            numbers.ok_or_else(|| format!("`exits` is {exits}, and a list of numbers is expected"))?;
        let exits = Exits::parse(&numbers.join(","), &arch).map_err(|e| e.to_string())?;
        let statistics = other.remove("statistics").and_then(|s| s.as_str().map(str::to_string));
        if let Some(weights) = other.get("exit_weights") {
            let numbers = weights.as_array().map(|list| list.iter().filter(|v| v.is_number()).count());
            if numbers != Some(exits.len()) {
                return Err(format!("`exit_weights` is {weights}, and a number for each exit is expected"));
            }
        }
        Ok(NetworkCard { arch, exits, statistics, other })
    }

    /// The field as JSON.
    pub(super) fn to_json(&self) -> Value {
        let mut object = self.other.clone();
        object.insert("arch".into(), json!(self.arch));
        object.insert("exits".into(), json!(self.exits.iter().map(|exit| exit + 1).collect::<Vec<_>>()));
        if let Some(statistics) = &self.statistics {
            object.insert("statistics".into(), json!(statistics));
        }
        Value::Object(object)
    }
}

impl Card {
    /// The path of the card of a checkpoint.
    pub fn path(checkpoint: &Path) -> PathBuf {
        checkpoint.with_extension("card.json")
    }

    /// Says which images a network was made on: the data set, where its files are, and how it is split. What
    /// the card said about another data set is gone.
    pub fn made_on(&mut self, dataset: &Dataset) {
        let name = dataset.name();
        if self.data.as_deref() != Some(name) {
            self.class_names.clear();
        }
        self.data = Some(name.into());
        self.data_dir = dataset.folder().map(Path::to_path_buf);
        let counted = dataset.facts().records().is_some();
        self.validation_images = Some(dataset.split(Split::Val).len()).filter(|&n| counted && n > 0);
        let fraction = dataset.origin().and_then(|spec| spec.validation.fraction);
        self.validation_fraction = fraction.filter(|_| !counted && dataset.folder().is_some());
    }

    /// The data set that is asked for, else the card's, else the one that is built in; its folder and splits too
    /// are the card's where they are not given. What the card says about its own data set holds for no other.
    pub fn spec(&self, name: Option<String>, dir: Option<PathBuf>, validation: Validation) -> Spec {
        let name = name.or_else(|| self.data.clone()).unwrap_or_else(|| NAMES[0].into());
        let own = Some(self).filter(|card| card.data.as_ref() == Some(&name));
        let dir = dir.or_else(|| own?.data_dir.clone());
        // A split that is given in one way is not the card's in the other.
        let given = validation.images.is_some() || validation.fraction.is_some();
        let of_card = own
            .filter(|_| !given)
            .map(|card| Validation { images: card.validation_images, fraction: card.validation_fraction });
        Spec { name, dir, validation: of_card.unwrap_or(validation), side: None }
    }

    /// The card's normalisation, else the `usual` one.
    pub fn pixels(&self, usual: Pixels) -> Pixels {
        Pixels { mean: self.mean.unwrap_or(usual.mean), std: self.std.unwrap_or(usual.std) }
    }

    /// The resolutions of the search space: the card's, else the paper's.
    pub fn search_resolutions(&self) -> &[u32] {
        if self.resolutions.is_empty() { &PAPER_RESOLUTIONS } else { &self.resolutions }
    }

    /// Reads the card beside a checkpoint; an empty card if there is none.
    ///
    /// # Errors
    /// A card that is there and cannot be understood; the field is named.
    pub fn beside(checkpoint: &Path) -> Result<Card, Error> {
        let file = Card::path(checkpoint);
        match std::fs::read_to_string(&file) {
            Ok(text) => Card::parse(&text, &file),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(Card::default()),
            Err(source) => Err(Error::Read { file, source }),
        }
    }

    /// Reads a card from JSON text; `file` is for messages.
    ///
    /// # Errors
    /// As [`Card::beside`].
    pub fn parse(text: &str, file: &Path) -> Result<Card, Error> {
        let object: Map<String, Value> = serde_json::from_str(text).map_err(|e| Error::Card {
            file: file.into(),
            field: "(the whole card)".into(),
            reason: format!("it is not a JSON object: {e}"),
        })?;
        let fields = Fields { object, file };
        let family: Option<Family> =
            fields.get("family", "one of the eight families", |v| v.as_str()?.parse().ok())?;
        let card = Card {
            family,
            network: fields.network(family)?,
            width: fields.get("width", "a width multiplier from 0.05 to 8", |v| {
                v.as_f64().filter(|w| (0.05..=8.0).contains(w))
            })?,
            classes: fields.get("classes", "a number of classes from 1 on", count)?,
            class_names: fields
                .get("class_names", "a list of names", |v| {
                    v.as_array()?.iter().map(|n| n.as_str().map(str::to_string)).collect()
                })?
                .unwrap_or_default(),
            data: fields.get("data", "the name of a data set", |v| v.as_str().map(str::to_string))?,
            data_dir: fields
                .get("data_dir", "a folder", |v| v.as_str().filter(|dir| !dir.is_empty()).map(PathBuf::from))?
                .map(|dir| file.parent().unwrap_or(Path::new("")).join(dir))
                .map(|dir| std::path::absolute(&dir).unwrap_or(dir)),
            resolutions: fields
                .get("resolutions", "ascending sides from 32 to 1024", resolutions)?
                .unwrap_or_default(),
            mean: fields.get("mean", "three numbers", |v| triple(v, |_| true))?,
            std: fields.get("std", "three numbers above zero", |v| triple(v, |x| x > 0.0))?,
            resize: fields.get("resize", "\"bilinear\"", |v| {
                v.as_str().filter(|&s| s == "bilinear").map(str::to_string)
            })?,
            calibration_images: fields.get("calibration_images", "a number of images from 1 on", count)?,
            validation_images: fields.get("validation_images", "a number of images from 1 on", count)?,
            validation_fraction: fields.get("validation_fraction", "a share from 0 to below 1", |v| {
                v.as_f64().filter(|share| (0.0..1.0).contains(share))
            })?,
            trained: fields.get("trained", "text", |v| v.as_str().map(str::to_string))?,
            other: fields
                .object
                .iter()
                .filter(|(key, _)| !KNOWN.contains(&key.as_str()))
                .map(owned)
                .collect(),
        };
        if let Some(classes) =
            card.classes.filter(|&c| !card.class_names.is_empty() && c != card.class_names.len())
        {
            return Err(Error::Card {
                file: file.into(),
                field: "class_names".into(),
                reason: format!(
                    "{} names for {classes} classes: give one name a class",
                    card.class_names.len()
                ),
            });
        }
        Ok(card)
    }
}

/// The fields that [`Card`] reads.
const KNOWN: [&str; 15] = [
    "family",
    "width",
    "classes",
    "class_names",
    "data",
    "data_dir",
    "resolutions",
    "mean",
    "std",
    "resize",
    "calibration_images",
    "validation_images",
    "validation_fraction",
    "trained",
    "network",
];

fn owned((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

struct Fields<'a> {
    object: Map<String, Value>,
    file: &'a Path,
}

impl Fields<'_> {
    fn network(&self, family: Option<Family>) -> Result<Option<NetworkCard>, Error> {
        let Some(value) = self.object.get("network").filter(|v| !v.is_null()) else { return Ok(None) };
        let fail =
            |field: &str, reason: String| Error::Card { file: self.file.into(), field: field.into(), reason };
        let family =
            family.ok_or_else(|| fail("family", "the card of a network must name its family".into()))?;
        NetworkCard::read(value, family).map(Some).map_err(|reason| fail("network", reason))
    }

    fn get<T>(
        &self,
        field: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.object.get(field).filter(|v| !v.is_null()) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| Error::Card {
            file: self.file.into(),
            field: field.into(),
            reason: format!("found {value}, and {expected} is expected"),
        })
    }
}

fn count(value: &Value) -> Option<usize> {
    value.as_u64().filter(|&n| n > 0 && n < 1 << 32).map(|n| n as usize)
}

fn resolutions(value: &Value) -> Option<Vec<u32>> {
    let sides: Option<Vec<u32>> = value
        .as_array()?
        .iter()
        .map(|side| side.as_u64().filter(|r| (32..=1024).contains(r)).map(|r| r as u32))
        .collect();
    sides.filter(|sides| !sides.is_empty() && sides.is_sorted_by(|a, b| a < b))
}

fn triple(value: &Value, allowed: impl Fn(f32) -> bool) -> Option<[f32; 3]> {
    let numbers: Vec<f32> = value.as_array()?.iter().map_while(|v| v.as_f64().map(|x| x as f32)).collect();
    let numbers: [f32; 3] = numbers.try_into().ok()?;
    numbers.iter().all(|&x| x.is_finite() && allowed(x)).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Card, String> {
        Card::parse(text, Path::new("net.card.json")).map_err(|e| e.to_string())
    }

    #[test]
    fn a_card_says_where_its_images_are() {
        let folder = tempfile::tempdir().unwrap();
        for class in ["a", "b"] {
            let class = folder.path().join("photos").join(class);
            std::fs::create_dir_all(&class).unwrap();
            for number in 0..4 {
                let file = std::fs::File::create(class.join(format!("{number}.png"))).unwrap();
                let mut encoder = png::Encoder::new(file, 8, 8);
                encoder.set_color(png::ColorType::Rgb);
                encoder.write_header().unwrap().write_image_data(&[number; 192]).unwrap();
            }
        }
        let dir = folder.path().join("photos");
        let validation = crate::data::Validation { fraction: Some(0.25), ..Default::default() };
        let spec = crate::data::Spec { validation, ..crate::data::Spec::new("image-folder", Some(&dir)) };
        let text = r#"{"data":"cifar10","class_names":["x","y"],"validation_images":5}"#;
        let mut card = parse(text).unwrap();
        card.made_on(&crate::data::open(&spec).unwrap());
        assert_eq!((card.data.as_deref(), card.class_names.len()), (Some("image-folder"), 0));
        assert_eq!((card.data_dir.as_ref(), card.validation_images), (Some(&dir), None));
        assert_eq!(card.validation_fraction, Some(0.25));
        assert_eq!(parse(&card.to_json()).unwrap(), card);
        // A relative folder is one beside the card.
        let card = Card::parse(r#"{"data_dir":"photos"}"#, &folder.path().join("net.card.json")).unwrap();
        assert_eq!(card.data_dir, Some(dir));
        // The built-in set has none.
        let mut card = Card::default();
        card.made_on(&crate::data::open(&crate::data::Spec::new("digits", Some(folder.path()))).unwrap());
        assert_eq!((card.data.as_deref(), card.data_dir), (Some("digits"), None));
    }

    #[test]
    fn reads_what_is_there_and_names_what_is_wrong() {
        let card =
            parse(r#"{"family":"EE_D","width":1.2,"resolutions":[48,56],"std":[0.2,0.2,0.2],"more":1}"#);
        let card = card.unwrap();
        assert_eq!((card.family.unwrap().to_string(), card.width), ("EE_D".into(), Some(1.2)));
        assert_eq!(card.resolutions, [48, 56]);
        for (text, field) in [
            (r#"{"family":"XE"}"#, "`family`"),
            (r#"{"std":[0,1,1]}"#, "`std`"),
            (r#"{"resolutions":[64,48]}"#, "`resolutions`"),
            (r#"{"resize":"lanczos"}"#, "`resize`"),
            (r#"{"classes":3,"class_names":["a"]}"#, "`class_names`"),
            ("[1]", "whole card"),
            (r#"{"network":{}}"#, "`family`"),
            (r#"{"family":"SE_B","network":3}"#, "`network`"),
            (r#"{"family":"SE_B","network":{"arch":{"r":48}}}"#, "no field `d`"),
            (r#"{"data_dir":3}"#, "`data_dir`"),
            (r#"{"validation_fraction":1.5}"#, "`validation_fraction`"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(field) && message.contains("net.card.json"), "{message}");
        }
    }
}
