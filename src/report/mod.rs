//! The report of a run: one HTML file that needs nothing else.
//!
//! [`render`] turns plain data into a page with inline SVG, style and a few lines of script, so that
//! the file can be mailed, archived or opened on a phone. It knows nothing of networks or runs: the
//! caller fills a [`Report`]. What the page shows, and from which data:
//!
//! | part | data | shown |
//! | --- | --- | --- |
//! | head | [`Report::title`], [`Report::summary`], [`Report::facts`] | as text |
//! | fronts | [`Report::archive`], [`Report::front`] | a chart for each pair of [`Report::objectives`]: all points, the front's in colour, a line through those that no other point beats in these two objectives; hovering or tapping shows a point's text and all its values |
//! | networks | [`Report::networks`], [`Report::columns`] | a table, then each [`Diagram`]; those without a note are folded away if others have one |
//! | fronts over time | [`Report::earlier`] | a chart for each pair of [`Report::objectives`], a colour each iteration |
//! | progress | [`Report::iterations`] | hypervolume, best accuracy, rank correlations and RMSE of the predictor by iteration |
//! | fine-tuning | [`Report::tuned`] | test accuracy, parameters and MACs before and after, as a table and as arrows |
//! | next | [`Report::commands`] | what to run now; those of the networks that do not stand out are folded away |
//! | configuration | [`Report::configuration`] | as text |
//!
//! [`render_comparison`] does the same for searches that are set against each other, from a
//! [`Comparison`].
//!
//! The same data gives the same bytes. All text is escaped. A value that is missing, NaN or infinite is a dash in
//! a table and is left out of a chart. A part without data says so.
//!
//! `page.rs` lays the page out, `alone.rs` takes charts out as files, `chart.rs` draws points and lines on the axes of `scale.rs`,
//! `diagram.rs` draws networks, `table.rs` writes tables, `tuned.rs` holds the part on fine-tuning, `comparison.rs` the page of a
//! comparison and `groups.rs` its charts; `style.css` holds the palette (light and dark), `script.js` the tooltip.

mod alone;
mod chart;
mod comparison;
mod diagram;
mod groups;
mod markup;
mod page;
mod scale;
mod table;
#[cfg(test)]
mod tests;
mod tuned;

pub use alone::charts;
pub use comparison::{Band, Comparison, Estimate, Group, render_comparison};

/// All that a page shows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Heading and title of the page.
    pub title: String,
    /// A sentence or two below the heading.
    pub summary: String,
    /// Facts of the run as (name, value), such as the data set, the device or the evaluations.
    pub facts: Vec<(String, String)>,
    /// What was optimised, in the order of the points' values.
    pub objectives: Vec<Objective>,
    /// All points of the archive; those of the front may be among them.
    pub archive: Vec<Point>,
    /// The points that none dominates.
    pub front: Vec<Point>,
    /// Further columns of the table of networks.
    pub columns: Vec<Quantity>,
    /// The networks to present. Those with a note stand out: their points carry their names, and the
    /// pictures of the others are folded away; without any note all do.
    pub networks: Vec<Network>,
    /// The fronts after some of the iterations, in order, each a group.
    pub earlier: Vec<Group>,
    /// What was logged at each iteration, in order.
    pub iterations: Vec<Iteration>,
    /// Networks that were trained further.
    pub tuned: Vec<Tuned>,
    /// What to run next.
    pub commands: Vec<Command>,
    /// The resolved configuration, as text.
    pub configuration: String,
}

/// A quantity and its unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quantity {
    /// Name, such as `top-1`.
    pub name: String,
    /// Unit, such as `%`; may be empty.
    pub unit: String,
}

/// Which way an objective gets better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Lower is better.
    Minimise,
    /// Higher is better.
    Maximise,
}

/// An objective.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objective {
    /// What it measures.
    pub quantity: Quantity,
    /// Which way is better.
    pub goal: Goal,
}

/// A network as a point of the charts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Point {
    /// Short name. Points of one name light up together in all charts and in the table; a front's point
    /// named as one of [`Report::networks`] that stands out carries its name in the charts.
    pub label: String,
    /// Text of the tooltip, such as the architecture; lines are kept.
    pub hover: String,
    /// A value for each objective, in its unit as shown (not negated).
    pub values: Vec<f64>,
}

