// The scheduler of blocks and threads, and what threads do together. emulator.h explains it.
#include "emulator.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <memory>

namespace koan {

__thread State* state;

namespace {

constexpr u32 MAX_THREADS = 1024;
constexpr u64 MAX_SHARED = 227 * 1024;  // bytes, as on Hopper
constexpr u64 RED_ZONE = 4096;          // bytes before and behind shared memory that nobody may write
constexpr u64 STACK = 64 * 1024;        // bytes of a fiber
constexpr u64 STACK_STRIDE = STACK + 17 * 64;  // so that their tops do not compete for the same lines of the cache
constexpr u64 STACK_MARK = 0x6b6f616e6b6f616e;
constexpr u8 NOTHING = 0xff;  // bytes of NaN

u8* map(u64 bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        fputs("the emulator of GPUs: there is no memory for its stacks\n", stderr);
        abort();
    }
    return (u8*)memory;
}

// What a thread of the CPU needs to run blocks; kept from launch to launch.
struct Worker {
    Thread threads[MAX_THREADS];
    Thread* ready[MAX_THREADS];
    Warp warps[MAX_THREADS / 32] = {};
    u8* stacks = map(MAX_THREADS * STACK_STRIDE);
    u8* zones = map(MAX_SHARED + 2 * RED_ZONE);

    Worker() { memset(zones, NOTHING, MAX_SHARED + 2 * RED_ZONE); }
    ~Worker() {
        munmap(stacks, MAX_THREADS * STACK_STRIDE);
        munmap(zones, MAX_SHARED + 2 * RED_ZONE);
    }

    std::vector<Box> boxes;
    std::vector<Thread*> at_phase;

    u8* shared() { return zones + RED_ZONE; }
    u64& stack_mark(u32 thread) { return *(u64*)(stacks + thread * STACK_STRIDE); }
    void** stack_top(u32 thread) { return (void**)(stacks + thread * STACK_STRIDE + STACK); }
};

// ---- Orders ---------------------------------------------------------------------------------------------------------------

u64 scrambled(u64 x) {  // splitmix64
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

u64 next_random() {
    state->random++;
    return scrambled(state->random);
}

// Makes the lanes of a warp ready, in a random order.
void make_ready(u32 warp, const Thread* but) {
    State& s = *state;
    u32 random = (u32)next_random();
    u32 start = random & 31, step = random >> 5 | 1;
    for (u32 i = 0; i < 32; i++) {
        Thread* thread = &s.threads[warp * 32 + ((start + i * step) & 31)];
        if (thread != but) s.ready[s.ready_count++] = thread;
    }
}

// Makes all warps ready, in a random order.
void make_all_ready(const Thread* but) {
    u32 warps = state->block_size.x / 32, order[MAX_THREADS / 32];
    for (u32 i = 0; i < warps; i++) {
        u32 j = (u32)(next_random() % (i + 1));
        order[i] = order[j];
        order[j] = i;
    }
    for (u32 i = 0; i < warps; i++) make_ready(order[i], but);
}

// ---- Failures -------------------------------------------------------------------------------------------------------------

void describe(const char* format, va_list arguments) {
    State& s = *state;
    s.failed = true;
    int used = snprintf(s.message, s.message_bytes, "kernel %s, block (%u, %u, %u), thread %u of %u: ", s.kernel_name, s.block.x,
                        s.block.y, s.block.z, s.thread->index.x, s.block_size.x);
    if (used >= 0 && (u64)used < s.message_bytes) vsnprintf(s.message + used, s.message_bytes - (u64)used, format, arguments);
}

// Notes what is wrong; to be called by the launcher.
__attribute__((format(printf, 1, 2))) void note(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    describe(format, arguments);
    va_end(arguments);
}

[[noreturn]] void go_to(void* stack_pointer) {
    void* never;
    switch_fiber(&never, stack_pointer);
    __builtin_unreachable();
}

const char* name_of(Collective collective) {
    switch (collective) {
        case Collective::Barrier: return "__syncwarp";
        case Collective::Shuffle: return "a shuffle";
        case Collective::Vote: return "a vote";
        case Collective::LoadMatrices: return "load_matrices";
        case Collective::LoadMatricesTransposed: return "load_matrices_transposed";
        case Collective::MultiplyAdd: return "multiply_add";
    }
    return "?";
}

// A kernel that reads where nothing is ends the program: this says which it was.
struct sigaction before;

void on_bad_address(int signal, siginfo_t* info, void* context) {
    if (state != nullptr && state->kernel_name != nullptr) {
        char message[512];
        State& s = *state;
        int length = snprintf(message, sizeof(message), "\nkernel %s, block (%u, %u, %u), thread %u of %u: there is no memory at %p\n",
                              s.kernel_name, s.block.x, s.block.y, s.block.z, s.thread->index.x, s.block_size.x, info->si_addr);
        if (length > 0) fwrite(message, 1, (u64)length, stderr);
        abort();
    }
    if ((before.sa_flags & SA_SIGINFO) && before.sa_sigaction != nullptr) {
        before.sa_sigaction(signal, info, context);
    } else {
        sigaction(signal, &before, nullptr);
    }
}

bool watch_addresses() {
    struct sigaction action = {};
    action.sa_sigaction = on_bad_address;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &before);
    return true;
}

// ---- Blocks ---------------------------------------------------------------------------------------------------------------

// Where a fiber begins.
[[noreturn]] void run_thread() {
    state->kernel(state->params);
    State& s = *state;
    s.ended++;
    if (s.ready_count == 0) {
        if (s.ended < s.block_size.x) fail_stuck();
        go_to(s.launcher);
    }
    s.thread = s.ready[--s.ready_count];
    go_to(s.thread->stack_pointer);
}

void run_block(Worker& worker) {
    State& s = *state;
    memset(s.shared, NOTHING, s.shared_bytes);
    for (u32 i = 0; i < s.block_size.x; i++) {
        Thread& thread = worker.threads[i];
        thread.index = {i, 0, 0};
        thread.copy_groups = 0;
        thread.copies.clear();
        thread.wide_groups = 0;
        thread.wide_begun = false;
        thread.wides.clear();
        worker.stack_mark(i) = STACK_MARK;
        // What switch_fiber finds: the address to go on at, and what a call would have left of the stack's alignment.
        void** top = worker.stack_top(i) - 8;
        top[0] = (void*)run_thread;
        thread.stack_pointer = top;
    }
    for (u32 i = 0; i < s.block_size.x / 32; i++) s.warps[i].arrived = s.warps[i].turn = 0;
    s.at_barrier = s.ended = s.ready_count = 0;
    s.boxes->clear();
    s.at_phase->clear();
    make_all_ready(nullptr);
    s.thread = s.ready[--s.ready_count];
    switch_fiber(&s.launcher, s.thread->stack_pointer);
    if (s.failed) return;

    for (u32 i = 0; i < s.block_size.x; i++) {
        s.thread = &worker.threads[i];
        if (worker.stack_mark(i) != STACK_MARK) return note("its variables need more than the %llu bytes of a stack", STACK);
        if (!s.thread->copies.empty()) return note("it ended while a copy_async was under way: wait for it");
        if (!s.thread->wides.empty()) return note("it ended while a multiply_add_wide was under way: wait for it");
    }
    if (!s.boxes->empty()) return note("it ended while a copy_box was under way: wait for its barrier");
    for (u64 i = 0; i < RED_ZONE; i++) {
        u8 *front = worker.zones, *behind = s.shared + s.shared_bytes;
        if (front[i] != NOTHING || behind[i] != NOTHING) {
            return note("somebody wrote outside of the block's %llu bytes of shared memory", s.shared_bytes);
        }
    }
}

u64 greatest_common_divisor(u64 a, u64 b) { return b == 0 ? a : greatest_common_divisor(b, a % b); }

}  // namespace

