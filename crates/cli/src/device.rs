//! Which device computes: the only file that names one.

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

/// Work that runs on any backend.
pub(crate) trait Job {
    /// Does the work on `backend`; `name` says in words what that is.
    fn run<B: Backend>(self, backend: &B, name: &str) -> anyhow::Result<()>;
}

impl Device {
    /// Opens the device and runs `job` on it.
    pub(crate) fn run(&self, job: impl Job) -> anyhow::Result<()> {
        match self.device.as_str() {
            "cpu" => {
                let cpu = Cpu::best(self.threads)?;
                let name = format!("cpu, {}, {} threads", cpu.isa().name(), cpu.threads());
                job.run(&cpu, &name)
            }
            "reference" => job.run(&Reference, "reference, f64, 1 thread"),
            other => bail!("there is no device `{other}`; use cpu or reference"),
        }
    }
}
