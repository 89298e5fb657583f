//! Training as fastText trains: stochastic gradient descent on the cross-entropy, a line at a time, with a learning rate that falls
//! to zero.
//!
//! One thread computes, in one order, and sums have the order of the elements: the same file gives the same bits on any machine.

use std::{
    io::{self, BufRead},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{
    dictionary::{Counter, LABEL},
    model::{Features, Model, Shape},
};
use crate::MineError;

/// Sizes of a classifier and how it learns. The paper has `dim` 256, and fastText 2,000,000 buckets, which are 2 GB; the defaults
/// here are 64 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Training {
    /// Elements of a vector.
    pub dim: usize,
    /// Vectors that n-grams of words are hashed into.
    pub buckets: usize,
    /// Words of the longest n-gram.
    pub word_ngrams: usize,
    /// The fewest occurrences of a word that has a vector of its own.
    pub min_count: u64,
    /// Times that each document is learnt from.
    pub epochs: usize,
    /// The learning rate at the beginning.
    pub lr: f64,
    /// From which the vectors at the beginning are derived.
    pub seed: u64,
}

impl Default for Training {
    fn default() -> Self {
        Self { dim: 64, buckets: 1 << 18, word_ngrams: 3, min_count: 3, epochs: 5, lr: 0.1, seed: 1 }
    }
}

/// Bytes of a model, at most.
const MAX_BYTES: u64 = 64 << 30;
/// Bytes of a line, at most; the rest of a longer document is not learnt from.
pub(super) const MAX_LINE_BYTES: u64 = 4 << 20;
/// Tokens between two changes of the learning rate.
const RATE_TOKENS: u64 = 100;

impl Training {
    /// # Errors
    /// A size out of range.
    pub fn check(&self) -> Result<(), MineError> {
        let wrong = |what: &str| Err(MineError::Setting { key: "model".into(), what: what.to_owned() });
        match self {
            Self {
                dim: 1..=4096, buckets: 0..=0x7fff_ffff, word_ngrams: 1..=8, epochs: 1..=1000, ..
            } => {}
            _ => {
                return wrong(
                    "`dim` is 1 to 4096, `buckets` below 2^31, `word_ngrams` 1 to 8, `epochs` 1 to 1000",
                );
            }
        }
        if !(self.lr > 0.0 && self.lr <= 100.0) {
            return wrong("`lr` is above 0 and at most 100");
        }
        if self.buckets as u64 * self.dim as u64 * 4 > MAX_BYTES {
            return wrong("`dim` times `buckets` needs more than 64 GiB; take fewer buckets");
        }
        Ok(())
    }
}

impl Model {
    /// Trains on the lines of the file `lines`, each `__label__NAME` and the words of a document with a space between each two.
    ///
    /// # Errors
    /// A file that can't be read, or has fewer than two labels.
    pub fn train(lines: &Path, training: &Training) -> Result<Self, MineError> {
        training.check()?;
        let mut counter = Counter::default();
        each_line(lines, |line| counter.line(line))?;
        let dictionary = counter.finish(training.min_count);
        if dictionary.labels.len() < 2 {
            let what = format!(
                "has {} of the two labels that are to be told apart; give it positives and negatives",
                dictionary.labels.len()
            );
            return Err(MineError::Input { path: lines.into(), what });
        }
        let Training { dim, buckets, word_ngrams, min_count, epochs, .. } = *training;
        let shape = Shape { dim, word_ngrams, buckets, epochs, min_count };
        let rows = dictionary.words.len() + buckets;
        let mut model = Self {
            shape,
            input: (0..(rows * dim) as u64).map(|i| uniform(training.seed, i) / dim as f32).collect(),
            output: vec![0.0; dictionary.labels.len() * dim],
            dictionary,
        };
        model.learn(lines, training)?;
        Ok(model)
    }

