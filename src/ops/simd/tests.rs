//! Activations on every instruction set that this processor has.

use super::*;
use crate::ops::real::derivative;

struct Check;

impl Kernel for Check {
    #[inline(always)]
    fn run<V: Vector>(self) {
        check::<V>();
        check::<V::Half>();
    }
}

fn check<V: Vector>() {
    let source: Vec<f32> = (0..16).map(|i| i as f32 - 5.0).collect();
    let mut out = [0.0; 16];
    V::load(&source).activate(Activation::HSwish as u32).store(&mut out);
    for (x, y) in source.iter().zip(out).take(V::LANES) {
        let expected = x * (x + 3.0).clamp(0.0, 6.0) / 6.0;
        assert!((y - expected).abs() < 1e-6, "{x}: {y} against {expected}");
    }
    // -5 to 2, and -3 to 4 where there are eight lanes only: the corners are among them.
    for shift in [0, 2] {
        for activation in [Activation::None, Activation::Relu, Activation::HSwish, Activation::HSigmoid] {
            V::load(&source[shift.min(16 - V::LANES)..]).derivative(activation as u32).store(&mut out);
            for (&x, y) in source[shift.min(16 - V::LANES)..].iter().zip(out).take(V::LANES) {
                let expected = derivative(activation as u32, x);
                assert!((y - expected).abs() < 1e-6, "{activation:?}'({x}): {y} against {expected}");
            }
        }
    }
    keeps_nan::<V>();
}

/// NaN in every other lane: it stays where it is, and lanes beside it have their numbers.
fn keeps_nan<V: Vector>() {
    let numbers: Vec<f32> = (0..16).map(|i| i as f32 - 5.0).collect();
    let odd = |i: usize| i % 2 == 1;
    let mixed: Vec<f32> =
        numbers.iter().enumerate().map(|(i, &x)| if odd(i) { f32::NAN } else { x }).collect();
    let check = |what: &str, found: V, expected: V| {
        let (mut f, mut e) = ([0.0; 16], [0.0; 16]);
        found.store(&mut f);
        expected.store(&mut e);
        for i in 0..V::LANES {
            let same = if odd(i) { f[i].is_nan() } else { f[i].to_bits() == e[i].to_bits() };
            assert!(same, "{what} in lane {i}: {} where numbers alone give {}", f[i], e[i]);
        }
    };
    let (x, y) = (V::load(&mixed), V::load(&numbers));
    for activation in [Activation::None, Activation::Relu, Activation::HSwish, Activation::HSigmoid] {
        let number = activation as u32;
        check("activation", x.activate(number), y.activate(number));
        if activation != Activation::None {
            check("derivative", x.derivative(number), y.derivative(number));
        }
    }
    let one = V::splat(1.0);
    check("beaten", one.where_beaten(x, y).or_nan(x), V::splat(0.0));
    for (x, best, expected) in [(f32::NAN, 1.0, 1.0), (1.0, f32::NAN, 0.0), (f32::NAN, f32::NAN, 0.0)] {
        let mut found = [7.0; 16];
        one.where_beaten(V::splat(x), V::splat(best)).store(&mut found);
        assert!(found[..V::LANES].iter().all(|&f| f == expected), "{x} and {best}: {found:?}");
    }
    check("largest, first", x.largest(V::splat(0.5)), y.largest(V::splat(0.5)));
    check("largest, second", V::splat(0.5).largest(x), V::splat(0.5).largest(y));
}

#[test]
fn every_available_set_computes_activations() {
    Check.run::<Portable>();
    // SAFETY: guarded by the processor's own answer.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        if Isa::best() >= Isa::Avx2 {
            run_avx2(Check);
        }
        if Isa::best() >= Isa::Avx512 {
            run_avx512(Check);
        }
    }
    dispatch(Check);
}

#[test]
fn names_round_trip() {
    for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512] {
        assert_eq!(isa.to_string().parse(), Ok(isa));
    }
    assert!("sse9".parse::<Isa>().unwrap_err().contains("sse9"));
}
