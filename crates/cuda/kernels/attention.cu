// Attention (arXiv:1706.03762) over blocks of keys (FlashAttention-2, arXiv:2307.08691): s = scale q·k, p = exp(s - max),
// out = Σ p v / Σ p, with bf16 operands q, k, p, v, accumulated in f32.
//
// The sums over a block of 64 keys begin from zero, from the block's own maximum, and blocks are merged in their order. So blocks may
// be computed side by side, and a row's bits depend on the keys that it sees alone.
//
// Decoding is bound by the bytes of keys and values; training and prefill by 4 FLOPs for each pair and feature.

struct Attention {
    u16* out; float* values; float* log_sum_exp;
    const float* q; const u16* k; const u16* v;
    const Tile* tiles; const u32* key_rows;
    float* partial; float* partial_sums; // where blocks are merged by another kernel, else null
    u32 query, key_value, dim, value_dim;
    u32 subtiles, value_chunks, blocks; float scale; // blocks: of keys, at most; scale: in base 2
    u32 value_stride, unused; // from a key head's values to those of the next, which may lie within keys
};

// The softmax of a row over some keys: the maximum of its scores in base 2, and the sum of exponentials from there.
struct alignas(8) Sums { float max, sum; };

// Factors of what the keys before and those of a block summed, to add them.
struct Merge { float before, block; };

DEVICE float finite(float max) { return max == -INFINITY ? 0.0f : max; }

DEVICE Merge merge(Sums& total, Sums block) {
    float max = fmaxf(total.max, block.max);
    Merge factors = {exp2_fast(total.max - finite(max)), exp2_fast(block.max - finite(max))};
    total.sum = __fmaf_rn(block.sum, factors.block, total.sum * factors.before);
    total.max = max;
    return factors;
}

DEVICE float merged(Merge factors, float total, float block) { return __fmaf_rn(block, factors.block, total * factors.before); }

DEVICE float log_sum_exp(Sums sums) { return sums.max * LN_2 + logf(sums.sum); }

DEVICE float sum_of_quad(float x) {
    x += __shfl_xor_sync(ALL, x, 1);
    return x + __shfl_xor_sync(ALL, x, 2);
}

DEVICE float max_of_quad(float x) {
    x = fmaxf(x, __shfl_xor_sync(ALL, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL, x, 2));
}

// What a block of threads computes: rows `first`..`first + rows` (of positions and query heads) of a tile and a key head, for some
// features of values; and how its operands lie in shared memory. `DIM` features of queries, keys and values, or any numbers (0).
template <int DIM, int VALUES>
struct Work {
    Divisor group;
    Tile tile;
    u32 head, first, rows, keys; // keys: that the last row sees
    u32 dim, padded, chunks, key_width, value_first, value_count, value_width;
    u32 query_bytes, key_bytes, value_bytes, part_bytes;

    DEVICE Work(const Attention& p, u32 at_once) {
        group = divisor(p.query / p.key_value);
        u32 index = blockIdx.x, value_chunk = 0;
        if (!DIM) value_chunk = index % p.value_chunks, index /= p.value_chunks;
        u32 subtile = index % p.subtiles; index /= p.subtiles;
        head = index % p.key_value; index /= p.key_value;
        tile = p.tiles[index];
        first = subtile * at_once;
        rows = tile.rows * group;
        rows = first >= rows ? 0 : rows - first < at_once ? rows - first : at_once;
        keys = rows ? tile.visible + (first + rows - 1) / group : 0;
        // keys in chunks of features
        dim = DIM ? DIM : p.dim;
        padded = rounded_up(dim, 16);
        chunks = DIM ? 1 : (padded + CHUNK - 1) / CHUNK;
        key_width = DIM ? DIM : padded < CHUNK ? padded : CHUNK;
        value_first = value_chunk * VALUES * 8;
        value_count = DIM ? DIM : p.value_dim - value_first < VALUES * 8 ? p.value_dim - value_first : VALUES * 8;
        value_width = DIM ? DIM : rounded_up(value_count, 16);
        query_bytes = row_bytes(padded);
        key_bytes = row_bytes(key_width);
        value_bytes = row_bytes(value_width);
        part_bytes = BLOCK * (key_bytes > value_bytes ? key_bytes : value_bytes);
    }

