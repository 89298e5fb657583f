//! `koan mine plan`

use std::{env, fs, path::PathBuf};

use anyhow::{Context, ensure};
use koan_mine::plan::Slurm;

use super::run::Named;

/// Write the jobs of a cluster: a script a stage, and one that hands them to Slurm
///
/// Each stage is an array of jobs that begins when the one before has ended well. Jobs that are killed or requeued go on where they were.
/// The run directory must be on a file system that all nodes see.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan mine plan mine.toml --slurm --shards 64 --cpus 8 --sbatch=--partition=long
  runs/mine/slurm/submit.sh")]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    named: Named,
    /// For Slurm, the one scheduler for which scripts are written
    #[arg(long)]
    slurm: bool,
    /// Jobs of a stage, at most
    #[arg(long, value_name = "N", default_value_t = 16)]
    shards: usize,
    /// Cores of a job
    #[arg(long, value_name = "N", default_value_t = 4)]
    cpus: usize,
    /// Memory of a job
    #[arg(long, value_name = "SIZE", default_value = "4G")]
    memory: String,
    /// One more option of sbatch. Repeatable
    #[arg(long, value_name = "--OPTION=VALUE", allow_hyphen_values = true)]
    sbatch: Vec<String>,
    /// Where the scripts go [default: RUN_DIR/slurm]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl PlanArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        ensure!(
            self.slurm,
            "say for which scheduler: --slurm (docs/guide/maths-corpus.md has Ray and Spark)"
        );
        let run = self.named.open(Some(1))?;
        let out = self.out.unwrap_or_else(|| run.folder().join("slurm"));
        fs::create_dir_all(&out).with_context(|| format!("cannot create `{}`", out.display()))?;
        let slurm = Slurm {
            shards: self.shards,
            cpus: self.cpus,
            memory: self.memory,
            options: self.sbatch,
            program: env::current_exe().context("cannot tell where this program is")?,
            config: fs::canonicalize(&self.named.config)?,
            directory: env::current_dir()?,
            out: fs::canonicalize(&out)?,
        };
        let scripts = slurm.scripts(&run)?;
        for (name, text) in &scripts {
            let path = out.join(name);
            koan_files::replace(&path, text.as_bytes())?;
            if path.extension().is_some_and(|end| end == "sh") {
                executable(&path)?;
            }
        }
        Ok(say!(
            "{} scripts are in {}; hand them to Slurm: {}",
            scripts.len(),
            out.display(),
            out.join("submit.sh").display()
        )?)
    }
}

#[cfg(unix)]
fn executable(path: &std::path::Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

#[cfg(not(unix))]
fn executable(_: &std::path::Path) -> anyhow::Result<()> {
    Ok(())
}
