// Which experts rows choose, where the copies of rows lie, and SwiGLU of copies, each times its weight.

// 1 / (1 + exp(-x))
DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

template <typename T>
DEVICE T lane_sum(T x) {
    for (u32 i = 16; i > 0; i /= 2) x += __shfl_xor_sync(ALL, x, i);
    return x;
}

struct Choose {
    u32* chosen;       // [rows, per_token]
    float* weights;    // [rows, per_token]
    float* scores;     // [rows, experts]: logits, then scores
    const float* bias; // [experts], or null
    u32 rows, experts, per_token, groups, groups_kept, softmax, by_two, normalized;
    float scale;
    u32 unused;
};

// The item with the greatest of values that lie in shared memory, of equals the first; it is then marked as taken, by NaN. Of a warp;
// lane l alone reads and writes items l, l + 32, ...
DEVICE void take_greatest(float* values, u32 n) {
    const u32 NONE = 0xffffffffu;
    u32 lane = threadIdx.x % 32, best = NONE;
    float greatest = 0.0f;
    for (u32 i = lane; i < n; i += 32) {
        float value = values[i];
        if (value == value && (best == NONE || value > greatest)) best = i, greatest = value;
    }
    for (u32 step = 16; step > 0; step /= 2) {
        u32 other = __shfl_xor_sync(ALL, best, step);
        float of_other = __shfl_xor_sync(ALL, greatest, step);
        bool better = best == NONE || of_other > greatest || (of_other == greatest && other < best);
        if (other != NONE && better) best = other, greatest = of_other;
    }
    if (best % 32 == lane) values[best] = NAN;
}

DEVICE bool is_taken(float value) { return value != value; }

// What is compared: NaN is what is chosen last.
DEVICE float or_least(float x) { return fmaxf(x, -INFINITY); }

// A warp for each row. Bound by latency: some 13 shuffles for each expert that a row chooses.
KERNEL(route_choose, Choose, 128) {
    u32 row = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32, experts = p.experts;
    float* sums = (float*)shared_memory() + threadIdx.x / 32 * (experts + p.groups);
    float* of_groups = sums + experts;
    if (row < p.rows) {
        float* scores = p.scores + (u64)row * experts;
        if (p.softmax) {
            float max = -INFINITY, sum = 0.0f;
            for (u32 e = lane; e < experts; e += 32) max = fmaxf(max, scores[e]);
            for (u32 i = 16; i > 0; i /= 2) max = fmaxf(max, __shfl_xor_sync(ALL, max, i));
            for (u32 e = lane; e < experts; e += 32) sum += expf(scores[e] - max);
            float inverse = 1.0f / lane_sum(sum);
            for (u32 e = lane; e < experts; e += 32) scores[e] = expf(scores[e] - max) * inverse;
        } else {
            for (u32 e = lane; e < experts; e += 32) scores[e] = sigmoid(scores[e]);
        }
        for (u32 e = lane; e < experts; e += 32) sums[e] = or_least(p.bias ? scores[e] + p.bias[e] : scores[e]);
        __syncwarp();
        if (p.groups_kept < p.groups) {
            u32 size = experts / p.groups;
            for (u32 g = lane; g < p.groups; g += 32) {
                float first = -INFINITY, second = -INFINITY;
                for (u32 e = g * size; e < (g + 1) * size; ++e) {
                    float s = sums[e];
                    if (s > first) {
                        second = first;
                        first = s;
                    } else if (s > second) {
                        second = s;
                    }
                }
                of_groups[g] = p.by_two && size > 1 ? or_least(first + second) : first;
            }
            for (u32 i = 0; i < p.groups_kept; ++i) take_greatest(of_groups, p.groups);
            __syncwarp();
            for (u32 e = lane; e < experts; e += 32) {
                if (!is_taken(of_groups[e / size])) sums[e] = -INFINITY;
            }
        }
        for (u32 i = 0; i < p.per_token; ++i) take_greatest(sums, experts);

        // Those taken, in the order of their numbers.
        u32* chosen = p.chosen + (u64)row * p.per_token;
        float* weights = p.weights + (u64)row * p.per_token;
        float divisor = 0.0f;
        u32 found = 0;
        for (u32 first = 0; first < experts; first += 32) {
            u32 e = first + lane;
            bool taken = e < experts && is_taken(sums[e]);
            float score = taken ? scores[e] : 0.0f;
            u32 bits = __ballot_sync(ALL, taken);
            if (taken) {
                u32 at = found + (u32)__popc(bits & ((1u << lane) - 1));
                chosen[at] = e;
                weights[at] = score;
            }
            for (u32 left = bits; left; left &= left - 1) divisor += __shfl_sync(ALL, score, __ffs((int)left) - 1);
            found += (u32)__popc(bits);
        }
        __syncwarp();
        float factor = p.normalized ? p.scale / (divisor + 1e-20f) : p.scale;
        for (u32 i = lane; i < p.per_token; i += 32) weights[i] = factor * weights[i];
    }
}

