//! The GPU as a device of the trait.

use std::{fmt, sync::Arc};

use koan_backend::OutOfMemory;

use crate::{
    device::Device,
    driver::Driver,
    emulator::Emulator,
    error::CudaError,
    launch::{Params, bytes_of},
    memory::{Element, Memory},
};

/// A GPU, or the emulator of one.
pub struct Cuda {
    pub(crate) device: Arc<dyn Device>,
}

impl Cuda {
    /// GPU number `ordinal`, from 0.
    ///
    /// # Errors
    /// If there is no driver, no such GPU, or its kernels cannot be compiled: with what to install.
    pub fn open(ordinal: usize) -> Result<Self, CudaError> {
        Ok(Self { device: Arc::new(Driver::open(ordinal)?) })
    }

    /// The emulator: the same kernels on the CPU, threads and blocks in an order that `seed` gives. It is for tests, and slow.
    ///
    /// # Errors
    /// If there is no C++ compiler, or it refuses the kernels.
    pub fn emulated(seed: u64) -> Result<Self, CudaError> {
        Ok(Self { device: Arc::new(Emulator::new(seed)?) })
    }

    /// The GPU's name.
    pub fn name(&self) -> &str {
        self.device.name()
    }

    /// What tells the most bytes of the GPU that were in use at once, if it says, for as long as the GPU is open.
    pub fn memory_gauge(&self) -> impl Fn() -> Option<u64> + Send + Sync + 'static {
        let device = Arc::downgrade(&self.device);
        move || device.upgrade()?.peak_memory()
    }

    /// Launches a kernel; a grid without blocks is nothing to do.
    pub(crate) fn launch<P: Params>(
        &self,
        kernel: &'static str,
        grid: [usize; 3],
        threads: usize,
        shared: usize,
        params: P,
    ) {
        if grid.contains(&0) {
            return;
        }
        let grid = grid.map(|n| u32::try_from(n).expect("fewer than 2³² blocks"));
        self.device.launch(kernel, grid, threads as u32, shared, bytes_of(&params));
    }

    /// Launches a kernel of blocks of 256 threads, a thread for each of `n` elements.
    pub(crate) fn for_each<P: Params>(&self, kernel: &'static str, n: usize, params: P) {
        self.launch(kernel, [n.div_ceil(256), 1, 1], 256, 0, params);
    }

    /// Memory for the time of an operation.
    ///
    /// # Panics
    /// If the device refuses it: operations cannot fail, what they need was planned.
    pub(crate) fn scratch<T: Element>(&self, len: usize) -> Memory<T> {
        Memory::new(&self.device, len).unwrap_or_else(|error| panic!("memory for an operation: {error}"))
    }

    pub(crate) fn new_memory<T: Element>(&self, len: usize) -> Result<Memory<T>, OutOfMemory> {
        Memory::new(&self.device, len)
    }
}

impl fmt::Debug for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cuda({})", self.name())
    }
}
