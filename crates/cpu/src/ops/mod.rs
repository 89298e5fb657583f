//! The operations, one file or folder each: the generic kernels, and the functions that cut the work into tasks.

pub(crate) mod adamw;
pub(crate) mod attention;
pub(crate) mod bias;
pub(crate) mod embedding;
pub(crate) mod log_prob;
pub(crate) mod product;
pub(crate) mod rms_norm;
pub(crate) mod rope;
pub(crate) mod swiglu;
