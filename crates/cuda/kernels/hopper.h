// Products of whole matrices on Hopper, in the layouts of product.h: the copy engine brings operands, and wgmma multiplies them straight from shared
// memory. A step of wgmma has the bits of one of mma.sync (by the model of Hopper's arithmetic, and as seen on an H200), so the sums are
// those of every other kernel.
//
// Bound: by the tensor cores, which wgmma keeps 1.6 times as busy as mma.sync can, and by L2. Two blocks of 128 x 128 share a multiprocessor: one stores
// its sums while the other multiplies.

// A product whose operands the copy engine brings, in boxes of 64 columns: along k the rows of a block's tile, else 64. Its pieces of work are the tiles
// of each part, as in Product.
struct Hopper { TensorMap a, b; float* c; u64 part; u32 m, n, k, span, chunk, add, paired, group, pieces, unused[3]; };

#if KOAN_SM == 90 || defined(KOAN_EMULATE)

// A matrix in shared memory as wgmma finds it: rows of 128 bytes, swizzled, in groups of 8 that are 1024 bytes apart. Where k is along rows of indices,
// 64 of them, more indices follow `next` bytes on.
DEVICE u64 wide_matrix(u32 at, u32 next) {
    return (u64)(at >> 4) | (u64)(next >> 4) << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
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
DEVICE void staged(const Hopper&) {}

#endif
