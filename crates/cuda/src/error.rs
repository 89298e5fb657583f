//! What keeps a GPU from being used.

use std::path::PathBuf;

/// What keeps a [`Cuda`](crate::Cuda) from being opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// There is no driver.
    #[error(
        "there is no NVIDIA driver on this machine (libcuda.so.1 was not found); for a GPU, install NVIDIA's driver, and in a \
         container start it with the GPU (such as `--gpus all`)"
    )]
    NoDriver,
    /// The driver is older than what is needed of it.
    #[error(
        "NVIDIA's driver here runs programs of CUDA {cuda} at most, and {needed} is needed: install a newer driver"
    )]
    OldDriver {
        /// The newest CUDA it runs programs of.
        cuda: String,
        /// The oldest CUDA that will do.
        needed: String,
    },
    /// The driver sees no GPU.
    #[error(
        "NVIDIA's driver is here, but it sees no GPU; see what `nvidia-smi` says, and whether CUDA_VISIBLE_DEVICES hides it"
    )]
    NoCard,
    /// There are GPUs, but not this one.
    #[error("there is no GPU cuda:{ordinal} here; there {}", if *.there == 1 { "is one, cuda:0".to_owned() } else { format!("are {there}, cuda:0 to cuda:{}", there - 1) })]
    NoSuchCard {
        /// The GPU asked for.
        ordinal: usize,
        /// GPUs that are there.
        there: usize,
    },
    /// The GPU lacks instructions that the kernels are made of.
    #[error("the GPU's compute capability is {major}.{minor}; the kernels need 8.0 (Ampere) or later")]
    OldCard {
        /// Its compute capability.
        major: u32,
        /// The digit after the dot.
        minor: u32,
    },
    /// The driver refused something.
    #[error("{what}: the driver says {says}")]
    Driver {
        /// What was tried.
        what: String,
        /// The driver's name for the error.
        says: String,
    },
    /// Nothing here compiles kernels.
    #[error(
        "no compiler for the GPU's kernels was found{skipped}; install one with `pip install nvidia-cuda-nvrtc-cu{major}` \
         (CUDA 13: `pip install nvidia-cuda-nvrtc`), or install the CUDA toolkit, or name the library: \
         KOAN_NVRTC=/path/to/libnvrtc.so"
    )]
    NoCompiler {
        /// What was found and cannot be used, and why.
        skipped: String,
        /// The CUDA that will do.
        major: u32,
    },
    /// A compiler refused a file of kernels.
    #[error("{compiler} does not compile {file} for {target}:\n{log}")]
    Kernels {
        /// The compiler.
        compiler: String,
        /// The file, in `kernels/`.
        file: String,
        /// What it was to be compiled for.
        target: String,
        /// What the compiler says.
        log: String,
    },
    /// A file could not be used.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no compiler for the emulator.
    #[error(
        "the emulator of GPUs needs a C++ compiler, and there is no g++: install it (such as `apt-get install g++`)"
    )]
    NoCppCompiler,
    /// A compiler is missing or refused a kernel.
    #[error("{0}")]
    Compiler(String),
}

impl CudaError {
    /// An error of the file at `path`.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |source| Self::File { path, source }
    }
}
