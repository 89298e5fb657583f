// Products of whole matrices on Hopper, in the layouts of product.cu, by the tensor cores' wgmma: warpgroups of 4 warps multiply operands straight from
// shared memory, while all threads copy the next. By the model of Hopper's arithmetic a step of wgmma has the bits of one of mma.sync, so
// the sums are those of every other kernel; examples/products.rs holds them to that on a card.
//
// Bound: as product.h; wgmma can multiply 1.6 times as fast as mma.sync, and reads each operand once a warpgroup.

// A matrix as the copy engine finds it (CUtensorMap).
struct alignas(64) TensorMap { u64 words[16]; };

// A product whose operands the copy engine brings, in boxes of 64 columns: along k the rows of a block's tile, else 64. Its pieces of work are the tiles
// of each part, as in Product.
struct Hopper { TensorMap a, b; float* c; u64 part; u32 m, n, k, span, chunk, add, paired, group, pieces, unused[3]; };

#if KOAN_SM == 90

// What the tensor cores read was written as they see it.
DEVICE void show_to_tensor_cores() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// Before multiplying, if the sums or operands were touched since.
DEVICE void begin_wide() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// Ends a group of multiplications.
DEVICE void commit_wide() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most the last N groups are under way.
template <int N>
DEVICE void wait_for_wide() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"); }

// A matrix in shared memory as wgmma finds it: rows of 128 bytes, swizzled, in groups of 8 that are 1024 bytes apart. Where k is along rows of indices,
// 64 of them, more indices follow `next` bytes on.
DEVICE u64 wide_matrix(u32 at, u32 next) {
    return (u64)(at >> 4) | (u64)(next >> 4) << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}

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

// A block's tile of C: a warpgroup for each 64 rows.
template <int M_, int N_, int STAGES, bool A_ALONG_K, bool B_ALONG_K>
struct WideTile : Sums<1, N_ / 16> {
    typedef Sums<1, N_ / 16> Base;
    using Base::sums, Base::warp_m, Base::warp_n;
    static constexpr int M = M_, N = N_, K = 64, THREADS = 2 * M, STEPS = K / 16;
    typedef Operand<M, K, THREADS, A_ALONG_K, true> A;
    typedef Operand<N, K, THREADS, B_ALONG_K, true> B;
    static constexpr int STAGE = A::BYTES + B::BYTES;

    MEMBER WideTile() {
        warp_m = threadIdx.x / 32 * 16;
        warp_n = 0;
    }

    // A B over `k` of k, which `to` takes. If CHUNKED, each chunk of `chunk` of k is summed from zero, and taken for itself.
    template <bool CHUNKED, class To>
    MEMBER void run(A a, B b, u32 k, u32 chunk, To& to) {
        u8* shared = shared_memory();
        u32 tiles = (k + K - 1) / K, stage = 0, free = STAGES - 2;
#pragma unroll
        for (u32 s = 0; s < STAGES - 2; s++) {
            if (s < tiles) copy(a, b, shared + s * STAGE, k - s * K);
            commit_copies();
        }
        // The warpgroup's 64 rows: 64 lines of 128 bytes either way.
        u32 a_at = shared_address(shared) + threadIdx.x / 128 * (64 * 128), b_at = shared_address(shared) + A::BYTES;
        u64 a_matrix = wide_matrix(a_at, K * 128), b_matrix = wide_matrix(b_at, K * 128);
        for (u32 t = 0; t < tiles;) {
            u32 from = t, until = CHUNKED ? least(tiles, t + chunk / K) : tiles;
            for (; t < until; t++) {
                wait_for_copies<STAGES - 3>();
                show_to_tensor_cores();
                // The stage is there, and nobody multiplies that of two tiles ago any more.
                __syncthreads();
                begin_wide();
                u64 of_stage = (u64)(stage * STAGE >> 4);
#pragma unroll
                for (int s = 0; s < STEPS; s++) {
                    // 16 of k are 32 bytes of a row, or 16 rows.
                    u64 a_step = s * (A_ALONG_K ? 32 : 16 * 128) >> 4, b_step = s * (B_ALONG_K ? 32 : 16 * 128) >> 4;
                    multiply_add_wide<A_ALONG_K, B_ALONG_K>(sums[0], a_matrix + of_stage + a_step, b_matrix + of_stage + b_step,
                                                           s > 0 || t > from);
                }
                commit_wide();
                u32 next = t + STAGES - 2;
                if (next < tiles) copy(a, b, shared + free * STAGE, k - next * K);
                commit_copies();
                stage = stage + 1 == STAGES ? 0 : stage + 1;
                free = free + 1 == STAGES ? 0 : free + 1;
                wait_for_wide<1>();
            }
            wait_for_wide<0>();
            to.take(*this);
        }
    }

