//! The worst step, planned before the first: if it can't fit, the run says so then.

use koan_backend::{Backend, check_memory};
use koan_generate::Limits;
use koan_infer::JudgePlan;
use koan_model::{Config, Purpose, Residency, TensorInfo};

use super::RlConfig;
use crate::{
    comm::Parts,
    gradient::{Passes, Tree},
    optim::{OptimConfig, moment_bytes},
    stage::{GIB, StageError, adapter_in_words},
};

/// What a run holds, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The policy, its packed output head, and the reference policy, if there is one.
    pub weights: u64,
    /// Both moments.
    pub optimizer: u64,
    /// While the policy learns: the gradient, and the longest pass forward and backward.
    pub learning: u64,
    /// During rollouts: its other matrices packed, and all sequences that run at once, at their longest.
    pub rollout: u64,
    /// Of models that judge: their weights, and while completions are judged what the largest of them works in.
    pub judges: JudgePlan,
    /// While a checkpoint is written: the largest tensor once more.
    pub saving: u64,
    /// What the device has free, where it says.
    pub available: Option<u64>,
    /// Most sequences at once, and their longest prompt and completion.
    pub limits: Limits,
    /// Rows of the longest training pass.
    pub rows: usize,
}

impl Plan {
    /// Plans `config`'s worst step on each of so many ranks, for a model of the sizes `model`, with prompts of up to `prompt_tokens`.
    pub fn new<B: Backend>(
        b: &B,
        config: &RlConfig,
        model: &Config,
        prompt_tokens: usize,
        ranks: usize,
    ) -> Self {
        let new_tokens = config.rollout.max_new_tokens.most();
        let parts = config.stage.parts(ranks);
        let own = parts.most_of(config.rollout.problems) * config.rollout.group_size;
        let (sequences, drafts) = (config.sequences().min(own), config.rollout.drafts);
        let limits = Limits { sequences, prompt_tokens, new_tokens, drafts };
        Self::of(b, model, limits, &config.stage.optim, parts, config.loss().kl != 0.0)
    }

    /// Plans a step with rollouts of `limits`, learned from as `optim` says in so many `parts`, with a reference policy if it `has_reference`.
    pub fn of<B: Backend>(
        b: &B,
        model: &Config,
        limits: Limits,
        optim: &OptimConfig,
        parts: Parts,
        has_reference: bool,
    ) -> Self {
        let Limits { prompt_tokens, new_tokens, .. } = limits;
        let rows = optim.micro_batch_tokens.max((prompt_tokens - 1).saturating_add(new_tokens));
        let weights = model.model_bytes(b, Residency::Training);
        let packed = model.model_bytes(b, Residency::Rollout) - weights;
        let (reference, reference_pass) = match (has_reference, &model.adapter) {
            (false, _) => (0, 0),
            (true, None) => (weights, Purpose::Inference.bytes(b, model, rows)),
            // It shares the frozen weights, and has an adapter of its own at most.
            (true, Some(_)) => (model.gradient_bytes(b), Purpose::Inference.bytes(b, model, rows)),
        };
        let pass = Passes::bytes(b, model, rows, optim.purpose()) + reference_pass;
        let largest = model.tensors().iter().map(TensorInfo::len).max().unwrap_or(0);
        Self {
            weights: (weights + reference) as u64,
            optimizer: moment_bytes(b, model, optim.moments) as u64,
            learning: (model.gradient_bytes(b) + Tree::bytes(b, model, parts) + pass) as u64,
            rollout: packed.saturating_add(limits.bytes(b, model)) as u64,
            judges: JudgePlan::default(),
            saving: 4 * largest as u64,
            available: b.free_memory(),
            limits,
            rows,
        }
    }

    /// The same, with models that judge.
    #[must_use]
    pub fn with_judges(self, judges: JudgePlan) -> Self {
        Self { judges, ..self }
    }

    /// The most that is held at once, in bytes: rollouts with their judges, learning and saving take turns.
    pub fn bytes(&self) -> u64 {
        let rollout = self.rollout.saturating_add(self.judges.working as u64);
        let turns = self.learning.max(rollout).max(self.saving);
        let judges = self.judges.weights as u64;
        self.weights.saturating_add(self.optimizer).saturating_add(judges).saturating_add(turns)
    }

    /// Refuses a plan that exceeds the memory that is free.
    ///
    /// # Errors
    /// [`StageError::Memory`], with what takes how much. Where the device does not say what is free, nothing is refused.
    pub fn check_memory(&self) -> Result<(), StageError> {
        let remedy = "lower rollout.sequences, optim.micro_batch_tokens or rollout.max_new_tokens";
        Ok(check_memory("the worst step", self.bytes(), self.available, self.breakdown(), remedy)?)
    }

    /// What takes how much, in words, and with an adapter what of `model` is trained.
    pub(crate) fn in_words(&self, model: &Config) -> String {
        let adapter = adapter_in_words(model).map_or_else(String::new, |adapter| format!("; {adapter}"));
        self.breakdown() + &adapter
    }

    /// What takes how much, in words.
    pub fn breakdown(&self) -> String {
        let gib = |bytes: u64| bytes as f64 / GIB;
        let judges = match self.judges {
            JudgePlan { weights: 0, .. } => String::new(),
            JudgePlan { weights, working } => format!(
                "; models that judge {:.2}, and {:.2} beside the sequences while they do",
                gib(weights as u64),
                gib(working as u64)
            ),
        };
        format!(
            "weights {:.2} GiB, optimizer {:.2}, and in turns: gradient and a pass of {} tokens {:.2}, packed weights and \
             {} sequences at once {:.2}{judges}",
            gib(self.weights),
            gib(self.optimizer),
            self.rows,
            gib(self.learning),
            self.limits.sequences,
            gib(self.rollout)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::disk_bytes;

    #[test]
    fn moments_in_bf16_take_half_of_memory_and_disk() {
        let cpu = koan_cpu::Cpu::best(Some(1)).expect("a processor");
        let model = koan_model::testkit::config(11, true);
        let planned = |moments: &str| {
            let text = format!(
                "run_dir = 'r'\nmodel = 'm'\ndata = 'd'\nsteps = 1\noptim = {{moments = '{moments}'}}"
            );
            let config: RlConfig = toml::from_str(&text).expect("a config");
            let disk = disk_bytes(2, true, &model, config.stage.optim.moments);
            (Plan::new(&cpu, &config, &model, 5, 1).optimizer, disk)
        };
        let n = model.parameters() as u64;
        assert_eq!(planned("f32"), (8 * n, 3 * (4 + 4 + 8) * n + 4 * n));
        assert_eq!(planned("bf16"), (4 * n, 3 * (4 + 4 + 4) * n + 4 * n));
    }
}
