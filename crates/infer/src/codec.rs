//! How a model reads and writes text.

use std::path::Path;

use koan_backend::Backend;
use koan_data::{Message, Problem};
use koan_model::{
    Config, Model,
    checkpoint::{self, CheckpointError, Place},
};
use koan_text::{Conversation, Reply, TextError, Tokenizer, Turn};
use serde_json::{Map, Value};

use crate::InferError;

/// Longest text that is encoded in one piece, bytes: a prompt with all its messages, before and after the chat template, or a
/// completion. About a million tokens.
pub const MAX_TEXT_BYTES: usize = 4 << 20;
/// A text of more bytes than so many for each token that the model reaches is not encoded either: no text has as many, and it
/// would take long to find out.
pub const MAX_BYTES_PER_TOKEN: usize = 64;
/// Texts of so many bytes are encoded whatever the model.
const SHORT_BYTES: usize = 64 << 10;

/// How prompts are put to a model: the same in training, measurement and use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromptStyle {
    /// As they stand, without the chat template.
    pub raw: bool,
    /// A system message before the conversation, unless it has one.
    pub system: Option<String>,
}

/// How the model of a directory reads and writes text: all of it except the weights.
#[derive(Clone, Debug)]
pub struct Codec {
    place: Place,
    config: Config,
    tokenizer: Option<Tokenizer>,
    style: PromptStyle,
}

/// The tokens of a prompt, and those of the reply.
pub type Encoded = (Vec<u32>, Vec<u32>);

impl Codec {
    /// Reads the config and, if there is one, the tokenizer of the model directory `dir`, which may be that of an adapter whose
    /// base model is where it says; prompts are put to it in `style`.
    ///
    /// # Errors
    /// A config or a tokenizer that is refused, or a tokenizer with more tokens than the model has embeddings.
    pub fn open(dir: &Path, style: PromptStyle) -> Result<Self, InferError> {
        Self::open_at(&Place::find(dir, None).map_err(CheckpointError::from)?, style)
    }

