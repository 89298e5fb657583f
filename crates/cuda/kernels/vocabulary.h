// Rows of logits over a vocabulary: their chunks, what is kept of them, how tokens rank and are found.
#pragma once

// Tokens of a chunk: a warp holds one in registers, 32 tokens a lane.
#define CHUNK 1024u

// Four elements of 16 aligned bytes, which one instruction moves.
struct alignas(16) Quad { float x[4]; };

// A logit of no probability, and yet finite, so that exp(l - max) (l - max) is 0.
#define NOTHING -1e30f

// e to the power x, for x <= 0: to within |x| + 4 roundings.
DEVICE float exp_fast(float x) { return exp2_fast(__fmul_rn(x, 1.44269504f)); }

DEVICE float warp_max(float x) {
    for (u32 i = 16; i > 0; i /= 2) x = fmaxf(x, __shfl_xor_sync(ALL, x, i));
    return x;
}

// The sum over the lanes, in pairs: all lanes get the same bits.
template <typename T>
DEVICE T warp_sum(T x) {
    for (u32 i = 16; i > 0; i /= 2) x += __shfl_xor_sync(ALL, x, i);
    return x;
}

DEVICE u32 lowest_bit(u32 bits) { return (u32)__ffs((int)bits) - 1; }
DEVICE u32 highest_bit(u32 bits) { return 31 - (u32)__clz((int)bits); }

// What the logits of some tokens come to: the greatest, the sum of exp(l - max), and of exp(l - max) (l - max).
struct alignas(16) Partial { float max, sum, weighted, unused; };

// Tokens of a strip, of which a chunk has 16. Four neighbouring lanes hold one, as multiply_add leaves it: 16 tokens each.
#define STRIP 64u

// Where the lane's token j stands in its strip.
DEVICE u32 strip_place(u32 j) { return j / 2 * 8 + threadIdx.x % 4 * 2 + j % 2; }

// The partial of a strip: all four lanes get the same bits.
DEVICE Partial strip_partial(const float (&l)[16]) {
    float max = NOTHING, sum = 0.0f, weighted = 0.0f;
#pragma unroll
    for (u32 j = 0; j < 16; ++j) max = fmaxf(max, l[j]);
    max = fmaxf(max, __shfl_xor_sync(ALL, max, 1));
    max = fmaxf(max, __shfl_xor_sync(ALL, max, 2));
#pragma unroll
    for (u32 j = 0; j < 16; ++j) {
        float below = l[j] - max, e = exp_fast(below);
        sum += e;
        weighted = __fmaf_rn(e, below, weighted);
    }
    sum += __shfl_xor_sync(ALL, sum, 1);
    sum += __shfl_xor_sync(ALL, sum, 2);
    weighted += __shfl_xor_sync(ALL, weighted, 1);
    weighted += __shfl_xor_sync(ALL, weighted, 2);
    return {max, sum, weighted, 0.0f};
}

// The partial of a chunk, of its strips in their order.
DEVICE Partial chunk_partial(const Partial (&strips)[16]) {
    float max = NOTHING, sum = 0.0f, weighted = 0.0f;
#pragma unroll
    for (u32 i = 0; i < 16; ++i) max = fmaxf(max, strips[i].max);
#pragma unroll
    for (u32 i = 0; i < 16; ++i) {
        float shift = strips[i].max - max, scale = exp_fast(shift);
        sum = __fmaf_rn(scale, strips[i].sum, sum);
        weighted = __fmaf_rn(scale, __fmaf_rn(shift, strips[i].sum, strips[i].weighted), weighted);
    }
    return {max, sum, weighted, 0.0f};
}

// dl = d ([token is the target] - exp(l - log_sum_exp)), d with the temperature in it.
DEVICE float logit_gradient(float l, float log_sum_exp, float d, bool is_target) {
    return d * ((is_target ? 1.0f : 0.0f) - exp_fast(l - log_sum_exp));
}

// The same of a row, of its partials in a fixed order. All lanes of a warp call it, and get the same bits.
struct Totals { float max; double sum, weighted; };

DEVICE double log_sum_exp(const Totals& of) { return (double)of.max + log(of.sum); }
DEVICE double entropy(const Totals& of) { return log(of.sum) - of.weighted / of.sum; }
DEVICE float log_prob(const Totals& of, float l) { return (float)((double)l - log_sum_exp(of)); }

DEVICE Totals totals_of(const Partial* partials, u32 chunks) {
    u32 lane = threadIdx.x % 32;
    float max = NOTHING;
    for (u32 c = lane; c < chunks; c += 32) max = fmaxf(max, partials[c].max);
    max = warp_max(max);
    double sum = 0.0, weighted = 0.0;
    for (u32 c = lane; c < chunks; c += 32) {
        Partial of = partials[c];
        double shift = (double)of.max - (double)max, scale = exp(shift);
        sum += scale * (double)of.sum;
        weighted += scale * ((double)of.weighted + shift * (double)of.sum);
    }
    return {max, warp_sum(sum), warp_sum(weighted)};
}

