// RMSNorm (arXiv:1910.07467): y = w · x · rstd, rstd = 1 / √(mean(x²) + eps).
//
// 2^shift threads a row, as many as the features ask for. Each holds HELD packs of W features in registers, so that rows are read once;
// of longer rows the rest is read again, from a cache. Bound by memory: the forward moves 6 bytes an element (8 of heads), the
// backward 16.

struct Norm { float* values; u16* rounded; float* rstd; const float* x; const float* w; u64 n; u32 features, shift; float eps; u32 wide; };
struct NormBackward {
    float* dx; float* chunks; const float* dy; const float* x; const float* w; const float* rstd;
    u64 n; u32 features, shift, chunk, wide;
};

template <int W>
DEVICE void norm_store(const Norm& p, u64 row, u32 j, const Floats<W>& x, float rstd) {
    Floats<W> w = load<W>(p.w + j), y;
    for (int k = 0; k < W; k++) y[k] = w[k] * (x[k] * rstd);
    if (p.values) store(p.values + row * p.features + j, y);
    if (p.rounded) store(p.rounded + row * p.features + j, y);
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

// With x̂ = x · rstd and g = w · dy: dx += rstd · (g − x̂ · mean(g · x̂)), and dw += dy · x̂ in shared memory, if it is asked for.
template <int W>
DEVICE void norm_backward_at(
    const Floats<W>& dy, const Floats<W>& x, const Floats<W>& w, float rstd, float mean, Floats<W>& dx, float* dw
) {
    Floats<W> sum = dw ? load<W>(dw) : zeros<W>();
    for (int k = 0; k < W; k++) {
        float x_hat = x[k] * rstd;
        dx[k] = __fmaf_rn(rstd, w[k] * dy[k] - x_hat * mean, dx[k]);
        sum[k] = __fmaf_rn(dy[k], x_hat, sum[k]);
    }
    if (dw) store(dw, sum);
}

// A block takes a chunk of rows. Its G groups of threads take rows g, g + G, ... of it in order, and sum dw in shared memory, each group
// its own; these sums are then added in order. The sums of chunks are added by sum_rows.
template <int W, int HELD>
DEVICE void norm_backward(const NormBackward& p) {
    u32 lanes = 1u << p.shift, lane = threadIdx.x & (lanes - 1), group = threadIdx.x >> p.shift, groups = blockDim.x >> p.shift;
    u32 step = lanes * W, rest = lane * W + HELD * step;
    float* sums = (float*)shared_memory();
    float* dw = sums + 32 + group * p.features;
    if (p.chunks)
        for (u32 j = lane * W; j < p.features; j += step) store(dw + j, zeros<W>());
    for (u32 r = group; r < p.chunk; r += groups) { // as often in each thread: there are barriers within
        u64 row = (u64)blockIdx.x * p.chunk + r;
        u32 features = row < p.n ? p.features : 0;
        u64 start = row * p.features;
        const float *dy = p.dy + start, *x = p.x + start;
        float* dx = p.dx + start;
        float rstd = row < p.n ? p.rstd[row] : 0.0f;
        Floats<W> held_dy[HELD], held_x[HELD], held_dx[HELD];
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            u32 j = lane * W + i * step;
            bool within = j < features;
            held_dy[i] = within ? load<W>(dy + j) : zeros<W>();
            held_x[i] = within ? load<W>(x + j) : zeros<W>();
            held_dx[i] = within ? load<W>(dx + j) : zeros<W>();
        }
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            u32 j = lane * W + i * step;
            Floats<W> w = j < features ? load<W>(p.w + j) : zeros<W>();
            for (int k = 0; k < W; k++) sum = __fmaf_rn(w[k] * held_dy[i][k], held_x[i][k], sum);
        }
        for (u32 j = rest; j < features; j += step) {
            Floats<W> w = load<W>(p.w + j), more_dy = load<W>(dy + j), more_x = load<W>(x + j);
            for (int k = 0; k < W; k++) sum = __fmaf_rn(w[k] * more_dy[k], more_x[k], sum);
        }
        float mean = sum_of_row(sum, lanes, sums) * rstd / (float)p.features;
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            u32 j = lane * W + i * step;
            if (j < features) {
                norm_backward_at(held_dy[i], held_x[i], load<W>(p.w + j), rstd, mean, held_dx[i], p.chunks ? dw + j : 0);
                store(dx + j, held_dx[i]);
            }
        }
        for (u32 j = rest; j < features; j += step) {
            Floats<W> more_dx = load<W>(dx + j);
            norm_backward_at(load<W>(dy + j), load<W>(x + j), load<W>(p.w + j), rstd, mean, more_dx, p.chunks ? dw + j : 0);
            store(dx + j, more_dx);
        }
    }
    if (!p.chunks) return;
    __syncthreads();
    for (u32 j = threadIdx.x; j < p.features; j += blockDim.x) {
        float sum = sums[32 + j];
        for (u32 g = 1; g < groups; g++) sum += sums[32 + g * p.features + j];
        p.chunks[(u64)blockIdx.x * p.features + j] = sum;
    }
}

// Of rows that fit into one pack a thread, as heads do, and of others.
KERNEL(rms_norm_narrow, Norm, 256) {
    if (p.wide) norm<4, 1>(p);
    else norm<1, 1>(p);
}

KERNEL(rms_norm, Norm, 256) {
    if (p.wide) norm<4, 8>(p);
    else norm<1, 8>(p);
}

KERNEL(rms_norm_backward_narrow, NormBackward, 256) {
    if (p.wide) norm_backward<4, 1>(p);
    else norm_backward<1, 1>(p);
}

KERNEL(rms_norm_backward, NormBackward, 256) {
    if (p.wide) norm_backward<4, 4>(p);
    else norm_backward<1, 4>(p);
}
