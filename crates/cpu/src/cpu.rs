//! The CPU as a device: which kernels it runs, on how many threads.

use std::{
    env, fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    thread::available_parallelism,
};

use koan_backend::AlignedVec;

use crate::{
    isa::{Isa, UnknownIsa, names},
    ops::fp8,
    parallel::Threads,
    tables::Kernels,
};

/// The environment variable that forces an instruction set.
const ISA_VARIABLE: &str = "KOAN_ISA";

/// What keeps a [`Cpu`] from being made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CpuError {
    /// The machine, or its system, lacks an instruction set that was asked for.
    #[error("this machine lacks the instruction set `{isa}`; it has {}", names(available))]
    MissingIsa {
        /// What was asked for.
        isa: Isa,
        /// What the machine has.
        available: Vec<Isa>,
    },
    /// No instruction set has the name that was given.
    #[error(transparent)]
    UnknownIsa(#[from] UnknownIsa),
    /// More than [`MAX_THREADS`].
    #[error("{0} threads; {MAX_THREADS} is the most")]
    TooManyThreads(usize),
    /// The system refused to start threads.
    #[error("cannot start threads")]
    Threads(#[from] std::io::Error),
}

/// The CPU as a device: an instruction set's kernels, and threads.
pub struct Cpu {
    isa: Isa,
    pub(crate) kernels: &'static Kernels,
    pub(crate) threads: Threads,
    scratch: Mutex<Scratch>,
}

/// Memory of operations that need more than a thread's own. It grows to what the largest needs, and is then
/// reused.
pub(crate) struct Scratch {
    pub(crate) packed: AlignedVec<f32>,
    pub(crate) packed_rows: AlignedVec<f32>,
    /// Rows of a matrix that is held packed alone.
    pub(crate) rows: AlignedVec<f32>,
    pub(crate) logits: AlignedVec<f32>,
    /// Products in FP8.
    pub(crate) fp8: fp8::Scratch,
}

/// Most threads of a [`Cpu`]: above any machine's cores; more would only wait for each other.
pub const MAX_THREADS: usize = 1024;

impl Cpu {
    /// A CPU that runs the kernels of `isa` on `threads` threads, at least one.
    ///
    /// # Errors
    /// If this machine lacks `isa`, or threads cannot be started.
    pub fn new(isa: Isa, threads: usize) -> Result<Self, CpuError> {
        // First, because asking for AMX requests a permission that threads inherit.
        let kernels =
            Kernels::of(isa).ok_or_else(|| CpuError::MissingIsa { isa, available: Isa::available() })?;
        if threads > MAX_THREADS {
            return Err(CpuError::TooManyThreads(threads));
        }
        let [packed, packed_rows, rows, logits] = [(); 4].map(|()| AlignedVec::empty());
        let scratch = Mutex::new(Scratch { packed, packed_rows, rows, logits, fp8: fp8::Scratch::empty() });
        Ok(Self { isa, kernels, threads: Threads::new(threads)?, scratch })
    }

    /// A CPU with the instruction set that `KOAN_ISA` names, or the best that this machine has, and with
    /// `threads` threads, or one per core.
    ///
    /// # Errors
    /// If `KOAN_ISA` names no instruction set or one that this machine lacks, or threads cannot be started.
    pub fn best(threads: Option<usize>) -> Result<Self, CpuError> {
        let isa = match env::var_os(ISA_VARIABLE) {
            Some(name) => name.to_string_lossy().parse()?,
            None => Isa::best(),
        };
        let cores = || available_parallelism().map_or(1, usize::from);
        Self::new(isa, threads.unwrap_or_else(cores))
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// How many threads work.
    pub fn threads(&self) -> usize {
        self.threads.count()
    }

    /// A panic leaves no broken state behind: scratch holds anything.
    pub(crate) fn scratch(&self) -> MutexGuard<'_, Scratch> {
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cpu({}, {} threads)", self.isa, self.threads())
    }
}
