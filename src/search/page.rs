//! The report's page of a search: what a state holds, as the plain data of [`report`].
//!
//! The networks of the front are numbered by multiply-accumulates, as in the search's table and as
//! `finetune.number` and `natv2 export --network` take them; the number names a network in charts,
//! table and drawings, and its genotype stands below its drawing.
//! Those that are the best in an objective or the best trade-offs (Rachmawati and Srinivasan, IEEE
//! Transactions on Evolutionary Computation 13(4), 2009) are pointed out. Nothing here depends on the
//! time or the machine but what the state says of its device, so equal states give equal pages.

use super::about::Data;
use super::results::{FrontPoints, numbers};
use super::{Entry, Error, State, measure::name, objective_value, points};
use crate::config::{Config, Objective};
use crate::export::NetworkState;
use crate::finetune;
use crate::moo::tradeoff;
use crate::report::{
    self, Block, Command, Diagram, Goal, Group, Iteration, Network, Point, Quantity, Report, Stage,
};
use crate::shown::{OfRun, Shown};
use crate::space::backbone::{DEPTHS, LAYERS, MAX_DEPTH};
use crate::space::show::grouped;
use crate::space::walk::{Branches, Exits, Part, parts};
use crate::space::{Arch, Channels, Layer, Space};
use crate::train::tally::left_out;
use std::path::Path;

/// High trade-off networks that are pointed out, as many as NATv2 returns.
const TRADE_OFFS: usize = 4;

/// What the page of a search says besides its state.
pub struct Context<'a> {
    /// The subcommand that made the run: `search`, or `run`.
    pub command: &'a str,
    /// The space.
    pub space: &'a Space,
    /// Classes of the data set.
    pub classes: usize,
    /// What it was run with.
    pub config: &'a Config,
    /// The data set; nothing for a run of an earlier version.
    pub data: Option<Data>,
    /// Whether the run trained the super-network itself, or warmed it up.
    pub trained: bool,
    /// The commands about the run.
    pub next: &'a OfRun<'a>,
}

/// The report of a state of a search; `tuned` are the networks that were fine-tuned since, as [`tuned`] has them,
/// `fronts` those after each iteration.
///
/// # Errors
/// A genotype of another space.
pub fn page(
    context: &Context<'_>,
    state: &State,
    tuned: &[report::Tuned],
    fronts: &[FrontPoints],
) -> Result<Report, Error> {
    let &Context { command: by, space, classes, config, next, .. } = context;
    let objectives = &config.search.objectives;
    let front = state.archive.front(objectives);
    let notes = notes(&front, objectives);
    let numbers = numbers(&front);
    let mut order: Vec<usize> = (0..front.len()).collect();
    order.sort_by_key(|&index| numbers[index]);

    let columns = columns(objectives, state.test_top1.is_some());
    let mut report = Report {
        title: format!("natv2 {by} · {}", space.family()),
        summary: summary(space, config, state, front.len()),
        facts: facts(context, state),
        objectives: objectives.iter().map(|&objective| described(objective)).collect(),
        columns: columns.iter().map(Column::quantity).collect(),
        iterations: state.history.iter().map(iteration).collect(),
        commands: vec![
            command("test every network of the front", next.evaluate_front()),
            command("where the run stands", next.status()),
            command("this page again", next.report()),
        ],
        configuration: config.to_toml(),
        tuned: tuned.to_vec(),
        earlier: earlier(fronts, objectives),
        ..Report::default()
    };
    let mut exports = Vec::new();
    for index in order {
        let (entry, number) = (&front[index], numbers[index]);
        let label = number.to_string();
        let arch = space.decode(&entry.genotype)?;
        let test = state.test_top1.as_ref().and_then(|test| test.get(index)).copied();
        report.front.push(point(entry, &arch, label.clone(), objectives));
        exports.push(export(next, number, &notes[index]));
        report.networks.push(Network {
            label,
            note: notes[index].join(", "),
            identity: name(&entry.genotype),
            values: objectives.iter().map(|&objective| value(entry, objective)).collect(),
            extra: columns.iter().map(|column| column.value(entry, &arch, test)).collect(),
            diagram: diagram(space.channels(&arch)?, &arch, classes),
        });
    }
    report.commands.extend(exports);
    for entry in
        state.archive.entries.iter().filter(|entry| front.iter().all(|f| f.genotype != entry.genotype))
    {
        let arch = space.decode(&entry.genotype)?;
        report.archive.push(point(entry, &arch, name(&entry.genotype), objectives));
    }
    Ok(report)
}

