//! What a step found out, and all steps together.

use koan_reward::Outcome;
use serde::{Deserialize, Serialize};

use super::{
    choose::{Choice, Comparisons},
    filter::{Fates, outcome},
    sample::{Answer, Group},
};
use crate::rl::DraftMetrics;

/// One line of metrics.jsonl.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Metrics {
    /// The step, from 1.
    pub step: u64,
    /// Problems sampled.
    pub problems: usize,
    /// Of these, problems of which nothing is kept.
    pub problems_without: usize,
    /// Rows that came of the step: completions, or pairs.
    pub rows: usize,
    /// How many of its completions were kept, and why the others were not.
    pub completions: Fates,
    /// How a judge compared its pairs.
    pub comparisons: Comparisons,
    /// Mean reward of the completions that have one.
    pub reward: f64,
    /// Share of completions whose first reward's verifier says correct.
    pub accuracy: f64,
    /// Mean tokens of a completion.
    pub completion_tokens: f64,
    /// Share of completions cut at max_new_tokens.
    pub truncated: f64,
    /// Completion tokens sampled.
    pub tokens: usize,
    /// How good the guesses of the next tokens were, if there were any.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub drafts: Option<DraftMetrics>,
    /// Seconds of the step.
    pub step_s: f64,
    /// Completion tokens per second of the step.
    pub tokens_per_s: f64,
    /// Why nothing was judged, where every completion is undecided.
    #[serde(skip)]
    pub nothing_judged: Option<String>,
}

/// The counts of all completions and problems of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Problems sampled.
    pub problems: u64,
    /// Of these, problems of which nothing is kept.
    pub problems_without: u64,
    /// Problems of which no completion was decided.
    pub problems_undecided: u64,
    /// Problems whose completions could be compared, and did not differ by enough to make a pair.
    pub problems_tied: u64,
    /// Problems by their pass rate: 0; up to 1/4; up to 1/2; up to 3/4; below 1; and 1.
    pub pass_rates: [u64; 6],
    /// How many completions were kept, and why the others were not.
    pub completions: Fates,
    /// How a judge compared pairs.
    pub comparisons: Comparisons,
    /// Rows: completions, or pairs.
    pub rows: u64,
    /// Pairs that were left out so that chosen and rejected completions are of about the same length. The rest is in the data.
    pub rows_unbalanced: u64,
}

impl Metrics {
    /// All but the step and the seconds.
    pub(super) fn of(groups: &[Group], choices: &[Choice]) -> Self {
        let samples: Vec<&Answer> = groups.iter().flat_map(|group| &group.samples).collect();
        let n = (samples.len() as f64).max(1.0);
        let mean = |value: &dyn Fn(&Answer) -> f64| samples.iter().map(|s| value(s)).sum::<f64>() / n;
        let decided: Vec<f64> = samples.iter().filter_map(|s| s.judgement.reward).map(f64::from).collect();
        let mut summary = Summary::default();
        for choice in choices {
            summary.add(choice);
        }
        let masked = samples.iter().flat_map(|s| &s.judgement.terms).find(|term| term.score.is_none());
        let why = masked.map(|term| format!("`{}`: {}", term.name, term.reason));
        Self {
            problems: groups.len(),
            problems_without: summary.problems_without as usize,
            rows: summary.rows as usize,
            completions: summary.completions,
            comparisons: summary.comparisons,
            reward: (0.0 + decided.iter().sum::<f64>()) / (decided.len() as f64).max(1.0),
            accuracy: mean(&|s| f64::from(outcome(s) == Some(Outcome::Correct))),
            completion_tokens: mean(&|s| s.tokens as f64),
            truncated: mean(&|s| f64::from(s.truncated)),
            tokens: samples.iter().map(|s| s.tokens).sum(),
            nothing_judged: if summary.comparisons.judged == 0 {
                why.filter(|_| decided.is_empty())
            } else {
                let all = summary.comparisons.undecided == summary.comparisons.judged;
                choices.iter().find_map(|choice| choice.silent.clone()).filter(|_| all)
            },
            ..Self::default()
        }
    }
}

impl Summary {
    /// Counts what became of a problem.
    pub fn add(&mut self, choice: &Choice) {
        self.problems += 1;
        self.problems_without += u64::from(choice.rows == 0);
        self.problems_tied += u64::from(choice.tied);
        self.rows += choice.rows as u64;
        self.comparisons.add(choice.comparisons);
        choice.rejections.iter().for_each(|rejection| self.completions.add(rejection.fate));
        match choice.pass_rate {
            None => self.problems_undecided += u64::from(choice.undecided),
            Some(rate) if rate >= 1.0 => self.pass_rates[5] += 1,
            Some(rate) => self.pass_rates[(rate * 4.0).ceil() as usize] += 1,
        }
    }
}
