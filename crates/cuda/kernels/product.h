// The product of a tile by tensor cores: C[m, n] = Σ_k A[m, k] B[k, n] of bf16, accumulated in f32. In three layouts:
//
//   forward          y  [n, out]   = x  [n, in]   w [out, in]ᵀ   both along k
//   backward_input   dx [n, in]    = dy [n, out]  w [out, in]    w by rows of k
//   backward_weight  dw [out, in] += dy [n, out]ᵀ x [n, in]      both by rows of k; k is the rows, in chunks
//
// The order of sums, which every kernel of products keeps: an element is one chain of steps of 16 of k, ascending, from zero. The tile, the
// number of its stages and who computes it change no bit: so tiles are chosen by the number of rows. Steps beyond k are of zeros.
//
// Bound: by the tensor cores where rows are many. A warp's tile of 64 x 64 reads 4 KB of shared memory for 32 multiply_adds, so that
// loads take less than the multiplying; a block of 128 x 256 reads 24 KB of L2 for 32 of k. Where rows are few, by the memory
// that the weights lie in: every stage but one is then in flight.

struct alignas(16) Chunk { u32 words[4]; };
struct alignas(8) Pair { float x, y; };

DEVICE u32 least(u32 a, u32 b) { return a < b ? a : b; }

// The shape of a block: its tile of C, k of a stage, stages of copies, warps along m and n.
template <int M_, int N_, int K_, int STAGES_, int WARPS_M_, int WARPS_N_>
struct Shape {
    static constexpr int M = M_, N = N_, K = K_, STAGES = STAGES_, WARPS_M = WARPS_M_, WARPS_N = WARPS_N_;
    static constexpr int THREADS = 32 * WARPS_M * WARPS_N;
};

// In shared memory an operand's tile lies as in memory, in rows of CHUNKS chunks of 16 bytes. A row has its chunks permuted by
// this key (by XOR), so that the same chunk of 8 neighbouring rows lies in different banks.
template <int CHUNKS>
DEVICE u32 swizzle(u32 row) {
    return CHUNKS >= 8 ? row & 7 : CHUNKS == 4 ? (row >> 1) & 3 : CHUNKS == 2 ? (row >> 2) & 1 : 0;
}

// An operand `[index, k]` if ALONG_K, else `[k, index]`: what a block of THREADS threads copies of it.
template <int SIZE, int K, int THREADS, bool ALONG_K>
struct Operand {
    static constexpr bool ALONG = ALONG_K;
    static constexpr int ROWS = ALONG_K ? SIZE : K;
    static constexpr int CHUNKS = (ALONG_K ? K : SIZE) / 8;
    static constexpr int ROW_BYTES = CHUNKS * 16;
    static constexpr int BYTES = ROWS * ROW_BYTES;
    static constexpr int STEP = THREADS / CHUNKS;
    static constexpr int COPIES = ROWS / STEP;
    static_assert(THREADS % CHUNKS == 0 && ROWS % STEP == 0, "every thread copies as many chunks");

    // The thread's first chunk in memory, and in the tile.
    const u16* from;
    u64 stride;
    u32 row, column, to;
    // Indices that there are from the tile's first on.
    u32 limit;

    // `first` is the tile's first element, `stride` the elements of a row.
    MEMBER Operand(const u16* first, u64 stride, u32 limit) : stride(stride), limit(limit) {
        row = threadIdx.x / CHUNKS;
        column = threadIdx.x % CHUNKS;
        from = first + row * stride + column * 8;
        to = place(row, column);
    }

    static MEMBER u32 place(u32 row, u32 chunk) { return row * ROW_BYTES + ((chunk ^ swizzle<CHUNKS>(row)) << 4); }

    // Begins to copy K of k, of which there are `left`, to `tile`.
    MEMBER void copy(u8* tile, u32 left) {
        const u16* at = from;
#pragma unroll
        for (int i = 0; i < COPIES; i++) {
            bool valid = ALONG_K ? row + i * STEP < limit && column * 8 < left : row + i * STEP < left && column * 8 < limit;
            copy_async(tile + place_of(i), at, valid);
            at += STEP * stride;
        }
        advance();
    }

