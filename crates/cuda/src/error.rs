//! What keeps a GPU from being used.

/// What keeps a [`Cuda`](crate::Cuda) from being opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// There is no driver.
    #[error("there is no NVIDIA driver on this machine (libcuda.so.1 was not found)")]
    NoDriver,
    /// The driver refused something.
    #[error("{what}: the driver says {says}")]
    Driver {
        /// What was tried.
        what: String,
        /// The driver's name for the error.
        says: String,
    },
    /// A compiler is missing or refused a kernel.
    #[error("{0}")]
    Compiler(String),
}
