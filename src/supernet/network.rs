//! The layout of one stand-alone sub-network: its own tensors only, at their own sizes.
//!
//! Names are those of the once-for-all package's static networks: as in the super-network without
//! the doubled `conv.conv` and `bn.bn`, the blocks that are there numbered one behind the other, and
//! no kernel-transform matrices, since every depthwise filter has its real size. Exits and parallel
//! branches keep their names.
//!
//! The lowering reads this layout as it reads a super-network's, so a stand-alone network runs on
//! every engine. Places of tensors that are not there are empty and never read.

use super::layout::{
    BatchNorm, Block, Builder, HeadLayout, Layout, Packing, Panels, Parts, Squeeze, Transform,
};
use crate::space::Arch;
use crate::space::backbone::{Channels, Head, LAYERS, MAX_DEPTH, STAGES};
use crate::space::walk::{Exits, Layer, head, walk};

const NO_PANELS: Panels = Panels { offset: 0, cin: 0, cout: 0 };
const NO_NORM: BatchNorm = BatchNorm { gamma: 0, beta: 0, mean: 0, variance: 0 };
const NO_BLOCK: Block = Block {
    expand: NO_PANELS,
    expand_bn: NO_NORM,
    depthwise: [0; 3],
    matrices: [0; 2],
    channels: 0,
    depthwise_bn: NO_NORM,
    squeeze: None,
    project: NO_PANELS,
    project_bn: NO_NORM,
    parallel: None,
};
const NO_HEAD: HeadLayout = HeadLayout {
    head: Head { cin: 0, expand: 0, mix: 0 },
    expand: NO_PANELS,
    expand_bn: NO_NORM,
    mix: NO_PANELS,
    classifier: NO_PANELS,
    classifier_bias: 0,
};

impl Layout {
    /// The layout of `arch` read at `exits`, and for each of its tensors where the numbers come from.
    pub(super) fn network(
        channels: Channels,
        classes: usize,
        arch: &Arch,
        exits: Exits,
    ) -> (Layout, Vec<Source>) {
        let arch = arch.canonical();
        let mut b = Network { builder: Builder::default(), sources: Vec::new() };
        let first = b.builder.first_layers(&channels);
        b.sources = b.builder.tensors.iter().map(|t| Source::Prefix(t.name.clone())).collect();
        let mut blocks = vec![NO_BLOCK; LAYERS];
        let layers = walk(&channels, &arch).take_while(|l| l.index < (exits.last() + 1) * MAX_DEPTH);
        for (number, layer) in layers.enumerate() {
            blocks[layer.index] = b.block(number + 1, &layer);
        }
        let early = arch.family.early_exits;
        let mut heads = vec![NO_HEAD; STAGES];
        for exit in exits.iter() {
            let prefix = if early { format!("exits.{exit}.") } else { String::new() };
            heads[exit] = b.head(&prefix, head(&channels, arch.family, exit), classes);
        }
        let parts = Parts { head: !early, exits: early, parallel: arch.family.parallel };
        let plain = (!early).then_some(heads[STAGES - 1]);
        let exit_heads = if early { heads } else { Vec::new() };
        let Network { builder, sources } = b;
        let layout = Layout {
            channels,
            classes,
            parts,
            derived: builder.len,
            len: builder.len,
            tensors: builder.tensors,
            first,
            blocks,
            head: plain,
            exits: exit_heads,
            only: Some((arch, exits)),
        };
        (layout, sources)
    }
}

/// Where the numbers of a tensor of a stand-alone network are in the super-network.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    /// The first elements along every dimension of this tensor.
    Prefix(String),
    /// The first channels of the depthwise filter of this size of layer `index`.
    Depthwise { index: usize, size: usize },
}

struct Network {
    builder: Builder,
    sources: Vec<Source>,
}

impl Network {
    fn convolution(&mut self, name: &str, source: &str, cout: usize, cin: usize) -> Panels {
        self.sources.push(Source::Prefix(format!("{source}.weight")));
        self.builder.convolution(name, cout, cin)
    }

