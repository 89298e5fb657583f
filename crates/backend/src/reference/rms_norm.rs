//! RMSNorm (arXiv:1910.07467): `y = w · x · rstd`, `rstd = 1 / √(mean(x²) + eps)`.
//! `x`, `y`, `dx`, `dy` are (N, C); `w`, `dw` are (C); `rstd` is (N).

use super::dot;

/// Writes `y`, and `rstd` for [`backward`].
pub(super) fn forward(y: &mut [f64], rstd: &mut [f64], x: &[f64], w: &[f64], eps: f64) {
    let c = w.len();
    for ((y, rstd), x) in y.chunks_exact_mut(c).zip(rstd).zip(x.chunks_exact(c)) {
        *rstd = (dot(x, x) / c as f64 + eps).sqrt().recip();
        for i in 0..c {
            y[i] = w[i] * x[i] * *rstd;
        }
    }
}

/// With `x̂ = x · rstd` and `g = w · dy`: adds `rstd · (g − x̂ · mean(g · x̂))` to `dx` and `Σₙ dy · x̂` to
/// `dw`, if it is asked for.
pub(super) fn backward(
    dx: &mut [f64],
    mut dw: Option<&mut [f64]>,
    dy: &[f64],
    x: &[f64],
    w: &[f64],
    rstd: &[f64],
) {
    let c = w.len();
    let rows = dy.chunks_exact(c).zip(x.chunks_exact(c)).zip(rstd);
    for (dx, ((dy, x), rstd)) in dx.chunks_exact_mut(c).zip(rows) {
        let x_hat: Vec<f64> = x.iter().map(|x| x * rstd).collect();
        let g: Vec<f64> = w.iter().zip(dy).map(|(w, dy)| w * dy).collect();
        let mean = dot(&g, &x_hat) / c as f64;
        for i in 0..c {
            dx[i] += rstd * (g[i] - x_hat[i] * mean);
        }
        if let Some(dw) = &mut dw {
            (0..c).for_each(|i| dw[i] += dy[i] * x_hat[i]);
        }
    }
}
