// What kernels are written over: one name for each instruction that a GPU has and a CPU does not. The emulator has its own
// definitions of the same names (emulator/emulator.h), so that the same kernels run on a CPU.
//
// Also here, built into CUDA and defined by the emulator: threadIdx.x, blockIdx.{x,y,z}, gridDim.{x,y,z}, blockDim.x (blocks are one-dimensional),
// __syncthreads(), __syncwarp(), __shfl_sync, __shfl_xor_sync, __shfl_down_sync, __ballot_sync (all with the full mask ALL, by all 32 lanes of a warp),
// __fmaf_rn, __fadd_rn, __fmul_rn, __float_as_uint, __uint_as_float, fmaxf, fminf, fabsf, sqrtf, expf, logf, and the same in double.
#pragma once

#ifdef KOAN_EMULATE
#include "emulator.h"
#else

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#define DEVICE __device__ __forceinline__
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)

// KERNEL(name, Params, threads) { ... }: a kernel of blocks of at most `threads` threads, whose one parameter `p` is a Params.
// KERNEL(name, Params, threads, blocks) { ... }: so few registers that a multiprocessor has room for `blocks` of them.
#define KERNEL(name, Params, ...) \
    extern "C" __global__ void KOAN_BOUNDS(__VA_ARGS__, 1, 1) name(const __grid_constant__ Params p)
#define KOAN_BOUNDS(threads, blocks, ...) __launch_bounds__(threads, blocks)

// The block's shared memory, as many bytes as the launch asked for, aligned to 1024.
extern __shared__ __align__(1024) u8 koan_shared[];
DEVICE u8* shared_memory() { return koan_shared; }

DEVICE u32 shared_address(const void* at) { return (u32)__cvta_generic_to_shared(at); }

// Two f32, rounded to nearest even, as bf16 in one word, `low` in the lower half.
DEVICE u32 pack_bf16(float low, float high) {
    u32 packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

// Of four 8 x 8 matrices of bf16 in shared memory, whose rows of 16 bytes lanes 0-7, 8-15, 16-23, 24-31 point to: lane l gets of
// each matrix the two elements 2 (l % 4), 2 (l % 4) + 1 of row l / 4.
DEVICE void load_matrices(u32 (&m)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(shared_address(row)) : "memory");
}

// The same of the transposed matrices: lane l gets elements l / 4 of rows 2 (l % 4) and 2 (l % 4) + 1.
DEVICE void load_matrices_transposed(u32 (&m)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(shared_address(row)) : "memory");
}

// d += a b, a 16 x 16 (rows, k), b 16 x 8 (k, columns), of bf16, accumulated in f32. Lane l = 4 g + t holds of
// a: rows g, g + 8 of k 2t, 2t + 1 in a[0], a[1], rows g, g + 8 of k 2t + 8, 2t + 9 in a[2], a[3];
// b: column g of k 2t, 2t + 1 in b[0], of k 2t + 8, 2t + 9 in b[1];
// d: row g, columns 2t, 2t + 1 in d[0], d[1], row g + 8 in d[2], d[3].
DEVICE void multiply_add(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Begins to copy 16 bytes to shared memory, or zeros if not `valid` (`from` is not read then). Both are aligned to 16.
DEVICE void copy_async(void* to, const void* from, bool valid) {
    u32 bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes) : "memory");
}

// Ends a group of copies of this thread.
DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most the last `N` groups of this thread are under way. Other threads see the copies after a barrier.
template <int N>
DEVICE void wait_for_copies() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

// 2 to the power x, to within 2 units in the last place.
DEVICE float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// A matrix in memory as Hopper's copy engine finds it: a CUtensorMap, in boxes of rows of 64 bf16.
struct alignas(64) TensorMap { u64 words[16]; };

#if KOAN_SM == 90

// ---- Hopper alone: tensor cores that read shared memory, and the copy engine ----------------------------------------------------

// What the tensor cores read was written as they see it.
DEVICE void show_to_tensor_cores() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// Before multiplying, if the sums or operands were touched since.
DEVICE void begin_wide() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// Ends a group of multiplications.
DEVICE void commit_wide() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most the last N groups are under way.
template <int N>
DEVICE void wait_for_wide() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"); }

#define KOAN_FOUR(d) "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])

// d += a b, or d = a b if not `add`, by a warpgroup, a 64 x 16 and b 16 x n of bf16 in shared memory; BY_K: k lies along rows. Warp w has rows 16 w on, as
// multiply_add has them.
template <int A_BY_K, int B_BY_K>
DEVICE void multiply_add_wide(float (&d)[16][4], u64 a, u64 b, u32 add) {
    asm volatile(
        "{.reg .pred p; setp.ne.u32 p, %68, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31,"
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47,"
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
        "%64, %65, p, 1, 1, %66, %67;}"
        :
          KOAN_FOUR(d[0]), KOAN_FOUR(d[1]), KOAN_FOUR(d[2]), KOAN_FOUR(d[3]),
          KOAN_FOUR(d[4]), KOAN_FOUR(d[5]), KOAN_FOUR(d[6]), KOAN_FOUR(d[7]),
          KOAN_FOUR(d[8]), KOAN_FOUR(d[9]), KOAN_FOUR(d[10]), KOAN_FOUR(d[11]),
          KOAN_FOUR(d[12]), KOAN_FOUR(d[13]), KOAN_FOUR(d[14]), KOAN_FOUR(d[15])
        : "l"(a), "l"(b), "n"(1 - A_BY_K), "n"(1 - B_BY_K), "r"(add));
}

