//! `[search]`, `[predictor]`, `[adaptation]`: the search, and what trains between its rounds.

use super::keys::{IMAGES, Kind, section};
use super::profiles::Given;
use super::{Precision, words};
use crate::predictor::{self, Encoding, TargetScaling};
use crate::space::Strategy;
use crate::space::sample::Policy;

section! {
    /// `[search]`.
    Search, pub(super) fn usual(given: &Given);

    /// The search: NATv2, NAT, or random sampling.
    method: Method => given.method;

    /// The inner search; auto is NSGA-II for two objectives and NSGA-III for more, as the authors ran it.
    algorithm: Algorithm => Algorithm::Nsga3;

    /// What is traded off: accuracy upwards, the others downwards.
    objectives: Vec<Objective> => vec![Objective::Top1, Objective::Params, Objective::Macs];

    /// Networks in the archive, both bounds included.
    archive: usize, Kind::Whole(4, 100_000) => given.archive();

    /// NATv2's initial archive is the best of this many times its size (the paper: 10).
    oversample: usize, Kind::Whole(1, 1000) => given.of(10, 5, 2);

    /// Rounds of predictor, inner search and evaluation.
    iterations: usize, Kind::Whole(1, 100_000) => given.of(30, 6, 2);

    /// Networks evaluated in a round.
    candidates: usize, Kind::Whole(1, 100_000) => given.of(given.nat_or(8, 25), 5, 3);

    /// Training images that recompute the batch-norm statistics before an evaluation.
    #[absent = "as the weights' card says, else 1000 for tiny-imagenet, 960 for CIFAR, 500 for others"]
    calibration_images: Option<usize>, IMAGES => given.in_tiny(50);

    /// Validation images of an evaluation, the first in file order.
    #[absent = "all of them"]
    eval_images: Option<usize>, IMAGES => given.in_tiny(50);

    /// What maps are stored as while networks are evaluated; the steps between have adaptation.precision.
    precision: Precision => Precision::F32;

    // Candidates come out of the population, and folds out of the archive: where only one side is given, the
    // other follows.
    /// Individuals of the inner search.
    population: usize, Kind::Whole(4, 100_000) =>
        given.of(100, 100, 20).max(given.candidates.unwrap_or(0));

    /// Generations of the inner search.
    generations: usize, Kind::Whole(1, 100_000) => given.of(20, 20, 5);

    /// Individuals of the genetic algorithm that picks the candidates from the inner search's result.
    subset_population: usize, Kind::Whole(4, 100_000) => given.of(500, 100, 20);

    /// Generations of that.
    subset_generations: usize, Kind::Whole(1, 100_000) => given.of(200, 50, 10);

    /// The initial archive: oversampled and selected, or uniform. Follows search.method.
    initialisation: Policy => given.policy();

    /// Who stays when the archive is over its size: the survivors, or the newest. Follows search.method.
    update: Policy => given.policy();

    /// The archive's size: constant, or growing by the candidates. Follows search.method.
    growth: Policy => given.policy();

    /// Images in a pass whose latency is measured.
    latency_batch: usize, Kind::Whole(1, 65_536) => 1;

    /// Timed passes, and as many before them to warm up; the median counts.
    latency_repeats: usize, Kind::Whole(1, 100_000) => given.of(100, 20, 3);
}

section! {
    /// `[predictor]`.
    Predictor, pub(super) fn usual(given: &Given);

    // Boosting wants 20 rows a leaf: on an archive of 60 single trees grown to the end do better.
    /// The accuracy predictor: gradient-boosted trees or bagged trees.
    kind: predictor::Kind => given.of(predictor::Kind::Gbdt, predictor::Kind::Cart, predictor::Kind::Cart);

    /// Its features: the genes, or one-hot. Follows search.method.
    encoding: Encoding => given.nat_or(Encoding::OneHot, Encoding::Integer);

    /// Models in the ensemble, each fitted without one fold.
    folds: usize, Kind::Whole(2, 1000) => given.archive.unwrap_or(given.archive()).min(10);

    /// Whether targets are standardised; none is what the authors ran.
    target_scaling: TargetScaling => TargetScaling::Standard;
}

