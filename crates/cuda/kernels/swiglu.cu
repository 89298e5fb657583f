// SwiGLU (arXiv:2002.05202): y = gate · σ(gate) · up.
//
// Bound by memory: the forward moves 10 bytes an element, the backward 18, or 30 where values are kept.

struct Swiglu { u16* y; const float* gate; const float* up; u64 n; };
// Each of dy, gate and up with its rounded form.
struct SwigluBackward { float* dy; float* gate; float* up; u16* rounded_dy; u16* rounded_gate; u16* rounded_up; u64 n; u32 keep, unused; };

template <int W>
DEVICE void swiglu_at(const Swiglu& p, u64 i) {
    Floats<W> gate = load<W>(p.gate + i), up = load<W>(p.up + i), y;
    for (int k = 0; k < W; k++) y[k] = gate[k] * sigmoid(gate[k]) * up[k];
    store(p.y + i, y);
}

// dgate = dy · up · σ(gate) · (1 + gate · (1 − σ(gate))), dup = dy · gate · σ(gate), and dy becomes y.
template <int W>
DEVICE void swiglu_backward_at(const SwigluBackward& p, u64 i) {
    Floats<W> dy = load<W>(p.dy + i), gate = load<W>(p.gate + i), up = load<W>(p.up + i), y, dgate, dup;
    for (int k = 0; k < W; k++) {
        float s = sigmoid(gate[k]), silu = gate[k] * s;
        y[k] = silu * up[k];
        dgate[k] = dy[k] * up[k] * (s * __fmaf_rn(gate[k], 1.0f - s, 1.0f));
        dup[k] = dy[k] * silu;
    }
    if (p.keep) {
        store(p.dy + i, y);
        store(p.gate + i, dgate);
        store(p.up + i, dup);
    }
    store(p.rounded_dy + i, y);
    store(p.rounded_gate + i, dgate);
    store(p.rounded_up + i, dup);
}

KERNEL(swiglu_forward, Swiglu, 256) {
    u64 i = ((u64)blockIdx.x * 256 + threadIdx.x) * 4;
    if (i + 4 <= p.n) return swiglu_at<4>(p, i);
    for (; i < p.n; i++) swiglu_at<1>(p, i);
}

KERNEL(swiglu_backward, SwigluBackward, 256) {
    u64 i = ((u64)blockIdx.x * 256 + threadIdx.x) * 4;
    if (i + 4 <= p.n) return swiglu_backward_at<4>(p, i);
    for (; i < p.n; i++) swiglu_backward_at<1>(p, i);
}
