// Attention's backward (FlashAttention-2, arXiv:2307.08691, algorithm 2), in an order that the sequences alone determine:
// p = exp(scale q·k - log_sum_exp), ds = p (dout·v - dout·out), dv = Σ p dout, dk = scale Σ ds q over the rows, by blocks of keys;
// dq = scale Σ ds k over the keys, by tiles of rows. Scores are computed in both: 7 products of a pair and feature instead of 5, and
// no two blocks add to one gradient. Bound by products: 14 FLOPs for each pair and feature.

struct Rounded {
    u16* queries; u16* d_outputs;
    const float* q; const float* dout; const float* out; const float* log_sum_exp;
    u64 n; u32 dim, value_dim;
};

// For each row and head: its query rounded, behind it log_sum_exp in base 2 and dout·out; and dout rounded. Rows of both are filled up
// with zeros to a multiple of 16 features. A warp a row and head; bound by the bytes of q, dout and out.
KERNEL(attention_rounded, Rounded, 256) {
    u64 i = (u64)blockIdx.x * 8 + threadIdx.x / 32;
    if (i >= p.n) return;
    u32 lane = threadIdx.x % 32, padded = rounded_up(p.dim, 16), value_padded = rounded_up(p.value_dim, 16);
    u32* query = (u32*)(p.queries + i * (padded + 8));
    u32* d_output = (u32*)(p.d_outputs + i * value_padded);
    for (u32 c = lane * 2; c < padded; c += 64) {
        const float* q = p.q + i * p.dim + c;
        query[c / 2] = pack_bf16(c < p.dim ? q[0] : 0.0f, c + 1 < p.dim ? q[1] : 0.0f);
    }
    float delta = 0.0f;
    for (u32 c = lane * 2; c < value_padded; c += 64) {
        u64 at = i * p.value_dim + c;
        float low = c < p.value_dim ? p.dout[at] : 0.0f, high = c + 1 < p.value_dim ? p.dout[at + 1] : 0.0f;
        if (c < p.value_dim) delta = __fmaf_rn(low, p.out[at], delta);
        if (c + 1 < p.value_dim) delta = __fmaf_rn(high, p.out[at + 1], delta);
        d_output[c / 2] = pack_bf16(low, high);
    }
    for (u32 other = 16; other > 0; other /= 2) delta += __shfl_xor_sync(ALL, delta, other);
    if (lane < 4) {
        float last[4] = {p.log_sum_exp[i] * LOG2_E, delta, 0.0f, 0.0f};
        query[padded / 2 + lane] = __float_as_uint(lane == 0 ? last[0] : lane == 1 ? last[1] : 0.0f);
    }
}

// Keys key_rows[keys..keys + count] of one sequence, the first of which is its key number `start`; so it is of all sequences
// first..end, whose rows see them. The sums over these rows are the gradients, or, where other sequences see the keys too,
// kept in a slot.
struct KeyBlock { u32 keys, start, count, first, end, slot; };

// Keys whose gradients are summed in the slots first_slot..first_slot + slots.
struct KeySum { u32 keys, count, first_slot, slots; };

struct Backward {
    float* dq; float* dk; float* dv;
    const u16* queries; const u16* d_outputs; const u16* k; const u16* v; // the first two as `attention_rounded` writes them
    const Tile* tiles; const Tile* sequences; const KeyBlock* key_blocks; const KeySum* key_sums; const u32* key_rows;
    float* dk_slots; float* dv_slots; // of 64 keys each
    u32 query, key_value, dim, value_dim;
    u32 subtiles, chunks; float scale, scale_2; // scale_2: in base 2
    u32 value_stride, unused; // from a key head's values to those of the next, which may lie within keys
};

DEVICE u32 width_of_chunk(u32 padded, u32 chunk) { return padded - chunk * CHUNK < CHUNK ? padded - chunk * CHUNK : CHUNK; }

// What lies behind a query in shared memory.
struct alignas(8) Saved { float log_sum_exp, delta; };
DEVICE Saved saved_of(const u8* query_end) { return *(const Saved*)query_end; }

