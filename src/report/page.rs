//! The page: its sections in order.

use super::chart::{self, Series};
use super::diagram;
use super::markup::{Escaped, amount, titled};
use super::table::{self, Row};
use super::{Command, Iteration, Network, Quantity, Report, comparison, groups, tuned};
use std::fmt::Write;

pub(super) const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// Nothing may be loaded from anywhere, whatever got into the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

pub(super) fn page(report: &Report) -> String {
    document(&report.title, &report.summary, &report.facts, |html| {
        fronts(html, report);
        networks(html, report);
        diagrams(html, report);
        tuned::section(html, &report.tuned);
        earlier(html, report);
        progress(html, &report.iterations);
        commands(html, &report.commands);
        configuration(html, &report.configuration);
    })
}

/// A page with its head, and the sections that `body` writes.
pub(super) fn document(
    title: &str,
    summary: &str,
    facts: &[(String, String)],
    body: impl FnOnce(&mut String),
) -> String {
    let title = Escaped(title);
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<header>\n<h1>{title}</h1>\n"
    );
    if !summary.is_empty() {
        let _ = writeln!(html, "<p class=\"lead\">{}</p>", Escaped(summary));
    }
    list(&mut html, facts);
    html.push_str("</header>\n");
    body(&mut html);
    let _ = write!(
        html,
        "</main>\n<div id=\"tip\" role=\"status\" hidden></div>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    );
    html
}

/// Opens a section with its heading and, below it, what it shows.
pub(super) fn section(html: &mut String, name: &str, heading: &str, caption: &str) {
    let _ = writeln!(html, "<section id=\"{name}\">\n<h2>{heading}</h2>");
    if !caption.is_empty() {
        let _ = writeln!(html, "<p class=\"caption\">{caption}</p>");
    }
}

pub(super) fn nothing(html: &mut String, text: &str) {
    let _ = writeln!(html, "<p class=\"nothing\">{text}</p>");
}

fn list(html: &mut String, facts: &[(String, String)]) {
    if facts.is_empty() {
        return;
    }
    html.push_str("<dl class=\"facts\">\n");
    for (name, value) in facts {
        // Names of files and checkpoints may break where their words do.
        let value = Escaped(value).to_string().replace('_', "_<wbr>").replace('/', "/<wbr>");
        let _ = writeln!(html, "<div><dt>{}</dt><dd>{value}</dd></div>", Escaped(name));
    }
    html.push_str("</dl>\n");
}

fn fronts(html: &mut String, report: &Report) {
    let caption = "<span class=\"key front\">on the front of all objectives</span> \
         <span class=\"key named\">of these, named below</span> <span class=\"key archive\">in the archive</span> \
         <span class=\"key outline\">best in the two objectives shown.</span> Hover over a point, or tap it, \
         to see its network.";
    section(html, "fronts", "Pareto front", caption);
    let objectives = report.objectives.len();
    let mut charts = String::new();
    for up in 0..objectives {
        for across in up + 1..objectives {
            if let Some(svg) = chart::front(report, up, across) {
                let _ = writeln!(charts, "<figure>{svg}</figure>");
            }
        }
    }
    if !charts.is_empty() {
        let _ = writeln!(html, "<div class=\"charts\">\n{charts}</div>");
    } else if objectives < 2 {
        nothing(html, "A front takes two objectives or more; the table below ranks the networks found.");
    } else {
        nothing(html, "No network has been measured yet.");
    }
    html.push_str("</section>\n");
}

