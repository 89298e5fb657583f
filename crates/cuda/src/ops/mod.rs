//! The operations: each checks the sizes of its buffers, and launches its kernels.

pub(crate) mod adamw;
pub(crate) mod attention;
pub(crate) mod bias;
pub(crate) mod columns;
pub(crate) mod divergence;
pub(crate) mod embedding;
pub(crate) mod experts;
pub(crate) mod fp8;
pub(crate) mod heads;
pub(crate) mod log_prob;
pub(crate) mod operand;
pub(crate) mod product;
pub(crate) mod rms_norm;
pub(crate) mod rope;
pub(crate) mod route;
pub(crate) mod rows;
pub(crate) mod sample;
pub(crate) mod swiglu;
