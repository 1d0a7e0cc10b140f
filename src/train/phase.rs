//! The phases of a training: what the configuration gives, or a built-in schedule.
//!
//! Progressive shrinking (OFA, arXiv 1908.09791) trains the largest network first, then lets one
//! dimension after the other become smaller. Extended progressive shrinking (OFAv2, arXiv
//! 2302.01888) adds the number of parallel branches and the exit:
//!
//! ```text
//! full -> kernel -> level (P families) -> exit (EE families) -> depth -> width
//! ```
//!
//! A dimension that is not reached yet stays at its largest. `target` is NATv2's warm-up on another
//! data set: the largest network, then all sub-networks at once.
//!
//! Published schedules are for images by the hundred thousand. A scale below 1 keeps every phase
//! and shortens it.

pub use crate::config::Phase;
use crate::config::{Schedule, Teacher, Training, Widths};
use crate::space::Family;
use crate::space::backbone::{DEPTHS, EXPANSIONS, KERNELS};

/// The phases of a training of a super-network of `family`, or of two of different widths together,
/// everything decided: rates and epochs scaled, teachers named.
pub fn phases(training: &Training, family: Family, two: bool) -> Vec<Phase> {
    let mut phases = match &training.phases {
        Some(own) => own.clone(),
        None => {
            let mut phases = built_in(training.schedule, family);
            if two && training.schedule == Schedule::Target {
                phases = side_by_side(phases);
            }
            match training.epochs {
                Some(epochs) => share(&mut phases, epochs),
                None => phases.iter_mut().for_each(|phase| {
                    phase.epochs = scaled(phase.epochs, training.scale);
                    phase.warmup_epochs = scaled(phase.warmup_epochs, training.scale);
                }),
            }
            phases
        }
    };
    for phase in &mut phases {
        phase.rate *= training.rate_scale;
        phase.warmup_rate = phase.warmup_rate.map(|rate| rate * training.rate_scale);
        let usual = if phase.full { Teacher::None } else { training.teacher };
        phase.teacher = Some(phase.teacher.unwrap_or(usual));
    }
    phases
}

/// Epochs times a factor: none stays none, and others keep at least one.
fn scaled(epochs: usize, scale: f64) -> usize {
    match epochs {
        0 => 0,
        _ => ((epochs as f64 * scale).round() as usize).max(1),
    }
}

/// Shares so many epochs out among the phases, as they have them: a phase keeps one behind its warm-up, which
/// may vanish.
fn share(phases: &mut [Phase], epochs: usize) {
    let all = |phases: &[Phase]| phases.iter().map(Phase::total_epochs).sum::<usize>();
    let scale = epochs as f64 / all(phases).max(1) as f64;
    for phase in phases.iter_mut() {
        phase.epochs = scaled(phase.epochs, scale);
        phase.warmup_epochs = (phase.warmup_epochs as f64 * scale).round() as usize;
    }
    // What rounding has left over or taken goes to the longest, the last of several.
    while all(phases) != epochs {
        let few = all(phases) < epochs;
        let Some(longest) = phases.iter_mut().max_by_key(|phase| phase.epochs) else { return };
        match longest.epochs {
            _ if few => longest.epochs += 1,
            1 => return,
            _ => longest.epochs -= 1,
        }
    }
}

/// Whether a network that does not train, a copy of what the largest was, teaches in a phase.
pub fn teaches(phase: &Phase) -> bool {
    matches!(phase.teacher, Some(Teacher::Fixed | Teacher::Pet))
}

/// A built-in schedule as published. Phases of dimensions that the family does not have are left out.
pub fn built_in(schedule: Schedule, family: Family) -> Vec<Phase> {
    match schedule {
        Schedule::Eps => eps(family),
        Schedule::Ofa => ofa(),
        Schedule::Full => vec![full(180, 0.08)],
        Schedule::Target => target(),
        Schedule::Sandwich => vec![sandwich(family)],
    }
}

