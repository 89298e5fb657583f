// Kernels with faults, for the tests of the emulator: each writes the numbers 255, 254 .. 0, or would.

struct Out { u32* y; u64 n; };

DEVICE u32* words() { return (u32*)shared_memory(); }

KERNEL(reversed, Out, 256) {
    words()[threadIdx.x] = threadIdx.x;
    __syncthreads();
    p.y[threadIdx.x] = words()[255 - threadIdx.x];
}

KERNEL(reversed_without_a_barrier, Out, 256) {
    words()[threadIdx.x] = threadIdx.x;
    p.y[threadIdx.x] = words()[255 - threadIdx.x];
}

KERNEL(warp_without_a_barrier, Out, 256) {
    words()[threadIdx.x] = threadIdx.x;
    p.y[threadIdx.x] = words()[threadIdx.x ^ 1];
}

// Numbers of shared memory that go through asynchronous copies and back.
KERNEL(copied, Out, 256) {
    p.y[threadIdx.x] = 255 - threadIdx.x;
    __syncthreads();
    if (threadIdx.x < 64) copy_async(words() + 4 * threadIdx.x, p.y + 4 * threadIdx.x, true);
    commit_copies();
    wait_for_copies<0>();
    __syncthreads();
    u32 mine = words()[threadIdx.x];
    __syncthreads();
    p.y[threadIdx.x] = mine;
}

KERNEL(read_before_the_wait, Out, 256) {
    if (threadIdx.x < 64) copy_async(words() + 4 * threadIdx.x, p.y + 4 * threadIdx.x, true);
    commit_copies();
    __syncthreads();
    u32 mine = words()[threadIdx.x];
    __syncthreads();
    wait_for_copies<0>();
    p.y[threadIdx.x] = mine;
}

KERNEL(copy_without_a_wait, Out, 256) {
    if (threadIdx.x == 7) copy_async(words(), p.y, true);
    commit_copies();
}

KERNEL(misaligned_copy, Out, 256) {
    if (threadIdx.x == 7) copy_async(words() + 2, p.y, true);
    commit_copies();
    wait_for_copies<0>();
}

KERNEL(barrier_in_a_branch, Out, 256) {
    if (threadIdx.x < 128) __syncthreads();
}

KERNEL(ends_before_a_barrier, Out, 256) {
    if (threadIdx.x == 100) return;
    __syncthreads();
}

KERNEL(shuffle_in_a_branch, Out, 256) {
    if (threadIdx.x % 2 == 0) __shfl_sync(ALL, threadIdx.x, 0);
    __syncwarp();
}

KERNEL(half_a_warp, Out, 256) {
    if (threadIdx.x % 32 < 16) __syncwarp();
}

KERNEL(beyond_shared_memory, Out, 256) {
    words()[1024] = 1;
}

KERNEL(beyond_memory, Out, 256) {
    p.y[p.n] = 1;
}
