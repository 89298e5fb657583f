//! The arguments of a constraint, each of its type.

use crate::verdict::shorten;
use serde_json::{Map, Value};

/// The arguments of one constraint.
pub(super) struct Arguments {
    function: &'static str,
    values: Map<String, Value>,
}

/// What a count is compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantifier {
    AtLeast,
    AtMost,
    Around,
}

impl Quantifier {
    /// Whether `count` is at least, at most or around `n`: within `tolerance` of it.
    pub(super) fn holds(self, count: usize, n: usize, tolerance: usize) -> bool {
        match self {
            Self::AtLeast => count >= n,
            Self::AtMost => count <= n,
            Self::Around => count.abs_diff(n) <= tolerance,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AtLeast => "at least",
            Self::AtMost => "at most",
            Self::Around => "around",
        }
    }
}

/// A tenth of `n`, to the nearest even where it lies between two, and at least 1: what "around" allows words.
pub(super) fn tenth(n: usize) -> usize {
    ((n as f64 * 0.1).round_ties_even() as usize).max(1)
}

impl Arguments {
    /// The arguments of `function`. Those that are null are absent; `known` are the names that it has.
    pub(super) fn new(
        function: &'static str,
        known: &[&str],
        mut values: Map<String, Value>,
    ) -> Result<Self, String> {
        values.retain(|_, value| !value.is_null());
        match values.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(format!("`{function}` has no argument `{name}`")),
            None => Ok(Self { function, values }),
        }
    }

    fn value(&self, name: &str, is: &str) -> Result<&Value, String> {
        self.values.get(name).ok_or_else(|| format!("`{}` needs `{name}`, {is}", self.function))
    }

    fn wrong(&self, name: &str, value: &Value, expected: &str) -> String {
        format!("`{name}` of `{}` is {}; write {expected}", self.function, shorten(&value.to_string()))
    }

    /// A whole number from `min` up. One that is written as a fraction (3.0) is one too.
    pub(super) fn count(&self, name: &str, min: usize) -> Result<usize, String> {
        let value = self.value(name, "a whole number")?;
        let whole = value.as_u64().or_else(|| {
            let float = value.as_f64().filter(|float| float.fract() == 0.0 && (0.0..1e15).contains(float));
            float.map(|float| float as u64)
        });
        match whole.and_then(|n| usize::try_from(n).ok()) {
            Some(n) if n >= min => Ok(n),
            _ => Err(self.wrong(name, value, &format!("a whole number, {min} or more"))),
        }
    }

    /// A text with something in it, without white space around it.
    pub(super) fn text(&self, name: &str) -> Result<String, String> {
        let value = self.value(name, "a text")?;
        match value.as_str().map(str::trim) {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(self.wrong(name, value, "a text that is not empty")),
        }
    }

    /// One character.
    pub(super) fn letter(&self, name: &str) -> Result<char, String> {
        let text = self.text(name)?;
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(letter), None) => Ok(letter),
            _ => Err(self.wrong(name, &Value::from(text), "one letter")),
        }
    }

    /// A list of texts with something in each.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, String> {
        let value = self.value(name, "a list of texts")?;
        let text =
            |value: &Value| value.as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
        let texts = value.as_array().and_then(|all| all.iter().map(text).collect::<Option<Vec<_>>>());
        texts
            .filter(|texts| !texts.is_empty())
            .ok_or_else(|| self.wrong(name, value, "a list of texts that are not empty"))
    }

    /// `quantifier` with its `N`. At least 0 would always hold.
    pub(super) fn quantity(&self) -> Result<(Quantifier, usize), String> {
        let value = self.value("quantifier", "`at least`, `around` or `at most`")?;
        let quantifier = match value.as_str() {
            Some("at least") => Quantifier::AtLeast,
            Some("at most") => Quantifier::AtMost,
            Some("around") => Quantifier::Around,
            _ => return Err(self.wrong("quantifier", value, "`at least`, `around` or `at most`")),
        };
        Ok((quantifier, self.count("N", usize::from(quantifier == Quantifier::AtLeast))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn arguments(values: Value) -> Result<Arguments, String> {
        let Value::Object(values) = values else { panic!("an object") };
        Arguments::new("f", &["N", "word", "quantifier", "options"], values)
    }

    #[test]
    fn each_has_its_type() {
        let of = |values| arguments(values).expect("known names");
        assert_eq!(of(json!({"N": 3})).count("N", 1), Ok(3));
        assert_eq!(of(json!({"N": 3.0})).count("N", 1), Ok(3));
        assert_eq!(of(json!({"word": " a "})).text("word"), Ok("a".to_owned()));
        assert_eq!(of(json!({"word": "é"})).letter("word"), Ok('é'));
        assert_eq!(
            of(json!({"options": ["a", "b c"]})).texts("options"),
            Ok(vec!["a".to_owned(), "b c".to_owned()])
        );
        assert_eq!(of(json!({"N": 0, "quantifier": "at most"})).quantity(), Ok((Quantifier::AtMost, 0)));
        for n in [json!(3.5), json!("3"), json!(-1), json!(true), json!([3]), json!(1e300)] {
            assert!(of(json!({"N": n.clone()})).count("N", 0).is_err(), "{n}");
        }
        assert!(of(json!({"N": 0})).count("N", 1).is_err());
        assert!(of(json!({"N": 0, "quantifier": "at least"})).quantity().is_err());
        assert!(of(json!({"N": 1, "quantifier": "less than"})).quantity().is_err());
        assert!(of(json!({"word": " "})).text("word").is_err());
        assert!(of(json!({"word": "ab"})).letter("word").is_err());
        for options in [json!([]), json!("a"), json!(["a", 7]), json!(["a", ""])] {
            assert!(of(json!({"options": options.clone()})).texts("options").is_err(), "{options}");
        }
        assert!(arguments(json!({"n": 1})).is_err(), "not a name");
        assert!(arguments(json!({"n": null})).is_ok(), "absent");
    }

    #[test]
    fn around_is_a_tenth_and_at_least_one() {
        assert_eq!([0, 5, 14, 15, 25, 35, 200].map(tenth), [1, 1, 1, 2, 2, 4, 20]);
        assert!(Quantifier::Around.holds(90, 100, 10) && !Quantifier::Around.holds(89, 100, 10));
    }
}
