// A small kernel for each wrapper of device.h, so that each is held to what it is said to do (src/wrappers.rs): in the emulator the
// emulator's definitions, on a GPU the instructions.

struct TestMultiplyAdd { const u16* a; const u16* b; const float* c; float* d; };

// d = c + a b of a block's own matrices: a [16, 16], b [16, 8], c and d [16, 8], row-major.
KERNEL(test_multiply_add, TestMultiplyAdd, 32) {
    const u16* a = p.a + (u64)blockIdx.x * 256;
    const u16* b = p.b + (u64)blockIdx.x * 128;
    u32 g = threadIdx.x / 4, t = 2 * (threadIdx.x % 4);
    u32 of_a[4], of_b[2];
    for (u32 i = 0; i < 4; i++) {
        const u16* pair = a + (g + 8 * (i & 1)) * 16 + t + 8 * (i >> 1);
        of_a[i] = (u32)pair[1] << 16 | pair[0];
    }
    for (u32 i = 0; i < 2; i++) of_b[i] = (u32)b[(t + 8 * i + 1) * 8 + g] << 16 | b[(t + 8 * i) * 8 + g];
    u64 first = (u64)blockIdx.x * 128 + g * 8 + t;
    float d[4] = {p.c[first], p.c[first + 1], p.c[first + 64], p.c[first + 65]};
    multiply_add(d, of_a, of_b[0], of_b[1]);
    p.d[first] = d[0];
    p.d[first + 1] = d[1];
    p.d[first + 64] = d[2];
    p.d[first + 65] = d[3];
}

struct TestLoadMatrices { const u32* x; const u32* rows; u32* y; u32 words; u32 transposed; };

// y [32 lanes, 4] of the four matrices in x, words of shared memory: row r of matrix m is row rows[8 m + r] of 16 bytes.
KERNEL(test_load_matrices, TestLoadMatrices, 32) {
    u32* shared = (u32*)shared_memory();
    for (u32 i = threadIdx.x; i < p.words; i += 32) shared[i] = p.x[i];
    __syncthreads();
    u32 m[4];
    const u8* row = shared_memory() + 16 * p.rows[threadIdx.x];
    if (p.transposed) {
        load_matrices_transposed(m, row);
    } else {
        load_matrices(m, row);
    }
    for (u32 i = 0; i < 4; i++) p.y[threadIdx.x * 4 + i] = m[i];
}

struct TestCopies { const u32* x; const u32* valid; u32* y; };

// y [3, 32 lanes, 4] = x, or zeros where valid [3, 32] is 0: three groups of copies, of which the first is read while two are under way.
KERNEL(test_copies, TestCopies, 32) {
    u32* shared = (u32*)shared_memory();
    for (u32 group = 0; group < 3; group++) {
        u32 at = group * 32 + threadIdx.x;
        copy_async(shared + 4 * at, p.valid[at] ? p.x + 4 * at : p.x, p.valid[at] != 0);
        commit_copies();
    }
    for (u32 group = 0; group < 3; group++) {
        if (group == 0) wait_for_copies<2>();
        if (group == 1) wait_for_copies<1>();
        if (group == 2) wait_for_copies<0>();
        __syncthreads();
        for (u32 i = threadIdx.x; i < 128; i += 32) p.y[group * 128 + i] = shared[group * 128 + i];
    }
}

struct TestNumbers { const float* x; const float* y; const float* z; u32* out; u64 n; };

// out [13, n]: functions of one, two or three numbers.
KERNEL(test_numbers, TestNumbers, 256) {
    u64 i = (u64)blockIdx.x * 256 + threadIdx.x;
    if (i >= p.n) return;
    float x = p.x[i], y = p.y[i], z = p.z[i];
    u32* out = p.out + i;
    out[0] = pack_bf16(x, y);
    out[p.n] = to_bf16(x);
    out[2 * p.n] = __float_as_uint(from_bf16((u16)(__float_as_uint(x) >> 16)));
    out[3 * p.n] = __float_as_uint(__fmaf_rn(x, y, z));
    out[4 * p.n] = __float_as_uint(__fadd_rn(__fmul_rn(x, y), z));
    out[5 * p.n] = __float_as_uint(x * y + z);
    out[6 * p.n] = __float_as_uint(x / y);
    out[7 * p.n] = __float_as_uint(sqrtf(fabsf(x)));
    out[8 * p.n] = __float_as_uint(fmaxf(x, y));
    out[9 * p.n] = __float_as_uint(fminf(x, y));
    out[10 * p.n] = __float_as_uint(exp2_fast(x));
    out[11 * p.n] = __float_as_uint(expf(x));
    out[12 * p.n] = __float_as_uint(logf(fabsf(x)));
}

struct TestLanes { const u32* x; const u32* from; u32* y; };

// y [6, 32]: what lanes exchange and vote.
KERNEL(test_lanes, TestLanes, 32) {
    u32 lane = threadIdx.x, x = p.x[lane];
    p.y[lane] = __shfl_sync(ALL, x, p.from[lane]);
    p.y[32 + lane] = __shfl_xor_sync(ALL, x, 5);
    p.y[64 + lane] = __shfl_down_sync(ALL, x, 3);
    p.y[96 + lane] = __ballot_sync(ALL, x & 1);
    p.y[128 + lane] = __float_as_uint(__shfl_xor_sync(ALL, __uint_as_float(x & 0x7effffff), 16));
    u32* shared = (u32*)shared_memory();
    shared[lane] = x;
    __syncwarp();
    p.y[160 + lane] = shared[31 - lane];
}
