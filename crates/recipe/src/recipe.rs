//! A recipe's file: named steps, whose inputs may be named after the steps that make them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use koan_files::{read_bounded, sha256};
use koan_train::config::with_nearest_name;
use toml::{Table, Value};

use crate::{
    Bundled, Changes, Kind, Offer, RecipeError,
    changes::merge,
    inputs::{self, Mention},
    kind::Artefact,
};

/// Longest recipe, bytes.
const MAX_BYTES: u64 = 1 << 20;
/// Most steps.
const MAX_STEPS: usize = 1000;
/// Keys of a recipe.
const KEYS: [&str; 4] = ["run_dir", "seed", "step", "quick"];
/// Names in a recipe's directory that are no steps'.
const RESERVED: [&str; 2] = ["steps", "superseded"];

/// A recipe: steps in an order in which each can be made.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Its file, or the name of one that comes within the program.
    pub path: PathBuf,
    /// What the file says.
    pub text: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Whether it is the quick form.
    pub quick: bool,
    /// Where everything that it makes goes.
    pub run_dir: PathBuf,
    /// The steps: each after those whose artefacts it reads, else as they stand in the file.
    pub steps: Vec<Step>,
}

/// A step.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// Its settings as they are written, with those of its `file` and the recipe's seed.
    pub settings: Table,
    /// What it reads.
    pub inputs: Vec<Input>,
}

/// Something that a step reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Where its settings say so: `data`, `reward[1].model`.
    pub key: String,
    /// What is read.
    pub source: Source,
}

/// What a step reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file, pattern of files or directory.
    Path(PathBuf),
    /// What an earlier step makes.
    Step {
        /// Its place among [`Recipe::steps`].
        step: usize,
        /// The file or directory.
        path: PathBuf,
    },
}

impl Recipe {
    /// Reads the recipe in file `path`, or the one of this name that comes within the program if there is no such file.
    ///
    /// # Errors
    /// What is wrong with it, with the step and the key: unknown keys, kinds and names (with the nearest that is known), circles, a model
    /// where data are read. Settings of a step are looked at by [`check`](crate::check).
    pub fn read(path: &Path, changes: &Changes) -> Result<Self, RecipeError> {
        let text = match Bundled::find(path)? {
            Some(bundled) => bundled.text.to_owned(),
            None => read_text(path)?,
        };
        Self::parse(path, text, changes)
    }

    /// The recipe that file `path` says in `text`, as [`Recipe::read`] reads it.
    pub(crate) fn parse(path: &Path, text: String, changes: &Changes) -> Result<Self, RecipeError> {
        let wrong = |message: String| RecipeError::Parse { path: path.into(), message };
        let mut table: Table = text.parse().map_err(|e: toml::de::Error| wrong(e.to_string()))?;
        refuse_unknown(table.keys(), &KEYS).map_err(wrong)?;
        changes.apply(&mut table).map_err(wrong)?;
        let run_dir: PathBuf = match table.remove("run_dir") {
            Some(Value::String(dir)) if !dir.is_empty() => dir.into(),
            Some(_) => return Err(wrong("`run_dir` is no name of a directory".to_owned())),
            None => return Err(wrong("`run_dir` is missing: the directory for all that is made".to_owned())),
        };
        let seed = match table.remove("seed") {
            None => 0,
            Some(Value::Integer(seed)) if seed >= 0 => seed,
            Some(other) => return Err(wrong(format!("`seed` is {other}: write a whole number, 0 or more"))),
        };
        let tables = match table.remove("step") {
            Some(Value::Array(steps)) if !steps.is_empty() => steps,
            _ => return Err(wrong("it has no steps: write a table [[step]] for each".to_owned())),
        };
        if tables.len() > MAX_STEPS {
            return Err(wrong(format!("it has {} steps; {MAX_STEPS} is the most", tables.len())));
        }
        let mut written = Vec::new();
        for (number, table) in (1..).zip(tables) {
            let Value::Table(table) = table else {
                return Err(wrong(format!("step {number} is no table: write [[step]]")));
            };
            written.push(Written::of(path, number, table, seed)?);
        }
        let steps = resolve(path, &run_dir, written)?;
        Ok(Self { path: path.into(), sha256: sha256(&text), text, quick: changes.quick, run_dir, steps })
    }

