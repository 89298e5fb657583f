//! The tokenizer of a model directory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use koan_files::read_bounded;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokenizers::{AddedToken, ModelWrapper};

use crate::templates::{Configured, Templates};
use crate::{ChatTemplate, TextError, writing::Writing};
use crate::{conversation, growth};

/// Bytes of `tokenizer.json`. The largest (vocabularies of 256 Ki tokens) have 35 MB.
const MAX_TOKENIZER_BYTES: u64 = 1 << 26;
/// Bytes of the other files. With every added token listed they stay under 1 MB.
const MAX_CONFIG_BYTES: u64 = 1 << 24;

/// Bytes of a text that is encoded in one piece: a prompt, a reply. They are some two million tokens; the work takes up to a
/// hundred times as much memory.
pub const MAX_TEXT_BYTES: usize = 8 << 20;

/// Text to token ids and back.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    dir: PathBuf,
    inner: tokenizers::Tokenizer,
    vocab_size: usize,
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
    templates: Templates,
    writing: Writing,
}

impl Tokenizer {
    /// Loads the tokenizer of the model directory `dir`: `tokenizer.json`, and if they are there
    /// `tokenizer_config.json` (special tokens, chat templates), `chat_template.jinja` and `additional_chat_templates/`,
    /// which take precedence over the templates in the former.
    ///
    /// Truncation and padding in `tokenizer.json` are switched off, since no text is cut silently, and so are dropout and
    /// sampling: a text has one encoding.
    ///
    /// # Errors
    ///
    /// When `tokenizer.json` is absent, or any of the files is unreadable, too large or invalid, or its rules make texts
    /// many times longer.
    pub fn load(dir: &Path) -> Result<Self, TextError> {
        Self::load_within(dir, usize::MAX)
    }

