// What kernels are written over, on a CPU: the same names as kernels/device.h and CUDA have.
//
// The threads of a block are fibers of one thread of the CPU. One runs until it waits (at a barrier, or for the other lanes of its
// warp) or ends; then another that need not wait runs on. Which one is random: so kernels that depend on an order of threads that
// no barrier gives them have other results for another seed. What CUDA leaves undefined is as bad as it may be: shared memory and
// what asynchronous copies have not brought yet are NaN.
#pragma once

#include <math.h>
#include <string.h>

#include <vector>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#define DEVICE inline __attribute__((always_inline))
#undef NAN
#define NAN __uint_as_float(0x7fffffffu)

// KERNEL(name, Params, threads) { ... }: the kernel as a function of the bytes of its parameters, and how many bytes and threads
// those are at most.
#define KOAN_FIRST(threads, ...) threads
#define KERNEL(name, Params, ...)                                        \
    static void name##_of_thread(const Params& p);                       \
    extern "C" {                                                         \
    u64 name##_params_size = sizeof(Params);                             \
    u32 name##_max_threads = KOAN_FIRST(__VA_ARGS__, 1);                 \
    void name(const void* p) { name##_of_thread(*(const Params*)p); }    \
    }                                                                    \
    static void name##_of_thread(const Params& p)

// ---- The scheduler --------------------------------------------------------------------------------------------------------

namespace koan {

struct Index { u32 x, y, z; };

// What the lanes of a warp do together.
enum class Collective : u32 { Barrier, Shuffle, Vote, LoadMatrices, LoadMatricesTransposed, MultiplyAdd };

// An asynchronous copy that has not been waited for: of zeros, if `from` is null.
struct Copy { u8* to; const u8* from; u32 group; };

// A multiplication of a warpgroup that has not been waited for, as one of its lanes has it: d [columns / 8][4].
struct Wide { float* d; u32 columns; u64 a, b; bool a_by_k, b_by_k, add; u32 group; };

struct Thread {
    void* stack_pointer;
    Index index;
    u32 copy_groups;
    std::vector<Copy> copies;
    u32 wide_groups;
    bool wide_begun;  // since the last group of wides
    std::vector<Wide> wides;
};

// What a lane hands to `multiply_add` or `load_matrices`, and where it wants the result: it waits meanwhile.
struct Fragments { float* d; const u32* a; u32 b[2]; };
struct Matrices { u32* m; const u8* row; };

// What the copy engine has not brought yet: a box of a matrix `[rows, columns]`.
struct Box { u8* to; const u16* from; u64 rows, columns, box_rows; u32 row, column; u64* barrier; };

struct Warp {
    Collective collective;
    u32 arrived;  // lanes that wait in it
    // Words that lanes exchange. They take turns: a lane may reach the next exchange before another has read of this one.
    u32 turn;
    u64 words[2][32];
    const void* arguments[32];
};

// A block that runs.
struct State {
    Thread* thread;  // the one that runs
    Index block, grid, block_size;
    u8* shared;
    u64 shared_bytes;
    Thread* threads;
    Warp* warps;
    Thread** ready;  // threads that need not wait; the last runs next
    u32 ready_count, at_barrier, ended;
    std::vector<Box>* boxes;
    std::vector<Thread*>* at_phase;  // threads that wait for a phase of a barrier of the copy engine
    void* launcher;  // the stack pointer of launch()
    u64 random;
    const char* kernel_name;
    void (*kernel)(const void*);
    const void* params;
    char* message;
    u64 message_bytes;
    bool failed;
};

extern __thread State* state __attribute__((tls_model("initial-exec")));

// Ends the launch with a message that names the kernel, the block and the thread.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
[[noreturn]] void fail_stuck();
void release_block();
void release_warp(u32 warp, const Thread* but);
[[noreturn]] void fail_mixed(Collective here, Collective there);
void multiply_add_of_warp(Warp& warp);
void load_matrices_of_warp(Warp& warp);
void begin_copy(void* to, const void* from);
void finish_copies(u32 groups_under_way);
void begin_wide_of_lane(const Wide& wide);
void finish_wides(u32 groups_under_way);
void begin_barrier(u64* barrier, u32 arrivals);
void arrive(u64* barrier, u32 bytes);
void wait_for_phase(u64* barrier, u32 parity);
void begin_box(const Box& box);

// Saves where this fiber is, and goes on where another was.
#if defined(__x86_64__)
// Inline, and all registers given up rather than saved: the compiler saves those that it needs. (The stack holds the address to go
// on at, and above it rbp. A call and a return would go wrong in the processor's prediction every time.)
#ifdef __AVX512F__
#define KOAN_MORE_REGISTERS , "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", \
    "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k1", "k2", "k3", "k4", "k5", "k6", "k7"
#else
#define KOAN_MORE_REGISTERS
#endif
DEVICE void switch_fiber(void** save, void* load) {
    asm volatile(
        "pushq %%rbp\n\t"
        "leaq 1f(%%rip), %%rax\n\t"
        "pushq %%rax\n\t"
        "movq %%rsp, (%0)\n\t"
        "movq %1, %%rsp\n\t"
        "popq %%rax\n\t"
        "jmpq *%%rax\n"
        "1:\n\t"
        "popq %%rbp\n\t"
        : "+D"(save), "+S"(load)
        :
        : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "cc", "memory", "xmm0", "xmm1", "xmm2",
          "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
          "xmm15" KOAN_MORE_REGISTERS);
}
#elif defined(__aarch64__)
extern "C" void koan_switch_fiber(void** save, void* load);
DEVICE void switch_fiber(void** save, void* load) { koan_switch_fiber(save, load); }
#else
#error "the emulator of GPUs knows how to switch between fibers on x86-64 and aarch64 alone"
#endif

// Lets another thread run, until a thread makes this one ready.
DEVICE void wait() {
    State& s = *state;
    if (s.ready_count == 0) fail_stuck();
    Thread* self = s.thread;
    s.thread = s.ready[--s.ready_count];
    switch_fiber(&self->stack_pointer, s.thread->stack_pointer);
}

DEVICE u32 lane() { return state->thread->index.x % 32; }
DEVICE Warp& warp() { return state->warps[state->thread->index.x / 32]; }

// Waits for all lanes of the warp; the last to come does `finish` for all.
template <class Finish>
DEVICE void meet(Collective collective, Finish finish) {
    Warp& w = warp();
    if (w.arrived == 0) w.collective = collective;
    if (w.collective != collective) fail_mixed(collective, w.collective);
    if (++w.arrived < 32) {
        wait();
    } else {
        w.arrived = 0;
        w.turn ^= 1;
        finish(w);
        release_warp(state->thread->index.x / 32, state->thread);
    }
}

// The value of lane `from`.
template <class T>
DEVICE T exchange(u32 lanes, T value, u32 from) {
    static_assert(sizeof(T) <= 8, "lanes exchange 8 bytes at most");
    if (lanes != 0xffffffffu) fail("a shuffle of some lanes: name all");
    Warp& w = warp();
    u64(&words)[32] = w.words[w.turn];
    memcpy(&words[lane()], &value, sizeof(T));
    meet(Collective::Shuffle, [](Warp&) {});
    memcpy(&value, &words[from % 32], sizeof(T));
    return value;
}

}  // namespace koan

// ---- CUDA's own names -----------------------------------------------------------------------------------------------------

#define threadIdx (koan::state->thread->index)
#define blockIdx (koan::state->block)
#define gridDim (koan::state->grid)
#define blockDim (koan::state->block_size)
#define __align__(bytes) __attribute__((aligned(bytes)))

struct __align__(8) float2 { float x, y; };
struct __align__(16) float4 { float x, y, z, w; };
struct __align__(8) int2 { int x, y; };
struct __align__(16) int4 { int x, y, z, w; };
struct __align__(4) ushort2 { u16 x, y; };
struct __align__(8) ushort4 { u16 x, y, z, w; };
struct __align__(8) uint2 { u32 x, y; };
struct __align__(16) uint4 { u32 x, y, z, w; };
struct __align__(16) double2 { double x, y; };
struct __align__(16) ulonglong2 { u64 x, y; };
DEVICE float2 make_float2(float x, float y) { return {x, y}; }
DEVICE float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
DEVICE int2 make_int2(int x, int y) { return {x, y}; }
DEVICE int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
DEVICE ushort4 make_ushort4(u16 x, u16 y, u16 z, u16 w) { return {x, y, z, w}; }
DEVICE uint2 make_uint2(u32 x, u32 y) { return {x, y}; }
DEVICE uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return {x, y, z, w}; }
DEVICE double2 make_double2(double x, double y) { return {x, y}; }

