//! `koan model card`

use std::path::PathBuf;

use anyhow::{Context, bail};
use koan_files::{read_bounded, replace};
use koan_recipe::{
    Changes, Recipe,
    card::{About, Card},
};

/// Longest card that is looked at before it is replaced, bytes.
const MAX_BYTES: u64 = 16 << 20;

/// Write a model's card, README.md: how it was made, of what, how it does, as recorded
///
/// Of a recipe, a run's directory, or a model in one. The card has the metadata that Hugging Face reads, and sections on data, training,
/// evaluation, contamination, safety, cost, limits and how to reproduce it. All of it comes from what the recipe or run recorded: what is
/// not recorded is said to be so, and a record that is not of the model that is there is an error.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan model card runs/smollm2-arithmetic
  koan model card self-taught-arithmetic --step taught
  koan model card runs/self-taught --eval evals/reinforced/safety.json --out card.md")]
pub(crate) struct WriteCard {
    /// A recipe (its file, its name or its directory), a run's directory, or a model in one
    #[arg(value_name = "RECIPE|RUN")]
    of: PathBuf,
    /// The step that made the model; default: the last of the recipe that makes one
    #[arg(long, value_name = "NAME")]
    step: Option<String>,
    /// The recipe in its quick form
    #[arg(long)]
    quick: bool,
    /// The recipe's directory, where it is not the one that its file names
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Reports that measured this model: of `koan eval --out`, and those of a suite's sets in its --completions DIR
    #[arg(long, value_name = "REPORT.json", num_args = 1..)]
    eval: Vec<PathBuf>,
    /// The base model's name on the hub; default: where `koan model pull` fetched it, else its directory's name
    #[arg(long, value_name = "OWNER/NAME")]
    base_model: Option<String>,
    /// Where the card goes; default: README.md in the model
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace a file that `koan model card` did not write, or that was changed since
    #[arg(long)]
    force: bool,
}

impl WriteCard {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Self { of, quick, run_dir, .. } = self;
        let dir = if !of.is_dir() {
            Recipe::read(&of, &Changes { quick, run_dir, set: Vec::new() })?.run_dir
        } else if quick || run_dir.is_some() {
            bail!("--run-dir and --quick are of a recipe that is named by its file or its name")
        } else {
            of
        };
        let about = About { step: self.step, evals: self.eval, base_model: self.base_model };
        let card = Card::of(&dir, &about)?;
        let out = self.out.unwrap_or_else(|| card.model.join("README.md"));
        if out.exists() && !self.force {
            let there =
                read_bounded(&out, MAX_BYTES).with_context(|| format!("cannot read `{}`", out.display()))?;
            if !there.is_some_and(|bytes| Card::is_ours(&String::from_utf8_lossy(&bytes))) {
                bail!(
                    "`{}` is there, and is not as `koan model card` wrote it: say --force to replace it, or --out FILE",
                    out.display()
                );
            }
        }
        replace(&out, card.text.as_bytes())?;
        for note in &card.notes {
            note!("{note}");
        }
        Ok(say!("{}: the card of {}", out.display(), card.model.display())?)
    }
}
