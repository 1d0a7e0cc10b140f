//! Charts of several groups: their points in one plane, and their curves with bands for the spread.

use super::chart::{BOTTOM, LEFT, RIGHT, TOP, axes, axis_name, hover, open, outline};
use super::comparison::Group;
use super::markup::{Escaped, at, figure, shown};
use super::scale::{AxisKind, Scale};
use super::{Goal, Objective, Point};
use std::fmt::Write;

/// Colours that the style sheet has for groups; beyond them they repeat.
const COLOURS: usize = 8;

/// The class that colours a group.
pub(super) fn class(group: usize) -> String {
    format!("v{}", group % COLOURS)
}

/// The points of two objectives in the groups' colours; `None` where no point has both values.
///
/// The objective named first goes up, the other to the right.
pub(super) fn fronts(
    objectives: &[Objective],
    all_groups: &[Group],
    up: usize,
    across: usize,
) -> Option<String> {
    let place = |point: &Point| {
        let value = |index: usize| point.values.get(index).copied().and_then(shown);
        Some((value(across)?, value(up)?))
    };
    let groups: Vec<Vec<(&Point, (f64, f64))>> = all_groups
        .iter()
        .map(|group| group.points.iter().filter_map(|point| Some((point, place(point)?))).collect())
        .collect();
    let all = || groups.iter().flatten().map(|(_, xy)| *xy);
    all().next()?;
    let x = Scale::new(all().map(|xy| xy.0), AxisKind::Measured, LEFT, RIGHT);
    let y = Scale::new(all().map(|xy| xy.1), AxisKind::Measured, BOTTOM, TOP);
    let (over, under) = (objectives.get(across)?, objectives.get(up)?);
    let mut svg = open(&format!("{} over {}, in groups", under.quantity.name, over.quantity.name));
    axes(&mut svg, (&x, AxisKind::Measured, &axis_name(over)), (&y, AxisKind::Measured, &axis_name(under)));
    for (index, points) in groups.iter().enumerate() {
        let _ = write!(svg, "<g class=\"group {}\">", class(index));
        let line = outline(points.iter().map(|(_, xy)| *xy), over.goal, under.goal);
        let mut path = String::new();
        for (px, py) in line.iter().map(|&(vx, vy)| (at(x.place(vx)), at(y.place(vy)))) {
            let _ = if path.is_empty() {
                write!(path, "M{px} {py}")
            } else if over.goal == Goal::Minimise {
                write!(path, "H{px}V{py}")
            } else {
                write!(path, "V{py}H{px}")
            };
        }
        if line.len() > 1 {
            let _ = write!(svg, "<path d=\"{path}\"/>");
        }
        for (point, (vx, vy)) in points {
            let text = format!("{}: {}", all_groups[index].name, hover(objectives, point));
            let _ = write!(
                svg,
                "<circle class=\"p\" cx=\"{}\" cy=\"{}\" r=\"3.5\"><title>{}</title></circle>",
                at(x.place(*vx)),
                at(y.place(*vy)),
                Escaped(&text)
            );
        }
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>");
    Some(svg)
}

/// The groups' curves, each with a band from its least to its greatest value; `None` where there are
/// none.
pub(super) fn curves(groups: &[Group], across: &str, up: &str) -> Option<String> {
    type Shown = (f64, f64, f64, f64);
    let drawn: Vec<Vec<Shown>> = groups
        .iter()
        .map(|group| {
            let bands = group.curve.iter();
            bands
                .filter_map(|b| Some((shown(b.at)?, shown(b.mean)?, shown(b.least)?, shown(b.most)?)))
                .collect()
        })
        .collect();
    let all = || drawn.iter().flatten();
    all().next()?;
    let x = Scale::new(all().map(|b| b.0), AxisKind::Counted, LEFT, RIGHT);
    let y = Scale::new(all().flat_map(|b| [b.2, b.3]), AxisKind::Measured, BOTTOM, TOP);
    let mut svg = open(&format!("{up} over {across}, by variant"));
    axes(&mut svg, (&x, AxisKind::Counted, across), (&y, AxisKind::Measured, up));
    // All bands first: they must not cover a line.
    for (index, bands) in drawn.iter().enumerate().filter(|(_, bands)| bands.len() > 1) {
        let upper = bands.iter().map(|b| (b.0, b.3));
        let lower = bands.iter().rev().map(|b| (b.0, b.2));
        let path: Vec<String> =
            upper.chain(lower).map(|(vx, vy)| format!("{} {}", at(x.place(vx)), at(y.place(vy)))).collect();
        let _ = writeln!(svg, "<path class=\"band {}\" d=\"M{}Z\"/>", class(index), path.join("L"));
    }
    for (index, bands) in drawn.iter().enumerate() {
        let _ = write!(svg, "<g class=\"group curve {}\">", class(index));
        let path: Vec<String> =
            bands.iter().map(|b| format!("{} {}", at(x.place(b.0)), at(y.place(b.1)))).collect();
        if path.len() > 1 {
            let _ = write!(svg, "<path d=\"M{}\"/>", path.join("L"));
        }
        for (evaluations, mean, least, most) in bands {
            let text = format!(
                "{}\n{across}: {evaluations:.0}\n{up}: {}, from {} to {}",
                groups[index].name,
                figure(*mean),
                figure(*least),
                figure(*most)
            );
            let _ = write!(
                svg,
                "<circle class=\"p\" cx=\"{}\" cy=\"{}\" r=\"3\"><title>{}</title></circle>",
                at(x.place(*evaluations)),
                at(y.place(*mean)),
                Escaped(&text)
            );
        }
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>");
    Some(svg)
}