/// The first front, that in the middle and the last.
fn earlier(fronts: &[FrontPoints], objectives: &[Objective]) -> Vec<Group> {
    let Some(last) = fronts.len().checked_sub(1) else { return Vec::new() };
    let mut chosen = vec![0, last / 2, last];
    chosen.dedup();
    let group = |index: usize| {
        let front = &fronts[index];
        let point = |(number, row): (usize, &Vec<f64>)| Point {
            label: (number + 1).to_string(),
            hover: String::new(),
            values: row.iter().zip(objectives).map(|(&value, &of)| shown(value, of)).collect(),
        };
        let points = front.points.iter().enumerate().map(point).collect();
        Group { name: format!("iteration {}", front.iteration), points, ..Group::default() }
    };
    chosen.into_iter().map(group).collect()
}

/// A minimised value as people read it: accuracy, not error.
fn shown(value: f64, objective: Objective) -> f64 {
    if objective == Objective::Top1 { 100.0 - value } else { value }
}

pub(super) fn quantity(name: &str, unit: &str) -> Quantity {
    Quantity { name: name.into(), unit: unit.into() }
}

pub(super) fn described(objective: Objective) -> report::Objective {
    let (name, unit, goal) = match objective {
        Objective::Top1 => ("top-1", "%", Goal::Maximise),
        Objective::Params => ("parameters", "", Goal::Minimise),
        Objective::Macs => ("MACs", "", Goal::Minimise),
        Objective::Latency => ("latency", "ms", Goal::Minimise),
    };
    report::Objective { quantity: quantity(name, unit), goal }
}

/// The value of an objective as people read it: accuracy, not error.
fn value(entry: &Entry, objective: Objective) -> f64 {
    match objective {
        Objective::Top1 => entry.top1(),
        other => objective_value(entry, other),
    }
}

/// What the table shows besides the objectives.
enum Column {
    Test,
    Measured(Objective),
    Loss,
    Resolution,
    Layers,
}

fn columns(objectives: &[Objective], tested: bool) -> Vec<Column> {
    let costs = [Objective::Top1, Objective::Params, Objective::Macs];
    let others = costs.into_iter().filter(|objective| !objectives.contains(objective)).map(Column::Measured);
    let test = tested.then_some(Column::Test);
    test.into_iter().chain(others).chain([Column::Loss, Column::Resolution, Column::Layers]).collect()
}

impl Column {
    fn quantity(&self) -> Quantity {
        match self {
            Column::Test => quantity("test top-1", "%"),
            Column::Measured(objective) => described(*objective).quantity,
            Column::Loss => quantity("loss", "nats"),
            Column::Resolution => quantity("input", "px"),
            Column::Layers => quantity("layers", ""),
        }
    }

    fn value(&self, entry: &Entry, arch: &Arch, test: Option<f64>) -> Option<f64> {
        match self {
            Column::Test => test,
            Column::Measured(objective) => Some(value(entry, *objective)),
            Column::Loss => Some(entry.loss),
            Column::Resolution => Some(f64::from(arch.r)),
            Column::Layers => Some((0..LAYERS).filter(|&index| arch.is_active(index)).count() as f64),
        }
    }
}

/// What is special about each network of the front.
fn notes(front: &[Entry], objectives: &[Objective]) -> Vec<Vec<&'static str>> {
    let mut notes = vec![Vec::new(); front.len()];
    let values = points(front, objectives);
    for (m, objective) in objectives.iter().enumerate() {
        let best = (0..front.len()).min_by(|&a, &b| values.row(a)[m].total_cmp(&values.row(b)[m]));
        if let Some(best) = best {
            notes[best].push(match objective {
                Objective::Top1 => "most accurate",
                Objective::Params => "fewest parameters",
                Objective::Macs => "fewest MACs",
                Objective::Latency => "fastest",
            });
        }
    }
    // Of a few networks all would be among the best.
    if front.len() > TRADE_OFFS {
        for index in tradeoff::best(&values, TRADE_OFFS) {
            notes[index].push("high trade-off");
        }
    }
    notes
}

