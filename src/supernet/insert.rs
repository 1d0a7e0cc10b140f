//! A stand-alone network put back into a super-network.
//!
//! The opposite of taking it out: its tensors become the prefixes that it would be made of, and
//! everything else stays. Taking the same network out again gives the same numbers.
//!
//! Depthwise filters of size 7 are prefixes too. Smaller ones are what the kernel transform makes of
//! the centre of the shared 7 x 7 filters, and a filter that was trained on its own is in general
//! not exactly in reach of it. Where the transform already gives the network's filter, nothing
//! changes; else the filter becomes the centre of the shared one and the layer's transform the
//! identity, so other networks with small kernels in that layer change: [`Insertion::reset`] names
//! the layers.

use super::build::Source;
use super::extract::filter;
use super::{Checkpoint, Error, Layout, Names, Network, Supernet, Tensor, Unit};
use crate::space::visit::Place;
use std::collections::BTreeMap;

/// A super-network that a network was put into, and what that did.
#[derive(Debug)]
pub struct Insertion {
    /// The result.
    pub supernet: Supernet,
    /// Tensors of the super-network that have other numbers now.
    pub changed: usize,
    /// Layers, from 1, whose kernel transform is the identity now and was not before.
    pub reset: Vec<usize>,
}

impl Network {
    /// Puts the network into a super-network of the same width and classes.
    ///
    /// # Errors
    /// Weights that are no super-network, or one of another width, number of classes or family.
    pub fn insert(&self, supernet: &Supernet) -> Result<Insertion, Error> {
        let file = || supernet.file.clone();
        if supernet.layout.is_network() {
            let what = "which nothing can be put into: give a super-network".into();
            return Err(Error::OneNetwork { file: file(), what });
        }
        let own = self.weights();
        let (found, expected) = (own.channels().width, supernet.channels().width);
        if !supernet.has_width(Some(found)) {
            return Err(Error::Width { found, expected, file: file() });
        }
        let family = self.arch().family;
        if let Some(what) = supernet.layout.missing(self.arch()) {
            return Err(Error::Family { file: file(), family, what: what.into() });
        }
        let (layout, sources) =
            Layout::network(*supernet.channels(), supernet.classes(), self.arch(), self.exits());
        let mut shared = supernet.layout.unpack(&supernet.packed);
        let before = shared.clone();
        let mut reset = Vec::new();
        let tensors = self.tensors();
        for (wanted, source) in layout.tensors().iter().zip(&sources) {
            let tensor = &tensors[&wanted.name];
            if tensor.shape != wanted.shape {
                return Err(Error::Shape {
                    file: own.file.clone(),
                    tensor: wanted.name.clone(),
                    found: tensor.shape.as_slice().into(),
                    expected: wanted.shape.as_slice().into(),
                    why: format!("a place in {}", supernet.file.display()),
                });
            }
            match source {
                Source::Prefix(name) => write_prefix(place(&mut shared, name, supernet)?, tensor),
                Source::Depthwise { index, size } => {
                    let block = &supernet.layout.blocks[*index];
                    let taps = size * size;
                    let now = filter(&supernet.packed, block, *size);
                    let same = |(i, v): (usize, &f32)| {
                        v.to_bits() == now[i % taps * block.channels + i / taps].to_bits()
                    };
                    if tensor.data.iter().enumerate().all(same) {
                        continue;
                    }
                    let filters = Unit::Convolution(Place::Filter(*index));
                    let filters = Names::Shared.tensor(filters, "weight");
                    write_centre(place(&mut shared, &filters, supernet)?, tensor, *size);
                    let matrices: &[&str] = match size {
                        3 => &["7to5_matrix", "5to3_matrix"],
                        5 => &["7to5_matrix"],
                        _ => &[],
                    };
                    let mut other = false;
                    for matrix in matrices {
                        let matrix = Names::Shared.tensor(Unit::KernelTransform(*index), matrix);
                        let matrix = place(&mut shared, &matrix, supernet)?;
                        let identity = super::pack::identity(matrix.shape[0]);
                        other |= *matrix != identity;
                        *matrix = identity;
                    }
                    if other {
                        reset.push(index + 1);
                    }
                }
            }
        }
        let changed = shared.iter().filter(|(name, tensor)| before[*name] != **tensor).count();
        let packed = supernet.layout.pack(&Checkpoint::from_tensors(&supernet.file, shared))?;
        let mut supernet = Supernet { packed, ..supernet.clone() };
        if changed > 0 {
            let trained = supernet.card.trained.as_deref().unwrap_or("unknown");
            supernet.card.trained = Some(format!("{trained}; one network put in from a file of its own"));
        }
        Ok(Insertion { supernet, changed, reset })
    }
}

/// A tensor of the super-network, by name.
fn place<'a>(
    shared: &'a mut BTreeMap<String, Tensor>,
    name: &str,
    supernet: &Supernet,
) -> Result<&'a mut Tensor, Error> {
    shared.get_mut(name).ok_or_else(|| Error::MissingTensor {
        file: supernet.file.clone(),
        tensor: name.into(),
        needed: "the network would be put into".into(),
    })
}

/// Overwrites the first elements of `whole` along the first two dimensions.
fn write_prefix(whole: &mut Tensor, part: &Tensor) {
    let columns = |tensor: &Tensor| tensor.shape.iter().skip(1).product::<usize>();
    let (stored, used) = (columns(whole), columns(part));
    for (to, from) in whole.data.chunks_exact_mut(stored).zip(part.data.chunks_exact(used)) {
        to[..used].copy_from_slice(from);
    }
}

/// Overwrites the centres of the first 7 x 7 filters with those of `part`, which have side `size`.
fn write_centre(whole: &mut Tensor, part: &Tensor, size: usize) {
    let border = (7 - size) / 2;
    for (to, from) in whole.data.chunks_exact_mut(49).zip(part.data.chunks_exact(size * size)) {
        for (row, values) in from.chunks_exact(size).enumerate() {
            to[(row + border) * 7 + border..][..size].copy_from_slice(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_written_where_they_are_read() {
        let mut whole = Tensor { shape: vec![3, 3, 1, 1], data: vec![0.0; 9] };
        write_prefix(&mut whole, &Tensor { shape: vec![2, 2, 1, 1], data: vec![1.0, 2.0, 3.0, 4.0] });
        assert_eq!(whole.data, [1.0, 2.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0]);
        let mut filters = Tensor { shape: vec![2, 1, 7, 7], data: vec![0.0; 98] };
        let part = Tensor { shape: vec![1, 1, 3, 3], data: (1..10).map(|i| i as f32).collect() };
        write_centre(&mut filters, &part, 3);
        assert_eq!((filters.data[16], filters.data[24], filters.data[32]), (1.0, 5.0, 9.0));
        assert_eq!(filters.data.iter().filter(|v| **v != 0.0).count(), 9);
    }
}
