//! A network taken apart into operators, once for all who make something of it.
//!
//! A [`Visitor`] is told every operator with its shapes, in the order in which they may run, and says what stands
//! for a feature map: a place in a buffer for plans, a node of a tape for training, a name for ONNX, nothing for
//! costs. How operators make up a part of a network (the first layers, an elastic layer, a head) and parts a network
//! is written here, as the trait's provided methods. A visitor that knows a better way of running a part, such as a
//! whole MBConv in one kernel, replaces that method and calls the others for the rest.
//!
//! A new kind of layer is another provided method, made of the operators that there are, or of one more.

use super::backbone::{Activation, Channels, strided};
use super::walk::{Branches, Exit, Exits, First, Layer, Part, parts};
use super::{Arch, Family};

/// Which convolution of a super-network it is: where its weights and its batch norm are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// The stem's.
    Stem,
    /// The filter of the fixed first block.
    FirstFilter,
    /// Its projection.
    FirstProject,
    /// The expansion of a layer (its index) of the 20.
    Expand(usize),
    /// A layer's filter.
    Filter(usize),
    /// A layer's projection.
    Project(usize),
    /// The 1x1 branch of a layer.
    Pointwise(usize),
    /// The transform branch of a layer.
    Transform(usize),
    /// The first 1x1 convolution of an exit (from 0), or of the plain head.
    Head(Option<usize>),
}

/// What a convolution does with channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Every output channel reads every input channel: the stem's 3x3.
    Dense,
    /// The same, pixel by pixel.
    Pointwise,
    /// Every channel has a filter of its own.
    Depthwise,
    /// There is nothing to convolve: only the batch norm and what follows it.
    Identity,
}

/// A convolution with the batch norm and the activation behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// Which it is.
    pub place: Place,
    /// What it does with channels.
    pub kind: Kind,
    /// Side of the filter.
    pub kernel: usize,
    /// Pixels from one place of the filter to the next.
    pub stride: usize,
    /// Input channels.
    pub cin: usize,
    /// Output channels.
    pub cout: usize,
    /// Side of the input map.
    pub side_in: usize,
    /// Side of the output map.
    pub side_out: usize,
    /// Whether it has a bias of its own, in front of the batch norm.
    pub bias: bool,
    /// Behind the batch norm.
    pub activation: Activation,
}

impl Convolution {
    /// Weights of one output channel.
    #[inline]
    pub fn weights_of_output(&self) -> usize {
        let pixels = self.kernel * self.kernel;
        match self.kind {
            Kind::Dense | Kind::Pointwise => pixels * self.cin,
            Kind::Depthwise => pixels,
            Kind::Identity => 0,
        }
    }

    /// Elements of its input that it reads, for one image: of a strided 1x1 convolution only every other pixel.
    #[inline]
    pub fn elements_in(&self) -> usize {
        let side = if self.kind == Kind::Pointwise { self.side_out } else { self.side_in };
        self.cin * side * side
    }

    /// Elements of its output, for one image.
    #[inline]
    pub fn elements_out(&self) -> usize {
        self.cout * self.side_out * self.side_out
    }
}

/// Squeeze-and-excitation of a map: the means of its channels, two linear layers, and a gate a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Squeeze {
    /// The layer, of the 20.
    pub index: usize,
    /// Side of the map.
    pub side: usize,
    /// Its channels.
    pub channels: usize,
    /// Hidden units.
    pub hidden: usize,
}

/// Which linear layer of a head it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinearPlace {
    /// The second 1x1 convolution, on pooled features.
    Mix,
    /// The last layer.
    Classifier,
}

/// A linear layer on the features of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Linear {
    /// Which it is, of a head.
    pub place: LinearPlace,
    /// That exit (from 0), or the plain head.
    pub exit: Option<usize>,
    /// Input features.
    pub cin: usize,
    /// Output features.
    pub cout: usize,
    /// Whether it has a bias.
    pub bias: bool,
    /// Behind it.
    pub activation: Activation,
}

impl Linear {
    /// Output features as they are stored: filled up with zeros to a multiple of 8.
    pub fn stored(&self) -> usize {
        self.cout.next_multiple_of(8)
    }
}

