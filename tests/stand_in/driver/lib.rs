//! A driver library without a card: `libcuda.so.1`, so that the host side of CUDA runs where there is none.
//!
//! `cargo build --example cuda` makes it. A program finds it by `LD_LIBRARY_PATH`, as
//! `scripts/with-stand-in-driver` sets it; nothing of the program is changed for it. Its kernels are those of the
//! emulator, which it holds itself.
//!
//! It is stricter than a driver has to be:
//!
//! - what is asked of a kernel is checked against the machine code that was loaded (`image`, `launch`): the sizes of
//!   its parameters, shared memory, threads, registers;
//! - every call needs a context on its thread, and handles are of that context (`state`);
//! - a stream is a queue (`streams`). Nothing on it is done before it has to be, or whenever the seed says so: a copy
//!   whose source changes, memory that is used again too early and a wait that is missing show;
//! - memory is poisoned when it is new and unmapped when it is freed (`memory`, `crash`);
//! - what is never given back is named at the end (`report`).
//!
//! What it finds is a line `stand-in driver: fault: ..` on standard error, and the process ends with exit code 86.
//!
//! # Environment
//!
//! All names begin with `NATV2_STAND_IN_` (`settings`):
//!
//! - `SEED`: 0 for as late as may be; any other number is another interleaving of the streams;
//! - `FAIL`: calls that are to fail, as `cuMemAlloc_v2:3:CUDA_ERROR_OUT_OF_MEMORY` (`failures`);
//! - `MEMORY`, `CARDS`, `CUDA`, `COMPUTE`: bytes of a card, how many there are, the version of CUDA as `13000`, the
//!   compute capability as `9.0`;
//! - `REPORT`: a file for what was called how often, and what was found;
//! - `SKIP`: the number of a kernel, as they run, that does nothing: the card computes wrong results;
//! - `TERMINATED=1`: the program promises a null pointer behind the last parameter of a launch, so that one too many
//!   is seen.

mod api;
mod codes;
mod context;
mod control;
mod crash;
mod emulator;
mod failures;
mod image;
mod launch;
mod memory;
mod report;
mod settings;
mod state;
mod streams;
