// Columns of heads: y[n, h, :] = x[n, h, :], or += in the order of h, for the `width` columns that `to` and `from` give head h.
//
// Threads own columns of y: those that several heads go to are summed by one. Bound by memory: 8 bytes an element copied, 12 added.

struct CopyColumns {
    float* y; const float* x;
    u64 n; u32 y_features, to, to_stride, x_features, from, from_stride, heads, width, add, shift, wide, unused;
};

template <int W>
DEVICE void copy_row(const CopyColumns& p, Place at) {
    float* y = p.y + at.row * p.y_features + p.to;
    const float* x = p.x + at.row * p.x_features + p.from;
    u32 span = (p.heads - 1) * p.to_stride + p.width;
    for (u32 c = at.lane * W; c < span; c += at.lanes * W) {
        // The heads that column c of them belongs to: h · stride <= c < h · stride + width.
        u32 first = 0, last = p.heads - 1;
        if (p.to_stride) {
            first = c < p.width ? 0 : (c - p.width) / p.to_stride + 1;
            last = c / p.to_stride < last ? c / p.to_stride : last;
        }
        if (first > last) continue;
        Floats<W> sum = p.add ? load<W>(y + c) : zeros<W>();
        for (u32 h = p.add ? first : last; h <= last; h++) {
            Floats<W> term = load<W>(x + h * p.from_stride + (c - h * p.to_stride));
            for (int k = 0; k < W; k++) sum[k] = p.add ? sum[k] + term[k] : term[k];
        }
        store(y + c, sum);
    }
}

KERNEL(copy_columns, CopyColumns, 256) {
    Place at = place_of(p.shift);
    if (at.row >= p.n) return;
    if (p.wide) copy_row<4>(p, at);
    else copy_row<1>(p, at);
}
