//! What is learned from, as tokens: pieces of texts, and replies in conversations.

use koan_data::{DataFiles, Demonstration, Document, read_corpus, read_demonstrations};
use koan_generate::{Stream, uniform};
use koan_text::{Message, Tokenizer};

use super::{Stage, error::SupervisedError, next_token::Text};
use crate::TrainError;

/// Tokens that are predicted, after tokens that are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    context: Vec<u32>,
    tokens: Vec<u32>,
}

impl Piece {
    pub(super) fn text(&self) -> Text<'_> {
        Text { context: &self.context, tokens: &self.tokens }
    }

    /// Rows of a pass that it takes.
    pub(super) fn rows(&self) -> usize {
        self.context.len() - 1 + self.tokens.len()
    }
}

/// Reads `files` as `stage` learns from it, in pieces of at most `max_tokens`, for a model of `vocab_size`.
pub(super) fn read(
    stage: Stage,
    files: &DataFiles,
    tokenizer: &Tokenizer,
    max_tokens: usize,
    vocab_size: usize,
) -> Result<Vec<Piece>, TrainError> {
    let end = tokenizer.eos().ok_or(SupervisedError::NoEndOfText)?;
    let pieces = match stage {
        Stage::Pretrain => {
            let mut pieces = Vec::new();
            for document in read_corpus(files)? {
                let ids = match document {
                    Document::Text(text) => tokenizer.encode_corpus(&text, false)?,
                    Document::Tokens(ids) => ids,
                };
                cut(&ids, tokenizer.bos().unwrap_or(end), end, max_tokens, &mut pieces);
            }
            pieces
        }
        Stage::Sft => {
            let mut pieces = Vec::new();
            for (number, demonstration) in read_demonstrations(files)?.iter().enumerate() {
                replies(tokenizer, end, number + 1, demonstration, &mut pieces)?;
                if let Some(long) = pieces.last().filter(|piece| piece.rows() > max_tokens) {
                    let tokens = long.rows();
                    return Err(
                        SupervisedError::TextTooLong { number: number + 1, tokens, max: max_tokens }.into()
                    );
                }
            }
            pieces
        }
    };
    let ids = pieces.iter().flat_map(|piece| piece.context.iter().chain(&piece.tokens));
    match ids.copied().max() {
        Some(id) if id as usize >= vocab_size => {
            Err(SupervisedError::NoSuchToken { id, vocab_size, files: files.to_string() }.into())
        }
        None => Err(SupervisedError::NothingToLearn { files: files.to_string() }.into()),
        _ => Ok(pieces),
    }
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

/// The replies of the assistant, each after all that comes before it: through the model's chat template, or, if it has
/// none, after the messages as they stand. A reply ends with the end-of-sequence token.
fn replies(
    tokenizer: &Tokenizer,
    end: u32,
    number: usize,
    demonstration: &Demonstration,
    pieces: &mut Vec<Piece>,
) -> Result<(), TrainError> {
    let messages: Vec<Message> =
        demonstration.messages.iter().map(|m| Message::new(&*m.role, &*m.content)).collect();
    for (i, reply) in messages.iter().enumerate().filter(|(i, m)| *i > 0 && m.role == "assistant") {
        let (before, with_reply) = (&messages[..i], &messages[..=i]);
        let (context, mut tokens) = if let Some(template) = tokenizer.chat_template(false)? {
            let context = template.render(before, true)?;
            let whole = template.render(with_reply, false)?;
            // Where a template writes a finished reply otherwise than it opens one (some drop the thinking), the reply is
            // what the message says.
            let reply = whole.strip_prefix(&context).unwrap_or(&reply.content);
            (tokenizer.encode(&context, false)?, tokenizer.encode(reply, false)?)
        } else {
            let turns: Vec<&str> = before.iter().map(|m| m.content.as_str()).collect();
            (tokenizer.encode(&turns.join("\n"), true)?, tokenizer.encode(&reply.content, false)?)
        };
        if let Some(at) = tokens.iter().position(|&id| id == end) {
            tokens.truncate(at); // what a template writes after it is for the next turn
        }
        tokens.push(end);
        if context.is_empty() {
            return Err(SupervisedError::PromptEmpty { number }.into());
        }
        pieces.push(Piece { context, tokens });
    }
    Ok(())
}

/// The pieces of each update, in an order of its own each epoch: a function of the seed alone.
pub(super) struct Batches<'a> {
    pieces: &'a [Piece],
    seed: u64,
    batch_tokens: usize,
    epoch: u64,
    /// The rest of the epoch, last piece first.
    rest: Vec<usize>,
}

impl<'a> Batches<'a> {
    pub(super) fn new(pieces: &'a [Piece], seed: u64, batch_tokens: usize) -> Self {
        Self { pieces, seed, batch_tokens, epoch: 0, rest: Vec::new() }
    }

    /// Updates that `epochs` passes over the data take.
    pub(super) fn in_epochs(&self, epochs: u64) -> u64 {
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