/// Whoever makes something of a network, operator by operator.
///
/// The methods without a body are the operators. What a method is given as [`Visitor::Map`] may be read again later
/// until [`Visitor::release`] says otherwise.
pub trait Visitor {
    /// What stands for a feature map.
    type Map: Clone;
    /// What stands for the gates of a map's channels.
    type Gate: Clone;

    /// The classes of the network.
    fn classes(&self) -> usize;

    /// A convolution of `x`, whose channels may have gates, its batch norm and activation, and `added` added to that.
    fn convolution(
        &mut self,
        what: &Convolution,
        x: &Self::Map,
        gate: Option<&Self::Gate>,
        added: Option<&Self::Map>,
    ) -> Self::Map;

    /// The gates of squeeze-and-excitation of `x`.
    fn squeeze(&mut self, what: &Squeeze, x: &Self::Map) -> Self::Gate;

    /// The 2x2 maximum of `x` in ceil mode, before the transform branch of a layer with a stride.
    fn max_pool(&mut self, layer: &Layer, x: &Self::Map) -> Self::Map;

    /// The sum of maps with the shape of a layer's output: dense skips.
    fn sum(&mut self, layer: &Layer, terms: &[Self::Map]) -> Self::Map;

    /// The means of the channels of `x`, which are those of a head's first convolution.
    fn mean(&mut self, exit: &Exit, x: &Self::Map) -> Self::Map;

    /// A linear layer of a head.
    fn linear(&mut self, exit: &Exit, what: &Linear, x: &Self::Map) -> Self::Map;

    /// The logits of a head are there.
    fn logits(&mut self, exit: &Exit, logits: Self::Map);

    /// A map that nothing reads any more.
    #[inline]
    fn release(&mut self, _map: Self::Map) {}

    /// Gates that nothing reads any more.
    #[inline]
    fn release_gate(&mut self, _gate: Self::Gate) {}

    /// The last of the terms of a layer, or of the fixed first block, is added: `y` is its output.
    #[inline]
    fn joined(&mut self, _part: &Part, y: Self::Map) -> Self::Map {
        y
    }

    /// The stem and the fixed first block.
    fn first(&mut self, first: &First, image: &Self::Map) -> Self::Map {
        let stem = self.convolution(&first.convolution(), image, None, None);
        let y = self.first_block(first, &stem);
        let y = self.joined(&Part::First(*first), y);
        self.release(stem);
        y
    }

    /// The fixed first block.
    fn first_block(&mut self, first: &First, stem: &Self::Map) -> Self::Map {
        let filtered = self.convolution(&first.filter(), stem, None, None);
        let shortcut = first.shortcut().then_some(stem);
        let y = self.convolution(&first.project(), &filtered, None, shortcut);
        self.release(filtered);
        y
    }

    /// An elastic layer.
    fn layer(&mut self, layer: &Layer, x: &Self::Map) -> Self::Map {
        let y = self.branch_by_branch(layer, x);
        self.joined(&Part::Layer(*layer), y)
    }

    /// An elastic layer as the sum of its branches, one after the other.
    fn branch_by_branch(&mut self, layer: &Layer, x: &Self::Map) -> Self::Map {
        let shortcut = layer.shortcut.then_some(x);
        let mbconv = layer.branches.mbconv.then(|| self.mbconv(layer, x, shortcut));
        match (self.beside(layer, x, mbconv.as_ref()), mbconv) {
            (Some(sum), mbconv) => {
                mbconv.into_iter().for_each(|map| self.release(map));
                sum
            }
            (None, mbconv) => mbconv.expect("a layer has at least one branch"),
        }
    }

    /// The sum of the branches beside an MBConv and of `added`; none where none of them runs.
    fn beside(&mut self, layer: &Layer, x: &Self::Map, added: Option<&Self::Map>) -> Option<Self::Map> {
        let Branches { mbconv: _, pointwise, transform } = layer.branches;
        let mut sum = None;
        if pointwise {
            sum = Some(self.convolution(&layer.pointwise(), x, None, added));
        }
        if transform {
            let y = self.transform(layer, x, sum.as_ref().or(added));
            sum.replace(y).into_iter().for_each(|before| self.release(before));
        }
        sum
    }

