//! The step `report`: what the models of a recipe come to in its world, as `result.json` for programs, `report.html` for people, and a table for the
//! terminal. All of it is computed from what the steps drew; nothing is sampled here.
//!
//! ```text
//! DIR/NAME/result.json, report.html, curves.svg, summary.txt       the first two also in DIR
//! ```

mod answers;
mod figure;
mod learned;
mod measure;
mod notation;
mod page;
mod plot;

use std::path::{Path, PathBuf};

use koan_data::{DataFiles, Problem, read_problems};
use koan_eval::{Difference, Judged};
use koan_files::{FilesError, replace, write_synced};
use koan_reward::Outcome;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub(crate) use self::measure::ROWS;
pub use self::notation::demo_in_words;
use self::{
    figure::Figure,
    measure::{Figures, Seen, measure},
};
use crate::{RecipeDir, StepState, own::OwnError, world::Which};

/// Held-out problems that are shown with the answers of all models.
const EXAMPLES: usize = 6;

/// The settings of a step `report`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Report {
    world: Which,
    /// The problems that `answers` are to.
    problems: DataFiles,
    /// The models, in their order.
    stage: Vec<Stage>,
    /// Of the page; by default what the world's is.
    #[serde(default)]
    title: Option<String>,
    /// Pairs of models of which the first is asked to be better: their difference is measured problem by problem.
    #[serde(default)]
    compare: Vec<[String; 2]>,
}

/// A model.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stage {
    name: String,
    /// What it is, in a few words.
    #[serde(default)]
    about: String,
    model: PathBuf,
    /// What a step `eval` drew of it.
    answers: PathBuf,
    /// What a step `generate` drew of it for requests.
    replies: Option<PathBuf>,
}

/// A model, measured.
struct Measured<'a> {
    stage: &'a Stage,
    figures: Figures,
    answers: Vec<Vec<Judged>>,
    /// Of a model that learned from rewards, its steps.
    curve: Vec<Point>,
    /// Of a model that learned from text, its steps.
    learned: Vec<learned::Line>,
}

impl Measured<'_> {
    fn figure(&self, key: &str) -> Option<Figure> {
        self.figures.iter().find(|(own, _)| *own == key).map(|(_, figure)| *figure)
    }
}

/// What a step of reinforcement learning showed, over its completions.
#[derive(Clone, Copy, Debug, Serialize)]
struct Point {
    step: u64,
    accuracy: f64,
    completion_tokens: f64,
    checked: f64,
    language: f64,
}

/// A difference of two models' shares of right answers, problem by problem.
#[derive(Serialize)]
struct Compared<'a> {
    better: &'a str,
    than: &'a str,
    #[serde(flatten)]
    difference: Difference,
}

/// A held-out problem with an answer of each model.
struct Example<'a> {
    problem: &'a Problem,
    answers: Vec<(&'a str, &'a Judged)>,
}

impl Report {
    pub(crate) fn check(&self) -> Result<(), OwnError> {
        let names: Vec<&str> = self.stage.iter().map(|stage| &*stage.name).collect();
        if names.is_empty() {
            return Err(OwnError::Settings(
                "it has no models: write a table [[step.stage]] for each".to_owned(),
            ));
        }
        if let Some(name) =
            names.iter().enumerate().find_map(|(i, name)| names[..i].contains(name).then_some(name))
        {
            return Err(OwnError::Settings(format!("two models are called `{name}`")));
        }
        match self.compare.iter().flatten().find(|name| !names.contains(&&***name)) {
            Some(name) => Err(OwnError::Settings(format!(
                "`compare`: there is no model `{name}`; there are {}",
                names.join(", ")
            ))),
            None => Ok(()),
        }
    }

