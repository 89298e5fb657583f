//! The verifier `math` among the others: its options, and those of a problem.

use super::{Options, check_reference, judge, same};
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
            Ok(options) => judge(sample.completion, &sample.problem.answer, &options),
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
    /// The options, with `precision`, `strict` and `allow_set_relation_comp` as the problem has them.
    fn options_for(&self, problem: &Problem) -> Result<Options, String> {
        let mut options = self.options.clone();
        set(&mut options.precision, problem, "precision")?;
        set(&mut options.strict, problem, "strict")?;
        set(&mut options.allow_set_relation_comp, problem, "allow_set_relation_comp")?;
        Ok(options)
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