void fail(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    describe(format, arguments);
    va_end(arguments);
    go_to(state->launcher);
}

// No thread can run, and not all have ended.
void fail_stuck() {
    State& s = *state;
    for (u32 i = 0; i < s.block_size.x / 32; i++) {
        if (s.warps[i].arrived > 0) {
            fail("the block is stuck: %u threads have ended, %u wait at __syncthreads, %u lanes of warp %u wait for the rest at %s",
                 s.ended, s.at_barrier, s.warps[i].arrived, i, name_of(s.warps[i].collective));
        }
    }
    fail("the block is stuck: %u threads have ended, %u wait for them at __syncthreads, %u for a phase of a barrier", s.ended,
         s.at_barrier, (u32)s.at_phase->size());
}

void fail_mixed(Collective here, Collective there) {
    fail("it came to %s while other lanes of its warp wait at %s", name_of(here), name_of(there));
}

void release_block() { make_all_ready(state->thread); }
void release_warp(u32 warp, const Thread* but) { make_ready(warp, but); }

// ---- Together -------------------------------------------------------------------------------------------------------------

void load_matrices_of_warp(Warp& warp) {
    State& s = *state;
    const Matrices* lanes[32];
    for (u32 l = 0; l < 32; l++) {
        lanes[l] = (const Matrices*)warp.arguments[l];
        u64 at = (u64)(lanes[l]->row - s.shared);
        if (at % 16 != 0 || at + 16 > s.shared_bytes) {
            s.thread = &s.threads[s.thread->index.x / 32 * 32 + l];
            fail("load_matrices of a row at byte %lld of %llu of shared memory", (i64)at, s.shared_bytes);
        }
    }
    for (u32 i = 0; i < 4; i++) {
        u16 matrix[8][8];
        for (u32 row = 0; row < 8; row++) memcpy(matrix[row], lanes[8 * i + row]->row, 16);
        for (u32 l = 0; l < 32; l++) {
            u32 g = l / 4, t = 2 * (l % 4);
            bool transposed = warp.collective == Collective::LoadMatricesTransposed;
            u16 first = transposed ? matrix[t][g] : matrix[g][t], second = transposed ? matrix[t + 1][g] : matrix[g][t + 1];
            lanes[l]->m[i] = (u32)second << 16 | first;
        }
    }
}

