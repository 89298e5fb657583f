//! What is learned from, as tokens: a prompt with its replies.

use std::collections::HashSet;

use koan_data::{DataFiles, Message, Preference, Rated, read_preferences, read_rated};
use koan_model::Config;
use koan_text::Tokenizer;
use serde_json::Map;

use super::{
    PreferError,
    config::{LossName, PreferConfig},
};
use crate::{
    TrainError,
    supervised::{self, Piece, SupervisedError, TooLong},
};

/// A prompt with the replies that are compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The prompt's tokens; at least one.
    pub prompt: Vec<u32>,
    /// The chosen and the rejected reply; or a reply without a partner, and the reply of the row before it in the file.
    pub replies: [Vec<u32>; 2],
    /// Whether a reply without a partner is good; true for pairs.
    pub good: bool,
    /// By how much the chosen reply is better, where the row says so; else 0.
    pub margin: f64,
}

/// Examples, and what became of the rows that are none.
#[derive(Clone, Debug, Default)]
pub(super) struct Examples {
    pub(super) rows: Vec<Example>,
    /// Rows left out since they have more than `max_tokens`.
    pub(super) too_long: usize,
    /// Rows with a reply that was cut.
    pub(super) cut: usize,
    /// Rows left out since their prompt opens the thinking and a reply has none.
    pub(super) without_thinking: usize,
    /// Pairs left out since both replies are the same: their loss has no gradient.
    pub(super) equal: usize,
}

impl Example {
    /// Rows of a pass that it takes, at most: a reward model reads the last token of each reply too.
    pub(super) fn rows(&self) -> usize {
        self.prompt.len() - 1 + self.replies.iter().map(|reply| reply.len() + 1).sum::<usize>()
    }

    /// Its longest sequence, tokens.
    pub(super) fn positions(&self) -> usize {
        self.prompt.len() + self.replies.iter().map(Vec::len).max().unwrap_or(0)
    }
}

impl Examples {
    /// Reads `files` as `config` says, for `model`.
    ///
    /// # Errors
    /// A file that can't be read, a row that is none, tokens that the model does not know, or nothing left to learn from.
    pub(super) fn read(
        files: &DataFiles,
        config: &PreferConfig,
        tokenizer: &Tokenizer,
        model: &Config,
    ) -> Result<Self, TrainError> {
        let vocab_size = model.vocab_size;
        let stops: Vec<u32> = model.eos_token_ids.iter().copied().chain(tokenizer.eos()).collect();
        let mut examples = Self::default();
        if config.algorithm.objective().is_of_pairs() {
            examples.read_pairs(files, config, tokenizer, &stops)?;
        } else {
            examples.read_rated(files, config, tokenizer, &stops)?;
        }
        let ids = examples.rows.iter().flat_map(|row| row.prompt.iter().chain(row.replies.iter().flatten()));
        match ids.copied().max() {
            Some(id) if id as usize >= vocab_size => {
                Err(PreferError::NoSuchToken { id, vocab_size, files: files.to_string() }.into())
            }
            None => {
                Err(PreferError::NothingToLearn { files: files.to_string(), why: examples.left_out() }.into())
            }
            _ => Ok(examples),
        }
    }

    fn read_pairs(
        &mut self,
        files: &DataFiles,
        config: &PreferConfig,
        tokenizer: &Tokenizer,
        stops: &[u32],
    ) -> Result<(), TrainError> {
        for (number, row) in read_preferences(files)?.into_iter().enumerate() {
            let Preference { prompt, chosen, rejected, margin, .. } = row;
            let encode = |reply| encode(tokenizer, stops, number + 1, &prompt, reply);
            let (Some(chosen), Some(rejected)) = (encode(chosen)?, encode(rejected)?) else {
                self.without_thinking += 1;
                continue;
            };
            let Some(replies) =
                self.fit(number + 1, &chosen.context, [chosen.tokens, rejected.tokens], config)?
            else {
                continue;
            };
            if replies[0] == replies[1] {
                self.equal += 1;
                continue;
            }
            self.rows.push(Example {
                prompt: chosen.context,
                replies,
                good: true,
                margin: margin.unwrap_or(0.0),
            });
        }
        Ok(())
    }

