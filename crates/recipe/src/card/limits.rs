//! What is known of the model's limits, from what was and was not done.

use super::{
    contamination::{Cleaned, not_compared},
    data::Rows,
    front::languages,
    markdown::code,
    measures::{Figures, Measure},
    records::Records,
};

/// Fewer problems than this say little.
const FEW: u64 = 100;

/// The section.
pub(super) fn section(records: &Records, data: &[Rows], measures: &[Measure], cleaned: &[Cleaned]) -> String {
    let mut all: Vec<String> = Vec::new();
    let own: Vec<&Measure> = measures.iter().filter(|measure| measure.other.is_none()).collect();
    if own.iter().all(|measure| measure.safety.is_some()) {
        all.push("What it can do was not measured after training.".to_owned());
    }
    if !own.iter().any(|measure| measure.safety.is_some()) {
        all.push("How it meets requests that may be harmful was not measured.".to_owned());
    }
    if cleaned.is_empty() {
        all.push(
            "Whether its data hold parts of the tests is not known: no decontamination was done.".to_owned(),
        );
    } else if !not_compared(records).is_empty() {
        all.push("A part of its data was not compared with any test.".to_owned());
    }
    for measure in &own {
        let n = match &measure.figures {
            Figures::Written(written) => written.problems,
            Figures::Scored { n, .. } => *n,
        };
        if n < FEW && measure.safety.is_none() {
            all.push(format!("{} has only {n} problems: see its interval.", code(&measure.name)));
        }
        if data.iter().any(|rows| rows.sha256 == measure.data_sha256) {
            all.push(format!(
                "{} measured it on data that its training read, byte for byte: that says nothing about other data.",
                code(&measure.name)
            ));
        }
    }
    let by_rule = records.way().iter().any(|made| made.state.kind == "vote");
    let preferences = data.iter().filter(|rows| rows.about.shape == Some("preferences"));
    for rows in preferences {
        let from = code(&rows.from);
        let maker =
            records.all.iter().find(|made| super::records::step_of(&rows.from) == Some(&made.state.name));
        all.push(match maker.map(|made| &*made.state.kind) {
            Some("label") => format!("The preferences {from} are those of the people who were asked."),
            _ if by_rule => format!(
                "The preferences {from} come from a stated rule with noise, which stands in for people."
            ),
            Some("reject") => format!("The preferences {from} come from rewards, not from people."),
            _ if rows.about.has_annotators => {
                format!("The preferences {from} name their annotators; nothing else is recorded of them.")
            }
            Some(kind) => {
                format!("The preferences {from} were made by a step of kind {}, not by people.", code(kind))
            }
            None => format!("Who judged the preferences {from} is not recorded."),
        });
    }
    match languages(records, data) {
        languages if languages.is_empty() => {
            all.push("Which languages it reads and writes is not recorded.".to_owned());
        }
        languages => all.push(format!(
            "The languages that its data and rewards name: {}. Of others nothing is recorded.",
            languages.into_iter().collect::<Vec<_>>().join(", ")
        )),
    }
    all.push(
        "It was trained once, by one seed: how far another seed would differ is not recorded.".to_owned(),
    );
    format!("- {}\n", all.join("\n- "))
}
