//! Who is trained in a step of a phase, and who teaches them.

use super::choose::Choices;
use super::phase::Phase;
use super::task::{Task, exit_weights};
use super::{Settings, Student, Teacher, Teaching, Team, Weighting};
use crate::config;
use crate::space::walk::Exits;
use crate::space::{Arch, Family, MIN_RESOLUTION, Strategy, cost};
use crate::supernet::Supernet;

/// The sub-networks of a step on images of side `side`, and who teaches them. `strategy` weighs the exits of a
/// network that is read at all of them; `teacher` is a network that does not train, where the phase has one.
pub(super) fn lesson<'t>(
    phase: &Phase,
    (team, strategy): (&Team, Strategy),
    teacher: Option<&'t Teacher>,
    &Settings { seed, epoch, step, .. }: &Settings,
    side: usize,
) -> (Vec<Student>, Teaching<'t>) {
    let (joint, answers) = exit_weights(team.narrowest().family, strategy);
    let (choices, side) = (choices(team.supernets(), phase), side as u32);
    let of = |weighting| move |arch| Student { arch, weighting };
    let drawn = |count| choices.networks(seed, epoch, step, count, side).into_iter();
    if phase.full {
        return (drawn(1).map(of(joint)).collect(), teacher.into());
    }
    let others = drawn(phase.networks).map(of(Weighting::Own));
    if phase.teacher != Some(config::Teacher::Largest) {
        return (others.collect(), teacher.into());
    }
    let ends = choices.ends(side).into_iter();
    let ends = ends.flat_map(|[largest, smallest]| [of(joint)(largest), of(Weighting::Own)(smallest)]);
    (ends.chain(others).collect(), Teaching::First(answers))
}

/// How many sub-networks a step of a phase trains, of so many super-networks.
pub(super) fn students(phase: &Phase, supernets: usize) -> usize {
    let supernets = if phase.widths == config::Widths::All { supernets } else { 1 };
    match phase.teacher {
        _ if phase.full => 1,
        Some(config::Teacher::Largest) => phase.networks + 2 * supernets,
        _ => phase.networks,
    }
}

/// The sub-networks that a phase chooses from, of super-networks ascending by width.
pub(super) fn choices<'s>(supernets: impl IntoIterator<Item = &'s Supernet>, phase: &Phase) -> Choices {
    let of = |supernet: &Supernet| (supernet.channels().width, supernet.family);
    let (widths, families): (Vec<f64>, Vec<Family>) = supernets.into_iter().map(of).unzip();
    // A training has at least one.
    let family = families.first().copied().unwrap_or(Family::SE_B);
    let chosen = match phase.widths {
        config::Widths::All => &widths[..],
        config::Widths::Narrow => &widths[..1],
        config::Widths::Wide => &widths[widths.len() - 1..],
    };
    let chosen: Vec<Option<f64>> = chosen.iter().copied().map(Some).collect();
    Choices::new(phase, family, &chosen)
}

/// The sub-networks that a validation of a phase looks at.
pub(super) fn validated(task: &Task<'_>, supernets: &[Supernet], phase: &Phase) -> Vec<Arch> {
    let resolutions: Vec<u32> = task.material.resolutions.iter().map(|&side| side as u32).collect();
    choices(supernets, phase).extremes(&resolutions, task.training.validation_networks, task.seed)
}

/// Networks that the mean cost of a phase is taken over.
const DRAWS: usize = 32;

/// What a step of a phase costs an image, to compare phases by: multiply-accumulates of the networks that it
/// trains, three times each, and of a network that teaches.
pub(super) fn step_macs<'s>(
    phase: &Phase,
    supernets: impl IntoIterator<Item = &'s Supernet>,
    resolutions: &[usize],
) -> f64 {
    let supernets: Vec<&Supernet> = supernets.into_iter().collect();
    let Some(first) = supernets.first() else { return 0.0 };
    let side = resolutions.get(resolutions.len() / 2).map_or(MIN_RESOLUTION, |&side| side as u32);
    let choices = choices(supernets.iter().copied(), phase);
    let macs = |arch: &Arch, all: bool| {
        let of = supernets.iter().find(|supernet| supernet.has_width(arch.w)).unwrap_or(first);
        let exits = if all { Exits::up_to(arch) } else { Exits::single(arch) };
        cost(of.channels(), arch, exits, of.classes()).macs as f64
    };
    let ends = choices.ends(side);
    let largest = macs(&ends[0][0], first.family.early_exits);
    if phase.full {
        return 3.0 * largest;
    }
    let drawn = choices.networks(0, 0, 0, DRAWS, side);
    let others =
        phase.networks as f64 * drawn.iter().map(|arch| macs(arch, false)).sum::<f64>() / DRAWS as f64;
    match phase.teacher {
        Some(config::Teacher::Largest) => {
            let both = |[largest, smallest]: &[Arch; 2]| {
                macs(largest, first.family.early_exits) + macs(smallest, false)
            };
            3.0 * (others + ends.iter().map(both).sum::<f64>())
        }
        Some(config::Teacher::Fixed | config::Teacher::Pet) => 3.0 * others + largest,
        None | Some(config::Teacher::None) => 3.0 * others,
    }
}
