//! One update of the policy from examples: forward, loss, backward, AdamW.

use koan_backend::{Backend, OutOfMemory, Scored};
use koan_model::Model;

use super::{
    config::{Nll, Objective},
    examples::Example,
    kto::KtoLoss,
    pair::{PairForm, PairLoss, Reply},
    reward_model::{RankLoss, label_loss},
};
use crate::{
    TrainError,
    comm::Shards,
    gradient::{Group, Loss, Models, PassError, Passes, Scores, deal},
    optim::{NotFinite, OptimConfig, Optimizer},
    stage::Trained,
};

/// An example, and the sums of log-probabilities of its two replies under the reference policy; 0 where there is none.
#[derive(Clone, Copy, Debug)]
pub struct Compared<'a> {
    /// The example.
    pub example: &'a Example,
    /// Σ log π_ref of each reply.
    pub reference: [f64; 2],
}

/// The policy, and all that learning works with.
pub struct Learner<B: Backend> {
    /// The model that is learned.
    pub policy: Model<B>,
    /// Its optimizer.
    pub optimizer: Optimizer<B>,
    passes: Passes<B>,
    objective: Objective,
}

/// What examples say of the policy; means over the examples of an update.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Found {
    /// The loss.
    pub loss: f64,
    /// β times the log-ratio of chosen, or good, replies to the reference policy; or a reward model's score of them.
    pub chosen_reward: f64,
    /// The same of rejected, or bad, replies.
    pub rejected_reward: f64,
    /// Share of pairs whose chosen reply has the larger reward; under a reward model by labels, share of rows whose score has
    /// the sign of their label. None for KTO.
    pub accuracy: Option<f64>,
    /// Sum of log-probabilities of a chosen, or good, reply; 0 under a reward model.
    pub chosen_log_prob: f64,
    /// Of a rejected, or bad, one.
    pub rejected_log_prob: f64,
    /// KTO's z before it is held at 0.
    pub z: Option<f64>,
    /// Tokens of the replies, and of the prompts where they are scored.
    pub tokens: usize,
}

impl<B: Backend> Learner<B> {
    /// A policy that learns in passes of up to `rows` tokens, by updates of `optim`.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn new(
        b: &B,
        policy: Model<B>,
        optimizer: Optimizer<B>,
        objective: Objective,
        rows: usize,
        optim: &OptimConfig,
    ) -> Result<Self, OutOfMemory> {
        let passes = Passes::new(b, policy.config(), rows, optim.purpose(), 1.0, false)?
            .balanced(optimizer.balance.loss);
        Ok(Self { policy, optimizer, passes, objective })
    }

    /// With updates whose gradient is the sum of those of `shards`.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn sharded(self, b: &B, shards: Shards) -> Result<Self, OutOfMemory> {
        let passes = self.passes.sharded(b, self.policy.config(), shards)?;
        Ok(Self { passes, ..self })
    }

    /// What a checkpoint keeps.
    pub fn trained(&self) -> Trained<'_, B> {
        Trained { model: &self.policy, reference: None, optimizer: &self.optimizer }
    }

    /// One update at learning rate `lr`: what the examples said before it, and the norm of the gradient before clipping.
    ///
    /// # Errors
    /// If the loss or the gradient is not finite, or the device refuses memory; the policy is then unchanged.
    ///
    /// # Panics
    /// If an example exceeds the planned rows.
    pub fn update(
        &mut self,
        b: &B,
        examples: &[Compared],
        optim: &OptimConfig,
        lr: f32,
    ) -> Result<(Found, f64), TrainError> {
        self.passes.clear(b);
        let found = self.run(b, examples, true)?;
        if !found.loss.is_finite() {
            return Err(NotFinite { what: "the loss".into(), update: self.optimizer.updates + 1 }.into());
        }
        let norm = self.optimizer.update(b, &mut self.policy, self.passes.gradient(), optim, lr)?;
        Ok((found, norm))
    }

    /// What the examples say; nothing is learned.
    ///
    /// # Errors
    /// If the device refuses memory.
    ///
    /// # Panics
    /// As [`Learner::update`].
    pub fn measure(&mut self, b: &B, examples: &[Compared]) -> Result<Found, PassError> {
        self.run(b, examples, false)
    }

    fn run(&mut self, b: &B, examples: &[Compared], learns: bool) -> Result<Found, PassError> {
        let models = || Models { trained: &self.policy, reference: None };
        match self.objective {
            Objective::Pairs(loss, nll) => {
                let mut pairs = Pairs::new(loss, nll, examples);
                let scored = if nll.scores_prompt() { Scored::PromptsToo } else { Scored::Completions };
                let groups = groups(examples, &[0, 1], scored);
                run(&mut self.passes, b, models(), groups, &mut pairs, learns)?;
                Ok(pairs.found())
            }
            Objective::Rows(loss) => {
                // z first: the loss of each row depends on it.
                let mut sums = LogProbSums::new(examples);
                let others = groups(examples, &[1], Scored::Completions);
                run(&mut self.passes, b, models(), others, &mut sums, false)?;
                let ratios = sums.of.iter().zip(examples).map(|(own, c)| own[1] - c.reference[1]);
                let z = ratios.sum::<f64>() / examples.len() as f64;
                let mut rows = Rows { loss, z, examples, found: Found { z: Some(z), ..Found::default() } };
                let own = groups(examples, &[0], Scored::Completions);
                run(&mut self.passes, b, models(), own, &mut rows, learns)?;
                Ok(rows.found())
            }
            Objective::Rank(loss) => {
                let mut pairs = Ranked { loss, examples, right: 0, found: Found::default() };
                let groups = groups(examples, &[0, 1], Scored::Ends);
                run(&mut self.passes, b, models(), groups, &mut pairs, learns)?;
                Ok(means(pairs.found, pairs.right, examples.len()))
            }
            Objective::Labels => {
                let mut rows = Labelled { examples, right: 0, found: Found::default() };
                let groups = groups(examples, &[0], Scored::Ends);
                run(&mut self.passes, b, models(), groups, &mut rows, learns)?;
                let accuracy = Some(rows.right as f64 / examples.len().max(1) as f64);
                Ok(Found { accuracy, ..means_by_label(rows.found, examples) })
            }
        }
    }
}

