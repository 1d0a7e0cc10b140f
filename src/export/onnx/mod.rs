//! Networks as ONNX files (opset 17).
//!
//! - `proto`: the protocol buffers of the format, written by hand;
//! - `graph`: a graph under construction: convolutions with batch norms, folded or not, activations;
//! - here: a network visited operator by operator, each of which becomes nodes of such a graph.
//!
//! The input `images` is `[batch, 3, r, r]` f32: RGB in 0..1, less the mean, over the deviation, both
//! in the file's metadata. The batch is free. Outputs are logits `[batch, classes]`.

mod graph;
mod proto;

use super::Error;
use crate::space::Activation;
use crate::space::backbone::STAGES;
use crate::space::visit::{Convolution, Kind, Linear, LinearPlace, Place, Squeeze, Visitor, visit};
use crate::space::walk::{Exit, Exits, Layer, Part};
use crate::supernet::{Names, Network, Unit};
use graph::{Graph, Weighted};
use proto::Message;

/// The version of ONNX's operators that files ask for.
pub const OPSET: i64 = 17;
/// The version of the file format that goes with it.
const IR_VERSION: i64 = 8;
/// Protocol buffers hold less than this.
const LARGEST: usize = (1 << 31) - 1;
/// Name of the input.
pub const INPUT: &str = "images";
/// Name of the first output.
pub const OUTPUT: &str = "logits";

/// Name of the output of the fixed first block.
const FIRST: &str = "blocks.0";

const DOC: &str = "Input `images`: [batch, 3, r, r] f32, RGB scaled to 0..1, less `mean`, over `std` of the \
metadata. Output `logits`: [batch, classes], before any softmax.";

/// How a network is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Batch norms are folded into the convolutions before them.
    pub fold: bool,
    /// Weights of the exits, from the first on, whose weighted sum is the output; without them the
    /// output is that of the last exit.
    pub weights: Option<Vec<f64>>,
    /// The logits of every exit are outputs too, `exit_1` and so on.
    pub each_exit: bool,
}

impl Options {
    /// The outputs of a file, in order.
    pub fn outputs(&self, exits: Exits) -> Vec<String> {
        let each = exits.iter().filter(|_| self.each_exit).map(output_of);
        std::iter::once(OUTPUT.to_string()).chain(each).collect()
    }
}

/// The bytes of an ONNX file of a network, which uses the statistics that the network holds.
/// `metadata` is written as it is.
///
/// # Errors
/// A network of 2 GiB, more than the format can hold; weights that are not one an exit.
pub fn model(network: &Network, options: &Options, metadata: &[(String, String)]) -> Result<Vec<u8>, Error> {
    let exits = network.exits();
    if let Some(weights) = options.weights.as_ref().filter(|weights| weights.len() != exits.len()) {
        return Err(Error::ExitWeights { weights: weights.len(), exits: exits.len() });
    }
    let size = network.weights().packed.len() * size_of::<f32>();
    if size > LARGEST - (1 << 20) {
        return Err(Error::TooLarge { bytes: size });
    }
    let (arch, channels) = (network.arch(), network.weights().channels());
    let mut builder = Builder::new(network, options);
    visit(&mut builder, channels, arch, exits, vec![INPUT.into()]);
    builder.outputs(options);
    let side = arch.r as usize;
    let graph = builder.graph.finish(&format!("natv2 {}", arch.family), INPUT, &[3, side, side]);
    let pair = |key: &str, value: &str| Message::default().text(1, key).text(2, value);
    let bytes = Message::default()
        .int(1, IR_VERSION)
        .text(2, "natv2")
        .text(3, env!("CARGO_PKG_VERSION"))
        .text(6, DOC)
        .message(7, &graph)
        .message(8, &Message::default().text(1, "").int(2, OPSET))
        .each(metadata, |m, (key, value)| m.message(14, &pair(key, value)))
        .finish();
    Ok(bytes)
}

fn output_of(exit: usize) -> String {
    format!("exit_{}", exit + 1)
}

struct Builder<'a> {
    network: &'a Network,
    names: Names<'a>,
    graph: Graph,
    /// Whether the logits of the only exit are the output.
    only: bool,
    /// Names of the logits of the exits so far.
    logits: Vec<String>,
}