// s += a bᵀ of `steps` times 16 features: 16 rows of `a`, 8 N rows of `b`. Both are the lane's places.
template <int STEPS, int N>
DEVICE void add_products(float (&s)[N][4], const u8* a, const u8* b, u32 bytes_of_b, u32 steps) {
#pragma unroll 4
    for (u32 step = 0; step < (STEPS ? STEPS : steps); step++) {
        u32 x[4];
        load_matrices(x, a + step * 32);
#pragma unroll
        for (int j = 0; j < N / 2; j++) {
            u32 y[4];
            load_matrices(y, b + j * 16 * bytes_of_b + step * 32);
            multiply_add(s[2 * j], x, y[0], y[1]);
            multiply_add(s[2 * j + 1], x, y[2], y[3]);
        }
    }
}

// sums += s b: s is 16 x 8 N, rounded to bf16; b has 8 N rows of `width` features, of which the lane's place is given.
template <int COLUMNS, bool ALL_COLUMNS, int N>
DEVICE void add_weighted(float (&sums)[COLUMNS][4], const float (&s)[N][4], const u8* b, u32 bytes, u32 width) {
#pragma unroll
    for (int step = 0; step < N / 2; step++) {
        u32 x[4] = {pack_bf16(s[2 * step][0], s[2 * step][1]), pack_bf16(s[2 * step][2], s[2 * step][3]),
                    pack_bf16(s[2 * step + 1][0], s[2 * step + 1][1]), pack_bf16(s[2 * step + 1][2], s[2 * step + 1][3])};
#pragma unroll
        for (int j = 0; j < COLUMNS / 2; j++) {
            if (ALL_COLUMNS || (u32)j * 16 < width) {
                u32 y[4];
                load_matrices_transposed(y, b + step * 16 * bytes + j * 32);
                multiply_add(sums[2 * j], x, y[0], y[1]);
                multiply_add(sums[2 * j + 1], x, y[2], y[3]);
            }
        }
    }
}

// Writes `scale` times the lane's part of a row of sums, all of whose features are there.
template <int COLUMNS>
DEVICE void write_row(float* to, const float (&sums)[COLUMNS][4], int half, float scale) {
#pragma unroll
    for (int j = 0; j < COLUMNS; j++) *(Words2*)(to + j * 8) = {{__float_as_uint(scale * sums[j][2 * half]), __float_as_uint(scale * sums[j][2 * half + 1])}};
}

template <int N>
DEVICE void clear(float (&x)[N][4]) {
#pragma unroll
    for (int j = 0; j < N; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) x[j][i] = 0.0f;
    }
}

template <int WARPS>
DEVICE void meet_all() {
    if (WARPS == 1) __syncwarp();
    else __syncthreads();
}