    pub(crate) fn make(&self, dir: &Path) -> Result<(), OwnError> {
        self.check()?;
        let problems = read_problems(&self.problems)?;
        let run_dir = dir.parent().unwrap_or(dir);
        let steps = states(run_dir)?;
        let stages = self.stage.iter().map(|stage| self.measured(stage, &problems));
        let stages = stages.collect::<Result<Vec<Measured>, _>>()?;
        let compared = self.compared(&stages);
        let examples: Vec<Example> = problems
            .iter()
            .enumerate()
            .take(EXAMPLES)
            .map(|(i, problem)| Example {
                problem,
                answers: stages.iter().map(|of| (&*of.stage.name, &of.answers[i][0])).collect(),
            })
            .collect();
        let result = result(&stages, &compared, &steps, &problems);
        let text = serde_json::to_string_pretty(&result).expect("plain values") + "\n";
        let page = page::html(self, &stages, &compared, &steps, &examples);
        for (name, text) in [("result.json", &text), ("report.html", &page)] {
            replace(&dir.join(name), text.as_bytes())?;
            replace(&run_dir.join(name), text.as_bytes())?;
        }
        if let Some(of) = stages.iter().find(|of| !of.curve.is_empty()) {
            write_synced(&dir.join("curves.svg"), plot::picture(&of.curve).as_bytes())?;
        }
        Ok(replace(&dir.join("summary.txt"), summary(&stages, &compared).as_bytes())?)
    }

    fn measured<'a>(&self, stage: &'a Stage, problems: &[Problem]) -> Result<Measured<'a>, OwnError> {
        let answers = answers::completions(&stage.answers, problems)?;
        let replies = stage.replies.as_deref().map(answers::replies).transpose()?.unwrap_or_default();
        let figures = measure(self.world, problems, &answers, &replies);
        let run = stage.model.parent().unwrap_or(&stage.model);
        let curve = self.curve(run)?;
        let learned = learned::steps(run)?;
        Ok(Measured { stage, figures, answers, curve, learned })
    }

    /// The steps of the run in directory `run`, of what it sampled.
    fn curve(&self, run: &Path) -> Result<Vec<Point>, OwnError> {
        let point = |(step, sampled): (u64, Vec<answers::Sampled>)| {
            // Requests have no right answer alone.
            let of: Vec<_> = sampled.iter().filter(|s| is_question(&s.problem)).collect();
            let n = of.len().max(1) as f64;
            let seen: Vec<Seen> =
                of.iter().map(|s| Seen::at(self.world, &s.problem, &s.completion)).collect();
            Point {
                step,
                accuracy: of.iter().filter(|s| s.is_right).count() as f64 / n,
                completion_tokens: of.iter().map(|s| s.tokens as f64).sum::<f64>() / n,
                checked: seen.iter().filter(|seen| seen.way == "checked").count() as f64 / n,
                language: seen.iter().map(|seen| seen.language).sum::<f64>() / n,
            }
        };
        Ok(answers::rollouts(run)?.into_iter().map(point).collect())
    }

    fn compared<'a>(&'a self, stages: &[Measured]) -> Vec<Compared<'a>> {
        let shares = |name: &str| -> Vec<f64> {
            let of = stages.iter().find(|of| of.stage.name == name);
            let share = |of: &Vec<Judged>| {
                of.iter().filter(|judged| judged.outcome == Outcome::Correct).count() as f64
                    / of.len().max(1) as f64
            };
            of.map_or_else(Vec::new, |of| of.answers.iter().map(share).collect())
        };
        let difference = |[better, than]: &'a [String; 2]| {
            let differences: Vec<f64> = shares(better).iter().zip(shares(than)).map(|(a, b)| a - b).collect();
            Compared { better, than, difference: Difference::of(&differences, 0) }
        };
        self.compare.iter().map(difference).collect()
    }
}

