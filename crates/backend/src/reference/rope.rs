//! Rotary positions (arXiv:2104.09864). In the features that a [`Rotation`] names, at the angle of a token's position and
//! of `i < D/2`, with `[a, b]` the pair of `i`: `(x_a, x_b) ← (x_a cos − x_b sin, x_b cos + x_a sin)`.
//! The backward is the rotation by the opposite angle. `x` is (N, H · head features); `cos`, `sin` are (positions, D/2).

use crate::Rotation;

/// Rotates the heads of each row in place, by the angles of its position times `direction`, which is 1 or −1.
pub(super) fn rotate(
    x: &mut [f64],
    cos: &[f64],
    sin: &[f64],
    positions: &[u32],
    rotation: Rotation,
    direction: f64,
) {
    let half = rotation.dim / 2;
    for (row, &position) in x.chunks_exact_mut(rotation.features()).zip(positions) {
        let angles = position as usize * half..(position as usize + 1) * half;
        let (cos, sin) = (&cos[angles.clone()], &sin[angles]);
        for head in row.chunks_exact_mut(rotation.head_features) {
            for i in 0..half {
                let [a, b] = rotation.pair(i);
                let (x, y, sin) = (head[a], head[b], direction * sin[i]);
                head[a] = x * cos[i] - y * sin;
                head[b] = y * cos[i] + x * sin;
            }
        }
    }
}
