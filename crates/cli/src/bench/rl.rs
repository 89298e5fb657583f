//! `koan bench rl`

use std::time::Instant;

use koan_backend::Backend;
use koan_generate::{Completion, Drafts, Generator, Limits, Sampling, Stream};
use koan_model::{AdapterSpec, Purpose, Targets};
use koan_train::{
    comm::Parts,
    optim::{OptimConfig, Optimizer},
    rl::{
        Preset,
        learner::{Learner, ScoredGroup},
        plan::Plan,
        policy_loss::{Credit, PolicyLoss},
    },
};
use serde::Serialize;
use serde_json::json;

use super::{BenchModel, Moments, median, peak_memory_bytes, random_prompts};
use crate::{
    device::{Device, Job, Running},
    numbers::count,
};

/// Seconds of a step of reinforcement learning: generate, forward, backward, AdamW
///
/// No reward and no reference model; every completion has an advantage, so every token is sampled and learned from.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan bench rl --model models/smollm2 --problems 8 --group 8 --prompt-tokens 45 --new-tokens 64
  koan bench rl --config bench/configs/qwen3-0.6b.json --device cuda:0")]
pub(crate) struct RlBench {
    #[command(flatten)]
    model: BenchModel,
    #[command(flatten)]
    shape: RlShape,
    /// Steps measured, after one that is not
    #[arg(long, default_value_t = 3, value_parser = count::<u64>)]
    steps: u64,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) device: Device,
}

/// What a measured step does.
#[derive(Clone, Copy, Debug, Serialize, clap::Args)]
struct RlShape {
    /// Problems per step
    #[arg(long, default_value_t = 8, value_parser = count::<usize>)]
    problems: usize,
    /// Completions per problem
    #[arg(long, default_value_t = 8, value_parser = count::<usize>)]
    group: usize,
    /// Tokens of each prompt
    #[arg(long, default_value_t = 45, value_parser = count::<usize>)]
    prompt_tokens: usize,
    /// Tokens of each completion: none ends early
    #[arg(long, default_value_t = 64, value_parser = count::<usize>)]
    new_tokens: usize,
    /// Tokens of one training pass
    #[arg(long, default_value_t = 512, value_parser = count::<usize>)]
    micro_batch_tokens: usize,
    /// In what AdamW's moments are kept
    #[arg(long, value_enum, default_value_t = Moments::F32)]
    moments: Moments,
    /// Train an adapter (LoRA) of this rank on all linear layers, over frozen weights; 0: train all weights
    #[arg(long, default_value_t = 0, value_name = "RANK")]
    adapter_rank: usize,
}

/// Seconds of one step.
struct StepSeconds {
    generate_s: f64,
    train_s: f64,
    log_prob_gap: f32,
}

impl Job for RlBench {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        let shape = self.shape;
        let RlShape { problems, group, prompt_tokens, new_tokens, micro_batch_tokens, moments, adapter_rank } =
            shape;
        let positions = prompt_tokens.saturating_add(new_tokens);
        let mut config = self.model.sizes(positions)?;
        if adapter_rank > 0 {
            let targets = Targets::AllLinear;
            let spec = AdapterSpec { rank: adapter_rank, alpha: 32.0, rslora: false, targets };
            config = config.with_adapter(spec)?;
        }
        let limits = Limits {
            sequences: problems.saturating_mul(group),
            prompt_tokens,
            new_tokens,
            drafts: Drafts::Off,
        };
        let optim = OptimConfig { micro_batch_tokens, moments: moments.into(), ..OptimConfig::default() };
        let plan = Plan::of(b, &config, limits, &optim, Parts::ONE, false);
        plan.check_memory()?;
        let policy = self.model.to_train(b, config.clone(), positions)?;
        if !self.json {
            say!("{running}; {:.1} million parameters; {shape:?}", config.parameters() as f64 / 1e6)?;
            say!("planned: {:.2} GiB, {}", plan.bytes() as f64 / f64::from(1 << 30), plan.breakdown())?;
        }
        let rows = micro_batch_tokens.max(prompt_tokens - 1 + new_tokens);
        let optimizer = Optimizer::new(b, &config, moments.into())?;
        let loss = PolicyLoss { kl: 0.0, ..Preset::Grpo.pieces().loss(new_tokens) };
        let mut learner = Learner::new(policy, None, optimizer, loss, 1.0, rows, Purpose::Training);
        let mut all: Vec<StepSeconds> = Vec::new();
        for step in 1..=self.steps + 1 {
            let prompts = random_prompts(step, config.vocab_size, prompt_tokens, problems * group, group);
            let sampling = Sampling {
                temperature: 1.0,
                max_new_tokens: new_tokens,
                stream: Stream::Rollout { step },
                ..Sampling::default()
            };
            let start = Instant::now();
            let mut rollouts: Vec<Vec<Completion>> = vec![Vec::new(); problems];
            let mut generator = Generator::new(b, &config, limits)?;
            generator.run(b, learner.packed(b)?, &prompts, &sampling, |finished| {
                rollouts[finished.request.problem as usize].push(finished.completion);
            })?;
            drop(generator);
            let generate_s = start.elapsed().as_secs_f64();
            let advantages = || [1.0, -1.0].map(|a| Some(Credit::Completion(a))).into_iter().cycle();
            let groups: Vec<ScoredGroup> = prompts
                .iter()
                .zip(&rollouts)
                .enumerate()
                .map(|(place, (prompt, completions))| ScoredGroup {
                    place,
                    prompt: &prompt.ids,
                    completions: completions.iter().zip(advantages()).collect(),
                })
                .collect();
            let sums = learner.update(b, &groups, &optim, optim.lr)?;
            koan_train::speed::wait(b);
            let train_s = start.elapsed().as_secs_f64() - generate_s;
            if !self.json {
                say!(
                    "{:8} generate {generate_s:6.2} s   train {train_s:6.2} s   step {:6.2} s   log-prob gap {:?}",
                    if step == 1 { "warm-up" } else { "step" },
                    generate_s + train_s,
                    sums.log_prob_gap
                )?;
            }
            all.push(StepSeconds { generate_s, train_s, log_prob_gap: sums.log_prob_gap });
        }
        let of_step = |seconds: fn(&StepSeconds) -> f64| median(all[1..].iter().map(seconds).collect());
        let (generate_s, train_s) = (of_step(|s| s.generate_s), of_step(|s| s.train_s));
        let step_s = of_step(|s| s.generate_s + s.train_s);
        let tokens_per_s = (problems * group * new_tokens) as f64 / step_s;
        let peak = peak_memory_bytes();
        if self.json {
            let result = json!({
                "bench": "rl", "device": running.device, "isa": running.isa, "threads": running.threads, "shape": shape,
                "steps": self.steps, "generate_s": generate_s, "train_s": train_s, "step_s": step_s,
                "tokens_per_s": tokens_per_s, "planned_bytes": plan.bytes(), "peak_memory_bytes": peak,
                "log_prob_gap": all.iter().map(|s| s.log_prob_gap).fold(0.0, f32::max),
            });
            say!("{result}")?;
        } else {
            say!(
                "median   generate {generate_s:6.2} s   train {train_s:6.2} s   step {step_s:6.2} s   \
                 {tokens_per_s:.0} completion tokens/s{}",
                peak.map_or_else(String::new, |n| format!("   peak {:.2} GB", n as f64 / 1e9))
            )?;
        }
        Ok(())
    }
}
