//! The report of a search: its state as the plain data that [`report`](crate::report) draws.

use super::{Entry, Error, State, objective_value};
use crate::config::{Config, Objective};
use crate::moo::{self, Points};
use crate::report::{self, Command, Diagram, Goal, Iteration, Network, Point, Quantity, Report, Stage};
use crate::space::show::grouped;
use crate::space::walk::{Exits, Layer, dense_terms, head, walk};
use crate::space::{Arch, Channels, Space, backbone::MAX_DEPTH};

/// Most networks that are presented with a picture.
const PRESENTED: usize = 8;

/// The report of a state of a search in the run directory `run`.
///
/// # Errors
/// A genotype of another space.
pub fn page(
    space: &Space,
    classes: usize,
    config: &Config,
    state: &State,
    run: &str,
) -> Result<Report, Error> {
    let objectives = &config.search.objectives;
    let front = state.archive.front(objectives);
    let chosen = presented(&front, objectives);
    let name = |index: usize| match chosen.iter().position(|&c| c == index) {
        Some(place) => format!("N{}", place + 1),
        None => format!("f{}", index + 1),
    };
    let mut points = Vec::new();
    for (index, entry) in front.iter().enumerate() {
        points.push(point(space, objectives, entry, name(index))?);
    }
    let rest = state.archive.entries.iter().filter(|entry| !front.contains(entry));
    let mut archive = points.clone();
    for (index, entry) in rest.enumerate() {
        archive.push(point(space, objectives, entry, format!("a{}", index + 1))?);
    }
    let mut networks = Vec::new();
    for (place, &index) in chosen.iter().enumerate() {
        let entry = &front[index];
        let arch = space.decode(&entry.genotype)?;
        networks.push(Network {
            label: name(index),
            note: note(&front, entry, place, objectives),
            values: values(objectives, entry),
            extra: vec![state.test_top1.as_ref().map(|test| test[index])],
            diagram: diagram(space.channels(&arch)?, &arch, classes),
        });
    }
    let best = front.iter().map(Entry::top1).fold(0.0, f64::max);
    let finished = state.iteration >= config.search.iterations as u64;
    Ok(Report {
        title: format!("{} search of {} at width {}", config.search.method, space.family(), width(space)),
        summary: format!(
            "{} {} sub-networks evaluated, {} on the Pareto front, best validation accuracy {best:.2} %.",
            if finished { "Finished." } else { "Still running." },
            grouped(state.evaluations as u64),
            front.len()
        ),
        facts: facts(space, config, state),
        objectives: objectives.iter().map(|&o| objective(o)).collect(),
        archive,
        front: points,
        columns: vec![Quantity { name: "test top-1".into(), unit: "%".into() }],
        networks,
        iterations: state.history.iter().map(iteration).collect(),
        commands: vec![
            command("test every network of the front", format!("natv2 evaluate --archs {run}/front.json")),
            command("where the run stands", format!("natv2 status {run}")),
            command("this page again", format!("natv2 report {run}")),
        ],
        configuration: config.to_toml(),
    })
}

/// The networks to present: the highest trade-offs, then the most accurate and the cheapest, as
/// indices into the front.
fn presented(front: &[Entry], objectives: &[Objective]) -> Vec<usize> {
    let points = Points::from_rows(
        objectives.len(),
        front.iter().map(|e| -> Vec<f64> { objectives.iter().map(|&o| objective_value(e, o)).collect() }),
    );
    let mut chosen = if front.len() > 1 { moo::tradeoff::best(&points, 4) } else { Vec::new() };
    for objective in 0..objectives.len() {
        let least =
            (0..front.len()).min_by(|&a, &b| points.row(a)[objective].total_cmp(&points.row(b)[objective]));
        chosen.extend(least);
    }
    let mut seen = Vec::new();
    chosen.retain(|index| {
        !seen.contains(index) && {
            seen.push(*index);
            true
        }
    });
    chosen.truncate(PRESENTED);
    chosen
}

fn note(front: &[Entry], entry: &Entry, place: usize, objectives: &[Objective]) -> String {
    let is_least = |objective: Objective| {
        let value = objective_value(entry, objective);
        front.iter().all(|other| objective_value(other, objective) >= value)
    };
    let mut notes: Vec<&str> = Vec::new();
    if front.len() > 1 && place < 4.min(front.len()) {
        notes.push("high trade-off");
    }
    for &objective in objectives {
        if is_least(objective) {
            notes.push(match objective {
                Objective::Top1 => "most accurate",
                Objective::Params => "fewest parameters",
                Objective::Macs => "fewest multiply-accumulates",
                Objective::Latency => "fastest",
            });
        }
    }
    notes.join(", ")
}

/// Values as people read them: millions of parameters and multiply-accumulates, accuracy in per cent.
fn values(objectives: &[Objective], entry: &Entry) -> Vec<f64> {
    let value = |&objective: &Objective| match objective {
        Objective::Top1 => entry.top1(),
        Objective::Params | Objective::Macs => objective_value(entry, objective) / 1e6,
        Objective::Latency => entry.latency_ms.unwrap_or(f64::NAN),
    };
    objectives.iter().map(value).collect()
}

