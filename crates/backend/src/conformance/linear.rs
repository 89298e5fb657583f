//! Cases of the linear layer.

use super::{
    Case, EDGES, Output, Precision, sum_of_products,
    values::{Numbers, by_row, exactly, magnitudes, operand, output, pick, summed, unwritten},
};
use crate::{Backend, Forms, Matrix, ProductPrecision, Reference, Store, fp8, int8};

/// `x`, `dx` are (N, I); `y`, `dy` are (N, O); `w`, `dw` are (O, I).
/// `y`, `dx`, `dw` are what the outputs hold before.
#[derive(Clone)]
pub(super) struct Linear {
    n: usize,
    o: usize,
    i: usize,
    store: Store,
    short: bool,
    precision: ProductPrecision,
    x: Vec<f32>,
    dy: Vec<f32>,
    w: Vec<f32>,
    y: Vec<f32>,
    dx: Vec<f32>,
    dw: Vec<f32>,
}

/// Sizes of which every combination is tried.
const TILES: [usize; 5] = [1, 6, 16, 33, 64];

/// Each size at its edges beside others that are odd, sizes near the common tiles crossed, and some that
/// exceed a block.
pub(super) fn cases() -> impl Iterator<Item = Linear> {
    let device = device_sizes().into_iter().flat_map(|size| [size; 2]);
    // Short operands, which no device rounds before they become FP8.
    let in_fp8 = FP8_SIZES.into_iter().flat_map(|size| {
        [Store::Write, Store::Add].map(|store| Linear::new(size, store, true, ProductPrecision::Fp8))
    });
    let in_int8 = INT8_SIZES.into_iter().flat_map(|size| {
        [Store::Write, Store::Add].map(|store| Linear::new(size, store, false, ProductPrecision::Int8))
    });
    let variants = VARIANTS.into_iter().cycle();
    let device = device
        .zip(variants)
        .map(|(size, (store, short))| Linear::new(size, store, short, ProductPrecision::Device));
    device.chain(in_fp8).chain(in_int8)
}

const VARIANTS: [(Store, bool); 5] = [
    (Store::Write, true),
    (Store::Add, false),
    (Store::Add, true),
    (Store::Write, false),
    (Store::Add, false),
];

/// Rows, outputs and inputs around the edges of blocks of FP8.
const FP8_SIZES: [[usize; 3]; 10] = [
    [1, 1, 1],
    [5, 7, 127],
    [6, 17, 128],
    [7, 33, 129],
    [3, 129, 31],
    [16, 40, 257],
    [2, 257, 130],
    [127, 5, 3],
    [129, 31, 18],
    [257, 6, 17],
];

/// Rows, outputs and inputs around the edges of blocks of 8 bits, of panels and of tiles.
const INT8_SIZES: [[usize; 3]; 9] = [
    [1, 1, 1],
    [5, 7, 31],
    [6, 17, 32],
    [1, 64, 576],
    [13, 33, 33],
    [2, 530, 257],
    [17, 40, 320],
    [100, 70, 64],
    [257, 6, 96],
];

fn device_sizes() -> Vec<[usize; 3]> {
    let mut sizes: Vec<_> = EDGES.iter().flat_map(|&e| [[e, 17, 7], [5, e, 31], [7, 6, e], [e; 3]]).collect();
    sizes.extend(TILES.iter().flat_map(|&n| TILES.iter().flat_map(move |&o| TILES.map(|i| [n, o, i]))));
    sizes.extend([[300, 33, 65], [17, 1030, 33], [9, 65, 1100], [1, 515, 515]]);
    sizes
}

impl Linear {
    fn new([n, o, i]: [usize; 3], store: Store, short: bool, precision: ProductPrecision) -> Self {
        let mut numbers = Numbers::new(n * 10_000 + o * 100 + i);
        let before =
            |len| if store == Store::Write { unwritten(len) } else { Numbers::new(n + o + i).vec(len) };
        let (y, dx) = (before(n * o), before(n * i));
        let (x, dy, mut w) =
            (numbers.operands(n * i, short), numbers.operands(n * o, short), numbers.operands(o * i, short));
        if precision == ProductPrecision::Int8 {
            int8::round(&mut w, i);
        }
        Self { n, o, i, store, short, precision, x, dy, w, y, dx, dw: numbers.vec(o * i) }
    }

    /// `dw` before, plus `dyᵀ x` of all `parts`, one call after the other.
    pub(super) fn backward_weight<B: Backend>(parts: &[Self], b: &B) -> Output {
        let mut dw = output(b, &parts[0].dw);
        for Self { n, o, i, dy, x, precision, .. } in parts {
            b.linear_backward_weight(&mut dw, &operand(b, dy), &operand(b, x), *n, [*o, *i], *precision);
        }
        summed("dw", b, &dw)
    }

