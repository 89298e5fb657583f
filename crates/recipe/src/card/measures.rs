//! What was measured: reports of `koan eval`, of a recipe's steps or in files, each held to the model by its hash.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use koan_eval::{Interval, MAX_REPORT_BYTES, PassAtK, SafetyReport};
use koan_files::{hash_files, read_bounded};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    CardError,
    markdown::{code, hash, table},
    records::{Made, Records, Role},
};

/// A measurement.
#[derive(Debug)]
pub(super) struct Measure {
    /// The model, if it is not the card's.
    pub(super) other: Option<String>,
    /// The step, or the file of the report.
    pub(super) name: String,
    /// The data, as they were named.
    pub(super) data: String,
    pub(super) data_sha256: String,
    pub(super) settings: Settings,
    pub(super) figures: Figures,
    pub(super) safety: Option<SafetyReport>,
}

/// How it was measured.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Settings {
    pub(super) n: Option<u64>,
    pub(super) seed: Option<u64>,
    pub(super) max_new_tokens: Option<u64>,
    pub(super) temperature: Option<f64>,
    pub(super) top_k: Option<u64>,
    pub(super) top_p: Option<f64>,
    pub(super) min_p: Option<f64>,
    pub(super) system: Option<String>,
    pub(super) reward: Value,
    model_sha256: BTreeMap<String, String>,
    data_sha256: String,
}

