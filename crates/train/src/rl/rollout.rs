//! The completions of a step: sampled, judged, compared within their groups.

use std::time::Instant;

use koan_backend::Backend;
use koan_generate::{Completion, Counters, FinishReason, Finished, Generator, Prompt, Stream, uniform};
use koan_reward::{Job, Judgement, Unsettled};
use serde::{Deserialize, Serialize};

use super::{Event, Trainer};
use crate::{TrainError, comm::CommError};

/// Words that say a model looks back on what it wrote (the list of arXiv:2501.12948, appendix C.2).
const REFLECTION_WORDS: [&str; 10] =
    ["wait", "mistake", "however", "but", "retry", "error", "verify", "wrong", "evaluate", "check"];

/// A completion with all that a step finds out about it.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its tokens.
    pub completion: Completion,
    /// Its text, without special tokens.
    pub text: String,
    /// What the rewards say of it.
    pub judgement: Judgement,
    /// None: it takes no part in an update.
    pub advantage: Option<f32>,
}

/// What all ranks know of a completion, whichever of them made it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) judgement: Judgement,
    pub(super) tokens: usize,
    /// Whether it was cut at `max_new_tokens`.
    pub(super) cut: bool,
    pub(super) reflection_words: usize,
}

impl From<&Sample> for Seen {
    fn from(sample: &Sample) -> Self {
        Self {
            judgement: sample.judgement.clone(),
            tokens: sample.completion.token_ids.len(),
            cut: sample.completion.finish_reason == FinishReason::Length,
            reflection_words: reflection_words(&sample.text),
        }
    }
}

/// The completions of one problem.
pub(super) struct Group {
    /// Its problem's place in the data.
    pub(super) problem: usize,
    pub(super) seen: Vec<Seen>,
    /// The completions; none on ranks that did not make them.
    pub(super) samples: Vec<Sample>,
}

impl Group {
    /// The rewards that were decided.
    pub(super) fn rewards(&self) -> impl Iterator<Item = f32> {
        self.seen.iter().filter_map(|s| s.judgement.reward)
    }

    /// Whether two of its completions earned differently: else there is nothing to compare, and nothing to learn.
    pub(super) fn has_spread(&self) -> bool {
        let mut rewards = self.rewards();
        let first = rewards.next();
        rewards.any(|reward| Some(reward) != first)
    }
}

/// What a step sampled.
#[derive(Default)]
pub(super) struct Rollouts {
    /// In the order in which they were sampled.
    pub(super) groups: Vec<Group>,
    /// Those that are learned from, by their places in `groups`.
    pub(super) learned: Vec<usize>,
    pub(super) rounds: usize,
    pub(super) generate_s: f64,
    /// What was computed to sample them.
    pub(super) counters: Counters,
}

impl Rollouts {
    /// What a reward says of the first completion that it did not decide, if there is one.
    pub(super) fn why_undecided(&self) -> Option<String> {
        let samples = self.groups.iter().flat_map(|group| &group.seen);
        let mut masked = samples.flat_map(|s| &s.judgement.terms).filter(|term| term.score.is_none());
        masked.next().map(|term| format!("`{}`: {}", term.name, term.reason))
    }
}