void begin_copy(void* to, const void* from) {
    State& s = *state;
    u64 at = (u64)((u8*)to - s.shared);
    if (at % 16 != 0 || at + 16 > s.shared_bytes) {
        fail("copy_async to byte %lld of %llu of shared memory", (i64)at, s.shared_bytes);
    }
    if ((u64)from % 16 != 0) fail("copy_async from an address that is not a multiple of 16");
    memset(to, NOTHING, 16);
    s.thread->copies.push_back({(u8*)to, (const u8*)from, s.thread->copy_groups});
}

void finish_copies(u32 groups_under_way) {
    Thread& thread = *state->thread;
    u64 done = 0;
    for (; done < thread.copies.size(); done++) {
        const Copy& copy = thread.copies[done];
        if (copy.group + groups_under_way >= thread.copy_groups) break;
        if (copy.from != nullptr) {
            memcpy(copy.to, copy.from, 16);
        } else {
            memset(copy.to, 0, 16);
        }
    }
    thread.copies.erase(thread.copies.begin(), thread.copies.begin() + (i64)done);
}

#if defined(__aarch64__)
asm(R"(
    .global koan_switch_fiber
koan_switch_fiber:
    sub sp, sp, #160
    stp x19, x20, [sp, #16]
    stp x21, x22, [sp, #32]
    stp x23, x24, [sp, #48]
    stp x25, x26, [sp, #64]
    stp x27, x28, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    stp x30, x29, [sp]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x30, x29, [sp]
    ldp x19, x20, [sp, #16]
    ldp x21, x22, [sp, #32]
    ldp x23, x24, [sp, #48]
    ldp x25, x26, [sp, #64]
    ldp x27, x28, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");
#endif

// ---- What a compiler's checks call: KOAN_EMULATOR_CHECKS of src/emulator/compile.rs ------------------------------------------

struct Place { const char* file; u32 line, column; };

#define KOAN_CHECK(name, words) \
    extern "C" void __ubsan_handle_##name(const Place* at) { fail("%s:%u:%u: %s", at->file, at->line, at->column, words); }
KOAN_CHECK(type_mismatch_v1, "an address that is not aligned as its type is")
KOAN_CHECK(out_of_bounds, "an index beyond the array")
KOAN_CHECK(shift_out_of_bounds, "a shift by more bits than there are")
KOAN_CHECK(divrem_overflow, "a division by zero")
KOAN_CHECK(float_cast_overflow, "a number too large for the integer")

// ---- The launch -----------------------------------------------------------------------------------------------------------

// Runs a kernel; `message` then says what went wrong, if it returns other than 0.
extern "C" int koan_launch(void (*kernel)(const void*), const char* name, const void* params, const u32* grid, u32 threads,
                           u64 shared_bytes, u64 seed, char* message, u64 message_bytes) {
    static bool watched = watch_addresses();
    (void)watched;
    thread_local std::unique_ptr<Worker> kept(new Worker);
    Worker& worker = *kept;

    State s = {};
    state = &s;
    s.kernel_name = name;
    s.kernel = kernel;
    s.params = params;
    s.grid = {grid[0], grid[1], grid[2]};
    s.block_size = {threads, 1, 1};
    s.shared = worker.shared();
    s.shared_bytes = shared_bytes;
    s.threads = worker.threads;
    s.thread = worker.threads;
    s.warps = worker.warps;
    s.ready = worker.ready;
    s.boxes = &worker.boxes;
    s.at_phase = &worker.at_phase;
    s.random = scrambled(seed);
    s.message = message;
    s.message_bytes = message_bytes;

    u64 blocks = (u64)grid[0] * grid[1] * grid[2];
    if (threads == 0 || threads % 32 != 0 || threads > MAX_THREADS) {
        note("a block has a multiple of 32 threads, and at most %u", MAX_THREADS);
    } else if (shared_bytes > MAX_SHARED) {
        note("a block has at most %llu bytes of shared memory, not %llu", MAX_SHARED, shared_bytes);
    } else if (grid[0] > 0x7fffffff || grid[1] > 65535 || grid[2] > 65535) {
        note("a grid of %u x %u x %u blocks: x can be 2^31 - 1 at most, y and z 65535", grid[0], grid[1], grid[2]);
    }
    // Blocks in a random order: start + i * step, where step and the number of blocks have no divisor in common.
    u64 start = next_random() % blocks, step = next_random() % blocks;
    while (greatest_common_divisor(step, blocks) != 1) step++;
    for (u64 i = 0; i < blocks && !s.failed; i++) {
        u64 block = (u64)((start + (unsigned __int128)i * step) % blocks);
        s.block = {(u32)(block % grid[0]), (u32)(block / grid[0] % grid[1]), (u32)(block / grid[0] / grid[1])};
        run_block(worker);
        memset(s.shared, NOTHING, s.shared_bytes);
    }
    if (s.failed) memset(worker.zones, NOTHING, MAX_SHARED + 2 * RED_ZONE);
    state = nullptr;
    return s.failed;
}

}  // namespace koan