DEVICE void __syncthreads() {
    koan::State& s = *koan::state;
    if (++s.at_barrier < s.block_size.x) {
        koan::wait();
    } else {
        s.at_barrier = 0;
        koan::release_block();
    }
}
DEVICE void __syncwarp(u32 lanes = 0xffffffffu) {
    if (lanes != 0xffffffffu) koan::fail("__syncwarp of some lanes: name all");
    koan::meet(koan::Collective::Barrier, [](koan::Warp&) {});
}

template <class T>
DEVICE T __shfl_sync(u32 lanes, T value, int from) { return koan::exchange(lanes, value, from); }
template <class T>
DEVICE T __shfl_xor_sync(u32 lanes, T value, int mask) { return koan::exchange(lanes, value, koan::lane() ^ mask); }
template <class T>
DEVICE T __shfl_down_sync(u32 lanes, T value, u32 by) {
    u32 lane = koan::lane();
    return koan::exchange(lanes, value, lane + by < 32 ? lane + by : lane);
}
template <class T>
DEVICE T __shfl_up_sync(u32 lanes, T value, u32 by) {
    u32 lane = koan::lane();
    return koan::exchange(lanes, value, lane >= by ? lane - by : lane);
}

DEVICE u32 __ballot_sync(u32 lanes, int vote) {
    if (lanes != 0xffffffffu) koan::fail("a vote of some lanes: name all");
    koan::Warp& w = koan::warp();
    u64(&words)[32] = w.words[w.turn];
    words[koan::lane()] = vote != 0;
    koan::meet(koan::Collective::Vote, [](koan::Warp&) {});
    u32 votes = 0;
    for (u32 i = 0; i < 32; i++) votes |= (u32)words[i] << i;
    return votes;
}
DEVICE int __any_sync(u32 lanes, int vote) { return __ballot_sync(lanes, vote) != 0; }
DEVICE int __all_sync(u32 lanes, int vote) { return __ballot_sync(lanes, vote) == 0xffffffffu; }

