// Products of experts, in the layouts of product.h: copies of rows, sorted by expert, each by the matrix of its expert. A copy's chain is
// that of a plain product, so it depends on no other copy. The host knows how many copies there are, but not whose: it
// launches blocks enough for any split, and those beyond the last tile end at once.
//
// Bound: as plain products, where an expert has many copies; by the memory that the experts' matrices lie in, where it has few.

// C `[copies, n]` = A `[copies, k]` by B, a matrix for each expert; or `+=`. Copies of expert e are those from starts[e] to starts[e + 1].
struct Experts { const u16* a; const u16* b; float* c; const u32* starts; u32 experts, n, k, add, paired, unused; };

template <class S, bool B_ALONG_K>
DEVICE void experts(const Experts& p) {
    typedef Tile<S, true, B_ALONG_K> T;
    u32 columns = (p.n + S::N - 1) / S::N, n = blockIdx.x % columns * S::N, expert, m, end;
    // The whole block ends.
    if (!find_tile(p.starts, p.experts, S::M, blockIdx.x / columns, expert, m, end)) return;
    u64 stride = B_ALONG_K ? p.k : p.n;
    const u16* w = p.b + expert * ((u64)p.n * p.k);
    typename T::A a(p.a + m * (u64)p.k, p.k, end - m);
    typename T::B b(w + (B_ALONG_K ? n * stride : n), stride, p.n - n);
    Target c{p.c + m * (u64)p.n + n, p.n, end - m, p.n - n, p.add != 0, p.paired != 0};
    T tile;
    tile.template run<false>(a, b, p.k, 0, c);
}

template <int M, int N, int K, int STAGES, int WARPS_M, int WARPS_N>
DEVICE void experts_forward(const Experts& p) { experts<Shape<M, N, K, STAGES, WARPS_M, WARPS_N>, true>(p); }

template <int M, int N, int K, int STAGES, int WARPS_M, int WARPS_N>
DEVICE void experts_backward_input(const Experts& p) { experts<Shape<M, N, K, STAGES, WARPS_M, WARPS_N>, false>(p); }

// C `[experts, m, n]` += AᵀB for each expert, A `[copies, m]`, B `[copies, n]`, in chunks of `chunk` copies from its first. Row y of the grid
// is expert y.
struct ExpertsWeight { const u16* a; const u16* b; float* c; const u32* starts; u32 m, n, chunk, paired; };

template <int M, int N, int K, int STAGES, int WARPS_M, int WARPS_N>
DEVICE void experts_backward_weight(const ExpertsWeight& p) {
    typedef Shape<M, N, K, STAGES, WARPS_M, WARPS_N> S;
    typedef Tile<S, false, false> T;
    u32 columns = (p.n + N - 1) / N, m = blockIdx.x / columns * M, n = blockIdx.x % columns * N;
    u32 first = p.starts[blockIdx.y], k = p.starts[blockIdx.y + 1] - first;
    // The whole block ends.
    if (k == 0) return;
    typename T::A a(p.a + first * (u64)p.m + m, p.m, p.m - m);
    typename T::B b(p.b + first * (u64)p.n + n, p.n, p.n - n);
    Target c{p.c + (blockIdx.y * (u64)p.m + m) * p.n + n, p.n, p.m - m, p.n - n, true, p.paired != 0};
    T tile;
    tile.template run<true>(a, b, k, p.chunk, c);
}

KERNEL(experts_forward_elements, Experts, 128) { experts_forward<64, 64, 32, 1, 2, 2>(p); }
KERNEL(experts_forward_16x64x128, Experts, 128) { experts_forward<16, 64, 128, 4, 1, 4>(p); }
KERNEL(experts_forward_64x64x64, Experts, 128) { experts_forward<64, 64, 64, 4, 2, 2>(p); }
KERNEL(experts_forward_128x128x64, Experts, 128) { experts_forward<128, 128, 64, 3, 2, 2>(p); }

KERNEL(experts_backward_input_elements, Experts, 128) { experts_backward_input<64, 64, 32, 1, 2, 2>(p); }
KERNEL(experts_backward_input_64x64x64, Experts, 128) { experts_backward_input<64, 64, 64, 4, 2, 2>(p); }
KERNEL(experts_backward_input_128x128x64, Experts, 128) { experts_backward_input<128, 128, 64, 3, 2, 2>(p); }

KERNEL(experts_backward_weight_elements, ExpertsWeight, 128) { experts_backward_weight<64, 64, 32, 1, 2, 2>(p); }
KERNEL(experts_backward_weight_64x64x64, ExpertsWeight, 128) { experts_backward_weight<64, 64, 64, 4, 2, 2>(p); }
KERNEL(experts_backward_weight_128x128x64, ExpertsWeight, 128) { experts_backward_weight<128, 128, 64, 3, 2, 2>(p); }
