//! What every instruction set's vectors can do, and what is made of it once for all of them.

/// One instruction set's vectors. Every operation works lane by lane and rounds as IEEE 754 asks, unless it
/// says otherwise.
pub(crate) trait Simd: Copy {
    /// A vector.
    type V: Copy;
    /// Elements in a vector.
    const LANES: usize;
    /// Rows of a product's tile, two vectors wide: as many as the registers hold.
    const TILE_ROWS: usize;

    /// # Safety
    /// The machine has the instruction set.
    unsafe fn new() -> Self;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// # Safety
    /// `LANES` elements can be read at `x`.
    unsafe fn load_at(self, x: *const f32) -> Self::V;
    /// `LANES` integers.
    ///
    /// # Safety
    /// They can be read at `x`.
    unsafe fn load_codes(self, x: *const i8) -> Self::V;
    /// Two vectors of bf16: those of the lower halves of `LANES` words, and those of the upper.
    ///
    /// # Safety
    /// The words can be read at `x`.
    unsafe fn load_halves(self, x: *const u32) -> [Self::V; 2];
    /// # Safety
    /// `LANES` elements can be written at `y`.
    unsafe fn store_at(self, y: *mut f32, v: Self::V);
    /// Transposes a square of `LANES` by `LANES`: element `i` of row `j` of `y` is element `j` of row `i` of `x`.
    ///
    /// # Safety
    /// `LANES` elements can be read at `LANES` rows, `x_stride` elements apart, from `x` on, and written likewise at `y`.
    unsafe fn transpose(self, y: *mut f32, y_stride: usize, x: *const f32, x_stride: usize);
    /// Asks for the cache line at `x`, which may be any address.
    fn prefetch(self, x: *const f32);
    /// The elements of `x`, of which there are fewer than `LANES`; zero in the other lanes.
    fn load_part(self, x: &[f32]) -> Self::V;
    /// Stores the first lanes to `y`, which is shorter than `LANES`.
    fn store_part(self, y: &mut [f32], v: Self::V);

    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a − b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`, rounded once where the machine can.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `√a`
    fn sqrt(self, a: Self::V) -> Self::V;
    /// The greater; `b` if either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The lesser; `b` if either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// The nearest integer, ties to even.
    fn round(self, a: Self::V) -> Self::V;
    /// 2ⁿ for an integer −126 ≤ `n` ≤ 127.
    fn exp2_integer(self, n: Self::V) -> Self::V;
    /// `m` and `n` of a normal `a = m · 2ⁿ` above 0, with 1 ≤ `m` < 2.
    fn split(self, a: Self::V) -> (Self::V, Self::V);
    /// `v`, but 0 where `a < b`.
    fn zero_where_less(self, v: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// The sum of the lanes, added as a tree.
    fn sum(self, v: Self::V) -> f32;
    /// The sums of eight vectors, each added as the same tree.
    fn sum_8(self, v: [Self::V; 8]) -> [f32; 8];
    /// The greatest lane.
    fn greatest(self, v: Self::V) -> f32;

    /// The first `LANES` elements of `x`; zero where `x` is shorter.
    #[inline(always)]
    fn load(self, x: &[f32]) -> Self::V {
        if x.len() >= Self::LANES {
            // SAFETY: `x` holds `LANES` elements.
            unsafe { self.load_at(x.as_ptr()) }
        } else {
            self.load_part(x)
        }
    }

    /// As [`load`](Self::load), with `fill` where `x` is shorter than a vector.
    #[inline(always)]
    fn load_or(self, x: &[f32], fill: f32) -> Self::V {
        if x.len() >= Self::LANES {
            return self.load(x);
        }
        let mut full = [fill; 16];
        full[..x.len()].copy_from_slice(x);
        self.load(&full)
    }

    /// Stores the first lanes to `y`: all, or as many as fit.
    #[inline(always)]
    fn store(self, y: &mut [f32], v: Self::V) {
        if y.len() >= Self::LANES {
            // SAFETY: `y` holds `LANES` elements.
            unsafe { self.store_at(y.as_mut_ptr(), v) }
        } else {
            self.store_part(y, v);
        }
    }

    /// eᵃ to within 2 units in the last place: 0 below the least normal number, 2.4e38 for what exceeds it,
    /// NaN for NaN.
    ///
    /// `a = n ln 2 + r` with |r| ≤ ln 2 / 2 and ln 2 in two parts, then eᵃ = 2ⁿ (1 + r + r² P(r)); P is that
    /// of Cephes' `expf` (Moshier 1989).
    #[inline(always)]
    fn exp(self, a: Self::V) -> Self::V {
        const LEAST: f32 = -87.336_54;
        const GREATEST: f32 = 88.37;
        const LN_2_HIGH: f32 = 0.693_359_4;
        const LN_2_LOW: f32 = -2.121_944_4e-4;
        const P: [f32; 6] =
            [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
        // The bounds stand first, so that a NaN passes through.
        let x = self.min(self.splat(GREATEST), self.max(self.splat(LEAST), a));
        let n = self.round(self.mul(x, self.splat(std::f32::consts::LOG2_E)));
        let r = self.mul_add(n, self.splat(-LN_2_HIGH), x);
        let r = self.mul_add(n, self.splat(-LN_2_LOW), r);
        let mut p = self.splat(P[0]);
        for c in &P[1..] {
            p = self.mul_add(p, r, self.splat(*c));
        }
        let e = self.add(self.mul_add(p, self.mul(r, r), r), self.splat(1.0));
        self.zero_where_less(self.mul(e, self.exp2_integer(n)), a, self.splat(LEAST))
    }

    /// ln `a` of a normal `a` above 0, to within 2 units in the last place.
    ///
    /// `a = 2ⁿ (1 + f)` with √½ ≤ 1 + f < √2, then ln a = n ln 2 + f − f²/2 + f³ P(f); P is that of Cephes' `logf` (Moshier
    /// 1989).
    #[inline(always)]
    fn ln(self, a: Self::V) -> Self::V {
        const LN_2_HIGH: f32 = 0.693_359_4;
        const LN_2_LOW: f32 = -2.121_944_4e-4;
        const P: [f32; 9] = [
            7.037_683_6e-2,
            -1.151_461e-1,
            1.167_699_9e-1,
            -1.242_014_1e-1,
            1.424_932_3e-1,
            -1.666_805_8e-1,
            2.000_071_5e-1,
            -2.499_999_4e-1,
            0.333_333_3,
        ];
        let one = self.splat(1.0);
        let (m, n) = self.split(a);
        let half = self.zero_where_less(one, m, self.splat(std::f32::consts::SQRT_2));
        let (m, n) = (self.mul(m, self.mul_add(half, self.splat(-0.5), one)), self.add(n, half));
        let f = self.sub(m, one);
        let mut p = self.splat(P[0]);
        for c in &P[1..] {
            p = self.mul_add(p, f, self.splat(*c));
        }
        let square = self.mul(f, f);
        let rest = self.mul_add(self.mul(p, f), square, self.mul(n, self.splat(LN_2_LOW)));
        let rest = self.mul_add(square, self.splat(-0.5), rest);
        self.mul_add(n, self.splat(LN_2_HIGH), self.add(f, rest))
    }

    /// σ(a) = 1 / (1 + e⁻ᵃ)
    #[inline(always)]
    fn sigmoid(self, a: Self::V) -> Self::V {
        let one = self.splat(1.0);
        self.div(one, self.add(one, self.exp(self.sub(self.splat(0.0), a))))
    }

    /// Σ aᵢ bᵢ: one chain a lane, then the tree of [`sum`](Self::sum).
    #[inline(always)]
    fn dot(self, a: &[f32], b: &[f32]) -> f32 {
        let mut sum = self.splat(0.0);
        for (a, b) in a.chunks(Self::LANES).zip(b.chunks(Self::LANES)) {
            sum = self.mul_add(self.load(a), self.load(b), sum);
        }
        self.sum(sum)
    }
}
