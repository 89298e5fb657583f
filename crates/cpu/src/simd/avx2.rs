//! AVX2 with FMA: eight elements in a vector, sixteen registers.

#[allow(clippy::wildcard_imports, reason = "the names of intrinsics say where they are from")]
use std::arch::x86_64::*;

use super::vector::Simd;

/// A machine with AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

/// Defines operations that are one instruction.
macro_rules! instructions {
    ($($name:ident($($arg:ident),*) = $instruction:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: Self::V),*) -> Self::V {
            // SAFETY: a value of this type proves that the machine has AVX2 and FMA.
            unsafe { $instruction }
        }
    )*};
}

impl Avx2 {
    /// Four elements at `x`, then four from four rows further down.
    ///
    /// # Safety
    /// They can be read.
    #[inline(always)]
    unsafe fn pair(x: *const f32, stride: usize) -> __m256 {
        // SAFETY: by this function's contract; AVX as for every operation of `Avx2`.
        unsafe {
            let (upper, lower) = (_mm_loadu_ps(x), _mm_loadu_ps(x.add(4 * stride)));
            _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(upper), lower)
        }
    }

    /// A mask of the first `n` lanes.
    #[inline(always)]
    fn first(n: usize) -> __m256i {
        const ONES_THEN_ZEROS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
        let mask = &ONES_THEN_ZEROS[8 - n..][..8];
        // SAFETY: eight integers can be read at `mask`; AVX as for every operation of `Avx2`.
        unsafe { _mm256_loadu_si256(mask.as_ptr().cast()) }
    }
}

impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const TILE_ROWS: usize = 6;

    #[inline(always)]
    unsafe fn new() -> Self {
        Self(())
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: a value of this type proves that the machine has AVX2 and FMA.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load_at(self, x: *const f32) -> __m256 {
        // SAFETY: by this function's contract.
        unsafe { _mm256_loadu_ps(x) }
    }
    #[inline(always)]
    unsafe fn load_codes(self, x: *const i8) -> __m256 {
        // SAFETY: by this function's contract; AVX2 as for every operation of `Avx2`.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(x.cast()))) }
    }
    #[inline(always)]
    unsafe fn load_halves(self, x: *const u32) -> [__m256; 2] {
        // SAFETY: by this function's contract; AVX2 as for every operation of `Avx2`.
        unsafe {
            let words = _mm256_loadu_si256(x.cast());
            let upper = _mm256_and_si256(words, _mm256_set1_epi32(0xffff_0000_u32 as i32));
            [_mm256_slli_epi32::<16>(words), upper].map(|v| _mm256_castsi256_ps(v))
        }
    }
    #[inline(always)]
    unsafe fn store_at(self, y: *mut f32, v: __m256) {
        // SAFETY: by this function's contract.
        unsafe { _mm256_storeu_ps(y, v) }
    }
    #[inline(always)]
    unsafe fn transpose(self, y: *mut f32, y_stride: usize, x: *const f32, x_stride: usize) {
        // SAFETY: by this function's contract: four elements each from two places of eight rows, eight to each of eight.
        unsafe {
            for half in 0..2 {
                let x = x.add(4 * half);
                let [a, b] = [Self::pair(x, x_stride), Self::pair(x.add(x_stride), x_stride)];
                let x = x.add(2 * x_stride);
                let [c, d] = [Self::pair(x, x_stride), Self::pair(x.add(x_stride), x_stride)];
                let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
                let columns = [
                    _mm256_shuffle_ps::<0x44>(ab_low, cd_low),
                    _mm256_shuffle_ps::<0xEE>(ab_low, cd_low),
                    _mm256_shuffle_ps::<0x44>(ab_high, cd_high),
                    _mm256_shuffle_ps::<0xEE>(ab_high, cd_high),
                ];
                for (j, column) in columns.into_iter().enumerate() {
                    self.store_at(y.add((4 * half + j) * y_stride), column);
                }
            }
        }
    }
    #[inline(always)]
    fn prefetch(self, x: *const f32) {
        // SAFETY: a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(x.cast()) }
    }

    #[inline(always)]
    fn load_part(self, x: &[f32]) -> __m256 {
        // SAFETY: the mask keeps to the elements of `x`.
        unsafe { _mm256_maskload_ps(x.as_ptr(), Self::first(x.len())) }
    }
    #[inline(always)]
    fn store_part(self, y: &mut [f32], v: __m256) {
        // SAFETY: the mask keeps to the elements of `y`.
        unsafe { _mm256_maskstore_ps(y.as_mut_ptr(), Self::first(y.len()), v) }
    }

    instructions! {
        add(a, b) = _mm256_add_ps(a, b);
        sub(a, b) = _mm256_sub_ps(a, b);
        mul(a, b) = _mm256_mul_ps(a, b);
        div(a, b) = _mm256_div_ps(a, b);
        mul_add(a, b, c) = _mm256_fmadd_ps(a, b, c);
        sqrt(a) = _mm256_sqrt_ps(a);
        max(a, b) = _mm256_max_ps(a, b);
        min(a, b) = _mm256_min_ps(a, b);
        round(a) = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        exp2_integer(n) = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(
            _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127))
        ));
        zero_where_less(v, a, b) = _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(a, b), v);
    }

    #[inline(always)]
    fn split(self, a: __m256) -> (__m256, __m256) {
        // SAFETY: a value of this type proves that the machine has AVX2 and FMA.
        unsafe {
            let bits = _mm256_castps_si256(a);
            let n = _mm256_sub_epi32(_mm256_srli_epi32::<23>(bits), _mm256_set1_epi32(127));
            let m = _mm256_or_si256(
                _mm256_and_si256(bits, _mm256_set1_epi32(0x007f_ffff)),
                _mm256_set1_epi32(0x3f80_0000),
            );
            (_mm256_castsi256_ps(m), _mm256_cvtepi32_ps(n))
        }
    }
    #[inline(always)]
    fn sum(self, v: __m256) -> f32 {
        self.sum_8([v; 8])[0]
    }
    #[inline(always)]
    fn sum_8(self, v: [__m256; 8]) -> [f32; 8] {
        let mut sums = [0.0; 8];
        // SAFETY: a value of this type proves that the machine has AVX2 and FMA.
        let sum = unsafe {
            // Within each half: neighbours, then neighbouring pairs; then the halves.
            let [a, b] = [_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3])];
            let [c, d] = [_mm256_hadd_ps(v[4], v[5]), _mm256_hadd_ps(v[6], v[7])];
            let [a, c] = [_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d)];
            _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(a, c), _mm256_permute2f128_ps::<0x31>(a, c))
        };
        self.store(&mut sums, sum);
        sums
    }
    #[inline(always)]
    fn greatest(self, v: __m256) -> f32 {
        // SAFETY: a value of this type proves that the machine has AVX2 and FMA.
        unsafe {
            let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_max_ss(v, _mm_shuffle_ps::<1>(v, v)))
        }
    }
}