struct Sort {
    u32* places;          // [rows, per_token]
    u32* copy_rows;       // [copies]
    float* copy_weights;  // [copies]
    u32* starts;          // [experts + 1]
    const u32* chosen;    // [rows, per_token]
    const float* weights; // [rows, per_token]
    u32 choices, per_token, experts, unused;
};

// The choices of 256 places from `first` on, of which `end` is the last: eight a lane, 32 apart, all on their way at once.
DEVICE void load_choices(u32 (&chosen)[8], const u32* from, u32 first, u32 end) {
#pragma unroll
    for (u32 j = 0; j < 8; ++j) {
        u32 i = first + 32 * j + threadIdx.x % 32;
        chosen[j] = i < end ? from[i] : 0xffffffffu;
    }
}

// A block for each expert counts the choices of lower experts, where its copies begin, and places its own in the order of rows. All
// blocks read all choices, from the second-level cache: 0.13 GB at 16,384 rows of 8 among 256 experts.
KERNEL(route_sort, Sort, 1024) {
    u32* own_of = (u32*)shared_memory();
    u32* less_of = own_of + 32;
    u32 expert = blockIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    u32 run = ((p.choices + 31) / 32 + 31) / 32 * 32, first = warp * run;
    u32 end = first + run < p.choices ? first + run : p.choices, own = 0, less = 0, chosen[8];
    for (u32 i = first; i < end; i += 256) {
        load_choices(chosen, p.chosen, i, end);
#pragma unroll
        for (u32 j = 0; j < 8; ++j) {
            own += (u32)__popc(__ballot_sync(ALL, chosen[j] == expert));
            less += (u32)__popc(__ballot_sync(ALL, chosen[j] < expert));
        }
    }
    if (lane == 0) own_of[warp] = own, less_of[warp] = less;
    __syncthreads();
    u32 start = 0, place = 0;
    for (u32 w = 0; w < 32; ++w) {
        start += less_of[w];
        if (w < warp) place += own_of[w];
    }
    place += start;
    if (threadIdx.x == 0) {
        p.starts[expert] = start;
        if (expert == p.experts - 1) p.starts[p.experts] = p.choices;
    }
    for (u32 i = first; i < end; i += 256) {
        load_choices(chosen, p.chosen, i, end);
#pragma unroll
        for (u32 j = 0; j < 8; ++j) {
            u32 bits = __ballot_sync(ALL, chosen[j] == expert), choice = i + 32 * j + lane;
            if (chosen[j] == expert) {
                u32 at = place + (u32)__popc(bits & ((1u << lane) - 1));
                p.places[choice] = at;
                p.copy_rows[at] = choice / p.per_token;
                p.copy_weights[at] = p.weights[choice];
            }
            place += (u32)__popc(bits);
        }
    }
}

struct RouteInTurn {
    u32* chosen;         // [rows]
    float* weights;      // [rows]
    u32* places;         // [rows]
    u32* copy_rows;      // [rows]
    float* copy_weights; // [rows]
    u32* starts;         // [experts + 1]
    u32 rows, experts;
};

