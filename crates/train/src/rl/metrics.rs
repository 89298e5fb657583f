//! What a step found out: a line of metrics.jsonl.

use std::collections::BTreeMap;

use koan_eval::{Interval, Score};
use koan_generate::Counters;
use koan_reward::Outcome;
use serde::Serialize;

use super::{
    learner::UpdateSums,
    rollout::{Rollouts, Seen},
};

/// One line of metrics.jsonl.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Metrics {
    /// The step, from 1.
    pub step: u64,
    /// The loss, before the update.
    pub loss: f64,
    /// Mean reward of the completions that have one.
    pub reward: f64,
    /// Mean over problems of the standard deviation of their rewards.
    pub reward_std: f64,
    /// Share of completions whose first reward's verifier says correct.
    pub accuracy: f64,
    /// Share of completions whose format is right, if the format is rewarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<f64>,
    /// Mean tokens of a completion.
    pub completion_tokens: f64,
    /// Share of completions cut at max_new_tokens.
    pub truncated: f64,
    /// The most tokens of a completion in this step, if it changes by step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<usize>,
    /// Mean entropy of the distributions that tokens were sampled from, over the tokens that were learned from, nats.
    pub entropy: f64,
    /// Mean k3 estimate of the divergence from the reference policy, over those tokens; 0 if β is 0.
    pub kl: f64,
    /// Share of those tokens whose gradient the clip stopped.
    pub clip_fraction: f64,
    /// Norm of the gradient before clipping, mean over the step's updates.
    pub grad_norm: f64,
    /// Learning rate of the step's last update.
    pub lr: f32,
    /// Problems sampled: more than `rollout.problems` where others took the place of those without spread.
    pub drawn_groups: usize,
    /// Of these, problems whose completions all earned the same.
    pub zero_spread_groups: usize,
    /// Rounds of sampling: 1, except with dynamic sampling.
    pub rounds: usize,
    /// Completions whose reward was not decided: masked.
    pub undecided: usize,
    /// Words of reflection per completion.
    pub reflection_words: f64,
    /// Completion tokens sampled, this step.
    pub tokens: usize,
    /// How good the guesses of the next tokens were, if there were any.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub drafts: Option<DraftMetrics>,
    /// Largest |sampled − recomputed| log-probability before the step's first update: 0 by construction.
    pub log_prob_gap: f32,
    /// Seconds of sampling.
    pub generate_s: f64,
    /// Seconds of waiting for verdicts when all completions are sampled: judging happens while others are.
    pub reward_s: f64,
    /// Seconds of learning.
    pub train_s: f64,
    /// Seconds of the step.
    pub step_s: f64,
    /// Completion tokens per second of the step.
    pub tokens_per_s: f64,
    /// `rewards/NAME`: mean score of each reward's term, before its weight, over the completions that it decided; and
    /// `rewards/NAME/undecided`: how many it did not, if any.
    #[serde(flatten)]
    pub rewards: BTreeMap<String, f64>,
    /// Why a completion was not decided, if one was not.
    #[serde(skip)]
    pub why_undecided: Option<String>,
    /// Why nothing was judged, where every completion is undecided: then reward and accuracy say nothing.
    #[serde(skip)]
    pub nothing_judged: Option<String>,
    /// How the policy does on held-out problems after the step, if it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval: Option<HeldOutScore>,
}

/// How good guesses of the next tokens were.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DraftMetrics {
    /// Share of the guesses that were right.
    pub draft_acceptance: f64,
    /// Tokens that a completion got of a pass; 1 without drafts.
    pub tokens_per_pass: f64,
}

impl DraftMetrics {
    /// Of what a generator counted; none where nothing was drafted.
    pub(crate) fn of(counters: Counters) -> Option<Self> {
        let (draft_acceptance, tokens_per_pass) = (counters.draft_acceptance()?, counters.tokens_per_pass()?);
        Some(Self { draft_acceptance, tokens_per_pass })
    }
}

/// How a policy does on held-out problems.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HeldOutScore {
    /// pass@1, with undecided completions as not correct: `accuracy`, `low` and `high`.
    #[serde(flatten)]
    pub pass_at_1: Interval,
    /// The accuracy of the completions that were decided; 0 if none was.
    pub pass_at_1_decided: f64,
    /// Share of completions that were not decided, 0 to 1.
    pub undecided: f64,
}

