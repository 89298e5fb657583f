//! Python programs that nobody trusts, run so that they can do nothing but compute.
//!
//! A [`Sandbox`] is an interpreter in namespaces of its own, with an empty network, a read-only tree that holds
//! the standard library alone, no capabilities, and lists of the files (Landlock) and system calls (seccomp) that
//! it may use. It is made by this program, without privileges and without helpers, and it is made whole or not at
//! all: where the kernel can't give a part of it, there is an error that says which. `docs/sandbox.md` tells what
//! it withstands, and what not. On other systems than Linux there is only the error.
//!
//! | file | holds |
//! |---|---|
//! | `interpreter.rs`, `probe.py` | which Python, and the files that it needs |
//! | `root.rs` | the tree of files that a contained program sees |
//! | `policy.rs` | the system calls and files that it may use |
//! | `child.rs` | the way from `clone` to the contained interpreter: the only unsafe code of this crate |
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
pub use process::{Call, End, Ended, Launcher, Limits, Program, Sandbox};
