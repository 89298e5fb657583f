//! What is learned from, as tokens: pieces of texts ([`corpus`](super::corpus)), and replies in conversations.

use koan_data::{DataFiles, Demonstration, Message, read_demonstrations};
use koan_model::Config;
use koan_text::{Conversation, Reply, Tokenizer};
use serde_json::{Map, Value};

use super::{config::TooLong, error::SupervisedError, next_token::Text};
use crate::TrainError;

/// Tokens that are predicted, after tokens that are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) context: Vec<u32>,
    pub(crate) tokens: Vec<u32>,
}

impl Piece {
    pub(crate) fn text(&self) -> Text<'_> {
        Text { context: &self.context, tokens: &self.tokens }
    }

    /// Rows of a pass that it takes.
    pub(crate) fn rows(&self) -> usize {
        self.context.len() - 1 + self.tokens.len()
    }
}

/// What is learned from, and what is not.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) pieces: Vec<Piece>,
    /// Texts with their middle last.
    pub(super) filled_in: usize,
    /// Replies without thinking after prompts that open it.
    without_thinking: usize,
    /// Replies that do not fit with what comes before them.
    too_long: usize,
    /// Replies that are cut off.
    truncated: usize,
}

impl Read {
    /// Says what is not learned, or otherwise than it stands, in words; empty if there is nothing to say.
    pub(crate) fn left_out(&self) -> String {
        let counts = [
            (self.without_thinking, "left out: no thinking after a prompt that opens it"),
            (self.too_long, "left out: longer than max_tokens"),
            (self.truncated, "cut off at max_tokens"),
        ];
        let words = |(n, what)| format!("; {n} {} {what}", if n == 1 { "reply" } else { "replies" });
        let filled_in = match self.filled_in {
            0 => String::new(),
            n => format!("; of {n} documents the middle comes last"),
        };
        filled_in + &counts.into_iter().filter(|(n, _)| *n > 0).map(words).collect::<String>()
    }

    /// Refuses what of `files` is nothing to learn, or has tokens that a vocabulary of `vocab_size` does not.
    pub(super) fn check(self, files: &DataFiles, vocab_size: usize) -> Result<Self, SupervisedError> {
        let ids = self.pieces.iter().flat_map(|piece| piece.context.iter().chain(&piece.tokens));
        match ids.copied().max() {
            Some(id) if id as usize >= vocab_size => {
                Err(SupervisedError::NoSuchToken { id, vocab_size, files: files.to_string() })
            }
            None => Err(SupervisedError::NothingToLearn { files: files.to_string() }),
            _ => Ok(self),
        }
    }

    /// Adds a reply, whole or as `too_long` says.
    fn add(&mut self, number: usize, mut piece: Piece, limits: Limits) -> Result<(), SupervisedError> {
        let (tokens, max) = (piece.rows(), limits.max_tokens);
        if tokens > max {
            let room = (max + 1).saturating_sub(piece.context.len());
            match limits.too_long {
                TooLong::Refuse => return Err(SupervisedError::TextTooLong { number, tokens, max }),
                TooLong::Truncate if room > 0 => {
                    piece.tokens.truncate(room);
                    self.truncated += 1;
                }
                TooLong::Truncate | TooLong::LeaveOut => {
                    self.too_long += 1;
                    return Ok(());
                }
            }
        }
        self.pieces.push(piece);
        Ok(())
    }
}

/// How long a text may be, and what becomes of a reply that is longer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_tokens: usize,
    pub(crate) too_long: TooLong,
}

/// Reads the demonstrations of `files` for the model of `config`.
pub(crate) fn read(
    files: &DataFiles,
    tokenizer: &Tokenizer,
    limits: Limits,
    config: &Config,
) -> Result<Read, TrainError> {
    let mut read = Read::default();
    let stops: Vec<u32> = config.eos_token_ids.iter().copied().chain(tokenizer.eos()).collect();
    for (i, demonstration) in read_demonstrations(files)?.iter().enumerate() {
        replies(tokenizer, &stops, i + 1, demonstration, limits, &mut read)?;
    }
    if read.pieces.is_empty() && read.too_long > 0 {
        return Err(SupervisedError::AllTooLong { files: files.to_string(), max: limits.max_tokens }.into());
    }
    Ok(read.check(files, config.vocab_size)?)
}

