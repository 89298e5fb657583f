// Attention (arXiv:1706.03762), key block by key block with a running maximum (FlashAttention-2, arXiv:2307.08691):
// s = scale q·k, p = exp(s - max), out = Σ p v / Σ p, with bf16 operands q, k, p, v, accumulated in f32.
//
// The sums of 256 keys, a split, begin from zero, and splits are merged in their order. So splits may be computed by other blocks,
// and a row's bits depend on the keys that it sees alone.
//
// Decoding is bound by the bytes of keys and values; training and prefill by 4 FLOPs for each pair and feature.

// Blocks of keys of a split.
#define SPLIT 4

struct Attention {
    u16* out; float* values; float* log_sum_exp;
    const float* q; const u16* k; const u16* v;
    const Tile* tiles; const u32* key_rows;
    float* partial; float* partial_sums; // where splits are merged by another kernel, else null
    u32 query, key_value, dim, value_dim;
    u32 subtiles, value_chunks, splits; float scale; // in base 2
};

// The softmax of a row so far: the maximum of its scores in base 2, the sum of exponentials, from that maximum.
struct Sums { float max, sum; };

// Factors of what two splits summed, to add them.
struct Merge { float before, split; };

DEVICE float finite(float max) { return max == -INFINITY ? 0.0f : max; }

DEVICE Merge merge(Sums& total, Sums split) {
    float max = fmaxf(total.max, split.max);
    Merge factors = {exp2_fast(total.max - finite(max)), exp2_fast(split.max - finite(max))};
    total.sum = __fmaf_rn(split.sum, factors.split, total.sum * factors.before);
    total.max = max;
    return factors;
}

DEVICE float merged(Merge factors, float total, float split) { return __fmaf_rn(split, factors.split, total * factors.before); }

DEVICE float log_sum_exp(Sums sums) { return sums.max * LN_2 + logf(sums.sum); }

DEVICE float sum_of_quad(float x) {
    x += __shfl_xor_sync(ALL, x, 1);
    return x + __shfl_xor_sync(ALL, x, 2);
}

DEVICE float max_of_quad(float x) {
    x = fmaxf(x, __shfl_xor_sync(ALL, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL, x, 2));
}

template <int WARPS>
DEVICE void meet() {
    if (WARPS == 1) __syncwarp();
    else __syncthreads();
}

