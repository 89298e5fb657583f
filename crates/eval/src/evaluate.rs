//! Draws completions for every problem, and judges them while others are drawn.

use std::sync::atomic::{AtomicBool, Ordering};

use koan_backend::Backend;
use koan_data::Problem;
use koan_generate::{FinishReason, Finished, Generator, Prompt, RequestError, Sampling};
use koan_model::Model;
use koan_reward::{Job, Judgement, Outcome, Rewards};
use koan_text::{TextError, Tokenizer};
use serde::{Deserialize, Serialize};

use crate::{PromptStyle, Score};

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The tokenizer or its template refused.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A completion could not be asked for.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The device refused memory.
    #[error(transparent)]
    OutOfMemory(#[from] koan_backend::OutOfMemory),
    /// A prompt does not fit.
    #[error("the prompt of problem `{id}` has {tokens} tokens, not 1 to {max}")]
    PromptLength {
        /// The problem.
        id: String,
        /// Its prompt's tokens.
        tokens: usize,
        /// The longest that fits.
        max: usize,
    },
}

/// A completion and what became of it, as files hold it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// What the model wrote, without special tokens.
    pub completion: String,
    /// Whether it is right, by the first reward.
    pub outcome: Outcome,
    /// The answer as it was found, shortened where long.
    pub parsed: Option<String>,
    /// Why, in a sentence.
    pub reason: String,
    /// Its length in tokens.
    pub completion_tokens: usize,
    /// `stop` or `length`.
    pub finish_reason: String,
}

impl Judged {
    /// From a text and what the rewards say of it.
    pub fn of(completion: &str, judgement: &Judgement, tokens: usize, truncated: bool) -> Self {
        let term = &judgement.terms[0];
        let finish_reason = if truncated { FinishReason::Length } else { FinishReason::Stop };
        Self {
            completion: completion.to_owned(),
            outcome: term.outcome,
            parsed: term.parsed.clone(),
            reason: term.reason.clone(),
            completion_tokens: tokens,
            finish_reason: finish_reason.name().to_owned(),
        }
    }

    /// Whether it was cut at its longest length.
    pub fn truncated(&self) -> bool {
        self.finish_reason == FinishReason::Length.name()
    }
}

/// What is measured: problems, how they are put, how completions are drawn, and who judges them.
pub struct Evaluation<'a> {
    /// The problems. A problem's place among them keys its random numbers.
    pub problems: &'a [Problem],
    /// Completions of each.
    pub samples: usize,
    /// How prompts are put to the model.
    pub style: &'a PromptStyle,
    /// Turns text into tokens and back.
    pub tokenizer: &'a Tokenizer,
    /// How tokens are drawn.
    pub sampling: &'a Sampling,
    /// Who judges.
    pub rewards: &'a Rewards,
    /// On how many threads.
    pub threads: usize,
}

impl Evaluation<'_> {
    /// Draws all completions, and sums up.
    ///
    /// # Errors
    /// As [`Self::draw`].
    pub fn score<B: Backend>(
        &self,
        b: &B,
        model: &Model<B>,
        generator: &mut Generator<B>,
    ) -> Result<Score, EvalError> {
        let all: Vec<usize> = (0..self.problems.len()).collect();
        let mut drawn = Vec::new();
        self.draw(b, model, generator, &all, &AtomicBool::new(false), |problem, sample, judged| {
            drawn.push(((problem, sample), judged));
        })?;
        drawn.sort_by_key(|(key, _)| *key);
        let completions: Vec<Judged> = drawn.into_iter().map(|(_, judged)| judged).collect();
        Ok(Score::of(&completions.chunks(self.samples).collect::<Vec<_>>(), &[], None))
    }

    /// Draws all completions of the problems `wanted`, given by their places, and hands each over with its problem and
    /// sample as it is judged: in no particular order, one at a time, on whichever thread judged it. What is drawn
    /// depends on no other problem. Once `stop` is set, whatever is not whole is given up.
    ///
    /// # Errors
    /// If a prompt can't be encoded, or does not fit the generator, or a completion can't be decoded.
    pub fn draw<B: Backend>(
        &self,
        b: &B,
        model: &Model<B>,
        generator: &mut Generator<B>,
        wanted: &[usize],
        stop: &AtomicBool,
        mut each: impl FnMut(usize, usize, Judged) + Send,
    ) -> Result<(), EvalError> {
        let max = generator.limits().prompt_tokens;
        let prompts = wanted.iter().map(|&i| self.prompt(i, max)).collect::<Result<Vec<_>, _>>()?;
        generator.submit_all(&prompts, self.sampling)?;
        let drawn = self.rewards.judge_each(
            self.threads,
            |send| {
                while generator.is_busy() && !stop.load(Ordering::Relaxed) {
                    for Finished { request, completion, .. } in generator.step(b, model)?.finished {
                        let problem = request.problem as usize;
                        send(Job {
                            key: (problem, request.sample as usize),
                            problem: &self.problems[problem],
                            completion: self.tokenizer.decode(&completion.token_ids, true)?,
                            tokens: completion.token_ids.len(),
                            truncated: completion.finish_reason == FinishReason::Length,
                        });
                    }
                }
                Ok(())
            },
            |job, judgement| {
                let (problem, sample): (usize, usize) = job.key;
                each(problem, sample, Judged::of(&job.completion, &judgement, job.tokens, job.truncated));
            },
        );
        generator.cancel_all();
        drawn
    }

    fn prompt(&self, problem: usize, max: usize) -> Result<Prompt, EvalError> {
        let Problem { id, .. } = &self.problems[problem];
        let ids = self.style.encode(self.tokenizer, &self.problems[problem].messages())?;
        if !(1..=max).contains(&ids.len()) {
            return Err(EvalError::PromptLength { id: id.clone(), tokens: ids.len(), max });
        }
        Ok(Prompt { ids, problem: problem as u64, samples: self.samples })
    }
}
