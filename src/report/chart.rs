//! Charts: points of two objectives, and lines over iterations.
//!
//! Every chart is an SVG of one size that scales with its card. Colours come from classes, so the
//! page's palette decides them. A point carries its text as `<title>`, which browsers and screen
//! readers know, and which the page's script shows at once.

use super::markup::{Escaped, at, figure, measured, shown, titled};
use super::scale::{AxisKind, Scale};
use super::{Goal, Objective, Point, Report};
use std::collections::BTreeSet;
use std::fmt::Write;

pub(super) const WIDTH: f64 = 420.0;
pub(super) const HEIGHT: f64 = 300.0;
pub(super) const LEFT: f64 = 48.0;
pub(super) const RIGHT: f64 = 402.0;
pub(super) const TOP: f64 = 34.0;
pub(super) const BOTTOM: f64 = 258.0;

pub(super) fn open(name: &str) -> String {
    format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
        Escaped(name)
    )
}

/// Grid lines, tick labels and the names of both axes.
pub(super) fn axes(svg: &mut String, x: (&Scale, AxisKind, &str), y: (&Scale, AxisKind, &str)) {
    svg.push_str("<g class=\"grid\">");
    for (place, _) in y.0.ticks(y.1, 5) {
        let place = at(place);
        let _ = write!(svg, "<path d=\"M{LEFT} {place}H{RIGHT}\"/>");
    }
    svg.push_str("</g>\n<g class=\"axis\">");
    let _ = write!(svg, "<path d=\"M{LEFT} {BOTTOM}H{RIGHT}\"/>");
    for (place, label) in x.0.ticks(x.1, 6) {
        let place = at(place);
        let _ = write!(svg, "<path d=\"M{place} {BOTTOM}v4\"/>");
        let _ =
            write!(svg, "<text x=\"{place}\" y=\"{}\" text-anchor=\"middle\">{label}</text>", BOTTOM + 18.0);
    }
    for (place, label) in y.0.ticks(y.1, 5) {
        let place = at(place + 4.0);
        let _ = write!(svg, "<text x=\"{}\" y=\"{place}\" text-anchor=\"end\">{label}</text>", LEFT - 8.0);
    }
    svg.push_str("</g>\n<g class=\"name\">");
    let _ = write!(svg, "<text x=\"8\" y=\"18\">{}</text>", Escaped(y.2));
    let _ = writeln!(
        svg,
        "<text x=\"{RIGHT}\" y=\"{}\" text-anchor=\"end\">{}</text></g>",
        BOTTOM + 36.0,
        Escaped(x.2)
    );
}

/// The points of two objectives; `None` where no point has both values.
///
/// The objective named first goes up, the other to the right.
pub(super) fn front(report: &Report, up: usize, across: usize) -> Option<String> {
    let place = |point: &Point| {
        let value = |index: usize| point.values.get(index).copied().and_then(shown);
        Some((value(across)?, value(up)?))
    };
    let archive: Vec<_> = report.archive.iter().filter_map(|p| Some((p, place(p)?))).collect();
    let front: Vec<_> = report.front.iter().filter_map(|p| Some((p, place(p)?))).collect();
    if archive.is_empty() && front.is_empty() {
        return None;
    }
    let all = || archive.iter().chain(&front).map(|(_, xy)| *xy);
    let x = Scale::new(all().map(|xy| xy.0), AxisKind::Measured, LEFT, RIGHT);
    let y = Scale::new(all().map(|xy| xy.1), AxisKind::Measured, BOTTOM, TOP);
    let (over, under) = (&report.objectives[across], &report.objectives[up]);
    let mut svg = open(&format!("{} over {}", under.quantity.name, over.quantity.name));
    axes(&mut svg, (&x, AxisKind::Measured, &axis_name(over)), (&y, AxisKind::Measured, &axis_name(under)));

    let line = outline(front.iter().map(|(_, xy)| *xy), over.goal, under.goal);
    if line.len() > 1 {
        // Steps rather than slopes: between two networks there is none that has the best of both.
        let mut path = String::new();
        for (index, (px, py)) in line.iter().map(|&(vx, vy)| (x.place(vx), y.place(vy))).enumerate() {
            let _ = match index {
                0 => write!(path, "M{} {}", at(px), at(py)),
                _ if over.goal == Goal::Minimise => write!(path, "H{}V{}", at(px), at(py)),
                _ => write!(path, "V{}H{}", at(py), at(px)),
            };
        }
        let _ = writeln!(svg, "<path class=\"outline\" d=\"{path}\"/>");
    }
    let mut draw = |class: &str, radius: f64, points: &[(&Point, (f64, f64))]| {
        let _ = write!(svg, "<g class=\"{class}\">");
        for (point, (vx, vy)) in points {
            let (cx, cy) = (at(x.place(*vx)), at(y.place(*vy)));
            let _ = write!(
                svg,
                "<circle class=\"p\" data-k=\"{}\" cx=\"{cx}\" cy=\"{cy}\" r=\"{radius}\"><title>{}</title></circle>",
                Escaped(&point.label),
                Escaped(&hover(&report.objectives, point))
            );
        }
        svg.push_str("</g>\n");
    };
    let presented: BTreeSet<&str> =
        report.networks.iter().filter(|n| report.stands_out(n)).map(|n| n.label.as_str()).collect();
    let (named, others): (Vec<_>, Vec<_>) =
        front.into_iter().partition(|(point, _)| presented.contains(point.label.as_str()));
    draw("archive", 3.0, &archive);
    draw("front", 4.5, &others);
    draw("named", 5.5, &named);
    let named: Vec<(&str, f64, f64)> =
        named.iter().map(|(point, (vx, vy))| (point.label.as_str(), x.place(*vx), y.place(*vy))).collect();
    labels(&mut svg, &named);
    svg.push_str("</svg>");
    Some(svg)
}

