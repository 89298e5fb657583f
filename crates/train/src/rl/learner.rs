//! One update of the policy from completions and their advantages: forward, loss, backward, AdamW.

use koan_backend::{Backend, OutOfMemory, Scored};
use koan_generate::Completion;
use koan_model::{Gradient, Model, Purpose, Role, TensorInfo};

use super::policy_loss::{Counts, Credit, PolicyLoss, Tokens};
use crate::{
    TrainError,
    comm::{CommError, Shards},
    gradient::{Group, Loss, Models, PassError, Passes, Scores},
    optim::{NotFinite, OptimConfig, Optimizer},
    stage::Trained,
};

/// The completions of one problem, with what they are learned by.
#[derive(Clone, Debug)]
pub struct ScoredGroup<'a> {
    /// The prompt's tokens.
    pub prompt: &'a [u32],
    /// Its place among the groups of its step: they are dealt to shards in turn, since who draws one does not know its length.
    pub place: usize,
    /// Each completion and what it is learned by; `None`: not decided, no part of the update.
    pub completions: Vec<(&'a Completion, Option<Credit<'a>>)>,
}

/// The policy, and all that learning works with. What an update alone needs, its gradient and the memory of its passes,
/// lives as long as the update: else it would lie idle beside the cache and the packed weights that rollouts need.
pub struct Learner<B: Backend> {
    /// The model that is learned.
    pub policy: Model<B>,
    /// Its optimizer.
    pub optimizer: Optimizer<B>,
    /// The model that β holds the policy to.
    reference: Option<Model<B>>,
    loss: PolicyLoss,
    temperature: f32,
    rows: usize,
    purpose: Purpose,
    shards: Shards,
}

/// What an update found out about the tokens it learned from; sums.
#[derive(Clone, Copy, Debug, Default)]
pub struct UpdateSums {
    /// The loss, weighted as in the objective.
    pub loss: f64,
    /// k3 estimates of the divergence from the reference.
    pub kl: f64,
    /// Entropies of the distributions the tokens were sampled from, nats.
    pub entropy: f64,
    /// Tokens whose gradient the clip stopped.
    pub clipped: usize,
    /// Tokens learned from.
    pub tokens: usize,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Largest |sampled − recomputed| log-probability.
    pub log_prob_gap: f32,
}

impl<B: Backend> Learner<B> {
    /// A learner whose passes have up to `rows` tokens, and are for `purpose`: [`Purpose::Training`] or
    /// [`Purpose::Recomputing`]. `reference` is needed if β is not 0.
    pub fn new(
        policy: Model<B>,
        reference: Option<Model<B>>,
        optimizer: Optimizer<B>,
        loss: PolicyLoss,
        temperature: f32,
        rows: usize,
        purpose: Purpose,
    ) -> Self {
        Self {
            policy,
            optimizer,
            reference,
            loss,
            temperature,
            rows,
            purpose,
            shards: Shards::of_one_rank(1),
        }
    }

    /// With updates whose gradient is the sum of those of `shards`.
    #[must_use]
    pub fn sharded(self, shards: Shards) -> Self {
        Self { shards, ..self }
    }

