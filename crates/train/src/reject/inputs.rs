//! All that a run reads, checked before its directory is made.

use std::{collections::HashMap, path::Path, sync::Arc};

use koan_backend::Backend;
use koan_data::{Problem, read_placed_problems};
use koan_infer::{JudgeModels, JudgePlan};
use koan_reward::{
    BadReference, Context, Rewards,
    form::{language::PROBLEM, problem_language::language_of},
    models::Needed,
    settle::Asks as _,
};

use super::{RejectConfig, here::Here, judge::Judge, there::There};
use crate::{
    TrainError, rl,
    stage::{GIB, Input, check_disk},
};

/// Who writes the completions.
pub(super) enum Writer {
    /// The model in this process.
    Here(Box<Here>),
    /// A server.
    There(Box<There>),
}

/// What a run reads, and what it will hold.
pub(super) struct Inputs {
    /// None: nothing is judged.
    pub(super) rewards: Option<Rewards>,
    /// Who compares pairs, if a model does.
    pub(super) judge: Option<Judge>,
    /// Who writes the completions.
    pub(super) writer: Writer,
    pub(super) problems: Vec<Problem>,
    /// Problems that are left out.
    pub(super) bad: Vec<BadReference>,
    /// What the author of the config should know.
    pub(super) notes: Vec<String>,
    /// The file of each problem, by its id.
    pub(super) files: HashMap<String, Arc<Path>>,
    /// What models that judge take.
    pub(super) judges: JudgePlan,
}

impl Inputs {
    /// Reads and checks everything that `config` names, the cheapest first.
    pub(super) fn read<B: Backend>(b: &B, config: &RejectConfig) -> Result<Self, TrainError> {
        let inputs = Self::plan(b, config, Some(config.stage.run_dir.clone()))?;
        let disk = inputs.disk(config);
        match &inputs.writer {
            Writer::Here(here) => here.check(config, disk)?,
            Writer::There(there) => {
                there.config.open()?;
                check_disk(&config.stage.run_dir, disk)?;
            }
        }
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
        // What is wrong with the model is said before the data are read.
        let codec = if config.server.is_none() { Some(Here::codec(config)?) } else { None };
        let (mut files, mut problems) = (HashMap::new(), Vec::new());
        for (place, problem) in read_placed_problems(&stage.data)? {
            files.insert(problem.id.clone(), place.path);
            problems.push(problem);
        }
        let (problems, bad) = match &rewards {
            Some(rewards) => rewards.split_bad_references(problems)?,
            None => (problems, Vec::new()),
        };
        let judges = JudgeModels::plan(b, &needs(rewards.as_ref(), judge.as_ref()))?;
        let writer = match (&config.server, codec) {
            (Some(server), _) => Writer::There(Box::new(There::new(server)?)),
            (None, Some(codec)) => Writer::Here(Box::new(Here::plan(b, config, codec, &problems, judges)?)),
            (None, None) => unreachable!("a model that is here has a codec"),
        };
        let notes = rewards.iter().flat_map(|rewards| rewards.replaced(&problems));
        let mut notes: Vec<String> = notes.map(|replaced| replaced.to_string()).collect();
        if config.filter.language == PROBLEM {
            notes.extend(without_language(&problems));
        }
        Ok(Self { rewards, judge, writer, problems, bad, notes, files, judges })
    }

    /// The models in this process that judge.
    pub(super) fn needs(&self) -> Vec<Needed> {
        needs(self.rewards.as_ref(), self.judge.as_ref())
    }

    /// All that the run reads, as its inputs: with another one it does not go on.
    pub(super) fn all(&self, config: &RejectConfig) -> Result<Vec<Input>, TrainError> {
        let mut all = match &self.writer {
            Writer::Here(_) => Input::all(&config.stage, None)?,
            Writer::There(there) => {
                let mut all = there.inputs()?;
                all.extend(Input::data(&config.stage)?);
                all
            }
        };
        let of_rewards = self.rewards.iter().flat_map(Rewards::files);
        let of_judge = self.judge.iter().flat_map(|judge| judge.model.files());
        all.extend(rl::judging(&self.needs(), of_rewards.chain(of_judge))?);
        Ok(all)
    }

    /// What opens the thinking at the end of the prompts of problems, by their ids, where something does.
    pub(super) fn opened(&self) -> Result<HashMap<String, String>, TrainError> {
        let mut all = HashMap::new();
        if let Writer::Here(here) = &self.writer {
            for (place, problem) in self.problems.iter().enumerate() {
                if let Some(opened) = here.opened(place)? {
                    all.insert(problem.id.clone(), opened);
                }
            }
        }
        Ok(all)
    }

    /// Steps in all: each samples the next `rollout.problems` problems.
    pub(super) fn steps(&self, config: &RejectConfig) -> u64 {
        self.problems.len().div_ceil(config.rollout.problems) as u64
    }

    /// Bytes that the completions take on the disk at most, about: each of the longest length, once in `rollouts/` and once in
    /// `data/`.
    pub(super) fn disk(&self, config: &RejectConfig) -> u64 {
        /// Bytes of a token's text.
        const OF_TOKEN: u64 = 5;
        /// Bytes of a line beside its text.
        const OF_LINE: u64 = 1000;
        let completions = self.problems.len() as u64 * config.rollout.group_size as u64;
        let prompt = match &self.writer {
            Writer::Here(here) => OF_TOKEN * here.limits.prompt_tokens as u64,
            Writer::There(_) => self.longest_prompt() as u64,
        };
        let new = OF_TOKEN * config.rollout.max_new_tokens.most() as u64;
        completions.saturating_mul(2 * (new + prompt + OF_LINE))
    }

    /// Bytes of the longest prompt.
    fn longest_prompt(&self) -> usize {
        let bytes = |problem: &Problem| problem.messages().iter().map(|message| message.content.len()).sum();
        self.problems.iter().map(bytes).max().unwrap_or(0)
    }

    /// What it will hold in memory, in bytes: weights, the generator, and models that judge.
    pub(super) fn memory<B: Backend>(&self, b: &B) -> [u64; 3] {
        let judges = self.judges.weights.saturating_add(self.judges.working);
        let [weights, generator] = match &self.writer {
            Writer::Here(here) => here.memory(b),
            Writer::There(_) => [0, 0],
        };
        [weights, generator, judges].map(|n| n as u64)
    }

    /// The same in words.
    pub(super) fn in_words<B: Backend>(&self, b: &B) -> String {
        let [weights, generator, judges] = self.memory(b).map(|bytes| bytes as f64 / GIB);
        let judges =
            if judges > 0.0 { format!(", models that judge {judges:.2} GiB") } else { String::new() };
        match &self.writer {
            Writer::Here(here) => {
                let sequences = here.plan.limits.sequences;
                format!("weights {weights:.2} GiB, {sequences} sequences at once {generator:.2} GiB{judges}")
            }
            Writer::There(there) => {
                let (url, model) = (there.config.base(), &there.config.model);
                format!(
                    "no weights: `{model}` at {url} is asked, {} requests at once{judges}",
                    there.config.workers
                )
            }
        }
    }
}

/// The models in this process that judge.
fn needs(rewards: Option<&Rewards>, judge: Option<&Judge>) -> Vec<Needed> {
    let compares = |judge: &Judge| judge.model.needs();
    rewards.map(Rewards::needs).unwrap_or_default().into_iter().chain(judge.and_then(compares)).collect()
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
