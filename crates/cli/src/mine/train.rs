//! `koan mine train`

use std::path::PathBuf;

use koan_mine::iterate::{Learn, train};

/// Train a classifier on pages of mathematics and others
///
/// A fastText classifier, as DeepSeekMath's: files of Facebook's format, the same bits for the same config. A tenth of the positives is
/// held out: how many of them it keeps is its recall, and the cut that is suggested for `classifier.threshold` comes from their scores.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan mine train classifier.toml

A config:
  run_dir = \"runs/classifier\"
  [train]
  positives = \"openwebmath/*.jsonl.zst\"
  negatives = \"random-pages/*.jsonl.zst\"
  [model]                # the paper's sizes; the defaults are smaller
  dim = 256
  buckets = 2_000_000")]
pub(crate) struct TrainArgs {
    /// The config
    #[arg(value_name = "FILE.toml")]
    config: PathBuf,
}

impl TrainArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let trained = train(&Learn::read(&self.config)?, &mut |what| note!("{what}"))?;
        say!(
            "learnt from {} positives and {} negatives; {} words have a vector",
            trained.positives,
            trained.negatives,
            trained.words
        )?;
        say!(
            "threshold {:.3} keeps {:.1}% of the positives that were held out",
            trained.cut,
            100.0 * trained.recall
        )?;
        say!("the classifier is {}", trained.classifier.display())?;
        Ok(())
    }
}
