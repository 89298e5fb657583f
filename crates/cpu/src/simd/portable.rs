//! Vectors of eight elements in plain Rust, for any machine. The compiler maps them to what the target offers.

use super::vector::Simd;

/// Any machine.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

/// Defines lane-wise operations by their formula.
macro_rules! lane_wise {
    ($($name:ident($($arg:ident),*) = $formula:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: Self::V),*) -> Self::V {
            let mut y = [0.0; 8];
            for (i, y) in y.iter_mut().enumerate() {
                $(let $arg = $arg[i];)*
                *y = $formula;
            }
            y
        }
    )*};
}

impl Simd for Portable {
    type V = [f32; 8];
    const LANES: usize = 8;
    const TILE_ROWS: usize = 2;

    #[inline(always)]
    unsafe fn new() -> Self {
        Self
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load_at(self, x: *const f32) -> Self::V {
        // SAFETY: by this function's contract.
        unsafe { x.cast::<Self::V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_codes(self, x: *const i8) -> Self::V {
        // SAFETY: by this function's contract.
        unsafe { x.cast::<[i8; 8]>().read_unaligned() }.map(f32::from)
    }
    #[inline(always)]
    unsafe fn load_halves(self, x: *const u32) -> [Self::V; 2] {
        // SAFETY: by this function's contract.
        let words = unsafe { x.cast::<[u32; 8]>().read_unaligned() };
        [words.map(|word| f32::from_bits(word << 16)), words.map(|word| f32::from_bits(word & 0xffff_0000))]
    }
    #[inline(always)]
    unsafe fn store_at(self, y: *mut f32, v: Self::V) {
        // SAFETY: by this function's contract.
        unsafe { y.cast::<Self::V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn transpose(self, y: *mut f32, y_stride: usize, x: *const f32, x_stride: usize) {
        for (i, j) in (0..8).flat_map(|i| (0..8).map(move |j| (i, j))) {
            // SAFETY: by this function's contract.
            unsafe { *y.add(j * y_stride + i) = *x.add(i * x_stride + j) }
        }
    }
    #[inline(always)]
    fn prefetch(self, x: *const f32) {
        let _ = x;
    }

    #[inline(always)]
    fn load_part(self, x: &[f32]) -> Self::V {
        let mut v = [0.0; 8];
        v[..x.len()].copy_from_slice(x);
        v
    }
    #[inline(always)]
    fn store_part(self, y: &mut [f32], v: Self::V) {
        y.copy_from_slice(&v[..y.len()]);
    }

    lane_wise! {
        add(a, b) = a + b;
        sub(a, b) = a - b;
        mul(a, b) = a * b;
        div(a, b) = a / b;
        // Not `f32::mul_add`, which calls a library function on a target without the instruction.
        mul_add(a, b, c) = a * b + c;
        sqrt(a) = a.sqrt();
        max(a, b) = if a > b { a } else { b };
        min(a, b) = if a < b { a } else { b };
        round(a) = (a + 12_582_912.0) - 12_582_912.0; // 1.5 · 2²³: the fraction does not fit beside it
        exp2_integer(n) = f32::from_bits(((n as i32).wrapping_add(127) << 23) as u32);
        zero_where_less(v, a, b) = if a < b { 0.0 } else { v };
    }

    #[inline(always)]
    fn split(self, a: Self::V) -> (Self::V, Self::V) {
        let (mut m, mut n) = ([0.0; 8], [0.0; 8]);
        for ((a, m), n) in a.iter().zip(&mut m).zip(&mut n) {
            *m = f32::from_bits((a.to_bits() & 0x007f_ffff) | 0x3f80_0000);
            *n = ((a.to_bits() >> 23) as i32 - 127) as f32;
        }
        (m, n)
    }
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))
    }
    #[inline(always)]
    fn sum_8(self, v: [Self::V; 8]) -> [f32; 8] {
        let mut sums = [0.0; 8];
        for (sum, v) in sums.iter_mut().zip(v) {
            *sum = self.sum(v);
        }
        sums
    }
    #[inline(always)]
    fn greatest(self, v: Self::V) -> f32 {
        let mut m = v[0];
        for x in v {
            m = if m > x { m } else { x };
        }
        m
    }
}
