// Biases: y[n, :] += bias, and the sum over rows that their gradients, and those of norms' scales, are.
//
// Bound by memory: 8 bytes an element forward, 4 backward.

struct AddBias { float* y; const float* bias; u64 n; u32 features, shift, wide, unused; };
struct SumRows { float* y; const float* x; u64 n; u32 features, chunk, add, wide; };

template <int W>
DEVICE void add_to_row(const AddBias& p, Place at) {
    float* y = p.y + at.row * p.features;
    for (u32 j = at.lane * W; j < p.features; j += at.lanes * W) {
        Floats<W> sum = load<W>(y + j), bias = load<W>(p.bias + j);
        for (int k = 0; k < W; k++) sum[k] += bias[k];
        store(y + j, sum);
    }
}

KERNEL(add_bias, AddBias, 256) {
    Place at = place_of(p.shift);
    if (at.row >= p.n) return;
    if (p.wide) add_to_row<4>(p, at);
    else add_to_row<1>(p, at);
}

// y[c, :] = Σ x[n, :], or +=, over the rows n of chunk c: blockIdx.x. Warp g of G adds rows g, g + G, ... in order, a lane W columns;
// then the warps' sums are added in order. What is added in which order depends on n and the features alone, since the launch does.
template <int W>
DEVICE void sum_chunk(const SumRows& p) {
    float* shared = (float*)shared_memory();
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    u32 j = (blockIdx.y * 32 + lane) * W;
    u64 first = (u64)blockIdx.x * p.chunk, end = first + p.chunk < p.n ? first + p.chunk : p.n;
    Floats<W> sum = zeros<W>();
    if (j < p.features) {
        const float* x = p.x + j;
        u64 row = first + warp;
        for (; row + 3 * warps < end; row += 4 * warps) {
            Floats<W> terms[4];
            for (int r = 0; r < 4; r++) terms[r] = load<W>(x + (row + r * warps) * p.features);
            for (int r = 0; r < 4; r++)
                for (int k = 0; k < W; k++) sum[k] += terms[r][k];
        }
        for (; row < end; row += warps) {
            Floats<W> term = load<W>(x + row * p.features);
            for (int k = 0; k < W; k++) sum[k] += term[k];
        }
    }
    store(shared + (warp * 32 + lane) * W, sum);
    __syncthreads();
    if (warp > 0 || j >= p.features) return;
    for (u32 g = 1; g < warps; g++) {
        Floats<W> term = load<W>(shared + (g * 32 + lane) * W);
        for (int k = 0; k < W; k++) sum[k] += term[k];
    }
    float* y = p.y + (u64)blockIdx.x * p.features + j;
    if (p.add) {
        Floats<W> before = load<W>(y);
        for (int k = 0; k < W; k++) sum[k] = before[k] + sum[k];
    }
    store(y, sum);
}

KERNEL(sum_rows, SumRows, 1024) {
    if (p.wide) sum_chunk<4>(p);
    else sum_chunk<1>(p);
}
