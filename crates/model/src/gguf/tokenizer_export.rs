//! From `tokenizer.json` and its like to the metadata that llama.cpp reads.
//!
//! llama.cpp holds the splitting of text into words in its own code, by name. A tokenizer that splits in none of the
//! ways named there is refused: it would load there, and give other tokens.

use std::path::Path;

use koan_files::read_bounded;
use serde_json::{Value, json};

use super::{
    GgufError,
    tokenizer::{CONTROL, NORMAL, Scheme, UNUSED, USER_DEFINED},
    writer::Pairs,
};

/// Largest file of a tokenizer, bytes. The largest of real ones have 35 MB.
const MAX_FILE_BYTES: u64 = 1 << 28;

/// Adds the tokenizer of directory `dir`, for a model of `vocab_size` embeddings.
pub(super) fn add(pairs: &mut Pairs, dir: &Path, vocab_size: usize, config: &Value) -> Result<(), GgufError> {
    let path = dir.join("tokenizer.json");
    let refused = |what: String| GgufError::TokenizerFile { path: path.clone(), what };
    let tokenizer =
        read(&path)?.ok_or_else(|| refused("it is missing; llama.cpp needs a tokenizer".into()))?;
    let settings = read(&dir.join("tokenizer_config.json"))?.unwrap_or(json!({}));
    let model = &tokenizer["model"];
    if model["type"].as_str().unwrap_or("BPE") != "BPE" || model["byte_fallback"] == true {
        return Err(refused(format!("its model is {}, not byte-level BPE", model["type"])));
    }
    let name = scheme(&tokenizer["pre_tokenizer"]).ok_or_else(|| {
        refused(format!("llama.cpp has no name for its pre-tokenizer {}", tokenizer["pre_tokenizer"]))
    })?;

    let (texts, kinds) = tokens(&tokenizer, vocab_size).map_err(refused)?;
    let merges = merges(&model["merges"]).ok_or_else(|| refused("its merges are no list of pairs".into()))?;
    pairs.text("tokenizer.ggml.model", "gpt2");
    pairs.text("tokenizer.ggml.pre", name);
    pairs.texts("tokenizer.ggml.tokens", texts.iter().map(String::as_str));
    pairs.integers("tokenizer.ggml.token_type", &kinds);
    pairs.texts("tokenizer.ggml.merges", merges.iter().map(String::as_str));

    let id_of = |text: &str| texts.iter().position(|token| token == text);
    let named = |role: &str| {
        let token = &settings[format!("{role}_token")];
        token.as_str().or(token["content"].as_str()).and_then(id_of)
    };
    let generation = read(&dir.join("generation_config.json"))?.unwrap_or(json!({}));
    let eos_ids: Vec<usize> = [config, &generation]
        .iter()
        .flat_map(|c| match &c["eos_token_id"] {
            Value::Array(ids) => ids.clone(),
            id => vec![id.clone()],
        })
        .filter_map(|id| id.as_u64().map(|id| id as usize).filter(|&id| id < texts.len()))
        .collect();
    let given = |c: &Value, key: &str| c[key].as_u64().map(|id| id as usize).filter(|&id| id < texts.len());
    let eos = named("eos").or(eos_ids.first().copied());
    let eot = eos_ids.iter().copied().find(|&id| Some(id) != eos);
    for (key, id) in [
        ("bos", named("bos").or(given(config, "bos_token_id"))),
        ("eos", eos),
        ("eot", eot),
        ("unknown", named("unk")),
        ("padding", named("pad").or(given(config, "pad_token_id"))),
    ] {
        if let Some(id) = id {
            pairs.number(&format!("tokenizer.ggml.{key}_token_id"), id);
        }
    }
    let add_bos = first_special(&tokenizer["post_processor"]).is_some();
    pairs.flag("tokenizer.ggml.add_bos_token", add_bos);
    if let Some(template) = chat_template(dir, &settings)? {
        pairs.text("tokenizer.chat_template", &template);
    }
    Ok(())
}

fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>, GgufError> {
    let refused = |what: String| GgufError::TokenizerFile { path: path.to_owned(), what };
    if !path.exists() {
        return Ok(None);
    }
    match read_bounded(path, MAX_FILE_BYTES) {
        Ok(None) => Err(refused(format!("it has over {MAX_FILE_BYTES} bytes"))),
        Ok(bytes) => Ok(bytes),
        Err(e) => Err(refused(e.to_string())),
    }
}

fn read(path: &Path) -> Result<Option<Value>, GgufError> {
    let refused =
        |e: serde_json::Error| GgufError::TokenizerFile { path: path.to_owned(), what: e.to_string() };
    read_bytes(path)?.map(|bytes| serde_json::from_slice(&bytes).map_err(refused)).transpose()
}

