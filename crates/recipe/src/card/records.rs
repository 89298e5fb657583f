//! What is recorded of a model's making: the steps of a recipe's directory, or runs that were made from one another.

use std::path::{Path, PathBuf};

use koan_files::{FilesError, hash_files, read_text};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::CardError;
use crate::{
    MadeOf, Output, RecipeDir, State, StepState,
    directory::{Owner, read_json},
    figures, inputs,
};

/// Most runs that are followed back from one.
const MAX_RUNS: usize = 100;

/// A step that is made, or a run.
#[derive(Debug)]
pub(super) struct Made {
    /// What is recorded.
    pub(super) state: StepState,
    /// The same as it is written, with what this version doesn't know by name.
    pub(super) raw: Map<String, Value>,
    /// Its directory.
    pub(super) dir: PathBuf,
}

/// Where the records are.
#[derive(Debug)]
pub(super) enum Kept {
    /// In a recipe's directory, with the recipe's file and text.
    Recipe { dir: PathBuf, file: Option<PathBuf>, text: String, quick: bool },
    /// In a run's own.
    Run { dir: PathBuf },
}

/// Everything that is recorded, and which model it is about.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) kept: Kept,
    /// Steps that are made, each after those that it reads.
    pub(super) all: Vec<Made>,
    /// The place of the one that made the model.
    pub(super) last: usize,
    /// The model's directory.
    pub(super) model: PathBuf,
}

/// What an input is to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The model that it starts from, or one that takes part.
    Model,
    /// Rows that it learns from or passes on.
    Data,
    /// Rows by which it is measured.
    HeldOut,
    /// Tests that must not be in its data.
    Test,
    /// A template, a config, a program.
    Other,
}

impl Role {
    pub(super) fn of(key: &str) -> Self {
        let name = key.rsplit('.').next().unwrap_or(key);
        let name = name.split('[').next().unwrap_or(name);
        match name {
            "model" | "teacher" | "from" | "adapter" | "tokenizer" | "reward_model" | "gguf" => Self::Model,
            "reference" if key == name => Self::Model,
            _ if key.starts_with("eval.") => Self::HeldOut,
            "data" | "reference" => Self::Data,
            "against" => Self::Test,
            _ => Self::Other,
        }
    }
}

impl Made {
    /// Where what it made lies now: its directory may have been moved.
    pub(super) fn place_of(&self, output: &Output) -> PathBuf {
        let parts: Vec<_> = output.path.components().collect();
        let own = parts.iter().rposition(|part| part.as_os_str() == &*self.state.name);
        own.map_or_else(
            || output.path.clone(),
            |own| parts[own + 1..].iter().fold(self.dir.clone(), |dir, part| dir.join(part)),
        )
    }

    /// A number of its record.
    pub(super) fn number(&self, key: &str) -> Option<f64> {
        self.raw.get(key).or_else(|| self.raw.get("cost").and_then(|cost| cost.get(key)))?.as_f64()
    }

    /// What it reads in a role.
    pub(super) fn reads(&self, role: Role) -> impl Iterator<Item = &MadeOf> {
        self.state.inputs.iter().filter(move |input| Role::of(&input.key) == role)
    }

    /// The model that it starts from or samples with, or the file that it imports.
    pub(super) fn starts_from(&self) -> Option<&MadeOf> {
        self.state.inputs.iter().find(|input| ["model", "gguf"].contains(&&*input.key))
    }

    /// Whether it trains a model, or makes a fresh one.
    pub(super) fn makes_model(&self) -> bool {
        self.state.outputs.first().is_some_and(|output| output.path.file_name().is_some_and(|n| n == "model"))
    }
}

impl Records {
    /// Those of `path`: a recipe's directory, a step's or a run's, or a model within one.
    pub(super) fn of(path: &Path, step: Option<&str>) -> Result<Self, CardError> {
        let is_model = ["config.json", "adapter_config.json"].iter().any(|name| path.join(name).exists());
        let path = if is_model { above(path) } else { path.to_owned() };
        if path.join("steps").is_dir() {
            return Self::of_recipe(&path, step);
        }
        let (up, name) = (above(&path), name_of(&path));
        if up.join(format!("steps/{name}.json")).is_file() {
            return Self::of_recipe(&up, step.or(Some(&name)));
        }
        Self::of_runs(&path)
    }

    /// The steps of a recipe's directory; the model of `step`, or the last.
    fn of_recipe(dir: &Path, step: Option<&str>) -> Result<Self, CardError> {
        let owner = Owner::find(dir)?;
        let all = in_order(dir, owner.as_ref())?;
        let last = if let Some(name) = step {
            let wrong = |why: &str| CardError::Step { step: name.to_owned(), why: why.to_owned() };
            let place = all.iter().position(|made| made.state.name == name);
            let place = place.ok_or_else(|| {
                let names: Vec<String> = all.iter().map(|made| format!("`{}`", made.state.name)).collect();
                wrong(&format!("is not made in `{}`; these are: {}", dir.display(), names.join(", ")))
            })?;
            if all[place].state.state != State::Done {
                return Err(wrong("is not made to its end: run the recipe first"));
            }
            if !all[place].makes_model() {
                return Err(wrong("makes no model: name one that does by --step"));
            }
            place
        } else {
            let last = all.iter().rposition(|made| made.state.state == State::Done && made.makes_model());
            last.ok_or_else(|| CardError::NoModel { path: dir.into() })?
        };
        let model = all[last].dir.join("model");
        let (file, text, quick) =
            owner.map_or_else(Default::default, |owner| (Some(owner.recipe), owner.text, owner.quick));
        let records = Self { kept: Kept::Recipe { dir: dir.into(), file, text, quick }, all, last, model };
        records.check()?;
        Ok(records)
    }

