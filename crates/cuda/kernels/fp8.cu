// Products of operands in FP8, emulated, as Backend::linear_forward defines them: numbers of E4M3, which bf16 holds exactly, and a scale for every
// block of 128 of k. Each block's products are summed from zero, scaled, and added in f32.
//
// Written to be correct: what real FP8 would save, it does not.

constexpr u32 BLOCK = 128;

// x rounded to E4M3: koan_backend::fp8::round.
DEVICE float fp8_round(float x) {
    float clamped = x < -448.0f ? -448.0f : x > 448.0f ? 448.0f : x;
    float power = fmaxf(__uint_as_float(__float_as_uint(clamped) & 0x7f800000u), 1.0f / 64.0f);
    // Numbers around this are spaced as E4M3 is around x.
    float shift = __fmul_rn(power, 1.5f * (1 << 20));
    float rounded = __fadd_rn(__fadd_rn(clamped, shift), -shift);
    return __uint_as_float((__float_as_uint(rounded) & 0x7fffffffu) | (__float_as_uint(x) & 0x80000000u));
}

// The bits of a magnitude: as they are ordered, and NaN above all.
DEVICE u32 magnitude(float x) { return __float_as_uint(x) & 0x7fffffffu; }

// The scale of a block by the bits of its largest magnitude: koan_backend::fp8::scale.
DEVICE float fp8_scale(u32 largest) {
    if (largest == 0) return 1.0f;
    float scale = __fdiv_rn(__uint_as_float(largest), 448.0f), least_normal = __uint_as_float(0x00800000u);
    return scale < least_normal ? least_normal : scale;
}

DEVICE u16 fp8_code(float x, float scale) { return to_bf16(fp8_round(__fdiv_rn(x, scale))); }

DEVICE u32 largest_of_warp(u32 largest) {
    for (u32 step = 1; step < 32; step *= 2) {
        u32 other = __shfl_xor_sync(ALL, largest, step);
        if (other > largest) largest = other;
    }
    return largest;
}

// Rows of `features`, rounded with a scale for each row and 128 features, [n, blocks]; with `restored`, their codes times their scales too.
// A warp for each block.
struct Fp8Rows { const u16* x; u16* codes; float* scales; float* restored; u64 n; u32 features, blocks; };

KERNEL(fp8_rows, Fp8Rows, 256) {
    u64 i = (u64)blockIdx.x * 8 + threadIdx.x / 32, row = i / p.blocks;
    u32 block = i % p.blocks, lane = threadIdx.x % 32;
    // The whole warp ends.
    if (row >= p.n) return;
    float x[4];
    u32 largest = 0;
    for (u32 e = 0; e < 4; e++) {
        u32 column = block * BLOCK + e * 32 + lane;
        x[e] = column < p.features ? from_bf16(p.x[row * p.features + column]) : 0.0f;
        if (magnitude(x[e]) > largest) largest = magnitude(x[e]);
    }
    float scale = fp8_scale(largest_of_warp(largest));
    if (lane == 0) p.scales[row * p.blocks + block] = scale;
    for (u32 e = 0; e < 4; e++) {
        u32 column = block * BLOCK + e * 32 + lane;
        if (column >= p.features) continue;
        u16 code = fp8_code(x[e], scale);
        p.codes[row * p.features + column] = code;
        if (p.restored) p.restored[row * p.features + column] = __fmul_rn(from_bf16(code), scale);
    }
}

// Matrices `[out, inp]`, rounded with a scale for each square of 128 x 128, [matrices, blocks of out, blocks of inp]. A block for each square.
struct Fp8Squares { const float* w; u16* codes; float* scales; u32 out, inp; };

