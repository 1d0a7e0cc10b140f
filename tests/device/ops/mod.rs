//! Operators on every device, from the tables of `natv2::ops::cases`, against their definitions in f64.

mod formats;
mod half;
mod halves;
mod mbconv;
mod mbconv_pass;
mod not_numbers;
mod operators;
