//! YAML of JSON values: blocks, with every text in double quotes, so that none is taken for something else.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// A mapping, its lines ended.
pub(super) fn mapping(map: &Map<String, Value>) -> String {
    let mut out = String::new();
    in_block(map, 0, &mut out);
    out
}

fn in_block(map: &Map<String, Value>, depth: usize, out: &mut String) {
    for (key, value) in map {
        line(depth, &format!("{}:", key_of(key)), value, out);
    }
}

/// A value below or beside what leads to it.
fn line(depth: usize, lead: &str, value: &Value, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => {
            writeln!(out, "{indent}{lead}").expect("a string");
            in_block(map, depth + 1, out);
        }
        Value::Array(values) if !values.is_empty() => {
            writeln!(out, "{indent}{lead}").expect("a string");
            for value in values {
                line(depth + 1, "-", value, out);
            }
        }
        scalar => writeln!(out, "{indent}{lead} {}", scalar_of(scalar)).expect("a string"),
    }
}

fn key_of(key: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let starts = key.starts_with(|c: char| c.is_ascii_alphabetic());
    // YAML 1.1 takes some words for truth values.
    let is_word =
        ["y", "n", "yes", "no", "on", "off", "true", "false", "null"].contains(&&*key.to_ascii_lowercase());
    if starts && key.chars().all(is_plain) && !is_word { key.to_owned() } else { quoted(key) }
}

fn scalar_of(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        // YAML 1.1 knows no exponent without a point and a sign.
        Value::Number(n) if n.is_f64() => {
            let n = n.as_f64().unwrap_or(0.0);
            let plain = format!("{n}");
            if plain.contains('.') { plain } else { format!("{plain}.0") }
        }
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        other => other.to_string(),
    }
}

/// A text in double quotes; letters and digits of any script stand for themselves, all else that is not ASCII is escaped.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            ' '..='~' => out.push(c),
            c if c.is_alphanumeric() && u32::from(c) <= 0xffff => out.push(c),
            c if u32::from(c) <= 0xffff => write!(out, "\\u{:04X}", u32::from(c)).expect("a string"),
            c => write!(out, "\\U{:08X}", u32::from(c)).expect("a string"),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_blocks_and_texts_are_quoted() {
        let Value::Object(map) = json!({
            "license": "mit", "a b": true, "no": 1, "none": [], "model-index": [{"name": "x: y\n---\n", "results": [{"value": 0.5}, {"value": 1e-7}]}],
        }) else {
            unreachable!("an object")
        };
        assert_eq!(
            mapping(&map),
            "license: \"mit\"\n\"a b\": true\n\"no\": 1\nnone: []\nmodel-index:\n  -\n    name: \"x: y\\n---\\n\"\n    results:\n      \
             -\n        value: 0.5\n      -\n        value: 0.0000001\n"
        );
        assert_eq!(quoted("数 é \u{85}\u{1f600}\u{7f}\"\\"), "\"数 é \\u0085\\U0001F600\\u007F\\\"\\\\\"");
    }
}
