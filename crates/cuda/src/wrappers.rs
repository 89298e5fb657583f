//! Holds each wrapper of `kernels/device.h` to what it is said to do: the one part of the kernels that the emulator cannot
//! prove, since it has definitions of its own.

use crate::{
    cuda::Cuda,
    device::Address,
    launch::params,
    memory::{Bf16, Element, Memory},
};

params! {
    struct TestMultiplyAdd { a: Address, b: Address, c: Address, d: Address }
}
params! {
    struct TestLoadMatrices { x: Address, rows: Address, y: Address, words: u32, transposed: u32 }
}
params! {
    struct TestCopies { x: Address, valid: Address, y: Address }
}
params! {
    struct TestNumbers { x: Address, y: Address, z: Address, out: Address, n: u64 }
}
params! {
    struct TestLanes { x: Address, from: Address, y: Address }
}

impl Cuda {
    /// Runs each wrapper of the instructions that kernels are made of, on random and on special numbers, and compares it with the
    /// published model of Hopper's arithmetic, to the bit where that is defined.
    ///
    /// # Panics
    /// With the wrapper, its operands and both results, where they differ.
    pub fn check_wrappers(&self) {
        multiply_add(self);
        load_matrices(self);
        copies(self);
        numbers(self);
        lanes(self);
    }

    fn uploaded<T: Element>(&self, values: &[T]) -> Memory<T> {
        let memory = self.scratch(values.len());
        memory.write(values);
        memory
    }
}

/// Random bits: splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// What kind of numbers matrices are filled with.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Of magnitudes from 2⁻⁸ to 2⁸.
    Ordinary,
    /// Of any exponent; sums may overflow.
    AnyExponent,
    /// Near the smallest normal numbers, below them, and zeros.
    Tiny,
    /// Few of them not zero.
    Sparse,
    /// Infinities and NaN among ordinary ones.
    NotFinite,
    /// Products from 2⁻¹³⁵ to 2⁻¹²⁸, added to zero.
    TinyToZero,
    /// The same added to numbers below the normal ones.
    TinyToTiny,
    /// Zero times large numbers beside small products.
    ZeroTimesLarge,
    /// Numbers below the normal ones times large numbers.
    TinyTimesLarge,
}

const KINDS: [Kind; 9] = [
    Kind::Ordinary,
    Kind::AnyExponent,
    Kind::Tiny,
    Kind::Sparse,
    Kind::NotFinite,
    Kind::TinyToZero,
    Kind::TinyToTiny,
    Kind::ZeroTimesLarge,
    Kind::TinyTimesLarge,
];
/// Products of 16 x 16 x 8 of each kind.
const CASES: usize = 400;
/// An operand of a product, by its place in the sum.
#[derive(Clone, Copy)]
enum Of {
    A(usize),
    B(usize),
    C,
}

impl Kind {
    /// The upper half of an f32, and its lower half where it is wanted.
    fn bits(self, of: Of, random: &mut Random) -> u32 {
        let x = random.next();
        let (sign, fraction) = ((x >> 63 << 31) as u32, x as u32 & 0x7f_ffff);
        let with = |exponent: u64| sign | (exponent as u32) << 23 | fraction;
        match (self, of) {
            (Self::AnyExponent, _) => with(random.below(255)),
            (Self::Tiny, _) if random.below(8) == 0 => sign,
            (Self::Tiny, _) => with([0, 1, 40, 63, 64, 65][random.below(6) as usize]),
            (Self::Sparse, _) if random.below(4) > 0 => sign,
            (Self::Sparse, _) => with(100 + random.below(60)),
            (Self::NotFinite, _) if random.below(100) == 0 => {
                sign | 0x7f80_0000 | ((random.below(2) as u32) << 22)
            }
            (Self::Ordinary | Self::NotFinite, _) => with(119 + random.below(17)),
            (Self::TinyToZero | Self::TinyToTiny, Of::A(_)) => with(62 + random.below(3)),
            (Self::TinyToZero | Self::TinyToTiny, Of::B(_)) => with(57 + random.below(6)),
            (Self::TinyToZero, Of::C) => sign,
            (Self::TinyToTiny, Of::C) => sign | (fraction >> random.below(23)),
            (Self::ZeroTimesLarge, Of::A(k)) if k % 2 == 1 => sign,
            (Self::ZeroTimesLarge, Of::A(_)) => with(90 + random.below(11)),
            (Self::ZeroTimesLarge, Of::B(k)) if k % 2 == 1 => with(200 + random.below(55)),
            (Self::ZeroTimesLarge, Of::B(_)) => with(60 + random.below(41)),
            (Self::ZeroTimesLarge, Of::C) => with(20 + random.below(54)),
            (Self::TinyTimesLarge, Of::A(_)) => with(0),
            (Self::TinyTimesLarge, Of::B(_)) => with(190 + random.below(61)),
            (Self::TinyTimesLarge, Of::C) => with(60 + random.below(65)),
        }
    }
}

