//! What is learned from, as tokens: pieces of texts, and replies in conversations.

use koan_data::{DataFiles, Demonstration, Document, Message, read_corpus, read_demonstrations};
use koan_generate::{Stream, uniform};
use koan_model::Config;
use koan_text::{Conversation, Reply, Tokenizer};
use serde_json::{Map, Value};

use super::{Stage, config::TooLong, error::SupervisedError, next_token::Text};
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
    /// Replies without thinking after prompts that open it.
    without_thinking: usize,
    /// Replies that do not fit with what comes before them.
    too_long: usize,
    /// Replies that are cut off.
    truncated: usize,
}

impl Read {
    /// Says what is not learned, in words; empty if all is.
    pub(crate) fn left_out(&self) -> String {
        let counts = [
            (self.without_thinking, "left out: no thinking after a prompt that opens it"),
            (self.too_long, "left out: longer than max_tokens"),
            (self.truncated, "cut off at max_tokens"),
        ];
        let words = |(n, what)| format!("; {n} {} {what}", if n == 1 { "reply" } else { "replies" });
        counts.into_iter().filter(|(n, _)| *n > 0).map(words).collect::<Vec<_>>().concat()
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

/// Reads `files` as `stage` learns from it, for the model of `config`.
pub(crate) fn read(
    stage: Stage,
    files: &DataFiles,
    tokenizer: &Tokenizer,
    limits: Limits,
    config: &Config,
) -> Result<Read, TrainError> {
    let mut read = Read::default();
    match stage {
        Stage::Pretrain => {
            let end = tokenizer.eos().ok_or(SupervisedError::NoEndOfText)?;
            for document in read_corpus(files)? {
                let ids = match document {
                    Document::Text(text) => tokenizer.encode_corpus(&text, false)?,
                    Document::Tokens(ids) => ids,
                };
                let begin = tokenizer.bos().unwrap_or(end);
                cut(&ids, begin, end, limits.max_tokens, &mut read.pieces);
            }
        }
        Stage::Sft => {
            let stops: Vec<u32> = config.eos_token_ids.iter().copied().chain(tokenizer.eos()).collect();
            for (i, demonstration) in read_demonstrations(files)?.iter().enumerate() {
                replies(tokenizer, &stops, i + 1, demonstration, limits, &mut read)?;
            }
        }
    }
    let vocab_size = config.vocab_size;
    let ids = read.pieces.iter().flat_map(|piece| piece.context.iter().chain(&piece.tokens));
    match ids.copied().max() {
        Some(id) if id as usize >= vocab_size => {
            Err(SupervisedError::NoSuchToken { id, vocab_size, files: files.to_string() }.into())
        }
        None if read.too_long > 0 => {
            Err(SupervisedError::AllTooLong { files: files.to_string(), max: limits.max_tokens }.into())
        }
        None => Err(SupervisedError::NothingToLearn { files: files.to_string() }.into()),
        _ => Ok(read),
    }
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

/// Cuts the texts of a stream of tokens, which end where it does or with `end`, into pieces. Each text follows `begin`; a
/// later piece of a text follows the last token of the one before.
fn cut(ids: &[u32], begin: u32, end: u32, max_tokens: usize, pieces: &mut Vec<Piece>) {
    for text in ids.split_inclusive(|&id| id == end) {
        let text = text.strip_prefix(&[begin]).unwrap_or(text);
        let open = text.last().is_some_and(|&last| last != end);
        let tokens: Vec<u32> = text.iter().copied().chain(open.then_some(end)).collect();
        let mut context = begin;
        for tokens in tokens.chunks(max_tokens).filter(|&tokens| tokens != [end]) {
            pieces.push(Piece { context: vec![context], tokens: tokens.into() });
            context = tokens[tokens.len() - 1];
        }
    }
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

/// The pieces of each update, in an order of its own each epoch: a function of the seed alone.
pub(crate) struct Batches<'a> {
    pieces: &'a [Piece],
    seed: u64,
    batch_tokens: usize,
    epoch: u64,
    /// The rest of the epoch, last piece first.
    rest: Vec<usize>,
}

impl<'a> Batches<'a> {
    pub(crate) fn new(pieces: &'a [Piece], seed: u64, batch_tokens: usize) -> Self {
        Self { pieces, seed, batch_tokens, epoch: 0, rest: Vec::new() }
    }

    /// Updates that `epochs` passes over the data take.
    pub(crate) fn in_epochs(&self, epochs: u64) -> u64 {
        let tokens: usize = self.pieces.iter().map(|piece| piece.tokens.len()).sum();
        (tokens as u64 * epochs).div_ceil(self.batch_tokens as u64).max(1)
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Vec<Text<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let (mut texts, mut tokens) = (Vec::new(), 0);
        while tokens < self.batch_tokens {
            let Some(next) = self.rest.pop() else {
                let key = |&i: &usize| uniform(self.seed, Stream::TextOrder, self.epoch, i as u64, 0);
                self.rest = (0..self.pieces.len()).collect();
                self.rest.sort_by(|a, b| key(b).total_cmp(&key(a)));
                self.epoch += 1;
                continue;
            };
            tokens += self.pieces[next].tokens.len();
            texts.push(self.pieces[next].text());
        }
        Some(texts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_where_they_end_and_where_they_are_long() {
        let mut pieces = Vec::new();
        cut(&[5, 6, 7, 8, 1, 9], 0, 1, 3, &mut pieces);
        let piece = |context, tokens: &[u32]| Piece { context: vec![context], tokens: tokens.into() };
        assert_eq!(pieces, [piece(0, &[5, 6, 7]), piece(7, &[8, 1]), piece(0, &[9, 1])]);
        let mut pieces = Vec::new();
        cut(&[0, 5, 1, 1], 0, 1, 3, &mut pieces);
        assert_eq!(pieces, [piece(0, &[5, 1])]);
    }

    #[test]
    fn an_epoch_has_every_piece_once_in_an_order_of_its_own() {
        let pieces: Vec<Piece> = (0..50).map(|i| Piece { context: vec![0], tokens: vec![i, i, i] }).collect();
        let drawn = |seed, skip| {
            let batches = Batches::new(&pieces, seed, 30).skip(skip);
            batches.take(5).flatten().map(|text| text.tokens[0]).collect::<Vec<u32>>()
        };
        let (first, second) = (drawn(1, 0), drawn(1, 5));
        let sorted = |mut ids: Vec<u32>| {
            ids.sort_unstable();
            ids
        };
        assert_eq!(sorted(first.clone()), (0..50).collect::<Vec<u32>>());
        assert_eq!(sorted(second.clone()), sorted(first.clone()));
        assert!(first != second && first != drawn(2, 0) && first == drawn(1, 0));
        assert_eq!(Batches::new(&pieces, 1, 30).in_epochs(2), 10);
    }
}
