//! `koan bench generate`

use std::time::Instant;

use koan_backend::Backend;
use koan_generate::{Drafts, Generator, Limits, Sampling, Stream};
use koan_infer::plan_generator;
use koan_model::Config;
use serde::Serialize;
use serde_json::json;

use super::{BenchModel, median, peak_memory_bytes, random_prompts};
use crate::{
    device::{Device, Job, Running},
    numbers::count,
    precision::InferencePrecisionArg,
};

/// Speed of generation: prompts and completions of fixed lengths, all at once
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan bench generate --model models/smollm2 --sequences 64 --prompt-tokens 45 --new-tokens 64
  koan bench generate --config bench/configs/qwen3-0.6b.json --sequences 512 --device cuda:0
  koan bench generate --model models/smollm2 --sequences 256 --group 8 --json")]
pub(crate) struct GenerateBench {
    #[command(flatten)]
    model: BenchModel,
    #[command(flatten)]
    shape: GenerateShape,
    #[command(flatten)]
    precision: InferencePrecisionArg,
    /// Runs measured, after one that is not
    #[arg(long, default_value_t = 3, value_parser = count::<u64>)]
    runs: u64,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) device: Device,
}

/// What a measured run generates.
#[derive(Clone, Copy, Debug, Serialize, clap::Args)]
struct GenerateShape {
    /// Completions, all at once
    #[arg(long, default_value_t = 64, value_parser = count::<usize>)]
    sequences: usize,
    /// Completions that share a prompt
    #[arg(long, default_value_t = 1, value_parser = count::<usize>)]
    group: usize,
    /// Tokens of each prompt
    #[arg(long, default_value_t = 45, value_parser = count::<usize>)]
    prompt_tokens: usize,
    /// Tokens of each completion: none ends early
    #[arg(long, default_value_t = 64, value_parser = count::<usize>)]
    new_tokens: usize,
}

impl Job for GenerateBench {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        let shape = self.shape;
        let GenerateShape { sequences, group, prompt_tokens, new_tokens } = shape;
        let (limits, positions) = (
            Limits { sequences, prompt_tokens, new_tokens, drafts: Drafts::Off },
            prompt_tokens.saturating_add(new_tokens),
        );
        let config = Config { precision: self.precision.get(), ..self.model.sizes(positions)? };
        plan_generator(b, self.model.path(), &config, positions, limits, Some(usize::MAX))?;
        let parameters = config.parameters();
        let model = self.model.to_generate(b, config, positions)?;
        let weights: usize = model.weights.tensors().map(|p| p.packed_bytes(b)).sum();
        if !self.json {
            say!("{running}; {:.1} million parameters; {shape:?}", parameters as f64 / 1e6)?;
        }
        let mut generator = Generator::new(b, model.config(), limits)?;
        let tokens = (sequences * new_tokens) as f64;
        let (mut seconds, mut passes_per_s) = (Vec::new(), Vec::new());
        for step in 1..=self.runs + 1 {
            let prompts = random_prompts(step, model.config().vocab_size, prompt_tokens, sequences, group);
            let stream = Stream::Rollout { step };
            let sampling = Sampling { max_new_tokens: new_tokens, stream, ..Sampling::default() };
            let start = Instant::now();
            let counters = generator.run(b, &model, &prompts, &sampling, |_| {})?;
            let run_s = start.elapsed().as_secs_f64();
            if !self.json {
                say!(
                    "{:8} {run_s:8.3} s   {:8.1} tokens/s   {} passes of {:.1} rows",
                    if step == 1 { "warm-up" } else { "run" },
                    tokens / run_s,
                    counters.passes,
                    counters.rows as f64 / counters.passes as f64
                )?;
            }
            seconds.push(run_s);
            passes_per_s.push(counters.passes as f64 / run_s);
        }
        let run_s = median(seconds.split_off(1));
        let tokens_per_s = tokens / run_s;
        // What a pass reads at least: every weight of a product.
        let weights_gb_per_s = 1e-9 * weights as f64 * median(passes_per_s.split_off(1));
        let (peak, ceilings) = (peak_memory_bytes(), b.ceilings()?);
        if self.json {
            let result = json!({
                "bench": "generate", "device": running.device, "isa": running.isa, "threads": running.threads, "shape": shape,
                "parameters": parameters, "runs": self.runs, "run_s": run_s, "tokens_per_s": tokens_per_s,
                "weights_gb_per_s": weights_gb_per_s, "read_bytes_per_s": ceilings.map(|c| c.read_bytes_per_s), "peak_memory_bytes": peak,
            });
            say!("{result}")?;
        } else {
            let peak = peak.map_or_else(String::new, |n| format!("   peak {:.2} GB", n as f64 / 1e9));
            let share = ceilings.map_or_else(String::new, |c| {
                format!(", {:.0}% of what memory gives", 100e9 * weights_gb_per_s / c.read_bytes_per_s)
            });
            say!(
                "median   {run_s:8.3} s   {tokens_per_s:8.1} tokens/s   weights at {weights_gb_per_s:.1} GB/s{share}{peak}"
            )?;
        }
        Ok(())
    }
}
