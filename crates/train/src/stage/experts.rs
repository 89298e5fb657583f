//! `[experts]`: how the experts of a model are balanced while it is trained.

use koan_model::Config;
use serde::{Deserialize, Serialize};

use super::{config::StageConfig, error::StageError};
use crate::{
    config::{ConfigError, check},
    optim::Balance,
};

/// Its keys.
pub(super) const KEYS: [&str; 3] = ["experts.bias_speed", "experts.bias_until", "experts.balance_loss"];
/// What pretraining does where nothing is said (arXiv:2412.19437, section 4.2).
const PRETRAIN_SPEED: f32 = 1e-3;
const PRETRAIN_LOSS: f32 = 1e-4;

/// `[experts]`: how the experts of a model are balanced while it is trained. What is not given is as in DeepSeek-V3's pretraining in
/// the stage `pretrain`, and off in all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpertsTable {
    /// γ: by how much each update moves the bias of an expert that more or fewer tokens chose than the mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bias_speed: Option<f32>,
    /// When the bias stays from then on: a share of the run up to 1, or the number of a step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bias_until: Option<f64>,
    /// α: the coefficient of the balance loss of each sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance_loss: Option<f32>,
}

impl ExpertsTable {
    pub(super) fn check(&self, has_adapter: bool) -> Result<(), ConfigError> {
        let Self { bias_speed, bias_until, balance_loss } = *self;
        let (speed, until, loss) =
            (bias_speed.unwrap_or(0.0), bias_until.unwrap_or(1.0), balance_loss.unwrap_or(0.0));
        check((0.0..=1.0).contains(&speed), "experts.bias_speed", &speed, "0 to 1")?;
        check(
            speed == 0.0 || !has_adapter,
            "experts.bias_speed",
            &speed,
            "0 where an adapter is trained, whose files have no place for the router's bias",
        )?;
        check(until >= 0.0 && until.is_finite(), "experts.bias_until", &until, "a share up to 1, or a step")?;
        check(loss >= 0.0 && loss.is_finite(), "experts.balance_loss", &loss, "0 or more")
    }

    /// Whether the bias stays after a share of the run, so that its course depends on how long it is.
    pub(super) fn depends_on_length(&self) -> bool {
        self.bias_until.is_some_and(|until| until < 1.0)
    }
}

impl StageConfig {
    /// The speed of the bias and the balance loss where nothing is said.
    fn default_balance(stage: &str) -> [f32; 2] {
        if stage == "pretrain" { [PRETRAIN_SPEED, PRETRAIN_LOSS] } else { [0.0; 2] }
    }

    /// What balances the experts of a `model` in a run of `stage` that has `steps` steps of so many updates.
    pub(super) fn balance(&self, stage: &str, model: &Config, steps: u64, updates: u64) -> Balance {
        let Some(experts) = model.experts else { return Balance::default() };
        let ExpertsTable { bias_speed, bias_until, balance_loss } = self.experts.unwrap_or_default();
        let [speed, loss] = Self::default_balance(stage);
        let speed = if experts.bias && model.adapter.is_none() { speed } else { 0.0 };
        let until = match bias_until.unwrap_or(1.0) {
            share if share <= 1.0 => (share * steps as f64).round() as u64,
            step => step as u64,
        };
        let until = until.saturating_mul(updates);
        Balance::new(bias_speed.unwrap_or(speed), until, balance_loss.unwrap_or(loss))
    }

