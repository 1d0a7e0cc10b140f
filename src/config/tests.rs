//! Tests of the configuration: what each layer decides, what a written file reads back to, and
//! what is said about every kind of mistake.

use std::collections::BTreeSet;
use std::fs;

use proptest::prelude::*;

use super::*;
use crate::data::Facts;
use crate::data::augment::Preset;
use crate::predictor::Encoding;
use crate::space::sample::Policy;
use crate::space::{Family, Strategy};

fn of(sets: &[&str]) -> Result<Config, Error> {
    let sets: Vec<String> = sets.iter().map(|text| text.to_string()).collect();
    load("search", None, &sets, None)
}

/// The configuration of a file with this text.
fn from_file(text: &str) -> Result<Config, Error> {
    from_layers(text, &[], None)
}

fn from_layers(text: &str, sets: &[&str], profile: Option<Profile>) -> Result<Config, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nas.toml");
    fs::write(&path, text).unwrap();
    let sets: Vec<String> = sets.iter().map(|text| text.to_string()).collect();
    load("search", Some(&path), &sets, profile)
}

fn message(result: Result<Config, Error>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn without_anything_it_is_the_quick_natv2_search_of_the_built_in_digits() {
    let config = of(&[]).unwrap();
    assert_eq!(config.profile, Profile::Quick);
    let search = &config.search;
    assert_eq!((search.archive, search.oversample, search.iterations, search.candidates), (60, 5, 6, 5));
    assert_eq!(search.objectives, [Objective::Top1, Objective::Params, Objective::Macs]);
    assert_eq!((search.method, search.algorithm), (Method::Natv2, Algorithm::Nsga3));
    assert_eq!((&config.data.name, &config.supernet.weights), (&None, &None));
    assert_eq!((search.calibration_images, search.eval_images), (None, None));
    assert_eq!(config.adaptation.epochs, 0);
}

#[test]
fn cifar_has_the_published_augmentation_in_the_paper_profile_alone() {
    let of_cifar = |sets: &[&str]| of(sets).unwrap().augmentation(Facts::of("cifar10").unwrap());
    assert_eq!(of_cifar(&["profile=paper"]), Preset::Cifar);
    assert_eq!(of_cifar(&["profile=quick"]), Preset::TinyImagenet);
    assert_eq!(of_cifar(&["profile=paper", "data.augmentation=flip"]), Preset::Flip);
}

#[test]
fn paper_has_the_published_counts_of_both_methods() {
    let natv2 = of(&["profile=paper"]).unwrap();
    let search = &natv2.search;
    assert_eq!((search.archive, search.oversample, search.iterations, search.candidates), (300, 10, 30, 25));
    assert_eq!((search.population, search.generations), (100, 20));
    assert_eq!((search.subset_population, search.subset_generations), (500, 200));
    assert_eq!((search.latency_batch, search.latency_repeats), (1, 100));
    assert_eq!((natv2.predictor.folds, natv2.predictor.encoding), (10, Encoding::Integer));
    let a = &natv2.adaptation;
    assert_eq!((a.epochs, a.distribution, a.top), (5, Distribution::Categorical, 150));
    assert_eq!((a.networks, a.batch, a.epoch_images, &a.resolutions), (4, 256, None, &None));
    assert_eq!((a.rate, a.warmup_epochs, a.warmup_rate), (2.5e-3, 5, 1e-4));
    assert_eq!((a.weight_decay, a.clip, a.kd_ratio, a.exit_weights), (3e-4, 5.0, 1.0, Strategy::Desc));

    let nat = of(&["profile=paper", "search.method=nat"]).unwrap();
    assert_eq!((nat.search.archive, nat.search.candidates, nat.search.iterations), (100, 8, 30));
    assert_eq!(nat.predictor.encoding, Encoding::OneHot);
}

#[test]
fn policies_follow_the_method_where_they_are_not_given() {
    let policies =
        |config: &Config| (config.search.initialisation, config.search.update, config.search.growth);
    for (method, policy) in [("natv2", Policy::NatV2), ("nat", Policy::Nat), ("random", Policy::NatV2)] {
        let config = of(&[&format!("search.method={method}")]).unwrap();
        assert_eq!(policies(&config), (policy, policy, policy));
    }
    let mixed = of(&["search.method=nat", "search.growth=natv2"]).unwrap();
    assert_eq!(policies(&mixed), (Policy::Nat, Policy::Nat, Policy::NatV2));
}

#[test]
fn values_that_belong_together_follow_the_one_that_is_given() {
    let config = of(&["profile=tiny", "search.candidates=50", "search.archive=4"]).unwrap();
    assert_eq!((config.search.population, config.predictor.folds), (50, 4));
    assert_eq!(of(&["profile=tiny", "search.candidates=2"]).unwrap().search.population, 20);
}

#[test]
fn later_layers_win() {
    let text = "profile = 'tiny'\nseed = 3\n[search]\narchive = 20\niterations = 9\n";
    let file = from_file(text).unwrap();
    assert_eq!(
        (file.profile, file.seed, file.search.archive, file.search.oversample),
        (Profile::Tiny, 3, 20, 2)
    );
    let set = from_layers(text, &["search.archive=21", "seed=4", "search.archive=22"], None).unwrap();
    assert_eq!((set.seed, set.search.archive, set.search.iterations), (4, 22, 9));
    let flag = from_layers(text, &["profile=quick"], Some(Profile::Paper)).unwrap();
    assert_eq!((flag.profile, flag.search.archive, flag.search.candidates), (Profile::Paper, 20, 25));
}

#[test]
fn set_takes_toml_bare_words_paths_and_lists() {
    let config = of(&[
        "search.objectives=top1, latency",
        "data.name=\"cifar10\"",
        "data.dir=/data/my sets/cifar = 10",
        " supernet.weights = 2024 ",
        "data.validation_fraction=0.25",
        "search.archive=1_000",
        "supernet.family=EE_D",
    ])
    .unwrap();
    assert_eq!(config.search.objectives, [Objective::Top1, Objective::Latency]);
    assert_eq!(config.data.name.as_deref(), Some("cifar10"));
    assert_eq!(config.data.dir.as_deref(), Some(Path::new("/data/my sets/cifar = 10")));
    assert_eq!(config.supernet.weights.as_deref(), Some(Path::new("2024")));
    assert_eq!(config.data.validation_fraction, Some(0.25));
    assert_eq!(config.search.archive, 1000);
    assert_eq!(config.supernet.family, Some("EE_D".parse().unwrap()));
    for text in ["[\"macs\", 'top1']", "[macs,top1]", "macs,top1", "\"macs\",\"top1\""] {
        let config = of(&[&format!("search.objectives={text}")]).unwrap();
        assert_eq!(config.search.objectives, [Objective::Macs, Objective::Top1], "{text}");
    }
}

#[test]
fn dotted_keys_and_inline_sections_are_the_same_as_sections() {
    let a = from_file("search.archive = 9\nsearch.method = 'nat'").unwrap();
    let b = from_file("[search]\nmethod = \"nat\"\narchive = 9").unwrap();
    let c = from_file("search = {archive = 9, method = 'nat'}").unwrap();
    assert!(a == b && b == c);
    assert_eq!(a.hash(), c.hash());
    from_file("[trian]\n").unwrap_err();
    from_file("[search]\n").unwrap();
}

#[test]
fn unknown_keys_are_named_in_full_with_the_nearest() {
    for (key, nearest) in [
        ("search.archve", "search.archive"),
        ("serach.archive", "search.archive"),
        ("archive", "search.archive"),
        ("Search.Archive", "search.archive"),
        ("search.calibration-images", "search.calibration_images"),
        ("predictor.epochs", "train.epochs"),
        ("epochs", "train.epochs"),
        ("search.seed", "seed"),
        ("sed", "seed"),
        ("data.directory", "data.dir"),
        ("search.initialization", "search.initialisation"),
    ] {
        let text = message(of(&[&format!("{key}=1")]));
        assert_eq!(text, format!("--set: there is no key {key:?}; did you mean {nearest:?}?"));
    }
    let text = message(from_file("[search]\narchve = 3\n"));
    assert!(
        text.contains("nas.toml: there is no key \"search.archve\"; did you mean \"search.archive\"?"),
        "{text}"
    );
    let text = message(from_file("[zzz.yyy]\nq = 1\n"));
    assert!(text.ends_with("there is no key \"zzz.yyy.q\""), "{text}");
}

#[test]
fn wrong_values_are_named_with_what_is_allowed() {
    for (set, said) in [
        ("search.archive=3", "--set: search.archive = 3: must be a whole number from 4 to 100000"),
        ("search.archive=-5", "search.archive = -5: must be"),
        ("search.archive=100001", "must be a whole number from 4 to 100000"),
        ("search.archive=99999999999999999999", "search.archive = \"99999999999999999999\""),
        ("search.archive=many", "search.archive = \"many\": must be a whole number"),
        ("search.archive=60.0", "search.archive = 60.0: must be a whole number"),
        ("search.archive=", "search.archive = \"\": must be a whole number"),
        ("search.archive=[60]", "search.archive = [60]: must be a whole number"),
        ("search.archive=true", "search.archive = true"),
        ("search.iterations=0", "must be a whole number from 1"),
        ("seed=-1", "seed = -1: must be a whole number, 0 or more"),
        ("search.method=natv3", "must be one of \"natv2\", \"nat\", \"random\"; did you mean \"natv2\"?"),
        ("search.method=NATv2", "did you mean \"natv2\"?"),
        ("data.name=cifar", "did you mean \"cifar10\"?"),
        (
            "search.objectives=[]",
            "search.objectives = []: must be a list of one to 4, each once, of \"top1\"",
        ),
        ("search.objectives=top1,top1", "each once"),
        ("search.objectives=top1,flops", "of \"top1\", \"params\", \"macs\", \"latency\""),
        ("search.objectives=top1,param", "did you mean \"params\"?"),
        ("search.objectives=[1]", "search.objectives = [1]"),
        ("data.validation_fraction=0", "data.validation_fraction = 0: must be a number between 0 and 1"),
        ("data.validation_fraction=1.0", "data.validation_fraction = 1.0"),
        ("data.validation_fraction=nan", "data.validation_fraction = nan"),
        ("data.validation_fraction=inf", "data.validation_fraction = inf"),
        ("data.dir=", "data.dir = \"\": must be a path"),
        ("adaptation.epochs=-1", "must be a whole number from 0 to 10000"),
        ("predictor.folds=1", "must be a whole number from 2 to 1000"),
        ("profile=slow", "must be one of \"paper\", \"quick\", \"tiny\""),
    ] {
        let text = message(of(&[set]));
        assert!(text.contains(said), "{set}: {text}");
    }
    let long = message(of(&[&format!("search.method={}", "ä".repeat(10_000))]));
    assert!(long.len() < 400, "{long}");
}

#[test]
fn a_file_with_a_value_of_another_type_is_refused() {
    for (text, said) in [
        ("seed = '1'", "seed = \"1\": must be a whole number"),
        ("[search]\nmethod = 1", "search.method = 1: must be one of"),
        ("[search]\nobjectives = 'top1'", "search.objectives = \"top1\": must be a list"),
        ("[data]\ndir = 1979-05-27", "data.dir = 1979-05-27: must be a path"),
        ("search = 3", "search is a section, not a value: its keys are search.method, "),
        ("[[search]]\narchive = 3", "search is a section"),
        ("[search.archive]\nx = 3", "search.archive is a value, not a section"),
        ("seed = {}", "seed is a value, not a section"),
    ] {
        let text = message(from_file(text));
        assert!(text.contains(said) && text.contains("nas.toml"), "{text}");
    }
}

#[test]
fn settings_that_contradict_each_other_name_both() {
    let text = message(of(&["search.candidates=30", "search.population=20"]));
    assert!(
        text.starts_with("search.candidates = 30: ") && text.contains("search.population = 20"),
        "{text}"
    );
    let text = message(of(&["search.archive=8", "predictor.folds=9"]));
    assert!(text.starts_with("predictor.folds = 9: ") && text.contains("search.archive = 8"), "{text}");
    let text = message(of(&["data.name=cifar10"]));
    assert!(text.starts_with("data.name = \"cifar10\": ") && text.contains("data.dir"), "{text}");
}

#[test]
fn a_set_without_key_or_value_shows_how() {
    for text in ["", "=", "=3", "search.archive", "  = 3"] {
        let said = message(of(&[text]));
        assert!(said.contains("--set search.archive=60"), "{said}");
    }
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("nas.toml");
    let read = |path: &Path| message(load("search", Some(path), &[], None));
    assert!(read(&file).contains("cannot read the configuration") && read(&file).contains("nas.toml"));
    assert!(read(dir.path()).contains("cannot read"), "{}", read(dir.path()));
    let deep = format!("seed = {}", "[".repeat(100_000));
    let cases: [(&[u8], &str); 5] = [
        (b"seed = ", "line 1"),
        (b"seed = 1\nseed = 2", "duplicate"),
        (&[0xff, 0xfe, 0x00], "not UTF-8"),
        (&[b'#'; (1 << 20) + 1], "larger than 1 MiB"),
        (deep.as_bytes(), "not a configuration in TOML"),
    ];
    for (bytes, said) in cases {
        fs::write(&file, bytes).unwrap();
        assert!(read(&file).contains(said), "{}", read(&file));
    }
}

#[test]
fn every_key_has_a_field_and_every_field_a_key() {
    let mut full = of(&["data.name=cifar10", "data.dir=d"]).unwrap();
    full.data.validation_images = Some(1);
    full.data.validation_fraction = Some(0.5);
    full.supernet.weights = Some("w".into());
    full.supernet.family = Some(Family::SE_B);
    full.supernet.width = Some(1.0);
    full.data.augmentation = Some(Preset::None);
    full.supernet.classes = Some(1);
    full.supernet.wide_weights = Some("w".into());
    full.supernet.wide_width = Some(1.2);
    for training in [&mut full.train, &mut full.warmup] {
        training.phases = Some(vec![Phase::new("a", 1, 0.1)]);
        training.epoch_images = Some(1);
        training.epochs = Some(1);
        training.resolutions = Some(vec![32]);
        training.validation_images = Some(1);
        training.calibration_images = Some(1);
    }
    full.search.calibration_images = Some(1);
    full.search.eval_images = Some(1);
    full.adaptation.epoch_images = Some(1);
    full.adaptation.resolutions = Some(vec![32]);
    full.finetune = Finetune {
        search: Some("r".into()),
        arch: Some("a".into()),
        number: Some(1),
        max_macs: Some(1),
        max_params: Some(1),
        min_top1: Some(1.0),
        weight_decay: Some(0.1),
        epoch_images: Some(1),
        validation_images: Some(1),
        calibration_images: Some(1),
        ..full.finetune
    };
    let mut fields = BTreeSet::new();
    for (name, value) in toml::Table::try_from(&full).unwrap() {
        match value {
            Value::Table(inner) => fields.extend(inner.keys().map(|key| format!("{name}.{key}"))),
            _ => drop(fields.insert(name)),
        }
    }
    assert_eq!(fields, KEYS.iter().map(|key| key.path.to_string()).collect());
    // The small profiles give some of the keys that may be absent a value.
    let defaults = of(&["profile=paper"]).unwrap();
    for (key, value) in defaults.values() {
        assert_eq!(value.is_none(), key.absent.is_some(), "{}", key.path);
    }
}

#[test]
fn every_word_of_a_key_is_one_of_the_schema() {
    for key in KEYS.iter() {
        let (keys::Kind::Choice(words) | keys::Kind::Choices(words)) = key.kind else { continue };
        for word in words {
            let dir = if key.path == "data.name" { "data.dir=d" } else { "seed=1" };
            let config = of(&[&format!("{}={word}", key.path), dir]).unwrap();
            let value = config.values().into_iter().find(|(other, _)| other.path == key.path).unwrap().1;
            assert!(value.unwrap().to_string().contains(word), "{} {word}", key.path);
        }
    }
    assert_eq!(Family::WORDS.len(), 8);
    assert_eq!(Family::all().last().unwrap().to_string(), "EE_DP");
}

#[test]
fn a_written_file_explains_every_key_and_reads_back_to_the_same() {
    for profile in Profile::ALL {
        for sets in
            [&["search.method=nat"][..], &["data.name=cifar10", "data.dir=C:\\data \"x\"\n", "seed=7"]]
        {
            let sets: Vec<String> = sets.iter().map(|text| text.to_string()).collect();
            let config = load("search", None, &sets, Some(profile)).unwrap();
            let text = config.to_toml();
            let again = from_file(&text).unwrap();
            assert_eq!(again, config);
            assert_eq!(again.to_toml(), text);
            assert_eq!(again.hash(), config.hash());
            assert_eq!(config.differences(&again), []);
            assert!(KEYS.iter().all(|key| text.contains(key.doc)));
            assert!(text.contains("\n[search]\n") && text.contains("\n# family is not set: "), "{text}");
        }
    }
}

#[test]
fn the_hash_and_the_difference_follow_every_key() {
    let base = of(&[]).unwrap();
    let hash = base.hash();
    assert_eq!(hash.len(), 8);
    assert_eq!(base.default_run_directory(), Path::new(&format!("runs/search-{hash}")));
    let mut hashes = BTreeSet::from([hash]);
    for (set, key, second) in [
        ("seed=1", "seed", "1"),
        ("profile=tiny", "profile", "\"tiny\""),
        ("data.validation_images=4", "data.validation_images", "4"),
        ("supernet.weights=w", "supernet.weights", "\"w\""),
        ("search.objectives=top1,macs", "search.objectives", "[\"top1\", \"macs\"]"),
        ("search.archive=61", "search.archive", "61"),
        ("search.method=random", "search.method", "\"random\""),
        ("adaptation.distribution=uniform", "adaptation.distribution", "\"uniform\""),
    ] {
        let other = of(&[set]).unwrap();
        let differences = base.differences(&other);
        assert_eq!((differences[0].key, differences[0].second.as_deref()), (key, Some(second)));
        assert!(hashes.insert(other.hash()), "{set}");
    }
    let huge = Config { seed: u64::MAX, ..base.clone() };
    assert_eq!(base.differences(&huge)[0].key, "seed");
    assert_eq!(huge.differences(&huge), []);
}

/// A configuration with two phases of its own.
const PHASES: &str = r#"
[train]
batch = 32
[[train.phases]]
name = "largest"
epochs = 3
rate = 0.08
full = true
dropout = 0.2
[[train.phases]]
name = "kernel"
epochs = 2
rate = 1
warmup_epochs = 1
warmup_rate = 1e-4
kernels = [7, 3, 5]
teacher = "none"
"#;

#[test]
fn phases_are_read_from_a_file_or_a_set_and_written_back() {
    let config = from_file(PHASES).unwrap();
    let phases = config.train.phases.clone().unwrap();
    let first = Phase { full: true, dropout: 0.2, ..Phase::new("largest", 3, 0.08) };
    let second = Phase {
        warmup_epochs: 1,
        warmup_rate: Some(1e-4),
        kernels: vec![7, 3, 5],
        teacher: Some(Teacher::None),
        ..Phase::new("kernel", 2, 1.0)
    };
    assert_eq!((phases, config.train.batch), (vec![first.clone(), second], 32));
    assert_eq!(config.warmup.phases, None);
    let text = config.to_toml();
    assert!(text.contains("\nphases = [\n  { name = \"largest\","), "{text}");
    let again = from_file(&text).unwrap();
    assert_eq!((again.hash(), &again), (config.hash(), &config));
    let set = of(&["train.phases=[{name='largest', epochs=3, rate=0.08, full=true, dropout=0.2}]"]).unwrap();
    assert_eq!(set.train.phases, Some(vec![first]));
    assert_eq!(config.differences(&set)[0].key, "train.phases");
}

#[test]
fn what_is_wrong_with_a_phase_is_named_with_its_number() {
    let phase =
        |rest: &str| format!("[[train.phases]]\nname='a'\nepochs=1\nrate=1\n[[train.phases]]\n{rest}");
    let whole = |rest: &str| phase(&format!("name='b'\nepochs=1\nrate=0.1\n{rest}"));
    for (text, said) in [
        (phase("epochs=1\nrate=1"), "train.phases[2] has no `name`, a name of 1 to 40 letters"),
        (phase("name='b'\nepochs=1"), "train.phases[2] has no `rate`"),
        (phase("name='a'\nepochs=1\nrate=1"), "train.phases[2] is the second phase called \"a\""),
        (phase("name='a b'\nepochs=1\nrate=1"), "train.phases[2].name = \"a b\": must be a name"),
        (whole("kernel=[3]"), "no key \"train.phases[2].kernel\"; did you mean \"kernels\"?"),
        (
            whole("kernels=[9]"),
            "train.phases[2].kernels = [9]: must be a list of one to 3, each once, of 3, 5, 7",
        ),
        (whole("kernels=[3,3]"), "train.phases[2].kernels"),
        (whole("exits=[]"), "train.phases[2].exits = []"),
        (whole("dropout=1.0"), "must be a number from 0 up to 1, 1 excluded"),
        (whole("full=1"), "train.phases[2].full = 1: must be true or false"),
        (whole("teacher='pett'"), "did you mean \"pet\"?"),
        ("[train.phases]\nname='a'".into(), "train.phases is a value, not a section"),
        (whole("full=true\nteacher='largest'"), "train.phases[2] trains the largest network alone"),
        ("[train]\nphases=[]".into(), "train.phases = []: must be a list of phases"),
        ("[train]\nphases=['eps']".into(), "train.phases = [\"eps\"]: must be a list of phases"),
    ] {
        let text = message(from_file(&text));
        assert!(text.contains(said) && text.contains("nas.toml"), "{text}");
    }
}

#[test]
fn both_trainings_follow_their_schedule_and_the_profile() {
    let config = of(&["profile=paper"]).unwrap();
    let (train, warmup) = (&config.train, &config.warmup);
    assert_eq!((train.schedule, train.scale, train.batch, train.clip), (Schedule::Eps, 1.0, 64, 0.0));
    assert_eq!(
        (train.momentum, train.nesterov, train.weight_decay, train.decay),
        (0.9, true, 3e-5, Decays::Weights)
    );
    assert_eq!((train.teacher, train.exit_weights), (Teacher::Pet, Strategy::Asc));
    assert_eq!((warmup.schedule, warmup.scale, warmup.batch, warmup.clip), (Schedule::Target, 1.0, 256, 5.0));
    assert_eq!(
        (warmup.momentum, warmup.nesterov, warmup.weight_decay, warmup.decay),
        (0.9, false, 3e-4, Decays::All)
    );
    assert_eq!((warmup.teacher, warmup.exit_weights), (Teacher::Fixed, Strategy::Desc));
    assert_eq!((train.validation_epochs, warmup.validation_epochs, warmup.validation_networks), (1, 10, 32));
    let quick = of(&[]).unwrap();
    assert_eq!([quick.train.schedule, quick.warmup.schedule], [Schedule::Sandwich; 2]);
    assert_eq!((quick.warmup.batch, quick.warmup.teacher), (32, Teacher::Largest));
    let own = from_file("[[warmup.phases]]\nname = 'a'\nepochs = 1\nrate = 0.1\n").unwrap();
    assert_eq!((own.train.schedule, own.warmup.schedule), (Schedule::Sandwich, Schedule::Target));
    let other = of(&["train.schedule=ofa", "warmup.schedule=full", "warmup.teacher=none"]).unwrap();
    assert_eq!((other.train.teacher, other.train.scale), (Teacher::Fixed, 0.2));
    assert_eq!((other.warmup.teacher, other.warmup.batch), (Teacher::None, 32));
}

#[test]
fn lists_of_sides_and_flags_are_taken_from_a_set() {
    for text in ["[48, 56, 64]", "48,56,64"] {
        let config = of(&[&format!("train.resolutions={text}"), "train.nesterov=false"]).unwrap();
        assert_eq!(
            (config.train.resolutions, config.train.nesterov),
            (Some(vec![48, 56, 64]), false),
            "{text}"
        );
    }
    assert_eq!(of(&["train.resolutions=40"]).unwrap().train.resolutions, Some(vec![40]));
    for (set, said) in [
        ("train.resolutions=64,48", "must be a list of whole numbers from 32 to 1024, ascending"),
        ("train.resolutions=48,x", "train.resolutions = \"48,x\": must be a list of whole"),
        ("train.resolutions=16", "train.resolutions = [16]: must be"),
        ("train.momentum=1", "must be a number from 0 up to 1, 1 excluded"),
        ("train.nesterov=maybe", "train.nesterov = \"maybe\": must be true or false"),
        ("supernet.width=0", "supernet.width = 0: must be a number between 0.05 and 8"),
    ] {
        let text = message(of(&[set]));
        assert!(text.contains(said), "{set}: {text}");
    }
}

#[test]
fn the_ready_configurations_are_the_published_ones() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let config = load("run", Some(&path), &[], None).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        assert_eq!(
            (config.profile, config.supernet.family),
            (Profile::Paper, Some("EE_D".parse().unwrap())),
            "{name}"
        );
        let (search, adaptation) = (&config.search, &config.adaptation);
        assert_eq!(
            (search.archive, search.oversample, search.iterations, search.candidates),
            (300, 10, 30, 25)
        );
        assert_eq!((adaptation.epochs, adaptation.top, adaptation.batch), (5, 150, 256));
        if name.starts_with("supernet") {
            assert_eq!((config.supernet.width, config.supernet.wide_width), (Some(1.0), Some(1.2)));
        } else {
            assert_eq!(
                (config.finetune.exits, config.finetune.prune),
                (Exits::Ensemble(Strategy::Unif), false),
                "{name}"
            );
            assert_eq!(config.data.name.as_deref(), Some(&*name));
        }
        found.push(name);
    }
    found.sort();
    assert_eq!(found, ["cifar10", "cifar100", "supernet-tiny-imagenet", "tiny-imagenet"]);
}

