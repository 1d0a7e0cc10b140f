//! What was chosen of the trees of an evaluation, summed up for people.

use crate::engine::choose::{Choice, How, Purpose, Why};
use crate::engine::tree::Tree;
use crate::space::walk::Part;
use serde::Serialize;
use std::fmt;

/// Parts of networks at one place that run in the same way for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chosen {
    /// What they run for.
    pub purpose: Purpose,
    /// `first`, the stage and position of a layer as in `2.3`, or `head 5`.
    pub part: String,
    /// How many there are.
    pub count: usize,
    /// How many of them are one call with others.
    pub together: usize,
    /// How they run.
    pub how: How,
    /// Why; of several blocks, the largest.
    pub why: Why,
}

/// Adds what was chosen of a tree, in the order in which it runs.
pub(super) fn add(to: &mut Vec<Chosen>, tree: &Tree, purpose: Purpose, choices: &[Choice]) {
    for (id, how, why, together) in Choice::nodes(choices) {
        let part = name(&tree.nodes[id].part);
        let same = |other: &&mut Chosen| {
            other.purpose == purpose && other.part == part && other.how == how && other.why.is_like(why)
        };
        match to.iter_mut().find(same) {
            Some(found) => {
                found.count += 1;
                found.together += usize::from(together);
                found.why = found.why.or_larger(why);
            }
            None => to.push(Chosen { purpose, part, count: 1, together: usize::from(together), how, why }),
        }
    }
}

fn name(part: &Part) -> String {
    match part {
        Part::First(_) => "first".into(),
        Part::Layer(layer) => format!("{}.{}", layer.stage + 1, layer.position + 1),
        Part::Exit(exit) => format!("head {}", exit.stage + 1),
    }
}

/// The table of what was chosen; neighbours that differ in nothing are one line.
pub struct Table<'a>(pub &'a [Chosen]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let like = |a: &Chosen, b: &Chosen| (a.purpose, a.how, a.why) == (b.purpose, b.how, b.why);
        let (part, of) = ("part", "number");
        write!(f, "{:<14} {part:<16} {of:>7} {:>9}  {:<24} why", "for", "together", "how")?;
        for same in self.0.chunk_by(like) {
            let parts = match same {
                [only] => only.part.clone(),
                [first, .., last] => format!("{} to {}", first.part, last.part),
                [] => continue,
            };
            let count: usize = same.iter().map(|chosen| chosen.count).sum();
            let together: usize = same.iter().map(|chosen| chosen.together).sum();
            let Chosen { purpose, how, why, .. } = &same[0];
            let (mode, how) = (purpose.word(), how.in_words(purpose));
            write!(f, "\n{mode:<14} {parts:<16} {count:>7} {together:>9}  {how:<24} {why}")?;
        }
        Ok(())
    }
}
