//! SwiGLU (arXiv:2002.05202): `y = gate · σ(gate) · up`, `σ(z) = 1 / (1 + exp(−z))`. All buffers are (N).

/// Writes `y`.
pub(super) fn forward(y: &mut [f64], gate: &[f64], up: &[f64]) {
    for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
        *y = gate * sigmoid(*gate) * up;
    }
}

/// Writes `dgate = dy · up · σ(gate) · (1 + gate · (1 − σ(gate)))` and `dup = dy · gate · σ(gate)`.
pub(super) fn backward(dgate: &mut [f64], dup: &mut [f64], dy: &[f64], gate: &[f64], up: &[f64]) {
    for i in 0..dy.len() {
        let sigma = sigmoid(gate[i]);
        dgate[i] = dy[i] * up[i] * sigma * (1.0 + gate[i] * (1.0 - sigma));
        dup[i] = dy[i] * gate[i] * sigma;
    }
}

fn sigmoid(z: f64) -> f64 {
    (1.0 + (-z).exp()).recip()
}