// Row i chooses expert i mod experts, with weight 1.
KERNEL(route_in_turn, RouteInTurn, 256) {
    u32 i = blockIdx.x * 256 + threadIdx.x, each = p.rows / p.experts;
    if (i <= p.experts) p.starts[i] = i * each;
    if (i < p.rows) {
        u32 expert = i % p.experts, place = expert * each + i / p.experts;
        p.chosen[i] = expert;
        p.places[i] = place;
        p.copy_rows[place] = i;
        p.weights[i] = p.copy_weights[i] = 1.0f;
    }
}

struct RouteShares {
    float* shares;        // [sequences, experts]
    const u32* sequences; // [sequences, 2]: the first row, and the one after the last
    const u32* chosen;    // [rows, per_token]
    u32 experts, per_token;
};

// f = experts / (per_token T) |rows that chose the expert|, of each sequence of T rows: a block each.
KERNEL(route_shares, RouteShares, 256) {
    u32* counts = (u32*)shared_memory();
    u32 start = p.sequences[2 * blockIdx.x], end = p.sequences[2 * blockIdx.x + 1];
    for (u32 e = threadIdx.x; e < p.experts; e += 256) counts[e] = 0;
    __syncthreads();
    for (u32 i = start * p.per_token + threadIdx.x; i < end * p.per_token; i += 256) atomicAdd(&counts[p.chosen[i]], 1u);
    __syncthreads();
    float one = (float)p.experts / (float)(p.per_token * (end > start ? end - start : 1));
    for (u32 e = threadIdx.x; e < p.experts; e += 256) {
        p.shares[(u64)blockIdx.x * p.experts + e] = (float)counts[e] * one;
    }
}

struct RouteBackward {
    float* d_logits;         // [rows, experts], or null
    u16* rounded;            // [rows, experts]
    const float* d_weights;  // [copies]
    const float* scores;     // [rows, experts]
    const u32* chosen;       // [rows, per_token]
    const u32* places;       // [rows, per_token]
    const float* shares;     // [sequences, experts], or null without a balance
    const u32* sequence_of;  // [rows]: the sequence of each row; beyond all for none
    u32 rows, experts, per_token, sequences, softmax, normalized;
    float scale, balance;
};

// A warp for each row.
KERNEL(route_backward, RouteBackward, 128) {
    u32 row = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32, experts = p.experts;
    float* d = (float*)shared_memory() + threadIdx.x / 32 * experts;
    if (row < p.rows) {
        const float* s = p.scores + (u64)row * experts;
        const u32* chosen = p.chosen + (u64)row * p.per_token;
        const u32* places = p.places + (u64)row * p.per_token;
        for (u32 e = lane; e < experts; e += 32) d[e] = 0.0f;
        __syncwarp();
        // The sums are each lane's own, over the experts chosen in their order.
        float divisor = 1.0f, mean = 0.0f;
        if (p.normalized) {
            divisor = 0.0f;
            for (u32 i = 0; i < p.per_token; ++i) {
                float score = s[chosen[i]];
                divisor += score;
                mean = __fmaf_rn(p.d_weights[places[i]], score, mean);
            }
            divisor += 1e-20f;
            mean /= divisor;
        }
        for (u32 i = lane; i < p.per_token; i += 32) d[chosen[i]] = p.scale / divisor * (p.d_weights[places[i]] - mean);
        __syncwarp();
        u32 sequence = p.shares ? p.sequence_of[row] : 0;
        if (p.shares && sequence < p.sequences) {
            const float* f = p.shares + (u64)sequence * experts;
            float sum = 0.0f, of_shares = 0.0f;
            for (u32 e = lane; e < experts; e += 32) {
                sum += s[e];
                of_shares = __fmaf_rn(f[e], s[e], of_shares);
            }
            sum = lane_sum(sum);
            float mean = lane_sum(of_shares) / sum, factor = p.balance / sum;
            for (u32 e = lane; e < experts; e += 32) d[e] = __fmaf_rn(factor, f[e] - mean, d[e]);
        }
        // Through the scores: s (1 - s) ds, or s (ds - sum of ds s).
        float through = 0.0f;
        if (p.softmax) {
            for (u32 e = lane; e < experts; e += 32) through = __fmaf_rn(d[e], s[e], through);
            through = lane_sum(through);
        }
        for (u32 e = lane; e < experts; e += 32) {
            float gradient = s[e] * (p.softmax ? d[e] - through : d[e] * (1.0f - s[e]));
            if (p.d_logits) p.d_logits[(u64)row * experts + e] = gradient;
            p.rounded[(u64)row * experts + e] = to_bf16(gradient);
        }
    }
}

