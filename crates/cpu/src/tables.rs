//! The tables of kernels, one per instruction set.
//!
//! The list below compiles each kernel for every instruction set, as a `target_feature` function, and makes a table
//! of them. The tables of AVX-512 BF16 and AMX are AVX-512's, except the products.

use koan_backend::{AdamWStep, DivergenceForm, Rotation, Scoring, Store};

use crate::{
    isa::Isa,
    kernels::{
        adamw, attention, ceiling, divergence, fp8, log_prob,
        product::{Block, Format, Panels, Source, coded, pack, vector},
        rms_norm, rope, route, rows, swiglu,
    },
    simd::{self, Simd},
};

macro_rules! kernels {
    ($($name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)? = $kernel:path;)*) => {
        /// The kernels of one instruction set, each with the signature of the generic one.
        pub(crate) struct Kernels {
            /// How products want B.
            pub(crate) format: Format,
            /// Elements of scratch that the product of a block needs, by its rows and depth.
            pub(crate) scratch_len: fn(usize, usize) -> usize,
            /// Rows of a tile of C.
            pub(crate) tile_rows: usize,
            /// Operations of a turn of `multiply_adds`.
            pub(crate) operations_of_turn: usize,
            /// Rounds f32 to the bf16 that products read, as packing does; none where products read f32.
            round: Option<unsafe fn(&mut [u16], &[f32])>,
            $($name: unsafe fn($($type),*) $(-> $out)?,)*
        }

        impl Kernels {
            $(
                #[inline]
                pub(crate) fn $name(&self, $($arg: $type),*) $(-> $out)? {
                    // SAFETY: `Kernels::of`, the only source of tables, found the instruction set on this
                    // machine.
                    unsafe { (self.$name)($($arg),*) }
                }
            )*
        }

        kernels! {
            @table PORTABLE simd::Portable, inline(never);
            $($name($($arg: $type),*) $(-> $out)? = $kernel;)*
        }
        #[cfg(target_arch = "x86_64")]
        kernels! {
            @table AVX2 simd::Avx2, target_feature(enable = "avx2,fma");
            $($name($($arg: $type),*) $(-> $out)? = $kernel;)*
        }
        #[cfg(target_arch = "x86_64")]
        kernels! {
            @table AVX512 simd::Avx512,
                target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");
            $($name($($arg: $type),*) $(-> $out)? = $kernel;)*
        }
    };
    (
        @table $table:ident $simd:ty, $compile:meta;
        $($name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)? = $kernel:path;)*
    ) => {
        const $table: Kernels = Kernels {
            format: Format {
                panel_columns: 2 * <$simd>::LANES,
                depth: 1,
                per_f32: 1,
                block_rows: vector::BLOCK_ROWS,
                block_columns: vector::BLOCK_COLUMNS,
            },
            scratch_len: vector::scratch_len,
            tile_rows: <$simd>::TILE_ROWS,
            operations_of_turn: 2 * ceiling::SUMS * <$simd>::LANES,
            round: None,
            $($name: {
                #[$compile]
                unsafe fn $name($($arg: $type),*) $(-> $out)? {
                    // SAFETY: the caller vouches for the instruction set.
                    $kernel(unsafe { <$simd>::new() }, $($arg),*)
                }
                $name
            },)*
        };
    };
}

