//! One sub-network taken out of a super-network.
//!
//! The result holds the network's own tensors and nothing else: prefixes of the shared ones, and
//! depthwise filters at their real size, the kernel transform applied. It computes the same logits
//! as the sub-network does inside the super-network, bit for bit, and its trainable tensors have
//! exactly the parameters that [`cost`](mod@crate::space::cost) counts.

use super::build::Source;
use super::{Block, Card, Checkpoint, Error, Layout, NetworkCard, Supernet, Tensor};
use crate::ops::{Threads, kernel_transform};
use crate::space::walk::Exits;
use crate::space::{Arch, Channels, ExitScaling, Family};
use std::collections::BTreeMap;
use std::path::Path;

/// A stand-alone sub-network.
#[derive(Debug, Clone)]
pub struct Network {
    arch: Arch,
    exits: Exits,
    weights: Supernet,
}

impl Network {
    /// Takes `arch`, read at `exits`, out of a super-network.
    ///
    /// # Errors
    /// An architecture of another width, or of a family that these weights do not serve.
    pub fn extract(supernet: &Supernet, arch: &Arch, exits: Exits) -> Result<Network, Error> {
        let arch = arch.canonical();
        let family = arch.family;
        if let Some(found) = arch.w.filter(|_| !supernet.has_width(arch.w)) {
            let expected = supernet.channels().width;
            return Err(Error::Width { found, expected, file: supernet.file.clone() });
        }
        let own = supernet.layout.is_network();
        if own && !supernet.layout.holds(&arch, exits) {
            let what = "and another was asked for: use the super-network".into();
            return Err(Error::OneNetwork { file: supernet.file.clone(), what });
        }
        if let Some(what) = supernet.layout.missing(&arch) {
            return Err(Error::Family { file: supernet.file.clone(), family, what: what.into() });
        }
        let (layout, sources) = Layout::network(*supernet.channels(), supernet.classes(), &arch, exits);
        let shared = supernet.layout.unpack(&supernet.packed);
        let mut tensors = BTreeMap::new();
        for (wanted, source) in layout.tensors().iter().zip(&sources) {
            let whole = |name: &String| {
                let whole = shared.get(name).ok_or_else(|| Error::MissingTensor {
                    file: supernet.file.clone(),
                    tensor: name.clone(),
                    needed: format!("a network of family {family} has"),
                })?;
                Ok::<_, Error>(prefix(whole, &wanted.shape))
            };
            let tensor = match source {
                // Fewer exits of a network: the same names.
                _ if own => whole(&wanted.name)?,
                Source::Prefix(name) => whole(name)?,
                Source::Depthwise { index, size } => {
                    let block = &supernet.layout.blocks[*index];
                    let filter = filter(&supernet.packed, block, *size);
                    // `[k, k, stored]` to `[channels, 1, k, k]`.
                    let taps = size * size;
                    let at = |i: usize| filter[i % taps * block.channels + i / taps];
                    let data = (0..wanted.shape[0] * taps).map(at).collect();
                    Tensor { shape: wanted.shape.clone(), data }
                }
            };
            tensors.insert(wanted.name.clone(), tensor);
        }
        let packed = layout.pack(&Checkpoint::from_tensors(&supernet.file, tensors))?;
        // What the card of a network says of it holds for all of it at its own resolution.
        let known = supernet.card.network.clone();
        let known = known.filter(|n| own && n.exits == exits && n.arch.r == arch.r);
        let network = known.unwrap_or_else(|| NetworkCard {
            arch: arch.clone(),
            exits,
            statistics: None,
            other: Default::default(),
        });
        let card = Card {
            network: Some(network),
            family: Some(family),
            width: Some(supernet.channels().width),
            classes: Some(supernet.classes()),
            ..supernet.card.clone()
        };
        let (file, notes) = (supernet.file.clone(), supernet.notes.clone());
        let weights = Supernet { family, layout, packed, card, file, notes };
        Ok(Network { arch, exits, weights })
    }

    /// The network that a file holds, which a card beside it describes.
    ///
    /// # Errors
    /// A file that cannot be read or does not fit its card, or holds a super-network.
    pub fn load(file: &Path) -> Result<Network, Error> {
        Network::of(Supernet::load(file, None)?)
    }

    /// The network of weights that are those of one.
    ///
    /// # Errors
    /// They are those of a super-network.
    pub fn of(weights: Supernet) -> Result<Network, Error> {
        match weights.network().map(|(arch, exits)| (arch.clone(), exits)) {
            Some((arch, exits)) => Ok(Network { arch, exits, weights }),
            None => Err(Error::Card {
                file: Card::path(&weights.file),
                field: "network".into(),
                reason: "it is not there, so these are the weights of a super-network: take a network out \
                         with `natv2 export`"
                    .into(),
            }),
        }
    }

    /// The architecture.
    pub fn arch(&self) -> &Arch {
        &self.arch
    }

    /// The exits that it has.
    pub fn exits(&self) -> Exits {
        self.exits
    }

    /// Its weights in the form that an [`Engine`](crate::engine::Engine) takes. The engine runs this
    /// architecture on them, at any resolution and any of its exits, and refuses others.
    pub fn weights(&self) -> &Supernet {
        &self.weights
    }

