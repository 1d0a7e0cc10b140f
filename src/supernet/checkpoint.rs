//! Checkpoint files: safetensors with the names that the once-for-all package writes.

use super::numbers::{Unread, floats};
use super::{Error, Names, Parts, Unit};
use crate::space::ExitScaling;
use crate::space::backbone::{Channels, MAX_DEPTH, STAGES};
use crate::space::visit::{LinearPlace, Place};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A tensor in host memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements, row-major.
    pub data: Vec<f32>,
}

/// All tensors of a file.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    file: PathBuf,
    tensors: BTreeMap<String, Tensor>,
    /// Tensors of other types, by name: counters of a training, as a rule.
    passed_over: BTreeMap<String, Dtype>,
    notes: Vec<String>,
}

impl Checkpoint {
    /// Reads a file. Names of older once-for-all releases are brought to today's, and
    /// `num_batches_tracked` is left out. Numbers of 16 and 64 bits become f32; tensors of whole numbers
    /// are passed over; [`Checkpoint::notes`] says so.
    ///
    /// # Errors
    /// A file that cannot be read or is no safetensors file; a tensor with an element that is not
    /// finite or does not fit f32; a running variance below zero.
    pub fn read(file: &Path) -> Result<Checkpoint, Error> {
        let bytes = std::fs::read(file).map_err(|source| Error::Read { file: file.into(), source })?;
        Checkpoint::parse(&bytes, file)
    }

    /// Reads the bytes of a file; `file` is for messages. See [`Checkpoint::read`].
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn parse(bytes: &[u8], file: &Path) -> Result<Checkpoint, Error> {
        let parsed = SafeTensors::deserialize(bytes)
            .map_err(|e| Error::Format { file: file.into(), reason: e.to_string() })?;
        let mut found = Checkpoint::from_tensors(file, BTreeMap::new());
        let mut types = BTreeMap::new();
        for (name, view) in parsed.iter() {
            if name.ends_with("num_batches_tracked") {
                continue;
            }
            let name = name.replace(".mobile_inverted_conv.", ".conv.");
            let data = match floats(&view) {
                Ok(data) => data,
                Err(Unread::Type(dtype)) => {
                    found.passed_over.insert(name, dtype);
                    continue;
                }
                Err(Unread::TooLarge { index, value }) => {
                    return Err(Error::TooLarge { file: file.into(), tensor: name, index, value });
                }
            };
            if let Some(index) = data.iter().position(|v| !v.is_finite()) {
                let value = data[index];
                return Err(Error::NotFinite { file: file.into(), tensor: name, index, value });
            }
            if name.ends_with(VARIANCE)
                && let Some(index) = data.iter().position(|&variance| variance < 0.0)
            {
                let value = data[index];
                return Err(Error::Variance { file: file.into(), tensor: name, index, value });
            }
            *types.entry(format!("{:?}", view.dtype())).or_insert(0) += 1;
            found.tensors.insert(name, Tensor { shape: view.shape().to_vec(), data });
        }
        found.notes = notes(file, &types, &found.passed_over);
        Ok(found)
    }

    /// A checkpoint of tensors made elsewhere; `file` is for messages.
    pub fn from_tensors(file: impl Into<PathBuf>, tensors: BTreeMap<String, Tensor>) -> Checkpoint {
        Checkpoint { file: file.into(), tensors, passed_over: BTreeMap::new(), notes: Vec::new() }
    }

    /// What was done with the file's numbers beyond reading them, a sentence each, for people.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The file, for messages.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A tensor by name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// A tensor that must be there.
    ///
    /// # Errors
    /// It is missing, or of no type of real numbers; `needed` says who needs it.
    pub fn require(&self, name: &str, needed: &str) -> Result<&Tensor, Error> {
        let (file, tensor) = (|| self.file.clone(), String::from(name));
        self.tensor(name).ok_or_else(|| match self.passed_over.get(name) {
            Some(found) => Error::Type { file: file(), tensor, found: format!("{found:?}") },
            None => Error::MissingTensor { file: file(), tensor, needed: needed.into() },
        })
    }

    /// Whether a tensor of this name is there that holds no real numbers.
    pub(super) fn passes_over(&self, name: &str) -> bool {
        self.passed_over.contains_key(name)
    }

    /// The names of all tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// All tensors with their names, in the order of the names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Which optional tensors the file has.
    pub fn parts(&self) -> Parts {
        let has = |place: Place| {
            let name = Names::Shared.tensor(Unit::Convolution(place), "weight");
            self.tensors.contains_key(&name) || self.passes_over(&name)
        };
        Parts {
            head: has(Place::Head(None)),
            exits: has(Place::Head(Some(0))),
            parallel: has(Place::Pointwise(0)),
        }
    }

