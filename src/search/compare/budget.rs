//! Equal budgets: how many networks a configuration evaluates, and which counts make it evaluate as many as
//! another one.
//!
//! With archive A, oversampling o, I iterations and c candidates, a search evaluates
//!
//! ```text
//! first archive            A o   (A where it is drawn as NAT's)
//! candidates               I c
//! the archive again        I A   (+ c I (I + 1) / 2 where it grows), if the weights are adapted
//! ```
//!
//! The number of iterations stays the same, and so does the number of adaptation steps.

use super::Variant;
use crate::config::Config;
use crate::space::sample::Policy;
use crate::words::{Word, listed, parsed, words};

words!(
    /// Whether budgets are made equal.
    Budget {
        /// Every variant evaluates as many networks as the first, as nearly as whole numbers allow.
        Equal = "equal",
        /// Every variant has the counts of its configuration.
        AsIs = "as-is",
    }
);

parsed!(Budget, String, |text| format!("budgets are {}", listed(Budget::WORDS)));

/// How many evaluations a search takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Different networks.
    pub networks: usize,
    /// Networks that are evaluated again, with adapted weights.
    pub reevaluations: usize,
}

impl Counts {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Counts {
        let (search, weights) = (&config.search, Weights::of(config));
        let rounds = search.iterations;
        let grown = if search.growth == Policy::Nat { rounds * (rounds + 1) / 2 } else { 0 };
        let again = if config.adaptation.epochs > 0 { rounds * search.archive } else { 0 };
        let growth = if config.adaptation.epochs > 0 { grown * search.candidates } else { 0 };
        let all = weights.archive * search.archive + weights.candidates * search.candidates;
        Counts { networks: all - again - growth, reevaluations: again + growth }
    }

    /// All of them.
    pub fn evaluations(&self) -> usize {
        self.networks + self.reevaluations
    }
}

/// What a network more in the archive, and a candidate more a round, add to the evaluations.
struct Weights {
    archive: usize,
    candidates: usize,
}

impl Weights {
    fn of(config: &Config) -> Weights {
        let search = &config.search;
        let rounds = search.iterations;
        let drawn = match search.initialisation {
            Policy::NatV2 => search.oversample,
            Policy::Nat => 1,
        };
        let (again, grown) = match (config.adaptation.epochs, search.growth) {
            (0, _) => (0, 0),
            (_, Policy::NatV2) => (rounds, 0),
            (_, Policy::Nat) => (rounds, rounds * (rounds + 1) / 2),
        };
        Weights { archive: drawn + again, candidates: rounds + grown }
    }
}

/// The settings that bring the evaluations of a variant with this configuration as near to `total` as
/// possible; none where they are that many already, or where the variant gives the counts itself.
///
/// Where the archive grows, its start and the candidates are chosen together, about in the proportion
/// that they have in the configuration. Where it does not, its size is part of the result that is
/// compared and stays: only the candidates change.
pub fn fitted(variant: &Variant, config: &Config, total: usize) -> Vec<String> {
    let own = Counts::of(config).evaluations();
    let (free_archive, free_candidates) = (
        config.search.growth == Policy::Nat && !variant.sets("search.archive"),
        !variant.sets("search.candidates"),
    );
    if own == total || !(free_archive || free_candidates) {
        return Vec::new();
    }
    let weights = Weights::of(config);
    let (own_archive, own_candidates) = (config.search.archive, config.search.candidates);
    let least = config.predictor.folds.max(LEAST_ARCHIVE);
    let archive_for = |candidates: usize| {
        nearest(total.saturating_sub(weights.candidates * candidates), weights.archive).max(least)
    };
    let (archive, candidates) = match (free_archive, free_candidates) {
        (false, _) => {
            let rest = total.saturating_sub(weights.archive * own_archive);
            (own_archive, nearest(rest, weights.candidates).max(1))
        }
        (true, false) => (archive_for(own_candidates), own_candidates),
        (true, true) => {
            let scale = total as f64 / own as f64;
            let wanted = scale * own_candidates as f64;
            let range = (wanted / SLACK).floor().max(1.0) as usize..=(wanted * SLACK).ceil() as usize;
            let judged = range.map(|candidates| {
                let found = archive_for(candidates);
                let evaluations = weights.archive * found + weights.candidates * candidates;
                let off = (found as f64 / own_archive as f64).ln()
                    - (candidates as f64 / own_candidates as f64).ln();
                (evaluations.abs_diff(total), off.abs(), found, candidates)
            });
            // Small numbers may have no pair in proportion: then it counts for less.
            let best = judged.min_by(|a, b| {
                let apart = |off: f64| off > SLACK.ln();
                apart(a.1).cmp(&apart(b.1)).then(a.0.cmp(&b.0)).then(a.1.total_cmp(&b.1))
            });
            best.map_or((own_archive, own_candidates), |(_, _, archive, candidates)| (archive, candidates))
        }
    };
    let archive = (archive != own_archive).then(|| format!("search.archive={archive}"));
    let candidates = (candidates != own_candidates).then(|| format!("search.candidates={candidates}"));
    archive.into_iter().chain(candidates).collect()
}

