//! Programs: lists of calls on one arena, ready to run.

use crate::ops::{Call, Slot, Work};
use std::sync::Arc;

/// A list of calls on one arena, for a fixed number of images.
#[derive(Debug, Clone)]
pub struct Program {
    /// What to run; shared with what is recorded of it.
    pub calls: Arc<Vec<Call>>,
    /// Elements of the arena.
    pub arena_len: usize,
    /// Images of a run.
    pub images: usize,
    /// Side of the images.
    pub side: usize,
    /// Where the images go: `[images, side, side, 3]`.
    pub input: Slot,
    /// Where labels go, before a run that gives scores: `[images]`.
    pub labels: Slot,
    /// What a run leaves to be read: the logits or scores of all heads of the tree, and gaps between them.
    pub results: Slot,
    /// Logits of every head of the tree, `[images, stride]` with [`Program::logit_stride`]; or none.
    pub logits: Vec<Slot>,
    /// Scores of every head of the tree, `[images, 2]`; or none.
    pub scores: Vec<Slot>,
    /// Elements from one image's logits to the next's.
    pub logit_stride: usize,
}

impl Program {
    /// Bytes and FLOPs of one run.
    pub fn work(&self) -> Work {
        self.calls.iter().map(Call::work).sum()
    }
}

/// What a program gives of every head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Its logits.
    Logits,
    /// Cross entropy and correctness, for which it takes labels.
    Scores,
}