struct RouteLoad { float* load; const u32* starts; u32 experts, unused; };

KERNEL(route_load, RouteLoad, 256) {
    u32 e = blockIdx.x * 256 + threadIdx.x;
    if (e < p.experts) p.load[e] += (float)(p.starts[e + 1] - p.starts[e]);
}

struct alignas(16) Four { float x[4]; };
struct alignas(16) Words { u32 x[4]; };
struct alignas(8) Halves { u32 x[2]; };

struct Copies { u16* y; const u16* x; const u32* copy_rows; u64 chunks; u32 features, chunks_of_row; };

// y[i, :] = x[row of copy i, :], four times eight features a thread. Bound by memory: 2 bytes written an element, and 2 read, often cached.
KERNEL(copies_forward, Copies, 256) {
    u64 first = (u64)blockIdx.x * 1024;
    u32 left = p.chunks - first < 1024 ? (u32)(p.chunks - first) : 1024, skipped = (u32)(first % p.chunks_of_row);
    u32 copy = (u32)(first / p.chunks_of_row);
    bool aligned = p.features % 8 == 0;
    Words words[4];
#pragma unroll
    for (u32 j = 0; j < 4; ++j) {
        u32 i = 256 * j + threadIdx.x, at = skipped + i;
        if (i < left && aligned) {
            words[j] = *(const Words*)(p.x + (u64)p.copy_rows[copy + at / p.chunks_of_row] * p.features + at % p.chunks_of_row * 8);
        }
    }
#pragma unroll
    for (u32 j = 0; j < 4; ++j) {
        u32 i = 256 * j + threadIdx.x, at = skipped + i;
        if (i >= left) continue;
        u32 to = copy + at / p.chunks_of_row, column = at % p.chunks_of_row * 8;
        u16* y = p.y + (u64)to * p.features + column;
        if (aligned) {
            *(Words*)y = words[j];
        } else {
            const u16* x = p.x + (u64)p.copy_rows[to] * p.features + column;
            for (u32 e = 0; e < 8 && column + e < p.features; ++e) y[e] = x[e];
        }
    }
}

struct SumCopies { float* y; const float* x; const u32* places; u32 features, per_token, blocks, add; };

// y[n, :] = the sum of x[i, :] over the copies i of row n, or +=, one after another; four features a thread. Bound by memory: 4 bytes
// for each element of x and 4 or 8 of y.
KERNEL(sum_copies, SumCopies, 256) {
    u32 row = blockIdx.x / p.blocks, at = (blockIdx.x % p.blocks * 256 + threadIdx.x) * 4;
    if (at < p.features) {
        const u32* places = p.places + (u64)row * p.per_token;
        float* y = p.y + (u64)row * p.features + at;
        u32 len = p.features - at < 4 ? p.features - at : 4;
        bool aligned = p.features % 4 == 0;
        auto load = [&](const float* from) {
            Four four = {};
            if (aligned) return *(const Four*)from;
            for (u32 i = 0; i < len; ++i) four.x[i] = from[i];
            return four;
        };
        auto term = [&](u32 i) { return load(p.x + (u64)places[i] * p.features + at); };
        Four sum = p.add ? load(y) : term(0);
        for (u32 c = p.add ? 0 : 1; c < p.per_token; ++c) {
            Four x = term(c);
            for (u32 i = 0; i < 4; ++i) sum.x[i] += x.x[i];
        }
        if (aligned) *(Four*)y = sum;
        else for (u32 i = 0; i < len; ++i) y[i] = sum.x[i];
    }
}

// w gate sigmoid(gate) up, the same bits wherever it is computed.
DEVICE float weighted_swiglu(float w, float gate, float up, float sigma) { return w * (gate * sigma * up); }

