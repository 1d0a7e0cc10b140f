//! What holds for every one of the eight families: genotypes, counts, exits, extraction, search.

use natv2::config::{self, Profile};
use natv2::device::{self, Cpu};
use natv2::engine::ensemble::{Strategy, combine};
use natv2::engine::plan::{Mode, Program, Section, lower};
use natv2::engine::{Calibration, Cropped, Engine, Precision};
use natv2::evaluator::{Evaluator, Options};
use natv2::ops::depthwise::Depthwise;
use natv2::ops::{Call, Region, Slot, Threads};
use natv2::random::{Stream, stream};
use natv2::run::{Output, RunDirectory, StopFlag};
use natv2::search::{Outcome, search};
use natv2::space::sample::{Policy, sample};
use natv2::space::walk::{Exits, walk};
use natv2::space::{Arch, Cost, ExitScaling, Family, Genotype, Repair, Space, cost};
use natv2::supernet::{Blank, Init, Layout, Network, Supernet, Target, Tensor, convert};
use rand::RngExt;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const NETWORKS: usize = 10_000;
const WIDTH: f64 = 0.25;
const CLASSES: usize = 10;

fn space(family: Family) -> Space {
    Space::new(family, &[32, 40, 48], &[WIDTH], ExitScaling::Once).unwrap()
}

/// `count` networks of a family, from both policies in turn.
fn networks(family: Family, count: usize) -> Vec<Genotype> {
    let (space, mut rng) = (space(family), stream(11, "families", 0, 0));
    (0..count)
        .map(|i| sample(&space, if i % 2 == 0 { Policy::Nat } else { Policy::NatV2 }, &mut rng))
        .collect()
}

fn supernet(family: Family) -> Supernet {
    let blank = Blank::new(family, WIDTH, CLASSES);
    let mut net = Supernet::random(&blank, 3).unwrap();
    // Nothing may depend on fresh values: batch norms and matrices of a trained network are others.
    let mut rng = stream(4, "perturb", 0, 0);
    for tensor in net.layout.tensors() {
        let variance = tensor.name.ends_with("running_var");
        for value in &mut net.packed[tensor.offset..][..tensor.len] {
            let change: f32 = rng.random::<f32>() - 0.5;
            match () {
                () if variance => *value += change,
                // Padding stays zero; weights and matrices move in proportion.
                () if tensor.shape.len() > 1 => *value *= 1.0 + 0.2 * change,
                () => *value += 0.2 * change,
            }
        }
        let padded = tensor.shape.iter().product::<usize>();
        if tensor.shape.len() == 1 {
            net.packed[tensor.offset..][..tensor.len][padded..].fill(0.0);
        }
    }
    net
}

fn images(count: usize, purpose: &str) -> Tensor {
    let mut rng = stream(5, purpose, 0, 0);
    let data = (0..count * 3 * 48 * 48).map(|_| rng.random::<f32>() * 3.0 - 1.5).collect();
    Tensor { shape: vec![count, 3, 48, 48], data }
}

fn engine(device: &str, net: Supernet) -> Engine {
    Engine::new(device::open(device).unwrap(), Arc::new(net)).unwrap()
}

fn layout(family: Family) -> Layout {
    supernet(family).layout
}

fn bits(logits: &[Vec<f32>]) -> Vec<Vec<u32>> {
    logits.iter().map(|exit| exit.iter().map(|v| v.to_bits()).collect()).collect()
}

