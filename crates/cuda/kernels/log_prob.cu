// Log-softmax of rows of logits, which products left in slabs of the vocabulary: [rows, width] from token `first` on. Where rows are many,
// head.cu takes the logits from the products themselves, to the same bits.
//
// Bound by memory: a logit is written by the product and read here once, 8 bytes. Where rows are few, the product is bound by the head's
// weights: at 64 rows of 1,024 features it reads 2,048 bytes of them for 512 bytes of logits, which the second-level cache holds.

struct alignas(8) Pair { float x, y; };

struct Draw {
    double uniform;
    float inverse_temperature;
    u32 greedy, top_k;
    float top_p, min_p;
    u32 truncates;
};

struct OfChunks {
    Partial* partials; // [rows, chunks]
    float* of_targets; // [rows]
    const float* logits;
    const u32* targets;
    const Draw* draws;
    u32 rows, width, first, chunks;
    float inverse_temperature;
    u32 unused;
};

// A warp for each chunk of a row: its partial, and the target's logit, if the chunk has it. The row's temperature is its draw's, if
// there is one.
KERNEL(chunk_partials, OfChunks, 128) {
    u32 of_slab = (p.width + CHUNK - 1) / CHUNK, blocks = (of_slab + 3) / 4;
    u32 row = blockIdx.x / blocks, chunk = blockIdx.x % blocks * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (chunk < of_slab) {
        float factor = p.draws ? p.draws[row].inverse_temperature : p.inverse_temperature;
        const float* logits = p.logits + (u64)row * p.width + chunk * CHUNK;
        u32 len = p.width - chunk * CHUNK < CHUNK ? p.width - chunk * CHUNK : CHUNK;
        // Strips of the lane's four, and those 8 further on.
        Partial own[2], strips[16];
#pragma unroll
        for (u32 i = 0; i < 2; ++i) {
            u32 first = (lane / 4 + 8 * i) * STRIP;
            float l[16];
#pragma unroll
            for (u32 j = 0; j < 16; j += 2) {
                u32 at = first + strip_place(j);
                Pair pair = {NOTHING, NOTHING};
                if (p.width % 2 == 0) {
                    if (at < len) pair = *(const Pair*)(logits + at);
                } else {
                    if (at < len) pair.x = logits[at];
                    if (at + 1 < len) pair.y = logits[at + 1];
                }
                l[j] = at < len ? pair.x * factor : NOTHING;
                l[j + 1] = at + 1 < len ? pair.y * factor : NOTHING;
            }
            own[i] = strip_partial(l);
        }
#pragma unroll
        for (u32 i = 0; i < 16; ++i) {
            const Partial& of = own[i / 8];
            u32 from = i % 8 * 4;
            strips[i] = {__shfl_sync(ALL, of.max, from), __shfl_sync(ALL, of.sum, from), __shfl_sync(ALL, of.weighted, from), 0.0f};
        }
        Partial partial = chunk_partial(strips);
        if (lane == 0) {
            p.partials[(u64)row * p.chunks + p.first / CHUNK + chunk] = partial;
            if (p.targets) {
                u32 at = p.targets[row] - p.first - chunk * CHUNK; // beyond the chunk, if the token comes before it, too
                if (at < len) p.of_targets[row] = logits[at] * factor;
            }
        }
    }
}

struct OfStrips { Partial* partials; const Partial* strips; u64 chunks; u32 chunks_of_row, strips_of_row; };

// The partials of chunks, of strips that a product left (head.cu): a thread each. Bound by memory, 0.27 bytes a logit.
KERNEL(combine_strips, OfStrips, 128) {
    u64 i = (u64)blockIdx.x * 128 + threadIdx.x;
    if (i >= p.chunks) return;
    u32 chunk = (u32)(i % p.chunks_of_row), first = chunk * (CHUNK / STRIP);
    const Partial* from = p.strips + i / p.chunks_of_row * p.strips_of_row + first;
    Partial strips[16];
#pragma unroll
    for (u32 s = 0; s < 16; ++s) {
        strips[s] = {NOTHING, 0.0f, 0.0f, 0.0f};
        if (first + s < p.strips_of_row) strips[s] = from[s];
    }
    p.partials[i] = chunk_partial(strips);
}

struct OfRows {
    float *log_probs, *entropy, *log_sum_exp; // [rows]
    const Partial* partials;                  // [rows, chunks]
    const float* of_targets;                  // [rows]
    u32 rows, chunks;
};

// A warp for each row.
KERNEL(log_prob_rows, OfRows, 128) {
    u32 row = blockIdx.x * 4 + threadIdx.x / 32;
    if (row < p.rows) {
        Totals of = totals_of(p.partials + (u64)row * p.chunks, p.chunks);
        if (threadIdx.x % 32 == 0) {
            p.log_probs[row] = log_prob(of, p.of_targets[row]);
            p.entropy[row] = (float)entropy(of);
            p.log_sum_exp[row] = (float)log_sum_exp(of);
        }
    }
}

