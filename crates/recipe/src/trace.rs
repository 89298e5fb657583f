//! Where a row comes from: every step that made it or passed it on, the models that wrote it, and its source.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use koan_data::rows::Rows;
use serde_json::{Map, Value};

use crate::{RecipeDir, RecipeError, StepState};

/// A step that made a row, or passed it on.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The step's name and kind, or none: a file that no step makes.
    pub step: Option<(String, String)>,
    /// The file.
    pub path: PathBuf,
    /// The row's number there, from 1.
    pub number: usize,
    /// What the row says of where it comes from: model, problem, seed, verdicts, annotators.
    pub origin: Option<Value>,
    /// The models from which a step that samples made it: the one that wrote it, what that was trained from, and so on to the base.
    pub models: Vec<String>,
    /// The settings of the step.
    pub settings: Map<String, Value>,
}

impl Trace {
    /// The command that made the row, where it is no step's own: a generator of problems.
    pub fn source(&self) -> Option<String> {
        let generator = self.settings.get("generator")?.as_str()?;
        let seed = self.settings.get("seed").map_or_else(String::new, |seed| format!(", seed {seed}"));
        Some(format!("koan data generate {generator}{seed}"))
    }
}

/// The rows with this `id` in the files of the recipe in directory `dir`, from the last step that has one back to the files that no step
/// makes. The second of several demonstrations that were made of one row, `ID/1`, comes from the row `ID`.
///
/// # Errors
/// Files that can't be read.
pub fn trace(dir: &Path, id: &str) -> Result<Vec<Trace>, RecipeError> {
    let states = RecipeDir::states(dir)?;
    let mut all = Vec::new();
    for (place, state) in states.iter().enumerate().rev() {
        for output in state.outputs.iter().filter(|output| output.path.is_file()) {
            for (number, row) in find(&output.path, id)? {
                let samples = ["reject", "generate", "eval"].contains(&&*state.kind);
                all.push(Trace {
                    step: Some((state.name.clone(), state.kind.clone())),
                    path: output.path.clone(),
                    number,
                    origin: origin(&row),
                    models: if samples { models(&states, place) } else { Vec::new() },
                    settings: state.settings.clone(),
                });
            }
        }
    }
    let inputs = states.iter().flat_map(|state| &state.inputs);
    let given = inputs.filter(|input| !input.from.starts_with('@')).map(|input| Path::new(&input.from));
    let given: BTreeSet<&Path> = given.filter(|path| path.is_file()).collect();
    for path in given {
        // A file that is no data has no rows: a prompt's template, a program.
        for (number, row) in find(path, id).unwrap_or_default() {
            let (origin, models, settings) = (origin(&row), Vec::new(), Map::new());
            all.push(Trace { step: None, path: path.into(), number, origin, models, settings });
        }
    }
    Ok(all)
}

/// A row with its number.
type Numbered = (usize, Map<String, Value>);

/// The rows of a file with this `id`, with their numbers.
fn find(path: &Path, id: &str) -> Result<Vec<Numbered>, RecipeError> {
    let mut found = Vec::new();
    for row in Rows::open(path)? {
        let (place, json) = row?;
        let Some(row) = json.ok().and_then(|json| serde_json::from_slice::<Map<String, Value>>(&json).ok())
        else {
            continue;
        };
        let of_several = id.rsplit_once('/').filter(|(_, n)| n.parse::<usize>().is_ok()).map(|(of, _)| of);
        let is_it = |own: &str| own == id || Some(own) == of_several;
        let has_id = match row.get("id") {
            Some(Value::String(own)) => is_it(own),
            Some(Value::Number(own)) => is_it(&own.to_string()),
            _ => false,
        };
        if has_id {
            found.push((place.number, row));
        }
    }
    Ok(found)
}

fn origin(row: &Map<String, Value>) -> Option<Value> {
    let meta = row.get("meta").and_then(|meta| meta.get("origin"));
    row.get("origin").or(meta).or_else(|| row.get("annotators")).cloned()
}

/// The model that step `place` reads, what that was trained from, and so on.
fn models(states: &[StepState], place: usize) -> Vec<String> {
    let (mut all, mut at) = (Vec::new(), Some(place));
    while let Some(step) = at.map(|place| &states[place]) {
        let Some(model) = step.inputs.iter().find(|input| input.key == "model") else { break };
        all.push(format!("{} (sha256 {:.12})", model.from, model.sha256));
        // A step reads what is made before it: so this ends, whatever the files say.
        let name = model.from.strip_prefix('@');
        let before = |name: &str| states[..at.unwrap_or(0)].iter().position(|step| step.name == name);
        at = name.and_then(before);
    }
    all
}
