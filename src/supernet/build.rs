//! The layouts of super-networks and of stand-alone networks, made tensor by tensor.
//!
//! Both are made by visiting networks. A super-network has the tensors of its largest ones, and the matrices of the
//! kernel transform. A stand-alone network has its own tensors only, at their own sizes, and no matrices, since
//! every depthwise filter has its real size.
//!
//! The lowering reads the layout of a network as it reads a super-network's, so a stand-alone network runs on every
//! engine. Places of tensors that are not there are empty and never read.

use super::init::parts_of;
use super::layout::{
    BatchNorm, Block, ConvolutionLayout, Filters, FirstLayers, HeadLayout, Layout, Packing, Panels, Parts,
    Squeeze, TensorLayout,
};
use super::names::{NORM, Names, Unit};
use crate::launch::panels::panelled_len;
use crate::launch::{PANEL, Slot};
use crate::space::backbone::{Channels, LAYERS, STAGES};
use crate::space::visit::{self, Convolution, Kind, Linear, LinearPlace, Path, Place, Visitor};
use crate::space::walk::{self, Exit, Exits, Layer, Part};
use crate::space::{Arch, Family, MIN_RESOLUTION};
use std::collections::BTreeMap;

impl Layout {
    /// The layout of a super-network with these channels, classes and parts.
    pub fn new(channels: Channels, classes: usize, parts: Parts) -> Layout {
        let largest = |early_exits| {
            let family = Family { early_exits, parallel: parts.parallel, ..Family::SE_B };
            let arch = Arch::largest(family, MIN_RESOLUTION, None);
            walk::parts(&channels, &arch, Exits::up_to(&arch)).collect::<Vec<Part>>().into_iter()
        };
        let plain = largest(false).filter(|part| parts.head || !ends(part));
        let exits = largest(true).filter(|part| parts.exits && ends(part));
        let mut builder = Builder::new(Names::Shared, channels, classes, parts);
        builder.all(plain.chain(exits));
        let mut layout = builder.layout;
        // The derived filters: 3x3 and 5x5 of every layer.
        layout.derived = layout.len;
        for block in &mut layout.blocks {
            for (size, offset) in [3, 5].into_iter().zip(&mut block.depthwise) {
                *offset = layout.len;
                layout.len += size * size * block.channels;
            }
        }
        layout
    }

    /// The layout of `arch` read at `exits`, and for each of its tensors where the numbers come from.
    pub(super) fn network(
        channels: Channels,
        classes: usize,
        arch: &Arch,
        exits: Exits,
    ) -> (Layout, Vec<Source>) {
        let arch = arch.canonical();
        let parts = parts_of(arch.family);
        let mut all: Vec<Part> = walk::parts(&channels, &arch, exits).collect();
        // As in a super-network, the exits are behind all layers.
        all.sort_by_key(ends);
        let mut builder = Builder::new(Names::Of(&arch), channels, classes, parts);
        builder.all(all.into_iter());
        let Builder { sources, layout, .. } = builder;
        (Layout { derived: layout.len, only: Some((arch, exits)), ..layout }, sources)
    }
}

fn ends(part: &Part) -> bool {
    matches!(part, Part::Exit(_))
}

/// Where the numbers of a tensor of a stand-alone network are in the super-network.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    /// The first elements along every dimension of this tensor.
    Prefix(String),
    /// The first channels of the depthwise filter of this size of layer `index`.
    Depthwise { index: usize, size: usize },
}

/// Adds the tensors of what it is shown one behind the other, each at a multiple of 16 elements.
struct Builder<'a> {
    names: Names<'a>,
    sources: Vec<Source>,
    layout: Layout,
}

impl<'a> Builder<'a> {
    fn new(names: Names<'a>, channels: Channels, classes: usize, parts: Parts) -> Builder<'a> {
        let layout = Layout {
            channels,
            classes,
            parts,
            tensors: Vec::new(),
            derived: 0,
            len: 0,
            only: None,
            first: FirstLayers::default(),
            blocks: vec![Block::default(); LAYERS],
            beside: BTreeMap::new(),
            head: parts.head.then(HeadLayout::default),
            exits: vec![HeadLayout::default(); if parts.exits { STAGES } else { 0 }],
        };
        Builder { names, sources: Vec::new(), layout }
    }

    fn all(&mut self, parts: impl Iterator<Item = Part>) {
        let mut path = Path::new(());
        // Sums of maps have no tensors, whatever the family.
        parts.for_each(|part| path.step(&part, Family::SE_B, self));
    }

    fn add(&mut self, unit: Unit, part: &str, shape: &[usize], packing: Packing) -> usize {
        let count: usize = shape.iter().product();
        let len = match packing {
            Packing::Panels => panelled_len(shape[0], count / shape[0]),
            Packing::Padded => count.next_multiple_of(8),
            _ => count,
        };
        self.sources.push(match unit {
            Unit::Convolution(Place::Filter(index)) => Source::Depthwise { index, size: shape[2] },
            _ => Source::Prefix(Names::Shared.tensor(unit, part)),
        });
        let (name, shape, offset) = (self.names.tensor(unit, part), shape.into(), self.layout.len);
        self.layout.tensors.push(TensorLayout { name, shape, packing, offset, len });
        self.layout.len += len.next_multiple_of(PANEL);
        offset
    }

    fn batch_norm(&mut self, place: Place, channels: usize) -> BatchNorm {
        let [gamma, beta, mean, variance] =
            NORM.map(|part| self.add(Unit::Norm(place), part, &[channels], Packing::Flat));
        BatchNorm { gamma, beta, mean, variance }
    }

    fn panels(&mut self, unit: Unit, cout: usize, cin: usize) -> Panels {
        Panels { offset: self.add(unit, "weight", &[cout, cin, 1, 1], Packing::Panels), cin, cout }
    }

    fn bias(&mut self, unit: Unit, cout: usize) -> usize {
        self.add(unit, "bias", &[cout], Packing::Flat)
    }

    fn head(&mut self, exit: Option<usize>) -> &mut HeadLayout {
        match exit {
            Some(exit) => &mut self.layout.exits[exit],
            None => self.layout.head.get_or_insert_default(),
        }
    }
}

impl Visitor for Builder<'_> {
    type Map = ();
    type Gate = ();