    /// As [`Network::weights`], to train it or to give its card what is known of it.
    pub fn weights_mut(&mut self) -> &mut Supernet {
        &mut self.weights
    }

    /// Its tensors by name, batch-norm statistics included.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        self.weights.layout.unpack(&self.weights.packed)
    }

    /// The tensors as a checkpoint, to be saved.
    pub fn checkpoint(&self) -> Checkpoint {
        self.weights.checkpoint()
    }

    /// Trainable parameters: all its numbers except running statistics.
    pub fn parameters(&self) -> u64 {
        let tensors = self.weights.layout.tensors().iter();
        let trainable = tensors.filter(|t| !t.name.contains(".running_"));
        trainable.map(|t| t.shape.iter().product::<usize>() as u64).sum()
    }
}

/// The weights of a file that holds the network `arch`, read at `exits`.
pub(super) fn load(
    checkpoint: &Checkpoint,
    card: Card,
    family: Option<Family>,
    arch: &Arch,
    exits: Exits,
) -> Result<Supernet, Error> {
    let file = || checkpoint.file().to_path_buf();
    if family.is_some_and(|family| family != arch.family) {
        let what = format!("of family {}: leave --family out", arch.family);
        return Err(Error::OneNetwork { file: file(), what });
    }
    let width = card.width.ok_or_else(|| Error::Card {
        file: Card::path(checkpoint.file()),
        field: "width".into(),
        reason: "the card of a network must say its width multiplier".into(),
    })?;
    let classes = checkpoint.classes(exits.iter().next().filter(|_| arch.family.early_exits))?;
    let layouts = ExitScaling::ALL
        .map(|scaling| Layout::network(Channels::new(width, scaling), classes, arch, exits).0);
    let fits = |layout: &&Layout| {
        let mut tensors = layout.tensors().iter();
        tensors.all(|t| checkpoint.tensor(&t.name).is_some_and(|found| found.shape == t.shape))
    };
    // Where neither fits, packing the first says why.
    let layout = layouts.iter().find(fits).unwrap_or(&layouts[0]).clone();
    let packed = layout.pack(checkpoint)?;
    let notes = checkpoint.notes().to_vec();
    Ok(Supernet { family: arch.family, layout, packed, card, file: file(), notes })
}

/// The first elements of a tensor along every dimension.
fn prefix(tensor: &Tensor, shape: &[usize]) -> Tensor {
    if tensor.shape == shape {
        return tensor.clone();
    }
    let inner = |shape: &[usize]| -> usize { shape.iter().skip(2).product() };
    // Only the first two dimensions ever differ: outputs and inputs.
    let columns = |shape: &[usize]| shape.get(1).map_or(1, |&n| n) * inner(shape);
    let (stored, used) = (columns(&tensor.shape), columns(shape));
    let rows = tensor.data.chunks_exact(stored).take(shape[0]);
    Tensor { shape: shape.to_vec(), data: rows.flat_map(|row| &row[..used]).copied().collect() }
}

/// The depthwise filter `[size, size, channels]` of a block, through the kernel transform as devices
/// compute it.
pub(super) fn filter(packed: &[f32], block: &Block, size: usize) -> Vec<f32> {
    let mut filter = packed[block.depthwise[2]..][..49 * block.channels].to_vec();
    for to in [5, 3].into_iter().filter(|&to| to >= size) {
        let mut y = vec![0.0; to * to * block.channels];
        let params =
            kernel_transform::Params { channels: block.channels as u32, from: to as u32 + 2, to: to as u32 };
        let matrix = &packed[block.matrices[(to - 3) / 2]..][..to.pow(4)];
        // The path that the CPU runs, so that the numbers are the same to the bit.
        let operands = kernel_transform::Args { x: &filter, matrix, y: &mut y };
        kernel_transform::cpu::run(&params, operands, Threads::One);
        filter = y;
    }
    filter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_the_first_along_every_dimension() {
        let tensor = Tensor { shape: vec![3, 4, 1, 1], data: (0..12).map(|i| i as f32).collect() };
        assert_eq!(prefix(&tensor, &[2, 3, 1, 1]).data, [0.0, 1.0, 2.0, 4.0, 5.0, 6.0]);
        let vector = Tensor { shape: vec![4], data: vec![1.0, 2.0, 3.0, 4.0] };
        assert_eq!(prefix(&vector, &[2]).data, [1.0, 2.0]);
    }

    #[test]
    fn weights_that_do_not_have_the_network_say_so() {
        let supernet = crate::supernet::Supernet::open(None, None).unwrap();
        let arch = Arch::largest(supernet.family, 48, Some(1.0));
        let error = Network::extract(&supernet, &arch, Exits::single(&arch)).unwrap_err();
        assert!(error.to_string().contains("width 1"), "{error}");
        let arch = Arch::largest("EE_B".parse().unwrap(), 48, None);
        let error = Network::extract(&supernet, &arch, Exits::single(&arch)).unwrap_err();
        assert!(error.to_string().contains("exits"), "{error}");
    }
}
