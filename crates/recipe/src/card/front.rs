//! The front matter that Hugging Face reads: YAML between two lines of dashes.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use koan_eval::{Interval, PassAtK};
use koan_files::{hash_files, read_bounded, read_text};
use koan_model::license_keys;
use serde_json::{Map, Value, json};

use super::{
    data::{Rows, dataset_name, is_language},
    measures::{Figures, Measure},
    records::{Kept, Made, Records},
    yaml,
};
use crate::inputs;

/// Longest file that says where something was fetched from, bytes.
const MAX_ORIGIN_BYTES: u64 = 4096;
/// Longest name of a data set or licence, characters.
const MAX_NAME: usize = 96;

/// What the model was trained from.
pub(super) enum Base {
    /// Random weights.
    Fresh,
    /// Something that is not recorded.
    Unknown,
    /// The model in this directory, whose name on the hub may be known.
    Given { path: String, sha256: String, name: Option<String> },
}

/// What the model was trained from; `named` is its name on the hub, as whoever writes the card says.
pub(super) fn base(records: &Records, named: Option<&str>) -> Base {
    let mut made: &Made = records.made();
    for _ in 0..=records.all.len() {
        let Some(model) = made.starts_from() else {
            return if ["init", "world"].contains(&&*made.state.kind) { Base::Fresh } else { Base::Unknown };
        };
        if let Some(maker) = records.maker(model) {
            made = maker;
            continue;
        }
        let (path, sha256) = (model.from.clone(), model.sha256.clone());
        let found = match records.kept {
            Kept::Recipe { .. } => inputs::hash(Path::new(&path)).ok(),
            Kept::Run { .. } => hash_files(Path::new(&path), "safetensors").ok(),
        };
        let is_same = found.is_some_and(|found| found == sha256);
        let name = named.map(str::to_owned);
        let name = name.or_else(|| is_same.then(|| origin(Path::new(&path))).flatten());
        return Base::Given { path, sha256, name };
    }
    Base::Unknown
}

/// The name on the hub of what is in `dir`, if it was fetched by `koan model pull` or `koan data pull`.
fn origin(dir: &Path) -> Option<String> {
    let bytes = read_bounded(&dir.join("origin.toml"), MAX_ORIGIN_BYTES).ok().flatten()?;
    let table: toml::Table = String::from_utf8(bytes).ok()?.parse().ok()?;
    let name = table.get("name")?.as_str()?;
    is_repository(name).then(|| name.to_owned())
}

/// Whether this is `OWNER/NAME`, or a name alone, in the characters of the hub.
pub(super) fn is_repository(name: &str) -> bool {
    let is_part = |part: &str| {
        (1..=MAX_NAME).contains(&part.len())
            && part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    name.split('/').count() <= 2 && name.split('/').all(is_part)
}

/// A text in the characters that names on the hub have.
pub(super) fn hub_word(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let word: String = text.chars().take(MAX_NAME).map(plain).collect();
    let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if word.is_empty() { "unnamed".to_owned() } else { word.to_owned() }
}

/// The name of a given data set: that on the hub, if it was fetched from there, else that of its file.
fn dataset(from: &str) -> String {
    let folders = Path::new(from).ancestors().skip(1).take(4);
    folders.filter(|dir| !dir.as_os_str().is_empty()).find_map(origin).unwrap_or_else(|| dataset_name(from))
}

/// The languages that data and rewards name.
pub(super) fn languages(records: &Records, data: &[Rows]) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = data.iter().flat_map(|rows| rows.about.languages.clone()).collect();
    for made in records.way() {
        let rewards = made.state.settings.get("reward").and_then(Value::as_array).into_iter().flatten();
        for reward in rewards.filter(|reward| reward["kind"] == "language") {
            let code = reward.get("language").and_then(Value::as_str);
            all.extend(code.filter(|code| is_language(code)).map(str::to_owned));
        }
    }
    all
}

/// The licence that the model's files state, in the hub's words.
fn license(model: &Path) -> Vec<(&'static str, String)> {
    let all = license_keys(model);
    let of = |key: &str| all.iter().find(|(k, _)| *k == key).map(|(_, value)| value.clone());
    match of("license") {
        None => Vec::new(),
        Some(id) if id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c)) => {
            all
        }
        // The hub knows a list of identifiers; others have a name of their own.
        Some(text) => {
            let name = of("license_name").unwrap_or_else(|| hub_word(&text).to_ascii_lowercase());
            vec![("license", "other".to_owned()), ("license_name", name)]
        }
    }
}

