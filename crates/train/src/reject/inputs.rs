//! All that a run reads, checked before its directory is made.

use std::{collections::HashMap, path::Path, sync::Arc};

use koan_backend::Backend;
use koan_data::{Problem, read_placed_problems};
use koan_generate::{Limits, MemoryPlan, Sampling};
use koan_infer::{Codec, PromptStyle, plan_generator};
use koan_model::{HeadKind, Residency};
use koan_reward::{BadReference, Context, Rewards};

use super::{RejectConfig, sample::opened};
use crate::{
    TrainError, rl,
    stage::{GIB, check_model_and_disk},
};

/// What a run reads, and what it will hold.
pub(super) struct Inputs {
    /// None: nothing is judged.
    pub(super) rewards: Option<Rewards>,
    pub(super) codec: Codec,
    pub(super) problems: Vec<Problem>,
    /// Problems that are left out.
    pub(super) bad: Vec<BadReference>,
    /// The file of each problem, by its id.
    pub(super) files: HashMap<String, Arc<Path>>,
    /// The tokens of each problem's prompt.
    pub(super) prompts: Vec<Vec<u32>>,
    pub(super) limits: Limits,
    pub(super) plan: MemoryPlan,
    /// Tokens of the longest prompt with the longest completion.
    pub(super) positions: usize,
}

impl Inputs {
    /// Reads and checks everything that `config` names, the cheapest first.
    pub(super) fn read<B: Backend>(b: &B, config: &RejectConfig) -> Result<Self, TrainError> {
        let inputs = Self::plan(b, config, Some(config.stage.run_dir.clone()))?;
        let model = inputs.codec.config();
        check_model_and_disk(
            &config.stage,
            model,
            &[HeadKind::Language],
            inputs.positions,
            inputs.disk(config),
        )?;
        Ok(inputs)
    }

    /// The same without a look at weights and disk; where there is no `log_dir`, programs of rewards log nothing.
    pub(super) fn plan<B: Backend>(
        b: &B,
        config: &RejectConfig,
        log_dir: Option<std::path::PathBuf>,
    ) -> Result<Self, TrainError> {
        let (stage, rollout) = (&config.stage, &config.rollout);
        let context = Context { max_new_tokens: Some(rollout.max_new_tokens), log_dir };
        let rewards = match &config.reward[..] {
            [] => None,
            all => Some(Rewards::build(all, context)?),
        };
        let style = PromptStyle { raw: rollout.raw, system: rollout.system.clone() };
        let codec = Codec::open(&stage.model, style)?;
        codec.tokenizer()?;
        let (mut files, mut problems) = (HashMap::new(), Vec::new());
        for (place, problem) in read_placed_problems(&stage.data)? {
            files.insert(problem.id.clone(), place.path);
            problems.push(problem);
        }
        let (problems, bad) = match &rewards {
            Some(rewards) => rewards.split_bad_references(problems)?,
            None => (problems, Vec::new()),
        };
        let prompts = rl::encode(&codec, &problems, rollout.max_prompt_tokens)?;
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(1);
        let positions = longest.saturating_add(rollout.max_new_tokens);
        let of_step = rollout.problems.min(problems.len()) * rollout.group_size;
        let sequences = if rollout.sequences == 0 { of_step } else { rollout.sequences.min(of_step) };
        let limits = Limits { sequences, prompt_tokens: longest, new_tokens: rollout.max_new_tokens };
        let plan = plan_generator(b, &stage.model, codec.config(), positions, limits, None)?;
        Ok(Self { rewards, codec, problems, bad, files, prompts, limits, plan, positions })
    }

    /// What opens the thinking at the end of the prompts of problems, by their ids, where something does.
    pub(super) fn opened(&self) -> Result<HashMap<String, String>, TrainError> {
        let tokenizer = self.codec.tokenizer()?;
        let mut all = HashMap::new();
        for (problem, prompt) in self.problems.iter().zip(&self.prompts) {
            if let Some(opened) = opened(tokenizer, prompt)? {
                all.insert(problem.id.clone(), opened);
            }
        }
        Ok(all)
    }

    /// Steps in all: each samples the next `rollout.problems` problems.
    pub(super) fn steps(&self, config: &RejectConfig) -> u64 {
        self.problems.len().div_ceil(config.rollout.problems) as u64
    }

    /// How tokens are sampled.
    pub(super) fn sampling(&self, config: &RejectConfig) -> Sampling {
        Sampling {
            temperature: config.rollout.temperature,
            max_new_tokens: config.rollout.max_new_tokens,
            stop_ids: self.codec.stop_ids(),
            seed: config.stage.seed,
            ..Sampling::default()
        }
    }

    /// Bytes that the completions take on the disk at most, about: each of the longest length, once in `rollouts/` and once in
    /// `data/`.
    pub(super) fn disk(&self, config: &RejectConfig) -> u64 {
        /// Bytes of a token's text.
        const OF_TOKEN: u64 = 5;
        /// Bytes of a line beside its text.
        const OF_LINE: u64 = 1000;
        let completions = self.problems.len() as u64 * config.rollout.group_size as u64;
        let tokens = config.rollout.max_new_tokens as u64 + self.limits.prompt_tokens as u64;
        completions.saturating_mul(2 * (OF_TOKEN * tokens + OF_LINE))
    }

    /// What it will hold in memory, in bytes: weights, and the generator.
    pub(super) fn memory<B: Backend>(&self, b: &B) -> [u64; 2] {
        let model = self.codec.config();
        [model.model_bytes(b, Residency::Inference) as u64, self.plan.bytes(b, model) as u64]
    }

    /// The same in words.
    pub(super) fn in_words<B: Backend>(&self, b: &B) -> String {
        let [weights, generator] = self.memory(b).map(|bytes| bytes as f64 / GIB);
        format!("weights {weights:.2} GiB, {} sequences at once {generator:.2}", self.plan.limits.sequences)
    }
}
