//! The engine: whole networks of every family, in every precision, one by one and many at once, on devices that
//! watch what is asked of them. What needs no such device and holds on any is in `tests/device`.

#[path = "../common/mod.rs"]
mod common;

mod families;
mod model;
mod passes;
mod precision;
mod streams;
mod waits;