#[test]
fn genotypes_come_back_and_are_equal_exactly_if_the_networks_are() {
    for family in Family::all() {
        let (space, layout) = (space(family), layout(family));
        let calls = |g: &[u8]| {
            let arch = space.decode(g).unwrap();
            lower(&layout, &arch, Exits::single(&arch), 1, Mode::Inference, Precision::F32).0.calls
        };
        networks(family, NETWORKS).par_iter().enumerate().for_each(|(index, genotype)| {
            let mut rng = stream(12, "mutate", index as u64, 0);
            let arch = space.decode(genotype).unwrap();
            assert_eq!(&space.encode(&arch).unwrap(), genotype, "{family}");
            let json = serde_json::to_string(&arch).unwrap();
            assert_eq!(Arch::parse(family, &json).unwrap(), arch, "{family}");

            let idle = with_other_idle_genes(&space, &arch, genotype, &mut rng);
            assert_eq!(space.decode(&idle).unwrap(), arch, "{family} {idle:?}");
            assert_eq!(&space.encode(&space.decode(&idle).unwrap()).unwrap(), genotype);
            let mut repaired = idle;
            space.repair(&mut repaired, Repair::Fill);
            assert_eq!(&repaired, genotype, "{family}");
            let mut repaired = with_other_unused_shapes(&space, &arch, genotype, &mut rng);
            space.repair(&mut repaired, Repair::Fill);
            assert_eq!(&repaired, genotype, "{family}");

            // Any gene changed at random: the same genotype again exactly if the same calls.
            let mut other = genotype.clone();
            let gene = rng.random_range(0..other.len());
            other[gene] = rng.random_range(space.lower()[gene]..=space.upper()[gene]);
            space.repair(&mut other, Repair::Fill);
            // Comparing plans is slower than making genotypes.
            if index % 10 == 0 {
                assert_eq!(
                    other == *genotype,
                    calls(&other) == calls(genotype),
                    "{family} {genotype:?} {other:?}"
                );
            } else {
                let same = space.decode(&other).unwrap() == arch;
                assert_eq!(other == *genotype, same, "{family} {genotype:?} {other:?}");
            }
        });
    }
}

/// The same network with other values in the genes behind its exit.
fn with_other_idle_genes(space: &Space, arch: &Arch, genotype: &[u8], rng: &mut Stream) -> Genotype {
    let (first, upper) = (space.first_layer_gene(), space.upper());
    let mut out = genotype.to_vec();
    for index in arch.stages() * 4..20 {
        // Zeros may follow each other in any way behind the exit.
        out[first + index] = rng.random_range(0..=upper[first + index]);
    }
    out
}

/// The same network with another kernel and expansion where a layer has no MBConv to use them.
fn with_other_unused_shapes(space: &Space, arch: &Arch, genotype: &[u8], rng: &mut Stream) -> Genotype {
    let mut out = genotype.to_vec();
    for index in (0..20).filter(|&i| arch.is_active(i) && arch.nw[i] & 4 == 0) {
        let gene = &mut out[space.first_layer_gene() + index];
        *gene = 1 + (*gene - 1) / 9 * 9 + rng.random_range(0..9u8);
    }
    out
}

/// The calls with those for several branches replaced by a call a branch.
fn separate(calls: &[Call]) -> Vec<Call> {
    let scratch = |len| Slot { region: Region::Arena, offset: usize::MAX / 2, len };
    let parts = |call: &Call| match call {
        Call::Branches(branches) => branches.separate(scratch(branches.scratch_len())),
        call => vec![call.clone()],
    };
    calls.iter().flat_map(parts).collect()
}

/// Parameters and multiply-accumulates of the calls that run, summed call by call.
fn counted(program: &Program, section: &Section, classes: usize) -> Cost {
    let mut cost = Cost::default();
    for call in separate(&program.calls) {
        let (weights, macs) = match &call {
            Call::Stem(c) => (27 * c.params.cout, call.work().flops / 2),
            Call::Depthwise(c) => {
                // Adding up the means is no multiply-accumulate.
                let alone = Call::from(Depthwise { pool: None, ..c.clone() });
                (c.params.kernel * c.params.kernel * c.params.channels, alone.work().flops / 2)
            }
            Call::Pointwise(c) => {
                let logits = program.logits.contains(&c.y);
                // The engine computes a multiple of 8 logits.
                let cout = if logits { classes as u32 } else { c.params.cout };
                let bias = if logits { cout } else { 0 };
                let rows = c.params.rows() as u64;
                (c.params.cin * cout + bias, rows * u64::from(c.params.cin) * u64::from(cout))
            }
            Call::SqueezeExcite(c) => {
                let (channels, hidden) = (c.params.channels, c.params.hidden);
                (2 * channels * hidden + channels + hidden, 2 * u64::from(channels * hidden))
            }
            _ => (0, 0),
        };
        cost.params += u64::from(weights);
        cost.macs += macs;
    }
    for fold in &section.stored.calls {
        // Weight and bias, and the bias of a convolution in front.
        cost.params += u64::from(fold.params.channels) * (2 + u64::from(fold.bias.is_some()));
    }
    cost
}

