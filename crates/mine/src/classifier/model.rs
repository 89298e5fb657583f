//! A fastText model for classification: words and n-grams of a line have vectors, whose mean gives the logits of the labels.

use std::{collections::VecDeque, fmt};

use super::dictionary::{Dictionary, END, LABEL, hash};

/// Sizes and the course of learning; as in fastText, whose names are in brackets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shape {
    /// Elements of a vector (`dim`).
    pub(super) dim: usize,
    /// Words of the longest n-gram (`wordNgrams`).
    pub(super) word_ngrams: usize,
    /// Vectors that n-grams of words are hashed into (`bucket`).
    pub(super) buckets: usize,
    /// Times that each line was learnt from (`epoch`).
    pub(super) epochs: usize,
    /// The fewest occurrences of a word (`minCount`).
    pub(super) min_count: u64,
}

/// What a label's share is of its logit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    Softmax,
    /// A sigmoid for each label: `ova`, and `ns`.
    Sigmoid,
}

/// A model with all its vectors.
pub struct Model {
    pub(super) shape: Shape,
    pub(super) dictionary: Dictionary,
    /// Row-major: a vector for each word, then for each bucket.
    pub(super) input: Vec<f32>,
    /// Row-major: a vector for each label.
    pub(super) output: Vec<f32>,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("shape", &self.shape).finish_non_exhaustive()
    }
}

impl Model {
    /// Words of the dictionary.
    pub fn words(&self) -> usize {
        self.dictionary.words.len()
    }
}

/// Walks over a line's tokens and hands out the rows of their vectors: each word's, and those of the n-grams, which contain words
/// that have none too.
pub(super) struct Features<'a> {
    dictionary: &'a Dictionary,
    word_ngrams: usize,
    buckets: usize,
    /// Hashes of the last tokens.
    last: VecDeque<u32>,
}

/// The multiplier of an n-gram's hash.
const NGRAM: u64 = 116_049_371;

impl<'a> Features<'a> {
    pub(super) fn new(dictionary: &'a Dictionary, word_ngrams: usize, buckets: usize) -> Self {
        let buckets = if word_ngrams > 1 { buckets } else { 0 };
        Self { dictionary, word_ngrams, buckets, last: VecDeque::with_capacity(word_ngrams + 1) }
    }

    /// The rows that this token adds.
    #[inline]
    pub(super) fn token(&mut self, token: &[u8], mut each: impl FnMut(usize)) {
        if token.starts_with(LABEL) {
            return;
        }
        let hash = hash(token);
        if let Some(number) = self.dictionary.number(token, hash) {
            each(number as usize);
        }
        if self.buckets == 0 {
            return;
        }
        if self.last.len() == self.word_ngrams {
            self.last.pop_front();
        }
        self.last.push_back(hash);
        // n-grams that end with this token; each hash goes from its first word on.
        for first in 0..self.last.len() - 1 {
            let signed = |hash: &u32| i64::from(*hash as i32) as u64;
            let mut words = self.last.range(first..);
            let start = words.next().map_or(0, signed);
            let gram = words.fold(start, |gram, next| gram.wrapping_mul(NGRAM).wrapping_add(signed(next)));
            each(self.dictionary.words.len() + (gram % self.buckets as u64) as usize);
        }
    }

    /// The rows of the line's end; ready for the next line.
    pub(super) fn end(&mut self, each: impl FnMut(usize)) {
        self.token(END, each);
        self.last.clear();
    }
}
