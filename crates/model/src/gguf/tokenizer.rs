//! Rebuilds `tokenizer.json` and `tokenizer_config.json` from the metadata of a GGUF file.
//!
//! Only byte-level BPE (`tokenizer.ggml.model` = `gpt2`) is known. The file names its pre-tokenizer; what
//! each name stands for is written here, as the models' own `tokenizer.json` have it.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::GgufError;
use super::reader::Metadata;

/// Kinds of tokens in `tokenizer.ggml.token_type` other than byte (6).
pub(super) const NORMAL: usize = 1;
const UNKNOWN: usize = 2;
pub(super) const CONTROL: usize = 3;
pub(super) const USER_DEFINED: usize = 4;
pub(super) const UNUSED: usize = 5;

/// Qwen 2's split into words; Llama 3's has `\p{N}{1,3}` in place of `\p{N}`.
const QWEN2_SPLIT: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// What the import writes about text.
pub(super) struct TokenizerFiles {
    /// `tokenizer.json`.
    pub(super) tokenizer: Value,
    /// `tokenizer_config.json`.
    pub(super) config: Value,
    /// `bos_token_id` of the model, or null.
    pub(super) bos: Value,
    /// `eos_token_id` of the model: a number, a list when turns end with another token, or null.
    pub(super) eos: Value,
    /// `pad_token_id` of the model, or null.
    pub(super) pad: Value,
}

/// How text is cut before the merges.
pub(super) struct Scheme {
    normalizer: Value,
    pub(super) pre_tokenizer: Value,
    /// A word that is a token is that token, whatever the merges say.
    ignore_merges: bool,
    /// Whether texts begin with the beginning-of-sequence token when the file does not say.
    add_bos: bool,
}

impl Scheme {
    /// llama.cpp's names, one for each way of cutting.
    pub(super) const NAMES: [&'static str; 4] = ["gpt-2", "smollm", "llama-bpe", "qwen2"];

    pub(super) fn named(name: &str) -> Result<Self, GgufError> {
        let byte_level = |use_regex: bool| {
            json!({
                "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex,
            })
        };
        let sequence = |first: Value, use_regex| {
            let then = byte_level(use_regex);
            json!({"type": "Sequence", "pretokenizers": [first, then]})
        };
        let split = |regex: &str| {
            json!({
                "type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false,
            })
        };
        let scheme = |pre_tokenizer| Self {
            normalizer: Value::Null,
            pre_tokenizer,
            ignore_merges: false,
            add_bos: false,
        };
        Ok(match name {
            "default" | "gpt2" | "gpt-2" => scheme(byte_level(true)),
            "smollm" => scheme(sequence(json!({"type": "Digits", "individual_digits": true}), true)),
            "llama-bpe" => Self {
                ignore_merges: true,
                add_bos: true,
                ..scheme(sequence(split(&QWEN2_SPLIT.replacen(r"|\p{N}|", r"|\p{N}{1,3}|", 1)), false))
            },
            "qwen2" => {
                Self { normalizer: json!({"type": "NFC"}), ..scheme(sequence(split(QWEN2_SPLIT), false)) }
            }
            "deepseek-r1-qwen" => Self { add_bos: true, ..scheme(sequence(split(QWEN2_SPLIT), false)) },
            _ => {
                return Err(GgufError::Unsupported {
                    what: "pre-tokenizer",
                    found: name.to_owned(),
                    supported: "gpt2, smollm, llama-bpe, qwen2, deepseek-r1-qwen",
                });
            }
        })
    }
}

/// The tokens that play a part, by number.
struct Roles {
    bos: Option<usize>,
    eos: Option<usize>,
    eot: Option<usize>,
    unk: Option<usize>,
    pad: Option<usize>,
}

impl Roles {
    fn read(metadata: &Metadata, n_tokens: usize) -> Result<Self, GgufError> {
        let id = |role: &str| {
            let key = format!("tokenizer.ggml.{role}_token_id");
            match metadata.optional::<usize>(&key)? {
                Some(id) if id >= n_tokens => {
                    let (found, expected) = (id.to_string(), "the number of a token");
                    Err(GgufError::BadValue { key, found, expected })
                }
                id => Ok(id),
            }
        };
        Ok(Self {
            bos: id("bos")?,
            eos: id("eos")?,
            eot: id("eot")?,
            unk: id("unknown")?,
            pad: id("padding")?,
        })
    }

