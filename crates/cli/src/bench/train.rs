//! `koan bench train`

use std::path::PathBuf;

use anyhow::ensure;
use koan_backend::Backend;
use koan_model::Config;
use koan_train::bench::{self, TrainShape, median};
use serde_json::json;

use super::Moments;
use crate::device::{Device, Job, Running};

/// Speed of a training step: forward, backward, clip, AdamW, repack
///
/// Random tokens, random weights: a config is all it needs.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan bench train --config bench/configs/llama-5m.json --sequences 64 --tokens 64 --steps 7")]
pub(crate) struct TrainBench {
    /// The model's config.json
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Sequences of a step
    #[arg(long, default_value_t = 64)]
    sequences: usize,
    /// Tokens of each
    #[arg(long, default_value_t = 64)]
    tokens: usize,
    /// Tokens of one pass; a step is cut into as many as it takes
    #[arg(long, default_value_t = 1024)]
    micro_batch_tokens: usize,
    /// Keep of each layer only its input, and compute the rest again in the backward: slower, in less memory
    #[arg(long)]
    recompute: bool,
    /// In what AdamW's moments are kept
    #[arg(long, value_enum, default_value_t = Moments::F32)]
    moments: Moments,
    /// Steps measured, after one that is not
    #[arg(long, default_value_t = 7)]
    steps: u64,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) device: Device,
}

impl Job for TrainBench {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        let sizes = [self.sequences, self.micro_batch_tokens, self.steps as usize];
        ensure!(sizes.iter().all(|&n| n > 0), "sizes and --steps must be at least 1");
        ensure!(self.tokens > 1, "--tokens must be at least 2: a first token is not predicted");
        let config = Config::from_file(&self.config)?;
        ensure!(
            self.tokens <= config.longest_sequence(),
            "--tokens {} exceeds the model's {} positions",
            self.tokens,
            config.longest_sequence()
        );
        let shape = TrainShape {
            sequences: self.sequences,
            tokens: self.tokens,
            micro_batch_tokens: self.micro_batch_tokens,
            recompute: self.recompute,
            moments: self.moments.into(),
        };
        let parameters = config.parameters();
        // 6 operations a parameter of a product and token: two forward, four backward; the embedding is looked up.
        let looked_up = if config.tie_word_embeddings { 0 } else { config.vocab_size * config.hidden_size };
        let tokens = self.sequences * self.tokens;
        let operations = 6.0 * (parameters - looked_up) as f64 * tokens as f64;
        if !self.json {
            say!("{running}; {:.1} million parameters; {shape:?}", parameters as f64 / 1e6)?;
        }
        let (mut seconds, mut said) = (Vec::new(), Ok(()));
        bench::train(b, config, &shape, self.steps + 1, |step_s, update| {
            if !self.json && said.is_ok() {
                said = say!(
                    "{:8} {step_s:8.3} s   {:8.0} tokens/s   loss {:.4}",
                    if seconds.is_empty() { "warm-up" } else { "step" },
                    tokens as f64 / step_s,
                    update.loss
                );
            }
            seconds.push(step_s);
        })?;
        said?;
        let step_s = median(seconds.split_off(1));
        let (tokens_per_s, gflops) = (tokens as f64 / step_s, 1e-9 * operations / step_s);
        let peak = bench::peak_memory_bytes();
        if self.json {
            let result = json!({
                "bench": "train", "isa": running.isa, "threads": running.threads, "shape": shape,
                "parameters": parameters, "steps": self.steps, "step_s": step_s, "tokens_per_s": tokens_per_s,
                "gflops": gflops, "peak_memory_bytes": peak,
            });
            say!("{result}")?;
        } else {
            let peak = peak.map_or_else(String::new, |n| format!("   peak {:.2} GB", n as f64 / 1e9));
            say!("median   {step_s:8.3} s   {tokens_per_s:8.0} tokens/s   {gflops:.0} GFLOP/s{peak}")?;
        }
        Ok(())
    }
}
