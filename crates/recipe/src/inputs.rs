//! What steps read: where their settings name it, and what it holds, by hash.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use koan_data::DataFiles;
use koan_files::{FilesError, hash_file, sha256};
use koan_model::checkpoint::Place;
use toml::{Table, Value};

use crate::{Kind, Offer, Recipe, RecipeError, Source};

/// Keys that name models, wherever in a step's settings they stand.
const MODELS: [&str; 6] = ["model", "teacher", "from", "adapter", "tokenizer", "reward_model"];
/// Keys that name data, or other files.
const DATA: [&str; 9] =
    ["data", "against", "template", "config", "prompt_template", "gguf", "problems", "answers", "replies"];
/// A key that names a model where a policy is compared with one, and data where a reward's scale is set.
const EITHER: &str = "reference";
/// What a model's files are called: those that something is computed by.
const OF_MODEL: [&str; 3] = ["safetensors", "json", "jinja"];

/// A place of a step's settings that names something to read.
pub(crate) struct Mention {
    /// As [`crate::Input::key`].
    pub(crate) key: String,
    pub(crate) wanted: Offer,
    /// The path, or `@` and the name of a step.
    pub(crate) value: String,
}

/// What the settings of a step of `kind` name, in the order of their keys.
pub(crate) fn mentions(kind: Kind, settings: &Table) -> Result<Vec<Mention>, String> {
    let mut all = Vec::new();
    in_table(kind, "", settings, &mut all)?;
    Ok(all)
}

fn in_table(kind: Kind, prefix: &str, table: &Table, all: &mut Vec<Mention>) -> Result<(), String> {
    for (key, value) in table {
        let place = format!("{prefix}{key}");
        let wanted = wanted(kind, prefix, key, table);
        match (value, wanted) {
            (Value::Table(inner), _) => in_table(kind, &format!("{place}."), inner, all)?,
            (Value::String(value), Some(wanted)) => {
                all.extend(mention(place, wanted, value));
            }
            (Value::Array(values), wanted) => {
                for (i, value) in values.iter().enumerate() {
                    match (value, wanted) {
                        (Value::Table(inner), _) => {
                            in_table(kind, &format!("{place}[{i}]."), inner, all)?;
                        }
                        (Value::String(value), Some(wanted)) => {
                            all.extend(mention(format!("{place}[{i}]"), wanted, value));
                        }
                        // A program that judges: its files are what it is made from.
                        (Value::String(value), None) if key == "command" && Path::new(value).is_file() => {
                            all.extend(mention(format!("{place}[{i}]"), Offer::Data, value));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn mention(key: String, wanted: Offer, value: &str) -> Option<Mention> {
    // A template may be a text instead of a file's name.
    let is_text = key == "prompt_template" && !Path::new(value).is_file();
    (!is_text).then(|| Mention { key, wanted, value: value.to_owned() })
}

/// What the key `key` of `table` names, if it names something to read.
fn wanted(kind: Kind, prefix: &str, key: &str, table: &Table) -> Option<Offer> {
    let is_top = prefix.is_empty();
    match key {
        // A judge on a server: its model is a name there.
        "model" if table.contains_key("url") => None,
        "from" if prefix != "adapter." => None,
        "config" | "tokenizer" if !(is_top && kind == Kind::Init) => None,
        "template" if is_top => None,
        "gguf" if !(is_top && kind == Kind::Import) => None,
        _ if MODELS.contains(&key) => Some(Offer::Model),
        _ if DATA.contains(&key) => Some(Offer::Data),
        EITHER => Some(if is_top { Offer::Model } else { Offer::Data }),
        _ => None,
    }
}

/// The settings of step `step` with paths in the place of names.
pub(crate) fn with_paths(recipe: &Recipe, step: usize, path_of: &dyn Fn(&Source) -> PathBuf) -> Table {
    let step = &recipe.steps[step];
    let paths: BTreeMap<&str, PathBuf> =
        step.inputs.iter().map(|input| (&*input.key, path_of(&input.source))).collect();
    put("", &step.settings, &paths)
}

fn put(prefix: &str, table: &Table, paths: &BTreeMap<&str, PathBuf>) -> Table {
    let value = |place: String, value: &Value| match (value, paths.get(&*place)) {
        (Value::String(_), Some(path)) => Value::String(path.to_string_lossy().into_owned()),
        (Value::Table(inner), _) => Value::Table(put(&format!("{place}."), inner, paths)),
        (other, _) => other.clone(),
    };
    let of_key = |(key, of): (&String, &Value)| {
        let place = format!("{prefix}{key}");
        let new = match of {
            Value::Array(all) => Value::Array(
                all.iter().enumerate().map(|(i, one)| value(format!("{place}[{i}]"), one)).collect(),
            ),
            other => value(place, other),
        };
        (key.clone(), new)
    };
    table.iter().map(of_key).collect()
}

/// The hash of what each input of step `step` holds, by its key.
///
/// # Errors
/// If one is missing or can't be read.
pub(crate) fn hashes(recipe: &Recipe, step: usize) -> Result<BTreeMap<String, String>, RecipeError> {
    let mut all = BTreeMap::new();
    for input in &recipe.steps[step].inputs {
        let (Source::Path(path) | Source::Step { path, .. }) = &input.source;
        let hash = hash(path).map_err(|error| RecipeError::Step {
            path: recipe.path.clone(),
            step: recipe.steps[step].name.clone(),
            message: format!("`{}`: {error}", input.key),
        })?;
        all.insert(input.key.clone(), hash);
    }
    Ok(all)
}

/// Refuses a recipe if a file or directory that it reads, and no step makes, is missing.
pub(crate) fn check_there(recipe: &Recipe, steps: &[usize]) -> Result<(), RecipeError> {
    for &place in steps {
        let step = &recipe.steps[place];
        for input in &step.inputs {
            let Source::Path(path) = &input.source else { continue };
            let is_there =
                path.exists() || DataFiles::from(&**path).paths().is_ok_and(|paths| paths != [path.clone()]);
            if !is_there {
                let message = format!("`{}`: `{}` is not there", input.key, path.display());
                return Err(RecipeError::Step {
                    path: recipe.path.clone(),
                    step: step.name.clone(),
                    message,
                });
            }
        }
    }
    Ok(())
}

/// The hash of a file, of the files that a pattern matches, or of a model's directory.
///
/// # Errors
/// If it is missing or can't be read, in words.
pub(crate) fn hash(path: &Path) -> Result<String, String> {
    if !path.is_dir() {
        return DataFiles::from(path).hash().map_err(in_words);
    }
    let own = hash_model(path).map_err(in_words)?;
    // An adapter is nothing without the model that it is on.
    match Place::find(path, None) {
        Ok(place) if place.model() != path => {
            let base = hash_model(place.model()).map_err(in_words)?;
            Ok(sha256([own, base].join("\n")))
        }
        Ok(_) => Ok(own),
        Err(error) => Err(error.to_string()),
    }
}

/// The hash of a model's files, by their names.
fn hash_model(dir: &Path) -> Result<String, FilesError> {
    let io = FilesError::io("read", dir);
    let entries: Result<Vec<PathBuf>, _> =
        fs::read_dir(dir).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut files = entries.map_err(io)?;
    files.retain(|path| path.extension().and_then(|e| e.to_str()).is_some_and(|e| OF_MODEL.contains(&e)));
    files.sort();
    let mut list = String::new();
    for path in &files {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        list.extend([&hash_file(path)?, "  ", &*name, "\n"]);
    }
    Ok(sha256(list))
}

fn in_words(error: impl std::error::Error) -> String {
    match std::error::Error::source(&error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