// What ranks tokens: the likelier, the lower; equal logits have equal keys, NaN ranks last.
DEVICE u32 rank_of(float l) {
    u32 bits = __float_as_uint(l + 0.0f); // -0 becomes 0
    if (l != l) return 0xffffffffu;
    return bits >> 31 ? bits : ~bits & 0x7fffffffu;
}

// The logit of a rank.
DEVICE float logit_of(u32 rank) { return __uint_as_float(rank >> 31 ? rank : ~rank & 0x7fffffffu); }

// Weights of tokens are exp(l - max) in units of 2^-40: integers, whose sums have no order.
#define UNIT 1099511627776.0

DEVICE u64 weight_of(float l, float max) {
    float below = l - max;
    return below > -28.0f ? (u64)(exp_fast(below) * (float)UNIT) : 0;
}

// Where items of weights stand at which the sum of weights, in their order, exceeds a target: the first such; if there is none,
// the last that has a weight. `rest` is the target less the sum before it, or infinite.
struct Found { u32 at; double rest; };

// A warp's search among n items. Each lane sums a run of neighbours, so that the order of the sum is that of the items.
template <typename Weight>
DEVICE Found find(u32 n, double target, Weight weight) {
    u32 lane = threadIdx.x % 32, run = (n + 31) / 32;
    u32 first = lane * run < n ? lane * run : n, end = first + run < n ? first + run : n;
    double own = 0.0, before = 0.0;
    for (u32 i = first; i < end; ++i) own += weight(i);
#pragma unroll 1
    for (u32 other = 0; other < 32; ++other) {
        double of_other = __shfl_sync(ALL, own, other);
        if (other < lane) before += of_other;
    }
    u32 beyond = __ballot_sync(ALL, own > 0.0 && before + own > target), any = __ballot_sync(ALL, own > 0.0);
    u32 chosen = beyond ? lowest_bit(beyond) : any ? highest_bit(any) : 0;
    Found found = {first, (double)INFINITY};
    if (lane == chosen) {
        double sum = before;
        for (u32 i = first; i < end; ++i) {
            double w = weight(i);
            if (!(w > 0.0)) continue;
            found.at = i;
            if (sum + w > target) {
                found.rest = target - sum;
                break;
            }
            sum += w;
        }
    }
    return {__shfl_sync(ALL, found.at, chosen), __shfl_sync(ALL, found.rest, chosen)};
}

// The same among 1024 items, of which each lane holds a run of neighbours: where it stands.
DEVICE u32 find_in_runs(const float (&weights)[32], double target) {
    u32 lane = threadIdx.x % 32;
    double own = 0.0, before = 0.0;
#pragma unroll
    for (u32 i = 0; i < 32; ++i) own += (double)weights[i];
    for (u32 other = 0; other < 32; ++other) {
        double of_other = __shfl_sync(ALL, own, other);
        if (other < lane) before += of_other;
    }
    u32 beyond = __ballot_sync(ALL, own > 0.0 && before + own > target), any = __ballot_sync(ALL, own > 0.0);
    u32 chosen = beyond ? lowest_bit(beyond) : any ? highest_bit(any) : 0, at = 0;
    double sum = before;
#pragma unroll
    for (u32 i = 0; i < 32; ++i) {
        if (weights[i] > 0.0f && !(sum > target)) at = i;
        sum += (double)weights[i];
    }
    return 32 * chosen + __shfl_sync(ALL, at, chosen);
}

// Four logits of neighbours, from memory of which `len` are left; what is beyond is NOTHING.
DEVICE Quad load_quad(const float* logits, u32 len, bool aligned) {
    Quad quad = {{NOTHING, NOTHING, NOTHING, NOTHING}};
    if (aligned && len >= 4) return *(const Quad*)logits;
#pragma unroll
    for (u32 i = 0; i < 4; ++i) if (i < len) quad.x[i] = logits[i];
    return quad;
}

// The first of n items that holds, or 0: of a warp.
template <typename Holds>
DEVICE u32 first_of(u32 n, Holds holds) {
    for (u32 i = 0; i < n; i += 32) {
        u32 at = i + threadIdx.x % 32, bits = __ballot_sync(ALL, at < n && holds(at));
        if (bits) return i + lowest_bit(bits);
    }
    return 0;
}

// Bins of a histogram over ranks: how many tokens fall into each, and their weight, in two halves. Each 32 bins lie 33 apart, so that lanes
// that go through 32 neighbours each do so in different banks.
#define BINS 1024u
struct Histogram { u32 count[BINS / 32 * 33], low[BINS / 32 * 33], high[BINS / 32 * 33]; };

DEVICE u32 place_of_bin(u32 bin) { return bin + bin / 32; }

// What a cut leaves of the tokens by rank: all before its last ones, and of those, up to `rank`, as many as needed. There are `ties` of
// them, which weigh `weight`: either all are needed, or they are equals.
struct Cut {
    u32 rank, before, ties;
    u64 weight_before, weight;
    bool found;
};

