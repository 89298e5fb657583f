//! Cases of the bias.

use super::{
    Case, EDGES, Output, Precision, ROUNDOFF,
    values::{Numbers, by_row, exactly, magnitudes, operand_with_values, output, pick, summed},
};
use crate::{Backend, Reference};

/// `y`, `dy` are (N, C); `b`, `db` are (C). `y`, `db` are what the outputs hold before.
#[derive(Clone)]
pub(super) struct Bias {
    n: usize,
    y: Vec<f32>,
    dy: Vec<f32>,
    b: Vec<f32>,
    db: Vec<f32>,
}

/// Few rows and many, of each number of features.
pub(super) fn cases() -> impl Iterator<Item = Bias> {
    let sizes =
        EDGES.iter().flat_map(|&e| [(1, e), (6, e), (e, 33)]).chain([(300, 130), (3, 2049), (1100, 12)]);
    sizes.map(|(n, c)| {
        let mut numbers = Numbers::new(n * 1000 + c);
        let (y, dy) = (numbers.vec(n * c), numbers.vec(n * c));
        Bias { n, y, dy, b: numbers.vec(c), db: numbers.vec(c) }
    })
}

impl Case for Bias {
    fn name(&self) -> String {
        format!("bias, {} rows of {} features", self.n, self.b.len())
    }

    fn run<B: Backend>(&self, b: &B) -> Vec<Output> {
        let (mut y, mut db) = (output(b, &self.y), output(b, &self.db));
        b.bias_forward(&mut y, &exactly(b, &self.b), self.b.len(), self.n);
        b.bias_backward(&mut db, &operand_with_values(b, &self.dy), self.b.len(), self.n);
        vec![by_row("y", b, &y), summed("db", b, &db)]
    }

    /// One rounding; and a sum of N + 1 errs by N roundings of the magnitudes' sum.
    fn allowed(&self, _: Precision) -> Vec<Vec<f64>> {
        let [y, dy, b, db] = [&self.y, &self.dy, &self.b, &self.db].map(|x| magnitudes(x));
        let sums = Self { y, dy, b, db, ..*self }.run(&Reference);
        let factors = [1.0, self.n as f64].map(|k| k * ROUNDOFF);
        sums.iter().zip(factors).map(|(s, f)| s.values.iter().map(|&x| f * f64::from(x)).collect()).collect()
    }

    fn rows(&self) -> usize {
        self.n
    }

    fn select(&self, rows: &[usize]) -> Self {
        let [y, dy] = [&self.y, &self.dy].map(|x| pick(x, self.n, rows));
        Self { n: rows.len(), y, dy, ..self.clone() }
    }
}
