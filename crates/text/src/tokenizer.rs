//! The tokenizer of a model directory.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use koan_files::read_bounded;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::{ChatTemplate, TextError};

/// Bytes of `tokenizer.json`. The largest (vocabularies of 256 Ki tokens) have 35 MB.
const MAX_TOKENIZER_BYTES: u64 = 1 << 26;
/// Bytes of the other files. With every added token listed they stay under 1 MB.
const MAX_CONFIG_BYTES: u64 = 1 << 24;

/// Text to token ids and back.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    vocab_size: usize,
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
    chat_template: Option<ChatTemplate>,
}

impl Tokenizer {
    /// Loads the tokenizer of the model directory `dir`: `tokenizer.json`, and if they are there
    /// `tokenizer_config.json` (special tokens, chat template) and `chat_template.jinja`, which takes
    /// precedence over the template in the former.
    ///
    /// Truncation and padding in `tokenizer.json` are switched off: no text is cut silently.
    ///
    /// # Errors
    ///
    /// When `tokenizer.json` is absent, or any of the files is unreadable, too large or invalid.
    pub fn load(dir: &Path) -> Result<Self, TextError> {
        let path = dir.join("tokenizer.json");
        let absent = || {
            let (there, dir) = (dir.exists(), dir.to_owned());
            if there { TextError::NoTokenizer { dir } } else { TextError::NoModel { dir } }
        };
        let bytes = read(&path, MAX_TOKENIZER_BYTES)?.ok_or_else(absent)?;
        let mut inner = parse(&bytes, &path)?;
        inner.with_truncation(None).expect("no truncation fits every tokenizer").with_padding(None);

        let config_path = dir.join("tokenizer_config.json");
        let json = |source| TextError::Json { path: config_path.clone(), source };
        let config: Config = match read(&config_path, MAX_CONFIG_BYTES)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(json)?,
            None => Config::default(),
        };
        let id = |role, token: &Option<SpecialToken>| {
            let Some(token) = token else { return Ok(None) };
            let (path, token) = (config_path.clone(), token.text());
            match inner.token_to_id(token) {
                None => Err(TextError::UnknownToken { path, role, token: token.to_owned() }),
                id => Ok(id),
            }
        };
        Ok(Self {
            vocab_size: inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1),
            bos: id("bos_token", &config.bos_token)?,
            eos: id("eos_token", &config.eos_token)?,
            pad: id("pad_token", &config.pad_token)?,
            chat_template: config.chat_template(dir)?,
            inner,
        })
    }

    /// As [`Tokenizer::load`], for a model of `vocab_size` embeddings. (Embeddings without a token are common: they round
    /// the size up.)
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::load`], and when some token has no embedding.
    pub fn load_for(dir: &Path, vocab_size: usize) -> Result<Self, TextError> {
        let tokenizer = Self::load(dir)?;
        if tokenizer.vocab_size > vocab_size {
            let (path, tokens) = (dir.to_owned(), tokenizer.vocab_size);
            return Err(TextError::TooManyTokens { path, tokens, vocab_size });
        }
        Ok(tokenizer)
    }

    /// The tokens of `text`. Special tokens written in the text are recognised. With `add_special`, the
    /// tokens that the tokenizer puts around a text (often a beginning-of-sequence token, often none) are
    /// added; leave it off for the output of a chat template, which writes them itself.
    ///
    /// # Errors
    ///
    /// When the tokenizer has no token for some part of the text and no token for unknown text. Byte-level
    /// tokenizers have a token for everything.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TextError> {
        self.inner
            .encode_fast(text, add_special)
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|source| TextError::Encode { n_bytes: text.len(), source })
    }

    /// The text of `ids`, without special tokens if `skip_special`. Bytes that are not UTF-8 become U+FFFD;
    /// ids that have no token (rows that only pad an embedding) become nothing.
    ///
    /// # Errors
    ///
    /// When the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TextError> {
        self.inner
            .decode(ids, skip_special)
            .map_err(|source| TextError::Decode { n_tokens: ids.len(), source })
    }

    /// One more than the largest token id: an embedding of this many rows has one for every token.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of the token that is written as `token`, such as `<|im_end|>`.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The beginning-of-sequence token.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The end-of-sequence token. A model may stop at others too: see its `generation_config.json`.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The padding token.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// How a conversation is written for this model, if its files say.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_ref()
    }
}

/// The parts of `tokenizer_config.json` that are used.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    bos_token: Option<SpecialToken>,
    eos_token: Option<SpecialToken>,
    pad_token: Option<SpecialToken>,
    unk_token: Option<SpecialToken>,
    chat_template: Option<Templates>,
}

impl Config {
    /// The template of `chat_template.jinja`, or else this file's.
    fn chat_template(&self, dir: &Path) -> Result<Option<ChatTemplate>, TextError> {
        let path = dir.join("chat_template.jinja");
        let source = match read(&path, MAX_CONFIG_BYTES)? {
            Some(bytes) => Some(String::from_utf8(bytes).map_err(|source| TextError::Utf8 { path, source })?),
            None => self.chat_template.as_ref().and_then(Templates::main).map(str::to_owned),
        };
        source.map(|source| ChatTemplate::new(&source, &self.special_tokens())).transpose()
    }

    /// The special tokens under the names by which templates know them.
    fn special_tokens(&self) -> BTreeMap<String, String> {
        [
            ("bos_token", &self.bos_token),
            ("eos_token", &self.eos_token),
            ("pad_token", &self.pad_token),
            ("unk_token", &self.unk_token),
        ]
        .into_iter()
        .filter_map(|(role, token)| Some((role.to_owned(), token.as_ref()?.text().to_owned())))
        .collect()
    }
}

/// A special token: `"<s>"` or `{"content": "<s>", ...}`.
#[derive(Deserialize)]
#[serde(untagged)]
enum SpecialToken {
    Text(String),
    Object { content: String },
}

impl SpecialToken {
    fn text(&self) -> &str {
        match self {
            Self::Text(content) | Self::Object { content } => content,
        }
    }
}

/// One chat template, or several with names.
#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

impl Templates {
    /// The one template, or the one called `default`.
    fn main(&self) -> Option<&str> {
        match self {
            Self::One(template) => Some(template),
            Self::Named(all) => all.iter().find(|t| t.name == "default").map(|t| t.template.as_str()),
        }
    }
}

fn parse(bytes: &[u8], path: &Path) -> Result<tokenizers::Tokenizer, TextError> {
    // The library panics on some files that are not JSON and on some that are not tokenizers.
    serde_json::from_slice::<IgnoredAny>(bytes)
        .map_err(|source| TextError::Json { path: path.to_owned(), source })?;
    std::panic::catch_unwind(|| tokenizers::Tokenizer::from_bytes(bytes))
        .unwrap_or_else(|_| Err("its contents contradict each other".into()))
        .map_err(|source| TextError::Tokenizer { path: path.to_owned(), source })
}

/// The file's bytes, or `None` if there is no such file.
fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, TextError> {
    match read_bounded(path, limit) {
        Ok(None) => Err(TextError::TooLarge { path: path.to_owned(), limit }),
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TextError::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
pub(crate) mod tests;
