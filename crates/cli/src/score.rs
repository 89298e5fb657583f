//! `koan score`

use std::{ops::ControlFlow, path::PathBuf};

use anyhow::ensure;
use koan_backend::Backend;
use koan_infer::{Codec, PromptStyle, read_score_lines, score};

use crate::{
    adapter::AdapterArg,
    device::{Device, Job, Running},
    output::Output,
    progress::Progress,
};

/// Log-probabilities of given completions, by the forward pass of training
///
/// Reads JSON Lines with `prompt` + `completion`, or `prompt_ids` + `completion_ids`, or the output of `koan generate`,
/// whose log-probabilities it compares with its own: they agree to the bit.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan score --model models/smollm2 --input answers.jsonl --out scores.jsonl")]
pub(crate) struct Score {
    /// The model, a Hugging Face directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    #[command(flatten)]
    adapter: AdapterArg,
    /// The completions, JSON Lines
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    input: Vec<PathBuf>,
    /// Where scores go; default: standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Logits are divided by it; completions sampled at temperature 0 are scored at 1
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
    /// Take prompts as they stand, without the chat template
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    device: Device,
}

impl Score {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        self.device.clone().run(self)
    }
}

impl Job for Score {
    fn run<B: Backend>(self, b: &B, _: Running) -> anyhow::Result<()> {
        ensure!(self.temperature > 0.0 && self.temperature.is_finite(), "--temperature must be above 0");
        let style = PromptStyle { raw: self.raw, system: None };
        let codec = Codec::open_at(&self.adapter.on(&self.model)?, style)?;
        let lines = read_score_lines(&self.input.clone().into(), &codec)?;
        let mut out = Output::open(self.out.as_deref())?;
        let mut progress = Progress::new("completions", lines.len());
        let (mut done, mut wrote) = (0, Ok(()));
        let start = std::time::Instant::now();
        let summary = score(b, &codec, lines, self.temperature, |line| {
            done += 1;
            progress.set(done, "");
            wrote = out.line(&line);
            if wrote.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        progress.finish();
        wrote?;
        let seconds = start.elapsed().as_secs_f64();
        note!(
            "{} completions, {} tokens, {seconds:.1} s, {:.0} tokens/s",
            summary.completions,
            summary.tokens,
            summary.tokens as f64 / seconds
        );
        if summary.compared > 0 {
            note!(
                "{} came with log-probabilities; largest difference: {:?}",
                summary.compared,
                summary.log_prob_gap
            );
        }
        out.finish()
    }
}
