//! What completions come to: pass@1, pass@k, majority vote, lengths; for all problems, for groups, for each.
//!
//! **Undecided** completions count as not correct, in pass@k and in votes: to be undecided is no way to a better score. They
//! are counted, and pass@1 of the decided ones alone is reported beside it. Completions judged by a bad reference say
//! nothing of the model: they are left out.

use std::collections::BTreeMap;

use koan_data::Problem;
use koan_files::sha256;
use koan_reward::{Outcome, Rewards, Summary};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Interval, Judged, majority, pass_at_k};

/// An estimate and how many problems it is a mean over.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Problems that take part: those with enough completions.
    pub problems: usize,
    /// The mean, with its 95% interval.
    #[serde(flatten)]
    pub interval: Interval,
}

/// pass@k for one k.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PassAtK {
    /// How many completions one may try.
    pub k: usize,
    /// The chance that one of them is correct.
    #[serde(flatten)]
    pub estimate: Estimate,
}

/// Completions that were not decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Undecided {
    /// How many.
    pub count: usize,
    /// Of all completions, 0 to 1.
    pub share: f64,
}

/// What completions of several problems come to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Problems asked.
    pub problems: usize,
    /// Completions per problem.
    pub samples: usize,
    /// `accuracy`, `low` and `high` of `pass_at_1`.
    #[serde(flatten)]
    headline: Interval,
    /// pass@1: the chance that a completion is correct, with its 95% interval. Undecided ones are not correct.
    pub pass_at_1: Interval,
    /// The chance that a completion that was decided is correct.
    pub pass_at_1_decided: Estimate,
    /// Completions that were not decided.
    pub undecided: Undecided,
    /// How many completions had each outcome.
    pub outcomes: Summary,
    /// pass@k for every k asked for.
    pub pass_at_k: Vec<PassAtK>,
    /// The chance that the majority's answer is correct; none: it was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub majority: Option<Estimate>,
    /// Mean tokens of a completion.
    pub completion_tokens: f64,
    /// Share of completions that were cut.
    pub truncated: f64,
    /// Completion tokens sampled.
    pub tokens: usize,
}

impl Score {
    /// Sums up the completions of each problem; `votes` are the problems' [`majority`]s.
    pub fn of<J: AsRef<[Judged]>>(problems: &[J], ks: &[usize], votes: Option<&[f64]>) -> Self {
        let problems: Vec<&[Judged]> = problems.iter().map(AsRef::as_ref).collect();
        let samples = problems.iter().map(|completions| completions.len()).max().unwrap_or(0);
        let (mut outcomes, mut tokens, mut truncated) = (Summary::default(), 0, 0);
        for judged in problems.iter().copied().flatten() {
            outcomes.count(judged.outcome);
            tokens += judged.completion_tokens;
            truncated += usize::from(judged.truncated());
        }
        let counts: Vec<Counts> = problems.iter().map(|completions| Counts::of(completions)).collect();
        let pass = |k: usize, n: &dyn Fn(&Counts) -> usize| {
            let enough = counts.iter().filter(|counts| n(counts) >= k);
            let shares: Vec<f64> = enough.map(|counts| pass_at_k(n(counts), counts.correct, k)).collect();
            Estimate { problems: shares.len(), interval: Interval::of(&shares, samples / k) }
        };
        let vote = |votes: &[f64]| Estimate { problems: votes.len(), interval: Interval::of(votes, 1) };
        let n = outcomes.total().max(1) as f64;
        let pass_at_1 = pass(1, &Counts::judged).interval;
        let undecided = outcomes.of(Outcome::Undecided);
        Self {
            problems: problems.len(),
            samples,
            headline: pass_at_1,
            pass_at_1,
            pass_at_1_decided: pass(1, &|counts| counts.decided),
            undecided: Undecided { count: undecided, share: undecided as f64 / n },
            outcomes,
            pass_at_k: ks.iter().map(|&k| PassAtK { k, estimate: pass(k, &Counts::judged) }).collect(),
            majority: votes.map(vote),
            completion_tokens: tokens as f64 / n,
            truncated: truncated as f64 / n,
            tokens,
        }
    }
}

/// Completions of a problem.
struct Counts {
    correct: usize,
    decided: usize,
    undecided: usize,
}

