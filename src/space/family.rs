//! The eight OFAv2 super-network families, {SE, EE} x {B, D, P, DP}.
//!
//! A family is three independent facts. Everything that differs between families (genes, tensor
//! names, plans, drawings) follows from them, so no code lists the families by name.

use super::Error;
use crate::words::Word;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A super-network family (OFAv2, arXiv 2302.01888).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Family {
    /// EE: an exit after each of the five stages, and depth in stages as a gene. SE: one plain head.
    pub early_exits: bool,
    /// D: dense skips inside a stage. They have no parameters and follow from the depth.
    pub dense: bool,
    /// P: every elastic layer is the sum of up to three parallel branches.
    pub parallel: bool,
}

impl Family {
    /// Plain OFA MobileNetV3.
    pub const SE_B: Family = Family { early_exits: false, dense: false, parallel: false };

    /// All eight, SE before EE.
    pub fn all() -> impl Iterator<Item = Family> {
        (0..Family::WORDS.len()).map(|facts| Family {
            early_exits: facts & 4 != 0,
            parallel: facts & 2 != 0,
            dense: facts & 1 != 0,
        })
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        let facts = [(self.early_exits, 4), (self.parallel, 2), (self.dense, 1)];
        Family::WORDS[facts.into_iter().filter(|(fact, _)| *fact).map(|(_, bit)| bit).sum::<usize>()]
    }
}

impl Word for Family {
    const WORDS: &'static [&'static str] =
        &["SE_B", "SE_D", "SE_P", "SE_DP", "EE_B", "EE_D", "EE_P", "EE_DP"];

    fn of_word(word: &str) -> Option<Family> {
        Family::all().find(|family| family.as_str() == word)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Family {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Family::of_word(&text.trim().to_ascii_uppercase())
            .ok_or_else(|| Error::UnknownFamily { name: text.to_string() })
    }
}

impl TryFrom<String> for Family {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Family> for String {
    fn from(family: Family) -> String {
        family.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_refused() {
        let names: Vec<String> = Family::all().map(|f| f.to_string()).collect();
        assert_eq!(names, ["SE_B", "SE_D", "SE_P", "SE_DP", "EE_B", "EE_D", "EE_P", "EE_DP"]);
        for family in Family::all() {
            assert_eq!(family.to_string().parse::<Family>(), Ok(family));
        }
        assert_eq!("XX_B".parse::<Family>(), Err(Error::UnknownFamily { name: "XX_B".into() }));
    }
}