// The cut after which tokens are as many as `count`, or where that is 0, weigh at least `weight`: by a block, in passes that each find
// one of 1024 bins of the ranks left. `each(end, visit)` visits tokens with their logits, all those of ranks below `end` among them;
// `near` is an end below which the cut is likely to lie. Shared memory: `bins` and `cut`.
template <typename Each>
DEVICE Cut cut_at(Histogram& bins, Cut& cut, float max, u32 count, double weight, u32 near, Each each) {
    u64 start = rank_of(max), end = near;
    u32 before = 0;
    u64 weight_before = 0;
    while (true) {
        u32 shift = 0;
        while ((end - start - 1) >> shift >= BINS) ++shift;
        for (u32 i = threadIdx.x; i < BINS / 32 * 33; i += blockDim.x) bins.count[i] = bins.low[i] = bins.high[i] = 0;
        __syncthreads();
        each(end, [&](u32, float l) {
            u32 rank = rank_of(l);
            if (rank < start || rank >= end) return;
            u32 bin = place_of_bin((u32)((rank - start) >> shift));
            u64 w = weight_of(l, max);
            atomicAdd(&bins.count[bin], 1u);
            if (w == 0) return;
            u32 low = (u32)w, high = (u32)(w >> 32), carry = atomicAdd(&bins.low[bin], low) + low < low;
            if (high + carry) atomicAdd(&bins.high[bin], high + carry);
        });
        __syncthreads();
        if (threadIdx.x < 32) {
            u32 first = threadIdx.x * 33, own = 0, ahead = 0;
            u64 own_weight = 0, weight_ahead = 0;
            auto in = [&](u32 bin) { return (u64)bins.high[bin] << 32 | bins.low[bin]; };
            auto reached = [&](u32 n, u64 w) { return count ? n >= count : n > 0 && (double)w >= weight; };
            for (u32 bin = first; bin < first + 32; ++bin) {
                own += bins.count[bin];
                own_weight += in(bin);
            }
#pragma unroll 1
            for (u32 other = 0; other < 32; ++other) {
                u32 n = __shfl_sync(ALL, own, other);
                u64 w = __shfl_sync(ALL, own_weight, other);
                if (other < threadIdx.x) ahead += n, weight_ahead += w;
            }
            ahead += before, weight_ahead += weight_before;
            u32 lanes = __ballot_sync(ALL, reached(ahead + own, weight_ahead + own_weight));
            if (lanes && threadIdx.x == lowest_bit(lanes)) {
                u32 bin = first;
                while (!reached(ahead + bins.count[bin], weight_ahead + in(bin))) {
                    ahead += bins.count[bin], weight_ahead += in(bin);
                    ++bin;
                }
                cut = {bin - first + threadIdx.x * 32, ahead, bins.count[bin], weight_ahead, in(bin), true};
            }
            if (!lanes && threadIdx.x == 0) cut.found = false;
        }
        __syncthreads();
        Cut found = cut;
        __syncthreads();
        if (!found.found) {
            if (end > 0xffffffffu) return found;
            end = 1ull << 32;
            continue;
        }
        before = found.before, weight_before = found.weight_before;
        start += (u64)found.rank << shift;
        u64 next = start + (1ull << shift);
        end = next < end ? next : end;
        if (shift == 0 || found.ties == 1 || (count && before + found.ties == count)) {
            found.rank = (u32)(end - 1);
            return found;
        }
    }
}

// Of a cut by weight: how many of its last tokens reach the target.
DEVICE u32 ties_that_reach(const Cut& cut, double target, float max) {
    if (cut.ties == 1) return 1;
    u64 each = weight_of(logit_of(cut.rank), max);
    u32 n = 1;
    for (u32 most = cut.ties; n < most;) {
        u32 middle = n + (most - n) / 2;
        if ((double)(cut.weight_before + middle * each) >= target) most = middle;
        else n = middle + 1;
    }
    return n;
}

// The number of the `n`th token, from 1, at `rank`: by a block, each thread looks at a run of neighbours. `counts` is shared, one a
// thread. There are at least `n`.
template <typename Logit>
DEVICE u32 token_at(u32* counts, u32 vocab, u32 rank, u32 n, Logit logit) {
    u32 run = (vocab + blockDim.x - 1) / blockDim.x, first = threadIdx.x * run, end = first + run;
    end = end < vocab ? end : vocab;
    u32 own = 0, before = 0;
    for (u32 v = first; v < end; ++v) own += rank_of(logit(v)) == rank;
    counts[threadIdx.x] = own;
    __syncthreads();
    for (u32 t = 0; t < threadIdx.x; ++t) before += counts[t];
    __syncthreads();
    if (before < n && n <= before + own) {
        for (u32 v = first; v < end; ++v) {
            if (rank_of(logit(v)) == rank && ++before == n) {
                counts[0] = v;
                break;
            }
        }
    }
    __syncthreads();
    u32 token = counts[0];
    __syncthreads();
    return token;
}