/// The smallest archive that a configuration may have.
const LEAST_ARCHIVE: usize = 4;
/// How far the proportion of start and candidates, and the candidates, may be from what they were.
const SLACK: f64 = 1.25;

/// The quotient, rounded.
fn nearest(value: usize, divisor: usize) -> usize {
    (value + divisor / 2) / divisor
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Profile, load};

    fn config(profile: Profile, sets: &[String]) -> Config {
        load("compare", None, sets, Some(profile)).unwrap()
    }

    fn fit(profile: Profile, common: &[&str], text: &str) -> (usize, usize, Config) {
        let common: Vec<String> = common.iter().map(|set| set.to_string()).collect();
        let total = Counts::of(&config(profile, &common)).evaluations();
        let variant = Variant::parse(text).unwrap();
        let sets = [common, variant.settings.clone()].concat();
        let further = fitted(&variant, &config(profile, &sets), total);
        let fitted = config(profile, &[sets, further].concat());
        (total, Counts::of(&fitted).evaluations(), fitted)
    }

    #[test]
    fn the_published_counts() {
        let natv2 = Counts::of(&config(Profile::Paper, &[]));
        assert_eq!(natv2, Counts { networks: 3000 + 750, reevaluations: 9000 });
        let nat = Counts::of(&config(Profile::Paper, &["search.method=nat".into()]));
        assert_eq!(nat, Counts { networks: 100 + 240, reevaluations: 30 * 100 + 8 * 465 });
    }

    #[test]
    fn a_growing_archive_is_scaled_to_the_budget() {
        for (profile, common) in [
            (Profile::Paper, vec![]),
            (Profile::Quick, vec![]),
            (Profile::Quick, vec!["adaptation.epochs=2"]),
        ] {
            let (total, evaluations, nat) = fit(profile, &common, "nat:search.method=nat");
            // A network more or less in the archive is the grain.
            let grain = if nat.adaptation.epochs > 0 { nat.search.iterations + 1 } else { 1 };
            assert!(total.abs_diff(evaluations) <= grain / 2, "{total} and {evaluations}");
            let start = nat.search.archive as f64 / nat.search.candidates as f64;
            let own = if profile == Profile::Paper { 100.0 / 8.0 } else { 60.0 / 5.0 };
            assert!((start / own).ln().abs() < SLACK.ln(), "{start} of {own}");
        }
    }

    #[test]
    fn a_constant_archive_keeps_its_size() {
        let (total, evaluations, drawn) = fit(Profile::Quick, &[], "drawn:search.initialisation=nat");
        assert_eq!((total, evaluations, drawn.search.archive, drawn.search.candidates), (330, 330, 60, 45));
        let (total, evaluations, _) = fit(Profile::Paper, &[], "cart:predictor.kind=cart");
        assert_eq!(total, evaluations);
    }

    #[test]
    fn counts_that_a_variant_gives_stay() {
        let (_, _, nat) = fit(Profile::Quick, &[], "nat:search.method=nat,search.archive=100");
        assert_eq!((nat.search.archive, nat.search.candidates), (100, 38));
        let (_, _, nat) = fit(Profile::Quick, &[], "nat:search.method=nat,search.candidates=10");
        assert_eq!((nat.search.archive, nat.search.candidates), (270, 10));
        let (_, own, nat) =
            fit(Profile::Quick, &[], "nat:search.method=nat,search.candidates=9,search.archive=50");
        assert_eq!((own, nat.search.archive, nat.search.candidates), (50 + 6 * 9, 50, 9));
    }
}