    // The row and query head of row r.
    DEVICE u64 query_of(const Attention& p, u32 r) const {
        return (u64)(tile.row + (first + r) / group) * p.query + head * group + (first + r) % group;
    }

    // How many keys row r sees.
    DEVICE u32 seen(u32 r) const { return tile.visible + (first + r) / group; }

    // Rounds the queries of ROWS rows to shared memory.
    template <int ROWS>
    DEVICE void load_queries(const Attention& p, u8* to, u32 thread, u32 threads) const {
        if (DIM) {
            constexpr u32 VECTORS = DIM ? DIM / 4 : 4;
#pragma unroll 8
            for (u32 i = thread; i < ROWS * VECTORS; i += threads) {
                u32 r = i / VECTORS, c = i % VECTORS * 4;
                Floats<4> x = load<4>(p.q + query_of(p, r < rows ? r : 0) * DIM + c); // all on their way at once; rows behind the last are not read
                *(Words2*)(to + r * query_bytes + c * 2) = {{pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3])}};
            }
            return;
        }
        for (u32 i = thread; i < ROWS * (padded / 2); i += threads) {
            u32 r = i / (padded / 2), c = i % (padded / 2) * 2;
            const float* q = p.q + query_of(p, r) * dim + c;
            float low = r < rows && c < dim ? q[0] : 0.0f, high = r < rows && c + 1 < dim ? q[1] : 0.0f;
            *(u32*)(to + r * query_bytes + c * 2) = pack_bf16(low, high);
        }
    }

    // Copies a part of a block of keys, whose rows `key(i)` gives: chunk `part` of the keys' features, or, behind these, the values.
    template <int THREADS, typename Key>
    DEVICE void copy_part(const Attention& p, u8* to, u32 part, Key key, u32 thread, u32 threads) const {
        if (DIM) {
            copy_block<DIM ? DIM : 16, THREADS>(to, (part ? p.v : p.k) + head * DIM, key, p.key_value * DIM, thread);
        } else if (part < chunks) {
            u32 from = part * CHUNK, count = dim - from < key_width ? dim - from : key_width;
            copy_rows(to, key_bytes, p.k, BLOCK, key, p.key_value * dim, head * dim + from, count, key_width, thread, threads);
        } else {
            copy_rows(to, value_bytes, p.v, BLOCK, key, p.key_value * p.value_stride, head * p.value_stride + value_first, value_count, value_width, thread, threads);
        }
    }

    // Adds the products of a warp's 16 queries with chunk `chunk` of a block's keys to their scores. Of all numbers of features the
    // queries are in `q`, else in shared memory.
    template <int STEPS>
    DEVICE void add_scores(float (&s)[BLOCK / 8][4], u32 (&q)[STEPS][4], const u8* queries, const u8* part, u32 chunk, u32 lane) const {
        const u8* k = part + lane_of_b(lane, key_bytes);
        u32 steps = (padded - chunk * CHUNK < CHUNK ? padded - chunk * CHUNK : CHUNK) / 16;
#pragma unroll
        for (u32 step = 0; step < (DIM ? STEPS : steps); step++) {
            if (!DIM) load_matrices(q[0], queries + lane_of_a(lane, query_bytes) + (chunk * (CHUNK / 16) + step) * 32);
#pragma unroll
            for (int j = 0; j < BLOCK / 16; j++) {
                u32 b[4];
                load_matrices(b, k + j * 16 * key_bytes + step * 32);
                multiply_add(s[2 * j], q[DIM ? step : 0], b[0], b[1]);
                multiply_add(s[2 * j + 1], q[DIM ? step : 0], b[2], b[3]);
            }
        }
    }

    // out = p v of a block.
    DEVICE void weight_values(float (&out)[VALUES][4], const float (&s)[BLOCK / 8][4], const u8* part, u32 lane) const {
        const u8* values = part + lane_of_a(lane, value_bytes);
#pragma unroll
        for (int j = 0; j < VALUES; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++) out[j][i] = 0.0f;
        }
