//! Cases of columns that are copied or added.

use super::{
    Case, Output, Precision, ROUNDOFF,
    values::{Numbers, by_row, input, magnitudes, output, pick},
};
use crate::{Backend, Columns, Reference, Store};

/// `x` is (N, from.features), `y` (N, to.features): what is there before.
#[derive(Clone)]
pub(super) struct Copied {
    n: usize,
    heads: usize,
    width: usize,
    to: Columns,
    from: Columns,
    x: Vec<f32>,
    y: Vec<f32>,
}

/// One head; several; one that all have; several that are summed in one.
pub(super) fn cases() -> impl Iterator<Item = Copied> {
    let columns = |features, start, stride| Columns { features, start, stride };
    [
        (1, 1, 3, columns(3, 0, 0), columns(5, 2, 0)),
        (7, 4, 32, columns(192, 0, 48), columns(256, 0, 64)),
        (130, 4, 16, columns(192, 32, 48), columns(48, 32, 0)),
        (130, 4, 16, columns(48, 32, 0), columns(192, 32, 48)),
        (33, 3, 7, columns(40, 1, 9), columns(30, 2, 8)),
        (700, 1, 65, columns(130, 65, 0), columns(65, 0, 0)),
    ]
    .into_iter()
    .map(|(n, heads, width, to, from)| {
        let mut numbers = Numbers::new(n * 1000 + width);
        let (x, y) = (numbers.vec(n * from.features), numbers.vec(n * to.features));
        Copied { n, heads, width, to, from, x, y }
    })
}

impl Copied {
    fn stored<B: Backend>(&self, b: &B, store: Store) -> B::Buf {
        let mut y = output(b, &self.y);
        b.columns(&mut y, &input(b, &self.x), [self.to, self.from], [self.heads, self.width], self.n, store);
        y
    }
}

impl Case for Copied {
    fn name(&self) -> String {
        let Self { n, heads, width, to, from, .. } = self;
        format!("{n} rows, {width} columns of {heads} heads, {from:?} to {to:?}")
    }

    fn run<B: Backend>(&self, b: &B) -> Vec<Output> {
        let added = by_row("y +=", b, &self.stored(b, Store::Add));
        // Several heads in the same columns are for sums.
        let is_sum = self.heads > 1 && self.to.stride == 0;
        if is_sum { vec![added] } else { vec![added, by_row("y =", b, &self.stored(b, Store::Write))] }
    }

    /// A copy is exact; a sum errs by a rounding per head of the magnitudes' sum.
    fn allowed(&self, _: Precision) -> Vec<Vec<f64>> {
        let sums = Self { x: magnitudes(&self.x), y: magnitudes(&self.y), ..self.clone() }.run(&Reference);
        let factors = [self.heads as f64 * ROUNDOFF, 0.0];
        sums.iter().zip(factors).map(|(s, f)| s.values.iter().map(|&x| f * f64::from(x)).collect()).collect()
    }

    fn rows(&self) -> usize {
        self.n
    }

    fn select(&self, rows: &[usize]) -> Self {
        let [x, y] = [&self.x, &self.y].map(|values| pick(values, self.n, rows));
        Self { n: rows.len(), x, y, ..self.clone() }
    }
}
