//! `koan bench train`

use std::{path::PathBuf, time::Instant};

use anyhow::ensure;
use koan_backend::Backend;
use koan_model::Config;
use koan_train::{
    comm::Parts,
    optim::{OptimConfig, Optimizer},
    supervised::{
        self,
        next_token::{NextToken, Text},
    },
};
use serde::Serialize;
use serde_json::json;

use super::{Moments, median, peak_memory_bytes, random_model, random_tokens, share_of};
use crate::{
    cache::CacheArg,
    device::{Device, Job, Running},
    numbers::count,
    precision::{PrecisionArg, name_of},
};

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
    #[command(flatten)]
    shape: TrainShape,
    #[command(flatten)]
    precision: PrecisionArg,
    #[command(flatten)]
    cache: CacheArg,
    /// Steps measured, after one that is not
    #[arg(long, default_value_t = 7, value_parser = count::<u64>)]
    steps: u64,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) device: Device,
}

/// What a measured step does.
#[derive(Clone, Copy, Debug, Serialize, clap::Args)]
struct TrainShape {
    /// Sequences of a step
    #[arg(long, default_value_t = 64, value_parser = count::<usize>)]
    sequences: usize,
    /// Tokens of each; all but the first are predicted
    #[arg(long, default_value_t = 64, value_parser = count::<usize>)]
    tokens: usize,
    /// Tokens of one pass; a step is cut into as many as it takes
    #[arg(long, default_value_t = 1024, value_parser = count::<usize>)]
    micro_batch_tokens: usize,
    /// Keep of each layer only its input, and compute the rest again in the backward: slower, in less memory
    #[arg(long)]
    recompute: bool,
    /// In what AdamW's moments are kept
    #[arg(long, value_enum, default_value_t = Moments::F32)]
    moments: Moments,
}

impl Job for TrainBench {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        let shape = self.shape;
        let TrainShape { sequences, tokens, micro_batch_tokens, recompute, moments } = shape;
        ensure!(tokens > 1, "--tokens must be at least 2: a first token is not predicted");
        let precision = self.precision.get();
        let config = Config { precision, ..Config::from_file(&self.config)? };
        let config = config.caching(self.cache.get(), &self.config)?;
        let longest = config.longest_sequence();
        ensure!(tokens <= longest, "--tokens {tokens} exceeds the model's {longest} positions");
        let (parameters, vocab_size) = (config.parameters(), config.vocab_size);
        // 6 operations a parameter of a product and token, of experts those that it meets: two forward, four backward; the embedding is looked up.
        let looked_up = if config.tie_word_embeddings { 0 } else { vocab_size * config.hidden_size };
        let operations = 6.0 * (config.active_parameters() - looked_up) as f64 * (sequences * tokens) as f64;
        if !self.json {
            say!("{running}; {:.1} million parameters; {shape:?}", parameters as f64 / 1e6)?;
        }
        let optim = OptimConfig { recompute, moments: moments.into(), ..OptimConfig::default() };
        let rows = micro_batch_tokens.max(tokens);
        supervised::check_memory(b, &config, rows, &optim, Parts::ONE)?;
        let optimizer = Optimizer::new(b, &config, optim.moments)?;
        let mut learner = NextToken::new(b, random_model(b, config, tokens)?, optimizer, rows, &optim)?;
        let mut seconds = Vec::new();
        for step in 0..=self.steps {
            let texts: Vec<Vec<u32>> = (0..sequences as u64)
                .map(|sequence| random_tokens(step, vocab_size, sequence, tokens))
                .collect();
            let texts: Vec<Text> =
                texts.iter().map(|ids| Text { context: &ids[..1], tokens: &ids[1..] }).collect();
            let start = Instant::now();
            let update = learner.update(b, &texts, &optim, optim.lr)?;
            koan_train::speed::wait(b);
            let step_s = start.elapsed().as_secs_f64();
            if !self.json {
                say!(
                    "{:8} {step_s:8.3} s   {:8.0} tokens/s   loss {:.4}",
                    if step == 0 { "warm-up" } else { "step" },
                    (sequences * tokens) as f64 / step_s,
                    update.loss
                )?;
            }
            seconds.push(step_s);
        }
        let step_s = median(seconds.split_off(1));
        let (tokens_per_s, gflops) = ((sequences * tokens) as f64 / step_s, 1e-9 * operations / step_s);
        let (peak, ceilings) = (peak_memory_bytes(), b.ceilings()?);
        if self.json {
            let result = json!({
                "bench": "train", "device": running.device, "isa": running.isa, "threads": running.threads, "shape": shape,
                "precision": name_of(precision).unwrap_or("native"), "parameters": parameters, "steps": self.steps, "step_s": step_s, "tokens_per_s": tokens_per_s,
                "gflops": gflops, "multiply_add_flops": ceilings.map(|c| c.flops), "peak_memory_bytes": peak,
            });
            say!("{result}")?;
        } else {
            let peak = peak.map_or_else(String::new, |n| format!("   peak {:.2} GB", n as f64 / 1e9));
            say!(
                "median   {step_s:8.3} s   {tokens_per_s:8.0} tokens/s   {gflops:.0} GFLOP/s{}{peak}",
                share_of(gflops * 1e9, ceilings)
            )?;
        }
        Ok(())
    }
}
