//! Accuracy predictors on plain numbers.
//!
//! A search asks one question thousands of times: how wrong would this network be? The answer
//! comes from an ensemble of regression trees that is fitted to the archive (some hundreds of
//! genotypes and their measured errors) at each iteration. Nothing here knows of networks: a row is
//! a list of small unsigned integers, a target is a number.
//!
//! - [`Features`] is the table of rows, [`Encoding`] says how the trees see them.
//! - [`fit`] makes an [`Ensemble`]: the rows are shuffled and dealt into folds, one model is fitted
//!   to all rows but one fold, for each fold, and a prediction is the mean of the models'.
//! - A model (`model.rs`) has the trees of a [`Kind`]: [`Kind::Gbdt`] (`gbdt.rs`: gradient boosting with the
//!   defaults of LightGBM) or [`Kind::Cart`] (`cart.rs`: one fully grown tree). Both grow their trees in
//!   `tree.rs`, on histograms over the bins of `bins.rs`; `forest.rs` evaluates the grown trees. A further
//!   kind is a file with its settings and how its trees are grown, and a row of `kinds!` here.
//! - [`metrics`] says how good predictions are: RMSE, Spearman's rho, Kendall's tau.
//!
//! Sums of gradients are integers (fixed point), so their order cannot matter, and the same seed
//! gives the same bits for any number of threads.

mod bins;
mod cart;
mod features;
mod forest;
mod gbdt;
pub mod metrics;
mod model;
#[cfg(test)]
mod plain;
#[cfg(test)]
mod tests;
mod tree;

pub use cart::Cart;
pub use features::{Encoding, Features};
pub use gbdt::Gbdt;

use crate::exit::exits;
use crate::words::{Word, parsed, words};
use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tree::Tree;

/// What stands in the way of a fit.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The number of values is no multiple of the number of columns.
    #[error("{values} feature values cannot be cut into rows of {columns} columns")]
    Ragged {
        /// Values given.
        values: usize,
        /// Columns asked for.
        columns: usize,
    },
    /// Rows and targets differ in number.
    #[error("{rows} rows of features but {targets} targets; the predictor needs one target a row")]
    Lengths {
        /// Rows of features.
        rows: usize,
        /// Targets.
        targets: usize,
    },
    /// There is nothing to fit to.
    #[error("the predictor has no rows to fit; evaluate at least one network first")]
    Empty,
    /// A target is NaN or infinite.
    #[error("target of row {row} is {value}; leave out rows that have no finite measurement")]
    NotFinite {
        /// Row of the target, from 0.
        row: usize,
        /// The target.
        value: f64,
    },
    /// Targets so large that their sums overflow.
    #[error("targets are too large to average (their spread overflows 64-bit floats); rescale them")]
    Overflow,
    /// More rows, columns or bins than the tables hold.
    #[error("the predictor holds up to {limit} {what}, this data has {found}")]
    TooLarge {
        /// Rows, columns or bins.
        what: &'static str,
        /// The most it holds.
        limit: usize,
        /// What was found.
        found: usize,
    },
    /// A setting that is out of range.
    #[error("predictor setting `{field}` is {value}; it must be {wanted}")]
    Setting {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: f64,
        /// What it may be.
        wanted: &'static str,
    },
    /// A name that is none of the choices.
    #[error("`{value}` is no {what}; choose one of {}", choices.join(", "))]
    Name {
        /// What was to be named.
        what: &'static str,
        /// The name given.
        value: String,
        /// The names there are.
        choices: &'static [&'static str],
    },
}

exits! { Error: Failure [Ragged, Lengths, Empty, NotFinite, Overflow, TooLarge, Setting, Name] }

/// A kind of model: its settings, and how its trees come out of the rows of a fold.
trait Trees {
    /// Refuses settings that are out of range.
    fn validate(&self) -> Result<(), Error>;

    /// Trees whose sum is fitted to the targets of some rows, which are centred.
    fn grow(&self, features: &Features, rows: &[usize], targets: &[f64]) -> Result<Vec<Tree>, Error>;
}

/// Refuses a setting that is no whole number from `least` on.
fn whole(field: &'static str, value: usize, least: usize) -> Result<(), Error> {
    let wanted = if least == 1 { "from 1 to 1048576" } else { "from 2 to 1048576" };
    real(field, value as f64, (least..=1 << 20).contains(&value), wanted)
}

/// Refuses a setting that is not in its range.
fn real(field: &'static str, value: f64, inside: bool, wanted: &'static str) -> Result<(), Error> {
    if inside { Ok(()) } else { Err(Error::Setting { field, value, wanted }) }
}

/// The kinds of models, a row each: its name, its word, and the section of its settings.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $settings:ident;)+) => {
        words!(
            /// The model of a fold.
            #[derive(Default)]
            Kind { $($(#[$doc])* $name = $word),+ }
        );

        /// How an ensemble is fitted. The defaults are those of NATv2: ten folds of LightGBM's defaults with
        /// its huber objective, on integer features, here with standardised targets.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Settings {
            /// The model of a fold.
            pub kind: Kind,
            /// How the trees see the features.
            pub encoding: Encoding,
            /// Cross-validation folds, and so models; 1 fits one model to all rows.
            pub folds: usize,
            /// What a model is fitted to.
            pub target_scaling: TargetScaling,
            $(
                #[doc = concat!("Settings of [`Kind::", stringify!($name), "`].")]
                pub $settings: $name,
            )+
        }

        impl Default for Settings {
            fn default() -> Self {
                Settings {
                    kind: Kind::default(),
                    encoding: Encoding::default(),
                    folds: 10,
                    target_scaling: TargetScaling::default(),
                    $($settings: $name::default(),)+
                }
            }
        }

        impl Settings {
            /// The settings of the model that is chosen.
            fn chosen(&self) -> &dyn Trees {
                match self.kind { $(Kind::$name => &self.$settings),+ }
            }

            /// Checks every value, so that a configuration can be refused before any work is done.
            ///
            /// # Errors
            /// [`Error::Setting`] names the first field that is out of range.
            pub fn validate(&self) -> Result<(), Error> {
                whole("folds", self.folds, 1)?;
                $(self.$settings.validate()?;)+
                Ok(())
            }
        }
    };
}

