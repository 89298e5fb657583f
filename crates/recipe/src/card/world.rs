//! What the model comes to in the world of its recipe, as a step `report` measured it.

use koan_files::{hash_file, read_text};
use serde_json::Value;

use super::{
    CardError,
    markdown::{code, table},
    records::Records,
};
use crate::report::ROWS;

/// The figures of the model in the recipe's reports; nothing if there are none.
///
/// # Errors
/// A report that was changed since it was made, or can't be read.
pub(super) fn section(records: &Records) -> Result<String, CardError> {
    let own = records.made().state.outputs.first().map(|output| output.sha256.clone()).unwrap_or_default();
    let mut text = String::new();
    let is_report =
        |made: &&super::records::Made| made.state.kind == "report" && made.state.state == crate::State::Done;
    for made in records.all.iter().filter(is_report) {
        let is_own = |stage: usize| {
            let key = format!("stage[{stage}].model");
            made.state.inputs.iter().any(|input| input.key == key && input.sha256 == own)
        };
        let stages =
            made.state.settings.get("stage").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let Some(stage) = (0..stages.len()).find(|stage| is_own(*stage)) else { continue };
        let Some(output) = made.state.outputs.first() else { continue };
        let path = made.place_of(output);
        if hash_file(&path)? != output.sha256 {
            return Err(CardError::Changed {
                what: format!("`{}`", path.display()),
                remedy: "it was changed since; remove the step's directory and run the recipe again",
            });
        }
        let wrong = |what: String| CardError::Report { path: path.clone(), what };
        let result = read_text(&path).map_err(|e| wrong(e.to_string()))?;
        let result: Value = serde_json::from_str(&result).map_err(|e| wrong(e.to_string()))?;
        let name = stages[stage]["name"].as_str().unwrap_or_default();
        let rows = ROWS.iter().filter_map(|row| {
            let figure = &result["stages"][name][row.key];
            let shown = |key: &str| {
                let value = figure[key].as_f64()?;
                Some(if row.is_share { format!("{:.1}%", 100.0 * value) } else { format!("{value:.1}") })
            };
            let interval = format!("{} to {}", shown("low")?, shown("high")?);
            Some(vec![row.title.to_owned(), shown("value")?, interval, figure["n"].to_string()])
        });
        let table =
            table(&["in the recipe's world", "value", "95% interval", "n"], &rows.collect::<Vec<_>>());
        text.extend(["\nOf ", &code(&made.state.name), ", temperature 1:\n\n", &table]);
    }
    Ok(text)
}