fn networks(html: &mut String, report: &Report) {
    section(html, "networks", "Networks found", "");
    if report.networks.is_empty() {
        nothing(html, "No network has been picked yet.");
        html.push_str("</section>\n");
        return;
    }
    let objectives = report.objectives.iter().map(|objective| &objective.quantity);
    let quantities: Vec<&Quantity> = objectives.chain(&report.columns).collect();
    // Counts need no decimals.
    let whole: Vec<bool> = (0..quantities.len())
        .map(|column| {
            report.networks.iter().filter_map(|n| cell(report, n, column)).all(|v| v.fract() == 0.0)
        })
        .collect();
    let mut rows = Vec::with_capacity(report.networks.len());
    for (index, network) in report.networks.iter().enumerate() {
        let value = |(column, quantity): (usize, &&Quantity)| {
            let value = cell(report, network, column).unwrap_or(f64::NAN);
            amount(value, quantity, whole[column])
        };
        rows.push(Row {
            key: &network.label,
            head: format!("<a href=\"#network-{index}\">{}</a>", Escaped(&network.label)),
            note: &network.note,
            cells: quantities.iter().enumerate().map(value).collect(),
        });
    }
    let columns: Vec<String> =
        std::iter::once("network".into()).chain(quantities.into_iter().map(titled)).collect();
    table::table(html, &columns, &rows);
    html.push_str("</section>\n");
}

/// A value of the table: those of the objectives come before those of the further columns.
fn cell(report: &Report, network: &Network, column: usize) -> Option<f64> {
    match column.checked_sub(report.objectives.len()) {
        None => network.values.get(column).copied(),
        Some(further) => network.extra.get(further).copied().flatten(),
    }
}

fn diagrams(html: &mut String, report: &Report) {
    if report.networks.is_empty() {
        return;
    }
    let caption = "<span class=\"legend\"><span class=\"tile k3\">k3</span><span class=\"tile k5\">k5</span>\
         <span class=\"tile k7\">k7</span> kernel</span> <span class=\"legend\">e and the height: expansion \
         ratio</span> <span class=\"key squeeze\">squeeze-excite</span> \
         <span class=\"key shortcut\">input added to output</span> \
         <span class=\"legend\"><span class=\"tile skipped\"></span> layer left out</span> \
         <span class=\"legend\">Below a stage's name: output channels and side of the map.</span>";
    section(html, "diagrams", "Architectures", caption);
    // One measure for all pictures, so that their blocks compare.
    let layers = report.networks.iter().flat_map(|n| &n.diagram.stages).flat_map(|s| &s.layers);
    let expansions = layers.filter_map(|layer| layer.block).map(|block| block.expansion);
    let largest = expansions.filter(|e| e.is_finite()).fold(1.0, f64::max);
    // Where some networks stand out, the others wait behind a fold.
    let folded = |network: &Network| !report.stands_out(network);
    let group = |html: &mut String, fold: bool| {
        html.push_str("<div class=\"nets\">\n");
        for (index, network) in report.networks.iter().enumerate().filter(|(_, n)| folded(n) == fold) {
            picture(html, index, network, largest);
        }
        html.push_str("</div>\n");
    };
    group(html, false);
    let rest = report.networks.iter().filter(|network| folded(network)).count();
    if rest > 0 {
        let plural = if rest == 1 { "" } else { "s" };
        let _ = writeln!(html, "<details><summary>{rest} more network{plural}</summary>");
        group(html, true);
        html.push_str("</details>\n");
    }
    html.push_str("</section>\n");
}

fn picture(html: &mut String, index: usize, network: &Network, largest: f64) {
    let _ = write!(html, "<figure id=\"network-{index}\"><figcaption>{}", Escaped(&network.label));
    if !network.note.is_empty() {
        let _ = write!(html, " <span class=\"note\">{}</span>", Escaped(&network.note));
    }
    html.push_str("</figcaption>");
    match diagram::diagram(&network.label, &network.diagram, largest) {
        Some(svg) => {
            // What comes before and after the stages is text of any length: outside of the picture
            // it can wrap.
            let around = |html: &mut String, text: &str| {
                if !text.is_empty() {
                    let _ = write!(html, "<p class=\"around\">{}</p>", Escaped(text));
                }
            };
            around(html, &network.diagram.stem);
            let _ = write!(html, "<div class=\"scroll\">{svg}</div>");
            around(html, &network.diagram.head);
        }
        None => nothing(html, "No picture: the network has no stages."),
    }
    if !network.identity.is_empty() {
        let _ = write!(html, "<code class=\"identity\">{}</code>", Escaped(&network.identity));
    }
    html.push_str("</figure>\n");
}