    /// The policy, ready for rollouts: what its products read is packed, until the next update.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn packed(&mut self, b: &B) -> Result<&Model<B>, OutOfMemory> {
        self.policy.pack(b)?;
        Ok(&self.policy)
    }

    /// One update at learning rate `lr` by these groups, which are this rank's of the update. All decided completions share one denominator, whatever passes they are cut into;
    /// those of zero advantage are not computed where nothing of theirs would enter the gradient. Those not decided leave
    /// no trace; where none is, there is no update.
    ///
    /// # Errors
    /// If the loss or the gradient is not finite; the policy is then unchanged.
    pub fn update(
        &mut self,
        b: &B,
        groups: &[ScoredGroup],
        optim: &OptimConfig,
        lr: f32,
    ) -> Result<UpdateSums, TrainError> {
        let counts = self.count(groups)?;
        if counts.completions == 0 {
            return Ok(UpdateSums::default());
        }
        self.policy.unpack(b);
        let (mut sums, gradient) = self.accumulate(b, groups, counts)?;
        if !sums.loss.is_finite() {
            return Err(NotFinite { what: "the loss".into(), update: self.optimizer.updates + 1 }.into());
        }
        sums.grad_norm = self.optimizer.update(b, &mut self.policy, &gradient, optim, lr)?;
        Ok(sums)
    }

    /// What a checkpoint keeps; of the reference policy only one that was `refreshed`.
    pub fn trained(&self, refreshed: bool) -> Trained<'_, B> {
        let reference = self.reference.as_ref().filter(|_| refreshed);
        Trained { model: &self.policy, reference, optimizer: &self.optimizer }
    }

    /// Makes the reference policy, if there is one, a copy of the policy.
    pub fn refresh_reference(&mut self, b: &B) {
        let Some(reference) = &mut self.reference else { return };
        let is_shared = self.policy.config().adapter.is_some();
        let changes = |info: &TensorInfo| info.trained || (info.role == Role::RouterBias && !is_shared);
        let trained = self.policy.weights.tensors().filter(|from| changes(from.info()));
        let tensors = reference.weights.tensors_mut().filter(|to| changes(to.info()));
        for (to, from) in tensors.zip(trained) {
            b.copy(to.value_mut(), from.value(), from.info().len());
            to.repack(b);
        }
    }

    /// How much is learned from, over all ranks.
    fn count(&self, groups: &[ScoredGroup]) -> Result<Counts, CommError> {
        let completions = groups.iter().flat_map(|group| &group.completions);
        let decided: Vec<usize> =
            completions.filter(|(_, credit)| credit.is_some()).map(|(c, _)| c.token_ids.len()).collect();
        let [completions, tokens] = self.shards.ranks().count([decided.len(), decided.iter().sum()])?;
        Ok(Counts { completions, tokens })
    }

    /// The gradient of the loss over `groups`, and what was found out on the way.
    fn accumulate(
        &self,
        b: &B,
        groups: &[ScoredGroup],
        counts: Counts,
    ) -> Result<(UpdateSums, Gradient<B>), PassError> {
        let decided: Vec<(&Completion, Credit)> = groups
            .iter()
            .flat_map(|g| g.completions.iter().filter_map(|&(c, credit)| Some((c, credit?))))
            .collect();
        let mut number = 0..;
        let groups: Vec<Group> = groups
            .iter()
            .map(|g| {
                let learned = g.completions.iter().filter_map(|&(c, credit)| {
                    let (credit, number) = (credit?, number.next()?);
                    (!credit.is_zero() || self.loss.kl != 0.0).then_some((number, &c.token_ids[..]))
                });
                Group {
                    prompt: g.prompt,
                    scored: Scored::Completions,
                    shard: self.shards.in_turn(g.place),
                    completions: learned.collect(),
                }
            })
            .collect();

        let models = Models { trained: &self.policy, reference: self.reference.as_ref() };
        let (config, reference) = (self.policy.config(), models.reference.is_some());
        let passes = Passes::new(b, config, self.rows, self.purpose, self.temperature, reference)?;
        let passes = passes.balanced(self.optimizer.balance.loss);
        let mut passes = passes.sharded(b, config, self.shards.clone())?;
        let mut update = Update { loss: &self.loss, decided, counts, sums: UpdateSums::default() };
        passes.accumulate(b, models, &groups, &mut update)?;
        Ok((update.sums, passes.into_gradient()))
    }
}

/// The policy loss over the completions of an update.
struct Update<'a> {
    loss: &'a PolicyLoss,
    /// Completions with what they are learned by, by their numbers.
    decided: Vec<(&'a Completion, Credit<'a>)>,
    counts: Counts,
    sums: UpdateSums,
}