impl From<&Score> for HeldOutScore {
    fn from(score: &Score) -> Self {
        Self {
            pass_at_1: score.pass_at_1,
            pass_at_1_decided: score.pass_at_1_decided.interval.accuracy,
            undecided: score.undecided.share,
        }
    }
}

impl Metrics {
    /// All but the step, the learning rate and the seconds: of all that was sampled, and of what was learned from it.
    pub(super) fn of(rollouts: &Rollouts, updates: &[UpdateSums]) -> Self {
        let samples: Vec<&Seen> = rollouts.groups.iter().flat_map(|group| &group.seen).collect();
        let n = samples.len() as f64;
        let mean = |value: &dyn Fn(&Seen) -> f64| samples.iter().map(|s| value(s)).sum::<f64>() / n;
        let decided: Vec<f64> = samples.iter().filter_map(|s| s.judgement.reward).map(f64::from).collect();
        let is_right = |outcome: Outcome| f64::from(outcome == Outcome::Correct);
        let format =
            |s: &Seen| s.judgement.terms.iter().find(|t| t.name == "format").map(|t| is_right(t.outcome));
        let tokens = samples.iter().map(|s| s.tokens).sum();
        let sum = |value: &dyn Fn(&UpdateSums) -> f64| updates.iter().map(value).sum::<f64>();
        let learned = sum(&|u| u.tokens as f64).max(1.0);
        let stds = rollouts.groups.iter().map(|group| std(group.rewards()));
        Self {
            loss: sum(&|u| u.loss) / updates.len() as f64,
            reward: (0.0 + decided.iter().sum::<f64>()) / (decided.len() as f64).max(1.0),
            reward_std: stds.sum::<f64>() / rollouts.groups.len() as f64,
            accuracy: mean(&|s| is_right(s.judgement.outcome())),
            format: format(samples[0]).map(|_| mean(&|s| format(s).unwrap_or(0.0))),
            completion_tokens: tokens as f64 / n,
            truncated: mean(&|s| f64::from(s.cut)),
            entropy: sum(&|u| u.entropy) / learned,
            kl: sum(&|u| u.kl) / learned,
            clip_fraction: sum(&|u| u.clipped as f64) / learned,
            grad_norm: sum(&|u| u.grad_norm) / updates.len() as f64,
            drawn_groups: rollouts.groups.len(),
            zero_spread_groups: rollouts.groups.iter().filter(|group| !group.has_spread()).count(),
            rounds: rollouts.rounds,
            undecided: samples.len() - decided.len(),
            reflection_words: mean(&|s| s.reflection_words as f64),
            tokens,
            drafts: DraftMetrics::of(rollouts.counters),
            log_prob_gap: updates[0].log_prob_gap,
            rewards: terms(&samples),
            why_undecided: rollouts.why_undecided(),
            nothing_judged: rollouts.why_undecided().filter(|_| decided.is_empty()),
            ..Self::default()
        }
    }
}

/// The mean score of each reward's term, and how many completions it did not decide.
fn terms(samples: &[&Seen]) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<&str, (f64, usize, usize)> = BTreeMap::new();
    for term in samples.iter().flat_map(|s| &s.judgement.terms).filter(|term| !term.name.is_empty()) {
        let (sum, decided, undecided) = sums.entry(&term.name).or_default();
        match term.score {
            Some(score) => (*sum, *decided) = (*sum + f64::from(score), *decided + 1),
            None => *undecided += 1,
        }
    }
    let mut means = BTreeMap::new();
    for (name, (sum, decided, undecided)) in sums {
        if decided > 0 {
            means.insert(format!("rewards/{name}"), sum / decided as f64);
        }
        if undecided > 0 {
            means.insert(format!("rewards/{name}/undecided"), undecided as f64);
        }
    }
    means
}

fn std(values: impl Iterator<Item = f32>) -> f64 {
    let values: Vec<f64> = values.map(f64::from).collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n.max(1.0);
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0)).sqrt()
}
