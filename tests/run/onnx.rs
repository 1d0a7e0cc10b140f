//! A reader of ONNX files and an interpreter of the operators that networks use, in f64 and plain
//! loops, written from the specification (onnx.proto, Operators.md) and not from the writer.

use natv2::supernet::Tensor;
use std::collections::{BTreeMap, BTreeSet};

/// A value of a protocol buffer's field.
enum Field<'a> {
    Integer(u64),
    Four([u8; 4]),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn integer(&self) -> i64 {
        match self {
            Field::Integer(value) => *value as i64,
            _ => panic!("an integer is expected"),
        }
    }

    fn bytes(&self) -> &'a [u8] {
        match self {
            Field::Bytes(bytes) => bytes,
            _ => panic!("bytes are expected"),
        }
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }
}

/// The fields of a message, in order.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return value;
            }
        }
        panic!("an integer does not end");
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Integer(varint(&mut bytes)),
            2 => {
                let len = varint(&mut bytes) as usize;
                let (value, rest) = bytes.split_at(len);
                bytes = rest;
                Field::Bytes(value)
            }
            5 => {
                let (value, rest) = bytes.split_at(4);
                bytes = rest;
                Field::Four(value.try_into().unwrap())
            }
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

/// An array of any rank.
#[derive(Debug, Clone, PartialEq)]
struct Array {
    shape: Vec<usize>,
    data: Vec<f64>,
}

#[derive(Debug, Default)]
struct Node {
    operator: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    integers: BTreeMap<String, Vec<i64>>,
    floats: BTreeMap<String, f32>,
}

/// A file that has been read. Dimensions that are free are `None`.
pub struct Model {
    pub opset: i64,
    pub metadata: Vec<(String, String)>,
    pub inputs: Vec<(String, Vec<Option<i64>>)>,
    pub outputs: Vec<(String, Vec<Option<i64>>)>,
    nodes: Vec<Node>,
    weights: BTreeMap<String, Array>,
}

impl Model {
    pub fn parse(bytes: &[u8]) -> Model {
        let mut model = Model {
            opset: 0,
            metadata: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            nodes: Vec::new(),
            weights: BTreeMap::new(),
        };
        for (number, field) in fields(bytes) {
            match number {
                1 => assert_eq!(field.integer(), 8, "the IR version of opset 17"),
                7 => model.graph(field.bytes()),
                8 => {
                    let fields = fields(field.bytes());
                    assert!(fields.iter().all(|(n, f)| *n == 2 || f.text().is_empty()), "the default domain");
                    model.opset = fields.iter().find(|(n, _)| *n == 2).unwrap().1.integer();
                }
                14 => {
                    let pair: Vec<String> = fields(field.bytes()).iter().map(|(_, f)| f.text()).collect();
                    model.metadata.push((pair[0].clone(), pair[1].clone()));
                }
                _ => {}
            }
        }
        model
    }

    fn graph(&mut self, bytes: &[u8]) {
        for (number, field) in fields(bytes) {
            match number {
                1 => self.nodes.push(node(field.bytes())),
                5 => {
                    let (name, array) = tensor(field.bytes());
                    assert!(self.weights.insert(name.clone(), array).is_none(), "{name} is there twice");
                }
                11 => self.inputs.push(value(field.bytes())),
                12 => self.outputs.push(value(field.bytes())),
                _ => {}
            }
        }
    }

    /// The operators that are used.
    pub fn operators(&self) -> BTreeSet<&str> {
        self.nodes.iter().map(|node| node.operator.as_str()).collect()
    }

    /// The outputs for an input.
    pub fn run(&self, name: &str, input: &Tensor) -> Vec<(String, Vec<f64>)> {
        assert_eq!(self.inputs.len(), 1);
        let (declared, shape) = &self.inputs[0];
        assert_eq!(declared, name);
        for (side, declared) in input.shape.iter().zip(shape) {
            assert!(declared.is_none_or(|declared| declared == *side as i64));
        }
        let input = Array {
            shape: input.shape.clone(),
            data: input.data.iter().map(|&value| f64::from(value)).collect(),
        };
        let mut values = BTreeMap::from([(name.to_string(), input)]);
        let mut used = BTreeSet::new();
        for node in &self.nodes {
            let find = |name: &String| {
                let found = values.get(name).or_else(|| self.weights.get(name));
                found.unwrap_or_else(|| panic!("{name} is used before it is made"))
            };
            used.extend(node.inputs.iter().cloned());
            let inputs: Vec<&Array> = node.inputs.iter().map(find).collect();
            let output = node.run(&inputs);
            let [name] = &node.outputs[..] else { panic!("one output is expected") };
            let again = values.insert(name.clone(), output);
            assert!(again.is_none() && !self.weights.contains_key(name), "{name} is made twice");
        }
        let idle = self.weights.keys().find(|name| !used.contains(*name));
        assert_eq!(idle, None, "every weight is used");
        let output = |(name, shape): &(String, Vec<Option<i64>>)| {
            let array = &values[name];
            assert_eq!(array.shape.len(), shape.len());
            assert_eq!(shape[1], Some(array.shape[1] as i64));
            (name.clone(), array.data.clone())
        };
        self.outputs.iter().map(output).collect()
    }
}