fn multiply_add(cuda: &Cuda) {
    for kind in KINDS {
        let mut random = Random(kind as u64);
        let mut half = |of| Bf16((kind.bits(of, &mut random) >> 16) as u16);
        let a: Vec<Bf16> = (0..CASES * 256).map(|i| half(Of::A(i % 16))).collect();
        let b: Vec<Bf16> = (0..CASES * 128).map(|i| half(Of::B(i / 8 % 16))).collect();
        let mut random = Random(!(kind as u64));
        let c: Vec<f32> = (0..CASES * 128).map(|_| f32::from_bits(kind.bits(Of::C, &mut random))).collect();
        let d = cuda.scratch::<f32>(c.len());
        let [of_a, of_b] = [&a, &b].map(|x| cuda.uploaded(x));
        let of_c = cuda.uploaded(&c);
        let params = TestMultiplyAdd { a: of_a.at(0), b: of_b.at(0), c: of_c.at(0), d: d.at(0) };
        cuda.launch("test_multiply_add", [CASES, 1, 1], 32, 0, params);
        for (i, (got, c)) in d.read(c.len()).into_iter().zip(c).enumerate() {
            let (case, row, column) = (i / 128, i / 8 % 16, i % 8);
            let terms: [[u16; 2]; 16] =
                std::array::from_fn(|k| [a[case * 256 + row * 16 + k].0, b[case * 128 + k * 8 + column].0]);
            let want = fused_sum(&terms, c);
            let same = got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
            let [c, got, want] = [c, got, want].map(f32::to_bits);
            assert!(
                same,
                "multiply_add, {kind:?}: {c:#x} and the products of {terms:x?} gave {got:#x}, the model says {want:#x}"
            );
        }
    }
}

/// A significand in units of 2 to the power of its bits of fraction, and the exponent.
fn parts(bits: u32, fraction: u32) -> (i64, i32) {
    let (field, below) = ((bits >> fraction & 255) as i32, i64::from(bits & ((1 << fraction) - 1)));
    let significand = if field > 0 { below | 1 << fraction } else { below };
    (if bits >> (fraction + 8) & 1 == 1 { -significand } else { significand }, field.max(1) - 127)
}

/// `c` and the products of bf16, as a tensor core of Hopper adds them: after MMA-Sim (arXiv:2511.10909), aligned to the largest
/// exponent, cut after 25 bits of fraction, added exactly, and the sum cut to f32. Zeros have no part in the alignment: MMA-Sim gives
/// them an exponent, an H200 does not.
fn fused_sum(terms: &[[u16; 2]; 16], c: f32) -> f32 {
    let wide = |x: u16| f64::from(f32::from_bits(u32::from(x) << 16));
    let ordinary = terms.iter().fold(f64::from(c), |sum, [a, b]| sum + wide(*a) * wide(*b));
    if !ordinary.is_finite() {
        return ordinary as f32;
    }
    let (of_c, exponent_of_c) = parts(c.to_bits(), 23);
    let mut aligned = vec![(of_c << 2, exponent_of_c)];
    for [a, b] in terms {
        let ((a, of_a), (b, of_b)) = (parts(u32::from(*a), 7), parts(u32::from(*b), 7));
        aligned.push(((a * b) << 11, of_a + of_b));
    }
    aligned.retain(|(term, _)| *term != 0);
    let Some(largest) = aligned.iter().map(|(_, exponent)| *exponent).max() else { return 0.0 };
    let sum: i64 = aligned
        .iter()
        .map(|(term, exponent)| term.signum() * (term.abs() >> (largest - exponent).min(63)))
        .sum();
    // Cut to 24 bits, or to what subnormals have.
    let unit = largest - 25;
    let drop = (64 - sum.unsigned_abs().leading_zeros() as i32 - 24).max(-149 - unit).clamp(0, 63);
    let cut = sum.unsigned_abs() >> drop << drop;
    // Exact in f64, and then in f32 too.
    let value = (cut as f64 * 2f64.powi(unit)) as f32;
    if sum < 0 && cut > 0 { -value } else { value }
}

