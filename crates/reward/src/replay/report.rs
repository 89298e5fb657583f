//! Totals of a replay.

use super::Judged;
use crate::Outcome;
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::fmt;
use std::time::Duration;

/// How many ids or reasons are kept of each kind; all are counted.
const KEPT: usize = 100;

/// The totals of a replay.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How many completions had each outcome.
    pub outcomes: Summary,
    /// Mean score of those that have one; none: all are masked.
    pub score: Option<f64>,
    /// Lines that were not completions to judge.
    pub bad_lines: usize,
    /// The first bad references: the problem's id, and what is wrong with it.
    pub bad_references: Vec<(String, String)>,
    /// How the verdicts agree with what was expected, if anything was.
    pub agreement: Option<Agreement>,
    /// Seconds it took.
    pub seconds: f64,
    /// Threads that judged.
    pub threads: usize,
    /// Median time of a verdict, µs, to within 3%.
    pub median_us: f64,
    /// Longest time of a verdict, µs.
    pub max_us: f64,
    #[serde(skip)]
    sum: (f64, usize),
}

/// How verdicts agree with what was expected: a completion is accepted where its outcome is correct.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Agreement {
    /// Completions with `expected`.
    pub expected: usize,
    /// Accepted and expected to be, or neither.
    pub agree: usize,
    /// Accepted, and not expected to be.
    pub false_accepts: usize,
    /// Not accepted, and expected to be: wrong or unparsable.
    pub false_rejects: usize,
    /// Undecided or with a bad reference: neither accepted nor rejected.
    pub masked: usize,
    /// The first ids of false accepts.
    pub false_accept_ids: Vec<String>,
    /// The first ids of false rejects.
    pub false_reject_ids: Vec<String>,
}

impl Report {
    pub(super) fn new(threads: usize) -> Self {
        Self {
            outcomes: Summary::default(),
            score: None,
            bad_lines: 0,
            bad_references: Vec::new(),
            agreement: None,
            seconds: 0.0,
            threads,
            median_us: 0.0,
            max_us: 0.0,
            sum: (0.0, 0),
        }
    }

    pub(super) fn count(&mut self, judged: &Judged) {
        let outcome = judged.judgement.outcome();
        self.outcomes.count(outcome);
        if let Some(score) = judged.judgement.reward {
            self.sum = (self.sum.0 + f64::from(score), self.sum.1 + 1);
            self.score = Some(self.sum.0 / self.sum.1 as f64);
        }
        let id = || match judged.sample {
            Some(sample) => format!("{}/{sample}", judged.problem.id),
            None => judged.problem.id.clone(),
        };
        let is_new = self.bad_references.last().is_none_or(|(last, _)| *last != judged.problem.id);
        if outcome == Outcome::BadReference && is_new && self.bad_references.len() < KEPT {
            self.bad_references.push((judged.problem.id.clone(), judged.judgement.terms[0].reason.clone()));
        }
        if let Some(expected) = judged.expected {
            self.agreement.get_or_insert_default().count(outcome, expected, id);
        }
    }
}

impl Agreement {
    fn count(&mut self, outcome: Outcome, expected: bool, id: impl Fn() -> String) {
        let keep = |ids: &mut Vec<String>| {
            if ids.len() < KEPT {
                ids.push(id());
            }
        };
        self.expected += 1;
        match (outcome, expected) {
            (Outcome::Undecided | Outcome::BadReference, _) => self.masked += 1,
            (Outcome::Correct, false) => {
                self.false_accepts += 1;
                keep(&mut self.false_accept_ids);
            }
            (Outcome::Wrong | Outcome::Unparsable, true) => {
                self.false_rejects += 1;
                keep(&mut self.false_reject_ids);
            }
            (Outcome::Correct, true) | (Outcome::Wrong | Outcome::Unparsable, false) => self.agree += 1,
        }
    }
}

/// How many completions had each outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    counts: [usize; Outcome::ALL.len()],
}

impl Summary {
    /// Counts one more `outcome`.
    pub fn count(&mut self, outcome: Outcome) {
        self.counts[outcome as usize] += 1;
    }

    /// How many had `outcome`.
    pub fn of(&self, outcome: Outcome) -> usize {
        self.counts[outcome as usize]
    }

    /// How many were judged.
    pub fn total(&self) -> usize {
        self.counts.iter().sum()
    }
}

impl fmt::Display for Summary {
    /// `12 judged: 7 correct, 3 wrong, 2 unparsable, 0 undecided, 0 bad_reference`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = Outcome::ALL.map(|outcome| format!("{} {}", self.of(outcome), outcome.name()));
        write!(f, "{} judged: {}", self.total(), counts.join(", "))
    }
}

impl Serialize for Summary {
    /// An object with a count for each outcome's name.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(Outcome::ALL.len()))?;
        for outcome in Outcome::ALL {
            map.serialize_entry(outcome.name(), &self.of(outcome))?;
        }
        map.end()
    }
}

/// Times of verdicts: how many fell into each of the intervals that divide every doubling into [`STEPS`] parts.
pub(super) struct Timings {
    counts: Vec<usize>,
    max: Duration,
}

const STEPS: usize = 32;

impl Default for Timings {
    fn default() -> Self {
        Self { counts: vec![0; 64 * STEPS], max: Duration::ZERO }
    }
}

impl Timings {
    pub(super) fn count(&mut self, took: Duration) {
        let ns = took.as_nanos().clamp(1, u128::from(u64::MAX)) as f64;
        let at = (ns.log2() * STEPS as f64) as usize;
        self.counts[at.min(64 * STEPS - 1)] += 1;
        self.max = self.max.max(took);
    }

    /// The middle of the interval that holds the median, µs.
    pub(super) fn median_us(&self) -> f64 {
        let half = self.counts.iter().sum::<usize>().div_ceil(2);
        let mut seen = 0;
        let holds = |count: &usize| {
            seen += count;
            seen >= half
        };
        match self.counts.iter().position(holds) {
            Some(at) if half > 0 => ((at as f64 + 0.5) / STEPS as f64).exp2() / 1e3,
            _ => 0.0,
        }
    }

    pub(super) fn max_us(&self) -> f64 {
        self.max.as_secs_f64() * 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_within_three_percent() {
        let mut timings = Timings::default();
        assert_eq!(timings.median_us(), 0.0);
        for us in [1, 2, 50, 1000, 1_000_000] {
            timings.count(Duration::from_micros(us));
        }
        assert!((timings.median_us() / 50.0 - 1.0).abs() < 0.03, "{}", timings.median_us());
        assert_eq!(timings.max_us(), 1e6);
        timings.count(Duration::MAX);
        timings.count(Duration::ZERO);
    }

    #[test]
    fn agreement_counts_what_was_masked_apart() {
        let mut agreement = Agreement::default();
        for (i, (outcome, expected)) in [
            (Outcome::Correct, true),
            (Outcome::Correct, false),
            (Outcome::Wrong, true),
            (Outcome::Unparsable, true),
            (Outcome::Unparsable, false),
            (Outcome::Undecided, true),
            (Outcome::BadReference, false),
        ]
        .into_iter()
        .enumerate()
        {
            agreement.count(outcome, expected, || i.to_string());
        }
        let Agreement { expected, agree, false_accepts, false_rejects, masked, .. } = agreement;
        assert_eq!((expected, agree, false_accepts, false_rejects, masked), (7, 2, 1, 2, 2));
        assert_eq!(
            (agreement.false_accept_ids, agreement.false_reject_ids),
            (vec!["1".into()], vec!["2".into(), "3".into()])
        );
    }
}