    fn learn(&mut self, lines: &Path, training: &Training) -> Result<(), MineError> {
        let total = (training.epochs as u64 * self.dictionary.tokens) as f64;
        let (mut seen, mut since) = (0, 0);
        let mut rate = training.lr as f32;
        let mut rows = Vec::new();
        let mut pass = Pass::new(self.dictionary.labels.len(), training.dim);
        let Self { dictionary, input, output, .. } = self;
        let dictionary = &*dictionary;
        let mut features = Features::new(dictionary, training.word_ngrams, training.buckets);
        for _ in 0..training.epochs {
            each_line(lines, |line| {
                rows.clear();
                let mut label = None;
                for token in line.split(|&b| b == b' ').filter(|token| !token.is_empty()) {
                    since += 1;
                    if token.starts_with(LABEL) {
                        label = dictionary.labels.iter().position(|l| *l.word == *token);
                    } else {
                        features.token(token, |row| rows.push(row));
                    }
                }
                features.end(|row| rows.push(row));
                since += 1;
                if let Some(label) = label {
                    pass.update(input, output, &rows, label, rate);
                }
                if since > RATE_TOKENS {
                    seen += std::mem::take(&mut since);
                    rate = (training.lr * (1.0 - seen as f64 / total).max(0.0)) as f32;
                }
            })?;
        }
        Ok(())
    }
}

/// What a step works in.
struct Pass {
    hidden: Vec<f32>,
    gradient: Vec<f32>,
    shares: Vec<f32>,
}

impl Pass {
    fn new(labels: usize, dim: usize) -> Self {
        Self { hidden: vec![0.0; dim], gradient: vec![0.0; dim], shares: vec![0.0; labels] }
    }

    /// One step of the gradient for a document of these `rows`.
    fn update(&mut self, input: &mut [f32], output: &mut [f32], rows: &[usize], label: usize, rate: f32) {
        let Self { hidden, gradient, shares } = self;
        let dim = hidden.len();
        if rows.is_empty() {
            return;
        }
        let scale = 1.0 / rows.len() as f32;
        hidden.fill(0.0);
        for &row in rows {
            add(hidden, &input[row * dim..][..dim], 1.0);
        }
        for h in hidden.iter_mut() {
            *h *= scale;
        }
        for (share, weights) in shares.iter_mut().zip(output.chunks_exact(dim)) {
            *share = dot(weights, hidden);
        }
        softmax(shares);
        gradient.fill(0.0);
        for (i, (&share, weights)) in shares.iter().zip(output.chunks_exact_mut(dim)).enumerate() {
            let step = rate * (f32::from(i == label) - share);
            add(gradient, weights, step);
            add(weights, hidden, step);
        }
        for g in gradient.iter_mut() {
            *g *= scale;
        }
        for &row in rows {
            add(&mut input[row * dim..][..dim], gradient, 1.0);
        }
    }
}

/// `to += scale · from`
fn add(to: &mut [f32], from: &[f32], scale: f32) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += scale * from;
    }
}

/// In eight sums, which a compiler may compute side by side.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

/// The shares of logits; the exponential has 64 bits, so that its last bits, which differ between systems, are rounded off.
pub(super) fn softmax(logits: &mut [f32]) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for x in logits.iter_mut() {
        *x = f64::from(*x - max).exp() as f32;
    }
    let sum: f32 = logits.iter().sum();
    for x in logits.iter_mut() {
        *x /= sum;
    }
}

/// A number in [−1, 1) that `seed` and `i` give.
fn uniform(seed: u64, i: u64) -> f32 {
    let mut x = i.wrapping_add(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

/// Hands `each` the lines of a file, without their ends, each up to [`MAX_LINE_BYTES`].
fn each_line(path: &Path, mut each: impl FnMut(&[u8])) -> Result<(), MineError> {
    let mut read = || -> io::Result<()> {
        let mut file = io::BufReader::with_capacity(1 << 18, koan_files::open(path)?);
        let mut line = Vec::new();
        loop {
            line.clear();
            if io::Read::take(&mut file, MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            if line.last() != Some(&b'\n') {
                file.skip_until(b'\n')?;
            }
            let line = line.trim_ascii();
            if !line.is_empty() {
                each(line);
            }
        }
    };
    read().map_err(|source| koan_files::FilesError::io("read", path)(source).into())
}
