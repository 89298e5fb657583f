//! How long completions may be, by step: R1-Zero's grew from 32,768 to 65,536 tokens after 8,200 steps (arXiv:2501.12948).

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor, value::SeqAccessDeserializer},
};

use crate::config::{ConfigError, check, is_size};

/// `rollout.max_new_tokens`: a number, or a list of numbers with the steps from which they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaxNewTokens(Vec<Phase>);

/// A number of tokens, and the first step that it holds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Phase {
    #[serde(default = "first")]
    from_step: u64,
    tokens: usize,
}

fn first() -> u64 {
    1
}

impl MaxNewTokens {
    /// The limit of step `step`, from 1, in tokens.
    pub fn at(&self, step: u64) -> usize {
        let begun = self.0.iter().take_while(|phase| phase.from_step <= step).last();
        begun.or(self.0.first()).map_or(0, |phase| phase.tokens)
    }

    /// The largest limit, in tokens.
    pub fn most(&self) -> usize {
        self.0.iter().map(|phase| phase.tokens).max().unwrap_or(0)
    }

    /// The limit, if it is one for all steps.
    pub fn fixed(&self) -> Option<usize> {
        match self.0[..] {
            [Phase { tokens, .. }] => Some(tokens),
            _ => None,
        }
    }

    /// How many of the first `steps` steps have which limit.
    pub fn phases(&self, steps: u64) -> impl Iterator<Item = (u64, usize)> {
        let ends = self.0.iter().skip(1).map(|phase| phase.from_step - 1).chain([u64::MAX]);
        self.0
            .iter()
            .zip(ends)
            .map(move |(phase, end)| ((end.min(steps) + 1).saturating_sub(phase.from_step), phase.tokens))
    }

    /// Refuses sizes that can't be meant, and steps that are not in order.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        const KEY: &str = "rollout.max_new_tokens";
        const ORDER: &str = "limits whose from_step rise, from 1 on";
        check(!self.0.is_empty(), KEY, &"empty", "a number of tokens, or a list of limits")?;
        self.0
            .iter()
            .try_for_each(|phase| check(is_size(phase.tokens), KEY, &phase.tokens, "1 to 1048576"))?;
        let begins = self.0[0].from_step == 1;
        check(begins && self.0.is_sorted_by(|a, b| a.from_step < b.from_step), KEY, self, ORDER)
    }

    /// Refuses limits that change.
    pub(crate) fn check_fixed(&self) -> Result<(), ConfigError> {
        self.check()?;
        let expected = "one number: only `koan rl` changes it by step";
        check(self.fixed().is_some(), "rollout.max_new_tokens", self, expected)
    }
}

impl From<usize> for MaxNewTokens {
    fn from(tokens: usize) -> Self {
        Self(vec![Phase { from_step: 1, tokens }])
    }
}

/// `256 tokens`, or `32768 tokens, from step 8200 on 65536`.
impl fmt::Display for MaxNewTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Phase { from_step, tokens }) in self.0.iter().enumerate() {
            match i {
                0 => write!(f, "{tokens} tokens")?,
                _ => write!(f, ", from step {from_step} on {tokens}")?,
            }
        }
        Ok(())
    }
}

impl Serialize for MaxNewTokens {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.fixed() {
            Some(tokens) => tokens.serialize(serializer),
            None => self.0.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for MaxNewTokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = MaxNewTokens;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str(
                    "a number of tokens, or a list as [{tokens = 256}, {from_step = 100, tokens = 512}]",
                )
            }

            fn visit_i64<E: de::Error>(self, n: i64) -> Result<MaxNewTokens, E> {
                let tokens = usize::try_from(n);
                tokens.map(Into::into).map_err(|_| E::invalid_value(de::Unexpected::Signed(n), &self))
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<MaxNewTokens, E> {
                let tokens = usize::try_from(n);
                tokens.map(Into::into).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(n), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<MaxNewTokens, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(MaxNewTokens)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    struct Table {
        n: MaxNewTokens,
        after: bool,
    }

    fn read(text: &str) -> Result<MaxNewTokens, String> {
        let table: Table = toml::from_str(&format!("n = {text}\nafter = true")).map_err(|e| e.to_string())?;
        table.n.check().map_err(|e| e.to_string())?;
        let again = toml::to_string(&table).expect("TOML");
        assert_eq!(toml::from_str::<Table>(&again).expect(&again), table);
        Ok(table.n)
    }

    #[test]
    fn a_limit_holds_from_its_step_to_the_next() {
        let one = read("7").expect("a limit");
        assert_eq!((one.at(1), one.at(99), one.most(), one.fixed()), (7, 7, 7, Some(7)));
        assert_eq!(one.phases(5).collect::<Vec<_>>(), [(5, 7)]);
        let grows =
            read("[{tokens = 5}, {from_step = 3, tokens = 9}, {from_step = 8, tokens = 6}]").expect("limits");
        assert_eq!([0, 1, 2, 3, 7, 8, 100].map(|step| grows.at(step)), [5, 5, 5, 9, 9, 6, 6]);
        assert_eq!((grows.most(), grows.fixed()), (9, None));
        assert_eq!(grows.phases(100).collect::<Vec<_>>(), [(2, 5), (5, 9), (93, 6)]);
        assert_eq!(grows.phases(4).collect::<Vec<_>>(), [(2, 5), (2, 9), (0, 6)]);
        assert_eq!(grows.to_string(), "5 tokens, from step 3 on 9, from step 8 on 6");
    }

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        for (text, said) in [
            ("0", "1 to 1048576"),
            ("-1", "a number of tokens, or a list"),
            ("'x'", "a number of tokens, or a list"),
            ("[]", "a number of tokens, or a list"),
            ("[{from_step = 2, tokens = 3}]", "from_step rise, from 1 on"),
            ("[{from_step = 0, tokens = 3}]", "from_step rise, from 1 on"),
            ("[{tokens = 3}, {tokens = 3}]", "from_step rise, from 1 on"),
            ("[{tokens = 3}, {from_step = 5, token = 3}]", "unknown field `token`"),
            ("[{tokens = 0}]", "1 to 1048576"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
