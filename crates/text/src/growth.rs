//! How much longer the rules of a `tokenizer.json` can make a text.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::TextError;

/// The most by which the rules of one part of a tokenizer may multiply a text. Those of real models replace a space by `▁` and
/// quotation marks by others: three times.
const MAX_GROWTH: usize = 64;

/// Refuses a tokenizer whose rules make texts more than [`MAX_GROWTH`] times as long.
pub(crate) fn check(bytes: &[u8], path: &Path) -> Result<(), TextError> {
    #[derive(Deserialize)]
    struct Parts {
        normalizer: Option<Value>,
        pre_tokenizer: Option<Value>,
        decoder: Option<Value>,
    }
    let json = |source| TextError::Json { path: path.to_owned(), source };
    let parts: Parts = serde_json::from_slice(bytes).map_err(json)?;
    for (part, rules) in
        [("normalizer", parts.normalizer), ("pre_tokenizer", parts.pre_tokenizer), ("decoder", parts.decoder)]
    {
        let factor = rules.as_ref().map_or(1, factor);
        if factor > MAX_GROWTH {
            return Err(TextError::TokenizerGrowth {
                path: path.to_owned(),
                part,
                factor,
                limit: MAX_GROWTH,
            });
        }
    }
    Ok(())
}

/// The product over all rules, wherever they stand in `rules`.
fn factor(rules: &Value) -> usize {
    let length = |key: &str| rules.get(key).and_then(Value::as_str).map_or(0, str::len);
    let own = match rules.get("type").and_then(Value::as_str) {
        Some("Replace") => {
            let pattern =
                |kind| rules.get("pattern").and_then(|pattern| pattern.get(kind)).and_then(Value::as_str);
            let may_match_nothing =
                |regex: &str| regex.contains(['*', '?', '|', '^', '$', '\\']) || regex.contains("{0");
            match (pattern("String"), pattern("Regex")) {
                (Some(replaced), _) => length("content").div_ceil(replaced.len().max(1)),
                (None, Some(regex)) if !may_match_nothing(&regex.replace("\\s", " ")) => length("content"),
                _ => length("content") + 1, // it may match between any two characters
            }
        }
        Some("Prepend") => length("prepend") + 1,
        Some("Metaspace") => length("replacement"),
        _ => 1,
    };
    let nested = match rules {
        Value::Object(fields) => {
            fields.values().fold(1_usize, |product, value| product.saturating_mul(factor(value)))
        }
        Value::Array(items) => {
            items.iter().fold(1_usize, |product, value| product.saturating_mul(factor(value)))
        }
        _ => 1,
    };
    own.max(1).saturating_mul(nested)
}
