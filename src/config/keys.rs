//! The table of keys: name, what is allowed, what it means. It follows from the rows of the sections, as
//! do the fields and their usual values: a new setting is a row in the file of its section.

use super::finetune::Finetune;
use super::search::{Adaptation, Predictor, Search};
use super::sources::{Data, Run, Supernet};
use super::training::{Phase, Training};
use super::{Profile, Word};
use std::path::PathBuf;
use std::sync::LazyLock;

/// A key of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its dotted name.
    pub path: &'static str,
    /// What it allows.
    pub kind: Kind,
    /// What it means, in one line.
    pub doc: &'static str,
    /// For a key that may be absent: what then holds.
    pub absent: Option<&'static str>,
}

/// What a key allows.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A whole number, ends included.
    Whole(i64, i64),
    /// A number between two, ends excluded.
    Between(f64, f64),
    /// A number from one to another, the latter excluded.
    From(f64, f64),
    /// True or false.
    Flag,
    /// A list of different numbers of some, at least one.
    Numbers(&'static [i64]),
    /// A list of ascending whole numbers, ends included, at least one.
    Ascending(i64, i64),
    /// A name: letters, digits, `-`, `_` and `.`.
    Name,
    /// A list of tables with the keys of [`PHASE_KEYS`].
    Phases,
    /// One of some words.
    Choice(&'static [&'static str]),
    /// A list of different words of some, at least one.
    Choices(&'static [&'static str]),
    /// A path.
    Path,
}

impl Kind {
    /// What is allowed, in words that follow "must be".
    pub fn allowed(&self) -> String {
        let quoted = |words: &[&str]| words.iter().map(|w| format!("{w:?}")).collect::<Vec<_>>().join(", ");
        match self {
            Kind::Whole(from, to) if *to == i64::MAX => format!("a whole number, {from} or more"),
            Kind::Whole(from, to) => format!("a whole number from {from} to {to}"),
            Kind::Between(from, to) => format!("a number between {from} and {to}, both excluded"),
            Kind::From(from, to) => format!("a number from {from} up to {to}, {to} excluded"),
            Kind::Flag => "true or false".into(),
            Kind::Numbers(numbers) => {
                let all = numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
                format!("a list of one to {}, each once, of {all}", numbers.len())
            }
            Kind::Ascending(from, to) => format!("a list of whole numbers from {from} to {to}, ascending"),
            Kind::Name => "a name of 1 to 40 letters, digits, '-', '_' or '.'".into(),
            Kind::Phases => "a list of phases: tables with name, epochs, rate and more".into(),
            Kind::Choice(words) => format!("one of {}", quoted(words)),
            Kind::Choices(words) => {
                format!("a list of one to {}, each once, of {}", words.len(), quoted(words))
            }
            Kind::Path => "a path (text that is not empty)".into(),
        }
    }
}

/// A type that says by itself what a key of it allows.
pub(super) trait Allows {
    const KIND: Kind;
}

impl<T: Word> Allows for T {
    const KIND: Kind = Kind::Choice(T::WORDS);
}

impl<T: Word> Allows for Vec<T> {
    const KIND: Kind = Kind::Choices(T::WORDS);
}

impl<T: Allows> Allows for Option<T> {
    const KIND: Kind = T::KIND;
}

impl Allows for bool {
    const KIND: Kind = Kind::Flag;
}

impl Allows for PathBuf {
    const KIND: Kind = Kind::Path;
}

/// Images, where there may be any number of them.
pub(super) const IMAGES: Kind = Kind::Whole(1, 1_000_000_000);

