// AdamW (arXiv:1711.05101, Algorithm 2), and the squares that gradients are clipped by.
//
// Bound by memory: a step moves 28 bytes a weight (20 with moments in bf16), the squares 4.

struct AdamW {
    float* w; void* m; void* v; const float* g;
    u64 n; float lr, beta1, beta2, rest1, rest2, eps, weight_decay, grad_scale, correction1, correction2; u32 rounding_key, rounded;
};

// 32 random bits for counter i under key: the finalizer of MurmurHash3, as koan_backend::bf16 has it.
DEVICE u32 random_bits(u32 key, u32 i) {
    u32 x = key ^ i;
    x = (x ^ (x >> 16)) * 0x85ebca6bu;
    x = (x ^ (x >> 13)) * 0xc2b2ae35u;
    return x ^ (x >> 16);
}

// The bf16 below or above x in magnitude, by the lower 16 bits of `random`; what is beyond the greatest is cut.
DEVICE float round_randomly(float x, u32 random) {
    u32 bits = __float_as_uint(x);
    u32 carry = (bits & 0x7fffffffu) < 0x7f7f0000u ? random & 0xffffu : 0;
    return __uint_as_float((bits + carry) & 0xffff0000u);
}

// Stores a moment of elements i, i + 1, ...: as it is, or rounded by the random bits of each element's place.
template <int W>
DEVICE void keep(float* m, const Floats<W>& x, u32, u32, u32) { store(m, x); }

template <int W>
DEVICE void keep(u16* m, const Floats<W>& x, u32 key, u32 i, u32 shift) {
    Floats<W> y;
    for (int k = 0; k < W; k++) y[k] = round_randomly(x[k], random_bits(key, i + k) >> shift);
    store(m, y);
}

template <int W, typename M>
DEVICE void adamw_at(const AdamW& p, u64 i) {
    M *m = (M*)p.m + i, *v = (M*)p.v + i;
    Floats<W> w = load<W>(p.w + i), first = load<W>(m), second = load<W>(v), g = load<W>(p.g + i);
    for (int k = 0; k < W; k++) {
        g[k] *= p.grad_scale;
        first[k] = __fmaf_rn(p.beta1, first[k], p.rest1 * g[k]);
        second[k] = __fmaf_rn(p.beta2, second[k], p.rest2 * (g[k] * g[k]));
        float update = first[k] / p.correction1 / (sqrtf(second[k] / p.correction2) + p.eps);
        w[k] = __fmaf_rn(-p.lr, __fmaf_rn(p.weight_decay, w[k], update), w[k]);
    }
    store(p.w + i, w);
    keep(m, first, p.rounding_key, (u32)i, 0);
    keep(v, second, p.rounding_key, (u32)i, 16);
}

template <typename M>
DEVICE void adamw(const AdamW& p) {
    u64 i = ((u64)blockIdx.x * 256 + threadIdx.x) * 4;
    if (i + 4 <= p.n) return adamw_at<4, M>(p, i);
    for (; i < p.n; i++) adamw_at<1, M>(p, i);
}

KERNEL(adamw_step, AdamW, 256) {
    if (p.rounded) adamw<u16>(p);
    else adamw<float>(p);
}

// Buffer b of `count` lies at table[b], has table[count + b] elements, and its chunks are those from table[2 count + b] on, up to the next
// buffer's first.
struct Squares { double* sums; double* chunks; const u64* table; u64 count; };

// Elements of a chunk.
#define CHUNK 16384

// The sum over the 256 threads of a block, as a tree, for thread 0. `shared` is of 256 elements.
DEVICE double sum_of_block(double x, double* shared) {
    shared[threadIdx.x] = x;
    __syncthreads();
    for (u32 step = 128; step > 0; step /= 2) {
        if (threadIdx.x < step) shared[threadIdx.x] += shared[threadIdx.x + step];
        __syncthreads();
    }
    return shared[0];
}

// Σ x² of a chunk, in f64: a thread adds four sums, of every fourth element of its packs.
KERNEL(squares_of_chunks, Squares, 256) {
    const u64* starts = p.table + 2 * p.count;
    u64 low = 0, high = p.count; // the last buffer that starts at this chunk or before: it is not empty
    while (high - low > 1) {
        u64 middle = (low + high) / 2;
        if (starts[middle] <= blockIdx.x) low = middle;
        else high = middle;
    }
    u64 begin = (blockIdx.x - starts[low]) * CHUNK, len = p.table[p.count + low] - begin;
    if (len > CHUNK) len = CHUNK;
    const float* x = (const float*)p.table[low] + begin;
    double sums[4] = {0.0, 0.0, 0.0, 0.0};
    u32 packs = (u32)len / 4;
#pragma unroll 4
    for (u32 i = threadIdx.x; i < packs; i += 256) {
        Floats<4> pack = load<4>(x + 4 * i);
        for (int k = 0; k < 4; k++) sums[k] += (double)pack[k] * (double)pack[k];
    }
    if (u32 i = 4 * packs + threadIdx.x; i < len) sums[0] += (double)x[i] * (double)x[i];
    double sum = sum_of_block((sums[0] + sums[1]) + (sums[2] + sums[3]), (double*)shared_memory());
    if (threadIdx.x == 0) p.chunks[blockIdx.x] = sum;
}

// The sum of the chunks of each buffer, a block for each.
KERNEL(sums_of_chunks, Squares, 256) {
    const u64* starts = p.table + 2 * p.count;
    double sum = 0.0;
    for (u64 i = starts[blockIdx.x] + threadIdx.x; i < starts[blockIdx.x + 1]; i += 256) sum += p.chunks[i];
    sum = sum_of_block(sum, (double*)shared_memory());
    if (threadIdx.x == 0) p.sums[blockIdx.x] = sum;
}
