//! `koan verify`

use std::{
    fs::File,
    io::{self, BufReader},
    path::PathBuf,
};

use anyhow::Context;
use koan_reward::{Rewards, replay};

use crate::output::Output;

/// Replay rewards over a file of completions: are they right?
///
/// Reads JSON Lines with `answer` and `completion` (optional `reward`: the verifier of that line) and adds `score`,
/// `outcome` (correct, wrong, unparsable, undecided, bad_reference), `parsed` and `reason`. Undecided completions have no
/// score: training masks them.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan verify --input completions.jsonl --out verdicts.jsonl")]
pub(crate) struct Verify {
    /// The completions, JSON Lines
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// The verifier of lines that name none: number, format
    #[arg(long, default_value = "number", value_name = "NAME")]
    reward: String,
    /// Where verdicts go; default: only the summary is shown
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Verify {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let rewards = Rewards::of_kind(&self.reward)?;
        let read = || format!("cannot read `{}`", self.input.display());
        let input = BufReader::new(File::open(&self.input).with_context(read)?);
        let name = self.input.display().to_string();
        let summary = match &self.out {
            None => replay(input, &name, io::sink(), &rewards)?,
            Some(path) => {
                let mut out = Output::open(Some(path))?;
                match replay(input, &name, &mut out, &rewards) {
                    Ok(summary) => {
                        out.finish()?;
                        summary
                    }
                    Err(error) => {
                        out.discard();
                        return Err(error.into());
                    }
                }
            }
        };
        println!("{summary}");
        Ok(())
    }
}