#[test]
fn a_stored_configuration_is_compared_whatever_command_it_came_from() {
    let path = Path::new("run/config.toml");
    // A whole run adapts where a search by itself does not, unless it is said.
    let whole = load("run", None, &[], None).unwrap();
    assert_eq!((whole.adaptation.epochs, of(&[]).unwrap().adaptation.epochs), (1, 0));
    let sets = ["seed=5".into(), "adaptation.epochs=0".into()];
    let stored = load("run", None, &sets, None).unwrap().to_toml();
    check_stored(path, &stored, &of(&["seed=5"]).unwrap()).unwrap();
    let text = check_stored(path, &stored, &of(&["seed=6"]).unwrap()).unwrap_err().to_string();
    assert!(
        text.contains("run/config.toml: seed is 5 there and 6 now. ") && text.contains("--run"),
        "{text}"
    );
    // All that one flag changes.
    let precisions = ["search.precision=f16", "adaptation.precision=f16", "train.precision=f16"];
    let sets: Vec<&str> = ["seed=5"].into_iter().chain(precisions).collect();
    let text = check_stored(path, &stored, &of(&sets).unwrap()).unwrap_err().to_string();
    assert_eq!(text.matches(".precision is \"f32\" there and \"f16\" now").count(), 3, "{text}");
    let many = ["seed=6", "search.archive=61", "search.method=random", "data.validation_images=4"];
    let sets: Vec<&str> = many.into_iter().chain(precisions).collect();
    let text = check_stored(path, &stored, &of(&sets).unwrap()).unwrap_err().to_string();
    assert!(text.contains(" now, and 1 more. Give"), "{text}");
    let text = check_stored(path, &stored, &of(&["seed=5", "search.eval_images=9"]).unwrap()).unwrap_err();
    assert!(text.to_string().contains("search.eval_images is not set there and 9 now"), "{text}");
    let text = check_stored(path, "seed = ", &of(&[]).unwrap()).unwrap_err().to_string();
    assert!(text.contains("run/config.toml is not a configuration"), "{text}");
}

