//! Algorithms by the names of their papers: each preset is the paper's choice of every piece.
//!
//! | preset | ratio | clip | average over | advantage | β |
//! |---|---|---|---|---|---|
//! | `grpo` | token | 1 ± 0.2 | tokens, then completions | standardised | 0.04 |
//! | `r1` | sequence | to 1 + 10 | completions | standardised | 0.001 |
//! | `dapo` | token | 1 − 0.2, 1 + 0.28 | all tokens | standardised | 0 |
//! | `dr-grpo` | token | 1 ± 0.2 | completions, by the longest length | centred | 0 |
//! | `gspo` | sequence, mean | 1 − 3e-4, 1 + 4e-4 | completions | standardised | 0 |
//! | `cispo` | token | weight up to 1 + 4 | all tokens | standardised | 0 |
//! | `rloo` | none: A log π | | completions | leave one out | 0 |
//!
//! What the papers leave open, and what is chosen here: the clip of DeepSeekMath and Dr. GRPO (0.2, PPO's); R1 prints its
//! divergence for a whole sequence, where a token's k3 is summed here, as open code does; CISPO's ε_high (4, near what
//! other frameworks take); RLOO's β, which stands in the reward there and is set by `kl` here.
//!
//! `dapo` alone leaves out what has no spread and samples other problems in its place, and masks completions that were cut;
//! `r1` makes the reference policy a copy of the policy after every 400 updates (a step of the paper is an update); the
//! others keep the model that the run started from.

use serde::{Deserialize, Serialize};

use super::{
    advantage::Advantage,
    policy_loss::{Aggregation, PolicyLoss, Ratio, Surrogate},
};

/// A paper's algorithm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// DeepSeekMath (arXiv:2402.03300, Eq. 3).
    #[default]
    Grpo,
    /// DeepSeek-R1 (arXiv:2501.12948, Eq. 1; the constants are those of its Nature version).
    R1,
    /// DAPO (arXiv:2503.14476): clip-higher, token-level loss, dynamic sampling, truncated completions masked. Its soft
    /// overlong penalty is the reward `length`.
    Dapo,
    /// Dr. GRPO (arXiv:2503.20783): no division by a completion's own length, none by the group's std.
    DrGrpo,
    /// GSPO (arXiv:2507.18071).
    Gspo,
    /// MiniMax-M1's CISPO (arXiv:2506.13585).
    Cispo,
    /// RLOO (arXiv:2402.14740).
    Rloo,
}

/// Every choice that makes an algorithm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pieces {
    /// What a reward is compared with.
    pub advantage: Advantage,
    /// What probability is compared.
    pub ratio: Ratio,
    /// How ratio and advantage make the objective.
    pub surrogate: Surrogate,
    /// ε_low.
    pub clip_low: f32,
    /// ε_high.
    pub clip_high: f32,
    /// How tokens are averaged.
    pub aggregation: Aggregation,
    /// β.
    pub kl: f32,
    /// Updates after which the reference policy becomes a copy of the policy, again and again; 0: never.
    pub reference_every: u64,
    /// Whether groups whose completions all earned the same are left out, and others sampled in their place.
    pub dynamic_sampling: bool,
    /// Whether a completion that was cut takes no part in the loss.
    pub mask_truncated: bool,
}

impl Pieces {
    /// The loss, for completions of up to `max_tokens` tokens.
    pub fn loss(self, max_tokens: usize) -> PolicyLoss {
        let Self { ratio, surrogate, clip_low, clip_high, aggregation, kl, .. } = self;
        PolicyLoss { ratio, surrogate, clip_low, clip_high, aggregation, kl, max_tokens }
    }
}

impl Preset {
    /// The paper's choices.
    pub fn pieces(self) -> Pieces {
        let grpo = Pieces {
            advantage: Advantage::Standardised,
            ratio: Ratio::Token,
            surrogate: Surrogate::Clip,
            clip_low: 0.2,
            clip_high: 0.2,
            aggregation: Aggregation::SequenceMean,
            kl: 0.04,
            reference_every: 0,
            dynamic_sampling: false,
            mask_truncated: false,
        };
        match self {
            Self::Grpo => grpo,
            Self::R1 => Pieces {
                ratio: Ratio::Sequence,
                clip_low: 10.0,
                clip_high: 10.0,
                aggregation: Aggregation::SequenceSum,
                kl: 0.001,
                reference_every: 400,
                ..grpo
            },
            Self::Dapo => Pieces {
                clip_high: 0.28,
                aggregation: Aggregation::TokenMean,
                kl: 0.0,
                dynamic_sampling: true,
                mask_truncated: true,
                ..grpo
            },
            Self::DrGrpo => {
                Pieces { advantage: Advantage::Centred, aggregation: Aggregation::Constant, kl: 0.0, ..grpo }
            }
            Self::Gspo => {
                Pieces { ratio: Ratio::SequenceMean, clip_low: 3e-4, clip_high: 4e-4, kl: 0.0, ..grpo }
            }
            Self::Cispo => Pieces {
                surrogate: Surrogate::Weight,
                clip_low: 10.0,
                clip_high: 4.0,
                aggregation: Aggregation::TokenMean,
                kl: 0.0,
                ..grpo
            },
            Self::Rloo => Pieces {
                advantage: Advantage::LeaveOneOut,
                surrogate: Surrogate::Weight,
                clip_low: 0.0,
                clip_high: 0.0,
                aggregation: Aggregation::SequenceSum,
                kl: 0.0,
                ..grpo
            },
        }
    }
}
