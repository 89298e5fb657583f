//! All that a run reads, checked before its directory is made.

use std::{collections::HashMap, path::Path, sync::Arc};

use koan_backend::Backend;
use koan_data::{Problem, read_placed_problems};
use koan_generate::{Limits, MemoryPlan, Sampling};
use koan_infer::{Codec, JudgeModels, JudgePlan, PromptStyle, plan_generator};
use koan_model::{Config, HeadKind, Residency};
use koan_reward::{
    BadReference, Context, Rewards,
    form::{language::PROBLEM, problem_language::language_of},
    models::Needed,
    settle::Asks as _,
};

use super::{RejectConfig, judge::Judge, sample::opened};
use crate::{
    TrainError, rl,
    stage::{GIB, Input, check_model_and_disk},
};

/// What a run reads, and what it will hold.
pub(super) struct Inputs {
    /// None: nothing is judged.
    pub(super) rewards: Option<Rewards>,
    /// Who compares pairs, if a model does.
    pub(super) judge: Option<Judge>,
    pub(super) codec: Codec,
    pub(super) problems: Vec<Problem>,
    /// Problems that are left out.
    pub(super) bad: Vec<BadReference>,
    /// What the author of the config should know.
    pub(super) notes: Vec<String>,
    /// The file of each problem, by its id.
    pub(super) files: HashMap<String, Arc<Path>>,
    /// The tokens of each problem's prompt.
    pub(super) prompts: Vec<Vec<u32>>,
    pub(super) limits: Limits,
    /// What models that judge take.
    pub(super) judges: JudgePlan,
    /// Bytes for the generator, if models judge beside it.
    pub(super) budget: Option<usize>,
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
        let context = Context { max_new_tokens: rollout.max_new_tokens.fixed(), log_dir };
        let rewards = match &config.reward[..] {
            [] => None,
            all => Some(Rewards::build(all, context.clone())?),
        };
        let judge = config.judge.as_ref().map(|judge| judge.build(&context)).transpose()?;
        let style = PromptStyle { raw: rollout.raw, system: rollout.system.clone() };
        let codec = Codec::open_at(&stage.start()?, style)?;
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
        let positions = longest.saturating_add(rollout.max_new_tokens.most());
        let of_step = rollout.problems.min(problems.len()) * rollout.group_size;
        let sequences = if rollout.sequences == 0 { of_step } else { rollout.sequences.min(of_step) };
        let (new_tokens, drafts) = (rollout.max_new_tokens.most(), rollout.drafts);
        let limits = Limits { sequences, prompt_tokens: longest, new_tokens, drafts };
        let judges = JudgeModels::plan(b, &needs(rewards.as_ref(), judge.as_ref()))?;
        let budget = beside(b, codec.config(), judges);
        let plan = plan_generator(b, &stage.model, codec.config(), positions, limits, budget)?;
        let notes = rewards.iter().flat_map(|rewards| rewards.replaced(&problems));
        let mut notes: Vec<String> = notes.map(|replaced| replaced.to_string()).collect();
        if config.filter.language == PROBLEM {
            notes.extend(without_language(&problems));
        }
        Ok(Self {
            rewards,
            judge,
            codec,
            problems,
            bad,
            notes,
            files,
            prompts,
            limits,
            judges,
            budget,
            plan,
            positions,
        })
    }

    /// The models in this process that judge.
    pub(super) fn needs(&self) -> Vec<Needed> {
        needs(self.rewards.as_ref(), self.judge.as_ref())
    }

    /// The models and files that judge, as inputs of the run: with another one it does not go on.
    pub(super) fn of_judges(&self) -> Result<Vec<Input>, TrainError> {
        let of_rewards = self.rewards.iter().flat_map(Rewards::files);
        let of_judge = self.judge.iter().flat_map(|judge| judge.model.files());
        rl::judging(&self.needs(), of_rewards.chain(of_judge))
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
            top_p: config.rollout.top_p,
            max_new_tokens: config.rollout.max_new_tokens.most(),
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
        let tokens = config.rollout.max_new_tokens.most() as u64 + self.limits.prompt_tokens as u64;
        completions.saturating_mul(2 * (OF_TOKEN * tokens + OF_LINE))
    }

    /// What it will hold in memory, in bytes: weights, the generator, and models that judge.
    pub(super) fn memory<B: Backend>(&self, b: &B) -> [u64; 3] {
        let model = self.codec.config();
        let judges = self.judges.weights.saturating_add(self.judges.working);
        [model.model_bytes(b, Residency::Inference), self.plan.bytes(b, model), judges].map(|n| n as u64)
    }

    /// The same in words.
    pub(super) fn in_words<B: Backend>(&self, b: &B) -> String {
        let [weights, generator, judges] = self.memory(b).map(|bytes| bytes as f64 / GIB);
        let sequences = self.plan.limits.sequences;
        let judges = if judges > 0.0 { format!(", models that judge {judges:.2}") } else { String::new() };
        format!("weights {weights:.2} GiB, {sequences} sequences at once {generator:.2}{judges}")
    }
}

/// The models in this process that judge.
fn needs(rewards: Option<&Rewards>, judge: Option<&Judge>) -> Vec<Needed> {
    let compares = |judge: &Judge| judge.model.needs();
    rewards.map(Rewards::needs).unwrap_or_default().into_iter().chain(judge.and_then(compares)).collect()
}

/// Bytes for a generator beside models that judge, of the memory that weights leave; none if nothing judges, or the device does not
/// say what is free.
fn beside<B: Backend>(b: &B, model: &Config, judges: JudgePlan) -> Option<usize> {
    /// Of what is left.
    const SHARE: f64 = 0.8;
    let taken = judges.weights.saturating_add(judges.working);
    let free = b.free_memory().filter(|_| taken > 0)?;
    let weights = model.model_bytes(b, Residency::Inference).saturating_add(taken);
    Some((free.saturating_sub(weights as u64) as f64 * SHARE) as usize)
}

/// Says which problems have no language of their own that their reasoning could be asked to be in.
fn without_language(problems: &[Problem]) -> Option<String> {
    let why = |problem: &Problem| Some((problem.id.clone(), language_of(problem).err()?));
    let all: Vec<(String, String)> = problems.iter().filter_map(why).collect();
    let (id, why) = all.first()?;
    Some(format!(
        "{} problems have no language of their own, and any one will do for their reasoning; `{id}`: {why}",
        all.len()
    ))
}