kinds! {
    /// Gradient-boosted trees of LightGBM's kind (Ke et al., 2017).
    #[default]
    Gbdt = "gbdt", gbdt;
    /// One regression tree grown until its leaves are pure (Breiman et al., 1984); the folds bag it.
    Cart = "cart", cart;
}

words!(
    /// What a model is fitted to.
    #[derive(Default)]
    TargetScaling {
        /// Targets less their mean, divided by their standard deviation, both of the training fold;
        /// predictions are scaled back. With a clipped gradient this keeps the reach of the trees (0.9
        /// times rate times trees) at nine standard deviations, whatever the unit of the targets.
        #[default]
        Standard = "standard",
        /// Targets as they come.
        None = "none",
    }
);

/// The error for what is no word of a list, which `what` is the name of.
fn unknown<T: Word>(what: &'static str, word: &str) -> Error {
    Error::Name { what, value: word.into(), choices: T::WORDS }
}

parsed!(Kind, Error, |text| unknown::<Kind>("predictor", text));
parsed!(TargetScaling, Error, |text| unknown::<TargetScaling>("target scaling", text));

/// Fitted models, and their mean as the prediction.
#[derive(Debug, Clone)]
pub struct Ensemble {
    encoder: features::Encoder,
    forest: forest::Forest,
}

/// Fits an ensemble to rows and their targets.
///
/// The rows are shuffled by the stream `predictor/folds` of `seed` and dealt into `settings.folds`
/// runs of equal length (the first ones a row longer where they do not divide), as scikit-learn's
/// `KFold` does; each run is left out of one model. With fewer rows than folds there are as many
/// folds as rows, and one row, or `folds = 1`, makes one model of all rows.
///
/// # Errors
/// No rows, rows and targets of different number, a target that is not finite, a setting out of
/// range, or more data than the tables hold.
pub fn fit(settings: &Settings, features: &Features, targets: &[f64], seed: u64) -> Result<Ensemble, Error> {
    settings.validate()?;
    let rows = features.rows();
    if rows != targets.len() {
        return Err(Error::Lengths { rows, targets: targets.len() });
    }
    if rows == 0 {
        return Err(Error::Empty);
    }
    if rows > tree::MAX_ROWS {
        return Err(Error::TooLarge { what: "rows", limit: tree::MAX_ROWS, found: rows });
    }
    if let Some(row) = targets.iter().position(|t| !t.is_finite()) {
        return Err(Error::NotFinite { row, value: targets[row] });
    }
    let encoder = features::Encoder::new(settings.encoding, features)?;
    let encoded = encoder.encode(features);

    let folds = training_folds(rows, settings.folds, seed);
    let models: Vec<model::Model> = folds
        .par_iter()
        .map(|training| model::fit(settings, &encoded, targets, training))
        .collect::<Result<_, Error>>()?;
    Ok(Ensemble { encoder, forest: forest::Forest::new(&models) })
}

/// The rows that each model is fitted to, in ascending order.
fn training_folds(rows: usize, folds: usize, seed: u64) -> Vec<Vec<usize>> {
    let folds = folds.min(rows);
    if folds <= 1 {
        return vec![(0..rows).collect()];
    }
    let mut order: Vec<usize> = (0..rows).collect();
    order.shuffle(&mut crate::random::stream(seed, "predictor/folds", 0, 0));
    let mut fold_of = vec![0; rows];
    let mut start = 0;
    for fold in 0..folds {
        let length = rows / folds + usize::from(fold < rows % folds);
        for &row in &order[start..start + length] {
            fold_of[row] = fold;
        }
        start += length;
    }
    (0..folds).map(|fold| (0..rows).filter(|&row| fold_of[row] != fold).collect()).collect()
}

impl Ensemble {
    /// Predictions for all rows, in the unit of the targets.
    ///
    /// # Panics
    /// If the rows have another number of columns than those of the fit.
    pub fn predict(&self, features: &Features) -> Vec<f64> {
        self.check(features.columns());
        self.forest.predict(&self.encoder.encode(features))
    }

    /// Prediction for one row; the same bits as [`Ensemble::predict`] gives for it.
    ///
    /// # Panics
    /// If the row has another number of columns than those of the fit.
    pub fn predict_row(&self, row: &[u8]) -> f64 {
        self.check(row.len());
        self.forest.predict_row(&self.encoder.encode_row(row))
    }

    /// Trees of all models together.
    pub fn trees(&self) -> usize {
        self.forest.trees()
    }

    fn check(&self, columns: usize) {
        let fitted = self.encoder.columns();
        assert_eq!(columns, fitted, "a row of {columns} columns for a predictor fitted to {fitted}");
    }
}