#[test]
fn counts_are_those_of_the_plan_that_runs() {
    for family in Family::all() {
        let (space, layout) = (space(family), layout(family));
        networks(family, NETWORKS).par_iter().enumerate().for_each(|(index, genotype)| {
            let arch = space.decode(genotype).unwrap();
            let exits = if index % 4 == 0 { Exits::up_to(&arch) } else { Exits::single(&arch) };
            let (program, section) = lower(&layout, &arch, exits, 1, Mode::Inference, Precision::F32);
            let expected = cost(space.channels(&arch).unwrap(), &arch, exits, CLASSES);
            assert_eq!(counted(&program, &section, CLASSES), expected, "{family} {genotype:?}");
        });
    }
}

#[test]
fn branches_share_their_input_and_save_its_traffic() {
    let traffic = |calls: &[Call]| calls.iter().map(|call| call.work().bytes).sum::<u64>();
    for family in Family::all().filter(|family| family.parallel) {
        let (space, layout) = (space(family), layout(family));
        for genotype in networks(family, 200) {
            let arch = space.decode(&genotype).unwrap();
            let layers = walk(space.channels(&arch).unwrap(), &arch);
            let several = layers.filter(|layer| arch.nw[layer.index].count_ones() > 1).count();
            for mode in [Mode::Inference, Mode::Recalibration { batches: 2, at_once: 1 }] {
                let calls = lower(&layout, &arch, Exits::single(&arch), 2, mode, Precision::F32).0.calls;
                let shared = calls.iter().filter(|call| matches!(call, Call::Branches(_))).count();
                assert_eq!(shared, several, "{family} {genotype:?}");
                let (together, apart) = (traffic(&calls), traffic(&separate(&calls)));
                assert!(several == 0 || mode != Mode::Inference || together < apart, "{together} {apart}");
                assert!(together <= apart, "{together} {apart}");
            }
        }
    }
}

#[test]
fn an_extracted_network_is_the_slice_bit_for_bit() {
    let (test, train) = (images(5, "test"), images(12, "train"));
    let (test, train) = (Cropped::new(&test, &[]).unwrap(), Cropped::new(&train, &[]).unwrap());
    let recalibrate = Calibration::Batches { images: &train, count: 12, batch: 6 };
    for family in Family::all() {
        let (space, net) = (space(family), supernet(family));
        let whole = engine("cpu", net.clone());
        for genotype in networks(family, 8) {
            let arch = space.decode(&genotype).unwrap();
            for exits in [Exits::single(&arch), Exits::up_to(&arch)] {
                let network = Network::extract(&net, &arch, exits).unwrap();
                assert_eq!(network.parameters(), cost(net.channels(), &arch, exits, CLASSES).params);
                let alone = engine("cpu", network.weights().clone());
                for calibration in [Calibration::Stored, recalibrate] {
                    let logits = |engine: &Engine| engine.logits(&arch, exits, &test, calibration).unwrap();
                    assert_eq!(bits(&logits(&alone)), bits(&logits(&whole)), "{family} {genotype:?}");
                }
                let mut other = arch.clone();
                other.ks[0] = if other.ks[0] == 3 { 5 } else { 3 };
                let refused = alone.logits(&other, exits, &test, Calibration::Stored).unwrap_err();
                assert!(refused.to_string().contains("one network"), "{refused}");
            }
        }
    }
}