// A tile of 16 rows a warp, a block of WARPS of them, which share keys and values. `DIM` features of queries and keys, or any
// number (0); up to 8 VALUES features of values: others are for other blocks.
template <int DIM, int VALUES, int WARPS>
DEVICE void attend(const Attention& p) {
    const u32 threads = WARPS * 32, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const Divisor group = divisor(p.query / p.key_value);

    // which rows, head, and features of values
    u32 index = blockIdx.x;
    u32 value_chunk = index % p.value_chunks; index /= p.value_chunks;
    u32 subtile = index % p.subtiles; index /= p.subtiles;
    u32 head = index % p.key_value; index /= p.key_value;
    const Tile tile = p.tiles[index];
    u32 first = subtile * WARPS * 16, rows = tile.rows * group;
    if (first >= rows) return;
    rows = rows - first < WARPS * 16 ? rows - first : WARPS * 16;
    u32 keys = tile.visible + (first + rows - 1) / group, blocks = (keys + BLOCK - 1) / BLOCK;
    u32 block = p.partial ? blockIdx.y * SPLIT : 0;
    if (block >= blocks) return;
    if (p.partial && block + SPLIT < blocks) blocks = block + SPLIT;

    // keys in chunks of features; behind them their values: a ring of three parts
    u32 dim = DIM ? DIM : p.dim, padded = rounded_up(dim, 16);
    u32 chunks = DIM ? 1 : (padded + CHUNK - 1) / CHUNK;
    u32 key_width = DIM ? DIM : padded < CHUNK ? padded : CHUNK;
    u32 value_first = value_chunk * VALUES * 8;
    u32 value_count = p.value_dim - value_first < VALUES * 8 ? p.value_dim - value_first : VALUES * 8;
    u32 value_width = DIM ? VALUES * 8 : rounded_up(value_count, 16);
    u32 query_bytes = row_bytes(padded), key_bytes = row_bytes(key_width), value_bytes = row_bytes(value_width);
    u32 part_bytes = BLOCK * (key_bytes > value_bytes ? key_bytes : value_bytes);
    u8* queries = shared_memory();
    u32* table = (u32*)(queries + WARPS * 16 * query_bytes); // the rows of two blocks of keys
    u8* ring = (u8*)(table + 2 * BLOCK);

    const u32* key_rows = p.key_rows + tile.keys;
    for (u32 i = threadIdx.x; i < BLOCK; i += threads) table[block % 2 * BLOCK + i] = key_rows[block * BLOCK + i];
    auto query_of = [&](u32 r) { return (u64)(tile.row + (first + r) / group) * p.query + head * group + (first + r) % group; };
    if (DIM) {
        constexpr u32 VECTORS = DIM ? DIM / 4 : 4;
#pragma unroll 8
        for (u32 n = 0; n < WARPS * 16 * VECTORS; n += WARPS * 32) {
            u32 r = (n + threadIdx.x) / VECTORS, c = (n + threadIdx.x) % VECTORS * 4;
            Floats<4> x = r < rows ? load<4>(p.q + query_of(r) * DIM + c) : zeros<4>();
            Words2 packed = {{pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3])}};
            *(Words2*)(queries + r * query_bytes + c * 2) = packed;
        }
    } else {
        for (u32 i = threadIdx.x; i < WARPS * 16 * (padded / 2); i += threads) {
            u32 r = i / (padded / 2), c = i % (padded / 2) * 2;
            const float* q = p.q + query_of(r) * dim + c;
            float low = r < rows && c < dim ? q[0] : 0.0f, high = r < rows && c + 1 < dim ? q[1] : 0.0f;
            *(u32*)(queries + r * query_bytes + c * 2) = pack_bf16(low, high);
        }
    }
    __syncthreads();

    // parts are copied two ahead; with a block's first the rows of the next block's keys
    u32 next_block = block, next_chunk = 0, next_place = 0;
    auto copy = [&]() {
        if (next_block < blocks) {
            u8* to = ring + next_place * part_bytes;
            const u32* rows_of = table + next_block % 2 * BLOCK;
            auto key = [&](u32 i) { return rows_of[i]; };
            if (DIM) {
                bool values = next_chunk == 1;
                copy_block<DIM ? DIM : 16, WARPS * 32>(to, (values ? p.v : p.k) + head * DIM, key, p.key_value * DIM, threadIdx.x);
            } else if (next_chunk < chunks) {
                u32 from = next_chunk * CHUNK, count = dim - from < key_width ? dim - from : key_width;
                copy_rows(to, key_bytes, p.k, BLOCK, key, p.key_value * dim, head * dim + from, count, key_width, threadIdx.x, threads);
            } else {
                copy_rows(to, value_bytes, p.v, BLOCK, key, p.key_value * p.value_dim, head * p.value_dim + value_first, value_count, value_width, threadIdx.x, threads);
            }
            if (next_chunk == 0 && next_block + 1 < blocks && threadIdx.x < BLOCK / 4) {
                u32 i = threadIdx.x * 4;
                copy_async(table + (next_block + 1) % 2 * BLOCK + i, key_rows + (next_block + 1) * BLOCK + i, true);
            }
            if (++next_chunk > chunks) next_chunk = 0, next_block++;
            next_place = next_place == 2 ? 0 : next_place + 1;
        }
        commit_copies();
    };
    u32 place = 2;
    auto next_part = [&]() {
        wait_for_copies<1>();
        meet<WARPS>(); // all have this part, and none reads the one before it
        copy();
        place = place == 2 ? 0 : place + 1;
        return ring + place * part_bytes;
    };
    copy();
    copy();

    // the lane's rows `top` and `top + 8` of the warp's 16, and what they see
    u32 warp_first = first + warp * 16, top = lane / 4, column = lane % 4 * 2;
    bool idle = warp * 16 >= rows;
    u32 seen[2] = {tile.visible + (warp_first + top) / group, tile.visible + (warp_first + top + 8) / group};
    u32 all_see = tile.visible + warp_first / group, any_sees = tile.visible + (warp_first + 15) / group;
    const u8* own_queries = queries + warp * 16 * query_bytes + lane_of_a(lane, query_bytes);
    u32 of_keys = lane_of_b(lane, key_bytes), of_values = lane_of_a(lane, value_bytes);

    u32 q[DIM ? DIM / 16 : 1][4];
    if (DIM) {
#pragma unroll
        for (int step = 0; step < DIM / 16; step++) load_matrices(q[step], own_queries + step * 32);
    }
    Sums sums[2] = {{-INFINITY, 0.0f}, {-INFINITY, 0.0f}}, total[2] = {{-INFINITY, 0.0f}, {-INFINITY, 0.0f}};
    float out[VALUES][4], total_out[VALUES][4];
