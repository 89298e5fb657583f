//! Completions that the model in this process writes.

use std::ops::Range;

use koan_backend::Backend;
use koan_data::Problem;
use koan_generate::{FinishReason, Finished, Limits, MemoryPlan, Prompt, Sampling};
use koan_infer::{Codec, Engine, JudgePlan, PromptStyle, plan_generator};
use koan_model::{Config, HeadKind, Residency};
use koan_reward::Job;
use koan_text::{TextError, Tokenizer};

use super::{
    RejectConfig,
    sample::{Asked, Key},
};
use crate::{TrainError, rl, stage::check_model_and_disk};

/// The model that is to write completions, as far as it is known before its weights are read.
pub(super) struct Here {
    pub(super) codec: Codec,
    /// The tokens of each problem's prompt.
    pub(super) prompts: Vec<Vec<u32>>,
    pub(super) limits: Limits,
    /// Bytes for the generator, if models judge beside it.
    budget: Option<usize>,
    pub(super) plan: MemoryPlan,
    /// Tokens of the longest prompt with the longest completion.
    positions: usize,
}

impl Here {
    /// Reads how the model of `config` reads and writes text.
    ///
    /// # Errors
    /// If it can't be read.
    pub(super) fn codec(config: &RejectConfig) -> Result<Codec, TrainError> {
        let rollout = &config.rollout;
        let style = PromptStyle { raw: rollout.raw, system: rollout.system.clone() };
        let codec = Codec::open_at(&config.stage.start()?, style)?;
        codec.tokenizer()?;
        Ok(codec)
    }

    /// Plans for `problems`, beside models that judge.
    ///
    /// # Errors
    /// A prompt that is too long, or a lack of memory.
    pub(super) fn plan<B: Backend>(
        b: &B,
        config: &RejectConfig,
        codec: Codec,
        problems: &[Problem],
        judges: JudgePlan,
    ) -> Result<Self, TrainError> {
        let rollout = &config.rollout;
        let prompts = rl::encode(&codec, problems, rollout.max_prompt_tokens)?;
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(1);
        let positions = longest.saturating_add(rollout.max_new_tokens.most());
        let of_step = rollout.problems.min(problems.len()) * rollout.group_size;
        let sequences = if rollout.sequences == 0 { of_step } else { rollout.sequences.min(of_step) };
        let (new_tokens, drafts) = (rollout.max_new_tokens.most(), rollout.drafts);
        let limits = Limits { sequences, prompt_tokens: longest, new_tokens, drafts };
        let budget = beside(b, codec.config(), judges);
        let plan = plan_generator(b, &config.stage.model, codec.config(), positions, limits, budget)?;
        Ok(Self { codec, prompts, limits, budget, plan, positions })
    }

    /// Looks at weights and disk, on which the run takes `disk` bytes.
    ///
    /// # Errors
    /// Weights that are missing or damaged, or a lack of room.
    pub(super) fn check(&self, config: &RejectConfig, disk: u64) -> Result<(), TrainError> {
        let model = self.codec.config();
        Ok(check_model_and_disk(&config.stage, model, &[HeadKind::Language], self.positions, disk)?)
    }

    /// Loads the weights.
    ///
    /// # Errors
    /// If they can't be read, or the device refuses the memory.
    pub(super) fn begin<'b, B: Backend>(&self, b: &'b B) -> Result<Engine<'b, B>, TrainError> {
        Ok(Engine::load(b, self.codec.clone(), self.positions, self.limits, self.budget)?)
    }

    /// Bytes of the weights and of the generator.
    pub(super) fn memory<B: Backend>(&self, b: &B) -> [usize; 2] {
        let model = self.codec.config();
        [model.model_bytes(b, Residency::Inference), self.plan.bytes(b, model)]
    }

    /// What opens the thinking at the end of the prompt of the problem at this place, if anything does.
    ///
    /// # Errors
    /// If its tokens can't be decoded.
    pub(super) fn opened(&self, problem: usize) -> Result<Option<String>, TextError> {
        opened(self.codec.tokenizer()?, &self.prompts[problem])
    }

    /// How tokens are sampled.
    fn sampling(&self, config: &RejectConfig) -> Sampling {
        Sampling {
            temperature: config.rollout.temperature,
            top_p: config.rollout.top_p,
            max_new_tokens: config.rollout.max_new_tokens.most(),
            stop_ids: self.codec.stop_ids(),
            seed: config.stage.seed,
            ..Sampling::default()
        }
    }

    /// Samples the completions of the problems at the places `wanted`, and hands each to `send`; says how many are there, after each. A
    /// completion depends on the seed, its problem's place and its number alone.
    ///
    /// # Errors
    /// If a prompt does not fit, or a completion can't be decoded.
    pub(super) fn write<'p, B: Backend>(
        &self,
        engine: &mut Engine<B>,
        config: &RejectConfig,
        asked: &Asked<'p>,
        wanted: Range<usize>,
        mut on: impl FnMut(usize),
        send: &mut dyn FnMut(Job<'p, Key>),
    ) -> Result<(), TrainError> {
        let prompt =
            |i: usize| Prompt { ids: self.prompts[i].clone(), problem: i as u64, samples: asked.samples };
        let prompts: Vec<Prompt> = wanted.map(prompt).collect();
        let Engine { b, codec, model, generator } = engine;
        let (mut done, mut failed) = (0, None);
        generator.run(*b, model, &prompts, &self.sampling(config), |finished| {
            let Finished { request, completion, .. } = finished;
            let problem = request.problem as usize;
            done += 1;
            on(done);
            match codec.decode(&completion.token_ids) {
                Err(e) => failed = Some(e),
                Ok(text) => send(Job {
                    problem: &asked.problems[problem],
                    completion: text,
                    tokens: completion.token_ids.len(),
                    truncated: completion.finish_reason == FinishReason::Length,
                    step: None,
                    key: Key { problem, sample: request.sample, sampled: Some(completion) },
                }),
            }
        })?;
        failed.map_or(Ok(()), |e| Err(e.into()))
    }
}

/// What opens the thinking at the end of a prompt's tokens, if anything does.
///
/// # Errors
/// If they can't be decoded.
fn opened(tokenizer: &Tokenizer, prompt: &[u32]) -> Result<Option<String>, TextError> {
    /// `<think>` and a few line ends.
    const LAST: usize = 12;
    let end = tokenizer.decode(&prompt[prompt.len().saturating_sub(LAST)..], false)?;
    let at = end.rfind("<think>").filter(|at| end[*at..].trim_end() == "<think>");
    Ok(at.map(|at| end[at..].to_owned()))
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
