//! Where everything that training needs lies.
//!
//! Two buffers. The *state* holds the packed super-network with its derived filters, behind it the
//! transposed panels that gradients of inputs are computed with, and the optimiser's two vectors of
//! the super-network's size. The *work* buffer holds the gradient, laid out as the super-network,
//! then gradient norms, then what one network's forward and backward pass writes. Forward and
//! backward read the state (as weights) and write the work buffer; updates do it the other way
//! round.

use crate::ops::grad::pointwise::{Transpose, TransposeParams};
use crate::ops::pointwise::panelled_len;
use crate::ops::update::SumOfSquares;
use crate::ops::{Call, PANEL, Region, Slot};
use crate::supernet::{Layout, Panels};
use std::collections::BTreeMap;

/// Offsets in both buffers for one super-network.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// Where the transposed panels of the panels at an offset are.
    transposed: BTreeMap<usize, usize>,
    /// Calls that make them, to be run with the state as the arena.
    pub transpose: Vec<Call>,
    /// First element of the optimiser's first vector; the second follows it.
    pub moments: usize,
    /// Elements of the state.
    pub state_len: usize,
    /// A sum of squares a tensor, in the work buffer.
    pub squares: Slot,
    /// Scratch of the sums of squares.
    pub partials: Slot,
    /// Norm, clipping factor, and whether the norm is no finite number.
    pub clip: Slot,
    /// Elements of the work buffer before a network's own.
    pub reserved: usize,
}

impl Places {
    pub(super) fn new(layout: &Layout) -> Places {
        let mut end = layout.len().next_multiple_of(PANEL);
        let (mut transposed, mut transpose) = (BTreeMap::new(), Vec::new());
        for panels in all_panels(layout) {
            let (rows, columns) = (panels.cout.next_multiple_of(8), panels.cin);
            let len = panelled_len(columns, rows);
            transposed.insert(panels.offset, end);
            transpose.push(Call::from(Transpose {
                params: TransposeParams { cout: rows as u32, cin: columns as u32 },
                w: arena(panels.offset, panelled_len(rows, columns)),
                t: arena(end, len),
            }));
            end += len.next_multiple_of(PANEL);
        }
        let moments = end;
        let tensors = layout.tensors();
        let squares = arena(layout.len().next_multiple_of(PANEL), tensors.len());
        let after = |slot: Slot| (slot.offset + slot.len).next_multiple_of(PANEL);
        let partials =
            arena(after(squares), SumOfSquares::partials_len(tensors.iter().map(|tensor| tensor.len)));
        let clip = arena(after(partials), 3);
        Places {
            transposed,
            transpose,
            moments,
            state_len: moments + 2 * layout.derived().next_multiple_of(PANEL),
            squares,
            partials,
            clip,
            reserved: after(clip),
        }
    }

    /// The panels of the transpose of `panels` whose first `cin` rows and `cout` columns are used:
    /// where they are and the columns stored.
    pub(super) fn transposed(&self, panels: &Panels, cin: usize) -> (Slot, usize) {
        let stored = panels.cout.next_multiple_of(8);
        (Slot::weights(self.transposed[&panels.offset], panelled_len(cin, stored)), stored)
    }

    /// The optimiser's vector `which` (0 or 1) for a tensor at `offset`.
    pub(super) fn moment(&self, layout: &Layout, which: usize, offset: usize, len: usize) -> Slot {
        arena(self.moments + which * layout.derived().next_multiple_of(PANEL) + offset, len)
    }
}

/// A place in the buffer that is written.
pub(super) fn arena(offset: usize, len: usize) -> Slot {
    Slot { region: Region::Arena, offset, len }
}

/// The gradient of what lies at `weights`.
pub(super) fn gradient(weights: Slot) -> Slot {
    Slot { region: Region::Arena, ..weights }
}

/// All panels whose input has a gradient.
fn all_panels(layout: &Layout) -> Vec<Panels> {
    let mut all = vec![layout.first.project];
    for block in &layout.blocks {
        all.extend([block.expand, block.project]);
        if let Some(((pointwise, _), transform)) = &block.parallel {
            all.push(*pointwise);
            all.extend(transform.conv.iter().map(|(panels, _)| *panels));
        }
    }
    for head in layout.head.iter().chain(&layout.exits) {
        all.extend([head.expand, head.mix, head.classifier]);
    }
    // A stand-alone network has only the panels that it runs.
    all.retain(|panels| panels.cout > 0);
    all
}
