//! Each instruction that kernels are made of does what it is said to do: trivially in the emulator, and on a GPU where there is one.

use koan_cuda::Cuda;

mod emulated;

#[test]
fn the_emulator_has_the_arithmetic_of_the_model() {
    if let Some(cuda) = emulated::emulated(1) {
        cuda.check_wrappers();
    }
}

#[test]
fn a_gpu_has_the_arithmetic_of_the_model() {
    match Cuda::open(0) {
        Ok(cuda) => cuda.check_wrappers(),
        Err(error) => eprintln!("skipped: {error}"),
    }
}
