//! Cases of rotary positions.

use super::{
    Case, Output, Precision, ROUNDOFF,
    values::{Numbers, by_row, exactly, on, output, pick},
};
use crate::{Backend, Layout};

/// Positions of which the tables hold the angles.
const POSITIONS: usize = 131;

/// `x` is (N, H · D); `cos`, `sin` are (positions, D/2).
#[derive(Clone)]
pub(super) struct Rope {
    heads: usize,
    dim: usize,
    positions: Vec<u32>,
    x: Vec<f32>,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

/// Heads whose halves fill no vector, one, or several and some.
pub(super) fn cases() -> impl Iterator<Item = Rope> {
    let sizes =
        [(1, 1, 2), (2, 3, 6), (17, 2, 16), (5, 9, 30), (6, 1, 34), (130, 4, 64), (7, 2, 66), (1, 3, 128)];
    sizes.into_iter().map(|(n, heads, dim)| {
        let mut numbers = Numbers::new(n * 1000 + heads * dim);
        let angles: Vec<f32> = numbers.vec(POSITIONS * dim / 2).iter().map(|a| 3.0 * a).collect();
        let (cos, sin) = (angles.iter().map(|a| a.cos()).collect(), angles.iter().map(|a| a.sin()).collect());
        let positions = numbers.ids(n, POSITIONS);
        Rope { heads, dim, positions, x: numbers.vec(n * heads * dim), cos, sin }
    })
}

impl Case for Rope {
    fn name(&self) -> String {
        format!("rope, {} rows, {} heads of {}", self.positions.len(), self.heads, self.dim)
    }

    fn run<B: Backend>(&self, b: &B) -> Vec<Output> {
        let (cos, sin) = (exactly(b, &self.cos), exactly(b, &self.sin));
        let (mut x, mut dx) = (output(b, &self.x), output(b, &self.x));
        let ids = vec![0; self.rows()];
        let layout = on(b, Layout { ids, positions: self.positions.clone(), ..Layout::default() });
        b.rope_forward(&mut x, &cos, &sin, self.heads, self.dim, &layout);
        b.rope_backward(&mut dx, &cos, &sin, self.heads, self.dim, &layout);
        vec![by_row("x", b, &x), by_row("dx", b, &dx)]
    }

    /// Two products and a sum: three roundings of at most `|xᵢ| + |xᵢ₊D/2|`.
    fn allowed(&self, _: Precision) -> Vec<Vec<f64>> {
        let half = self.dim / 2;
        let rotated = self
            .x
            .chunks_exact(self.dim)
            .flat_map(|head| (0..self.dim).map(move |i| head[i % half].abs() + head[i % half + half].abs()));
        let allowed: Vec<f64> = rotated.map(|sum| 4.0 * ROUNDOFF * f64::from(sum)).collect();
        vec![allowed.clone(), allowed]
    }

    fn rows(&self) -> usize {
        self.positions.len()
    }

    fn select(&self, rows: &[usize]) -> Self {
        let (positions, x) = (pick(&self.positions, self.rows(), rows), pick(&self.x, self.rows(), rows));
        Self { positions, x, ..self.clone() }
    }
}