section! {
    /// `[adaptation]`: NATv2's; the smaller profiles scale what depends on the archive's and the data's size.
    Adaptation, pub(super) fn usual(given: &Given);

    // The whole method adapts; a search by itself leaves weights alone unless it is asked.
    /// Epochs that the super-network trains after each round (the paper: 5; a whole run at least 1); 0
    /// leaves the weights as they are.
    epochs: usize, Kind::Whole(0, 10_000) => given.of(5, 0, 0).max(usize::from(given.command == "run"));

    /// How its sub-networks are drawn: from the archive's genes as they are, uniform of their mean and
    /// spread, or best-fitting.
    distribution: Distribution => Distribution::Categorical;

    /// Best networks of the archive that the distributions are fitted to, chosen as survivors are.
    top: usize, Kind::Whole(1, 100_000) => given.of(150, 30, 6);

    /// What categorical distributions add to the count of every value of a gene.
    smoothing: f64, Kind::From(0.0, 1e6) => 1.0;

    /// Sub-networks of a step, whose gradients are added up.
    networks: usize, Kind::Whole(1, 64) => 4;

    /// Images of a step.
    batch: usize, Kind::Whole(2, 65_536) => given.of(256, 64, 16);

    /// Images of an epoch, drawn anew for each.
    #[absent = "all training images, once each"]
    epoch_images: Option<usize>, IMAGES => given.in_tiny(48);

    /// Sides in pixels, of which each step draws one.
    #[absent = "those of the search and the multiples of 4 between"]
    resolutions: Option<Vec<u32>>, Kind::Ascending(32, 1024) => None;

    /// What maps and their gradients are stored as in a step; weights, their gradients and the optimiser are
    /// f32, and losses of f16 are scaled.
    precision: Precision => Precision::F32;

    /// Rate at the start of the one cosine that spans all rounds of the search.
    rate: f64, Kind::Between(0.0, 1e6) => 2.5e-3;

    /// Epochs, of the whole search, in which the rate rises before it follows the cosine.
    warmup_epochs: usize, Kind::Whole(0, 10_000) => given.of(5, 1, 1);

    /// Rate that the warm-up begins with.
    warmup_rate: f64, Kind::From(0.0, 1e6) => 1e-4;

    /// Weight decay, of all parameters.
    weight_decay: f64, Kind::From(0.0, 1.0) => 3e-4;

    /// Largest norm of a step's gradient, that of all its sub-networks together; 0 does not clip.
    clip: f64, Kind::From(0.0, 1e9) => 5.0;

    /// Weight of distillation from the largest network as it was before the search; 0 is without.
    kd_ratio: f64, Kind::From(0.0, 1e6) => 1.0;

    /// Weights of the exits in that network's answer (early-exit families).
    exit_weights: Strategy => Strategy::Desc;

    /// Steps between checkpoints within a round's training; each end of one is a checkpoint too.
    checkpoint_steps: usize, IMAGES => given.of(100, 100, 2);
}

words!(
    /// A search method.
    Method {
        /// NATv2.
        Natv2 = "natv2",
        /// NAT.
        Nat = "nat",
        /// Random sampling, for comparison.
        Random = "random",
    }
);
words!(
    /// The algorithm of the inner search.
    Algorithm {
        /// NSGA-III.
        Nsga3 = "nsga3",
        /// NSGA-II.
        Nsga2 = "nsga2",
        /// NSGA-II for two objectives, NSGA-III for more.
        Auto = "auto",
    }
);
words!(
    /// An objective.
    Objective {
        /// Top-1 accuracy on the validation split, per cent; maximised.
        Top1 = "top1",
        /// Trainable parameters.
        Params = "params",
        /// Multiply-accumulates at batch 1.
        Macs = "macs",
        /// Measured latency.
        Latency = "latency",
    }
);
words!(
    /// How adaptation draws genes.
    Distribution {
        /// From the smoothed frequencies of each gene in the archive.
        Categorical = "categorical",
        /// Uniform with the mean and spread of each gene in the archive.
        Uniform = "uniform",
        /// From the family that fits each gene best.
        BestFit = "best-fit",
    }
);
