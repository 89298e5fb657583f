//! Holds the kernels to the specification, in the emulator.
//!
//! `KOAN_REQUIRE_EMULATOR=1` makes a machine without a C++ compiler fail rather than be passed over in silence.
//! `KOAN_CASES=attention,linear` runs the cases of these operations alone.

mod emulated;

use koan_backend::conformance::{self, OPERATIONS, Precision};

use emulated::emulated;

/// Whether the environment wants the cases of an operation.
fn is_wanted(operation: &str) -> bool {
    std::env::var("KOAN_CASES").map_or(true, |names| names.split(',').any(|name| name.trim() == operation))
}

fn meets_the_specification(operation: &str) {
    let Some(cuda) = emulated(1).filter(|_| is_wanted(operation)) else { return };
    conformance::run_only(&cuda, Precision::Bf16, &[operation]);
}

fn order_leaves_no_trace(operation: &str) {
    let Some((a, b)) = emulated(1).zip(emulated(2)).filter(|_| is_wanted(operation)) else { return };
    conformance::same_bits_only(&a, &b, &[operation]);
}

/// The tests of each operation.
macro_rules! tests {
    ($($operation:ident)*) => {
        $(mod $operation {
            #[test]
            fn meets_the_specification() {
                super::meets_the_specification(stringify!($operation));
            }

            #[test]
            fn order_leaves_no_trace() {
                super::order_leaves_no_trace(stringify!($operation));
            }
        })*

        #[test]
        fn every_operation_is_tested() {
            assert_eq!([$(stringify!($operation)),*], OPERATIONS);
        }
    };
}

tests! {
    vectors rows linear bias rms_norm rope columns swiglu attention log_prob sample divergence route experts weighted_swiglu
}

#[test]
fn the_wrappers_do_what_they_say() {
    if let Some(cuda) = emulated(1) {
        cuda.check_wrappers();
    }
}