    /// The place of the step `name`.
    ///
    /// # Errors
    /// If there is none; the nearest name is said.
    pub fn step(&self, name: &str) -> Result<usize, RecipeError> {
        let names: Vec<&str> = self.steps.iter().map(|step| &*step.name).collect();
        names.iter().position(|step| *step == name).ok_or_else(|| RecipeError::Parse {
            path: self.path.clone(),
            message: nearest("step", name, &names),
        })
    }

    /// The directory of step `step`.
    pub fn dir(&self, step: usize) -> PathBuf {
        self.run_dir.join(&self.steps[step].name)
    }

    /// The steps that step `step` reads from, each once.
    pub fn needs(&self, step: usize) -> BTreeSet<usize> {
        let sources = self.steps[step].inputs.iter();
        sources
            .filter_map(|input| match input.source {
                Source::Step { step, .. } => Some(step),
                Source::Path(_) => None,
            })
            .collect()
    }
}

/// A step as it is written, its names not yet resolved.
struct Written {
    name: String,
    kind: Kind,
    settings: Table,
}

impl Written {
    /// The step of `table`, the recipe's step `number`, whose seed is `seed` if it gives none.
    fn of(path: &Path, number: usize, mut table: Table, seed: i64) -> Result<Self, RecipeError> {
        let nameless = |message: &str| RecipeError::Parse {
            path: path.into(),
            message: format!("step {number}: {message}"),
        };
        let Some(Value::String(name)) = table.remove("name") else {
            return Err(nameless("it has no `name`: write name = \"…\""));
        };
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 64 || !name.chars().all(is_word) || name.starts_with('-') {
            return Err(nameless(&format!(
                "`{name}` is no name of a step: write letters, digits, - and _, at most 64"
            )));
        }
        let wrong = |message: String| RecipeError::Step { path: path.into(), step: name.clone(), message };
        if RESERVED.contains(&&*name) {
            return Err(wrong("the name is taken by the recipe's own files; choose another".to_owned()));
        }
        let kinds = Kind::ALL.map(Kind::name);
        let kind = match table.remove("kind") {
            Some(Value::String(kind)) => {
                Kind::by_name(&kind).ok_or_else(|| wrong(nearest("kind", &kind, &kinds)))?
            }
            _ => return Err(wrong(format!("it has no `kind`, which is one of {}", kinds.join(", ")))),
        };
        if table.contains_key("run_dir") {
            let message = "`run_dir` is the recipe's: a step is made in a directory of its name there";
            return Err(wrong(message.to_owned()));
        }
        let mut settings = match table.remove("file") {
            None => Table::new(),
            Some(Value::String(file)) => {
                let text = read_text(Path::new(&file))
                    .map_err(|error| wrong(format!("`file`: {error}: {}", source_of(&error))))?;
                text.parse().map_err(|e: toml::de::Error| wrong(format!("in its file `{file}`: {e}")))?
            }
            Some(_) => return Err(wrong("`file` is no name of a file".to_owned())),
        };
        settings.remove("run_dir");
        merge(&mut settings, table);
        if kind.has_seed() {
            settings.entry("seed").or_insert(Value::Integer(seed));
        }
        Ok(Self { name, kind, settings })
    }
}

