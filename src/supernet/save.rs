//! Super-networks and cards back to files.

use super::{Card, Checkpoint, Error, Supernet};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Map, Value, json};

impl Checkpoint {
    /// The bytes of a safetensors file that holds these tensors.
    ///
    /// # Errors
    /// A tensor whose number of elements is not that of its shape.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let mut views = Vec::new();
        for (name, tensor) in self.tensors() {
            let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytemuck::cast_slice(&tensor.data));
            let view = view.map_err(|_| Error::Shape {
                file: self.file().into(),
                tensor: name.into(),
                found: tensor.shape.as_slice().into(),
                expected: [tensor.data.len()].into(),
                why: "the elements it holds".into(),
            })?;
            views.push((name, view));
        }
        safetensors::serialize(views, None)
            .map_err(|e| Error::Format { file: self.file().into(), reason: e.to_string() })
    }
}

impl Supernet {
    /// The tensors by their once-for-all names.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint::from_tensors(&self.file, self.layout.unpack(&self.packed))
    }
}

impl Card {
    /// The card as the text of its file.
    pub fn to_json(&self) -> String {
        let mut object = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                object.insert(key.into(), value);
            }
        };
        put("family", self.family.map(|f| json!(f.to_string())));
        put("width", self.width.map(|w| json!(w)));
        put("classes", self.classes.map(|n| json!(n)));
        put("class_names", (!self.class_names.is_empty()).then(|| json!(self.class_names)));
        put("data", self.data.as_ref().map(|d| json!(d)));
        put("data_dir", self.data_dir.as_ref().and_then(|dir| dir.to_str()).map(|dir| json!(dir)));
        put("resolutions", (!self.resolutions.is_empty()).then(|| json!(self.resolutions)));
        put("mean", self.mean.map(|m| json!(m.map(decimal))));
        put("std", self.std.map(|s| json!(s.map(decimal))));
        put("resize", self.resize.as_ref().map(|r| json!(r)));
        put("calibration_images", self.calibration_images.map(|n| json!(n)));
        put("validation_images", self.validation_images.map(|n| json!(n)));
        put("validation_fraction", self.validation_fraction.map(|share| json!(share)));
        put("trained", self.trained.as_ref().map(|t| json!(t)));
        put("network", self.network.as_ref().map(|n| n.to_json()));
        for (key, value) in &self.other {
            object.entry(key.clone()).or_insert_with(|| value.clone());
        }
        // A map of JSON values is valid JSON.
        let mut text = serde_json::to_string_pretty(&Value::Object(object)).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// The shortest decimal that is this f32, as people write it: 0.3053, not 0.305299997329712.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

#[cfg(test)]
mod tests {
    use super::super::Tensor;
    use super::*;
    use crate::space::walk::Exits;
    use crate::space::{Arch, cost};
    use std::path::{Path, PathBuf};

    #[test]
    fn a_file_comes_back_bit_for_bit() {
        let path = Path::new("checkpoints/ofa_mbv3_w025_digits.safetensors");
        let read = Checkpoint::read(path).unwrap();
        let supernet = Supernet::from_checkpoint(&read, Card::default(), None).unwrap();
        let bytes = supernet.checkpoint().to_bytes().unwrap();
        let again = Checkpoint::parse(&bytes, path).unwrap();
        let flat = |c: &Checkpoint| -> Vec<(String, Vec<usize>, Vec<u32>)> {
            let bits = |t: &Tensor| t.data.iter().map(|v| v.to_bits()).collect();
            c.tensors().map(|(n, t)| (n.into(), t.shape.clone(), bits(t))).collect()
        };
        assert_eq!(flat(&again), flat(&read));
        assert_eq!(bytes, again.to_bytes().unwrap());
    }

    /// The super-networks of `checkpoints/`.
    fn shipped() -> Vec<PathBuf> {
        let files = std::fs::read_dir("checkpoints").unwrap().map(|entry| entry.unwrap().path());
        let files: Vec<_> =
            files.filter(|file| file.extension().is_some_and(|e| e == "safetensors")).collect();
        assert!(files.len() >= 2);
        files
    }

    #[test]
    fn what_ships_is_what_its_card_says() {
        for path in shipped() {
            let supernet = Supernet::load(&path, None).unwrap();
            let card = &supernet.card;
            assert_eq!((Some(supernet.family), Some(supernet.classes())), (card.family, card.classes));
            assert_eq!(Some(supernet.channels().width), card.width);
            assert_eq!(Some(card.class_names.len()), card.classes);
            // Whoever gets the file has no folder of whoever made it.
            assert_eq!(card.data_dir, None, "{}", path.display());

            let table = std::fs::read_to_string(path.with_extension("accuracies.json")).unwrap();
            let table: Value = serde_json::from_str(&table).unwrap();
            assert_eq!(table["weights"], *path.file_name().unwrap().to_str().unwrap());
            for row in table["rows"].as_array().unwrap() {
                let arch = Arch::from_json(supernet.family, &row["arch"]).unwrap();
                let cost = cost(supernet.channels(), &arch, Exits::single(&arch), supernet.classes());
                assert_eq!((&row["params"], &row["macs"]), (&json!(cost.params), &json!(cost.macs)));
                assert!(row["top1"].as_f64().is_some_and(|top1| (0.0..=100.0).contains(&top1)));
            }
        }
    }

    #[test]
    fn cards_come_back_with_what_is_not_understood() {
        for path in shipped() {
            let file = Card::path(&path);
            let text = std::fs::read_to_string(&file).unwrap();
            let card = Card::parse(&text, &file).unwrap();
            let written = card.to_json();
            assert_eq!(Card::parse(&written, &file).unwrap(), card);
            let [before, after]: [Value; 2] =
                [&text, &written].map(|text| serde_json::from_str(text).unwrap());
            assert_eq!(before, after);
        }
        assert_eq!(Card::default().to_json(), "{}\n");
    }

    #[test]
    fn a_tensor_that_is_not_whole_is_named() {
        let tensor = Tensor { shape: vec![2, 3], data: vec![0.0; 5] };
        let checkpoint = Checkpoint::from_tensors("x.safetensors", [("some.weight".into(), tensor)].into());
        assert!(checkpoint.to_bytes().unwrap_err().to_string().contains("some.weight"));
    }
}