/// What was found.
#[derive(Debug)]
pub(super) enum Figures {
    /// Of a model that writes.
    Written(Box<Written>),
    /// Of a reward model: the share of pairs that it orders rightly, or of labels.
    Scored { name: &'static str, share: Interval, n: u64 },
}

/// What completions come to.
#[derive(Debug, Deserialize)]
pub(super) struct Written {
    pub(super) problems: u64,
    pub(super) samples: u64,
    pub(super) pass_at_1: Interval,
    pub(super) pass_at_k: Vec<PassAtK>,
    pub(super) majority: Option<koan_eval::Estimate>,
    pub(super) completion_tokens: f64,
    pub(super) undecided: Undecided,
}

#[derive(Debug, Deserialize)]
pub(super) struct Undecided {
    pub(super) count: u64,
}

/// All measurements of the model, of a recipe's steps and of `files`, and those of the models on the way to it. What is left out is said
/// in `notes`.
pub(super) fn all(
    records: &Records,
    files: &[PathBuf],
    notes: &mut Vec<String>,
) -> Result<Vec<Measure>, CardError> {
    let own = records.made().state.outputs.first().map(|output| output.sha256.clone()).unwrap_or_default();
    let mut all = Vec::new();
    for made in
        records.all.iter().filter(|made| made.state.kind == "eval" && made.state.state == crate::State::Done)
    {
        let name = &made.state.name;
        let models: Vec<_> = made.reads(Role::Model).filter(|input| !input.key.contains('.')).collect();
        let other = match &models[..] {
            [one] if one.sha256 == own => None,
            [base, adapter]
                if [base, adapter].iter().any(|input| input.key == "adapter" && input.sha256 == own) =>
            {
                None
            }
            [one] if is_on_the_way(records, &one.sha256) => Some(one.from.clone()),
            _ => {
                notes.push(format!(
                    "`{name}` measured a model that is not on the way to this one: not in the card"
                ));
                continue;
            }
        };
        let measure = Measure::read(name.clone(), &made.dir.join("report.json"))?;
        check_figures(made, &measure)?;
        let data = made.reads(Role::Data).map(|input| input.from.clone()).collect::<Vec<_>>().join(", ");
        all.push(Measure { other, data, ..measure });
    }
    let weights = hash_files(&records.model, "safetensors")?;
    let is_adapter = records.model.join("adapter_config.json").exists();
    for file in files {
        let measure = Measure::read(file.display().to_string(), file)?;
        let key = if is_adapter { "adapter" } else { "weights" };
        let is_plain = is_adapter || !measure.settings.model_sha256.contains_key("adapter");
        if !(is_plain && measure.settings.model_sha256.get(key) == Some(&weights)) {
            let what =
                "it measured another model than this one, by the hash of its weights: measure this one"
                    .to_owned();
            return Err(CardError::Report { path: file.clone(), what });
        }
        all.push(measure);
    }
    Ok(all)
}

/// Whether a model of this hash was made, or started from, on the way to the model.
fn is_on_the_way(records: &Records, sha256: &str) -> bool {
    records.way().iter().any(|made| {
        made.state.outputs.iter().any(|output| output.sha256 == sha256)
            || made.reads(Role::Model).any(|input| input.sha256 == sha256)
    })
}

/// Refuses a report that is not the one of which the step recorded the figures.
fn check_figures(made: &Made, measure: &Measure) -> Result<(), CardError> {
    let recorded = made.state.figures.get("pass_at_1");
    let recorded = recorded.and_then(|value| serde_json::from_value::<Interval>(value.clone()).ok());
    match (&measure.figures, recorded) {
        (Figures::Written(found), Some(recorded)) if found.pass_at_1 != recorded => Err(CardError::Changed {
            what: format!("`{}`", made.dir.join("report.json").display()),
            remedy: "it was changed since; remove the step's directory and run the recipe again",
        }),
        _ => Ok(()),
    }
}

impl Measure {
    fn read(name: String, path: &Path) -> Result<Self, CardError> {
        let wrong = |what: String| CardError::Report { path: path.into(), what };
        let no_report = |e: serde_json::Error| wrong(format!("it is no report of `koan eval --out`: {e}"));
        let bytes = read_bounded(path, MAX_REPORT_BYTES).map_err(|e| wrong(e.to_string()))?;
        let bytes = bytes.ok_or_else(|| wrong(format!("it has more than {MAX_REPORT_BYTES} bytes")))?;
        let mut report: Map<String, Value> = serde_json::from_slice(&bytes).map_err(no_report)?;
        let data = report.get("data").map(names).unwrap_or_default();
        let take = |report: &mut Map<String, Value>, key: &str| report.remove(key).unwrap_or_default();
        if let Some(sha256) = report.get("reward_model_sha256").and_then(Value::as_str).map(str::to_owned) {
            let (name_of, n) = if report.contains_key("pairs") {
                ("pairwise_accuracy", "pairs")
            } else {
                ("accuracy", "rows")
            };
            let share = serde_json::from_value(take(&mut report, name_of)).map_err(no_report)?;
            let n = report.get(n).and_then(Value::as_u64).unwrap_or(0);
            let data_sha256 = take(&mut report, "data_sha256").as_str().unwrap_or_default().to_owned();
            let settings = Settings {
                model_sha256: BTreeMap::from([("weights".to_owned(), sha256)]),
                ..Settings::default()
            };
            let name_of = if name_of == "accuracy" { "accuracy" } else { "pairwise accuracy" };
            let figures = Figures::Scored { name: name_of, share, n };
            return Ok(Self { other: None, name, data, data_sha256, settings, figures, safety: None });
        }
        if report.contains_key("rows") && report.contains_key("suite") {
            return Err(wrong(
                "it is a whole suite's: name the reports of its sets, which --completions DIR keeps"
                    .to_owned(),
            ));
        }
        let settings: Settings = serde_json::from_value(take(&mut report, "settings")).map_err(no_report)?;
        let written = serde_json::from_value(take(&mut report, "report")).map_err(no_report)?;
        let safety = match take(&mut report, "safety") {
            Value::Null => None,
            safety => Some(serde_json::from_value(safety).map_err(no_report)?),
        };
        let data = if data.is_empty() { "Koan's own prompts".to_owned() } else { data };
        let data_sha256 = settings.data_sha256.clone();
        Ok(Self {
            other: None,
            name,
            data,
            data_sha256,
            settings,
            figures: Figures::Written(written),
            safety,
        })
    }

