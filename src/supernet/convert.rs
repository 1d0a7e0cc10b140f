//! A checkpoint of one family made into one of another.
//!
//! What both have is kept bit for bit; what the new family needs and the file does not have is
//! initialised; what the new family does not need is left out. Two heads are the same thing under
//! two names: the plain head, and the exit behind the last stage, which have the same shapes. So a
//! converted super-network is as good at its last exit as the plain one was, and the other way round.

use super::init::{Draws, Init, parts_of};
use super::{Card, Checkpoint, Error, Layout, Supernet, Tensor};
use crate::space::{Channels, ExitScaling, Family};

/// What a checkpoint is to become.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The family.
    pub family: Family,
    /// Number of classes; other than the file's, classifiers are new. `None`: as the file.
    pub classes: Option<usize>,
    /// How exits scale with the width. `None`: as the file's, else once.
    pub scaling: Option<ExitScaling>,
    /// How what is new is drawn.
    pub init: Init,
    /// Seed of what is new.
    pub seed: u64,
}

/// A converted super-network and what was done.
#[derive(Debug)]
pub struct Conversion {
    /// The result.
    pub supernet: Supernet,
    /// Tensors taken from the file.
    pub kept: Vec<String>,
    /// Tensors taken from the file's other name of the same head.
    pub moved: Vec<String>,
    /// Tensors that are new.
    pub new: Vec<String>,
    /// Tensors of the file that the family does not need.
    pub dropped: Vec<String>,
}

/// The last exit's names.
const LAST_EXIT: &str = "exits.4.";

/// Converts a checkpoint.
///
/// # Errors
/// A file that is no super-network of this kind, or a tensor of a wrong shape; no classes.
pub fn convert(checkpoint: &Checkpoint, card: &Card, target: &Target) -> Result<Conversion, Error> {
    // Loading checks every tensor of the file.
    let source = Supernet::from_checkpoint(checkpoint, card.clone(), None)?;
    if source.layout.is_network() {
        let what = "which cannot be converted: convert a super-network, and put the network into it with \
                    `natv2 supernet insert`";
        return Err(Error::OneNetwork { file: checkpoint.file().into(), what: what.into() });
    }
    let Channels { width, .. } = *source.channels();
    let classes = target.classes.unwrap_or(source.classes());
    if classes == 0 {
        return Err(Error::Blank { what: "0 classes: choose from 1 on".into() });
    }
    let channels = match (target.scaling, source.layout.parts().exits) {
        (None, true) => *source.channels(),
        (scaling, _) => Channels::new(width, scaling.unwrap_or_default()),
    };
    let layout = Layout::new(channels, classes, parts_of(target.family));
    let draws = Draws { layout: &layout, init: target.init, seed: target.seed };
    let have = source.layout.unpack(&source.packed);
    let (mut kept, mut moved, mut new) = (Vec::new(), Vec::new(), Vec::new());
    let mut tensors = std::collections::BTreeMap::new();
    for wanted in layout.tensors() {
        let fits = |tensor: &&Tensor| tensor.shape == wanted.shape;
        let classifier = is_classifier(&wanted.name);
        let here = have.get(&wanted.name);
        let elsewhere = alias(&wanted.name).and_then(|name| have.get(&name)).filter(fits);
        let (list, value) = match here.filter(fits).or(elsewhere) {
            // Another number of classes means other classes: even the bias is new.
            _ if classifier && classes != source.classes() => (&mut new, None),
            Some(tensor) if here.is_some_and(|h| h.shape == wanted.shape) => {
                (&mut kept, Some(tensor.clone()))
            }
            Some(tensor) => (&mut moved, Some(tensor.clone())),
            None => (&mut new, None),
        };
        list.push(wanted.name.clone());
        let value = value.unwrap_or_else(|| draws.tensor(wanted));
        tensors.insert(wanted.name.clone(), value);
    }
    let dropped = have.keys().filter(|name| !tensors.contains_key(*name)).cloned().collect();
    let packed = layout.pack(&Checkpoint::from_tensors(checkpoint.file(), tensors))?;
    let card = converted_card(card, &source, target, classes, new.len(), classes != source.classes());
    let file = checkpoint.file().into();
    let notes = checkpoint.notes().to_vec();
    let supernet = Supernet { family: target.family, layout, packed, card, file, notes };
    Ok(Conversion { supernet, kept, moved, new, dropped })
}

impl Supernet {
    /// The same super-network with new classifiers, for other classes: drawn by
    /// `init`, everything else kept bit for bit. Classifiers are new even for
    /// the same number of classes. The card no longer names the data.
    ///
    /// # Errors
    /// No classes, or more than a classifier can have.
    pub fn with_new_classifiers(&self, classes: usize, init: Init, seed: u64) -> Result<Supernet, Error> {
        if classes == 0 || classes > 1 << 20 {
            return Err(Error::Blank { what: format!("{classes} classes: choose from 1 to {}", 1 << 20) });
        }
        let layout = Layout::new(*self.channels(), classes, self.layout.parts());
        let draws = Draws { layout: &layout, init, seed };
        let mut tensors = self.layout.unpack(&self.packed);
        let mut new = 0;
        for wanted in layout.tensors().iter().filter(|t| is_classifier(&t.name)) {
            tensors.insert(wanted.name.clone(), draws.tensor(wanted));
            new += 1;
        }
        let packed = layout.pack(&Checkpoint::from_tensors(&self.file, tensors))?;
        let target = Target { family: self.family, classes: Some(classes), scaling: None, init, seed };
        let card = converted_card(&self.card, self, &target, classes, new, true);
        let (file, notes) = (self.file.clone(), self.notes.clone());
        Ok(Supernet { family: self.family, layout, packed, card, file, notes })
    }
}