    /// The run in `dir` and those that it was made from, as far as they are there.
    fn of_runs(dir: &Path) -> Result<Self, CardError> {
        let (mut all, mut next) = (Vec::new(), Some(dir.to_owned()));
        while let Some(run) = next.take() {
            let Some((made, from)) = of_run(&run, all.len())? else { break };
            all.push(made);
            next = from.filter(|_| all.len() < MAX_RUNS);
        }
        if all.is_empty() {
            return Err(CardError::NoRecord { path: dir.into() });
        }
        all.reverse();
        let (last, model) = (all.len() - 1, dir.join("model"));
        if !model.is_dir() {
            let why = "made no model: its record is of data".to_owned();
            return Err(CardError::Step { step: dir.display().to_string(), why });
        }
        let records = Self { kept: Kept::Run { dir: dir.into() }, all, last, model };
        let (found, stated) =
            (hash_files(&records.model, "safetensors")?, &records.made().state.outputs[0].sha256);
        if found != *stated {
            return Err(changed(&records.model));
        }
        Ok(records)
    }

    /// What made the model.
    pub(super) fn made(&self) -> &Made {
        &self.all[self.last]
    }

    /// The step that made an input, if one did.
    pub(super) fn maker(&self, input: &MadeOf) -> Option<&Made> {
        let name = step_of(&input.from)?;
        self.all.iter().find(|made| made.state.name == name)
    }

    /// What the model was made by, each after what it reads, itself the last.
    pub(super) fn way(&self) -> Vec<&Made> {
        let (mut open, mut wanted) = (vec![self.last], vec![false; self.all.len()]);
        while let Some(place) = open.pop() {
            if std::mem::replace(&mut wanted[place], true) {
                continue;
            }
            let makers = self.all[place].state.inputs.iter().filter_map(|input| step_of(&input.from));
            open.extend(makers.filter_map(|name| self.all.iter().position(|made| made.state.name == name)));
        }
        self.all.iter().zip(wanted).filter_map(|(made, wanted)| wanted.then_some(made)).collect()
    }

    /// Refuses records of which one is not of what the next was made from, and a model that was changed since.
    fn check(&self) -> Result<(), CardError> {
        for made in self.way() {
            let StepState { name, state, inputs, .. } = &made.state;
            if *state != State::Done {
                let why = format!(
                    "is not made to its end, and `{}` was made from it: run the recipe again",
                    self.made().state.name
                );
                return Err(CardError::Step { step: name.clone(), why });
            }
            for input in inputs {
                let Some(step) = step_of(&input.from) else { continue };
                let holds =
                    |maker: &Made| maker.state.outputs.iter().any(|output| output.sha256 == input.sha256);
                if !self.maker(input).is_some_and(holds) {
                    return Err(CardError::Changed {
                        what: format!("what `{step}` made, of which `{name}` was made (`{}`),", input.key),
                        remedy: "run the recipe again, so that every step is made of what is there",
                    });
                }
            }
        }
        match inputs::hash(&self.model) {
            Ok(found) if found == self.made().state.outputs[0].sha256 => Ok(()),
            Ok(_) => Err(changed(&self.model)),
            Err(what) => Err(CardError::Report { path: self.model.clone(), what }),
        }
    }
}

fn changed(model: &Path) -> CardError {
    CardError::Changed {
        what: format!("the model in `{}`", model.display()),
        remedy: "it was changed since; train it again, and write the card of that",
    }
}

/// The name of the step that made what is read from `@NAME` or `@NAME.PART`.
pub(super) fn step_of(from: &str) -> Option<&str> {
    let reference = from.strip_prefix('@')?;
    Some(reference.split_once('.').map_or(reference, |(name, _)| name))
}

/// The steps with records, in the recipe's order; where that is not recorded, each after those that it reads.
fn in_order(dir: &Path, owner: Option<&Owner>) -> Result<Vec<Made>, CardError> {
    let steps = dir.join("steps");
    let entries = std::fs::read_dir(&steps).map_err(FilesError::io("read", &steps))?;
    let is_name = |name: &String| name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned()))
        .filter(is_name)
        .collect();
    names.sort();
    let known = owner.map(|owner| &owner.tree[..]).unwrap_or_default();
    if !known.is_empty() {
        let place = |name: &String| known.iter().position(|step| step.name == *name);
        names.retain(|name| place(name).is_some());
        names.sort_by_key(place);
    }
    let mut left = Vec::new();
    for name in names {
        let raw: Option<Map<String, Value>> = read_json(&steps.join(format!("{name}.json")))?;
        let state = RecipeDir::state(dir, &name)?;
        let (Some(raw), Some(state)) = (raw, state) else { continue };
        left.push(Made { dir: dir.join(&state.name), state, raw });
    }
    if !known.is_empty() {
        return Ok(left);
    }
    let mut all: Vec<Made> = Vec::new();
    while !left.is_empty() {
        let is_open = |made: &Made| {
            let mut needs = made.state.inputs.iter().filter_map(|input| step_of(&input.from));
            needs.any(|need| left.iter().any(|other| other.state.name == need))
        };
        let next = left.iter().position(|made| !is_open(made)).unwrap_or(0);
        all.push(left.remove(next));
    }
    Ok(all)
}

