//! `koan eval --suite FILE.toml`: several data sets over several models, as a table, a report and a chart.

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use koan_backend::Backend;
use koan_eval::{
    MAX_REPORT_BYTES, Set, SetKind, Suite, SuiteRow, SuiteTable, chart, differences, safety::Jailbreak,
};
use koan_files::{hash_file, read_bounded, replace};
use koan_generate::{Counters, Drafts, Sampling};
use koan_infer::PromptStyle;
use koan_model::checkpoint::Place;
use serde_json::{Map, Value, json};

use super::measure::{Cost, Hashes, Measure, Prepared};
use crate::{device::Running, interrupt::stop_on_signal, output::Output};

/// What is asked of a suite.
pub(super) struct Measured {
    pub(super) suite: PathBuf,
    /// The models, each as it was given and as it lies.
    pub(super) models: Vec<(PathBuf, Place)>,
    pub(super) sequences: usize,
    /// Where drafts come from.
    pub(super) drafts: Drafts,
    /// Bytes for keys, values and passes; none: most of what is free.
    pub(super) memory: Option<usize>,
    pub(super) price_per_hour: Option<f64>,
    /// Where the report goes.
    pub(super) out: Option<PathBuf>,
    /// Where the chart goes.
    pub(super) chart: Option<PathBuf>,
    /// The folder of completions and reports of each set.
    pub(super) folder: Option<PathBuf>,
}

/// A model on a set.
struct Entry<'a> {
    model: &'a str,
    path: &'a Path,
    /// The set, and the way in which it is measured.
    set: String,
    prepared: Prepared,
    /// Its report, if the folder keeps it.
    report: Option<PathBuf>,
}

impl Measured {
    pub(super) fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        let suite = Suite::read(&self.suite)?;
        for path in self.out.iter().chain(&self.chart) {
            Output::check(path)?;
        }
        let names = short_names(self.models.iter().map(|(path, _)| &**path));
        let mut hashes = Hashes::default();
        let mut entries = Vec::new();
        // Everything is checked before the first set is measured.
        let variants =
            suite.sets.iter().flat_map(|set| set.variants().into_iter().map(move |way| (set, way)));
        for (set, (set_name, system)) in variants {
            for ((path, place), name) in self.models.iter().zip(&names) {
                let of_set = || format!("set `{set_name}`, model `{name}`");
                let folder = self.folder.as_deref().map(|folder| folder.join(name));
                if let Some(folder) = &folder {
                    fs::create_dir_all(folder)
                        .with_context(|| format!("cannot make `{}`", folder.display()))?;
                }
                let file = |extension| folder.as_ref().map(|dir| dir.join(format!("{set_name}.{extension}")));
                let measure = self.measure(set, system, path, place).with_context(of_set)?;
                let measure = Measure { completions: file("jsonl"), ..measure };
                let prepared = measure.prepare(b, running, &mut hashes).with_context(of_set)?;
                entries.push(Entry {
                    model: name,
                    path,
                    set: set_name.clone(),
                    prepared,
                    report: file("json"),
                });
            }
        }
        let stop = stop_on_signal("giving up what is not whole");
        let mut rows = Vec::new();
        for (i, entry) in entries.iter().enumerate() {
            let Entry { model, set, prepared, .. } = entry;
            let known = entry.known()?;
            let state = if known.is_some() { ", measured before" } else { "" };
            note!("{} of {}: {} on {}{state}", i + 1, entries.len(), model, set);
            let report = if let Some(report) = known {
                report
            } else {
                let measured = prepared.run(b, running, &stop)?;
                let cost = measured.cost(self.price_per_hour);
                let report = prepared.report(&measured, &cost, running);
                if let Some(path) = &entry.report {
                    write(path, &report)?;
                }
                prepared.keep(measured)?;
                report
            };
            let row = SuiteRow::of(model, entry.path, set, report, self.price_per_hour);
            rows.push(SuiteRow { report: entry.report.clone(), ..row.context("its report")? });
        }
        if let Some(path) = &self.out {
            write(
                path,
                &json!({
                    "suite": self.suite, "suite_sha256": hash_file(&self.suite)?, "price_per_hour": self.price_per_hour,
                    "device": running.to_string(), "rows": rows,
                }),
            )?;
        }
        if let Some(path) = &self.chart {
            replace(path, chart(&rows).as_bytes())?;
        }
        let seconds: f64 = rows.iter().map(|row| row.seconds).sum();
        let tokens = rows.iter().map(|row| row.tokens).sum();
        let price_per_hour = self.price_per_hour;
        let cost = Cost { seconds, tokens, price_per_hour, counters: Counters::default() };
        Ok(say!("{}\n{cost} ({running})", SuiteTable(&rows))?)
    }

    fn measure(
        &self,
        set: &Set,
        system: Option<&str>,
        path: &Path,
        place: &Place,
    ) -> anyhow::Result<Measure> {
        let jailbreaks = set.jailbreaks.as_ref().map_or_else(|| Ok(Vec::new()), Jailbreak::read)?;
        let &Set { temperature, top_k, top_p, min_p, max_new_tokens, seed, n, raw, .. } = set;
        Ok(Measure {
            model: path.to_owned(),
            place: place.clone(),
            data: set.data.clone(),
            safety: (set.kind == SetKind::Safety).then_some(jailbreaks),
            reward: set.reward(),
            reviewer: set.reviewer(),
            n,
            ks: set.ks(),
            sampling: Sampling {
                temperature,
                top_k,
                top_p,
                min_p,
                max_new_tokens,
                seed,
                ..Sampling::default()
            },
            style: PromptStyle { raw, system: system.map(str::to_owned) },
            sequences: self.sequences,
            drafts: self.drafts,
            memory: self.memory,
            completions: None,
        })
    }
}

