//! The CUDA backend: [`Cuda`] runs the operations of [`Backend`](koan_backend::Backend) in kernels of its own.
//!
//! In floors, from the ground up; a floor uses only those below it:
//!
//! - `kernels/*.cu`: the kernels, over the wrappers of `kernels/device.h`: each is compiled for GPUs, and for the emulator,
//! - `device.rs`: what kernels run on: `driver.rs`, a GPU that `card.rs` finds, or `emulator.rs`, the same kernels on a CPU,
//!   `compile.rs`: the kernels' sources, `cubins.rs`: the kernels compiled for a GPU, by `compiler.rs`, and kept,
//! - `memory.rs`: typed memory of a device, `launch.rs`: a kernel's parameters and grid,
//! - `ops/`: the operations, cut into grids of the kernels,
//! - `layout.rs`: the rows of a pass on the device, `sequences.rs`: the keys that they attend to,
//! - `backend.rs`: the trait, which asserts sizes and calls the operations.
//!
//! Operands of products, keys and values are bf16; all else is f32. Products accumulate in steps of 16 of the inner dimension,
//! in one order, whatever the tile: so a row has the same bits whoever shares its pass.

mod backend;
mod card;
mod compile;
mod compiler;
mod cubins;
mod cuda;
mod device;
mod driver;
mod emulator;
mod error;
mod launch;
mod layout;
mod memory;
mod nvrtc;
mod ops;
mod profile;
mod replay;
mod sequences;
#[doc(hidden)]
pub mod trial;
mod wrappers;

pub use self::{
    card::{Card, System},
    compiler::Compiler,
    cubins::{Cubins, Details, Target, details},
    cuda::Cuda,
    error::CudaError,
    layout::DeviceLayout,
};