// dq of a tile of 16 rows a warp. `DIM` features of queries, keys and values; or any numbers (0), and then up to 128 of dq: others are
// for other blocks.
template <int DIM, int WARPS>
DEVICE void backward_queries(const Backward& p) {
    const u32 threads = WARPS * 32, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const Divisor group = divisor(p.query / p.key_value);
    u32 index = blockIdx.x;
    u32 own = index % p.chunks; index /= p.chunks;
    u32 subtile = index % p.subtiles; index /= p.subtiles;
    u32 head = index % p.key_value; index /= p.key_value;
    const Tile tile = p.tiles[index];
    u32 first = subtile * WARPS * 16, rows = tile.rows * group;
    if (first >= rows) return;
    rows = rows - first < WARPS * 16 ? rows - first : WARPS * 16;
    u32 blocks = (tile.visible + (first + rows - 1) / group + BLOCK - 1) / BLOCK;

    u32 dim = DIM ? DIM : p.dim, value_dim = DIM ? DIM : p.value_dim;
    u32 padded = rounded_up(dim, 16), value_padded = rounded_up(value_dim, 16);
    u32 chunks = DIM ? 1 : (padded + CHUNK - 1) / CHUNK, value_chunks = DIM ? 1 : (value_padded + CHUNK - 1) / CHUNK;
    u32 query_bytes = row_bytes(padded), d_output_bytes = row_bytes(value_padded);
    u32 key_bytes = row_bytes(width_of_chunk(padded, 0)), value_bytes = row_bytes(width_of_chunk(value_padded, 0));
    u32 part_bytes = BLOCK * (key_bytes > value_bytes ? key_bytes : value_bytes);
    u8* queries = shared_memory();
    u8* d_outputs = queries + WARPS * 16 * query_bytes;
    u32* table = (u32*)(d_outputs + WARPS * 16 * d_output_bytes); // the rows of two blocks of keys
    u8* ring = (u8*)(table + 2 * BLOCK);
    // Parts of a block: keys in chunks of features, values, and the own chunk of keys again, unless it is still there.
    // Where there is one chunk of each, both are one part, copied one ahead; else parts are copied two ahead.
    const u32 places = DIM ? 2 : 3, parts = DIM ? 1 : chunks + value_chunks + 1, place_bytes = DIM ? 2 * part_bytes : part_bytes;

    auto query_of = [&](u32 r) { return r < rows ? (tile.row + (first + r) / group) * p.query + head * group + (first + r) % group : NONE; };
    const u32* key_rows = p.key_rows + tile.keys;
    for (u32 i = threadIdx.x; i < BLOCK; i += threads) table[i] = key_rows[i];
    copy_rows(queries, query_bytes, p.queries, WARPS * 16, query_of, padded + 8, 0, padded + 8, padded + 8, threadIdx.x, threads);
    copy_rows(d_outputs, d_output_bytes, p.d_outputs, WARPS * 16, query_of, value_padded, 0, value_padded, value_padded, threadIdx.x, threads);
    u32 next_block = 0, next = 0, next_place = 0;
    auto copy = [&](const u32* rows_of) {
        if (next_block < blocks) {
            u8* to = ring + next_place * place_bytes;
            auto key = [&](u32 i) { return rows_of[i]; };
            if (DIM) {
                copy_block<DIM ? DIM : 16, WARPS * 32>(to, p.k + head * DIM, key, p.key_value * DIM, threadIdx.x);
                copy_block<DIM ? DIM : 16, WARPS * 32>(to + part_bytes, p.v + head * DIM, key, p.key_value * DIM, threadIdx.x);
            } else if (next < chunks || next == chunks + value_chunks) {
                u32 chunk = next < chunks ? next : own, width = width_of_chunk(padded, chunk), from = chunk * CHUNK;
                copy_rows(to, key_bytes, p.k, BLOCK, key, p.key_value * dim, head * dim + from, dim - from < width ? dim - from : width, width, threadIdx.x, threads);
            } else {
                u32 chunk = next - chunks, width = width_of_chunk(value_padded, chunk), from = chunk * CHUNK;
                copy_rows(to, value_bytes, p.v, BLOCK, key, p.key_value * p.value_stride, head * p.value_stride + from, value_dim - from < width ? value_dim - from : width, width, threadIdx.x, threads);
            }
            if (next == 0 && next_block + 1 < blocks && threadIdx.x < BLOCK / 4) {
                u32 i = threadIdx.x * 4;
                copy_async(table + (next_block + 1) % 2 * BLOCK + i, key_rows + (next_block + 1) * BLOCK + i, true);
            }
            if (++next == parts) next = 0, next_block++;
            next_place = next_place + 1 == places ? 0 : next_place + 1;
        }
        commit_copies();
    };
    u32 place = places - 1;
    auto next_part = [&]() {
        wait_for_copies<DIM ? 0 : 1>();
        meet_all<WARPS>(); // all have this part, and none reads one that is no longer needed
        copy(table + next_block % 2 * BLOCK);
        place = place + 1 == places ? 0 : place + 1;
        return ring + place * place_bytes;
    };
    copy(key_rows);
    if (!DIM) copy(key_rows);

    u32 warp_first = first + warp * 16, top = lane / 4, column = lane % 4 * 2;
    bool idle = warp * 16 >= rows;
    u32 seen[2] = {tile.visible + (warp_first + top) / group, tile.visible + (warp_first + top + 8) / group};
    u32 any_sees = tile.visible + (warp_first + 15) / group;
    const u8* own_queries = queries + warp * 16 * query_bytes;
    const u8* own_d_outputs = d_outputs + warp * 16 * d_output_bytes + lane_of_a(lane, d_output_bytes);
    float dq[DIM ? DIM / 8 : CHUNK / 8][4];
    clear(dq);
    for (u32 block = 0; block < blocks; block++) {
        u32 start = block * BLOCK;
        bool skip = idle || start >= any_sees;
        float s[8][4], ds[8][4];
        clear(s);
        clear(ds);
        const u8* part = nullptr;
        for (u32 chunk = 0; chunk < chunks; chunk++) {
            part = next_part();
            if (!skip) add_products<DIM / 16>(s, own_queries + lane_of_a(lane, query_bytes) + chunk * CHUNK * 2, part + lane_of_b(lane, key_bytes), key_bytes, width_of_chunk(padded, chunk) / 16);
        }
        for (u32 chunk = 0; chunk < value_chunks; chunk++) {
            const u8* values = DIM ? part + part_bytes : next_part();
            if (!skip) add_products<DIM / 16>(ds, own_d_outputs + chunk * CHUNK * 2, values + lane_of_b(lane, value_bytes), value_bytes, width_of_chunk(value_padded, chunk) / 16);
        }
        if (!DIM) part = next_part();
        if (skip) continue;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            Saved saved = saved_of(own_queries + (top + half * 8) * query_bytes + padded * 2);
#pragma unroll
            for (int j = 0; j < 8; j++) {
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; i++) {
                    float probability = exp2_fast(__fmaf_rn(s[j][i], p.scale_2, -saved.log_sum_exp));
                    ds[j][i] = start + j * 8 + column + i % 2 < seen[half] ? probability * (ds[j][i] - saved.delta) : 0.0f;
                }
            }
        }
        add_weighted<DIM ? DIM / 8 : CHUNK / 8, DIM != 0>(dq, ds, part + lane_of_a(lane, key_bytes), key_bytes, width_of_chunk(padded, own));
    }
    wait_for_copies<0>();

    u32 count = dim - own * CHUNK;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        u32 query = query_of(warp * 16 + top + half * 8);
        if (query == NONE) continue;
        float* to = p.dq + (u64)query * dim + own * CHUNK;
        if (DIM) {
            write_row(to + column, dq, half, p.scale);
            continue;
        }