    fn classes(&self) -> usize {
        self.layout.classes
    }

    fn convolution(&mut self, what: &Convolution, (): &(), _: Option<&()>, _: Option<&()>) {
        let &Convolution { place, kind, kernel, cin, cout, .. } = what;
        let unit = Unit::Convolution(place);
        let (mut filter, mut panels) = (0, Panels::default());
        let square = |cin| [cout, cin, kernel, kernel];
        match kind {
            Kind::Dense => filter = self.add(unit, "weight", &square(cin), Packing::Stem),
            Kind::Depthwise => filter = self.add(unit, "weight", &square(1), Packing::Depthwise),
            Kind::Pointwise => panels = self.panels(unit, cout, cin),
            Kind::Identity => {}
        }
        let bias = what.bias.then(|| self.bias(unit, cout));
        if let (Place::Filter(index), Names::Shared) = (place, self.names) {
            let unit = Unit::KernelTransform(index);
            self.layout.blocks[index].matrices = [
                self.add(unit, "5to3_matrix", &[9, 9], Packing::Flat),
                self.add(unit, "7to5_matrix", &[25, 25], Packing::Flat),
            ];
        }
        let bn = self.batch_norm(place, cout);
        let Layout { first, blocks, .. } = &mut self.layout;
        match place {
            Place::Stem => (first.stem, first.stem_bn) = (filter, bn),
            Place::FirstFilter => (first.depthwise, first.depthwise_bn) = (filter, bn),
            Place::FirstProject => (first.project, first.project_bn) = (panels, bn),
            Place::Expand(index) => (blocks[index].expand, blocks[index].expand_bn) = (panels, bn),
            Place::Filter(index) => {
                let block = &mut blocks[index];
                block.depthwise[(kernel - 3) / 2] = filter;
                (block.channels, block.depthwise_bn) = (cout, bn);
            }
            Place::Project(index) => (blocks[index].project, blocks[index].project_bn) = (panels, bn),
            Place::Head(exit) => {
                let head = self.head(exit);
                (head.expand, head.expand_bn) = (panels, bn);
            }
            beside => {
                let filters = if kind == Kind::Identity { Filters::None } else { Filters::Panels(panels) };
                let bias = bias.map(|bias| Slot::weights(bias, cout));
                self.layout.beside.insert(beside, ConvolutionLayout { filters, bn, bias });
            }
        }
    }

    fn squeeze(&mut self, what: &visit::Squeeze, (): &()) {
        let &visit::Squeeze { index, channels, hidden, .. } = what;
        let (reduce, expand) = (Unit::Reduce(index), Unit::Expand(index));
        self.layout.blocks[index].squeeze = Some(Squeeze {
            reduce: self.panels(reduce, hidden, channels),
            reduce_bias: self.bias(reduce, hidden),
            expand: self.panels(expand, channels, hidden),
            expand_bias: self.bias(expand, channels),
        });
    }

    fn max_pool(&mut self, _: &Layer, (): &()) {}

    fn sum(&mut self, _: &Layer, _: &[()]) {}

    fn mean(&mut self, exit: &Exit, (): &()) {
        self.head(exit.number()).head = exit.head;
    }

    fn linear(&mut self, _: &Exit, what: &Linear, (): &()) {
        let &Linear { place, exit, cin, cout, .. } = what;
        let unit = Unit::Linear(exit, place);
        match place {
            LinearPlace::Mix => self.head(exit).mix = self.panels(unit, cout, cin),
            LinearPlace::Classifier => {
                let offset = self.add(unit, "weight", &[cout, cin], Packing::Panels);
                let bias = self.add(unit, "bias", &[cout], Packing::Padded);
                // The engine computes a multiple of 8 logits; those behind the last class have zero weights.
                let classifier = Panels { offset, cin, cout: cout.next_multiple_of(8) };
                let head = self.head(exit);
                (head.classifier, head.classifier_bias) = (classifier, bias);
            }
        }
    }

    fn logits(&mut self, _: &Exit, (): ()) {}
}
