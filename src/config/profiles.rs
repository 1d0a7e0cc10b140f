//! The values of keys that nobody gave.
//!
//! `paper` is NATv2 as published (with NAT's own counts where the method is `nat`); `quick` is the
//! default, the same method in about two minutes on two cores with the built-in digits; `tiny` is
//! for tests. Data and weights are the built-in ones in all of them.

use super::finetune::{Exits, Finetune, FinetuneOptimiser, Keep, Pick};
use super::schema::*;
use super::training::*;

/// What decides the other values.
pub(super) struct Given {
    pub(super) profile: Profile,
    pub(super) method: Method,
    pub(super) archive: Option<usize>,
    pub(super) candidates: Option<usize>,
    pub(super) train: Schedule,
    pub(super) warmup: Schedule,
}

/// The numbers in which the profiles differ.
struct Counts {
    archive: usize,
    oversample: usize,
    iterations: usize,
    candidates: usize,
    images: Option<usize>,
    inner: (usize, usize),
    subset: (usize, usize),
    latency_repeats: usize,
    epochs: usize,
}

const PAPER: Counts = Counts {
    archive: 300,
    oversample: 10,
    iterations: 30,
    candidates: 25,
    images: None,
    inner: (100, 20),
    subset: (500, 200),
    latency_repeats: 100,
    epochs: 5,
};

/// NAT's archive starts with 100 networks and grows by 8 a round.
const PAPER_NAT: Counts = Counts { archive: 100, candidates: 8, ..PAPER };

const QUICK: Counts = Counts {
    archive: 60,
    oversample: 5,
    iterations: 6,
    candidates: 5,
    inner: (100, 20),
    subset: (100, 50),
    latency_repeats: 20,
    epochs: 0,
    ..PAPER
};

const TINY: Counts = Counts {
    archive: 12,
    oversample: 2,
    iterations: 2,
    candidates: 3,
    images: Some(50),
    inner: (20, 5),
    subset: (20, 10),
    latency_repeats: 3,
    epochs: 0,
};

const FOLDS: usize = 10;

pub(super) fn defaults(command: &str, given: &Given) -> Config {
    let counts = match (given.profile, given.method) {
        (Profile::Paper, Method::Nat) => PAPER_NAT,
        (Profile::Paper, _) => PAPER,
        (Profile::Quick, _) => QUICK,
        (Profile::Tiny, _) => TINY,
    };
    // The whole method adapts; a search by itself leaves weights alone unless it is asked.
    let epochs = if command == "run" { counts.epochs.max(1) } else { counts.epochs };
    let (policy, encoding) = match given.method {
        Method::Nat => (Policy::Nat, Encoding::OneHot),
        Method::Natv2 | Method::Random => (Policy::Natv2, Encoding::Integer),
    };
    Config {
        command: command.into(),
        seed: 0,
        profile: given.profile,
        run: Run { warmup: RunWarmup::Auto },
        data: Data {
            name: None,
            dir: None,
            validation_images: None,
            validation_fraction: None,
            augmentation: None,
        },
        supernet: Supernet {
            weights: None,
            wide_weights: None,
            family: None,
            width: match given.profile {
                Profile::Paper => None,
                Profile::Quick | Profile::Tiny => Some(0.25),
            },
            wide_width: None,
            classes: None,
            exit_scaling: ExitScaling::Once,
        },
        train: training(given.profile, given.train),
        warmup: training(given.profile, given.warmup),
        search: Search {
            method: given.method,
            algorithm: Algorithm::Nsga3,
            objectives: vec![Objective::Top1, Objective::Params, Objective::Macs],
            archive: counts.archive,
            oversample: counts.oversample,
            iterations: counts.iterations,
            candidates: counts.candidates,
            calibration_images: counts.images,
            eval_images: counts.images,
            precision: Precision::F32,
            // Candidates come out of the population, and folds out of the archive: where only one
            // side is given, the other follows.
            population: counts.inner.0.max(given.candidates.unwrap_or(0)),
            generations: counts.inner.1,
            subset_population: counts.subset.0,
            subset_generations: counts.subset.1,
            initialisation: policy,
            update: policy,
            growth: policy,
            latency_batch: 1,
            latency_repeats: counts.latency_repeats,
        },
        predictor: Predictor {
            // Boosting wants 20 rows a leaf: on an archive of 60 single trees grown to the end do better.
            kind: match given.profile {
                Profile::Paper => PredictorKind::Gbdt,
                Profile::Quick | Profile::Tiny => PredictorKind::Cart,
            },
            encoding,
            folds: FOLDS.min(given.archive.unwrap_or(counts.archive)),
            target_scaling: TargetScaling::Standard,
        },
        adaptation: adaptation(given.profile, epochs),
        finetune: finetune(given.profile),
    }
}