impl Counts {
    fn of(completions: &[Judged]) -> Self {
        let of = |outcome| completions.iter().filter(|c| c.outcome == outcome).count();
        let correct = of(Outcome::Correct);
        let decided = correct + of(Outcome::Wrong) + of(Outcome::Unparsable);
        Self { correct, decided, undecided: of(Outcome::Undecided) }
    }

    /// All but those with a bad reference.
    fn judged(&self) -> usize {
        self.decided + self.undecided
    }
}

/// What the problems of one value of a field of `meta` come to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// The field: one of [`GROUPED_BY`].
    pub by: &'static str,
    /// Its value.
    pub value: String,
    /// What its problems come to.
    #[serde(flatten)]
    pub score: Score,
}

/// What one problem comes to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProblemScore {
    /// The problem.
    pub id: String,
    /// SHA-256 of its conversation: another prompt is another problem.
    pub prompt_sha256: String,
    /// Completions whose reference is not bad: those that pass@1 counts.
    pub judged: usize,
    /// Completions that were decided.
    pub decided: usize,
    /// Of those, the correct ones.
    pub correct: usize,
    /// The chance that the majority's answer is correct; none: it was not asked for.
    pub majority: Option<f64>,
    /// Mean tokens of a completion.
    pub completion_tokens: f64,
}

/// Fields of `meta` by which problems are grouped.
pub const GROUPED_BY: [&str; 2] = ["kind", "level"];

/// A field with more values than this, or only one, makes no groups.
pub const MAX_GROUPS: usize = 40;

/// What a measurement found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// All problems.
    #[serde(flatten)]
    pub all: Score,
    /// Problems by what their `meta` says of them.
    pub groups: Vec<Group>,
    /// Each problem.
    pub per_problem: Vec<ProblemScore>,
}

impl Report {
    /// Sums up `completions[i]`, those of `problems[i]`; with votes where there is more than one per problem.
    pub fn of(problems: &[Problem], completions: &[Vec<Judged>], ks: &[usize], rewards: &Rewards) -> Self {
        let both = || problems.par_iter().zip(completions);
        let votes: Option<Vec<f64>> = completions
            .iter()
            .any(|completions| completions.len() > 1)
            .then(|| both().map(|(problem, completions)| majority(rewards, problem, completions)).collect());
        let score = |places: &[usize]| {
            let completions: Vec<&[Judged]> = places.iter().map(|&i| &completions[i][..]).collect();
            let votes = votes.as_ref().map(|votes| places.iter().map(|&i| votes[i]).collect::<Vec<_>>());
            Score::of(&completions, ks, votes.as_deref())
        };
        let groups = GROUPED_BY.into_iter().flat_map(|by| {
            let groups = grouped(problems, by);
            let shown = if (2..=MAX_GROUPS).contains(&groups.len()) { groups } else { BTreeMap::new() };
            shown.into_iter().map(move |((_, value), places)| (by, value, places))
        });
        let per_problem = (0..problems.len()).map(|i| {
            let counts = Counts::of(&completions[i]);
            let tokens: usize = completions[i].iter().map(|c| c.completion_tokens).sum();
            ProblemScore {
                id: problems[i].id.clone(),
                prompt_sha256: prompt_sha256(&problems[i]),
                judged: counts.judged(),
                decided: counts.decided,
                correct: counts.correct,
                majority: votes.as_ref().map(|votes| votes[i]),
                completion_tokens: tokens as f64 / completions[i].len().max(1) as f64,
            }
        });
        Self {
            all: score(&(0..problems.len()).collect::<Vec<_>>()),
            groups: groups.map(|(by, value, places)| Group { by, value, score: score(&places) }).collect(),
            per_problem: per_problem.collect(),
        }
    }
}

/// SHA-256 of a problem's conversation, as JSON.
fn prompt_sha256(problem: &Problem) -> String {
    sha256(serde_json::to_vec(&problem.messages()).expect("messages are JSON"))
}

