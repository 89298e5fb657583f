//! The products of a linear layer in FP8, as [`Backend::linear_forward`](crate::Backend::linear_forward) defines them. Operands
//! are rounded in f32, as any device has to; sums are of f64.

use std::ops::Range;

use super::dot;
use crate::{
    Store,
    fp8::{self, BLOCK},
};

/// A matrix of `columns` columns, rounded with a scale for each block of `height` × `width` elements.
struct Rounded {
    codes: Vec<f64>,
    scales: Vec<f64>,
    columns: usize,
    height: usize,
    width: usize,
}

impl Rounded {
    fn of(x: &[f64], columns: usize, [height, width]: [usize; 2]) -> Self {
        let x: Vec<f32> = x.iter().map(|&x| x as f32).collect();
        let blocks = (x.len() / columns).div_ceil(height) * columns.div_ceil(width);
        let block = |i: usize| i / columns / height * columns.div_ceil(width) + i % columns / width;
        let mut scales = vec![0.0; blocks];
        x.iter().enumerate().for_each(|(i, &x)| scales[block(i)] = fp8::largest(&[scales[block(i)], x]));
        for scale in &mut scales {
            *scale = fp8::scale(*scale);
        }
        let code = |(i, x): (usize, &f32)| f64::from(fp8::round(x / scales[block(i)]));
        let codes = x.iter().enumerate().map(code).collect();
        Self { codes, scales: scales.into_iter().map(f64::from).collect(), columns, height, width }
    }

    /// The codes of a row.
    fn row(&self, row: usize) -> &[f64] {
        &self.codes[row * self.columns..][..self.columns]
    }

    /// The scale of an element.
    fn scale(&self, row: usize, column: usize) -> f64 {
        self.scales[row / self.height * self.columns.div_ceil(self.width) + column / self.width]
    }

    /// The elements, each its code times its scale, as f32 holds it.
    fn values(&self) -> Vec<f64> {
        let value = |(i, code): (usize, &f64)| {
            let scale = self.scale(i / self.columns, i % self.columns);
            f64::from(*code as f32 * scale as f32)
        };
        self.codes.iter().enumerate().map(value).collect()
    }
}

/// The blocks of an inner dimension of `k`.
fn blocks(k: usize) -> impl Iterator<Item = Range<usize>> {
    (0..k).step_by(BLOCK).map(move |start| start..k.min(start + BLOCK))
}

/// Adds `factor · x` to `sums`.
fn add(sums: &mut [f64], factor: f64, x: &[f64]) {
    sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += factor * x);
}

/// Writes `y`, or adds to it.
pub(super) fn forward(y: &mut [f64], x: &[f64], w: &[f64], o: usize, i: usize, store: Store) {
    let (x, w) = (Rounded::of(x, i, [1, BLOCK]), Rounded::of(w, i, [BLOCK, BLOCK]));
    if store == Store::Write {
        y.fill(0.0);
    }
    for (n, y) in y.chunks_exact_mut(o).enumerate() {
        for (o, y) in y.iter_mut().enumerate() {
            for k in blocks(i) {
                let sum = dot(&x.row(n)[k.clone()], &w.row(o)[k.clone()]);
                *y += sum * x.scale(n, k.start) * w.scale(o, k.start);
            }
        }
    }
}

/// Writes `dx`, or adds to it.
pub(super) fn backward_input(dx: &mut [f64], dy: &[f64], w: &[f64], o: usize, i: usize, store: Store) {
    let (dy, w) = (Rounded::of(dy, o, [1, BLOCK]), Rounded::of(w, i, [BLOCK, BLOCK]));
    if store == Store::Write {
        dx.fill(0.0);
    }
    for (n, dx) in dx.chunks_exact_mut(i).enumerate() {
        for k in blocks(o) {
            let mut sums = vec![0.0; i];
            k.clone().for_each(|k| add(&mut sums, dy.row(n)[k], w.row(k)));
            for (i, (dx, sum)) in dx.iter_mut().zip(sums).enumerate() {
                *dx += sum * dy.scale(n, k.start) * w.scale(k.start, i);
            }
        }
    }
}

/// Adds to `dw`.
pub(super) fn backward_weight(dw: &mut [f64], dy: &[f64], x: &[f64], o: usize, i: usize) {
    let x = Rounded::of(x, i, [1, BLOCK]).values();
    let (dy, x) = (Rounded::of(dy, o, [BLOCK, 1]), Rounded::of(&x, i, [BLOCK, 1]));
    for k in blocks(dy.codes.len() / o) {
        for (o, dw) in dw.chunks_exact_mut(i).enumerate() {
            let mut sums = vec![0.0; i];
            k.clone().for_each(|k| add(&mut sums, dy.row(k)[o], x.row(k)));
            for (i, (dw, sum)) in dw.iter_mut().zip(sums).enumerate() {
                *dw += sum * dy.scale(k.start, o) * x.scale(k.start, i);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One row of 129 features, two blocks: worked by hand.
    #[test]
    fn a_block_is_scaled_by_its_own_largest() {
        // In the first block 3/2 · 2⁻⁹ is halfway between two numbers of E4M3, and becomes the even one.
        let (mut x, mut w) = (vec![0.0; 129], vec![0.0; 129]);
        (x[0], x[1], x[128]) = (448.0, 1.5 / 512.0, 7.0);
        (w[0], w[1], w[128]) = (1.0, 448.0, -896.0);
        let mut y = [f64::NAN];
        forward(&mut y, &x, &w, 1, 129, Store::Write);
        // The second has one element in each, which are kept exactly.
        assert_eq!(y, [448.0 + 2.0 / 512.0 * 448.0 - 7.0 * 896.0]);
        forward(&mut y, &x, &w, 1, 129, Store::Add);
        assert_eq!(y, [2.0 * (448.0 + 2.0 / 512.0 * 448.0 - 7.0 * 896.0)]);
    }

    #[test]
    fn weights_share_a_scale_in_a_square_and_gradients_of_weights_in_a_column() {
        // 448 in one row of the square leaves of 1/4 · 2⁻⁹ in another nothing.
        let mut y = [f64::NAN; 2];
        forward(&mut y, &[448.0], &[448.0, 0.25 / 512.0], 2, 1, Store::Write);
        assert_eq!(y, [448.0 * 448.0, 0.0]);
        let mut dx = [f64::NAN];
        backward_input(&mut dx, &[448.0, 448.0], &[448.0, 0.25 / 512.0], 2, 1, Store::Write);
        assert_eq!(dx, [448.0 * 448.0]);
        // Two rows: each column has a scale of its own, whatever the other holds.
        let mut dw = [0.0; 2];
        backward_weight(&mut dw, &[448.0, 448.0], &[448.0, 0.0, 0.0, 0.125], 1, 2);
        assert_eq!(dw[0], 448.0 * 448.0);
        assert!((dw[1] / (448.0 * 0.125) - 1.0).abs() < 1e-6, "{dw:?}");
    }
}
