//! A classifier from positives and negatives, once.

use std::{fs, path::PathBuf};

use koan_files::FilesError;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{pool, report, settings::Learn};
use crate::{
    MineError,
    classifier::{self, Classifier, MATHS, Model, OTHER, TrainingSet},
    config::setting,
};

/// One in so many positives is not learnt from: how many of them are kept is the recall.
const HELD_OUT: u64 = 10;

/// A classifier that was trained.
#[derive(Clone, Debug, Serialize)]
pub struct Trained {
    /// Its file.
    pub classifier: PathBuf,
    /// Documents of mathematics that it learnt from.
    pub positives: usize,
    /// Documents of all else.
    pub negatives: usize,
    /// Words that have a vector.
    pub words: usize,
    /// A score above which pages are mathematics; see [`classifier::cut`].
    pub cut: f32,
    /// The share of the held-out positives above it.
    pub recall: f64,
    /// SHA-256 of the file.
    pub sha256: String,
}

/// Trains a classifier into `classifier.bin` of the run's directory, with its figures in `report.json`.
///
/// # Errors
/// No negatives, and files that can't be read or written.
pub fn train(learn: &Learn, say: &mut dyn FnMut(&str)) -> Result<Trained, MineError> {
    learn.check()?;
    let Some(negatives) = &learn.train.negatives else {
        return Err(setting("train.negatives", "is not there; name files of pages that are no mathematics"));
    };
    let folder = &learn.run_dir;
    fs::create_dir_all(folder).map_err(FilesError::io("create", folder))?;
    say("reading positives and negatives");
    let mut set = TrainingSet::new(folder, learn.train.max_documents, learn.model.seed)?;
    each_positive(learn, |text, held_out| if held_out { Ok(()) } else { set.add(MATHS, text) })?;
    pool::each_text(negatives, |text| set.add(OTHER, text))?;
    let lines = folder.join("training-set.txt");
    let counts = set.finish(&lines)?;
    let [positives, negatives] = [MATHS, OTHER].map(|label| counts.get(label).copied().unwrap_or(0));
    say(&format!("training on {positives} and {negatives} documents"));
    let model = Model::train(&lines, &learn.model)?;
    let path = folder.join("classifier.bin");
    model.save(&path)?;
    fs::remove_file(&lines).map_err(FilesError::io("remove", &lines))?;
    let scores = held_out(learn, &model.classifier()?)?;
    let cut = classifier::cut(&scores);
    classifier::write_cut(&path, cut)?;
    let trained = Trained {
        positives,
        negatives,
        words: model.words(),
        cut,
        recall: recall(&scores, cut),
        sha256: koan_files::hash_file(&path)?,
        classifier: path,
    };
    report::write(&trained, folder)?;
    Ok(trained)
}

/// The positives, and whether each is held out.
pub(super) fn each_positive(
    learn: &Learn,
    mut each: impl FnMut(&str, bool) -> Result<(), MineError>,
) -> Result<(), MineError> {
    let seed = learn.model.seed ^ 0x5eed;
    pool::each_text(&learn.train.positives, |text| {
        each(text, xxh3_64_with_seed(text.as_bytes(), seed).is_multiple_of(HELD_OUT))
    })
}

/// The scores of the positives that were held out.
pub(super) fn held_out(learn: &Learn, classifier: &Classifier) -> Result<Vec<f32>, MineError> {
    let mut scores = Vec::new();
    each_positive(learn, |text, held_out| {
        if held_out {
            scores.push(classifier.score(text));
        }
        Ok(())
    })?;
    Ok(scores)
}

/// The share of `scores` from `cut` on.
pub(super) fn recall(scores: &[f32], cut: f32) -> f64 {
    scores.iter().filter(|score| **score >= cut).count() as f64 / scores.len().max(1) as f64
}
