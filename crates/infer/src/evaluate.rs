//! Samples completions for every problem, and judges them while others are sampled.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use koan_backend::Backend;
use koan_data::Problem;
use koan_eval::Judged;
use koan_generate::{FinishReason, Finished, Generator, Prompt, Sampling};
use koan_model::Model;
use koan_reward::{Job, Judgement, Models, Rewards, Unsettled};

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
    /// The models that rewards ask.
    pub models: &'a dyn Models,
}

/// Completions that models are asked about together, at least, unless they are the last.
const ASKED_TOGETHER: usize = 64;

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
    /// sample as it is judged: in no particular order, one at a time, on whichever thread judged it; where rewards ask models,
    /// those of some problems together, when all of each are there. What is sampled depends on no other problem. Once `stop`
    /// is set, whatever is not whole is given up.
    ///
    /// # Errors
    /// If a prompt can't be encoded, or does not fit the generator, or a completion can't be decoded, or models can't be asked.
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
        let waiting = Mutex::new(Vec::new());
        let mut asked = Asked { evaluation: self, whole: HashMap::new(), ready: Vec::new() };
        let asks = self.rewards.asks_models();
        let each = Mutex::new(&mut each);
        let hand_over = |job: &Job<Key>, judgement: &Judgement| {
            let (problem, sample) = job.key;
            let judged = Judged::of(&job.completion, judgement, job.tokens, job.truncated);
            locked(&each)(problem, sample, judged);
        };
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
                            step: None,
                        });
                    }
                    if asks {
                        asked.take(std::mem::take(&mut *locked(&waiting)));
                        asked.settle(ASKED_TOGETHER, hand_over)?;
                    }
                }
                Ok(())
            },
            |job, judgement| {
                if asks { locked(&waiting).push((job, judgement)) } else { hand_over(&job, &judgement) }
            },
        );
        generator.cancel_all();
        if sampled.is_ok() && asks && !stop.load(Ordering::Relaxed) {
            asked.take(std::mem::take(&mut *locked(&waiting)));
            asked.settle(1, hand_over)?;
        }
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

/// Problem and sample.
type Key = (usize, usize);

/// Completions that verifiers have judged, and that models are asked about when all those of a problem are there.
struct Asked<'e, 'p> {
    evaluation: &'e Evaluation<'p>,
    /// Those of problems that are not whole.
    whole: HashMap<usize, Vec<(Job<'p, Key>, Judgement)>>,
    /// Those of problems that are.
    ready: Vec<(Job<'p, Key>, Judgement)>,
}

impl<'p> Asked<'_, 'p> {
    fn take(&mut self, judged: Vec<(Job<'p, Key>, Judgement)>) {
        for (job, judgement) in judged {
            let problem = job.key.0;
            let group = self.whole.entry(problem).or_default();
            group.push((job, judgement));
            if group.len() == self.evaluation.samples {
                self.ready.extend(self.whole.remove(&problem).unwrap_or_default());
            }
        }
    }

    /// Asks about those that are ready, if they are at least so many, and hands them over.
    fn settle(&mut self, least: usize, hand_over: impl Fn(&Job<Key>, &Judgement)) -> Result<(), InferError> {
        if self.ready.len() < least {
            return Ok(());
        }
        let mut ready = std::mem::take(&mut self.ready);
        ready.sort_by_key(|(job, _)| job.key);
        let mut all: Vec<Unsettled> = ready
            .iter_mut()
            .map(|(job, judgement)| Unsettled { sample: job.sample(), group: job.key.0, judgement })
            .collect();
        self.evaluation.rewards.settle(self.evaluation.models, &mut all, false)?;
        drop(all);
        for (job, judgement) in &ready {
            hand_over(job, judgement);
        }
        Ok(())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