#pragma unroll
        for (int step = 0; step < BLOCK / 16; step++) {
            u32 a[4] = {pack_bf16(s[2 * step][0], s[2 * step][1]), pack_bf16(s[2 * step][2], s[2 * step][3]),
                        pack_bf16(s[2 * step + 1][0], s[2 * step + 1][1]), pack_bf16(s[2 * step + 1][2], s[2 * step + 1][3])};
#pragma unroll
            for (int j = 0; j < VALUES / 2; j++) {
                if (DIM || (u32)j * 16 < value_width) {
                    u32 b[4];
                    load_matrices_transposed(b, values + step * 16 * value_bytes + j * 32);
                    multiply_add(out[2 * j], a, b[0], b[1]);
                    multiply_add(out[2 * j + 1], a, b[2], b[3]);
                }
            }
        }
    }
};

// The scores of 16 rows and the 64 keys from key `start` on become exponentials from their maxima, 0 where a row does not see the
// key. The lane's rows see `seen` keys, all 16 of them the first `all_see`.
DEVICE void soften(Sums (&sums)[2], float (&s)[BLOCK / 8][4], const u32 (&seen)[2], u32 all_see, u32 start, u32 column, float scale) {
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
        float max = -INFINITY, sum = 0.0f;
#pragma unroll
        for (int j = 0; j < BLOCK / 8; j++) max = fmaxf(max, fmaxf(s[j][2 * half], s[j][2 * half + 1]));
        max = max_of_quad(max) * scale;
#pragma unroll
        for (int j = 0; j < BLOCK / 8; j++) {
#pragma unroll
            for (int i = 2 * half; i < 2 * half + 2; i++) {
                s[j][i] = exp2_fast(__fmaf_rn(s[j][i], scale, -finite(max)));
                sum += s[j][i];
            }
        }
        sums[half] = {max, sum_of_quad(sum)};
    }
}

template <int N>
DEVICE void clear_scores(float (&s)[N][4]) {
#pragma unroll
    for (int j = 0; j < N; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) s[j][i] = 0.0f;
    }
}