kernels! {
    pack(panel: &mut [f32], b: Source<'_>) = pack::panel;
    unpack(rows: &mut [f32], panel: &[f32]) = pack::unpack;
    multiply(c: Block, a: Source<'_>, b: Panels<'_>, store: Store, scratch: &mut [f32]) = vector::multiply;
    multiply_adds(turns: usize) -> f32 = ceiling::multiply_adds;
    read(x: &[f32]) -> f32 = ceiling::read;
    int8_dequantize(panel: &mut [f32], codes: &[i8], scales: &[f32]) = coded::dequantize;
    widen(panel: &mut [f32], words: &[u32]) = coded::widen;
    coded_multiply(c: Block, a: Source<'_>, b: Panels<'_>, store: Store) = coded::multiply;
    add(y: &mut [f32], x: &[f32]) = rows::add;
    scale(x: &mut [f32], factor: f32) = rows::scale;
    fp8_round_block(y: &mut [f32], x: &[f32]) -> f32 = fp8::round_block;
    fp8_round(y: &mut [f32], x: &[f32], scale: f32) = fp8::round;
    fp8_round_columns(y: &mut [f32], x: &[f32], scales: &[f32]) = fp8::round_columns;
    fp8_largest(x: &[f32]) -> f32 = fp8::largest;
    fp8_raise(most: &mut [f32], x: &[f32]) = fp8::raise;
    fp8_scales(most: &mut [f32]) = fp8::scales;
    fp8_unscale(y: &mut [f32], scale: f32) = fp8::unscale;
    fp8_add_scaled(c: &mut [f32], sums: &[f32], row_scale: f32, column_scales: &[f32]) = fp8::add_scaled;
    rms_norm_forward(y: &mut [f32], rstd: &mut [f32], x: &[f32], w: &[f32], eps: f32) = rms_norm::forward;
    rms_norm_backward(dx: &mut [f32], dy: &[f32], x: &[f32], w: &[f32], rstd: &[f32]) = rms_norm::backward;
    rms_norm_backward_weight(
        dw: &mut [f32], column: usize, features: usize, dy: &[f32], x: &[f32], rstd: &[f32]
    ) = rms_norm::backward_weight;
    rope(x: &mut [f32], table: rope::Table<'_>, positions: &[u32], rotation: Rotation) = rope::rotate;
    attention_forward(task: attention::Forward<'_>, scratch: &mut [f32]) = attention::forward;
    attention_backward(task: attention::Backward<'_>, scratch: &mut [f32]) = attention::backward;
    swiglu_forward(y: &mut [f32], gate: &[f32], up: &[f32]) = swiglu::forward;
    swiglu_backward(dy: &mut [f32], gate: &mut [f32], up: &mut [f32]) = swiglu::backward;
    weighted_swiglu_forward(y: &mut [f32], gate: &[f32], up: &[f32], weights: &[f32], features: usize)
        = swiglu::weighted_forward;
    weighted_swiglu_backward(
        d_weights: &mut [f32], dy: &mut [f32], gate: &mut [f32], up: &mut [f32], weights: &[f32],
        features: usize
    ) = swiglu::weighted_backward;
    scores(logits: &mut [f32], experts: usize, scoring: Scoring) = route::scores;
    balance(d: &mut [f32], scores: &[f32], f: &[f32], balance: f32) = route::balance;
    through_scores(d: &mut [f32], scores: &[f32], scoring: Scoring) = route::through_scores;
    log_prob_partial(logits: &mut [f32], inverse_temperature: f32) -> log_prob::Partial = log_prob::partial;
    log_prob_gradient(logits: &mut [f32], inverse_temperature: f32, d: f32, log_sum_exp: f32)
        = log_prob::gradient;
    normalizer(logits: &mut [f32], inverse_temperature: f32) -> divergence::Normalizer
        = divergence::normalizer;
    divergence(
        student: &mut [f32], teacher: &mut [f32], form: DivergenceForm,
        normalizers: [divergence::Normalizer; 2], weight: f32
    ) -> f32 = divergence::row;
    exp(x: &mut [f32]) = log_prob::exp;
    sum_of_squares(x: &[f32]) -> f64 = adamw::sum_of_squares;
    adamw_step(w: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], step: AdamWStep) = adamw::step;
    adamw_step_bf16(
        w: &mut [f32], m: &mut [u16], v: &mut [u16], g: &[f32], start: usize, step: AdamWStep
    ) = adamw::step_bf16;
}

#[cfg(target_arch = "x86_64")]
const AVX512_BF16: Kernels = {
    use crate::kernels::product::{dot, pairs};
    Kernels {
        format: dot::FORMAT,
        tile_rows: dot::TILE_ROWS,
        scratch_len: dot::scratch_len,
        round: Some(pairs::round),
        pack: pairs::pack,
        unpack: pairs::unpack,
        int8_dequantize: pairs::dequantize,
        multiply: dot::multiply,
        multiply_adds: dot::multiply_adds,
        operations_of_turn: dot::OPERATIONS_OF_TURN,
        ..AVX512
    }
};

#[cfg(target_arch = "x86_64")]
const AMX: Kernels = {
    use crate::kernels::product::amx;
    Kernels {
        format: amx::FORMAT,
        tile_rows: amx::TILE_ROWS,
        scratch_len: amx::scratch_len,
        multiply: amx::multiply,
        multiply_adds: amx::multiply_adds,
        operations_of_turn: amx::OPERATIONS_OF_TURN,
        ..AVX512_BF16
    }
};

impl Kernels {
    /// Whether products read activations as bf16.
    pub(crate) fn rounds(&self) -> bool {
        self.round.is_some()
    }

    /// Rounds `x` to the bf16 that products read, as packing does.
    pub(crate) fn round(&self, y: &mut [u16], x: &[f32]) {
        let round = self.round.expect("products of bf16");
        // SAFETY: `Kernels::of` found the instruction set on this machine.
        unsafe { round(y, x) }
    }

    /// The table of `isa`, or none where this machine lacks it.
    pub(crate) fn of(isa: Isa) -> Option<&'static Self> {
        let table: &'static Self = match isa {
            Isa::Portable => const { &PORTABLE },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => const { &AVX2 },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => const { &AVX512 },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => const { &AVX512_BF16 },
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => const { &AMX },
            #[cfg(not(target_arch = "x86_64"))]
            _ => return None,
        };
        isa.is_available().then_some(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for kernels in Isa::ALL.into_iter().filter_map(Kernels::of) {
            let x: Vec<f32> = (-87_300..88_300).map(|i| i as f32 * 1e-3 + 1e-4).collect();
            let mut y = x.clone();
            kernels.exp(&mut y);
            for (&x, &y) in x.iter().zip(&y) {
                let want = f64::from(x).exp();
                let ulp = f64::from((want as f32).next_up() - want as f32);
                assert!((f64::from(y) - want).abs() <= 2.0 * ulp, "exp({x}) = {y:e}, want {want:e}");
            }
            let mut edge = [f32::NEG_INFINITY, -88.0, 0.0, f32::NAN, 1e9];
            kernels.exp(&mut edge);
            assert!(edge[..3] == [0.0, 0.0, 1.0] && edge[3].is_nan() && edge[4] > 2e38, "{edge:?}");
        }
    }
}