    /// The width multiplier whose channel counts are those of the file, and the scaling of its
    /// exits. `hint`, the card's, is tried first; then common widths, then a fine grid.
    ///
    /// # Errors
    /// A tensor that is missing; the first tensor that no width explains.
    pub fn width(&self, hint: Option<f64>) -> Result<(f64, ExitScaling), Error> {
        let needed = "every super-network of this kind has: is it an OFA MobileNetV3 checkpoint?";
        let probes = probes(self.parts());
        let mut found = Vec::new();
        for (name, _) in &probes {
            let shape = &self.require(name, needed)?.shape;
            found.push(shape.first().copied().unwrap_or(0));
        }
        let common = [0.25, 0.35, 0.5, 0.75, 1.0, 1.2, 1.3, 1.5, 2.0];
        let grid = (5..=800).map(|i| f64::from(i) / 100.0);
        let widths = hint.into_iter().chain(common).chain(grid);
        // How many probes a width explains; the first that explains all of them wins.
        let mut best = (0, 1.0, ExitScaling::Once);
        for (width, scaling) in widths.flat_map(|w| ExitScaling::ALL.map(|s| (w, s))) {
            let channels = Channels::new(width, scaling);
            let matching =
                probes.iter().zip(&found).take_while(|((_, of), found)| of(&channels) == **found).count();
            if matching == probes.len() {
                return Ok((width, scaling));
            }
            if matching > best.0 {
                best = (matching, width, scaling);
            }
        }
        let (name, of) = &probes[best.0];
        let tensor = self.require(name, needed)?;
        let mut expected = tensor.shape.clone();
        if let Some(first) = expected.first_mut() {
            *first = of(&Channels::new(best.1, best.2));
        }
        Err(Error::Shape {
            file: self.file.clone(),
            tensor: name.clone(),
            found: tensor.shape.as_slice().into(),
            expected: expected.into(),
            why: format!("width multiplier {}, the nearest that explains the tensors before it", best.1),
        })
    }

    /// The number of classes: the outputs of the classifier of an exit (from 0), or of the plain head.
    ///
    /// # Errors
    /// There is no such classifier.
    pub fn classes(&self, exit: Option<usize>) -> Result<usize, Error> {
        let name = Names::Shared.tensor(Unit::Linear(exit, LinearPlace::Classifier), "weight");
        let Tensor { shape, data } = self.require(&name, "says how many classes there are")?;
        match shape.first() {
            // A tensor without elements can claim any shape.
            Some(&classes) if (1..=data.len()).contains(&classes) => Ok(classes),
            _ => Err(Error::Shape {
                file: self.file.clone(),
                tensor: name,
                found: shape.as_slice().into(),
                expected: [1, 1].into(),
                why: "a classifier of one class or more".into(),
            }),
        }
    }
}

/// How names of running variances end.
const VARIANCE: &str = ".running_var";

/// What is said of a file whose tensors of real numbers have these types, so many of each, and which others
/// were passed over.
fn notes(file: &Path, types: &BTreeMap<String, usize>, passed_over: &BTreeMap<String, Dtype>) -> Vec<String> {
    let file = file.display();
    let mut notes = Vec::new();
    let others = types.iter().filter(|(name, _)| *name != "F32");
    let counts: Vec<String> = others.map(|(name, count)| format!("{count} in {name}")).collect();
    if !counts.is_empty() {
        let all: usize = types.values().sum();
        notes.push(format!("{file}: of {all} tensors {} are read as F32", counts.join(", ")));
    }
    if let Some((first, dtype)) = passed_over.first_key_value() {
        let more = match passed_over.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        notes.push(format!("{file}: tensor `{first}` ({dtype:?}){more} passed over: no real numbers"));
    }
    notes
}

type Probe = (String, Box<dyn Fn(&Channels) -> usize>);

/// Tensors whose first dimension tells the width, and what it is at given channels.
fn probes(parts: Parts) -> Vec<Probe> {
    fn probe(unit: Unit, of: impl Fn(&Channels) -> usize + 'static) -> Probe {
        (Names::Shared.tensor(unit, "weight"), Box::new(of))
    }
    let stages = (0..STAGES).map(|stage| {
        let first = Unit::Convolution(Place::Project(stage * MAX_DEPTH));
        probe(first, move |c| c.stages[stage])
    });
    let mut probes = vec![probe(Unit::Convolution(Place::Stem), |c| c.stem)];
    probes.extend(stages);
    if parts.head {
        probes.push(probe(Unit::Convolution(Place::Head(None)), |c| c.head.expand));
        probes.push(probe(Unit::Linear(None, LinearPlace::Mix), |c| c.head.mix));
    }
    if parts.exits {
        let exit = |exit| probe(Unit::Convolution(Place::Head(Some(exit))), move |c| c.exits[exit].expand);
        probes.extend((0..STAGES).map(exit));
    }
    probes
}

#[cfg(test)]
mod tests {
    use super::super::numbers::READ;
    use super::*;
    use safetensors::tensor::TensorView;

    fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn one(dtype: Dtype, shape: Vec<usize>, data: &[u8]) -> Vec<u8> {
        let view = TensorView::new(dtype, shape, data).unwrap();
        safetensors::serialize([("first_conv.conv.weight", view)], None).unwrap()
    }