/// How the front moved.
fn earlier(html: &mut String, report: &Report) {
    if report.earlier.len() < 2 {
        return;
    }
    let caption = "Accuracies are those that were measured then; adaptation changes them afterwards.";
    let caption = format!("{}{caption}", comparison::legend(&report.earlier));
    section(html, "earlier", "Fronts over time", &caption);
    html.push_str("<div class=\"charts\">\n");
    for up in 0..report.objectives.len() {
        for across in up + 1..report.objectives.len() {
            if let Some(svg) = groups::fronts(&report.objectives, &report.earlier, up, across) {
                let _ = writeln!(html, "<figure>{svg}</figure>");
            }
        }
    }
    html.push_str("</div>\n</section>\n");
}

fn progress(html: &mut String, iterations: &[Iteration]) {
    let caption = "The hypervolume is that of the archive; the predictor is judged by the candidates of each \
         iteration, which it had not seen.";
    section(html, "progress", "Progress", caption);
    let numbers: Vec<u32> = iterations.iter().map(|i| i.number).collect();
    let series = |name: &'static str, value: fn(&Iteration) -> Option<f64>| Series {
        name,
        values: iterations.iter().map(value).collect(),
    };
    let ranks = [series("Spearman", |i| i.spearman), series("Kendall", |i| i.kendall)];
    let archive = [series("after", |i| i.top1_after), series("before", |i| i.top1_before)];
    let negative = ranks.iter().flat_map(|s| &s.values).flatten().any(|value| *value < 0.0);
    let ranks_range = (if negative { -1.0 } else { 0.0 }, 1.0);
    let charts = [
        chart::lines("hypervolume", &numbers, &[series("hypervolume", |i| i.hypervolume)], None),
        chart::lines("best top-1 (%)", &numbers, &[series("best top-1", |i| i.best_top1)], None),
        chart::lines("predictor: rank correlation", &numbers, &ranks, Some(ranks_range)),
        chart::lines("predictor: RMSE", &numbers, &[series("RMSE", |i| i.rmse)], None),
        chart::lines("adaptation: training loss", &numbers, &[series("loss", |i| i.loss)], None),
        chart::lines("archive around adaptation: mean top-1 (%)", &numbers, &archive, None),
    ];
    if charts.iter().all(Option::is_none) {
        nothing(html, "No iteration has been logged yet.");
    } else {
        html.push_str("<div class=\"charts\">\n");
        for svg in charts.iter().flatten() {
            let _ = writeln!(html, "<figure>{svg}</figure>");
        }
        html.push_str("</div>\n");
    }
    html.push_str("</section>\n");
}

pub(super) fn commands(html: &mut String, commands: &[Command]) {
    if commands.is_empty() {
        return;
    }
    section(html, "next", "What to run next", "");
    let list = |html: &mut String, fold: bool| {
        html.push_str("<ol class=\"commands\">\n");
        for command in commands.iter().filter(|command| command.folded == fold) {
            let _ = writeln!(
                html,
                "<li><span>{}</span><pre><code>{}</code></pre></li>",
                Escaped(&command.purpose),
                Escaped(&command.line)
            );
        }
        html.push_str("</ol>\n");
    };
    list(html, false);
    let rest = commands.iter().filter(|command| command.folded).count();
    if rest > 0 {
        let plural = if rest == 1 { "" } else { "s" };
        let _ = writeln!(html, "<details><summary>{rest} more command{plural}</summary>");
        list(html, true);
        html.push_str("</details>\n");
    }
    html.push_str("</section>\n");
}

pub(super) fn configuration(html: &mut String, text: &str) {
    if text.is_empty() {
        return;
    }
    section(html, "configuration", "Configuration", "");
    let _ = write!(
        html,
        "<details><summary>All settings of this run</summary><pre><code>{}</code></pre></details>\n</section>\n",
        Escaped(text)
    );
}
