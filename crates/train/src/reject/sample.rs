//! Completions of problems, sampled and judged.

use std::ops::Range;

use koan_backend::Backend;
use koan_data::Problem;
use koan_generate::{Completion, FinishReason, Finished, Prompt, Sampling};
use koan_infer::Engine;
use koan_reward::{Job, Judgement, Models, Rewards, Unsettled, form::problem_language::language_of};
use koan_text::{TextError, Tokenizer};

use crate::{TrainError, rl::Sample};

/// The completions of one problem.
pub struct Group {
    /// Its problem's place in the data.
    pub problem: usize,
    /// The language of the problem, where it has one.
    pub language: Option<&'static str>,
    /// What the prompt ends with that opens the thinking, such as `<think>` and a line end; none if it opens none.
    pub opened: Option<String>,
    /// The completions, in the order of their numbers.
    pub samples: Vec<Sample>,
}

/// What is sampled, and who judges it.
pub struct Asked<'a> {
    /// The problems. A problem's place among them keys its random numbers.
    pub problems: &'a [Problem],
    /// The tokens of each problem's prompt.
    pub prompts: &'a [Vec<u32>],
    /// Completions of each.
    pub samples: usize,
    /// How tokens are sampled.
    pub sampling: &'a Sampling,
    /// Who judges; none: nobody.
    pub rewards: Option<&'a Rewards>,
    /// On how many threads.
    pub threads: usize,
    /// The models that rewards ask.
    pub models: &'a dyn Models,
}

/// Place and number of a completion, and its tokens.
type Key = (usize, u64, Completion);

impl<'p> Asked<'p> {
    /// Samples and judges the completions of the problems at the places `wanted`; says how many are there, after each. A
    /// completion depends on the seed, its problem's place and its number alone.
    ///
    /// # Errors
    /// If a prompt does not fit, or a completion can't be decoded.
    pub fn sample<B: Backend>(
        &self,
        engine: &mut Engine<B>,
        wanted: Range<usize>,
        on: impl FnMut(usize),
    ) -> Result<Vec<Group>, TrainError> {
        let (run, mut judged) = if let Some(rewards) = self.rewards {
            rewards.judge_while(self.threads, |send| self.generate(engine, wanted.clone(), on, send))
        } else {
            let mut all = Vec::new();
            let nothing = || Judgement { terms: Vec::new(), reward: None };
            let run = self.generate(engine, wanted.clone(), on, &mut |job| all.push((job, nothing())));
            (run, all)
        };
        run?;
        judged.sort_by_key(|(job, _)| (job.key.0, job.key.1));
        if let Some(rewards) = self.rewards.filter(|rewards| rewards.asks_models()) {
            let mut unsettled: Vec<Unsettled> = judged
                .iter_mut()
                .map(|(job, judgement)| Unsettled { sample: job.sample(), group: job.key.0, judgement })
                .collect();
            rewards.settle(self.models, &mut unsettled, true)?;
        }
        let mut samples = judged.into_iter().map(|(job, judgement)| {
            let (_, _, completion) = job.key;
            Sample { completion, text: job.completion, judgement, advantage: None }
        });
        let tokenizer = engine.codec.tokenizer()?;
        wanted
            .map(|problem| {
                let opened = opened(tokenizer, &self.prompts[problem])?;
                let language = language_of(&self.problems[problem]).ok();
                Ok(Group {
                    problem,
                    language,
                    opened,
                    samples: samples.by_ref().take(self.samples).collect(),
                })
            })
            .collect()
    }

    /// Samples the completions, and hands each to `send`.
    fn generate<B: Backend>(
        &self,
        engine: &mut Engine<B>,
        wanted: Range<usize>,
        mut on: impl FnMut(usize),
        send: &mut dyn FnMut(Job<'p, Key>),
    ) -> Result<(), TrainError> {
        let prompt =
            |i: usize| Prompt { ids: self.prompts[i].clone(), problem: i as u64, samples: self.samples };
        let prompts: Vec<Prompt> = wanted.map(prompt).collect();
        let Engine { b, codec, model, generator } = engine;
        let (mut done, mut failed) = (0, None);
        generator.run(*b, model, &prompts, self.sampling, |finished| {
            let Finished { request, completion, .. } = finished;
            let place = request.problem as usize;
            done += 1;
            on(done);
            match codec.decode(&completion.token_ids) {
                Err(e) => failed = Some(e),
                Ok(text) => send(Job {
                    problem: &self.problems[place],
                    completion: text,
                    tokens: completion.token_ids.len(),
                    truncated: completion.finish_reason == FinishReason::Length,
                    step: None,
                    key: (place, request.sample, completion),
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
pub(super) fn opened(tokenizer: &Tokenizer, prompt: &[u32]) -> Result<Option<String>, TextError> {
    /// `<think>` and a few line ends.
    const LAST: usize = 12;
    let end = tokenizer.decode(&prompt[prompt.len().saturating_sub(LAST)..], false)?;
    let at = end.rfind("<think>").filter(|at| end[*at..].trim_end() == "<think>");
    Ok(at.map(|at| end[at..].to_owned()))
}