// Training and prefill: tiles of 16 rows a warp, a block of WARPS of them, which share keys and values. Up to 8 VALUES features of
// values: others are for other blocks.
template <int DIM, int VALUES, int WARPS>
DEVICE void attend(const Attention& p) {
    const u32 threads = WARPS * 32, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const Work<DIM, VALUES> work(p, WARPS * 16);
    if (work.rows == 0) return;
    const u32 blocks = (work.keys + BLOCK - 1) / BLOCK;
    u8* queries = shared_memory();
    u32* table = (u32*)(queries + WARPS * 16 * work.query_bytes); // the rows of two blocks of keys
    u8* ring = (u8*)(table + 2 * BLOCK);

    // Parts in a ring: chunks of keys, behind them their values; where there is one chunk, both are one part. They are copied two, or
    // one, ahead; with a block's first the rows of the next block's keys.
    const u32 places = DIM ? 2 : 3, place_bytes = DIM ? 2 * work.part_bytes : work.part_bytes;
    const u32* key_rows = p.key_rows + work.tile.keys;
    u32 next_block = 0, next = 0, next_place = 0;
    auto copy = [&](const u32* rows_of) {
        if (next_block < blocks) {
            auto key = [&](u32 i) { return rows_of[i]; };
            u8* to = ring + next_place * place_bytes;
            work.template copy_part<WARPS * 32>(p, to, next, key, threadIdx.x, threads);
            if (DIM) work.template copy_part<WARPS * 32>(p, to + work.part_bytes, 1, key, threadIdx.x, threads);
            if (next == 0 && next_block + 1 < blocks && threadIdx.x < BLOCK / 4) {
                u32 i = threadIdx.x * 4;
                copy_async(table + (next_block + 1) % 2 * BLOCK + i, key_rows + (next_block + 1) * BLOCK + i, true);
            }
            if (!DIM && next_block == 0 && next == 0) {
                for (u32 i = threadIdx.x; i < BLOCK; i += threads) table[i] = key_rows[i];
            }
            if (DIM || ++next > work.chunks) next = 0, next_block++;
            next_place = next_place + 1 == places ? 0 : next_place + 1;
        }
        commit_copies();
    };
    u32 place = places - 1;
    auto next_part = [&]() {
        wait_for_copies<DIM ? 0 : 1>();
        if (WARPS == 1) __syncwarp();
        else __syncthreads(); // all have this part, and none reads the one before it
        copy(table + next_block % 2 * BLOCK);
        place = place + 1 == places ? 0 : place + 1;
        return ring + place * place_bytes;
    };
    copy(key_rows);
    if (!DIM) copy(key_rows);
    work.template load_queries<WARPS * 16>(p, queries, threadIdx.x, threads);
    __syncthreads();

    // the lane's rows `top` and `top + 8` of the warp's 16, and what they see
    const u32 row = warp * 16, top = lane / 4, column = lane % 4 * 2;
    const bool idle = row >= work.rows;
    const u32 seen[2] = {work.seen(row + top), work.seen(row + top + 8)}, all_see = work.seen(row), any_sees = work.seen(row + 15);
    const u8* own_queries = queries + row * work.query_bytes;
    u32 q[DIM ? DIM / 16 : 1][4];
    if (DIM) {
#pragma unroll
        for (int step = 0; step < DIM / 16; step++) load_matrices(q[step], own_queries + lane_of_a(lane, work.query_bytes) + step * 32);
    }
    Sums total[2] = {{-INFINITY, 0.0f}, {-INFINITY, 0.0f}};
    float out[VALUES][4];
    clear_scores(out);
    for (u32 block = 0; block < blocks; block++) {
        bool skip = idle || block * BLOCK >= any_sees;
        float s[BLOCK / 8][4]; // scores, then probabilities
        clear_scores(s);
        const u8* part = nullptr;
        for (u32 chunk = 0; chunk < work.chunks; chunk++) {
            part = next_part();
            if (!skip) work.add_scores(s, q, own_queries, part, chunk, lane);
        }
        Sums sums[2];
        if (!skip) soften(sums, s, seen, all_see, block * BLOCK, column, p.scale);
        part = DIM ? part + work.part_bytes : next_part();
        if (skip) continue;
        float of_block[VALUES][4];
        work.weight_values(of_block, s, part, lane);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            Merge factors = merge(total[half], sums[half]);
#pragma unroll
            for (int j = 0; j < VALUES; j++) {
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; i++) out[j][i] = merged(factors, out[j][i], of_block[j][i]);
            }
        }
    }
    wait_for_copies<0>();

#pragma unroll
    for (int half = 0; half < 2; half++) {
        u32 r = row + top + half * 8;
        if (r >= work.rows) continue;
        u64 query = work.query_of(p, r), at = query * (DIM ? DIM : p.value_dim) + work.value_first + column;
        float whole = 1.0f / total[half].sum;
        if (work.value_first == 0 && column == 0) p.log_sum_exp[query] = log_sum_exp(total[half]);
        u16* to = p.out + at;
        float* values = p.values ? p.values + at : nullptr;
        if (DIM) {
#pragma unroll
            for (int j = 0; j < VALUES; j++) *(u32*)(to + j * 8) = pack_bf16(out[j][2 * half] * whole, out[j][2 * half + 1] * whole);
            if (values) {
#pragma unroll
                for (int j = 0; j < VALUES; j++) {
                    *(Words2*)(values + j * 8) = {{__float_as_uint(out[j][2 * half] * whole), __float_as_uint(out[j][2 * half + 1] * whole)}};
                }
            }
            continue;
        }
#pragma unroll
        for (int j = 0; j < VALUES; j++) {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                if (j * 8 + column + i < work.value_count) {
                    float value = out[j][2 * half + i] * whole;
                    to[j * 8 + i] = to_bf16(value);
                    if (values) values[j * 8 + i] = value;
                }
            }
        }
    }
}