#[test]
fn extracted_networks_of_random_genotypes_have_the_counted_parameters() {
    for family in Family::all() {
        let (space, net) = (space(family), supernet(family));
        networks(family, 60).par_iter().for_each(|genotype| {
            let arch = space.decode(genotype).unwrap();
            let exits = Exits::up_to(&arch);
            let network = Network::extract(&net, &arch, exits).unwrap();
            assert_eq!(network.parameters(), cost(net.channels(), &arch, exits, CLASSES).params, "{family}");
            let names: Vec<String> = network.tensors().into_keys().collect();
            assert!(names.iter().all(|n| !n.ends_with("_matrix") && !n.contains(".conv.conv.")), "{names:?}");
        });
    }
}

#[test]
fn an_extracted_network_is_a_file_of_the_names_of_static_networks() {
    let net = Supernet::open(None, None).unwrap();
    let arch = Arch { d: [2; 5], ks: [5; 20], e: [3; 20], ..Arch::largest(Family::SE_B, 48, None) };
    let network = Network::extract(&net, &arch, Exits::single(&arch)).unwrap();
    let tensors: BTreeMap<String, Tensor> = network.tensors();
    assert_eq!(tensors["blocks.3.conv.depth_conv.conv.weight"].shape, [24, 1, 5, 5]);
    assert_eq!(tensors["blocks.3.conv.inverted_bottleneck.conv.weight"].shape, [24, 8, 1, 1]);
    assert!(tensors.contains_key("blocks.10.conv.point_linear.bn.running_var"));
    assert!(!tensors.keys().any(|name| name.starts_with("blocks.11.")));
    let bytes = network.checkpoint().to_bytes().unwrap();
    let read = natv2::supernet::Checkpoint::parse(&bytes, "net.safetensors".as_ref()).unwrap();
    assert_eq!(read.tensors().map(|(n, t)| (n.to_string(), t.clone())).collect::<BTreeMap<_, _>>(), tensors);
}

#[test]
fn five_exits_in_one_pass_equal_five_evaluations() {
    let (test, train) = (images(5, "test"), images(8, "train"));
    let labels: Vec<u32> = (0..5).collect();
    let (test, train) = (Cropped::new(&test, &labels).unwrap(), Cropped::new(&train, &[]).unwrap());
    let recalibrate = Calibration::Batches { images: &train, count: 8, batch: 4 };
    for family in Family::all().filter(|family| family.early_exits) {
        let net = supernet(family);
        for device in ["cpu", "reference-f32"] {
            let engine = engine(device, net.clone());
            let rounds = if device == "cpu" { 4 } else { 1 };
            for genotype in networks(family, rounds) {
                let mut arch = space(family).decode(&genotype).unwrap();
                arch.r = 32;
                arch.nd = 5;
                let all = Exits::up_to(&arch);
                for calibration in [Calibration::Stored, recalibrate] {
                    let what = format!("{family} on {device}, {genotype:?}");
                    let together = engine.logits(&arch, all, &test, calibration).unwrap();
                    let scores = engine.evaluate(&arch, all, &test, calibration, Threads::All).unwrap();
                    let whole = engine
                        .evaluate_exits(&arch, all, Some(&Strategy::Asc.weights(5).beta), &test, calibration)
                        .unwrap();
                    assert_eq!(whole.exits, scores, "{what}");
                    for exit in 1..=5u8 {
                        let single = Arch { nd: exit, ..arch.clone() };
                        let exits = Exits::single(&single);
                        let logits = engine.logits(&single, exits, &test, calibration).unwrap();
                        let index = usize::from(exit) - 1;
                        assert_eq!(bits(&logits), bits(&together[index..=index]), "{what}, exit {exit}");
                        let score =
                            engine.evaluate(&single, exits, &test, calibration, Threads::One).unwrap();
                        assert_eq!(score[0].correct, scores[index].correct, "{what}, exit {exit}");
                        assert_eq!(
                            score[0].loss.to_bits(),
                            scores[index].loss.to_bits(),
                            "{what}, exit {exit}"
                        );
                    }
                }
            }
        }
    }
}

