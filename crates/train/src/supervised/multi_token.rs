//! How much it counts what modules predict further ahead (DeepSeek-V3, arXiv:2412.19437, sections 2.2 and 4.2).

use serde::{Deserialize, Serialize};

use super::Stage;
use crate::config::{ConfigError, check};

/// `[multi_token]`: λ, by the course of the run. 0 throughout: the modules are not trained, and stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MultiTokenConfig {
    /// λ at first.
    pub weight: f64,
    /// λ from `until` on.
    pub late_weight: f64,
    /// The share of the steps in which it is `weight`.
    pub until: f64,
}

/// V3's: 0.3 for 10 of 14.8 trillion tokens, then 0.1.
impl Default for MultiTokenConfig {
    fn default() -> Self {
        Self { weight: 0.3, late_weight: 0.1, until: 10.0 / 14.8 }
    }
}

impl MultiTokenConfig {
    /// Where a file says nothing: V3's weights in pretraining, its last one in fine-tuning.
    pub(super) fn of(stage: Stage) -> Self {
        match stage {
            Stage::Pretrain => Self::default(),
            Stage::Sft => Self { weight: 0.1, ..Self::default() },
        }
    }

    /// Whether modules are trained at all.
    pub fn trains(&self) -> bool {
        self.weight > 0.0 || self.late_weight > 0.0
    }

    /// λ of `step` of `steps`, counted from 1.
    pub fn at(&self, step: u64, steps: u64) -> f64 {
        if step as f64 <= self.until * steps as f64 { self.weight } else { self.late_weight }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let is_weight = |weight: f64| weight.is_finite() && weight >= 0.0;
        check(is_weight(self.weight), "multi_token.weight", &self.weight, "0 or more")?;
        check(is_weight(self.late_weight), "multi_token.late_weight", &self.late_weight, "0 or more")?;
        check(
            (0.0..=1.0).contains(&self.until),
            "multi_token.until",
            &self.until,
            "0 to 1, a share of the steps",
        )
    }

    pub(super) fn explain(&self) -> String {
        format!(
            "modules that predict further tokens, if the model has any, count {} at first, {} from {:.4} of the steps on",
            self.weight, self.late_weight, self.until
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_falls_where_v3s_did() {
        let config = MultiTokenConfig::default();
        assert_eq!([1, 675, 676, 1000].map(|step| config.at(step, 1000)), [0.3, 0.3, 0.1, 0.1]);
        assert!(config.check().is_ok() && config.trains());
        assert!(!MultiTokenConfig { weight: 0.0, late_weight: 0.0, until: 1.0 }.trains());
        assert!(MultiTokenConfig { until: 1.5, ..config }.check().is_err());
    }
}