    /// How it was sampled and judged, in words of Markdown.
    pub(super) fn how(&self) -> String {
        let Settings { seed, max_new_tokens, temperature, top_k, top_p, min_p, system, reward, .. } =
            &self.settings;
        if let Figures::Scored { .. } = self.figures {
            return "scores compared".to_owned();
        }
        let mut all = Vec::new();
        match temperature {
            Some(t) if *t == 0.0 => all.push("greedy".to_owned()),
            Some(t) => all.push(format!("temperature {t}")),
            None => {}
        }
        all.extend(top_k.filter(|k| *k > 0).map(|k| format!("top-k {k}")));
        all.extend(top_p.filter(|p| *p < 1.0).map(|p| format!("top-p {p}")));
        all.extend(min_p.filter(|p| *p > 0.0).map(|p| format!("min-p {p}")));
        all.extend(max_new_tokens.map(|n| format!("at most {n} tokens")));
        all.extend(seed.map(|seed| format!("seed {seed}")));
        all.push(if system.is_some() { "with a system message" } else { "no system message" }.to_owned());
        all.extend(
            reward.get("kind").and_then(Value::as_str).map(|kind| format!("judged by {}", code(kind))),
        );
        all.join(", ")
    }
}

/// The files that a report names.
fn names(data: &Value) -> String {
    match data {
        Value::String(name) => name.clone(),
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        _ => String::new(),
    }
}

/// A share in percent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

/// An interval in percent.
pub(super) fn interval(share: &Interval) -> String {
    format!("{:.1} to {:.1}%", 100.0 * share.low, 100.0 * share.high)
}

/// The section.
pub(super) fn section(all: &[Measure], records: &Records) -> String {
    let mut rows = Vec::new();
    for measure in all.iter().filter(|measure| measure.safety.is_none()) {
        let model = measure.other.as_ref().map_or_else(|| "**this model**".to_owned(), |other| code(other));
        let data = format!("{} ({})", code(&measure.data), hash(&measure.data_sha256));
        let mut add = |metric: String, share: &Interval, n: String| {
            let row =
                [&model, &data, &metric, &percent(share.accuracy), &interval(share), &n, &measure.how()];
            rows.push(row.map(Clone::clone).to_vec());
        };
        match &measure.figures {
            Figures::Scored { name, share, n } => add((*name).to_owned(), share, n.to_string()),
            Figures::Written(written) => {
                let n = |problems: u64| format!("{problems} × {}", written.samples);
                add("pass@1".to_owned(), &written.pass_at_1, n(written.problems));
                for PassAtK { k, estimate } in written.pass_at_k.iter().filter(|pass| pass.k > 1) {
                    add(format!("pass@{k}"), &estimate.interval, n(estimate.problems as u64));
                }
                if let Some(vote) = &written.majority {
                    add(format!("maj@{}", written.samples), &vote.interval, n(vote.problems as u64));
                }
            }
        }
    }
    let mut text = String::new();
    if rows.is_empty() {
        text.push_str("No measurement of this model is recorded.\n");
    } else {
        text.push_str(&table(
            &["model", "data (SHA-256)", "metric", "value", "95% interval", "n", "how"],
            &rows,
        ));
        text.push_str("\nIntervals are over problems; n is problems × samples of each.\n");
        for measure in all.iter().filter(|measure| measure.safety.is_none()) {
            let Figures::Written(written) = &measure.figures else { continue };
            let (name, tokens, undecided) =
                (code(&measure.name), written.completion_tokens, written.undecided.count);
            write!(text, "{name}: {tokens:.1} tokens a completion").expect("a string");
            if undecided > 0 {
                write!(text, ", {undecided} completions undecided, which count as not correct")
                    .expect("a string");
            }
            text.push_str(".\n");
        }
    }
    let held_out = records.made().state.figures.get("pass_at_1");
    if let Some(share) = held_out.and_then(|value| serde_json::from_value::<Interval>(value.clone()).ok()) {
        let (value, interval) = (percent(share.accuracy), interval(&share));
        writeln!(text, "\nWhile it trained, after its last step, it got {value} of its held-out problems right (95% interval {interval}).").expect("a string");
    }
    text
}
