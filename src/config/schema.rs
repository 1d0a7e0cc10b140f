//! The typed configuration. What values mean and allow is in [`keys`](super::keys).

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::finetune::Finetune;
use super::training::{ExitWeights, Training};

/// All settings of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The subcommand that this was loaded for. No setting: neither stored nor compared, so that
    /// the stages of one run share a directory.
    #[serde(skip)]
    pub command: String,
    /// Seed of every random stream; at most `i64::MAX`.
    pub seed: u64,
    /// Where the values come from that were not given.
    pub profile: Profile,
    /// The stages of a whole run.
    pub run: Run,
    /// The data set.
    pub data: Data,
    /// The super-network.
    pub supernet: Supernet,
    /// Training of a super-network.
    pub train: Training,
    /// Warm-up of a super-network on a target data set.
    pub warmup: Training,
    /// The search.
    pub search: Search,
    /// The accuracy predictor.
    pub predictor: Predictor,
    /// Training between the rounds of the search.
    pub adaptation: Adaptation,
    /// Fine-tuning of what a search has found.
    pub finetune: Finetune,
}

/// `[run]`: what `natv2 run` does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Whether given weights are warmed up on the data set before the search.
    pub warmup: RunWarmup,
}

/// `[data]`. What is `None` is up to the weights' card and the data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// The data set.
    pub name: Option<DataName>,
    /// The folder with its files.
    pub dir: Option<PathBuf>,
    /// CIFAR: images of the validation split.
    pub validation_images: Option<usize>,
    /// Folders: fraction of each class in the validation split, in (0, 1).
    pub validation_fraction: Option<f64>,
    /// What may happen to a training image; `None`: what is usual for the data set.
    pub augmentation: Option<Augmentation>,
}

/// `[supernet]`. What is `None` is up to the weights' card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Supernet {
    /// The file with the weights.
    pub weights: Option<PathBuf>,
    /// The file with the weights of a second super-network, of another width.
    pub wide_weights: Option<PathBuf>,
    /// The family.
    pub family: Option<Family>,
    /// Width multiplier of a new super-network, or the one that the weights must have.
    pub width: Option<f64>,
    /// Width multiplier of a second new super-network.
    pub wide_width: Option<f64>,
    /// Number of classes of a new super-network.
    pub classes: Option<usize>,
    /// How often the width multiplier applies to the exits.
    pub exit_scaling: ExitScaling,
}

/// `[search]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// The search method; the three policies below follow it where they are not given.
    pub method: Method,
    /// The inner search's algorithm.
    pub algorithm: Algorithm,
    /// One to four different objectives.
    pub objectives: Vec<Objective>,
    /// Networks in the (initial) archive.
    pub archive: usize,
    /// How many times the archive's size NATv2's initialisation evaluates.
    pub oversample: usize,
    /// Rounds.
    pub iterations: usize,
    /// Networks evaluated in a round; at most `population`.
    pub candidates: usize,
    /// Images for batch-norm statistics; `None`: as the card says.
    pub calibration_images: Option<usize>,
    /// Validation images of an evaluation; `None`: all.
    pub eval_images: Option<usize>,
    /// What maps are stored as while networks are evaluated, whatever adaptation's steps have.
    pub precision: Precision,
    /// Individuals of the inner search.
    pub population: usize,
    /// Generations of the inner search.
    pub generations: usize,
    /// Individuals of the subset selection.
    pub subset_population: usize,
    /// Generations of the subset selection.
    pub subset_generations: usize,
    /// How the initial archive is made.
    pub initialisation: Policy,
    /// Who stays when candidates join the archive.
    pub update: Policy,
    /// Whether the archive keeps its size (NATv2) or grows (NAT).
    pub growth: Policy,
    /// Images in a timed pass.
    pub latency_batch: usize,
    /// Timed passes.
    pub latency_repeats: usize,
}

/// `[predictor]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predictor {
    /// The model.
    pub kind: PredictorKind,
    /// Its features.
    pub encoding: Encoding,
    /// Models in the ensemble; at most the archive's size.
    pub folds: usize,
    /// What is done to the targets.
    pub target_scaling: TargetScaling,
}

