// Products of whole matrices, in three layouts:
//
//   forward          y  [n, out]   = x  [n, in]   w [out, in]ᵀ   both along k
//   backward_input   dx [n, in]    = dy [n, out]  w [out, in]    w by rows of k
//   backward_weight  dw [out, in] += dy [n, out]ᵀ x [n, in]      both by rows of k; k is the rows, in chunks
//
// Each in the shapes that the host chooses from, and one for rows that do not begin at multiples of 16 bytes.

template <int M, int N, int K, int STAGES, int WARPS_M, int WARPS_N>
DEVICE void forward(const Product& p) { product<Tile<Shape<M, N, K, STAGES, WARPS_M, WARPS_N>, true, true>>(p); }

template <int M, int N, int K, int STAGES, int WARPS_M, int WARPS_N>
DEVICE void backward_input(const Product& p) { product<Tile<Shape<M, N, K, STAGES, WARPS_M, WARPS_N>, true, false>>(p); }

template <int M, int N, int K, int STAGES, int WARPS_M, int WARPS_N>
DEVICE void backward_weight(const Product& p) { product<Tile<Shape<M, N, K, STAGES, WARPS_M, WARPS_N>, false, false>>(p); }

KERNEL(forward_elements, Product, 128) { forward<64, 64, 32, 1, 2, 2>(p); }
KERNEL(forward_16x16x128, Product, 32) { forward<16, 16, 128, 6, 1, 1>(p); }
KERNEL(forward_16x32x128, Product, 64) { forward<16, 32, 128, 5, 1, 2>(p); }
KERNEL(forward_16x64x128, Product, 128) { forward<16, 64, 128, 4, 1, 4>(p); }
KERNEL(forward_32x32x128, Product, 128) { forward<32, 32, 128, 5, 2, 2>(p); }
KERNEL(forward_64x32x64, Product, 128) { forward<64, 32, 64, 6, 4, 1>(p); }
KERNEL(forward_64x64x64, Product, 128) { forward<64, 64, 64, 4, 2, 2>(p); }
KERNEL(forward_64x128x64, Product, 128) { forward<64, 128, 64, 4, 2, 2>(p); }
KERNEL(forward_128x128x32, Product, 128) { forward<128, 128, 32, 4, 2, 2>(p); }
KERNEL(forward_128x128x64, Product, 128) { forward<128, 128, 64, 3, 2, 2>(p); }
KERNEL(forward_128x256x32, Product, 256) { forward<128, 256, 32, 4, 2, 4>(p); }
KERNEL(forward_128x256x64, Product, 256) { forward<128, 256, 64, 3, 2, 4>(p); }
KERNEL(forward_256x128x32, Product, 256) { forward<256, 128, 32, 4, 4, 2>(p); }

KERNEL(backward_input_elements, Product, 128) { backward_input<64, 64, 32, 1, 2, 2>(p); }
KERNEL(backward_input_64x64x64, Product, 128) { backward_input<64, 64, 64, 4, 2, 2>(p); }
KERNEL(backward_input_64x128x64, Product, 128) { backward_input<64, 128, 64, 4, 2, 2>(p); }
KERNEL(backward_input_128x128x32, Product, 128) { backward_input<128, 128, 32, 4, 2, 2>(p); }
KERNEL(backward_input_128x128x64, Product, 128) { backward_input<128, 128, 64, 3, 2, 2>(p); }
KERNEL(backward_input_128x256x32, Product, 256) { backward_input<128, 256, 32, 4, 2, 4>(p); }
KERNEL(backward_input_128x256x64, Product, 256) { backward_input<128, 256, 64, 3, 2, 4>(p); }
KERNEL(backward_input_256x128x32, Product, 256) { backward_input<256, 128, 32, 4, 4, 2>(p); }

KERNEL(backward_weight_elements, Product, 128) { backward_weight<64, 64, 32, 1, 2, 2>(p); }
KERNEL(backward_weight_64x64x64, Product, 128) { backward_weight<64, 64, 64, 4, 2, 2>(p); }
KERNEL(backward_weight_64x128x64, Product, 128) { backward_weight<64, 128, 64, 4, 2, 2>(p); }
KERNEL(backward_weight_128x128x32, Product, 128) { backward_weight<128, 128, 32, 4, 2, 2>(p); }
KERNEL(backward_weight_128x128x64, Product, 128) { backward_weight<128, 128, 64, 3, 2, 2>(p); }
KERNEL(backward_weight_128x256x32, Product, 256) { backward_weight<128, 256, 32, 4, 2, 4>(p); }
KERNEL(backward_weight_128x256x64, Product, 256) { backward_weight<128, 256, 64, 3, 2, 4>(p); }
KERNEL(backward_weight_256x128x32, Product, 256) { backward_weight<256, 128, 32, 4, 4, 2>(p); }

// c[i] = c[i] + parts[0][i] + parts[1][i] + ..., one after the other. Bound by memory: 4 (count + 2) bytes an element.
struct AddParts { float* c; const float* parts; u64 n; u32 count, unused; };

KERNEL(add_parts, AddParts, 256) {
    u64 i = (u64)blockIdx.x * 256 + threadIdx.x;
    if (i >= p.n) return;
    float sum = p.c[i];
    for (u32 part = 0; part < p.count; part++) sum = __fadd_rn(sum, p.parts[part * p.n + i]);
    p.c[i] = sum;
}

// y = x, rounded to nearest even; 8 elements a thread. Bound by memory: 6 bytes an element.
struct PackValues { u16* y; const float* x; u64 n; };

KERNEL(pack_values, PackValues, 256) {
    u64 i = ((u64)blockIdx.x * 256 + threadIdx.x) * 8;
    if (i + 8 <= p.n) {
        struct alignas(16) Four { float x[4]; };
        Four low = *(const Four*)(p.x + i), high = *(const Four*)(p.x + i + 4);
        *(Chunk*)(p.y + i) = Chunk{{pack_bf16(low.x[0], low.x[1]), pack_bf16(low.x[2], low.x[3]),
                                    pack_bf16(high.x[0], high.x[1]), pack_bf16(high.x[2], high.x[3])}};
    } else {
#pragma unroll 1
        for (; i < p.n; i++) p.y[i] = to_bf16(p.x[i]);
    }
}
