//! Majority vote (maj@n, self-consistency: arXiv:2203.11171; cons@n in DeepSeek-R1's tables).

use koan_data::Problem;
use koan_reward::{Outcome, Rewards};

use crate::Judged;

/// The chance that the answer that most of a problem's completions give is correct.
///
/// Answers are the same where the problem's verifier says so ([`Rewards::classes`]): 1/2 and 0.5 under `math`. A
/// completion without a readable answer does not vote; where none votes, the vote is wrong. Where classes tie, one of
/// them is drawn by lot: the value is the share of the tied classes that are correct. An undecided answer votes like any
/// other, and is not correct: a majority of them wins nothing.
pub fn majority(rewards: &Rewards, problem: &Problem, completions: &[Judged]) -> f64 {
    let shown: Vec<(&str, Outcome)> =
        completions.iter().filter_map(|c| Some((c.parsed.as_deref()?, c.outcome))).collect();
    let answers: Vec<&str> = shown.iter().map(|(answer, _)| *answer).collect();
    // Votes for each class, and whether the first of its answers that was decided is correct.
    let mut classes: Vec<(usize, Option<bool>)> = Vec::new();
    for (class, (_, outcome)) in rewards.classes(problem, &answers).into_iter().zip(shown) {
        if class == classes.len() {
            classes.push((0, None));
        }
        let (votes, correct) = &mut classes[class];
        *votes += 1;
        *correct = correct.or(is_correct(outcome));
    }
    // An answer that the verifier judged and does not show is like no other.
    let hidden = completions.iter().filter(|c| c.parsed.is_none() && c.outcome != Outcome::Unparsable);
    classes.extend(hidden.map(|c| (1, is_correct(c.outcome))));
    let most = classes.iter().map(|(votes, _)| *votes).max().unwrap_or(0);
    let tied: Vec<Option<bool>> =
        classes.iter().filter(|(votes, _)| *votes == most).map(|(_, correct)| *correct).collect();
    tied.iter().filter(|correct| **correct == Some(true)).count() as f64 / tied.len().max(1) as f64
}

fn is_correct(outcome: Outcome) -> Option<bool> {
    match outcome {
        Outcome::Correct => Some(true),
        Outcome::Wrong | Outcome::Unparsable => Some(false),
        Outcome::Undecided | Outcome::BadReference => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use koan_reward::Sample;

    fn vote(kind: &str, answer: &str, completions: &[&str]) -> f64 {
        let rewards = Rewards::of_kind(kind).expect("in the table");
        let problem = Problem { answer: answer.to_owned(), ..Problem::default() };
        let judge = |text: &&str| Judged::of(text, &rewards.judge(&Sample::new(&problem, text)), 1, false);
        majority(&rewards, &problem, &completions.iter().map(judge).collect::<Vec<_>>())
    }

    #[test]
    fn the_most_frequent_answer_counts_however_it_is_written() {
        assert_eq!(vote("number", "0.5", &["1/2", "50%", "7", "7.0", "0.5"]), 1.0);
        assert_eq!(vote("number", "0.5", &["1/2", "7", "7.0", "14/2", "0.5"]), 0.0);
        assert_eq!(vote("math", "x^2+1", &["$1+x^2$", "$x^2$", "$x^2+1$"]), 1.0);
    }

    #[test]
    fn a_tie_is_drawn_by_lot() {
        assert_eq!(vote("number", "1", &["1", "2"]), 0.5);
        assert_eq!(vote("number", "1", &["1", "2", "3", "2", "1", "3"]), 1.0 / 3.0);
        assert_eq!(vote("number", "1", &["4", "2", "3"]), 0.0);
    }

    #[test]
    fn what_has_no_answer_does_not_vote() {
        assert_eq!(vote("number", "1", &["who knows", "no idea", "1"]), 1.0);
        assert_eq!(vote("number", "1", &["who knows", "no idea"]), 0.0);
    }

    #[test]
    fn an_undecided_majority_wins_nothing() {
        // Integrals are not evaluated, so that one can't be held against another.
        let (reference, other) = (r"\int_0^1 \sin(x^2)\,dx", r"$\int_0^2 \cos(x^3)\,dx$");
        let right = r"$\int_0^1 \sin(x^2)\,dx$";
        assert_eq!(vote("math", reference, &[other, other, right]), 0.0);
        assert_eq!(vote("math", reference, &[other, right]), 0.5, "a tie is drawn by lot");
        assert_eq!(vote("math", reference, &[other, right, right]), 1.0);
        // What an answer itself makes too large to read is wrong.
        assert_eq!(vote("number", "1", &["1e9999999999", "1e9999999999", "1"]), 0.0);
    }
}
