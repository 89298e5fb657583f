//! `koan mine iterate`

use std::path::PathBuf;

use koan_mine::iterate::{Iteration, Learn, Outcome, table};

/// Find pages of mathematics in rounds, each taught by the domains that the last one found
///
/// A round trains a classifier, scores all documents, keeps the best, and lists the domains of which enough was kept. Then you choose
/// prefixes of their URLs (`koan mine domains`), and the same command goes on: pages under them that were not kept join the positives.
/// With --auto rules choose. It ends when a round keeps under 2% new documents. Killed, it goes on where it was, to the same bytes.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan mine run pool.toml                  # documents of a crawl, without a classifier
  koan mine iterate loop.toml --auto       # the corpus is in RUN_DIR/corpus

A config:
  run_dir = \"runs/loop\"
  [train]
  positives = \"openwebmath/*.jsonl.zst\"
  [iterate]
  documents = \"runs/pool/corpus/*.jsonl.zst\"
  keep_tokens = 40_000_000_000")]
pub(crate) struct IterateArgs {
    /// The config
    #[arg(value_name = "FILE.toml")]
    config: PathBuf,
    /// Prefixes are chosen by rules: half of a prefix's pages were kept, or nearly all that was kept of its domain lies under it
    #[arg(long)]
    auto: bool,
}

impl IterateArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let iteration = Iteration::new(Learn::read(&self.config)?)?;
        match iteration.run(self.auto, &mut |what| note!("{what}"))? {
            Outcome::Finished(report, corpus) => {
                say!("{}", table(&report))?;
                say!("the corpus is in {}", corpus.display())?;
            }
            Outcome::Choose(report, list) => {
                say!("{}", table(&report))?;
                say!(
                    "{} prefixes of domains to choose from: {}\nwith samples, for a browser: {}\nThen: koan mine domains {} --accept LIST.tsv, \
                     and this command again",
                    list.prefixes,
                    list.path.display(),
                    list.page.display(),
                    self.config.display()
                )?;
            }
        }
        Ok(())
    }
}
