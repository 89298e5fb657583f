//! The sizes of a mixture of experts, read from `config.json`.

use koan_backend::{GroupScore, Routing, Scoring};
use serde_json::Value;

use super::{
    ConfigError, Family,
    reader::{MAX_FEATURES, Reader},
};

/// Most experts of a layer.
const MAX_EXPERTS: usize = 1 << 12;

/// The experts of a layer, and how a token's are chosen (arXiv:2412.19437, section 2.1.2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertsConfig {
    /// Experts that are chosen from: `n_routed_experts`.
    pub routed: usize,
    /// Experts that every token has, as one MLP of as many times the features: `n_shared_experts`.
    pub shared: usize,
    /// Experts that a token chooses: `num_experts_per_tok`.
    pub per_token: usize,
    /// Features between the halves of an expert: `moe_intermediate_size`.
    pub intermediate_size: usize,
    /// Groups that the experts lie in: `n_group`; 1: none.
    pub groups: usize,
    /// Groups that a token's experts may be of: `topk_group`.
    pub groups_kept: usize,
    /// How scores are computed: `scoring_func`.
    pub scoring: Scoring,
    /// How groups are scored: `topk_method`.
    pub group_score: GroupScore,
    /// Whether the weights of a token's experts are divided by their sum: `norm_topk_prob`.
    pub normalized: bool,
    /// Factor on the weights: `routed_scaling_factor`.
    pub scale: f32,
    /// Whether a bias is added to the scores for the choice alone (`e_score_correction_bias`).
    pub bias: bool,
    /// Layers from the first on that have an ordinary MLP: `first_k_dense_replace`.
    pub first_dense: usize,
}

impl ExpertsConfig {
    /// Features between the halves of the shared experts' MLP.
    pub fn shared_features(&self) -> usize {
        self.shared * self.intermediate_size
    }

    /// How rows choose.
    pub fn routing(&self) -> Routing {
        let Self { routed, per_token, groups, groups_kept, scoring, group_score, normalized, scale, .. } =
            *self;
        Routing { experts: routed, per_token, groups, groups_kept, scoring, group_score, normalized, scale }
    }
}

impl Reader<'_> {
    pub(super) fn experts(&self, family: Family) -> Result<ExpertsConfig, ConfigError> {
        let is_v3 = family == Family::DeepseekV3;
        let of = |v3: usize, v2: usize| if is_v3 { v3 } else { v2 };
        let routed = self.size("n_routed_experts", Some(of(256, 64)), MAX_EXPERTS)?;
        let per_token = self.size("num_experts_per_tok", is_v3.then_some(8), MAX_EXPERTS)?;
        let [scoring, method] = if is_v3 { ["sigmoid", "noaux_tc"] } else { ["softmax", "greedy"] };
        self.one_of("scoring_func", scoring, &[scoring])?;
        let methods: &[&str] = if is_v3 { &["noaux_tc"] } else { &["greedy", "group_limited_greedy"] };
        self.one_of("topk_method", method, methods)?;
        let is_grouped =
            is_v3 || self.raw.get("topk_method").and_then(Value::as_str) == Some("group_limited_greedy");
        let [groups, groups_kept] = if is_grouped {
            let default = |v3| is_v3.then_some(v3);
            [self.size("n_group", default(8), routed)?, self.size("topk_group", default(4), routed)?]
        } else {
            [1, 1]
        };
        let least = if is_v3 && groups > 1 { 2 } else { 1 };
        if routed % groups != 0 || routed / groups < least {
            let what =
                format!("a divisor of n_routed_experts, {routed}, with {least} or more experts a group");
            return Err(self.unsupported("n_group", &what));
        }
        if groups_kept > groups {
            return Err(self.unsupported("topk_group", &format!("1 to n_group, {groups}")));
        }
        let most = groups_kept * (routed / groups);
        if per_token > most {
            return Err(self.unsupported(
                "num_experts_per_tok",
                &format!("1 to {most}, the experts that are chosen from"),
            ));
        }
        if self.raw.get("moe_layer_freq").is_some_and(|every| every.as_u64() != Some(1)) {
            return Err(
                self.unsupported("moe_layer_freq", "1: experts in every layer from first_k_dense_replace on")
            );
        }
        let normalized = self.flag(self.raw, "norm_topk_prob", is_v3)?;
        if normalized && !is_v3 {
            return Err(self.unsupported("norm_topk_prob", "false, as in all of DeepSeek-V2's models"));
        }
        let intermediate_size = self.size("moe_intermediate_size", Some(of(2048, 1407)), MAX_FEATURES)?;
        let shared = self.count("n_shared_experts", of(1, 2), MAX_EXPERTS)?;
        if shared.max(1).saturating_mul(intermediate_size) > MAX_FEATURES {
            return Err(self.unsupported(
                "moe_intermediate_size",
                &format!("at most {MAX_FEATURES} features in all shared experts"),
            ));
        }
        Ok(ExpertsConfig {
            routed,
            shared,
            per_token,
            intermediate_size,
            groups,
            groups_kept,
            scoring: if is_v3 { Scoring::Sigmoid } else { Scoring::Softmax },
            group_score: if is_v3 { GroupScore::SumOfTopTwo } else { GroupScore::Max },
            normalized,
            scale: self.number(self.raw, "routed_scaling_factor", Some(if is_v3 { 2.5 } else { 1.0 }))?
                as f32,
            bias: is_v3,
            first_dense: self.count("first_k_dense_replace", of(3, 0), super::reader::MAX_LAYERS)?,
        })
    }
}
