//! Cases of SwiGLU.

use super::{
    Case, EDGES, EXP_ROUNDINGS, Output, Precision, ROUNDOFF,
    values::{
        Numbers, assert_same_operand, input, operand_by_row, output_operand, pick, unwritten, values_by_row,
    },
};
use crate::{Backend, Keep};

/// A row is one element.
#[derive(Clone)]
pub(super) struct SwiGlu {
    gate: Vec<f32>,
    up: Vec<f32>,
    dy: Vec<f32>,
}

/// Gates within ±8, and among them some at which exp overflows or underflows.
pub(super) fn cases() -> impl Iterator<Item = SwiGlu> {
    EDGES.into_iter().chain([100_003]).map(|n| {
        let mut numbers = Numbers::new(n);
        let mut gate: Vec<f32> = numbers.vec(n).iter().map(|g| 8.0 * g).collect();
        let far = [0.0, -0.0, 30.0, -30.0, 89.0, -89.0, 120.0, -120.0, 1e4, -1e4];
        gate.iter_mut().skip(3).step_by(5).zip(far).for_each(|(gate, far)| *gate = far);
        SwiGlu { gate, up: numbers.vec(n), dy: numbers.vec(n) }
    })
}

impl Case for SwiGlu {
    fn name(&self) -> String {
        format!("swiglu, {} elements", self.rows())
    }

    fn run<B: Backend>(&self, b: &B) -> Vec<Output> {
        let n = self.rows();
        let (gate, up) = (input(b, &self.gate), input(b, &self.up));
        let mut y = output_operand(b, &unwritten(n), Keep::Operand);
        b.swiglu_forward(&mut y, &gate, &up, n);
        let backward = |keep| {
            let [mut dy, mut dgate, mut dup] =
                [&self.dy, &self.gate, &self.up].map(|x| output_operand(b, x, Keep::Values));
            b.swiglu_backward(&mut dy, &mut dgate, &mut dup, keep, n);
            [dy, dgate, dup]
        };
        let [dy, dgate, dup] = backward(Keep::Values);
        for (rounded, kept) in backward(Keep::Operand).iter().zip([&dy, &dgate, &dup]) {
            assert_same_operand(&self.name(), b, rounded, kept, n);
        }
        let (y, again) = (operand_by_row("y", b, &y, n), operand_by_row("y", b, &dy, n));
        let bits = |y: &Output| y.values.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&again), bits(&y), "{}: the backward gives y other bits", self.name());
        vec![y, values_by_row("dgate", b, &dgate, n), values_by_row("dup", b, &dup, n)]
    }

    /// σ errs relatively by what exp does and two roundings more, `1 − σ` absolutely by as much.
    fn allowed(&self, _: Precision) -> Vec<Vec<f64>> {
        let u = (EXP_ROUNDINGS + 8.0) * ROUNDOFF;
        let numbers = || {
            let numbers = self.gate.iter().zip(&self.up).zip(&self.dy);
            numbers.map(|((&gate, &up), &dy)| {
                let sigma = 1.0 / (1.0 + f64::from(-gate).exp());
                (f64::from(gate.abs()), f64::from(up.abs()), f64::from(dy.abs()), sigma)
            })
        };
        vec![
            numbers().map(|(gate, up, _, sigma)| u * gate * sigma * up).collect(),
            numbers().map(|(gate, up, dy, sigma)| u * dy * up * sigma * (1.0 + gate)).collect(),
            numbers().map(|(gate, _, dy, sigma)| u * dy * gate * sigma).collect(),
        ]
    }

    fn rows(&self) -> usize {
        self.gate.len()
    }

    fn select(&self, rows: &[usize]) -> Self {
        let [gate, up, dy] = [&self.gate, &self.up, &self.dy].map(|x| pick(x, self.rows(), rows));
        Self { gate, up, dy }
    }
}
