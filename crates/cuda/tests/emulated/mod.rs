//! The emulator, where a C++ compiler is.

use koan_cuda::{Cuda, CudaError};

/// The emulator, or nothing where there is no compiler for it. `KOAN_REQUIRE_EMULATOR=1` makes that fail rather than be passed over
/// in silence.
pub(crate) fn emulated(seed: u64) -> Option<Cuda> {
    match Cuda::emulated(seed) {
        Ok(cuda) => Some(cuda),
        Err(error @ CudaError::NoCppCompiler) => {
            assert!(std::env::var_os("KOAN_REQUIRE_EMULATOR").is_none(), "{error}");
            eprintln!("skipped: no C++ compiler");
            None
        }
        Err(error) => panic!("{error}"),
    }
}