    /// The MBConv of a layer, with `added` added to its output.
    fn mbconv(&mut self, layer: &Layer, x: &Self::Map, added: Option<&Self::Map>) -> Self::Map {
        let wide = self.convolution(&layer.expand(), x, None, None);
        self.behind_expansion(layer, wide, added)
    }

    /// An MBConv behind its expansion, which it releases.
    fn behind_expansion(&mut self, layer: &Layer, wide: Self::Map, added: Option<&Self::Map>) -> Self::Map {
        let (deep, gate) = self.filtered(layer, wide);
        let y = self.convolution(&layer.project(), &deep, gate.as_ref(), added);
        gate.into_iter().for_each(|gate| self.release_gate(gate));
        self.release(deep);
        y
    }

    /// The filter of an MBConv on its expanded map, which it releases, and the gates of what it leaves.
    fn filtered(&mut self, layer: &Layer, wide: Self::Map) -> (Self::Map, Option<Self::Gate>) {
        let deep = self.convolution(&layer.filter(), &wide, None, None);
        self.release(wide);
        let gate = layer.squeeze_excite().map(|what| self.squeeze(&what, &deep));
        (deep, gate)
    }

    /// The transform branch of a layer, with `added` added to it.
    fn transform(&mut self, layer: &Layer, x: &Self::Map, added: Option<&Self::Map>) -> Self::Map {
        let pooled = (layer.stride > 1).then(|| self.max_pool(layer, x));
        let y = self.convolution(&layer.transform(), pooled.as_ref().unwrap_or(x), None, added);
        pooled.into_iter().for_each(|map| self.release(map));
        y
    }

    /// A head, down to its logits.
    fn exit(&mut self, exit: &Exit, x: &Self::Map) {
        self.head(exit, x);
    }

    /// A head, operator by operator.
    fn head(&mut self, exit: &Exit, x: &Self::Map) {
        let wide = self.convolution(&exit.expand(), x, None, None);
        let pooled = self.mean(exit, &wide);
        self.release(wide);
        self.behind_pool(exit, pooled);
    }

    /// A head behind its pooled features, which it releases.
    fn behind_pool(&mut self, exit: &Exit, pooled: Self::Map) {
        let mixed = self.linear(exit, &exit.mix(), &pooled);
        self.release(pooled);
        let classes = self.classes();
        let logits = self.linear(exit, &exit.classifier(classes), &mixed);
        self.release(mixed);
        self.logits(exit, logits);
    }
}

/// Where a walk stands: the newest output, and the outputs of the stage's first two layers where later layers add
/// them.
#[derive(Debug, Clone, Copy)]
pub struct Path<M> {
    /// The newest output.
    pub x: M,
    earlier: [Option<M>; 2],
}

impl<M: Clone> Path<M> {
    /// Before the first part.
    pub fn new(image: M) -> Path<M> {
        Path { x: image, earlier: [None, None] }
    }

    /// The maps that are kept.
    pub fn maps(&self) -> impl Iterator<Item = &M> {
        std::iter::once(&self.x).chain(self.earlier.iter().flatten())
    }

    /// Before a layer: the maps kept of the stage before are of no more use.
    pub fn enter(&mut self, layer: &Layer, visitor: &mut impl Visitor<Map = M>) {
        if layer.position == 0 {
            self.earlier.iter_mut().filter_map(Option::take).for_each(|map| visitor.release(map));
        }
    }

    /// Behind a layer's output `y`: the dense skips that end there, where the family has them.
    pub fn behind(&mut self, layer: &Layer, y: M, dense: bool, visitor: &mut impl Visitor<Map = M>) {
        let input = std::mem::replace(&mut self.x, y);
        // The input is needed no more, unless it is an output that a later skip adds.
        match layer.position {
            position @ (1 | 2) if dense => self.earlier[position - 1] = Some(input),
            _ => visitor.release(input),
        }
        let skips: Vec<M> = layer.skips(dense).filter_map(|term| self.earlier[term - 1].clone()).collect();
        if !skips.is_empty() {
            let terms: Vec<M> = std::iter::once(self.x.clone()).chain(skips).collect();
            let sum = visitor.sum(layer, &terms);
            visitor.release(std::mem::replace(&mut self.x, sum));
        }
    }

