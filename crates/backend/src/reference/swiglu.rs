//! SwiGLU (arXiv:2002.05202): `y = gate · σ(gate) · up`, `σ(z) = 1 / (1 + exp(−z))`. All buffers are (N).

/// Writes `y`.
pub(super) fn forward(y: &mut [f64], gate: &[f64], up: &[f64]) {
    for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
        *y = gate * sigmoid(*gate) * up;
    }
}

/// In place: `gate` becomes `dgate = dy · up · σ(gate) · (1 + gate · (1 − σ(gate)))`, `up` becomes
/// `dup = dy · gate · σ(gate)`, and `dy` becomes `y`.
pub(super) fn backward(dy: &mut [f64], gate: &mut [f64], up: &mut [f64]) {
    for ((dy, gate), up) in dy.iter_mut().zip(gate).zip(up) {
        let sigma = sigmoid(*gate);
        let y = *gate * sigma * *up;
        let dgate = *dy * *up * sigma * (1.0 + *gate * (1.0 - sigma));
        let dup = *dy * *gate * sigma;
        (*dy, *gate, *up) = (y, dgate, dup);
    }
}

pub(super) fn sigmoid(z: f64) -> f64 {
    (1.0 + (-z).exp()).recip()
}
