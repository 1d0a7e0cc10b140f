//! The table of keys: name, what is allowed, what it means. A new setting is a line here, a field
//! in the schema and a value in the profiles; a test holds the three together.

/// A key of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its dotted name.
    pub path: &'static str,
    /// What it allows.
    pub kind: Kind,
    /// What it means, in one line.
    pub doc: &'static str,
    /// For a key that may be absent: what then holds.
    pub absent: Option<&'static str>,
}

/// What a key allows.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A whole number, ends included.
    Whole(i64, i64),
    /// A number between two, ends excluded.
    Between(f64, f64),
    /// A number from one to another, the latter excluded.
    From(f64, f64),
    /// True or false.
    Flag,
    /// A list of different numbers of some, at least one.
    Numbers(&'static [i64]),
    /// A list of ascending whole numbers, ends included, at least one.
    Ascending(i64, i64),
    /// A name: letters, digits, `-`, `_` and `.`.
    Name,
    /// A list of tables with the keys of [`PHASE_KEYS`].
    Phases,
    /// One of some words.
    Choice(&'static [&'static str]),
    /// A list of different words of some, at least one.
    Choices(&'static [&'static str]),
    /// A path.
    Path,
}

impl Kind {
    /// What is allowed, in words that follow "must be".
    pub fn allowed(&self) -> String {
        let quoted = |words: &[&str]| words.iter().map(|w| format!("{w:?}")).collect::<Vec<_>>().join(", ");
        match self {
            Kind::Whole(from, to) if *to == i64::MAX => format!("a whole number, {from} or more"),
            Kind::Whole(from, to) => format!("a whole number from {from} to {to}"),
            Kind::Between(from, to) => format!("a number between {from} and {to}, both excluded"),
            Kind::From(from, to) => format!("a number from {from} up to {to}, {to} excluded"),
            Kind::Flag => "true or false".into(),
            Kind::Numbers(numbers) => {
                let all = numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
                format!("a list of one to {}, each once, of {all}", numbers.len())
            }
            Kind::Ascending(from, to) => format!("a list of whole numbers from {from} to {to}, ascending"),
            Kind::Name => "a name of 1 to 40 letters, digits, '-', '_' or '.'".into(),
            Kind::Phases => "a list of phases: tables with name, epochs, rate and more".into(),
            Kind::Choice(words) => format!("one of {}", quoted(words)),
            Kind::Choices(words) => {
                format!("a list of one to {}, each once, of {}", words.len(), quoted(words))
            }
            Kind::Path => "a path (text that is not empty)".into(),
        }
    }
}

mod finetune;
mod training;
pub use training::PHASE_KEYS;

/// The names of the search methods.
const METHODS: &[&str] = &["natv2", "nat", "random"];
const POLICIES: &[&str] = &["natv2", "nat"];
const PRECISIONS: &[&str] = &["f32", "f16", "bf16"];
/// What a precision of steps means, in every section that has steps.
const STEP_PRECISION: &str = "What maps and their gradients are stored as in a step; weights, their gradients and the optimiser are f32, and losses of f16 are scaled.";
const FAMILIES: &[&str] = &["SE_B", "SE_D", "SE_P", "SE_DP", "EE_B", "EE_D", "EE_P", "EE_DP"];

const fn key(path: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { path, kind, doc, absent: None }
}

const fn optional(path: &'static str, kind: Kind, doc: &'static str, absent: &'static str) -> Key {
    Key { path, kind, doc, absent: Some(absent) }
}

/// Every key, in the order of a written file.
pub const KEYS: &[Key] = &joined::<
    { FIRST.len() + 2 * training::KEYS + REST.len() + finetune::FINETUNE.len() },
>(&[FIRST, &training::TRAIN, &training::WARMUP, REST, finetune::FINETUNE]);

/// Tables side by side; `N` is the sum of their lengths.
const fn joined<const N: usize>(tables: &[&[Key]]) -> [Key; N] {
    let mut all = [tables[0][0]; N];
    let (mut table, mut row, mut at) = (0, 0, 0);
    while table < tables.len() {
        if row == tables[table].len() {
            (table, row) = (table + 1, 0);
        } else {
            all[at] = tables[table][row];
            (row, at) = (row + 1, at + 1);
        }
    }
    all
}