    // The same element by element, for rows that do not begin at multiples of 16 bytes.
    MEMBER void copy_elements(u8* tile, u32 left) {
#pragma unroll 1
        for (int i = 0; i < COPIES; i++) {
            const u16* at = from + (u64)(i * STEP) * stride;
            u32 row_left = ALONG_K ? limit : left, column_left = ALONG_K ? left : limit;
            u32 count = row + i * STEP < row_left && column * 8 < column_left ? least(8, column_left - column * 8) : 0;
            Chunk chunk;
#pragma unroll
            for (u32 e = 0; e < 4; e++) {
                u32 low = 2 * e < count ? at[2 * e] : 0, high = 2 * e + 1 < count ? at[2 * e + 1] : 0;
                chunk.words[e] = low | high << 16;
            }
            *(Chunk*)(tile + place(row + i * STEP, column)) = chunk;
        }
        advance();
    }

    // Where the thread's chunk `i` lies: a key repeats after 8 rows.
    MEMBER u32 place_of(int i) const {
        return STEP % 8 == 0 ? to + i * STEP * ROW_BYTES : place(row + i * STEP, column);
    }

    MEMBER void advance() { from += ALONG_K ? (u64)K : K * stride; }
};

// Where a tile goes: it begins at `at` in a matrix of `stride` columns, which has `m` rows and `n` columns from there on. With
// `paired`, rows begin at multiples of 8 bytes.
struct Target {
    float* at;
    u64 stride;
    u32 m, n;
    bool add, paired;

    // Takes the sums of a chunk of k.
    template <class T>
    MEMBER void take(T& tile) { tile.store(*this); }
};

// What a thread has of its warp's tile of 16 ROWS x 16 PAIRS, as multiply_add has it.
template <int ROWS_, int PAIRS_>
struct Sums {
    static constexpr int ROWS = ROWS_, PAIRS = PAIRS_;
    float sums[ROWS][2 * PAIRS][4];
    // The warp's place in the block's tile.
    u32 warp_m, warp_n;

    MEMBER void clear() {
#pragma unroll
        for (int i = 0; i < ROWS; i++)
#pragma unroll
            for (int j = 0; j < 2 * PAIRS; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) sums[i][j][e] = 0.0f;
    }

    // Writes the sums, or adds them.
    MEMBER void store(const Target& c) {
        u32 lane = threadIdx.x % 32, row = warp_m + lane / 4, column = warp_n + lane % 4 * 2;
        u32 left = c.n - least(c.n, column);
        float* at = c.at + row * c.stride + column;
#pragma unroll
        for (u32 i = 0; i < 2 * ROWS; i++) {
            if (row + i * 8 < c.m) {
                if (c.paired) store_row<true>(at, i / 2, i % 2, left, c.add);
                else store_row<false>(at, i / 2, i % 2, left, c.add);
            }
            at += 8 * c.stride;
        }
    }

    template <bool PAIRED>
    MEMBER void store_row(float* at, int i, int half, u32 left, bool add) {
        Pair old[2 * PAIRS];
#pragma unroll
        for (u32 j = 0; j < 2 * PAIRS; j++) {
            old[j] = Pair{0.0f, 0.0f};
            if (add && j * 8 < left) {
                if (PAIRED) old[j] = *(const Pair*)(at + j * 8);
                else {
                    old[j].x = at[j * 8];
                    if (j * 8 + 1 < left) old[j].y = at[j * 8 + 1];
                }
            }
        }
#pragma unroll
        for (u32 j = 0; j < 2 * PAIRS; j++) {
            Pair sum{sums[i][j][2 * half], sums[i][j][2 * half + 1]};
            if (add) sum = Pair{__fadd_rn(old[j].x, sum.x), __fadd_rn(old[j].y, sum.y)};
            if (j * 8 < left) {
                if (PAIRED) *(Pair*)(at + j * 8) = sum;
                else {
                    at[j * 8] = sum.x;
                    if (j * 8 + 1 < left) at[j * 8 + 1] = sum.y;
                }
            }
        }
    }
};

// A block's tile of C. A is `[m, k]` or `[k, m]`, B `[n, k]` or `[k, n]`, whichever lies along k.
template <class S, bool A_ALONG_K, bool B_ALONG_K>
struct Tile : Sums<S::M / S::WARPS_M / 16, S::N / S::WARPS_N / 16> {
    typedef Sums<S::M / S::WARPS_M / 16, S::N / S::WARPS_N / 16> Base;
    using Base::ROWS, Base::PAIRS, Base::sums, Base::warp_m, Base::warp_n;
    typedef Operand<S::M, S::K, S::THREADS, A_ALONG_K> A;
    typedef Operand<S::N, S::K, S::THREADS, B_ALONG_K> B;
    static constexpr int M = S::M, N = S::N, STAGE = A::BYTES + B::BYTES;
    static constexpr int STEPS = S::K / 16;
    static constexpr int WARP_M = S::M / S::WARPS_M, WARP_N = S::N / S::WARPS_N;
    static_assert(STEPS >= 2 && ROWS * 16 == WARP_M && PAIRS * 16 == WARP_N, "whole multiply_adds");

