//! Recipes' directories: the steps of each, what reads what, how far each is and what it cost. Read while the recipe may still run.
//!
//! ```text
//! recipe.json         whose directory it is, and the recipe's steps
//! steps/NAME.json     how far a step is, of what it is made, what it made and cost
//! NAME/               a stage's run
//! ```

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use koan_files::read_bounded;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{ViewError, runs::NamedRun};

/// How deep recipes are searched for in a folder.
const MAX_DEPTH: usize = 2;
/// Most entries of folders that a search looks at.
const MAX_ENTRIES: usize = 10_000;
/// Most recipes that are shown.
const MAX_RECIPES: usize = 20;
/// Most steps of a recipe that are shown.
const MAX_STEPS: usize = 1000;
/// Longest recipe.json and steps/NAME.json that are read, bytes.
const MAX_BYTES: u64 = 1 << 20;
/// Bytes of all the steps of a recipe that are read.
const MAX_ALL_BYTES: u64 = 8 << 20;
/// Longest row's id that is looked for, bytes.
pub(crate) const MAX_ID: usize = 1000;

/// A recipe's directory.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// The name by which the page asks for it.
    pub(crate) name: String,
    path: PathBuf,
}

/// Whose directory it is.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Owner {
    recipe: PathBuf,
    tree: Vec<Planned>,
}

/// A step as the recipe says it.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Planned {
    name: String,
    kind: String,
    reads: Vec<String>,
}

/// A step's record, as far as it is shown.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Record {
    kind: String,
    state: String,
    message: Option<String>,
    inputs: Vec<Input>,
    outputs: Vec<Artefact>,
    code: String,
    figures: Map<String, Value>,
    seconds: f64,
    tokens_drawn: u64,
    tokens_trained: u64,
    flops: f64,
    peak_share: Option<f64>,
    energy_wh: Option<f64>,
    energy_source: Option<String>,
    money: Option<f64>,
}

/// What a step was made from.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Input {
    key: String,
    from: String,
    sha256: String,
}

/// What a step made.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Artefact {
    path: String,
    sha256: String,
}

/// How far a recipe is.
#[derive(Debug, Serialize)]
pub(crate) struct RecipeOverview {
    name: String,
    /// Its directory.
    path: String,
    /// The recipe's file.
    file: String,
    /// Whether a process runs it.
    running: bool,
    steps: Vec<StepOverview>,
}

/// How far a step is.
#[derive(Debug, Serialize)]
struct StepOverview {
    name: String,
    /// The steps that it reads.
    reads: Vec<String>,
    /// The name of its run, if it has one.
    run: Option<String>,
    #[serde(flatten)]
    record: Record,
}