struct LogitGradients {
    u16* dl;             // [rows, width]
    const float* logits; // [rows, width]
    const u32* targets;  // [rows], as are the others
    const float *d_log_probs, *log_sum_exp;
    u32 rows, width, first;
    float inverse_temperature;
};

// dl = d / temperature ([v = target] - exp(l - log_sum_exp)), eight tokens a thread.
KERNEL(logit_gradients, LogitGradients, 256) {
    u32 blocks = (p.width + 2047) / 2048, row = blockIdx.x / blocks, at = (blockIdx.x % blocks * 256 + threadIdx.x) * 8;
    if (at < p.width) {
        const float* logits = p.logits + (u64)row * p.width + at;
        u16* dl = p.dl + (u64)row * p.width + at;
        float shift = p.log_sum_exp[row], d = p.d_log_probs[row] * p.inverse_temperature;
        u32 target = p.targets[row] - p.first - at, len = p.width - at < 8 ? p.width - at : 8;
        auto gradient = [&](u32 i, float l) {
            return logit_gradient(l * p.inverse_temperature, shift, d, i == target);
        };
        if (p.width % 8 == 0) {
            Quad low = *(const Quad*)logits, high = *(const Quad*)(logits + 4);
            struct alignas(16) { u32 x[4]; } packed;
#pragma unroll
            for (u32 i = 0; i < 4; ++i) {
                const float* l = i < 2 ? low.x + 2 * i : high.x + 2 * i - 4;
                packed.x[i] = pack_bf16(gradient(2 * i, l[0]), gradient(2 * i + 1, l[1]));
            }
            *(decltype(packed)*)dl = packed;
        } else {
            for (u32 i = 0; i < len; ++i) dl[i] = to_bf16(gradient(i, logits[i]));
        }
    }
}

struct Sample {
    float *tokens, *log_probs, *full_log_probs; // [rows]
    const float* logits;                        // [rows, vocab]
    const Partial* partials;                    // [rows, chunks]
    const Draw* draws;                          // [rows]
    double* masses;                             // [rows, chunks], where rows truncate
    u32 rows, vocab, chunks, unused;
};

DEVICE u32 len_of(u32 chunk, u32 vocab) { return vocab - chunk * CHUNK < CHUNK ? vocab - chunk * CHUNK : CHUNK; }

// A warp for each row that is drawn whole: its partials say which chunk, of which alone logits are read.
KERNEL(draw_whole, Sample, 128) {
    u32 row = blockIdx.x * 4 + threadIdx.x / 32;
    if (row < p.rows && !p.draws[row].truncates) {
        Draw draw = p.draws[row];
        const Partial* partials = p.partials + (u64)row * p.chunks;
        Totals of = totals_of(partials, p.chunks);
        auto l = [&](u32 v) { return p.logits[(u64)row * p.vocab + v] * draw.inverse_temperature; };
        u32 token;
        if (draw.greedy) {
            u32 first = CHUNK * first_of(p.chunks, [&](u32 c) { return partials[c].max == of.max; });
            token = first + first_of(len_of(first / CHUNK, p.vocab), [&](u32 i) { return l(first + i) == of.max; });
        } else {
            auto scale = [&](u32 c) { return exp((double)partials[c].max - (double)of.max); };
            auto mass = [&](u32 c) { return scale(c) * (double)partials[c].sum; };
            Found in = find(p.chunks, draw.uniform * of.sum, mass);
            // Each lane weighs a run of neighbours.
            float max = partials[in.at].max, weights[32];
            u32 first = in.at * CHUNK + threadIdx.x % 32 * 32;
#pragma unroll
            for (u32 i = 0; i < 32; i += 4) {
                u32 v = first + i, left = v < p.vocab ? p.vocab - v : 0;
                Quad quad = load_quad(p.logits + (u64)row * p.vocab + v, left, p.vocab % 4 == 0);
#pragma unroll
                for (u32 j = 0; j < 4; ++j) {
                    weights[i + j] = j < left ? exp_fast(quad.x[j] * draw.inverse_temperature - max) : 0.0f;
                }
            }
            token = in.at * CHUNK + find_in_runs(weights, in.rest / scale(in.at));
        }
        if (threadIdx.x % 32 == 0) {
            p.tokens[row] = (float)token;
            p.log_probs[row] = p.full_log_probs[row] = log_prob(of, l(token));
        }
    }
}