fn summary(space: &Space, config: &Config, state: &State, front: usize) -> String {
    let names: Vec<String> =
        config.search.objectives.iter().map(|&objective| described(objective).quantity.name).collect();
    let test = match state.test_top1 {
        Some(_) => "; test top-1 is on images that it never saw",
        None => "",
    };
    let finished = state.iteration >= config.search.iterations as u64;
    format!(
        "{} Of {} evaluated sub-networks of the {} super-network these {front} are not dominated in {}. \
         Accuracies are on the validation images, which the search saw{test}.",
        if finished { "Finished." } else { "Still running." },
        grouped(state.evaluations as u64),
        space.family(),
        names.join(", "),
    )
}

fn facts(context: &Context<'_>, state: &State) -> Vec<(String, String)> {
    let &Context { space, config, trained, .. } = context;
    let list = |values: Vec<String>| values.join(", ");
    let last = state.history.last();
    let given = config.supernet.weights.as_deref().and_then(Path::file_name);
    let weights = match (given.map(|name| name.to_string_lossy()), trained) {
        (None, true) => "trained in this run".into(),
        (None, false) => "built in".into(),
        (Some(name), true) => format!("{name}, warmed up in this run"),
        (Some(name), false) => name.into_owned(),
    };
    let (data, images) = data_facts(context.data.as_ref(), config);
    let facts = [
        ("family", space.family().to_string()),
        ("method", config.search.method.to_string()),
        ("profile", config.profile.to_string()),
        ("seed", config.seed.to_string()),
        ("arithmetic", state.began_with.arithmetic.clone()),
        ("weights", weights),
        ("data", data),
        ("images", images),
        ("resolutions", format!("{} px", list(space.resolutions().iter().map(u32::to_string).collect()))),
        ("widths", list(space.widths().iter().map(f64::to_string).collect())),
        ("iterations", format!("{} of {}", state.iteration, config.search.iterations)),
        ("evaluations", grouped(state.evaluations as u64)),
        ("adaptation", adaptation(config, state)),
        ("archive", state.archive.entries.len().to_string()),
        ("hypervolume", last.map_or("–".into(), |last| format!("{:.5}", last.hypervolume))),
    ];
    facts.map(|(name, value)| (name.into(), value)).into()
}

/// The data set and its images in words, as far as the run says.
pub(super) fn data_facts(data: Option<&Data>, config: &Config) -> (String, String) {
    let Some(data) = data else {
        let name = config.data.name.clone();
        return (name.unwrap_or_else(|| "as the weights' card says".into()), "–".into());
    };
    let from = data.folder.as_ref().map_or_else(|| ", built in".into(), |folder| format!(" in {folder}"));
    let [train, val, test] = [data.train, data.val, data.test].map(|images| grouped(images as u64));
    (format!("{}{from}", data.name), format!("{train} training, {val} validation, {test} test"))
}

fn adaptation(config: &Config, state: &State) -> String {
    let settings = &config.adaptation;
    match settings.epochs {
        0 => "none: the weights stay as they are".into(),
        epochs => format!(
            "{epochs} epoch{} a round{}, {} steps so far{}, {} genes",
            if epochs == 1 { "" } else { "s" },
            settings.precision.unless_f32(" in "),
            grouped(state.adaptation.steps),
            left_out(state.adaptation.epochs.iter().map(|epoch| epoch.skipped).sum()),
            settings.distribution
        ),
    }
}

fn command(purpose: &str, line: Shown) -> Command {
    Command { purpose: purpose.into(), line: line.to_string(), folded: false }
}

/// The command that writes a network to a file of its own.
fn export(next: &OfRun<'_>, number: usize, notes: &[&str]) -> Command {
    let about = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
    Command {
        purpose: format!("network {number}{about} for other programs"),
        line: next.export(number, &format!("network-{number}.onnx")).to_string(),
        folded: notes.is_empty(),
    }
}