fn run<B: Backend>(
    passes: &mut Passes<B>,
    b: &B,
    models: Models<B>,
    mut groups: Vec<Group>,
    loss: &mut impl Loss,
    learns: bool,
) -> Result<(), PassError> {
    deal(&mut groups, passes.shards().count());
    if learns {
        passes.accumulate(b, models, &groups, loss)
    } else {
        passes.measure(b, models, &groups, loss)
    }
}

/// The replies of `which` of the examples, each a group; reply `j` of example `i` has the number 2i + j.
fn groups<'a>(examples: &[Compared<'a>], which: &[usize], scored: Scored) -> Vec<Group<'a>> {
    let group = |(i, c): (usize, &Compared<'a>)| Group {
        prompt: &c.example.prompt,
        scored,
        shard: 0,
        completions: which.iter().map(|&j| (2 * i + j, &c.example.replies[j][..])).collect(),
    };
    examples.iter().enumerate().map(group).collect()
}

/// Sums of log-probabilities of replies: a loss that nothing is learned by.
pub(super) struct LogProbSums<'a> {
    examples: &'a [Compared<'a>],
    /// By example; 0 where a reply was not scored.
    pub(super) of: Vec<[f64; 2]>,
}

impl<'a> LogProbSums<'a> {
    fn new(examples: &'a [Compared<'a>]) -> Self {
        Self { examples, of: vec![[0.0; 2]; examples.len()] }
    }

    /// Those of both replies of each example, under the model that `passes` are for.
    ///
    /// # Errors
    /// If the device refuses memory.
    pub(super) fn under<B: Backend>(
        b: &B,
        model: &Model<B>,
        passes: &mut Passes<B>,
        examples: &'a [Compared<'a>],
    ) -> Result<Vec<[f64; 2]>, PassError> {
        let mut sums = Self::new(examples);
        let models = Models { trained: model, reference: None };
        run(passes, b, models, groups(examples, &[0, 1], Scored::Completions), &mut sums, false)?;
        Ok(sums.of)
    }
}

impl Loss for LogProbSums<'_> {
    fn derivative(&mut self, completions: &[usize], scores: &Scores) -> Vec<f64> {
        let mut rest = scores.log_probs;
        for &number in completions {
            let (i, j) = (number / 2, number % 2);
            let (own, after) = rest.split_at(self.examples[i].example.replies[j].len());
            (self.of[i][j], rest) = (own.iter().sum::<f64>(), after);
        }
        vec![0.0; scores.log_probs.len()]
    }

    fn take(&mut self) -> Vec<f64> {
        let fresh = vec![[0.0; 2]; self.of.len()];
        std::mem::replace(&mut self.of, fresh).as_flattened().to_vec()
    }

    fn add(&mut self, found: &[f64]) {
        // A reply lies in one shard; those of others are 0 in it.
        self.of.as_flattened_mut().iter_mut().zip(found).for_each(|(sum, x)| *sum += x);
    }
}

/// The loss of pairs over the examples of an update.
struct Pairs<'a> {
    loss: PairLoss,
    nll: Nll,
    /// Tokens that the added negative log-probability is a mean of.
    nll_tokens: usize,
    examples: &'a [Compared<'a>],
    right: usize,
    found: Found,
}