/// llama.cpp's name of a pre-tokenizer.
fn scheme(pre_tokenizer: &Value) -> Option<&'static str> {
    let wanted = steps(pre_tokenizer)?;
    Scheme::NAMES.into_iter().find(|name| {
        Scheme::named(name).is_ok_and(|scheme| steps(&scheme.pre_tokenizer).as_ref() == Some(&wanted))
    })
}

/// The steps of a pre-tokenizer, each with what decides about its words; none if there is an unknown one.
fn steps(pre_tokenizer: &Value) -> Option<Vec<String>> {
    let flag = |key: &str, default: bool| pre_tokenizer[key].as_bool().unwrap_or(default);
    match pre_tokenizer["type"].as_str()? {
        "Sequence" => {
            let parts = pre_tokenizer["pretokenizers"].as_array()?;
            let steps: Option<Vec<_>> = parts.iter().map(steps_of_part).collect();
            steps.map(|steps| steps.concat())
        }
        "ByteLevel" if !flag("add_prefix_space", true) => {
            Some(vec![format!("bytes {}", flag("use_regex", true))])
        }
        "Digits" => Some(vec![format!("digits {}", flag("individual_digits", false))]),
        "Split" if pre_tokenizer["behavior"] == "Isolated" && !flag("invert", false) => {
            Some(vec![format!("split {}", pre_tokenizer["pattern"]["Regex"].as_str()?)])
        }
        _ => None,
    }
}

/// A step of a sequence, which is no sequence itself: so that no file nests without end.
fn steps_of_part(part: &Value) -> Option<Vec<String>> {
    (part["type"] != "Sequence").then(|| steps(part)).flatten()
}

/// Text and kind of each token; rows of the embedding that have none are unused.
fn tokens(tokenizer: &Value, vocab_size: usize) -> Result<(Vec<String>, Vec<i32>), String> {
    let mut texts: Vec<Option<String>> = vec![None; vocab_size];
    let mut kinds = vec![NORMAL as i32; vocab_size];
    let vocab = tokenizer["model"]["vocab"].as_object().ok_or("it has no vocab")?;
    let empty = Vec::new();
    let added = tokenizer["added_tokens"].as_array().unwrap_or(&empty);
    let normal = vocab.iter().map(|(text, id)| (text.as_str(), id, NORMAL));
    let added = added.iter().map(|token| {
        let kind = if token["special"] == true { CONTROL } else { USER_DEFINED };
        (token["content"].as_str().unwrap_or_default(), &token["id"], kind)
    });
    for (text, id, kind) in normal.chain(added) {
        let id = id.as_u64().map_or(usize::MAX, |id| id as usize);
        let slot = texts.get_mut(id).ok_or_else(|| {
            format!("token `{text}` has id {id}, but the model has {vocab_size} embeddings: it is of another model")
        })?;
        if slot.as_ref().is_some_and(|other| other != text) {
            return Err(format!("two tokens have id {id}"));
        }
        (*slot, kinds[id]) = (Some(text.to_owned()), kind as i32);
    }
    for (id, (text, kind)) in texts.iter_mut().zip(&mut kinds).enumerate() {
        if text.is_none() {
            (*text, *kind) = (Some(format!("[PAD{id}]")), UNUSED as i32);
        }
    }
    Ok((texts.into_iter().flatten().collect(), kinds))
}

/// Merges as "left right"; older files have them so, newer ones as pairs.
fn merges(merges: &Value) -> Option<Vec<String>> {
    let merge = |merge: &Value| match merge {
        Value::String(text) => Some(text.clone()),
        Value::Array(pair) => match &pair[..] {
            [Value::String(left), Value::String(right)] => Some(format!("{left} {right}")),
            _ => None,
        },
        _ => None,
    };
    merges.as_array()?.iter().map(merge).collect()
}

/// The special token that every text begins with.
fn first_special(post_processor: &Value) -> Option<&str> {
    let single = |p: &Value| p["type"] == "TemplateProcessing";
    let template = match post_processor["processors"].as_array() {
        Some(processors) => processors.iter().find(|p| single(p))?,
        None => Some(post_processor).filter(|p| single(p))?,
    };
    template["single"][0]["SpecialToken"]["id"].as_str()
}

/// The chat template: a file of its own, or the one in the settings, of several the default.
fn chat_template(dir: &Path, settings: &Value) -> Result<Option<String>, GgufError> {
    let path = dir.join("chat_template.jinja");
    if let Some(bytes) = read_bytes(&path)? {
        let text = String::from_utf8(bytes);
        return text.map(Some).map_err(|e| GgufError::TokenizerFile { path, what: e.to_string() });
    }
    Ok(match &settings["chat_template"] {
        Value::String(template) => Some(template.clone()),
        Value::Array(named) => {
            let default = named.iter().find(|t| t["name"] == "default");
            default.and_then(|t| t["template"].as_str()).map(str::to_owned)
        }
        _ => None,
    })
}