// Writes a row's element of the output.
DEVICE void write_out(const Attention& p, u64 query, u32 feature, float out, Sums total) {
    u64 at = query * p.value_dim + feature;
    out *= 1.0f / total.sum;
    p.out[at] = to_bf16(out);
    if (p.values) p.values[at] = out;
    if (feature == 0) p.log_sum_exp[query] = log_sum_exp(total);
}

// Decoding: a tile of up to 16 rows. The block's warps take the blocks of keys by turns, each copying its own; after each round they
// merge what they have, or leave it to another kernel, and the blocks of the grid's y share the blocks of keys.
template <int DIM, int VALUES>
DEVICE void decode(const Attention& p) {
    const u32 threads = blockDim.x, warps = threads / 32, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const Work<DIM, VALUES> work(p, 16);
    const u32 blocks = (work.keys + BLOCK - 1) / BLOCK;
    if (blockIdx.y * warps >= blocks) return;
    // queries; the rows' outputs of all blocks so far, and their sums, by turns of rounds; for each warp a ring of three parts
    const u32 out_bytes = (work.value_width + 8) * 4, ring_bytes = 3 * work.part_bytes;
    u8* queries = shared_memory();
    u8* totals = queries + 16 * work.query_bytes;
    Sums* total_sums = (Sums*)(totals + work.rows * out_bytes);
    u8* rings = (u8*)(total_sums + 2 * 16);
    u8* ring = rings + warp * ring_bytes;

    const u32* key_rows = p.key_rows + work.tile.keys;
    const u32 step = warps * gridDim.y;
    u32 block = blockIdx.y * warps + warp, next_block = block, next = 0, next_place = 0, place = 2;
    auto copy = [&]() {
        if (next_block < blocks) {
            auto key = [&](u32 i) { return key_rows[next_block * BLOCK + i]; };
            work.template copy_part<32>(p, ring + next_place * work.part_bytes, next, key, lane, 32);
            if (++next > work.chunks) next = 0, next_block += step;
            next_place = next_place == 2 ? 0 : next_place + 1;
        }
        commit_copies();
    };
    auto next_part = [&]() {
        wait_for_copies<1>();
        __syncwarp();
        copy();
        place = place == 2 ? 0 : place + 1;
        return ring + place * work.part_bytes;
    };
    copy();
    copy();
    work.template load_queries<16>(p, queries, threadIdx.x, threads);
    for (u32 i = threadIdx.x; i < work.rows * out_bytes / 4; i += threads) ((float*)totals)[i] = 0.0f;
    if (threadIdx.x < 16) total_sums[threadIdx.x] = {-INFINITY, 0.0f};
    __syncthreads();

    const u32 top = lane / 4, column = lane % 4 * 2;
    const u32 seen[2] = {work.seen(top), work.seen(top + 8)}, all_see = work.seen(0);
    u32 q[DIM ? DIM / 16 : 1][4];
    if (DIM) {
#pragma unroll
        for (int step = 0; step < DIM / 16; step++) load_matrices(q[step], queries + lane_of_a(lane, work.query_bytes) + step * 32);
    }
    u32 turn = 0, values_place = work.chunks % 3; // where the warps' values of a round lie, and then its sums and outputs
    for (u32 round = blockIdx.y * warps; round < blocks; round += step, block += step, turn ^= 1, values_place = (values_place + work.chunks + 1) % 3) {
        u8* partials = rings + values_place * work.part_bytes;
        if (block < blocks) {
            float s[BLOCK / 8][4], out[VALUES][4];
            clear_scores(s);
            for (u32 chunk = 0; chunk < work.chunks; chunk++) {
                const u8* part = next_part();
                work.add_scores(s, q, queries, part, chunk, lane);
            }
            Sums sums[2];
            soften(sums, s, seen, all_see, block * BLOCK, column, p.scale);
            const u8* part = next_part();
            work.weight_values(out, s, part, lane);
            __syncwarp(); // all have read the values
#pragma unroll
            for (int half = 0; half < 2; half++) {
                u32 r = top + half * 8;
                if (r >= work.rows) continue;
                u64 slot = work.query_of(p, r) * p.blocks + block;
                float* to = p.partial ? p.partial + slot * p.value_dim + work.value_first : (float*)(partials + warp * ring_bytes + 16 * sizeof(Sums) + r * out_bytes);
                if (column == 0) {
                    Sums* sums_of = p.partial ? (Sums*)p.partial_sums + slot : (Sums*)(partials + warp * ring_bytes) + r;
                    *sums_of = sums[half];
                }
#pragma unroll
                for (int j = 0; j < VALUES; j++) {
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        if (DIM || j * 8 + column + i < work.value_count) to[j * 8 + column + i] = out[j][2 * half + i];
                    }
                }
            }
        }
        if (p.partial) continue;
        __syncthreads();
        u32 here = blocks - round < warps ? blocks - round : warps;
        for (u32 i = threadIdx.x; i < work.rows * work.value_width; i += threads) {
            u32 r = i / work.value_width, c = i % work.value_width;
            if (c >= work.value_count) continue;
            float* total = (float*)(totals + r * out_bytes) + c;
            Sums sums = total_sums[turn * 16 + r];
            float out = *total;
            for (u32 w = 0; w < here; w++) {
                const u8* of_warp = partials + w * ring_bytes;
                Merge factors = merge(sums, ((const Sums*)of_warp)[r]);
                out = merged(factors, out, ((const float*)(of_warp + 16 * sizeof(Sums) + r * out_bytes))[c]);
            }
            if (round + step >= blocks) {
                write_out(p, work.query_of(p, r), work.value_first + c, out, sums);
            } else {
                *total = out;
                if (c == 0) total_sums[(turn ^ 1) * 16 + r] = sums;
            }
        }
        __syncthreads();
    }
    wait_for_copies<0>();
}

