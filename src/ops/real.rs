//! The number type that reference operators are generic over.

use super::Activation;

/// f32 or f64.
pub trait Real: num_traits::Float + std::iter::Sum + std::fmt::Debug + Send + Sync + 'static {
    /// The nearest value to `value`.
    fn of(value: f64) -> Self;
    /// The value as f64, exactly.
    fn wide(self) -> f64;
}

impl Real for f32 {
    fn of(value: f64) -> f32 {
        value as f32
    }
    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    fn of(value: f64) -> f64 {
        value
    }
    fn wide(self) -> f64 {
        self
    }
}

/// The larger of two, NaN where either is; `max` of the standard library takes the other one then.
pub(crate) fn largest<T: Real>(a: T, b: T) -> T {
    if a.is_nan() || b.is_nan() { T::nan() } else { a.max(b) }
}

/// The activation as its definition reads; NaN stays NaN.
pub(crate) fn activate<T: Real>(activation: u32, x: T) -> T {
    if x.is_nan() {
        return x;
    }
    let relu6 = |x: T| x.max(T::zero()).min(T::of(6.0));
    match activation {
        a if a == Activation::Relu as u32 => x.max(T::zero()),
        a if a == Activation::HSwish as u32 => x * relu6(x + T::of(3.0)) / T::of(6.0),
        a if a == Activation::HSigmoid as u32 => relu6(x + T::of(3.0)) / T::of(6.0),
        _ => x,
    }
}

/// Its derivative; at a corner, as PyTorch has it, that of the outer branch; at NaN NaN.
pub(crate) fn derivative<T: Real>(activation: u32, x: T) -> T {
    if x.is_nan() && activation != Activation::None as u32 {
        return x;
    }
    let three = T::of(3.0);
    let inside = x > -three && x < three;
    match activation {
        a if a == Activation::Relu as u32 => {
            if x > T::zero() {
                T::one()
            } else {
                T::zero()
            }
        }
        a if a == Activation::HSwish as u32 => {
            if inside {
                x / three + T::of(0.5)
            } else if x >= three {
                T::one()
            } else {
                T::zero()
            }
        }
        a if a == Activation::HSigmoid as u32 => {
            if inside {
                T::of(1.0 / 6.0)
            } else {
                T::zero()
            }
        }
        _ => T::one(),
    }
}
