//! The loss in force, in words: `koan prefer --explain`.

use std::fmt::Write as _;

use super::config::{NllOver, Objective, PreferConfig};
use crate::stage::AdapterConfig;

impl PreferConfig {
    /// The loss in force, every constant with its value, for a reader who holds it against the paper.
    pub fn explain(&self) -> String {
        let o = &self.stage.optim;
        let mut lines = match self.algorithm.objective() {
            Objective::Pairs(loss, nll) => {
                let mut formula = format!("loss of a pair: {}", loss.explain());
                if nll.weight != 0.0 {
                    let over = match nll.over {
                        NllOver::Completion => "the chosen replies' tokens",
                        NllOver::PromptAndCompletion => "the tokens of prompts and chosen replies",
                    };
                    let _ = write!(formula, " + {} NLL, the mean over {over} of the update", nll.weight);
                }
                vec![
                    formula,
                    "c, r: sums of log-probabilities of the chosen and the rejected reply, end of sequence included; |c|, \
                     |r|: their tokens; s: the logistic function"
                        .to_owned(),
                ]
            }
            Objective::Rows(loss) => vec![
                format!("loss of a row: {}", loss.explain()),
                "l: log-ratio of the reply to the reference policy; s: the logistic function".to_owned(),
            ],
            Objective::Rank(loss) => vec![
                format!("loss of a pair: {}", loss.explain()),
                "c, r: the model's scores of the chosen and the rejected reply, read at their last token; m: the row's margin; \
                 s: the logistic function"
                    .to_owned(),
            ],
            Objective::Labels => vec![
                "loss of a row: -ln s(x) of a good reply, -ln s(-x) of a bad one".to_owned(),
                "x: the model's score of the reply, read at its last token; s: the logistic function".to_owned(),
            ],
        };
        if let Some(path) = self.reference_model() {
            lines.push(format!(
                "lc, lr, l: less those of the reference policy, {}, computed once before the first step",
                path.display()
            ));
        }
        lines.push(format!("mean over the {} rows of an update", self.batch));
        lines.extend(self.stage.explain_sums());
        lines.extend(self.stage.adapter.as_ref().map(AdapterConfig::explain));
        lines.extend(self.stage.explain_experts("prefer"));
        lines.push(o.explain(self.steps));
        lines.join("\n")
    }
}