/// The tokens of a demonstration that `sft` compares with `max_tokens`; of the tokens that end a turn, replies end with the
/// first of `stops`.
///
/// # Errors
/// A tokenizer without an end-of-sequence token, a template that refuses, a prompt without tokens.
pub fn demonstration_tokens(
    tokenizer: &Tokenizer,
    stops: &[u32],
    demonstration: &Demonstration,
) -> Result<usize, TrainError> {
    let mut read = Read::default();
    let limits = Limits { max_tokens: usize::MAX, too_long: TooLong::Refuse };
    replies(tokenizer, stops, 1, demonstration, limits, &mut read)?;
    Ok(read.pieces.iter().map(Piece::rows).max().unwrap_or(0))
}

/// The replies of the assistant, each after all that comes before it. A message whose `weight` is 0 is not learned.
fn replies(
    tokenizer: &Tokenizer,
    stops: &[u32],
    number: usize,
    demonstration: &Demonstration,
    limits: Limits,
    read: &mut Read,
) -> Result<(), TrainError> {
    let Demonstration { messages, row } = demonstration;
    let conversation = conversation(tokenizer, number, messages, row)?;
    let is_learned = |message: &Message| {
        message.role == "assistant" && message.other.get("weight").and_then(Value::as_f64) != Some(0.0)
    };
    for (i, _) in messages.iter().enumerate().filter(|(i, message)| *i > 0 && is_learned(message)) {
        match encode_reply(tokenizer, stops, number, conversation.as_ref(), messages, i)? {
            Some(piece) => read.add(number, piece, limits)?,
            None if i + 1 == messages.len() => return Err(SupervisedError::WithoutThinking { number }.into()),
            None => read.without_thinking += 1,
        }
    }
    Ok(())
}

/// The messages of row `number` as the model's chat template reads them, with what the row says to it; none if the model has no
/// template.
pub(crate) fn conversation<'a>(
    tokenizer: &'a Tokenizer,
    number: usize,
    messages: &[Message],
    row: &Map<String, Value>,
) -> Result<Option<Conversation<'a>>, TrainError> {
    let turns = messages.iter().cloned().map(Message::into_fields).collect();
    let conversation = Conversation::new(tokenizer, turns, row);
    Ok(conversation.map_err(|source| SupervisedError::Row { number, source })?)
}

/// The tokens before message `i` and those of the message, as the model would generate it: through the chat template, or, if
/// there is none, after the messages as they stand, ended by the end-of-sequence token. None: the prompt opens the thinking, and
/// the message has none.
pub(crate) fn encode_reply(
    tokenizer: &Tokenizer,
    stops: &[u32],
    number: usize,
    conversation: Option<&Conversation>,
    messages: &[Message],
    i: usize,
) -> Result<Option<Piece>, TrainError> {
    let in_row = |source| SupervisedError::Row { number, source };
    let (context, tokens) = if let Some(conversation) = conversation {
        match conversation.reply(i, stops).map_err(in_row)? {
            Reply::Learned { context, tokens } => (context, tokens),
            Reply::WithoutThinking => return Ok(None),
        }
    } else {
        let end = tokenizer.eos().ok_or(SupervisedError::NoEndOfText)?;
        let before: Vec<&str> = messages[..i].iter().map(|m| m.content.as_str()).collect();
        let mut tokens = tokenizer.encode(&messages[i].content, false).map_err(in_row)?;
        tokens.push(end);
        (tokenizer.encode(&before.join("\n"), true).map_err(in_row)?, tokens)
    };
    if context.is_empty() {
        return Err(SupervisedError::PromptEmpty { number }.into());
    }
    Ok(Some(Piece { context, tokens }))
}