/// The content of `result.json`.
fn result(stages: &[Measured], compared: &[Compared], steps: &[StepState], problems: &[Problem]) -> Value {
    let figures = |of: &Measured| -> Map<String, Value> {
        of.figures.iter().map(|(key, figure)| ((*key).to_owned(), json!(figure))).collect()
    };
    let stage = |of: &Measured| (of.stage.name.clone(), Value::Object(figures(of)));
    let costs: Vec<Value> =
        steps.iter().map(|step| json!({"step": step.name, "kind": step.kind, "cost": step.cost})).collect();
    let curves: Map<String, Value> = stages
        .iter()
        .filter(|of| !of.curve.is_empty())
        .map(|of| (of.stage.name.clone(), json!(of.curve)))
        .collect();
    let learned: Map<String, Value> = stages
        .iter()
        .filter(|of| !of.learned.is_empty())
        .map(|of| (of.stage.name.clone(), json!(of.learned)))
        .collect();
    let models: Map<String, Value> =
        stages.iter().map(|of| (of.stage.name.clone(), json!(of.stage.model))).collect();
    json!({
        "seconds": seconds(steps),
        "problems": problems.len(),
        "stages": stages.iter().map(stage).collect::<Map<String, Value>>(),
        "compared": compared,
        "models": models,
        "steps": costs,
        "curves": curves,
        "learned": learned,
    })
}

/// Seconds of all steps.
fn seconds(steps: &[StepState]) -> f64 {
    steps.iter().map(|step| step.cost.seconds).sum()
}

/// The states of all steps in recipe directory `dir` that are made, in the order in which they were.
fn states(dir: &Path) -> Result<Vec<StepState>, OwnError> {
    let folder = dir.join("steps");
    let entries = std::fs::read_dir(&folder).map_err(FilesError::io("read", &folder))?;
    let mut names: Vec<(std::time::SystemTime, String)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().to_str()?.strip_suffix(".json")?.to_owned();
            Some((entry.metadata().ok()?.modified().ok()?, name))
        })
        .collect();
    names.sort();
    let mut all = Vec::new();
    for (_, name) in names {
        let state = RecipeDir::state(dir, &name).map_err(|error| OwnError::Inputs(error.to_string()))?;
        all.extend(state.filter(|state| state.state == crate::State::Done));
    }
    Ok(all)
}

/// The table of the models, for the terminal.
fn summary(stages: &[Measured], compared: &[Compared]) -> String {
    let shown: Vec<_> = ROWS
        .iter()
        .filter_map(|row| Some((row, row.short?)))
        .filter(|(row, _)| stages.iter().any(|of| of.figure(row.key).is_some()))
        .collect();
    let width = stages.iter().map(|of| of.stage.name.len()).max().unwrap_or(0).max(9);
    let line = |name: &str, cells: Vec<String>| format!("{name:width$}{}\n", cells.concat());
    let cell = |text: &str| format!("  {text:>15}");
    let head = line("", shown.iter().map(|(_, short)| cell(short)).collect());
    let rows = stages.iter().map(|of| {
        let figure = |(row, _): &(&measure::Row, _)| {
            let figure = of.figure(row.key);
            cell(&figure.map_or_else(|| "–".to_owned(), |figure| shown_figure(figure, row.is_share)))
        };
        line(&of.stage.name, shown.iter().map(figure).collect())
    });
    let differences = compared.iter().map(|Compared { better, than, difference }| {
        let Difference { value, low, high } = difference;
        let [value, low, high] = [value, low, high].map(|x| 100.0 * x);
        format!(
            "{better} − {than}: {value:+.1} points of right answers (95% interval {low:+.1} to {high:+.1})\n"
        )
    });
    std::iter::once(head).chain(rows).chain(differences).collect::<Vec<_>>().concat()
}

/// A figure with half its interval: `92.9% ± 1.3`.
fn shown_figure(figure: Figure, is_share: bool) -> String {
    let half = (figure.high - figure.low) / 2.0;
    if is_share {
        format!("{:.1}% ± {:.1}", 100.0 * figure.value, 100.0 * half)
    } else {
        format!("{:.1} ± {half:.1}", figure.value)
    }
}

/// Whether a program can decide what answers `problem`; of a request it can't.
fn is_question(problem: &Problem) -> bool {
    koan_data::counter::request::Request::of_row(problem).is_none()
}