// A block for each row that truncates. Chunks whose greatest logit is cut off are not read: of a sharp distribution few are.
// Bound by latency: two or three passes over the chunks that may have the cut, for each of top-k and top-p, then one over what is kept.
KERNEL(draw_truncated, Sample, 512) {
    u32 row = blockIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (!p.draws[row].truncates) return; // all threads
    Histogram& bins = *(Histogram*)shared_memory();
    Cut& shared = *(Cut*)(shared_memory() + sizeof(Histogram));
    u32* counts = (u32*)(shared_memory() + sizeof(Histogram) + 64);

    Draw draw = p.draws[row];
    const Partial* partials = p.partials + (u64)row * p.chunks;
    double* masses = p.masses + (u64)row * p.chunks;
    Totals of = totals_of(partials, p.chunks);
    auto l = [&](u32 v) { return p.logits[(u64)row * p.vocab + v] * draw.inverse_temperature; };
    auto visit_chunk = [&](u32 c, auto visit) {
        u32 len = len_of(c, p.vocab);
        const float* logits = p.logits + (u64)row * p.vocab + c * CHUNK;
#pragma unroll 1
        for (u32 first = 4 * lane; first < len; first += 512) {
            Quad quads[4]; // on their way at once
#pragma unroll
            for (u32 j = 0; j < 4; ++j) {
                u32 at = first + 128 * j;
                quads[j] = load_quad(logits + at, at < len ? len - at : 0, p.vocab % 4 == 0);
            }
#pragma unroll
            for (u32 j = 0; j < 16; ++j) {
                u32 at = first + 128 * (j / 4) + j % 4;
                if (at < len) visit(c * CHUNK + at, quads[j / 4].x[j % 4] * draw.inverse_temperature);
            }
        }
    };
    auto each = [&](u64 end, auto visit) {
        for (u32 c = warp; c < p.chunks; c += 16) {
            if (rank_of(partials[c].max) < end) visit_chunk(c, visit);
        }
    };

    // What is kept: ranks up to `rank`, at it tokens up to `last`; of these, weights of at least `least`.
    const float LIKELY = 8.0f;
    u32 near = rank_of(of.max - LIKELY), last = 0xffffffffu;
    u64 rank = 1ull << 32;
    double total = of.sum * UNIT, least = (double)fminf(draw.min_p, 1.0f) * UNIT;
    u32 n = 0, ties = 0, found_ties = 0;
    if (draw.top_k > 0) {
        Cut cut = cut_at(bins, shared, of.max, draw.top_k, 0.0, near, each);
        if (cut.found) {
            n = draw.top_k, rank = cut.rank, ties = n - cut.before, found_ties = cut.ties;
            u64 kept = ties == cut.ties ? cut.weight : ties * weight_of(logit_of(cut.rank), of.max);
            total = (double)(cut.weight_before + kept);
        }
    }
    if (draw.top_p < 1.0f) {
        double target = (double)draw.top_p * total;
        Cut cut = cut_at(bins, shared, of.max, 0, target, near, each);
        if (cut.found) {
            u32 needed = ties_that_reach(cut, target, of.max);
            if (n == 0 || cut.before + needed < n) n = cut.before + needed, rank = cut.rank, ties = needed, found_ties = cut.ties;
        }
    }
    if (ties < found_ties) last = token_at(counts, p.vocab, (u32)rank, ties, l);
    auto kept = [&](u32 v, float l) -> u64 {
        u32 of_token = rank_of(l);
        u64 w = weight_of(l, of.max);
        return (of_token < rank || (of_token == rank && v <= last)) && (double)w >= least ? w : 0;
    };

    for (u32 c = warp; c < p.chunks; c += 16) {
        u64 mass = 0;
        if (rank_of(partials[c].max) <= rank) visit_chunk(c, [&](u32 v, float l) { mass += kept(v, l); });
        mass = warp_sum(mass);
        if (lane == 0) masses[c] = (double)mass;
    }
    __syncthreads();
    // Every warp finds the same token.
    double sum = 0.0;
    for (u32 c = lane; c < p.chunks; c += 32) sum += masses[c];
    sum = warp_sum(sum);
    Found in = find(p.chunks, draw.uniform * sum, [&](u32 c) { return masses[c]; });
    float* weights = (float*)bins.count; // of 24 bits: exact
    u32 first = in.at * CHUNK, len = len_of(in.at, p.vocab);
    for (u32 i = threadIdx.x; i < len; i += 512) weights[i] = (float)kept(first + i, l(first + i));
    __syncthreads();
    u32 token = first + find(len, in.rest, [&](u32 i) { return (double)weights[i]; }).at;
    if (threadIdx.x == 0) {
        float full = log_prob(of, l(token));
        bool whole = rank > 0xffffffffu && least <= 0.0;
        p.tokens[row] = (float)token;
        p.log_probs[row] = whole ? full : (float)((double)l(token) - (double)of.max - log(sum / UNIT));
        p.full_log_probs[row] = full;
    }
}