    // What is multiplied, and what is loaded meanwhile.
    u32 a[2][ROWS][4], b[2][PAIRS][4];
    // Where the warp's matrices begin in a stage, for this lane.
    u32 a_at, b_at;

    MEMBER Tile() {
        u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        warp_m = warp / S::WARPS_N * WARP_M;
        warp_n = warp % S::WARPS_N * WARP_N;
        u32 in_eight = lane % 8, second = lane / 8 % 2, upper = lane / 16;
        a_at = A_ALONG_K ? A::place(warp_m + 8 * second + in_eight, upper)
                         : A::place(8 * upper + in_eight, warp_m / 8 + second);
        b_at = A::BYTES + (B_ALONG_K ? B::place(warp_n + 8 * upper + in_eight, second)
                                     : B::place(8 * second + in_eight, warp_n / 8 + upper));
        this->clear();
    }

    // Loads the operands of step `s` of a stage. Two chunks on is an XOR within a row, as 16 rows on is within a column.
    MEMBER void load(const u8* stage, int s, int into) {
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            if (A_ALONG_K) load_matrices(a[into][i], stage + (a_at ^ (s * 32)) + i * 16 * A::ROW_BYTES);
            else load_matrices_transposed(a[into][i], stage + (a_at ^ (i * 32)) + s * 16 * A::ROW_BYTES);
        }
#pragma unroll
        for (int j = 0; j < PAIRS; j++) {
            if (B_ALONG_K) load_matrices(b[into][j], stage + (b_at ^ (s * 32)) + j * 16 * B::ROW_BYTES);
            else load_matrices_transposed(b[into][j], stage + (b_at ^ (j * 32)) + s * 16 * B::ROW_BYTES);
        }
    }

    MEMBER void multiply(int from) {
#pragma unroll
        for (int i = 0; i < ROWS; i++)
#pragma unroll
            for (int j = 0; j < PAIRS; j++) {
                // There and back, so that neighbours share an operand.
                int jj = i % 2 ? PAIRS - 1 - j : j;
                multiply_add(sums[i][2 * jj], a[from][i], b[from][jj][0], b[from][jj][1]);
                multiply_add(sums[i][2 * jj + 1], a[from][i], b[from][jj][2], b[from][jj][3]);
            }
    }

    // A B over `k` of k, which `to` takes. If CHUNKED, each chunk of `chunk` of k is summed from zero, and taken for itself. With one
    // stage rows may begin anywhere.
    template <bool CHUNKED, class To>
    MEMBER void run(const A& a, const B& b, u32 k, u32 chunk, To& to) {
        if constexpr (S::STAGES == 1) run_elements<CHUNKED>(a, b, k, chunk, to);
        else run_stages<CHUNKED>(a, b, k, chunk, to);
    }

    template <bool CHUNKED, class To>
    MEMBER void run_stages(A from_a, B from_b, u32 k, u32 chunk, To& to) {
        Pipeline at{from_a, from_b, shared_memory(), k, (k + S::K - 1) / S::K, 0, 0, S::STAGES - 1};
#pragma unroll
        for (u32 s = 0; s < S::STAGES - 1; s++) {
            if (s < at.tiles) copy(at, s, s);
            commit_copies();
        }
        wait_for_copies<S::STAGES - 2>();
        __syncthreads();
        load(at.shared, 0, 0);
        u32 until = chunk / S::K;
        for (; at.t < at.tiles; at.t++) {
            steps<0>(at);
            if (CHUNKED && at.t + 1 == until && until < at.tiles) {
                to.take(*this);
                this->clear();
                until += chunk / S::K;
            }
        }
        to.take(*this);
    }

    // What is copied, and how far it is: tile `t` of k is multiplied, from stage `stage`, while a later one is copied to `free`.
    struct Pipeline { A a; B b; u8* shared; u32 k, tiles, t, stage, free; };

    // Step `s` of a tile and those after it: the next step is loaded while this one is multiplied.
    template <int s>
    MEMBER void steps(Pipeline& at) {
        if (s == STEPS - 1) {
            // The next stage is there, and nobody reads this one any more.
            wait_for_copies<S::STAGES - 2>();
            __syncthreads();
            at.stage = at.stage + 1 == S::STAGES ? 0 : at.stage + 1;
        }
        load(at.shared + at.stage * STAGE, (s + 1) % STEPS, (s + 1) % 2);
        if (s == 0) {
            if (at.t + S::STAGES - 1 < at.tiles) copy(at, at.t + S::STAGES - 1, at.free);
            commit_copies();
            at.free = at.free + 1 == S::STAGES ? 0 : at.free + 1;
        }
        multiply(s % 2);
        if constexpr (s + 1 < STEPS) steps<s + 1>(at);
    }

    static MEMBER void copy(Pipeline& at, u32 t, u32 stage) {
        u8* to = at.shared + stage * STAGE;
        at.a.copy(to, at.k - t * S::K);
        at.b.copy(to + A::BYTES, at.k - t * S::K);
    }

    // The same in one stage, and no more steps and warps than needed.
    template <bool CHUNKED, class To>
    MEMBER void run_elements(A from_a, B from_b, u32 k, u32 chunk, To& to) {
        u8* shared = shared_memory();
        bool needed = warp_m < from_a.limit && warp_n < from_b.limit;
        u32 until = chunk;
        for (u32 first = 0; first < k; first += S::K) {
            from_a.copy_elements(shared, k - first);
            from_b.copy_elements(shared + A::BYTES, k - first);
            __syncthreads();
            if (needed) {
#pragma unroll
                for (int s = 0; s < STEPS; s++)
                    if (first + s * 16 < k) {
                        load(shared, s, 0);
                        multiply(0);
                    }
            }
            __syncthreads();
            if (CHUNKED && first + S::K == until && until < k) {
                to.take(*this);
                this->clear();
                until += chunk;
            }
        }
        to.take(*this);
    }
};