    fn contains(&self, id: usize) -> bool {
        [self.bos, self.eos, self.eot, self.unk, self.pad].contains(&Some(id))
    }
}

/// Rebuilds the tokenizer of a model with `vocab_size` embeddings and a context of `max_len` tokens.
pub(super) fn rebuild(
    metadata: &Metadata,
    vocab_size: usize,
    max_len: usize,
) -> Result<TokenizerFiles, GgufError> {
    let kind: &str = metadata.required("tokenizer.ggml.model")?;
    if kind != "gpt2" {
        let (found, supported) = (kind.to_owned(), "gpt2 (byte-level BPE)");
        return Err(GgufError::Unsupported { what: "tokenizer", found, supported });
    }
    let scheme = Scheme::named(metadata.optional("tokenizer.ggml.pre")?.unwrap_or("default"))?;
    let tokens: Vec<&str> = metadata.required("tokenizer.ggml.tokens")?;
    let types: Vec<usize> = metadata.required("tokenizer.ggml.token_type")?;
    let merges: Vec<&str> = metadata.required("tokenizer.ggml.merges")?;
    if types.len() != tokens.len() || tokens.len() > vocab_size {
        return Err(GgufError::BadValue {
            key: "tokenizer.ggml.tokens".to_owned(),
            found: format!("{} tokens with {} types", tokens.len(), types.len()),
            expected: "as many types as tokens, and no more than the model has embeddings",
        });
    }
    let roles = Roles::read(metadata, tokens.len())?;
    let (vocab, added_tokens) = vocabulary(&tokens, &types, &roles)?;
    check_merges(&merges, &vocab)?;

    let text = |id: Option<usize>| id.map(|id| tokens[id]);
    let add_bos = metadata.optional("tokenizer.ggml.add_bos_token")?.unwrap_or(scheme.add_bos);
    let post_processor = match roles.bos.filter(|_| add_bos) {
        Some(id) => starting_with(tokens[id], id),
        None => {
            json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true})
        }
    };
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens,
        "normalizer": scheme.normalizer,
        "pre_tokenizer": scheme.pre_tokenizer,
        "post_processor": post_processor,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": scheme.ignore_merges,
            "vocab": vocab,
            "merges": merges,
        },
    });
    let mut config = json!({
        "add_prefix_space": false,
        "bos_token": text(roles.bos),
        "clean_up_tokenization_spaces": false,
        "eos_token": text(roles.eos),
        "model_max_length": max_len,
        "pad_token": text(roles.pad),
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": text(roles.unk),
    });
    if let Some(template) = metadata.optional::<&str>("tokenizer.chat_template")? {
        config["chat_template"] = template.into();
    }
    let eos = match (roles.eos, roles.eot) {
        (Some(eos), Some(eot)) if eos != eot => json!([eos, eot]),
        (eos, eot) => eos.or(eot).into(),
    };
    Ok(TokenizerFiles { tokenizer, config, bos: roles.bos.into(), eos, pad: roles.pad.into() })
}

/// The `vocab` and `added_tokens` of `tokenizer.json`. Unused tokens, which pad the vocabulary to the size of
/// the embedding, are left out.
fn vocabulary(
    tokens: &[&str],
    types: &[usize],
    roles: &Roles,
) -> Result<(Map<String, Value>, Vec<Value>), GgufError> {
    let (mut vocab, mut added) = (Map::new(), Vec::new());
    for (id, (&text, &kind)) in tokens.iter().zip(types).enumerate() {
        let special = roles.contains(id) || kind == CONTROL || kind == UNKNOWN;
        if kind == UNUSED && !special {
            continue;
        }
        if text.is_empty() || vocab.insert(text.to_owned(), id.into()).is_some() {
            let problem = if text.is_empty() { "is empty" } else { "appears twice" };
            return Err(GgufError::Tokenizer { what: "token", index: id, text: text.to_owned(), problem });
        }
        if special || kind == USER_DEFINED {
            added.push(json!({
                "id": id, "content": text, "special": special,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            }));
        }
    }
    Ok((vocab, added))
}

/// Checks that each merge joins two tokens into a third.
fn check_merges(merges: &[&str], vocab: &Map<String, Value>) -> Result<(), GgufError> {
    let mut seen = BTreeSet::new();
    for (index, &merge) in merges.iter().enumerate() {
        let problem = match merge.split_once(' ') {
            None => "is not two tokens with a space between",
            Some((left, right))
                if ![left, right, &[left, right].concat()].iter().all(|&t| vocab.contains_key(t)) =>
            {
                "joins or makes something that is not a token"
            }
            Some(_) if !seen.insert(merge) => "appears twice",
            Some(_) => continue,
        };
        return Err(GgufError::Tokenizer { what: "merge", index, text: merge.to_owned(), problem });
    }
    Ok(())
}

/// A post-processor that puts the token `text` before every text.
fn starting_with(text: &str, id: usize) -> Value {
    let special = |type_id: u8| json!({"SpecialToken": {"id": text, "type_id": type_id}});
    let sequence = |name: &str, type_id: u8| json!({"Sequence": {"id": name, "type_id": type_id}});
    json!({
        "type": "TemplateProcessing",
        "single": [special(0), sequence("A", 0)],
        "pair": [special(0), sequence("A", 0), special(1), sequence("B", 1)],
        "special_tokens": {(text): {"id": text, "ids": [id], "tokens": [text]}},
    })
}
