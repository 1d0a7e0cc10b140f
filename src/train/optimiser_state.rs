//! What an optimiser remembers of the steps so far, on its way from and to checkpoints.

use super::{Error, LossScale, Rule};
use crate::run;
use crate::supernet::{self, Checkpoint, Layout, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

/// Names of the vectors in a file.
const FIRST: &str = "first";
const SECOND: &str = "second";

/// An optimiser's state: vectors laid out as the packed super-network, and steps.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimiserState {
    /// Velocity, or first moment.
    pub first: Vec<f32>,
    /// Second moment.
    pub second: Option<Vec<f32>>,
    /// Steps that each tensor has taken.
    pub steps: Vec<u64>,
    /// The scale of losses, which only f16 uses.
    pub loss_scale: LossScale,
}

impl OptimiserState {
    /// The state of an optimiser that has not yet moved.
    pub fn zeros(layout: &Layout, rule: Rule) -> OptimiserState {
        let zeros = || vec![0.0; layout.derived()];
        let second = matches!(rule, Rule::AdamW).then(zeros);
        let (steps, loss_scale) = (vec![0; layout.tensors().len()], LossScale::default());
        OptimiserState { first: zeros(), second, steps, loss_scale }
    }

    /// The vectors with their names, for [`sound`](super::checks::sound).
    pub fn vectors(&self) -> impl Iterator<Item = (&str, &[f32])> {
        let second = self.second.as_ref().map(|second| ("the optimiser's second moment", &second[..]));
        [("the optimiser's momentum", &self.first[..])].into_iter().chain(second)
    }

    /// The vectors as a file. Steps and scale are no tensors of floats: a checkpoint's writer keeps them.
    ///
    /// # Errors
    /// None: two vectors fit any file.
    pub fn to_bytes(&self) -> Result<Vec<u8>, supernet::Error> {
        let tensor = |data: &Vec<f32>| Tensor { shape: vec![data.len()], data: data.clone() };
        let mut tensors = BTreeMap::from([(FIRST.to_string(), tensor(&self.first))]);
        tensors.extend(self.second.as_ref().map(|second| (SECOND.to_string(), tensor(second))));
        Checkpoint::from_tensors(Path::new("optimiser"), tensors).to_bytes()
    }

    /// Reads what [`OptimiserState::to_bytes`] made, `path` being for messages.
    ///
    /// # Errors
    /// Bytes that are not those of an optimiser's state.
    pub fn parse(
        bytes: &[u8],
        path: &Path,
        steps: Vec<u64>,
        loss_scale: LossScale,
    ) -> Result<OptimiserState, Error> {
        let file = Checkpoint::parse(bytes, path)?;
        let vector = |name: &str| file.tensor(name).map(|tensor| tensor.data.clone());
        let first = vector(FIRST).ok_or_else(|| run::Error::State {
            path: path.to_path_buf(),
            reason: "the optimiser has no tensor `first`".into(),
        })?;
        Ok(OptimiserState { first, second: vector(SECOND), steps, loss_scale })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_a_checkpoint() {
        let mut scale = LossScale::default();
        scale.overflows(crate::engine::Precision::F16, f64::INFINITY);
        for second in [None, Some(vec![0.25, -2.0])] {
            let state = OptimiserState { first: vec![1.0, -0.5], second, steps: vec![3], loss_scale: scale };
            let bytes = state.to_bytes().unwrap();
            let read = OptimiserState::parse(&bytes, Path::new("o"), vec![3], scale).unwrap();
            assert_eq!(read, state);
        }
        let tensors = BTreeMap::from([("other".to_string(), Tensor { shape: vec![1], data: vec![1.0] })]);
        let bytes = Checkpoint::from_tensors(Path::new("o"), tensors).to_bytes().unwrap();
        let error = OptimiserState::parse(&bytes, Path::new("o"), Vec::new(), scale).unwrap_err().to_string();
        assert!(error.starts_with("o: ") && error.contains("`first`"), "{error}");
    }
}
