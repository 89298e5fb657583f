//! The compilers of kernels for GPUs: NVRTC, or nvcc.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    card::cuda_name,
    cubins::Target,
    error::CudaError,
    nvrtc::{self, Nvrtc},
};

/// A compiler of kernels.
#[derive(Debug)]
pub struct Compiler {
    kind: Kind,
    /// Its name and version, such as `NVRTC 13.0`.
    name: String,
    /// The CUDA it is of.
    cuda: [u32; 2],
}

#[derive(Debug)]
enum Kind {
    Nvrtc(Nvrtc),
    Nvcc(PathBuf),
}

impl Compiler {
    /// The first compiler of this machine whose programs a driver of CUDA `driver` runs; of any, without a driver.
    ///
    /// # Errors
    /// If there is none: with how to install one.
    pub fn find(driver: Option<[u32; 2]>) -> Result<Self, CudaError> {
        let mut skipped = Vec::new();
        let nvrtc = nvrtc::places().filter_map(|path| {
            let loaded = Nvrtc::load(&path);
            // Most places are empty; what is there and does not load is worth a word.
            if let Err(error) = &loaded
                && path.is_file()
            {
                skipped.push(error.to_string());
            }
            loaded.ok()
        });
        let mut too_new = Vec::new();
        let mut found = None;
        for library in nvrtc {
            if driver.is_none_or(|driver| library.cuda[0] <= driver[0]) {
                let (name, cuda) = (format!("NVRTC {}", cuda_name(library.cuda)), library.cuda);
                found = Some(Self { kind: Kind::Nvrtc(library), name, cuda });
                break;
            }
            too_new.push(format!("{} is of CUDA {}", library.path.display(), cuda_name(library.cuda)));
            std::mem::forget(library);
        }
        if let Some(found) = found {
            return Ok(found);
        }
        for path in nvccs() {
            let Some((version, cuda)) = nvcc_version(&path) else { continue };
            if driver.is_none_or(|driver| cuda[0] <= driver[0]) {
                return Ok(Self { kind: Kind::Nvcc(path), name: format!("nvcc {version}"), cuda });
            }
            too_new.push(format!("{} is of CUDA {version}", path.display()));
        }
        if let Some(driver) = driver.filter(|_| !too_new.is_empty()) {
            skipped.push(format!(
                "{}, and the driver runs CUDA {} at most",
                too_new.join(", "),
                cuda_name(driver)
            ));
        }
        let skipped = if skipped.is_empty() { String::new() } else { format!(" ({})", skipped.join("; ")) };
        Err(CudaError::NoCompiler { skipped, major: driver.map_or(13, |[major, _]| major) })
    }

    /// Its name and version, such as `NVRTC 13.0`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The CUDA it is of, `[major, minor]`.
    pub fn cuda(&self) -> [u32; 2] {
        self.cuda
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        match &self.kind {
            Kind::Nvrtc(nvrtc) => &nvrtc.path,
            Kind::Nvcc(path) => path,
        }
    }

    /// Compiles `text`, the file `name`, to a cubin; with `details`, what it says names the registers and spills of each kernel.
    ///
    /// # Errors
    /// If the compiler refuses the text: with what it says.
    pub(crate) fn compile(
        &self,
        name: &str,
        text: &str,
        target: Target,
        details: bool,
    ) -> Result<(Vec<u8>, String), CudaError> {
        let compiled = match &self.kind {
            Kind::Nvrtc(nvrtc) => nvrtc.compile(name, text, &nvrtc_options(target, details))?,
            Kind::Nvcc(path) => nvcc(path, text, target, details)?,
        };
        compiled.map_err(|log| CudaError::Kernels {
            compiler: self.name.clone(),
            file: name.to_owned(),
            target: target.to_string(),
            log,
        })
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.path().display())
    }
}

/// What both compilers are asked for: no product and sum are fused unless a kernel says so.
fn options(target: Target) -> Vec<String> {
    vec!["-std=c++17".to_owned(), "-fmad=false".to_owned(), format!("-DKOAN_SM={}", target.number())]
}

fn nvrtc_options(target: Target, details: bool) -> Vec<String> {
    let mut options = options(target);
    // Lambdas are the device's, as they are with nvcc.
    options.extend(["-default-device".to_owned(), format!("-arch={target}")]);
    if details {
        options.push("--ptxas-options=-v".to_owned());
    }
    options
}

/// Runs nvcc on files of a folder of its own.
fn nvcc(
    nvcc: &Path,
    text: &str,
    target: Target,
    details: bool,
) -> Result<Result<(Vec<u8>, String), String>, CudaError> {
    static FOLDERS: AtomicU32 = AtomicU32::new(0);
    let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
    let folder = env::temp_dir().join(format!("koan-nvcc-{}-{number}", process::id()));
    fs::create_dir(&folder).map_err(CudaError::file(&folder))?;
    let run = || {
        let (source, cubin) = (folder.join("kernels.cu"), folder.join("kernels.cubin"));
        fs::write(&source, text).map_err(CudaError::file(&source))?;
        let virtual_target = target.to_string().replace("sm_", "compute_");
        let mut command = Command::new(nvcc);
        command.arg("-cubin").args(options(target));
        command.arg(format!("-gencode=arch={virtual_target},code={target}"));
        command.args(details.then_some("-Xptxas=-v"));
        command.arg("-o").arg(&cubin).arg(&source).stdin(Stdio::null());
        let output = command.output().map_err(CudaError::file(nvcc))?;
        let log =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
        let log = log.join("\n").trim().to_owned();
        if !output.status.success() {
            return Ok(Err(if log.is_empty() { output.status.to_string() } else { log }));
        }
        let bytes = fs::read(&cubin).map_err(CudaError::file(&cubin))?;
        Ok(Ok((bytes, log)))
    };
    let compiled = run();
    let _ = fs::remove_dir_all(&folder);
    compiled
}

/// Where nvcc may be.
fn nvccs() -> impl Iterator<Item = PathBuf> {
    let path =
        env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let toolkits = nvrtc::toolkits().into_iter().map(|root| root.join("bin"));
    path.into_iter().chain(toolkits).map(|folder| folder.join("nvcc")).filter(|nvcc| nvcc.is_file())
}

/// What `nvcc --version` says it is: its version, and that of its CUDA.
fn nvcc_version(nvcc: &Path) -> Option<(String, [u32; 2])> {
    let output = Command::new(nvcc).arg("--version").stdin(Stdio::null()).output().ok()?;
    version_of(&String::from_utf8_lossy(&output.stdout))
}

/// The version in such a text: `Cuda compilation tools, release 13.0, V13.0.88`.
fn version_of(text: &str) -> Option<(String, [u32; 2])> {
    let version = text.split(", V").nth(1)?.split_whitespace().next()?;
    let mut parts = version.split('.').map(str::parse);
    let cuda = [parts.next()?.ok()?, parts.next()?.ok()?];
    Some((version.to_owned(), cuda))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nvcc_says_its_version() {
        let text = "nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 13.0, V13.0.88\nBuild cuda_13.0\n";
        assert_eq!(version_of(text), Some(("13.0.88".to_owned(), [13, 0])));
        assert_eq!(version_of("nvcc: command not found"), None);
    }
}
