//! `koan mine example`

use std::path::PathBuf;

use koan_mine::example::Example;

/// Write a small made-up crawl to try the commands on
///
/// Pages of mathematics, with formulas and without, among shops and news: crawl.warc; a seed of positives, seed.jsonl; texts that are in
/// neither, held-out.jsonl; and which pages are mathematics, truth.jsonl. The same options give the same bytes.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan mine example data/crawl --pages 2000")]
pub(crate) struct ExampleArgs {
    /// Where the files go
    #[arg(value_name = "DIR")]
    out: PathBuf,
    /// Pages of the crawl
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pages: usize,
    /// Another number, other pages
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// One of two worlds, which share no sentence and no site: 0 or 1
    #[arg(long, value_name = "N", default_value_t = 0)]
    world: usize,
}

impl ExampleArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Self { out, pages, seed, world } = self;
        let made = Example { world, pages, seed }.write(&out)?;
        say!("{pages} pages: {}", made.warc.display())?;
        Ok(())
    }
}
