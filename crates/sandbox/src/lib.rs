//! Python programs that nobody trusts, run so that they can do nothing but compute.
//!
//! A [`Sandbox`] is an interpreter in namespaces of its own, with an empty network, a read-only tree that holds
//! the standard library alone, no capabilities, and lists of the files (Landlock) and system calls (seccomp) that
//! it may use. This program makes it, without privileges and without helpers, and makes it whole or not at
//! all: if the kernel can't provide a part of it, an error says which. `docs/sandbox.md` says what
//! it withstands, and what it does not. On other systems than Linux there is only the error.
//!
//! | file | holds |
//! |---|---|
//! | `interpreter.rs`, `probe.py` | which Python, and the files that it needs |
//! | `root.rs` | the tree of files that a contained program sees |
//! | `policy.rs` | the system calls and files that it may use |
//! | `child.rs` | from `clone` to the contained interpreter: the only unsafe code of this crate |
//! | `values.py` | how values pass between a program and asserts that are run apart from it |
//! | `zygote.py` | the contained interpreter, which forks once for every program |
//! | `process.rs` | the host's side: start a sandbox, give it programs, see how they end |
//! | `selftest.rs`, `selftest.py` | the proof, from inside, that containment holds |

#![deny(unsafe_code)]

#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the child between clone and execve has nothing but system calls")]
mod child;
mod error;
#[cfg(target_os = "linux")]
mod interpreter;
#[cfg(target_os = "linux")]
mod policy;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod root;
#[cfg(target_os = "linux")]
mod selftest;

pub use error::SandboxError;
#[cfg(target_os = "linux")]
pub use interpreter::Interpreter;
#[cfg(target_os = "linux")]
pub use process::{Call, End, Ended, Entry, Launcher, Limits, Program, Sandbox, VALUES};
