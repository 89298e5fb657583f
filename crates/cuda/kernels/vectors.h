// Elements of rows, several at a time. Bases of buffers are aligned to 256 bytes, so that four elements in a row lie in one access of
// 16 bytes (f32) or 8 (bf16) wherever their number within the buffer is a multiple of four.
#pragma once

// W elements, in f32.
template <int W>
struct Floats {
    float v[W];
    DEVICE float& operator[](int i) { return v[i]; }
    DEVICE float operator[](int i) const { return v[i]; }
};

struct alignas(16) Words4 { u32 v[4]; };
struct alignas(8) Words2 { u32 v[2]; };

template <int W>
DEVICE Floats<W> zeros() {
    Floats<W> y;
    for (int i = 0; i < W; i++) y[i] = 0.0f;
    return y;
}

template <int W>
DEVICE Floats<W> load(const float* x) {
    Floats<W> y;
    if constexpr (W == 4) {
        Words4 words = *(const Words4*)x;
        for (int i = 0; i < 4; i++) y[i] = __uint_as_float(words.v[i]);
    } else if constexpr (W == 2) {
        Words2 words = *(const Words2*)x;
        for (int i = 0; i < 2; i++) y[i] = __uint_as_float(words.v[i]);
    } else {
        for (int i = 0; i < W; i++) y[i] = x[i];
    }
    return y;
}

template <int W>
DEVICE Floats<W> load(const u16* x) {
    Floats<W> y;
    if constexpr (W == 4) {
        Words2 words = *(const Words2*)x;
        for (int i = 0; i < 2; i++) {
            y[2 * i] = __uint_as_float(words.v[i] << 16);
            y[2 * i + 1] = __uint_as_float(words.v[i] & 0xffff0000u);
        }
    } else {
        for (int i = 0; i < W; i++) y[i] = from_bf16(x[i]);
    }
    return y;
}

template <int W>
DEVICE void store(float* y, const Floats<W>& x) {
    if constexpr (W == 4) {
        Words4 words;
        for (int i = 0; i < 4; i++) words.v[i] = __float_as_uint(x[i]);
        *(Words4*)y = words;
    } else {
        for (int i = 0; i < W; i++) y[i] = x[i];
    }
}

// Rounded to nearest even.
template <int W>
DEVICE void store(u16* y, const Floats<W>& x) {
    if constexpr (W == 4) {
        Words2 words;
        for (int i = 0; i < 2; i++) words.v[i] = pack_bf16(x[2 * i], x[2 * i + 1]);
        *(Words2*)y = words;
    } else {
        for (int i = 0; i < W; i++) y[i] = to_bf16(x[i]);
    }
}

// The row that a thread works on, and which of the row's 2^shift threads it is.
struct Place {
    u64 row;
    u32 lane, lanes;
};

DEVICE Place place_of(u32 shift) {
    u32 lanes = 1u << shift;
    u64 row = (u64)blockIdx.x * (blockDim.x >> shift) + (threadIdx.x >> shift);
    return {row, threadIdx.x & (lanes - 1), lanes};
}

// The sum over the `lanes` threads of a row, a power of two, for each of them: a butterfly within warps, then the sums of
// warps in order. All threads of the block call it; `shared` is of 32 elements.
DEVICE float sum_of_row(float x, u32 lanes, float* shared) {
    for (u32 step = (lanes < 32 ? lanes : 32) / 2; step > 0; step /= 2) x += __shfl_xor_sync(ALL, x, step);
    if (lanes <= 32) return x;
    u32 warp = threadIdx.x / 32, warps = lanes / 32;
    if (threadIdx.x % 32 == 0) shared[warp] = x;
    __syncthreads();
    const float* sums = shared + (warp & ~(warps - 1));
    x = sums[0];
    for (u32 i = 1; i < warps; i++) x += sums[i];
    __syncthreads();
    return x;
}

// 1 / (1 + exp(-z))
DEVICE float sigmoid(float z) { return 1.0f / (1.0f + expf(-z)); }
