// RMSNorm (arXiv:1910.07467): y = w · x · rstd, rstd = 1 / √(mean(x²) + eps).
//
// 2^shift threads a row, as many as the features ask for. Each holds HELD packs of W features in registers, so that rows are read once;
// of longer rows the rest is read again, from a cache. Bound by memory: the forward moves 6 bytes an element (8 of heads, 10 with a
// copy), the backward 16, or 18 where its sum is rounded.

struct Norm { float* values; float* copy; u16* rounded; float* rstd; const float* x; const float* w; u64 n; u32 features, shift; float eps; u32 wide; };

template <int W>
DEVICE void norm_store(const Norm& p, u64 row, u32 j, const Floats<W>& x, float rstd) {
    Floats<W> w = load<W>(p.w + j), y;
    for (int k = 0; k < W; k++) y[k] = w[k] * (x[k] * rstd);
    if (p.values) store(p.values + row * p.features + j, y);
    if (p.rounded) store(p.rounded + row * p.features + j, y);
    if (p.copy) store(p.copy + row * p.features + j, x);
}

template <int W, int HELD>
DEVICE void norm(const Norm& p) {
    Place at = place_of(p.shift);
    bool valid = at.row < p.n;
    u32 features = valid ? p.features : 0, step = at.lanes * W, rest = at.lane * W + HELD * step;
    const float* x = p.x + at.row * p.features;
    Floats<W> held[HELD];
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        u32 j = at.lane * W + i * step;
        held[i] = j < features ? load<W>(x + j) : zeros<W>();
    }
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < HELD; i++)
        for (int k = 0; k < W; k++) sum = __fmaf_rn(held[i][k], held[i][k], sum);
    for (u32 j = rest; j < features; j += step) {
        Floats<W> more = load<W>(x + j);
        for (int k = 0; k < W; k++) sum = __fmaf_rn(more[k], more[k], sum);
    }
    sum = sum_of_row(sum, at.lanes, (float*)shared_memory());
    float rstd = 1.0f / sqrtf(sum / (float)p.features + p.eps);
    if (valid && at.lane == 0) p.rstd[at.row] = rstd;
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        u32 j = at.lane * W + i * step;
        if (j < features) norm_store(p, at.row, j, held[i], rstd);
    }
    for (u32 j = rest; j < features; j += step) norm_store(p, at.row, j, load<W>(x + j), rstd);
}

struct RowsBackward { NormBackward norm; u16* rounded; };

// dy and dx as they lie; dx is rounded too, if that is asked for.
struct AsTheyLie {
    const NormBackward& p;
    u16* rounded;
    template <int W>
    MEMBER void read(u64 row, u32 j, Floats<W>& dy, Floats<W>& dx) const {
        dy = load<W>(p.dy + row * p.features + j);
        dx = load<W>(p.dx + row * p.features + j);
    }
    template <int W>
    MEMBER void write(u64 row, u32 j, const Floats<W>& dx) const {
        store(p.dx + row * p.features + j, dx);
        if (rounded) store(rounded + row * p.features + j, dx);
    }
};

// Of rows that fit into one pack a thread, as heads do, and of others.
KERNEL(rms_norm_narrow, Norm, 256) {
    if (p.wide) norm<4, 1>(p);
    else norm<1, 1>(p);
}

KERNEL(rms_norm, Norm, 256) {
    if (p.wide) norm<4, 8>(p);
    else norm<1, 8>(p);
}

KERNEL(rms_norm_backward_narrow, RowsBackward, 256) {
    if (p.norm.wide) norm_backward<4, 1>(p.norm, AsTheyLie{p.norm, p.rounded});
    else norm_backward<1, 1>(p.norm, AsTheyLie{p.norm, p.rounded});
}

KERNEL(rms_norm_backward, RowsBackward, 256) {
    if (p.norm.wide) norm_backward<4, 4>(p.norm, AsTheyLie{p.norm, p.rounded});
    else norm_backward<1, 4>(p.norm, AsTheyLie{p.norm, p.rounded});
}