/// A section of the configuration, one row a setting:
///
/// ```text
/// /// What it means. In a written file this is its comment, in one line.
/// #[absent = "what holds where it is not set"]
/// name: Type, what it allows => its value where nobody gives one;
/// ```
///
/// What it allows is left out where the type says it ([`Allows`]). `absent` is for what may be left out for
/// good: an `Option`, or a key of a phase. The struct, its [`Key`]s, and the function that makes it with the
/// usual values come from the rows.
macro_rules! section {
    (
        $(#[$about:meta])*
        $name:ident, $vis:vis fn $usual:ident($($arg:ident: $arg_type:ty),*);
        $(
            $(#[doc = $doc:literal])+
            $(#[absent = $absent:literal])?
            $field:ident: $type:ty $(, $kind:expr)? => $value:expr;
        )+
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[doc = $doc])+
                $(#[doc = concat!("\nWhere it is not set: ", $absent, ".")])?
                pub $field: $type,
            )+
        }

        impl $name {
            /// The keys of its settings, in a section of that name.
            pub(super) fn keys(section: &str) -> Vec<$crate::config::keys::Key> {
                vec![$($crate::config::keys::Key::new(
                    section,
                    stringify!($field),
                    $crate::config::keys::section!(@kind $type $(, $kind)?),
                    concat!($($doc),+),
                    $crate::config::keys::section!(@absent $($absent)?),
                )),+]
            }

            /// With the values that hold where nobody gives others.
            $vis fn $usual($($arg: $arg_type),*) -> $name {
                $name { $($field: $value),+ }
            }
        }
    };
    (@kind $type:ty) => { <$type as $crate::config::keys::Allows>::KIND };
    (@kind $type:ty, $kind:expr) => { $kind };
    (@absent) => { None };
    (@absent $absent:literal) => { Some($absent) };
}
pub(super) use section;

impl Key {
    /// A key of a section, or of none. Keys are made once, so their names may stay for good.
    pub(super) fn new(
        section: &str,
        name: &'static str,
        kind: Kind,
        doc: &'static str,
        absent: Option<&'static str>,
    ) -> Key {
        let path = if section.is_empty() { name } else { format!("{section}.{name}").leak() };
        Key { path, kind, doc: doc.trim_start(), absent }
    }
}

/// Every key, in the order of a written file.
pub static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let seed = Key::new("", "seed", Kind::Whole(0, i64::MAX), "Every random draw follows from it.", None);
    let doc = "The values of keys that are not given: the published ones, two minutes' work, seconds' work.";
    let profile = Key::new("", "profile", Profile::KIND, doc, None);
    let sections = [
        vec![seed, profile],
        Run::keys("run"),
        Data::keys("data"),
        Supernet::keys("supernet"),
        Training::keys("train"),
        Training::keys("warmup"),
        Search::keys("search"),
        Predictor::keys("predictor"),
        Adaptation::keys("adaptation"),
        Finetune::keys("finetune"),
    ];
    sections.concat()
});

/// The keys of a phase. Those with nothing in `absent` must be given.
pub static PHASE_KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| Phase::keys(""));

/// The key of a dotted name.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether a name is that of a section.
pub fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.path.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// The key that a wrong one was most likely meant to be, if any is like it: compared by the whole
/// name, and by its last part, which people forget to prefix.
pub fn nearest(wrong: &str) -> Option<&'static str> {
    nearest_of(&KEYS, wrong)
}

/// The same among some keys.
pub(super) fn nearest_of(keys: &'static [Key], wrong: &str) -> Option<&'static str> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_lowercase();
    let wrong_last = last(wrong);
    let score = |path: &str| {
        let whole = strsim::normalized_damerau_levenshtein(&wrong.to_lowercase(), path);
        // Slightly less, so that of two equal names the one in the right section is chosen.
        whole.max(strsim::normalized_damerau_levenshtein(&wrong_last, &last(path)) * 0.9 + 0.1 * whole)
    };
    let paths = keys.iter().map(|key| key.path);
    most_alike(paths, score)
}

/// The choice that a wrong word was most likely meant to be.
pub(super) fn nearest_choice(kind: &Kind, wrong: &str) -> Option<&'static str> {
    let words = match kind {
        Kind::Choice(words) | Kind::Choices(words) => *words,
        _ => &[],
    };
    let wrong = wrong.to_lowercase();
    most_alike(words.iter().copied(), |word| {
        strsim::normalized_damerau_levenshtein(&wrong, &word.to_lowercase())
    })
}

fn most_alike(
    words: impl Iterator<Item = &'static str>,
    score: impl Fn(&str) -> f64,
) -> Option<&'static str> {
    const ALIKE: f64 = 0.5;
    let mut best: (f64, Option<&'static str>) = (ALIKE, None);
    for word in words {
        let score = score(word);
        if score > best.0 {
            best = (score, Some(word));
        }
    }
    best.1
}
