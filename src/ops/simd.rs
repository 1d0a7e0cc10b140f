//! Vectors of f32 for the CPU operators, chosen at run time.
//!
//! An operator implements [`Kernel`] once, generic over [`Vector`]; [`dispatch`] runs it compiled
//! for the best instruction set that the processor has. Every implementation computes the same
//! fused multiply-adds in the same order per element, so lanes never change a result; only the
//! portable one, on processors without FMA, rounds twice where the others round once.
#![allow(unsafe_code)]

use crate::space::Activation;
use crate::words::{parsed, words};
use std::sync::atomic::{AtomicU8, Ordering};

words!(
    /// An instruction set that the operators are compiled for.
    #[derive(PartialOrd, Ord)]
    Isa {
        /// No vector instructions named; the compiler's baseline.
        Portable = "portable",
        /// AVX2 and FMA: 8 lanes.
        Avx2 = "avx2",
        /// AVX-512 F and VL: 16 lanes.
        Avx512 = "avx512",
    }
);

/// The set in use; none of them before the first question.
static CURRENT: AtomicU8 = AtomicU8::new(u8::MAX);

impl Isa {
    /// The best set that this processor has.
    pub fn best() -> Isa {
        #[cfg(target_arch = "x86_64")]
        {
            let fma = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if fma && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
                return Isa::Avx512;
            }
            if fma {
                return Isa::Avx2;
            }
        }
        Isa::Portable
    }

    /// The set in use: the best, unless [`Isa::pin`] has chosen another.
    pub fn current() -> Isa {
        let chosen = Isa::ALL.get(usize::from(CURRENT.load(Ordering::Relaxed)));
        chosen.copied().unwrap_or_else(|| {
            let best = Isa::best();
            CURRENT.store(best as u8, Ordering::Relaxed);
            best
        })
    }

    /// Uses `self` from now on, in the whole process.
    ///
    /// # Errors
    /// The best set, where the processor does not have `self`.
    pub fn pin(self) -> Result<(), Isa> {
        if self <= Isa::best() {
            CURRENT.store(self as u8, Ordering::Relaxed);
            Ok(())
        } else {
            Err(Isa::best())
        }
    }
}

parsed!(Isa, String, |text| format!("`{text}` is no instruction set: use portable, avx2 or avx512"));

/// A vector of [`Vector::LANES`] f32.
///
/// The methods are meant to be inlined into a [`Kernel`], where [`dispatch`] has made sure that the
/// processor has the instructions. A closure is a function of its own to the compiler and does not
/// have them: kernels are written with loops.
pub trait Vector: Copy {
    /// Number of lanes: 8 or 16.
    const LANES: usize;
    /// The vector of 8 lanes for the last channels where their number is no multiple of 16.
    type Half: Vector;
    /// Every lane `value`.
    fn splat(value: f32) -> Self;
    /// The first `LANES` elements of `from`; panics if there are fewer.
    fn load(from: &[f32]) -> Self;
    /// Writes to the first `LANES` elements of `to`; panics if there are fewer.
    fn store(self, to: &mut [f32]);

    /// [`Vector::load`] of what is at `at` and behind it, or `other` in every lane where there is nothing.
    #[inline(always)]
    fn load_or(from: Option<&[f32]>, at: usize, other: f32) -> Self {
        match from {
            Some(from) => Self::load(&from[at..]),
            None => Self::splat(other),
        }
    }

    /// Reads `LANES` elements.
    ///
    /// # Safety
    /// `from` must be valid for `LANES` reads.
    unsafe fn load_at(from: *const f32) -> Self;
    /// Writes `LANES` elements.
    ///
    /// # Safety
    /// `to` must be valid for `LANES` writes.
    unsafe fn store_at(self, to: *mut f32);
    /// `self * b + c`
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// Lane-wise sum.
    fn add(self, b: Self) -> Self;
    /// Lane-wise difference.
    fn sub(self, b: Self) -> Self;
    /// Lane-wise product.
    fn mul(self, b: Self) -> Self;
    /// Lane-wise the larger of `self` and `b`, and `b` where either is NaN or both are zeros: the processor's own
    /// rule. So the operand that may be NaN is `b`.
    fn max(self, b: Self) -> Self;
    /// Lane-wise the smaller, with the same rule.
    fn min(self, b: Self) -> Self;
    /// `self` in the lanes where `x > limit`, 0 in the others.
    fn where_above(self, x: Self, limit: Self) -> Self;
    /// `self` in the lanes where `x` is larger than `best`, or NaN where `best` is not; 0 in the others.
    fn where_beaten(self, x: Self, best: Self) -> Self;
    /// `self` in the lanes where `x` is a number, NaN in the others.
    fn or_nan(self, x: Self) -> Self;

