//! The emulator of a GPU: the same kernels, compiled for the CPU (`emulator/emulator.h` says how they run).

mod compile;
mod heap;

use std::sync::{
    Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use koan_backend::OutOfMemory;
use libloading::Library;

use crate::{
    compile::SOURCES,
    device::{Address, Device, TensorMap},
    error::CudaError,
};
use compile::Failure;
use heap::Heap;

/// `koan_launch` of `emulator/emulator.cpp`.
type Launch = unsafe extern "C" fn(
    kernel: Kernel,
    name: *const std::ffi::c_char,
    params: *const u8,
    grid: *const u32,
    threads: u32,
    shared_bytes: u64,
    seed: u64,
    message: *mut u8,
    message_bytes: u64,
) -> i32;
/// What `KERNEL(..)` makes.
type Kernel = unsafe extern "C" fn(params: *const u8);

/// A GPU whose memory is the host's, and whose kernels run when they are launched.
pub(crate) struct Emulator {
    kernels: &'static Library,
    seed: u64,
    launches: AtomicU64,
    /// Locked while a kernel runs: there is one stream.
    heap: Mutex<Heap>,
}

impl Emulator {
    /// An emulator of all kernels, which runs threads and blocks in an order that `seed` gives.
    pub(crate) fn new(seed: u64) -> Result<Self, CudaError> {
        static KERNELS: OnceLock<Result<&'static Library, Failure>> = OnceLock::new();
        match KERNELS.get_or_init(|| compile::library(SOURCES)) {
            Ok(kernels) => Ok(Self::of(kernels, seed)),
            Err(Failure::NoCompiler) => Err(CudaError::NoCppCompiler),
            Err(Failure::Other(words)) => Err(CudaError::Compiler(words.clone())),
        }
    }

    fn of(kernels: &'static Library, seed: u64) -> Self {
        Self { kernels, seed, launches: AtomicU64::new(0), heap: Mutex::new(Heap::default()) }
    }

    fn heap(&self) -> MutexGuard<'_, Heap> {
        self.heap.lock().unwrap_or_else(PoisonError::into_inner) // a test that failed
    }

    /// Where a name of the kernels' library stands for, if there is such a name.
    fn symbol<T: Copy>(&self, name: &str) -> Option<T> {
        // SAFETY: the callers name the type that `KERNEL(..)` or emulator.cpp gives the name.
        unsafe { self.kernels.get::<T>(name).ok().map(|symbol| *symbol) }
    }
}

impl Device for Emulator {
    fn name(&self) -> &'static str {
        "emulator"
    }

    /// Few, and not the same ones for every seed: no bit may depend on them.
    fn multiprocessors(&self) -> u32 {
        2 + (self.seed % 3) as u32
    }

    fn shared(&self) -> usize {
        227 << 10
    }

    fn is_hopper(&self) -> bool {
        true
    }

    fn tensor_map(&self, at: Address, [rows, columns]: [usize; 2], box_rows: usize) -> TensorMap {
        let mut map = [0; 16];
        map[..4].copy_from_slice(&[at, rows as u64, columns as u64, box_rows as u64]);
        map
    }

    fn alloc(&self, bytes: usize) -> Result<Address, OutOfMemory> {
        self.heap().alloc(bytes)
    }

    fn free(&self, address: Address) {
        self.heap().free(address);
    }

    fn free_memory(&self) -> Option<u64> {
        None
    }

    fn zero(&self, at: Address, bytes: usize) {
        let heap = self.heap();
        let to = heap.bytes(at, bytes);
        // SAFETY: `bytes` bytes of an allocation.
        unsafe { to.write_bytes(0, bytes) };
    }

    fn upload(&self, to: Address, bytes: &[u8]) {
        let heap = self.heap();
        let to = heap.bytes(to, bytes.len());
        // SAFETY: as many bytes of an allocation, which the host does not otherwise see.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    fn download(&self, to: &mut [u8], from: Address) {
        let heap = self.heap();
        let from = heap.bytes(from, to.len());
        // SAFETY: as above.
        unsafe { from.copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) };
    }

    fn copy(&self, to: Address, from: Address, bytes: usize) {
        let heap = self.heap();
        let (to, from) = (heap.bytes(to, bytes), heap.bytes(from, bytes));
        // SAFETY: as many bytes of an allocation each.
        unsafe { to.copy_from(from, bytes) };
    }

    fn launch(&self, kernel: &'static str, grid: [u32; 3], threads: u32, shared: usize, params: &[u8]) {
        let heap = self.heap();
        let function: Kernel =
            self.symbol(kernel).unwrap_or_else(|| panic!("no source has a kernel {kernel}"));
        let fact = |what: &str| format!("{kernel}_{what}");
        let (size, max_threads): (*const u64, *const u32) = self
            .symbol(&fact("params_size"))
            .zip(self.symbol(&fact("max_threads")))
            .unwrap_or_else(|| panic!("{kernel} was not declared by KERNEL"));
        // SAFETY: variables of the library, which stays loaded.
        let (size, max_threads) = unsafe { (*size, *max_threads) };
        assert_eq!(params.len() as u64, size, "{kernel}: the source's parameters are of another size");
        assert!(threads <= max_threads, "{kernel}: {threads} threads a block, of at most {max_threads}");

        let launch: Launch = self.symbol("koan_launch").expect("a function of emulator.cpp");
        let count = self.launches.fetch_add(1, Ordering::Relaxed);
        let seed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(count);
        let name = std::ffi::CString::new(kernel).expect("names without NUL");
        let params = aligned(params);
        let mut message = [0; 512];
        // SAFETY: `kernel` is a kernel, its parameters are as long as it wants them, `message` as long as it is said to be. What
        // a kernel does with the addresses is its own: that is what is tested.
        let failed = unsafe {
            launch(
                function,
                name.as_ptr(),
                params.as_ptr().cast(),
                grid.as_ptr(),
                threads,
                shared as u64,
                seed,
                message.as_mut_ptr(),
                message.len() as u64,
            )
        };
        if failed != 0 {
            let end = message.iter().position(|&byte| byte == 0).unwrap_or(message.len());
            panic!("{}", String::from_utf8_lossy(&message[..end]));
        }
        if let Some(overrun) = heap.overrun() {
            panic!("kernel {kernel} {overrun}");
        }
    }
}