pub(super) fn axis_name(objective: &Objective) -> String {
    let better = match objective.goal {
        Goal::Minimise => "lower is better",
        Goal::Maximise => "higher is better",
    };
    format!("{} · {better}", titled(&objective.quantity))
}

/// A point's text: name, the caller's text, all values.
pub(super) fn hover(objectives: &[Objective], point: &Point) -> String {
    let mut text = point.label.clone();
    if !point.hover.is_empty() {
        let _ = write!(text, "\n{}", point.hover);
    }
    for (objective, &value) in objectives.iter().zip(&point.values) {
        let _ = write!(text, "\n{}: {}", objective.quantity.name, measured(value, &objective.quantity));
    }
    text
}

/// The points that no other beats in both coordinates, from left to right.
pub(super) fn outline(points: impl Iterator<Item = (f64, f64)>, across: Goal, up: Goal) -> Vec<(f64, f64)> {
    let cost = |goal: Goal, value: f64| if goal == Goal::Minimise { value } else { -value };
    let mut sorted: Vec<(f64, f64)> = points.collect();
    sorted.sort_by(|a, b| {
        let order = cost(across, a.0).total_cmp(&cost(across, b.0));
        order.then(cost(up, a.1).total_cmp(&cost(up, b.1)))
    });
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for point in sorted {
        if kept.last().is_none_or(|last| cost(up, point.1) < cost(up, last.1)) {
            kept.push(point);
        }
    }
    kept.sort_by(|a, b| a.0.total_cmp(&b.0));
    kept
}

/// Names beside points, each at the first of four places where it covers no other name and no named
/// point; a name that fits nowhere is left to the tooltip.
pub(super) fn labels(svg: &mut String, named: &[(&str, f64, f64)]) {
    const LONGEST: usize = 14;
    let mut taken: Vec<[f64; 4]> =
        named.iter().map(|(_, x, y)| [x - 4.0, y - 4.0, x + 4.0, y + 4.0]).collect();
    svg.push_str("<g class=\"labels\">");
    for (label, x, y) in named {
        let length = label.chars().count();
        if length > LONGEST {
            continue;
        }
        let width = length as f64 * 6.6;
        let places = [(7.0, -5.0, "start"), (-7.0, -5.0, "end"), (7.0, 13.0, "start"), (-7.0, 13.0, "end")];
        for (dx, dy, anchor) in places {
            let (tx, ty) = (x + dx, y + dy);
            let start = if anchor == "start" { tx } else { tx - width };
            let area = [start, ty - 9.0, start + width, ty + 2.0];
            let outside = area[0] < LEFT || area[2] > WIDTH || area[1] < TOP - 12.0 || area[3] > BOTTOM;
            let covers = |t: &[f64; 4]| area[0] < t[2] && t[0] < area[2] && area[1] < t[3] && t[1] < area[3];
            if !outside && !taken.iter().any(covers) {
                taken.push(area);
                let _ = write!(
                    svg,
                    "<text x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
                    at(tx),
                    at(ty),
                    Escaped(label)
                );
                break;
            }
        }
    }
    svg.push_str("</g>\n");
}

/// A line of a chart over iterations.
pub(super) struct Series<'a> {
    pub name: &'a str,
    pub values: Vec<Option<f64>>,
}