    /// How `stage` balances the experts of a model that has them, in words, every constant with its value; none if it does not.
    pub(crate) fn explain_experts(&self, stage: &str) -> Option<String> {
        let [speed, loss] = Self::default_balance(stage);
        let ExpertsTable { bias_speed, bias_until, balance_loss } = self.experts.unwrap_or_default();
        let (speed, loss) = (bias_speed.unwrap_or(speed), balance_loss.unwrap_or(loss));
        let until = match bias_until.unwrap_or(1.0) {
            1.0 => String::new(),
            share if share < 1.0 => format!(" for {share} of the steps"),
            step => format!(" until step {step}"),
        };
        (speed > 0.0 || loss > 0.0).then(|| {
            format!(
                "experts of a model that has them: b <- b + {speed:e} where fewer tokens than the mean chose one, b - {speed:e} where \
                 more, after each update{until}; balance loss {loss:e} sum_i f_i P_i of each sequence"
            )
        })
    }

    /// Refuses to balance experts that `model` does not have.
    pub(super) fn check_experts(&self, model: &Config) -> Result<(), StageError> {
        let Some(ExpertsTable { bias_speed, .. }) = self.experts else { return Ok(()) };
        let wrong = |what| Err(StageError::Experts { what, path: self.model.clone() });
        match model.experts {
            None => wrong("[experts] is given, and the model has none: remove the table"),
            Some(experts) if !experts.bias && bias_speed.is_some_and(|speed| speed > 0.0) => wrong(
                "`experts.bias_speed` is above 0, and its routers have no bias: balance_loss balances them",
            ),
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {

    use koan_model::testkit;

    use super::*;

    fn config(more: &str) -> StageConfig {
        toml::from_str(&format!("run_dir = ''\nmodel = 'm'\ndata = ''\n{more}")).expect("a config")
    }

    #[test]
    fn pretraining_balances_experts_where_nothing_is_said_and_other_stages_do_not() {
        let kind = testkit::kinds().into_iter().find(|kind| kind["model_type"] == "deepseek_v3");
        let model = testkit::config_with(11, true, kind.expect("a kind with experts"));
        let of = |text: &str, stage| {
            let Balance { bias_speed, bias_until, loss, .. } = config(text).balance(stage, &model, 200, 2);
            (bias_speed, bias_until, loss)
        };
        assert_eq!(of("", "pretrain"), (1e-3, 400, 1e-4));
        assert_eq!(of("", "sft"), (0.0, 400, 0.0));
        let given = "[experts]\nbias_speed = 0.01\nbias_until = 0.25\nbalance_loss = 0.5";
        assert_eq!(of(given, "sft"), (0.01, 100, 0.5));
        assert_eq!(of("[experts]\nbias_until = 30", "pretrain"), (1e-3, 60, 1e-4));
        let dense = testkit::config(11, true);
        assert_eq!(config("").balance("pretrain", &dense, 9, 1).loss, 0.0);
        let explained = config("[experts]\nbias_until = 30").explain_experts("pretrain").expect("balanced");
        assert!(explained.contains("1e-3") && explained.contains("until step 30"), "{explained}");
        assert_eq!(config("").explain_experts("sft"), None);
    }

    #[test]
    fn what_can_not_be_balanced_is_refused() {
        let dense = testkit::config(11, true);
        let error = config("[experts]\nbias_speed = 0.1").check_experts(&dense).expect_err("no experts");
        assert!(error.to_string().contains("[experts] is given"), "{error}");
        let v2 = testkit::kinds().into_iter().find(|kind| kind["model_type"] == "deepseek_v2");
        let v2 = testkit::config_with(11, true, v2.expect("a kind without biases"));
        let error = config("[experts]\nbias_speed = 0.1").check_experts(&v2).expect_err("no bias");
        assert!(error.to_string().contains("no bias"), "{error}");
        config("[experts]\nbalance_loss = 0.1").check_experts(&v2).expect("it has experts");
        for (text, wanted) in [
            ("[experts]\nbias_speed = -1.0", "experts.bias_speed"),
            ("[experts]\nbias_until = -1.0", "experts.bias_until"),
            ("[experts]\nbalance_loss = nan", "experts.balance_loss"),
            ("[adapter]\n[experts]\nbias_speed = 0.1", "adapter"),
        ] {
            let error = config(text).check().expect_err("refused").to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