fn is_classifier(name: &str) -> bool {
    name.contains("classifier.linear.")
}

/// The other name of a tensor of the plain head or of the last exit.
fn alias(name: &str) -> Option<String> {
    match name.strip_prefix(LAST_EXIT) {
        Some(rest) => Some(rest.into()),
        None if name.starts_with("blocks.") || name.starts_with("exits.") => None,
        None => Some(format!("{LAST_EXIT}{name}")),
    }
}

/// The card of the result: what it says about the data is only kept with the classes.
fn converted_card(
    card: &Card,
    source: &Supernet,
    target: &Target,
    classes: usize,
    new: usize,
    other_classes: bool,
) -> Card {
    let mut out = if other_classes {
        Card { resolutions: card.resolutions.clone(), ..Card::default() }
    } else {
        card.clone()
    };
    out.family = Some(target.family);
    out.width = Some(source.channels().width);
    out.classes = Some(classes);
    let before = card.trained.as_deref().unwrap_or("unknown");
    let then = if other_classes && source.family == target.family {
        format!("classifiers for {classes} classes")
    } else {
        format!("converted from {} to {}", source.family, target.family)
    };
    out.trained = Some(match new {
        0 => format!("{before}; {then}"),
        _ => format!(
            "{before}; {then}, {new} tensors not trained: new, {}, seed {}",
            target.init.as_str(),
            target.seed
        ),
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(family: &str) -> Target {
        Target {
            family: family.parse().unwrap(),
            classes: None,
            scaling: None,
            init: Init::HeFanOut,
            seed: 5,
        }
    }

    fn built_in() -> Supernet {
        Supernet::open(None, None).unwrap()
    }

    #[test]
    fn there_and_back_keeps_every_bit() {
        let plain = built_in();
        for family in Family::all() {
            let there = convert(&plain.checkpoint(), &plain.card, &target(&family.to_string())).unwrap();
            assert_eq!(there.supernet.family, family);
            assert!(there.dropped.iter().all(|name| family.early_exits && !name.starts_with("blocks.")));
            let back = convert(&there.supernet.checkpoint(), &there.supernet.card, &target("SE_B")).unwrap();
            assert!(back.new.is_empty(), "{family}: {:?}", back.new);
            let bits = |net: &Supernet| net.packed.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&back.supernet), bits(&plain), "{family}");
        }
    }

    #[test]
    fn new_parts_are_new_and_the_last_exit_is_the_plain_head() {
        let plain = built_in();
        let there = convert(&plain.checkpoint(), &plain.card, &target("EE_P")).unwrap();
        assert!(there.new.iter().all(|name| name.starts_with("exits.") || name.contains(".parallel.")));
        assert!(there.moved.iter().all(|name| name.starts_with("exits.4.")) && !there.moved.is_empty());
        assert!(there.new.iter().any(|name| name.starts_with("exits.0.")));
        let card = &there.supernet.card;
        assert_eq!((card.family.unwrap().to_string(), card.data.as_deref()), ("EE_P".into(), Some("digits")));
        assert!(card.trained.as_ref().unwrap().contains("converted from SE_B to EE_P"));
    }

    #[test]
    fn other_classes_mean_new_classifiers_and_a_card_without_data() {
        let plain = built_in();
        let wanted = Target { classes: Some(7), ..target("SE_B") };
        let there = convert(&plain.checkpoint(), &plain.card, &wanted).unwrap();
        assert_eq!(there.new, ["classifier.linear.weight", "classifier.linear.bias"]);
        assert_eq!(there.supernet.classes(), 7);
        let card = &there.supernet.card;
        assert_eq!((card.classes, &card.data, card.class_names.len()), (Some(7), &None, 0));
        assert_eq!(card.resolutions, plain.card.resolutions);
        let none = Target { classes: Some(0), ..target("SE_B") };
        assert!(convert(&plain.checkpoint(), &plain.card, &none).is_err());
    }

    #[test]
    fn new_classifiers_leave_everything_else_alone() {
        let digits = built_in();
        for classes in [10, 7] {
            let fresh = digits.with_new_classifiers(classes, Init::HeFanOut, 3).unwrap();
            let again = digits.with_new_classifiers(classes, Init::HeFanOut, 3).unwrap();
            assert_eq!((fresh.classes(), &fresh.packed), (classes, &again.packed));
            let (old, new) = (digits.layout.unpack(&digits.packed), fresh.layout.unpack(&fresh.packed));
            assert!(old.keys().eq(new.keys()));
            let changed: Vec<&str> = old
                .iter()
                .filter(|(name, tensor)| new[*name] != **tensor)
                .map(|(name, _)| name.as_str())
                .collect();
            assert_eq!(changed, ["classifier.linear.bias", "classifier.linear.weight"]);
            assert_eq!((&fresh.card.data, fresh.card.classes), (&None, Some(classes)));
        }
        assert!(digits.with_new_classifiers(0, Init::HeFanOut, 3).is_err());
    }
}
