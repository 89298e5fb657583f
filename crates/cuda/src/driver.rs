//! A GPU, by NVIDIA's driver: its primary context, one stream of work, and memory from the driver's pool.

use std::{
    cell::Cell,
    collections::HashMap,
    ffi::{CString, c_void},
    fmt::Write,
    ptr, slice,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use cudarc::driver::{
    DriverError,
    result::{self, mem_pool},
    sys::{self, CUevent, CUfunction_attribute, CUmemPool_attribute, CUresult},
};
use koan_backend::OutOfMemory;

use crate::{
    card::{Card, System, driver, words},
    compile::{SOURCES, kernels_of},
    cubins::{Cubins, Target},
    device::{Address, Device, TensorMap},
    error::CudaError,
    profile::Profile,
    replay::Replay,
};

/// Bytes of pinned memory that uploads go through, and as many for downloads: a layout of some 100,000 rows.
const STAGING: usize = 8 << 20;
/// Bytes of memory that are not asked for while some that was freed is held back.
const LARGE: usize = 64 << 20;
/// Kernels that the message of an error names.
const NAMED: usize = 6;

/// A GPU with its kernels loaded.
pub(crate) struct Driver {
    /// No two of a process have the same; see [`Driver::enter`].
    id: u64,
    card: Card,
    name: String,
    context: sys::CUcontext,
    stream: sys::CUstream,
    pool: sys::CUmemoryPool,
    modules: Vec<sys::CUmodule>,
    kernels: HashMap<&'static str, Kernel>,
    staging: Mutex<Staging>,
    recent: Mutex<Recent>,
    /// Whether to wait after every launch, so that an error names its kernel.
    waits: bool,
    profile: Option<Mutex<Profile>>,
    /// Kernels that are held back to become graphs, and memory that is to be freed after them.
    replay: Option<Mutex<(Replay, Vec<Address>)>>,
}

// SAFETY: the driver's functions may be called from any thread; the handles are not changed once the driver is open, and what is
// changed is behind a mutex.
unsafe impl Send for Driver {}
// SAFETY: as above.
unsafe impl Sync for Driver {}

/// A kernel of a module.
struct Kernel {
    function: sys::CUfunction,
    /// Bytes of its parameters, where the driver says.
    params: Option<usize>,
}

/// Pinned memory: `STAGING` bytes that uploads are read from, from the start on until the next wait, then as many for downloads.
struct Staging {
    memory: *mut u8,
    used: usize,
}

/// The kernels queued since the last wait.
#[derive(Default)]
struct Recent {
    count: usize,
    last: [&'static str; NAMED],
}

impl Driver {
    /// Opens GPU number `ordinal`, from 0, and loads the kernels.
    ///
    /// # Errors
    /// If there is no driver or no such GPU, the GPU is too old, or its kernels cannot be compiled: with what to do.
    pub(crate) fn open(ordinal: usize) -> Result<Self, CudaError> {
        static OPENED: AtomicU64 = AtomicU64::new(1);
        let system = System::find()?;
        let card = system.card(ordinal)?.clone();
        let cubins = Cubins::get(Target::of(card.capability)?, Some(system.cuda))?;
        // SAFETY: the driver gave the device.
        let context =
            driver(format!("opening {}", card.name), unsafe { result::primary_ctx::retain(card.device) })?;
        let name = format!("{}, {system}, kernels by {}", card.name, cubins.compiler);
        let mut opened = Self {
            id: OPENED.fetch_add(1, Ordering::Relaxed),
            card,
            name,
            context,
            stream: ptr::null_mut(),
            pool: ptr::null_mut(),
            modules: Vec::new(),
            kernels: HashMap::new(),
            staging: Mutex::new(Staging { memory: ptr::null_mut(), used: 0 }),
            recent: Mutex::default(),
            waits: std::env::var_os("KOAN_CUDA_SYNC").is_some_and(|value| value == "1"),
            profile: None,
            replay: None,
        };
        opened.prepare()?;
        for ((_, image), source) in cubins.images.iter().zip(SOURCES) {
            opened.load(image, source.name, kernels_of(source.text), system.cuda)?;
        }
        Ok(opened)
    }

    /// Makes the stream, the pool and the pinned memory.
    fn prepare(&mut self) -> Result<(), CudaError> {
        // SAFETY: the context is retained.
        driver("entering the GPU's context", unsafe { result::ctx::set_current(self.context) })?;
        self.stream =
            driver("making a stream", result::stream::create(result::stream::StreamKind::NonBlocking))?;
        let mut keep = u64::MAX;
        self.profile = Profile::asked_for(self.stream).map(Mutex::new);
        // Where each kernel is waited for or timed, each is launched by itself.
        let replays = std::env::var_os("KOAN_CUDA_GRAPHS").is_some_and(|value| value == "1");
        self.replay = (replays && !self.waits && self.profile.is_none()).then(Mutex::default);
        // SAFETY: the driver gave the device and the pool; the attribute is a u64.
        unsafe {
            self.pool =
                driver("finding the pool of memory", result::device::get_default_mem_pool(self.card.device))?;
            let threshold = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            driver(
                "setting up the pool of memory",
                mem_pool::set_attribute(self.pool, threshold, (&raw mut keep).cast()),
            )?;
        }
        // SAFETY: the memory is this structure's, until it is dropped.
        let memory = driver("pinning host memory", unsafe { result::malloc_host(2 * STAGING, 0) })?;
        self.staging.get_mut().unwrap_or_else(PoisonError::into_inner).memory = memory.cast();
        Ok(())
    }

    /// Loads a module, and finds its kernels.
    fn load(
        &mut self,
        image: &[u8],
        file: &str,
        names: impl Iterator<Item = &'static str>,
        cuda: [u32; 2],
    ) -> Result<(), CudaError> {
        // SAFETY: a cubin, as the compiler made it and a hash says it still is.
        let module = driver(format!("loading the kernels of {file}"), unsafe {
            result::module::load_data(image.as_ptr().cast())
        })?;
        self.modules.push(module);
        for name in names {
            let what = || format!("loading the kernel {name} of {file}");
            let c_name = CString::new(name).expect("a name without zeros");
            // SAFETY: the module is loaded, and so its functions are there to be asked and set up.
            let kernel = unsafe {
                let function = driver(what(), result::module::get_function(module, c_name))?;
                let fixed = result::function::get_function_attribute(
                    function,
                    CUfunction_attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES,
                );
                let shared = self.card.shared.saturating_sub(driver(what(), fixed)?.max(0) as usize);
                driver(
                    what(),
                    result::function::set_function_attribute(
                        function,
                        CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                        shared as i32,
                    ),
                )?;
                let (mut offset, mut bytes) = (0, 0);
                let known = cuda >= [12, 4]
                    && sys::cuFuncGetParamInfo(function, 0, &raw mut offset, &raw mut bytes)
                        == CUresult::CUDA_SUCCESS;
                Kernel { function, params: known.then_some(bytes) }
            };
            self.kernels.insert(name, kernel);
        }
        Ok(())
    }

    /// Makes this GPU the calling thread's, if it is not yet: the driver keeps one for each thread.
    fn enter(&self) {
        thread_local!(static ENTERED: Cell<u64> = const { Cell::new(0) });
        if ENTERED.get() != self.id {
            // SAFETY: the context is retained until this is dropped.
            if let Err(error) = unsafe { result::ctx::set_current(self.context) } {
                self.fail("entering the GPU's context", error);
            }
            ENTERED.set(self.id);
        }
    }

    /// Launches the kernels that are held back, before something else is done on the stream.
    fn flush(&self, before_a_wait: bool) {
        let Some(replay) = &self.replay else { return };
        let mut held = replay.lock().unwrap_or_else(PoisonError::into_inner);
        let (replay, freed) = &mut *held;
        let done = replay.launch(self.stream, before_a_wait);
        for address in freed.drain(..) {
            // SAFETY: `alloc` gave the address, its owner frees it once, and the kernels that use it are queued.
            let _ = unsafe { result::free_async(address, self.stream) };
        }
        drop(held);
        if let Err((call, error)) = done {
            let what = call.map_or_else(
                || "launching a graph of kernels".to_owned(),
                |call| {
                    let (name, grid, threads, shared) = (call.name, call.grid, call.threads, call.shared);
                    format!("launching {name}, {grid:?} blocks of {threads} threads and {shared} bytes of shared memory")
                },
            );
            self.fail(&what, error);
        }
    }

    /// Waits for all work that was queued. Whoever holds the pinned memory waits, so that it is free then.
    fn wait(&self, staging: &mut Staging) {
        self.flush(true);
        // SAFETY: the stream lives as long as this.
        if let Err(error) = unsafe { result::stream::synchronize(self.stream) } {
            self.fail("working", error);
        }
        staging.used = 0;
        self.recent().count = 0;
        self.profiled("counting what kernels took", Profile::count);
    }

    /// Work that began at `start` is queued, for the profile.
    fn timed(&self, name: &'static str, grid: [u32; 3], start: Option<CUevent>) {
        if let Some(start) = start {
            self.profiled("timing a kernel", |profile| profile.end((name, grid), start));
        }
    }

    /// Does something with the profile, if there is one.
    fn profiled<T>(
        &self,
        what: &str,
        with: impl FnOnce(&mut Profile) -> Result<T, DriverError>,
    ) -> Option<T> {
        let mut profile = self.profile.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = with(&mut profile);
        drop(profile);
        Some(self.queued(what, answer))
    }

    /// An answer of the driver to work that was queued: an error may be of work before.
    fn queued<T>(&self, what: &str, answer: Result<T, DriverError>) -> T {
        answer.unwrap_or_else(|error| self.fail(what, error))
    }

    fn fail(&self, what: &str, error: DriverError) -> ! {
        let recent = self.recent().describe();
        panic!("{}: {what}: {}{recent}", self.card.name, words(error));
    }

    fn staging(&self) -> MutexGuard<'_, Staging> {
        self.staging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the pool, by an attribute that counts them.
    fn pooled(&self, of: CUmemPool_attribute) -> u64 {
        let mut bytes = 0_u64;
        // SAFETY: the pool is the device's own; the attribute is a u64.
        self.queued("asking for the pool's size", unsafe {
            mem_pool::get_attribute(self.pool, of, (&raw mut bytes).cast())
        });
        bytes
    }
}

impl Device for Driver {
    fn name(&self) -> &str {
        &self.name
    }

    fn multiprocessors(&self) -> u32 {
        self.card.multiprocessors
    }

    fn shared(&self) -> usize {
        self.card.shared
    }

    fn is_hopper(&self) -> bool {
        self.card.capability == [9, 0]
    }

    fn tensor_map(&self, at: Address, [rows, columns]: [usize; 2], box_rows: usize) -> TensorMap {
        let mut map = sys::CUtensorMap_st { opaque: [0; 16] };
        let (sizes, stride) = ([columns as u64, rows as u64], [2 * columns as u64]);
        let (shape, steps) = ([64, box_rows as u32], [1, 1]);
        self.enter();
        // SAFETY: the map is written, all else read, before it returns.
        let answer = unsafe {
            sys::cuTensorMapEncodeTiled(
                &raw mut map,
                sys::CUtensorMapDataType_enum::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                2,
                at as *mut c_void,
                sizes.as_ptr(),
                stride.as_ptr(),
                shape.as_ptr(),
                steps.as_ptr(),
                sys::CUtensorMapInterleave_enum::CU_TENSOR_MAP_INTERLEAVE_NONE,
                sys::CUtensorMapSwizzle_enum::CU_TENSOR_MAP_SWIZZLE_128B,
                sys::CUtensorMapL2promotion_enum::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                sys::CUtensorMapFloatOOBfill_enum::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        };
        self.queued("describing a matrix to the copy engine", answer.result());
        map.opaque
    }

    fn alloc(&self, bytes: usize) -> Result<Address, OutOfMemory> {
        self.enter();
        if bytes >= LARGE {
            // What was freed and is held back with its kernels is to serve again.
            self.flush(true);
        }
        // SAFETY: the stream is this GPU's; what the memory holds is not read before it is written.
        let alloc = || unsafe { result::malloc_async(self.stream, bytes) };
        let refused = |answer: &Result<_, DriverError>| {
            answer.as_ref().is_err_and(|error| error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY)
        };
        let mut answer = alloc();
        if refused(&answer) {
            // What was freed is cut in pieces that may fit nothing: once all work is done, the pool gives them back.
            self.wait(&mut self.staging());
            // SAFETY: the pool is the device's own.
            self.queued("trimming the pool of memory", unsafe { mem_pool::trim_to(self.pool, 0) });
            answer = alloc();
        }
        if refused(&answer) {
            return Err(OutOfMemory { bytes: bytes as u64, free: self.free_memory() });
        }
        Ok(self.queued("asking for memory", answer))
    }

    fn free(&self, address: Address) {
        self.enter();
        if let Some(replay) = &self.replay {
            let mut held = replay.lock().unwrap_or_else(PoisonError::into_inner);
            held.1.push(address);
            return;
        }
        // An error is one of work before, which the next wait sees; memory is freed while panicking, too.
        // SAFETY: `alloc` gave the address, and its owner frees it once.
        let _ = unsafe { result::free_async(address, self.stream) };
    }

    fn free_memory(&self) -> Option<u64> {
        self.enter();
        // What was freed counts once the work before is done.
        self.wait(&mut self.staging());
        let (free, _) = self.queued("asking for free memory", result::mem_get_info());
        let held = self.pooled(CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT);
        let used = self.pooled(CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT);
        Some(free as u64 + held.saturating_sub(used))
    }

    fn peak_memory(&self) -> Option<u64> {
        self.enter();
        Some(self.pooled(CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH))
    }

    fn zero(&self, at: Address, bytes: usize) {
        self.enter();
        self.flush(false);
        let start = self.profiled("timing a kernel", Profile::mark);
        // SAFETY: the bytes are of memory that `alloc` gave.
        let answer = unsafe {
            if (at | bytes as u64).is_multiple_of(4) {
                sys::cuMemsetD32Async(at, 0, bytes / 4, self.stream).result()
            } else {
                result::memset_d8_async(at, 0, bytes, self.stream)
            }
        };
        self.queued("setting memory to zero", answer);
        self.timed("(zeros)", [0; 3], start);
    }

    fn upload(&self, to: Address, bytes: &[u8]) {
        self.enter();
        self.flush(false);
        let mut staging = self.staging();
        if bytes.len() > STAGING / 4 {
            // SAFETY: the bytes are read before the wait ends; the memory is of `alloc`.
            let answer = unsafe { result::memcpy_htod_async(to, bytes, self.stream) };
            self.queued("copying to the GPU", answer);
            self.wait(&mut staging);
            return;
        }
        if staging.used + bytes.len() > STAGING {
            self.wait(&mut staging);
        }
        // SAFETY: the part of the pinned memory is in its first half, no copy that is under way reads it, and the lock is held.
        let part = unsafe { slice::from_raw_parts_mut(staging.memory.add(staging.used), bytes.len()) };
        part.copy_from_slice(bytes);
        staging.used += bytes.len().next_multiple_of(64);
        // SAFETY: the pinned bytes stay as they are until a wait; the memory is of `alloc`.
        self.queued("copying to the GPU", unsafe { result::memcpy_htod_async(to, part, self.stream) });
    }

    fn download(&self, to: &mut [u8], from: Address) {
        self.enter();
        self.flush(true);
        let mut staging = self.staging();
        if to.len() > STAGING {
            // SAFETY: the memory is of `alloc`, and the bytes are borrowed until the copy is done.
            let answer = unsafe { result::memcpy_dtoh_async(to, from, self.stream) };
            self.queued("copying from the GPU", answer);
            self.wait(&mut staging);
            return;
        }
        // SAFETY: the second half of the pinned memory, which only who holds the lock uses.
        let part = unsafe { slice::from_raw_parts_mut(staging.memory.add(STAGING), to.len()) };
        // SAFETY: the memory is of `alloc`, and the copy is done before the lock is given back.
        let answer = unsafe { result::memcpy_dtoh_async(part, from, self.stream) };
        self.queued("copying from the GPU", answer);
        self.wait(&mut staging);
        to.copy_from_slice(part);
    }

    fn copy(&self, to: Address, from: Address, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.enter();
        self.flush(false);
        let start = self.profiled("timing a kernel", Profile::mark);
        // SAFETY: both are memory that `alloc` gave.
        let answer = unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream) };
        self.queued("copying within the GPU", answer);
        self.timed("(copies)", [0; 3], start);
    }

    fn launch(&self, name: &'static str, grid: [u32; 3], threads: u32, shared: usize, params: &[u8]) {
        self.enter();
        let kernel = self.kernels.get(name).unwrap_or_else(|| panic!("there is no kernel {name}"));
        if let Some(bytes) = kernel.params {
            assert_eq!(params.len(), bytes, "bytes of the parameters of {name}, here and in its source");
        }
        if let Some(replay) = &self.replay {
            self.recent().push(name);
            let mut held = replay.lock().unwrap_or_else(PoisonError::into_inner);
            let is_full = held.0.hold(name, kernel.function, grid, [threads, shared as u32], params);
            drop(held);
            if is_full {
                self.flush(false);
            }
            return;
        }
        let mut arguments = [params.as_ptr().cast_mut().cast::<c_void>()];
        let [x, y, z] = grid;
        let start = self.profiled("timing a kernel", Profile::mark);
        // SAFETY: the one argument has the size of the kernel's parameters, which the driver copies before it returns.
        let answer = unsafe {
            sys::cuLaunchKernel(
                kernel.function,
                x,
                y,
                z,
                threads,
                1,
                1,
                shared as u32,
                self.stream,
                arguments.as_mut_ptr(),
                ptr::null_mut(),
            )
        };
        self.recent().push(name);
        if let Err(error) = answer.result() {
            let what = format!(
                "launching {name}, {grid:?} blocks of {threads} threads and {shared} bytes of shared memory"
            );
            self.fail(&what, error);
        }
        self.timed(name, grid, start);
        if self.waits {
            self.wait(&mut self.staging());
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Everything here may fail after an error of the GPU, and there is nothing to do about it then.
        // SAFETY: the handles are this structure's own, and nothing uses them after it; who has memory of this GPU keeps it open.
        unsafe {
            let _ = result::ctx::set_current(self.context);
            if let Some(replay) = self.replay.take() {
                let (mut replay, freed) = replay.into_inner().unwrap_or_else(PoisonError::into_inner);
                let _ = replay.launch(self.stream, false);
                for address in freed {
                    let _ = result::free_async(address, self.stream);
                }
            }
            if !self.stream.is_null() {
                let _ = result::stream::synchronize(self.stream);
            }
            if let Some(profile) = self.profile.take() {
                let mut profile = profile.into_inner().unwrap_or_else(PoisonError::into_inner);
                let _ = profile.count();
                eprint!("{}", profile.table());
            }
            for &module in &self.modules {
                let _ = result::module::unload(module);
            }
            let staging = self.staging.get_mut().unwrap_or_else(PoisonError::into_inner);
            if !staging.memory.is_null() {
                let _ = result::free_host(staging.memory.cast());
            }
            if !self.pool.is_null() {
                let _ = mem_pool::trim_to(self.pool, 0);
            }
            if !self.stream.is_null() {
                let _ = result::stream::destroy(self.stream);
            }
            let _ = result::primary_ctx::release(self.card.device);
        }
    }
}

impl Recent {
    fn push(&mut self, name: &'static str) {
        self.last[self.count % NAMED] = name;
        self.count += 1;
    }

    /// The kernels, for the message of an error.
    fn describe(&self) -> String {
        let n = self.count.min(NAMED);
        if n == 0 {
            return String::new();
        }
        let mut words = format!("; of {} kernels since the last wait, the last were", self.count);
        for i in self.count - n..self.count {
            let _ = write!(words, "{} {}", if i + n == self.count { "" } else { "," }, self.last[i % NAMED]);
        }
        words + " (KOAN_CUDA_SYNC=1 in the environment waits after each, and so names the one that failed)"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_last_kernels() {
        let mut recent = Recent::default();
        assert_eq!(recent.describe(), "");
        recent.push("first");
        assert!(recent.describe().starts_with("; of 1 kernels since the last wait, the last were first ("));
        for name in ["a", "b", "c", "d", "e", "f"] {
            recent.push(name);
        }
        let said = recent.describe();
        assert!(
            said.starts_with("; of 7 kernels since the last wait, the last were a, b, c, d, e, f ("),
            "{said}"
        );
    }
}