impl Loss for Update<'_> {
    fn derivative(&mut self, completions: &[usize], scores: &Scores) -> Vec<f64> {
        let (sums, mut d_log_probs) = (&mut self.sums, Vec::with_capacity(scores.log_probs.len()));
        for &number in completions {
            let (completion, credit) = self.decided[number];
            let old = &completion.log_probs[..];
            let range = d_log_probs.len()..d_log_probs.len() + old.len();
            let log_probs = &scores.log_probs[range.clone()];
            let tokens = Tokens { log_probs, old, reference: scores.reference.map(|r| &r[range]) };
            let share = self.loss.completion(tokens, credit, self.counts, &mut d_log_probs);
            sums.loss += share.loss;
            sums.kl += share.kl;
            sums.clipped += share.clipped;
            // Sampling gave f32.
            let gaps = log_probs.iter().zip(old).map(|(&new, old)| (new as f32 - old).abs());
            sums.log_prob_gap = gaps.fold(sums.log_prob_gap, f32::max);
        }
        sums.entropy += scores.entropies.iter().sum::<f64>();
        sums.tokens += scores.log_probs.len();
        d_log_probs
    }

    fn take(&mut self) -> Vec<f64> {
        let UpdateSums { loss, kl, entropy, clipped, tokens, log_prob_gap, .. } =
            std::mem::take(&mut self.sums);
        vec![loss, kl, entropy, clipped as f64, tokens as f64, log_prob_gap.into()]
    }

    fn add(&mut self, found: &[f64]) {
        let &[loss, kl, entropy, clipped, tokens, log_prob_gap] = found else { return };
        let sums = &mut self.sums;
        sums.loss += loss;
        sums.kl += kl;
        sums.entropy += entropy;
        sums.clipped += clipped as usize;
        sums.tokens += tokens as usize;
        sums.log_prob_gap = sums.log_prob_gap.max(log_prob_gap as f32);
    }
}

#[cfg(test)]
mod tests {
    use koan_backend::{MomentType, Reference};
    use koan_generate::{FinishReason, Stream};
    use koan_model::testkit;
    use proptest::prelude::*;

    use super::*;
    use crate::rl::Preset;

    /// A prompt with its completions and their advantages.
    type Texts = (Vec<u32>, Vec<(Completion, Option<f32>)>);

    fn learner(preset: Preset, rows: usize, kl: f32) -> Learner<Reference> {
        let model = |seed| testkit::model(&Reference, testkit::config(11, true), seed);
        let reference = (kl != 0.0).then(|| model(2));
        let optimizer = Optimizer::new(&Reference, model(1).config(), MomentType::F32).expect("memory");
        Learner::new(
            model(1),
            reference,
            optimizer,
            PolicyLoss { kl, ..preset.pieces().loss(6) },
            0.8,
            rows,
            Purpose::Training,
        )
    }

    fn numbers(gradient: &Gradient<Reference>) -> Vec<f64> {
        gradient.weights.tensors().flatten().copied().collect()
    }