const FIRST: &[Key] = &[
    key("seed", Kind::Whole(0, i64::MAX), "Every random draw follows from it."),
    key(
        "profile",
        Kind::Choice(&["paper", "quick", "tiny"]),
        "The values of keys that are not given: the published ones, two minutes' work, seconds' work.",
    ),
    key(
        "run.warmup",
        Kind::Choice(&["auto", "always", "never"]),
        "Whether `natv2 run` warms given weights up on the data set: where they come from another, always, never.",
    ),
    optional(
        "data.name",
        Kind::Choice(&["digits", "cifar10", "cifar100", "tiny-imagenet", "image-folder"]),
        "The data set.",
        "the one on the weights' card, else digits, which are built in",
    ),
    optional("data.dir", Kind::Path, "The folder with the data set's files.", "the data set is built in"),
    optional(
        "data.validation_images",
        Kind::Whole(1, 1_000_000_000),
        "CIFAR: how many images at the end of the training files are the validation split.",
        "as the weights' card says, else a tenth",
    ),
    optional(
        "data.validation_fraction",
        Kind::Between(0.0, 1.0),
        "Folders: the part of each class, at its end, that is the validation split.",
        "0.1; for tiny-imagenet 0.15 in the published work",
    ),
    optional(
        "data.augmentation",
        Kind::Choice(&["none", "digits", "cifar", "cifar-classic", "tiny-imagenet", "photos"]),
        "What happens to training images: nothing, small shifts, flip and AutoAugment, shifts and flip, crops and flip.",
        "none for digits, cifar or tiny-imagenet for that data, photos for folders",
    ),
    optional(
        "supernet.weights",
        Kind::Path,
        "The super-network's weights (safetensors, a card beside them).",
        "what this run has trained, else the small super-network for digits that is built in",
    ),
    optional(
        "supernet.wide_weights",
        Kind::Path,
        "The weights of a second super-network of another width, trained and searched side by side.",
        "one super-network, unless this run has trained two",
    ),
    optional(
        "supernet.family",
        Kind::Choice(FAMILIES),
        "The family of super-networks: single or early exit; basic, dense, parallel, both.",
        "as the weights' card says, else SE_B where they have a plain head, else EE_B",
    ),
    optional(
        "supernet.width",
        Kind::Between(0.05, 8.0),
        "The width multiplier of a super-network that is trained from random weights.",
        "that of the weights, else 1.0; 0.25 in the small profiles",
    ),
    optional(
        "supernet.wide_width",
        Kind::Between(0.05, 8.0),
        "The width multiplier of a second super-network that is trained from random weights (the paper: 1.0 and 1.2).",
        "one super-network",
    ),
    optional(
        "supernet.classes",
        Kind::Whole(1, 1 << 20),
        "The number of classes of a super-network that is trained from random weights.",
        "those of the data set",
    ),
    key(
        "supernet.exit_scaling",
        Kind::Choice(&["once", "twice"]),
        "How often the width multiplier applies to the exits' heads: once as in OFA, twice as the authors ran it.",
    ),
];