struct WeightedSwiGlu {
    u16* y; // [copies, features]
    const float *gate, *up, *weights;
    u32 features, blocks;
};

// Four features a thread. Bound by memory: 10 bytes an element.
KERNEL(weighted_swiglu_forward, WeightedSwiGlu, 256) {
    u32 copy = blockIdx.x / p.blocks, at = (blockIdx.x % p.blocks * 256 + threadIdx.x) * 4;
    if (at < p.features) {
        u64 first = (u64)copy * p.features + at;
        float w = p.weights[copy];
        auto value = [&](float gate, float up) { return weighted_swiglu(w, gate, up, sigmoid(gate)); };
        if (p.features % 4 == 0) {
            Four gate = *(const Four*)(p.gate + first), up = *(const Four*)(p.up + first), y;
            for (u32 i = 0; i < 4; ++i) y.x[i] = value(gate.x[i], up.x[i]);
            *(Halves*)(p.y + first) = {pack_bf16(y.x[0], y.x[1]), pack_bf16(y.x[2], y.x[3])};
        } else {
            for (u32 i = 0; i < 4 && at + i < p.features; ++i) {
                p.y[first + i] = to_bf16(value(p.gate[first + i], p.up[first + i]));
            }
        }
    }
}

struct WeightedSwiGluBackward {
    float *d_weights, *dy, *gate, *up;               // [copies], [copies, features] ...
    u16 *rounded_dy, *rounded_gate, *rounded_up;
    const float* weights;                            // [copies]
    u32 features, keep;                              // whether dy, gate and up are written, or only rounded
};

// A block for each copy, in place: gate and up become their gradients, dy becomes y. Four features a thread at a time; a thread's sum
// is of its own features, whether they are read four by four or not. Bound by memory: 18 bytes an element, or 30 where values are kept.
KERNEL(weighted_swiglu_backward, WeightedSwiGluBackward, 256) {
    float* sums = (float*)shared_memory();
    u32 copy = blockIdx.x;
    float w = p.weights[copy], sum = 0.0f;
    auto step = [&](float& dy, float& gate, float& up) {
        float sigma = sigmoid(gate), g = gate, u = up, d = w * dy, of_gate = g * sigma;
        sum = __fmaf_rn(dy, of_gate * u, sum);
        dy = weighted_swiglu(w, g, u, sigma);
        gate = d * u * sigma * (1.0f + g * (1.0f - sigma));
        up = d * of_gate;
    };
    for (u32 at = threadIdx.x * 4; at < p.features; at += 1024) {
        u64 first = (u64)copy * p.features + at;
        if (p.features % 4 == 0) {
            Four dy = *(Four*)(p.dy + first), gate = *(Four*)(p.gate + first), up = *(Four*)(p.up + first);
            for (u32 i = 0; i < 4; ++i) step(dy.x[i], gate.x[i], up.x[i]);
            auto put = [&](float* values, u16* rounded, const Four& x) {
                if (p.keep) *(Four*)(values + first) = x;
                *(Halves*)(rounded + first) = {pack_bf16(x.x[0], x.x[1]), pack_bf16(x.x[2], x.x[3])};
            };
            put(p.dy, p.rounded_dy, dy);
            put(p.gate, p.rounded_gate, gate);
            put(p.up, p.rounded_up, up);
        } else {
            for (u64 i = first; i < first + 4 && i < (u64)(copy + 1) * p.features; ++i) {
                float dy = p.dy[i], gate = p.gate[i], up = p.up[i];
                step(dy, gate, up);
                if (p.keep) p.dy[i] = dy, p.gate[i] = gate, p.up[i] = up;
                p.rounded_dy[i] = to_bf16(dy);
                p.rounded_gate[i] = to_bf16(gate);
                p.rounded_up[i] = to_bf16(up);
            }
        }
    }
    sum = lane_sum(sum);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        float all = 0.0f;
        for (u32 i = 0; i < 8; ++i) all += sums[i];
        p.d_weights[copy] = all;
    }
}
