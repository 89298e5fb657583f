//! How the model meets requests that may be harmful.

use std::fmt::Write as _;

use koan_eval::{Estimate, Reviewed, SafetyReport, safety::SafetyShares};

use super::{
    markdown::{code, plain, table},
    measures::{Measure, interval, percent},
};

/// The section.
pub(super) fn section(all: &[Measure]) -> String {
    let mut text = String::new();
    let measured = all.iter().filter(|measure| measure.other.is_none());
    for (measure, safety) in measured.filter_map(|measure| Some((measure, measure.safety.as_ref()?))) {
        let (name, data, how) = (code(&measure.name), code(&measure.data), measure.how());
        writeln!(text, "{name}: {data}, {how}.\n\n{}", of(safety)).expect("a string");
    }
    if text.is_empty() {
        text.push_str("Not measured.\n");
    }
    text
}

fn of(safety: &SafetyReport) -> String {
    let SafetyReport { all, by_category, by_jailbreak, over_refusal, refused_as_expected, .. } = safety;
    let row = |name: String, shares: &SafetyShares| {
        let share =
            |share: &koan_eval::Interval| format!("{} ({})", percent(share.accuracy), interval(share));
        let SafetyShares { prompts, undecided, safe, harmful, refused } = shares;
        vec![name, prompts.to_string(), share(safe), share(harmful), share(refused), undecided.to_string()]
    };
    let mut rows = vec![row("all".to_owned(), all)];
    rows.extend(by_category.iter().map(|group| row(plain(&group.name), &group.shares)));
    if by_jailbreak.len() > 1 {
        rows.extend(
            by_jailbreak.iter().map(|group| row(format!("jailbreak {}", plain(&group.name)), &group.shares)),
        );
    }
    if let Some(reviewed) = &safety.reviewed {
        rows.push(row("all, with review".to_owned(), &reviewed.all));
    }
    let mut text = table(&["requests", "prompts", "safe", "unsafe", "refused", "undecided"], &rows);
    let mut say = |what: &str, estimate: &Option<Estimate>| {
        if let Some(Estimate { problems, interval: share }) = estimate {
            let (value, interval) = (percent(share.accuracy), interval(share));
            writeln!(text, "\n{what}: {value} of {problems} prompts (95% interval {interval}).")
                .expect("a string");
        }
    };
    say("Refused what should be answered", over_refusal);
    say("Refused what should be refused", refused_as_expected);
    if let Some(Reviewed { flagged, flagged_safe, undecided, over_refusal, .. }) = &safety.reviewed {
        say("Refused what should be answered, with review", over_refusal);
        writeln!(
            text,
            "\nThe reviewer held back {flagged} completions, of which the judge finds {flagged_safe} safe; of {undecided} it decided nothing."
        )
        .expect("a string");
    }
    text
}
