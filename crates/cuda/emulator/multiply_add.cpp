// What a tensor core of Hopper adds up, to the bit, after MMA-Sim (arXiv:2511.10909), which compared its model with the hardware.
#include "emulator.h"

namespace koan {
namespace {

constexpr int K = 16;
constexpr int FRACTION = 25;  // bits behind the point that terms keep
constexpr u32 NAN_BITS = 0x7fffffff;

// ---- The model ------------------------------------------------------------------------------------------------------------

// c + Σ a[k] b[k]: the terms are aligned to the largest exponent among them (a product has the sum of its factors' exponents), cut
// after 25 bits of fraction, added exactly; the sum is cut to f32. Zeros have no part in the alignment: MMA-Sim gives them an
// exponent, an H200 does not.
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
        if (terms[k] == 0) exponents[k] = -1000;
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

// ---- The same for many rows at a time -------------------------------------------------------------------------------------

#ifdef __AVX512F__
constexpr int W = 16;
#else
constexpr int W = 8;
#endif
typedef int Ints __attribute__((vector_size(4 * W)));
typedef int HalfInts __attribute__((vector_size(2 * W)));
typedef float HalfFloats __attribute__((vector_size(2 * W)));
typedef double Doubles __attribute__((vector_size(4 * W)));
typedef i64 Longs __attribute__((vector_size(4 * W)));

template <class To>
To load(const void* from) {
    To x;
    memcpy(&x, from, sizeof(x));
    return x;
}

// bf16 as fused_sum takes them apart: significand, exponent and sign (0 or -1) of each.
struct Terms { int significand[K], exponent[K], sign[K]; };

// Takes 16 bf16 apart, one in the lower half of each word, and says whether all are finite.
bool take_apart(const u32* x, int shift, Terms& to) {
    Ints special = {};
    for (int i = 0; i < 16; i += W) {
        Ints bits = load<Ints>(x + i), field = bits >> 7 & 255, normal = field > 0;  // -1 where it is
        Ints significand = ((bits & 127) | (normal & 128)) << shift, sign = -(bits >> 15 & 1);
        Ints exponent = significand != 0 ? field + 1 + normal : -1000;  // of zero lower than any
        memcpy(to.significand + i, &significand, sizeof(Ints));
        memcpy(to.exponent + i, &exponent, sizeof(Ints));
        memcpy(to.sign + i, &sign, sizeof(Ints));
        special |= field == 255;
    }
    int any = 0;
    for (int i = 0; i < W; i++) any |= special[i];
    return any == 0;
}

// d [8 columns][16 rows] += a [k][16 rows] times b [8 columns][k]; false if something is not finite, or a result is below the normal
// numbers: then d is as good as lost.
bool fused_sums(const Terms (&a)[K], const Terms (&b)[8], float (&d)[8][16]) {
    Longs tiny = {};
    Ints special = {};
    for (int n = 0; n < 8; n++) {
        for (int row = 0; row < 16; row += W) {
            Ints bits = load<Ints>(&d[n][row]);
            Ints field = bits >> 23 & 255, normal = field > 0;
            special |= field == 255;
            Ints addend = ((bits & 0x7fffff) | (normal & 0x800000)) << (FRACTION - 23);
            // Exponents here are sums of two fields: 254 above their value.
            Ints of_addend = addend != 0 ? field + 1 + normal + 127 : 0;
            Ints largest = of_addend;
            for (int k = 0; k < K; k++) {
                Ints exponent = load<Ints>(a[k].exponent + row) + b[n].exponent[k];
                largest = exponent > largest ? exponent : largest;
            }
            Ints sum = {};  // 16 products below 4 with 25 bits of fraction fit: 16 * 255 * 255 * 2^11 < 2^31
            for (int k = 0; k < K; k++) {
                Ints by = largest - (load<Ints>(a[k].exponent + row) + b[n].exponent[k]);
                by = by < 31 ? by : 31;
                Ints term = load<Ints>(a[k].significand + row) * b[n].significand[k] >> by;
                Ints sign = load<Ints>(a[k].sign + row) ^ b[n].sign[k];
                sum += (term ^ sign) - sign;
            }
            Ints by = largest - of_addend, sign = bits >> 31;
            by = by < 31 ? by : 31;
            addend = ((addend >> by) ^ sign) - sign;

            // Exact in f64; then the bits that f32 lacks are cut.
            for (int half = 0; half < 2; half++) {
                auto part = [&](const Ints& x) { return load<HalfInts>((const int*)&x + half * W / 2); };
                Doubles exact = __builtin_convertvector(part(sum), Doubles) + __builtin_convertvector(part(addend), Doubles);
                Longs exponent = __builtin_convertvector(part(largest), Longs) - 254 - FRACTION + 1023;
                exact *= (Doubles)(exponent << 52);
                exact = (Doubles)((Longs)exact & ~((1ll << 29) - 1)) + 0.0;  // + 0.0: zero has no sign
                tiny |= (((Longs)exact >> 52 & 2047) < 1023 - 126) & (exact != 0.0);
                HalfFloats result = __builtin_convertvector(exact, HalfFloats);
                memcpy(&d[n][row + half * W / 2], &result, sizeof(result));
            }
        }
    }
    i64 any = 0;
    for (int i = 0; i < W / 2; i++) any |= tiny[i];
    for (int i = 0; i < W; i++) any |= special[i];
    return any == 0;
}

}  // namespace

void multiply_add_of_warp(Warp& warp) {
    u32 a[K / 2][16], b[8][K / 2];  // pairs of neighbouring k
    float d[8][16], before[8][16];
    for (u32 l = 0; l < 32; l++) {
        const Fragments& f = *(const Fragments*)warp.arguments[l];
        u32 g = l / 4, t = l % 4;
        a[t][g] = f.a[0];
        a[t][g + 8] = f.a[1];
        a[t + 4][g] = f.a[2];
        a[t + 4][g + 8] = f.a[3];
        b[g][t] = f.b[0];
        b[g][t + 4] = f.b[1];
        d[2 * t][g] = f.d[0];
        d[2 * t + 1][g] = f.d[1];
        d[2 * t][g + 8] = f.d[2];
        d[2 * t + 1][g + 8] = f.d[3];
    }
    memcpy(before, d, sizeof(d));

    Terms of_a[K], of_b[8];
    u32 row_of_a[K][16];
    bool finite = true;
    for (u32 k = 0; k < K; k++) {
        for (u32 row = 0; row < 16; row++) row_of_a[k][row] = a[k / 2][row] >> 16 * (k % 2) & 0xffff;
        finite &= take_apart(row_of_a[k], FRACTION - 14, of_a[k]);
    }
    for (u32 n = 0; n < 8; n++) {
        u32 column[K];
        for (u32 k = 0; k < K; k++) column[k] = b[n][k / 2] >> 16 * (k % 2) & 0xffff;
        finite &= take_apart(column, 0, of_b[n]);
    }
    if (!fused_sums(of_a, of_b, d) || !finite) {
        for (u32 row = 0; row < 16; row++) {
            u16 of_row[K];
            for (u32 k = 0; k < K; k++) of_row[k] = (u16)row_of_a[k][row];
            for (u32 n = 0; n < 8; n++) d[n][row] = fused_sum(of_row, (const u16*)b[n], before[n][row]);
        }
    }
    for (u32 l = 0; l < 32; l++) {
        float* to = ((const Fragments*)warp.arguments[l])->d;
        u32 g = l / 4, t = l % 4;
        to[0] = d[2 * t][g];
        to[1] = d[2 * t + 1][g];
        to[2] = d[2 * t][g + 8];
        to[3] = d[2 * t + 1][g + 8];
    }
}

}  // namespace koan
