//! A measurement as a table for people.

use std::fmt;

use koan_eval::{Interval, Report, Score};
use koan_reward::Outcome;

/// A report, for a terminal.
pub(super) struct Table<'a> {
    pub(super) report: &'a Report,
    pub(super) max_new_tokens: usize,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { all, groups, .. } = self.report;
        writeln!(f, "{} on {} problems, {} completions each", pass_at_1(all), all.problems, all.samples)?;
        writeln!(f, "{}", all.outcomes)?;
        let bad = all.outcomes.of(Outcome::BadReference);
        if bad > 0 {
            writeln!(f, "{bad} completions have a bad reference, and are left out")?;
        }
        writeln!(f)?;
        let rows = groups.iter().map(|group| (format!("{} {}", group.by, group.value), &group.score));
        let rows: Vec<(String, &Score)> = [("all".to_owned(), all)].into_iter().chain(rows).collect();
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let cut = format!("cut at {}", self.max_new_tokens);
        write!(f, "{:width$}{:>10}", "", "problems")?;
        for (name, _) in estimates(all) {
            write!(f, "{name:>25}")?;
        }
        writeln!(f, "{:>10}{cut:>14}", "tokens")?;
        for (name, score) in rows {
            write!(f, "{name:width$}{:>10}", score.problems)?;
            for (_, interval) in estimates(score) {
                write!(f, "{:>25}", shown(&interval))?;
            }
            writeln!(f, "{:>10.1}{:>13.1}%", score.completion_tokens, 100.0 * score.truncated)?;
        }
        Ok(())
    }
}

/// pass@1 in words; where completions are undecided, how many, and pass@1 of the others.
pub(crate) fn pass_at_1(score: &Score) -> String {
    let Score { pass_at_1: all, pass_at_1_decided: decided, undecided, .. } = score;
    let percent = |share: f64| 100.0 * share;
    let [accuracy, low, high] = [all.accuracy, all.low, all.high].map(percent);
    let all = format!("accuracy {accuracy:.1}% (95% interval {low:.1} to {high:.1})");
    if undecided.count == 0 {
        return all;
    }
    let (count, share) = (undecided.count, percent(undecided.share));
    let of_decided = match decided.problems {
        0 => String::new(),
        _ => format!("; {:.1}% of the decided", percent(decided.interval.accuracy)),
    };
    format!("{all}, {count} undecided ({share:.1}%) as not correct{of_decided}")
}

/// The columns of estimates.
fn estimates(score: &Score) -> impl Iterator<Item = (String, Interval)> {
    let pass = score.pass_at_k.iter().map(|pass| (format!("pass@{}", pass.k), pass.estimate.interval));
    let majority = score.majority.iter().map(|vote| (format!("maj@{}", score.samples), vote.interval));
    pass.chain(majority)
}

fn shown(interval: &Interval) -> String {
    let [accuracy, low, high] = [interval.accuracy, interval.low, interval.high].map(|share| 100.0 * share);
    format!("{accuracy:.1}% ({low:.1} to {high:.1})")
}
