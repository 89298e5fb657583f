//! All that a run reads, checked before its directory is made.

use std::path::PathBuf;

use koan_backend::Backend;
use koan_data::{Problem, read_problems};
use koan_infer::{Codec, JudgeModels, PromptStyle, check_drafts};
use koan_model::HeadKind;
use koan_reward::{
    BadReference, Context, Rewards,
    models::{Needed, Role},
};

use super::{RlConfig, error::RlError, plan::Plan};
use crate::{
    TrainError,
    stage::{Input, check_model_and_disk, disk_bytes},
};

/// What a run reads, and what it will hold.
pub(super) struct Inputs {
    pub(super) rewards: Rewards,
    pub(super) codec: Codec,
    pub(super) problems: Vec<Problem>,
    /// Problems that are left out.
    pub(super) bad: Vec<BadReference>,
    /// The tokens of each problem's prompt.
    pub(super) prompts: Vec<Vec<u32>>,
    pub(super) held_out: Vec<Problem>,
    /// Held-out problems that are left out.
    pub(super) bad_held_out: Vec<BadReference>,
    /// What the author of the config should know.
    pub(super) notes: Vec<String>,
    pub(super) plan: Plan,
    /// Tokens of the longest prompt with the longest completion.
    pub(super) positions: usize,
}

impl Inputs {
    /// Reads and checks everything that `config` names, the cheapest first.
    pub(super) fn read<B: Backend>(b: &B, config: &RlConfig, ranks: usize) -> Result<Self, TrainError> {
        let (stage, rollout) = (&config.stage, &config.rollout);
        let max_new_tokens = rollout.max_new_tokens.fixed();
        let context = Context { max_new_tokens, log_dir: Some(stage.run_dir.clone()) };
        let rewards = Rewards::build(&config.reward, context)?;
        let codec = codec(config)?;
        let (problems, bad) = rewards.split_bad_references(read_problems(&stage.data)?)?;
        let held_out = config.eval.as_ref().map_or(Ok(Vec::new()), |eval| read_problems(&eval.data))?;
        let (held_out, bad_held_out) = rewards.split_bad_references(held_out)?;
        let encode = |problems| encode(&codec, problems, rollout.max_prompt_tokens);
        let mut notes: Vec<String> =
            [&problems, &held_out].iter().flat_map(|p| rewards.replaced(p)).map(|r| r.to_string()).collect();
        notes.extend(rewards.gaps(&problems, config.steps));
        let (prompts, held_out_prompts) = (encode(&problems)?, encode(&held_out)?);
        let longest = prompts.iter().chain(&held_out_prompts).map(Vec::len).max().unwrap_or(1);
        let judges = JudgeModels::plan(b, &rewards.needs())?;
        let plan = Plan::new(b, config, codec.config(), longest, ranks).with_judges(judges);
        let positions = longest + rollout.max_new_tokens.most();
        plan.check_memory()?;
        let refreshed = config.reference_every().is_some();
        let disk = disk_bytes(stage.checkpoints_kept, refreshed, codec.config(), stage.optim.moments);
        check_model_and_disk(stage, codec.config(), &[HeadKind::Language], positions, disk)?;
        Ok(Self { rewards, codec, problems, bad, prompts, held_out, bad_held_out, notes, plan, positions })
    }

    /// The models and files that judge, as inputs of the run: with another one it does not go on.
    pub(super) fn of_rewards(&self) -> Result<Vec<Input>, TrainError> {
        judging(&self.rewards.needs(), self.rewards.files())
    }
}

/// The models and files that judge, as inputs of a run.
pub(crate) fn judging(
    needs: &[Needed],
    files: impl IntoIterator<Item = (&'static str, PathBuf)>,
) -> Result<Vec<Input>, TrainError> {
    let mut inputs: Vec<Input> = Vec::new();
    for Needed { model, role, .. } in needs {
        let (role, tokenizer) = match role {
            Role::Scores => ("reward model", "reward model's tokenizer"),
            Role::Speaks { .. } => ("judge", "judge's tokenizer"),
        };
        if !inputs.iter().any(|input| (input.role, &input.path) == (role, model)) {
            inputs.push(Input::model(role, model)?);
            inputs.push(Input::file(tokenizer, &model.join("tokenizer.json"))?);
        }
    }
    for (role, path) in files {
        inputs.push(Input::file(role, &path)?);
    }
    Ok(inputs)
}

/// How the model reads problems and writes completions.
pub(super) fn codec(config: &RlConfig) -> Result<Codec, TrainError> {
    let style = PromptStyle { raw: config.rollout.raw, system: config.rollout.system.clone() };
    let (place, model) = (config.stage.start()?, config.stage.trained_config()?);
    check_drafts(place.model(), &model, config.rollout.drafts)?;
    Ok(Codec::of(place.model(), model, style)?)
}

/// The tokens of each problem's prompt, at most `max`.
pub(crate) fn encode(codec: &Codec, problems: &[Problem], max: usize) -> Result<Vec<Vec<u32>>, TrainError> {
    let encode = |problem: &Problem| {
        let ids = codec.encode_problem(problem)?;
        match ids.len() {
            0 => Err(RlError::PromptEmpty { id: problem.id.clone() }.into()),
            tokens if tokens > max => {
                Err(RlError::PromptTooLong { id: problem.id.clone(), tokens, max }.into())
            }
            _ => Ok(ids),
        }
    };
    problems.iter().map(encode).collect()
}