#pragma unroll
        for (int j = 0; j < (DIM ? DIM / 8 : CHUNK / 8); j++) {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                u32 c = j * 8 + column + i;
                if (c < count) to[c] = p.scale * dq[j][2 * half + i];
            }
        }
    }
}

// Where a block of keys is among the rows that see it: tiles of 64 rows (of one key head's group), sequence after sequence.
struct Walk { Tile view; u32 sequence, row, rows; };

// dk and dv of 16 keys a warp. `DIM` features of queries, keys and values; or any numbers (0), and then up to 128 of either dv or dk:
// others are for other blocks.
template <int DIM, int WARPS>
DEVICE void backward_keys(const Backward& p) {
    const u32 threads = WARPS * 32, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const Divisor group = divisor(p.query / p.key_value);
    u32 dim = DIM ? DIM : p.dim, value_dim = DIM ? DIM : p.value_dim;
    u32 padded = rounded_up(dim, 16), value_padded = rounded_up(value_dim, 16);
    u32 chunks = DIM ? 1 : (padded + CHUNK - 1) / CHUNK, value_chunks = DIM ? 1 : (value_padded + CHUNK - 1) / CHUNK;
    u32 index = blockIdx.x;
    u32 own = index % p.chunks; index /= p.chunks;
    u32 subtile = index % p.subtiles; index /= p.subtiles;
    const u32 head = index % p.key_value, number = index / p.key_value;
    const bool of_keys = DIM || own >= value_chunks;
    if (!DIM && of_keys) own -= value_chunks;
    const KeyBlock block = p.key_blocks[number];
    u32 first = subtile * WARPS * 16;
    if (first >= block.count) return;
    u32 count = block.count - first < WARPS * 16 ? block.count - first : WARPS * 16, start = block.start + first;
    const u32* key_rows = p.key_rows + block.keys + first;

    u32 key_bytes = row_bytes(padded), value_bytes = row_bytes(value_padded);
    u32 query_bytes = row_bytes(width_of_chunk(padded, 0)), d_output_bytes = row_bytes(width_of_chunk(value_padded, 0));
    u32 part_bytes = BLOCK * (query_bytes > d_output_bytes ? query_bytes : d_output_bytes);
    u8* keys = shared_memory();
    u8* values = keys + WARPS * 16 * key_bytes;
    u8* ring = values + WARPS * 16 * value_bytes;
    // Parts of a tile of rows: queries in chunks of features, the gradients of outputs, and the own chunk again. Where all are read at
    // once, they are still there.
    const u32 places = DIM ? 2 : 3, parts = DIM ? 1 : chunks + (of_keys ? value_chunks : 0) + 1, place_bytes = DIM ? 2 * part_bytes : part_bytes;

    auto key = [&](u32 i) { return i < count ? key_rows[i] : NONE; };
    copy_rows(keys, key_bytes, p.k, WARPS * 16, key, p.key_value * dim, head * dim, dim, padded, threadIdx.x, threads);
    copy_rows(values, value_bytes, p.v, WARPS * 16, key, p.key_value * p.value_stride, head * p.value_stride, value_dim, value_padded, threadIdx.x, threads);

    // the rows that see the first of these keys
    auto settle = [&](Walk& walk) {
        for (; walk.sequence < block.end; walk.sequence++) {
            walk.view = p.sequences[walk.sequence];
            u32 blind = start + 1 > walk.view.visible ? start + 1 - walk.view.visible : 0;
            walk.row = blind * group;
            walk.rows = walk.view.rows * group;
            if (walk.row < walk.rows) return;
        }
    };
    auto advance = [&](Walk& walk) {
        walk.row += BLOCK;
        if (walk.row >= walk.rows) {
            walk.sequence++;
            settle(walk);
        }
    };
    Walk walk = {{0, 0, 0, 0}, block.first, 0, 0};
    settle(walk);
    Walk ahead = walk;

    u32 next = 0, next_place = 0;
    auto copy = [&]() {
        if (ahead.sequence < block.end) {
            u8* to = ring + next_place * place_bytes;
            auto query = [&](u32 i) {
                u32 r = ahead.row + i;
                return r < ahead.rows ? (ahead.view.row + r / group) * p.query + head * group + r % group : NONE;
            };
            bool last = next + 1 == parts;
            if (DIM) {
                copy_block<DIM ? DIM : 16, WARPS * 32>(to, p.queries, query, DIM + 8, threadIdx.x);
                copy_block<DIM ? DIM : 16, WARPS * 32>(to + part_bytes, p.d_outputs, query, DIM, threadIdx.x);
                if (threadIdx.x < BLOCK) {
                    u32 row = query(threadIdx.x);
                    copy_async(to + threadIdx.x * query_bytes + DIM * 2, row == NONE ? p.queries : p.queries + (u64)row * (DIM + 8) + DIM, row != NONE);
                }
            } else if (next < chunks || (!DIM && of_keys && last)) {
                u32 chunk = next < chunks ? next : own, width = width_of_chunk(padded, chunk) + (chunk + 1 == chunks ? 8 : 0);
                copy_rows(to, query_bytes, p.queries, BLOCK, query, padded + 8, chunk * CHUNK, width, width, threadIdx.x, threads);
            } else {
                u32 chunk = !DIM && last ? own : next - chunks, width = width_of_chunk(value_padded, chunk);
                copy_rows(to, d_output_bytes, p.d_outputs, BLOCK, query, value_padded, chunk * CHUNK, width, width, threadIdx.x, threads);
            }
            if (last) next = 0, advance(ahead);
            else next++;
            next_place = next_place + 1 == places ? 0 : next_place + 1;
        }
        commit_copies();
    };
    u32 place = places - 1;
    auto next_part = [&]() {
        wait_for_copies<DIM ? 0 : 1>();
        meet_all<WARPS>(); // all have this part, and none reads one that is no longer needed
        copy();
        place = place + 1 == places ? 0 : place + 1;
        return ring + place * place_bytes;
    };
    copy();
    if (!DIM) copy();

    u32 top = lane / 4, column = lane % 4 * 2, warp_start = start + warp * 16;
    bool idle = warp * 16 >= count;
    const u8* own_keys = keys + warp * 16 * key_bytes + lane_of_a(lane, key_bytes);
    const u8* own_values = values + warp * 16 * value_bytes + lane_of_a(lane, value_bytes);
    float dk[DIM ? DIM / 8 : CHUNK / 8][4], dv[DIM ? DIM / 8 : 1][4]; // any numbers: of both in dk
    clear(dk);
    clear(dv);
    // s becomes the probabilities of 8 N rows from row `from` of the tile on; what lies behind their queries begins at `saved`.
    auto probabilities = [&](auto& s, u32 from, const u8* saved) {
        bool all_see = walk.view.visible + (walk.row + from) / group >= warp_start + 16;
#pragma unroll
        for (int j = 0; j < (int)(sizeof(s) / 16); j++) {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                u32 r = from + j * 8 + column + i, seen = all_see ? NONE : walk.view.visible + (walk.row + r) / group;
                float log_sum_exp = saved_of(saved + r * query_bytes).log_sum_exp;
                s[j][i] = warp_start + top < seen ? exp2_fast(__fmaf_rn(s[j][i], p.scale_2, -log_sum_exp)) : 0.0f;
                s[j][i + 2] = warp_start + top + 8 < seen ? exp2_fast(__fmaf_rn(s[j][i + 2], p.scale_2, -log_sum_exp)) : 0.0f;
            }
        }
    };
    if (DIM) {
        for (; walk.sequence < block.end; advance(walk)) {
            const u8* queries = next_part();
            const u8* d_outputs = queries + part_bytes;
            if (idle) continue;
#pragma unroll 1
            for (u32 from = 0; from < BLOCK; from += 32) { // 32 rows at a time, as registers are few
                const u8* of_queries = queries + from * query_bytes;
                const u8* of_d_outputs = d_outputs + from * d_output_bytes;
                float s[4][4], ds[4][4];
                clear(s);
                clear(ds);
                add_products<DIM / 16>(s, own_keys, of_queries + lane_of_b(lane, query_bytes), query_bytes, DIM / 16);
                add_products<DIM / 16>(ds, own_values, of_d_outputs + lane_of_b(lane, d_output_bytes), d_output_bytes, DIM / 16);
                probabilities(s, from, queries + DIM * 2);
                add_weighted<DIM ? DIM / 8 : 1, true>(dv, s, of_d_outputs + lane_of_a(lane, d_output_bytes), d_output_bytes, DIM);
#pragma unroll
                for (int j = 0; j < 4; j++) {
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        float delta = saved_of(of_queries + (j * 8 + column + i) * query_bytes + DIM * 2).delta;
                        s[j][i] *= ds[j][i] - delta;
                        s[j][i + 2] *= ds[j][i + 2] - delta;
                    }
                }
                add_weighted<DIM ? DIM / 8 : CHUNK / 8, true>(dk, s, of_queries + lane_of_a(lane, query_bytes), query_bytes, DIM);
            }
        }
    } else {
        for (; walk.sequence < block.end; advance(walk)) {
            float s[8][4], delta[8][2];
            clear(s);
            const u8* saved = nullptr;
            for (u32 chunk = 0; chunk < chunks; chunk++) {
                const u8* queries = next_part();
                u32 width = width_of_chunk(padded, chunk);
                saved = queries + width * 2;
                if (!idle) add_products<0>(s, own_keys + chunk * CHUNK * 2, queries + lane_of_b(lane, query_bytes), query_bytes, width / 16);
            }
            if (!idle) {
                probabilities(s, 0, saved);
#pragma unroll
                for (int j = 0; j < 8; j++) {
#pragma unroll
                    for (int i = 0; i < 2; i++) delta[j][i] = saved_of(saved + (j * 8 + column + i) * query_bytes).delta;
                }
            }
            if (of_keys) {
                float ds[8][4];
                clear(ds);
                for (u32 chunk = 0; chunk < value_chunks; chunk++) {
                    const u8* d_outputs = next_part();
                    if (!idle) add_products<0>(ds, own_values + chunk * CHUNK * 2, d_outputs + lane_of_b(lane, d_output_bytes), d_output_bytes, width_of_chunk(value_padded, chunk) / 16);
                }
                if (!idle) {
#pragma unroll
                    for (int j = 0; j < 8; j++) {
#pragma unroll
                        for (int i = 0; i < 4; i++) s[j][i] *= ds[j][i] - delta[j][i % 2];
                    }
                }
            }
            const u8* part = next_part();
            u32 bytes = of_keys ? query_bytes : d_output_bytes;
            if (!idle) add_weighted<DIM ? DIM / 8 : CHUNK / 8, false>(dk, s, part + lane_of_a(lane, bytes), bytes, width_of_chunk(of_keys ? padded : value_padded, own));
        }
    }
    wait_for_copies<0>();

