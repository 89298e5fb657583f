//! Holds every instruction set that this machine has to the specification.
//!
//! `KOAN_REQUIRE_ISA=amx` makes a machine without AMX fail rather than be passed over in silence.

use koan_backend::conformance::{self, Precision};
use koan_cpu::{Cpu, Isa};

fn cpu(isa: Isa, threads: usize) -> Cpu {
    Cpu::new(isa, threads).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs `check` for `isa`, or says that this machine lacks it.
fn where_available(isa: Isa, check: impl Fn()) {
    let required = std::env::var("KOAN_REQUIRE_ISA").is_ok_and(|name| name == isa.name());
    if isa.is_available() {
        eprintln!("{isa}: tested");
        check();
    } else {
        assert!(!required, "this machine lacks {isa}");
        eprintln!("{isa}: skipped, this machine lacks it");
    }
}

fn meets_the_specification(isa: Isa) {
    let precision = if isa >= Isa::Avx512Bf16 { Precision::Bf16 } else { Precision::F32 };
    where_available(isa, || {
        conformance::run(&cpu(isa, 1), precision);
        conformance::run(&cpu(isa, 2), precision);
    });
}

fn threads_leave_no_trace(isa: Isa) {
    where_available(isa, || {
        conformance::same_bits(&cpu(isa, 1), &cpu(isa, 2));
        conformance::same_bits(&cpu(isa, 1), &cpu(isa, 3));
    });
}

/// The tests of one instruction set.
macro_rules! tests {
    ($($name:ident $isa:expr;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn meets_the_specification() {
                super::meets_the_specification($isa);
            }

            #[test]
            fn threads_leave_no_trace() {
                super::threads_leave_no_trace($isa);
            }
        }
    )*};
}

tests! {
    portable Isa::Portable;
    avx2 Isa::Avx2;
    avx512 Isa::Avx512;
    avx512bf16 Isa::Avx512Bf16;
    amx Isa::Amx;
}

#[test]
fn a_forced_instruction_set_that_is_missing_is_an_error() {
    for isa in Isa::ALL.into_iter().filter(|isa| !isa.is_available()) {
        let error = Cpu::new(isa, 1).expect_err("the machine lacks it").to_string();
        assert!(error.contains(isa.name()) && error.contains("portable"), "{error}");
    }
}
