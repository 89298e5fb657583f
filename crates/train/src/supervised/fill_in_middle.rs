//! Filling in the middle (arXiv:2207.14255): some texts are learned with their middle last, so that the model learns to write
//! what lies between two texts.
//!
//! ```text
//! begin prefix hole suffix end middle eos      prefix, suffix, middle: PSM
//! ```

use koan_generate::{Stream, uniform};
use koan_text::Tokenizer;
use serde::{Deserialize, Serialize};

use super::SupervisedError;
use crate::{
    TrainError,
    config::{ConfigError, check},
};

/// Tokens of tokenizers that have some, before the prefix, the suffix and the middle.
const KNOWN: [[&str; 3]; 4] = [
    ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"], // DeepSeek's
    ["<|fim_begin|>", "<|fim_hole|>", "<|fim_end|>"],       // as DeepSeek's papers print them
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"], // Qwen's
    ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],       // StarCoder's
];

/// `[fim]`: the share of texts that are learned with their middle last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FimConfig {
    /// The share, 0 to 1.
    pub rate: f64,
    /// The tokens before the prefix, the suffix and the middle; without it, those that DeepSeek's, Qwen's or StarCoder's tokenizer has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<[String; 3]>,
}

impl FimConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        check((0.0..=1.0).contains(&self.rate), "fim.rate", &self.rate, "0 to 1")?;
        let Some([a, b, c]) = &self.tokens else { return Ok(()) };
        let differ = a != b && b != c && a != c;
        check(differ, "fim.tokens", &format!("{a}, {b}, {c}"), "three tokens, each another one")
    }
}

/// Which texts are cut, where, and the tokens that go between.
#[derive(Clone, Copy, Debug)]
pub(super) struct FillInMiddle {
    rate: f64,
    seed: u64,
    tokens: [u32; 3],
}

impl FillInMiddle {
    /// As `config` says, by the tokens of `tokenizer`; none if its rate is 0.
    ///
    /// # Errors
    /// If the tokenizer has no such tokens.
    pub(super) fn new(
        config: &FimConfig,
        seed: u64,
        tokenizer: &Tokenizer,
    ) -> Result<Option<Self>, SupervisedError> {
        if config.rate == 0.0 {
            return Ok(None);
        }
        let ids = |names: [&str; 3]| -> Option<[u32; 3]> {
            let [a, b, c] = names.map(|name| tokenizer.token_id(name));
            Some([a?, b?, c?])
        };
        let found = match &config.tokens {
            Some(names) => {
                let names = names.each_ref().map(String::as_str);
                let absent = || names.into_iter().find(|name| tokenizer.token_id(name).is_none());
                ids(names).ok_or_else(|| absent().unwrap_or_default().to_owned())
            }
            None => KNOWN.into_iter().find_map(ids).ok_or_else(|| KNOWN[1][0].to_owned()),
        };
        let tokens = found.map_err(|token| SupervisedError::NoFimToken { token })?;
        Ok(Some(Self { rate: config.rate, seed, tokens }))
    }