/// The places of the problems that have each value of the field `by` of `meta`: numbers in their order, then texts.
fn grouped(problems: &[Problem], by: &str) -> BTreeMap<(u64, String), Vec<usize>> {
    let mut groups: BTreeMap<(u64, String), Vec<usize>> = BTreeMap::new();
    for (i, problem) in problems.iter().enumerate() {
        let value = match problem.meta.as_ref().and_then(|meta| meta.get(by)) {
            Some(Value::String(text)) => text.clone(),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
            _ => continue,
        };
        let order = value.parse().unwrap_or(u64::MAX);
        groups.entry((order, value)).or_default().push(i);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn judged(outcome: Outcome) -> Judged {
        let parsed = (outcome != Outcome::Unparsable).then(|| outcome.name().to_owned());
        let (completion, reason) = (String::new(), String::new());
        let finish_reason = if outcome == Outcome::Unparsable { "length" } else { "stop" }.to_owned();
        Judged { completion, outcome, parsed, reason, completion_tokens: 3, finish_reason, review: None }
    }

    use Outcome::{BadReference as B, Correct as C, Undecided as U, Unparsable as P, Wrong as W};

    fn report(rows: &[[Outcome; 4]], ks: &[usize]) -> Report {
        let problem = |i: usize| Problem {
            id: format!("p{i}"),
            meta: json!({"level": 12 - i, "kind": "one"}).as_object().cloned(),
            ..Problem::default()
        };
        let problems: Vec<Problem> = (0..rows.len()).map(problem).collect();
        let completions: Vec<Vec<Judged>> =
            rows.iter().map(|row| row.iter().map(|&outcome| judged(outcome)).collect()).collect();
        Report::of(&problems, &completions, ks, &Rewards::of_kind("words").expect("in the table"))
    }

    #[test]
    fn what_is_undecided_is_not_correct_and_is_counted() {
        let report = report(&[[C, C, W, P], [C, U, U, U], [U, U, U, U]], &[1, 2, 4]);
        let all = &report.all;
        assert!((all.pass_at_1.accuracy - 0.25).abs() < 1e-12, "(2/4 + 1/4 + 0/4)/3");
        let decided = all.pass_at_1_decided;
        assert!((decided.interval.accuracy - 0.75).abs() < 1e-12, "(1/2 + 1)/2; the third is not decided");
        assert_eq!(decided.problems, 2);
        assert_eq!(all.undecided, Undecided { count: 7, share: 7.0 / 12.0 });
        let of = |i: usize| (all.pass_at_k[i].estimate.problems, all.pass_at_k[i].estimate.interval.accuracy);
        assert_eq!((of(0).0, of(1).0, of(2)), (3, 3, (3, 2.0 / 3.0)));
        assert!((of(1).1 - (5.0 / 6.0 + 0.5) / 3.0).abs() < 1e-12);
        assert_eq!((all.outcomes.of(U), all.tokens, all.truncated), (7, 36, 1.0 / 12.0));
        // Of the first, two wins of four; of the others, what is undecided is voted for, and wins nothing.
        assert_eq!(all.majority.expect("asked for").problems, 3);
        assert_eq!(
            report.per_problem.iter().map(|p| p.majority).collect::<Vec<_>>(),
            [Some(1.0), Some(0.0), Some(0.0)]
        );
        let second = &report.per_problem[1];
        assert_eq!(
            (second.judged, second.decided, second.correct, second.prompt_sha256.len()),
            (4, 1, 1, 64)
        );
        let json = serde_json::to_value(all).expect("JSON");
        assert_eq!(json["accuracy"], json["pass_at_1"]["accuracy"]);
        assert_eq!(json["undecided"], json!({"count": 7, "share": 7.0 / 12.0}));
    }

    #[test]
    fn a_bad_reference_says_nothing_of_the_model() {
        let all = report(&[[C, B, B, W], [B, B, B, B]], &[1]).all;
        assert_eq!(
            (all.pass_at_1.accuracy, all.pass_at_1_decided.problems, all.undecided.count),
            (0.5, 1, 0)
        );
    }

    #[test]
    fn nothing_decided_is_nothing_correct() {
        let all = report(&[[U; 4]], &[1]).all;
        assert_eq!(all.pass_at_1.accuracy, 0.0);
        let nothing = all.pass_at_1_decided;
        assert_eq!(
            (nothing.problems, nothing.interval.low, nothing.interval.high),
            (0, 0.0, 1.0),
            "nothing is known"
        );
    }

    #[test]
    fn groups_stand_in_the_order_of_their_values() {
        let report = report(&[[C; 4], [W; 4], [C, W, C, W]], &[]);
        let rows: Vec<_> =
            report.groups.iter().map(|g| (g.by, &*g.value, g.score.pass_at_1.accuracy)).collect();
        assert_eq!(rows, [("level", "10", 0.5), ("level", "11", 0.0), ("level", "12", 1.0)]);
    }
}
