//! A model that has not read anything: its sizes, the words of its world, random weights.

use std::{fs, path::Path};

use koan_data::counter::words as counter;
use koan_files::{FilesError, write_directory, write_synced};
use koan_model::{Config, Family};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::own::OwnError;

/// Most parameters of a world's model.
const MAX_PARAMETERS: usize = 1 << 30;
/// A vocabulary to check sizes with.
const SOME_WORDS: usize = 64;
/// Ends a text, and stands for characters that the world does not have.
const SPECIAL: [&str; 2] = ["<|end|>", "<|unknown|>"];
/// Characters of the demo's world.
const OF_MOVES: &str = "0123456789+-=:? \nabcdefghijklmnopqrstuvwxyz";

/// The sizes of a Llama, or of another family's model.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sizes {
    hidden_size: usize,
    layers: usize,
    heads: usize,
    intermediate_size: usize,
    /// Keys of `config.json` besides, or in the place of a Llama's: `model_type`, and what the family has.
    #[serde(default)]
    config: Map<String, Value>,
}

impl Sizes {
    pub(super) fn check(&self) -> Result<(), OwnError> {
        let Self { hidden_size, layers, heads, intermediate_size, .. } = *self;
        let are_small =
            [hidden_size, layers, heads, intermediate_size].iter().all(|n| (1..=4096).contains(n));
        if are_small && hidden_size % heads == 0 && (hidden_size / heads).is_multiple_of(2) {
            return match Config::from_json(self.config(SOME_WORDS), "step.model".as_ref()) {
                Ok(config) if config.parameters() > MAX_PARAMETERS => Err(OwnError::Settings(format!(
                    "a model of {} parameters is too large for a world of so few words: at most {MAX_PARAMETERS}",
                    config.parameters()
                ))),
                Ok(_) => Ok(()),
                Err(error) => Err(OwnError::Settings(error.to_string())),
            };
        }
        Err(OwnError::Settings(format!(
            "a model with {hidden_size} hidden units, {layers} layers, {heads} heads and an MLP of {intermediate_size} can't be made: each is \
             1 to 4096, and hidden_size is an even multiple of heads"
        )))
    }

    fn config(&self, vocabulary: usize) -> Map<String, Value> {
        let sizes = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "vocab_size": vocabulary, "hidden_size": self.hidden_size, "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads, "num_key_value_heads": self.heads,
            "head_dim": self.hidden_size / self.heads, "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "tie_word_embeddings": false,
            "initializer_range": 0.08, // near 1/√hidden_size: at 0.02 so small a model starts slowly
            "bos_token_id": 0, "eos_token_id": 0,
        });
        let Value::Object(mut sizes) = sizes else { unreachable!("an object") };
        sizes.extend(self.config.clone());
        let family = sizes.get("model_type").and_then(Value::as_str).and_then(Family::named);
        if family.is_some_and(Family::is_deepseek) {
            // transformers would take it for the rotated part of a head, which has a key of its own.
            sizes.remove("head_dim");
        }
        if let Some(family) = family {
            sizes.insert("architectures".to_owned(), json!([family.class()]));
        }
        sizes
    }
}

/// The tokens of a world: words, and single characters.
pub(super) struct Words {
    words: Vec<&'static str>,
    characters: &'static str,
}

impl Words {
    pub(super) fn of_moves() -> Self {
        Self { words: vec!["Answer", "ok", "wait"], characters: OF_MOVES }
    }

    pub(super) fn of_counter() -> Self {
        Self { words: counter::vocabulary(), characters: counter::CHARACTERS }
    }

    fn vocabulary(&self) -> Map<String, Value> {
        let characters = self.characters.chars().map(String::from);
        let tokens = SPECIAL.iter().chain(&self.words).map(|word| (*word).to_owned()).chain(characters);
        tokens.enumerate().map(|(id, token)| (token, json!(id))).collect()
    }

    fn tokenizer(&self) -> Value {
        let special: Vec<Value> = (0..2)
            .map(|id| {
                json!({"id": id, "content": SPECIAL[id], "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": true})
            })
            .collect();
        // The longest first: `clock ` holds `lock `.
        let mut words = self.words.clone();
        words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        let words: Vec<String> =
            words.iter().map(|word| word.replace('\n', "\\n").replace('?', "\\?")).collect();
        // A text follows the end of the one before, as in pretraining.
        let begin = json!({"SpecialToken": {"id": SPECIAL[0], "type_id": 0}});
        let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
        json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "added_tokens": special,
            "post_processor": {
                "type": "TemplateProcessing", "single": [begin, text("A")], "pair": [begin, text("A"), text("B")],
                "special_tokens": {SPECIAL[0]: {"id": SPECIAL[0], "ids": [0], "tokens": [SPECIAL[0]]}},
            },
            "pre_tokenizer": {"type": "Split", "pattern": {"Regex": format!("{}|[\\s\\S]", words.join("|"))},
                              "behavior": "Isolated", "invert": false},
            "decoder": {"type": "Fuse"},
            "model": {"type": "WordLevel", "vocab": self.vocabulary(), "unk_token": SPECIAL[1]},
        })
    }
}

/// Writes model directory `dir` with random weights of `seed`. `scratch` is a directory for its parts.
pub(super) fn write(
    dir: &Path,
    words: &Words,
    sizes: &Sizes,
    seed: u64,
    scratch: &Path,
) -> Result<(), OwnError> {
    // Whole or absent: what is left of an attempt that was killed is made anew, with the same bytes.
    let parts = scratch.join(".parts");
    for old in [&parts, dir] {
        if old.exists() {
            fs::remove_dir_all(old).map_err(FilesError::io("remove", old))?;
        }
    }
    write_directory(&parts, |part| {
        for (name, value) in [
            ("config.json", Value::Object(sizes.config(words.vocabulary().len()))),
            ("tokenizer.json", words.tokenizer()),
            ("tokenizer_config.json", json!({"eos_token": SPECIAL[0], "unk_token": SPECIAL[1]})),
        ] {
            write_synced(&part.join(name), value.to_string().as_bytes())?;
        }
        Ok::<_, FilesError>(())
    })?;
    koan_model::init(&parts.join("config.json"), seed, Some(&parts), dir, &mut |_, _| {})?;
    Ok(fs::remove_dir_all(&parts).map_err(FilesError::io("remove", &parts))?)
}
