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
use super::markup::{Digits, Escaped, shown, titled};
use super::page;
use super::table;
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
    let columns: Vec<Vec<String>> = comparison
        .columns
        .iter()
        .enumerate()
        .map(|(column, quantity)| {
            let values = comparison.groups.iter().map(|group| group.values.get(column).copied().flatten());
            spreads(&values.collect::<Vec<_>>(), quantity)
        })
        .collect();
    let groups = comparison.groups.iter().enumerate();
    let rows: Vec<table::Row<'_>> = groups
        .map(|(index, group)| table::Row {
            head: format!("<span class=\"key {}\">{}</span>", groups::class(index), Escaped(&group.name)),
            note: &group.note,
            cells: columns.iter().map(|column| column[index].clone()).collect(),
            ..table::Row::default()
        })
        .collect();
    let names = std::iter::once("variant".into()).chain(comparison.columns.iter().map(titled));
    table::table(html, &names.collect::<Vec<String>>(), &rows);
    html.push_str("</section>\n");
}

/// The means of a column with their deviations, all with the same digits; no deviations where all are zero,
/// as those of counts that all seeds share.
fn spreads(values: &[Option<Estimate>], quantity: &Quantity) -> Vec<String> {
    let deviation = |estimate: &Estimate| estimate.deviation.and_then(shown);
    let spread = values.iter().flatten().filter_map(deviation).any(|deviation| deviation > 0.0);
    let digits = Digits::of(values.iter().flatten().map(|estimate| estimate.mean), quantity);
    let write = |estimate: &Option<Estimate>| {
        let Some(estimate) = estimate else { return "–".into() };
        let mean = digits.write(estimate.mean);
        match deviation(estimate).filter(|_| spread) {
            Some(deviation) => format!("{mean} <span class=\"spread\">± {}</span>", digits.write(deviation)),
            None => mean,
        }
    };
    values.iter().map(write).collect()
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
    let share = |value: Option<f64>| {
        value.and_then(shown).map_or_else(|| "–".into(), |share| format!("{:.0} %", 100.0 * share))
    };
    let row = |(index, group): (usize, &Group)| table::Row {
        head: Escaped(&group.name).to_string(),
        cells: (0..comparison.groups.len())
            .map(|column| {
                share(comparison.coverage.get(index).and_then(|row| row.get(column)).copied().flatten())
            })
            .collect(),
        ..table::Row::default()
    };
    let rows: Vec<table::Row<'_>> = comparison.groups.iter().enumerate().map(row).collect();
    let names = comparison.groups.iter().map(|group| group.name.clone());
    table::table(html, &std::iter::once("covers".into()).chain(names).collect::<Vec<String>>(), &rows);
    html.push_str("</section>\n");
}
