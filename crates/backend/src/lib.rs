//! The thin waist between models and devices.
//!
//! Nothing above [`Backend`] knows a device; nothing below it knows a model. The crate holds
//!
//! - [`Backend`]: the fused operations of a dense transformer, each with its forward and backward,
//! - [`Layout`], [`Matrix`]: the rows of a pass, and a weight, on a device,
//! - [`Sequence`], [`Heads`], [`Attention`], [`Rotation`], [`Columns`], [`Store`], [`Keep`], [`Draw`], [`Divergence`],
//!   [`Routing`], [`AdamWStep`], [`MomentType`]: what their arguments are made of,
//! - [`mod@composite`]: operations made of others, which a backend may compute in one pass over memory,
//! - [`ExpertRows`]: rows sorted by the experts that they chose, for backends that sort them on the host,
//! - [`mod@bf16`]: the stochastic rounding of AdamW's moments,
//! - [`fp8`], [`int8`], [`ProductPrecision`]: E4M3 codes and weights in 8 bits, their scales, and which products read them,
//! - [`mod@reference`]: the same operations in f64 and plain loops. It is the specification,
//! - `conformance` (feature `testkit`): the suite that holds any other backend to the specification,
//! - [`AlignedVec`], [`free_host_memory`]: memory aligned to a cache line, for backends that live in host memory,
//! - [`OutOfMemory`]: the error of an allocation that a device refuses.

mod aligned;
mod backend;
pub mod bf16;
mod columns;
pub mod composite;
#[cfg(feature = "testkit")]
pub mod conformance;
mod divergence;
mod draw;
pub mod fp8;
pub mod int8;
mod layout;
mod matrix;
mod memory;
pub mod reference;
mod routing;
mod sequence;

pub use aligned::AlignedVec;
pub use backend::{AdamWStep, Attention, Backend, Ceilings, Keep, MomentType, Store};
pub use columns::{Columns, Pairs, Rotation};
pub use composite::{HeadNormBackward, HeadNorms, MixtureGradients};
pub use divergence::{Divergence, DivergenceForm, Share, Support};
pub use draw::Draw;
pub use layout::{Layout, Scored};
pub use matrix::{Forms, Matrix, ProductPrecision};
pub use memory::{DoesNotFit, OutOfMemory, check_memory, free_host_memory};
pub use reference::Reference;
pub use routing::{ExpertRows, GroupScore, Routing, Score, Scoring};
pub use sequence::{Heads, Sequence, sharing_groups};
