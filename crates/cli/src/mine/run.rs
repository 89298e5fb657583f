//! `koan mine run`

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use anyhow::ensure;
use koan_mine::{
    Config,
    stages::{Progress as At, Run, Shard, Stage},
};

use crate::progress::Progress;

/// What every verb takes that reads the config
#[derive(clap::Args)]
pub(super) struct Named {
    /// The config
    #[arg(value_name = "FILE.toml")]
    pub(super) config: PathBuf,
    /// Where everything goes, in the place of the config's `run_dir`
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

impl Named {
    /// The run, on so many threads.
    pub(super) fn open(&self, workers: Option<usize>) -> anyhow::Result<Run> {
        let mut config = Config::read(&self.config)?;
        if let Some(run_dir) = &self.run_dir {
            config.run_dir.clone_from(run_dir);
        }
        Ok(Run::open(config, workers)?)
    }
}

/// Mine a corpus: all stages, or a shard of one
///
/// What is made already of the same inputs with the same settings is not made again. Stopped by Ctrl-C or killed, the same command goes on
/// where it was, and ends with the bytes of a run that was never interrupted, whatever the number of threads or shards.
#[derive(clap::Args)]
#[command(
    after_help = "Stages, in their order: pages (read, extract, judge), urls, near, clusters, write, report

Examples:
  koan mine run mine.toml
  koan mine run mine.toml --stage pages --shard 3/16     # one of 16 jobs of a cluster; `koan mine plan` writes them

A config:
  input = [\"crawl/*.warc.gz\"]
  run_dir = \"runs/mine\"
  [classifier]
  model = \"maths.bin\"
  [decontaminate]
  against = [\"tests/*.jsonl\"]"
)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    named: Named,
    /// One stage alone
    #[arg(long, value_name = "STAGE")]
    stage: Option<Stage>,
    /// Of that stage each N-th unit, from the I-th on; I is 0 to N - 1
    #[arg(long, value_name = "I/N", requires = "stage")]
    shard: Option<Shard>,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
}

/// Progress of the stage at hand.
struct Bar {
    stage: Stage,
    line: Progress,
    start: Instant,
    /// Pages when it started.
    pages: u64,
}

impl RunArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        ensure!(self.workers != Some(0), "--workers must be at least 1");
        let run = self.named.open(self.workers)?;
        let (start, bar) = (Instant::now(), Mutex::new(None::<Bar>));
        let listener = |progress| {
            let mut bar = bar.lock().unwrap_or_else(PoisonError::into_inner);
            match progress {
                At::Note(note) => match &*bar {
                    Some(bar) => bar.line.print(&note),
                    None => note!("{note}"),
                },
                At::At { stage, done, of, pages } => show(&mut bar, stage, done, of, pages),
            }
        };
        let report = match self.stage {
            Some(stage) => {
                run.stage(stage, self.shard.unwrap_or(Shard::WHOLE), &listener)?;
                (stage == Stage::Report).then(|| run.report()).transpose()?
            }
            None => Some(run.all(&listener)?),
        };
        if let Some(bar) = &*bar.lock().unwrap_or_else(PoisonError::into_inner) {
            bar.line.finish();
        }
        if let Some(report) = report {
            say!("{report}")?;
            let folder = run.folder();
            let seconds = start.elapsed().as_secs_f64();
            say!(
                "\n{seconds:.1} s; the corpus is in {}, the report in {}",
                folder.join("corpus").display(),
                folder.join("report.json").display()
            )?;
        }
        Ok(())
    }
}

fn show(bar: &mut Option<Bar>, stage: Stage, done: u64, of: u64, pages: u64) {
    // Bytes are shown in MiB.
    let shift = if stage == Stage::Pages { 20 } else { 0 };
    if bar.as_ref().is_none_or(|bar| bar.stage != stage) {
        if let Some(bar) = &*bar {
            bar.line.finish();
        }
        let what = match stage {
            Stage::Pages => "pages, MiB",
            other => other.name(),
        };
        *bar = Some(Bar {
            stage,
            line: Progress::new(what, (of >> shift) as usize),
            start: Instant::now(),
            pages,
        });
    }
    if let Some(bar) = bar {
        let rate = (pages - bar.pages) as f64 / bar.start.elapsed().as_secs_f64().max(0.1);
        let message = if stage == Stage::Pages {
            format!("{pages} pages, {rate:.0} per second")
        } else {
            String::new()
        };
        bar.line.set((done >> shift) as usize, &message);
    }
}