    fn bias(&mut self, name: &str, source: &str, len: usize) -> usize {
        self.sources.push(Source::Prefix(format!("{source}.bias")));
        self.builder.add(&format!("{name}.bias"), &[len], Packing::Flat)
    }

    fn batch_norm(&mut self, name: &str, source: &str, channels: usize) -> BatchNorm {
        for part in ["weight", "bias", "running_mean", "running_var"] {
            self.sources.push(Source::Prefix(format!("{source}.{part}")));
        }
        self.builder.batch_norm(name, channels)
    }

    /// Block `number` of the network.
    fn block(&mut self, number: usize, layer: &Layer) -> Block {
        let &Layer { index, cin, cout, mid, kernel, .. } = layer;
        let mut block = NO_BLOCK;
        let (to, from) = (format!("blocks.{number}.conv"), format!("blocks.{}.conv", index + 1));
        let names = |part: &str| (format!("{to}.{part}"), format!("{from}.{part}"));
        if layer.branches.mbconv {
            let (to, from) = names("inverted_bottleneck");
            block.expand = self.convolution(&format!("{to}.conv"), &format!("{from}.conv.conv"), mid, cin);
            block.expand_bn = self.batch_norm(&format!("{to}.bn"), &format!("{from}.bn.bn"), mid);
            let (to, from) = names("depth_conv");
            self.sources.push(Source::Depthwise { index, size: kernel });
            let shape = [mid, 1, kernel, kernel];
            block.depthwise[(kernel - 3) / 2] =
                self.builder.add(&format!("{to}.conv.weight"), &shape, Packing::Depthwise);
            block.channels = mid;
            block.depthwise_bn = self.batch_norm(&format!("{to}.bn"), &format!("{from}.bn.bn"), mid);
            block.squeeze = layer.squeeze.map(|hidden| {
                let [reduce, expand] =
                    ["reduce", "expand"].map(|part| names(&format!("depth_conv.se.fc.{part}")));
                Squeeze {
                    reduce: self.convolution(&reduce.0, &reduce.1, hidden, mid),
                    reduce_bias: self.bias(&reduce.0, &reduce.1, hidden),
                    expand: self.convolution(&expand.0, &expand.1, mid, hidden),
                    expand_bias: self.bias(&expand.0, &expand.1, mid),
                }
            });
            let (to, from) = names("point_linear");
            block.project = self.convolution(&format!("{to}.conv"), &format!("{from}.conv.conv"), cout, mid);
            block.project_bn = self.batch_norm(&format!("{to}.bn"), &format!("{from}.bn.bn"), cout);
        }
        let (to, from) = (format!("blocks.{number}.parallel"), format!("blocks.{}.parallel", index + 1));
        let names = |part: &str| (format!("{to}.{part}"), format!("{from}.{part}"));
        let mut pointwise = (NO_PANELS, NO_NORM);
        let mut transform = Transform { conv: None, bn: NO_NORM };
        if layer.branches.pointwise {
            let [conv, bn] = ["pointwise.conv", "pointwise.bn"].map(names);
            pointwise.0 = self.convolution(&conv.0, &conv.1, cout, cin);
            pointwise.1 = self.batch_norm(&bn.0, &bn.1, cout);
        }
        if layer.branches.transform {
            let [conv, bn] = ["transform.conv", "transform.bn"].map(names);
            transform.conv = (cin != cout).then(|| {
                let panels = self.convolution(&conv.0, &conv.1, cout, cin);
                (panels, self.bias(&conv.0, &conv.1, cout))
            });
            transform.bn = self.batch_norm(&bn.0, &bn.1, cout);
        }
        if layer.branches.pointwise || layer.branches.transform {
            block.parallel = Some((pointwise, transform));
        }
        block
    }

    fn head(&mut self, prefix: &str, head: Head, classes: usize) -> HeadLayout {
        let first = self.builder.tensors.len();
        let layout = self.builder.head(prefix, head, classes);
        let added = &self.builder.tensors[first..];
        self.sources.extend(added.iter().map(|t| Source::Prefix(t.name.clone())));
        layout
    }
}