/// 64 bytes, aligned as no kernel's parameters need more.
#[repr(C, align(64))]
struct Line([u8; 64]);

/// The bytes of parameters where they are aligned.
fn aligned(params: &[u8]) -> Vec<Line> {
    let line = |chunk: &[u8]| {
        let mut line = Line([0; 64]);
        line.0[..chunk.len()].copy_from_slice(chunk);
        line
    };
    params.chunks(64).map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::Arc,
    };

    use super::*;
    use crate::{compile::Source, launch::params, memory::Memory};

    params! {
        struct Out { y: Address, n: u64 }
    }

    /// Kernels with and without faults, all of one structure of parameters.
    const TEXT: &str = include_str!("../emulator/faults.cu");

    /// An emulator of the kernels in `emulator/faults.cu`, where there is a compiler.
    fn emulator(seed: u64) -> Option<Emulator> {
        static KERNELS: OnceLock<Result<&'static Library, Failure>> = OnceLock::new();
        let sources = [Source { name: "faults.cu", headers: &[], text: TEXT }];
        match KERNELS.get_or_init(|| compile::library(&sources)) {
            Ok(kernels) => Some(Emulator::of(kernels, seed)),
            Err(Failure::NoCompiler) => {
                eprintln!("skipped: no C++ compiler");
                None
            }
            Err(Failure::Other(words)) => panic!("{words}"),
        }
    }

    /// What a kernel of a block of `threads` leaves in 256 words, or how it fails.
    fn run(kernel: &'static str, threads: u32, seed: u64) -> Option<Result<Vec<u32>, String>> {
        let device: Arc<dyn Device> = Arc::new(emulator(seed)?);
        let y = Memory::<u32>::zeros(&device, 256).expect("a little memory");
        let params = Out { y: y.at(0), n: 256 };
        let launch = || device.launch(kernel, [3, 1, 1], threads, 4096, crate::launch::bytes_of(&params));
        Some(match catch_unwind(AssertUnwindSafe(launch)) {
            Ok(()) => Ok(y.read(256)),
            Err(panic) => Err(panic.downcast_ref::<String>().expect("words").clone()),
        })
    }

    #[test]
    fn what_has_no_faults_gives_the_same_for_every_seed() {
        for kernel in ["reversed", "copied"] {
            let Some(first) = run(kernel, 256, 1) else { return };
            let want: Vec<u32> = (0..256).rev().collect();
            assert_eq!(first.as_deref(), Ok(&want[..]), "{kernel}");
            (2..20).for_each(|seed| assert_eq!(run(kernel, 256, seed), Some(first.clone()), "{kernel}"));
        }
    }

    #[test]
    fn faults_are_found_and_named() {
        let faults = [
            ("barrier_in_a_branch", "stuck: 128 threads have ended, 128 wait for them at __syncthreads"),
            ("ends_before_a_barrier", "stuck: 1 threads have ended, 255 wait for them at __syncthreads"),
            ("shuffle_in_a_branch", "while other lanes of its warp wait at a shuffle"),
            ("half_a_warp", "16 lanes of warp"),
            ("beyond_shared_memory", "outside of the block's 4096 bytes of shared memory"),
            ("misaligned_copy", "copy_async to byte 8 of 4096"),
            ("copy_without_a_wait", "ended while a copy_async was under way"),
            ("beyond_memory", "wrote behind memory of 1024 bytes"),
        ];
        for (kernel, words) in faults {
            let Some(result) = run(kernel, 256, 3) else { return };
            let error = result.expect_err(kernel);
            assert!(error.contains(words) && error.contains(kernel), "{kernel}: {error}");
        }
        let error = run("reversed", 48, 1).expect("a compiler").expect_err("48 threads");
        assert!(error.contains("multiple of 32"), "{error}");
    }

    #[test]
    fn a_race_gives_other_bits_for_another_seed_and_what_was_not_waited_for_is_nan() {
        for kernel in ["reversed_without_a_barrier", "warp_without_a_barrier"] {
            let Some(first) = run(kernel, 256, 1) else { return };
            assert!((2..10).any(|seed| run(kernel, 256, seed) != Some(first.clone())), "{kernel}");
        }
        let Some(early) = run("read_before_the_wait", 256, 1) else { return };
        assert_eq!(early, Ok(vec![u32::MAX; 256]));
    }
}
