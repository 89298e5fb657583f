//! A recipe's directory: what its steps make, of what, and how far each is.
//!
//! ```text
//! recipe.json            whose directory it is, with the recipe's text
//! steps/NAME.json        how far a step is, and of what it is made: settings, inputs, code
//! NAME/                  what it makes: a stage's run directory, or files
//! superseded/NAME-1/     what it made of other settings or inputs before, with steps/NAME.json as superseded/NAME-1.json
//! ```

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use koan_files::{FilesError, read_text, rename, replace};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{Bundled, Kind, Recipe, RecipeError, StepCost};

/// Whoever looks whether the directory is in use holds its lock for a moment: it is asked for so often, so long apart.
const LOCK_TRIES: usize = 50;
const LOCK_EVERY: Duration = Duration::from_millis(10);

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is being made; without a process that makes it, it was interrupted.
    Running,
    /// It is made.
    Done,
    /// It was asked to stop, and goes on.
    Stopped,
    /// It failed, and goes on once the cause is mended.
    Failed,
    /// It waits for people.
    Waiting,
}

/// What a step made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The file or directory.
    pub path: PathBuf,
    /// SHA-256 of the file, or of a list of a model's files with the SHA-256 of each.
    pub sha256: String,
}

/// What a step was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeOf {
    /// Where its settings say so.
    pub key: String,
    /// The step that made it, as `@NAME`, or the file or directory.
    pub from: String,
    /// SHA-256 of what it held.
    pub sha256: String,
}

/// How far a step is, and of what it is made: `steps/NAME.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepState {
    /// The step.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// How far it is.
    pub state: State,
    /// Why it failed, or what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Its settings, as far as what it makes depends on them.
    pub settings: Map<String, Value>,
    /// What it reads.
    pub inputs: Vec<MadeOf>,
    /// The version of the program that made it, with its commit: for the record.
    pub code: String,
    /// The version of what steps of its kind make: with another one it is made again.
    #[serde(default)]
    pub version: u32,
    /// What it made.
    #[serde(default)]
    pub outputs: Vec<Output>,
    /// Tokens of what it made: those that its steps learned from or sampled, or that a measurement sampled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// What it cost, over all processes that worked on it.
    #[serde(flatten)]
    pub cost: StepCost,
    /// What it is measured by: loss, accuracy, rows.
    #[serde(default)]
    pub figures: Map<String, Value>,
}

/// Whose directory it is: `recipe.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// The whole path of its file, or the name of one that comes within the program.
    pub(crate) recipe: PathBuf,
    /// SHA-256 of the file.
    pub(crate) sha256: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) quick: bool,
    /// What the file says; empty in directories of versions that did not keep it.
    #[serde(default)]
    pub(crate) text: String,
    /// Its steps in their order, for who looks at the directory alone.
    #[serde(default)]
    pub(crate) tree: Vec<Planned>,
}

impl Owner {
    fn of(recipe: &Recipe) -> Result<Self, RecipeError> {
        let path = match Bundled::find(&recipe.path)? {
            Some(bundled) => bundled.name.into(),
            None => fs::canonicalize(&recipe.path).map_err(FilesError::io("find", &recipe.path))?,
        };
        Ok(Self {
            recipe: path,
            sha256: recipe.sha256.clone(),
            quick: recipe.quick,
            text: recipe.text.clone(),
            tree: Planned::all(recipe),
        })
    }

    /// That of directory `path`, if a recipe has it.
    ///
    /// # Errors
    /// A file that can't be read, or is damaged.
    pub(crate) fn find(path: &Path) -> Result<Option<Self>, RecipeError> {
        read_json(&path.join("recipe.json"))
    }

    /// Whether what both make may lie in one directory: a recipe may be edited, and moved.
    fn is_same(&self, other: &Self) -> bool {
        self.quick == other.quick && (self.recipe == other.recipe || self.sha256 == other.sha256)
    }

    fn in_words(&self) -> String {
        format!("`{}`{}", self.recipe.display(), if self.quick { " in its quick form" } else { "" })
    }
}

/// A step as a recipe says it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Planned {
    pub(crate) name: String,
    kind: String,
    /// The steps that it reads.
    reads: Vec<String>,
}

impl Planned {
    fn all(recipe: &Recipe) -> Vec<Self> {
        let of = |place: usize| {
            let name = |step: usize| recipe.steps[step].name.clone();
            let reads = recipe.needs(place).into_iter().map(name).collect();
            Self { name: name(place), kind: recipe.steps[place].kind.name().to_owned(), reads }
        };
        (0..recipe.steps.len()).map(of).collect()
    }
}

/// A recipe's directory, held by this process.
pub struct RecipeDir {
    path: PathBuf,
    /// Held to the end; none where the file system has no locks.
    _lock: Option<File>,
}