impl Entry<'_> {
    /// Its report, if it was measured before with these settings.
    fn known(&self) -> anyhow::Result<Option<Value>> {
        let Some(path) = self.report.as_deref().filter(|path| path.exists()) else { return Ok(None) };
        let remedy = "remove the file to measure again, or name another folder by --completions";
        let bytes = read_bounded(path, MAX_REPORT_BYTES)
            .with_context(|| format!("cannot read `{}`", path.display()))?
            .with_context(|| format!("`{}` is too large for a report; {remedy}", path.display()))?;
        let report: Value = serde_json::from_slice(&bytes)
            .with_context(|| format!("`{}` is no report; {remedy}", path.display()))?;
        let settings = report.get("settings").and_then(Value::as_object);
        let differences = differences(settings.unwrap_or(&Map::new()), &self.prepared.settings);
        if !differences.is_empty() {
            bail!(
                "`{}` was measured with other settings: {}; {remedy}",
                path.display(),
                differences.join(", ")
            );
        }
        Ok(Some(report))
    }
}

fn write(path: &Path, value: &Value) -> anyhow::Result<()> {
    let mut out = Output::open(Some(path))?;
    out.line(value)?;
    out.finish()
}

/// Names of models for tables and folders: the last part of each path that says something; where two would be the same, all parts.
fn short_names<'a>(paths: impl Iterator<Item = &'a Path>) -> Vec<String> {
    let parts = |path: &Path| -> Vec<String> {
        let plain = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let words = path.components().filter_map(|part| match part {
            Component::Normal(part) => Some(part.to_string_lossy().chars().map(plain).collect()),
            _ => None,
        });
        words.collect()
    };
    let short = |parts: &Vec<String>| match &parts[..] {
        [.., run, last] if last == "model" => run.clone(),
        [.., last] => last.clone(),
        [] => "model".to_owned(),
    };
    let parts: Vec<Vec<String>> = paths.map(parts).collect();
    let all: Vec<String> = parts.iter().map(short).collect();
    let is_alone = |name: &String| all.iter().filter(|other| *other == name).count() == 1;
    all.iter()
        .zip(&parts)
        .map(|(name, parts)| if is_alone(name) { name.clone() } else { parts.join("-") })
        .collect()
}

/// Refuses a model that is given twice.
pub(super) fn check_models(models: &[PathBuf]) -> anyhow::Result<()> {
    let mut seen = BTreeSet::new();
    for name in short_names(models.iter().map(|path| &**path)) {
        ensure!(seen.insert(name.clone()), "--model: `{name}` is given twice");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_have_short_names_that_differ() {
        let names = |paths: &[&str]| short_names(paths.iter().map(Path::new));
        assert_eq!(names(&["models/smollm2", "runs/first/model"]), ["smollm2", "first"]);
        assert_eq!(names(&["runs/a/model", "runs/b/model", "x/b"]), ["a", "runs-b-model", "x-b"]);
        assert_eq!(names(&["/", "../m x/"]), ["model", "m_x"]);
        assert!(check_models(&["m".into(), "./m".into()]).is_err());
        assert!(check_models(&["m".into(), "n/m".into()]).is_ok());
    }
}