#pragma unroll
    for (int j = 0; j < VALUES; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) out[j][i] = total_out[j][i] = 0.0f;
    }

    for (; block < blocks; block++) {
        u32 start = block * BLOCK;
        bool skip = idle || start >= any_sees;

        float s[BLOCK / 8][4]; // scores, then probabilities
#pragma unroll
        for (int j = 0; j < BLOCK / 8; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++) s[j][i] = 0.0f;
        }
        for (u32 chunk = 0; chunk < chunks; chunk++) {
            const u8* part = next_part() + of_keys;
            if (skip) continue;
            u32 steps = DIM ? DIM / 16 : ((padded - chunk * CHUNK < CHUNK ? padded - chunk * CHUNK : CHUNK) / 16);
#pragma unroll
            for (u32 step = 0; step < (DIM ? DIM / 16 : steps); step++) {
                if (!DIM) load_matrices(q[0], own_queries + (chunk * (CHUNK / 16) + step) * 32);
#pragma unroll
                for (int j = 0; j < BLOCK / 16; j++) {
                    u32 k[4];
                    load_matrices(k, part + j * 16 * key_bytes + step * 32);
                    multiply_add(s[2 * j], q[DIM ? step : 0], k[0], k[1]);
                    multiply_add(s[2 * j + 1], q[DIM ? step : 0], k[2], k[3]);
                }
            }
        }

        if (!skip) {
            if (start + BLOCK > all_see) {
#pragma unroll
                for (int j = 0; j < BLOCK / 8; j++) {
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        if (start + j * 8 + column + i % 2 >= seen[i / 2]) s[j][i] = -INFINITY;
                    }
                }
            }
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float max = -INFINITY;
#pragma unroll
                for (int j = 0; j < BLOCK / 8; j++) max = fmaxf(max, fmaxf(s[j][2 * half], s[j][2 * half + 1]));
                max = fmaxf(sums[half].max, max_of_quad(max) * p.scale);
                float from = finite(max), before = exp2_fast(sums[half].max - from), sum = 0.0f;
#pragma unroll
                for (int j = 0; j < BLOCK / 8; j++) {
#pragma unroll
                    for (int i = 2 * half; i < 2 * half + 2; i++) {
                        s[j][i] = exp2_fast(__fmaf_rn(s[j][i], p.scale, -from));
                        sum += s[j][i];
                    }
                }
                sums[half] = {max, __fmaf_rn(sums[half].sum, before, sum)};
#pragma unroll
                for (int j = 0; j < VALUES; j++) {
                    out[j][2 * half] *= before;
                    out[j][2 * half + 1] *= before;
                }
            }
        }

        const u8* part = next_part() + of_values;
        if (!skip) {
#pragma unroll
            for (int step = 0; step < BLOCK / 16; step++) {
                u32 probabilities[4] = {
                    pack_bf16(s[2 * step][0], s[2 * step][1]), pack_bf16(s[2 * step][2], s[2 * step][3]),
                    pack_bf16(s[2 * step + 1][0], s[2 * step + 1][1]), pack_bf16(s[2 * step + 1][2], s[2 * step + 1][3])};
#pragma unroll
                for (int j = 0; j < VALUES / 2; j++) {
                    if (DIM || (u32)j * 16 < value_width) {
                        u32 v[4];
                        load_matrices_transposed(v, part + step * 16 * value_bytes + j * 32);
                        multiply_add(out[2 * j], probabilities, v[0], v[1]);
                        multiply_add(out[2 * j + 1], probabilities, v[2], v[3]);
                    }
                }
            }
        }

        if (block % SPLIT == SPLIT - 1 || block + 1 == blocks) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                Sums split = {sums[half].max, sum_of_quad(sums[half].sum)};
                if (p.partial) {
                    total[half] = split;
                } else {
                    Merge factors = merge(total[half], split);
#pragma unroll
                    for (int j = 0; j < VALUES; j++) {
#pragma unroll
                        for (int i = 2 * half; i < 2 * half + 2; i++) total_out[j][i] = merged(factors, total_out[j][i], out[j][i]);
                    }
                }
                sums[half] = {-INFINITY, 0.0f};
            }
            if (!p.partial) {
#pragma unroll
                for (int j = 0; j < VALUES; j++) {
#pragma unroll
                    for (int i = 0; i < 4; i++) out[j][i] = 0.0f;
                }
            }
        }
    }
    wait_for_copies<0>();

