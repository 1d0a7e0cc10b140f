//! What the launch code of an operator works with: addresses of slots, and grids that are checked.

use super::{Arguments, Error, Geometry, Region, Slot};

/// The multiprocessors of a card, of which each has blocks of threads to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Multiprocessors {
    /// How many there are.
    pub count: u32,
    /// f32 multiply-adds that each makes in a cycle.
    pub multiply_adds: u32,
}

/// What a launcher gives its launches to: it makes them, records them, or counts them.
type Launch<'a> = &'a dyn Fn(&'static str, Geometry, &Arguments<'_>) -> Result<(), Error>;

/// Launches the kernels of one list of calls.
pub struct Launcher<'a> {
    /// Address and elements of each region's buffer.
    regions: [(u64, usize); 3],
    multiprocessors: Multiprocessors,
    shared_bytes: u32,
    launch: Launch<'a>,
}

/// The arguments of calls that are launched together.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Grouped<A, const N: usize> {
    pub(crate) calls: [A; N],
}

impl<'a> Launcher<'a> {
    /// A launcher on the buffers of weights, network and arena: address and elements of each.
    pub(crate) fn new(
        [weights, network, arena]: [(u64, usize); 3],
        multiprocessors: Multiprocessors,
        shared_bytes: u32,
        launch: Launch<'a>,
    ) -> Launcher<'a> {
        let mut regions = [(0, 0); 3];
        regions[Region::Weights as usize] = weights;
        regions[Region::Network as usize] = network;
        regions[Region::Arena as usize] = arena;
        Launcher { regions, multiprocessors, shared_bytes, launch }
    }

    /// The address of a slot. A slot outside its buffer is a mistake in a plan.
    pub fn at(&self, slot: Slot) -> u64 {
        let (address, len) = self.regions[slot.region as usize];
        assert!(slot.offset + slot.len <= len, "slot outside its buffer: {slot:?} of {len}");
        address + 4 * slot.offset as u64
    }

    /// The address of a slot, or null.
    pub fn at_or_null(&self, slot: Option<Slot>) -> u64 {
        slot.map_or(0, |slot| self.at(slot))
    }

    /// Multiprocessors of the card.
    pub fn multiprocessors(&self) -> Multiprocessors {
        self.multiprocessors
    }

    /// Shared memory that a block can have, in bytes.
    pub fn shared_bytes(&self) -> u32 {
        self.shared_bytes
    }

    /// `items`, if kernels can count them in 32 bits.
    ///
    /// # Errors
    /// They cannot.
    pub fn count(&self, items: u64) -> Result<u64, Error> {
        if items <= u64::from(u32::MAX) { Ok(items) } else { Err(Error::TooLarge { items }) }
    }

    /// `blocks` blocks of `threads` threads.
    ///
    /// # Errors
    /// More than a grid can have.
    pub fn blocks(&self, blocks: u64, threads: u32) -> Result<Geometry, Error> {
        match i32::try_from(blocks) {
            Ok(_) => Ok(Geometry::linear((blocks as u32).max(1), threads)),
            Err(_) => Err(Error::TooLarge { items: blocks }),
        }
    }

    /// Blocks of `threads` threads, so that each of `items` has its thread.
    ///
    /// # Errors
    /// More items than kernels can count.
    pub fn covering(&self, items: u64, threads: u32) -> Result<Geometry, Error> {
        // The threads of the last block behind the last item are numbered in 32 bits too.
        self.count(items + u64::from(threads))?;
        self.blocks(items.div_ceil(u64::from(threads)), threads)
    }

    /// Launches calls of a kernel, at most `N` of them together: a row of blocks each, as long as the longest
    /// needs, and of each block as much shared memory. `one` gives a call's geometry and its arguments.
    ///
    /// # Errors
    /// Those of `one`, or the device refuses.
    pub fn launch_together<C, A: Copy, const N: usize>(
        &self,
        kernel: &'static str,
        calls: &[C],
        one: impl Fn(&C) -> Result<(Geometry, A), Error>,
    ) -> Result<(), Error> {
        self.launch_rows::<_, N>(kernel, calls.iter().map(one))
    }

    /// Launches calls of several kernels: those of one together, as [`launch_together`](Launcher::launch_together) does.
    /// None reads what another writes.
    ///
    /// # Errors
    /// Those of `one`, or the device refuses.
    pub fn launch_by_kernel<C, A: Copy, const N: usize>(
        &self,
        calls: &[C],
        kernel: impl Fn(&C) -> &'static str,
        one: impl Fn(&C) -> Result<(Geometry, A), Error>,
    ) -> Result<(), Error> {
        for (index, first) in calls.iter().enumerate() {
            let name = kernel(first);
            if calls[..index].iter().any(|earlier| kernel(earlier) == name) {
                continue;
            }
            let alike = calls[index..].iter().filter(|call| kernel(call) == name);
            self.launch_rows::<_, N>(name, alike.map(&one))?;
        }
        Ok(())
    }

    /// Launches a kernel on rows of blocks, up to `N` at a time.
    fn launch_rows<A: Copy, const N: usize>(
        &self,
        kernel: &'static str,
        mut rows: impl Iterator<Item = Result<(Geometry, A), Error>>,
    ) -> Result<(), Error> {
        while let Some((mut geometry, first)) = rows.next().transpose()? {
            // No block looks at what is behind the calls that there are.
            let mut together = Grouped { calls: [first; N] };
            let mut count = 1;
            for (place, row) in together.calls[1..].iter_mut().zip(&mut rows) {
                let (row, arguments) = row?;
                *place = arguments;
                geometry.grid[0] = geometry.grid[0].max(row.grid[0]);
                geometry.shared_bytes = geometry.shared_bytes.max(row.shared_bytes);
                count += 1;
            }
            geometry.grid[1] = count;
            self.launch(kernel, geometry, &together)?;
        }
        Ok(())
    }

    /// Launches a kernel that takes one struct.
    ///
    /// # Errors
    /// The device refuses.
    pub fn launch<T: Copy>(
        &self,
        kernel: &'static str,
        geometry: Geometry,
        arguments: &T,
    ) -> Result<(), Error> {
        (self.launch)(kernel, geometry, &Arguments::of(arguments))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_a_card_cannot_count_are_errors() {
        let launch = |_: &'static str, _: Geometry, _: &Arguments<'_>| Ok(());
        let multiprocessors = Multiprocessors { count: 132, multiply_adds: 128 };
        let to = Launcher::new([(256, 16); 3], multiprocessors, 227 << 10, &launch);
        assert_eq!(to.covering(257, 128).unwrap(), Geometry::linear(3, 128));
        assert_eq!(to.blocks(0, 64).unwrap(), Geometry::linear(1, 64));
        assert!(to.covering(u64::from(u32::MAX), 128).is_err());
        assert!(to.blocks(1 << 31, 128).is_err());
        assert_eq!(to.at(Slot { region: Region::Arena, offset: 4, len: 12 }), 272);
        assert_eq!(to.at_or_null(None), 0);
    }
}
