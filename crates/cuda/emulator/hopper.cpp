// Hopper's tensor cores that read shared memory, its barriers and its copy engine, after the PTX manual (sections on wgmma.mma_async, mbarrier
// and cp.async.bulk.tensor). A step of wgmma is computed as that of mma.sync: so the model of Hopper's arithmetic has it.
#include "emulator.h"

namespace koan {
namespace {

// The place in shared memory at which swizzling by 128 bytes puts byte `at`.
u64 swizzled(u64 at) { return at ^ (at >> 7 & 7) << 4; }

// Element (index, k) of a matrix that a descriptor describes: rows of 128 bytes, of k or of 64 indices, in groups of 8.
u16 element(u64 matrix, bool by_k, u32 index, u32 k) {
    State& s = *state;
    u64 start = (matrix & 0x3fff) << 4, leading = (matrix >> 16 & 0x3fff) << 4, stride = (matrix >> 32 & 0x3fff) << 4;
    if (matrix >> 62 != 1) fail("a matrix of a wide multiplication that is not swizzled by 128 bytes");
    u64 at = start + (by_k ? index / 8 * stride + index % 8 * 128 + k * 2
                           : index / 64 * leading + k / 8 * stride + k % 8 * 128 + index % 64 * 2);
    at = swizzled(at);
    if (at + 2 > s.shared_bytes) fail("a wide multiplication reads byte %llu of %llu of shared memory", at, s.shared_bytes);
    u16 value;
    memcpy(&value, s.shared + at, 2);
    return value;
}

u32 pair(u16 low, u16 high) { return (u32)high << 16 | low; }

void multiply(const Wide& wide) {
    u32 warp = state->thread->index.x / 32 % 4, g = lane() / 4, t = 2 * (lane() % 4);
    u32 a[4];
    for (u32 i = 0; i < 4; i++) {
        u32 row = 16 * warp + g + 8 * (i & 1), k = t + 8 * (i >> 1);
        a[i] = pair(element(wide.a, wide.a_by_k, row, k), element(wide.a, wide.a_by_k, row, k + 1));
    }
    for (u32 column = 0; column < wide.columns; column += 8) {
        u32 b[2];
        for (u32 i = 0; i < 2; i++) {
            u32 k = t + 8 * i;
            b[i] = pair(element(wide.b, wide.b_by_k, column + g, k), element(wide.b, wide.b_by_k, column + g, k + 1));
        }
        float* sums = wide.d + column / 2;
        float(&d)[4] = *(float(*)[4])sums;
        if (!wide.add) d[0] = d[1] = d[2] = d[3] = 0.0f;
        ::multiply_add(d, a, b[0], b[1]);
    }
}

// What a barrier's 8 bytes hold.
struct Counts { u16 arrivals, pending; u32 phase : 1, bytes : 31; };

Counts counts_of(const u64* barrier) {
    Counts counts;
    u64 at = (u64)((const u8*)barrier - state->shared);
    if (at % 8 != 0 || at + 8 > state->shared_bytes) fail("a barrier at byte %lld of shared memory", (i64)at);
    memcpy(&counts, barrier, 8);
    if (counts.arrivals == 0 || counts.arrivals == 0xffff) fail("a barrier that nobody began");
    return counts;
}

void set(u64* barrier, Counts counts) {
    if (counts.pending == 0 && counts.bytes == 0) {
        counts.phase ^= 1;
        counts.pending = counts.arrivals;
    }
    memcpy(barrier, &counts, 8);
}

// Has the threads that wait for a phase look again.
void wake() {
    State& s = *state;
    for (Thread* thread : *s.at_phase) s.ready[s.ready_count++] = thread;
    s.at_phase->clear();
}

// Brings a box: rows of 128 bytes, swizzled; zeros for what is beyond the matrix.
void bring(const Box& box) {
    State& s = *state;
    for (u64 row = 0; row < box.box_rows; row++) {
        for (u64 column = 0; column < 64; column++) {
            bool within = box.row + row < box.rows && box.column + column < box.columns;
            u16 value = within ? box.from[(box.row + row) * box.columns + box.column + column] : 0;
            memcpy(s.shared + swizzled((u64)(box.to - s.shared) + row * 128 + column * 2), &value, 2);
        }
    }
}

// Brings all that a barrier waits for, once nobody's arrival is missing.
void bring_all(u64* barrier) {
    Counts counts = counts_of(barrier);
    std::vector<Box>& boxes = *state->boxes;
    if (counts.pending > 0) return;
    u64 kept = 0;
    for (u64 i = 0; i < boxes.size(); i++) {
        if (boxes[i].barrier != barrier) {
            boxes[kept++] = boxes[i];
            continue;
        }
        bring(boxes[i]);
        u64 bytes = boxes[i].box_rows * 128;
        if (bytes > counts.bytes) fail("the copy engine brings more bytes than its barrier expects");
        counts.bytes -= (u32)bytes;
    }
    boxes.resize(kept);
    set(barrier, counts);
}

}  // namespace

void begin_wide_of_lane(const Wide& wide) {
    Thread& thread = *state->thread;
    if (!thread.wide_begun) fail("multiply_add_wide without begin_wide before its group");
    thread.wides.push_back(wide);
    thread.wides.back().group = thread.wide_groups;
}

void finish_wides(u32 groups_under_way) {
    Thread& thread = *state->thread;
    u64 done = 0;
    for (; done < thread.wides.size(); done++) {
        if (thread.wides[done].group + groups_under_way >= thread.wide_groups) break;
        multiply(thread.wides[done]);
    }
    thread.wides.erase(thread.wides.begin(), thread.wides.begin() + (i64)done);
}

void begin_barrier(u64* barrier, u32 arrivals) {
    Counts counts = {(u16)arrivals, (u16)arrivals, 0, 0};
    memcpy(barrier, &counts, 8);
}

void arrive(u64* barrier, u32 bytes) {
    Counts counts = counts_of(barrier);
    if (counts.pending == 0) fail("more arrivals than the barrier waits for");
    counts.pending--;
    counts.bytes += bytes;
    set(barrier, counts);
    wake();
}

void wait_for_phase(u64* barrier, u32 parity) {
    while (counts_of(barrier).phase == parity) {
        bring_all(barrier);
        if (counts_of(barrier).phase != parity) break;
        State& s = *state;
        s.at_phase->push_back(s.thread);
        wait();
    }
}

void begin_box(const Box& box) {
    State& s = *state;
    u64 at = (u64)(box.to - s.shared), bytes = box.box_rows * 128;
    if (at % 1024 != 0 || at + bytes > s.shared_bytes) fail("copy_box to byte %lld of %llu of shared memory", (i64)at, s.shared_bytes);
    counts_of(box.barrier);
    memset(box.to, 0xff, bytes);
    s.boxes->push_back(box);
    wake();
}

}  // namespace koan
