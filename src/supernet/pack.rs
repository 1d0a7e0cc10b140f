//! From checkpoint tensors to the packed buffer and back, and the calls that make the derived part.

use super::{Checkpoint, Error, Layout, Packing, Tensor, TensorLayout};
use crate::launch::panels::panelled_index;
use crate::launch::{Region, Slot};
use crate::ops::Call;
use crate::ops::halves::{Format, PER_ELEMENT};
use crate::ops::kernel_transform::{self, KernelTransform, KernelTransformGroup};
use std::collections::BTreeMap;

impl TensorLayout {
    /// Calls `visit(packed, plain)` with the two positions of every element.
    fn positions(&self, mut visit: impl FnMut(usize, usize)) {
        let count: usize = self.shape.iter().product();
        let (first, rest) = (self.shape[0], count / self.shape[0].max(1));
        match self.packing {
            Packing::Flat | Packing::Padded => (0..count).for_each(|i| visit(self.offset + i, i)),
            Packing::Panels => {
                for plain in 0..count {
                    visit(self.offset + panelled_index(rest, plain / rest, plain % rest), plain);
                }
            }
            Packing::Depthwise => {
                for plain in 0..count {
                    visit(self.offset + plain % rest * first + plain / rest, plain);
                }
            }
            Packing::Stem => {
                for plain in 0..count {
                    let (n, c, tap) = (plain / 27, plain / 9 % 3, plain % 9);
                    visit(self.offset + (tap * 3 + c) * first + n, plain);
                }
            }
        }
    }
}

impl Layout {
    /// The packed buffer of a checkpoint's tensors; the derived part is zero.
    ///
    /// # Errors
    /// The first tensor that is missing or of another shape.
    pub fn pack(&self, checkpoint: &Checkpoint) -> Result<Vec<f32>, Error> {
        let mut packed = vec![0.0; self.len()];
        for layout in self.tensors() {
            let tensor = match checkpoint.tensor(&layout.name) {
                // A super-network that was never trained elastically has no transform matrices yet.
                None if layout.name.ends_with("_matrix") && !checkpoint.passes_over(&layout.name) => {
                    &identity(layout.shape[0])
                }
                _ if self.is_network() => checkpoint.require(&layout.name, "the network of its card has")?,
                _ => checkpoint.require(&layout.name, "a super-network of its width has")?,
            };
            if tensor.shape != layout.shape {
                return Err(Error::Shape {
                    file: checkpoint.file().into(),
                    tensor: layout.name.clone(),
                    found: tensor.shape.as_slice().into(),
                    expected: layout.shape.as_slice().into(),
                    why: format!("width multiplier {} and {} classes", self.channels().width, self.classes()),
                });
            }
            layout.positions(|to, from| packed[to] = tensor.data[from]);
        }
        Ok(packed)
    }

    /// The weights of a packed buffer's 1x1 convolutions as rows of 16-bit numbers: what lies behind it
    /// where [`Layout::rows`] are read.
    pub fn pack_rows(&self, packed: &[f32], format: Format) -> Vec<f32> {
        let mut rows = vec![0.0; self.len_with_rows() - self.len()];
        let mut row = Vec::new();
        for panels in self.convolutions() {
            let (cin, to) = (panels.cin, self.rows(&panels, panels.cout).offset - self.len());
            for n in 0..panels.cout {
                row.clear();
                row.extend((0..cin).map(|k| packed[panels.offset + panelled_index(cin, n, k)]));
                let width = cin / PER_ELEMENT;
                rows[to + n * width..][..width].copy_from_slice(&format.pack(&row));
            }
        }
        rows
    }

    /// The tensors of a packed buffer, by name.
    pub fn unpack(&self, packed: &[f32]) -> BTreeMap<String, Tensor> {
        self.tensors().iter().map(|layout| (layout.name.clone(), self.plain(layout, packed))).collect()
    }

    /// One of this layout's tensors, out of a packed buffer.
    pub(super) fn plain(&self, tensor: &TensorLayout, packed: &[f32]) -> Tensor {
        let mut data = vec![0.0; tensor.shape.iter().product()];
        tensor.positions(|from, to| data[to] = packed[from]);
        Tensor { shape: tensor.shape.clone(), data }
    }

    /// Puts the numbers of one of this layout's tensors into a packed buffer.
    pub(super) fn set_plain(&self, tensor: &TensorLayout, plain: &Tensor, packed: &mut [f32]) {
        tensor.positions(|to, from| packed[to] = plain.data[from]);
    }
}

/// The kernel-transform matrix that changes nothing.
pub(super) fn identity(n: usize) -> Tensor {
    let data = (0..n * n).map(|i| if i % (n + 1) == 0 { 1.0 } else { 0.0 }).collect();
    Tensor { shape: vec![n, n], data }
}

/// The calls that fill the derived part, to be run with the packed buffer as the arena.
pub fn derive_calls(layout: &Layout) -> Vec<Call> {
    let slot = |offset: usize, len: usize| Slot { region: Region::Arena, offset, len };
    // A stand-alone network has its filters at their sizes.
    if layout.is_network() {
        return Vec::new();
    }
    // The smallest are made of the middle ones.
    let groups = [5usize, 3].map(|to| {
        let (from, at) = (to + 2, (to - 3) / 2);
        let calls = layout.blocks.iter().map(|block| {
            let filter = |size: usize| slot(block.depthwise[(size - 3) / 2], size * size * block.channels);
            KernelTransform {
                params: kernel_transform::Params {
                    channels: block.channels as u32,
                    from: from as u32,
                    to: to as u32,
                },
                x: filter(from),
                matrix: slot(block.matrices[at], to.pow(4)),
                y: filter(to),
            }
        });
        Call::from(KernelTransformGroup { calls: calls.collect() })
    });
    groups.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn packing_keeps_every_number() {
        let checkpoint = Checkpoint::read(Path::new("checkpoints/ofa_mbv3_w025_digits.safetensors")).unwrap();
        let supernet =
            super::super::Supernet::from_checkpoint(&checkpoint, Default::default(), None).unwrap();
        let back = supernet.layout.unpack(&supernet.packed);
        for (name, tensor) in &back {
            assert_eq!(Some(tensor), checkpoint.tensor(name), "{name}");
        }
        assert_eq!(back.len(), checkpoint.names().count());
    }

    #[test]
    fn a_misshapen_or_missing_tensor_is_named() {
        let checkpoint = Checkpoint::read(Path::new("checkpoints/ofa_mbv3_w025_digits.safetensors")).unwrap();
        let layout =
            super::super::Supernet::from_checkpoint(&checkpoint, Default::default(), None).unwrap().layout;
        let mut tensors = layout.unpack(&vec![0.0; layout.len()]);
        let name = "blocks.7.conv.depth_conv.bn.bn.bias";
        tensors.get_mut(name).unwrap().shape = vec![3];
        let error = layout.pack(&Checkpoint::from_tensors("x.safetensors", tensors.clone())).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        tensors.remove(name);
        let error = layout.pack(&Checkpoint::from_tensors("x.safetensors", tensors)).unwrap_err();
        assert!(error.to_string().contains("has no tensor `blocks.7.conv.depth_conv.bn.bn.bias`"), "{error}");
    }
}