namespace koan {
template <class To, class From>
DEVICE To bits_as(From x) {
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To y;
    memcpy(&y, &x, sizeof(y));
    return y;
}
}  // namespace koan

DEVICE u32 __float_as_uint(float x) { return koan::bits_as<u32>(x); }
DEVICE int __float_as_int(float x) { return koan::bits_as<int>(x); }
DEVICE float __uint_as_float(u32 x) { return koan::bits_as<float>(x); }
DEVICE float __int_as_float(int x) { return koan::bits_as<float>(x); }
DEVICE i64 __double_as_longlong(double x) { return koan::bits_as<i64>(x); }
DEVICE double __longlong_as_double(i64 x) { return koan::bits_as<double>(x); }

// Nothing is contracted (-ffp-contract=off), so that each is rounded alone.
DEVICE float __fmaf_rn(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
DEVICE float __fadd_rn(float x, float y) { return x + y; }
DEVICE float __fsub_rn(float x, float y) { return x - y; }
DEVICE float __fmul_rn(float x, float y) { return x * y; }
DEVICE float __fdiv_rn(float x, float y) { return x / y; }
DEVICE float __fsqrt_rn(float x) { return __builtin_sqrtf(x); }
DEVICE float __frcp_rn(float x) { return 1.0f / x; }
DEVICE double __fma_rn(double x, double y, double z) { return __builtin_fma(x, y, z); }
DEVICE double __dadd_rn(double x, double y) { return x + y; }
DEVICE double __dsub_rn(double x, double y) { return x - y; }
DEVICE double __dmul_rn(double x, double y) { return x * y; }
DEVICE double __ddiv_rn(double x, double y) { return x / y; }
DEVICE double __dsqrt_rn(double x) { return __builtin_sqrt(x); }
DEVICE float rsqrtf(float x) { return (float)(1.0 / __builtin_sqrt((double)x)); }
DEVICE double rsqrt(double x) { return 1.0 / __builtin_sqrt(x); }
#define __expf expf
#define __logf logf
DEVICE float __fdividef(float x, float y) { return x / y; }
DEVICE int __float2int_rn(float x) { return (int)rintf(x); }
DEVICE int __float2int_rz(float x) { return (int)x; }
DEVICE float __int2float_rn(int x) { return (float)x; }
DEVICE float __uint2float_rn(u32 x) { return (float)x; }

DEVICE int __popc(u32 x) { return __builtin_popcount(x); }
DEVICE int __clz(int x) { return x == 0 ? 32 : __builtin_clz((u32)x); }
DEVICE int __ffs(int x) { return __builtin_ffs(x); }
DEVICE u32 __umulhi(u32 x, u32 y) { return (u32)((u64)x * y >> 32); }
DEVICE u64 __umul64hi(u64 x, u64 y) { return (u64)((unsigned __int128)x * y >> 64); }

DEVICE int min(int x, int y) { return x < y ? x : y; }
DEVICE int max(int x, int y) { return x > y ? x : y; }
DEVICE u32 min(u32 x, u32 y) { return x < y ? x : y; }
DEVICE u32 max(u32 x, u32 y) { return x > y ? x : y; }
DEVICE u64 min(u64 x, u64 y) { return x < y ? x : y; }
DEVICE u64 max(u64 x, u64 y) { return x > y ? x : y; }
DEVICE i64 min(i64 x, i64 y) { return x < y ? x : y; }
DEVICE i64 max(i64 x, i64 y) { return x > y ? x : y; }
DEVICE float min(float x, float y) { return fminf(x, y); }
DEVICE float max(float x, float y) { return fmaxf(x, y); }
DEVICE double min(double x, double y) { return fmin(x, y); }
DEVICE double max(double x, double y) { return fmax(x, y); }

template <class T>
DEVICE T __ldg(const T* at) { return *at; }
DEVICE u32 atomicAdd(u32* at, u32 x) { return __atomic_fetch_add(at, x, __ATOMIC_RELAXED); }
DEVICE int atomicAdd(int* at, int x) { return __atomic_fetch_add(at, x, __ATOMIC_RELAXED); }
DEVICE void __threadfence() {}

// ---- The names of device.h ------------------------------------------------------------------------------------------------

DEVICE u8* shared_memory() { return koan::state->shared; }
DEVICE u32 shared_address(const void* at) { return (u32)((const u8*)at - koan::state->shared); }

namespace koan {
DEVICE u32 bf16_bits(float x) {
    u32 bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
}  // namespace koan
DEVICE u32 pack_bf16(float low, float high) { return koan::bf16_bits(high) << 16 | koan::bf16_bits(low); }

DEVICE void load_matrices(u32 (&m)[4], const void* row) {
    koan::Matrices arguments = {m, (const u8*)row};
    koan::warp().arguments[koan::lane()] = &arguments;
    koan::meet(koan::Collective::LoadMatrices, koan::load_matrices_of_warp);
}
DEVICE void load_matrices_transposed(u32 (&m)[4], const void* row) {
    koan::Matrices arguments = {m, (const u8*)row};
    koan::warp().arguments[koan::lane()] = &arguments;
    koan::meet(koan::Collective::LoadMatricesTransposed, koan::load_matrices_of_warp);
}

DEVICE void multiply_add(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    koan::Fragments arguments = {d, a, {b0, b1}};
    koan::warp().arguments[koan::lane()] = &arguments;
    koan::meet(koan::Collective::MultiplyAdd, koan::multiply_add_of_warp);
}

// The copies are done when they are waited for, the last moment that is allowed; until then there is NaN.
DEVICE void copy_async(void* to, const void* from, bool valid) { koan::begin_copy(to, valid ? from : nullptr); }
DEVICE void commit_copies() { koan::state->thread->copy_groups++; }
template <int N>
DEVICE void wait_for_copies() { koan::finish_copies(N); }

// As ex2.approx.ftz does, subnormals are flushed to zero on both sides.
DEVICE float exp2_fast(float x) {
    float y = exp2f(x);
    return y < 0x1p-126f ? 0.0f : y;
}

// ---- Hopper alone ---------------------------------------------------------------------------------------------------------

// Written by the emulator's Device: address, rows, columns, rows of a box.
struct alignas(64) TensorMap { u64 words[16]; };

// Multiplications read their operands when they are waited for, the last moment that is allowed, and copies of boxes are done then too.
DEVICE void show_to_tensor_cores() {}
DEVICE void begin_wide() { koan::state->thread->wide_begun = true; }
DEVICE void commit_wide() {
    koan::state->thread->wide_groups++;
    koan::state->thread->wide_begun = false;
}
template <int N>
DEVICE void wait_for_wide() { koan::finish_wides(N); }
template <int A_BY_K, int B_BY_K, int EIGHTS>
DEVICE void multiply_add_wide(float (&d)[EIGHTS][4], u64 a, u64 b, u32 add) {
    koan::begin_wide_of_lane({d[0], 8 * EIGHTS, a, b, A_BY_K != 0, B_BY_K != 0, add != 0, 0});
}
DEVICE void begin_barrier(u64* barrier, u32 arrivals) { koan::begin_barrier(barrier, arrivals); }
DEVICE void show_barriers() {}
DEVICE void arrive(u64* barrier) { koan::arrive(barrier, 0); }
DEVICE void arrive_expecting(u64* barrier, u32 bytes) { koan::arrive(barrier, bytes); }
DEVICE void wait_for_phase(u64* barrier, u32 parity) { koan::wait_for_phase(barrier, parity); }
DEVICE void copy_box(void* to, const TensorMap& map, u32 row, u32 column, u64* barrier) {
    koan::begin_box({(u8*)to, (const u16*)map.words[0], map.words[1], map.words[2], map.words[3], row, column, barrier});
}
