//! What is changed of a recipe as it is read: its quick form, its directory, single settings.

use std::path::PathBuf;

use koan_train::config::override_key;
use toml::{Table, Value};

use crate::recipe::nearest;

/// What is changed of a recipe as it is read.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Whether its quick form is taken: what its table `[quick]` says, in a directory of its own.
    pub quick: bool,
    /// Takes the place of its directory.
    pub run_dir: Option<PathBuf>,
    /// Settings: `seed=VALUE`, `STEP.KEY=VALUE`. They go before those of the quick form.
    pub set: Vec<String>,
}

impl Changes {
    /// Changes the recipe `table`.
    ///
    /// # Errors
    /// What can't be changed, and why.
    pub(crate) fn apply(&self, table: &mut Table) -> Result<(), String> {
        match (table.remove("quick"), self.quick) {
            (_, false) => {}
            (Some(Value::Table(quick)), true) => apply_quick(table, quick)?,
            (Some(_), true) => return Err("`quick` is no table: write [quick]".to_owned()),
            (None, true) => return Err("it has no quick form: --quick needs a table [quick]".to_owned()),
        }
        for set in &self.set {
            set_key(table, set).map_err(|what| format!("--set {set}: {what}"))?;
        }
        if let Some(dir) = &self.run_dir {
            table.insert("run_dir".to_owned(), Value::String(dir.to_string_lossy().into_owned()));
        }
        Ok(())
    }
}

/// Makes the recipe `table` its quick form: the tables of `quick` are merged into the steps of their names, and its own steps come first.
fn apply_quick(table: &mut Table, mut quick: Table) -> Result<(), String> {
    let own = match quick.remove("step") {
        None => Vec::new(),
        Some(Value::Array(steps)) => steps,
        Some(_) => return Err("`quick.step` is no list of steps: write [[quick.step]]".to_owned()),
    };
    if let (Some(Value::String(dir)), false) = (table.get_mut("run_dir"), quick.contains_key("run_dir")) {
        dir.truncate(dir.trim_end_matches('/').len());
        dir.push_str("-quick");
    }
    for (key, value) in quick {
        // "STEP.KEY" = VALUE, with or without quotes.
        let mut parts = key.split('.');
        let name = parts.next().unwrap_or_default();
        let value = parts.rev().fold(value, |value, key| Table::from_iter([(key.to_owned(), value)]).into());
        match value {
            value if ["run_dir", "seed"].contains(&name) => _ = table.insert(name.to_owned(), value),
            Value::Table(over) => {
                change(step(table, name).map_err(|what| format!("[quick]: {what}"))?, over);
            }
            _ => return Err(format!("[quick]: `{key}` is no setting of a step: write STEP.KEY = VALUE")),
        }
    }
    if let Some(Value::Array(steps)) = table.get_mut("step") {
        steps.splice(0..0, own);
    }
    Ok(())
}

/// Puts what the quick form says into the settings of a step: as [`merge`], and `false` takes away what is no flag.
fn change(settings: &mut Table, over: Table) {
    for (key, value) in over {
        match (settings.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(over)) => change(inner, over),
            (Some(old), Value::Boolean(false)) if !old.is_bool() => _ = settings.remove(&key),
            (_, value) => _ = settings.insert(key, value),
        }
    }
}

/// Changes a setting of a recipe: `seed=3`, or `STEP.optim.lr=1e-4` of the step of this name.
fn set_key(table: &mut Table, set: &str) -> Result<(), String> {
    const EXPECTED: &str = "expected STEP.KEY=VALUE, as in taught.optim.lr=1e-5, or seed=VALUE";
    let (key, _) = set.split_once('=').ok_or(EXPECTED)?;
    let Some((name, _)) = key.trim().split_once('.') else {
        return match key.trim() {
            "seed" | "run_dir" => override_key(table, set),
            _ => Err(EXPECTED.to_owned()),
        };
    };
    override_key(step(table, name)?, set.trim_start().get(name.len() + 1..).unwrap_or_default())
}

