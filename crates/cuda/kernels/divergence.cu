// Divergences of a student's distributions q from a teacher's p, and their gradients by the student's logits.
//
// Bound by memory: three passes over a row of each, 30 bytes a token with the gradient and its rounded form; two, 22 bytes, for the
// forward divergence, whose sum of slopes is known beforehand. By the teacher's likeliest tokens, 4 bytes for each pass that finds them.

struct Diverge {
    float* d;             // [n]
    float* student;       // [n, own]: logits, then gradients
    u16* rounded;         // [n, own]
    const float* teacher; // [n, other]
    u32 own, other, top, form, renormalised;
    float inverse_temperature, beta, weight;
};

#define FORWARD 0u
#define REVERSE 1u
#define JENSEN_SHANNON 2u

DEVICE float exp_of(float x) { return expf(x); }
DEVICE double exp_of(double x) { return exp(x); }
DEVICE float log_of(float x) { return logf(x); }
DEVICE double log_of(double x) { return log(x); }

// What a class of tokens contributes: to the divergence, and its derivative by ln q.
template <typename F>
struct Share { F value, slope; };

template <typename F>
DEVICE Share<F> share_of(u32 form, F beta, F ln_p, F ln_q) {
    // What has no probability contributes nothing, whatever its logarithm is compared with.
    auto times = [](F probability, F by) { return probability == F(0) ? F(0) : probability * by; };
    F p = exp_of(ln_p), q = exp_of(ln_q), ratio = ln_p - ln_q;
    if (form == FORWARD) return {times(p, ratio), -p};
    if (form == REVERSE) {
        F value = times(q, -ratio);
        return {value, value + q};
    }
    // ln m/q = ln(b p/q + 1 - b), with the larger of 1 and p/q taken out.
    F larger = ratio > F(0) ? ratio : F(0);
    F ln_m = larger + log_of(beta * exp_of(ratio - larger) + (F(1) - beta) * exp_of(-larger));
    F slope = (F(1) - beta) * times(q, -ln_m);
    return {beta * times(p, ratio - ln_m) + slope, slope};
}

// ln of a sum of exponentials as it grows: the greatest, and the sum of exp(l - max).
struct LogSum { float max, sum; };

DEVICE void add(LogSum& to, float l) {
    float larger = fmaxf(to.max, l);
    to.sum = to.sum * exp_fast(to.max - larger) + exp_fast(l - larger);
    to.max = larger;
}

// Of all threads of a block, in pairs of a warp's lanes, then warp by warp: all get the same bits. `memory` is shared, one a warp.
DEVICE double block_sum(double x, double* memory) {
    x = warp_sum(x);
    if (threadIdx.x % 32 == 0) memory[threadIdx.x / 32] = x;
    __syncthreads();
    double sum = 0.0;
    for (u32 w = 0; w < blockDim.x / 32; ++w) sum += memory[w];
    __syncthreads();
    return sum;
}

DEVICE float block_max(float x, double* memory) {
    x = warp_max(x);
    if (threadIdx.x % 32 == 0) memory[threadIdx.x / 32] = (double)x;
    __syncthreads();
    float max = NOTHING;
    for (u32 w = 0; w < blockDim.x / 32; ++w) max = fmaxf(max, (float)memory[w]);
    __syncthreads();
    return max;
}

// ln of the sum over all threads of a block, -infinity of none.
DEVICE double block_log_sum(LogSum of, double* memory) {
    float max = block_max(of.max, memory);
    double sum = block_sum((double)of.sum * (double)exp_fast(of.max - max), memory);
    return sum == 0.0 ? -(double)INFINITY : (double)max + log(sum);
}

DEVICE double log_add(double a, double b) {
    double larger = a > b ? a : b, smaller = a > b ? b : a;
    return smaller == -(double)INFINITY ? larger : larger + log1p(exp(smaller - larger));
}

