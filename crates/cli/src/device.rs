//! Which device computes: the only file that names one.

use std::{fmt, thread};

use anyhow::bail;
use koan_backend::{Backend, Reference};
use koan_cpu::Cpu;

/// Where to compute.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Device {
    /// Where to compute: `cpu`, or `reference` (f64 and plain loops: slow, for checking)
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    device: String,
    /// Threads to compute with; default: all cores
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
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
        let judges = self.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
        match self.device.as_str() {
            "cpu" => {
                let cpu = Cpu::best(self.threads)?;
                let running =
                    Running { device: "cpu", isa: cpu.isa().name(), threads: cpu.threads(), judges };
                job.run(&cpu, running)
            }
            "reference" => {
                job.run(&Reference, Running { device: "reference", isa: "f64", threads: 1, judges })
            }
            other => bail!("there is no device `{other}`; use cpu or reference"),
        }
    }
}