    /// Goes through a part of a network.
    pub fn step(&mut self, part: &Part, family: Family, visitor: &mut impl Visitor<Map = M>) {
        match part {
            Part::First(first) => self.x = visitor.first(first, &self.x),
            Part::Layer(layer) => {
                self.enter(layer, visitor);
                let y = visitor.layer(layer, &self.x);
                self.behind(layer, y, family.dense, visitor);
            }
            Part::Exit(exit) => visitor.exit(exit, &self.x),
        }
    }
}

/// Shows a visitor `arch`, read at `exits`, from its images on.
pub fn visit<V: Visitor>(visitor: &mut V, channels: &Channels, arch: &Arch, exits: Exits, image: V::Map) {
    let mut path = Path::new(image);
    for part in parts(channels, arch, exits) {
        path.step(&part, arch.family, visitor);
    }
}

impl Part {
    /// The convolutions of a part, each with a batch norm: in the order in which a branch that reads the input comes
    /// before what is made of it.
    pub fn convolutions(&self) -> impl Iterator<Item = Convolution> + use<> {
        let all = match self {
            Part::First(first) => {
                [Some(first.convolution()), None, None, Some(first.filter()), Some(first.project())]
            }
            Part::Layer(layer) => {
                let Branches { mbconv, pointwise, transform } = layer.branches;
                [
                    mbconv.then(|| layer.expand()),
                    pointwise.then(|| layer.pointwise()),
                    transform.then(|| layer.transform()),
                    mbconv.then(|| layer.filter()),
                    mbconv.then(|| layer.project()),
                ]
            }
            Part::Exit(exit) => [Some(exit.expand()), None, None, None, None],
        };
        all.into_iter().flatten()
    }
}

impl First {
    /// Whether the fixed first block adds its input to its output.
    pub fn shortcut(&self) -> bool {
        self.stem == self.cout
    }

    /// The stem.
    #[inline]
    pub fn convolution(&self) -> Convolution {
        Convolution {
            place: Place::Stem,
            kind: Kind::Dense,
            kernel: 3,
            stride: 2,
            cin: 3,
            cout: self.stem,
            side_in: self.image,
            side_out: self.side,
            bias: false,
            activation: Activation::HSwish,
        }
    }

    /// The filter of the fixed first block.
    #[inline]
    pub fn filter(&self) -> Convolution {
        Convolution {
            place: Place::FirstFilter,
            kind: Kind::Depthwise,
            kernel: 3,
            stride: 1,
            cin: self.stem,
            cout: self.stem,
            side_in: self.side,
            side_out: self.side,
            bias: false,
            activation: Activation::Relu,
        }
    }

    /// Its projection.
    #[inline]
    pub fn project(&self) -> Convolution {
        let shape = (self.stem, self.cout);
        Convolution::pointwise(Place::FirstProject, shape, self.side, 1, Activation::None)
    }
}

impl Convolution {
    #[inline]
    fn pointwise(
        place: Place,
        (cin, cout): (usize, usize),
        side: usize,
        stride: usize,
        activation: Activation,
    ) -> Convolution {
        Convolution {
            place,
            kind: Kind::Pointwise,
            kernel: 1,
            stride,
            cin,
            cout,
            side_in: side,
            side_out: strided(side, stride),
            bias: false,
            activation,
        }
    }
}

impl Layer {
    /// The expansion of the MBConv.
    #[inline]
    pub fn expand(&self) -> Convolution {
        let (place, shape) = (Place::Expand(self.index), (self.cin, self.mid));
        Convolution::pointwise(place, shape, self.side_in, 1, self.activation)
    }

    /// The filter of the MBConv.
    #[inline]
    pub fn filter(&self) -> Convolution {
        Convolution {
            place: Place::Filter(self.index),
            kind: Kind::Depthwise,
            kernel: self.kernel,
            stride: self.stride,
            cin: self.mid,
            cout: self.mid,
            side_in: self.side_in,
            side_out: self.side_out,
            bias: false,
            activation: self.activation,
        }
    }

