//! The pages of the run viewer.
//!
//! | path | answer |
//! |---|---|
//! | `/` | the page |
//! | `/api/runs` | the runs that are shown, and how far each is ([`Overview`]) |
//! | `/api/run?run=NAME` | the same of one, with its config, lineage and steps with rollouts |
//! | `/api/differences?run=NAME&run=…` | the settings in which they differ ([`Difference`](crate::differences::Difference)) |
//! | `/api/recipes` | the recipes, with their steps |
//! | `/api/trace?recipe=NAME&id=ROW` | where the row with this id comes from, as the [`Tracer`] says it |
//! | `/api/metrics?run=NAME&from=BYTE&mark=HASH` | lines of metrics.jsonl from there on ([`crate::metrics::MetricsPart`]) |
//! | `/api/rollouts?run=NAME&step=N&…` | completions of a step ([`crate::rollouts::RolloutPart`]) |
//! | `/metrics.csv?run=NAME&run=…&key=KEY&key=…` | metrics as a table; without `key` all of them |
//!
//! Where one run is shown, `run` may be left out.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{Router, body::Body, extract::State, http::header, response::IntoResponse, routing::get};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    ViewError,
    csv::{Csv, CsvBody},
    differences::differences,
    page::Page,
    recipes::MAX_ID,
    rollouts::Query,
    run::Overview,
    runs::{NamedRun, Runs},
    server::{Answer, Parameters, blocking, blocking_json, wrong},
};

/// Long files that are read at once, for all readers together; answers that read short ones need not wait.
const LONG_READS: usize = 2;
const HTML: &str = include_str!("page/page.html");
const STYLES: [&str; 2] = [include_str!("page/palette.css"), include_str!("page/page.css")];
const SCRIPTS: [&str; 11] = [
    include_str!("page/elements.js"),
    include_str!("page/thinking.js"),
    include_str!("page/series.js"),
    include_str!("page/points.js"),
    include_str!("page/chart.js"),
    include_str!("page/charts.js"),
    include_str!("page/runs.js"),
    include_str!("page/steps.js"),
    include_str!("page/recipes.js"),
    include_str!("page/rollouts.js"),
    include_str!("page/page.js"),
];

/// Finds where a row comes from: of a recipe's directory and the row's `id`, a list of the steps and files that have it, from the last
/// back to its source; or why that is not known, in words. The program gives it: it knows what recipes are.
pub type Tracer = Box<dyn Fn(&Path, &str) -> Result<Value, String> + Send + Sync>;

/// The viewer of some runs.
pub struct Viewer {
    runs: Runs,
    tracer: Option<Tracer>,
    long_reads: Semaphore,
}

impl fmt::Debug for Viewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Viewer").field("runs", &self.runs).finish_non_exhaustive()
    }
}

/// A run in the list of runs.
#[derive(Serialize)]
struct Listed {
    /// The name by which the page asks for it.
    run: String,
    #[serde(flatten)]
    overview: Overview,
}

impl Viewer {
    /// The viewer of the runs at `paths`: each a run's directory, or a folder with runs in it.
    ///
    /// # Errors
    /// If there is no run at a path.
    pub fn open(paths: &[PathBuf]) -> Result<Self, ViewError> {
        Ok(Self { runs: Runs::open(paths)?, tracer: None, long_reads: Semaphore::new(LONG_READS) })
    }

    /// With what finds where rows of recipes come from.
    #[must_use]
    pub fn with_tracer(self, tracer: Tracer) -> Self {
        Self { tracer: Some(tracer), ..self }
    }

    /// The names of the recipes that there are now.
    pub fn recipes(&self) -> Vec<String> {
        self.runs.recipes().into_iter().map(|recipe| recipe.name).collect()
    }

    /// How many runs there are now.
    pub fn len(&self) -> usize {
        self.runs.list().len()
    }

    /// Whether there is none any more.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its pages.
    pub fn routes(self) -> Router {
        let page = Page::new(HTML, &STYLES, &SCRIPTS);
        Router::new()
            .route("/", get(async || page))
            .route("/api/runs", get(runs))
            .route("/api/run", get(run))
            .route("/api/recipes", get(recipes))
            .route("/api/trace", get(trace))
            .route("/api/differences", get(different))
            .route("/api/metrics", get(metrics))
            .route("/api/rollouts", get(rollouts))
            .route("/metrics.csv", get(csv))
            .with_state(Arc::new(self))
    }

    /// Waits for this answer's turn to read a long file, which lasts until the result is dropped.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.long_reads.acquire().await.ok()
    }

    fn named(&self, name: String) -> Result<NamedRun, ViewError> {
        let run = self.runs.find(Some(&name))?;
        Ok(NamedRun { name, run })
    }
}

type Shown = State<Arc<Viewer>>;

async fn runs(State(viewer): Shown, Parameters(parameters): Parameters) -> Answer {
    blocking_json(move || {
        let [] = taken([], parameters)?;
        let listed = |NamedRun { name, run }| Listed { run: name, overview: run.overview() };
        Ok(viewer.runs.list().into_iter().map(listed).collect::<Vec<_>>())
    })
    .await
}

