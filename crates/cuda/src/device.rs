//! What kernels run on.

use koan_backend::OutOfMemory;

/// An address in a device's memory.
pub(crate) type Address = u64;

/// A matrix as the copy engine finds it: a `CUtensorMap`.
pub(crate) type TensorMap = [u64; 16];

/// A device: its memory, and one stream of work on it. Calls are queued in order; only [`download`](Self::download) waits.
///
/// # Panics
/// An error of the device is seen at the next wait at the latest, and names the kernel.
pub(crate) trait Device: Send + Sync {
    /// The device, for people.
    fn name(&self) -> &str;
    /// Multiprocessors: what a grid should fill.
    fn multiprocessors(&self) -> u32;
    /// Bytes of shared memory that a block may have, at most.
    fn shared(&self) -> usize;
    /// Whether it has the instructions that Hopper alone has, such as wgmma.
    fn is_hopper(&self) -> bool;
    /// How Hopper's copy engine finds a matrix of bf16 `[rows, columns]`, in boxes of `box_rows` rows of 64 columns.
    fn tensor_map(&self, at: Address, shape: [usize; 2], box_rows: usize) -> TensorMap;
    /// Memory of `bytes`, at least one, aligned to 256. What it holds is not defined.
    ///
    /// # Errors
    /// If the device refuses the memory.
    fn alloc(&self, bytes: usize) -> Result<Address, OutOfMemory>;
    /// Gives memory back, once the work that was queued before is done.
    fn free(&self, address: Address);
    /// Bytes that are free, if the device says.
    fn free_memory(&self) -> Option<u64>;
    /// The most bytes that were in use at once, if the device says.
    fn peak_memory(&self) -> Option<u64> {
        None
    }
    /// Sets bytes to zero.
    fn zero(&self, at: Address, bytes: usize);
    /// Copies bytes of the host to the device; they are read before it returns.
    fn upload(&self, to: Address, bytes: &[u8]);
    /// Copies bytes of the device to the host. It waits for all work before it.
    fn download(&self, to: &mut [u8], from: Address);
    /// Copies within the device.
    fn copy(&self, to: Address, from: Address, bytes: usize);
    /// Queues a kernel of `kernels/`, with `threads` threads and `shared` bytes of shared memory a block. `params` is the
    /// kernel's one parameter, a structure.
    fn launch(&self, kernel: &'static str, grid: [u32; 3], threads: u32, shared: usize, params: &[u8]);
}
