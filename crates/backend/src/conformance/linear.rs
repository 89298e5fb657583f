//! Cases of the linear layer.

use super::{
    Case, EDGES, Output, Precision, sum_of_products,
    values::{Numbers, by_row, exactly, magnitudes, matrix, operand, output, pick, summed, unwritten},
};
use crate::{Backend, Forms, Matrix, Reference, Store};

/// `x`, `dx` are (N, I); `y`, `dy` are (N, O); `w`, `dw` are (O, I).
/// `y`, `dx`, `dw` are what the outputs hold before.
#[derive(Clone)]
pub(super) struct Linear {
    n: usize,
    o: usize,
    i: usize,
    store: Store,
    short: bool,
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
    let mut sizes: Vec<_> =
        EDGES.iter().flat_map(|&e| [(e, 17, 7), (5, e, 31), (7, 6, e), (e, e, e)]).collect();
    sizes.extend(TILES.iter().flat_map(|&n| TILES.iter().flat_map(move |&o| TILES.map(|i| (n, o, i)))));
    sizes.extend([(300, 33, 65), (17, 1030, 33), (9, 65, 1100), (1, 515, 515)]);
    let variants = [
        (Store::Write, true),
        (Store::Add, false),
        (Store::Add, true),
        (Store::Write, false),
        (Store::Add, false),
    ];
    let variants = variants.into_iter().cycle();
    sizes.into_iter().flat_map(|size| [size; 2]).zip(variants).map(|((n, o, i), (store, short))| {
        let mut numbers = Numbers::new(n * 10_000 + o * 100 + i);
        let before =
            |len| if store == Store::Write { unwritten(len) } else { Numbers::new(n + o + i).vec(len) };
        let (y, dx) = (before(n * o), before(n * i));
        let (x, dy, w) =
            (numbers.operands(n * i, short), numbers.operands(n * o, short), numbers.operands(o * i, short));
        Linear { n, o, i, store, short, x, dy, w, y, dx, dw: numbers.vec(o * i) }
    })
}

impl Linear {
    /// `dw` before, plus `dyᵀ x` of all `parts`, one call after the other.
    pub(super) fn backward_weight<B: Backend>(parts: &[Self], b: &B) -> Output {
        let mut dw = output(b, &parts[0].dw);
        for Self { n, o, i, dy, x, .. } in parts {
            b.linear_backward_weight(&mut dw, &operand(b, dy), &operand(b, x), *n, [*o, *i]);
        }
        summed("dw", b, &dw)
    }

    /// The batch of the given rows.
    pub(super) fn chosen(&self, rows: &[usize]) -> Self {
        let [x, dy, y, dx] = [&self.x, &self.dy, &self.y, &self.dx].map(|x| pick(x, self.n, rows));
        Self { n: rows.len(), x, dy, y, dx, ..self.clone() }
    }
}

impl Case for Linear {
    fn name(&self) -> String {
        let Self { n, o, i, store, short, .. } = self;
        format!("linear, {n} rows, {o} from {i} features, {store:?}, short operands {short}")
    }

    fn run<B: Backend>(&self, b: &B) -> Vec<Output> {
        let Self { n, o, i, store, .. } = *self;
        let (x, dy) = (operand(b, &self.x), operand(b, &self.dy));
        let mut unpacked = matrix(b, &self.w, [o, i], false);
        let packed = match store {
            Store::Write => matrix(b, &self.w, [o, i], true),
            Store::Add => {
                let mut packed = matrix(b, &vec![0.0; o * i], [o, i], true);
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
        let [y, y_unpacked, y_packed] = [&y, &y_unpacked, &y_packed].map(|y| by_row("y", b, y));
        let (forms, mut dx_packed) = (Forms { values: false, packed: true }, output(b, &self.dx));
        let frozen = Matrix::new(b, &self.w, [o, i], forms).expect("a little memory");
        b.linear_backward_input(&mut dx_packed, &dy, &frozen, n, store);
        let [dx, dx_packed] = [&dx, &dx_packed].map(|dx| by_row("dx", b, dx));
        let bits = |y: &Output| y.values.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&y_unpacked), bits(&y), "{}: unpacked weights give other bits", self.name());
        assert_eq!(bits(&y_packed), bits(&y), "{}: weights packed later give other bits", self.name());
        assert_eq!(bits(&dx_packed), bits(&dx), "{}: a packed form alone gives other bits", self.name());
        vec![y, dx, Self::backward_weight(std::slice::from_ref(self), b)]
    }

    /// `k · u · Σ |aᵢ bᵢ|`: the sum is the case itself on magnitudes.
    fn allowed(&self, precision: Precision) -> Vec<Vec<f64>> {
        let [x, dy, w, y, dx, dw] =
            [&self.x, &self.dy, &self.w, &self.y, &self.dx, &self.dw].map(|x| magnitudes(x));
        let sums = Self { x, dy, w, y, dx, dw, ..*self }.run(&Reference);
        let operand = precision.operand(self.short);
        let factors = [self.i, self.o, self.n].map(|k| sum_of_products(k + 1, operand));
        sums.iter().zip(factors).map(|(s, f)| s.values.iter().map(|&x| f * f64::from(x)).collect()).collect()
    }

    fn rows(&self) -> usize {
        self.n
    }

    fn select(&self, rows: &[usize]) -> Self {
        self.chosen(rows)
    }
}
