//! Cases of what runs over whole buffers: AdamW, the sum of squares, copies.

use super::{
    Case, EDGES, Output, Precision, ROUNDOFF,
    values::{Numbers, by_row, input, output, pick, unwritten},
};
use crate::{AdamWStep, Backend};

const STEP: AdamWStep = AdamWStep {
    lr: 0.01,
    beta1: 0.9,
    beta2: 0.95,
    eps: 1e-8,
    weight_decay: 0.1,
    grad_scale: 0.7,
    bias_correction1: 0.271,
    bias_correction2: 0.142_625,
};

/// Weights, moments and gradients. A row is one number.
#[derive(Clone)]
pub(super) struct Vectors {
    w: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
    g: Vec<f32>,
}

/// Up to more than one thread's share.
pub(super) fn cases() -> impl Iterator<Item = Vectors> {
    EDGES.into_iter().chain([100_003]).map(|n| {
        let mut numbers = Numbers::new(n);
        let (w, m, v, mut g) = (numbers.vec(n), numbers.vec(n), numbers.vec(n), numbers.vec(n));
        g.iter_mut().skip(4).step_by(7).for_each(|g| *g = 0.0);
        Vectors { w, m, v: v.iter().map(|v| v.abs()).collect(), g }
    })
}

impl Case for Vectors {
    fn name(&self) -> String {
        format!("whole buffers of {} numbers", self.rows())
    }

    fn run<B: Backend>(&self, b: &B) -> Vec<Output> {
        let n = self.rows();
        let whole = |name, buf: &B::Buf| Output { name, by_row: true, values: b.download(buf) };
        let [mut w, mut m, mut v, g] = [&self.w, &self.m, &self.v, &self.g].map(|x| b.upload(x));
        let squares = b.sum_of_squares(&w);
        assert_eq!(squares, b.sum_of_squares(&w), "sum_of_squares is not the same twice");
        b.adamw_step(&mut w, &mut m, &mut v, &g, STEP);
        let mut copy = output(b, &unwritten(n));
        b.copy(&mut copy, &input(b, &self.g), n);
        let mut zeros = b.upload(&self.g);
        b.clear(&mut zeros);
        assert_eq!(b.download(&zeros), b.download(&b.zeros(n)), "clear and zeros");
        vec![
            whole("w", &w),
            whole("m", &m),
            whole("v", &v),
            by_row("copy", b, &copy),
            Output { name: "sum_of_squares", by_row: false, values: vec![squares as f32] },
        ]
    }

    /// A few roundings of each term.
    fn allowed(&self, _: Precision) -> Vec<Vec<f64>> {
        let n = self.rows();
        let [lr, decay] = [STEP.lr, STEP.weight_decay].map(f64::from);
        let [mut w, mut m, mut v] = [(); 3].map(|()| vec![0.0; n]);
        for i in 0..n {
            let [w0, m0, v0, g] = [self.w[i], self.m[i], self.v[i], self.g[i]].map(|x| f64::from(x.abs()));
            (m[i], v[i]) = (m0 + g, v0 + g * g); // at most this, less β
            let v_hat = f64::from(STEP.beta2) * v0 / f64::from(STEP.bias_correction2);
            let update = m[i] / f64::from(STEP.bias_correction1) / (v_hat.sqrt() + f64::from(STEP.eps));
            w[i] = w0 + lr * (update + decay * w0);
        }
        let few = |x: Vec<f64>| x.iter().map(|x| 16.0 * ROUNDOFF * x).collect();
        let squares = self.w.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>();
        vec![few(w), few(m), few(v), vec![0.0; n], vec![(n as f64 + 1.0) * ROUNDOFF * squares]]
    }

    fn rows(&self) -> usize {
        self.w.len()
    }

    fn select(&self, rows: &[usize]) -> Self {
        let [w, m, v, g] = [&self.w, &self.m, &self.v, &self.g].map(|x| pick(x, self.rows(), rows));
        Self { w, m, v, g }
    }
}
