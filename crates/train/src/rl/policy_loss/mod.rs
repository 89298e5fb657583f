//! The loss of a policy on completions sampled from an older one; all presets are its cases.
//!
//! ```text
//! J = Σᵢ Σₜ wᵢ { s(ρᵢₜ, Aᵢ) − β KLᵢₜ }        the loss is −J
//! ```
//!
//! | piece | kinds |
//! |---|---|
//! | ratio ρ | of the token, `π/π_old`; of the sequence, the product over its tokens, or their geometric mean |
//! | surrogate s | PPO's `min(ρA, clip(ρ)A)`; or CISPO's `sg(clip(ρ)) A log π`, which drops no token |
//! | weight w | 1/(N·\|o\|), 1/Σ\|o\|, 1/N, 1/(N·L): N completions, L the longest that is sampled |
//! | KL | `x − ln x − 1` with `x = π_ref/π`, a token (k3); in the loss, not in the reward |
//!
//! A ratio of the sequence enters J once a sequence: `J = Σᵢ vᵢ s(ρᵢ, Aᵢ) − …`, with the weight `vᵢ = wᵢ|oᵢ|` where ρ is a
//! mean over tokens and `vᵢ = wᵢ` where it is a product. N, Σ\|o\| count the decided completions of the whole update: loss
//! and gradient do not depend on how it is cut into passes.

use serde::{Deserialize, Serialize};

/// Logarithms of ratios are held within ± this before they are exponentiated, so that one token can't make the loss
/// infinite; e²⁰ is far beyond every clip.
const MAX_LOG_RATIO: f64 = 20.0;

/// What probability is compared between the policy and the one that sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ratio {
    /// `π(oₜ)/π_old(oₜ)`, token by token.
    Token,
    /// `π(o)/π_old(o)`, the product over the tokens.
    Sequence,
    /// `(π(o)/π_old(o))^(1/|o|)`, their geometric mean (GSPO, arXiv:2507.18071).
    SequenceMean,
}

/// How ratio and advantage make the objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Surrogate {
    /// `min(ρA, clip(ρ, 1 − ε_low, 1 + ε_high) A)` (PPO, arXiv:1707.06347): beyond the clip the gradient stops.
    Clip,
    /// `sg(clip(ρ, 1 − ε_low, 1 + ε_high)) A log π` (CISPO, arXiv:2506.13585): the clip bounds the weight of a token, and
    /// every token keeps its gradient. With both ε zero it is REINFORCE.
    Weight,
}

/// How tokens are averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregation {
    /// Over the tokens of a completion, then over completions: 1/(N·|o|).
    SequenceMean,
    /// Over all tokens: 1/Σ|o| (DAPO).
    TokenMean,
    /// Over completions, tokens summed: 1/N.
    SequenceSum,
    /// As `SequenceSum`, by a constant length: 1/(N·L) (Dr. GRPO).
    Constant,
}

/// The loss, with its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PolicyLoss {
    /// What is compared.
    pub ratio: Ratio,
    /// How it enters.
    pub surrogate: Surrogate,
    /// ε_low: the ratio's lower bound is 1 − it.
    pub clip_low: f32,
    /// ε_high: the upper bound is 1 + it.
    pub clip_high: f32,
    /// How tokens are averaged.
    pub aggregation: Aggregation,
    /// β: weight of the divergence from the reference policy.
    pub kl: f32,
    /// L: the longest completion that is sampled, tokens.
    pub max_tokens: usize,
}

/// What the average of an update runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// N: completions that are decided.
    pub completions: usize,
    /// Σ|o|: their tokens.
    pub tokens: usize,
}

/// Log-probabilities of a completion's tokens.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    /// Under the policy.
    pub log_probs: &'a [f64],
    /// Under the policy that sampled them.
    pub old: &'a [f32],
    /// Under the reference policy; needed if β is not 0.
    pub reference: Option<&'a [f64]>,
}

/// What a completion is learned by.
#[derive(Clone, Copy, Debug)]
pub enum Credit<'a> {
    /// One advantage: each token is to blame for all of it.
    Completion(f32),
    /// An advantage of each token, which answers for itself.
    Tokens(&'a [f64]),
}

impl Credit<'_> {
    /// Whether no token has any.
    pub fn is_zero(self) -> bool {
        match self {
            Self::Completion(advantage) => advantage == 0.0,
            Self::Tokens(advantages) => advantages.iter().all(|&advantage| advantage == 0.0),
        }
    }

    /// That of token `t`.
    fn of(self, t: usize) -> f64 {
        match self {
            Self::Completion(advantage) => advantage.into(),
            Self::Tokens(advantages) => advantages[t],
        }
    }
}

/// A completion's share of the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    /// Of the loss, weighted.
    pub loss: f64,
    /// Σ of the k3 estimates of its tokens, not weighted.
    pub kl: f64,
    /// Tokens whose gradient the clip stopped, or whose weight it bounded.
    pub clipped: usize,
}

impl PolicyLoss {
    /// w: the weight of each token of a completion of `length` tokens.
    pub fn weight(&self, length: usize, counts: Counts) -> f64 {
        let n = counts.completions.max(1) as f64;
        match self.aggregation {
            Aggregation::SequenceMean => 1.0 / (n * length.max(1) as f64),
            Aggregation::TokenMean => 1.0 / counts.tokens.max(1) as f64,
            Aggregation::SequenceSum => 1.0 / n,
            Aggregation::Constant => 1.0 / (n * self.max_tokens.max(1) as f64),
        }
    }

