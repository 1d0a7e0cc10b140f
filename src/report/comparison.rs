//! The page of a comparison: groups of searches side by side.
//!
//! | part | data | shown |
//! | --- | --- | --- |
//! | head | [`Comparison::title`], [`Comparison::summary`], [`Comparison::facts`] | as text |
//! | results | [`Comparison::columns`], [`Group::values`] | a table, a row each group: means with their deviations |
//! | fronts | [`Group::points`] | a chart for each pair of [`Comparison::objectives`], a colour each group |
//! | hypervolume | [`Group::curve`] | lines over the evaluations, with bands |
//! | coverage | [`Comparison::coverage`] | a table, groups by groups |
//! | next, configuration | [`Comparison::commands`], [`Comparison::configuration`] | as text |

use super::groups;
use super::markup::{Escaped, count, figure, shown, titled};
use super::page;
use super::{Command, Objective, Point, Quantity};
use std::fmt::Write;

/// All that the page of a comparison shows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Comparison {
    /// Heading and title of the page.
    pub title: String,
    /// A sentence or two below the heading.
    pub summary: String,
    /// Facts of the comparison as (name, value).
    pub facts: Vec<(String, String)>,
    /// What was optimised, in the order of the points' values.
    pub objectives: Vec<Objective>,
    /// What is compared.
    pub groups: Vec<Group>,
    /// The columns of the table of results.
    pub columns: Vec<Quantity>,
    /// The share, from 0 to 1, of a column's front that a row's covers; a row and a column each group.
    pub coverage: Vec<Vec<Option<f64>>>,
    /// What to run next.
    pub commands: Vec<Command>,
    /// The resolved configuration, as text.
    pub configuration: String,
}

/// Searches that belong together, such as those of a method with several seeds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// What sets it apart; may be empty.
    pub note: String,
    /// The networks on the fronts of its searches.
    pub points: Vec<Point>,
    /// A value for each of [`Comparison::columns`], where there is one.
    pub values: Vec<Option<Estimate>>,
    /// Hypervolume over evaluations.
    pub curve: Vec<Band>,
}

/// A mean and how far the values are from it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// The standard deviation, where there are several values.
    pub deviation: Option<f64>,
}

/// A point of a curve with what the values spread over.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Band {
    /// Its place on the axis to the right.
    pub at: f64,
    /// The mean of the values.
    pub mean: f64,
    /// The least.
    pub least: f64,
    /// The greatest.
    pub most: f64,
}

/// The page of a comparison as HTML.
pub fn render_comparison(comparison: &Comparison) -> String {
    page::document(&comparison.title, &comparison.summary, &comparison.facts, |html| {
        results(html, comparison);
        fronts(html, comparison);
        hypervolume(html, comparison);
        coverage(html, comparison);
        page::commands(html, &comparison.commands);
        page::configuration(html, &comparison.configuration);
    })
}

/// The colours' names, as a caption begins.
pub(super) fn legend(groups: &[Group]) -> String {
    let key = |(index, group): (usize, &Group)| {
        format!("<span class=\"key {}\">{}</span> ", groups::class(index), Escaped(&group.name))
    };
    groups.iter().enumerate().map(key).collect()
}

fn results(html: &mut String, comparison: &Comparison) {
    let caption = "Means over the seeds, with the standard deviation where there are several.";
    page::section(html, "networks", "Results", caption);
    if comparison.groups.is_empty() {
        page::nothing(html, "Nothing has been compared yet.");
        html.push_str("</section>\n");
        return;
    }
    html.push_str("<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">variant</th>");
    for quantity in &comparison.columns {
        let _ = write!(html, "<th scope=\"col\">{}</th>", Escaped(&titled(quantity)));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for (index, group) in comparison.groups.iter().enumerate() {
        let _ = write!(
            html,
            "<tr><th scope=\"row\"><span class=\"key {}\">{}</span>",
            groups::class(index),
            Escaped(&group.name)
        );
        if !group.note.is_empty() {
            let _ = write!(html, " <span class=\"note\">{}</span>", Escaped(&group.note));
        }
        html.push_str("</th>");
        for column in 0..comparison.columns.len() {
            let text = group.values.get(column).copied().flatten().map_or_else(|| "–".into(), estimate);
            let _ = write!(html, "<td>{text}</td>");
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n</section>\n");
}

fn estimate(value: Estimate) -> String {
    // A count that all seeds share needs no decimals, and no deviation.
    let spread = value.deviation.and_then(shown).filter(|deviation| *deviation > 0.0);
    match spread {
        Some(deviation) => format!("{} ± {}", figure(value.mean), figure(deviation)),
        None => count(value.mean),
    }
}

fn fronts(html: &mut String, comparison: &Comparison) {
    let caption = format!(
        "{} The fronts of all seeds on the validation images, and lines through those that no network of \
         their variant beats in the two objectives shown. Hover over a point, or tap it, to see its network.",
        legend(&comparison.groups)
    );
    page::section(html, "fronts", "Pareto fronts", &caption);
    let count = comparison.objectives.len();
    let pairs = (0..count).flat_map(|up| (up + 1..count).map(move |across| (up, across)));
    let charts: Vec<String> = pairs
        .filter_map(|(up, across)| groups::fronts(&comparison.objectives, &comparison.groups, up, across))
        .collect();
    figures(html, &charts, "No two objectives have been measured.");
    html.push_str("</section>\n");
}

fn hypervolume(html: &mut String, comparison: &Comparison) {
    let caption = format!(
        "{} Mean over the seeds, and from the least to the greatest of them; one reference point for all. \
         Evaluations include those that are repeated after the weights were adapted.",
        legend(&comparison.groups)
    );
    page::section(html, "progress", "Hypervolume", &caption);
    let chart = groups::curves(&comparison.groups, "evaluations", "hypervolume");
    figures(html, &chart.into_iter().collect::<Vec<_>>(), "No hypervolume has been logged.");
    html.push_str("</section>\n");
}

fn figures(html: &mut String, charts: &[String], otherwise: &str) {
    if charts.is_empty() {
        return page::nothing(html, otherwise);
    }
    html.push_str("<div class=\"charts\">\n");
    for svg in charts {
        let _ = writeln!(html, "<figure>{svg}</figure>");
    }
    html.push_str("</div>\n");
}

fn coverage(html: &mut String, comparison: &Comparison) {
    if comparison.groups.len() < 2 {
        return;
    }
    let caption = "The share of a column's front that some network of the row's front, of the same seed, \
         equals or betters in every objective (C-metric); mean over the seeds.";
    page::section(html, "coverage", "Coverage", caption);
    html.push_str("<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">covers</th>");
    for group in &comparison.groups {
        let _ = write!(html, "<th scope=\"col\">{}</th>", Escaped(&group.name));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for (row, group) in comparison.groups.iter().enumerate() {
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", Escaped(&group.name));
        for column in 0..comparison.groups.len() {
            let value = comparison.coverage.get(row).and_then(|row| row.get(column)).copied().flatten();
            let text =
                value.and_then(shown).map_or_else(|| "–".into(), |share| format!("{:.0} %", 100.0 * share));
            let _ = write!(html, "<td>{text}</td>");
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n</section>\n");
}