    fn read_rated(
        &mut self,
        files: &DataFiles,
        config: &PreferConfig,
        tokenizer: &Tokenizer,
        stops: &[u32],
    ) -> Result<(), TrainError> {
        for (number, row) in read_rated(files)?.into_iter().enumerate() {
            let Rated { prompt, completion, good, .. } = row;
            let Some(reply) = encode(tokenizer, stops, number + 1, &prompt, completion)? else {
                self.without_thinking += 1;
                continue;
            };
            let Some([tokens, _]) =
                self.fit(number + 1, &reply.context, [reply.tokens, Vec::new()], config)?
            else {
                continue;
            };
            self.rows.push(Example {
                prompt: reply.context,
                replies: [tokens, Vec::new()],
                good,
                margin: 0.0,
            });
        }
        if config.algorithm.loss != LossName::Kto {
            return Ok(());
        }
        // Each prompt gets the reply of the row before it, the first that of the last.
        let replies: Vec<Vec<u32>> = self.rows.iter().map(|row| row.replies[0].clone()).collect();
        let before = replies.last().into_iter().chain(&replies);
        for (row, other) in self.rows.iter_mut().zip(before) {
            row.replies[1].clone_from(other);
            // Together they must fit as well; what is cut off says little about a reply to another prompt.
            row.replies[1].truncate((config.max_tokens + 1).saturating_sub(row.prompt.len()).max(1));
        }
        Ok(())
    }

    /// The replies as `config` lets them be; none if the row is left out.
    fn fit(
        &mut self,
        number: usize,
        prompt: &[u32],
        mut replies: [Vec<u32>; 2],
        config: &PreferConfig,
    ) -> Result<Option<[Vec<u32>; 2]>, SupervisedError> {
        let max = config.max_tokens;
        let room = max.saturating_sub(prompt.len());
        let longest = replies.iter().map(Vec::len).max().unwrap_or(0);
        if longest <= room {
            return Ok(Some(replies));
        }
        match config.too_long {
            TooLong::Refuse => {
                Err(SupervisedError::TextTooLong { number, tokens: prompt.len() + longest, max })
            }
            TooLong::Truncate if room > 0 => {
                self.cut += 1;
                for reply in &mut replies {
                    reply.truncate(room);
                }
                Ok(Some(replies))
            }
            TooLong::Truncate | TooLong::LeaveOut => {
                self.too_long += 1;
                Ok(None)
            }
        }
    }

    /// A token that no example has, `preferred` if it is one: transformers scores the last token that is not the padding
    /// token, so a reward model's must not end a text.
    pub(super) fn unused_token(&self, preferred: Option<u32>, vocab_size: usize) -> u32 {
        let used: HashSet<u32> =
            self.rows.iter().flat_map(|row| row.replies.iter().flatten()).copied().collect();
        let unused = |id: &u32| !used.contains(id);
        preferred.filter(unused).or_else(|| (0..vocab_size as u32).find(unused)).unwrap_or_default()
    }

    /// What became of the rows that are not learned from as they stand, in words; empty if there are none.
    pub(super) fn left_out(&self) -> String {
        let Self { too_long, cut, without_thinking, equal, .. } = self;
        let said = [
            (*too_long, "too long, left out"),
            (*cut, "cut at max_tokens"),
            (*without_thinking, "without thinking after a prompt that opens it, left out"),
            (*equal, "with two equal replies, left out"),
        ];
        let said: Vec<String> =
            said.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        said.join(", ")
    }
}

/// The prompt's tokens and the reply's, as fine-tuning has them; none if the prompt opens the thinking and the reply has none.
fn encode(
    tokenizer: &Tokenizer,
    stops: &[u32],
    number: usize,
    prompt: &[Message],
    reply: Message,
) -> Result<Option<Piece>, TrainError> {
    let messages: Vec<Message> = prompt.iter().cloned().chain([reply]).collect();
    let conversation = supervised::conversation(tokenizer, number, &messages, &Map::new())?;
    supervised::encode_reply(tokenizer, stops, number, conversation.as_ref(), &messages, prompt.len())
}