    /// `max(self, 0)`; NaN stays NaN.
    #[inline(always)]
    fn relu(self) -> Self {
        Self::splat(0.0).max(self)
    }

    /// Lane-wise the larger, NaN where either is: for two operands that both may be.
    #[inline(always)]
    fn largest(self, b: Self) -> Self {
        self.max(b).or_nan(self)
    }

    /// `relu6(self + 3) / 6`; NaN stays NaN.
    #[inline(always)]
    fn hard_sigmoid(self) -> Self {
        let inner = Self::splat(6.0).min(self.add(Self::splat(3.0)).relu());
        inner.mul(Self::splat(1.0 / 6.0))
    }

    /// The activation with this number.
    #[inline(always)]
    fn activate(self, activation: u32) -> Self {
        match activation {
            a if a == Activation::Relu as u32 => self.relu(),
            a if a == Activation::HSwish as u32 => self.mul(self.hard_sigmoid()),
            a if a == Activation::HSigmoid as u32 => self.hard_sigmoid(),
            _ => self,
        }
    }

    /// The derivative of the activation with this number at `self`; at a corner that of the outer
    /// branch, at NaN NaN.
    #[inline(always)]
    fn derivative(self, activation: u32) -> Self {
        let (one, three) = (Self::splat(1.0), Self::splat(3.0));
        let slope = match activation {
            a if a == Activation::Relu as u32 => one.where_above(self, Self::splat(0.0)),
            a if a == Activation::HSwish as u32 => {
                let outside = one.sub(one.where_above(three, self));
                let slope = self.mul_add(Self::splat(1.0 / 3.0), Self::splat(0.5));
                slope.where_above(self, Self::splat(-3.0)).where_above(three, self).add(outside)
            }
            a if a == Activation::HSigmoid as u32 => {
                Self::splat(1.0 / 6.0).where_above(self, Self::splat(-3.0)).where_above(three, self)
            }
            _ => return one,
        };
        slope.or_nan(self)
    }
}

/// Calls a method or a function with each vector of `len` channels: as many whole ones as there are, and a half
/// one for the last eight. It is a macro because a closure has none of the instructions.
macro_rules! each_vector {
    ($vector:ident, $at:ident in 0..$len:expr => $function:ident $($rest:tt)+) => {{
        let len = $len;
        let whole = len / $vector::LANES * $vector::LANES;
        for $at in (0..whole).step_by($vector::LANES) {
            each_vector!(@call $vector, $function $($rest)+);
        }
        if whole < len {
            let $at = whole;
            each_vector!(@call <$vector as Vector>::Half, $function $($rest)+);
        }
    }};
    (@call $vector:ty, $this:ident.$method:ident::<$all:ident $(, $more:ident)*>($($argument:expr),+)) => {
        $this.$method::<$vector $(, $more)*>($($argument),+)
    };
    (@call $vector:ty, $function:ident::<$all:ident>($($argument:expr),+)) => {
        $function::<$vector>($($argument),+)
    };
}
pub(super) use each_vector;

/// Eight lanes without instructions of any kind; multiplies and adds round separately.
#[derive(Clone, Copy)]
pub struct Portable([f32; 8]);

impl Portable {
    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Portable(std::array::from_fn(|i| f(self.0[i], b.0[i])))
    }
}