impl<'a> Builder<'a> {
    fn new(network: &'a Network, options: &Options) -> Builder<'a> {
        // The weight of an only exit is 1, unless somebody says otherwise.
        let whole = options.weights.as_ref().is_none_or(|weights| weights[..] == [1.0]);
        Builder {
            network,
            names: Names::Of(network.arch()),
            graph: Graph::new(network.tensors(), options.fold),
            only: network.exits().len() == 1 && whole && !options.each_exit,
            logits: Vec::new(),
        }
    }

    /// `logits` from those of the exits, and the declarations of all outputs.
    fn outputs(&mut self, options: &Options) {
        let logits = std::mem::take(&mut self.logits);
        let last = logits.last().cloned().unwrap_or_default();
        match &options.weights {
            _ if last == OUTPUT => {}
            Some(weights) => {
                let mut terms = Vec::new();
                for (exit, &weight) in logits.iter().zip(weights) {
                    let weight =
                        self.graph.constant(&format!("{exit}.ensemble_weight"), &[1, 1], &[weight as f32]);
                    terms.push(self.graph.node("Mul", &[exit, &weight], &format!("{exit}/weighted"), &[]));
                }
                match &terms[..] {
                    [only] => self.graph.node("Identity", &[only], OUTPUT, &[]),
                    _ => self.graph.sum(&terms, OUTPUT),
                };
            }
            None => {
                self.graph.node("Identity", &[&last], OUTPUT, &[]);
            }
        }
        let classes = self.network.weights().classes();
        for output in options.outputs(self.network.exits()) {
            self.graph.output(&output, classes);
        }
    }

    /// Name of the logits of an exit (from 0), or of the plain head.
    fn logits_of(&self, exit: Option<usize>) -> String {
        if self.only { OUTPUT.into() } else { output_of(exit.unwrap_or(STAGES - 1)) }
    }

    /// Name of what a convolution gives.
    fn value(&self, place: Place) -> String {
        let of_block = |index: usize, part: &str| format!("{}/{part}", self.names.block(index));
        match place {
            Place::Stem => "stem".into(),
            Place::FirstFilter => format!("{FIRST}/depthwise"),
            Place::FirstProject => format!("{FIRST}/project"),
            Place::Expand(index) => of_block(index, "expand"),
            Place::Filter(index) => of_block(index, "depthwise"),
            Place::Project(index) => of_block(index, "project"),
            Place::Pointwise(index) => of_block(index, "pointwise"),
            Place::Transform(index) => of_block(index, "transform"),
            Place::Head(exit) => format!("{}/expand", self.logits_of(exit)),
        }
    }

    /// A 1x1 convolution without a batch norm, named `name`.
    fn plain(&mut self, x: &str, name: &str, unit: Unit, bias: bool, activation: Activation) -> String {
        let conv = self.names.of(unit);
        let what = Weighted { conv: &conv, norm: None, bias, stride: 1, activation };
        self.graph.convolution(x, name, &what)
    }
}

impl Visitor for Builder<'_> {
    /// The name of a value, or those of the terms of a sum, which is one operator when all are there.
    type Map = Vec<String>;
    /// The name of a map that its gates are on already.
    type Gate = String;

    fn classes(&self) -> usize {
        self.network.weights().classes()
    }

    fn convolution(
        &mut self,
        what: &Convolution,
        x: &Vec<String>,
        gate: Option<&String>,
        added: Option<&Vec<String>>,
    ) -> Vec<String> {
        let &Convolution { place, kind, bias, stride, activation, .. } = what;
        let (x, name) = (gate.unwrap_or(&x[0]), self.value(place));
        let [conv, norm] = [Unit::Convolution(place), Unit::Norm(place)].map(|unit| self.names.of(unit));
        let y = if kind == Kind::Identity {
            self.graph.normalise(x, &norm, &name, activation)
        } else {
            let what = Weighted { conv: &conv, norm: Some(&norm), bias, stride, activation };
            self.graph.convolution(x, &name, &what)
        };
        let mut terms = added.cloned().unwrap_or_default();
        // A shortcut stands behind its MBConv, and a branch behind those before it.
        let project = matches!(place, Place::FirstProject | Place::Project(_));
        terms.insert(if project { 0 } else { terms.len() }, y);
        terms
    }

    fn squeeze(&mut self, what: &Squeeze, x: &Vec<String>) -> String {
        let block = self.names.block(what.index);
        let (reduce, expand) = (Unit::Reduce(what.index), Unit::Expand(what.index));
        let mean = self.graph.node("GlobalAveragePool", &[&x[0]], &format!("{block}/mean"), &[]);
        let hidden = self.plain(&mean, &format!("{block}/gate_reduce"), reduce, true, Activation::Relu);
        let gate = self.plain(&hidden, &format!("{block}/gate_expand"), expand, true, Activation::HSigmoid);
        self.graph.node("Mul", &[&x[0], &gate], &format!("{block}/gated"), &[])
    }

    fn max_pool(&mut self, layer: &Layer, x: &Vec<String>) -> Vec<String> {
        let attributes = [
            proto::ints("kernel_shape", &[2, 2]),
            proto::ints("strides", &[2, 2]),
            proto::int("ceil_mode", 1),
        ];
        let name = format!("{}/pooled", self.names.block(layer.index));
        vec![self.graph.node("MaxPool", &[&x[0]], &name, &attributes)]
    }

    fn sum(&mut self, layer: &Layer, terms: &[Vec<String>]) -> Vec<String> {
        vec![self.graph.sum(&terms.concat(), &format!("{}/dense", self.names.block(layer.index)))]
    }

    fn joined(&mut self, part: &Part, y: Vec<String>) -> Vec<String> {
        let name = match part {
            Part::Layer(layer) => self.names.block(layer.index),
            _ => FIRST.into(),
        };
        vec![self.graph.sum(&y, &name)]
    }

    fn mean(&mut self, exit: &Exit, x: &Vec<String>) -> Vec<String> {
        let name = format!("{}/mean", self.logits_of(exit.number()));
        vec![self.graph.node("GlobalAveragePool", &[&x[0]], &name, &[])]
    }

    fn linear(&mut self, _: &Exit, what: &Linear, x: &Vec<String>) -> Vec<String> {
        let (name, unit) = (self.logits_of(what.exit), Unit::Linear(what.exit, what.place));
        vec![match what.place {
            LinearPlace::Mix => self.plain(&x[0], &format!("{name}/mix"), unit, what.bias, what.activation),
            LinearPlace::Classifier => {
                let flat = self.graph.node("Flatten", &[&x[0]], &format!("{name}/features"), &[]);
                let [weight, bias] =
                    ["weight", "bias"].map(|part| self.graph.keep(self.names.tensor(unit, part)));
                self.graph.node("Gemm", &[&flat, &weight, &bias], &name, &[proto::int("transB", 1)])
            }
        }]
    }

    fn logits(&mut self, _: &Exit, logits: Vec<String>) {
        self.logits.extend(logits);
    }
}
