//! The settings in force, in words: `koan pretrain --explain`, `koan sft --explain`.

use super::{BatchSize, ContextConfig, MultiTokenConfig, Packing, Stage, SupervisedConfig};
use crate::stage::AdapterConfig;

impl SupervisedConfig {
    /// What `stage` does by these settings, every constant with its value. Which step has what is said where `steps` is given;
    /// with `epochs` the data decide.
    pub fn explain(&self, stage: Stage) -> String {
        let optim = &self.stage.optim;
        let learned = match stage {
            Stage::Pretrain => "all tokens of texts",
            Stage::Sft => "the tokens of the assistant's replies",
        };
        let mut lines =
            vec![format!("L = - 1/T sum_t log p(x_t | x_<t), over the T tokens of an update: {learned}")];
        lines.push(self.explain_batch());
        if stage == Stage::Pretrain {
            lines.push(match self.packing {
                Packing::Isolated => "no text attends to another; positions begin at 0 with each".into(),
                Packing::Across => format!(
                    "texts are joined to sequences of {} tokens, and attend to those before them; positions run on",
                    self.max_tokens
                ),
            });
        }
        if let Some(fim) = self.fim.as_ref().filter(|fim| fim.rate > 0.0) {
            let [begin, hole, end] =
                fim.tokens.clone().unwrap_or(["begin", "hole", "end"].map(|name| format!("<{name}>")));
            lines.push(format!(
                "of {} of the texts the middle comes last: {begin} prefix {hole} suffix {end} middle",
                fim.rate
            ));
        }
        lines.extend(self.context.as_ref().map(ContextConfig::explain));
        lines.extend(self.multi_token.as_ref().map(MultiTokenConfig::explain));
        lines.extend(self.stage.adapter.as_ref().map(AdapterConfig::explain));
        lines.extend(self.stage.explain_experts(stage.name()));
        lines.push(optim.explain(self.steps));
        lines.join("\n")
    }

    fn explain_batch(&self) -> String {
        let tokens = self.batch_tokens;
        let Some(growth) = self.batch_growth.filter(|growth| growth.from < 1.0) else {
            return format!("an update has at least {tokens} tokens, in texts of up to {}", self.max_tokens);
        };
        let (first, until) = match self.steps {
            Some(steps) => {
                let first = BatchSize::new(tokens, self.batch_growth).at(1, steps);
                (first, format!("step {}", (growth.until * steps as f64).round()))
            }
            None => ((growth.from * tokens as f64) as u64, format!("{:.4} of the steps", growth.until)),
        };
        format!(
            "an update has at least {first} tokens, growing until {until} to {tokens}, in texts of up to {}",
            self.max_tokens
        )
    }
}
