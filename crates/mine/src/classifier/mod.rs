//! The classifier that says which pages are mathematics: fastText, as DeepSeekMath trained it (arXiv:2402.03300, section 2.1).
//!
//! | module | holds |
//! |---|---|
//! | `tokens` | the words of a text |
//! | `dictionary` | words and labels, fastText's hashes |
//! | `model` | vectors, and the features of a line |
//! | `set` | which documents are learnt from, in which order |
//! | `train` | learning |
//! | `file` | Facebook's file format |
//!
//! The logits are linear in a document's features: the vector of each word and n-gram is multiplied with the labels' vectors when a
//! model is loaded, and what is kept of it is a number. So scoring costs one addition a feature, and the paper's model of 2 GB needs
//! 8 MB, whatever its `dim`.

mod dictionary;
mod file;
mod model;
mod set;
pub mod tokens;
mod train;

use std::{fmt, path::Path};

pub use model::Model;
pub use set::TrainingSet;
pub use train::Training;

use serde::{Deserialize, Serialize};

use crate::MineError;
use dictionary::{Dictionary, LABEL};
use file::Opened;
use model::{Features, Loss};

/// The label of mathematics.
pub const MATHS: &str = "maths";
/// The label of all else.
pub const OTHER: &str = "other";

/// A model made ready to score texts; threads may share it.
pub struct Classifier {
    dictionary: Dictionary,
    word_ngrams: usize,
    buckets: usize,
    loss: Loss,
    /// Row-major: the logits that a word or bucket adds; where `columns` is 1, by how much that of `maths` is above the other.
    rows: Vec<f32>,
    columns: usize,
    /// The column of `maths`.
    maths: usize,
}

impl fmt::Debug for Classifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Classifier").field("words", &self.dictionary.words.len()).finish_non_exhaustive()
    }
}

impl Classifier {
    /// Loads a model of the format of fastText's `.bin` files, which must have the label `__label__maths`.
    ///
    /// # Errors
    /// A file that can't be read, is no such model, or has what is not computed here.
    pub fn load(path: &Path) -> Result<Self, MineError> {
        Self::load_label(path, MATHS)
    }

    /// The same for a model that names mathematics otherwise: the score is the share of `__label__LABEL`.
    ///
    /// # Errors
    /// As [`Classifier::load`].
    pub fn load_label(path: &Path, label: &str) -> Result<Self, MineError> {
        let mut opened = Opened::open(path)?;
        let fold = Fold::new(&opened.dictionary, opened.loss, &opened.output, opened.shape.dim, label)
            .map_err(|what| MineError::Input { path: path.into(), what })?;
        let dictionary =
            std::mem::replace(&mut opened.dictionary, Dictionary::new(Vec::new(), Vec::new(), 0));
        let (shape, loss) = (opened.shape, opened.loss);
        let mut rows = Vec::with_capacity(opened.rows * fold.columns);
        opened.rows(|row| fold.row(row, &mut rows)).map_err(koan_files::FilesError::io("read", path))?;
        Ok(Self {
            dictionary,
            word_ngrams: shape.word_ngrams,
            buckets: shape.buckets,
            loss,
            rows,
            columns: fold.columns,
            maths: fold.label,
        })
    }

    /// The share of the label `maths` in a text; of a text without words, zero.
    pub fn score(&self, text: &str) -> f32 {
        let mut features = Features::new(&self.dictionary, self.word_ngrams, self.buckets);
        let (mut sums, mut count, mut any) = (vec![0.0f64; self.columns], 0u64, false);
        let mut add = |row: usize| {
            count += 1;
            for (sum, value) in sums.iter_mut().zip(&self.rows[row * self.columns..]) {
                *sum += f64::from(*value);
            }
        };
        tokens::tokens(text, &mut Vec::new(), |token| {
            any = true;
            features.token(token, &mut add);
        });
        features.end(&mut add);
        if !any || count == 0 {
            return 0.0;
        }
        let mut logits: Vec<f32> = sums.iter().map(|sum| (sum / count as f64) as f32).collect();
        if self.columns == 1 || self.loss == Loss::Sigmoid {
            return (1.0 / (1.0 + f64::from(-logits[self.maths]).exp())) as f32;
        }
        train::softmax(&mut logits);
        logits[self.maths]
    }
}

