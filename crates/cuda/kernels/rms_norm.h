// The backward of RMSNorm, for rows and for heads that are turned.
#pragma once

struct NormBackward {
    float* dx; float* chunks; const float* dy; const float* x; const float* w; const float* rstd;
    u64 n; u32 features, shift, chunk, wide;
};

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
// its own; these sums are then added in order. The sums of chunks are added by sum_rows. `at` says how dy is read, what dx adds to, and
// how it is written: a row's dy is all read before any of its dx is written, as far as threads hold it.
template <int W, int HELD, typename At>
DEVICE void norm_backward(const NormBackward& p, const At& at) {
    u32 lanes = 1u << p.shift, lane = threadIdx.x & (lanes - 1), group = threadIdx.x >> p.shift, groups = blockDim.x >> p.shift;
    u32 step = lanes * W, rest = lane * W + HELD * step;
    float* sums = (float*)shared_memory();
    float* dw = sums + 32 + group * p.features;
    if (p.chunks)
        for (u32 j = lane * W; j < p.features; j += step) store(dw + j, zeros<W>());
    for (u32 r = group; r < p.chunk; r += groups) { // as often in each thread: there are barriers within
        u64 row = (u64)blockIdx.x * p.chunk + r;
        u32 features = row < p.n ? p.features : 0;
        const float* x = p.x + row * p.features;
        float rstd = row < p.n ? p.rstd[row] : 0.0f;
        Floats<W> held_dy[HELD], held_x[HELD], held_dx[HELD];
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            u32 j = lane * W + i * step;
            held_dy[i] = held_x[i] = held_dx[i] = zeros<W>();
            if (j < features) {
                held_x[i] = load<W>(x + j);
                at.read(row, j, held_dy[i], held_dx[i]);
            }
        }
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            u32 j = lane * W + i * step;
            Floats<W> w = j < features ? load<W>(p.w + j) : zeros<W>();
            for (int k = 0; k < W; k++) sum = __fmaf_rn(w[k] * held_dy[i][k], held_x[i][k], sum);
        }
        for (u32 j = rest; j < features; j += step) {
            Floats<W> w = load<W>(p.w + j), more_dy = load<W>(p.dy + row * p.features + j), more_x = load<W>(x + j);
            for (int k = 0; k < W; k++) sum = __fmaf_rn(w[k] * more_dy[k], more_x[k], sum);
        }
        float mean = sum_of_row(sum, lanes, sums) * rstd / (float)p.features;
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            u32 j = lane * W + i * step;
            if (j < features) {
                norm_backward_at(held_dy[i], held_x[i], load<W>(p.w + j), rstd, mean, held_dx[i], p.chunks ? dw + j : 0);
                at.write(row, j, held_dx[i]);
            }
        }
        for (u32 j = rest; j < features; j += step) {
            Floats<W> more_dy, more_dx;
            at.read(row, j, more_dy, more_dx);
            norm_backward_at(more_dy, load<W>(x + j), load<W>(p.w + j), rstd, mean, more_dx, p.chunks ? dw + j : 0);
            at.write(row, j, more_dx);
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
