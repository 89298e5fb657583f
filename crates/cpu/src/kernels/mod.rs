//! The bodies of the kernels: what runs on one task's slices. One file or folder per operation.
//!
//! Each is written once, generic over [`Simd`](crate::simd::Simd), and `inline(always)`: it becomes machine code in
//! `tables.rs`. The product on AMX's tiles, which are no vectors, is written apart.

pub(crate) mod adamw;
pub(crate) mod attention;
pub(crate) mod ceiling;
pub(crate) mod divergence;
pub(crate) mod fp8;
pub(crate) mod log_prob;
pub(crate) mod product;
pub(crate) mod rms_norm;
pub(crate) mod rope;
pub(crate) mod route;
pub(crate) mod rows;
pub(crate) mod swiglu;