impl Model {
    /// Makes the model ready to score.
    ///
    /// # Errors
    /// If it has no label `maths`.
    pub fn classifier(&self) -> Result<Classifier, MineError> {
        let fold = Fold::new(&self.dictionary, Loss::Softmax, &self.output, self.shape.dim, MATHS)
            .map_err(|what| MineError::Setting { key: "classifier".into(), what })?;
        let mut rows = Vec::new();
        self.input.chunks_exact(self.shape.dim).for_each(|row| fold.row(row, &mut rows));
        Ok(Classifier {
            dictionary: self.dictionary.clone(),
            word_ngrams: self.shape.word_ngrams,
            buckets: self.shape.buckets,
            loss: Loss::Softmax,
            rows,
            columns: fold.columns,
            maths: fold.label,
        })
    }
}

/// A score above which pages are mathematics, from the `scores` of documents that are and were not learnt from: a fifth of the way, in
/// log-odds, from 0.5, where a classifier that knows none of a page's words is, to what 99 of 100 of them reach. It is so near because
/// pages of another kind than those lie between: on three made-up worlds that share neither sentences nor sites, with two sizes of
/// classifier each, all cuts between a fourteenth and a third of the way kept 85% of another world's mathematics with a precision of 95%,
/// in eleven of twelve pairs; in the twelfth no cut does. 0.5 without scores.
pub fn cut(scores: &[f32]) -> f32 {
    let mut sorted: Vec<f64> = scores.iter().map(|score| f64::from(*score)).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let Some(low) = sorted.get(sorted.len() / 100).map(|low| low.clamp(0.5, 0.9999)) else { return 0.5 };
    let odds = (low / (1.0 - low)).powf(0.2);
    (odds / (1.0 + odds)) as f32
}

/// The file beside a model that says where to cut.
#[derive(Serialize, Deserialize)]
struct Beside {
    cut: f32,
}

/// Writes the cut of the model in the file `model` beside it: `classifier.json` for `classifier.bin`.
///
/// # Errors
/// If the operating system refuses.
pub fn write_cut(model: &Path, cut: f32) -> Result<(), MineError> {
    let json = serde_json::to_vec(&Beside { cut }).expect("a number");
    Ok(koan_files::replace(&model.with_extension("json"), &json)?)
}

/// The cut beside a model; none if none was written, as beside models that others trained.
///
/// # Errors
/// A file that is no such cut.
pub fn read_cut(model: &Path) -> Result<Option<f32>, MineError> {
    let path = model.with_extension("json");
    let wrong = |what: &str| MineError::Input { path: path.clone(), what: what.into() };
    let bytes = match koan_files::read_bounded(&path, 4096) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(MineError::read(&path))?,
    };
    let beside = bytes.and_then(|bytes| serde_json::from_slice::<Beside>(&bytes).ok());
    match beside {
        Some(Beside { cut }) if (0.0..=1.0).contains(&cut) => Ok(Some(cut)),
        _ => {
            Err(wrong("is not the cut of the classifier beside it; remove it, or set `classifier.threshold`"))
        }
    }
}

/// How vectors become logits.
struct Fold {
    /// Row-major: a vector for each column.
    weights: Vec<f32>,
    dim: usize,
    columns: usize,
    label: usize,
}

impl Fold {
    fn new(
        dictionary: &Dictionary,
        loss: Loss,
        output: &[f32],
        dim: usize,
        label: &str,
    ) -> Result<Self, String> {
        let names = || {
            dictionary
                .labels
                .iter()
                .map(|l| String::from_utf8_lossy(l.word.strip_prefix(LABEL).unwrap_or(&l.word)).into_owned())
        };
        let Some(position) = names().position(|name| name == label) else {
            let names: Vec<String> = names().take(20).collect();
            return Err(format!("has no label `__label__{label}`; its labels are {}", names.join(", ")));
        };
        let vector = |i: usize| &output[i * dim..][..dim];
        let (weights, columns, label) = match (loss, dictionary.labels.len()) {
            (Loss::Softmax, 2) => {
                let difference = vector(position).iter().zip(vector(1 - position)).map(|(a, b)| a - b);
                (difference.collect(), 1, 0)
            }
            (Loss::Sigmoid, _) => (vector(position).to_vec(), 1, 0),
            (Loss::Softmax, labels) => (output.to_vec(), labels, position),
        };
        Ok(Self { weights, dim, columns, label })
    }

    fn row(&self, row: &[f32], to: &mut Vec<f32>) {
        for weights in self.weights.chunks_exact(self.dim) {
            let logit: f64 = row.iter().zip(weights).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
            to.push(logit as f32);
        }
    }
}

#[cfg(test)]
mod tests;
