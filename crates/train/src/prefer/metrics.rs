//! What a step found out: a line of metrics.jsonl, under the names that TRL has for the same.

use serde::Serialize;

use super::learner::Found;

/// One line of metrics.jsonl.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Metrics {
    /// The step, from 1.
    pub step: u64,
    /// Mean loss of an example, before the update.
    pub loss: f64,
    /// β times the log-ratio of chosen, or good, replies to the reference policy, mean. Without a reference policy that of
    /// their log-probability; per token in SimPO and ORPO. Of a reward model, its score.
    #[serde(rename = "rewards/chosen")]
    pub chosen_reward: f64,
    /// The same of rejected, or bad, replies.
    #[serde(rename = "rewards/rejected")]
    pub rejected_reward: f64,
    /// The first less the second.
    #[serde(rename = "rewards/margins")]
    pub margin: f64,
    /// Share of pairs whose chosen reply has the larger reward, or of labels that the score's sign tells.
    #[serde(rename = "rewards/accuracies", skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Mean sum of log-probabilities of a chosen, or good, reply; none of a reward model.
    #[serde(rename = "logps/chosen", skip_serializing_if = "Option::is_none")]
    pub chosen_log_prob: Option<f64>,
    /// Of a rejected, or bad, one.
    #[serde(rename = "logps/rejected", skip_serializing_if = "Option::is_none")]
    pub rejected_log_prob: Option<f64>,
    /// KTO's z before it is held at 0.
    #[serde(rename = "kl", skip_serializing_if = "Option::is_none")]
    pub z: Option<f64>,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub lr: f32,
    /// Tokens scored, this step.
    pub tokens: usize,
    /// Tokens scored per second.
    pub tokens_per_s: f64,
    /// Seconds of the step.
    pub step_s: f64,
    /// On held-out rows after the step, if they were measured.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<HeldOutMetrics>,
}

/// What held-out rows say.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HeldOutMetrics {
    /// Mean loss of an example.
    #[serde(rename = "eval_loss")]
    pub loss: f64,
    /// Mean difference of rewards.
    #[serde(rename = "eval_rewards/margins")]
    pub margin: f64,
    /// Share of pairs whose chosen reply has the larger reward.
    #[serde(rename = "eval_rewards/accuracies", skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
}

impl Metrics {
    /// Those of a step that `found` so much and took `step_s` seconds.
    pub(super) fn new(
        step: u64,
        found: &Found,
        is_policy: bool,
        grad_norm: f64,
        lr: f32,
        step_s: f64,
    ) -> Self {
        let log_prob = |log_prob: f64| is_policy.then_some(log_prob);
        Self {
            step,
            loss: found.loss,
            chosen_reward: found.chosen_reward,
            rejected_reward: found.rejected_reward,
            margin: found.chosen_reward - found.rejected_reward,
            accuracy: found.accuracy,
            chosen_log_prob: log_prob(found.chosen_log_prob),
            rejected_log_prob: log_prob(found.rejected_log_prob),
            z: found.z,
            grad_norm,
            lr,
            tokens: found.tokens,
            tokens_per_s: found.tokens as f64 / step_s,
            step_s,
            held_out: None,
        }
    }
}

impl From<Found> for HeldOutMetrics {
    fn from(found: Found) -> Self {
        Self {
            loss: found.loss,
            margin: found.chosen_reward - found.rejected_reward,
            accuracy: found.accuracy,
        }
    }
}
