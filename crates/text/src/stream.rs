//! Text as tokens come: a reply is shown while it is sampled, and ends where a stop string begins.

use crate::{TextError, Tokenizer};

/// The most tokens to wait for while the decoded text ends with an incomplete character. A character has at most four
/// bytes, so only tokens that are not text need more.
const MOST_PENDING: usize = 64;

/// Turns tokens into text piece by piece. No piece ends within a character.
///
/// The pieces joined are [`Tokenizer::decode`] of all tokens, if these are text. (Where a byte-fallback tokenizer's
/// bytes are not UTF-8, `decode` replaces whole runs of them, including bytes that a piece has already shown.)
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    /// The tokens that were given out last, which decide how the next are written, then those not given out yet.
    ids: Vec<u32>,
    /// How many of `ids` were given out, and the bytes of their text.
    given: (usize, usize),
}

impl<'a> TextStream<'a> {
    /// A stream without tokens; special tokens are left out if `skip_special`.
    pub fn new(tokenizer: &'a Tokenizer, skip_special: bool) -> Self {
        Self { tokenizer, skip_special, ids: Vec::new(), given: (0, 0) }
    }

    /// Takes a token and returns the text that is now certain, often none.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn push(&mut self, id: u32) -> Result<String, TextError> {
        self.ids.push(id);
        let text = self.decode()?;
        let (tokens, bytes) = self.given;
        if text.ends_with(char::REPLACEMENT_CHARACTER) && self.ids.len() - tokens < MOST_PENDING {
            return Ok(String::new());
        }
        let piece = text.get(bytes..).unwrap_or_default().to_owned();
        if !piece.is_empty() {
            self.ids.drain(..tokens);
            self.given = (self.ids.len(), self.decode()?.len());
        }
        Ok(piece)
    }

    /// The text that was still uncertain when the last token came.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn finish(self) -> Result<String, TextError> {
        Ok(self.decode()?.get(self.given.1..).unwrap_or_default().to_owned())
    }

    fn decode(&self) -> Result<String, TextError> {
        self.tokenizer.decode(&self.ids, self.skip_special)
    }
}

/// Finds the first of some strings in text that comes in pieces.
#[derive(Clone, Debug)]
pub struct StopStrings {
    strings: Vec<String>,
    /// Text that may be the beginning of one of them.
    held: String,
}

/// What a piece of text adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Text that is not part of a stop string; the rest is held back until more text comes.
    Text(String),
    /// The text up to a stop string: it ends here.
    Stop(String),
}

impl StopStrings {
    /// Looks for `strings`; empty ones are ignored.
    pub fn new(strings: &[String]) -> Self {
        Self { strings: strings.iter().filter(|s| !s.is_empty()).cloned().collect(), held: String::new() }
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.strings.is_empty()
    }

    /// Takes the next piece of text.
    pub fn push(&mut self, piece: &str) -> Found {
        self.held += piece;
        if let Some(at) = first_stop(&self.held, &self.strings) {
            self.held.truncate(at);
            return Found::Stop(std::mem::take(&mut self.held));
        }
        let bytes = self.held.as_bytes();
        let begins = |at: usize| self.strings.iter().any(|s| s.as_bytes().starts_with(&bytes[at..]));
        let longest = self.strings.iter().map(String::len).max().unwrap_or(0);
        let hold = (bytes.len().saturating_sub(longest)..bytes.len()).find(|&at| begins(at));
        let rest = self.held.split_off(hold.unwrap_or(bytes.len()));
        Found::Text(std::mem::replace(&mut self.held, rest))
    }

    /// The text that was held back, when no more comes.
    pub fn finish(self) -> String {
        self.held
    }
}

/// Where the first of `stops` begins in `text`. Empty ones are never found.
pub fn first_stop(text: &str, stops: &[String]) -> Option<usize> {
    stops.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| text.find(stop.as_str())).min()
}

#[cfg(test)]
mod tests;
