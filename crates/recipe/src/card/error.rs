//! Why there is no card.

use std::path::PathBuf;

use koan_files::FilesError;

use crate::RecipeError;

/// Why a card could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CardError {
    /// Nothing says how the model was made.
    #[error(
        "nothing is recorded of `{}`: a card is written of a recipe (its file or its directory), of a run's directory that has \
         lineage.json, or of a model within one",
        path.display()
    )]
    NoRecord {
        /// What was named.
        path: PathBuf,
    },
    /// No step makes a model.
    #[error("no step of `{}` made a model yet: run the recipe first", path.display())]
    NoModel {
        /// The recipe's directory.
        path: PathBuf,
    },
    /// The step is none, is not made, or makes no model.
    #[error("step `{step}` {why}")]
    Step {
        /// Its name.
        step: String,
        /// What is the matter, and what to do.
        why: String,
    },
    /// What is there is not what is recorded.
    #[error("{what} is not what is recorded: {remedy}")]
    Changed {
        /// The file or directory, and its record.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A measurement that says nothing of this model.
    #[error("`{}`: {what}", path.display())]
    Report {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
    /// The name of the base model is none.
    #[error("`{name}` is no name of a model on a hub: write OWNER/NAME")]
    BaseModel {
        /// What was given.
        name: String,
    },
    /// The directory of a recipe can't be read.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A file can't be read.
    #[error(transparent)]
    Files(#[from] FilesError),
}