/// The record of the run in `dir`, as that of a step would be; and the run that made its model, if that is there.
fn of_run(dir: &Path, number: usize) -> Result<Option<(Made, Option<PathBuf>)>, CardError> {
    #[derive(Deserialize)]
    struct Lineage {
        stage: String,
        inputs: Vec<Input>,
        weights_sha256: Option<String>,
        data_sha256: Option<String>,
        koan_version: String,
        steps: u64,
        tokens: u64,
    }
    #[derive(Deserialize)]
    struct Input {
        role: String,
        path: PathBuf,
        sha256: String,
        made_by: Option<By>,
    }
    #[derive(Deserialize)]
    struct By {
        run: PathBuf,
        weights_sha256: Option<String>,
    }
    let path = dir.join("lineage.json");
    let (Some(lineage), Some(raw)) = (read_json::<Lineage>(&path)?, read_json(&path)?) else {
        return Ok(None);
    };
    let mut from = None;
    let is_made_by = |run: &Path, sha256: &str| {
        let lineage = read_json::<Lineage>(&run.join("lineage.json"));
        lineage
            .is_ok_and(|lineage| lineage.is_some_and(|made| made.weights_sha256.as_deref() == Some(sha256)))
    };
    let of_input = |input: &Input| {
        let key = match &*input.role {
            "held-out data" => "eval.data",
            "base model" => "base.model",
            // The file, not a directory that one is taken from.
            "tokenizer" => "tokenizer's file",
            role => role,
        };
        let mut name = input.path.display().to_string();
        if let ("model", Some(By { run, weights_sha256: Some(weights) })) = (key, &input.made_by)
            && is_made_by(run, weights)
        {
            from = Some(run.clone());
            name = format!("@{}", run_name(number + 1, run));
        }
        MadeOf { key: key.to_owned(), from: name, sha256: input.sha256.clone() }
    };
    let inputs: Vec<MadeOf> = lineage.inputs.iter().map(of_input).collect();
    let config = read_text(&dir.join("config.toml")).unwrap_or_default();
    let settings = config.parse::<toml::Table>().ok().and_then(|table| serde_json::to_value(table).ok());
    let outputs = [(lineage.weights_sha256, "model"), (lineage.data_sha256, "data")].into_iter();
    let outputs = outputs.filter_map(|(sha256, path)| Some(Output { path: dir.join(path), sha256: sha256? }));
    let mut state = StepState {
        name: run_name(number, dir),
        kind: lineage.stage,
        state: State::Done,
        message: None,
        settings: match settings {
            Some(Value::Object(settings)) => settings,
            _ => Map::new(),
        },
        inputs,
        code: lineage.koan_version,
        version: 0, // no recipe compares it
        outputs: outputs.collect(),
        tokens: Some(lineage.tokens),
        cost: serde_json::to_value(&raw).and_then(serde_json::from_value).unwrap_or_default(),
        figures: Map::new(),
    };
    figures::of_stage(&mut state, dir);
    if let Some(held_out) = last_measured(dir, lineage.steps) {
        state.figures.insert("pass_at_1".to_owned(), held_out);
    }
    Ok(Some((Made { state, raw, dir: dir.into() }, from)))
}

/// The directory that `path` lies in.
fn above(path: &Path) -> PathBuf {
    match (path.file_name(), path.parent()) {
        (Some(_), Some(up)) if !up.as_os_str().is_empty() => up.to_owned(),
        (Some(_), _) => PathBuf::from("."),
        // It ends in `.` or `..`.
        (None, _) => path.join(".."),
    }
}

/// The name of a directory, however it is written.
pub(super) fn name_of(dir: &Path) -> String {
    let whole = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.into());
    whole.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The name of the run in `dir`, `number` runs before the last.
fn run_name(number: usize, dir: &Path) -> String {
    let name = name_of(dir).replace('.', "-");
    if number == 0 { name } else { format!("{name}-before-{number}") }
}

/// What a run measured on held-out problems after its last step.
fn last_measured(dir: &Path, steps: u64) -> Option<Value> {
    let metrics = read_text(&dir.join("metrics.jsonl")).ok()?;
    let last: Value = serde_json::from_str(metrics.lines().last()?).ok()?;
    let is_last = last["step"].as_u64() == Some(steps);
    last.get("eval").filter(|eval| is_last && eval["accuracy"].is_number()).cloned()
}