#pragma unroll
    for (int half = 0; half < 2; half++) {
        u32 i = first + warp * 16 + top + half * 8;
        const KeyBlock again = p.key_blocks[number]; // read again, as registers are few until now
        if (i >= again.count) continue;
        bool slot = again.slot != NONE;
        u64 at = slot ? ((u64)again.slot * BLOCK + i) * p.key_value + head : (u64)p.key_rows[again.keys + i] * p.key_value + head;
        if (DIM) {
            write_row((slot ? p.dv_slots : p.dv) + at * DIM + column, dv, half, 1.0f);
            write_row((slot ? p.dk_slots : p.dk) + at * DIM + column, dk, half, slot ? 1.0f : p.scale);
            continue;
        }
        if (!of_keys) {
            float* to = (slot ? p.dv_slots : p.dv) + at * value_dim + own * CHUNK;
#pragma unroll
            for (int j = 0; j < (DIM ? DIM / 8 : CHUNK / 8); j++) {
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    u32 c = j * 8 + column + e;
                    float sum = dk[j][2 * half + e];
                    if (c < value_dim - own * CHUNK) to[c] = sum;
                }
            }
        }
        if (of_keys) {
            float* to = (slot ? p.dk_slots : p.dk) + at * dim + own * CHUNK;
#pragma unroll
            for (int j = 0; j < (DIM ? DIM / 8 : CHUNK / 8); j++) {
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    u32 c = j * 8 + column + e;
                    float sum = dk[j][2 * half + e];
                    if (c < dim - own * CHUNK) to[c] = slot ? sum : p.scale * sum;
                }
            }
        }
    }
}

