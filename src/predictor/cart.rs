//! CART: one tree, grown to the targets themselves, unclipped, in one step of size 1.

use super::bins::Binned;
use super::tree::{self, Grower, Limits, Tree};
use super::{Error, Features, Trees, whole};
use serde::{Deserialize, Serialize};

/// A single regression tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cart {
    /// Fewest rows of a leaf.
    pub min_samples_leaf: usize,
}

impl Default for Cart {
    fn default() -> Self {
        Cart { min_samples_leaf: 1 }
    }
}

impl Trees for Cart {
    fn validate(&self) -> Result<(), Error> {
        whole("cart.min_samples_leaf", self.min_samples_leaf, 1)
    }

    fn grow(&self, features: &Features, rows: &[usize], targets: &[f64]) -> Result<Vec<Tree>, Error> {
        let binned = Binned::new(features, rows, 1)?;
        let largest = targets.iter().fold(0.0, |m: f64, t| m.max(t.abs()));
        let fixed = tree::fixed_point(rows.len(), largest);
        let gradients: Vec<i64> = targets.iter().map(|t| tree::nearest(-t * fixed)).collect();
        let limits = Limits { leaves: usize::MAX, rows: self.min_samples_leaf };
        Ok(vec![Grower::new(&binned, limits).grow(&gradients, 1.0 / fixed, |_, _| ())])
    }
}
