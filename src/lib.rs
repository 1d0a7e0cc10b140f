//! natv2: multi-objective neural architecture search over weight-sharing super-networks.
//!
//! The map of the house. Each module uses only those above it; a test reads the `use` lines. Down to `report` they know
//! nothing of networks.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`exit`] | the codes that the program ends with, and which error ends with which |
//! | [`words`] | enums of words, as files, settings and flags write them |
//! | [`random`] | random streams, keyed by seed and purpose |
//! | [`run`] | the run directory: journal, checkpoints, lock, signals, progress |
//! | [`moo`] | multi-objective optimisation on plain numbers: sorting, NSGA-II, NSGA-III, directions, hypervolume |
//! | [`predictor`] | accuracy predictors on plain numbers: gradient-boosted trees, bagged CART |
//! | [`data`] | data sets, splits, the way from pixels to a network's input, training batches, downloads |
//! | [`report`] | the report of a run: one HTML file with inline SVG, from plain data |
//! | [`space`] | what can be searched: families, architectures, genotypes, sampling, exact costs |
//! | [`config`] | settings: profiles, configuration files, overrides |
//! | [`shown`] | commands that are shown to be run next, quoted for a shell |
//! | [`launch`] | the vocabulary of kernel launches: slots, panels of weights, geometry, arguments |
//! | [`ops`] | the operators: parameters, plain references, fast CPU paths, kernel launches |
//! | [`supernet`] | the shared weights: layout, checkpoints, cards |
//! | [`device`] | where networks run |
//! | [`engine`] | how networks run: plans, arenas, recalibration, evaluation |
//! | [`train`] | training super-networks: gradients of sub-networks added up, optimisers |
//! | [`evaluator`] | a super-network on a data set: the accuracy of its sub-networks |
//! | [`export`] | networks that run elsewhere: stand-alone files, ONNX |
//! | [`mod@finetune`] | found networks on their own: picking, two-step fine-tuning, exits as an ensemble |
//! | [`search`] | the archive loops of NAT and NATv2, random search, their results and comparisons |
//! | [`mod@bench`] | this machine's figures: kernels against what the device can do |
//! | [`pipeline`] | the whole method in one run directory, stage after stage |
//! | [`cli`] | the command line: one file a subcommand |
#![deny(unsafe_code)]

pub mod bench;
pub mod cli;
pub mod config;
pub mod data;
#[allow(unsafe_code)]
pub mod device;
pub mod engine;
pub mod evaluator;
pub mod exit;
pub mod export;
pub mod finetune;
pub mod launch;
#[cfg(test)]
mod map;
pub mod moo;
pub mod ops;
pub mod pipeline;
pub mod predictor;
pub mod random;
pub mod report;
pub mod run;
pub mod search;
pub mod shown;
pub mod space;
pub mod supernet;
pub mod train;
pub mod words;
