//! Each instruction that kernels are made of does what it is said to do: trivially in the emulator, and on a GPU where there is one.

use koan_cuda::{Cuda, CudaError};

#[test]
fn the_emulator_has_the_arithmetic_of_the_model() {
    match Cuda::emulated(1) {
        Ok(cuda) => cuda.check_wrappers(),
        Err(CudaError::NoCppCompiler) => eprintln!("skipped: no C++ compiler"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_gpu_has_the_arithmetic_of_the_model() {
    match Cuda::open(0) {
        Ok(cuda) => cuda.check_wrappers(),
        Err(error) => eprintln!("skipped: {error}"),
    }
}
