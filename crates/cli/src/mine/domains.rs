//! `koan mine domains`

use std::path::PathBuf;

use koan_mine::iterate::{Iteration, Learn};

/// The domains that the last round found, and which of their pages the next one learns from
///
/// Without --accept it names the list, a table of prefixes marked as the rules of --auto would choose, and the page that shows it with
/// samples. A copy of the list with other marks, or with prefixes of your own, is taken by --accept.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan mine domains loop.toml
  cp runs/loop/round-1/domains.tsv mine.tsv    # change the marks
  koan mine domains loop.toml --accept mine.tsv
  koan mine iterate loop.toml")]
pub(crate) struct DomainsArgs {
    /// The config of `koan mine iterate`
    #[arg(value_name = "FILE.toml")]
    config: PathBuf,
    /// Take the choice of this list
    #[arg(long, value_name = "LIST.tsv")]
    accept: Option<PathBuf>,
}

impl DomainsArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let list = Iteration::new(Learn::read(&self.config)?)?.list()?;
        if let Some(path) = self.accept {
            let (chosen, next) = (list.accept(&path)?.len(), list.round + 1);
            say!(
                "{chosen} prefixes for round {next}; go on with `koan mine iterate {}`",
                self.config.display()
            )?;
        } else {
            say!("round {}: {} prefixes", list.round, list.prefixes)?;
            say!("list: {}\npage: {}", list.path.display(), list.page.display())?;
        }
        Ok(())
    }
}
