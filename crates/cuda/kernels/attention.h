// What attention's forward and backward share: tiles of rows and of keys in shared memory, and their products.
//
// A tile's rows are pairs of a position and a query head of one key head's group, position by position. Keys go in blocks of 64
// from the sequence's first, wherever they lie; those that a row does not see have probability 0, exactly, and change nothing of it.
#pragma once

#define NONE 0xffffffffu
#define LOG2_E 1.4426950408889634f
#define LN_2 0.6931471805599453f

// Keys of a block.
#define BLOCK 64
// Features of keys that lie in shared memory together, at most.
#define CHUNK 128

// Positions of a sequence: `rows` rows of the pass from `row`, of which the first sees `visible` keys, the next one more. The rows
// of the keys begin at key_rows[keys], in whole blocks; behind the last they are NONE.
struct Tile { u32 row, rows, visible, keys; };

// Division by the same number again and again: quotients of numbers whose product with it is less than 2^32.
struct Divisor { u32 n, reciprocal; }; // in 2^-32, rounded up; 0 of 1
DEVICE Divisor divisor(u32 n) { return {n, n == 1 ? 0 : 0xffffffffu / n + 1}; }
DEVICE u32 operator/(u32 x, Divisor d) { return d.reciprocal ? (u32)(((u64)x * d.reciprocal) >> 32) : x; }
DEVICE u32 operator%(u32 x, Divisor d) { return x - x / d * d.n; }
DEVICE u32 operator*(u32 x, Divisor d) { return x * d.n; }

DEVICE u32 rounded_up(u32 n, u32 to) { return (n + to - 1) / to * to; }

// Bytes of a row of features in shared memory, of which there are a multiple of 16: eight rows of them lie in other banks.
DEVICE u32 row_bytes(u32 features) { return features * 2 + 16; }

// Copies the features `first`..`first + count` of `rows` rows of `x`, of `features` each, to shared memory, as rows of `bytes` that
// hold `padded` features: zeros where a row is NONE and behind `count`. `row_of(r)` is the row to copy to place r. `thread` is one of
// `threads` that copy together; they wait as for copy_async, and meet before they read.
template <typename RowOf>
DEVICE void copy_rows(u8* to, u32 bytes, const u16* x, u32 rows, RowOf row_of, u32 features, u32 first, u32 count, u32 padded, u32 thread, u32 threads) {
    if ((features | first | count) % 8 == 0) {
        u32 vectors = padded / 8;
        for (u32 i = thread; i < rows * vectors; i += threads) {
            u32 r = i / vectors, c = i % vectors * 8, row = row_of(r);
            bool valid = row != NONE && c < count;
            copy_async(to + r * bytes + c * 2, valid ? x + (u64)row * features + first + c : x, valid);
        }
        return;
    }
    for (u32 i = thread; i < rows * padded; i += threads) {
        u32 r = i / padded, c = i % padded, row = row_of(r);
        bool valid = row != NONE && c < count;
        *(u16*)(to + r * bytes + c * 2) = valid ? x[(u64)row * features + first + c] : 0;
    }
}

// The same of 64 rows of WIDTH features, where these and THREADS are powers of two, from x on.
template <int WIDTH, int THREADS, typename RowOf>
DEVICE void copy_block(u8* to, const u16* x, RowOf row_of, u32 features, u32 thread) {
    constexpr u32 VECTORS = WIDTH / 8, AT_ONCE = THREADS / VECTORS;
    u32 r = thread / VECTORS, c = thread % VECTORS * 8;
    to += r * row_bytes(WIDTH) + c * 2;
    const u16* from = x + c;
#pragma unroll 8
    for (u32 i = 0; i < BLOCK; i += AT_ONCE) {
        u32 row = row_of(r + i);
        bool valid = row != NONE;
        copy_async(to + i * row_bytes(WIDTH), valid ? from + (u64)row * features : from, valid);
    }
}

// What a warp's lane points to, to load matrices of 16 rows and 16 features: as rows of A (or of B, transposed) ...
DEVICE u32 lane_of_a(u32 lane, u32 bytes) { return lane % 16 * bytes + lane / 16 * 16; }
// ... and as columns of B.
DEVICE u32 lane_of_b(u32 lane, u32 bytes) { return (lane % 8 + lane / 16 * 8) * bytes + lane / 8 % 2 * 16; }