/// The largest network alone; dropout is twice that of elastic phases (OFAv2's programs).
fn full(epochs: usize, rate: f64) -> Phase {
    Phase { full: true, dropout: 0.2, ..Phase::new("full", epochs, rate) }
}

/// An elastic phase: the dimensions of `so_far`, which `change` extends.
fn elastic(
    so_far: &mut Phase,
    name: &str,
    (epochs, rate, warmup_epochs): (usize, f64, usize),
    networks: usize,
    change: impl FnOnce(&mut Phase),
) -> Phase {
    change(so_far);
    Phase { name: name.into(), epochs, rate, warmup_epochs, networks, ..so_far.clone() }
}

/// The dimensions before anything is elastic.
fn largest() -> Phase {
    Phase::new("", 1, 1.0)
}

/// OFAv2's phases on Tiny ImageNet: batch 64, SGD.
fn eps(family: Family) -> Vec<Phase> {
    let mut dims = largest();
    let mut phases = vec![full(180, 0.08)];
    phases.push(elastic(&mut dims, "kernel", (120, 0.03, 5), 1, |d| d.kernels = KERNELS.into()));
    if family.parallel {
        phases.push(elastic(&mut dims, "level-1", (25, 2.5e-3, 0), 2, |d| d.branches = vec![2, 3]));
        phases.push(elastic(&mut dims, "level-2", (120, 7.5e-3, 5), 2, |d| d.branches = vec![1, 2, 3]));
    }
    if family.early_exits {
        let steps = [(25, 1.875e-3, 0), (60, 3.75e-3, 5), (90, 7.5e-3, 5), (120, 1.5e-2, 5)];
        for (number, step) in (1u8..).zip(steps) {
            let exits = (5 - number..=5).collect();
            phases.push(elastic(&mut dims, &format!("exit-{number}"), step, 2, |d| d.exits = exits));
        }
    }
    phases.extend(shrink(&mut dims));
    phases
}

/// OFA's phases on ImageNet. Its rates are a GPU's, of 64 images; that of the largest network, 2.6
/// for 2048 images, is brought to 64.
fn ofa() -> Vec<Phase> {
    let mut dims = largest();
    let mut phases = vec![Phase { dropout: 0.1, ..full(180, 2.6 * 64.0 / 2048.0) }];
    phases.push(elastic(&mut dims, "kernel", (120, 0.03, 5), 1, |d| d.kernels = KERNELS.into()));
    phases.extend(shrink(&mut dims));
    phases
}

/// The phases that both end with.
fn shrink(dims: &mut Phase) -> [Phase; 4] {
    let (first, second) = ((25, 2.5e-3, 0), (120, 7.5e-3, 5));
    [
        elastic(dims, "depth-1", first, 2, |d| d.depths = vec![3, 4]),
        elastic(dims, "depth-2", second, 2, |d| d.depths = DEPTHS.into()),
        elastic(dims, "width-1", first, 4, |d| (d.expansions, d.sort) = (vec![4, 6], Some(0))),
        elastic(dims, "width-2", second, 4, |d| (d.expansions, d.sort) = (EXPANSIONS.into(), Some(1))),
    ]
}

/// NATv2's warm-up on a target data set: batch 256, plain SGD, no label smoothing or dropout.
fn target() -> Vec<Phase> {
    let plain = |phase: Phase| Phase { label_smoothing: 0.0, dropout: 0.0, warmup_rate: Some(1e-4), ..phase };
    let uniform =
        Phase { warmup_epochs: 10, networks: 4, sort: Some(1), ..everything("uniform", 150, 7.5e-3) };
    vec![plain(Phase { warmup_epochs: 5, ..full(100, 7.5e-3) }), plain(uniform)]
}

/// BigNAS's single stage (arXiv 2003.11142): every step trains the largest network on labels, the smallest and another
/// on its answers; one warm-up, one cosine. BigNAS has two others, and dropout: minutes reach more with one other and
/// more epochs, and without dropout. Rates are for batches of 32; exits share the gradient out, so that most layers get
/// less of it.
fn sandwich(family: Family) -> Phase {
    let rate = if family.early_exits { 0.13 } else { 0.08 };
    Phase {
        warmup_epochs: 5,
        warmup_rate: Some(0.0),
        teacher: Some(Teacher::Largest),
        dropout: 0.0,
        ..everything("sandwich", 355, rate)
    }
}

