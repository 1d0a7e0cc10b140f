//! A network as a picture: a row for each stage, a block for each layer.
//!
//! A block's height shows its expansion, and its colour shows its kernel. Both are also written on it, so that
//! two networks can be compared at a glance. A dot stands for squeeze-and-excitation, a line around a block for
//! its shortcut, and a dashed gap for a skipped layer. Parallel branches are named below the block; the block is
//! empty if only its branches run. Dense skips are arcs above the row. An exit closes its row.

use super::markup::{Escaped, at};
use super::{Block, Diagram, Layer, Stage};
use std::fmt::Write;

/// Width of the column of stage names.
const NAMES: f64 = 92.0;
const BLOCK: f64 = 60.0;
const GAP: f64 = 12.0;
const LOWEST: f64 = 22.0;
const HIGHEST: f64 = 40.0;
/// Most layers of a stage that are drawn; a picture beyond that is no picture.
const MOST: usize = 64;

/// The picture; `None` of a network without stages. A block of expansion `largest` has full height.
pub(super) fn diagram(name: &str, diagram: &Diagram, largest: f64) -> Option<String> {
    let columns = diagram.stages.iter().map(|s| s.layers.len().saturating_add(s.skipped).min(MOST)).max()?;
    let exits = diagram.stages.iter().any(|stage| stage.exit.is_some());
    let end = NAMES + columns as f64 * (BLOCK + GAP);
    let width = end + if exits { 62.0 } else { 4.0 };

    let mut body = String::new();
    let mut y = 0.0;
    let mut previous: Option<f64> = None;
    for stage in &diagram.stages {
        let arcs = stage.layers.iter().any(|layer| !layer.skips.is_empty());
        let branches = stage.layers.iter().any(|layer| layer.block.is_some() && !layer.branches.is_empty());
        y += if arcs { 20.0 } else { 8.0 };
        let middle = y + HIGHEST / 2.0;
        row(&mut body, stage, middle, end, largest, previous);
        previous = Some(middle);
        y += HIGHEST + if branches { 20.0 } else { 6.0 };
    }
    Some(format!(
        "<svg class=\"net\" viewBox=\"0 0 {} {}\" style=\"max-width:{}px\" role=\"img\" aria-label=\"{}\">\n{body}</svg>",
        at(width),
        at(y),
        at(width * 1.15),
        Escaped(name)
    ))
}

fn row(svg: &mut String, stage: &Stage, middle: f64, end: f64, largest: f64, previous: Option<f64>) {
    let left = |column: usize| NAMES + column as f64 * (BLOCK + GAP);
    let drawn = stage.layers.len().min(MOST);
    let slots = drawn + stage.skipped.min(MOST - drawn);
    let start = NAMES - GAP;
    let m = at(middle);
    // The way the data goes: from the end of the row above, between the rows, along this row.
    let mut way = format!("M{} {m}H{}", at(start), at(end - GAP / 2.0));
    if let Some(above) = previous {
        let between = at(middle - HIGHEST / 2.0 - 3.0);
        way = format!(
            "M{} {}V{between}H{}V{m}H{}",
            at(end - GAP / 2.0),
            at(above),
            at(start),
            at(end - GAP / 2.0)
        );
    }
    let _ = write!(svg, "<path class=\"way\" d=\"{way}\"/>");

    let _ = write!(
        svg,
        "<text class=\"stage\" x=\"0\" y=\"{}\">{}</text>",
        at(middle - 3.0),
        Escaped(&clipped(&stage.name, 13))
    );
    if let Some(last) = stage.layers.last() {
        let _ = write!(
            svg,
            "<text class=\"note\" x=\"0\" y=\"{}\">{} ch · {}\u{202f}px</text>",
            at(middle + 12.0),
            last.channels,
            last.resolution
        );
    }
    for (column, layer) in stage.layers.iter().take(MOST).enumerate() {
        block(svg, stage, column, layer, left(column), middle, largest);
    }
    for column in drawn..slots {
        let _ = write!(
            svg,
            "<rect class=\"skipped\" x=\"{}\" y=\"{}\" width=\"{BLOCK}\" height=\"{LOWEST}\" rx=\"5\"><title>{}, layer {}: skipped</title></rect>",
            at(left(column)),
            at(middle - LOWEST / 2.0),
            Escaped(&stage.name),
            column + 1
        );
    }
    if let Some(exit) = &stage.exit {
        let _ = write!(
            svg,
            "<path class=\"way\" d=\"M{x} {m}h8\"/><rect class=\"exit\" x=\"{}\" y=\"{}\" width=\"54\" height=\"20\" rx=\"10\"/>\
             <text class=\"exit\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            at(end + 2.0),
            at(middle - 10.0),
            at(end + 29.0),
            at(middle + 4.0),
            Escaped(&clipped(exit, 8)),
            x = at(end - GAP / 2.0),
        );
    }
    svg.push('\n');
}