    static MEMBER void copy(A& a, B& b, u8* to, u32 left) {
        a.copy(to, left);
        b.copy(to + A::BYTES, left);
    }
};

template <int M, int N, int STAGES, bool A_ALONG_K, bool B_ALONG_K>
DEVICE void wide(const Product& p) { product<WideTile<M, N, STAGES, A_ALONG_K, B_ALONG_K>>(p); }

// ---- The same with operands brought by the copy engine -----------------------------------------------------------------------

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

// Which part of C a piece of work is.
struct Piece { u32 m, n, first, k, part; };

template <int M, int N>
DEVICE Piece piece_of(const Hopper& p, u32 i) {
    u32 rows = (p.m + M - 1) / M, columns = (p.n + N - 1) / N, row, column, part = i / (rows * columns);
    place_of_tile(i % (rows * columns), rows, columns, p.group, row, column);
    u32 first = part * p.span;
    return Piece{row * M, column * N, first, least(p.span, p.k - first), part};
}

// A block stays for many pieces of work. A warpgroup for each 64 rows multiplies stage after stage; the first thread has the copy engine bring the next, up to
// those of the next piece, which is so on its way while the sums are stored.
template <int M, int N, int STAGES, bool A_ALONG_K, bool B_ALONG_K>
struct Staged : Sums<1, N / 16> {
    using Sums<1, N / 16>::sums;
    static constexpr int K = 64, A_BYTES = M * K * 2, STAGE = (M + N) * K * 2, THREADS = 2 * M;

    // A place in the ring of stages: those of a round have one parity.
    struct Place {
        u32 stage, parity;
        MEMBER void next() {
            stage++;
            if (stage == STAGES) {
                stage = 0;
                parity ^= 1;
            }
        }
    };

    u8* shared;
    // A barrier of each stage that it is there, and one that nobody reads it any more.
    u64* there;
    u64* free;
    // What is brought next: k of a piece.
    Piece piece;
    u32 number, k;
    Place at;

    MEMBER Staged(const Hopper& p) {
        this->warp_m = threadIdx.x / 32 * 16;
        this->warp_n = 0;
        shared = shared_memory();
        there = (u64*)(shared + STAGES * STAGE);
        free = there + STAGES;
        if (threadIdx.x == 0) {
            for (int s = 0; s < STAGES; s++) {
                begin_barrier(there + s, 1);
                begin_barrier(free + s, THREADS / 32);
            }
            show_barriers();
            number = blockIdx.x;
            piece = piece_of<M, N>(p, number);
            k = 0;
            at = Place{0, 0};
            for (int s = 0; s < STAGES - 1; s++) bring(p);
        }
        __syncthreads();
    }

    // Begins to bring the next stage, if there is one. By the first thread.
    MEMBER void bring(const Hopper& p) {
        if (number >= p.pieces) return;
        u8 *a = shared + at.stage * STAGE, *b = a + A_BYTES;
        u64* barrier = there + at.stage;
        wait_for_phase(free + at.stage, at.parity ^ 1);
        arrive_expecting(barrier, STAGE);
        u32 from = piece.first + k;
        if (A_ALONG_K) copy_box(a, p.a, piece.m, from, barrier);
        else
            for (u32 j = 0; j < M; j += 64) copy_box(a + j * K * 2, p.a, from, piece.m + j, barrier);
        if (B_ALONG_K) copy_box(b, p.b, piece.n, from, barrier);
        else
            for (u32 j = 0; j < N; j += 64) copy_box(b + j * K * 2, p.b, from, piece.n + j, barrier);
        at.next();
        k += K;
        if (k >= piece.k) {
            k = 0;
            number += gridDim.x;
            piece = piece_of<M, N>(p, number);
        }
    }

