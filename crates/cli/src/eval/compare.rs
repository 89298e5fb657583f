//! `koan eval --compare A.json B.json`: whether one of two measured models is better.

use std::{fmt, path::Path};

use koan_eval::{Better, Comparison, Difference, Measurement};
use serde_json::Value;

use crate::output::Output;

/// Longest value of a setting that is shown, characters.
const MAX_SHOWN: usize = 60;

/// Compares the measurement of report `b` with that of `a`.
pub(super) fn run(a: &Path, b: &Path, seed: u64, out: Option<&Path>) -> anyhow::Result<()> {
    out.map_or(Ok(()), Output::check)?;
    let comparison = Comparison::of(&Measurement::read(a)?, &Measurement::read(b)?, seed)?;
    if let Some(path) = out {
        let mut out = Output::open(Some(path))?;
        out.line(&comparison)?;
        out.finish()?;
    }
    Ok(say!("{}", Shown(&comparison))?)
}

/// A comparison, for a terminal.
struct Shown<'a>(&'a Comparison);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison { a, b, problems, unjudged, difference, p, better, changed, one_each, .. } = self.0;
        for (name, side) in [("A", a), ("B", b)] {
            let (right, tokens) = (100.0 * side.pass_at_1, side.completion_tokens);
            writeln!(
                f,
                "{name}  {right:5.1}% right, {tokens:.1} tokens   {} ({})",
                side.report.display(),
                side.model
            )?;
        }
        let alone = match (a.alone, b.alone) {
            (0, 0) => String::new(),
            (a, b) => format!("; {a} are in A alone, {b} in B alone"),
        };
        writeln!(f, "on the {problems} problems that both have{alone}")?;
        if *unjudged > 0 {
            writeln!(f, "{unjudged} more have a bad reference in one of them, and are left out")?;
        }
        if self.0.same_weights {
            writeln!(f, "both measure the same weights")?;
        }
        for differs in &self.0.differs {
            writeln!(
                f,
                "`{}` differs: {} in A, {} in B",
                differs.setting,
                shown(&differs.a),
                shown(&differs.b)
            )?;
        }
        let verdict = match better {
            Some(Better::A) => "A is better",
            Some(Better::B) => "B is better",
            None if difference.excludes_zero() => "too few problems changed to say which is better",
            None => "neither is better as far as this shows",
        };
        writeln!(f, "\nB − A: {} points of pass@1, p = {p:.4}: {verdict}", points(difference))?;
        writeln!(
            f,
            "problems: B is better on {}, worse on {}, the same on {}",
            changed.better, changed.worse, changed.same
        )?;
        writeln!(
            f,
            "one completion of each: both right on {:.1} problems, A alone {:.1}, B alone {:.1}, neither {:.1}",
            one_each.both, one_each.only_a, one_each.only_b, one_each.neither
        )?;
        let Difference { value, low, high } = self.0.completion_tokens;
        write!(f, "tokens per completion: {value:+.1} (95% interval {low:+.1} to {high:+.1})")
    }
}

fn points(difference: &Difference) -> String {
    let [value, low, high] = [difference.value, difference.low, difference.high].map(|share| 100.0 * share);
    format!("{value:+.1} (95% interval {low:+.1} to {high:+.1})")
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