/// NATv2's adaptation; the smaller profiles scale what depends on the archive's and the data's size.
fn adaptation(profile: Profile, epochs: usize) -> Adaptation {
    let (top, batch, epoch_images, warmup_epochs, checkpoint_steps) = match profile {
        Profile::Paper => (150, 256, None, 5, 100),
        Profile::Quick => (30, 64, None, 1, 100),
        Profile::Tiny => (6, 16, Some(48), 1, 2),
    };
    Adaptation {
        epochs,
        distribution: Distribution::Categorical,
        top,
        smoothing: 1.0,
        networks: 4,
        batch,
        epoch_images,
        resolutions: None,
        precision: Precision::F32,
        rate: 2.5e-3,
        warmup_epochs,
        warmup_rate: 1e-4,
        weight_decay: 3e-4,
        clip: 5.0,
        kd_ratio: 1.0,
        exit_weights: ExitWeights::Desc,
        checkpoint_steps,
    }
}

/// Fine-tuning as NATv2's programs do it, with a tenth of the epochs, or next to none.
fn finetune(profile: Profile) -> Finetune {
    let (epochs, patience) = match profile {
        Profile::Paper => (150, 30),
        Profile::Quick => (15, 5),
        Profile::Tiny => (2, 2),
    };
    let tiny = profile == Profile::Tiny;
    Finetune {
        search: None,
        arch: None,
        pick: Pick::TradeOff,
        count: 4,
        number: None,
        max_macs: None,
        max_params: None,
        min_top1: None,
        exits: Exits::Single,
        prune: true,
        keep: Keep::Best,
        precision: Precision::F32,
        optimiser: FinetuneOptimiser::Auto,
        rate: 1e-4,
        min_rate: 1e-8,
        momentum: 0.9,
        weight_decay: None,
        epochs,
        patience,
        batch: if tiny { 16 } else { 64 },
        epoch_images: tiny.then_some(48),
        validation_images: tiny.then_some(50),
        calibration_images: tiny.then_some(50),
    }
}

/// How a schedule is trained under a profile. Progressive shrinking has the once-for-all package's
/// settings, the warm-up those of NAT's and NATv2's programs.
fn training(profile: Profile, schedule: Schedule) -> Training {
    let target = schedule == Schedule::Target;
    let tiny = profile == Profile::Tiny;
    Training {
        schedule,
        phases: None,
        // A fifth of the epochs; so little that each phase keeps one.
        scale: match profile {
            Profile::Paper => 1.0,
            Profile::Quick => 0.2,
            Profile::Tiny => 0.001,
        },
        rate_scale: 1.0,
        batch: match (profile, target) {
            (Profile::Tiny, _) => 16,
            // Small data sets have few steps an epoch.
            (Profile::Quick, false) => 32,
            (_, true) => 256,
            (Profile::Paper, false) => 64,
        },
        epoch_images: tiny.then_some(48),
        resolutions: match profile {
            Profile::Paper => None,
            Profile::Quick => Some(vec![32, 36, 40, 44, 48]),
            Profile::Tiny => Some(vec![32]),
        },
        precision: Precision::F32,
        optimiser: Optimiser::Sgd,
        momentum: 0.9,
        nesterov: !target,
        weight_decay: if target { 3e-4 } else { 3e-5 },
        decay: if target { Decay::All } else { Decay::Weights },
        clip: if target { 5.0 } else { 0.0 },
        teacher: match schedule {
            Schedule::Eps => Teacher::Pet,
            Schedule::Ofa | Schedule::Target => Teacher::Fixed,
            Schedule::Full => Teacher::None,
        },
        exit_weights: if target { ExitWeights::Desc } else { ExitWeights::Asc },
        validation_epochs: match profile {
            _ if target => 10,
            Profile::Paper => 1,
            Profile::Quick | Profile::Tiny => 5,
        },
        validation_networks: match profile {
            Profile::Paper => 32,
            Profile::Quick => 8,
            Profile::Tiny => 2,
        },
        validation_images: tiny.then_some(50),
        calibration_images: tiny.then_some(50),
        checkpoint_steps: match profile {
            Profile::Paper => 500,
            Profile::Quick => 100,
            Profile::Tiny => 4,
        },
    }
}