template <int A_BY_K, int B_BY_K>
DEVICE void multiply_add_wide(float (&d)[24][4], u64 a, u64 b, u32 add) {
    asm volatile(
        "{.reg .pred p; setp.ne.u32 p, %100, 0; wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31,"
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47,"
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63,"
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79,"
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95}, "
        "%96, %97, p, 1, 1, %98, %99;}"
        :
          KOAN_FOUR(d[0]), KOAN_FOUR(d[1]), KOAN_FOUR(d[2]), KOAN_FOUR(d[3]),
          KOAN_FOUR(d[4]), KOAN_FOUR(d[5]), KOAN_FOUR(d[6]), KOAN_FOUR(d[7]),
          KOAN_FOUR(d[8]), KOAN_FOUR(d[9]), KOAN_FOUR(d[10]), KOAN_FOUR(d[11]),
          KOAN_FOUR(d[12]), KOAN_FOUR(d[13]), KOAN_FOUR(d[14]), KOAN_FOUR(d[15]),
          KOAN_FOUR(d[16]), KOAN_FOUR(d[17]), KOAN_FOUR(d[18]), KOAN_FOUR(d[19]),
          KOAN_FOUR(d[20]), KOAN_FOUR(d[21]), KOAN_FOUR(d[22]), KOAN_FOUR(d[23])
        : "l"(a), "l"(b), "n"(1 - A_BY_K), "n"(1 - B_BY_K), "r"(add));
}

template <int A_BY_K, int B_BY_K>
DEVICE void multiply_add_wide(float (&d)[32][4], u64 a, u64 b, u32 add) {
    asm volatile(
        "{.reg .pred p; setp.ne.u32 p, %132, 0; wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31,"
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47,"
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63,"
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79,"
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95,"
        "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111,"
        "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
        "%128, %129, p, 1, 1, %130, %131;}"
        :
          KOAN_FOUR(d[0]), KOAN_FOUR(d[1]), KOAN_FOUR(d[2]), KOAN_FOUR(d[3]),
          KOAN_FOUR(d[4]), KOAN_FOUR(d[5]), KOAN_FOUR(d[6]), KOAN_FOUR(d[7]),
          KOAN_FOUR(d[8]), KOAN_FOUR(d[9]), KOAN_FOUR(d[10]), KOAN_FOUR(d[11]),
          KOAN_FOUR(d[12]), KOAN_FOUR(d[13]), KOAN_FOUR(d[14]), KOAN_FOUR(d[15]),
          KOAN_FOUR(d[16]), KOAN_FOUR(d[17]), KOAN_FOUR(d[18]), KOAN_FOUR(d[19]),
          KOAN_FOUR(d[20]), KOAN_FOUR(d[21]), KOAN_FOUR(d[22]), KOAN_FOUR(d[23]),
          KOAN_FOUR(d[24]), KOAN_FOUR(d[25]), KOAN_FOUR(d[26]), KOAN_FOUR(d[27]),
          KOAN_FOUR(d[28]), KOAN_FOUR(d[29]), KOAN_FOUR(d[30]), KOAN_FOUR(d[31])
        : "l"(a), "l"(b), "n"(1 - A_BY_K), "n"(1 - B_BY_K), "r"(add));
}

// A barrier that counts arrivals, and bytes that the copy engine has to bring. It goes through phases, whose parity is waited for.
DEVICE void begin_barrier(u64* barrier, u32 arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
// Shows new barriers to the copy engine.
DEVICE void show_barriers() { asm volatile("fence.mbarrier_init.release.cluster; fence.proxy.async.shared::cta;" ::: "memory"); }
DEVICE void arrive(u64* barrier) {
    asm volatile("{.reg .b64 state; mbarrier.arrive.shared::cta.b64 state, [%0];}" ::"r"(shared_address(barrier)) : "memory");
}
DEVICE void arrive_expecting(u64* barrier, u32 bytes) {
    asm volatile("{.reg .b64 state; mbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1;}" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
}
DEVICE void wait_for_phase(u64* barrier, u32 parity) {
    u32 done;
    do {
        asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
                     : "=r"(done)
                     : "r"(shared_address(barrier)), "r"(parity)
                     : "memory");
    } while (done == 0);
}
// Begins to copy the box of a matrix that begins at `row` and `column`; what is beyond the matrix is zero.
DEVICE void copy_box(void* to, const TensorMap& map, u32 row, u32 column, u64* barrier) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
                     shared_address(to)),
                 "l"(&map), "r"(column), "r"(row), "r"(shared_address(barrier))
                 : "memory");
}

#endif

#endif

#define ALL 0xffffffffu

// A member of a structure: DEVICE may be a static function.
#ifdef KOAN_EMULATE
#define MEMBER inline __attribute__((always_inline))
#else
#define MEMBER DEVICE
#endif

// A bf16 as f32.
DEVICE float from_bf16(u16 x) { return __uint_as_float((u32)x << 16); }

// An f32 rounded to nearest even; NaN stays NaN.
DEVICE u16 to_bf16(float x) { return (u16)(pack_bf16(x, 0.0f) & 0xffffu); }