fn block(svg: &mut String, stage: &Stage, column: usize, layer: &Layer, x: f64, middle: f64, largest: f64) {
    let mut title = format!("{}, layer {}\n", stage.name, column + 1);
    if let Some(Block { kernel, expansion, squeeze_excite, shortcut }) = layer.block {
        let _ = write!(title, "kernel {kernel}×{kernel}, expansion {expansion}");
        title.push_str(if squeeze_excite { ", squeeze-excite" } else { "" });
        title.push_str(if shortcut { ", shortcut" } else { "" });
        title.push('\n');
    }
    if !layer.branches.is_empty() {
        let together = if layer.block.is_some() { "in parallel" } else { "branches" };
        let _ = writeln!(title, "{together}: {}", layer.branches.join(", "));
    }
    let _ = write!(title, "{} channels, {r}×{r} px", layer.channels, r = layer.resolution);
    for &from in layer.skips.iter().filter(|&&from| from < column && column < MOST) {
        let _ = write!(title, "\nplus the output of layer {}", from + 1);
        let left = NAMES + from as f64 * (BLOCK + GAP) + BLOCK + GAP / 2.0;
        let right = x + BLOCK + GAP / 2.0;
        let top = at(middle - HIGHEST / 2.0 - 6.0 - 4.0 * (column - from) as f64);
        let (l, r, m) = (at(left), at(right), at(middle));
        let _ = write!(svg, "<path class=\"arc\" d=\"M{l} {m}C{l} {top} {r} {top} {r} {m}\"/>");
    }
    let (height, tone, text) = match layer.block {
        Some(block) => {
            let finite = block.expansion.is_finite();
            let share = if finite { (block.expansion / largest).clamp(0.0, 1.0) } else { 0.0 };
            let tone = match block.kernel {
                0..=3 => "k3",
                4..=5 => "k5",
                _ => "k7",
            };
            let text = format!("k{} e{}", block.kernel, block.expansion);
            (LOWEST + (HIGHEST - LOWEST) * share * share, tone, text)
        }
        None => (LOWEST, "k0", clipped(&layer.branches.join(" + "), 9)),
    };
    let top = middle - height / 2.0;
    if layer.block.is_some_and(|block| block.shortcut) {
        // From the middle of one gap to the middle of the next, round at the corners.
        let (over, below, m) = (at(top - 4.0), at(top + 1.0), at(middle));
        let (l, r) = (x - GAP / 2.0 + 1.5, x + BLOCK + GAP / 2.0 - 1.5);
        let _ = write!(
            svg,
            "<path class=\"shortcut\" d=\"M{l} {m}V{below}Q{l} {over} {} {over}H{}Q{r} {over} {r} {below}V{m}\"/>",
            at(l + 5.0),
            at(r - 5.0),
            l = at(l),
            r = at(r)
        );
    }
    let _ = write!(
        svg,
        "<g class=\"p {tone}\"><title>{}</title><rect x=\"{}\" y=\"{}\" width=\"{BLOCK}\" height=\"{}\" rx=\"5\"/>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        Escaped(&title),
        at(x),
        at(top),
        at(height),
        at(x + BLOCK / 2.0),
        at(middle + 4.0),
        Escaped(&clipped(&text, 9))
    );
    if layer.block.is_some_and(|block| block.squeeze_excite) {
        let _ = write!(
            svg,
            "<circle class=\"squeeze\" cx=\"{}\" cy=\"{}\" r=\"2.6\"/>",
            at(x + BLOCK - 6.0),
            at(top + 6.0)
        );
    }
    svg.push_str("</g>");
    if layer.block.is_some() && !layer.branches.is_empty() {
        let _ = write!(
            svg,
            "<text class=\"branches\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            at(x + BLOCK / 2.0),
            at(middle + HIGHEST / 2.0 + 11.0),
            Escaped(&clipped(&format!("+ {}", layer.branches.join(" + ")), 15))
        );
    }
}

/// The text, cut to so many characters.
fn clipped(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.into();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}
