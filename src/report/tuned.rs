//! Networks before and after they were trained on their own: a table, and arrows over what they cost.

use super::chart::{BOTTOM, LEFT, RIGHT, TOP, axes, labels, open};
use super::markup::{Escaped, at, figure, per_cent, shown};
use super::page;
use super::scale::{AxisKind, Scale};
use super::table::{Row, table};
use super::{Measured, Tuned};
use std::fmt::Write;

/// The section, where a network was tuned.
pub(super) fn section(html: &mut String, tuned: &[Tuned]) {
    if tuned.is_empty() {
        return;
    }
    let caption = "<span class=\"key before\">as the search left it</span> \
         <span class=\"key named\">after fine-tuning.</span> Accuracies are on the test images.";
    page::section(html, "tuned", "Fine-tuning", caption);
    let charts = [
        arrows(tuned, "parameters", |measured| measured.params),
        arrows(tuned, "MACs", |measured| measured.macs),
    ];
    if charts.iter().any(Option::is_some) {
        html.push_str("<div class=\"charts\">\n");
        for svg in charts.iter().flatten() {
            let _ = writeln!(html, "<figure>{svg}</figure>");
        }
        html.push_str("</div>\n");
    }
    networks(html, tuned);
    html.push_str("</section>\n");
}

fn networks(html: &mut String, tuned: &[Tuned]) {
    let columns = ["network", "before (%)", "after (%)", "change", "parameters", "change", "MACs", "change"];
    let rows: Vec<Row<'_>> = tuned.iter().map(row).collect();
    table(html, &columns.map(String::from), &rows);
}

fn row(network: &Tuned) -> Row<'_> {
    let Tuned { label, note, before, after } = network;
    let top1 = |measured: &Measured| measured.top1.unwrap_or(f64::NAN);
    let points = shown(top1(after) - top1(before)).map(|gain| signed(gain, ""));
    let cells = vec![
        per_cent(top1(before)),
        per_cent(top1(after)),
        points.unwrap_or_else(|| "–".into()),
        figure(after.params),
        share(before.params, after.params),
        figure(after.macs),
        share(before.macs, after.macs),
    ];
    Row { key: label, head: Escaped(label).to_string(), note, cells }
}

/// A change with its sign.
fn signed(value: f64, unit: &str) -> String {
    format!("{value:+.2}{unit}").replace('-', "\u{2212}")
}

/// The change in per cent of what was.
fn share(before: f64, after: f64) -> String {
    shown(100.0 * (after / before - 1.0)).map_or_else(|| "–".into(), |share| signed(share, "\u{202f}%"))
}

/// A cost and an accuracy, as drawn.
type Place = (f64, f64);

/// Test accuracy over a cost, an arrow from before to after; `None` where no network has both.
fn arrows(tuned: &[Tuned], name: &str, cost: fn(&Measured) -> f64) -> Option<String> {
    let place = |measured: &Measured| Some((shown(cost(measured))?, shown(measured.top1?)?));
    let moved: Vec<(&Tuned, Place, Place)> = tuned
        .iter()
        .filter_map(|network| Some((network, place(&network.before)?, place(&network.after)?)))
        .collect();
    if moved.is_empty() {
        return None;
    }
    let ends = || moved.iter().flat_map(|(_, before, after)| [before, after]);
    let x = Scale::new(ends().map(|end| end.0), AxisKind::Measured, LEFT, RIGHT);
    let y = Scale::new(ends().map(|end| end.1), AxisKind::Measured, BOTTOM, TOP);
    let mut svg = open(&format!("test top-1 over {name}, before and after"));
    let (across, up) = (format!("{name} · lower is better"), "test top-1 (%) · higher is better");
    axes(&mut svg, (&x, AxisKind::Measured, &across), (&y, AxisKind::Measured, up));
    for (network, before, after) in &moved {
        let from = (x.place(before.0), y.place(before.1));
        let to = (x.place(after.0), y.place(after.1));
        let text = format!(
            "{}\ntest top-1: {} to {} %\n{name}: {} to {}",
            network.label,
            per_cent(before.1),
            per_cent(after.1),
            figure(before.0),
            figure(after.0)
        );
        let _ = writeln!(
            svg,
            "<g class=\"before\"><circle cx=\"{}\" cy=\"{}\" r=\"3.5\"/></g><path class=\"arrow\" d=\"{}\"/>\
             <g class=\"named\"><circle class=\"p\" data-k=\"{}\" cx=\"{}\" cy=\"{}\" r=\"5\"><title>{}</title></circle></g>",
            at(from.0),
            at(from.1),
            arrow(from, to),
            Escaped(&network.label),
            at(to.0),
            at(to.1),
            Escaped(&text)
        );
    }
    let named: Vec<(&str, f64, f64)> =
        moved.iter().map(|(network, _, to)| (&*network.label, x.place(to.0), y.place(to.1))).collect();
    labels(&mut svg, &named);
    svg.push_str("</svg>");
    Some(svg)
}

/// A line that ends in a head just before the point that it leads to; a line that is too short for one
/// is a line alone.
fn arrow(from: (f64, f64), to: (f64, f64)) -> String {
    const GAP: f64 = 7.0;
    const HEAD: f64 = 6.0;
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let length = dx.hypot(dy);
    let point = |along: f64, beside: f64| {
        let (ux, uy) = (dx / length, dy / length);
        let (px, py) = (to.0 - along * ux - beside * uy, to.1 - along * uy + beside * ux);
        format!("{} {}", at(px), at(py))
    };
    let start = format!("M{} {}", at(from.0), at(from.1));
    if length < GAP + HEAD {
        return format!("{start}L{} {}", at(to.0), at(to.1));
    }
    format!(
        "{start}L{tip}M{}L{tip}L{}",
        point(GAP + HEAD, -HEAD / 2.0),
        point(GAP + HEAD, HEAD / 2.0),
        tip = point(GAP, 0.0)
    )
}