// A block for each row. Tokens that count one by one are the `top` likeliest of the teacher, all others are one class.
KERNEL(diverge, Diverge, 512) {
    Histogram& bins = *(Histogram*)shared_memory();
    Cut& shared = *(Cut*)(shared_memory() + sizeof(Histogram));
    double* sums = (double*)(shared_memory() + sizeof(Histogram) + 64);
    u32* counts = (u32*)(shared_memory() + sizeof(Histogram) + 64 + 16 * sizeof(double));

    float* student = p.student + (u64)blockIdx.x * p.own;
    u16* rounded = p.rounded + (u64)blockIdx.x * p.own;
    const float* teacher = p.teacher + (u64)blockIdx.x * p.other;
    u32 vocab = p.own < p.other ? p.own : p.other;
    auto put = [&](u32 v, float gradient) {
        student[v] = gradient;
        rounded[v] = to_bf16(gradient);
    };

    // Ranks before `rank` count one by one, and at it tokens up to `last`.
    u64 rank = 1ull << 32;
    u32 last = 0xffffffffu;
    bool whole = p.top >= vocab;
    if (!whole) {
        float max = NOTHING;
        for (u32 v = threadIdx.x; v < vocab; v += 512) max = fmaxf(max, teacher[v]);
        max = block_max(max, sums);
        auto each = [&](u64, auto visit) {
            for (u32 v = threadIdx.x; v < vocab; v += 512) visit(v, teacher[v]);
        };
        Cut cut = cut_at(bins, shared, max, p.top, 0.0, rank_of(max - 8.0f), each);
        u32 ties = p.top - cut.before;
        rank = cut.rank;
        if (ties < cut.ties) last = token_at(counts, vocab, cut.rank, ties, [&](u32 v) { return teacher[v]; });
    }
    auto alone = [&](u32 v, float z) {
        u32 of_token = rank_of(z);
        return of_token < rank || (of_token == rank && v <= last);
    };

    LogSum own_p = {NOTHING, 0.0f}, own_q = own_p, rest_p = own_p, rest_q = own_p;
    for (u32 v = threadIdx.x; v < vocab; v += 512) {
        float z_p = teacher[v], l_p = z_p * p.inverse_temperature, l_q = student[v] * p.inverse_temperature;
        if (alone(v, z_p)) {
            add(own_p, l_p);
            add(own_q, l_q);
        } else {
            add(rest_p, l_p);
            add(rest_q, l_q);
        }
    }
    double ln_own_p = block_log_sum(own_p, sums), ln_own_q = block_log_sum(own_q, sums);
    double ln_rest_p = -(double)INFINITY, ln_rest_q = -(double)INFINITY;
    if (!whole) {
        ln_rest_p = block_log_sum(rest_p, sums);
        ln_rest_q = block_log_sum(rest_q, sums);
    }
    double total_p = p.renormalised ? ln_own_p : log_add(ln_own_p, ln_rest_p), total_q = log_add(ln_own_q, ln_rest_q);
    // Of the class of all others.
    Share<double> of_rest = {0.0, 0.0};
    double in_rest = 0.0;
    if (!whole) {
        double ln_p = p.renormalised ? -(double)INFINITY : ln_rest_p - total_p;
        of_rest = share_of<double>(p.form, (double)p.beta, ln_p, ln_rest_q - total_q);
        in_rest = exp(ln_rest_q - total_q);
    }

    // A logit's distance from the sum in two steps, the first of which is often exact.
    float near_p = (float)total_p, off_p = (float)(total_p - (double)near_p);
    float near_q = (float)total_q, off_q = (float)(total_q - (double)near_q);
    auto ln_p_of = [&](float z) { return z * p.inverse_temperature - near_p - off_p; };
    auto ln_q_of = [&](float z) { return z * p.inverse_temperature - near_q - off_q; };
    float near_rest = (float)ln_rest_q, off_rest = (float)(ln_rest_q - (double)near_rest);
    // Each token of the others has its part of what they have as a class.
    auto gradient_in_rest = [&](float z, float of_class) {
        return p.weight * exp_fast(z * p.inverse_temperature - near_rest - off_rest) * of_class;
    };

    // Of the forward divergence the slopes are -p, whose sum is -1.
    float of_class = (float)(of_rest.slope + in_rest), values = 0.0f, slopes = 0.0f;
    for (u32 v = threadIdx.x; v < vocab; v += 512) {
        float z_p = teacher[v], z_q = student[v];
        if (alone(v, z_p)) {
            float ln_q = ln_q_of(z_q);
            Share<float> share = share_of<float>(p.form, p.beta, ln_p_of(z_p), ln_q);
            values += share.value;
            slopes += share.slope;
            if (p.form == FORWARD) put(v, p.weight * (share.slope + exp_of(ln_q)));
        } else if (p.form == FORWARD) {
            put(v, gradient_in_rest(z_q, of_class));
        }
    }
    double value = block_sum((double)values, sums) + of_rest.value;
    if (threadIdx.x == 0) p.d[blockIdx.x] = (float)value;

    if (p.form != FORWARD) {
        double all = block_sum((double)slopes, sums) + of_rest.slope;
        float of_all = (float)all;
        of_class = (float)(of_rest.slope - in_rest * all);
        for (u32 v = threadIdx.x; v < vocab; v += 512) {
            float z_p = teacher[v], z_q = student[v];
            if (alone(v, z_p)) {
                float ln_q = ln_q_of(z_q);
                Share<float> share = share_of<float>(p.form, p.beta, ln_p_of(z_p), ln_q);
                put(v, p.weight * (share.slope - exp_of(ln_q) * of_all));
            } else {
                put(v, gradient_in_rest(z_q, of_class));
            }
        }
    }
    // Tokens that the teacher does not know.
    for (u32 v = vocab + threadIdx.x; v < p.own; v += 512) put(v, 0.0f);
}
