//! What is learned, in words: `koan distill --explain`.

use koan_backend::{Divergence, DivergenceForm, Support};

use super::config::{DistillConfig, Method};
use crate::stage::AdapterConfig;

impl DistillConfig {
    /// The formula in force, every constant with its value, for a reader who holds it against the paper.
    pub fn explain(&self) -> String {
        let mut lines = match self.algorithm.method {
            Method::Logits => {
                let of = self.algorithm.divergence();
                vec![
                    format!("minimise 1/T sum_t D(p_t, q_t), {}", formula(of)),
                    format!(
                        "p, q: softmax(logits / {}) of the teacher, {}, and of the student, {}; no factor of the temperature's \
                         square",
                        of.temperature,
                        self.teacher.display(),
                        self.stage.model.display()
                    ),
                    support(of),
                    "T: the learned tokens of an update, those of the assistant's replies".to_owned(),
                ]
                .into_iter()
                .filter(|line| !line.is_empty())
                .collect()
            }
            Method::Samples => {
                let r = self.rollout();
                let teacher = match &self.server {
                    Some(server) => format!("`{}` at {}", server.model, server.base()),
                    None => self.teacher.display().to_string(),
                };
                vec![
                    "minimise -1/T sum_t ln q(y_t)".to_owned(),
                    format!(
                        "y: {} completions of each problem by the teacher, {teacher}, at temperature {}, cut at {}, in the tokens \
                         of the student, {}",
                        r.group_size,
                        r.temperature,
                        r.max_new_tokens,
                        self.stage.model.display()
                    ),
                    "T: the tokens of an update".to_owned(),
                ]
            }
            Method::OnPolicy => {
                let r = self.rollout();
                vec![
                    super::on_policy::loss(r.max_new_tokens.most()).explain(),
                    format!(
                        "A = ln p(o_t) - ln q(o_t) of each token by itself, no gradient through it: p of the teacher, {}, q of the \
                         student as it sampled, both softmax(logits / {})",
                        self.teacher.display(),
                        r.temperature
                    ),
                    format!(
                        "{} completions of each of {} problems per step, cut at {}; those cut count as they are",
                        r.group_size, r.problems, r.max_new_tokens
                    ),
                ]
            }
        };
        lines.extend(self.stage.explain_sums());
        lines.extend(self.stage.adapter.as_ref().map(AdapterConfig::explain));
        lines.extend(self.stage.explain_experts("distill"));
        lines.push(self.stage.optim.explain(self.steps));
        lines.join("\n")
    }
}

fn formula(of: Divergence) -> String {
    match of.form {
        DivergenceForm::Forward => "D = KL(p||q) = sum_v p ln(p/q)".to_owned(),
        DivergenceForm::Reverse => "D = KL(q||p) = sum_v q ln(q/p)".to_owned(),
        DivergenceForm::JensenShannon { beta } => {
            format!("D = {beta} KL(p||m) + {} KL(q||m), m = {beta} p + {} q", 1.0 - beta, 1.0 - beta)
        }
    }
}

fn support(of: Divergence) -> String {
    match of.support {
        Support::Whole => String::new(),
        Support::Renormalised(k) => {
            format!("of p the {k} likeliest tokens, scaled to sum to 1; q whole")
        }
        Support::WithRest(k) => {
            format!("over {} classes: the {k} tokens that are likeliest in p, and all others as one", k + 1)
        }
    }
}