// The gradients of a key: the sums in slots, in their order. A block a key.
KERNEL(attention_backward_sums, Backward, 128) {
    const KeySum sum = p.key_sums[blockIdx.x / BLOCK];
    u32 i = blockIdx.x % BLOCK;
    if (i >= sum.count) return;
    u64 row = p.key_rows[sum.keys + i];
    u32 features = p.key_value * p.dim, value_features = p.key_value * p.value_dim;
    for (u32 c = threadIdx.x; c < features; c += 128) {
        float total = 0.0f;
        for (u32 s = 0; s < sum.slots; s++) total += p.dk_slots[((u64)(sum.first_slot + s) * BLOCK + i) * features + c];
        p.dk[row * features + c] = p.scale * total;
    }
    for (u32 c = threadIdx.x; c < value_features; c += 128) {
        float total = 0.0f;
        for (u32 s = 0; s < sum.slots; s++) total += p.dv_slots[((u64)(sum.first_slot + s) * BLOCK + i) * value_features + c];
        p.dv[row * value_features + c] = total;
    }
}

KERNEL(attention_backward_queries_64, Backward, 128, 3) { backward_queries<64, 4>(p); }
KERNEL(attention_backward_queries_128, Backward, 128) { backward_queries<128, 4>(p); }
KERNEL(attention_backward_queries_any, Backward, 128) { backward_queries<0, 4>(p); }
KERNEL(attention_backward_queries_narrow, Backward, 32) { backward_queries<0, 1>(p); }
KERNEL(attention_backward_keys_64, Backward, 128, 3) { backward_keys<64, 4>(p); }
KERNEL(attention_backward_keys_128, Backward, 128) { backward_keys<128, 4>(p); }
KERNEL(attention_backward_keys_any, Backward, 128) { backward_keys<0, 4>(p); }
KERNEL(attention_backward_keys_narrow, Backward, 32) { backward_keys<0, 1>(p); }