/// Networks before and after a fine-tuning, for [`page`](page()).
pub fn tuned(summary: &finetune::results::Summary) -> Vec<report::Tuned> {
    let measured = |measured: &finetune::results::Measured| report::Measured {
        top1: measured.top1,
        params: measured.params as f64,
        macs: measured.macs as f64,
    };
    let network = |network: &finetune::results::Finetuned| {
        let exits: Vec<String> = network.exits.iter().map(usize::to_string).collect();
        let plural = if exits.len() == 1 { "" } else { "s" };
        let state = match network.state {
            NetworkState::FineTuned => format!("{} epochs", network.best_epoch),
            NetworkState::Inherited => "kept as inherited".into(),
        };
        let reasons = network.picked_for.iter().map(|reason| format!(", {}", reason.as_str()));
        report::Tuned {
            // One that no search has found has no number.
            label: network.search_top1.map_or_else(|| "given".into(), |_| network.number.to_string()),
            note: format!(
                "{state}, exit{plural} {} ({}){}",
                exits.join("+"),
                network.strategy,
                reasons.collect::<String>()
            ),
            before: measured(&network.before),
            after: measured(&network.after),
        }
    };
    summary.networks.iter().map(network).collect()
}

fn iteration(done: &super::Iteration) -> Iteration {
    Iteration {
        number: u32::try_from(done.iteration).unwrap_or(u32::MAX),
        hypervolume: Some(done.hypervolume),
        best_top1: Some(done.best_top1),
        rmse: done.rmse,
        spearman: done.spearman,
        kendall: done.kendall,
        loss: done.adaptation.map(|adapted| adapted.loss),
        top1_before: done.adaptation.map(|adapted| adapted.top1_before),
        top1_after: done.adaptation.map(|adapted| adapted.top1_after),
    }
}

fn point(entry: &Entry, arch: &Arch, label: String, objectives: &[Objective]) -> Point {
    let values = objectives.iter().map(|&objective| value(entry, objective)).collect();
    Point { label, hover: hover(arch), values }
}

/// An architecture in a few short lines: a digit for each layer, stages apart.
fn hover(arch: &Arch) -> String {
    let digits = |genes: &[u8; LAYERS]| {
        let stage = |stage: usize| -> String {
            let layers = (stage * MAX_DEPTH..(stage + 1) * MAX_DEPTH).filter(|&index| arch.is_active(index));
            layers.map(|index| char::from(b'0' + genes[index])).collect()
        };
        (0..arch.stages()).map(stage).collect::<Vec<_>>().join(" ")
    };
    let mut text = format!("input {} px", arch.r);
    if let Some(width) = arch.w {
        text += &format!(", width {width}");
    }
    if arch.family.early_exits {
        text += &format!(", exit {}", arch.nd);
    }
    text += &format!("\nkernels {}\nexpansions {}", digits(&arch.ks), digits(&arch.e));
    if arch.family.parallel {
        text += &format!("\nbranch masks {}", digits(&arch.nw));
    }
    text
}

fn diagram(channels: &Channels, arch: &Arch, classes: usize) -> Diagram {
    let stage = |stage: usize| Stage {
        name: format!("stage {}", stage + 1),
        skipped: usize::from(DEPTHS[DEPTHS.len() - 1].saturating_sub(arch.d[stage])),
        ..Stage::default()
    };
    let mut diagram = Diagram { stages: (0..arch.stages()).map(stage).collect(), ..Diagram::default() };
    for part in parts(channels, arch, Exits::single(arch)) {
        match part {
            Part::First(first) => {
                let (r, side) = (first.image, first.side);
                diagram.stem =
                    format!("{r} × {r} px → stem {} ch, {side} px → {} ch", first.stem, first.cout);
            }
            Part::Layer(layer) => diagram.stages[layer.stage].layers.push(drawn(&layer, arch)),
            Part::Exit(exit) => {
                let (expand, mix) = (exit.head.expand, exit.head.mix);
                diagram.stages[exit.stage].exit = exit.number().map(|number| format!("exit {}", number + 1));
                diagram.head = format!("→ 1×1 {expand} → pool → {mix} → {classes} classes");
            }
        }
    }
    diagram
}