impl<B: Backend> Trainer<'_, B> {
    /// Samples the groups of a step, and compares the completions of each. With dynamic sampling (DAPO, arXiv:2503.14476,
    /// §3.2) those without spread are left out, and others sampled in rounds of `rollout.problems` until there are that
    /// many with spread, or the rounds are over; what the last round samples beyond that is left out too. The paper asks
    /// for groups neither all right nor all wrong; here, for groups that did not all earn the same.
    pub(super) fn sample(&mut self, step: u64, on: &mut impl FnMut(Event)) -> Result<Rollouts, TrainError> {
        let (wanted, algorithm) = (self.config.rollout.problems, &self.config.algorithm);
        let pieces = algorithm.pieces();
        let rounds = if pieces.dynamic_sampling { algorithm.max_rounds() } else { 1 };
        let mut rollouts = Rollouts::default();
        let mut generator = Generator::new(self.b, self.inputs.codec.config(), self.inputs.plan.limits)?;
        while rollouts.rounds < rounds && rollouts.learned.len() < wanted {
            rollouts.rounds += 1;
            self.round(step, &mut generator, &mut rollouts, on)?;
            for place in rollouts.groups.len() - wanted..rollouts.groups.len() {
                let group = &mut rollouts.groups[place];
                if pieces.dynamic_sampling && (!group.has_spread() || rollouts.learned.len() == wanted) {
                    continue;
                }
                let rewards: Vec<_> = group.seen.iter().map(|s| s.judgement.reward).collect();
                for (sample, advantage) in group.samples.iter_mut().zip(pieces.advantage.of(&rewards)) {
                    let cut = sample.completion.finish_reason == FinishReason::Length;
                    sample.advantage = advantage.filter(|_| !(cut && pieces.mask_truncated));
                }
                rollouts.learned.push(place);
            }
        }
        rollouts.counters = self.of_all(generator.counters())?;
        Ok(rollouts)
    }

    /// Samples and judges a group for each of the next problems; each rank those that are its own.
    fn round(
        &mut self,
        step: u64,
        generator: &mut Generator<B>,
        rollouts: &mut Rollouts,
        on: &mut impl FnMut(Event),
    ) -> Result<(), TrainError> {
        let start = Instant::now();
        let group_size = self.config.rollout.group_size;
        let chosen = self.chosen(self.config.rollout.problems);
        // Random numbers are keyed by the place in the step, so that a problem that comes twice is sampled twice.
        let before = rollouts.groups.len();
        let prompt = |(place, &i): (usize, &usize)| Prompt {
            ids: self.inputs.prompts[i].clone(),
            problem: (before + place) as u64,
            samples: group_size,
        };
        let is_own = |place: usize| self.shards.owns(before + place);
        let own = chosen.iter().enumerate().filter(|(place, _)| is_own(*place));
        let prompts: Vec<Prompt> = own.map(prompt).collect();
        self.sampling.stream = Stream::Rollout { step };
        let made: usize = rollouts.groups.iter().map(|group| group.samples.len()).sum();
        let of = made + prompts.len() * group_size;
        let (mut done, mut failed) = (made, None);
        let policy = self.learner.packed(self.b)?;
        let (generate_s, mut judged) = self.inputs.rewards.judge_while(self.threads, |send| {
            let run = generator.run(self.b, policy, &prompts, &self.sampling, |finished| {
                let Finished { request, completion, .. } = finished;
                let place = request.problem as usize - before;
                done += 1;
                on(Event::Completed { done, of });
                match self.inputs.codec.decode(&completion.token_ids) {
                    Err(e) => failed = Some(e),
                    Ok(text) => send(Job {
                        problem: &self.inputs.problems[chosen[place]],
                        completion: text,
                        tokens: completion.token_ids.len(),
                        truncated: completion.finish_reason == FinishReason::Length,
                        step: Some(step),
                        key: (place, request.sample, completion),
                    }),
                }
            });
            run.map(|_| start.elapsed().as_secs_f64())
        });
        if let Some(e) = failed {
            return Err(e.into());
        }
        judged.sort_by_key(|(job, _)| (job.key.0, job.key.1));
        if self.inputs.rewards.asks_models() {
            let mut unsettled: Vec<Unsettled> = judged
                .iter_mut()
                .map(|(job, judgement)| Unsettled { sample: job.sample(), group: job.key.0, judgement })
                .collect();
            self.inputs.rewards.settle(&self.models, &mut unsettled, true)?;
        }
        let mut samples = judged.into_iter().map(|(job, judgement)| {
            let (_, _, completion) = job.key;
            Sample { completion, text: job.completion, judgement, advantage: None }
        });
        let groups = chosen.into_iter().enumerate().map(|(place, problem)| {
            let samples =
                if is_own(place) { samples.by_ref().take(group_size).collect() } else { Vec::new() };
            Group { problem, seen: samples.iter().map(Seen::from).collect(), samples }
        });
        let mut groups: Vec<Group> = groups.collect();
        self.tell_others(&mut groups)?;
        rollouts.groups.extend(groups);
        rollouts.generate_s += generate_s?;
        Ok(())
    }

    /// What the generators of all ranks counted.
    fn of_all(&self, own: Counters) -> Result<Counters, CommError> {
        let Counters { passes, rows, tokens, drafted, kept, preemptions } = own;
        let [passes, rows, tokens, drafted, kept, preemptions] =
            self.shards.ranks().count([passes, rows, tokens, drafted, kept, preemptions])?;
        Ok(Counters { passes, rows, tokens, drafted, kept, preemptions })
    }

    /// Tells all ranks what is to be known of the completions that this one made.
    fn tell_others(&self, groups: &mut [Group]) -> Result<(), CommError> {
        let ranks = self.shards.ranks();
        if !ranks.are_several() {
            return Ok(());
        }
        ranks.meet()?;
        let own = groups.iter().enumerate().filter(|(_, group)| !group.samples.is_empty());
        let own: Vec<(usize, &[Seen])> = own.map(|(place, group)| (place, &group.seen[..])).collect();
        let all: Vec<Vec<(usize, Vec<Seen>)>> = ranks.all_gather(&own)?;
        for (place, seen) in all.into_iter().flatten() {
            groups[place].seen = seen;
        }
        Ok(())
    }

    /// The next `k` problems: the data in an order of its own each epoch.
    fn chosen(&mut self, k: usize) -> Vec<usize> {
        let (n, first) = (self.inputs.problems.len() as u64, self.cursor);
        self.cursor += k as u64;
        let mut order: (u64, Vec<usize>) = (u64::MAX, Vec::new());
        (first..self.cursor)
            .map(|i| {
                let epoch = i / n;
                if order.0 != epoch {
                    let key = |p: &usize| {
                        uniform(self.config.stage.seed, Stream::ProblemOrder, epoch, *p as u64, 0)
                    };
                    let mut all: Vec<usize> = (0..n as usize).collect();
                    all.sort_by(|a, b| key(a).total_cmp(&key(b)));
                    order = (epoch, all);
                }
                order.1[(i % n) as usize]
            })
            .collect()
    }
}

fn reflection_words(text: &str) -> usize {
    let words = text.split(|c: char| !c.is_alphabetic());
    words.filter(|word| REFLECTION_WORDS.iter().any(|r| r.eq_ignore_ascii_case(word))).count()
}
