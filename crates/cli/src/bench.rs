//! `koan bench`

use std::path::PathBuf;

use anyhow::ensure;
use koan_backend::{Backend, MomentType};
use koan_model::{Config, checkpoint};
use koan_train::bench::{self, RlShape, StepSeconds, median};
use serde_json::json;

use crate::device::{Device, Job, Running};

mod generate;
mod product;
mod train;

use generate::GenerateBench;
use product::ProductBench;
use train::TrainBench;

/// Speed of this machine
#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    Rl(RlBench),
    Generate(GenerateBench),
    Train(TrainBench),
    Product(ProductBench),
}

/// Seconds of a step of reinforcement learning: draw, forward, backward, AdamW
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan bench rl --model models/smollm2 --problems 8 --group 8 --prompt-tokens 45 --new-tokens 64")]
pub(crate) struct RlBench {
    /// The model, a Hugging Face directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Problems a step
    #[arg(long, default_value_t = 8)]
    problems: usize,
    /// Completions a problem
    #[arg(long, default_value_t = 8)]
    group: usize,
    /// Tokens of each prompt
    #[arg(long, default_value_t = 45)]
    prompt_tokens: usize,
    /// Tokens of each completion
    #[arg(long, default_value_t = 64)]
    new_tokens: usize,
    /// Tokens of one training pass
    #[arg(long, default_value_t = 512)]
    micro_batch_tokens: usize,
    /// In what AdamW's moments are kept
    #[arg(long, value_enum, default_value_t = Moments::F32)]
    moments: Moments,
    /// Steps measured, after one that is not
    #[arg(long, default_value_t = 3)]
    steps: u64,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: Device,
}

/// The names of [`MomentType`].
#[derive(Clone, Copy, clap::ValueEnum)]
enum Moments {
    F32,
    Bf16,
}

impl From<Moments> for MomentType {
    fn from(moments: Moments) -> Self {
        match moments {
            Moments::F32 => Self::F32,
            Moments::Bf16 => Self::Bf16,
        }
    }
}

impl Bench {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Rl(args) => args.device.clone().run(args),
            Self::Generate(args) => args.device.clone().run(args),
            Self::Train(args) => args.device.clone().run(args),
            Self::Product(args) => args.device.clone().run(args),
        }
    }
}

impl Job for RlBench {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        let sizes = [self.problems, self.group, self.prompt_tokens, self.new_tokens, self.micro_batch_tokens];
        ensure!(sizes.iter().all(|&n| n > 0) && self.steps > 0, "sizes and --steps must be at least 1");
        let shape = RlShape {
            problems: self.problems,
            group: self.group,
            prompt_tokens: self.prompt_tokens,
            new_tokens: self.new_tokens,
            micro_batch_tokens: self.micro_batch_tokens,
            moments: self.moments.into(),
        };
        let parameters = Config::load(&self.model)?.parameters();
        if !self.json {
            say!("{running}; {:.1} million parameters; {shape:?}", parameters as f64 / 1e6)?;
        }
        let (mut all, mut said): (Vec<StepSeconds>, _) = (Vec::new(), Ok(()));
        let load = |positions| checkpoint::load(b, &self.model, Some(positions));
        bench::rl(b, load, &shape, self.steps + 1, |step| {
            if !self.json && said.is_ok() {
                said = say!(
                    "{:8} draw {:6.2} s   learn {:6.2} s   step {:6.2} s   log-prob gap {:?}",
                    if all.is_empty() { "warm-up" } else { "step" },
                    step.generate_s,
                    step.train_s,
                    step.generate_s + step.train_s,
                    step.log_prob_gap
                );
            }
            all.push(step);
        })?;
        said?;
        let measured = &all[1..];
        let [generate_s, train_s, step_s] = [
            |s: &StepSeconds| s.generate_s,
            |s: &StepSeconds| s.train_s,
            |s: &StepSeconds| s.generate_s + s.train_s,
        ]
        .map(|seconds| median(measured.iter().map(seconds).collect()));
        let tokens = self.problems * self.group * self.new_tokens;
        if self.json {
            say!(
                "{}",
                json!({
                    "bench": "rl", "isa": running.isa, "threads": running.threads, "shape": shape, "steps": self.steps, "generate_s": generate_s,
                    "train_s": train_s, "step_s": step_s, "tokens_per_s": tokens as f64 / step_s,
                    "log_prob_gap": all.iter().map(|s| s.log_prob_gap).fold(0.0, f32::max),
                })
            )?;
        } else {
            say!(
                "median   draw {generate_s:6.2} s   learn {train_s:6.2} s   step {step_s:6.2} s   {:.0} completion tokens/s",
                tokens as f64 / step_s
            )?;
        }
        Ok(())
    }
}
