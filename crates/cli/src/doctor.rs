//! `koan doctor`

use std::{process::Command, time::Instant};

use koan_backend::{Backend, Forms, Keep, Matrix, Store, free_host_memory};
use koan_cpu::Isa;
use koan_cuda::{Card, Compiler, Cuda, CudaError, System};
use koan_sandbox::SandboxError;
#[cfg(target_os = "linux")]
use koan_sandbox::{Interpreter, Launcher};

use crate::numbers::all_cores;

const GIB: f64 = (1u64 << 30) as f64;

/// What this machine has of what Koan can use, and what to install for the rest
///
/// It looks for GPUs, compiles their kernels and runs one, and tries the sandbox.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan doctor")]
pub(crate) struct Doctor {}

/// Something that was looked for.
struct Finding {
    name: String,
    /// What was found, in words.
    found: String,
    /// What to do where it is missing.
    remedy: Option<String>,
}

impl Finding {
    fn new(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), found: found.into(), remedy: None }
    }

    /// Something that is missing: `error` says what to do.
    fn missing(name: impl Into<String>, found: impl Into<String>, error: impl Into<anyhow::Error>) -> Self {
        Self { remedy: Some(format!("{:#}", error.into())), ..Self::new(name, found) }
    }
}

impl Doctor {
    #[expect(clippy::unused_self, reason = "as all verbs are run")]
    pub(crate) fn run(self) -> anyhow::Result<()> {
        say!("koan {}", env!("KOAN_VERSION"))?;
        let mut remedies = Vec::new();
        for finding in [cpu(), memory()].into_iter().chain(gpus()).chain([sandbox(), cxx()]) {
            let mut lines = finding.found.lines();
            say!("{:<9} {}", finding.name, lines.next().unwrap_or_default())?;
            for line in lines {
                say!("          {line}")?;
            }
            remedies.extend(finding.remedy.map(|remedy| (finding.name, remedy)));
        }
        for (name, remedy) in remedies {
            say!("\n{name}: {remedy}")?;
        }
        Ok(())
    }
}

fn cpu() -> Finding {
    let all: Vec<_> = Isa::available().into_iter().map(Isa::name).collect();
    let threads = all_cores();
    Finding::new("CPU", format!("computes with {}, of {}; {threads} threads", Isa::best(), all.join(", ")))
}

fn memory() -> Finding {
    let free = free_host_memory();
    let free = free
        .map_or_else(|| "the system does not say".to_owned(), |n| format!("{:.1} GiB free", n as f64 / GIB));
    Finding::new("memory", free)
}

/// The GPUs, their driver, their compiler, and whether their kernels run.
fn gpus() -> Vec<Finding> {
    let system = match System::find() {
        Ok(system) => system,
        Err(error) => {
            let found = match error {
                CudaError::NoDriver | CudaError::NoCard => "none; computes on the CPU",
                _ => "not usable; computes on the CPU",
            };
            return vec![Finding::missing("GPU", found, error), compiler_without_gpu()];
        }
    };
    let mut findings = vec![Finding::new("driver", system.to_string())];
    if system.cards.is_empty() {
        findings.push(Finding::missing("GPU", "none; computes on the CPU", CudaError::NoCard));
    }
    for (ordinal, card) in system.cards.iter().enumerate() {
        let Card { name, capability: [major, minor], memory, multiprocessors, .. } = card;
        let found = format!(
            "{name}, {:.1} GiB, compute capability {major}.{minor}, {multiprocessors} multiprocessors",
            *memory as f64 / GIB
        );
        findings.push(Finding::new(format!("cuda:{ordinal}"), found));
    }
    match Compiler::find(Some(system.cuda)) {
        Ok(compiler) => findings.push(Finding::new("compiler", compiler.to_string())),
        // Kernels that come with the program, or that are kept, need none.
        Err(error) => findings.push(Finding::missing("compiler", "none", error)),
    }
    findings.extend(system.cards.iter().enumerate().map(|(ordinal, _)| kernels(ordinal)));
    findings
}

/// Whether GPU number `ordinal` runs the kernels.
fn kernels(ordinal: usize) -> Finding {
    let start = Instant::now();
    let tried = Cuda::open(ordinal).map_err(anyhow::Error::from).and_then(|cuda| {
        try_product(&cuda)?;
        Ok(cuda.name().to_owned())
    });
    match tried {
        Ok(name) => {
            let seconds = start.elapsed().as_secs_f64();
            Finding::new("kernels", format!("run on cuda:{ordinal}: {name}; ready in {seconds:.1} s"))
        }
        Err(error) => Finding::missing("kernels", format!("do not run on cuda:{ordinal}"), error),
    }
}

/// A small product, whose result is known.
fn try_product<B: Backend>(b: &B) -> anyhow::Result<()> {
    let n = 32;
    let w = Matrix::new(b, &vec![0.5; n * n], [n, n], Forms { values: true, packed: true })?;
    let mut x = b.operand(n * n, Keep::Operand)?;
    b.write_operand(&mut x, &vec![2.0; n * n]);
    let mut y = b.zeros(n * n)?;
    b.linear_forward(&mut y, &x, &w, n, Store::Write);
    let [y] = b.read([(&y, n * n)]);
    anyhow::ensure!(y.iter().all(|&value| value == n as f32), "a product of ones is wrong: {:?}", &y[..4]);
    Ok(())
}

/// What would compile the kernels if there were a GPU.
fn compiler_without_gpu() -> Finding {
    let found = match Compiler::find(None) {
        Ok(compiler) => format!("{compiler}, for the kernels of a GPU"),
        Err(_) => "none (only a GPU needs one)".to_owned(),
    };
    Finding::new("compiler", found)
}

/// Whether programs can be run contained, which rewards that run code need.
fn sandbox() -> Finding {
    match try_sandbox() {
        Ok(()) => Finding::new("sandbox", "contains programs: rewards that run code work"),
        Err(error) => Finding::missing("sandbox", "not usable: rewards that run code refuse to", error),
    }
}

#[cfg(target_os = "linux")]
fn try_sandbox() -> Result<(), SandboxError> {
    let launcher = Launcher::new(&Interpreter::find(None)?, 1, 1 << 16)?;
    launcher.test(&mut launcher.launch()?)
}

#[cfg(not(target_os = "linux"))]
fn try_sandbox() -> Result<(), SandboxError> {
    Err(SandboxError::NotLinux)
}

/// The compiler of the emulator, which only tests use.
fn cxx() -> Finding {
    let version = Command::new("g++").arg("--version").output().ok().filter(|output| output.status.success());
    let found = version
        .map(|output| String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned());
    Finding::new("g++", found.unwrap_or_else(|| "none (only tests of the GPU's kernels need one)".to_owned()))
}