/// Lines over iterations; `None` where there is no value. A missing value leaves a gap. `range` fixes
/// the ends of the upward axis.
pub(super) fn lines(
    name: &str,
    numbers: &[u32],
    series: &[Series<'_>],
    range: Option<(f64, f64)>,
) -> Option<String> {
    let points = |series: &Series<'_>| -> Vec<Option<(f64, f64)>> {
        numbers
            .iter()
            .zip(&series.values)
            .map(|(&number, value)| Some((f64::from(number), value.and_then(shown)?)))
            .collect()
    };
    let all: Vec<Vec<Option<(f64, f64)>>> = series.iter().map(points).collect();
    let present = || all.iter().flatten().flatten();
    present().next()?;
    // Room to the right for the series' names, when there are several.
    let right = if series.len() > 1 { RIGHT - 96.0 } else { RIGHT - 40.0 };
    // All charts share their iterations, with values or without.
    let x = Scale::new(numbers.iter().map(|&number| f64::from(number)), AxisKind::Counted, LEFT, right);
    let y = match range {
        Some((low, high)) => Scale::fixed(low, high, BOTTOM, TOP),
        None => Scale::new(present().map(|p| p.1), AxisKind::Measured, BOTTOM, TOP),
    };
    let mut svg = open(name);
    axes(&mut svg, (&x, AxisKind::Counted, "iteration"), (&y, AxisKind::Measured, name));
    let mut ends: Vec<(f64, f64, usize, String)> = Vec::new();
    for (index, (series, points)) in series.iter().zip(&all).enumerate() {
        let _ = write!(svg, "<g class=\"series s{index}\">");
        for run in points.split(|p| p.is_none()) {
            let mut path = String::new();
            for (px, py) in run.iter().flatten().map(|p| (at(x.place(p.0)), at(y.place(p.1)))) {
                let _ = write!(path, "{}{px} {py}", if path.is_empty() { "M" } else { "L" });
            }
            if run.len() > 1 {
                let _ = write!(svg, "<path d=\"{path}\"/>");
            }
        }
        for (number, value) in points.iter().flatten() {
            let (cx, cy) = (at(x.place(*number)), at(y.place(*value)));
            let text = format!("iteration {number}\n{}: {}", series.name, figure(*value));
            let _ = write!(
                svg,
                "<circle class=\"p\" cx=\"{cx}\" cy=\"{cy}\" r=\"3.5\"><title>{}</title></circle>",
                Escaped(&text)
            );
        }
        if let Some((number, value)) = points.iter().rev().flatten().next() {
            let text = if all.len() > 1 {
                format!("{} {value:.2}", series.name).replace('-', "\u{2212}")
            } else {
                figure(*value)
            };
            ends.push((x.place(*number), y.place(*value), index, text));
        }
        svg.push_str("</g>\n");
    }
    // Names at the lines' ends, pushed apart where they would touch.
    ends.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut free = f64::NEG_INFINITY;
    for (px, py, index, text) in ends {
        let py = (py + 4.0).max(free);
        free = py + 15.0;
        let _ = write!(
            svg,
            "<text class=\"end s{index}\" x=\"{}\" y=\"{}\">{}</text>",
            at(px + 8.0),
            at(py),
            Escaped(&text)
        );
    }
    svg.push_str("</svg>");
    Some(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outline_keeps_what_no_other_beats() {
        let points = [(1.0, 50.0), (2.0, 60.0), (2.0, 55.0), (3.0, 58.0), (4.0, 70.0)];
        let better = outline(points.into_iter(), Goal::Minimise, Goal::Maximise);
        assert_eq!(better, [(1.0, 50.0), (2.0, 60.0), (4.0, 70.0)]);
        let smaller = outline(points.into_iter(), Goal::Minimise, Goal::Minimise);
        assert_eq!(smaller, [(1.0, 50.0)]);
        let larger = outline(points.into_iter(), Goal::Maximise, Goal::Minimise);
        assert_eq!(larger, [(1.0, 50.0), (2.0, 55.0), (3.0, 58.0), (4.0, 70.0)]);
    }

    #[test]
    fn a_missing_value_is_a_gap_and_a_lone_one_a_dot() {
        let values = |v: &[Option<f64>]| vec![Series { name: "x", values: v.to_vec() }];
        let svg = lines("x", &[1, 2, 3, 4], &values(&[Some(1.0), Some(2.0), None, Some(3.0)]), None).unwrap();
        assert_eq!(svg.matches("<circle").count(), 3);
        let line = svg.split("class=\"series s0\"").nth(1).unwrap();
        assert_eq!(line.matches("<path").count(), 1);
        assert!(lines("x", &[1], &values(&[Some(f64::NAN)]), None).is_none());
        assert!(lines("x", &[], &values(&[]), None).is_none());
        assert!(lines("x", &[1], &values(&[Some(5.0)]), None).unwrap().contains("<circle"));
    }

    #[test]
    fn names_that_would_cover_each_other_are_left_out() {
        let mut svg = String::new();
        labels(&mut svg, &[("a", 200.0, 100.0), ("b", 300.0, 100.0), ("a very long name", 250.0, 200.0)]);
        assert_eq!(svg.matches("<text").count(), 2);
        let crowd: Vec<_> = (0..30).map(|_| ("crowded", 200.0, 100.0)).collect();
        let mut svg = String::new();
        labels(&mut svg, &crowd);
        assert!(svg.matches("<text").count() <= 4);
    }
}