    #[test]
    fn what_was_not_decided_leaves_no_trace() {
        let completion = |token: u32| Completion {
            token_ids: vec![token, 3],
            log_probs: vec![-2.0, -2.5],
            full_log_probs: Vec::new(),
            finish_reason: FinishReason::Stop,
        };
        let (a, b, c) = (completion(1), completion(2), completion(4));
        let group = |completions: Vec<(_, Option<f32>)>| {
            let learned =
                completions.into_iter().map(|(c, advantage)| (c, advantage.map(Credit::Completion)));
            vec![ScoredGroup { prompt: &[5, 6], place: 0, completions: learned.collect() }]
        };
        let (mut with, mut without) = (learner(Preset::Grpo, 40, 0.05), learner(Preset::Grpo, 40, 0.05));
        let all = group(vec![(&a, Some(0.7)), (&b, None), (&c, Some(-0.7))]);
        let decided = group(vec![(&a, Some(0.7)), (&c, Some(-0.7))]);
        let optim = OptimConfig { lr: 0.01, ..OptimConfig::default() };
        let gradient = |learner: &Learner<Reference>, groups: &[ScoredGroup]| {
            learner
                .accumulate(&Reference, groups, learner.count(groups).expect("one rank"))
                .expect("memory")
                .1
        };
        let gradients = [gradient(&with, &all), gradient(&without, &decided)];
        assert_eq!(numbers(&gradients[0]), numbers(&gradients[1]));
        let sums = with.update(&Reference, &all, &optim, 0.01).expect("finite");
        assert_eq!(sums.loss, without.update(&Reference, &decided, &optim, 0.01).expect("finite").loss);
        assert!(sums.grad_norm > 0.0);

        let weights = |l: &Learner<Reference>| -> Vec<f64> {
            l.policy.weights.tensors().flat_map(|t| t.value().clone()).collect()
        };
        let before = weights(&with);
        let sums = with.update(&Reference, &group(vec![(&a, None), (&b, None)]), &optim, 0.01).expect("none");
        assert_eq!((sums.tokens, with.optimizer.updates), (0, 1), "no update, not even of the moments");
        assert_eq!(weights(&with), before);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Promise 4: loss and gradient do not depend on how a batch is cut, in which order it is packed, to how many shards it is
        /// dealt, or whether completions share their prompt.
        #[test]
        fn cut_order_and_sharing_change_nothing(
            lengths in prop::collection::vec((1usize..6, prop::collection::vec(1usize..6, 1..4)), 1..4),
            preset in prop::sample::select(vec![
                Preset::Grpo, Preset::R1, Preset::Dapo, Preset::DrGrpo, Preset::Gspo, Preset::Cispo, Preset::Rloo,
            ]),
            rows in 10usize..40, kl in prop::sample::select(vec![0.0f32, 0.05]), seed in 0u64..1000,
            shards in prop::sample::select(vec![1usize, 2, 8]),
        ) {
            let mut n = 0..;
            let mut random = || koan_generate::uniform(seed, Stream::Rollout { step: 1 }, 0, 0, n.next().expect("endless"));
            let texts: Vec<Texts> = lengths.iter().map(|(prompt, completions)| {
                let mut tokens = |n: usize| (0..n).map(|_| (random() * 11.0) as u32).collect::<Vec<_>>();
                let prompt = tokens(*prompt);
                let completions: Vec<_> = completions.iter().map(|&n| tokens(n)).collect();
                let completions = completions.into_iter().map(|token_ids| {
                    let log_probs = token_ids.iter().map(|_| -2.4 + 0.3 * random() as f32).collect();
                    let advantage = (random() < 0.8).then(|| (random() - 0.5) as f32);
                    let full_log_probs = Vec::new();
                    let finish_reason = FinishReason::Stop;
                    (Completion { token_ids, log_probs, full_log_probs, finish_reason }, advantage)
                }).collect();
                (prompt, completions)
            }).collect();
            let groups: Vec<ScoredGroup> = texts.iter().enumerate().map(|(place, (prompt, completions))| ScoredGroup {
                prompt,
                place,
                completions: completions.iter().map(|(c, advantage)| (c, advantage.map(Credit::Completion))).collect(),
            }).collect();
            let apart: Vec<ScoredGroup> = groups.iter().rev().flat_map(|group| {
                let alone = |c: &(_, _)| ScoredGroup { prompt: group.prompt, place: 0, completions: vec![*c] };
                group.completions.iter().rev().map(alone)
            }).collect();
            let run = |rows, shards, groups: &[ScoredGroup]| {
                let learner = learner(preset, rows, kl).sharded(Shards::of_one_rank(shards));
                let counts = learner.count(groups).expect("one rank");
                learner.accumulate(&Reference, groups, counts).expect("memory")
            };
            let (a, whole) = run(200, 1, &groups);
            for (rows, groups) in [(rows, &groups), (200, &apart), (rows, &apart)] {
                let (b, other) = run(rows, shards, groups);
                prop_assert_eq!(a.tokens, b.tokens);
                prop_assert!((a.loss - b.loss).abs() < 1e-6);
                for (x, y) in numbers(&whole).into_iter().zip(numbers(&other)) {
                    prop_assert!((x - y).abs() <= 1e-9 * (1.0 + x.abs()), "{x} {y}");
                }
            }
        }
    }
}
