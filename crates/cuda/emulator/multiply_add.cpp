// What a tensor core of Hopper adds up, to the bit, after MMA-Sim (arXiv:2511.10909), which compared its model with the hardware.
#include "emulator.h"

namespace koan {
namespace {

constexpr int K = 16;
constexpr int FRACTION = 25;  // bits behind the point that terms keep
constexpr u32 NAN_BITS = 0x7fffffff;

// ---- The model ------------------------------------------------------------------------------------------------------------

// c + Σ a[k] b[k]: the terms are aligned to the largest exponent among them (a product has the sum of its factors' exponents, zero
// the smallest), cut after 25 bits of fraction, added exactly; the sum is cut to f32.
float fused_sum(const u16* a, const u16* b, float c) {
    double ordinary = c;
    for (int k = 0; k < K; k++) ordinary += (double)__uint_as_float((u32)a[k] << 16) * (double)__uint_as_float((u32)b[k] << 16);
    if (isnan(ordinary)) return __uint_as_float(NAN_BITS);
    if (isinf(ordinary)) return (float)ordinary;

    i64 terms[K + 1];  // with FRACTION bits of fraction, above their exponents
    int exponents[K + 1], largest = -1000;
    for (int k = 0; k <= K; k++) {
        if (k < K) {
            int of_a = a[k] >> 7 & 255, of_b = b[k] >> 7 & 255;
            i64 product = (i64)((a[k] & 127) | (of_a > 0 ? 128 : 0)) * ((b[k] & 127) | (of_b > 0 ? 128 : 0));
            terms[k] = ((a[k] ^ b[k]) & 0x8000 ? -product : product) << (FRACTION - 14);
            exponents[k] = (of_a > 0 ? of_a : 1) + (of_b > 0 ? of_b : 1) - 254;
        } else {
            u32 bits = __float_as_uint(c);
            int of_c = bits >> 23 & 255;
            i64 significand = (bits & 0x7fffff) | (of_c > 0 ? 0x800000 : 0);
            terms[k] = (bits >> 31 ? -significand : significand) << (FRACTION - 23);
            exponents[k] = (of_c > 0 ? of_c : 1) - 127;
        }
        largest = max(largest, exponents[k]);
    }
    i64 sum = 0;
    for (int k = 0; k <= K; k++) {
        int by = min(largest - exponents[k], 62);
        sum += terms[k] < 0 ? -(-terms[k] >> by) : terms[k] >> by;
    }
    u64 magnitude = (u64)(sum < 0 ? -sum : sum);
    int exponent = largest - FRACTION;  // of the lowest bit
    int drop = max(magnitude == 0 ? 0 : 63 - __builtin_clzll(magnitude) - 23, -149 - exponent);
    if (drop > 0) magnitude = drop > 63 ? 0 : magnitude >> drop << drop;
    double value = ldexp((double)magnitude, exponent);
    return (float)(sum < 0 && magnitude > 0 ? -value : value);
}

// ---- The same for 16 rows at a time -----------------------------------------------------------------------------------------

typedef u16 U16s __attribute__((vector_size(32)));
typedef int Ints __attribute__((vector_size(64)));
typedef float Floats __attribute__((vector_size(64)));
typedef double Doubles __attribute__((vector_size(128)));
typedef i64 Longs __attribute__((vector_size(128)));

struct Terms { Ints significand, exponent, sign; };

struct Operands {
    U16s a[K];  // rows of each k
    u16 b[8][K];
    Floats d[8];  // rows of each column
};

Ints splat(int x) { return x - (Ints){}; }

// Of 16 bf16: what fused_sum makes of each.
Terms terms_of(U16s x) {
    Ints bits = __builtin_convertvector(x, Ints);
    Ints field = bits >> 7 & 255;
    Ints normal = field > 0;  // -1 where it is
    return {(bits & 127) | (normal & 128), field + 1 + normal, -(bits >> 15 & 1)};
}

bool any(Ints x) {
    int or_of_all = 0;
    for (int i = 0; i < 16; i++) or_of_all |= x[i];
    return or_of_all != 0;
}

// d += a b, unless something in it is not finite or the result is below the normal numbers: such elements are set in `open`.
void fused_sums(Operands& o, Ints (&open)[8]) {
    Terms a[K];
    Ints of_rows = {};
    for (int k = 0; k < K; k++) {
        a[k] = terms_of(o.a[k]);
        of_rows |= a[k].exponent == 255;
        a[k].significand <<= FRACTION - 14;
    }
    for (int n = 0; n < 8; n++) {
        Ints bits = (Ints)o.d[n];
        Ints field = bits >> 23 & 255, normal = field > 0;
        Ints addend = ((bits & 0x7fffff) | (normal & 0x800000)) << (FRACTION - 23);
        // Exponents here are sums of two fields: 254 above their value.
        Ints of_addend = field + 1 + normal + 127;
        bool finite = true;
        int significands[K], exponents[K], signs[K];
        Ints largest = of_addend;
        for (int k = 0; k < K; k++) {
            int of_b = o.b[n][k] >> 7 & 255;
            finite &= of_b < 255;
            significands[k] = (o.b[n][k] & 127) | (of_b > 0 ? 128 : 0);
            exponents[k] = of_b > 0 ? of_b : 1;
            signs[k] = -(o.b[n][k] >> 15);
            Ints exponent = a[k].exponent + exponents[k];
            largest = exponent > largest ? exponent : largest;
        }
        Ints sum = {};  // 16 products below 4 with 25 bits of fraction fit: 16 * 255 * 255 * 2^11 < 2^31
        for (int k = 0; k < K; k++) {
            Ints by = largest - (a[k].exponent + exponents[k]);
            by = by > 31 ? splat(31) : by;
            Ints term = a[k].significand * significands[k] >> by;
            Ints sign = a[k].sign ^ signs[k];
            sum += (term ^ sign) - sign;
        }
        Ints by = largest - of_addend;
        by = by > 31 ? splat(31) : by;
        Ints sign = bits >> 31;
        addend = ((addend >> by) ^ sign) - sign;

        // Exact in f64; then the bits that f32 lacks are cut.
        Doubles exact = __builtin_convertvector(sum, Doubles) + __builtin_convertvector(addend, Doubles);
        Longs unit = __builtin_convertvector(largest, Longs) - 254 - FRACTION + 1023;
        exact *= (Doubles)(unit << 52);
        exact = (Doubles)((Longs)exact & ~((1ll << 29) - 1)) + 0.0;
        o.d[n] = __builtin_convertvector(exact, Floats);
        Longs tiny = (((Longs)exact >> 52 & 2047) < 1023 - 126) & (exact != 0.0);
        open[n] = of_rows | (field == 255) | splat(finite ? 0 : -1) | __builtin_convertvector(tiny, Ints);
    }
}

}  // namespace

void multiply_add_of_warp(Warp& warp) {
    const Fragments* lanes[32];
    Operands o;
    u16 a[K][16];
    float d[8][16];
    for (u32 l = 0; l < 32; l++) {
        const Fragments& f = *(lanes[l] = (const Fragments*)warp.arguments[l]);
        u32 g = l / 4, t = 2 * (l % 4);
        for (u32 i = 0; i < 4; i++) {
            u32 row = g + 8 * (i & 1), k = t + 8 * (i >> 1);
            a[k][row] = (u16)f.a[i];
            a[k + 1][row] = (u16)(f.a[i] >> 16);
            d[t + (i & 1)][g + 8 * (i >> 1)] = f.d[i];
        }
        for (u32 i = 0; i < 2; i++) {
            o.b[g][t + 8 * i] = (u16)f.b[i];
            o.b[g][t + 8 * i + 1] = (u16)(f.b[i] >> 16);
        }
    }
    memcpy(o.a, a, sizeof(a));
    memcpy(o.d, d, sizeof(d));
    Ints open[8];
    fused_sums(o, open);
    for (u32 n = 0; n < 8; n++) {
        for (u32 row = 0; any(open[n]) && row < 16; row++) {
            if (!open[n][row]) continue;
            u16 of_row[K];
            for (u32 k = 0; k < K; k++) of_row[k] = a[k][row];
            o.d[n][row] = fused_sum(of_row, o.b[n], d[n][row]);
        }
    }
    memcpy(d, o.d, sizeof(d));
    for (u32 l = 0; l < 32; l++) {
        u32 g = l / 4, t = 2 * (l % 4);
        for (u32 i = 0; i < 4; i++) lanes[l]->d[i] = d[t + (i & 1)][g + 8 * (i >> 1)];
    }
}

}  // namespace koan