#pragma unroll
    for (int half = 0; half < 2; half++) {
        u32 r = warp * 16 + top + half * 8;
        if (r >= rows) continue;
        u64 query = query_of(r);
        if (p.partial) {
            u64 at = query * p.splits + blockIdx.y;
#pragma unroll
            for (int j = 0; j < VALUES; j++) {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    u32 c = j * 8 + column + i;
                    if (c < value_count) p.partial[at * p.value_dim + value_first + c] = out[j][2 * half + i];
                }
            }
            if (value_chunk == 0 && column == 0) {
                p.partial_sums[at * 2] = total[half].max;
                p.partial_sums[at * 2 + 1] = total[half].sum;
            }
            continue;
        }
        float whole = 1.0f / total[half].sum;
        if (value_chunk == 0 && column == 0) p.log_sum_exp[query] = log_sum_exp(total[half]);
        u64 at = query * p.value_dim + value_first;
#pragma unroll
        for (int j = 0; j < VALUES; j++) {
            u32 c = j * 8 + column;
            float low = total_out[j][2 * half] * whole, high = total_out[j][2 * half + 1] * whole;
            if (p.value_dim % 2 == 0) {
                if (c < value_count) {
                    *(u32*)(p.out + at + c) = pack_bf16(low, high);
                    if (p.values) p.values[at + c] = low, p.values[at + c + 1] = high;
                }
            } else {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    if (c + i < value_count) {
                        p.out[at + c + i] = to_bf16(i ? high : low);
                        if (p.values) p.values[at + c + i] = i ? high : low;
                    }
                }
            }
        }
    }
}

KERNEL(attention_64, Attention, 128, 3) { attend<64, 8, 4>(p); }
KERNEL(attention_128, Attention, 128) { attend<128, 16, 4>(p); }
KERNEL(attention_any, Attention, 128) { attend<0, 16, 4>(p); }
KERNEL(attention_64_narrow, Attention, 32) { attend<64, 8, 1>(p); }
KERNEL(attention_128_narrow, Attention, 32) { attend<128, 16, 1>(p); }
KERNEL(attention_any_narrow, Attention, 32) { attend<0, 16, 1>(p); }

// Merges the splits of a query. A block a tile and query head, a thread a feature.
KERNEL(attention_merge, Attention, 128) {
    const Tile tile = p.tiles[blockIdx.x / p.query];
    u32 head = blockIdx.x % p.query;
    for (u32 r = 0; r < tile.rows; r++) {
        u64 query = (u64)(tile.row + r) * p.query + head;
        u32 splits = (tile.visible + r + SPLIT * BLOCK - 1) / (SPLIT * BLOCK);
        for (u32 c = threadIdx.x; c < p.value_dim; c += blockDim.x) {
            Sums total = {-INFINITY, 0.0f};
            float out = 0.0f;
            for (u32 s = 0; s < splits; s++) {
                u64 at = query * p.splits + s;
                Merge factors = merge(total, {p.partial_sums[at * 2], p.partial_sums[at * 2 + 1]});
                out = merged(factors, out, p.partial[at * p.value_dim + c]);
            }
            out *= 1.0f / total.sum;
            u64 at = query * p.value_dim + c;
            p.out[at] = to_bf16(out);
            if (p.values) p.values[at] = out;
            if (c == 0) p.log_sum_exp[query] = log_sum_exp(total);
        }
    }
}