fn tensor(bytes: &[u8]) -> (String, Array) {
    let (mut shape, mut name, mut data) = (Vec::new(), String::new(), Vec::new());
    for (number, field) in fields(bytes) {
        match number {
            1 => shape.push(field.integer() as usize),
            2 => assert_eq!(field.integer(), 1, "f32"),
            8 => name = field.text(),
            9 => {
                let numbers = field.bytes().chunks_exact(4);
                data = numbers.map(|n| f64::from(f32::from_le_bytes(n.try_into().unwrap()))).collect();
            }
            other => panic!("field {other} of a tensor"),
        }
    }
    assert_eq!(shape.iter().product::<usize>(), data.len(), "{name}");
    (name, Array { shape, data })
}

fn value(bytes: &[u8]) -> (String, Vec<Option<i64>>) {
    let only = |bytes, number| {
        fields(bytes).into_iter().find(|(n, _)| *n == number).map(|(_, field)| field).unwrap()
    };
    let tensor = only(only(bytes, 2).bytes(), 1).bytes();
    assert_eq!(only(tensor, 1).integer(), 1, "f32");
    let dimensions = fields(only(tensor, 2).bytes());
    let dimension = |(_, field): &(u64, Field<'_>)| match &fields(field.bytes())[0] {
        (1, value) => Some(value.integer()),
        _ => None,
    };
    (only(bytes, 1).text(), dimensions.iter().map(dimension).collect())
}

fn node(bytes: &[u8]) -> Node {
    let mut node = Node::default();
    for (number, field) in fields(bytes) {
        match number {
            1 => node.inputs.push(field.text()),
            2 => node.outputs.push(field.text()),
            3 => {}
            4 => node.operator = field.text(),
            5 => {
                let mut name = String::new();
                for (number, field) in fields(field.bytes()) {
                    match (number, &field) {
                        (1, _) => name = field.text(),
                        (2, Field::Four(bytes)) => {
                            node.floats.insert(name.clone(), f32::from_le_bytes(*bytes));
                        }
                        (3 | 8, _) => node.integers.entry(name.clone()).or_default().push(field.integer()),
                        (20, _) => assert!([1, 2, 7].contains(&field.integer())),
                        _ => panic!("field {number} of attribute {name}"),
                    }
                }
            }
            other => panic!("field {other} of a node"),
        }
    }
    node
}

impl Node {
    fn list(&self, name: &str, default: &[i64]) -> Vec<usize> {
        let list = self.integers.get(name).map_or(default, Vec::as_slice);
        list.iter().map(|&value| value as usize).collect()
    }

    fn run(&self, x: &[&Array]) -> Array {
        match &*self.operator {
            "Conv" => self.convolution(x[0], x[1], x.get(2).copied()),
            "BatchNormalization" => {
                let epsilon = f64::from(self.floats["epsilon"]);
                let pixels = x[0].shape[2] * x[0].shape[3];
                let channel = |i: usize| i / pixels % x[0].shape[1];
                let norm = |(i, v): (usize, &f64)| {
                    let [gamma, beta, mean, variance] = [1, 2, 3, 4].map(|input| x[input].data[channel(i)]);
                    (v - mean) / (variance + epsilon).sqrt() * gamma + beta
                };
                Array { shape: x[0].shape.clone(), data: x[0].data.iter().enumerate().map(norm).collect() }
            }
            "Relu" => map(x[0], |v| v.max(0.0)),
            "HardSwish" => map(x[0], |v| v * (v / 6.0 + 0.5).clamp(0.0, 1.0)),
            "HardSigmoid" => {
                let [alpha, beta] = ["alpha", "beta"].map(|name| f64::from(self.floats[name]));
                map(x[0], |v| (alpha * v + beta).clamp(0.0, 1.0))
            }
            "GlobalAveragePool" => {
                let pixels = x[0].shape[2] * x[0].shape[3];
                let means = x[0].data.chunks_exact(pixels).map(|c| c.iter().sum::<f64>() / pixels as f64);
                Array { shape: vec![x[0].shape[0], x[0].shape[1], 1, 1], data: means.collect() }
            }
            "Mul" => combine(x, |a, b| a * b),
            "Add" | "Sum" => combine(x, |a, b| a + b),
            "MaxPool" => self.max_pool(x[0]),
            "Flatten" => {
                let shape = vec![x[0].shape[0], x[0].shape[1..].iter().product()];
                Array { shape, data: x[0].data.clone() }
            }
            "Gemm" => {
                assert_eq!(self.list("transB", &[0]), [1]);
                let ([rows, inner], [columns, same]) = (pair(x[0]), pair(x[1]));
                assert_eq!((inner, columns), (same, x[2].data.len()));
                let at = |r: usize, c: usize| {
                    let terms = (0..inner).map(|k| x[0].data[r * inner + k] * x[1].data[c * inner + k]);
                    terms.sum::<f64>() + x[2].data[c]
                };
                let data = (0..rows * columns).map(|i| at(i / columns, i % columns)).collect();
                Array { shape: vec![rows, columns], data }
            }
            "Identity" => x[0].clone(),
            other => panic!("operator {other}"),
        }
    }