    /// Of what precision its products are.
    pub(super) fn precision(&self) -> ProductPrecision {
        self.precision
    }

    /// The batch of the given rows.
    pub(super) fn chosen(&self, rows: &[usize]) -> Self {
        let [x, dy, y, dx] = [&self.x, &self.dy, &self.y, &self.dx].map(|x| pick(x, self.n, rows));
        Self { n: rows.len(), x, dy, y, dx, ..self.clone() }
    }
}

impl Case for Linear {
    fn name(&self) -> String {
        let Self { n, o, i, store, short, precision, .. } = self;
        format!("linear, {n} rows, {o} from {i} features, {store:?}, short operands {short}, {precision:?}")
    }

    fn run<B: Backend>(&self, b: &B) -> Vec<Output> {
        let Self { n, o, i, store, .. } = *self;
        let (x, dy) = (operand(b, &self.x), operand(b, &self.dy));
        let matrix = |values: &[f32], values_are_held, packed| {
            let forms = Forms { values: values_are_held, packed };
            Matrix::several(b, values, [1, o, i], forms, self.precision).expect("a little memory")
        };
        let frozen = Forms { values: false, packed: true };
        let frozen = Matrix::fixed(b, &self.w, [1, o, i], frozen, self.precision).expect("a little memory");
        let mut unpacked = matrix(&self.w, true, false);
        let packed = match store {
            Store::Write => matrix(&self.w, true, true),
            Store::Add => {
                let mut packed = matrix(&vec![0.0; o * i], true, true);
                packed.values = exactly(b, &self.w);
                packed.repack(b);
                packed
            }
        };
        let [mut y, mut y_unpacked] = [(); 2].map(|()| output(b, &self.y));
        let mut dx = output(b, &self.dx);
        b.linear_forward(&mut y, &x, &packed, n, store);
        b.linear_forward(&mut y_unpacked, &x, &unpacked, n, store);
        b.linear_backward_input(&mut dx, &dy, &unpacked, n, store);
        unpacked.pack(b).expect("a little memory");
        let mut y_packed = output(b, &self.y);
        b.linear_forward(&mut y_packed, &x, &unpacked, n, store);
        let (mut y_frozen, mut dx_packed) = (output(b, &self.y), output(b, &self.dx));
        b.linear_forward(&mut y_frozen, &x, &frozen, n, store);
        let [y, y_unpacked, y_packed, y_frozen] =
            [&y, &y_unpacked, &y_packed, &y_frozen].map(|y| by_row("y", b, y));
        b.linear_backward_input(&mut dx_packed, &dy, &frozen, n, store);
        let [dx, dx_packed] = [&dx, &dx_packed].map(|dx| by_row("dx", b, dx));
        let bits = |y: &Output| y.values.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&y_unpacked), bits(&y), "{}: unpacked weights give other bits", self.name());
        assert_eq!(bits(&y_packed), bits(&y), "{}: weights packed later give other bits", self.name());
        assert_eq!(bits(&y_frozen), bits(&y), "{}: a packed form alone gives other bits", self.name());
        assert_eq!(bits(&dx_packed), bits(&dx), "{}: a packed form alone gives other bits", self.name());
        vec![y, dx, Self::backward_weight(std::slice::from_ref(self), b)]
    }

    /// `k · u · Σ |aᵢ bᵢ|`: the sum is the case itself on magnitudes.
    fn allowed(&self, precision: Precision) -> Vec<Vec<f64>> {
        let [x, dy, w, y, dx, dw] =
            [&self.x, &self.dy, &self.w, &self.y, &self.dx, &self.dw].map(|x| magnitudes(x));
        let sums = Self { x, dy, w, y, dx, dw, ..*self }.run(&Reference);
        let operand = precision.operand(self.short);
        // Of each block of FP8, two scales and the sum.
        let of_blocks = |k: usize| match self.precision {
            ProductPrecision::Device | ProductPrecision::Int8 => 0,
            ProductPrecision::Fp8 => 3 + k.div_ceil(fp8::BLOCK),
        };
        let factors = [self.i, self.o, self.n].map(|k| sum_of_products(k + 1 + of_blocks(k), operand));
        sums.iter().zip(factors).map(|(s, f)| s.values.iter().map(|&x| f * f64::from(x)).collect()).collect()
    }

    fn rows(&self) -> usize {
        self.n
    }

    fn select(&self, rows: &[usize]) -> Self {
        self.chosen(rows)
    }
}