    /// The share of a completion that is learned by `credit`; appends to `d_log_probs` the loss's derivative by each of its
    /// log-probabilities.
    ///
    /// # Panics
    /// If the slices are not of one length, β is not 0 and there is no reference, or tokens have advantages of their own and
    /// the ratio is one of sequences.
    pub fn completion(
        &self,
        tokens: Tokens,
        credit: Credit,
        counts: Counts,
        d_log_probs: &mut Vec<f64>,
    ) -> Share {
        let Tokens { log_probs, old, reference } = tokens;
        assert_eq!(log_probs.len(), old.len(), "a token has both log-probabilities");
        let weight = self.weight(log_probs.len(), counts);
        let mut share = Share::default();
        let log_ratios = log_probs.iter().zip(old).map(|(new, &old)| new - f64::from(old));
        match self.ratio {
            Ratio::Token => {
                for (t, (log_ratio, &log_prob)) in log_ratios.zip(log_probs).enumerate() {
                    let (objective, slope, clipped) = self.surrogate(log_ratio, credit.of(t), log_prob);
                    share.loss -= weight * objective;
                    share.clipped += usize::from(clipped);
                    d_log_probs.push(-weight * slope);
                }
            }
            Ratio::Sequence | Ratio::SequenceMean => {
                let Credit::Completion(advantage) = credit else { panic!("a sequence has one advantage") };
                let length = log_probs.len().max(1) as f64;
                let mean = self.ratio == Ratio::SequenceMean;
                let (divisor, once) = if mean { (length, weight * length) } else { (1.0, weight) };
                let log_ratio = log_ratios.sum::<f64>() / divisor;
                let log_prob = log_probs.iter().sum::<f64>() / divisor;
                let (objective, slope, clipped) = self.surrogate(log_ratio, advantage.into(), log_prob);
                share.loss -= once * objective;
                share.clipped += if clipped { log_probs.len() } else { 0 };
                // ∂ρ/∂log πₜ = ρ/|o| of a mean, ρ of a product
                d_log_probs.extend(log_probs.iter().map(|_| -once / divisor * slope));
            }
        }
        if self.kl != 0.0 {
            let reference = reference.expect("a divergence needs a reference policy");
            assert_eq!(reference.len(), log_probs.len(), "a token has both log-probabilities");
            let (first, beta) = (d_log_probs.len() - log_probs.len(), f64::from(self.kl));
            for ((d, &log_prob), &reference) in d_log_probs[first..].iter_mut().zip(log_probs).zip(reference)
            {
                let log_x = (reference - log_prob).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO);
                let kl = log_x.exp() - log_x - 1.0;
                share.kl += kl;
                share.loss += weight * beta * kl;
                *d += weight * beta * (1.0 - log_x.exp());
            }
        }
        share
    }

    /// The objective, its derivative by the logarithm of the ratio, and whether the clip decided.
    fn surrogate(&self, log_ratio: f64, advantage: f64, log_prob: f64) -> (f64, f64, bool) {
        let ratio = log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp();
        let bounded = ratio.clamp(1.0 - f64::from(self.clip_low), 1.0 + f64::from(self.clip_high));
        match self.surrogate {
            Surrogate::Clip => {
                let (free, bounded) = (ratio * advantage, bounded * advantage);
                let clipped = bounded < free;
                (free.min(bounded), if clipped { 0.0 } else { free }, clipped)
            }
            Surrogate::Weight => (bounded * advantage * log_prob, bounded * advantage, bounded != ratio),
        }
    }

    /// The formula in force, in words that a reader can hold against the paper.
    pub fn explain(&self) -> String {
        let rho = match self.ratio {
            Ratio::Token => "rho = pi(o_t)/pi_old(o_t)",
            Ratio::Sequence => "rho = pi(o)/pi_old(o)",
            Ratio::SequenceMean => "rho = (pi(o)/pi_old(o))^(1/|o|)",
        };
        let bounds = format!("clip(rho, {}, {})", (1.0 - self.clip_low).max(0.0), 1.0 + self.clip_high);
        let log_pi = if self.ratio == Ratio::Token { "log pi(o_t)" } else { "log pi(o)" };
        let s = match self.surrogate {
            Surrogate::Clip => format!("min(rho A, {bounds} A)"),
            Surrogate::Weight if self.clip_low == 0.0 && self.clip_high == 0.0 => format!("A {log_pi}"),
            Surrogate::Weight => format!("stop_gradient({bounds}) A {log_pi}"),
        };
        let once = self.ratio != Ratio::Token;
        let average = match self.aggregation {
            Aggregation::SequenceMean | Aggregation::SequenceSum if once => "1/N sum_i",
            Aggregation::SequenceMean => "1/N sum_i 1/|o_i| sum_t",
            Aggregation::TokenMean => "1/(sum_i |o_i|) sum_i sum_t",
            Aggregation::SequenceSum => "1/N sum_i sum_t",
            Aggregation::Constant => &format!("1/(N {}) sum_i sum_t", self.max_tokens),
        };
        let kl = match (self.kl, self.aggregation) {
            (0.0, _) => String::new(),
            (kl, _) if !once => format!(" - {kl} KL"),
            (kl, Aggregation::SequenceMean) => format!(" - {kl} 1/|o_i| sum_t KL"),
            (kl, _) => format!(" - {kl} sum_t KL"),
        };
        let k3 = if self.kl == 0.0 { "" } else { ", KL = x - ln x - 1, x = pi_ref(o_t)/pi(o_t)" };
        format!("maximise {average} [ {s}{kl} ], {rho}{k3}")
    }
}

#[cfg(test)]
mod tests;
