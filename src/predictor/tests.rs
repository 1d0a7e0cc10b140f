//! Tests of the predictor as a whole: against its plain twin, and at the edges of its input.

use super::*;
use crate::random::stream;
use proptest::prelude::*;
use rand::RngExt;

/// Rows of genes 0..=9 and targets that some of them make.
fn data(rows: usize, columns: usize, seed: u64) -> (Features, Vec<f64>) {
    let mut random = stream(seed, "test/data", 0, 0);
    let values: Vec<u8> = (0..rows * columns).map(|_| random.random_range(0..10)).collect();
    let targets = values
        .chunks(columns)
        .map(|row| {
            let noise: f64 = random.random();
            30.0 - f64::from(row[0]) * 0.8 + f64::from(row[columns / 2] / 4) + noise
        })
        .collect();
    (Features::new(columns, values).unwrap(), targets)
}

fn cart() -> Settings {
    Settings { kind: Kind::Cart, ..Settings::default() }
}

#[test]
fn boosting_agrees_with_its_plain_twin() {
    for (rows, columns, leaves, least) in [(270, 22, 31, 20), (90, 3, 31, 4), (200, 5, 6, 1), (50, 4, 31, 20)]
    {
        let gbdt = Gbdt { leaves, min_child_samples: least, trees: 12, ..Gbdt::default() };
        let settings = Settings { gbdt, ..Settings::default() };
        let (features, targets) = data(rows, columns, rows as u64);
        let all: Vec<usize> = (0..rows).collect();
        let model = model::fit(&settings, &features, &targets, &all).unwrap();
        assert!(!model.trees.is_empty());
        assert_eq!(model.trees, plain::boosted(&settings, &features, &targets), "{rows} x {columns}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn growth_agrees_with_its_plain_twin(
        (rows, columns, values) in (1usize..60, 1usize..5)
            .prop_flat_map(|(r, c)| (Just(r), Just(c), prop::collection::vec(0u8..6, r * c))),
        gradients in prop::collection::vec(-4i64..=4, 60),
        leaves in 2usize..20,
        least in 1usize..6,
        in_bin in 1usize..4,
    ) {
        let features = Features::new(columns, values).unwrap();
        let all: Vec<usize> = (0..rows).collect();
        let binned = bins::Binned::new(&features, &all, in_bin).unwrap();
        let limits = tree::Limits { leaves, rows: least };
        let fast = tree::Grower::new(&binned, limits).grow(&gradients[..rows], 0.5, |_, _| ());
        let (slow, _) = plain::grow(&features, &binned, &gradients[..rows], 0.5, limits);
        prop_assert_eq!(fast, slow);
    }
}

#[test]
fn cart_of_one_fold_learns_distinct_rows_by_heart() {
    let (features, targets) = data(120, 22, 3);
    let ensemble = fit(&Settings { folds: 1, ..cart() }, &features, &targets, 0).unwrap();
    for (predicted, target) in ensemble.predict(&features).iter().zip(&targets) {
        assert!((predicted - target).abs() < 1e-6, "{predicted} is not {target}");
    }
}

#[test]
fn every_row_is_left_out_of_one_fold() {
    for (rows, folds) in [(300, 10), (23, 10), (10, 10), (4, 10), (2, 10)] {
        let training = training_folds(rows, folds, 7);
        assert_eq!(training.len(), folds.min(rows));
        for row in 0..rows {
            let kept = training.iter().filter(|fold| fold.contains(&row)).count();
            assert_eq!(kept, training.len() - 1);
        }
    }
    assert_eq!(training_folds(1, 10, 7), [[0]]);
    assert_eq!(training_folds(3, 1, 7), [[0, 1, 2]]);
    assert_ne!(training_folds(300, 10, 7), training_folds(300, 10, 8));
}

#[test]
fn same_seed_same_bits_for_any_number_of_threads() {
    let (features, targets) = data(300, 22, 5);
    for settings in [Settings::default(), cart()] {
        let bits = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let predicted =
                pool.install(|| fit(&settings, &features, &targets, 1).unwrap().predict(&features));
            predicted.iter().map(|p| p.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(bits(1), bits(3));
        let other = fit(&settings, &features, &targets, 2).unwrap().predict(&features);
        assert_ne!(bits(1), other.iter().map(|p| p.to_bits()).collect::<Vec<_>>());
    }
}

#[test]
fn a_row_alone_is_predicted_as_among_others() {
    let (features, targets) = data(300, 22, 6);
    for encoding in [Encoding::Integer, Encoding::OneHot] {
        for settings in [Settings::default(), cart()] {
            let ensemble = fit(&Settings { encoding, ..settings }, &features, &targets, 1).unwrap();
            for (row, all) in ensemble.predict(&features).iter().enumerate() {
                assert_eq!(ensemble.predict_row(features.row(row)).to_bits(), all.to_bits());
            }
        }
    }
}

#[test]
fn predictions_follow_the_unit_of_the_targets() {
    let (features, targets) = data(300, 22, 8);
    let (other, _) = data(200, 22, 9);
    let plain = fit(&Settings::default(), &features, &targets, 1).unwrap().predict(&other);
    let scaled: Vec<f64> = targets.iter().map(|t| 1024.0 * t - 512.0).collect();
    let scaled = fit(&Settings::default(), &features, &scaled, 1).unwrap().predict(&other);
    for (p, s) in plain.iter().zip(&scaled) {
        assert!((1024.0 * p - 512.0 - s).abs() < 1e-3 * s.abs());
    }
}

#[test]
fn without_scaling_the_clipped_gradient_limits_the_reach() {
    let (features, targets) = data(300, 22, 8);
    let targets: Vec<f64> = targets.iter().map(|t| 100.0 * t).collect();
    let mean = targets.iter().sum::<f64>() / 300.0;
    let reach = |target_scaling| {
        let settings = Settings { target_scaling, ..Settings::default() };
        let predicted = fit(&settings, &features, &targets, 1).unwrap().predict(&features);
        predicted.iter().map(|p| (p - mean).abs()).fold(0.0, f64::max)
    };
    // 100 trees x rate 0.1 x alpha 0.9, and the folds' means differ from the mean by a little.
    assert!(reach(TargetScaling::None) < 9.0 + 40.0);
    assert!(reach(TargetScaling::Standard) > 200.0);
}

#[test]
fn few_rows_and_constant_targets_predict_the_mean() {
    let (features, _) = data(30, 4, 1);
    for settings in [Settings::default(), cart()] {
        let ensemble = fit(&settings, &features, &[7.5; 30], 1).unwrap();
        assert!(ensemble.predict(&features).iter().all(|p| (p - 7.5).abs() < 1e-9));
        let one = Features::new(4, vec![1, 2, 3, 4]).unwrap();
        let ensemble = fit(&settings, &one, &[4.0], 1).unwrap();
        assert_eq!(ensemble.predict(&features), [4.0; 30]);
    }
    // Fewer than twice the least rows of a leaf: no cut, so the mean of the folds' means.
    let (few, targets) = data(7, 4, 2);
    let ensemble = fit(&Settings::default(), &few, &targets, 1).unwrap();
    assert_eq!(ensemble.trees(), 0);
    let mean = targets.iter().sum::<f64>() / 7.0;
    assert!(ensemble.predict(&few).iter().all(|p| (p - mean).abs() < 1e-9));
    // CART has no such bound: two rows, each the other's model.
    let two = Features::new(1, vec![0, 9]).unwrap();
    assert_eq!(fit(&cart(), &two, &[1.0, 3.0], 1).unwrap().predict(&two), [2.0, 2.0]);
}

#[test]
fn equal_rows_with_different_targets_predict_their_mean() {
    let features = Features::new(3, [1, 2, 3].repeat(40)).unwrap();
    let targets: Vec<f64> = (0..40).map(f64::from).collect();
    for settings in [Settings { folds: 1, ..Settings::default() }, Settings { folds: 1, ..cart() }] {
        assert_eq!(fit(&settings, &features, &targets, 1).unwrap().predict_row(&[1, 2, 3]), 19.5);
    }
}

#[test]
fn targets_that_are_not_numbers_are_refused() {
    let (features, mut targets) = data(30, 4, 1);
    let refused = |targets: &[f64]| fit(&Settings::default(), &features, targets, 1).unwrap_err();
    targets[4] = f64::INFINITY;
    assert_eq!(refused(&targets), Error::NotFinite { row: 4, value: f64::INFINITY });
    targets[4] = f64::NAN;
    assert!(refused(&targets).to_string().contains("target of row 4 is NaN"));
    targets[4] = 1e300;
    assert_eq!(refused(&targets), Error::Overflow);
    assert_eq!(refused(&targets[..7]), Error::Lengths { rows: 30, targets: 7 });
    let none = Features::new(4, vec![]).unwrap();
    assert_eq!(fit(&Settings::default(), &none, &[], 1).unwrap_err(), Error::Empty);
}

#[test]
fn extreme_but_finite_targets_are_fitted() {
    let (features, targets) = data(120, 4, 1);
    for factor in [1e-200, 1e-9, 1e9, 1e140] {
        let scaled: Vec<f64> = targets.iter().map(|t| t * factor).collect();
        for settings in [Settings::default(), cart()] {
            for target_scaling in [TargetScaling::Standard, TargetScaling::None] {
                let settings = Settings { target_scaling, ..settings.clone() };
                let ensemble = fit(&settings, &features, &scaled, 1).unwrap();
                assert!(ensemble.predict(&features).iter().all(|p| p.is_finite()), "{settings:?} {factor}");
            }
        }
    }
}

#[test]
fn settings_out_of_range_are_named() {
    let named = |settings: Settings| match settings.validate() {
        Err(Error::Setting { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(named(Settings { folds: 0, ..Settings::default() }), "folds");
    let with = |gbdt| Settings { gbdt, ..Settings::default() };
    assert_eq!(named(with(Gbdt { learning_rate: f64::NAN, ..Gbdt::default() })), "gbdt.learning_rate");
    assert_eq!(named(with(Gbdt { huber_alpha: 0.0, ..Gbdt::default() })), "gbdt.huber_alpha");
    assert_eq!(named(with(Gbdt { leaves: 1, ..Gbdt::default() })), "gbdt.leaves");
    assert_eq!(named(with(Gbdt { min_child_weight: -1.0, ..Gbdt::default() })), "gbdt.min_child_weight");
    assert_eq!(named(with(Gbdt { trees: usize::MAX, ..Gbdt::default() })), "gbdt.trees");
}

#[test]
fn names_read_as_they_are_written() {
    let settings: Settings =
        toml::from_str("kind = 'cart'\nencoding = 'one-hot'\ntarget_scaling = 'none'\n[gbdt]\ntrees = 5")
            .unwrap();
    assert_eq!(settings.kind, Kind::Cart);
    assert_eq!(settings.encoding, "one-hot".parse().unwrap());
    assert_eq!(settings.target_scaling, "none".parse().unwrap());
    assert_eq!((settings.gbdt.trees, settings.gbdt.leaves), (5, 31));
    assert_eq!("gbdt".parse(), Ok(Kind::Gbdt));
    assert_eq!(Kind::Cart.to_string().parse(), Ok(Kind::Cart));
    let error = "lightgbm".parse::<Kind>().unwrap_err();
    assert_eq!(error.to_string(), "`lightgbm` is no predictor; choose one of gbdt, cart");
    assert!(toml::from_str::<Settings>("tree = 1").is_err());
}