fn drawn(layer: &Layer, arch: &Arch) -> report::Layer {
    let Branches { mbconv, pointwise, transform } = layer.branches;
    let block = Block {
        kernel: layer.kernel,
        expansion: f64::from(layer.expansion),
        squeeze_excite: layer.squeeze.is_some(),
        shortcut: layer.shortcut,
    };
    let others = [(pointwise, "1×1"), (transform, "T")];
    let skips = layer.skips(arch.family.dense);
    report::Layer {
        block: mbconv.then_some(block),
        branches: others.into_iter().filter(|other| other.0).map(|other| other.1.into()).collect(),
        channels: layer.cout,
        resolution: layer.side_out,
        skips: skips.map(|term| term - 1).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Archive;
    use super::super::adaptation::Epoch;
    use super::*;
    use crate::config;
    use crate::random::stream;
    use crate::space::sample::{Policy, sample};
    use crate::space::{ExitScaling, Family, cost};
    use rand::RngExt;
    fn next(config: &Config) -> OfRun<'_> {
        OfRun { run: Path::new("runs/x"), config, weights: None, wide_weights: None, tested: true }
    }

    fn context<'a>(space: &'a Space, config: &'a Config, next: &'a OfRun<'a>) -> Context<'a> {
        Context { command: "search", space, classes: 10, config, data: None, trained: false, next }
    }

    #[test]
    fn the_head_says_which_command_it_was_on_which_images_with_which_weights() {
        let sets = ["supernet.weights=nets/wide.safetensors".to_string()];
        let given = config::load("search", None, &sets, Some(config::Profile::Tiny)).unwrap();
        let none = config::load("search", None, &[], Some(config::Profile::Tiny)).unwrap();
        let space = Space::paper(Family::SE_B);
        let state = state(&space, 3);
        let data = |folder: Option<&str>| Data {
            name: "cifar10".into(),
            folder: folder.map(String::from),
            side: 32,
            train: 45_000,
            val: 5_000,
            test: 10_000,
        };
        for (config, trained, weights) in [
            (&none, false, "built in"),
            (&none, true, "trained in this run"),
            (&given, false, "wide.safetensors"),
            (&given, true, "wide.safetensors, warmed up in this run"),
        ] {
            let next = next(config);
            let context = Context {
                command: "run",
                trained,
                data: Some(data(trained.then_some("/data/c"))),
                ..context(&space, config, &next)
            };
            let page = page(&context, &state, &[], &[]).unwrap();
            let fact = |name: &str| page.facts.iter().find(|fact| fact.0 == name).unwrap().1.clone();
            assert_eq!((page.title.as_str(), fact("weights").as_str()), ("natv2 run · SE_B", weights));
            assert_eq!(fact("data"), if trained { "cifar10 in /data/c" } else { "cifar10, built in" });
            assert_eq!(fact("images"), "45,000 training, 5,000 validation, 10,000 test");
        }
    }

    /// A state with random networks of a family, none of which was evaluated.
    fn state(space: &Space, count: u64) -> State {
        let mut rng = stream(7, "test", 0, 0);
        let mut archive = Archive::default();
        archive.extend((0..count).map(|_| {
            let genotype = sample(space, Policy::NatV2, &mut rng);
            let arch = space.decode(&genotype).unwrap();
            let cost = cost(space.channels(&arch).unwrap(), &arch, Exits::single(&arch), 10);
            let correct = rng.random_range(0..100);
            Entry { genotype, correct, images: 100, loss: 1.0, cost, latency_ms: None }
        }));
        State { archive, reference: vec![1.0; 3], ..State::default() }
    }

    #[test]
    fn networks_of_every_family_are_drawn_as_they_are() {
        let config = config::load("search", None, &[], Some(config::Profile::Tiny)).unwrap();
        for family in Family::all() {
            let space = Space::new(family, &[32, 64], &[0.25, 1.0], ExitScaling::Once).unwrap();
            let state = state(&space, 40);
            let page = page(&context(&space, &config, &next(&config)), &state, &[], &[]).unwrap();
            let front = state.archive.front(&config.search.objectives);
            assert_eq!(page.networks.len(), front.len());
            assert_eq!(page.front.len() + page.archive.len(), state.archive.entries.len());
            for network in &page.networks {
                let entry = front.iter().find(|entry| name(&entry.genotype) == network.identity).unwrap();
                let arch = space.decode(&entry.genotype).unwrap();
                let stages = &network.diagram.stages;
                assert_eq!(stages.len(), arch.stages());
                for (stage, depth) in stages.iter().zip(arch.d) {
                    assert_eq!((stage.layers.len(), stage.skipped), (depth.into(), 4 - usize::from(depth)));
                }
                let layers = || stages.iter().flat_map(|stage| &stage.layers);
                assert!(layers().all(|layer| layer.block.is_some() || !layer.branches.is_empty()));
                assert_eq!(
                    layers().any(|layer| layer.block.is_none()),
                    arch.nw.iter().any(|mask| mask & 4 == 0)
                );
                assert_eq!(
                    layers().any(|layer| !layer.skips.is_empty()),
                    family.dense && arch.d[..stages.len()].iter().any(|&d| d > 2)
                );
                assert_eq!(stages.iter().any(|stage| stage.exit.is_some()), family.early_exits);
            }
        }
    }

    #[test]
    fn the_front_is_in_order_and_its_best_are_pointed_out() {
        let config = config::load("search", None, &[], Some(config::Profile::Tiny)).unwrap();
        let space = Space::paper(Family::SE_B);
        let page = page(&context(&space, &config, &next(&config)), &state(&space, 60), &[], &[]).unwrap();
        assert!(page.networks.iter().map(|network| network.values[2]).is_sorted());
        assert!(page.networks[0].note.contains("fewest MACs"));
        for note in ["most accurate", "fewest parameters", "fewest MACs"] {
            assert_eq!(page.networks.iter().filter(|network| network.note.contains(note)).count(), 1);
        }
        assert!(page.commands.iter().any(|command| command.line == "natv2 report runs/x"));
        for (index, network) in page.networks.iter().enumerate() {
            let number = index + 1;
            let line = format!("natv2 export --run runs/x --network {number} --out network-{number}.onnx");
            let command = page.commands.iter().find(|command| command.line == line).unwrap();
            assert_eq!(
                (network.label.clone(), command.folded),
                (number.to_string(), network.note.is_empty())
            );
        }
        assert!(page.configuration.contains("[search]"));
    }

    #[test]
    fn steps_that_adaptation_left_out_are_counted_over_all_rounds() {
        let sets = ["adaptation.epochs=2".to_string(), "adaptation.precision=f16".to_string()];
        let config = config::load("search", None, &sets, Some(config::Profile::Tiny)).unwrap();
        let space = Space::paper(Family::SE_B);
        let mut state = state(&space, 3);
        state.adaptation.steps = 1234;
        let said = |state: &State| {
            let page = page(&context(&space, &config, &next(&config)), state, &[], &[]).unwrap();
            report::render(&page)
        };
        assert!(said(&state).contains("2 epochs a round in f16, 1,234 steps so far, "));
        let epoch = |iteration, skipped| {
            let (epoch, step) = (2 * iteration, 100 * iteration);
            Epoch { iteration, epoch, step, loss: 1.0, train_top1: 50.0, rate: 0.1, skipped }
        };
        state.adaptation.epochs = vec![epoch(1, 2), epoch(2, 0), epoch(3, 1)];
        assert!(said(&state).contains(" 1,234 steps so far, 3 steps left out (overflow of f16), "));
    }

    #[test]
    fn a_state_without_networks_has_a_page() {
        let config = config::load("search", None, &[], Some(config::Profile::Tiny)).unwrap();
        let space = Space::paper(Family::SE_B);
        let page = page(&context(&space, &config, &next(&config)), &state(&space, 0), &[], &[]).unwrap();
        assert!(page.networks.is_empty() && page.archive.is_empty());
        assert!(report::render(&page).contains("No network"));
    }
}