KERNEL(attention_64, Attention, 128, 3) { attend<64, 8, 4>(p); }
KERNEL(attention_128, Attention, 128) { attend<128, 16, 4>(p); }
KERNEL(attention_any, Attention, 128) { attend<0, 16, 4>(p); }
KERNEL(attention_any_narrow, Attention, 32) { attend<0, 16, 1>(p); }
KERNEL(attention_decode_64, Attention, 128) { decode<64, 8>(p); }
KERNEL(attention_decode_128, Attention, 128) { decode<128, 16>(p); }
KERNEL(attention_decode_any, Attention, 128) { decode<0, 16>(p); }

// Merges the blocks of keys of a query. A block a tile and query head, a thread a feature.
KERNEL(attention_merge, Attention, 128) {
    const Tile tile = p.tiles[blockIdx.x / p.query];
    u32 head = blockIdx.x % p.query;
    for (u32 r = 0; r < tile.rows; r++) {
        u64 query = (u64)(tile.row + r) * p.query + head;
        u32 blocks = (tile.visible + r + BLOCK - 1) / BLOCK;
        for (u32 c = threadIdx.x; c < p.value_dim; c += blockDim.x) {
            Sums total = {-INFINITY, 0.0f};
            float out = 0.0f;
            for (u32 b = 0; b < blocks; b++) {
                Merge factors = merge(total, ((const Sums*)p.partial_sums)[query * p.blocks + b]);
                out = merged(factors, out, p.partial[(query * p.blocks + b) * p.value_dim + c]);
            }
            write_out(p, query, c, out, total);
        }
    }
}
