//! Networks as ONNX files (opset 17).
//!
//! - `proto`: the protocol buffers of the format, written by hand;
//! - `graph`: a graph under construction: convolutions with batch norms, folded or not, activations;
//! - here: a network walked layer by layer into such a graph.
//!
//! The input `images` is `[batch, 3, r, r]` f32: RGB in 0..1, less the mean, over the deviation, both
//! in the file's metadata. The batch is free. Outputs are logits `[batch, classes]`.

mod graph;
mod proto;

use super::Error;
use crate::space::Activation;
use crate::space::walk::{Exits, Layer, dense_terms, walk};
use crate::supernet::Network;
use graph::{Convolution, Graph};
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
    let arch = network.arch();
    let mut builder = Builder { network, graph: Graph::new(network.tensors(), options.fold) };
    builder.network(options);
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
    graph: Graph,
}

impl Builder<'_> {
    fn network(&mut self, options: &Options) {
        let (arch, exits) = (self.network.arch(), self.network.exits());
        let mut x = self.first_layers();
        let channels = *self.network.weights().channels();
        let layers: Vec<Layer> = walk(&channels, arch).filter(|layer| layer.stage <= exits.last()).collect();
        let mut number = 0;
        let mut logits = Vec::new();
        for stage in layers.chunk_by(|a, b| a.stage == b.stage) {
            let mut outputs: Vec<String> = Vec::new();
            for (position, layer) in stage.iter().enumerate() {
                number += 1;
                x = self.layer(number, layer, &x);
                if arch.family.dense && position >= 2 {
                    let skips = dense_terms(position + 1).map(|j| outputs[j - 1].clone());
                    let terms: Vec<String> = std::iter::once(x).chain(skips).collect();
                    x = self.graph.sum(&terms, &format!("blocks.{number}/dense"));
                }
                outputs.push(x.clone());
            }
            let exit = stage[0].stage;
            if exits.contains(exit) {
                // The weight of an only exit is 1, unless somebody says otherwise.
                let whole = options.weights.as_ref().is_none_or(|weights| weights[..] == [1.0]);
                let only = exits.len() == 1 && whole && !options.each_exit;
                let name = if only { OUTPUT.to_string() } else { output_of(exit) };
                logits.push(self.head(exit, &x, &name));
            }
        }
        self.outputs(options, &logits);
    }

    /// `logits` from those of the exits, and the declarations of all outputs.
    fn outputs(&mut self, options: &Options, logits: &[String]) {
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

    /// Stem and the fixed first block.
    fn first_layers(&mut self) -> String {
        let channels = self.network.weights().channels();
        let shortcut = channels.stem == channels.first;
        let part =
            |conv, norm, stride, activation| Convolution { conv, norm, bias: false, stride, activation };
        let conv = part("first_conv.conv", Some("first_conv.bn"), 2, Activation::HSwish);
        let stem = self.graph.convolution(INPUT, "stem", &conv);
        let names = ["depth_conv", "point_linear"]
            .map(|part| (format!("blocks.0.conv.{part}.conv"), format!("blocks.0.conv.{part}.bn")));
        let conv = part(&names[0].0, Some(&names[0].1), 1, Activation::Relu);
        let hidden = self.graph.convolution(&stem, "blocks.0/depthwise", &conv);
        let conv = part(&names[1].0, Some(&names[1].1), 1, Activation::None);
        let mut terms = vec![self.graph.convolution(&hidden, "blocks.0/project", &conv)];
        terms.extend(shortcut.then_some(stem));
        self.graph.sum(&terms, "blocks.0")
    }

    /// An elastic layer: the sum of its branches.
    fn layer(&mut self, number: usize, layer: &Layer, x: &str) -> String {
        let block = format!("blocks.{number}");
        let mut terms = Vec::new();
        if layer.branches.mbconv {
            terms.push(self.mbconv(&block, layer, x));
            terms.extend(layer.shortcut.then(|| x.to_string()));
        }
        let activation = layer.activation;
        if layer.branches.pointwise {
            let name = format!("{block}.parallel.pointwise");
            let (conv, norm) = (format!("{name}.conv"), format!("{name}.bn"));
            let conv =
                Convolution { conv: &conv, norm: Some(&norm), bias: false, stride: layer.stride, activation };
            terms.push(self.graph.convolution(x, &format!("{block}/pointwise"), &conv));
        }
        if layer.branches.transform {
            let pooled = (layer.stride > 1).then(|| {
                let attributes = [
                    proto::ints("kernel_shape", &[2, 2]),
                    proto::ints("strides", &[2, 2]),
                    proto::int("ceil_mode", 1),
                ];
                self.graph.node("MaxPool", &[x], &format!("{block}/pooled"), &attributes)
            });
            let x = pooled.as_deref().unwrap_or(x);
            let name = format!("{block}.parallel.transform");
            let (conv, norm, output) =
                (format!("{name}.conv"), format!("{name}.bn"), format!("{block}/transform"));
            terms.push(if layer.cin == layer.cout {
                self.graph.normalise(x, &norm, &output, activation)
            } else {
                let conv = Convolution { conv: &conv, norm: Some(&norm), bias: true, stride: 1, activation };
                self.graph.convolution(x, &output, &conv)
            });
        }
        self.graph.sum(&terms, &block)
    }

    fn mbconv(&mut self, block: &str, layer: &Layer, x: &str) -> String {
        let part = |graph: &mut Graph, x: &str, name: &str, output: &str, stride, activation| {
            let name = format!("{block}.conv.{name}");
            let (conv, norm) = (format!("{name}.conv"), format!("{name}.bn"));
            let conv = Convolution { conv: &conv, norm: Some(&norm), bias: false, stride, activation };
            graph.convolution(x, &format!("{block}/{output}"), &conv)
        };
        let (graph, activation) = (&mut self.graph, layer.activation);
        let wide = part(graph, x, "inverted_bottleneck", "expand", 1, activation);
        let mut deep = part(graph, &wide, "depth_conv", "depthwise", layer.stride, activation);
        if layer.squeeze.is_some() {
            let mean = graph.node("GlobalAveragePool", &[&deep], &format!("{block}/mean"), &[]);
            let fully = |graph: &mut Graph, x: &str, name: &str, activation| {
                let conv = format!("{block}.conv.depth_conv.se.fc.{name}");
                let conv = Convolution { conv: &conv, norm: None, bias: true, stride: 1, activation };
                graph.convolution(x, &format!("{block}/gate_{name}"), &conv)
            };
            let hidden = fully(graph, &mean, "reduce", Activation::Relu);
            let gate = fully(graph, &hidden, "expand", Activation::HSigmoid);
            deep = graph.node("Mul", &[&deep, &gate], &format!("{block}/gated"), &[]);
        }
        part(graph, &deep, "point_linear", "project", 1, Activation::None)
    }

    /// The head after a stage; its logits are named `name`.
    fn head(&mut self, exit: usize, x: &str, name: &str) -> String {
        let early = self.network.arch().family.early_exits;
        let prefix = if early { format!("exits.{exit}.") } else { String::new() };
        let graph = &mut self.graph;
        let (conv, norm) =
            (format!("{prefix}final_expand_layer.conv"), format!("{prefix}final_expand_layer.bn"));
        let activation = Activation::HSwish;
        let conv = Convolution { conv: &conv, norm: Some(&norm), bias: false, stride: 1, activation };
        let wide = graph.convolution(x, &format!("{name}/expand"), &conv);
        let pooled = graph.node("GlobalAveragePool", &[&wide], &format!("{name}/mean"), &[]);
        let conv = format!("{prefix}feature_mix_layer.conv");
        let conv = Convolution { conv: &conv, norm: None, bias: false, stride: 1, activation };
        let mixed = graph.convolution(&pooled, &format!("{name}/mix"), &conv);
        let flat = graph.node("Flatten", &[&mixed], &format!("{name}/features"), &[]);
        let [weight, bias] =
            ["weight", "bias"].map(|part| graph.keep(format!("{prefix}classifier.linear.{part}")));
        graph.node("Gemm", &[&flat, &weight, &bias], name, &[proto::int("transB", 1)])
    }
}
