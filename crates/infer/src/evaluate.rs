//! Samples completions for every problem, and judges them while others are sampled.

use std::sync::atomic::{AtomicBool, Ordering};

use koan_backend::Backend;
use koan_data::Problem;
use koan_eval::Judged;
use koan_generate::{FinishReason, Finished, Generator, Prompt, Sampling};
use koan_model::Model;
use koan_reward::{Job, Rewards};

use crate::{Codec, InferError};

/// What is measured: problems, how they are put, how completions are sampled, and who judges them.
pub struct Evaluation<'a> {
    /// The problems. A problem's place among them keys its random numbers.
    pub problems: &'a [Problem],
    /// Completions of each.
    pub samples: usize,
    /// Turns text into tokens and back.
    pub codec: &'a Codec,
    /// How tokens are sampled.
    pub sampling: &'a Sampling,
    /// Who judges.
    pub rewards: &'a Rewards,
    /// On how many threads.
    pub threads: usize,
}

impl Evaluation<'_> {
    /// Samples all completions: those of each problem, in the order of their samples.
    ///
    /// # Errors
    /// As [`Self::sample`].
    pub fn sample_all<B: Backend>(
        &self,
        b: &B,
        model: &Model<B>,
        generator: &mut Generator<B>,
    ) -> Result<Vec<Vec<Judged>>, InferError> {
        let all: Vec<usize> = (0..self.problems.len()).collect();
        let mut sampled = Vec::new();
        self.sample(b, model, generator, &all, &AtomicBool::new(false), |problem, sample, judged| {
            sampled.push(((problem, sample), judged));
        })?;
        sampled.sort_by_key(|(key, _)| *key);
        let mut sampled = sampled.into_iter().map(|(_, judged)| judged);
        Ok(all.iter().map(|_| sampled.by_ref().take(self.samples).collect()).collect())
    }

    /// Samples all completions of the problems `wanted`, given by their places, and hands each over with its problem and
    /// sample as it is judged: in no particular order, one at a time, on whichever thread judged it. What is sampled
    /// depends on no other problem. Once `stop` is set, whatever is not whole is given up.
    ///
    /// # Errors
    /// If a prompt can't be encoded, or does not fit the generator, or a completion can't be decoded.
    pub fn sample<B: Backend>(
        &self,
        b: &B,
        model: &Model<B>,
        generator: &mut Generator<B>,
        wanted: &[usize],
        stop: &AtomicBool,
        mut each: impl FnMut(usize, usize, Judged) + Send,
    ) -> Result<(), InferError> {
        let max = generator.plan().limits.prompt_tokens;
        let prompts = wanted.iter().map(|&i| self.prompt(i, max)).collect::<Result<Vec<_>, _>>()?;
        generator.submit_all(&prompts, self.sampling)?;
        let sampled = self.rewards.judge_each(
            self.threads,
            |send| {
                while generator.is_busy() && !stop.load(Ordering::Relaxed) {
                    for Finished { request, completion, .. } in generator.step(b, model)?.finished {
                        let problem = request.problem as usize;
                        send(Job {
                            key: (problem, request.sample as usize),
                            problem: &self.problems[problem],
                            completion: self.codec.decode(&completion.token_ids)?,
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
        sampled
    }

    fn prompt(&self, problem: usize, max: usize) -> Result<Prompt, InferError> {
        let Problem { id, .. } = &self.problems[problem];
        let ids = self.codec.encode_problem(&self.problems[problem])?;
        if !(1..=max).contains(&ids.len()) {
            return Err(InferError::PromptLength { id: id.clone(), tokens: ids.len(), max });
        }
        Ok(Prompt { ids, problem: problem as u64, samples: self.samples })
    }
}