fn objective(objective: Objective) -> report::Objective {
    let (name, unit, goal) = match objective {
        Objective::Top1 => ("validation top-1", "%", Goal::Maximise),
        Objective::Params => ("parameters", "M", Goal::Minimise),
        Objective::Macs => ("multiply-accumulates", "M", Goal::Minimise),
        Objective::Latency => ("latency", "ms", Goal::Minimise),
    };
    report::Objective { quantity: Quantity { name: name.into(), unit: unit.into() }, goal }
}

fn point(space: &Space, objectives: &[Objective], entry: &Entry, label: String) -> Result<Point, Error> {
    let arch = space.decode(&entry.genotype)?;
    let list = |values: &[u8]| -> String {
        let stage = |stage: usize| -> String {
            let layers = stage * MAX_DEPTH..(stage + 1) * MAX_DEPTH;
            layers.filter(|&i| arch.is_active(i)).map(|i| values[i].to_string()).collect()
        };
        (0..arch.stages()).map(stage).collect::<Vec<_>>().join(" ")
    };
    let mut hover = format!("{} px\nkernels {}\nexpansions {}", arch.r, list(&arch.ks), list(&arch.e));
    if arch.family.parallel {
        hover += &format!("\nbranches {}", list(&arch.nw));
    }
    if arch.family.early_exits {
        hover += &format!("\nexit {}", arch.nd);
    }
    Ok(Point { label, hover, values: values(objectives, entry) })
}

fn facts(space: &Space, config: &Config, state: &State) -> Vec<(String, String)> {
    let sides: Vec<String> = space.resolutions().iter().map(u32::to_string).collect();
    let last = state.history.last();
    [
        ("family", space.family().to_string()),
        ("width", width(space)),
        ("resolutions", format!("{} px", sides.join(", "))),
        ("method", config.search.method.to_string()),
        ("profile", config.profile.to_string()),
        ("seed", config.seed.to_string()),
        ("arithmetic", state.arithmetic.clone()),
        ("iterations", format!("{} of {}", state.iteration, config.search.iterations)),
        ("archive", state.archive.entries.len().to_string()),
        ("hypervolume", last.map_or("-".into(), |last| format!("{:.5}", last.hypervolume))),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .into()
}

/// The width multipliers of a space.
fn width(space: &Space) -> String {
    space.widths().iter().map(f64::to_string).collect::<Vec<_>>().join(", ")
}

fn iteration(done: &super::Iteration) -> Iteration {
    Iteration {
        number: done.iteration as u32,
        hypervolume: Some(done.hypervolume),
        rmse: done.rmse,
        spearman: done.spearman,
        kendall: done.kendall,
    }
}

fn command(purpose: &str, line: String) -> Command {
    Command { purpose: purpose.into(), line }
}

/// A network as blocks.
fn diagram(channels: &Channels, arch: &Arch, classes: usize) -> Diagram {
    let layers: Vec<Layer> = walk(channels, arch).collect();
    let stages = layers.chunk_by(|a, b| a.stage == b.stage).map(|layers| Stage {
        name: format!("stage {}", layers[0].stage + 1),
        layers: layers.iter().map(|layer| block(arch, layer)).collect(),
        skipped: MAX_DEPTH - layers.len(),
        exit: (arch.family.early_exits && Exits::single(arch).contains(layers[0].stage))
            .then(|| format!("exit {}", layers[0].stage + 1)),
    });
    let last = head(channels, arch.family, arch.stages() - 1);
    Diagram {
        stem: format!("{0} x {0} px, conv 3x3 to {1}, MBConv to {2}", arch.r, channels.stem, channels.first),
        stages: stages.collect(),
        head: format!("1x1 to {}, pool, 1x1 to {}, {classes} classes", last.expand, last.mix),
    }
}

fn block(arch: &Arch, layer: &Layer) -> report::Layer {
    let branches = [
        (layer.branches.mbconv, "MBConv"),
        (layer.branches.pointwise, "1x1"),
        (layer.branches.transform, "transform"),
    ];
    let k = layer.position + 1;
    report::Layer {
        kernel: layer.kernel as u32,
        expansion: f64::from(layer.expansion),
        channels: layer.cout as u32,
        resolution: layer.side_out as u32,
        branches: match arch.family.parallel {
            true => branches.iter().filter(|(runs, _)| *runs).map(|(_, name)| name.to_string()).collect(),
            false => Vec::new(),
        },
        skips: match arch.family.dense {
            true => dense_terms(k).map(|j| j - 1).collect(),
            false => Vec::new(),
        },
        marks: [
            layer.squeeze.map(|hidden| format!("squeeze-excite {hidden}")),
            layer.shortcut.then(|| "shortcut".to_string()),
            (layer.stride > 1).then(|| format!("stride {}", layer.stride)),
        ]
        .into_iter()
        .flatten()
        .collect(),
    }
}
