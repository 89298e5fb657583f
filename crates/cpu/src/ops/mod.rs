//! The operations, one file or folder each: how the work is cut into tasks, which run on threads.
//!
//! What a task computes is a kernel, called through the table of the instruction set in use.

pub(crate) mod adamw;
pub(crate) mod attention;
pub(crate) mod bias;
pub(crate) mod coded;
pub(crate) mod columns;
pub(crate) mod copy;
pub(crate) mod divergence;
pub(crate) mod embedding;
pub(crate) mod experts;
pub(crate) mod fp8;
pub(crate) mod head;
pub(crate) mod mixture;
pub(crate) mod operand;
pub(crate) mod product;
pub(crate) mod rms_norm;
pub(crate) mod rope;
pub(crate) mod route;
pub(crate) mod swiglu;
