//! Which runs are shown: those that were named, and all in the folders that were named.

use std::{
    cmp::Reverse,
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::{ViewError, recipes::Recipe, run::Run};

/// How deep runs are searched for in a folder: `runs/task/seed-1/zero`.
const MAX_DEPTH: usize = 4;
/// Most folders that a search opens.
const MAX_FOLDERS: usize = 10_000;
/// Most runs that are shown.
const MAX_RUNS: usize = 200;
/// How long a search holds: new runs appear after this.
const SEARCH_EVERY: Duration = Duration::from_secs(3);

/// A run, and the name by which the page asks for it.
#[derive(Clone, Debug)]
pub struct NamedRun {
    /// The name: of its directory or, in a folder of runs, the path from there.
    pub name: String,
    /// The run.
    pub run: Run,
}

/// The runs that are shown.
#[derive(Debug)]
pub struct Runs {
    paths: Vec<PathBuf>,
    found: Mutex<Option<(Instant, Vec<NamedRun>)>>,
}

impl Runs {
    /// The runs at `paths`: each a run's directory, or a folder with runs or recipes in it.
    ///
    /// # Errors
    /// If there is nothing at a path, or no run and no recipe.
    pub fn open(paths: &[PathBuf]) -> Result<Self, ViewError> {
        for path in paths {
            match Run::open(path) {
                Err(ViewError::NotARun { .. })
                    if !search(path).is_empty() || !Recipe::list(std::slice::from_ref(path)).is_empty() => {}
                result => drop(result?),
            }
        }
        Ok(Self { paths: paths.to_vec(), found: Mutex::new(None) })
    }

    /// The runs in the order of their paths; those of a folder with the newest first.
    pub fn list(&self) -> Vec<NamedRun> {
        let mut found = self.found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*found {
            Some((at, runs)) if at.elapsed() < SEARCH_EVERY => runs.clone(),
            _ => {
                let runs = list(&self.paths);
                *found = Some((Instant::now(), runs.clone()));
                runs
            }
        }
    }

    /// The recipes at the same paths.
    pub(crate) fn recipes(&self) -> Vec<Recipe> {
        Recipe::list(&self.paths)
    }

    /// The run of a name; the only one, if none is given. No path is ever made of what a reader sends.
    ///
    /// # Errors
    /// If there is no such run, or several and no name.
    pub fn find(&self, name: Option<&str>) -> Result<Run, ViewError> {
        let mut runs = self.list();
        let Some(name) = name else {
            return match runs.len() {
                1 => Ok(runs.remove(0).run),
                _ => Err(ViewError::Query {
                    key: "run".into(),
                    value: String::new(),
                    expected: "which run? /api/runs lists them",
                }),
            };
        };
        let named = runs.into_iter().find(|named| named.name == name);
        named
            .map(|named| named.run)
            .ok_or_else(|| ViewError::NoSuchRun { name: name.chars().take(100).collect() })
    }
}

fn list(paths: &[PathBuf]) -> Vec<NamedRun> {
    let (mut places, mut names) = (HashSet::new(), HashSet::new());
    let mut runs = Vec::new();
    for path in paths {
        let found = match Run::open(path) {
            Ok(run) => vec![(run.name(), run)],
            Err(_) => search(path),
        };
        for (name, run) in found {
            if runs.len() == MAX_RUNS || !places.insert(run.path().to_owned()) {
                continue;
            }
            let full = run.path().display().to_string();
            let name = if names.contains(&name) { full } else { name };
            names.insert(name.clone());
            runs.push(NamedRun { name, run });
        }
    }
    runs
}

/// The runs in a folder, each with its path from there; the newest first.
fn search(folder: &Path) -> Vec<(String, Run)> {
    let mut found = Vec::new();
    let mut level = vec![folder.to_owned()];
    let mut opened = 0;
    for _ in 0..MAX_DEPTH {
        let mut below = Vec::new();
        for path in level {
            opened += 1;
            if opened > MAX_FOLDERS {
                break;
            }
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                let path = entry.path();
                if entry.file_name().as_encoded_bytes().starts_with(b".") || !path.is_dir() {
                    continue;
                }
                match Run::open(&path) {
                    Ok(run) => found.push((path, run)),
                    Err(_) => below.push(path),
                }
            }
        }
        level = below;
    }
    found.sort_by_cached_key(|(path, run)| (Reverse(run.started()), path.clone()));
    let name = |path: &Path| path.strip_prefix(folder).unwrap_or(path).display().to_string();
    found.into_iter().map(|(path, run)| (name(&path), run)).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs::File, time::SystemTime};

    use super::*;

    fn run_at(path: &Path, seconds_ago: u64) {
        fs::create_dir_all(path).expect("a folder");
        let config = path.join("config.toml");
        fs::write(&config, "steps = 1\n").expect("written");
        let then = SystemTime::now() - Duration::from_secs(seconds_ago);
        File::options().write(true).open(config).and_then(|file| file.set_modified(then)).expect("set");
    }

    fn names(paths: &[PathBuf]) -> Vec<String> {
        Runs::open(paths).expect("runs").list().into_iter().map(|named| named.name).collect()
    }

    #[test]
    fn a_folder_shows_all_its_runs_the_newest_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        run_at(&at("old"), 300);
        run_at(&at("demo/zero"), 10);
        run_at(&at("demo/base"), 100);
        run_at(&at("new"), 1);
        run_at(&at(".hidden"), 1);
        run_at(&at("old/checkpoints/inner"), 1);
        run_at(&at("a/b/c/d/too-deep"), 1);
        fs::write(at("a/file"), "").expect("written");
        assert_eq!(names(&[folder.path().into()]), ["new", "demo/zero", "demo/base", "old"]);
        assert_eq!(names(&[at("old"), at("new")]), ["old", "new"]);
        assert_eq!(names(&[at("new"), folder.path().into()]), ["new", "demo/zero", "demo/base", "old"]);
    }

    #[test]
    fn runs_of_one_name_are_told_apart_by_their_paths() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        run_at(&at("a/zero"), 1);
        run_at(&at("b/zero"), 1);
        let full = fs::canonicalize(at("b/zero")).expect("a path").display().to_string();
        assert_eq!(names(&[at("a/zero"), at("b/zero")]), ["zero".to_owned(), full]);
    }

    #[test]
    fn what_is_asked_for_is_a_name_and_never_a_path() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        run_at(&at("runs/a"), 1);
        run_at(&at("secret"), 1);
        let one = Runs::open(&[at("runs")]).expect("runs");
        assert!(one.find(None).is_ok() && one.find(Some("a")).is_ok());
        for name in ["../secret", "", "a/", "./a", "/etc", "A"] {
            assert!(matches!(one.find(Some(name)), Err(ViewError::NoSuchRun { .. })), "{name}");
        }
        run_at(&at("runs/b"), 1);
        let two = Runs::open(&[at("runs")]).expect("runs");
        assert!(matches!(two.find(None), Err(ViewError::Query { .. })));
    }

    #[test]
    fn a_folder_without_runs_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(matches!(Runs::open(&[folder.path().into()]), Err(ViewError::NotARun { .. })));
        assert!(matches!(Runs::open(&[folder.path().join("none")]), Err(ViewError::NoRun { .. })));
    }
}
