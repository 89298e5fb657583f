use std::fs;

use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::*;
use crate::Message;

/// A special token.
pub(crate) fn special(id: usize, content: &str) -> Value {
    json!({"id": id, "content": content, "special": true,
           "single_word": false, "lstrip": false, "rstrip": false, "normalized": false})
}

/// A byte-level BPE: 256 bytes, three merges, two special tokens, and a beginning-of-sequence token before
/// every text.
fn tokenizer_json() -> Value {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let words = ["th", "the", "Ġthe"].map(str::to_owned);
    let tokens = alphabet.into_iter().map(String::from).chain(words);
    let vocab: BTreeMap<String, usize> = tokens.zip(0..).collect();
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0",
        "truncation": {"max_length": 2, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "added_tokens": [special(259, "<s>"), special(300, "</s>")],
        "pre_tokenizer": byte_level,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [259], "tokens": ["<s>"]}},
        },
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocab, "merges": ["t h", "th e", "Ġ the"]},
    })
}

fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (name, content) in files {
        fs::write(dir.path().join(name), content).expect("a file in it");
    }
    dir
}

fn load(config: &Value) -> Result<Tokenizer, TextError> {
    let files = [("tokenizer.json", tokenizer_json()), ("tokenizer_config.json", config.clone())];
    let files = files.map(|(name, json)| (name, json.to_string()));
    let dir = directory(&files.each_ref().map(|(name, text)| (*name, text.as_bytes())));
    Tokenizer::load(dir.path())
}

/// The tokenizer that `json` describes.
pub(crate) fn from_json(json: &Value) -> Tokenizer {
    let dir = directory(&[("tokenizer.json", json.to_string().as_bytes())]);
    Tokenizer::load(dir.path()).expect("a tokenizer")
}

/// The tiny tokenizer with more special tokens, and `config` as its tokenizer_config.json.
pub(crate) fn with_config(tokens: Vec<Value>, config: &Value) -> Tokenizer {
    let mut json = tokenizer_json();
    json["added_tokens"].as_array_mut().expect("a list").extend(tokens);
    let dir = directory(&[
        ("tokenizer.json", json.to_string().as_bytes()),
        ("tokenizer_config.json", config.to_string().as_bytes()),
    ]);
    Tokenizer::load(dir.path()).expect("a tokenizer")
}

