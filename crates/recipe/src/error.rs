//! What can be wrong with a recipe, its directory and its steps.

use std::{error::Error, path::PathBuf};

use koan_data::DataError;
use koan_files::FilesError;

/// Why a recipe was refused, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The file could not be read.
    #[error("cannot read the recipe `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no such file, and no recipe of this name comes within the program.
    #[error("{message}")]
    Unknown {
        /// What was asked for, what there is, and the nearest.
        message: String,
    },
    /// The file is no recipe.
    #[error("in `{}`: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, where, and what to do.
        message: String,
    },
    /// A step says something that is wrong.
    #[error("in `{}`, step `{step}`: {message}", path.display())]
    Step {
        /// The recipe.
        path: PathBuf,
        /// The step.
        step: String,
        /// What is wrong, and what to do.
        message: String,
    },
    /// The settings of a step make no sense.
    #[error("in `{}`, step `{step}`", path.display())]
    Settings {
        /// The recipe.
        path: PathBuf,
        /// The step.
        step: String,
        /// What is wrong.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Another process runs a recipe there.
    #[error("another process is running a recipe in `{}`: wait for its end, or choose another run_dir", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The directory is another recipe's.
    #[error(
        "`{}` holds what the recipe {other} made; this one is {this}: choose another run_dir. (If it is the same recipe, moved or renamed, \
         remove `{}`: steps that are unchanged are not made again)",
        path.display(), path.join("recipe.json").display()
    )]
    OtherRecipe {
        /// The directory.
        path: PathBuf,
        /// The recipe that it belongs to.
        other: String,
        /// This one.
        this: String,
    },
    /// Where a step is to be made there is something that no recipe made.
    #[error(
        "`{}` is there already, and no step of a recipe made it: move it away, rename the step `{step}`, or choose another run_dir",
        path.display()
    )]
    Foreign {
        /// The directory of the step.
        path: PathBuf,
        /// The step.
        step: String,
    },
    /// A step that was to be taken as it is is not made, or not of what it would be made of now.
    #[error("step `{step}`, which `{needed_by}` needs, {why}: run it too (without {option})")]
    NotMade {
        /// The step.
        step: String,
        /// The step that reads it.
        needed_by: String,
        /// How it stands.
        why: String,
        /// What left it out.
        option: &'static str,
    },
    /// A step failed.
    #[error("step `{step}` failed; what was made is kept, and the same command goes on from there")]
    Failed {
        /// The step.
        step: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A step ended without what it should have made.
    #[error("step `{step}` ended without `{}`", path.display())]
    NothingMade {
        /// The step.
        step: String,
        /// The file or directory.
        path: PathBuf,
    },
    /// A file or directory could not be read or written.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Data could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
}
