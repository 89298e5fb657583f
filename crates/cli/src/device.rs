//! Which device computes: the only file that names one.

use std::{fmt, num::NonZero};

use koan_backend::{Backend, Reference};
use koan_cpu::Cpu;

use crate::{elsewhere::NO_GPU, numbers::threads};

/// Where to compute.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Device {
    /// Where to compute: `cpu`, or `reference` (f64 and plain loops: slow, for checking). GPUs: not yet
    #[arg(long, default_value = "cpu", value_name = "DEVICE", value_parser = kind)]
    device: Kind,
    /// Threads to compute with; 0: all cores
    #[arg(long, value_name = "N", default_value = "0", value_parser = threads, hide_default_value = true)]
    threads: NonZero<usize>,
}

/// A kind of device.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Cpu,
    Reference,
}

/// Reads `--device`.
fn kind(word: &str) -> Result<Kind, String> {
    const GPUS: [&str; 12] =
        ["cuda", "gpu", "mps", "metal", "rocm", "hip", "xpu", "tpu", "npu", "nvidia", "vulkan", "amd"];
    let lower = word.to_ascii_lowercase();
    match lower.as_str() {
        "cpu" | "auto" => Ok(Kind::Cpu),
        "reference" => Ok(Kind::Reference),
        _ if GPUS.iter().any(|gpu| lower.starts_with(gpu)) => Err(NO_GPU.to_owned()),
        _ => Err("there is no such device; use cpu or reference".to_owned()),
    }
}

/// What computes, for people and for records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    /// The kind of device.
    pub(crate) device: &'static str,
    /// Its instruction set.
    pub(crate) isa: &'static str,
    /// Its threads.
    pub(crate) threads: usize,
    /// Threads that judge what it draws: as many as `--threads` says, whatever the device has.
    pub(crate) judges: usize,
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, isa, threads, .. } = self;
        write!(f, "{device}, {isa}, {threads} thread{}", if *threads == 1 { "" } else { "s" })
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
            Kind::Cpu => {
                let cpu = Cpu::best(Some(judges))?;
                let running =
                    Running { device: "cpu", isa: cpu.isa().name(), threads: cpu.threads(), judges };
                job.run(&cpu, running)
            }
            Kind::Reference => {
                job.run(&Reference, Running { device: "reference", isa: "f64", threads: 1, judges })
            }
        }
    }
}