async fn run(State(viewer): Shown, Parameters(parameters): Parameters) -> Answer {
    blocking_json(move || {
        let [run] = taken(["run"], parameters)?;
        Ok(viewer.runs.find(run.as_deref())?.overview_with_details())
    })
    .await
}

async fn recipes(State(viewer): Shown, Parameters(parameters): Parameters) -> Answer {
    blocking_json(move || {
        let [] = taken([], parameters)?;
        let runs = viewer.runs.list();
        viewer.runs.recipes().iter().map(|recipe| recipe.overview(&runs)).collect::<Result<Vec<_>, _>>()
    })
    .await
}

async fn trace(State(viewer): Shown, Parameters(parameters): Parameters) -> Answer {
    let _turn = viewer.turn().await;
    let viewer = Arc::clone(&viewer);
    blocking_json(move || {
        let [recipe, id] = taken(["recipe", "id"], parameters)?;
        let (recipe, id) = (recipe.unwrap_or_default(), id.unwrap_or_default());
        if id.is_empty() || id.len() > MAX_ID {
            return Err(wrong("id", &id, "the id of a row"));
        }
        let found = viewer.runs.recipes().into_iter().find(|known| known.name == recipe);
        let found = found.ok_or_else(|| wrong("recipe", &recipe, "which recipe? /api/recipes lists them"))?;
        let Some(tracer) = &viewer.tracer else { return Ok(Value::Array(Vec::new())) };
        tracer(found.path(), &id).map_err(|why| ViewError::Trace { why })
    })
    .await
}

async fn different(State(viewer): Shown, Parameters(parameters): Parameters) -> Answer {
    blocking_json(move || {
        let [names] = lists(["run"], parameters)?;
        let runs = names.into_iter().map(|name| viewer.named(name)).collect::<Result<Vec<_>, _>>()?;
        differences(&runs)
    })
    .await
}

async fn metrics(State(viewer): Shown, Parameters(parameters): Parameters) -> Answer {
    let _turn = viewer.turn().await;
    let viewer = Arc::clone(&viewer);
    blocking_json(move || {
        let [run, from, mark] = taken(["run", "from", "mark"], parameters)?;
        let from = match from {
            Some(from) => from.parse().map_err(|_| wrong("from", &from, "expected a whole number"))?,
            None => 0,
        };
        viewer.runs.find(run.as_deref())?.metrics(from, mark.as_deref().unwrap_or_default())
    })
    .await
}

async fn rollouts(State(viewer): Shown, Parameters(parameters): Parameters) -> Answer {
    let _turn = viewer.turn().await;
    let viewer = Arc::clone(&viewer);
    blocking_json(move || {
        let (names, rest) = parameters.into_iter().partition(|(key, _)| key == "run");
        let [run] = taken(["run"], names)?;
        let query = Query::parse(&rest)?;
        viewer.runs.find(run.as_deref())?.rollouts(&query)
    })
    .await
}

async fn csv(State(viewer): Shown, Parameters(parameters): Parameters) -> Answer {
    let _turn = viewer.turn().await;
    let viewer = Arc::clone(&viewer);
    let (name, table) = blocking(move || {
        let [names, keys] = lists(["run", "key"], parameters)?;
        let runs = if names.is_empty() {
            let run = viewer.runs.find(None)?;
            vec![NamedRun { name: run.name(), run }]
        } else {
            names.into_iter().map(|name| viewer.named(name)).collect::<Result<Vec<_>, _>>()?
        };
        let name = if let [one] = &runs[..] { one.name.clone() } else { "runs".into() };
        Ok((name, Csv::open(runs, &keys)?))
    })
    .await?;
    // A file's name, of characters that no browser or system takes for anything else.
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = name.chars().map(plain).take(100).collect();
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.csv\"")),
    ];
    Ok((headers, Body::new(CsvBody::new(table))).into_response())
}

/// The values of parameters, each given once at most; another parameter is refused.
fn taken<const N: usize>(
    keys: [&str; N],
    parameters: Vec<(String, String)>,
) -> Result<[Option<String>; N], ViewError> {
    let mut values = [const { None }; N];
    for (list, (place, key)) in lists(keys, parameters)?.into_iter().zip(values.iter_mut().zip(keys)) {
        if let [_, again, ..] = &list[..] {
            return Err(wrong(key, again, "it is given twice"));
        }
        *place = list.into_iter().next();
    }
    Ok(values)
}

/// The values of parameters, each given as often as its reader likes; another parameter is refused.
fn lists<const N: usize>(
    keys: [&str; N],
    parameters: Vec<(String, String)>,
) -> Result<[Vec<String>; N], ViewError> {
    let mut values = [const { Vec::new() }; N];
    for (key, value) in parameters {
        match keys.iter().position(|known| *known == key) {
            Some(place) => values[place].push(value),
            None => return Err(wrong(&key, &value, "no such parameter here")),
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_asks_for_nothing_else() {
        crate::page::tests::check(&Page::new(HTML, &STYLES, &SCRIPTS), &SCRIPTS);
    }
}
