//! Two answers compared, in both orders: a judge prefers what stands first, or last, more than it should.

use super::label::{LabelKind, without_labels, words};
use super::prompt::as_text;
use super::{Asked, Label, LanguageJudge};
use crate::models::{Models, ModelsError};
use crate::settle::Candidate;
use crate::{Outcome, Verdict};
use koan_data::Message;
use std::collections::BTreeMap;

/// Two answers to one question.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair<'a> {
    /// The conversation up to the answers.
    pub question: &'a [Message],
    /// The answers.
    pub answers: [&'a str; 2],
}

/// What a judge says of a pair, asked in both orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// By how much the first answer is better, −2 to 2, where it stands first, and where it stands second.
    pub preferences: [i8; 2],
}

impl Compared {
    /// Whether the first answer is better (1) or worse (−1) in both orders; 0 where they are equal or the orders disagree.
    pub fn decision(self) -> i8 {
        let [a, b] = self.preferences.map(i8::signum);
        if a == b { a } else { 0 }
    }

    /// Whether the judge prefers another answer when the order changes: its own error.
    pub fn is_flipped(self) -> bool {
        let [a, b] = self.preferences;
        a.signum() != b.signum()
    }

    /// The mean of both orders, −2 to 2.
    pub fn mean(self) -> f64 {
        self.preferences.iter().map(|&p| f64::from(p)).sum::<f64>() / 2.0
    }
}

impl LanguageJudge {
    /// What the judge says of each pair, in their order, asked in both orders; or why it says nothing. Answers of the same `repeat` are the same; above
    /// temperature 0 another one is another judgement. Of two answers of which one has fewer than `min_words` words, the other is better,
    /// and the judge is not asked; of two such they are equal.
    ///
    /// # Errors
    /// If the model can't be asked at all.
    pub fn compare(
        &self,
        models: &dyn Models,
        pairs: &[Pair],
        repeat: u64,
    ) -> Result<Vec<Result<Compared, String>>, ModelsError> {
        let is_short = |text: &str| words(&without_labels(text)).count() < self.options.min_words.max(1);
        let unasked = |pair: &Pair| match pair.answers.map(is_short) {
            [false, false] => None,
            [first, second] => {
                let preference = 2 * (i8::from(second) - i8::from(first));
                Some(Compared { preferences: [preference; 2] })
            }
        };
        let ask = |pair: &Pair| {
            let question = as_text(pair.question);
            [[0, 1], [1, 0]].map(|[a, b]| Asked {
                prompt: self.template.fill(
                    self.options.seed,
                    &[("question", &question), ("answer_a", pair.answers[a]), ("answer_b", pair.answers[b])],
                    "",
                ),
                kind: LabelKind::Preference,
                repeat,
            })
        };
        let asked: Vec<Asked> = pairs.iter().filter(|pair| unasked(pair).is_none()).flat_map(ask).collect();
        let mut labels = self.ask(models, &asked)?.into_iter();
        let mut next = || match labels.next() {
            Some(Ok(Label::Preference(preference))) => Ok(preference),
            Some(Err(reason)) => Err(reason),
            Some(Ok(_)) | None => Err("not asked".to_owned()),
        };
        let compared = |pair: &Pair| {
            if let Some(compared) = unasked(pair) {
                Ok(compared)
            } else {
                let orders = [next(), next()];
                let [first, second] = orders;
                Ok(Compared { preferences: [first?, -second?] })
            }
        };
        Ok(pairs.iter().map(compared).collect())
    }

    pub(super) fn against_references(
        &self,
        models: &dyn Models,
        candidates: &[Candidate],
        answers: &[String],
    ) -> Result<Vec<Verdict>, ModelsError> {
        let questions: Vec<_> = candidates.iter().map(|c| c.problem.messages()).collect();
        let pairs: Vec<Pair> = candidates
            .iter()
            .zip(answers)
            .zip(&questions)
            .map(|((candidate, answer), question)| Pair {
                question,
                answers: [answer, &candidate.problem.answer],
            })
            .collect();
        let compared = self.compare(models, &pairs, 0)?;
        let verdict = |((candidate, answer), compared): ((&Candidate, &String), Result<Compared, String>)| {
            if let Err(reason) = crate::Verifier::check(self, candidate.problem) {
                return Verdict::without_answer(Outcome::BadReference, reason);
            }
            match compared {
                _ if words(answer).next().is_none() => {
                    Verdict::without_answer(Outcome::Unparsable, "there is no answer to judge")
                }
                Err(reason) => Verdict::without_answer(Outcome::Undecided, reason),
                Ok(compared) => {
                    let score = f32::midpoint(1.0, f32::from(compared.decision()));
                    Verdict::graded(score, 1.0, in_words(compared))
                }
            }
        };
        Ok(candidates.iter().zip(answers).zip(compared).map(verdict).collect())
    }

    /// Every completion of a group against every other: its score is the mean over those that were decided.
    pub(super) fn against_one_another(
        &self,
        models: &dyn Models,
        candidates: &[Candidate],
        answers: &[String],
    ) -> Result<Vec<Verdict>, ModelsError> {
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, candidate) in candidates.iter().enumerate() {
            groups.entry(candidate.group).or_default().push(i);
        }
        let opponents = |group: &Vec<usize>| {
            let pairs = group.iter().enumerate().map(|(i, &a)| group[i + 1..].iter().map(move |&b| [a, b]));
            pairs.flatten().collect::<Vec<_>>()
        };
        let matches: Vec<[usize; 2]> = groups.values().flat_map(opponents).collect();
        let questions: Vec<_> = candidates.iter().map(|c| c.problem.messages()).collect();
        let pair =
            |&[a, b]: &[usize; 2]| Pair { question: &questions[a], answers: [&answers[a], &answers[b]] };
        let pairs: Vec<Pair> = matches.iter().map(pair).collect();
        let compared = self.compare(models, &pairs, 0)?;

        let mut scores: Vec<(f32, usize)> = vec![(0.0, 0); candidates.len()];
        let mut failed: Vec<Option<String>> = vec![None; candidates.len()];
        for ([a, b], compared) in matches.iter().zip(compared) {
            match compared {
                Ok(compared) => {
                    for (which, decision) in [(*a, compared.decision()), (*b, -compared.decision())] {
                        scores[which].0 += f32::midpoint(1.0, f32::from(decision));
                        scores[which].1 += 1;
                    }
                }
                Err(reason) => [*a, *b].iter().for_each(|&which| failed[which] = Some(reason.clone())),
            }
        }
        let verdict = |((answer, (sum, n)), failed): ((&String, (f32, usize)), Option<String>)| {
            if words(answer).next().is_none() {
                return Verdict::without_answer(Outcome::Unparsable, "there is no answer to judge");
            }
            if n == 0 {
                let alone = || "there is no other completion of the problem to compare with".to_owned();
                return Verdict::without_answer(Outcome::Undecided, failed.unwrap_or_else(alone));
            }
            let score = sum / n as f32;
            let reason = format!("{sum} points of {n} comparisons");
            let outcome = if score > 0.5 { Outcome::Correct } else { Outcome::Wrong };
            Verdict { outcome, ..Verdict::graded(score, 1.0, reason) }
        };
        Ok(answers.iter().zip(scores).zip(failed).map(verdict).collect())
    }
}

fn in_words(compared: Compared) -> String {
    let said = match compared.decision() {
        1 => "better than the reference",
        -1 => "worse than the reference",
        _ if compared.is_flipped() => "no better and no worse: the judge's two orders disagree",
        _ => "as good as the reference",
    };
    said.to_owned()
}