pub(crate) fn tiny() -> Tokenizer {
    load(&json!({"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}}))
        .expect("a tokenizer")
}

#[test]
fn special_tokens_are_known_and_recognised() {
    let tokenizer = tiny();
    let (bos, eos, the) = (259, 260, tokenizer.token_id("Ġthe").expect("a token"));
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.pad()), (Some(bos), Some(eos), None));
    assert_eq!(tokenizer.vocab_size(), 261);
    assert_eq!(tokenizer.encode("</s> the</s>", false).expect("ids"), [eos, the, eos]);
    assert_eq!(tokenizer.encode(" the the the", true).expect("ids"), [bos, the, the, the]);
    assert!(tokenizer.encode("", false).expect("ids").is_empty());
    assert_eq!(tokenizer.decode(&[bos, the, eos], false).expect("text"), "<s> the</s>");
    assert_eq!(tokenizer.decode(&[bos, the, 7_000, eos], true).expect("text"), " the");
}

#[test]
fn a_template_comes_from_the_config_or_a_file_of_its_own() {
    let said = |tokenizer: Tokenizer| {
        let template = tokenizer.chat_template(false).expect("one of them").expect("a chat template");
        template.render(&[Message::new("user", "x")], false).expect("a prompt")
    };
    let named = json!([{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]);
    assert_eq!(
        said(load(&json!({"chat_template": "{{ bos_token }}", "bos_token": "<s>"})).expect("loads")),
        "<s>"
    );
    assert_eq!(said(load(&json!({"chat_template": named})).expect("loads")), "d");
    assert!(load(&json!({})).expect("loads").chat_template(false).expect("none").is_none());
    let dir = directory(&[
        ("tokenizer.json", tokenizer_json().to_string().as_bytes()),
        ("tokenizer_config.json", br#"{"chat_template": "config"}"#),
        ("chat_template.jinja", b"file"),
    ]);
    assert_eq!(said(Tokenizer::load(dir.path()).expect("loads")), "file");
}

#[test]
fn broken_directories_say_what_is_wrong() {
    let empty = directory(&[]);
    assert!(matches!(Tokenizer::load(empty.path()), Err(TextError::NoTokenizer { .. })));
    assert!(matches!(Tokenizer::load(&empty.path().join("none")), Err(TextError::NoModel { .. })));
    let error = load(&json!({"eos_token": "<end>"})).expect_err("a token that is not there");
    assert!(error.to_string().contains("eos_token `<end>`"), "{error}");
    assert!(matches!(load(&json!({"bos_token": 7})), Err(TextError::Json { .. })));
    assert!(matches!(load(&json!({"chat_template": "{% if"})), Err(TextError::Template { .. })));
    let valid = tokenizer_json().to_string();
    for end in (0..valid.len()).step_by(97) {
        let dir = directory(&[("tokenizer.json", &valid.as_bytes()[..end])]);
        assert!(matches!(Tokenizer::load(dir.path()), Err(TextError::Json { .. })), "cut at {end}");
    }
    for (key, value) in [("model", json!({"type": "BPE"})), ("normalizer", json!({"type": "Precompiled"}))] {
        let mut wrong = tokenizer_json();
        wrong[key] = value;
        let dir = directory(&[("tokenizer.json", wrong.to_string().as_bytes())]);
        assert!(matches!(Tokenizer::load(dir.path()), Err(TextError::Tokenizer { .. })), "{key}");
    }
}

#[test]
fn of_several_templates_the_one_for_the_conversation_is_chosen() {
    let said = |tokenizer: &Tokenizer, with_tools| {
        let template = tokenizer.chat_template(with_tools)?.expect("a chat template");
        template.render(&[Message::new("user", "x")], false)
    };
    let both = json!([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}, {"name": "rag", "template": "{% broken"}]);
    let both = load(&json!({"chat_template": both})).expect("loads");
    assert_eq!(said(&both, false).expect("one"), "d");
    assert_eq!(said(&both, true).expect("one"), "t");
    let without = json!([{"name": "tool_use", "template": "t"}, {"name": "rag", "template": "r"}]);
    let without = load(&json!({"chat_template": without})).expect("loads");
    assert_eq!(said(&without, true).expect("one"), "t");
    let error = said(&without, false).expect_err("no default").to_string();
    assert!(error.contains("`rag`, `tool_use`") && error.contains("chat_template.jinja"), "{error}");

    let dir = directory(&[
        ("tokenizer.json", tokenizer_json().to_string().as_bytes()),
        ("tokenizer_config.json", br#"{"chat_template": "config"}"#),
        ("chat_template.jinja", b"file"),
    ]);
    fs::create_dir(dir.path().join("additional_chat_templates")).expect("a folder");
    fs::write(dir.path().join("additional_chat_templates/tool_use.jinja"), "more").expect("written");
    let tokenizer = Tokenizer::load(dir.path()).expect("loads");
    assert_eq!(said(&tokenizer, false).expect("one"), "file");
    assert_eq!(said(&tokenizer, true).expect("one"), "more");
}

#[test]
fn tokens_that_only_the_config_knows_are_tokens() {
    let added = |id: u32| {
        let token = json!({"content": "<pad>", "special": true, "lstrip": false, "rstrip": false,
            "single_word": false, "normalized": false});
        json!({"pad_token": "<pad>", "added_tokens_decoder": {id.to_string(): token}})
    };
    let tokenizer = load(&added(261)).expect("loads");
    assert_eq!((tokenizer.pad(), tokenizer.vocab_size()), (Some(261), 262));
    assert_eq!(tokenizer.encode("a<pad>", false).expect("ids")[1], 261);
    assert!(tokenizer.is_special(261) && tokenizer.is_special(259) && !tokenizer.is_special(256));
    // One without an embedding is known, and nothing needs it.
    let tokenizer = load(&added(900)).expect("loads");
    assert_eq!((tokenizer.pad(), tokenizer.vocab_size()), (None, 261));
    assert!(matches!(load(&json!({"pad_token": "<pad>"})), Err(TextError::UnknownToken { .. })));
}

#[test]
fn a_text_has_one_encoding_whatever_dropout_says() {
    let mut json = tokenizer_json();
    json["model"]["dropout"] = 0.5.into();
    let tokenizer = from_json(&json);
    let once = tokenizer.encode("the the the the the", false).expect("ids");
    assert_eq!(once.len(), 5);
    (0..50).for_each(|_| assert_eq!(tokenizer.encode("the the the the the", false).expect("ids"), once));
}

#[test]
fn rules_that_multiply_text_are_refused() {
    let replace =
        |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
    let load = |part: &str, rules: Value| {
        let mut json = tokenizer_json();
        json[part] = rules;
        let dir = directory(&[("tokenizer.json", json.to_string().as_bytes())]);
        Tokenizer::load(dir.path())
    };
    let sequence = |part: &str, rules: Vec<Value>| json!({"type": "Sequence", (if part == "decoder" { "decoders" } else { "normalizers" }): rules});
    let (a, any) = (json!({"String": "a"}), json!({"Regex": "x*"}));
    for part in ["normalizer", "decoder"] {
        for rules in [
            replace(a.clone(), &"b".repeat(100)),
            replace(any.clone(), &"b".repeat(70)),
            sequence(part, vec![replace(a.clone(), "aaaa"); 8]),
            sequence(part, vec![replace(any.clone(), "x"); 30]),
            sequence(part, vec![sequence(part, vec![replace(a.clone(), "aa"); 40])]),
        ] {
            let error = load(part, rules.clone()).expect_err("refused");
            assert!(matches!(error, TextError::TokenizerGrowth { .. }), "{rules}: {error}");
            assert!(error.to_string().contains(part), "{error}");
        }
        let real = sequence(
            part,
            vec![
                replace(json!({"String": " "}), "▁"),
                replace(json!({"String": "``"}), "\""),
                replace(json!({"Regex": " {2,}"}), " "),
                replace(json!({"Regex": "\\s+"}), " "),
            ],
        );
        load(part, real).expect("the rules of real models");
    }
}

#[test]
fn long_texts_end_in_time() {
    let tokenizer = tiny();
    let error = tokenizer.encode(&"a".repeat(MAX_TEXT_BYTES + 1), false).expect_err("too long");
    assert!(matches!(error, TextError::TextTooLong { .. }), "{error}");
    for piece in ["a", " ", "th", "the ", "\n", "漢", "a1"] {
        let text = piece.repeat((1 << 18) / piece.len());
        let ids = tokenizer.encode(&text, false).expect("ids");
        assert_eq!(tokenizer.decode(&ids, false).expect("text"), text);
    }
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(text in any::<String>()) {
        let tokenizer = tiny();
        let ids = tokenizer.encode(&text, false).expect("ids");
        prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
        prop_assert_eq!(tokenizer.decode(&ids, false).expect("text"), text);
    }
}