/// Finds what the names of steps stand for, and puts the steps into an order in which each can be made.
fn resolve(path: &Path, run_dir: &Path, written: Vec<Written>) -> Result<Vec<Step>, RecipeError> {
    let mut places = BTreeMap::new();
    for (place, step) in written.iter().enumerate() {
        if places.insert(step.name.clone(), place).is_some() {
            let message = "two steps have this name".to_owned();
            return Err(RecipeError::Step { path: path.into(), step: step.name.clone(), message });
        }
    }
    let artefacts: Vec<Vec<Artefact>> =
        written.iter().map(|step| step.kind.artefacts(&step.settings)).collect();
    let names: Vec<&str> = places.keys().map(|name| &**name).collect();
    let mut all = Vec::new();
    for step in &written {
        let wrong =
            |message: String| RecipeError::Step { path: path.into(), step: step.name.clone(), message };
        let mut inputs = Vec::new();
        for Mention { key, wanted, value } in inputs::mentions(step.kind, &step.settings).map_err(wrong)? {
            let Some(reference) = value.strip_prefix('@') else {
                inputs.push(Input { key, source: Source::Path(value.into()) });
                continue;
            };
            let (name, part) =
                reference.split_once('.').map_or((reference, None), |(name, part)| (name, Some(part)));
            let place = *places
                .get(name)
                .ok_or_else(|| wrong(format!("`{key}`: {}", nearest("step", name, &names))))?;
            let artefact = choose(&written[place], &artefacts[place], part, wanted)
                .map_err(|what| wrong(format!("`{key}` is \"{value}\": {what}")))?;
            let path = run_dir.join(name).join(artefact.path);
            inputs.push(Input { key, source: Source::Step { step: place, path } });
        }
        all.push(inputs);
    }
    let order = order(path, &written, &all)?;
    let mut now = vec![0; order.len()];
    for (new, &old) in order.iter().enumerate() {
        now[old] = new;
    }
    let mut steps: Vec<(usize, Step)> = Vec::new();
    for (place, (step, mut inputs)) in written.into_iter().zip(all).enumerate() {
        for input in &mut inputs {
            if let Source::Step { step, .. } = &mut input.source {
                *step = now[*step];
            }
        }
        let Written { name, kind, settings } = step;
        steps.push((now[place], Step { name, kind, settings, inputs }));
    }
    steps.sort_by_key(|(place, _)| *place);
    Ok(steps.into_iter().map(|(_, step)| step).collect())
}

/// The artefact of `step` that `part` names, if it is what is `wanted`.
fn choose(
    step: &Written,
    artefacts: &[Artefact],
    part: Option<&str>,
    wanted: Offer,
) -> Result<Artefact, String> {
    let name = &step.name;
    let parts: Vec<String> =
        artefacts.iter().filter_map(|a| Some(format!("\"@{name}.{}\"", a.part?))).collect();
    let found = artefacts.iter().find(|artefact| artefact.part == part);
    let found = found.ok_or_else(|| match (artefacts.is_empty(), parts.is_empty()) {
        (true, _) => format!("a step of kind `{}` makes nothing that others read", step.kind),
        (false, false) => format!("write {}", parts.join(" or ")),
        (false, true) => format!("`{name}` makes one thing alone; write \"@{name}\""),
    })?;
    if found.offer != wanted {
        return Err(format!("`{name}` makes {}, and this reads {wanted}", found.offer));
    }
    Ok(*found)
}

/// The places of the steps in an order in which each comes after what it reads.
fn order(path: &Path, written: &[Written], inputs: &[Vec<Input>]) -> Result<Vec<usize>, RecipeError> {
    let needs = |step: usize| {
        inputs[step].iter().filter_map(|input| match input.source {
            Source::Step { step, .. } => Some(step),
            Source::Path(_) => None,
        })
    };
    let mut order = Vec::new();
    while order.len() < written.len() {
        let is_next = |&step: &usize| !order.contains(&step) && needs(step).all(|need| order.contains(&need));
        if let Some(next) = (0..written.len()).find(is_next) {
            order.push(next);
            continue;
        }
        // Every step that is left needs one that is left: going from need to need comes round.
        let left = |step: usize| needs(step).find(|need| !order.contains(need));
        let mut way: Vec<usize> = (0..written.len()).filter(|step| !order.contains(step)).take(1).collect();
        let circle = loop {
            let Some(need) = way.last().and_then(|last| left(*last)) else { break way };
            if let Some(first) = way.iter().position(|step| *step == need) {
                way.push(need);
                break way.split_off(first);
            }
            way.push(need);
        };
        let names: Vec<&str> = circle.iter().map(|step| &*written[*step].name).collect();
        let message = format!("the steps are a circle: `{}`", names.join("` needs `"));
        return Err(RecipeError::Parse { path: path.into(), message });
    }
    Ok(order)
}

