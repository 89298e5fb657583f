//! Cases of rotary positions.

use super::{
    Case, Output, Precision, ROUNDOFF,
    values::{Numbers, by_row, exactly, on, output, pick},
};
use crate::{Backend, Layout, Pairs, Rotation};

/// Positions of which the tables hold the angles.
const POSITIONS: usize = 131;

/// `x` is (N, H · head features); `cos`, `sin` are (positions, D/2).
#[derive(Clone)]
pub(super) struct Rope {
    rotation: Rotation,
    positions: Vec<u32>,
    x: Vec<f32>,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

/// Heads whose halves fill no vector, one, or several and some; parts of heads; neighbours.
pub(super) fn cases() -> impl Iterator<Item = Rope> {
    let whole =
        [(1, 1, 2), (2, 3, 6), (17, 2, 16), (5, 9, 30), (6, 1, 34), (130, 4, 64), (7, 2, 66), (1, 3, 128)]
            .map(|(n, heads, dim)| (n, Rotation::whole(heads, dim)));
    let part = [(5, 4, 48, 32, 16), (130, 1, 48, 32, 16), (3, 2, 70, 1, 66), (2, 3, 2, 0, 2)].into_iter();
    let part = part.flat_map(|(n, heads, head_features, start, dim)| {
        let of = move |pairs| (n, Rotation { heads, head_features, start, dim, pairs });
        [Pairs::Halves, Pairs::Neighbours].map(of)
    });
    whole.into_iter().chain(part).map(|(n, rotation)| {
        let mut numbers = Numbers::new(n * 1000 + rotation.features());
        let angles: Vec<f32> = numbers.vec(POSITIONS * rotation.dim / 2).iter().map(|a| 3.0 * a).collect();
        let (cos, sin) = (angles.iter().map(|a| a.cos()).collect(), angles.iter().map(|a| a.sin()).collect());
        let positions = numbers.ids(n, POSITIONS);
        Rope { rotation, positions, x: numbers.vec(n * rotation.features()), cos, sin }
    })
}

impl Case for Rope {
    fn name(&self) -> String {
        format!("rope, {} rows, {:?}", self.positions.len(), self.rotation)
    }

    fn run<B: Backend>(&self, b: &B) -> Vec<Output> {
        let (cos, sin) = (exactly(b, &self.cos), exactly(b, &self.sin));
        let (mut x, mut dx) = (output(b, &self.x), output(b, &self.x));
        let ids = vec![0; self.rows()];
        let layout = on(b, Layout { ids, positions: self.positions.clone(), ..Layout::default() });
        b.rope_forward(&mut x, &cos, &sin, self.rotation, &layout);
        b.rope_backward(&mut dx, &cos, &sin, self.rotation, &layout);
        vec![by_row("x", b, &x), by_row("dx", b, &dx)]
    }

    /// Two products and a sum: three roundings of at most `|x_a| + |x_b|`. What is not rotated stays.
    fn allowed(&self, _: Precision) -> Vec<Vec<f64>> {
        let mut allowed = vec![0.0; self.x.len()];
        let heads = self.x.chunks_exact(self.rotation.head_features);
        for (head, allowed) in heads.zip(allowed.chunks_exact_mut(self.rotation.head_features)) {
            for pair in (0..self.rotation.dim / 2).map(|i| self.rotation.pair(i)) {
                let sum: f64 = pair.iter().map(|&i| f64::from(head[i].abs())).sum();
                for i in pair {
                    allowed[i] = 4.0 * ROUNDOFF * sum;
                }
            }
        }
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
