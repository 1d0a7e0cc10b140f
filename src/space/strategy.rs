//! How the exits of a network are weighted (AEP: anticipate, ensemble and prune, arXiv 2301.12168).

use crate::words::{Word, words};
use std::str::FromStr;

words!(
    /// How exits are weighted, in their joint loss and in the sum of their logits.
    Strategy {
        /// The last exit most, in both.
        Asc = "asc",
        /// The first exit most, in both.
        Desc = "desc",
        /// All alike.
        Unif = "unif",
        /// The first exit most in the loss, the last most in the sum.
        Mix = "mix",
    }
);

/// Weights of the exits, from the first on. Those of a [`Strategy`] are positive and sum to one, up to the
/// rounding of the published weights.
#[derive(Debug, Clone, PartialEq)]
pub struct ExitWeights {
    /// Of the losses.
    pub alpha: Vec<f64>,
    /// Of the logits.
    pub beta: Vec<f64>,
}

impl Strategy {
    /// The weights for `n` exits: `i / (n (n + 1) / 2)` for the i-th, rounded to four decimals, or its
    /// mirror image; `1 / n` where all are alike.
    pub fn weights(self, n: usize) -> ExitWeights {
        let total = (n * (n + 1) / 2) as f64;
        let ascending = (1..=n).map(|i| (1e4 * i as f64 / total).round() / 1e4);
        self.of(ascending.collect())
    }

    /// The weights of five exits as OFAv2's and NATv2's programs round them, which super-networks are
    /// trained with.
    pub fn training_weights(self) -> ExitWeights {
        self.of(vec![0.06, 0.13, 0.20, 0.27, 0.34])
    }

    fn of(self, ascending: Vec<f64>) -> ExitWeights {
        let n = ascending.len();
        let descending: Vec<f64> = ascending.iter().rev().copied().collect();
        let (alpha, beta) = match self {
            Strategy::Desc => (descending.clone(), descending),
            Strategy::Asc => (ascending.clone(), ascending),
            Strategy::Unif => (vec![1.0 / n as f64; n], vec![1.0 / n as f64; n]),
            Strategy::Mix => (descending, ascending),
        };
        ExitWeights { alpha, beta }
    }
}

impl FromStr for Strategy {
    type Err = String;

    fn from_str(text: &str) -> Result<Strategy, String> {
        let strategy = Strategy::of_word(&text.to_ascii_lowercase());
        strategy.ok_or_else(|| "strategies are desc, asc, unif and mix".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_the_published_ones() {
        let ascending = vec![0.0667, 0.1333, 0.2, 0.2667, 0.3333];
        let descending: Vec<f64> = ascending.iter().rev().copied().collect();
        assert_eq!(
            Strategy::Asc.weights(5),
            ExitWeights { alpha: ascending.clone(), beta: ascending.clone() }
        );
        assert_eq!(Strategy::Desc.weights(5).beta, descending);
        assert_eq!(Strategy::Mix.weights(5), ExitWeights { alpha: descending, beta: ascending });
        assert_eq!(Strategy::Unif.weights(4).alpha, [0.25; 4]);
        assert_eq!(Strategy::Asc.weights(1).beta, [1.0]);
    }

    #[test]
    fn super_networks_are_trained_with_the_weights_of_the_programs() {
        let of = |strategy: Strategy| strategy.training_weights();
        assert_eq!(of(Strategy::Asc).alpha, [0.06, 0.13, 0.20, 0.27, 0.34]);
        assert_eq!(of(Strategy::Desc).alpha, [0.34, 0.27, 0.20, 0.13, 0.06]);
        assert_eq!(of(Strategy::Unif), ExitWeights { alpha: vec![0.2; 5], beta: vec![0.2; 5] });
        assert_eq!(of(Strategy::Mix).beta, of(Strategy::Asc).beta);
        // As a step takes them, they are the nearest numbers of 32 bits.
        let single: Vec<f32> = of(Strategy::Asc).alpha.iter().map(|&weight| weight as f32).collect();
        assert_eq!(single, [0.06f32, 0.13, 0.20, 0.27, 0.34]);
    }
}
