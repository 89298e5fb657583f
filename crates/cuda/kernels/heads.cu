// What attention reads of queries, keys and values, and the gradients of their products: the norm of each head (if the family has one),
// rotary positions, rounding and storing, in one pass over memory. The sums over a head are those of rms_norm, and every element is
// computed as by the operations one after another: to the same bits. Heads and their packs are fewer than 2³²: a division of 64 bits
// would take longer than their bytes.
//
// Bound by memory: forward 8 bytes an element of queries, 6 of keys and values; backward 10 with norms, 6 without, and 4 more where
// values are kept.

struct Heads {
    float* q; u16* keys; u16* values; const float* of_q; const float* of_k; const float* v;
    float* q_rstd; float* k_rstd; const float* q_w; const float* k_w;
    const float* cos; const float* sin; const u32* positions; const u32* rows;
    u64 n; u32 query, key_value, features, shift; float eps; u32 wide;
};
// The gradient of heads that were turned, its values and its rounded form; whether the values are written.
struct Turned {
    float* dy; u16* rounded; const float* cos; const float* sin; const u32* positions;
    u64 n; u32 heads, features, wide, keep;
};
struct HeadsBackward { NormBackward norm; Turned of; };

// The features of a head: of x, or of w · x · rstd.
struct Head {
    const float* x;
    const float* w;
    float rstd;
    template <int W>
    MEMBER void get(u32 j, Floats<W>& y) const {
        y = load<W>(x + j);
        if (!w) return;
        Floats<W> scale = load<W>(w + j);
        for (int k = 0; k < W; k++) y[k] = scale[k] * (y[k] * rstd);
    }
};

// The angles of a position.
struct Angles {
    const float* cos;
    const float* sin;
    u32 half;
    float sign;
};

// Feature i of the first half, or of the second, after its turn together with the other.
DEVICE float turn(float own, float other, float cos, float sin, bool first) {
    float term = other * sin;
    return __fmaf_rn(own, cos, first ? -term : term);
}

// Features j, j + 1, ... of a head after their turn; `own` are they before it.
template <int W>
DEVICE Floats<W> turned(const Head& head, const Floats<W>& own, u32 j, const Angles& angles) {
    u32 half = angles.half;
    Floats<W> y;
    if (W == 1 || half % W == 0) {
        bool first = j < half;
        u32 i = first ? j : j - half;
        Floats<W> other, cos = load<W>(angles.cos + i), sin = load<W>(angles.sin + i);
        head.get(first ? j + half : i, other);
        for (int k = 0; k < W; k++) y[k] = turn(own[k], other[k], cos[k], sin[k] * angles.sign, first);
    } else {
        for (int k = 0; k < W; k++) {
            bool first = j + k < half;
            u32 i = first ? j + k : j + k - half;
            Floats<1> other;
            head.get(first ? j + k + half : i, other);
            y[k] = turn(own[k], other[0], angles.cos[i], angles.sin[i] * angles.sign, first);
        }
    }
    return y;
}

