//! What the model took.

use super::{
    markdown::{code, table},
    records::{Made, Records},
};

/// Joules of an hour of a watt.
const HOUR: f64 = 3600.0;

/// The section: seconds and tokens; operations, energy and money where they are recorded.
pub(super) fn section(records: &Records) -> String {
    let way = records.way();
    let optional: [(&str, &str); 3] = [("flops", "FLOPs"), ("energy_wh", "energy, Wh"), ("money", "money")];
    let known: Vec<(&str, &str)> =
        optional.into_iter().filter(|(key, _)| way.iter().any(|made| made.number(key).is_some())).collect();
    let cell = |key: &str, value: Option<f64>| match (key, value) {
        (_, None) => "not recorded".to_owned(),
        ("flops", Some(n)) => format!("{n:.3e}"),
        (_, Some(n)) => format!("{n:.4}"),
    };
    let row = |made: &&Made| {
        let seconds = made.number("seconds").map_or_else(|| "not recorded".to_owned(), |s| format!("{s:.2}"));
        let mut row = vec![code(&made.state.name), seconds, made.state.tokens.unwrap_or(0).to_string()];
        row.extend(known.iter().map(|(key, _)| cell(key, made.number(key))));
        row
    };
    let mut rows: Vec<Vec<String>> = way.iter().map(row).collect();
    let seconds: f64 = way.iter().map(|made| made.state.cost.seconds).sum();
    let tokens: u64 = way.iter().filter_map(|made| made.state.tokens).sum();
    let mut whole =
        vec!["**all**".to_owned(), format!("{seconds:.2} ({:.3} h)", seconds / HOUR), tokens.to_string()];
    whole.extend(known.iter().map(|(key, _)| {
        // A sum of which a part is not known is none.
        let all: Option<Vec<f64>> =
            way.iter().filter(|made| made.state.tokens.is_some()).map(|made| made.number(key)).collect();
        cell(key, all.map(|all| all.iter().sum()))
    }));
    rows.push(whole);
    let mut head = vec!["step", "seconds", "tokens"];
    head.extend(known.iter().map(|(_, name)| *name));
    let mut text = table(&head, &rows);
    if !known.iter().any(|(key, _)| *key == "energy_wh") {
        text.push_str("\nEnergy is not recorded.\n");
    }
    if !known.iter().any(|(key, _)| *key == "money") {
        text.push_str("\nMoney is not recorded.\n");
    }
    text.push_str("\nMeasurements and what was tried before are not in these sums.\n");
    text
}