/// A network of the table, with its picture.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Network {
    /// Short name, unique in the table.
    pub label: String,
    /// What is special about it, such as `best trade-off`; may be empty.
    pub note: String,
    /// What names it elsewhere, such as its genotype; may be empty.
    pub identity: String,
    /// A value for each objective.
    pub values: Vec<f64>,
    /// A value for each of [`Report::columns`], where there is one.
    pub extra: Vec<Option<f64>>,
    /// Its picture.
    pub diagram: Diagram,
}

/// A network as a picture: stages from top to bottom, layers from left to right.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Diagram {
    /// What comes before the first stage, input included; may be empty.
    pub stem: String,
    /// Its stages.
    pub stages: Vec<Stage>,
    /// What comes after the last stage; may be empty.
    pub head: String,
}

/// A stage of a network.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stage {
    /// Name, such as `stage 1`.
    pub name: String,
    /// Its layers in order.
    pub layers: Vec<Layer>,
    /// Layers that the space allows and this network skips; drawn as gaps.
    pub skipped: usize,
    /// Name of the exit after the stage, if the network has one there.
    pub exit: Option<String>,
}

/// A layer of a stage: a main block, parallel branches, or both, whose outputs are summed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Layer {
    /// The main block, if it runs.
    pub block: Option<Block>,
    /// Names of the other parallel branches that run; short, for they are drawn below the block.
    pub branches: Vec<String>,
    /// Output channels.
    pub channels: usize,
    /// Side of the output, in pixels.
    pub resolution: usize,
    /// Earlier layers of the same stage, from 0, whose outputs are added to this one's; drawn as arcs.
    pub skips: Vec<usize>,
}

/// An inverted-bottleneck block.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Block {
    /// Side of its depthwise kernel, in pixels.
    pub kernel: usize,
    /// Expanded channels over input channels.
    pub expansion: f64,
    /// Whether it has squeeze-and-excitation; drawn as a dot.
    pub squeeze_excite: bool,
    /// Whether its input is added to its output; drawn as a line around it.
    pub shortcut: bool,
}

/// What was logged at an iteration. Predictor figures compare its predictions with the measurements of
/// the iteration's candidates.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Iteration {
    /// Its number.
    pub number: u32,
    /// Hypervolume of the archive after it.
    pub hypervolume: Option<f64>,
    /// Best top-1 accuracy in the archive after it, per cent.
    pub best_top1: Option<f64>,
    /// Root mean squared error of the predictor, in the unit of its target.
    pub rmse: Option<f64>,
    /// Spearman's rank correlation.
    pub spearman: Option<f64>,
    /// Kendall's tau-b.
    pub kendall: Option<f64>,
    /// Mean training loss at its end, where the super-network was trained in it.
    pub loss: Option<f64>,
    /// Mean top-1 accuracy of the archive before that training, per cent.
    pub top1_before: Option<f64>,
    /// And after it.
    pub top1_after: Option<f64>,
}

/// A network that was trained further on its own.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tuned {
    /// Its name in [`Report::networks`].
    pub label: String,
    /// How it was trained or is read, such as its exits; may be empty.
    pub note: String,
    /// The network as it was found.
    pub before: Measured,
    /// And as it is now.
    pub after: Measured,
}

/// A network's figures on the test images.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Measured {
    /// Top-1 accuracy, per cent, where there are test images.
    pub top1: Option<f64>,
    /// Parameters.
    pub params: f64,
    /// Multiply-accumulates of an image.
    pub macs: f64,
}

/// A command to run next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Command {
    /// What it is good for.
    pub purpose: String,
    /// The command line.
    pub line: String,
    /// Whether it waits behind a fold, below the others.
    pub folded: bool,
}

impl Report {
    /// Whether a network is one to look at first: all are, unless some have a note and this has none.
    fn stands_out(&self, network: &Network) -> bool {
        !network.note.is_empty() || self.networks.iter().all(|other| other.note.is_empty())
    }
}

/// The page as HTML.
pub fn render(report: &Report) -> String {
    page::page(report)
}
