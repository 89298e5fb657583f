//! How long a step will take, before it is made.
//!
//! What a step computes is counted: its products (2 operations per row and weight) and attention (4 per query feature and key;
//! 10 in the backward), each completion as long as it may become. How fast this machine is, is measured: products of the
//! model's own shapes, for a second or two. What is counted divided by what was measured is the estimate. Norms, samples,
//! rewards and waiting are not counted; that few completions reach their longest is not either.

use koan_model::{Config, Flops};

use super::RlConfig;
use crate::speed::Speed;

/// Seconds that a run is expected to take at most, rewards apart.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    /// Of sampling the completions of a step, in one round; if `rollout.max_new_tokens` changes by step, with the largest.
    pub generate_s: f64,
    /// Of learning from them.
    pub train_s: f64,
    /// Of one held-out measurement.
    pub eval_s: f64,
    /// Of all steps and all held-out measurements.
    pub total_s: f64,
}

impl Estimate {
    /// Of `config` with a model of the sizes `model`, prompts of `prompt_tokens` on average, and `held_out` held-out
    /// problems.
    pub fn of(config: &RlConfig, model: &Config, speed: &Speed, prompt_tokens: f64, held_out: usize) -> Self {
        let limits = &config.rollout.max_new_tokens;
        let with = |tokens: usize| Self::with(config, model, speed, prompt_tokens, held_out, tokens as f64);
        let longest = with(limits.most());
        let less = |(steps, tokens): (u64, usize)| {
            let Self { generate_s, train_s, .. } = with(tokens);
            steps as f64 * (longest.generate_s + longest.train_s - generate_s - train_s)
        };
        let less: f64 = limits.phases(config.steps).map(less).sum();
        Self { total_s: longest.total_s - less, ..longest }
    }

    /// The same if completions of every step had up to `new` tokens.
    fn with(
        config: &RlConfig,
        model: &Config,
        speed: &Speed,
        prompt_tokens: f64,
        held_out: usize,
        new: f64,
    ) -> Self {
        let (rollout, algorithm) = (&config.rollout, &config.algorithm);
        let (problems, group) = (rollout.problems as f64, rollout.group_size as f64);
        let Flops { layers, head, trained_layers, trained_head, features, .. } = Flops::of(model);
        let attention = |keys: f64| 4.0 * keys * features;
        // A prompt is computed once for its group; a token of a completion sees half of the others on average.
        let keys = prompt_tokens + new / 2.0;
        let sampling = |problems: f64, group: f64| {
            let prompt = prompt_tokens * (2.0 * layers + attention(prompt_tokens / 2.0)) / speed.forward;
            let token = (2.0 * (layers + head) + attention(keys)) / speed.sample;
            problems * (prompt + group * new * token)
        };
        let (prompts, tokens) = (problems * prompt_tokens, problems * group * new);
        let rows = prompts + tokens;
        let forward = (rows * 2.0 * layers + tokens * (2.0 * head + attention(keys))) / speed.forward;
        let backward = (rows * 2.0 * layers + tokens * 2.0 * head) / speed.backward_input
            + (rows * 2.0 * trained_layers + tokens * 2.0 * trained_head) / speed.backward_weight
            + tokens * (2.0 * head + 2.5 * attention(keys)) / speed.forward;
        let again = if config.stage.optim.recompute { rows * 2.0 * layers / speed.forward } else { 0.0 };
        let reference = if config.loss().kl == 0.0 { 0.0 } else { forward };
        let update = model.trained_parameters() as f64 / speed.update * config.updates_per_step() as f64;
        let train_s = algorithm.epochs() as f64 * (forward + backward + again + reference) + update;
        let generate_s = sampling(problems, group);
        let (eval_s, evals) = config.eval.as_ref().map_or((0.0, 0), |eval| {
            let last = u64::from(!config.steps.is_multiple_of(eval.every));
            (sampling(held_out as f64, eval.samples as f64), 1 + config.steps / eval.every + last)
        });
        let total_s = config.steps as f64 * (generate_s + train_s) + evals as f64 * eval_s;
        Self { generate_s, train_s, eval_s, total_s }
    }
}
