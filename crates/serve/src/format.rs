//! Replies that must be JSON: which tokens may come next, by `llguidance`.

use std::sync::Arc;

use koan_backend::Draw;
use koan_generate::Sampled;
use koan_infer::{Codec, draw_among};
use llguidance::{
    Matcher, ParserFactory,
    api::TopLevelGrammar,
    toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie},
};
use serde_json::{Value, json};

use crate::{ask::Format, error::ApiError};

/// Longest token that formats may use, bytes.
const MAX_TOKEN_BYTES: usize = 255;
/// White space that a model may write in one place of its JSON: without a bound, some never end.
const WHITE_SPACE: &str = r"[ \n\r\t]{0,40}";

/// Makes formats for one model.
pub(crate) struct Formats {
    factory: ParserFactory,
}

/// What a reply may go on with.
pub(crate) struct Constraint {
    matcher: Matcher,
}

impl Formats {
    /// For the model of `codec`, whose replies end with token `end`.
    ///
    /// # Errors
    /// In words, why the library refuses the vocabulary.
    pub(crate) fn new(codec: &Codec, end: u32) -> Result<Self, String> {
        let tokenizer = codec.tokenizer().map_err(|error| error.to_string())?;
        let vocab_size = codec.config().vocab_size as u32;
        let word = |id: u32| {
            let bytes = tokenizer.token_bytes(id);
            // Special tokens are no text, whatever their names.
            let marked = if tokenizer.is_special(id) || id == end {
                [&[TokTrie::SPECIAL_TOKEN_MARKER][..], &bytes].concat()
            } else {
                bytes
            };
            if marked.len() > MAX_TOKEN_BYTES { Vec::new() } else { marked }
        };
        let words: Vec<Vec<u8>> = (0..vocab_size).map(word).collect();
        let trie = TokTrie::from(&TokRxInfo::new(vocab_size, end), &words);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&env).map_err(|error| error.to_string())?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(Self { factory })
    }

    /// What holds a reply to `format`; `None` where any text will do.
    ///
    /// # Errors
    /// A schema that can't be held to.
    pub(crate) fn constraint(&self, format: &Format) -> Result<Option<Constraint>, ApiError> {
        let mut schema = match format {
            Format::Text => return Ok(None),
            Format::JsonObject => json!({"type": "object"}),
            Format::JsonSchema(schema) => schema.clone(),
        };
        if let Value::Object(schema) = &mut schema {
            schema.insert("x-guidance".to_owned(), json!({"whitespace_pattern": WHITE_SPACE}));
        }
        let wrong = |error: &dyn std::fmt::Display| {
            let words: String = error.to_string().chars().take(500).collect();
            ApiError::wrong(
                "response_format",
                format!("Invalid 'response_format': the schema can't be held to: {words}."),
            )
        };
        let parser =
            self.factory.create_parser(TopLevelGrammar::from_json_schema(schema)).map_err(|e| wrong(&e))?;
        let mut matcher = Matcher::new(Ok(parser));
        // What fails at the first token would fail every answer.
        matcher.compute_mask_or_eos().map_err(|e| wrong(&e))?;
        Ok(Some(Constraint { matcher }))
    }
}

impl Constraint {
    /// The same, for another choice.
    pub(crate) fn copy(&self) -> Self {
        Self { matcher: self.matcher.deep_clone() }
    }

    /// Draws the next token from those that are allowed; `None`: the library gave up.
    pub(crate) fn draw(&mut self, logits: &[f32], draw: &Draw) -> Option<Sampled> {
        let mask = self.matcher.compute_mask_or_eos().ok()?;
        let drawn = draw_among(logits, draw, mask.iter())?;
        self.matcher.consume_token(drawn.token).ok()?;
        Some(drawn)
    }
}