/// A phase of every sub-network.
fn everything(name: &str, epochs: usize, rate: f64) -> Phase {
    Phase {
        kernels: KERNELS.into(),
        expansions: EXPANSIONS.into(),
        depths: DEPTHS.into(),
        branches: vec![1, 2, 3],
        exits: vec![1, 2, 3, 4, 5],
        ..Phase::new(name, epochs, rate)
    }
}

/// A schedule for two super-networks: the largest network of each on its own, then both together.
fn side_by_side(phases: Vec<Phase>) -> Vec<Phase> {
    let each = |phase: Phase| {
        if phase.full {
            [(Widths::Narrow, "narrow"), (Widths::Wide, "wide")]
                .map(|(widths, name)| Phase {
                    widths,
                    name: format!("{}-{name}", phase.name),
                    ..phase.clone()
                })
                .into()
        } else {
            vec![phase]
        }
    };
    phases.into_iter().flat_map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// Name, epochs, warm-up, rate, sub-networks.
    type Row = (&'static str, usize, usize, f64, usize);

    fn rows(phases: &[Phase]) -> Vec<(&str, usize, usize, f64, usize)> {
        phases.iter().map(|p| (p.name.as_str(), p.epochs, p.warmup_epochs, p.rate, p.networks)).collect()
    }

    const FULL: Row = ("full", 180, 0, 0.08, 1);
    const KERNEL: Row = ("kernel", 120, 5, 0.03, 1);
    const LEVEL: [Row; 2] = [("level-1", 25, 0, 2.5e-3, 2), ("level-2", 120, 5, 7.5e-3, 2)];
    const EXIT: [Row; 4] = [
        ("exit-1", 25, 0, 1.875e-3, 2),
        ("exit-2", 60, 5, 3.75e-3, 2),
        ("exit-3", 90, 5, 7.5e-3, 2),
        ("exit-4", 120, 5, 1.5e-2, 2),
    ];
    const SHRINK: [Row; 4] = [
        ("depth-1", 25, 0, 2.5e-3, 2),
        ("depth-2", 120, 5, 7.5e-3, 2),
        ("width-1", 25, 0, 2.5e-3, 4),
        ("width-2", 120, 5, 7.5e-3, 4),
    ];

    #[test]
    fn extended_progressive_shrinking_is_as_published() {
        for family in Family::all() {
            let phases = built_in(Schedule::Eps, family);
            let mut expected = vec![FULL, KERNEL];
            expected.extend(LEVEL.iter().filter(|_| family.parallel));
            expected.extend(EXIT.iter().filter(|_| family.early_exits));
            expected.extend(SHRINK);
            assert_eq!(rows(&phases), expected, "{family}");
            assert!(phases[0].full && phases[1..].iter().all(|phase| !phase.full));
            for phase in &phases {
                assert_eq!((phase.kd_ratio, phase.label_smoothing, phase.warmup_rate), (1.0, 0.1, None));
                assert_eq!(phase.dropout, if phase.full { 0.2 } else { 0.1 });
            }
        }
    }

    /// Every sub-network from the first step on, taught by the largest: one warm-up, one cosine, no sorting.
    #[test]
    fn a_sandwich_is_one_phase_of_everything() {
        for family in Family::all() {
            let [phase] = &built_in(Schedule::Sandwich, family)[..] else { panic!("{family}") };
            let rate = if family.early_exits { 0.13 } else { 0.08 };
            assert_eq!(rows(std::slice::from_ref(phase)), [("sandwich", 355, 5, rate, 1)]);
            assert_eq!((phase.teacher, phase.sort, phase.full), (Some(Teacher::Largest), None, false));
            assert_eq!(phase.dropout, 0.0);
            assert_eq!((&phase.exits[..], &phase.branches[..]), (&[1, 2, 3, 4, 5][..], &[1, 2, 3][..]));
            assert_eq!((&phase.depths[..], &phase.expansions[..]), (&DEPTHS[..], &EXPANSIONS[..]));
        }
    }

    #[test]
    fn epochs_are_shared_out_as_published() {
        let of = |schedule, family: &str, epochs| {
            let training =
                config::load("train", None, &[format!("train.epochs={epochs}")], None).unwrap().train;
            phases(&config::Training { schedule, ..training }, family.parse().unwrap(), false)
        };
        for (schedule, family) in [
            (Schedule::Eps, "EE_DP"),
            (Schedule::Eps, "SE_B"),
            (Schedule::Ofa, "SE_B"),
            (Schedule::Target, "SE_B"),
            (Schedule::Sandwich, "EE_D"),
        ] {
            let published = built_in(schedule, family.parse().unwrap());
            for epochs in [1, 2, 5, 20, 21, 100, 333, 2000] {
                let shared = of(schedule, family, epochs);
                let total: usize = shared.iter().map(Phase::total_epochs).sum();
                assert_eq!(total, epochs.max(published.len()), "{schedule:?} {family} {epochs}");
                assert!(shared.iter().all(|phase| phase.epochs > 0));
                let all: usize = published.iter().map(Phase::total_epochs).sum();
                for (own, published) in shared.iter().zip(&published) {
                    let wanted = published.warmup_epochs as f64 * epochs as f64 / all as f64;
                    assert!((own.warmup_epochs as f64 - wanted).abs() <= 0.5);
                }
            }
        }
        let rows: Vec<(usize, usize)> = of(Schedule::Sandwich, "SE_B", 72)
            .iter()
            .map(|phase| (phase.epochs, phase.warmup_epochs))
            .collect();
        assert_eq!(rows, [(71, 1)]);
    }

    /// The dimensions of every phase of EE_DP, which has all of them.
    #[test]
    fn dimensions_open_one_after_the_other() {
        let phases = built_in(Schedule::Eps, "EE_DP".parse().unwrap());
        let of = |name: &str| phases.iter().find(|phase| phase.name == name).unwrap();
        let dims = |name: &str| {
            let Phase { kernels, branches, exits, depths, expansions, sort, .. } = of(name);
            (kernels.len(), branches.as_slice(), exits.as_slice(), depths.len(), expansions.as_slice(), *sort)
        };
        let all = &[1, 2, 3, 4, 5][..];
        assert_eq!(dims("full"), (1, &[3][..], &[5][..], 1, &[6][..], None));
        assert_eq!(dims("kernel"), (3, &[3][..], &[5][..], 1, &[6][..], None));
        assert_eq!(dims("level-1"), (3, &[2, 3][..], &[5][..], 1, &[6][..], None));
        assert_eq!(dims("level-2"), (3, &[1, 2, 3][..], &[5][..], 1, &[6][..], None));
        assert_eq!(dims("exit-1"), (3, &[1, 2, 3][..], &[4, 5][..], 1, &[6][..], None));
        assert_eq!(dims("exit-3"), (3, &[1, 2, 3][..], &[2, 3, 4, 5][..], 1, &[6][..], None));
        assert_eq!(dims("exit-4"), (3, &[1, 2, 3][..], all, 1, &[6][..], None));
        assert_eq!(dims("depth-1"), (3, &[1, 2, 3][..], all, 2, &[6][..], None));
        assert_eq!(dims("depth-2"), (3, &[1, 2, 3][..], all, 3, &[6][..], None));
        assert_eq!(dims("width-1"), (3, &[1, 2, 3][..], all, 3, &[4, 6][..], Some(0)));
        assert_eq!(dims("width-2"), (3, &[1, 2, 3][..], all, 3, &[3, 4, 6][..], Some(1)));
        assert_eq!((&of("depth-1").depths, &of("depth-2").depths), (&vec![3, 4], &vec![2, 3, 4]));
    }

    #[test]
    fn progressive_shrinking_and_the_warm_up_are_as_published() {
        let phases = built_in(Schedule::Ofa, Family::SE_B);
        assert_eq!(rows(&phases)[1..], [&[KERNEL][..], &SHRINK].concat());
        assert_eq!((phases[0].epochs, phases[0].rate, phases[0].dropout), (180, 0.08125, 0.1));

        let phases = built_in(Schedule::Target, Family::SE_B);
        assert_eq!(rows(&phases), [("full", 100, 5, 7.5e-3, 1), ("uniform", 150, 10, 7.5e-3, 4)]);
        assert!(
            phases.iter().all(|p| (p.label_smoothing, p.dropout, p.warmup_rate) == (0.0, 0.0, Some(1e-4)))
        );
        assert_eq!((phases[1].sort, phases[1].exits.len(), phases[1].expansions.len()), (Some(1), 5, 3));
    }

    fn of(sets: &[&str]) -> Vec<Phase> {
        let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
        let config = config::load("train", None, &sets, None).unwrap();
        phases(&config.train, "EE_P".parse().unwrap(), false)
    }

    #[test]
    fn two_super_networks_warm_up_one_after_the_other_and_then_together() {
        let config = config::load("run", None, &[], Some(config::Profile::Paper)).unwrap();
        let phases = phases(&config.warmup, Family::SE_B, true);
        let rows: Vec<_> = phases.iter().map(|p| (p.name.as_str(), p.widths, p.total_epochs())).collect();
        let expected = [
            ("full-narrow", Widths::Narrow, 105),
            ("full-wide", Widths::Wide, 105),
            ("uniform", Widths::All, 160),
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn profiles_scale_epochs_and_keep_every_phase() {
        let published = of(&["profile=paper"]);
        assert_eq!(rows(&published), rows(&built_in(Schedule::Eps, "EE_P".parse().unwrap())));
        let quick = of(&["profile=quick", "train.schedule=eps"]);
        let epochs: Vec<(usize, usize)> = quick.iter().map(|p| (p.epochs, p.warmup_epochs)).collect();
        let expected = [
            (36, 0),
            (24, 1),
            (5, 0),
            (24, 1),
            (5, 0),
            (12, 1),
            (18, 1),
            (24, 1),
            (5, 0),
            (24, 1),
            (5, 0),
            (24, 1),
        ];
        assert_eq!(epochs, expected);
        let tiny = of(&["profile=tiny", "train.schedule=eps"]);
        assert!(tiny.len() == published.len() && tiny.iter().all(|p| p.epochs == 1 && p.warmup_epochs <= 1));
        for (a, b) in published.iter().zip(&tiny) {
            let same = Phase { epochs: a.epochs, warmup_epochs: a.warmup_epochs, ..b.clone() };
            assert_eq!(&same, a);
        }
    }

    #[test]
    fn teachers_and_rates_are_decided() {
        let teachers = |phases: &[Phase]| phases.iter().map(|p| p.teacher.unwrap()).collect::<Vec<_>>();
        let eps = teachers(&of(&["train.schedule=eps"]));
        assert_eq!(teachers(&of(&[])), [Teacher::Largest]);
        assert!(eps[0] == Teacher::None && eps[1..].iter().all(|&t| t == Teacher::Pet));
        let fixed = teachers(&of(&["train.schedule=eps", "train.teacher=fixed"]));
        assert!(fixed[0] == Teacher::None && fixed[1..].iter().all(|&t| t == Teacher::Fixed));
        let own = "train.phases=[{name='a',epochs=7,rate=0.5,warmup_rate=0.1},{name='b',epochs=9,rate=1,teacher='fixed'}]";
        let own = of(&[own, "train.rate_scale=0.5", "train.scale=0.1"]);
        assert_eq!(teachers(&own), [Teacher::Pet, Teacher::Fixed]);
        assert_eq!((own[0].epochs, own[0].rate, own[0].warmup_rate, own[1].rate), (7, 0.25, Some(0.05), 0.5));
    }
}