/// The step `name` of the recipe `table`.
fn step<'a>(table: &'a mut Table, name: &str) -> Result<&'a mut Table, String> {
    let steps = table.get_mut("step").and_then(Value::as_array_mut).ok_or("the recipe has no steps")?;
    let name_of = |step: &Value| step.get("name").and_then(Value::as_str).map(str::to_owned);
    let names: Vec<String> = steps.iter().filter_map(name_of).collect();
    match steps.iter_mut().find(|step| name_of(step).as_deref() == Some(name)) {
        Some(Value::Table(step)) => Ok(step),
        _ => Err(nearest("step", name, &names.iter().map(|name| &**name).collect::<Vec<_>>())),
    }
}

/// Puts what `over` says into `settings`: tables are merged, all else is replaced.
pub(crate) fn merge(settings: &mut Table, over: Table) {
    for (key, value) in over {
        match (settings.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(over)) => merge(inner, over),
            (_, value) => _ = settings.insert(key, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Recipe;

    const TEXT: &str = "run_dir = 'r/'\n[[step]]\nname = 'a'\nkind = 'sft'\nmodel = 'm'\ndata = 'd'\noptim.lr = 1\noptim.beta1 = 0.5\n";

    fn read(text: &str, changes: &Changes) -> Result<Recipe, String> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        Recipe::read(file.path(), changes).map_err(|error| error.to_string())
    }

    fn changes(quick: bool, sets: &[&str]) -> Changes {
        Changes { quick, run_dir: None, set: sets.iter().map(|set| (*set).to_owned()).collect() }
    }

    #[test]
    fn settings_are_changed_by_the_name_of_their_step() {
        let other =
            Changes { run_dir: Some("other".into()), ..changes(false, &["seed=5", "a.optim.lr=0.5"]) };
        let recipe = read(TEXT, &other).expect("a recipe");
        assert_eq!(recipe.run_dir, Path::new("other"));
        assert_eq!(recipe.steps[0].settings["seed"].as_integer(), Some(5));
        assert_eq!(recipe.steps[0].settings["optim"]["lr"].as_float(), Some(0.5));
        for (set, said) in
            [("lr=1", "expected STEP.KEY=VALUE"), ("b.lr=1", "unknown step `b`"), ("a", "expected")]
        {
            let error = read(TEXT, &changes(false, &[set])).expect_err(set);
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn the_quick_form_has_its_own_steps_settings_and_directory() {
        let quick = "[quick]\na.model = '@tiny'\na.optim.lr = 2\na.eval = false\n\"a.optim.eps\" = 3\nseed = 7\n\
                     [[quick.step]]\nname = 'tiny'\nkind = 'init'\nconfig = 'c.json'\n";
        let text = format!("{TEXT}eval.data = 'e'\n{quick}");
        let full = read(&text, &changes(false, &[])).expect("a recipe");
        assert_eq!((full.steps.len(), &*full.run_dir, full.quick), (1, Path::new("r/"), false));
        let small = read(&text, &changes(true, &["a.optim.eps=4"])).expect("a recipe");
        let names: Vec<&str> = small.steps.iter().map(|step| &*step.name).collect();
        assert_eq!((names, &*small.run_dir, small.quick), (vec!["tiny", "a"], Path::new("r-quick"), true));
        let settings: Table =
            "model = '@tiny'\ndata = 'd'\nseed = 7\noptim = {lr = 2, beta1 = 0.5, eps = 4}\n"
                .parse()
                .expect("TOML");
        assert_eq!(small.steps[1].settings, settings);
        let own = read(&text.replace("seed = 7", "run_dir = 'q'"), &changes(true, &[])).expect("a recipe");
        assert_eq!(own.run_dir, Path::new("q"));
    }

    #[test]
    fn what_is_wrong_with_a_quick_form_is_said() {
        for (quick, said) in [
            ("", "it has no quick form"),
            ("[quick]\nb.steps = 1\n", "[quick]: unknown step `b`"),
            ("[quick]\na = 1\n", "`a` is no setting of a step"),
            ("[quick]\nstep = 1\n", "write [[quick.step]]"),
            ("[[quick]]\na.steps = 1\n", "write [quick]"),
        ] {
            let error = read(&format!("{TEXT}{quick}"), &changes(true, &[])).expect_err(quick);
            assert!(error.contains(said), "{quick}: {error}");
        }
    }
}
