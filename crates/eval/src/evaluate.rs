//! Draws completions for every problem, judges them, and sums up.

use std::time::Instant;

use koan_backend::Backend;
use koan_data::Problem;
use koan_generate::{Completion, FinishReason, Generator, Prompt, Sampling};
use koan_model::Model;
use koan_reward::{Job, Judgement, Outcome, Rewards, Summary};
use koan_text::{TextError, Tokenizer};
use serde::Serialize;

use crate::{Interval, PromptStyle};

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The tokenizer or its template refused.
    #[error(transparent)]
    Text(#[from] TextError),
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

/// One completion, judged.
#[derive(Debug)]
pub struct Judged<'a> {
    /// The problem's place in the data.
    pub problem: usize,
    /// Which of its samples.
    pub sample: usize,
    /// The tokens.
    pub completion: &'a Completion,
    /// Its text, without special tokens.
    pub text: &'a str,
    /// What it earned.
    pub judgement: &'a Judgement,
}

/// What a measurement found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Problems asked.
    pub problems: usize,
    /// Completions a problem.
    pub samples: usize,
    /// pass@1: the chance that a completion is correct, with its 95% interval.
    #[serde(flatten)]
    pub pass_at_1: Interval,
    /// How many completions had each outcome.
    pub outcomes: Summary,
    /// Mean tokens of a completion.
    pub completion_tokens: f64,
    /// Share of completions that were cut.
    pub truncated: f64,
    /// Completion tokens drawn.
    pub tokens: usize,
    /// Seconds it took.
    pub seconds: f64,
}

/// The prompts of `problems` for a generator.
///
/// # Errors
/// If one can't be encoded, or does not fit the generator.
fn prompts(
    tokenizer: &Tokenizer,
    style: &PromptStyle,
    problems: &[Problem],
    samples: usize,
    max: usize,
) -> Result<Vec<Prompt>, EvalError> {
    let prompt = |(i, problem): (usize, &Problem)| {
        let ids = style.encode(tokenizer, &problem.messages())?;
        if !(1..=max).contains(&ids.len()) {
            return Err(EvalError::PromptLength { id: problem.id.clone(), tokens: ids.len(), max });
        }
        Ok(Prompt { ids, problem: i as u64, samples })
    };
    problems.iter().enumerate().map(prompt).collect()
}

/// Draws `samples` completions of every problem and judges them by `rewards`, while others are drawn. `drawn` hears how
/// many are there as they come; `each` sees them all at the end, in the order of problems and samples.
///
/// # Errors
/// If a prompt can't be encoded, or does not fit the generator.
pub fn evaluate<B: Backend>(
    b: &B,
    model: &Model<B>,
    generator: &mut Generator<B>,
    tokenizer: &Tokenizer,
    style: &PromptStyle,
    problems: &[Problem],
    samples: usize,
    sampling: &Sampling,
    rewards: &Rewards,
    mut drawn: impl FnMut(usize),
    mut each: impl FnMut(Judged),
) -> Result<Report, EvalError> {
    let start = Instant::now();
    let prompts = prompts(tokenizer, style, problems, samples, generator.limits().prompt_tokens)?;
    let (mut n_drawn, mut undecodable) = (0, None);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let ((), mut judged) = rewards.judge_while(threads, |send| {
        generator.run(b, model, &prompts, sampling, |problem, sample, completion| {
            n_drawn += 1;
            drawn(n_drawn);
            match tokenizer.decode(&completion.token_ids, true) {
                Err(e) => undecodable = Some(e),
                Ok(text) => send(Job {
                    problem: &problems[problem],
                    completion: text,
                    tokens: completion.token_ids.len(),
                    truncated: completion.finish_reason == FinishReason::Length,
                    key: (problem, sample, completion),
                }),
            }
        });
    });
    if let Some(e) = undecodable {
        return Err(e.into());
    }
    judged.sort_by_key(|(job, _)| (job.key.0, job.key.1));
    let (mut outcomes, mut tokens, mut truncated) = (Summary::default(), 0, 0);
    let mut correct = vec![0usize; problems.len()];
    for (job, judgement) in &judged {
        let &(problem, sample, ref completion) = &job.key;
        let outcome = judgement.outcome();
        outcomes.count(outcome);
        tokens += job.tokens;
        truncated += usize::from(job.truncated);
        correct[problem] += usize::from(outcome == Outcome::Correct);
        each(Judged { problem, sample, completion, text: &job.completion, judgement });
    }
    let n = (problems.len() * samples) as f64;
    let shares: Vec<f64> = correct.iter().map(|&c| c as f64 / samples as f64).collect();
    Ok(Report {
        problems: problems.len(),
        samples,
        pass_at_1: Interval::of(&shares, samples),
        outcomes,
        completion_tokens: tokens as f64 / n,
        truncated: truncated as f64 / n,
        tokens,
        seconds: start.elapsed().as_secs_f64(),
    })
}