    /// As [`Tokenizer::load`], for a model of `vocab_size` embeddings. (Embeddings without a token are common: they round
    /// the size up.)
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::load`], and when some token has no embedding.
    pub fn load_for(dir: &Path, vocab_size: usize) -> Result<Self, TextError> {
        let tokenizer = Self::load_within(dir, vocab_size)?;
        if tokenizer.vocab_size > vocab_size {
            let (path, tokens) = (dir.to_owned(), tokenizer.vocab_size);
            return Err(TextError::TooManyTokens { path, tokens, vocab_size });
        }
        Ok(tokenizer)
    }

    /// The tokenizer of `dir`. Of the tokens that `tokenizer_config.json` alone knows, those below `vocab_size` are added.
    fn load_within(dir: &Path, vocab_size: usize) -> Result<Self, TextError> {
        let path = dir.join("tokenizer.json");
        let absent = || {
            let (there, dir) = (dir.exists(), dir.to_owned());
            if there { TextError::NoTokenizer { dir } } else { TextError::NoModel { dir } }
        };
        let bytes = read(&path, MAX_TOKENIZER_BYTES)?.ok_or_else(absent)?;
        let mut inner = parse(&bytes, &path)?;
        growth::check(&bytes, &path)?;
        inner.with_truncation(None).expect("no truncation fits every tokenizer").with_padding(None);
        without_chance(&mut inner);

        let config_path = dir.join("tokenizer_config.json");
        let json = |source| TextError::Json { path: config_path.clone(), source };
        let config: Config = match read(&config_path, MAX_CONFIG_BYTES)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(json)?,
            None => Config::default(),
        };
        config.add_tokens(&mut inner, vocab_size);
        let id = |role, token: &Option<SpecialToken>| {
            let Some(token) = token else { return Ok(None) };
            let (path, token) = (config_path.clone(), token.text());
            match inner.token_to_id(token) {
                None if role == "pad_token" && config.knows(token) => Ok(None), // it has no embedding, and none is needed
                None => Err(TextError::UnknownToken { path, role, token: token.to_owned() }),
                id => Ok(id),
            }
        };
        Ok(Self {
            dir: dir.to_owned(),
            vocab_size: inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1),
            bos: id("bos_token", &config.bos_token)?,
            eos: id("eos_token", &config.eos_token)?,
            pad: id("pad_token", &config.pad_token)?,
            writing: Writing::of(&inner),
            templates: Templates::read(dir, config.chat_template.as_ref(), &config.special_tokens())?,
            inner,
        })
    }

    /// The tokens of `text`. Special tokens written in the text are recognised. With `add_special`, the
    /// tokens that the tokenizer puts around a text (often a beginning-of-sequence token, often none) are
    /// added; leave it off for the output of a chat template, which writes them itself.
    ///
    /// # Errors
    ///
    /// When the text is longer than [`MAX_TEXT_BYTES`], or the tokenizer has no token for some part of it and no token for
    /// unknown text. Byte-level tokenizers have a token for everything.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TextError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(TextError::TextTooLong { n_bytes: text.len(), limit: MAX_TEXT_BYTES });
        }
        self.encode_corpus(text, add_special)
    }

    /// As [`encode`](Self::encode), for a text of any length.
    ///
    /// # Errors
    ///
    /// When the tokenizer has no token for some part of the text and no token for unknown text.
    pub fn encode_corpus(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TextError> {
        // The library panics on what its regular expressions give up on.
        let encode = || self.inner.encode_fast(text, add_special).map(|encoding| encoding.get_ids().to_vec());
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(encode))
            .unwrap_or_else(|_| Err("its rules can't cope with this text".into()))
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

    /// The bytes that a token writes: of a part of a character too, which [`decode`](Self::decode) can only show as U+FFFD. Those of a
    /// special token are its name; an id without a token has none.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        let Some(token) = self.inner.id_to_token(id) else { return Vec::new() };
        if self.inner.get_added_vocabulary().get_added_tokens_decoder().contains_key(&id) {
            return token.into_bytes();
        }
        self.writing.bytes(&token)
    }

    /// One more than the largest token id: an embedding of this many rows has one for every token.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of the token that is written as `token`, such as `<|im_end|>`.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Where `other` has another token of some id than this one, in words; None if each id that both know is one token. Ids
    /// that one of them has no token for don't count, as the last rows of a model's embedding are often for none.
    pub fn difference(&self, other: &Self) -> Option<String> {
        (0..self.vocab_size.min(other.vocab_size) as u32).find_map(|id| {
            let [own, others] = [self, other].map(|tokenizer| tokenizer.inner.id_to_token(id));
            let (own, others) = (own?, others?);
            (own != others).then(|| format!("token {id} is {own:?} of the one and {others:?} of the other"))
        })
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

    /// Whether the token has a role of its own, such as ending a turn, and is no part of a text.
    pub fn is_special(&self, id: u32) -> bool {
        let added = self.inner.get_added_vocabulary();
        self.inner.id_to_token(id).is_some_and(|token| added.is_special_token(&token))
    }

    /// The token that ends the assistant's turns by the chat template: often another than [`eos`](Self::eos). Of several in a
    /// row, the first of `stops`.
    pub fn end_of_turn(&self, stops: &[u32]) -> Option<u32> {
        conversation::end_of_turn(self, stops)
    }

    /// How a conversation is written for this model, if its files say: with tools by the template `tool_use` if there is
    /// one, otherwise by the only one or the one called `default`.
    ///
    /// # Errors
    ///
    /// When there are several templates with names, none of which is for this.
    pub fn chat_template(&self, with_tools: bool) -> Result<Option<&ChatTemplate>, TextError> {
        self.templates.choose(&self.dir, with_tools)
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
    chat_template: Option<Configured>,
    /// Tokens by their ids. Some tokenizers' `tokenizer.json` lacks some of them.
    added_tokens_decoder: BTreeMap<u32, AddedToken>,
}

impl Config {
    /// Adds to `tokenizer` the tokens that only this file knows, where they come next to those there are.
    fn add_tokens(&self, tokenizer: &mut tokenizers::Tokenizer, vocab_size: usize) {
        for (&id, token) in &self.added_tokens_decoder {
            let is_next = tokenizer.get_vocab_size(true) == id as usize && (id as usize) < vocab_size;
            if !is_next || tokenizer.token_to_id(&token.content).is_some() {
                continue;
            }
            // It fails on none but a normalizer's failure on the token's own text; then the token stays unknown.
            _ = if token.special {
                tokenizer.add_special_tokens([token.clone()])
            } else {
                tokenizer.add_tokens([token.clone()])
            };
        }
    }

    fn knows(&self, token: &str) -> bool {
        self.added_tokens_decoder.values().any(|added| added.content == token)
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

/// Switches off what tokenizes a text otherwise each time: BPE's dropout, and a unigram model's sampling.
fn without_chance(tokenizer: &mut tokenizers::Tokenizer) {
    match tokenizer.get_model() {
        ModelWrapper::BPE(bpe) if bpe.dropout.is_some() => {
            let mut bpe = bpe.clone();
            bpe.dropout = None;
            tokenizer.with_model(bpe);
        }
        ModelWrapper::Unigram(unigram) if unigram.alpha.is_some() || unigram.nbest_size.is_some() => {
            let mut unigram = unigram.clone();
            (unigram.alpha, unigram.nbest_size) = (None, None);
            tokenizer.with_model(unigram);
        }
        _ => {}
    }
}

/// The text of a file, or `None` if there is no such file.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>, TextError> {
    let text =
        |bytes| String::from_utf8(bytes).map_err(|source| TextError::Utf8 { path: path.to_owned(), source });
    read(path, MAX_CONFIG_BYTES)?.map(text).transpose()
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