// Tile number `t` of `m` x `n`, `group` rows of tiles at a time, column after column: neighbours find operands in L2.
DEVICE void place_of_tile(u32 t, u32 m, u32 n, u32 group, u32& row, u32& column) {
    u32 in_group = group * n, first = t / in_group * group, rows = least(group, m - first);
    row = first + t % in_group % rows;
    column = t % in_group / rows;
}

// C `[m, n]`, or `+=`. Part y of the grid sums `span` of k, from y * span on, into `c + y * part`. Where A does not lie along k, chunks of
// `chunk` of k are summed from zero, and added to C one after the other.
struct Product { const u16* a; const u16* b; float* c; u64 part; u32 m, n, k, span, chunk, add, paired, group; };

// The block's tile, a T, of a whole product.
template <class T>
DEVICE void product(const Product& p) {
    u32 row, column;
    place_of_tile(blockIdx.x, (p.m + T::M - 1) / T::M, (p.n + T::N - 1) / T::N, p.group, row, column);
    u32 m = row * T::M, n = column * T::N, first = blockIdx.y * p.span;
    u64 a_stride = T::A::ALONG ? p.k : p.m, b_stride = T::B::ALONG ? p.k : p.n;
    typename T::A a(p.a + (T::A::ALONG ? m * a_stride + first : first * a_stride + m), a_stride, p.m - m);
    typename T::B b(p.b + (T::B::ALONG ? n * b_stride + first : first * b_stride + n), b_stride, p.n - n);
    Target c{p.c + blockIdx.y * p.part + (u64)m * p.n + n, p.n, p.m - m, p.n - n, p.add != 0, p.paired != 0};
    T tile;
    tile.template run<!T::A::ALONG>(a, b, least(p.span, p.k - first), p.chunk, c);
}

// The copies of tile `t` of `size` rows, where each expert's tiles begin with its first copy, and their expert. False if there are fewer tiles.
DEVICE bool find_tile(const u32* starts, u32 experts, u32 size, u32 t, u32& expert, u32& first, u32& end) {
    u32 lane = threadIdx.x % 32, before = 0;
    for (u32 group = 0; group < experts; group += 32) {
        u32 e = group + lane, tiles = 0;
        if (e < experts) tiles = (starts[e + 1] - starts[e] + size - 1) / size;
        u32 sum = tiles;
        for (u32 step = 1; step < 32; step *= 2) {
            u32 lower = __shfl_sync(ALL, sum, (lane - step) % 32);
            if (lane >= step) sum += lower;
        }
        u32 all = __shfl_sync(ALL, sum, 31);
        if (t - before < all) {
            // One lane's expert has it.
            u32 place = t - before, mine = place < sum && place >= sum - tiles;
            expert = mine ? e : 0;
            u32 tile = mine ? place - (sum - tiles) : 0;
            for (u32 step = 1; step < 32; step *= 2) {
                expert |= __shfl_xor_sync(ALL, expert, step);
                tile |= __shfl_xor_sync(ALL, tile, step);
            }
            first = starts[expert] + tile * size;
            end = starts[expert + 1];
            return true;
        }
        before += all;
    }
    return false;
}
