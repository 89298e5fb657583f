//! The table of verifiers.

use crate::{RewardError, Verdict, format, number};
use std::fmt;

/// Every verifier, in the order in which help lists them.
pub static VERIFIERS: [Verifier; 2] = [
    Verifier {
        name: "number",
        about: "the final answer is a number, compared exactly",
        judge: number::judge,
    },
    Verifier { name: "format", about: "one <think> block, then one <answer> block", judge: format::judge },
];

/// A way to tell what a completion earned.
#[derive(Clone, Copy)]
pub struct Verifier {
    name: &'static str,
    about: &'static str,
    judge: fn(&str, &str) -> Verdict,
}

impl Verifier {
    /// The verifier called `name`.
    ///
    /// # Errors
    /// [`RewardError::UnknownVerifier`] where there is none; it lists those there are, the nearest first.
    pub fn by_name(name: &str) -> Result<Self, RewardError> {
        VERIFIERS.iter().find(|verifier| verifier.name == name).copied().ok_or_else(|| {
            let mut known = VERIFIERS.map(|verifier| verifier.name);
            known.sort_by_cached_key(|known| strsim::damerau_levenshtein(known, name));
            RewardError::UnknownVerifier { name: name.to_owned(), known: known.to_vec() }
        })
    }

    /// The name by which files and options call it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it checks, in a line for help.
    pub fn about(&self) -> &'static str {
        self.about
    }

    /// Judges `completion` by the reference `answer`. Total: returns for every pair of strings.
    pub fn judge(&self, completion: &str, answer: &str) -> Verdict {
        (self.judge)(completion, answer)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verifier_is_found_by_its_name() {
        for verifier in &VERIFIERS {
            assert_eq!(Verifier::by_name(verifier.name).expect("in the table").name, verifier.name);
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones_nearest_first() {
        let error = Verifier::by_name("fromat").expect_err("not a name").to_string();
        assert_eq!(error, "there is no verifier `fromat`; use one of: format, number");
        assert!(Verifier::by_name("math").is_err());
    }
}