/// The built-in super-network as one of `family`, in a file.
fn converted(family: &str, folder: &std::path::Path) -> std::path::PathBuf {
    let plain = Supernet::open(None, None).unwrap();
    let family: Family = family.parse().unwrap();
    let target = Target { family, classes: None, scaling: None, init: Init::HeFanOut, seed: 1 };
    let net = convert(&plain.checkpoint(), &plain.card, &target).unwrap().supernet;
    let file = folder.join(format!("{family}.safetensors"));
    std::fs::write(&file, net.checkpoint().to_bytes().unwrap()).unwrap();
    std::fs::write(natv2::supernet::Card::path(&file), net.card.to_json()).unwrap();
    file
}

#[test]
fn a_converted_super_network_is_as_good_at_its_last_exit_as_the_plain_one() {
    let folder = tempfile::tempdir().unwrap();
    let options = |weights| Options { weights, calibration_images: Some(50), ..Options::default() };
    let open = |weights| Evaluator::open(&options(weights), Arc::new(Cpu)).unwrap();
    let plain = open(None);
    let early = open(Some(converted("EE_B", folder.path())));
    let arch = Arch::largest(Family::SE_B, 32, None);
    let split = natv2::data::Split::Val;
    let expected = plain.evaluate(&[arch], split, Some(60), &|| false, &|_, _| ()).unwrap().unwrap()[0];
    let arch = Arch::largest("EE_B".parse().unwrap(), 32, None);
    let exits = Exits::up_to(&arch);
    let found = early
        .evaluate_exits(&arch, exits, Some(&Strategy::Unif.weights(exits.len()).beta), split, Some(60))
        .unwrap();
    assert_eq!(found.exits.len(), 5);
    assert_eq!(found.exits[4], expected);
    // Four exits that know nothing and one that knows: the ensemble is no exit of them.
    let ensemble = found.ensemble.unwrap();
    assert!(found.exits.iter().all(|exit| exit.loss != ensemble.loss));
    let logits = vec![vec![1.0, 0.0], vec![0.0, 4.0]];
    assert_eq!(combine(&logits, &Strategy::Unif.weights(2).beta), [0.5, 2.0]);
}

#[test]
fn a_search_runs_over_early_exits_and_over_parallel_blocks() {
    let folder = tempfile::tempdir().unwrap();
    for (family, field) in [("EE_B", "nd"), ("SE_DP", "nw"), ("EE_DP", "nd")] {
        let weights = Some(converted(family, folder.path()));
        let options = Options { weights, calibration_images: Some(20), ..Options::default() };
        let evaluator = Evaluator::open(&options, Arc::new(Cpu)).unwrap();
        let sets = ["search.eval_images=20", "search.iterations=1"].map(String::from);
        let config = config::load("search", None, &sets, Some(Profile::Tiny)).unwrap();
        let run = RunDirectory::open(&folder.path().join(family)).unwrap();
        let outcome = search(&config, &evaluator, &run, &StopFlag::new(), Output::Silent).unwrap();
        let Outcome::Finished(summary, _) = outcome else { panic!("nobody asked for a stop") };
        assert!(!summary.front.is_empty(), "{family}");
        let text = std::fs::read_to_string(folder.path().join(family).join("archive.json")).unwrap();
        let archive: serde_json::Value = serde_json::from_str(&text).unwrap();
        let networks = archive["networks"].as_array().unwrap();
        assert_eq!(networks.len(), 12, "{family}");
        for network in networks {
            let arch = Arch::from_json(family.parse().unwrap(), &network["arch"]).unwrap();
            assert!(!network["arch"][field].is_null(), "{family}: {network}");
            let net = evaluator.engine().supernet();
            let expected = cost(net.channels(), &arch, Exits::single(&arch), net.classes());
            assert_eq!(network["params"].as_u64(), Some(expected.params), "{family}");
        }
    }
}
