//! The operators of a network as an ONNX graph under construction.
//!
//! Values are named after what makes them (`blocks.3/depthwise`), weights keep the names of their
//! tensors. Batch norms stay operators of their own, or are folded into the convolution before them:
//! the filters times `gamma / sqrt(variance + epsilon)`, computed in f64 and rounded once.

use super::proto::{self, Message};
use crate::engine::plan::BN_EPSILON;
use crate::space::Activation;
use crate::supernet::{NORM, Tensor};
use std::collections::BTreeMap;

/// A graph under construction.
pub(super) struct Graph {
    tensors: BTreeMap<String, Tensor>,
    fold: bool,
    nodes: Vec<Message>,
    weights: Vec<Message>,
    outputs: Vec<Message>,
}

/// The weights of a convolution and the batch norm behind it, by name.
pub(super) struct Weighted<'a> {
    /// Name of the convolution: `{conv}.weight`, and `{conv}.bias` where it has one.
    pub conv: &'a str,
    /// Name of the batch norm, where there is one.
    pub norm: Option<&'a str>,
    /// Whether the convolution has a bias of its own.
    pub bias: bool,
    /// Pixels from one place of the filter to the next.
    pub stride: usize,
    /// Activation behind it.
    pub activation: Activation,
}

/// Scale and shift of every channel of a batch norm.
struct Affine(Vec<(f64, f64)>);

impl Graph {
    /// An empty graph of a network with these tensors.
    pub fn new(tensors: BTreeMap<String, Tensor>, fold: bool) -> Graph {
        Graph { tensors, fold, nodes: Vec::new(), weights: Vec::new(), outputs: Vec::new() }
    }

    /// An operator; the answer is the name of what it gives.
    pub fn node(&mut self, operator: &str, inputs: &[&str], output: &str, attributes: &[Message]) -> String {
        self.nodes.push(proto::node(operator, inputs, output, attributes));
        output.into()
    }

    fn weight(&mut self, name: &str, shape: &[usize], data: &[f32]) {
        self.weights.push(proto::tensor(name, shape, data));
    }

    /// A tensor of the network as it is; the answer is its name.
    pub fn keep(&mut self, name: String) -> String {
        let Tensor { shape, data } = self.tensor(&name);
        self.weight(&name, &shape, &data);
        name
    }

    /// A constant with the shape `[1, .., 1]` or `[1, n, 1, 1]`; the answer is its name.
    pub fn constant(&mut self, name: &str, shape: &[usize], data: &[f32]) -> String {
        self.weight(name, shape, data);
        name.into()
    }

    fn tensor(&self, name: &str) -> Tensor {
        self.tensors.get(name).expect("a network has the tensors of its layers").clone()
    }

    fn affine(&self, norm: &str) -> Affine {
        let [gamma, beta, mean, variance] = NORM.map(|part| self.tensor(&format!("{norm}.{part}")).data);
        let of = |c: usize| {
            let scale = f64::from(gamma[c]) / (f64::from(variance[c]) + f64::from(BN_EPSILON)).sqrt();
            (scale, f64::from(beta[c]) - f64::from(mean[c]) * scale)
        };
        Affine((0..gamma.len()).map(of).collect())
    }

