//! The CPU backend: [`Cpu`] runs the operations of [`Backend`](koan_backend::Backend) on vectorised kernels,
//! on several threads.
//!
//! In floors, from the ground up; a floor uses only those below it:
//!
//! - `simd/`: vectors; what differs between instruction sets, AMX apart, is here,
//!   `memory.rs`: what tasks write at once, and what is a thread's own,
//! - `kernels/`: the bodies, what runs on one task's slices, each written once over `simd::Simd`,
//! - `isa.rs`: instruction sets, and which of them this machine has,
//!   `tables.rs`: the kernels compiled for each of them, a table per instruction set,
//! - `team.rs`: the threads, `parallel.rs`: the tasks that they run,
//! - `ops/`: the operations, cut into tasks that call the table's kernels,
//! - `cpu.rs`: the device, a table and threads,
//! - `backend.rs`: the trait, which asserts sizes and calls the operations.
//!
//! Results depend on the instruction set, never on the number of threads.

mod backend;
mod ceilings;
mod cpu;
mod isa;
mod kernels;
mod memory;
mod ops;
mod parallel;
mod simd;
mod tables;
mod team;

pub use self::{
    cpu::{Cpu, CpuError, MAX_THREADS},
    isa::{Isa, UnknownIsa},
    ops::{adamw::Moment, operand::Operand, product::Packed},
};
