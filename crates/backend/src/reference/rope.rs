//! Rotary positions (arXiv:2104.09864), the two halves of a head paired as in Hugging Face: at the angle of a
//! token's position and of `i < D/2`, `(xᵢ, xᵢ₊D/2) ← (xᵢ cos − xᵢ₊D/2 sin, xᵢ₊D/2 cos + xᵢ sin)`.
//! The backward is the rotation by the opposite angle. `x` is (N, H · D); `cos`, `sin` are (positions, D/2).

/// Rotates the heads of each row in place, by the angles of its position times `direction`, which is 1 or −1.
pub(super) fn rotate(
    x: &mut [f64],
    cos: &[f64],
    sin: &[f64],
    positions: &[u32],
    heads: usize,
    dim: usize,
    direction: f64,
) {
    let half = dim / 2;
    for (row, &position) in x.chunks_exact_mut(heads * dim).zip(positions) {
        let angles = position as usize * half..(position as usize + 1) * half;
        let (cos, sin) = (&cos[angles.clone()], &sin[angles]);
        for head in row.chunks_exact_mut(dim) {
            let (first, second) = head.split_at_mut(half);
            for i in 0..half {
                let (a, b, sin) = (first[i], second[i], direction * sin[i]);
                first[i] = a * cos[i] - b * sin;
                second[i] = b * cos[i] + a * sin;
            }
        }
    }
}