const REST: &[Key] = &[
    key("search.method", Kind::Choice(METHODS), "The search: NATv2, NAT, or random sampling."),
    key(
        "search.algorithm",
        Kind::Choice(&["nsga3", "nsga2", "auto"]),
        "The inner search; auto is NSGA-II for two objectives and NSGA-III for more, as the authors ran it.",
    ),
    key(
        "search.objectives",
        Kind::Choices(&["top1", "params", "macs", "latency"]),
        "What is traded off: accuracy upwards, the others downwards.",
    ),
    key("search.archive", Kind::Whole(4, 100_000), "Networks in the archive, both bounds included."),
    key(
        "search.oversample",
        Kind::Whole(1, 1000),
        "NATv2's initial archive is the best of this many times its size (the paper: 10).",
    ),
    key("search.iterations", Kind::Whole(1, 100_000), "Rounds of predictor, inner search and evaluation."),
    key("search.candidates", Kind::Whole(1, 100_000), "Networks evaluated in a round."),
    optional(
        "search.calibration_images",
        Kind::Whole(1, 1_000_000_000),
        "Training images that recompute the batch-norm statistics before an evaluation.",
        "as the weights' card says, else 1000 for tiny-imagenet, 960 for others",
    ),
    optional(
        "search.eval_images",
        Kind::Whole(1, 1_000_000_000),
        "Validation images of an evaluation, the first in file order.",
        "all of them",
    ),
    key(
        "search.precision",
        Kind::Choice(PRECISIONS),
        "What maps are stored as while networks are evaluated; the steps between have adaptation.precision.",
    ),
    key("search.population", Kind::Whole(4, 100_000), "Individuals of the inner search."),
    key("search.generations", Kind::Whole(1, 100_000), "Generations of the inner search."),
    key(
        "search.subset_population",
        Kind::Whole(4, 100_000),
        "Individuals of the genetic algorithm that picks the candidates from the inner search's result.",
    ),
    key("search.subset_generations", Kind::Whole(1, 100_000), "Generations of that."),
    key(
        "search.initialisation",
        Kind::Choice(POLICIES),
        "The initial archive: oversampled and selected, or uniform. Follows search.method.",
    ),
    key(
        "search.update",
        Kind::Choice(POLICIES),
        "Who stays when the archive is over its size: the survivors, or the newest. Follows search.method.",
    ),
    key(
        "search.growth",
        Kind::Choice(POLICIES),
        "The archive's size: constant, or growing by the candidates. Follows search.method.",
    ),
    key("search.latency_batch", Kind::Whole(1, 65_536), "Images in a pass whose latency is measured."),
    key(
        "search.latency_repeats",
        Kind::Whole(1, 100_000),
        "Timed passes, and as many before them to warm up; the median counts.",
    ),
    key(
        "predictor.kind",
        Kind::Choice(&["gbdt", "cart"]),
        "The accuracy predictor: gradient-boosted trees or bagged trees.",
    ),
    key(
        "predictor.encoding",
        Kind::Choice(&["integer", "one-hot"]),
        "Its features: the genes, or one-hot. Follows search.method.",
    ),
    key("predictor.folds", Kind::Whole(2, 1000), "Models in the ensemble, each fitted without one fold."),
    key(
        "predictor.target_scaling",
        Kind::Choice(&["standard", "none"]),
        "Whether targets are standardised; none is what the authors ran.",
    ),
    key(
        "adaptation.epochs",
        Kind::Whole(0, 10_000),
        "Epochs that the super-network trains after each round (the paper: 5; a whole run at least 1); 0 leaves the weights as they are.",
    ),
    key(
        "adaptation.distribution",
        Kind::Choice(&["categorical", "uniform", "best-fit"]),
        "How its sub-networks are drawn: from the archive's genes as they are, uniform of their mean and spread, or best-fitting.",
    ),
    key(
        "adaptation.top",
        Kind::Whole(1, 100_000),
        "Best networks of the archive that the distributions are fitted to, chosen as survivors are.",
    ),
    key(
        "adaptation.smoothing",
        Kind::From(0.0, 1e6),
        "What categorical distributions add to the count of every value of a gene.",
    ),
    key("adaptation.networks", Kind::Whole(1, 64), "Sub-networks of a step, whose gradients are added up."),
    key("adaptation.batch", Kind::Whole(2, 65_536), "Images of a step."),
    optional(
        "adaptation.epoch_images",
        Kind::Whole(1, 1_000_000_000),
        "Images of an epoch, drawn anew for each.",
        "all training images, once each",
    ),
    optional(
        "adaptation.resolutions",
        Kind::Ascending(32, 1024),
        "Sides in pixels, of which each step draws one.",
        "those of the search and the multiples of 4 between",
    ),
    key("adaptation.precision", Kind::Choice(PRECISIONS), STEP_PRECISION),
    key(
        "adaptation.rate",
        Kind::Between(0.0, 1e6),
        "Rate at the start of the one cosine that spans all rounds of the search.",
    ),
    key(
        "adaptation.warmup_epochs",
        Kind::Whole(0, 10_000),
        "Epochs, of the whole search, in which the rate rises before it follows the cosine.",
    ),
    key("adaptation.warmup_rate", Kind::From(0.0, 1e6), "Rate that the warm-up begins with."),
    key("adaptation.weight_decay", Kind::From(0.0, 1.0), "Weight decay, of all parameters."),
    key(
        "adaptation.clip",
        Kind::From(0.0, 1e9),
        "Largest norm of a step's gradient, that of all its sub-networks together; 0 does not clip.",
    ),
    key(
        "adaptation.kd_ratio",
        Kind::From(0.0, 1e6),
        "Weight of distillation from the largest network as it was before the search; 0 is without.",
    ),
    key(
        "adaptation.exit_weights",
        Kind::Choice(&["asc", "desc", "unif", "mix"]),
        "Weights of the exits in that network's answer (early-exit families).",
    ),
    key(
        "adaptation.checkpoint_steps",
        Kind::Whole(1, 1_000_000_000),
        "Steps between checkpoints within a round's training; each end of one is a checkpoint too.",
    ),
];

/// The key of a dotted name.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether a name is that of a section.
pub fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.path.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// The key that a wrong one was most likely meant to be, if any is like it: compared by the whole
/// name, and by its last part, which people forget to prefix.
pub fn nearest(wrong: &str) -> Option<&'static str> {
    nearest_of(KEYS, wrong)
}

/// The same among some keys.
pub(super) fn nearest_of(keys: &'static [Key], wrong: &str) -> Option<&'static str> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_lowercase();
    let wrong_last = last(wrong);
    let score = |path: &str| {
        let whole = strsim::normalized_damerau_levenshtein(&wrong.to_lowercase(), path);
        // Slightly less, so that of two equal names the one in the right section is chosen.
        whole.max(strsim::normalized_damerau_levenshtein(&wrong_last, &last(path)) * 0.9 + 0.1 * whole)
    };
    let paths = keys.iter().map(|key| key.path);
    most_alike(paths, score)
}

/// The choice that a wrong word was most likely meant to be.
pub(super) fn nearest_choice(kind: &Kind, wrong: &str) -> Option<&'static str> {
    let words = match kind {
        Kind::Choice(words) | Kind::Choices(words) => *words,
        _ => &[],
    };
    let wrong = wrong.to_lowercase();
    most_alike(words.iter().copied(), |word| {
        strsim::normalized_damerau_levenshtein(&wrong, &word.to_lowercase())
    })
}

fn most_alike(
    words: impl Iterator<Item = &'static str>,
    score: impl Fn(&str) -> f64,
) -> Option<&'static str> {
    const ALIKE: f64 = 0.5;
    let mut best: (f64, Option<&'static str>) = (ALIKE, None);
    for word in words {
        let score = score(word);
        if score > best.0 {
            best = (score, Some(word));
        }
    }
    best.1
}
