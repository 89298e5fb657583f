//! How the model was trained, step by step.

use std::collections::BTreeMap;

use koan_files::read_text;
use serde_json::Value;

use super::{
    markdown::{code, hash, table},
    records::{Made, Records, Role},
};
use crate::standing::flatten;

/// Settings that are shown of a run, which records all that there are: their names without the tables that they are in.
const MAIN: [&str; 33] = [
    "adapter",
    "advantage",
    "alpha",
    "batch_tokens",
    "batch_pairs",
    "beta",
    "clip",
    "divergence",
    "epochs",
    "group_size",
    "kind",
    "kl",
    "level",
    "loss",
    "lr",
    "max_new_tokens",
    "mode",
    "packing",
    "pairs",
    "precision",
    "preset",
    "problems",
    "rank",
    "rate",
    "rows",
    "schedule",
    "steps",
    "surrogate",
    "target",
    "temperature",
    "warmup_share",
    "warmup_steps",
    "weight",
];

/// The settings of a step that are its own: not what it reads, nor where it is.
fn settings(made: &Made) -> Vec<String> {
    let mut all = BTreeMap::new();
    let config =
        read_text(&made.dir.join("config.toml")).ok().and_then(|text| text.parse::<toml::Table>().ok());
    let config = config.and_then(|config| serde_json::to_value(config).ok());
    flatten("", &config.unwrap_or_default(), &mut all);
    let is_main = |key: &String| {
        let name = key.rsplit('.').next().unwrap_or(key);
        MAIN.contains(&name)
    };
    all.retain(|key, _| is_main(key) && !key.starts_with("eval."));
    if !is_run(made) {
        flatten("", &Value::Object(made.state.settings.clone()), &mut all);
    }
    let reads = |key: &String| made.state.inputs.iter().any(|input| input.key.split('[').next() == Some(key));
    let is_path = |key: &String| Role::of(key) != Role::Other;
    all.retain(|key, _| !key.is_empty() && !reads(key) && !is_path(key) && key != "seed");
    all.iter().map(|(key, value)| code(&format!("{key} = {value}"))).collect()
}

/// Whether it is a run by itself, whose settings are all that there are.
fn is_run(made: &Made) -> bool {
    made.raw.contains_key("stage")
}

/// What a step is measured by while it trains.
fn figures(made: &Made) -> String {
    let shown = ["loss", "eval_loss", "reward", "accuracy", "margin", "kl"];
    let all = made.state.figures.iter().filter(|(key, _)| shown.contains(&&***key));
    let all: Vec<String> =
        all.filter_map(|(key, value)| Some(format!("{key} {:.4}", value.as_f64()?))).collect();
    all.join(", ")
}

/// The section.
pub(super) fn section(records: &Records) -> String {
    let row = |made: &Made| {
        let number = |value: Option<u64>| value.map_or_else(|| "–".to_owned(), |n| n.to_string());
        let names = |role| made.reads(role).map(|input| code(&input.from)).collect::<Vec<_>>().join(", ");
        let outputs: Vec<String> = made.state.outputs.iter().map(|output| hash(&output.sha256)).collect();
        vec![
            code(&made.state.name),
            made.state.kind.clone(),
            names(Role::Model),
            names(Role::Data),
            number(made.state.figures.get("steps").and_then(Value::as_u64)),
            number(made.state.tokens),
            settings(made).join(", "),
            figures(made),
            outputs.join(", "),
        ]
    };
    // A kind is one of ours in a recipe; of a run it is what its file says.
    let rows: Vec<Vec<String>> = records
        .way()
        .into_iter()
        .map(row)
        .map(|mut row| {
            row[1] = code(&row[1]);
            row
        })
        .collect();
    let head =
        ["step", "kind", "models", "data", "steps", "tokens", "settings", "at its end", "made (SHA-256)"];
    let mut text = table(&head, &rows);
    text.push_str(
        "\nTokens are those learned from or sampled. Settings that are not named have Koan's defaults.\n",
    );
    text
}
