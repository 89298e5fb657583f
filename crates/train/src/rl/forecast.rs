//! What a run will take, known without starting it.

use koan_backend::Backend;
use koan_data::{DataFiles, read_problems};
use koan_infer::JudgeModels;

use super::{
    RlConfig,
    estimate::Estimate,
    inputs::{codec, encode},
    plan::Plan,
};
use crate::{
    TrainError,
    comm::{CommError, Parts},
    speed::Speed,
    stage::{GIB, adapter_in_words, available_disk, disk_bytes},
};

/// What a run will take.
#[derive(Clone, Debug)]
pub struct Forecast {
    /// Parameters of the model.
    pub parameters: usize,
    /// What of them is trained, in words, if that is an adapter.
    pub adapter: Option<String>,
    /// Memory.
    pub plan: Plan,
    /// Bytes of checkpoints and of the final model.
    pub disk: u64,
    /// Bytes that are free on the disk of the run directory, where it says.
    pub available_disk: Option<u64>,
    /// Most tokens of a prompt, of a completion, and of both that the model can take.
    pub tokens: [usize; 3],
    /// Problems, held-out ones apart.
    pub problems: usize,
    /// What ranks do, if there are several.
    pub ranks: Option<OnRanks>,
    /// Seconds; of several ranks, each with its share of a step's problems, and the sums of their gradients.
    pub estimate: Estimate,
    /// What the seconds come from.
    pub speed: Speed,
}

/// What each of several ranks does in a step.
#[derive(Clone, Copy, Debug)]
pub struct OnRanks {
    /// Of each update.
    pub parts: Parts,
    /// The most problems of a step that are a rank's.
    pub problems: usize,
    /// Bytes that a rank sends, and as many that it receives, in each update.
    pub bytes: u64,
    /// Seconds that this takes.
    pub sum_s: f64,
}

impl Forecast {
    /// Of `config`, on `b`. The directories of the model and of models that judge need a config and a tokenizer, and no weights. Nothing is written, no
    /// reward is started; the machine's speed is measured, which takes a second or two.
    ///
    /// # Errors
    /// Files that are wrong. What does not fit is no error.
    pub fn of<B: Backend>(b: &B, config: &RlConfig) -> Result<Self, TrainError> {
        Self::on_ranks(b, config, 1, f64::INFINITY)
    }

    /// The same on so many ranks, machines like this one, between which so many bytes go each way in a second.
    ///
    /// # Errors
    /// As [`of`](Self::of), and if there can't be so many.
    pub fn on_ranks<B: Backend>(
        b: &B,
        config: &RlConfig,
        ranks: usize,
        bytes_per_s: f64,
    ) -> Result<Self, TrainError> {
        let shards = config.stage.shards;
        if !ranks.is_power_of_two() {
            return Err(CommError::Number { ranks }.into());
        }
        if ranks > shards {
            return Err(CommError::Shards { ranks, shards }.into());
        }
        let codec = codec(config)?;
        let model = codec.config();
        let encode = |data: &DataFiles| {
            let prompts = encode(&codec, &read_problems(data)?, config.rollout.max_prompt_tokens);
            Ok::<_, TrainError>(prompts?.iter().map(Vec::len).collect::<Vec<_>>())
        };
        let prompts = encode(&config.stage.data)?;
        let held_out = config.eval.as_ref().map_or(Ok(Vec::new()), |eval| encode(&eval.data))?;
        let longest = prompts.iter().chain(&held_out).copied().max().unwrap_or(1);
        let mean = prompts.iter().sum::<usize>() as f64 / prompts.len() as f64;
        let judges = JudgeModels::plan(b, &koan_reward::settle::needs(&config.reward)?)?;
        let plan = Plan::new(b, config, model, longest, ranks).with_judges(judges);
        let speed = Speed::measure(b, model, plan.limits.sequences, plan.rows, config.stage.optim.moments)?;
        let (parts, n) = (config.stage.parts(ranks), ranks as f64);
        let problems = parts.most_of(config.rollout.problems);
        let bytes = 2.0 * (n - 1.0) / n * 4.0 * model.trained_parameters() as f64;
        let sum_s = bytes / bytes_per_s;
        let mut share = config.clone();
        share.rollout.problems = problems;
        let mut estimate = Estimate::of(&share, model, &speed, mean, held_out.len());
        let sums_s = config.updates_per_step() as f64 * sum_s;
        estimate.train_s += sums_s;
        estimate.total_s += config.steps as f64 * sums_s;
        let on_ranks = OnRanks { parts, problems, bytes: bytes as u64, sum_s };
        Ok(Self {
            ranks: (ranks > 1).then_some(on_ranks),
            parameters: model.parameters(),
            adapter: adapter_in_words(model),
            disk: disk_bytes(
                config.stage.checkpoints_kept,
                config.reference_every().is_some(),
                model,
                config.stage.optim.moments,
            ),
            available_disk: available_disk(&config.stage.run_dir)?,
            tokens: [longest, plan.limits.new_tokens, model.longest_sequence()],
            problems: prompts.len(),
            estimate,
            speed,
            plan,
        })
    }

    /// What does not fit here, if anything: in words.
    pub fn obstacles(&self) -> Vec<String> {
        let gib = |bytes: u64| bytes as f64 / GIB;
        let mut all = Vec::new();
        let [prompt, new, max] = self.tokens;
        if prompt + new > max {
            all.push(format!("prompts of {prompt} tokens and completions of {new} exceed the model's {max}"));
        }
        if let Some(available) = self.plan.available.filter(|&available| available < self.plan.bytes()) {
            let needed = gib(self.plan.bytes());
            all.push(format!("it needs {needed:.1} GiB of memory, and {:.1} are free", gib(available)));
        }
        if let Some(available) = self.available_disk.filter(|&available| available < self.disk) {
            let (needed, free) = (gib(self.disk), gib(available));
            all.push(format!("it needs {needed:.1} GiB of disk, and {free:.1} are free"));
        }
        all
    }
}
