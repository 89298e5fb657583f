// Products of whole matrices: y [n, out] = x [n, in] w [out, in]ᵀ. Both operands lie along k.
//
// In the shapes that the host chooses from, and one for rows that do not begin at multiples of 16 bytes. Also what other products need.

template <int M, int N, int K, int STAGES, int WARPS_M, int WARPS_N>
DEVICE void forward(const Product& p) { product<Tile<Shape<M, N, K, STAGES, WARPS_M, WARPS_N>, true, true>>(p); }

KERNEL(forward_elements, Product, 128) { forward<64, 64, 32, 1, 2, 2>(p); }
KERNEL(forward_16x16x128, Product, 32) { forward<16, 16, 128, 6, 1, 1>(p); }
KERNEL(forward_16x32x128, Product, 64) { forward<16, 32, 128, 5, 1, 2>(p); }
KERNEL(forward_16x64x128, Product, 128) { forward<16, 64, 128, 4, 1, 4>(p); }
KERNEL(forward_32x32x128, Product, 128) { forward<32, 32, 128, 5, 2, 2>(p); }
KERNEL(forward_64x32x64, Product, 128) { forward<64, 32, 64, 6, 4, 1>(p); }
KERNEL(forward_64x64x64, Product, 128) { forward<64, 64, 64, 4, 2, 2>(p); }
KERNEL(forward_64x128x64, Product, 128) { forward<64, 128, 64, 4, 2, 2>(p); }
KERNEL(forward_128x128x64, Product, 128) { forward<128, 128, 64, 3, 2, 2>(p); }
KERNEL(forward_128x256x64, Product, 256) { forward<128, 256, 64, 3, 2, 4>(p); }

struct alignas(16) Four { float x[4]; };

// c[i] = c[i] + parts[0][i] + parts[1][i] + ..., one after the other. Bound by memory: 4 (count + 2) bytes an element. With n a multiple of 4 a
// thread has 4 elements, else one.
struct AddParts { float* c; const float* parts; u64 n; u32 count, fours; };

KERNEL(add_parts, AddParts, 256) {
    u64 i = (u64)blockIdx.x * 256 + threadIdx.x;
    if (p.fours) {
        if (4 * i >= p.n) return;
        Four sum = *(const Four*)(p.c + 4 * i);
        for (u32 part = 0; part < p.count; part++) {
            Four next = *(const Four*)(p.parts + part * p.n + 4 * i);
#pragma unroll
            for (u32 e = 0; e < 4; e++) sum.x[e] = __fadd_rn(sum.x[e], next.x[e]);
        }
        *(Four*)(p.c + 4 * i) = sum;
    } else {
        if (i >= p.n) return;
        float sum = p.c[i];
        for (u32 part = 0; part < p.count; part++) sum = __fadd_rn(sum, p.parts[part * p.n + i]);
        p.c[i] = sum;
    }
}

// y = x, rounded to nearest even; 8 elements a thread. Bound by memory: 6 bytes an element.
struct PackValues { u16* y; const float* x; u64 n; };

KERNEL(pack_values, PackValues, 256) {
    u64 i = ((u64)blockIdx.x * 256 + threadIdx.x) * 8;
    if (i + 8 <= p.n) {
        Four low = *(const Four*)(p.x + i), high = *(const Four*)(p.x + i + 4);
        *(Chunk*)(p.y + i) = Chunk{{pack_bf16(low.x[0], low.x[1]), pack_bf16(low.x[2], low.x[3]),
                                    pack_bf16(high.x[0], high.x[1]), pack_bf16(high.x[2], high.x[3])}};
    } else {
#pragma unroll 1
        for (; i < p.n; i++) p.y[i] = to_bf16(p.x[i]);
    }
}