    fn message(bytes: &[u8]) -> String {
        let (_folder, path) = file("bad.safetensors", bytes);
        let checkpoint = Checkpoint::read(&path);
        checkpoint.and_then(|c| c.width(None)).unwrap_err().to_string()
    }

    #[test]
    fn damaged_files_name_the_file_and_the_tensor() {
        let whole = std::fs::read("checkpoints/ofa_mbv3_w025_digits.safetensors").unwrap();
        assert!(message(&whole[..whole.len() / 2]).contains("not a whole safetensors file"));
        assert!(message(&whole[..5]).contains("bad.safetensors"));
        assert!(message(b"").contains("not a whole safetensors file"));
        let mut huge = whole.clone();
        huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(message(&huge).contains("not a whole safetensors file"));
        let whole = message(&one(Dtype::I32, vec![2], &[0; 8]));
        assert!(whole.contains("`first_conv.conv.weight`") && whole.contains("holds I32"), "{whole}");
        assert!(whole.contains(READ) && !whole.contains("ofa_to_safetensors"), "{whole}");
        let large = message(&one(Dtype::F64, vec![2], &[1.0f64, 1e39].map(f64::to_le_bytes).concat()));
        assert!(large.contains("holds 1e39 at element 1") || large.contains("element 1"), "{large}");
        let nan = [1.0f32.to_le_bytes(), f32::NAN.to_le_bytes()].concat();
        assert!(message(&one(Dtype::F32, vec![2], &nan)).contains("holds NaN at element 1"));
        let fine = one(Dtype::F32, vec![2], &[0; 8]);
        assert!(message(&fine).contains("no tensor `blocks.1.conv.point_linear"));
    }

    fn tensors(all: &[(&str, Dtype, &[u8])]) -> Result<Checkpoint, Error> {
        let views = all.iter().map(|&(name, dtype, bytes)| {
            (name, TensorView::new(dtype, vec![bytes.len() * 8 / dtype.bitsize()], bytes).unwrap())
        });
        Checkpoint::parse(&safetensors::serialize(views, None).unwrap(), Path::new("net.safetensors"))
    }

    #[test]
    fn numbers_of_other_widths_are_read_and_counters_passed_over_with_a_note() {
        let one = 1.0f32.to_le_bytes();
        let plain =
            tensors(&[("a", Dtype::F32, &one), ("x.num_batches_tracked", Dtype::I64, &[0; 8])]).unwrap();
        assert_eq!(plain.notes(), [""; 0]);
        let mixed = tensors(&[
            ("a", Dtype::F32, &one),
            ("b", Dtype::F16, &[0, 0x3c]),
            ("c", Dtype::BF16, &[0x80, 0x3f]),
            ("d", Dtype::F64, &1.0f64.to_le_bytes()),
            ("e", Dtype::F16, &[0, 0x3c]),
            ("epoch", Dtype::I64, &[0; 8]),
            ("step", Dtype::U8, &[0]),
        ]);
        let mixed = mixed.unwrap();
        assert!(mixed.tensors().all(|(_, tensor)| tensor.data == [1.0]));
        assert_eq!(mixed.names().collect::<Vec<_>>(), ["a", "b", "c", "d", "e"]);
        let [types, others] = mixed.notes() else { panic!("{:?}", mixed.notes()) };
        assert_eq!(types, "net.safetensors: of 5 tensors 1 in BF16, 2 in F16, 1 in F64 are read as F32");
        assert_eq!(others, "net.safetensors: tensor `epoch` (I64) and 1 more passed over: no real numbers");
        // One that is needed is no counter.
        let error = mixed.require("epoch", "all need").unwrap_err().to_string();
        assert!(error.contains("`epoch` of net.safetensors holds I64"), "{error}");
    }

    #[test]
    fn a_variance_below_zero_is_refused_by_name_and_place() {
        let name = "blocks.5.conv.depth_conv.bn.bn.running_var";
        let of = |numbers: [f32; 3]| tensors(&[(name, Dtype::F32, &numbers.map(f32::to_le_bytes).concat())]);
        assert!(of([0.0, -0.0, 1e30]).is_ok());
        let error = of([1.0, -1e-9, 1.0]).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("element 1"), "{error}");
        assert!(error.contains("-0.000000001") && error.contains("variance"), "{error}");
    }

    #[test]
    fn missing_files_say_so() {
        let error = Checkpoint::read(Path::new("nowhere/net.safetensors")).unwrap_err();
        assert!(error.to_string().starts_with("nowhere/net.safetensors"));
    }

    #[test]
    fn width_and_classes_are_found_from_the_tensors() {
        let checkpoint = Checkpoint::read(Path::new("checkpoints/ofa_mbv3_w025_digits.safetensors")).unwrap();
        assert_eq!(checkpoint.width(None).unwrap().0, 0.25);
        assert_eq!(checkpoint.classes(None).unwrap(), 10);
    }
}