    /// A convolution of `x`, its batch norm and its activation, named `name`.
    pub fn convolution(&mut self, x: &str, name: &str, what: &Weighted<'_>) -> String {
        let &Weighted { conv, norm, bias, stride, activation } = what;
        let (filters, offset) = (format!("{conv}.weight"), format!("{conv}.bias"));
        let Tensor { shape, data } = self.tensor(&filters);
        let (kernel, depthwise) = (shape[2], shape[1] == 1 && shape[2] > 1);
        let attributes = [
            proto::ints("kernel_shape", &[kernel, kernel]),
            proto::ints("strides", &[stride, stride]),
            proto::ints("pads", &[kernel / 2; 4]),
            proto::int("group", if depthwise { shape[0] as i64 } else { 1 }),
        ];
        let folded = norm.filter(|_| self.fold);
        let apart = norm.filter(|_| !self.fold);
        let with_bias = match folded {
            Some(norm) => {
                let own = bias.then(|| self.tensor(&offset).data);
                let affine = self.affine(norm);
                let per = data.len() / shape[0];
                let scaled = |(i, w): (usize, &f32)| (f64::from(*w) * affine.0[i / per].0) as f32;
                let scaled: Vec<f32> = data.iter().enumerate().map(scaled).collect();
                let own = |c: usize| own.as_ref().map_or(0.0, |own| f64::from(own[c]));
                let shifts = affine.0.iter().enumerate();
                let shifts: Vec<f32> =
                    shifts.map(|(c, (scale, shift))| (shift + own(c) * scale) as f32).collect();
                self.weight(&filters, &shape, &scaled);
                self.weight(&offset, &[shape[0]], &shifts);
                true
            }
            None => {
                self.weight(&filters, &shape, &data);
                if bias {
                    self.keep(offset.clone());
                }
                bias
            }
        };
        let inputs = [x, &filters, &offset];
        let used = if with_bias { 3 } else { 2 };
        let last = apart.is_none() && activation == Activation::None;
        let output = if last { name.to_string() } else { format!("{name}/conv") };
        let mut y = self.node("Conv", &inputs[..used], &output, &attributes);
        if let Some(norm) = apart {
            y = self.batch_norm(&y, norm, name, activation);
        }
        self.activation(&y, name, activation)
    }

    fn batch_norm(&mut self, x: &str, norm: &str, name: &str, then: Activation) -> String {
        let [gamma, beta, mean, variance] = NORM.map(|part| self.keep(format!("{norm}.{part}")));
        let output = if then == Activation::None { name.to_string() } else { format!("{name}/norm") };
        let epsilon = [proto::float("epsilon", BN_EPSILON)];
        self.node("BatchNormalization", &[x, &gamma, &beta, &mean, &variance], &output, &epsilon)
    }

    /// A batch norm with no convolution before it; folded it is a product and a sum.
    pub fn normalise(&mut self, x: &str, norm: &str, name: &str, activation: Activation) -> String {
        let y = if self.fold {
            let (scale, shift): (Vec<f32>, Vec<f32>) =
                self.affine(norm).0.iter().map(|&(scale, shift)| (scale as f32, shift as f32)).unzip();
            let shape = [1, scale.len(), 1, 1];
            let scale = self.constant(&format!("{norm}.scale"), &shape, &scale);
            let shift = self.constant(&format!("{norm}.shift"), &shape, &shift);
            let scaled = self.node("Mul", &[x, &scale], &format!("{name}/scaled"), &[]);
            self.node("Add", &[&scaled, &shift], &format!("{name}/norm"), &[])
        } else {
            self.batch_norm(x, norm, name, activation)
        };
        self.activation(&y, name, activation)
    }

    /// An activation, named `name`; none leaves `x` alone.
    pub fn activation(&mut self, x: &str, name: &str, activation: Activation) -> String {
        match activation {
            Activation::None => x.into(),
            Activation::Relu => self.node("Relu", &[x], name, &[]),
            Activation::HSwish => self.node("HardSwish", &[x], name, &[]),
            Activation::HSigmoid => {
                let attributes = [proto::float("alpha", 1.0 / 6.0), proto::float("beta", 0.5)];
                self.node("HardSigmoid", &[x], name, &attributes)
            }
        }
    }

    /// The sum of values, named `name`; a single one is left alone.
    pub fn sum(&mut self, terms: &[String], name: &str) -> String {
        let terms: Vec<&str> = terms.iter().map(String::as_str).collect();
        match terms[..] {
            [only] => only.into(),
            [_, _] => self.node("Add", &terms, name, &[]),
            _ => self.node("Sum", &terms, name, &[]),
        }
    }

    /// Declares an output `[batch, size]`.
    pub fn output(&mut self, name: &str, size: usize) {
        self.outputs.push(proto::value(name, &[size]));
    }

    /// `GraphProto` with the input `[batch, shape]`.
    pub fn finish(self, name: &str, input: &str, shape: &[usize]) -> Message {
        Message::default()
            .each(&self.nodes, |m, node| m.message(1, node))
            .text(2, name)
            .each(&self.weights, |m, weight| m.message(5, weight))
            .message(11, &proto::value(input, shape))
            .each(&self.outputs, |m, output| m.message(12, output))
    }
}