fn load_matrices(cuda: &Cuda) {
    let mut random = Random(1);
    let words: Vec<u32> = (0..64 * 4).map(|_| random.next() as u32).collect();
    let rows: Vec<u32> = (0..32).map(|_| random.below(64) as u32).collect();
    for transposed in [false, true] {
        let y = cuda.scratch::<u32>(128);
        let (x, of_rows) = (cuda.uploaded(&words), cuda.uploaded(&rows));
        let (x, rows_at) = (x.at(0), of_rows.at(0));
        let params =
            TestLoadMatrices { x, rows: rows_at, y: y.at(0), words: 256, transposed: transposed.into() };
        cuda.launch("test_load_matrices", [1, 1, 1], 32, 1024, params);
        let element = |matrix: usize, row: usize, column: usize| {
            words[rows[8 * matrix + row] as usize * 4 + column / 2] >> (16 * (column % 2)) & 0xffff
        };
        for (i, got) in y.read(128).into_iter().enumerate() {
            let (lane, matrix) = (i / 4, i % 4);
            let (g, t) = (lane / 4, 2 * (lane % 4));
            let want = if transposed {
                element(matrix, t + 1, g) << 16 | element(matrix, t, g)
            } else {
                element(matrix, g, t + 1) << 16 | element(matrix, g, t)
            };
            assert_eq!(got, want, "load_matrices, transposed {transposed}: lane {lane}, matrix {matrix}");
        }
    }
}

fn copies(cuda: &Cuda) {
    let mut random = Random(2);
    let x: Vec<u32> = (0..3 * 128).map(|_| random.next() as u32).collect();
    let valid: Vec<u32> = (0..3 * 32).map(|_| random.below(2) as u32).collect();
    let (of_x, of_valid, y) = (cuda.uploaded(&x), cuda.uploaded(&valid), cuda.scratch::<u32>(x.len()));
    let params = TestCopies { x: of_x.at(0), valid: of_valid.at(0), y: y.at(0) };
    cuda.launch("test_copies", [1, 1, 1], 32, 3 * 512, params);
    let want: Vec<u32> = x.iter().zip(0..).map(|(x, i)| x * valid[i / 4]).collect();
    assert_eq!(y.read(x.len()), want, "copy_async");
}

/// Numbers at the edges of roundings and ranges.
const SPECIAL: [f32; 20] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    1.0 + 1.0 / 256.0, // halfway between two bf16, to even below
    1.0 + 3.0 / 256.0, // and above
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    1e-40,
    -1e-45,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    126.999,
    128.0,
    -126.0,
    -126.5,
    -150.0,
    88.7,
];

