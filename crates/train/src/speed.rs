//! How fast this machine is: products of a model's own shapes, measured for a second or two; and the most that it computes.

use std::time::Instant;

use koan_backend::{
    AdamWStep, Backend, Forms, Keep, Matrix, MomentType, OutOfMemory, ProductPrecision, Store,
};
use koan_model::Config;

/// Elements of the matrices that are multiplied, at most: more than caches hold, as in a model.
const MAX_ELEMENTS: usize = 1 << 25;
/// Elements of one of them, at most: of a larger one a part is taken.
const MAX_MATRIX: usize = 1 << 22;
/// Rows that are multiplied, at most, where the device does not want more in a pass: beyond it the speed does not change.
const MAX_ROWS: usize = 512;
/// Each measurement ends after the first product that ends later, seconds.
const ENOUGH_S: f64 = 0.5;

/// How fast a machine does what a step is made of.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    /// Forward products with a row for each sequence that is sampled, operations per second.
    pub sample: f64,
    /// Forward products with many rows, operations per second.
    pub forward: f64,
    /// Products for the gradient of the input, operations per second.
    pub backward_input: f64,
    /// Products for the gradient of the weight, operations per second.
    pub backward_weight: f64,
    /// Parameters per second of an update: the norm, AdamW, packing.
    pub update: f64,
}

impl Speed {
    /// Measures products of `model`'s shapes: with `sequences` rows for sampling, and with `rows` for learning; and an update
    /// with `moments`.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn measure<B: Backend>(
        b: &B,
        model: &Config,
        sequences: usize,
        rows: usize,
        moments: MomentType,
    ) -> Result<Self, OutOfMemory> {
        let shapes = shapes(model);
        let values = |n: usize| (0..n).map(|i| (i * 31 % 61) as f32 / 61.0 - 0.5).collect::<Vec<_>>();
        let forms = Forms { values: true, packed: true };
        let weight = |&[out, inp]: &[usize; 2]| {
            Matrix::several(b, &values(out * inp), [1, out, inp], forms, model.precision)
        };
        let mut weights = shapes.iter().map(weight).collect::<Result<Vec<_>, _>>()?;
        let widest = shapes.iter().flatten().copied().max().unwrap_or(1);
        let most = b.pass_rows().max(MAX_ROWS);
        let (sequences, rows) = (sequences.clamp(1, most), rows.clamp(1, most));
        let len = rows.max(sequences) * widest;
        let mut x = b.operand(len, Keep::Operand)?;
        b.write_operand(&mut x, &values(len).into_iter().map(f64::from).collect::<Vec<_>>());
        let mut y = b.zeros(len)?;
        let forward = |rows: usize, y: &mut B::Buf| {
            speed(b, rows, &shapes, |i, _| b.linear_forward(y, &x, &weights[i], rows, Store::Write))
        };
        let [sample, forward] = [sequences, rows].map(|rows| forward(rows, &mut y));
        let backward_input = speed(b, rows, &shapes, |i, _| {
            b.linear_backward_input(&mut y, &x, &weights[i], rows, Store::Write);
        });
        let backward_weight = speed(b, rows, &shapes, |i, shape| {
            let precision = weights[i].precision();
            b.linear_backward_weight(&mut weights[i].values, &x, &x, rows, shape, precision);
        });
        drop(weights);
        Ok(Self { sample, forward, backward_input, backward_weight, update: updates(b, moments)? })
    }
}

/// Waits until the device has done all that it was asked to, for who measures time.
pub fn wait<B: Backend>(b: &B) {
    // Without memory for one element there is nothing to measure.
    if let Ok(one) = b.zeros(1) {
        b.read([(&one, 1)]);
    }
}

/// The shapes of the model's matrices, a large one cut, as many as are measured.
fn shapes(model: &Config) -> Vec<[usize; 2]> {
    let (mut shapes, mut elements) = (Vec::new(), 0);
    for info in model.tensors().iter().rev().filter(|info| info.role.is_product()) {
        let [out, inp] = info.matrix();
        let out = out.min((MAX_MATRIX / inp).max(1));
        if elements + out * inp <= MAX_ELEMENTS || shapes.is_empty() {
            elements += out * inp;
            shapes.push([out, inp]);
        }
    }
    shapes
}