proptest! {
    #[test]
    fn no_text_makes_loading_panic(text in ".{0,60}", key in 0..KEYS.len(), value in ".{0,20}") {
        let _ = layers::resolve("search", Some((Path::new("x"), &text)), &[], None);
        let _ = of(&[&text]);
        let path = KEYS[key].path;
        if let Err(error) = of(&[&format!("{path}={value}")]) {
            prop_assert!(error.to_string().contains(path), "{}", error);
        }
    }

    #[test]
    fn any_accepted_numbers_survive_being_written_and_read(
        seed in 0..i64::MAX, archive in 10..100_000usize, fraction in 0.0001..0.9999f64, objectives in 1..4usize,
    ) {
        let words = Objective::ALL[..objectives].iter().map(|word| word.as_str()).collect::<Vec<_>>().join(",");
        let config = of(&[
            &format!("seed={seed}"),
            &format!("search.archive={archive}"),
            &format!("data.validation_fraction={fraction}"),
            &format!("search.objectives={words}"),
        ]).unwrap();
        prop_assert_eq!(config.seed as i64, seed);
        prop_assert_eq!(config.data.validation_fraction, Some(fraction));
        let text = config.to_toml();
        let again = layers::resolve("search", Some((Path::new("x"), &text)), &[], None).unwrap();
        prop_assert_eq!(again.hash(), config.hash());
        prop_assert_eq!(again, config);
    }
}

#[test]
fn what_holds_without_a_setting_is_what_is_known_of_the_data_sets() {
    let absent = |path: &str| keys::find(path).unwrap().absent.unwrap();
    for facts in &crate::data::facts::ALL {
        for usual in [facts.augmentation, facts.published_augmentation].map(Preset::as_str) {
            assert!(absent("data.augmentation").contains(usual), "{}: {usual}", facts.name);
        }
        let images = facts.calibration_images.to_string();
        assert!(absent("search.calibration_images").contains(&images), "{}: {images}", facts.name);
    }
}