fn numbers(cuda: &Cuda) {
    let mut random = Random(3);
    let mut number = || {
        f32::from_bits(
            if random.below(2) == 0 { Kind::Ordinary } else { Kind::AnyExponent }.bits(Of::C, &mut random),
        )
    };
    let ordinary: Vec<[f32; 3]> = (0..20_000).map(|_| [(); 3].map(|()| number())).collect();
    let pairs = SPECIAL.iter().flat_map(|&x| SPECIAL.map(|y| [x, y, 1.5]));
    let all: Vec<[f32; 3]> = pairs.chain(ordinary).collect();
    let n = all.len();
    let [x, y, z] = [0, 1, 2].map(|i| cuda.uploaded(&all.iter().map(|xyz| xyz[i]).collect::<Vec<f32>>()));
    let out = cuda.scratch::<u32>(13 * n);
    let params = TestNumbers { x: x.at(0), y: y.at(0), z: z.at(0), out: out.at(0), n: n as u64 };
    cuda.for_each("test_numbers", n, params);
    let out = out.read(13 * n);
    for (i, &[x, y, z]) in all.iter().enumerate() {
        let check = |row: usize, what: &str, want: u32| {
            let got = out[row * n + i];
            let [got_f, want_f] = [got, want].map(f32::from_bits);
            let same = got == want || (row > 2 && got_f.is_nan() && want_f.is_nan());
            assert!(
                same,
                "{what} of {x:e}, {y:e}, {z:e} gave {got:#x} ({got_f:e}), not {want:#x} ({want_f:e})"
            );
        };
        check(0, "pack_bf16", nearest(y) << 16 | nearest(x));
        check(1, "to_bf16", nearest(x));
        check(2, "from_bf16", x.to_bits() & 0xffff_0000);
        check(3, "__fmaf_rn", x.mul_add(y, z).to_bits());
        check(4, "__fmul_rn, __fadd_rn", (x * y + z).to_bits());
        check(5, "a product and a sum", (x * y + z).to_bits());
        check(6, "a quotient", (x / y).to_bits());
        check(7, "sqrtf", x.abs().sqrt().to_bits());
        let is_zero = x == 0.0 && y == 0.0; // of +0 and -0 either may be the larger
        if !is_zero {
            check(8, "fmaxf", x.max(y).to_bits());
            check(9, "fminf", x.min(y).to_bits());
        }
        let close = |row: usize, what: &str, want: f64, units: f64| {
            let got = f64::from(f32::from_bits(out[row * n + i]));
            let error = units * 2f64.powi(-23) * want.abs() + 1.2e-38; // below, results may be flushed to zero
            let overflows = want.abs() >= f64::from(f32::MAX) && got == want.signum() * f64::INFINITY;
            let same =
                got == want || (got.is_nan() && want.is_nan()) || overflows || (got - want).abs() <= error;
            assert!(same, "{what} of {x:e} gave {got:e}, not {want:e}");
        };
        close(10, "exp2_fast", f64::from(x).exp2(), 2.0);
        close(11, "expf", f64::from(x).exp(), 2.0);
        close(12, "logf", f64::from(x).abs().ln(), 2.0);
    }
}

/// The nearest bf16, ties to even; every NaN is one.
fn nearest(x: f32) -> u32 {
    let bits = x.to_bits();
    if x.is_nan() { 0x7fff } else { (bits + 0x7fff + (bits >> 16 & 1)) >> 16 }
}

fn lanes(cuda: &Cuda) {
    let mut random = Random(4);
    let x: Vec<u32> = (0..32).map(|_| random.next() as u32).collect();
    let from: Vec<u32> = (0..32).map(|_| random.below(32) as u32).collect();
    let (of_x, of_from, y) = (cuda.uploaded(&x), cuda.uploaded(&from), cuda.scratch::<u32>(6 * 32));
    let params = TestLanes { x: of_x.at(0), from: of_from.at(0), y: y.at(0) };
    cuda.launch("test_lanes", [1, 1, 1], 32, 128, params);
    let votes = x.iter().zip(0..).fold(0, |votes, (x, lane)| votes | (x & 1) << lane);
    for (i, got) in y.read(6 * 32).into_iter().enumerate() {
        let lane = i % 32;
        let (what, want) = match i / 32 {
            0 => ("__shfl_sync", x[from[lane] as usize]),
            1 => ("__shfl_xor_sync", x[lane ^ 5]),
            2 => ("__shfl_down_sync", x[if lane + 3 < 32 { lane + 3 } else { lane }]),
            3 => ("__ballot_sync", votes),
            4 => ("__shfl_xor_sync of f32", x[lane ^ 16] & 0x7eff_ffff),
            _ => ("__syncwarp", x[31 - lane]),
        };
        assert_eq!(got, want, "{what}, lane {lane}");
    }
}
