//! Whether a step must be made: not if it was made of the same settings and inputs by a program that makes the same of them, and what it made is
//! as it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
};

use serde_json::{Map, Value};
use toml::Table;

use crate::{
    Kind, Recipe, RecipeDir, RecipeError, Source, State, StepCost, StepState, directory::MadeOf, inputs,
};

/// Settings on which nothing that a step makes depends.
const FREE: [&str; 6] =
    ["checkpoint_every", "checkpoints_kept", "tensorboard", "sequences", "memory", "drafts"];

/// How a step stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is made, of the same as it would be made of now.
    Done,
    /// It was never begun.
    New,
    /// It was begun with the same, and goes on.
    Begun,
    /// It was made or begun with something else: what, in words.
    Changed(Vec<String>),
    /// It waits for people.
    Waiting,
    /// It reads what these steps make, which are to be made first. It is made too, unless they come out as before.
    After(Vec<String>),
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("is made"),
            Self::New => f.write_str("is not made yet"),
            Self::Begun => f.write_str("is begun and not finished"),
            Self::Changed(what) => write!(f, "was made with something else: {}", what.join(", ")),
            Self::Waiting => f.write_str("waits for people"),
            Self::After(steps) => write!(f, "reads what is to be made first: `{}`", steps.join("`, `")),
        }
    }
}

/// How every step of `recipe` stands, for a program of version `code`.
///
/// # Errors
/// Inputs that can't be read.
pub fn standings(recipe: &Recipe, code: &str) -> Result<Vec<Standing>, RecipeError> {
    let mut all: Vec<Standing> = Vec::new();
    for place in 0..recipe.steps.len() {
        let open: Vec<String> = recipe
            .needs(place)
            .into_iter()
            .filter(|need| all[*need] != Standing::Done)
            .map(|need| recipe.steps[need].name.clone())
            .collect();
        all.push(if open.is_empty() { of(recipe, place, code)?.0 } else { Standing::After(open) });
    }
    Ok(all)
}

/// How step `place` stands, all that it reads being there; and its state as it would begin now.
pub(crate) fn of(recipe: &Recipe, place: usize, code: &str) -> Result<(Standing, StepState), RecipeError> {
    let step = &recipe.steps[place];
    let mut now = beginning(recipe, place, code)?;
    let (dir, is_label) = (recipe.dir(place), step.kind == Kind::Label);
    let Some(before) = RecipeDir::state(&recipe.run_dir, &step.name)? else {
        // Of labels the votes stay when their rows are moved away.
        if dir.exists() && !is_label {
            return Err(RecipeError::Foreign { path: dir, step: step.name.clone() });
        }
        return Ok((Standing::New, now));
    };
    let mut changed = differences(&before, &now);
    if changed.is_empty() {
        now.cost = before.cost;
    }
    if changed.is_empty() && before.state == State::Done {
        for output in &before.outputs {
            match inputs::hash(&output.path) {
                Ok(hash) if hash == output.sha256 => {}
                // People may go on labelling.
                Ok(_) if is_label => return Ok((Standing::Begun, now)),
                Ok(_) => changed.push(format!("`{}` was changed since", output.path.display())),
                Err(_) => changed.push(format!("`{}` is gone", output.path.display())),
            }
        }
    }
    let standing = match (changed.is_empty(), before.state) {
        (true, State::Done) => Standing::Done,
        (true, State::Waiting) => Standing::Waiting,
        (true, _) if !dir.exists() => Standing::New,
        (true, _) => Standing::Begun,
        (false, _) => Standing::Changed(changed),
    };
    Ok((standing, now))
}

/// The state of step `place` when it begins.
fn beginning(recipe: &Recipe, place: usize, code: &str) -> Result<StepState, RecipeError> {
    let step = &recipe.steps[place];
    let hashes = inputs::hashes(recipe, place)?;
    let from = |source: &Source| match source {
        Source::Path(path) => path.display().to_string(),
        Source::Step { step, path } => {
            let name = &recipe.steps[*step].name;
            match (recipe.steps[*step].kind, path.file_stem()) {
                (Kind::Split | Kind::World, Some(part)) => format!("@{name}.{}", part.display()),
                _ => format!("@{name}"),
            }
        }
    };
    let of_input = |input: &crate::Input| MadeOf {
        key: input.key.clone(),
        from: from(&input.source),
        sha256: hashes[&input.key].clone(),
    };
    Ok(StepState {
        name: step.name.clone(),
        kind: step.kind.name().to_owned(),
        state: State::Running,
        message: None,
        settings: settings(recipe, place),
        inputs: step.inputs.iter().map(of_input).collect(),
        code: code.to_owned(),
        version: step.kind.version(),
        outputs: Vec::new(),
        tokens: None,
        cost: StepCost::default(),
        figures: Map::new(),
    })
}

/// The settings of a step on which what it makes depends. What it reads is known by what it holds, not by its name.
pub(crate) fn settings(recipe: &Recipe, place: usize) -> Map<String, Value> {
    let mut settings: Table = inputs::with_paths(recipe, place, &|_| PathBuf::new());
    settings.retain(|key, _| !FREE.contains(&key));
    match serde_json::to_value(settings) {
        Ok(Value::Object(settings)) => settings,
        _ => Map::new(),
    }
}

/// In what two states of a step differ, as far as what is made depends on it.
pub(crate) fn differences(before: &StepState, now: &StepState) -> Vec<String> {
    let mut all = Vec::new();
    if before.kind != now.kind {
        all.push(format!("kind (`{}`, now `{}`)", before.kind, now.kind));
    }
    let (mut a, mut b) = (BTreeMap::new(), BTreeMap::new());
    flatten("", &Value::Object(before.settings.clone()), &mut a);
    flatten("", &Value::Object(now.settings.clone()), &mut b);
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let said = |value: Option<&String>| value.cloned().unwrap_or_else(|| "not given".to_owned());
    for key in keys {
        if a.get(key) != b.get(key) {
            all.push(format!("`{key}` ({}, now {})", said(a.get(key)), said(b.get(key))));
        }
    }
    let by_key = |state: &StepState| -> BTreeMap<String, (String, String)> {
        let entry = |of: &MadeOf| (of.key.clone(), (of.sha256.clone(), of.from.clone()));
        state.inputs.iter().map(entry).collect()
    };
    let (a, b) = (by_key(before), by_key(now));
    for (key, (hash, from)) in &b {
        if a.get(key).is_none_or(|(old, _)| old != hash) {
            all.push(format!("what `{key}` holds (\"{from}\")"));
        }
    }
    all.extend(
        a.keys().filter(|key| !b.contains_key(*key)).map(|key| format!("`{key}` is not read any more")),
    );
    if before.version != now.version {
        let versions = format!("version {}, now {}", before.version, now.version);
        all.push(format!(
            "what a newer koan makes of the same ({versions}; made by {}, now {})",
            before.code, now.code
        ));
    }
    all
}

/// Every value of `value` by its key, with the tables that it is in.
pub(crate) fn flatten(prefix: &str, value: &Value, all: &mut BTreeMap<String, String>) {
    let place = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
    match value {
        Value::Object(table) => table.iter().for_each(|(key, value)| flatten(&place(key), value, all)),
        Value::Array(values) if values.iter().any(Value::is_object) => {
            values.iter().enumerate().for_each(|(i, value)| flatten(&format!("{prefix}[{i}]"), value, all));
        }
        other => _ = all.insert(prefix.to_owned(), other.to_string()),
    }
}
