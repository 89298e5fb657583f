//! Completions of problems, written and judged.

use std::ops::Range;

use koan_data::Problem;
use koan_generate::{Completion, FinishReason};
use koan_reward::{Job, Judgement, Models, Rewards, Unsettled, form::problem_language::language_of};
use koan_text::TextError;

use crate::{TrainError, rl::Said};

/// The completions of one problem.
pub struct Group {
    /// Its problem's place in the data.
    pub problem: usize,
    /// The language of the problem, where it has one.
    pub language: Option<&'static str>,
    /// What the prompt ends with that opens the thinking, such as `<think>` and a line end; none if it opens none.
    pub opened: Option<String>,
    /// The completions, in the order of their numbers.
    pub samples: Vec<Answer>,
}

/// A completion, and what was judged of it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its text, without special tokens.
    pub text: String,
    /// How many tokens it has.
    pub tokens: usize,
    /// Whether it was cut before its end.
    pub truncated: bool,
    /// Its tokens, if it was sampled here.
    pub sampled: Option<Completion>,
    /// What the rewards say of it.
    pub judgement: Judgement,
}

impl Answer {
    /// As a line of `rollouts/` says it.
    pub(super) fn said(&self) -> Said<'_> {
        Said {
            text: &self.text,
            tokens: self.tokens,
            finish_reason: if self.truncated { FinishReason::Length } else { FinishReason::Stop },
            sampled: self.sampled.as_ref(),
            judgement: &self.judgement,
            advantage: None,
        }
    }
}

/// Of which problems completions are written, and who judges them.
pub(super) struct Asked<'a> {
    /// The problems. A problem's place among them keys its random numbers.
    pub(super) problems: &'a [Problem],
    /// Completions of each.
    pub(super) samples: usize,
    /// Who judges; none: nobody.
    pub(super) rewards: Option<&'a Rewards>,
    /// On how many threads.
    pub(super) threads: usize,
    /// The models that rewards ask.
    pub(super) models: &'a dyn Models,
}

/// Whose completion it is, and its tokens, if it was sampled here.
pub(super) struct Key {
    /// The problem's place in the data.
    pub(super) problem: usize,
    /// The completion's number.
    pub(super) sample: u64,
    pub(super) sampled: Option<Completion>,
}

impl<'p> Asked<'p> {
    /// Judges the completions of the problems at the places `wanted` while `write` makes them; `opened` says what a problem's prompt opens.
    ///
    /// # Errors
    /// If `write` fails, or a model that judges can't be asked.
    pub(super) fn collect(
        &self,
        wanted: Range<usize>,
        write: impl FnOnce(&mut dyn FnMut(Job<'p, Key>)) -> Result<(), TrainError>,
        opened: impl Fn(usize) -> Result<Option<String>, TextError>,
    ) -> Result<Vec<Group>, TrainError> {
        let (written, mut judged) = if let Some(rewards) = self.rewards {
            rewards.judge_while(self.threads, write)
        } else {
            let mut all = Vec::new();
            let nothing = || Judgement { terms: Vec::new(), reward: None };
            let written = write(&mut |job| all.push((job, nothing())));
            (written, all)
        };
        written?;
        judged.sort_by_key(|(job, _)| (job.key.problem, job.key.sample));
        if let Some(rewards) = self.rewards.filter(|rewards| rewards.asks_models()) {
            let mut unsettled: Vec<Unsettled> = judged
                .iter_mut()
                .map(|(job, judgement)| Unsettled { sample: job.sample(), group: job.key.problem, judgement })
                .collect();
            rewards.settle(self.models, &mut unsettled, true)?;
        }
        let mut answers = judged.into_iter().map(|(job, judgement)| Answer {
            text: job.completion,
            tokens: job.tokens,
            truncated: job.truncated,
            sampled: job.key.sampled,
            judgement,
        });
        wanted
            .map(|problem| {
                let language = language_of(&self.problems[problem]).ok();
                let samples = answers.by_ref().take(self.samples).collect();
                Ok(Group { problem, language, opened: opened(problem)?, samples })
            })
            .collect()
    }
}
