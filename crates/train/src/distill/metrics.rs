//! What a step found out: a line of metrics.jsonl.

use serde::Serialize;

use crate::{rl::DraftMetrics, supervised::next_token::Update};

/// One line of metrics.jsonl.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Metrics {
    /// The step, from 1.
    pub step: u64,
    /// Before the update: the mean divergence of a token; by `samples` its mean negative log-probability; on-policy the
    /// policy loss.
    pub loss: f64,
    /// What only the method `on-policy` finds out.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub sampled: Option<Sampled>,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub lr: f32,
    /// Tokens learned from, this step.
    pub tokens: usize,
    /// Tokens learned from per second.
    pub tokens_per_s: f64,
    /// Seconds of the step.
    pub step_s: f64,
    /// On held-out demonstrations after the step, if they were measured: the loss, and on-policy the mean reverse divergence
    /// of a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_loss: Option<f64>,
}

/// What a step found out about completions that the student sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sampled {
    /// Mean over the tokens of ln q − ln p: an estimate of KL(q‖p) per token.
    pub teacher_kl: f64,
    /// Mean over the tokens of −ln p: what the teacher finds them unlikely by. That it falls while completions grow longer is
    /// the trap of repetition.
    pub teacher_nll: f64,
    /// Mean tokens of a completion.
    pub completion_tokens: f64,
    /// Share of completions cut at max_new_tokens; the others stopped by themselves.
    pub truncated: f64,
    /// Mean entropy of the distributions that tokens were sampled from, nats.
    pub entropy: f64,
    /// Largest |sampled − recomputed| log-probability: 0 by construction.
    pub log_prob_gap: f32,
    /// How good the guesses of the next tokens were, if there were any.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub drafts: Option<DraftMetrics>,
    /// Seconds of sampling.
    pub generate_s: f64,
    /// Seconds of the teacher.
    pub teacher_s: f64,
    /// Seconds of learning.
    pub train_s: f64,
}

impl Metrics {
    /// Those of an update at learning rate `lr` in step `step`, which took `step_s` seconds.
    pub(super) fn of(step: u64, update: &Update, lr: f32, step_s: f64) -> Self {
        let Update { loss, tokens, grad_norm, .. } = *update;
        let tokens_per_s = tokens as f64 / step_s;
        Self { step, loss, grad_norm, lr, tokens, tokens_per_s, step_s, ..Self::default() }
    }
}
