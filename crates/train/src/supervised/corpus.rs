//! The texts of a corpus as pieces to learn: with some middles last, and packed as the run says.
//!
//! ```text
//! isolated    each text by itself, one that is too long in several pieces; positions begin at 0, no text attends to another
//! across      one text after another in an order drawn once, cut wherever max_tokens are full; positions run on, and a
//!             token attends to the texts before it in its piece
//! ```

use koan_data::{DataFiles, Document, read_corpus};
use koan_generate::{Stream, uniform};
use koan_text::Tokenizer;
use serde::{Deserialize, Serialize};

use super::{
    SupervisedError,
    fill_in_middle::FillInMiddle,
    pieces::{Piece, Read},
};
use crate::TrainError;

/// Whether texts that are learned in one pass attend to one another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Packing {
    /// They do not.
    #[default]
    Isolated,
    /// They are joined to sequences of `max_tokens`, as DeepSeek-V3's were (arXiv:2412.19437, section 4.1).
    Across,
}

impl Packing {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How a corpus is learned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Corpus {
    pub(super) max_tokens: usize,
    pub(super) packing: Packing,
    pub(super) fill_in: Option<FillInMiddle>,
    /// Draws the order of joined texts.
    pub(super) seed: u64,
}

impl Corpus {
    /// Reads `files` as pieces.
    ///
    /// # Errors
    /// Files that can't be read, texts without tokens, a tokenizer without an end-of-sequence token; tokens in the place of
    /// text, where middles are to be filled in.
    pub(super) fn read(&self, files: &DataFiles, tokenizer: &Tokenizer) -> Result<Read, TrainError> {
        let end = tokenizer.eos().ok_or(SupervisedError::NoEndOfText)?;
        let begin = tokenizer.bos().unwrap_or(end);
        let end_in_text = tokenizer.decode(&[end], false)?;
        let (mut read, mut texts, mut number) = (Read::default(), Vec::new(), 0);
        for document in read_corpus(files)? {
            match (document, &self.fill_in) {
                (Document::Tokens(_), Some(_)) => {
                    return Err(SupervisedError::FimOfTokens { files: files.to_string() }.into());
                }
                (Document::Tokens(ids), None) => texts.extend(split(&ids, begin, end)),
                (Document::Text(text), None) => {
                    texts.extend(split(&tokenizer.encode_corpus(&text, false)?, begin, end));
                }
                (Document::Text(text), Some(fill_in)) => {
                    // One that holds the end-of-sequence token is several.
                    let each: Vec<&str> = match &*end_in_text {
                        "" => vec![&text],
                        end => text.split(end).collect(),
                    };
                    for text in each {
                        match fill_in.parts(number, text) {
                            None => texts.extend(split(&tokenizer.encode_corpus(text, false)?, begin, end)),
                            Some(parts) => {
                                let ids = fill_in.encode(parts, tokenizer)?;
                                texts.push(ids.into_iter().chain([end]).collect());
                                read.filled_in += 1;
                            }
                        }
                        number += 1;
                    }
                }
            }
        }
        match self.packing {
            Packing::Isolated => {
                for text in &texts {
                    isolated(text, begin, end, self.max_tokens, &mut read.pieces);
                }
            }
            Packing::Across => {
                texts.retain(|text| *text != [end]);
                let key = |i: usize| uniform(self.seed, Stream::DocumentOrder, 0, i as u64, 0);
                let mut order: Vec<usize> = (0..texts.len()).collect();
                order.sort_by(|&a, &b| key(a).total_cmp(&key(b)));
                let ordered = order.iter().map(|&i| &*texts[i]);
                joined(ordered, begin, end, self.max_tokens, &mut read.pieces);
            }
        }
        Ok(read)
    }
}

/// The texts in a stream of tokens, which end where it does or with `end`: each with its end, and without `begin`.
fn split(ids: &[u32], begin: u32, end: u32) -> impl Iterator<Item = Vec<u32>> {
    ids.split_inclusive(move |&id| id == end).map(move |text| {
        let text = text.strip_prefix(&[begin]).unwrap_or(text);
        let open = text.last().is_some_and(|&last| last != end);
        text.iter().copied().chain(open.then_some(end)).collect()
    })
}

/// Cuts a text into pieces. The first follows `begin`, a later one the last token of the one before.
fn isolated(text: &[u32], begin: u32, end: u32, max_tokens: usize, pieces: &mut Vec<Piece>) {
    let mut context = begin;
    for tokens in text.chunks(max_tokens).filter(|&tokens| tokens != [end]) {
        pieces.push(Piece { context: vec![context], tokens: tokens.into() });
        context = tokens[tokens.len() - 1];
    }
}

/// Cuts all texts, one after another, into pieces of `max_tokens`, the last of what is left. Each text follows `begin`, where
/// that is a token of its own.
fn joined<'a>(
    texts: impl Iterator<Item = &'a [u32]>,
    begin: u32,
    end: u32,
    max_tokens: usize,
    pieces: &mut Vec<Piece>,
) {
    let (mut context, mut tokens) = (begin, Vec::new());
    for (i, text) in texts.enumerate() {
        let begins = (i > 0 && begin != end).then_some(begin);
        for id in begins.into_iter().chain(text.iter().copied()) {
            tokens.push(id);
            if tokens.len() == max_tokens {
                pieces.push(Piece { context: vec![context], tokens: std::mem::take(&mut tokens) });
                context = id;
            }
        }
    }
    if !tokens.is_empty() {
        pieces.push(Piece { context: vec![context], tokens });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece(context: u32, tokens: &[u32]) -> Piece {
        Piece { context: vec![context], tokens: tokens.into() }
    }

    #[test]
    fn texts_are_cut_where_they_end_and_where_they_are_long() {
        let cut = |ids: &[u32]| {
            let mut pieces = Vec::new();
            split(ids, 0, 1).for_each(|text| isolated(&text, 0, 1, 3, &mut pieces));
            pieces
        };
        assert_eq!(cut(&[5, 6, 7, 8, 1, 9]), [piece(0, &[5, 6, 7]), piece(7, &[8, 1]), piece(0, &[9, 1])]);
        assert_eq!(cut(&[0, 5, 1, 1]), [piece(0, &[5, 1])]);
    }

    #[test]
    fn texts_are_joined_and_cut_where_pieces_are_full() {
        let join = |begin| {
            let mut pieces = Vec::new();
            joined([&[5, 6, 1][..], &[7, 1], &[8, 9, 1]].into_iter(), begin, 1, 4, &mut pieces);
            pieces
        };
        assert_eq!(join(1), [piece(1, &[5, 6, 1, 7]), piece(7, &[1, 8, 9, 1])]);
        assert_eq!(join(0), [piece(0, &[5, 6, 1, 0]), piece(0, &[7, 1, 0, 8]), piece(8, &[9, 1])]);
    }

    fn reads(rows: &[String], packing: Packing, seed: u64, rate: f64) -> Read {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        koan_model::init_tiny(0, &at("model")).expect("a model");
        let lines: String =
            rows.iter().map(|row| serde_json::json!({"text": row}).to_string() + "\n").collect();
        std::fs::write(at("data.jsonl"), lines).expect("written");
        let tokenizer = Tokenizer::load(&at("model")).expect("a tokenizer");
        let tokens = Some(["ā", "Ă", "ă"].map(str::to_owned));
        let fim = super::super::FimConfig { rate, tokens };
        let fill_in = FillInMiddle::new(&fim, seed, &tokenizer).expect("tokens");
        let corpus = Corpus { max_tokens: 8, packing, fill_in, seed };
        corpus.read(&at("data.jsonl").into(), &tokenizer).expect("reads")
    }

    #[test]
    fn a_text_that_holds_its_end_is_several_each_filled_in_by_itself() {
        let read = reads(&["ab<eos>cd".to_owned()], Packing::Isolated, 1, 1.0);
        assert_eq!((read.filled_in, read.pieces.len()), (2, 2));
        assert!(read.pieces.iter().all(|piece| piece.tokens[0] == 1 && piece.tokens.ends_with(&[256])));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Both ways of packing learn every token once; joined pieces are full, and begin where the one before ended.
        #[test]
        fn no_token_is_lost(rows in prop::collection::vec("[a-z]{0,20}", 1..8), seed in 0u64..9, rate in 0.0f64..1.0) {
            let sorted = |read: &Read| {
                let mut ids: Vec<u32> = read.pieces.iter().flat_map(|piece| piece.tokens.clone()).collect();
                ids.sort_unstable();
                ids
            };
            let plain: Vec<u8> = rows.concat().into_bytes();
            let texts = rows.iter().filter(|row| !row.is_empty()).count();
            let across = reads(&rows, Packing::Across, seed, rate);
            let mut wanted: Vec<u32> = plain.iter().map(|&byte| u32::from(byte)).collect();
            for token in [1, 2, 3] {
                wanted.extend(std::iter::repeat_n(token, across.filled_in));
            }
            wanted.extend(std::iter::repeat_n(256, texts));
            wanted.sort_unstable();
            prop_assert_eq!(sorted(&across), wanted);
            if let Some((last, full)) = across.pieces.split_last() {
                prop_assert!(full.iter().all(|piece| piece.tokens.len() == 8) && last.tokens.len() <= 8);
            }
            for pair in across.pieces.windows(2) {
                prop_assert_eq!(pair[0].tokens.last(), pair[1].context.last());
            }
            // A text whose end alone would be left over is learned without it.
            let isolated = sorted(&reads(&rows, Packing::Isolated, seed, rate));
            let ids = |ids: &[u32]| ids.iter().copied().filter(|&id| id != 256).collect::<Vec<_>>();
            prop_assert_eq!(ids(&isolated), ids(&sorted(&across)));
        }
    }
}