    /// As [`open`](Self::open), of the model at `place`, which may have an adapter.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_at(place: &Place, style: PromptStyle) -> Result<Self, InferError> {
        Ok(Self { place: place.clone(), ..Self::of(place.texts(), place.config()?, style)? })
    }

    /// The text of `dir`, for a model of `config` that whoever asks has loaded.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn of(dir: &Path, config: Config, style: PromptStyle) -> Result<Self, InferError> {
        let has_tokenizer = dir.join("tokenizer.json").exists();
        let tokenizer = has_tokenizer.then(|| Tokenizer::load_for(dir, config.vocab_size)).transpose()?;
        Ok(Self { place: dir.into(), config, tokenizer, style })
    }

    /// The model's directory.
    pub(crate) fn dir(&self) -> &Path {
        self.place.model()
    }

    /// Where the model lies.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The model's sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The tokenizer, for text.
    ///
    /// # Errors
    /// If the model has none.
    pub fn tokenizer(&self) -> Result<&Tokenizer, TextError> {
        self.tokenizer.as_ref().ok_or_else(|| TextError::NoTokenizer { dir: self.place.texts().into() })
    }

    /// Whether the model has a tokenizer: without one it is asked in tokens alone.
    pub fn has_tokenizer(&self) -> bool {
        self.tokenizer.is_some()
    }

    /// The tokens of a conversation: through the model's chat template up to where its answer begins, or, if the model has no
    /// template or the style is raw, its text as it stands. The fields `tools`, `documents` and `chat_template_kwargs` of
    /// `row` are for the template.
    ///
    /// # Errors
    /// If there is no tokenizer, it or the template refuses, or leaves a part of the conversation out, or the text has more than
    /// [`MAX_TEXT_BYTES`] or [`MAX_BYTES_PER_TOKEN`].
    pub fn encode(&self, messages: &[Message], row: &Map<String, Value>) -> Result<Vec<u32>, InferError> {
        let tokenizer = self.tokenizer()?;
        let own = messages.iter().map(|message| message.content.len() + message.role.len());
        self.check_length(own.chain(self.style.system.iter().map(String::len)).sum())?;
        let has_system = messages.iter().any(|m| m.role == "system");
        let system = self.style.system.iter().filter(|_| !has_system && !self.style.raw);
        let system = system.map(|s| Message { role: "system".to_owned(), ..Message::user(s) });
        let turns: Vec<Turn> = system.chain(messages.iter().cloned()).map(Message::into_fields).collect();
        if self.style.raw {
            Conversation::check_raw(&turns, row)?;
        } else if let Some(conversation) = Conversation::new(tokenizer, turns, row)? {
            let text = conversation.text()?;
            self.check_length(text.len())?;
            return Ok(tokenizer.encode(&text, false)?);
        }
        let turns: Vec<&str> = messages.iter().map(|m| m.content.as_str()).collect();
        Ok(tokenizer.encode(&turns.join("\n"), true)?)
    }

    /// As [`encode`](Self::encode), of the prompt of a problem, which an error names.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_problem(&self, problem: &Problem) -> Result<Vec<u32>, InferError> {
        let wrong = |source| InferError::Prompt { id: problem.id.clone(), source: Box::new(source) };
        self.encode(&problem.messages(), &problem.other).map_err(wrong)
    }

    /// The tokens of a conversation up to the assistant's `reply`, and those of the reply with the token that ends it: through the chat
    /// template or, if there is none, as they stand, as fine-tuning reads them. None: the template opens the thinking, and
    /// the reply has none.
    ///
    /// # Errors
    /// As [`encode`](Self::encode); or if there is no token that could end the reply.
    pub fn encode_reply(&self, prompt: &[Message], reply: &Message) -> Result<Option<Encoded>, InferError> {
        let tokenizer = self.tokenizer()?;
        let messages = || prompt.iter().chain([reply]);
        self.check_length(messages().map(|message| message.content.len() + message.role.len()).sum())?;
        let turns = messages().cloned().map(Message::into_fields).collect();
        if let Some(conversation) = Conversation::new(tokenizer, turns, &Map::new())? {
            let stops: Vec<u32> = self.config.eos_token_ids.iter().copied().chain(tokenizer.eos()).collect();
            return Ok(match conversation.reply(prompt.len(), &stops)? {
                Reply::Learned { context, tokens } => Some((context, tokens)),
                Reply::WithoutThinking => None,
            });
        }
        let end = tokenizer.eos().ok_or_else(|| TextError::NoEndOfTurn)?;
        let before: Vec<&str> = prompt.iter().map(|message| message.content.as_str()).collect();
        let mut tokens = tokenizer.encode(&reply.content, false)?;
        tokens.push(end);
        Ok(Some((tokenizer.encode(&before.join("\n"), true)?, tokens)))
    }

    /// The tokens of a text as it stands, without the chat template.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>, InferError> {
        self.check_length(text.len())?;
        Ok(self.tokenizer()?.encode(text, true)?)
    }

    /// The tokens of a completion.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_completion(&self, completion: &str) -> Result<Vec<u32>, InferError> {
        self.check_length(completion.len())?;
        Ok(self.tokenizer()?.encode(completion, false)?)
    }

    /// The text of tokens, without special ones.
    ///
    /// # Errors
    /// If there is no tokenizer, or its decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        self.tokenizer()?.decode(ids, true)
    }

    /// The tokens that end a completion: those that the model's config and generation config name, the tokenizer's, and the
    /// one that ends a turn by its chat template.
    pub fn stop_ids(&self) -> Vec<u32> {
        let mut ids = self.stop_ids_of_text();
        if let Some(tokenizer) = self.tokenizer.as_ref().filter(|_| !self.style.raw) {
            let end = tokenizer.end_of_turn(&ids);
            ids.extend(end.filter(|end| !ids.contains(end)));
        }
        ids
    }

    /// Those of them that end a text, whatever the chat template.
    pub fn stop_ids_of_text(&self) -> Vec<u32> {
        let of_tokenizer = self.tokenizer.as_ref().and_then(Tokenizer::eos);
        self.config.eos_token_ids.iter().copied().chain(of_tokenizer).collect()
    }

    fn check_length(&self, bytes: usize) -> Result<(), InferError> {
        let reached = self.config.longest_sequence().saturating_mul(MAX_BYTES_PER_TOKEN);
        let max = reached.clamp(SHORT_BYTES, MAX_TEXT_BYTES);
        if bytes > max { Err(InferError::TextLength { bytes, max }) } else { Ok(()) }
    }

    /// Loads the model's weights for forward passes alone, for sequences of up to `positions` tokens (all that it was made
    /// for, if `None`).
    ///
    /// # Errors
    /// Weights that are refused, more positions than the model reaches, or a lack of memory.
    pub fn load<B: Backend>(&self, b: &B, positions: Option<usize>) -> Result<Model<B>, CheckpointError> {
        checkpoint::load_for_inference(b, &self.place, positions)
    }

    /// As [`load`](Self::load), with the modules that predict further tokens.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with_modules<B: Backend>(
        &self,
        b: &B,
        positions: usize,
    ) -> Result<Model<B>, CheckpointError> {
        checkpoint::load_to_draft(b, &self.place, positions)
    }

    /// Says what is wrong with tokens that are to be fed to the model: there are none, or one is outside of its vocabulary.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self, what: &str, ids: &[u32]) -> Result<(), String> {
        let vocab_size = self.config.vocab_size;
        match ids.iter().find(|&&id| id as usize >= vocab_size) {
            Some(id) => Err(format!("token {id} of the {what} is outside of the vocabulary of {vocab_size}")),
            None if ids.is_empty() => Err(format!("the {what} has no tokens")),
            None => Ok(()),
        }
    }
}
