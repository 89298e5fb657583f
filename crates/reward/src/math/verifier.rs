//! The verifier `math` among the others: its options, and those of a problem.

use super::{Options, check_reference, judge_asked, same};
use crate::verifier::{Configured, Context, Sample, Verifier};
use crate::{Outcome, Verdict};
use koan_data::Problem;
use serde::de::DeserializeOwned;

/// Judges final answers by the problem's reference.
pub(crate) struct Math {
    options: Options,
}

impl Configured for Math {
    type Options = Options;

    fn build(options: Options, _: &Context) -> Result<Self, String> {
        Ok(Self { options })
    }
}

impl Verifier for Math {
    fn judge(&self, sample: &Sample) -> Verdict {
        match self.options_for(sample.problem) {
            Ok(options) => {
                let (answer, prompt) = (&sample.problem.answer, question(sample.problem));
                judge_asked(sample.completion, answer, prompt, &options)
            }
            Err(reason) => Verdict::without_answer(Outcome::BadReference, reason),
        }
    }

    fn check(&self, problem: &Problem) -> Result<(), String> {
        check_reference(&problem.answer, &self.options_for(problem)?)
    }

    fn same(&self, problem: &Problem, a: &str, b: &str) -> bool {
        self.options_for(problem).map_or(a == b, |options| same(a, b, &options))
    }
}

impl Math {
    /// The options, with `precision`, `strict`, `allow_set_relation_comp` and `unevaluated` as the problem has them.
    fn options_for(&self, problem: &Problem) -> Result<Options, String> {
        let mut options = self.options.clone();
        set(&mut options.precision, problem, "precision")?;
        set(&mut options.strict, problem, "strict")?;
        set(&mut options.allow_set_relation_comp, problem, "allow_set_relation_comp")?;
        set(&mut options.unevaluated, problem, "unevaluated")?;
        Ok(options)
    }
}

/// What is asked: the prompt, or the last message of the user.
fn question(problem: &Problem) -> Option<&str> {
    let asked =
        |messages: &'_ Vec<koan_data::Message>| messages.iter().rposition(|message| message.role == "user");
    match (&problem.prompt, &problem.messages) {
        (Some(prompt), _) => Some(prompt),
        (None, Some(messages)) => asked(messages).map(|at| messages[at].content.as_str()),
        (None, None) => None,
    }
}

/// Sets `option` to the problem's field `name`, where it is present and not null.
fn set<T: DeserializeOwned>(option: &mut T, problem: &Problem, name: &str) -> Result<(), String> {
    if let Some(value) = problem.other.get(name).filter(|value| !value.is_null()) {
        *option =
            serde_json::from_value(value.clone()).map_err(|error| format!("`{name}` is {value}: {error}"))?;
    }
    Ok(())
}