KERNEL(fp8_squares, Fp8Squares, 256) {
    u32* of_warps = (u32*)shared_memory();
    u32 blocks = (p.inp + BLOCK - 1) / BLOCK, row = blockIdx.x / blocks * BLOCK, column = blockIdx.x % blocks * BLOCK + threadIdx.x % BLOCK;
    u32 end = row + BLOCK < p.out ? row + BLOCK : p.out;
    u64 matrix = blockIdx.y * (u64)p.out * p.inp;
    u32 largest = 0;
    if (column < p.inp)
        for (u32 r = row + threadIdx.x / BLOCK; r < end; r += 2) {
            u32 x = magnitude(p.w[matrix + r * (u64)p.inp + column]);
            if (x > largest) largest = x;
        }
    largest = largest_of_warp(largest);
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = largest;
    __syncthreads();
    for (u32 warp = 0; warp < 8; warp++)
        if (of_warps[warp] > largest) largest = of_warps[warp];
    float scale = fp8_scale(largest);
    if (threadIdx.x == 0) p.scales[blockIdx.y * (u64)gridDim.x + blockIdx.x] = scale;
    if (column < p.inp)
        for (u32 r = row + threadIdx.x / BLOCK; r < end; r += 2) {
            u64 at = matrix + r * (u64)p.inp + column;
            p.codes[at] = fp8_code(p.w[at], scale);
        }
}

// Rows of `features` (`x`, or `values` where that is null), rounded with a scale for each feature and 128 rows, [slots, features]. With experts, blocks of
// rows begin with each expert's first copy. A thread for each feature of a block.
struct Fp8Columns { const u16* x; const float* values; u16* codes; float* scales; const u32* starts; u32 n, features, experts, unused; };

// Where the scales lie of the block that begins with copy `first`, of expert `expert`: no two blocks share one.
DEVICE u32 slot_of(u32 first, u32 expert) { return first / BLOCK + expert; }

KERNEL(fp8_columns, Fp8Columns, 128) {
    u32 blocks = (p.features + BLOCK - 1) / BLOCK, t = blockIdx.x / blocks, column = blockIdx.x % blocks * BLOCK + threadIdx.x;
    u32 expert = 0, first = t * BLOCK, end = p.n;
    // The whole block ends.
    if (p.starts && !find_tile(p.starts, p.experts, BLOCK, t, expert, first, end)) return;
    if (end - first > BLOCK) end = first + BLOCK;
    if (column >= p.features) return;
    u32 largest = 0;
    for (u32 row = first; row < end; row++) {
        u64 at = row * (u64)p.features + column;
        u32 x = magnitude(p.x ? from_bf16(p.x[at]) : p.values[at]);
        if (x > largest) largest = x;
    }
    float scale = fp8_scale(largest);
    p.scales[slot_of(first, expert) * (u64)p.features + column] = scale;
    for (u32 row = first; row < end; row++) {
        u64 at = row * (u64)p.features + column;
        p.codes[at] = fp8_code(p.x ? from_bf16(p.x[at]) : p.values[at], scale);
    }
}

// C = A B, or +=, of codes, in the layouts of product.h; with `starts`, of copies by the matrices of their experts. The scale of an element of A is
// a_scales[index * a_index + block * a_block], of B b_scales[(index >> b_shift) * b_index + block * b_block], with the block of k.
struct Fp8Product {
    const u16* a; const u16* b; float* c; const float* a_scales; const float* b_scales; const u32* starts;
    u32 experts, m, n, k, add, paired, a_index, a_block, b_shift, b_index, b_block, b_matrix;
};

// What a tile's blocks of k sum to, scaled.
template <class T>
struct Scaled {
    const float* a_scales;
    const float* b_scales;
    u32 m, n, a_index, a_block, b_shift, b_index, b_block, block;
    float totals[T::ROWS][2 * T::PAIRS][4];

    // The scales are those from the tile's first row and column on, of which there are `m` and `n`.
    MEMBER Scaled(const Fp8Product& p, const float* a, const float* b, u32 m, u32 n)
        : a_scales(a), b_scales(b), m(m), n(n), a_index(p.a_index), a_block(p.a_block), b_shift(p.b_shift), b_index(p.b_index),
          b_block(p.b_block), block(0) {
        for (auto& row : totals)
            for (auto& pair : row)
                for (float& total : pair) total = 0.0f;
    }

