// Rows taken and put by their numbers. Bound by memory: each element is read once and written once.

// `units` of `unit` bytes a row: 16, or an element where rows are no multiple of that.
struct GatherRows { u8* y; const u8* x; const u32* rows; u64 n; u32 units, unit, shift, unused; };
struct StoreKeys { u16* y; const float* x; const u32* rows; u64 n; u32 features, shift, wide, unused; };
struct AddRows { float* y; const float* x; const u32* order; const u32* starts; const u32* ids; u64 n; u32 features, wide; };

template <typename T>
DEVICE void gather_row(const GatherRows& p, Place at) {
    u32 from = p.rows[at.row];
    T* y = (T*)p.y + at.row * p.units;
    const T* x = (const T*)p.x + (u64)from * p.units;
    for (u32 j = at.lane; j < p.units; j += 4 * at.lanes) {
        T parts[4] = {};
        if (from != ~0u) {
            for (int k = 0; k < 4; k++)
                if (j + k * at.lanes < p.units) parts[k] = x[j + k * at.lanes];
        }
        for (int k = 0; k < 4; k++)
            if (j + k * at.lanes < p.units) y[j + k * at.lanes] = parts[k];
    }
}

// y[i, :] = x[rows[i], :], or zeros where rows[i] is the greatest u32.
KERNEL(gather_rows, GatherRows, 256) {
    Place at = place_of(p.shift);
    if (at.row >= p.n) return;
    if (p.unit == 16) gather_row<Words4>(p, at);
    else if (p.unit == 4) gather_row<u32>(p, at);
    else gather_row<u16>(p, at);
}

template <int W>
DEVICE void store_key(const StoreKeys& p, Place at) {
    u16* y = p.y + (p.rows ? p.rows[at.row] : at.row) * p.features;
    const float* x = p.x + at.row * p.features;
    for (u32 j = at.lane * W; j < p.features; j += at.lanes * W) store(y + j, load<W>(x + j));
}

// y[rows[n], :] = x[n, :], rounded, or y[n, :] without rows.
KERNEL(store_keys, StoreKeys, 256) {
    Place at = place_of(p.shift);
    if (at.row >= p.n) return;
    if (p.wide) store_key<4>(p, at);
    else store_key<1>(p, at);
}

template <int W>
DEVICE void add_rows_of(const AddRows& p) {
    u32 j = (blockIdx.y * blockDim.x + threadIdx.x) * W, i = p.starts[blockIdx.x], end = p.starts[blockIdx.x + 1];
    if (j >= p.features) return;
    float* y = p.y + (u64)p.ids[blockIdx.x] * p.features + j;
    const float* x = p.x + j;
    Floats<W> sum = load<W>(y);
    for (; i + 16 <= end; i += 16) {
        Floats<W> terms[16];
        for (int r = 0; r < 16; r++) terms[r] = load<W>(x + (u64)p.order[i + r] * p.features);
        for (int r = 0; r < 16; r++)
            for (int k = 0; k < W; k++) sum[k] += terms[r][k];
    }
    for (; i < end; i++) {
        Floats<W> term = load<W>(x + (u64)p.order[i] * p.features);
        for (int k = 0; k < W; k++) sum[k] += term[k];
    }
    store(y, sum);
}

// y[id, :] += x[n, :] for the rows n of that id, in their order: a block for each of the distinct ids, whose rows are
// order[starts[i]..starts[i + 1]].
KERNEL(add_rows, AddRows, 128) {
    if (p.wide) add_rows_of<4>(p);
    else add_rows_of<1>(p);
}