impl Vector for Portable {
    const LANES: usize = 8;
    type Half = Portable;
    #[inline(always)]
    fn splat(value: f32) -> Self {
        Portable([value; 8])
    }
    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let mut lanes = [0.0; 8];
        lanes.copy_from_slice(&from[..8]);
        Portable(lanes)
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        to[..8].copy_from_slice(&self.0);
    }
    #[inline(always)]
    unsafe fn load_at(from: *const f32) -> Self {
        // SAFETY: the caller vouches for eight readable elements.
        Portable(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store_at(self, to: *mut f32) {
        // SAFETY: the caller vouches for eight writable elements.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) };
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        Portable(std::array::from_fn(|i| self.0[i] * b.0[i] + c.0[i]))
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        self.zip(b, |x, y| x + y)
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        self.zip(b, |x, y| x - y)
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        self.zip(b, |x, y| x * y)
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        self.zip(b, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    fn min(self, b: Self) -> Self {
        self.zip(b, |x, y| if x < y { x } else { y })
    }
    #[inline(always)]
    fn where_above(self, x: Self, limit: Self) -> Self {
        Portable(std::array::from_fn(|i| if x.0[i] > limit.0[i] { self.0[i] } else { 0.0 }))
    }
    #[inline(always)]
    fn where_beaten(self, x: Self, best: Self) -> Self {
        let beats = |x: f32, best: f32| x > best || (x.is_nan() && !best.is_nan());
        Portable(std::array::from_fn(|i| if beats(x.0[i], best.0[i]) { self.0[i] } else { 0.0 }))
    }
    #[inline(always)]
    fn or_nan(self, x: Self) -> Self {
        self.zip(x, |value, x| if x.is_nan() { f32::NAN } else { value })
    }
}

#[cfg(target_arch = "x86_64")]
macro_rules! x86_vector {
    ($(#[$doc:meta])* $name:ident($register:ty), $lanes:literal, $half:ident, $feature:literal, $entry:ident,
     $splat:ident, $load:ident, $store:ident, $fma:ident, $add:ident, $sub:ident, $mul:ident, $max:ident, $min:ident,
     $where_above:ident, $where_beaten:ident, $or_nan:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name($register);

        // SAFETY (all blocks below): the type is only used by kernels that `dispatch` runs through
        // the entry function of its instruction set, after the processor was asked for it.
        #[allow(clippy::undocumented_unsafe_blocks)]
        impl Vector for $name {
            const LANES: usize = $lanes;
            type Half = $half;
            #[inline(always)]
            fn splat(value: f32) -> Self {
                unsafe { $name(std::arch::x86_64::$splat(value)) }
            }
            #[inline(always)]
            fn load(from: &[f32]) -> Self {
                let from = &from[..$lanes];
                unsafe { $name(std::arch::x86_64::$load(from.as_ptr())) }
            }
            #[inline(always)]
            fn store(self, to: &mut [f32]) {
                let to = &mut to[..$lanes];
                unsafe { std::arch::x86_64::$store(to.as_mut_ptr(), self.0) }
            }
            #[inline(always)]
            unsafe fn load_at(from: *const f32) -> Self {
                unsafe { $name(std::arch::x86_64::$load(from)) }
            }
            #[inline(always)]
            unsafe fn store_at(self, to: *mut f32) {
                unsafe { std::arch::x86_64::$store(to, self.0) }
            }
            #[inline(always)]
            fn mul_add(self, b: Self, c: Self) -> Self {
                unsafe { $name(std::arch::x86_64::$fma(self.0, b.0, c.0)) }
            }
            #[inline(always)]
            fn add(self, b: Self) -> Self {
                unsafe { $name(std::arch::x86_64::$add(self.0, b.0)) }
            }
            #[inline(always)]
            fn sub(self, b: Self) -> Self {
                unsafe { $name(std::arch::x86_64::$sub(self.0, b.0)) }
            }
            #[inline(always)]
            fn mul(self, b: Self) -> Self {
                unsafe { $name(std::arch::x86_64::$mul(self.0, b.0)) }
            }
            #[inline(always)]
            fn max(self, b: Self) -> Self {
                unsafe { $name(std::arch::x86_64::$max(self.0, b.0)) }
            }
            #[inline(always)]
            fn min(self, b: Self) -> Self {
                unsafe { $name(std::arch::x86_64::$min(self.0, b.0)) }
            }
            #[inline(always)]
            fn where_above(self, x: Self, limit: Self) -> Self {
                unsafe { $name($where_above(self.0, x.0, limit.0)) }
            }
            #[inline(always)]
            fn where_beaten(self, x: Self, best: Self) -> Self {
                unsafe { $name($where_beaten(self.0, x.0, best.0)) }
            }
            #[inline(always)]
            fn or_nan(self, x: Self) -> Self {
                unsafe { $name($or_nan(self.0, x.0)) }
            }
        }

        #[target_feature(enable = $feature)]
        fn $entry<K: Kernel>(kernel: K) {
            kernel.run::<$name>();
        }
    };
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn where_above_avx2(
    value: std::arch::x86_64::__m256,
    x: std::arch::x86_64::__m256,
    limit: std::arch::x86_64::__m256,
) -> std::arch::x86_64::__m256 {
    use std::arch::x86_64::{_CMP_GT_OQ, _mm256_and_ps, _mm256_cmp_ps};
    _mm256_and_ps(value, _mm256_cmp_ps::<_CMP_GT_OQ>(x, limit))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
fn where_above_avx512(
    value: std::arch::x86_64::__m512,
    x: std::arch::x86_64::__m512,
    limit: std::arch::x86_64::__m512,
) -> std::arch::x86_64::__m512 {
    use std::arch::x86_64::{_CMP_GT_OQ, _mm512_cmp_ps_mask, _mm512_maskz_mov_ps};
    _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, limit), value)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn where_beaten_avx2(
    value: std::arch::x86_64::__m256,
    x: std::arch::x86_64::__m256,
    best: std::arch::x86_64::__m256,
) -> std::arch::x86_64::__m256 {
    use std::arch::x86_64::{_CMP_NLE_UQ, _CMP_ORD_Q, _mm256_and_ps, _mm256_cmp_ps};
    // Larger or not to be compared, and not because of `best`.
    let beats = _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLE_UQ>(x, best), _mm256_cmp_ps::<_CMP_ORD_Q>(best, best));
    _mm256_and_ps(value, beats)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
fn where_beaten_avx512(
    value: std::arch::x86_64::__m512,
    x: std::arch::x86_64::__m512,
    best: std::arch::x86_64::__m512,
) -> std::arch::x86_64::__m512 {
    use std::arch::x86_64::{_CMP_NLE_UQ, _CMP_ORD_Q, _mm512_cmp_ps_mask, _mm512_maskz_mov_ps};
    let beats = _mm512_cmp_ps_mask::<_CMP_NLE_UQ>(x, best) & _mm512_cmp_ps_mask::<_CMP_ORD_Q>(best, best);
    _mm512_maskz_mov_ps(beats, value)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn or_nan_avx2(value: std::arch::x86_64::__m256, x: std::arch::x86_64::__m256) -> std::arch::x86_64::__m256 {
    use std::arch::x86_64::{_CMP_UNORD_Q, _mm256_cmp_ps, _mm256_or_ps};
    // A lane of ones is a NaN.
    _mm256_or_ps(value, _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
fn or_nan_avx512(
    value: std::arch::x86_64::__m512,
    x: std::arch::x86_64::__m512,
) -> std::arch::x86_64::__m512 {
    use std::arch::x86_64::{_CMP_UNORD_Q, _mm512_cmp_ps_mask, _mm512_mask_mov_ps};
    _mm512_mask_mov_ps(value, _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x), x)
}

#[cfg(target_arch = "x86_64")]
x86_vector!(
    /// Eight lanes, AVX2 and FMA.
    Avx2(std::arch::x86_64::__m256), 8, Avx2, "avx2,fma", run_avx2,
    _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps,
    _mm256_add_ps, _mm256_sub_ps, _mm256_mul_ps, _mm256_max_ps, _mm256_min_ps,
    where_above_avx2, where_beaten_avx2, or_nan_avx2
);

#[cfg(target_arch = "x86_64")]
x86_vector!(
    /// Sixteen lanes, AVX-512.
    Avx512(std::arch::x86_64::__m512), 16, Avx2, "avx512f,avx512vl,avx2,fma", run_avx512,
    _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps,
    _mm512_add_ps, _mm512_sub_ps, _mm512_mul_ps, _mm512_max_ps, _mm512_min_ps,
    where_above_avx512, where_beaten_avx512, or_nan_avx512
);

/// Work that is written once and compiled for every instruction set.
pub trait Kernel {
    /// Does the work. Implementations are `#[inline(always)]`, so that they become part of the
    /// function that has the instructions enabled.
    fn run<V: Vector>(self);
}

/// Runs a kernel with the instruction set in use.
#[inline]
pub fn dispatch<K: Kernel>(kernel: K) {
    match Isa::current() {
        // SAFETY: `Isa::current` only names sets that the processor has.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { run_avx512(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { run_avx2(kernel) },
        _ => kernel.run::<Portable>(),
    }
}

#[cfg(test)]
mod tests;
