// Products of whole matrices on Hopper, in the layouts of product.h, by the tensor cores' wgmma: warpgroups of 4 warps multiply operands straight from
// shared memory, while all threads copy the next. By the model of Hopper's arithmetic a step of wgmma has the bits of one of mma.sync, so
// the sums are those of every other kernel; examples/products.rs holds them to that on a card.
//
// Bound: as product.h; wgmma can multiply 1.6 times as fast as mma.sync, and reads each operand once a warpgroup.

// A product whose operands the copy engine brings, in boxes of 64 columns: along k the rows of a block's tile, else 64. Its pieces of work are the tiles
// of each part, as in Product.
struct Hopper { TensorMap a, b; float* c; u64 part; u32 m, n, k, span, chunk, add, paired, group, pieces, unused[3]; };

#if KOAN_SM == 90 || defined(KOAN_EMULATE)

// A matrix in shared memory as wgmma finds it: rows of 128 bytes, swizzled, in groups of 8 that are 1024 bytes apart. Where k is along rows of indices,
// 64 of them, more indices follow `next` bytes on.
DEVICE u64 wide_matrix(u32 at, u32 next) {
    return (u64)(at >> 4) | (u64)(next >> 4) << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
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

    // `take(piece, *this)` takes the sums of each piece, or of each chunk of it.
    template <class Take>
    MEMBER void run(const Hopper& p, Take take) {
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
                take(mine, *this);
            }
        }
    }
};

template <int M, int N, int STAGES, bool A_ALONG_K, bool B_ALONG_K>
DEVICE void staged(const Hopper& p) {
    Staged<M, N, STAGES, A_ALONG_K, B_ALONG_K> tile(p);
    tile.run(p, [&](const Piece& at, auto& tile) {
        Target c{p.c + at.part * p.part + (u64)at.m * p.n + at.n, p.n, p.m - at.m, p.n - at.n, p.add != 0, p.paired != 0};
        tile.store(c);
    });
}

#else

// The host takes these kernels on Hopper alone.
template <int M, int N, int STAGES, bool A_ALONG_K, bool B_ALONG_K>
DEVICE void wide(const Product&) {}

template <int M, int N, int STAGES, bool A_ALONG_K, bool B_ALONG_K>
DEVICE void staged(const Hopper&) {}

#endif