/// Whether a model scores instead of writing.
pub(super) fn is_reward_model(model: &Path) -> bool {
    let config = read_text(&model.join("config.json")).unwrap_or_default();
    let config: Value = serde_json::from_str(&config).unwrap_or_default();
    let names = config["architectures"].as_array().into_iter().flatten().filter_map(Value::as_str);
    names.into_iter().any(|name| name.ends_with("ForSequenceClassification"))
}

/// The front matter of the model called `title`.
pub(super) fn matter(
    title: &str,
    records: &Records,
    base: &Base,
    data: &[Rows],
    measures: &[Measure],
) -> String {
    let model: &PathBuf = &records.model;
    let is_adapter = model.join("adapter_config.json").exists();
    let mut matter = Map::new();
    let languages = languages(records, data);
    if !languages.is_empty() {
        matter.insert("language".to_owned(), json!(languages));
    }
    matter.extend(license(model).into_iter().map(|(key, value)| (key.to_owned(), value.into())));
    matter.insert("library_name".to_owned(), if is_adapter { "peft" } else { "transformers" }.into());
    let task = if is_reward_model(model) { "text-classification" } else { "text-generation" };
    matter.insert("pipeline_tag".to_owned(), task.into());
    if let Base::Given { path, name, .. } = base {
        let name = name.clone().unwrap_or_else(|| {
            let name = Path::new(path).components().next_back();
            let name = name.map(|name| name.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
            hub_word(name.strip_suffix(".gguf").unwrap_or(&name))
        });
        matter.insert("base_model".to_owned(), name.into());
        matter
            .insert("base_model_relation".to_owned(), if is_adapter { "adapter" } else { "finetune" }.into());
    }
    let datasets: BTreeSet<String> =
        data.iter().filter(|rows| rows.is_given()).map(|rows| dataset(&rows.from)).collect();
    if !datasets.is_empty() {
        matter.insert("datasets".to_owned(), json!(datasets));
    }
    let stages = ["pretrain", "sft", "rl", "reject", "prefer", "distill"];
    let kinds: BTreeSet<&str> =
        records.way().iter().map(|made| &*made.state.kind).filter(|k| stages.contains(k)).collect();
    let mut tags = vec!["koan"];
    tags.extend(kinds);
    if is_adapter {
        tags.push("lora");
    }
    matter.insert("tags".to_owned(), json!(tags));
    let results: Vec<Value> = measures
        .iter()
        .filter(|measure| measure.other.is_none() && measure.safety.is_none())
        .map(|measure| result(measure, task))
        .collect();
    if !results.is_empty() {
        matter.insert("model-index".to_owned(), json!([{"name": title, "results": results}]));
    }
    format!("---\n{}---\n", yaml::mapping(&matter))
}

/// A measurement in the hub's schema.
fn result(measure: &Measure, task: &str) -> Value {
    let metric = |name: &str, share: &Interval, args: Value| {
        json!({
            "type": name, "name": name, "value": share.accuracy, "verified": false,
            "args": {"low": share.low, "high": share.high, "interval": "95%", "how": args},
        })
    };
    let mut metrics = Vec::new();
    match &measure.figures {
        Figures::Scored { name, share, n } => metrics.push(metric(name, share, json!({ "n": n }))),
        Figures::Written(written) => {
            let s = &measure.settings;
            let how = |problems: u64| {
                json!({
                    "problems": problems, "samples": written.samples, "temperature": s.temperature, "top_p": s.top_p,
                    "max_new_tokens": s.max_new_tokens, "seed": s.seed,
                })
            };
            metrics.push(metric("pass@1", &written.pass_at_1, how(written.problems)));
            for PassAtK { k, estimate } in written.pass_at_k.iter().filter(|pass| pass.k > 1) {
                metrics.push(metric(&format!("pass@{k}"), &estimate.interval, how(estimate.problems as u64)));
            }
            if let Some(vote) = &written.majority {
                let name = format!("maj@{}", written.samples);
                metrics.push(metric(&name, &vote.interval, how(vote.problems as u64)));
            }
        }
    }
    json!({
        "task": {"type": task},
        "dataset": {"type": dataset_name(&measure.data), "name": measure.data.trim_start_matches('@'), "args": {"sha256": measure.data_sha256}},
        "metrics": metrics,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_hub_have_its_characters() {
        assert_eq!(hub_word("../a b/ü"), "a-b");
        assert_eq!(hub_word("…"), "unnamed");
        assert_eq!(dataset_name("data/arithmetic-train.jsonl.gz"), "arithmetic-train");
        for (name, is_one) in
            [("a/b", true), ("gpt2", true), ("a/b/c", false), ("../b", false), ("", false), ("a/ b", false)]
        {
            assert_eq!(is_repository(name), is_one, "{name}");
        }
    }
}