impl Recipe {
    /// The recipe whose directory is `path`, if it is one's.
    fn at(path: &Path) -> Option<Self> {
        let is_one = path.join("recipe.json").is_file() && path.join("steps").is_dir();
        let path = is_one.then(|| fs::canonicalize(path).ok()).flatten()?;
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into());
        Some(Self { name, path })
    }

    /// The recipes at `paths`, and in those that are folders.
    pub(crate) fn list(paths: &[PathBuf]) -> Vec<Self> {
        let (mut found, mut looked): (Vec<Self>, usize) = (Vec::new(), 0);
        let mut level: Vec<PathBuf> = paths.to_vec();
        for depth in 0..=MAX_DEPTH {
            let mut below = Vec::new();
            for path in level {
                if let Some(mut recipe) = Self::at(&path) {
                    if found.iter().any(|known| known.name == recipe.name && known.path != recipe.path) {
                        recipe.name = recipe.path.display().to_string();
                    }
                    if found.len() < MAX_RECIPES && found.iter().all(|known| known.path != recipe.path) {
                        found.push(recipe);
                    }
                } else if depth < MAX_DEPTH {
                    let entries = fs::read_dir(&path).into_iter().flatten().flatten();
                    let entries = entries.take(MAX_ENTRIES.saturating_sub(looked)).map(|entry| entry.path());
                    let mut folders: Vec<PathBuf> =
                        entries.inspect(|_| looked += 1).filter(|p| p.is_dir()).collect();
                    folders.sort();
                    below.extend(folders);
                }
            }
            level = below;
        }
        found
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How far it is; `runs` are the runs that the page can show.
    ///
    /// # Errors
    /// If its recipe.json can't be read.
    pub(crate) fn overview(&self, runs: &[NamedRun]) -> Result<RecipeOverview, ViewError> {
        let file = self.path.join("recipe.json");
        let owner: Owner = read(&file, MAX_BYTES).map_err(ViewError::read(&file))?.unwrap_or_default();
        let running = File::open(&self.path)
            .is_ok_and(|dir| matches!(dir.try_lock_shared(), Err(TryLockError::WouldBlock)));
        let mut left = MAX_ALL_BYTES;
        let mut step = |planned: Planned| {
            let path = self.path.join("steps").join(format!("{}.json", planned.name));
            let size = fs::metadata(&path).map_or(0, |file| file.len());
            let mut record: Record = match read(&path, MAX_BYTES.min(left)) {
                Ok(Some(record)) => record,
                Ok(None) => Record { kind: planned.kind, ..Record::default() },
                Err(error) => {
                    let message = Some(format!("cannot read `{}`: {error}", path.display()));
                    Record {
                        kind: planned.kind,
                        state: "unreadable".to_owned(),
                        message,
                        ..Record::default()
                    }
                }
            };
            left = left.saturating_sub(size);
            if record.state == "running" && !running {
                "interrupted".clone_into(&mut record.state);
            }
            let mut reads = planned.reads;
            // Of a directory whose recipe.json does not say it: what the step was made from does.
            for input in &record.inputs {
                let name = input.from.strip_prefix('@').map(|from| from.split('.').next().unwrap_or(from));
                reads.extend(name.filter(|name| !reads.iter().any(|known| known == name)).map(str::to_owned));
            }
            let dir = self.path.join(&planned.name);
            let run = runs.iter().find(|named| named.run.path() == dir).map(|named| named.name.clone());
            StepOverview { name: planned.name, reads, run, record }
        };
        let planned = if owner.tree.is_empty() { self.begun() } else { owner.tree };
        let is_name = |planned: &Planned| !planned.name.contains(['/', '\\']) && planned.name != "..";
        let steps = planned.into_iter().filter(is_name).take(MAX_STEPS).map(&mut step).collect();
        let (name, path) = (self.name.clone(), self.path.display().to_string());
        Ok(RecipeOverview { name, path, file: owner.recipe.display().to_string(), running, steps })
    }

    /// The steps that were begun, the oldest first.
    fn begun(&self) -> Vec<Planned> {
        let entries = fs::read_dir(self.path.join("steps")).into_iter().flatten().flatten();
        let mut all: Vec<_> = entries
            .take(MAX_STEPS)
            .filter_map(|entry| {
                let path = entry.path();
                let name = path.file_name()?.to_str()?.strip_suffix(".json")?.to_owned();
                Some((entry.metadata().and_then(|m| m.modified()).ok(), name))
            })
            .collect();
        all.sort();
        all.into_iter().map(|(_, name)| Planned { name, ..Planned::default() }).collect()
    }
}