/// Operations per second of `product`, which multiplies `rows` rows by the matrix of a number and shape. The first one is
/// made once before, so that its memory is there.
fn speed<B: Backend>(
    b: &B,
    rows: usize,
    shapes: &[[usize; 2]],
    mut product: impl FnMut(usize, [usize; 2]),
) -> f64 {
    product(0, shapes[0]);
    wait(b);
    let (start, mut operations) = (Instant::now(), 0.0);
    for (i, &shape) in shapes.iter().enumerate() {
        product(i, shape);
        operations += 2.0 * (rows * shape[0] * shape[1]) as f64;
        if start.elapsed().as_secs_f64() > ENOUGH_S {
            break;
        }
    }
    wait(b);
    operations / start.elapsed().as_secs_f64()
}

/// Parameters per second of an update.
pub(crate) fn updates<B: Backend>(b: &B, moments: MomentType) -> Result<f64, OutOfMemory> {
    let side = 1 << (MAX_MATRIX.ilog2() / 2);
    let n = side * side;
    let (mut w, g) = (b.zeros(n)?, b.zeros(n)?);
    let (mut m, mut v) = (b.zero_moment(n, moments)?, b.zero_moment(n, moments)?);
    let mut packed = b.pack(&w, [1, side, side], ProductPrecision::Device)?;
    let step = AdamWStep {
        lr: 1e-6,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        grad_scale: 1.0,
        bias_correction1: 0.1,
        bias_correction2: 1e-3,
        rounding_key: 0,
    };
    let mut update = || {
        let start = Instant::now();
        b.sums_of_squares(&[&g]);
        b.adamw_step(&mut w, &mut m, &mut v, &g, step);
        b.repack(&mut packed, &w);
        wait(b);
        n as f64 / start.elapsed().as_secs_f64()
    };
    update();
    Ok(update())
}

/// Rows and features of the products that show the most that a device computes; the large ones of devices that want passes of many
/// rows. Larger ones are not tried after one that takes longer than so many seconds: the reference takes minutes.
const PEAK_SIDES: [usize; 6] = [128, 256, 512, 1024, 4096, 8192];
const MANY_ROWS: usize = 1024;
const LONG_S: f64 = 0.05;
/// Seconds for which each is repeated.
const PEAK_S: f64 = 0.1;

/// The most that `b` computes, operations per second: the fastest of many forward products of up to 1024 rows by a matrix of 1024 × 1024
/// (of 8192 on a device that wants passes of many rows), in a second or two.
///
/// # Errors
/// If the device refuses the memory.
pub fn peak<B: Backend>(b: &B) -> Result<f64, OutOfMemory> {
    let mut fastest = 0.0_f64;
    let largest = b.pass_rows().max(MANY_ROWS);
    for n in PEAK_SIDES.into_iter().filter(|n| *n <= largest) {
        let values: Vec<f32> = (0..n * n).map(|i| (i * 31 % 61) as f32 / 61.0 - 0.5).collect();
        let w = Matrix::new(b, &values, [n, n], Forms { values: true, packed: true })?;
        let mut x = b.operand(n * n, Keep::Operand)?;
        b.write_operand(&mut x, &values.into_iter().map(f64::from).collect::<Vec<_>>());
        let mut y = b.zeros(n * n)?;
        let (start, mut shortest) = (Instant::now(), f64::INFINITY);
        while start.elapsed().as_secs_f64() < PEAK_S {
            let begun = Instant::now();
            b.linear_forward(&mut y, &x, &w, n, Store::Write);
            wait(b);
            shortest = shortest.min(begun.elapsed().as_secs_f64());
        }
        fastest = fastest.max(2.0 * (n * n * n) as f64 / shortest);
        if shortest > LONG_S {
            break;
        }
    }
    Ok(fastest)
}

#[cfg(test)]
mod tests {
    use koan_backend::Reference;

    use super::*;

    #[test]
    fn the_peak_of_a_slow_device_is_found_in_little_time() {
        let start = Instant::now();
        assert!(peak(&Reference).expect("memory") > 1e6);
        assert!(start.elapsed().as_secs_f64() < 20.0);
    }
}
