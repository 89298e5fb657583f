// Rounding the values of operands to bf16. Bound by memory: 6 bytes an element, 10 where they are scaled.

struct Round { u16* y; float* x; u64 n; float factor; u32 scaled; };

template <int W>
DEVICE void round_at(const Round& p, u64 i) {
    Floats<W> x = load<W>(p.x + i);
    if (p.scaled) {
        for (int k = 0; k < W; k++) x[k] = __fmul_rn(x[k], p.factor);
        store(p.x + i, x);
    }
    store(p.y + i, x);
}

KERNEL(round_values, Round, 256) {
    u64 i = ((u64)blockIdx.x * 256 + threadIdx.x) * 4;
    if (i + 4 <= p.n) return round_at<4>(p, i);
    for (; i < p.n; i++) round_at<1>(p, i);
}