/// What a file of up to `most` bytes holds; none if it is not there.
fn read<T: DeserializeOwned>(path: &Path, most: u64) -> std::io::Result<Option<T>> {
    let invalid = |what: String| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
    match read_bounded(path, most) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Ok(Some(bytes)) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|error| invalid(error.to_string()))
        }
        Ok(None) => Err(invalid(format!("it has more than {most} bytes"))),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::runs::Runs;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    /// A recipe of three steps, of which one is made and one was interrupted.
    fn recipe(dir: &Path) {
        let tree = json!([
            {"name": "base", "kind": "pretrain", "reads": []},
            {"name": "zero", "kind": "rl", "reads": ["base"]},
            {"name": "../secret", "kind": "rl", "reads": []},
            {"name": "after", "kind": "eval", "reads": ["zero"]},
        ]);
        write(
            &dir.join("recipe.json"),
            &json!({"recipe": "/r.toml", "sha256": "0", "tree": tree}).to_string(),
        );
        let base = json!({
            "name": "base", "kind": "pretrain", "state": "done", "settings": {"big": "x"}, "inputs": [],
            "outputs": [{"path": "/m", "sha256": "ab"}], "figures": {"loss": 0.5}, "seconds": 3.5, "flops": 1e9,
        });
        write(&dir.join("steps/base.json"), &base.to_string());
        let zero = json!({
            "name": "zero", "kind": "rl", "state": "running",
            "inputs": [{"key": "model", "from": "@base", "sha256": "ab"}, {"key": "data", "from": "@halves.train", "sha256": "c"}],
        });
        write(&dir.join("steps/zero.json"), &zero.to_string());
        write(&dir.join("zero/config.toml"), "steps = 1\n");
    }

    #[test]
    fn steps_have_their_states_their_runs_and_what_they_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("runs/mine");
        recipe(&dir);
        for place in [&dir, &folder.path().join("runs"), &folder.path().to_owned()] {
            let runs = Runs::open(std::slice::from_ref(place)).expect("runs").list();
            let found = Recipe::list(std::slice::from_ref(place));
            assert_eq!((found.len(), &*found[0].name), (1, "mine"));
            let overview = serde_json::to_value(found[0].overview(&runs).expect("read")).expect("JSON");
            let steps = overview["steps"].as_array().expect("steps");
            let of = |key: &str| steps.iter().map(|step| step[key].clone()).collect::<Vec<_>>();
            assert_eq!(of("name"), ["base", "zero", "after"], "no path is made of a name");
            assert_eq!(of("state"), ["done", "interrupted", ""]);
            assert_eq!(of("kind"), ["pretrain", "rl", "eval"]);
            assert_eq!(of("reads"), [json!([]), json!(["base", "halves"]), json!(["zero"])]);
            assert_eq!(steps[1]["run"], *runs[0].name);
            assert_eq!((&steps[0]["flops"], &steps[0]["settings"]), (&json!(1e9), &Value::Null));
            assert_eq!(overview["running"], false);
        }
    }

    #[test]
    fn damaged_and_large_records_are_named_and_nothing_else_suffers() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("mine");
        recipe(&dir);
        write(&dir.join("steps/base.json"), "{\"state\": 3");
        write(&dir.join("steps/after.json"), &" ".repeat(MAX_BYTES as usize + 1));
        let recipe = &Recipe::list(std::slice::from_ref(&dir))[0];
        let overview = serde_json::to_value(recipe.overview(&[]).expect("read")).expect("JSON");
        let states: Vec<&Value> =
            overview["steps"].as_array().expect("steps").iter().map(|s| &s["state"]).collect();
        assert_eq!(states, ["unreadable", "interrupted", "unreadable"]);
        assert!(overview["steps"][2]["message"].as_str().expect("said").contains("more than"));
        // Without its tree, the steps that were begun.
        write(&dir.join("recipe.json"), "{\"recipe\": \"r\"}");
        let overview = recipe.overview(&[]).expect("read");
        assert_eq!(overview.steps.len(), 3);
        write(&dir.join("recipe.json"), "[");
        assert!(recipe.overview(&[]).is_err());
    }

    #[test]
    fn a_folder_without_recipes_has_none() {
        let folder = tempfile::tempdir().expect("a folder");
        write(&folder.path().join("run/config.toml"), "steps = 1\n");
        assert!(Recipe::list(&[folder.path().into(), folder.path().join("none")]).is_empty());
    }
}
