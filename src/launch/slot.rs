//! Slots: how a call names its operands, as places in a device's buffers.

/// Which buffer a slot lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Region {
    /// The packed super-network; never written by a plan.
    Weights,
    /// Statistics and folded batch norms of one network; read by inference.
    Network,
    /// Activations and everything a plan writes.
    Arena,
}

/// A range of elements in one of the buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The buffer.
    pub region: Region,
    /// First element.
    pub offset: usize,
    /// Number of elements.
    pub len: usize,
}

impl Slot {
    /// A range of the packed super-network.
    pub fn weights(offset: usize, len: usize) -> Slot {
        Slot { region: Region::Weights, offset, len }
    }

    /// The part of `len` elements that starts `offset` elements into this slot.
    pub fn part(self, offset: usize, len: usize) -> Slot {
        debug_assert!(offset + len <= self.len);
        Slot { offset: self.offset + offset, len, ..self }
    }

    /// Whether two slots share an element.
    pub fn overlaps(&self, other: &Slot) -> bool {
        self.region == other.region
            && self.offset < other.offset + other.len
            && other.offset < self.offset + self.len
    }
}
