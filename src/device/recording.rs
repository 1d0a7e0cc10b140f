//! Lists of calls that were made ready to be run again.

use super::Memory;
use std::any::Any;

/// Calls on certain buffers, made ready by [`Device::record`](super::Device::record): on a card a
/// graph, which the driver starts at once where each launch would cost it as much.
///
/// The addresses of the buffers are part of it, so it goes with them alone. It does not keep them:
/// where others of the same sizes come to lie at the same addresses, it fits those as well.
pub struct Recording {
    launches: Box<dyn Any + Send + Sync>,
    buffers: Buffers,
}

/// Address and elements of weights, network and arena.
pub(super) type Buffers = [(u64, usize); 3];

impl Recording {
    pub(super) fn new<L: Any + Send + Sync>(launches: L, buffers: Buffers) -> Recording {
        Recording { launches: Box::new(launches), buffers }
    }

    /// A device's own form of the launches, if they were recorded on these buffers; a recording of
    /// another device is a programming error.
    pub(super) fn on<L: Any>(&self, buffers: Buffers) -> Option<&L> {
        let launches = self.launches.downcast_ref().expect("a recording of this device");
        (self.buffers == buffers).then_some(launches)
    }
}

impl Memory<'_> {
    /// The same buffers once more.
    pub fn again(&mut self) -> Memory<'_> {
        Memory { weights: self.weights, network: self.network, arena: self.arena }
    }
}