    MEMBER void run(const Hopper& p) {
        u32 a_at = shared_address(shared) + threadIdx.x / 128 * (64 * K * 2), b_at = shared_address(shared) + A_BYTES;
        u64 a_matrix = wide_matrix(a_at, K * 128), b_matrix = wide_matrix(b_at, K * 128);
        bool leader = threadIdx.x % 32 == 0;
        Place place{0, 0};
        for (u32 i = blockIdx.x; i < p.pieces; i += gridDim.x) {
            Piece mine = piece_of<M, N>(p, i);
            u32 tiles = (mine.k + K - 1) / K;
            for (u32 t = 0; t < tiles;) {
                u32 from = t, until = A_ALONG_K ? tiles : least(tiles, t + p.chunk / K);
                u64* before = nullptr;
                for (; t < until; t++, place.next()) {
                    wait_for_phase(there + place.stage, place.parity);
                    begin_wide();
                    u64 of_stage = (u64)(place.stage * STAGE >> 4);
#pragma unroll
                    for (int s = 0; s < K / 16; s++) {
                        u64 a_step = s * (A_ALONG_K ? 32 : 16 * 128) >> 4, b_step = s * (B_ALONG_K ? 32 : 16 * 128) >> 4;
                        multiply_add_wide<A_ALONG_K, B_ALONG_K>(sums[0], a_matrix + of_stage + a_step, b_matrix + of_stage + b_step,
                                                               s > 0 || t > from);
                    }
                    commit_wide();
                    // The stage before this one is multiplied.
                    wait_for_wide<1>();
                    if (leader && before != nullptr) arrive(before);
                    if (threadIdx.x == 0) bring(p);
                    __syncwarp();
                    before = free + place.stage;
                }
                wait_for_wide<0>();
                if (leader) arrive(before);
                Target c{p.c + mine.part * p.part + (u64)mine.m * p.n + mine.n, p.n, p.m - mine.m, p.n - mine.n, p.add != 0,
                         p.paired != 0};
                this->store(c);
            }
        }
    }
};

template <int M, int N, int STAGES, bool A_ALONG_K, bool B_ALONG_K>
DEVICE void staged(const Hopper& p) {
    Staged<M, N, STAGES, A_ALONG_K, B_ALONG_K> tile(p);
    tile.run(p);
}

#else

// The host takes these kernels on Hopper alone.
template <int M, int N, int STAGES, bool A_ALONG_K, bool B_ALONG_K>
DEVICE void wide(const Product&) {}

template <int M, int N, int STAGES, bool A_ALONG_K, bool B_ALONG_K>
DEVICE void staged(const Hopper&) {}

#endif

KERNEL(wide_forward_128x128, Product, 256) { wide<128, 128, 3, true, true>(p); }
KERNEL(wide_forward_128x256, Product, 256) { wide<128, 256, 4, true, true>(p); }
KERNEL(staged_forward_128x128, Hopper, 256) { staged<128, 128, 3, true, true>(p); }
KERNEL(staged_forward_128x256, Hopper, 256) { staged<128, 256, 4, true, true>(p); }

KERNEL(wide_backward_input_128x128, Product, 256) { wide<128, 128, 3, true, false>(p); }
KERNEL(wide_backward_input_128x256, Product, 256) { wide<128, 256, 4, true, false>(p); }
KERNEL(staged_backward_input_128x128, Hopper, 256) { staged<128, 128, 3, true, false>(p); }
KERNEL(staged_backward_input_128x256, Hopper, 256) { staged<128, 256, 4, true, false>(p); }

KERNEL(wide_backward_weight_128x128, Product, 256) { wide<128, 128, 3, false, false>(p); }
KERNEL(wide_backward_weight_128x256, Product, 256) { wide<128, 256, 4, false, false>(p); }
KERNEL(staged_backward_weight_128x128, Hopper, 256) { staged<128, 128, 3, false, false>(p); }
KERNEL(staged_backward_weight_128x256, Hopper, 256) { staged<128, 256, 4, false, false>(p); }
