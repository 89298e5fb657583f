//! Which device computes: the only file that names one.

use std::{fmt, num::NonZero, sync::OnceLock};

use koan_backend::{Backend, Reference};
use koan_cpu::Cpu;
use koan_cuda::{Cuda, CudaError};

use crate::{
    elsewhere::NO_SUCH_GPU,
    numbers::threads,
    ranks::{on_this_machine, ranks},
};

/// Where to compute.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Device {
    /// Where to compute: `auto` (the first NVIDIA GPU that can be used, else the CPU), `cpu`, `cuda:N` (GPU number N, from 0;
    /// `cuda` is the first), or `reference` (f64 and plain loops: slow, for checking)
    #[arg(long, default_value = "auto", value_name = "DEVICE", value_parser = kind)]
    device: Kind,
    /// Threads to compute with on the CPU, and to judge completions with; 0: all cores
    #[arg(long, value_name = "N", default_value = "0", value_parser = threads, hide_default_value = true)]
    threads: NonZero<usize>,
}

/// A kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Auto,
    Cpu,
    Cuda(usize),
    Reference,
}

/// Reads `--device`.
fn kind(word: &str) -> Result<Kind, String> {
    const OTHERS: [&str; 9] = ["mps", "metal", "rocm", "hip", "xpu", "tpu", "npu", "vulkan", "amd"];
    let lower = word.to_ascii_lowercase();
    if let Some(ordinal) = lower.strip_prefix("cuda") {
        let digits = if ordinal.is_empty() { Some("0") } else { ordinal.strip_prefix(':') };
        let ordinal = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        return ordinal
            .and_then(|digits| digits.parse().ok())
            .map(Kind::Cuda)
            .ok_or_else(|| "write cuda:0 for the first GPU, cuda:1 for the second".to_owned());
    }
    match lower.as_str() {
        "auto" => Ok(Kind::Auto),
        "cpu" => Ok(Kind::Cpu),
        "reference" => Ok(Kind::Reference),
        "gpu" | "nvidia" => Err("an NVIDIA GPU is cuda:0 here; auto takes it if it can be used".to_owned()),
        _ if OTHERS.iter().any(|other| lower.starts_with(other)) => Err(NO_SUCH_GPU.to_owned()),
        _ => Err("there is no such device; use auto, cpu, cuda:0 or reference".to_owned()),
    }
}

/// What computes, for people and for records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    /// The kind of device.
    pub(crate) device: &'static str,
    /// Its instruction set; of a GPU its name, its driver and what compiled its kernels.
    pub(crate) isa: &'static str,
    /// Its threads; 0 of a GPU.
    pub(crate) threads: usize,
    /// Threads that judge what it draws: as many as `--threads` says, whatever the device has.
    pub(crate) judges: usize,
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, isa, threads, .. } = self;
        write!(f, "{device}, {isa}")?;
        match threads {
            0 => Ok(()),
            1 => write!(f, ", 1 thread"),
            _ => write!(f, ", {threads} threads"),
        }
    }
}

/// Work that runs on any backend.
pub(crate) trait Job {
    /// Does the work on `backend`, which is `running`.
    fn run<B: Backend>(self, backend: &B, running: Running) -> anyhow::Result<()>;
}

impl Device {
    /// Opens the device and runs `job` on it.
    pub(crate) fn run(&self, job: impl Job) -> anyhow::Result<()> {
        let judges = self.threads.get();
        match self.device {
            Kind::Auto => match usable_gpu() {
                Some(cuda) => {
                    let running = running_on(&cuda, on_this_machine().1, judges);
                    if ranks().is_first() {
                        note!("computing on {running}; --device cpu computes on the CPU");
                    }
                    job.run(&cuda, running)
                }
                None => on_cpu(job, judges),
            },
            Kind::Cpu => on_cpu(job, judges),
            Kind::Cuda(ordinal) => {
                let cuda = Cuda::open(ordinal)?;
                job.run(&cuda, running_on(&cuda, ordinal, judges))
            }
            Kind::Reference => {
                ranks().refuse_several("the reference device computes")?;
                job.run(&Reference, Running { device: "reference", isa: "f64", threads: 1, judges })
            }
        }
    }
}

fn on_cpu(job: impl Job, judges: usize) -> anyhow::Result<()> {
    let cpu = Cpu::best(Some(judges))?;
    let running = Running { device: "cpu", isa: cpu.isa().name(), threads: cpu.threads(), judges };
    job.run(&cpu, running)
}

/// The first GPU, or, of processes that make a run together on this machine, one for each; if there is one and it can be used. Where there is one that can't be, it is said why.
fn usable_gpu() -> Option<Cuda> {
    let opened = Cuda::open(on_this_machine().1);
    match &opened {
        Ok(_) | Err(CudaError::NoDriver | CudaError::NoCard) => {}
        Err(error) => note!("the GPU is not used: {error}"),
    }
    opened.ok()
}

/// The most bytes of the GPU's memory that were in use at once; none if no GPU computes.
pub(crate) fn peak_gpu_memory() -> Option<u64> {
    GAUGE.get()?()
}

/// What [`peak_gpu_memory`] asks.
static GAUGE: OnceLock<Box<dyn Fn() -> Option<u64> + Send + Sync>> = OnceLock::new();

fn running_on(cuda: &Cuda, ordinal: usize, judges: usize) -> Running {
    GAUGE.get_or_init(|| Box::new(cuda.memory_gauge()));
    // Named once in a process, and until its end.
    let device = format!("cuda:{ordinal}").leak();
    Running { device, isa: cuda.name().to_owned().leak(), threads: 0, judges }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_has_a_number() {
        assert_eq!(kind("cuda"), Ok(Kind::Cuda(0)));
        assert_eq!(kind("CUDA:3"), Ok(Kind::Cuda(3)));
        assert_eq!((kind("auto"), kind("cpu")), (Ok(Kind::Auto), Ok(Kind::Cpu)));
        for word in ["cuda:", "cuda:-1", "cuda:+1", "cuda1", "cuda:0,1", "cuda:99999999999999999999"] {
            assert!(kind(word).is_err_and(|said| said.contains("cuda:1")), "{word}");
        }
        assert!(kind("gpu").is_err_and(|said| said.contains("cuda:0")));
        assert!(kind("rocm").is_err_and(|said| said == NO_SUCH_GPU));
    }
}
