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
