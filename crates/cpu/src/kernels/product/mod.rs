//! Matrix products of a block of C: `C = A B` and `C += A B`.
//!
//! B is packed into panels of a few columns, in which a tile of the product reads forward.
//!
//! - `matrix.rs`: A, packed B, the block of C,
//! - `pack.rs`: panels, and tiles of A, for the f32 product,
//! - `tile.rs`: a tile of C in registers, which attention uses too,
//! - `vector.rs`: the f32 product, on vectors,
//! - `coded.rs`: panels of weights in 8 bits, and in bf16 that are multiplied as f32,
//! - `pairs.rs`: panels, and tiles of A, for the bf16 products,
//! - `amx.rs`: the bf16 product, on AMX's tiles,
//! - `dot.rs`: the bf16 product, on vectors.
//!
//! **One order.** Each element of C is one chain of multiply-adds over k = 0, 1, …, whatever the block or the
//! tile it falls into: where k is cut (at most every [`vector::DEPTH`]), the chain goes on from C. So a row's
//! result depends on that row alone. Of bf16 the chain is the hardware's own, in the order of k too.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
pub(crate) mod coded;
#[cfg(target_arch = "x86_64")]
pub(crate) mod dot;
mod matrix;
pub(crate) mod pack;
#[cfg(target_arch = "x86_64")]
pub(crate) mod pairs;
pub(crate) mod tile;
pub(crate) mod vector;

pub(crate) use self::matrix::{Block, Format, Panels, Source, View};
