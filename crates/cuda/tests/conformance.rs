//! Holds the kernels to the specification: in the emulator, and on a GPU where there is one.
//!
//! Of each operation a part of the cases is tried; the whole takes minutes of two cores:
//! `cargo test -p koan-cuda --test conformance -- --ignored`.
//!
//! `KOAN_CASES=attention,linear` runs the cases of these operations alone.

use koan_backend::conformance::{self, OPERATIONS, Precision};
use koan_cuda::Cuda;

mod emulated;
use emulated::emulated;

/// Of the operations that take long, how many cases are passed over for one that is tried.
const RARE: [(&str, usize); 6] =
    [("attention", 7), ("sample", 5), ("divergence", 5), ("experts", 5), ("linear", 3), ("heads", 3)];

/// Whether the environment wants the cases of an operation.
fn is_wanted(operation: &str) -> bool {
    std::env::var("KOAN_CASES").map_or(true, |names| names.split(',').any(|name| name.trim() == operation))
}

/// One case in how many is tried where not all are.
fn rarity(operation: &str) -> usize {
    RARE.into_iter().find(|(name, _)| *name == operation).map_or(1, |(_, every)| every)
}

fn meets_the_specification(operation: &str, every: usize) {
    let Some(cuda) = emulated(1).filter(|_| is_wanted(operation)) else { return };
    conformance::run_some(&cuda, Precision::Bf16, operation, every);
}

fn order_leaves_no_trace(operation: &str, every: usize) {
    let Some((a, b)) = emulated(1).zip(emulated(2)).filter(|_| is_wanted(operation)) else { return };
    conformance::same_bits_some(&a, &b, operation, every);
}

/// The tests of each operation.
macro_rules! tests {
    ($($operation:ident)*) => {
        $(mod $operation {
            const NAME: &str = stringify!($operation);

            #[test]
            fn meets_the_specification() {
                super::meets_the_specification(NAME, super::rarity(NAME));
            }

            #[test]
            fn order_leaves_no_trace() {
                super::order_leaves_no_trace(NAME, super::rarity(NAME));
            }

            #[test]
            #[ignore = "takes minutes: a step of .ci/run"]
            fn meets_the_whole_specification() {
                super::meets_the_specification(NAME, 1);
            }

            #[test]
            #[ignore = "takes minutes: a step of .ci/run"]
            fn order_leaves_no_trace_in_any_case() {
                super::order_leaves_no_trace(NAME, 1);
            }
        })*

        #[test]
        fn every_operation_is_tested() {
            assert_eq!([$(stringify!($operation)),*], OPERATIONS);
        }
    };
}

tests! {
    vectors rows linear bias rms_norm rope heads columns swiglu attention log_prob sample divergence route experts weighted_swiglu
}

#[test]
fn a_gpu_meets_the_specification_twice_with_the_same_bits() {
    let cuda = match Cuda::open(0) {
        Ok(cuda) => cuda,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    for operation in OPERATIONS.into_iter().filter(|operation| is_wanted(operation)) {
        conformance::run_some(&cuda, Precision::Bf16, operation, 1);
        conformance::same_bits_some(&cuda, &cuda, operation, 1);
    }
}
