// The output head fused with its products: logits are taken from the tensor cores' sums, and never stored.
//
// Bound by the tensor cores. The fused part takes some ten instructions a logit; stored logits would be written and read, 8 bytes each:
// at 576 features as long as the product itself takes, at 1,024 half as long.

struct HeadProduct {
    const u16 *x, *w;                                 // [m, k], [n, k]
    Partial* strips;                                  // [m, strips]
    float* of_targets;                                // [m], as are the next three
    const u32* targets;
    const float *d_log_probs, *log_sum_exp;
    u16* dl;                                          // [m, n]
    u32 m, n, k, strips_of_row, first, group;
    float inverse_temperature;
    u32 unused;
};

// Takes a tile's logits, which begins at row m and column n: a partial for each strip, and the targets' logits.
struct ToStrips {
    const HeadProduct& p;
    u32 m, n;

    template <class T>
    MEMBER void take(T& tile) {
        static_assert(T::PAIRS % 4 == 0, "a warp has whole strips");
        u32 lane = threadIdx.x % 32, row = m + tile.warp_m + lane / 4, column = n + tile.warp_n;
#pragma unroll
        for (u32 i = 0; i < 2 * T::ROWS; i++, row += 8) {
            bool is_row = row < p.m;
            u32 target = is_row ? p.targets[row] : 0xffffffffu;
#pragma unroll
            for (u32 s = 0; s < T::PAIRS / 4; s++) {
                u32 first = column + s * STRIP;
                float l[16];
#pragma unroll
                for (u32 j = 0; j < 16; j++) {
                    float sum = tile.sums[i / 2][8 * s + j / 2][2 * (i % 2) + j % 2];
                    l[j] = first + strip_place(j) < p.n ? sum * p.inverse_temperature : NOTHING;
                }
                Partial partial = strip_partial(l);
                if (is_row && first < p.n) {
                    if (lane % 4 == 0) p.strips[(u64)row * p.strips_of_row + first / STRIP] = partial;
                    if (target - first < STRIP) {
#pragma unroll
                        for (u32 j = 0; j < 16; j++) if (target - first == strip_place(j)) p.of_targets[row] = l[j];
                    }
                }
            }
        }
    }
};

// Of four neighbouring lanes, lane t gets the word t of each.
DEVICE void transpose_four(u32 (&words)[4]) {
    bool odd = threadIdx.x & 1, upper = threadIdx.x & 2;
#pragma unroll
    for (u32 i = 0; i < 4; i += 2) {
        u32 other = __shfl_xor_sync(ALL, odd ? words[i] : words[i + 1], 1);
        (odd ? words[i] : words[i + 1]) = other;
    }
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        u32 other = __shfl_xor_sync(ALL, upper ? words[i] : words[i + 2], 2);
        (upper ? words[i] : words[i + 2]) = other;
    }
}

// Takes a tile's logits: their gradient, rounded. Four lanes have two tokens each of every eight; they trade them, so that each writes
// eight neighbours at once.
struct ToGradients {
    const HeadProduct& p;
    u32 m, n;

    template <class T>
    MEMBER void take(T& tile) {
        static_assert(T::PAIRS % 2 == 0, "four times eight tokens");
        u32 lane = threadIdx.x % 32, row = m + tile.warp_m + lane / 4, column = n + tile.warp_n + lane % 4 * 8;
#pragma unroll
        for (u32 i = 0; i < 2 * T::ROWS; i++, row += 8) {
            bool is_row = row < p.m;
            float d = is_row ? p.d_log_probs[row] * p.inverse_temperature : 0.0f, shift = is_row ? p.log_sum_exp[row] : 0.0f;
            // The target's place from the lane's first token on.
            u32 target = (is_row ? p.targets[row] : 0) - p.first - (n + tile.warp_n + lane % 4 * 2);
#pragma unroll
            for (u32 j = 0; j < 2 * T::PAIRS; j += 4) {
                u32 words[4];
#pragma unroll
                for (u32 g = 0; g < 4; g++) {
                    const float* sums = tile.sums[i / 2][j + g] + 2 * (i % 2);
                    float low = logit_gradient(sums[0] * p.inverse_temperature, shift, d, target == (j + g) * 8);
                    float high = logit_gradient(sums[1] * p.inverse_temperature, shift, d, target == (j + g) * 8 + 1);
                    words[g] = pack_bf16(low, high);
                }
                transpose_four(words);
                u32 at = column + j * 8;
                if (is_row && at < p.n) *(Chunk*)(p.dl + (u64)row * p.n + at) = Chunk{{words[0], words[1], words[2], words[3]}};
            }
        }
    }
};

template <class T, class To>
DEVICE void head_product(const HeadProduct& p) {
    u32 row, column;
    place_of_tile(blockIdx.x, (p.m + T::M - 1) / T::M, (p.n + T::N - 1) / T::N, p.group, row, column);
    u32 m = row * T::M, n = column * T::N;
    typename T::A a(p.x + (u64)m * p.k, p.k, p.m - m);
    typename T::B b(p.w + (u64)n * p.k, p.k, p.n - n);
    To to{p, m, n};
    T tile;
    tile.template run<false>(a, b, p.k, p.k, to);
}

// The same on Hopper, with operands that the copy engine brings: `product` says which.
struct HopperHead { Hopper product; HeadProduct head; u32 unused[8]; };

#if KOAN_SM == 90 || defined(KOAN_EMULATE)
template <class To>
DEVICE void staged_head(const HopperHead& p) {
    Staged<128, 128, 3, true, true> tile(p.product);
    tile.run(p.product, [&](const Piece& at, auto& tile) {
        To to{p.head, at.m, at.n};
        to.take(tile);
    });
}
#else
template <class To>
DEVICE void staged_head(const HopperHead&) {}
#endif

KERNEL(staged_strips_128x128, HopperHead, 256, 2) { staged_head<ToStrips>(p); }
KERNEL(staged_gradients_128x128, HopperHead, 256, 2) { staged_head<ToGradients>(p); }
KERNEL(strips_128x128x64, HeadProduct, 128, 2) { head_product<Tile<Shape<128, 128, 64, 3, 2, 2>, true, true>, ToStrips>(p); }
KERNEL(gradients_128x128x64, HeadProduct, 128, 2) { head_product<Tile<Shape<128, 128, 64, 3, 2, 2>, true, true>, ToGradients>(p); }