impl RecipeDir {
    /// Opens the directory of `recipe`, and keeps other processes out.
    ///
    /// # Errors
    /// If another process has it, it is another recipe's, or it can't be written.
    pub fn open(recipe: &Recipe) -> Result<Self, RecipeError> {
        let path = &recipe.run_dir;
        fs::create_dir_all(path.join("steps")).map_err(FilesError::io("create", path))?;
        let lock = lock(path)?;
        let (file, this) = (path.join("recipe.json"), Owner::of(recipe)?);
        match Owner::find(path)? {
            Some(other) if !other.is_same(&this) => {
                let (path, other, this) = (path.clone(), other.in_words(), this.in_words());
                return Err(RecipeError::OtherRecipe { path, other, this });
            }
            _ => write_json(&file, &this)?,
        }
        Ok(Self { path: path.clone(), _lock: lock })
    }

    /// Whether a process runs a recipe in directory `path`, where the system says.
    pub fn is_in_use(path: &Path) -> bool {
        File::open(path).is_ok_and(|dir| matches!(dir.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// How far step `name` is in directory `path`; none if it was never begun.
    ///
    /// # Errors
    /// A file that can't be read, or is damaged.
    pub fn state(path: &Path, name: &str) -> Result<Option<StepState>, RecipeError> {
        read_json(&state_file(path, name))
    }

    /// How far the steps of the recipe in directory `path` are that were begun, in the recipe's order.
    ///
    /// # Errors
    /// Files that can't be read, or are damaged.
    pub fn states(path: &Path) -> Result<Vec<StepState>, RecipeError> {
        let planned = Owner::find(path)?.map(|owner| owner.tree).unwrap_or_default();
        let states = planned.iter().map(|step| Self::state(path, &step.name));
        Ok(states.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// Writes how far a step is.
    ///
    /// # Errors
    /// If it can't be written.
    pub(crate) fn write(&self, state: &StepState) -> Result<(), RecipeError> {
        Ok(write_json(&state_file(&self.path, &state.name), state)?)
    }

    /// What writes down how far `state` is and what it cost so far, while it is made.
    pub(crate) fn writer(&self, state: StepState) -> impl Fn(StepCost) + Send + use<> {
        let path = state_file(&self.path, &state.name);
        // What can't be written now is tried again some seconds later.
        move |cost| _ = write_json(&path, &StepState { cost, ..state.clone() })
    }

    /// Moves what step `name` made of other things out of the way, with its state; gives its new place, if there was anything. Of
    /// labels only the rows: votes on pairs that are still asked about count.
    ///
    /// # Errors
    /// If it can't be moved.
    pub(crate) fn set_aside(&self, name: &str, kind: Kind) -> Result<Option<PathBuf>, RecipeError> {
        let (dir, state) = (self.path.join(name), state_file(&self.path, name));
        let (made, extension) = match kind {
            Kind::Label => (dir.join("labels.jsonl"), ".jsonl"),
            _ => (dir, ""),
        };
        if !made.exists() {
            return Ok(None);
        }
        let folder = self.path.join("superseded");
        fs::create_dir_all(&folder).map_err(FilesError::io("create", &folder))?;
        let place = |n: u32, extension: &str| folder.join(format!("{name}-{n}{extension}"));
        let is_free = |n: &u32| !["", ".json", ".jsonl"].iter().any(|e| place(*n, e).exists());
        let number = (1..u32::MAX).find(is_free).unwrap_or(u32::MAX);
        let to = place(number, extension);
        // What was made first: a kill in between leaves a state without it, which is not taken for made.
        rename(&made, &to)?;
        if state.exists() {
            rename(&state, &place(number, ".json"))?;
        }
        Ok(Some(to))
    }
}

fn state_file(path: &Path, name: &str) -> PathBuf {
    path.join("steps").join(format!("{name}.json"))
}

fn lock(path: &Path) -> Result<Option<File>, RecipeError> {
    let dir = File::open(path).map_err(FilesError::io("open", path))?;
    for _ in 0..LOCK_TRIES {
        match dir.try_lock() {
            Ok(()) => return Ok(Some(dir)),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_EVERY),
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
    Err(RecipeError::InUse { path: path.into() })
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), FilesError> {
    let text = serde_json::to_string_pretty(value).expect("plain values") + "\n";
    replace(path, text.as_bytes())
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RecipeError> {
    let text = match read_text(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(FilesError::io("read", path))?,
    };
    let damaged = |e: serde_json::Error| FilesError::Damaged { path: path.into(), what: e.to_string() };
    Ok(Some(serde_json::from_str(&text).map_err(damaged)?))
}