// A head of queries, of keys or of values for each 2^shift threads of a warp, W features a thread HELD times. All is read before
// anything is written: queries may be turned in place.
template <int W, int HELD>
DEVICE void heads_forward(const Heads& p) {
    Place at = place_of(p.shift);
    u32 per_row = p.query + 2 * p.key_value, step = at.lanes * W, features = at.row < p.n ? p.features : 0;
    u32 unit = features ? (u32)at.row : 0, row = unit / per_row, head = unit - row * per_row;
    bool of_query = head < p.query, of_value = head >= p.query + p.key_value;
    u32 heads = of_query ? p.query : p.key_value;
    head -= of_query ? 0 : of_value ? p.query + p.key_value : p.query;
    u64 start = ((u64)row * heads + head) * p.features;
    Head x = {(of_query ? p.of_q : of_value ? p.v : p.of_k) + start, 0, 1.0f};
    Floats<W> held[HELD];
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        u32 j = at.lane * W + i * step;
        held[i] = zeros<W>();
        if (j < features) x.get(j, held[i]);
    }
    if (p.q_w) {
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < HELD; i++)
            for (int k = 0; k < W; k++) sum = __fmaf_rn(held[i][k], held[i][k], sum);
        sum = sum_of_row(sum, at.lanes, (float*)shared_memory());
        if (!of_value) {
            x.rstd = 1.0f / sqrtf(sum / (float)p.features + p.eps);
            x.w = of_query ? p.q_w : p.k_w;
            if (features && at.lane == 0) (of_query ? p.q_rstd : p.k_rstd)[(u64)row * heads + head] = x.rstd;
        }
    }
    if (!of_value) {
        u32 half = p.features / 2;
        u64 angle = features ? (u64)p.positions[row] * half : 0;
        Angles angles = {p.cos + angle, p.sin + angle, half, 1.0f};
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            u32 j = at.lane * W + i * step;
            if (j >= features) continue;
            if (x.w) {
                Floats<W> w = load<W>(x.w + j);
                for (int k = 0; k < W; k++) held[i][k] = w[k] * (held[i][k] * x.rstd);
            }
            held[i] = turned(x, held[i], j, angles);
        }
    }
    __syncwarp();
    u64 stored = features && p.rows ? p.rows[row] : row;
    u16* rounded = (of_value ? p.values : p.keys) + (stored * heads + head) * p.features;
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        u32 j = at.lane * W + i * step;
        if (j >= features) continue;
        if (of_query) store(p.q + start + j, held[i]);
        else store(rounded + j, held[i]);
    }
}

DEVICE Angles back(const Turned& p, u64 head) {
    u64 angle = (u64)p.positions[(u32)head / p.heads] * (p.features / 2);
    return {p.cos + angle, p.sin + angle, p.features / 2, -1.0f};
}

// dy is turned back as it is read; dx adds to nothing, and is rounded.
struct TurnedBack {
    const Turned& p;
    template <int W>
    MEMBER void read(u64 head, u32 j, Floats<W>& dy, Floats<W>& dx) const {
        Head of = {p.dy + head * p.features, 0, 1.0f};
        of.get(j, dy);
        dy = turned(of, dy, j, back(p, head));
        dx = zeros<W>();
    }
    template <int W>
    MEMBER void write(u64 head, u32 j, const Floats<W>& dx) const {
        u64 i = head * p.features + j;
        if (p.keep) store(p.dy + i, dx);
        store(p.rounded + i, dx);
    }
};

// Turns both W features of the first half and those of the second: a thread reads all that it writes.
template <int W>
DEVICE void turn_back(const Turned& p, u64 head, u32 i) {
    Head of = {p.dy + head * p.features, 0, 1.0f};
    Angles angles = back(p, head);
    u64 start = head * p.features;
    Floats<W> a, b;
    of.get(i, a);
    of.get(i + angles.half, b);
    Floats<W> first = turned(of, a, i, angles), second = turned(of, b, i + angles.half, angles);
    if (p.keep) {
        store(p.dy + start + i, first);
        store(p.dy + start + i + angles.half, second);
    }
    store(p.rounded + start + i, first);
    store(p.rounded + start + i + angles.half, second);
}

KERNEL(heads_forward_narrow, Heads, 256) {
    if (p.wide) heads_forward<4, 1>(p);
    else heads_forward<1, 1>(p);
}

KERNEL(heads_forward_any, Heads, 256) {
    if (p.wide) heads_forward<4, 4>(p);
    else heads_forward<1, 4>(p);
}

KERNEL(heads_backward_narrow, HeadsBackward, 256) {
    if (p.norm.wide) norm_backward<4, 1>(p.norm, TurnedBack{p.of});
    else norm_backward<1, 1>(p.norm, TurnedBack{p.of});
}

KERNEL(heads_backward_any, HeadsBackward, 256) {
    if (p.norm.wide) norm_backward<4, 4>(p.norm, TurnedBack{p.of});
    else norm_backward<1, 4>(p.norm, TurnedBack{p.of});
}

// Heads without a norm.
KERNEL(heads_turned_back, Turned, 256) {
    u32 pairs = p.wide ? 4 : 1, per_head = p.features / 2 / pairs;
    u32 item = blockIdx.x * 256 + threadIdx.x, head = item / per_head, i = (item - head * per_head) * pairs;
    if (head >= p.n) return;
    if (p.wide) turn_back<4>(p, head, i);
    else turn_back<1>(p, head, i);
}
