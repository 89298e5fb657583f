//! Vectors of f32. A kernel is written once, generic over [`Simd`]; instruction sets differ in this folder
//! alone.
//!
//! A value of a [`Simd`] type is the proof that the machine has its instructions, so its operations are safe
//! to call. They are all `inline(always)`: a kernel becomes machine code of its instruction set inside a
//! `target_feature` function (see `tables.rs`). Kernels keep vectors out of closures, which would be
//! compiled on their own, without those features.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
mod vector;

#[cfg(target_arch = "x86_64")]
pub(crate) use self::{avx2::Avx2, avx512::Avx512};
pub(crate) use self::{portable::Portable, vector::Simd};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    fn ln_is_near<S: Simd>(isa: Isa) {
        if !isa.is_available() {
            return;
        }
        // SAFETY: the machine has the instruction set.
        let s = unsafe { S::new() };
        let near = (0..200_000).map(|i| 0.5 + i as f32 * 5e-6);
        let x: Vec<f32> = near.chain((-1250..1270).map(|i| (i as f32 * 0.1).exp2())).collect();
        for x in x.chunks(S::LANES) {
            let mut y = vec![0.0; x.len()];
            s.store(&mut y, s.ln(s.load_or(x, 1.0)));
            for (&x, &y) in x.iter().zip(&y) {
                let want = f64::from(x).ln();
                let ulp = f64::from((want.abs() as f32).next_up() - want.abs() as f32);
                assert!((f64::from(y) - want).abs() <= 2.0 * ulp, "{isa}: ln({x:e}) = {y:e}, want {want:e}");
            }
        }
    }

    #[test]
    fn ln_is_within_two_units_in_the_last_place() {
        ln_is_near::<Portable>(Isa::Portable);
        #[cfg(target_arch = "x86_64")]
        {
            ln_is_near::<Avx2>(Isa::Avx2);
            ln_is_near::<Avx512>(Isa::Avx512);
        }
    }
}
