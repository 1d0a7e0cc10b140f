//! Where everything that training needs lies.
//!
//! Two buffers. The *state* holds the packed super-network with its derived filters, behind it the
//! transposed panels that gradients of inputs are computed with, and the optimiser's two vectors of
//! the super-network's size. With maps in 16 bits the weights of 1x1 convolutions lie behind the
//! super-network as rows, as an engine has them, and behind those the transposed rows; panels are then
//! transposed of linear layers only. The *work* buffer holds the gradient, laid out as the super-network,
//! then gradient norms, then what networks are given and what is read of them, then what one network's
//! forward and backward pass writes. Forward and backward read the state (as weights) and write the work buffer; updates do it the other way
//! round.

use crate::launch::panels::panelled_len;
use crate::ops::grad::pointwise::{Transpose, TransposeGroup, TransposeParams};
use crate::ops::half_rows::{self, HalfRows, Job, JobParams};
use crate::ops::halves::{Format, PER_ELEMENT};
use crate::ops::update::SumOfSquares;
use crate::ops::{Call, PANEL, Region, Slot};
use crate::supernet::{Layout, Panels, derive_calls};
use std::collections::BTreeMap;

/// Offsets in both buffers for one super-network.
#[derive(Debug, Clone)]
pub(super) struct TrainingSlots {
    /// Where the transposed panels of the panels at an offset are.
    transposed: BTreeMap<usize, usize>,
    /// First element of the transposed rows, each matrix as far into them as the layout's rows are.
    transposed_rows: usize,
    /// Calls that make what follows from the weights, with the state as the arena: derived filters, transposed
    /// panels and rows.
    pub refresh: Vec<Call>,
    /// First element of the optimiser's first vector; the second follows it.
    pub moments: usize,
    /// Elements of the state.
    pub state_len: usize,
    /// A sum of squares a tensor, in the work buffer.
    pub squares: Slot,
    /// Scratch of the sums of squares.
    pub partials: Slot,
    /// Norm, clipping factor, and whether the norm is no finite number. The last that is reserved, so that
    /// scores are read with it.
    pub clip: Slot,
    /// Elements of the work buffer before a network's own.
    pub reserved: usize,
}

impl TrainingSlots {
    /// Places for maps in a 16-bit format, or in f32.
    pub(super) fn new(layout: &Layout, format: Option<Format>) -> TrainingSlots {
        let (mut transposed, mut refresh) = (BTreeMap::new(), derive_calls(layout));
        let transposed_rows = layout.len_with_rows().next_multiple_of(PANEL);
        let (mut end, panels) = match format {
            None => (layout.len().next_multiple_of(PANEL), layout.convolutions().collect()),
            Some(format) => {
                refresh.push(Call::from(all_rows(layout, format, transposed_rows)));
                let end = transposed_rows + layout.len_with_rows() - layout.len();
                (end.next_multiple_of(PANEL), linear_panels(layout))
            }
        };
        let mut transposes = Vec::new();
        for panels in panels {
            let (rows, columns) = (panels.cout.next_multiple_of(8), panels.cin);
            let len = panelled_len(columns, rows);
            transposed.insert(panels.offset, end);
            transposes.push(Transpose {
                params: TransposeParams { cout: rows as u32, cin: columns as u32 },
                w: arena(panels.offset, panelled_len(rows, columns)),
                t: arena(end, len),
            });
            end += len.next_multiple_of(PANEL);
        }
        refresh.push(Call::from(TransposeGroup { calls: transposes }));
        let moments = end;
        let tensors = layout.tensors();
        let squares = arena(layout.len().next_multiple_of(PANEL), tensors.len());
        let after = |slot: Slot| (slot.offset + slot.len).next_multiple_of(PANEL);
        let partials =
            arena(after(squares), SumOfSquares::partials_len(tensors.iter().map(|tensor| tensor.len)));
        let clip = arena(after(partials), 3);
        TrainingSlots {
            transposed,
            transposed_rows,
            refresh,
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

    /// The same of 16-bit rows: those of the first `cin` columns of the matrix, and the columns stored.
    pub(super) fn transposed_rows(&self, panels: &Panels, cin: usize) -> (Slot, usize) {
        (rows_at(self.transposed_rows, panels, cin * panels.cout), panels.cout)
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

/// So many numbers of rows that are as far behind `base` as their panels are into the super-network.
fn rows_at(base: usize, panels: &Panels, numbers: usize) -> Slot {
    Slot::weights(base + panels.offset / PER_ELEMENT, numbers / PER_ELEMENT)
}

/// The call that makes the rows of all 1x1 convolutions, and the transposed ones from `base` on.
fn all_rows(layout: &Layout, format: Format, base: usize) -> HalfRows {
    let in_arena = |slot: Slot| arena(slot.offset, slot.len);
    let job = |panels: Panels| Job {
        params: JobParams { cout: panels.cout as u32, cin: panels.cin as u32 },
        w: in_arena(panels.prefix(panels.cout)),
        rows: in_arena(layout.rows(&panels, panels.cout)),
        transposed: Some(in_arena(rows_at(base, &panels, panels.cin * panels.cout))),
    };
    let jobs = layout.convolutions().map(job).collect();
    HalfRows { params: half_rows::Params { format }, jobs }
}

/// Panels of the linear layers, which follow the pooling.
fn linear_panels(layout: &Layout) -> Vec<Panels> {
    let heads = layout.head.iter().chain(&layout.exits);
    heads.flat_map(|head| [head.mix, head.classifier]).filter(|panels| panels.cout > 0).collect()
}