    /// The gates of what the filter leaves, where the stage has them.
    pub fn squeeze_excite(&self) -> Option<Squeeze> {
        let of = |hidden| Squeeze { index: self.index, side: self.side_out, channels: self.mid, hidden };
        self.squeeze.map(of)
    }

    /// The projection of the MBConv.
    #[inline]
    pub fn project(&self) -> Convolution {
        let (place, shape) = (Place::Project(self.index), (self.mid, self.cout));
        Convolution::pointwise(place, shape, self.side_out, 1, Activation::None)
    }

    /// The 1x1 branch.
    #[inline]
    pub fn pointwise(&self) -> Convolution {
        let (place, shape) = (Place::Pointwise(self.index), (self.cin, self.cout));
        Convolution::pointwise(place, shape, self.side_in, self.stride, self.activation)
    }

    /// The transform branch, behind its pooling: a 1x1 convolution with a bias where channels change.
    #[inline]
    pub fn transform(&self) -> Convolution {
        let (place, shape) = (Place::Transform(self.index), (self.cin, self.cout));
        let bias = self.cin != self.cout;
        let kind = if bias { Kind::Pointwise } else { Kind::Identity };
        Convolution { kind, bias, ..Convolution::pointwise(place, shape, self.side_out, 1, self.activation) }
    }
}

impl Exit {
    /// Its number among the exits, from 0; none of the plain head.
    pub fn number(&self) -> Option<usize> {
        self.early.then_some(self.stage)
    }

    /// The first 1x1 convolution.
    #[inline]
    pub fn expand(&self) -> Convolution {
        let (place, shape) = (Place::Head(self.number()), (self.head.cin, self.head.expand));
        Convolution::pointwise(place, shape, self.side, 1, Activation::HSwish)
    }

    /// The second, on pooled features.
    pub fn mix(&self) -> Linear {
        Linear {
            place: LinearPlace::Mix,
            exit: self.number(),
            cin: self.head.expand,
            cout: self.head.mix,
            bias: false,
            activation: Activation::HSwish,
        }
    }

    /// The last layer.
    pub fn classifier(&self, classes: usize) -> Linear {
        Linear {
            place: LinearPlace::Classifier,
            exit: self.number(),
            cin: self.head.mix,
            cout: classes,
            bias: true,
            activation: Activation::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ExitScaling, Space};
    use super::*;
    use crate::random::stream;
    use crate::space::sample::{Policy, sample};

    /// The convolutions that a visitor is shown.
    #[derive(Default)]
    struct Shown(Vec<Convolution>);

    impl Visitor for Shown {
        type Map = ();
        type Gate = ();

        fn classes(&self) -> usize {
            10
        }

        fn convolution(&mut self, what: &Convolution, (): &(), _: Option<&()>, _: Option<&()>) {
            self.0.push(*what);
        }

        fn squeeze(&mut self, _: &Squeeze, (): &()) {}
        fn max_pool(&mut self, _: &Layer, (): &()) {}
        fn sum(&mut self, _: &Layer, _: &[()]) {}
        fn mean(&mut self, _: &Exit, (): &()) {}
        fn linear(&mut self, _: &Exit, _: &Linear, (): &()) {}
        fn logits(&mut self, _: &Exit, (): ()) {}
    }

    #[test]
    fn the_list_of_convolutions_is_that_of_the_operators() {
        let mut rng = stream(1, "visit/tests", 0, 0);
        for family in Family::all() {
            let space = Space::new(family, &[32], &[0.25], ExitScaling::Once).unwrap();
            let arch = space.decode(&sample(&space, Policy::Nat, &mut rng)).unwrap();
            let (channels, exits) = (*space.channels(&arch).unwrap(), Exits::up_to(&arch));
            let mut shown = Shown::default();
            visit(&mut shown, &channels, &arch, exits, ());
            let mut listed: Vec<Convolution> =
                parts(&channels, &arch, exits).flat_map(|part| part.convolutions()).collect();
            let order = |convolution: &Convolution| convolution.place;
            shown.0.sort_by_key(order);
            listed.sort_by_key(order);
            assert_eq!(shown.0, listed, "{family}");
        }
    }
}
