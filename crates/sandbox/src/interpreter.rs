//! Which Python runs in the sandbox, and the files that it needs there.

use crate::SandboxError;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The oldest Python whose standard library has what `zygote.py` uses.
const OLDEST: (u32, u32) = (3, 9);

/// A Python interpreter: a program, not a shim, with its standard library and its shared libraries.
#[derive(Clone, Debug, Deserialize)]
pub struct Interpreter {
    /// The program, with no symbolic link on its way.
    pub executable: PathBuf,
    /// Major and minor version.
    pub version: (u32, u32),
    /// The dynamic loader, as the program names it; none where it is linked statically.
    pub(crate) loader: Option<PathBuf>,
    /// The folders (or archives) of the standard library.
    pub(crate) path: Vec<PathBuf>,
    /// The shared libraries that it and the standard library load.
    pub(crate) libraries: Vec<PathBuf>,
    has: Vec<String>,
}

impl Interpreter {
    /// Finds the interpreter that `python` runs, or else `python3` on the `PATH`, by asking it: a shim answers
    /// with the program behind it.
    ///
    /// # Errors
    /// [`SandboxError::Python`] where there is none, or none that can be used.
    pub fn find(python: Option<&Path>) -> Result<Self, SandboxError> {
        let python = python.unwrap_or(Path::new("python3"));
        let refuse = |reason: String| SandboxError::Python { python: python.to_owned(), reason };
        let output = Command::new(python)
            .args(["-I", "-S", "-B", "-c", include_str!("probe.py")])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| refuse(format!("it cannot be run: {error}")))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            let last = words.trim().lines().last().unwrap_or("no message").to_owned();
            return Err(refuse(format!("it fails ({}): {last}", output.status)));
        }
        let found: Self = serde_json::from_slice(&output.stdout)
            .map_err(|error| refuse(format!("it does not answer as Python does: {error}")))?;
        if found.version < OLDEST {
            return Err(refuse(format!("it is Python {}.{}", found.version.0, found.version.1)));
        }
        if found.has.len() < 3 {
            return Err(refuse(format!(
                "it was built without ctypes, resource or socket (has {:?})",
                found.has
            )));
        }
        Ok(found)
    }
}