    MEMBER void take(T& tile) {
        u32 lane = threadIdx.x % 32, row = tile.warp_m + lane / 4, column = tile.warp_n + lane % 4 * 2;
#pragma unroll
        for (u32 i = 0; i < 2 * T::ROWS; i++) {
            u32 r = row + i * 8;
            float of_a = r < m ? a_scales[r * (u64)a_index + block * (u64)a_block] : 0.0f;
#pragma unroll
            for (u32 j = 0; j < 2 * T::PAIRS; j++)
#pragma unroll
                for (u32 e = 0; e < 2; e++) {
                    u32 c = column + j * 8 + e;
                    float of_b = c < n ? b_scales[(c >> b_shift) * (u64)b_index + block * (u64)b_block] : 0.0f;
                    float& total = totals[i / 2][j][i % 2 * 2 + e];
                    total = __fadd_rn(total, __fmul_rn(__fmul_rn(tile.sums[i / 2][j][i % 2 * 2 + e], of_a), of_b));
                }
        }
        block++;
    }

    MEMBER void store(T& tile, const Target& c) {
#pragma unroll
        for (u32 i = 0; i < T::ROWS; i++)
#pragma unroll
            for (u32 j = 0; j < 2 * T::PAIRS; j++)
#pragma unroll
                for (u32 e = 0; e < 4; e++) tile.sums[i][j][e] = totals[i][j][e];
        tile.store(c);
    }
};

template <class S, bool A_ALONG_K, bool B_ALONG_K>
DEVICE void fp8_product(const Fp8Product& p) {
    typedef Tile<S, A_ALONG_K, B_ALONG_K> T;
    u32 columns = (p.n + S::N - 1) / S::N, t = blockIdx.x / columns, n = blockIdx.x % columns * S::N;
    u32 expert = 0, m = t * S::M, m_end = p.m, first = 0, k = p.k, slot = 0;
    if (A_ALONG_K) {
        // The whole block ends.
        if (p.starts && !find_tile(p.starts, p.experts, S::M, t, expert, m, m_end)) return;
    } else if (p.starts) {
        expert = blockIdx.y;
        first = p.starts[expert];
        k = p.starts[expert + 1] - first;
        slot = slot_of(first, expert);
        // The whole block ends.
        if (k == 0) return;
    }
    u64 a_stride = A_ALONG_K ? p.k : p.m, b_stride = B_ALONG_K ? p.k : p.n;
    // Matrices of experts are B, or C in the gradient of weights.
    u64 of_b = A_ALONG_K ? expert * ((u64)p.n * p.k) : first * b_stride, of_c = A_ALONG_K ? 0 : expert * ((u64)p.m * p.n);
    typename T::A a(p.a + (A_ALONG_K ? m * a_stride : first * a_stride + m), a_stride, m_end - m);
    typename T::B b(p.b + of_b + (B_ALONG_K ? n * b_stride : n), b_stride, p.n - n);
    Target c{p.c + of_c + m * (u64)p.n + n, p.n, m_end - m, p.n - n, p.add != 0, p.paired != 0};
    const float* a_scales = p.a_scales + m * (u64)p.a_index + slot * (u64)p.a_block;
    const float* b_scales = p.b_scales + (A_ALONG_K ? expert * (u64)p.b_matrix : 0) + slot * (u64)p.b_block;
    T tile;
    // A tile begins at a multiple of 64, so that it lies in one square of 128.
    Scaled<T> scaled(p, a_scales, b_scales + (n >> p.b_shift) * (u64)p.b_index, m_end - m, p.n - n);
    tile.template run<true>(a, b, k, BLOCK, scaled);
    scaled.store(tile, c);
}

typedef Shape<64, 64, 32, 1, 2, 2> Fp8Elements;
typedef Shape<64, 64, 64, 4, 2, 2> Fp8Chunks;

KERNEL(fp8_forward_elements, Fp8Product, 128) { fp8_product<Fp8Elements, true, true>(p); }
KERNEL(fp8_forward, Fp8Product, 128) { fp8_product<Fp8Chunks, true, true>(p); }
KERNEL(fp8_backward_input_elements, Fp8Product, 128) { fp8_product<Fp8Elements, true, false>(p); }
KERNEL(fp8_backward_input, Fp8Product, 128) { fp8_product<Fp8Chunks, true, false>(p); }
KERNEL(fp8_backward_weight_elements, Fp8Product, 128) { fp8_product<Fp8Elements, false, false>(p); }
KERNEL(fp8_backward_weight, Fp8Product, 128) { fp8_product<Fp8Chunks, false, false>(p); }