    /// The prefix, middle and suffix of text number `number`, cut between any two characters; none if it is learned as it is.
    pub(super) fn parts<'t>(&self, number: u64, text: &'t str) -> Option<[&'t str; 3]> {
        let draw = |i| uniform(self.seed, Stream::FillInMiddle, number, 0, i);
        if text.is_empty() || draw(0) >= self.rate {
            return None;
        }
        let places = text.chars().count() + 1;
        let place = |i| ((draw(i) * places as f64) as usize).min(places - 1);
        let byte = |place| text.char_indices().nth(place).map_or(text.len(), |(byte, _)| byte);
        let (a, b) = (byte(place(1)), byte(place(2)));
        let (begin, end) = (a.min(b), a.max(b));
        Some([&text[..begin], &text[begin..end], &text[end..]])
    }

    /// The tokens of a text in these parts, without its end.
    ///
    /// # Errors
    /// If the tokenizer has no tokens for some of it.
    pub(super) fn encode(&self, parts: [&str; 3], tokenizer: &Tokenizer) -> Result<Vec<u32>, TrainError> {
        let [prefix, middle, suffix] = parts;
        let mut ids = Vec::new();
        for (token, part) in self.tokens.into_iter().zip([prefix, suffix, middle]) {
            ids.push(token);
            ids.extend(tokenizer.encode_corpus(part, false)?);
        }
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A tokenizer whose tokens are bytes.
    fn tokenizer() -> Tokenizer {
        let folder = tempfile::tempdir().expect("a folder");
        let model = folder.path().join("model");
        koan_model::init_tiny(0, &model).expect("a model");
        Tokenizer::load(&model).expect("a tokenizer")
    }

    /// The tokens that stand for the bytes 1, 2 and 3.
    fn bytes() -> [String; 3] {
        ["ā", "Ă", "ă"].map(str::to_owned)
    }

    #[test]
    fn tokens_are_looked_up_or_asked_for() {
        let tokenizer = tokenizer();
        let new = |rate, tokens| FillInMiddle::new(&FimConfig { rate, tokens }, 1, &tokenizer);
        assert!(new(0.0, None).expect("nothing to look up").is_none());
        assert_eq!(new(0.5, Some(bytes())).expect("there").expect("asked for").tokens, [1, 2, 3]);
        for (tokens, absent) in [
            (None, "`<|fim_begin|>`"),
            (Some(["ā".to_owned(), "<none>".to_owned(), "ă".to_owned()]), "`<none>`"),
        ] {
            let error = new(0.1, tokens).expect_err("refused").to_string();
            assert!(error.contains(absent) && error.contains("fim.tokens = ["), "{error}");
        }
        let twice = FimConfig { rate: 0.1, tokens: Some(["a", "b", "a"].map(str::to_owned)) };
        assert!(twice.check().expect_err("refused").to_string().contains("each another one"));
        assert!(FimConfig { rate: f64::NAN, tokens: None }.check().is_err());
    }

    #[test]
    fn a_share_of_texts_is_cut_anywhere() {
        let fim = FillInMiddle { rate: 0.1, seed: 5, tokens: [1, 2, 3] };
        let cut: Vec<_> = (0..10_000).filter_map(|number| fim.parts(number, "abc")).collect();
        assert!((900..1100).contains(&cut.len()), "{}", cut.len());
        for part in 0..3 {
            for len in 0..=3 {
                assert!(cut.iter().any(|parts| parts[part].len() == len), "part {part} of {len} characters");
            }
        }
        assert_eq!(fim.parts(7, "abc"), fim.parts(7, "abc"));
        let other = FillInMiddle { seed: 6, ..fim };
        assert!((0..100).any(|number| fim.parts(number, "abc") != other.parts(number, "abc")));
        assert_eq!(FillInMiddle { rate: 1.0, ..fim }.parts(0, ""), None);
    }

    proptest! {
        #[test]
        fn no_character_is_lost(text in "\\PC{0,12}|[a-zé\u{1F600}\u{301} \\n]{0,20}", number in 0u64..100) {
            let tokenizer = tokenizer();
            let fim = FillInMiddle { rate: 1.0, seed: 3, tokens: [1, 2, 3] };
            let Some(parts) = fim.parts(number, &text) else {
                prop_assert!(text.is_empty());
                return Ok(());
            };
            prop_assert_eq!(parts.concat(), &*text);
            let ids = fim.encode(parts, &tokenizer).expect("bytes are tokens");
            let place = |token| ids.iter().position(|&id| id == token).expect("there");
            let (begin, hole, end) = (place(1), place(2), place(3));
            prop_assert!(begin == 0 && hole < end);
            let decoded = |ids: &[u32]| tokenizer.decode(ids, false).expect("decodes");
            let [prefix, suffix, middle] = [&ids[1..hole], &ids[hole + 1..end], &ids[end + 1..]].map(decoded);
            prop_assert_eq!(format!("{prefix}{middle}{suffix}"), text);
        }
    }
}
