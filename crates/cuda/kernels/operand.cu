// Rounding the values of operands to bf16.

struct Round { u16* y; float* x; u64 n; float factor; u32 scaled; };

KERNEL(round_values, Round, 256) {
    u64 i = (u64)blockIdx.x * 256 + threadIdx.x;
    if (i >= p.n) return;
    float x = p.x[i];
    if (p.scaled) {
        x = __fmul_rn(x, p.factor);
        p.x[i] = x;
    }
    p.y[i] = to_bf16(x);
}