impl<'a> Pairs<'a> {
    fn new(loss: PairLoss, nll: Nll, examples: &'a [Compared<'a>]) -> Self {
        let prompt = |c: &Compared| if nll.scores_prompt() { c.example.prompt.len() - 1 } else { 0 };
        let nll_tokens = examples.iter().map(|c| prompt(c) + c.example.replies[0].len()).sum();
        Self { loss, nll, nll_tokens, examples, right: 0, found: Found::default() }
    }

    /// β times what the loss compares: the log-ratio to the reference policy, or where there is none the log-probability,
    /// per token where the loss has it so.
    fn reward(&self, reply: &Reply) -> f64 {
        let per_token = matches!(self.loss.form, PairForm::Simpo | PairForm::Orpo);
        self.loss.beta * reply.ratio() / if per_token { reply.tokens as f64 } else { 1.0 }
    }

    fn found(self) -> Found {
        means(self.found, self.right, self.examples.len())
    }
}

impl Found {
    /// Its sums, with how many of the examples were `right`; those are none then.
    fn take(&mut self, right: &mut usize) -> Vec<f64> {
        let Self { loss, chosen_reward, rejected_reward, chosen_log_prob, rejected_log_prob, tokens, .. } =
            self;
        let sums = [loss, chosen_reward, rejected_reward, chosen_log_prob, rejected_log_prob];
        let counts = [tokens, right].map(|n| std::mem::take(n) as f64);
        sums.into_iter().map(std::mem::take).chain(counts).collect()
    }

    /// Adds what was taken.
    fn add(&mut self, right: &mut usize, found: &[f64]) {
        let Self { loss, chosen_reward, rejected_reward, chosen_log_prob, rejected_log_prob, tokens, .. } =
            self;
        let sums = [loss, chosen_reward, rejected_reward, chosen_log_prob, rejected_log_prob];
        let n = sums.len();
        sums.into_iter().zip(found).for_each(|(sum, x)| *sum += x);
        for (count, x) in [tokens, right].into_iter().zip(&found[n..]) {
            *count += *x as usize;
        }
    }
}

/// Sums over `n` pairs become means.
fn means(mut found: Found, right: usize, n: usize) -> Found {
    let n = n.max(1) as f64;
    let Found { loss, chosen_reward, rejected_reward, chosen_log_prob, rejected_log_prob, .. } = &mut found;
    for sum in [loss, chosen_reward, rejected_reward, chosen_log_prob, rejected_log_prob] {
        *sum /= n;
    }
    Found { accuracy: Some(right as f64 / n), ..found }
}

/// Sums become means, those of good and of bad replies over the rows of each kind.
fn means_by_label(mut found: Found, examples: &[Compared]) -> Found {
    let good = examples.iter().filter(|c| c.example.good).count();
    let bad = examples.len() - good;
    found.loss /= examples.len().max(1) as f64;
    for (sum, n) in [
        (&mut found.chosen_reward, good),
        (&mut found.chosen_log_prob, good),
        (&mut found.rejected_reward, bad),
        (&mut found.rejected_log_prob, bad),
    ] {
        *sum /= n.max(1) as f64;
    }
    found
}

impl Loss for Pairs<'_> {
    fn unit(&self) -> usize {
        2
    }

    fn derivative(&mut self, completions: &[usize], scores: &Scores) -> Vec<f64> {
        let n = self.examples.len() as f64;
        let nll = self.nll.weight / self.nll_tokens as f64;
        let mut d_log_probs = Vec::with_capacity(scores.log_probs.len());
        let mut rest = scores.log_probs;
        let mut take = |n: usize| {
            let (now, later) = rest.split_at(n);
            rest = later;
            now
        };
        for pair in completions.chunks(2) {
            let Compared { example, reference } = self.examples[pair[0] / 2];
            let prompt = take(if self.nll.scores_prompt() { example.prompt.len() - 1 } else { 0 });
            let [chosen, rejected] = [0, 1].map(|j| {
                let log_probs = take(example.replies[j].len());
                Reply {
                    log_prob: log_probs.iter().sum::<f64>(),
                    reference: reference[j],
                    tokens: log_probs.len(),
                }
            });
            let slope = self.loss.of(&chosen, &rejected);
            let learned = prompt.iter().sum::<f64>() + chosen.log_prob;
            d_log_probs.extend(prompt.iter().map(|_| -nll));
            for (by_token, reply) in [(slope.chosen / n - nll, chosen), (slope.rejected / n, rejected)] {
                d_log_probs.resize(d_log_probs.len() + reply.tokens, by_token);
            }
            let [good, bad] = [self.reward(&chosen), self.reward(&rejected)];
            self.right += usize::from(good > bad);
            let found = &mut self.found;
            found.loss += slope.loss - n * nll * learned;
            found.chosen_reward += good;
            found.rejected_reward += bad;
            found.chosen_log_prob += chosen.log_prob;
            found.rejected_log_prob += rejected.log_prob;
        }
        self.found.tokens += scores.log_probs.len();
        d_log_probs
    }

    fn take(&mut self) -> Vec<f64> {
        self.found.take(&mut self.right)
    }

    fn add(&mut self, found: &[f64]) {
        self.found.add(&mut self.right, found);
    }
}