    fn convolution(&self, x: &Array, w: &Array, bias: Option<&Array>) -> Array {
        let [stride, other] = self.list("strides", &[1, 1])[..] else { panic!("two strides") };
        let pads = self.list("pads", &[0; 4]);
        let groups = self.list("group", &[1])[0];
        let [images, cin, height, width] = x.shape[..] else { panic!("four dimensions") };
        let [cout, per_group, kernel, same] = w.shape[..] else { panic!("four dimensions") };
        assert!(stride == other && kernel == same && pads.iter().all(|&p| p == pads[0]));
        assert_eq!(self.list("kernel_shape", &[]), [kernel, kernel]);
        assert_eq!((per_group * groups, cout % groups), (cin, 0));
        let side = |side: usize| (side + 2 * pads[0] - kernel) / stride + 1;
        let (rows, columns) = (side(height), side(width));
        let mut data = vec![0.0; images * cout * rows * columns];
        for (plane, y) in data.chunks_exact_mut(rows * columns).enumerate() {
            let (image, channel) = (plane / cout, plane % cout);
            y.fill(bias.map_or(0.0, |bias| bias.data[channel]));
            let group = channel / (cout / groups);
            for c in 0..per_group {
                let map = &x.data[(image * cin + group * per_group + c) * height * width..];
                let filter = &w.data[(channel * per_group + c) * kernel * kernel..][..kernel * kernel];
                for (tap, weight) in filter.iter().enumerate() {
                    let (ky, kx) = (tap / kernel, tap % kernel);
                    for row in 0..rows {
                        let Some(iy) = (row * stride + ky).checked_sub(pads[0]).filter(|&i| i < height)
                        else {
                            continue;
                        };
                        for column in 0..columns {
                            let ix = (column * stride + kx).checked_sub(pads[0]).filter(|&i| i < width);
                            if let Some(ix) = ix {
                                y[row * columns + column] += weight * map[iy * width + ix];
                            }
                        }
                    }
                }
            }
        }
        Array { shape: vec![images, cout, rows, columns], data }
    }

    fn max_pool(&self, x: &Array) -> Array {
        assert_eq!(self.list("kernel_shape", &[]), [2, 2]);
        assert_eq!((self.list("strides", &[1, 1]), self.list("ceil_mode", &[0])), (vec![2, 2], vec![1]));
        let [images, channels, height, width] = x.shape[..] else { panic!("four dimensions") };
        let (rows, columns) = (height.div_ceil(2), width.div_ceil(2));
        let mut data = Vec::new();
        for map in x.data.chunks_exact(height * width) {
            for place in 0..rows * columns {
                let (top, left) = (place / columns * 2, place % columns * 2);
                let mut best = f64::NEG_INFINITY;
                for row in top..(top + 2).min(height) {
                    for column in left..(left + 2).min(width) {
                        best = best.max(map[row * width + column]);
                    }
                }
                data.push(best);
            }
        }
        Array { shape: vec![images, channels, rows, columns], data }
    }
}

fn pair(x: &Array) -> [usize; 2] {
    x.shape[..].try_into().expect("two dimensions")
}

fn map(x: &Array, f: impl Fn(f64) -> f64) -> Array {
    Array { shape: x.shape.clone(), data: x.data.iter().map(|&v| f(v)).collect() }
}

/// Element by element, where sides of 1 are repeated.
fn combine(x: &[&Array], f: impl Fn(f64, f64) -> f64) -> Array {
    let mut out = x[0].clone();
    for other in &x[1..] {
        assert_eq!(out.shape.len(), other.shape.len());
        assert!(other.shape.iter().zip(&out.shape).all(|(&o, &s)| o == s || o == 1));
        for i in 0..out.data.len() {
            // The place of `i` in the other array.
            let (mut rest, mut place, mut step) = (i, 0, 1);
            for (&side, &of) in out.shape.iter().zip(&other.shape).rev() {
                place += if of == 1 { 0 } else { rest % side * step };
                step *= of;
                rest /= side;
            }
            out.data[i] = f(out.data[i], other.data[place]);
        }
    }
    out
}
