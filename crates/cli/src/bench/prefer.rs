//! `koan bench prefer`

use std::{path::PathBuf, time::Instant};

use anyhow::ensure;
use koan_backend::Backend;
use koan_model::checkpoint;
use koan_train::{
    optim::{OptimConfig, Optimizer},
    prefer::{Algorithm, Compared, Example, Learner},
};
use serde::Serialize;
use serde_json::json;

use super::{Moments, median, peak_memory_bytes, random_tokens};
use crate::device::{Device, Job, Running};

/// Speed of a step of DPO: forward and backward over pairs of replies, clip, AdamW, repack
///
/// Random tokens; what the reference policy says of them is taken as computed before.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan bench prefer --model models/smollm2 --pairs 8 --prompt-tokens 64 --reply-tokens 128")]
pub(crate) struct PreferBench {
    /// The model's directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    #[command(flatten)]
    shape: PreferShape,
    /// Steps measured, after one that is not
    #[arg(long, default_value_t = 5)]
    steps: u64,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) device: Device,
}

/// What a measured step does.
#[derive(Clone, Copy, Debug, Serialize, clap::Args)]
struct PreferShape {
    /// Pairs of a step
    #[arg(long, default_value_t = 8)]
    pairs: usize,
    /// Tokens of each prompt
    #[arg(long, default_value_t = 64)]
    prompt_tokens: usize,
    /// Tokens of each reply
    #[arg(long, default_value_t = 128)]
    reply_tokens: usize,
    /// Tokens of one pass; a step is cut into as many as it takes
    #[arg(long, default_value_t = 640)]
    micro_batch_tokens: usize,
    /// Keep of each layer only its input, and compute the rest again in the backward: slower, in less memory
    #[arg(long)]
    recompute: bool,
    /// In what AdamW's moments are kept
    #[arg(long, value_enum, default_value_t = Moments::F32)]
    moments: Moments,
}

impl Job for PreferBench {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        let shape = self.shape;
        let PreferShape { pairs, prompt_tokens, reply_tokens, micro_batch_tokens, recompute, moments } =
            shape;
        let sizes = [pairs, prompt_tokens, reply_tokens, micro_batch_tokens, self.steps as usize];
        ensure!(sizes.iter().all(|&n| n > 0), "sizes and --steps must be at least 1");
        let policy = checkpoint::load(b, &self.model, Some(prompt_tokens + reply_tokens))?;
        let vocab_size = policy.config().vocab_size;
        if !self.json {
            say!(
                "{running}; {:.1} million parameters; {shape:?}",
                policy.config().parameters() as f64 / 1e6
            )?;
        }
        let optim = OptimConfig { recompute, moments: moments.into(), ..OptimConfig::default() };
        let rows = micro_batch_tokens.max(prompt_tokens - 1 + 2 * reply_tokens);
        let optimizer = Optimizer::new(b, policy.config(), optim.moments)?;
        let objective = Algorithm::default().objective();
        let mut learner = Learner::new(b, policy, optimizer, objective, rows, &optim)?;
        let mut seconds = Vec::new();
        for step in 0..=self.steps {
            let tokens = |text: usize, n| random_tokens(step, vocab_size, text as u64, n);
            let examples: Vec<Example> = (0..pairs)
                .map(|i| Example {
                    prompt: tokens(3 * i, prompt_tokens),
                    replies: [tokens(3 * i + 1, reply_tokens), tokens(3 * i + 2, reply_tokens)],
                    good: true,
                    margin: 0.0,
                })
                .collect();
            let compared: Vec<Compared> =
                examples.iter().map(|example| Compared { example, reference: [-1e3; 2] }).collect();
            let start = Instant::now();
            let (found, _) = learner.update(b, &compared, &optim, optim.lr)?;
            koan_train::speed::wait(b);
            let step_s = start.elapsed().as_secs_f64();
            if !self.json {
                let name = if step == 0 { "warm-up" } else { "step" };
                say!("{name:8} {step_s:8.3} s   loss {:.4}", found.loss)?;
            }
            seconds.push(step_s);
        }
        let (step_s, peak) = (median(seconds.split_off(1)), peak_memory_bytes());
        if self.json {
            let result = json!({
                "bench": "prefer", "device": running.device, "isa": running.isa, "threads": running.threads, "shape": shape,
                "steps": self.steps, "step_s": step_s, "peak_memory_bytes": peak,
            });
            say!("{result}")?;
        } else {
            let peak = peak.map_or_else(String::new, |n| format!("   peak {:.2} GB", n as f64 / 1e9));
            say!("median   {step_s:8.3} s{peak}")?;
        }
        Ok(())
    }
}
