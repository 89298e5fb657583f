//! `koan recipe show`

use std::{collections::BTreeSet, path::Path};

use anyhow::ensure;
use koan_recipe::{Rates, Recipe, RecipeDir, RecipeError, Source, State, StepState, Trace};
use serde_json::{Value, json};

use super::cost;

/// Prints how far each step of `recipe` is, what it was made from, and what it took.
pub(super) fn show(recipe: &Recipe, rates: Rates, as_json: bool) -> anyhow::Result<()> {
    let states = recipe.steps.iter().map(|step| RecipeDir::state(&recipe.run_dir, &step.name));
    let states = states.collect::<Result<Vec<Option<StepState>>, _>>()?;
    if as_json {
        let steps: Vec<Value> = recipe
            .steps
            .iter()
            .zip(&states)
            .map(|(step, state)| match state {
                Some(state) => serde_json::to_value(state).unwrap_or_default(),
                None => json!({"name": step.name, "kind": step.kind.name(), "state": Value::Null}),
            })
            .collect();
        let all = json!({"recipe": recipe.path, "run_dir": recipe.run_dir, "steps": steps});
        return Ok(say!("{all:#}")?);
    }
    let is_in_use = RecipeDir::is_in_use(&recipe.run_dir);
    say!("{}", recipe.run_dir.display())?;
    let parents: Vec<Option<usize>> = (0..recipe.steps.len()).map(|place| parent(recipe, place)).collect();
    let roots = children(&parents, None);
    for (i, &root) in roots.iter().enumerate() {
        branch(recipe, &states, &parents, root, "", i + 1 == roots.len(), is_in_use)?;
    }
    let made = states.iter().flatten().filter(|state| state.state == State::Done).count();
    say!("\n{made} of {} steps are made", recipe.steps.len())?;
    let begun: Vec<&StepState> = states.iter().flatten().filter(|state| state.cost.seconds > 0.0).collect();
    if begun.is_empty() {
        return Ok(());
    }
    say!("")?;
    cost::print(&begun, rates)
}

/// The step under which step `place` stands in the tree: the one that made its model, or else what it reads first.
fn parent(recipe: &Recipe, place: usize) -> Option<usize> {
    let of = |source: &Source| match source {
        Source::Step { step, .. } => Some(*step),
        Source::Path(_) => None,
    };
    let inputs = &recipe.steps[place].inputs;
    let model = inputs.iter().find(|input| input.key == "model").and_then(|input| of(&input.source));
    model.or_else(|| inputs.iter().find_map(|input| of(&input.source)))
}

/// The steps under `parent`, in their order.
fn children(parents: &[Option<usize>], parent: Option<usize>) -> Vec<usize> {
    (0..parents.len()).filter(|place| parents[*place] == parent).collect()
}

/// Prints step `place` and those under it.
fn branch(
    recipe: &Recipe,
    states: &[Option<StepState>],
    parents: &[Option<usize>],
    place: usize,
    stem: &str,
    is_last: bool,
    is_in_use: bool,
) -> anyhow::Result<()> {
    let (step, state) = (&recipe.steps[place], states[place].as_ref());
    let (fork, below) = if is_last { ("└─", "  ") } else { ("├─", "│ ") };
    say!("{stem}{fork} {} ({})  {}", step.name, step.kind, in_words(state, is_in_use))?;
    let under = children(parents, Some(place));
    let stem = format!("{stem}{below} ");
    let line = format!("{stem}{}", if under.is_empty() { "  " } else { "│ " });
    let from: BTreeSet<String> = match state {
        Some(state) => state.inputs.iter().map(|input| input.from.clone()).collect(),
        None => recipe.needs(place).into_iter().map(|need| format!("@{}", recipe.steps[need].name)).collect(),
    };
    if !from.is_empty() {
        say!("{line}from {}", from.into_iter().collect::<Vec<_>>().join(", "))?;
    }
    if let Some(state) = state {
        let figures = figures(state);
        if !figures.is_empty() {
            say!("{line}{figures}")?;
        }
        if let Some(message) = &state.message {
            for text in message.lines().filter(|text| !text.is_empty()) {
                say!("{line}{}", text.trim())?;
            }
        }
        for output in &state.outputs {
            say!("{line}{}  sha256 {:.12}", output.path.display(), output.sha256)?;
        }
    }
    for (i, &child) in under.iter().enumerate() {
        branch(recipe, states, parents, child, &stem, i + 1 == under.len(), is_in_use)?;
    }
    Ok(())
}

/// Prints where the row `id` comes from.
pub(super) fn trace(recipe: &Recipe, id: &str) -> anyhow::Result<()> {
    let found = koan_recipe::trace(&recipe.run_dir, id)?;
    ensure!(!found.is_empty(), "no row that is made or read has the id `{id}`");
    for (i, trace) in found.iter().enumerate() {
        let Trace { step, path, number, origin, models, .. } = trace;
        let by = step.as_ref().map_or_else(|| "given".to_owned(), |(name, kind)| format!("{name} ({kind})"));
        say!("{}{by}  {}, row {number}", if i == 0 { "" } else { "← " }, path.display())?;
        if !models.is_empty() {
            say!("     written by {}", models.join(" ← "))?;
        }
        if let Some(source) = trace.source() {
            say!("     source: {source}")?;
        }
        if let Some(origin) = origin {
            say!("     origin {origin}")?;
        }
    }
    Ok(())
}

/// Where the row `id` of the recipe in directory `dir` comes from, for the page of `koan view`.
pub(super) fn trace_as_json(dir: &Path, id: &str) -> Result<Value, RecipeError> {
    let as_json = |trace: Trace| {
        let source = trace.source();
        let (step, kind) = trace.step.unzip();
        let Trace { path, number, origin, models, .. } = trace;
        json!({"step": step, "kind": kind, "path": path, "number": number, "origin": origin, "models": models, "source": source})
    };
    Ok(koan_recipe::trace(dir, id)?.into_iter().map(as_json).collect())
}

fn in_words(state: Option<&StepState>, is_in_use: bool) -> &'static str {
    match state.map(|state| state.state) {
        None => "not begun",
        Some(State::Running) if is_in_use => "being made",
        Some(State::Running) => "interrupted",
        Some(State::Done) => "made",
        Some(State::Stopped) => "stopped",
        Some(State::Failed) => "failed",
        Some(State::Waiting) => "waits for people",
    }
}

/// What a step is measured by, in words.
pub(super) fn figures(state: &StepState) -> String {
    let mut all = Vec::new();
    for (key, value) in &state.figures {
        match (key.as_str(), value) {
            ("pass_at_1", Value::Object(interval)) => {
                let percent =
                    |key: &str| 100.0 * interval.get(key).and_then(Value::as_f64).unwrap_or(f64::NAN);
                all.push(format!(
                    "{:.1}% right (95% interval {:.1} to {:.1})",
                    percent("accuracy"),
                    percent("low"),
                    percent("high")
                ));
            }
            (_, Value::Number(n)) if n.is_u64() => all.push(format!("{key} {n}")),
            (_, Value::Number(n)) => all.push(format!("{key} {:.4}", n.as_f64().unwrap_or(f64::NAN))),
            _ => {}
        }
    }
    all.join(", ")
}

/// Seconds, in a unit that suits them.
pub(super) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// What so many seconds cost, if an hour has a price.
pub(super) fn money(seconds: f64, price: Option<f64>) -> String {
    price.map_or_else(String::new, |price| format!(", cost {:.4}", price * seconds / 3600.0))
}