fn read_text(path: &Path) -> Result<String, RecipeError> {
    let read = |source| RecipeError::Read { path: path.into(), source };
    let wrong = |message: String| RecipeError::Parse { path: path.into(), message };
    let bytes = read_bounded(path, MAX_BYTES).map_err(read)?;
    let bytes = bytes.ok_or_else(|| wrong(format!("it has more than {MAX_BYTES} bytes: not a recipe")))?;
    String::from_utf8(bytes).map_err(|_| wrong("it is not text in UTF-8".to_owned()))
}

fn source_of(error: &RecipeError) -> String {
    std::error::Error::source(error).map_or_else(String::new, ToString::to_string)
}

/// Refuses keys that are not `known`, with the nearest that is.
pub(crate) fn refuse_unknown<'a>(
    keys: impl IntoIterator<Item = &'a String>,
    known: &[&str],
) -> Result<(), String> {
    match keys.into_iter().find(|key| !known.contains(&&***key)) {
        None => Ok(()),
        Some(unknown) => Err(nearest("field", unknown, known)),
    }
}

/// Says that the `what` of this name is unknown, and which is the nearest that is known.
pub(crate) fn nearest(what: &str, unknown: &str, known: &[&str]) -> String {
    let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    let message = format!("unknown field `{unknown}`, expected one of {}", names.join(", "));
    with_nearest_name(&message, &[]).replacen("unknown field", &format!("unknown {what}"), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Recipe, String> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        Recipe::read(file.path(), &Changes::default()).map_err(|error| error.to_string())
    }

    fn refused(steps: &str) -> String {
        read(&format!("run_dir = 'r'\n{steps}")).expect_err(steps)
    }

    #[test]
    fn names_are_resolved_and_steps_come_after_what_they_read() {
        let recipe = read(
            "run_dir = 'r'\nseed = 7\n\
             [[step]]\nname = 'two'\nkind = 'rl'\nmodel = '@one'\ndata = ['@halves.train', 'b.jsonl']\nsteps = 3\n\
             [step.eval]\ndata = '@halves.held-out'\nevery = 1\n[[step.reward]]\nkind = 'model'\nmodel = '@scores'\n\
             [[step]]\nname = 'scores'\nkind = 'prefer'\nmodel = 'base'\ndata = 'p.jsonl'\nseed = 9\n\
             [[step]]\nname = 'one'\nkind = 'sft'\nmodel = 'base'\ndata = 's.jsonl'\n\
             [[step]]\nname = 'halves'\nkind = 'split'\ndata = 'a.jsonl'\nheld_out = 0.5\n",
        )
        .expect("a recipe");
        let names: Vec<&str> = recipe.steps.iter().map(|step| &*step.name).collect();
        assert_eq!(names, ["scores", "one", "halves", "two"]);
        let two = &recipe.steps[3];
        let inputs: Vec<(&str, String)> = two
            .inputs
            .iter()
            .map(|input| {
                let (Source::Path(path) | Source::Step { path, .. }) = &input.source;
                (&*input.key, path.display().to_string())
            })
            .collect();
        assert_eq!(
            inputs,
            [
                ("data[0]", "r/halves/train.jsonl".to_owned()),
                ("data[1]", "b.jsonl".to_owned()),
                ("eval.data", "r/halves/held-out.jsonl".to_owned()),
                ("model", "r/one/model".to_owned()),
                ("reward[0].model", "r/scores/model".to_owned()),
            ]
        );
        assert_eq!(recipe.needs(3), BTreeSet::from([0, 1, 2]));
        assert_eq!(two.settings["seed"].as_integer(), Some(7));
        assert_eq!(recipe.steps[0].settings["seed"].as_integer(), Some(9));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_step() {
        let sft = |name: &str, model: &str| {
            format!("[[step]]\nname = '{name}'\nkind = 'sft'\nmodel = '{model}'\ndata = 'd'\n")
        };
        for (steps, said) in [
            (String::new(), "it has no steps"),
            ("sedd = 1".to_owned(), "did you mean `seed`?"),
            ("[[step]]\nkind = 'sft'".to_owned(), "step 1: it has no `name`"),
            ("[[step]]\nname = 'a b'\nkind = 'sft'".to_owned(), "`a b` is no name of a step"),
            ("[[step]]\nname = 'steps'\nkind = 'sft'".to_owned(), "choose another"),
            (
                "[[step]]\nname = 'a'\nkind = 'stf'".to_owned(),
                "step `a`: unknown kind `stf`, expected one of `pretrain`",
            ),
            ("[[step]]\nname = 'a'\nkind = 'decontminate'".to_owned(), "did you mean `decontaminate`?"),
            (sft("a", "m") + &sft("a", "m"), "two steps have this name"),
            (sft("a", "m") + "run_dir = 'x'", "`run_dir` is the recipe's"),
            (sft("a", "m") + "file = 'none.toml'", "cannot read the recipe `none.toml`: "),
            (sft("cold-start", "m") + &sft("b", "@cold-strat"), "did you mean `cold-start`?"),
            (
                sft("a", "@c") + &sft("b", "@a") + &sft("c", "@b") + &sft("d", "@a"),
                "the steps are a circle: `a` needs `c` needs `b` needs `a`",
            ),
            (sft("a", "@a"), "the steps are a circle: `a` needs `a`"),
            (
                "[[step]]\nname='h'\nkind='split'\ndata='d'\n".to_owned() + &sft("b", "@h"),
                "write \"@h.train\" or \"@h.held-out\"",
            ),
            (
                "[[step]]\nname='h'\nkind='split'\ndata='d'\n".to_owned() + &sft("b", "@h.train"),
                "`h` makes data, and this reads a model",
            ),
            (sft("a", "m") + "[[step]]\nname='e'\nkind='eval'\nmodel='@a.x'\ndata='d'", "write \"@a\""),
            (
                "[[step]]\nname='e'\nkind='report'\nworld='moves'\n".to_owned() + &sft("b", "@e"),
                "makes nothing that others read",
            ),
        ] {
            let error = refused(&steps);
            assert!(error.contains(said), "{steps}: {error}");
        }
        assert!(read("").expect_err("no run_dir").contains("`run_dir` is missing"));
        assert!(read("run_dir = 'r'\nseed = -1").expect_err("a seed").contains("0 or more"));
        assert!(read("run_dir = 'r").expect_err("TOML").contains("line 1"));
    }

    #[test]
    fn a_file_of_settings_is_the_ground_of_a_step() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("sft.toml");
        std::fs::write(
            &file,
            "run_dir = 'x'\nmodel = 'm'\ndata = 'd'\nseed = 3\n[optim]\nlr = 1\nbeta1 = 0.5\n",
        )
        .expect("written");
        let recipe = read(&format!(
            "run_dir = 'r'\n[[step]]\nname = 'a'\nkind = 'sft'\nfile = '{}'\ndata = 'other'\noptim.lr = 2\n",
            file.display()
        ))
        .expect("a recipe");
        let settings: Table =
            "model = 'm'\ndata = 'other'\nseed = 3\n[optim]\nlr = 2\nbeta1 = 0.5\n".parse().expect("TOML");
        assert_eq!(recipe.steps[0].settings, settings);
    }
}
