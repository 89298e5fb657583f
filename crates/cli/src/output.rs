//! What verbs say in the end, and files that they write: JSON Lines, to a file made whole or not at all, or to standard output.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use koan_train::rl::RunSummary;
use serde::Serialize;

/// Says how a run of `koan VERB FILE` ended: where the model is, or how to go on.
pub(crate) fn conclude(summary: &RunSummary, verb: &str, file: &Path) {
    let RunSummary { step, digest, .. } = summary;
    match &summary.model {
        Some(model) if digest.is_empty() => println!("the model is in {}", model.display()),
        Some(model) => println!("the model is in {}; checkpoint sha256 {digest}", model.display()),
        None => println!("stopped after step {step}; go on with: koan {verb} {} --resume", file.display()),
    }
}

/// Where lines go. A file is written beside its place and renamed by [`Output::finish`], so that a killed run leaves no
/// half of one behind under its name.
pub(crate) enum Output {
    Stdout(BufWriter<io::Stdout>),
    File { out: BufWriter<File>, part: PathBuf, path: PathBuf },
}

impl Output {
    /// Opens `path`, or standard output for none or `-`.
    pub(crate) fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path.filter(|p| *p != Path::new("-")) else {
            return Ok(Self::Stdout(BufWriter::new(io::stdout())));
        };
        let special = fs::metadata(path).is_ok_and(|m| !m.is_file());
        let name = path.file_name().with_context(|| format!("`{}` names no file", path.display()))?;
        let part = path.with_file_name(format!(".{}.part", name.to_string_lossy()));
        let part = if special { path.to_owned() } else { part };
        let out = File::create(&part).with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(Self::File { out: BufWriter::new(out), part, path: path.to_owned() })
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        serde_json::to_writer(&mut *self, value)?;
        Ok(self.write_all(b"\n")?)
    }

    /// Removes what was written of a file.
    pub(crate) fn discard(self) {
        if let Self::File { part, path, .. } = self
            && part != path
        {
            let _ = fs::remove_file(part); // the error that brought us here matters more
        }
    }

    /// Makes the file appear under its name.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Stdout(mut out) => Ok(out.flush()?),
            Self::File { out, part, path } => {
                let write = || format!("cannot write `{}`", path.display());
                let file = out.into_inner().map_err(io::IntoInnerError::into_error).with_context(write)?;
                if part != path {
                    file.sync_all().with_context(write)?;
                    fs::rename(&part, &path).with_context(write)?;
                }
                Ok(())
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File { out, .. } => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File { out, .. } => out.flush(),
        }
    }
}

/// Whether the reader of standard output went away: no error of ours.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let json = cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(io::ErrorKind::BrokenPipe)
    })
}