/// KTO's loss over the rows of an update.
struct Rows<'a> {
    loss: KtoLoss,
    /// Before it is held at 0.
    z: f64,
    examples: &'a [Compared<'a>],
    found: Found,
}

impl Rows<'_> {
    fn found(self) -> Found {
        means_by_label(self.found, self.examples)
    }
}

/// A reward model's loss over the pairs of an update.
struct Ranked<'a> {
    loss: RankLoss,
    examples: &'a [Compared<'a>],
    right: usize,
    found: Found,
}

impl Loss for Ranked<'_> {
    fn unit(&self) -> usize {
        2
    }

    fn derivative(&mut self, completions: &[usize], scores: &Scores) -> Vec<f64> {
        let n = self.examples.len() as f64;
        let mut d_scores = Vec::with_capacity(completions.len());
        for (pair, scores) in completions.chunks(2).zip(scores.scores.chunks(2)) {
            let example = self.examples[pair[0] / 2].example;
            let (chosen, rejected) = (scores[0], scores[1]);
            let [loss, by_chosen, by_rejected] = self.loss.of(chosen, rejected, example.margin);
            d_scores.extend([by_chosen / n, by_rejected / n]);
            self.right += usize::from(chosen > rejected);
            self.found.loss += loss;
            self.found.chosen_reward += chosen;
            self.found.rejected_reward += rejected;
            self.found.tokens += example.replies.iter().map(Vec::len).sum::<usize>();
        }
        d_scores
    }

    fn take(&mut self) -> Vec<f64> {
        self.found.take(&mut self.right)
    }

    fn add(&mut self, found: &[f64]) {
        self.found.add(&mut self.right, found);
    }
}

/// A reward model's loss over the labelled rows of an update.
struct Labelled<'a> {
    examples: &'a [Compared<'a>],
    right: usize,
    found: Found,
}

impl Loss for Labelled<'_> {
    fn derivative(&mut self, completions: &[usize], scores: &Scores) -> Vec<f64> {
        let n = self.examples.len() as f64;
        let mut d_scores = Vec::with_capacity(completions.len());
        for (&number, &score) in completions.iter().zip(scores.scores) {
            let example = self.examples[number / 2].example;
            let [loss, by_score] = label_loss(example.good, score);
            d_scores.push(by_score / n);
            self.right += usize::from((score > 0.0) == example.good);
            self.found.loss += loss;
            self.found.tokens += example.replies[0].len();
            *if example.good { &mut self.found.chosen_reward } else { &mut self.found.rejected_reward } +=
                score;
        }
        d_scores
    }

    fn take(&mut self) -> Vec<f64> {
        self.found.take(&mut self.right)
    }

    fn add(&mut self, found: &[f64]) {
        self.found.add(&mut self.right, found);
    }
}

impl Loss for Rows<'_> {
    fn derivative(&mut self, completions: &[usize], scores: &Scores) -> Vec<f64> {
        let n = self.examples.len() as f64;
        let mut d_log_probs = Vec::with_capacity(scores.log_probs.len());
        let mut rest = scores.log_probs;
        for &number in completions {
            let Compared { example, reference } = self.examples[number / 2];
            let (own, after) = rest.split_at(example.replies[0].len());
            rest = after;
            let (log_prob, found) = (own.iter().sum::<f64>(), &mut self.found);
            let ratio = log_prob - reference[0];
            let [loss, slope] = self.loss.of(example.good, ratio, self.z.max(0.0));
            d_log_probs.resize(d_log_probs.len() + own.len(), slope / n);
            found.loss += loss;
            let (reward, log_probs) = if example.good {
                (&mut found.chosen_reward, &mut found.chosen_log_prob)
            } else {
                (&mut found.rejected_reward, &mut found.rejected_log_prob)
            };
            *reward += self.loss.beta * ratio;
            *log_probs += log_prob;
        }
        self.found.tokens += scores.log_probs.len();
        d_log_probs
    }

    fn take(&mut self) -> Vec<f64> {
        self.found.take(&mut 0)
    }

    fn add(&mut self, found: &[f64]) {
        self.found.add(&mut 0, found);
    }
}
