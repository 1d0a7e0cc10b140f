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
//! - A model is [`Kind::Gbdt`] (`boost.rs`: gradient boosting with the defaults of LightGBM) or
//!   [`Kind::Cart`] (one fully grown tree). Both grow their trees in `tree.rs`, on histograms over
//!   the bins of `bins.rs`; `forest.rs` evaluates the grown trees.
//! - [`metrics`] says how good predictions are: RMSE, Spearman's rho, Kendall's tau.
//!
//! Sums of gradients are integers (fixed point), so their order cannot matter, and the same seed
//! gives the same bits for any number of threads.

mod bins;
mod boost;
mod features;
mod forest;
pub mod metrics;
#[cfg(test)]
mod plain;
#[cfg(test)]
mod tests;
mod tree;

pub use features::{Encoding, Features};

use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

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
    #[error("`{value}` is no {what}; choose one of {choices}")]
    Name {
        /// What was to be named.
        what: &'static str,
        /// The name given.
        value: String,
        /// The names there are.
        choices: &'static str,
    },
}

/// The model of a fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Gradient-boosted trees of LightGBM's kind (Ke et al., 2017).
    #[default]
    Gbdt,
    /// One regression tree grown until its leaves are pure (Breiman et al., 1984); the folds bag it.
    Cart,
}

/// What a model is fitted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetScaling {
    /// Targets less their mean, divided by their standard deviation, both of the training fold;
    /// predictions are scaled back. With a clipped gradient this keeps the reach of the trees (0.9
    /// times rate times trees) at nine standard deviations, whatever the unit of the targets.
    #[default]
    Standard,
    /// Targets as they come.
    None,
}

impl std::str::FromStr for Kind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "gbdt" => Ok(Kind::Gbdt),
            "cart" => Ok(Kind::Cart),
            _ => Err(Error::Name { what: "predictor", value: text.into(), choices: "gbdt, cart" }),
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Gbdt => "gbdt",
            Kind::Cart => "cart",
        })
    }
}

impl std::str::FromStr for TargetScaling {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "standard" => Ok(TargetScaling::Standard),
            "none" => Ok(TargetScaling::None),
            _ => Err(Error::Name { what: "target scaling", value: text.into(), choices: "standard, none" }),
        }
    }
}

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
    /// Settings of [`Kind::Gbdt`].
    pub gbdt: Gbdt,
    /// Settings of [`Kind::Cart`].
    pub cart: Cart,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            kind: Kind::Gbdt,
            encoding: Encoding::Integer,
            folds: 10,
            target_scaling: TargetScaling::Standard,
            gbdt: Gbdt::default(),
            cart: Cart::default(),
        }
    }
}

/// Gradient boosting; names and defaults are LightGBM's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gbdt {
    /// Trees, one after the other.
    pub trees: usize,
    /// Share of a leaf's step that is taken.
    pub learning_rate: f64,
    /// Most leaves of a tree.
    pub leaves: usize,
    /// Fewest rows of a leaf.
    pub min_child_samples: usize,
    /// Least sum of second derivatives of a leaf; they are 1 a row here.
    pub min_child_weight: f64,
    /// Neighbouring values with fewer rows than this share a bin.
    pub min_data_in_bin: usize,
    /// Where huber's gradient is clipped, in units of the (scaled) target.
    pub huber_alpha: f64,
}

impl Default for Gbdt {
    fn default() -> Self {
        Gbdt {
            trees: 100,
            learning_rate: 0.1,
            leaves: 31,
            min_child_samples: 20,
            min_child_weight: 1e-3,
            min_data_in_bin: 3,
            huber_alpha: 0.9,
        }
    }
}

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

impl Settings {
    /// Checks every value, so that a configuration can be refused before any work is done.
    ///
    /// # Errors
    /// [`Error::Setting`] names the first field that is out of range.
    pub fn validate(&self) -> Result<(), Error> {
        let whole = |field, value: usize, least: usize, wanted| {
            if value >= least && value <= 1 << 20 {
                Ok(())
            } else {
                Err(Error::Setting { field, value: value as f64, wanted })
            }
        };
        whole("folds", self.folds, 1, "from 1 to 1048576")?;
        whole("gbdt.trees", self.gbdt.trees, 1, "from 1 to 1048576")?;
        whole("gbdt.leaves", self.gbdt.leaves, 2, "from 2 to 1048576")?;
        whole("gbdt.min_child_samples", self.gbdt.min_child_samples, 1, "from 1 to 1048576")?;
        whole("gbdt.min_data_in_bin", self.gbdt.min_data_in_bin, 1, "from 1 to 1048576")?;
        whole("cart.min_samples_leaf", self.cart.min_samples_leaf, 1, "from 1 to 1048576")?;
        let rate = self.gbdt.learning_rate;
        if !(rate > 0.0 && rate <= 1.0) {
            return Err(Error::Setting {
                field: "gbdt.learning_rate",
                value: rate,
                wanted: "above 0, at most 1",
            });
        }
        let alpha = self.gbdt.huber_alpha;
        if !(1e-6..=1e6).contains(&alpha) {
            return Err(Error::Setting {
                field: "gbdt.huber_alpha",
                value: alpha,
                wanted: "from 1e-6 to 1e6",
            });
        }
        let weight = self.gbdt.min_child_weight;
        if !(0.0..=1e6).contains(&weight) {
            return Err(Error::Setting {
                field: "gbdt.min_child_weight",
                value: weight,
                wanted: "from 0 to 1e6",
            });
        }
        Ok(())
    }
}

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
    let models: Vec<boost::Model> = folds
        .par_iter()
        .map(|training| boost::fit(settings, &encoded, targets, training))
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
