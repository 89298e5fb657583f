//! Cases of what runs over whole buffers: AdamW, the sum of squares, copies.

use super::{
    Case, EDGES, Output, Precision, ROUNDOFF,
    values::{
        Numbers, by_row, exactly, input, output, output_operand, pick, unwritten, values_by_row, whole, wide,
    },
};
use crate::{AdamWStep, Backend, Keep, MomentType, bf16};

const STEP: AdamWStep = AdamWStep {
    lr: 0.01,
    beta1: 0.9,
    beta2: 0.95,
    eps: 1e-8,
    weight_decay: 0.1,
    grad_scale: 0.7,
    bias_correction1: 0.271,
    bias_correction2: 0.142_625,
    rounding_key: 0x5eed,
};

/// Weights, moments and gradients. A row is one element.
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

impl Vectors {
    /// The error allowed weights and moments in f32: a few roundings of each term.
    fn allowed_step(&self) -> [Vec<f64>; 3] {
        let n = self.w.len();
        let [lr, decay] = [STEP.lr, STEP.weight_decay].map(f64::from);
        let [mut w, mut m, mut v] = [(); 3].map(|()| vec![0.0; n]);
        for i in 0..n {
            let [w0, m0, v0, g] = [self.w[i], self.m[i], self.v[i], self.g[i]].map(|x| f64::from(x.abs()));
            (m[i], v[i]) = (m0 + g, v0 + g * g); // at most this, less β
            let v_hat = f64::from(STEP.beta2) * v0 / f64::from(STEP.bias_correction2);
            let update = m[i] / f64::from(STEP.bias_correction1) / (v_hat.sqrt() + f64::from(STEP.eps));
            w[i] = w0 + lr * (update + decay * w0);
        }
        [w, m, v].map(|x| x.iter().map(|x| 16.0 * ROUNDOFF * x).collect())
    }
}

/// How far apart the bf16 of `x` and of numbers that differ from it by up to `error` can be, under the same random bits.
fn edge(x: f64, error: f64, random: u32) -> f64 {
    let [below, at, above] =
        [x - error, x, x + error].map(|x| f64::from(bf16::to_f32(bf16::round(x as f32, random))));
    (above - at).max(at - below)
}

impl Case for Vectors {
    fn name(&self) -> String {
        format!("whole buffers of {} elements", self.rows())
    }

    fn run<B: Backend>(&self, b: &B) -> Vec<Output> {
        let n = self.rows();
        let [w, g] = [&self.w, &self.g].map(|x| exactly(b, x));
        let squares = b.sums_of_squares(&[&w, &g, &w]);
        assert_eq!(squares[0], squares[2], "a sum of squares is not the same twice");
        assert_eq!(squares[1], b.sums_of_squares(&[&g])[0], "a sum of squares alone and beside others");
        let squares = squares[0];
        let mut outputs = Vec::new();
        for (kind, [w, m, v]) in
            [(MomentType::F32, ["w", "m", "v"]), (MomentType::Bf16, ["w of bf16", "m of bf16", "v of bf16"])]
        {
            let mut weights = exactly(b, &self.w);
            let mut moments = [&self.m, &self.v].map(|x| b.upload_moment(x, kind).expect("a little memory"));
            let [first, second] = &mut moments;
            b.adamw_step(&mut weights, first, second, &g, STEP);
            let by_row = kind == MomentType::F32; // the random bits are those of the place in the buffer
            outputs.push(Output { name: w, by_row: true, rounded: false, values: whole(b, &weights) });
            for (name, moment) in [m, v].into_iter().zip(&moments) {
                outputs.push(Output { name, by_row, rounded: false, values: b.read_moment(moment) });
            }
            let zeros = b.read_moment(&b.zero_moment(n, kind).expect("a little memory"));
            assert!(zeros.len() == n && zeros.iter().all(|x| x.to_bits() == 0), "zeros of a moment");
        }
        let mut copy = output(b, &unwritten(n));
        b.copy(&mut copy, &input(b, &self.g), n);
        let mut zeros = exactly(b, &self.g);
        b.clear(&mut zeros);
        assert_eq!(whole(b, &zeros), whole(b, &b.zeros(n).expect("a little memory")), "clear and zeros");
        b.write(&mut zeros, &wide(&self.g[n / 2..]));
        let [written] = b.read([(&zeros, n - n / 2)]);
        assert_eq!(written, self.g[n / 2..], "write and read of the first elements");
        let [exact] = b.read_exact([(&zeros, n - n / 2)]);
        assert_eq!(exact, wide(&written), "f32 values in f64");
        outputs.push(by_row("copy", b, &copy));
        let mut scaled = output_operand(b, &self.w, Keep::Values);
        b.scale(&mut scaled, STEP.grad_scale, n);
        outputs.push(values_by_row("scaled", b, &scaled, n));
        let values = vec![squares as f32];
        outputs.push(Output { name: "sum_of_squares", by_row: false, rounded: false, values });
        outputs
    }

    /// A few roundings of each term; a moment in bf16 has the bits of the reference's but where those few roundings lie on the
    /// edge of what its random bits round up.
    fn allowed(&self, _: Precision) -> Vec<Vec<f64>> {
        let n = self.rows();
        let [w, m, v] = self.allowed_step();
        let short = |x: &[f32]| x.iter().map(|&x| bf16::to_f32(bf16::round(x, 0))).collect();
        let rounded = Self { m: short(&self.m), v: short(&self.v), ..self.clone() };
        let [w_short, mut m_short, mut v_short] = rounded.allowed_step();
        let [beta1, beta2, scale] = [STEP.beta1, STEP.beta2, STEP.grad_scale].map(f64::from);
        for i in 0..n {
            let [m, v, g] = [rounded.m[i], rounded.v[i], self.g[i]].map(f64::from);
            let random = bf16::random_bits(STEP.rounding_key, i as u32);
            let g = scale * g;
            m_short[i] = edge(beta1 * m + (1.0 - beta1) * g, m_short[i], random);
            v_short[i] = edge(beta2 * v + (1.0 - beta2) * g * g, v_short[i], random >> 16);
        }
        let squares = self.w.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>();
        let sum = vec![(n as f64 + 1.0) * ROUNDOFF * squares];
        let scaled = self.w.iter().map(|&w| ROUNDOFF * f64::from(w.abs())).collect();
        vec![w, m, v, w_short, m_short, v_short, vec![0.0; n], scaled, sum]
    }

    fn rows(&self) -> usize {
        self.w.len()
    }

    fn select(&self, rows: &[usize]) -> Self {
        let [w, m, v, g] = [&self.w, &self.m, &self.v, &self.g].map(|x| pick(x, self.rows(), rows));
        Self { w, m, v, g }
    }
}
