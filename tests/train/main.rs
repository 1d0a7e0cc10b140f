//! Training: the definitions of gradients, steps of whole super-networks, `natv2 train` and fine-tuning.

#[path = "../common/mod.rs"]
mod common;

mod command;
mod finetune;
mod gradients;
mod minutes;
mod precision;
mod schedules;
mod steps;