/// `[adaptation]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adaptation {
    /// Epochs after each round; 0 for none.
    pub epochs: usize,
    /// How sub-networks are drawn.
    pub distribution: Distribution,
    /// Best networks of the archive that the distributions are fitted to.
    pub top: usize,
    /// What categorical distributions add to the count of every value.
    pub smoothing: f64,
    /// Sub-networks of a step.
    pub networks: usize,
    /// Images of a step.
    pub batch: usize,
    /// Images of an epoch; `None`: all training images, once each.
    pub epoch_images: Option<usize>,
    /// Sides of which each step draws one, in pixels; `None`: as the super-network's card says.
    pub resolutions: Option<Vec<u32>>,
    /// What maps and their gradients are stored as in a step; weights are f32.
    pub precision: Precision,
    /// Rate at the start of the cosine, which spans the whole search.
    pub rate: f64,
    /// Epochs before it, of the whole search.
    pub warmup_epochs: usize,
    /// Rate at the start of the warm-up.
    pub warmup_rate: f64,
    /// Weight decay of all parameters, in [0, 1).
    pub weight_decay: f64,
    /// Largest norm of a step's gradient; 0 does not clip.
    pub clip: f64,
    /// Weight of the distillation loss; 0 is without a teacher.
    pub kd_ratio: f64,
    /// Weights of the exits in the teacher's ensemble.
    pub exit_weights: ExitWeights,
    /// Steps between checkpoints.
    pub checkpoint_steps: usize,
}

/// An enum of words, spelled as in the file; `ALL` and `as_str` go with it.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// Every value, in order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word for it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(super) use words;

words!(
    /// When given weights are warmed up before the search of a whole run.
    RunWarmup {
        /// Where they come from another data set or family.
        Auto = "auto",
        /// Always.
        Always = "always",
        /// Never.
        Never = "never",
    }
);
words!(
    /// A set of values for all keys.
    Profile {
        /// The published settings.
        Paper = "paper",
        /// A search of two minutes on two cores.
        Quick = "quick",
        /// A search of seconds, for tests.
        Tiny = "tiny",
    }
);
words!(
    /// A data set.
    DataName {
        /// The embedded optdigits.
        Digits = "digits",
        /// CIFAR-10, binary layout.
        Cifar10 = "cifar10",
        /// CIFAR-100, binary layout.
        Cifar100 = "cifar100",
        /// Tiny ImageNet, folder layout.
        TinyImagenet = "tiny-imagenet",
        /// Any class-per-folder tree.
        ImageFolder = "image-folder",
    }
);
words!(
    /// What may happen to a training image: see [`data::augment`](crate::data::augment).
    Augmentation {
        /// Nothing.
        None = "none",
        /// Small shifts and zooms.
        Digits = "digits",
        /// Flip and AutoAugment.
        Cifar = "cifar",
        /// Border of four pixels, window, flip.
        CifarClassic = "cifar-classic",
        /// Crops of 0.85 to 1 and flip.
        TinyImagenet = "tiny-imagenet",
        /// Crops of 0.35 to 1 and flip.
        Photos = "photos",
    }
);
words!(
    /// A family of super-networks: SE single exit, EE early exits; B basic, D dense skips, P
    /// parallel branches (OFAv2).
    Family {
        /// Single exit, basic: OFA's own.
        SeB = "SE_B",
        /// Single exit, dense skips.
        SeD = "SE_D",
        /// Single exit, parallel branches.
        SeP = "SE_P",
        /// Single exit, both.
        SeDp = "SE_DP",
        /// Early exits, basic.
        EeB = "EE_B",
        /// Early exits, dense skips.
        EeD = "EE_D",
        /// Early exits, parallel branches.
        EeP = "EE_P",
        /// Early exits, both.
        EeDp = "EE_DP",
    }
);
words!(
    /// How often the width multiplier applies to the exits' heads.
    ExitScaling {
        /// Once, as in OFA.
        Once = "once",
        /// Twice, as NATv2's authors ran it.
        Twice = "twice",
    }
);
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
    /// What maps are stored as, while networks are evaluated or in a training's steps.
    Precision {
        /// Four bytes a number.
        F32 = "f32",
        /// IEEE binary16.
        F16 = "f16",
        /// The upper half of an f32.
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
    /// Which of the two methods a part of the search follows.
    Policy {
        /// As NATv2 does it.
        Natv2 = "natv2",
        /// As NAT does it.
        Nat = "nat",
    }
);
words!(
    /// A predictor.
    PredictorKind {
        /// Gradient-boosted trees.
        Gbdt = "gbdt",
        /// Bagged regression trees.
        Cart = "cart",
    }
);
words!(
    /// Features of the predictor.
    Encoding {
        /// The genes as they are.
        Integer = "integer",
        /// A feature for each value of each gene.
        OneHot = "one-hot",
    }
);
words!(
    /// What is done to the predictor's targets.
    TargetScaling {
        /// Standardised, and predictions scaled back.
        Standard = "standard",
        /// Nothing.
        None = "none",
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
