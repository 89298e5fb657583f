//! AVX-512 (F, BW, DQ, VL): sixteen elements in a vector, thirty-two registers.

#[allow(clippy::wildcard_imports, reason = "the names of intrinsics say where they are from")]
use std::arch::x86_64::*;

use super::{avx2::Avx2, vector::Simd};

/// A machine with AVX-512 F, BW, DQ and VL, and thus AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

/// Defines operations that are one instruction.
macro_rules! instructions {
    ($($name:ident($($arg:ident),*) = $instruction:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: Self::V),*) -> Self::V {
            // SAFETY: a value of this type proves that the machine has AVX-512.
            unsafe { $instruction }
        }
    )*};
}

#[allow(clippy::unused_self, reason = "`self` is the proof that the machine has the instructions")]
impl Avx512 {
    /// The sum of the lower and the upper half.
    #[inline(always)]
    fn fold(self, v: __m512) -> __m256 {
        // SAFETY: a value of this type proves that the machine has AVX-512.
        unsafe { _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v)) }
    }

    /// The half as wide instruction set, which the machine has as well.
    #[inline(always)]
    fn avx2(self) -> Avx2 {
        // SAFETY: a machine with AVX-512 has AVX2 and FMA.
        unsafe { Avx2::new() }
    }
}

impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const TILE_ROWS: usize = 12;

    #[inline(always)]
    unsafe fn new() -> Self {
        Self(())
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: a value of this type proves that the machine has AVX-512.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load_at(self, x: *const f32) -> __m512 {
        // SAFETY: by this function's contract.
        unsafe { _mm512_loadu_ps(x) }
    }
    #[inline(always)]
    unsafe fn load_codes(self, x: *const i8) -> __m512 {
        // SAFETY: by this function's contract; AVX-512 as for every operation of `Avx512`.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(x.cast()))) }
    }
    #[inline(always)]
    unsafe fn load_halves(self, x: *const u32) -> [__m512; 2] {
        // SAFETY: by this function's contract; AVX-512 as for every operation of `Avx512`.
        unsafe {
            let words = _mm512_loadu_si512(x.cast());
            let upper = _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            [_mm512_slli_epi32::<16>(words), upper].map(|v| _mm512_castsi512_ps(v))
        }
    }
    #[inline(always)]
    unsafe fn store_at(self, y: *mut f32, v: __m512) {
        // SAFETY: by this function's contract.
        unsafe { _mm512_storeu_ps(y, v) }
    }
    #[inline(always)]
    unsafe fn transpose(self, y: *mut f32, y_stride: usize, x: *const f32, x_stride: usize) {
        for (i, j) in [(0, 0), (0, 8), (8, 0), (8, 8)] {
            // SAFETY: by this function's contract, a quarter at a time.
            unsafe {
                let (y, x) = (y.add(j * y_stride + i), x.add(i * x_stride + j));
                self.avx2().transpose(y, y_stride, x, x_stride);
            }
        }
    }
    #[inline(always)]
    fn prefetch(self, x: *const f32) {
        // SAFETY: a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(x.cast()) }
    }

    #[inline(always)]
    fn load_part(self, x: &[f32]) -> __m512 {
        // SAFETY: the mask keeps to the elements of `x`.
        unsafe { _mm512_maskz_loadu_ps((1 << x.len()) - 1, x.as_ptr()) }
    }
    #[inline(always)]
    fn store_part(self, y: &mut [f32], v: __m512) {
        // SAFETY: the mask keeps to the elements of `y`.
        unsafe { _mm512_mask_storeu_ps(y.as_mut_ptr(), (1 << y.len()) - 1, v) }
    }

    instructions! {
        add(a, b) = _mm512_add_ps(a, b);
        sub(a, b) = _mm512_sub_ps(a, b);
        mul(a, b) = _mm512_mul_ps(a, b);
        div(a, b) = _mm512_div_ps(a, b);
        mul_add(a, b, c) = _mm512_fmadd_ps(a, b, c);
        sqrt(a) = _mm512_sqrt_ps(a);
        max(a, b) = _mm512_max_ps(a, b);
        min(a, b) = _mm512_min_ps(a, b);
        round(a) = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        exp2_integer(n) = _mm512_castsi512_ps(_mm512_slli_epi32::<23>(
            _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127))
        ));
        zero_where_less(v, a, b) = _mm512_maskz_mov_ps(!_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), v);
    }

    #[inline(always)]
    fn split(self, a: __m512) -> (__m512, __m512) {
        // SAFETY: a value of this type proves that the machine has AVX-512.
        unsafe {
            let m = _mm512_getmant_ps::<_MM_MANT_NORM_1_2, _MM_MANT_SIGN_SRC>(a);
            (m, _mm512_getexp_ps(a))
        }
    }
    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        self.avx2().sum(self.fold(v))
    }
    #[inline(always)]
    fn sum_8(self, v: [__m512; 8]) -> [f32; 8] {
        let [a, b, c, d, e, f, g, h] = v;
        let low = [self.fold(a), self.fold(b), self.fold(c), self.fold(d)];
        let high = [self.fold(e), self.fold(f), self.fold(g), self.fold(h)];
        self.avx2().sum_8([low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]])
    }
    #[inline(always)]
    fn greatest(self, v: __m512) -> f32 {
        // SAFETY: a value of this type proves that the machine has AVX-512.
        let halves = unsafe { _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v)) };
        self.avx2().greatest(halves)
    }
}
