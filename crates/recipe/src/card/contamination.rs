//! Whether tests were in the data: what decontamination compared and dropped, and what passed by it.

use std::{collections::BTreeSet, fmt::Write as _};

use koan_files::read_bounded;
use serde::Deserialize;

use super::{
    CardError,
    markdown::{code, hash, table},
    measures::Measure,
    records::{Made, Records, Role, step_of},
};

/// Longest report of a decontamination that is read, bytes.
const MAX_BYTES: u64 = 1 << 28;

/// What a decontamination did.
#[derive(Debug)]
pub(super) struct Cleaned {
    step: String,
    report: Report,
}

#[derive(Debug, Deserialize)]
struct Report {
    ngram: u64,
    rows: u64,
    removed: u64,
    cut: u64,
    against: Vec<Test>,
}

#[derive(Debug, Deserialize)]
struct Test {
    path: String,
    sha256: String,
    items: u64,
    found: u64,
}

/// The decontaminations on the way to the model.
pub(super) fn all(records: &Records) -> Result<Vec<Cleaned>, CardError> {
    let steps = records.way().into_iter().filter(|made| made.state.kind == "decontaminate");
    let of = |made: &Made| {
        let path = made.dir.join("report.json");
        let wrong = |what: String| CardError::Report { path: path.clone(), what };
        let bytes = read_bounded(&path, MAX_BYTES).map_err(|e| wrong(e.to_string()))?;
        let bytes = bytes.ok_or_else(|| wrong(format!("it has more than {MAX_BYTES} bytes")))?;
        let report: Report = serde_json::from_slice(&bytes)
            .map_err(|e| wrong(format!("it is no report of a decontamination: {e}")))?;
        let kept = made.state.figures.get("rows").and_then(serde_json::Value::as_u64);
        if kept.is_some_and(|kept| kept + report.removed != report.rows) {
            return Err(CardError::Changed {
                what: format!("`{}`", path.display()),
                remedy: "it was changed since; remove the step's directory and run the recipe again",
            });
        }
        Ok(Cleaned { step: made.state.name.clone(), report })
    };
    steps.map(of).collect()
}

/// Where data that the model learned from comes from without having passed a decontamination: files, and steps that make rows of
/// nothing.
pub(super) fn not_compared(records: &Records) -> BTreeSet<String> {
    let mut origins = BTreeSet::new();
    let mut open: Vec<&Made> = records.way().into_iter().filter(|made| made.makes_model()).collect();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    while let Some(made) = open.pop() {
        for input in made.reads(Role::Data) {
            let Some(maker) = records.maker(input) else {
                if step_of(&input.from).is_none() {
                    origins.insert(input.from.clone());
                }
                continue;
            };
            if maker.state.kind == "decontaminate" || !seen.insert(&maker.state.name) {
                continue;
            }
            if maker.reads(Role::Data).next().is_none() {
                origins.insert(input.from.clone());
            }
            open.push(maker);
        }
    }
    origins
}

/// The section.
pub(super) fn section(records: &Records, all: &[Cleaned], measures: &[Measure]) -> String {
    let mut text = String::new();
    if all.is_empty() {
        text.push_str(
            "**No decontamination was done**: whether the data hold parts of the tests is not known.\n\n",
        );
    } else {
        let mut rows = Vec::new();
        for Cleaned { step, report } in all {
            for test in &report.against {
                rows.push(vec![
                    code(step),
                    format!("{} ({})", code(&test.path), hash(&test.sha256)),
                    format!("{} of {}", test.found, test.items),
                    format!("{} words", report.ngram),
                    format!("{} dropped, {} cut, of {}", report.removed, report.cut, report.rows),
                ]);
            }
        }
        text.push_str(&table(&["step", "compared with (SHA-256)", "items found", "match", "rows"], &rows));
        text.push_str("\nThis finds shared words in a row, and not paraphrases or translations.\n\n");
    }
    let compared: BTreeSet<&str> =
        all.iter().flat_map(|cleaned| &cleaned.report.against).map(|test| &*test.sha256).collect();
    let left_out = not_compared(records);
    if !left_out.is_empty() {
        let names: Vec<String> = left_out.iter().map(|name| code(name)).collect();
        writeln!(text, "Data that were not compared with any test: {}.", names.join(", ")).expect("a string");
    }
    let mut tests = BTreeSet::new();
    for measure in measures.iter().filter(|measure| measure.other.is_none() && measure.safety.is_none()) {
        if !compared.contains(&*measure.data_sha256) {
            tests.insert(format!("{} ({})", code(&measure.data), hash(&measure.data_sha256)));
        }
    }
    if !tests.is_empty() && !all.is_empty() {
        let names: Vec<String> = tests.into_iter().collect();
        writeln!(
            text,
            "Measured by, and not among the tests that data were compared with: {}.",
            names.join(", ")
        )
        .expect("a string");
    }
    text
}
