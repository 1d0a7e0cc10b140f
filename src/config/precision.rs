//! What maps are stored as.

use super::{Word, words};
use crate::words::{listed, parsed};

words!(
    /// What maps and the weights of 1x1 convolutions are stored as, while networks are evaluated or in a
    /// training's steps.
    #[derive(Default)]
    Precision {
        /// Four bytes a number.
        #[default]
        F32 = "f32",
        /// Two bytes (IEEE binary16): 11 significant bits, at most 65504.
        F16 = "f16",
        /// Two bytes (the upper half of an f32): 8 significant bits, the range of f32.
        Bf16 = "bf16",
    }
);

impl Precision {
    /// The word behind others, where a figure is not in f32; nothing where it is.
    pub fn unless_f32(self, before: &str) -> String {
        match self {
            Precision::F32 => String::new(),
            half => format!("{before}{half}"),
        }
    }
}

parsed!(Precision, String, |text| format!("precisions are {}", listed(Precision::WORDS)));
