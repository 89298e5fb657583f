// Rotary positions (arXiv:2104.09864): with i < half, the angle of (position, i) and a, b the two features that it turns,
// (x_a, x_b) ← (x_a cos − x_b sin, x_b cos + x_a sin). The backward turns by the opposite angle: sign −1.
//
// Bound by memory: 8 bytes a rotated element; the tables are small.

struct Rope {
    float* x; const float* cos; const float* sin; const u32* positions;
    u64 n; u32 heads, head_features, start, half, shift, wide, neighbours; float sign;
};

// Features i and i + half turn together.
template <int W>
DEVICE void turn_halves(float* x, const float* cos, const float* sin, u32 half, float sign) {
    Floats<W> a = load<W>(x), b = load<W>(x + half), c = load<W>(cos), s = load<W>(sin);
    for (int k = 0; k < W; k++) {
        float low = a[k], high = b[k], sine = s[k] * sign;
        a[k] = __fmaf_rn(low, c[k], -(high * sine));
        b[k] = __fmaf_rn(high, c[k], low * sine);
    }
    store(x, a);
    store(x + half, b);
}

// Features 2i and 2i + 1 turn together: W pairs.
template <int W>
DEVICE void turn_neighbours(float* x, const float* cos, const float* sin, float sign) {
    Floats<2 * W> pairs;
    if constexpr (W > 1) {
        pairs = load<2 * W>(x);
    } else { // which may begin anywhere
        pairs[0] = x[0];
        pairs[1] = x[1];
    }
    Floats<W> c = load<W>(cos), s = load<W>(sin);
    for (int k = 0; k < W; k++) {
        float a = pairs[2 * k], b = pairs[2 * k + 1], sine = s[k] * sign;
        pairs[2 * k] = __fmaf_rn(a, c[k], -(b * sine));
        pairs[2 * k + 1] = __fmaf_rn(b, c[k], a * sine);
    }
    store(x, pairs);
}

KERNEL(rope, Rope, 256) {
    Place at = place_of(p.shift);
    if (at.row >= p.n) return;
    u32 pairs = p.wide ? (p.neighbours ? 2 : 4) : 1, per_head = p.half / pairs;
    float* x = p.x + at.row * p.heads * p.head_features;
    u64 angles = (u64)p.positions[at.row] * p.half;
    for (u32 item = at.lane; item < p.heads * per_head; item += at.lanes) {
        u32 head = item / per_head, i = item % per_head * pairs;
        float* first = x + head * p.head_features + p.start;
        const float *cos = p.cos + angles + i, *sin = p.sin + angles + i;
        if (p.neighbours) {
            if (p.wide) turn_neighbours<2>(first + 2 * i, cos, sin, p.sign);
            else turn_neighbours<1>(first + 2 * i, cos, sin, p.sign);
        } else {
            if (p.wide) turn_halves<4>(first + i, cos, sin, p.half, p.sign);
            else turn_halves<1>(first + i, cos, sin, p.half, p.sign);
        }
    }
}
