//! What answers of a model in a world are measured by.

use koan_data::{
    Problem,
    counter::{
        Question,
        look::Look,
        request::{Kind, Request},
    },
};
use koan_eval::Judged;
use koan_reward::{Outcome, form::language};

use super::figure::Figure;
use crate::world::Which;

/// A figure's name in `result.json`, and its title in tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    /// A share, which is shown in percent.
    pub(crate) is_share: bool,
    /// Shown in the terminal too, under this title.
    pub(super) short: Option<&'static str>,
}

const fn row(key: &'static str, title: &'static str, short: Option<&'static str>) -> Row {
    Row { key, title, is_share: true, short }
}

/// The figures of any world, then those of the counter's. The shares of ways and checks are found by parsing, never by words of reflection.
pub(crate) const ROWS: [Row; 14] = [
    row("accuracy", "right answers", Some("right")),
    row("language", "words of the reasoning in the question’s language", Some("language")),
    row("one_language", "answers whose reasoning is all in it", None),
    row("format", "reasoning between tags, then an answer line in the question’s language", Some("format")),
    Row { key: "completion_tokens", title: "tokens per answer", is_share: false, short: Some("tokens") },
    row("blurted", "blurted", None),
    row("worked", "worked out", None),
    row("checked", "checked: a sum computed a second time", Some("checked")),
    row("slips", "first sums that are wrong", None),
    row("mended", "wrong first sums that a check corrects", None),
    row("wait_if_differs", "“wait” where the check differs", None),
    row("wait_if_agrees", "“wait” where it agrees", None),
    row("preference", "requests: preferred to the reference reply", Some("preferred")),
    row("refused", "requests for locks: refused", None),
];

/// The figures of a model, by their keys in the order of [`ROWS`]; those that do not apply are left out.
pub(super) type Figures = Vec<(&'static str, Figure)>;

/// Measures `answers[i]`, those to `problems[i]`, and `replies` to requests.
pub(super) fn measure(
    world: Which,
    problems: &[Problem],
    answers: &[Vec<Judged>],
    replies: &[(Problem, Vec<String>)],
) -> Figures {
    let samples = answers.iter().map(Vec::len).max().unwrap_or(0);
    let is_right = |judged: &&Judged| judged.outcome == Outcome::Correct;
    let right = answers.iter().map(|of| of.iter().filter(is_right).count() as f64 / of.len().max(1) as f64);
    let seen: Vec<Vec<Seen>> = problems
        .iter()
        .zip(answers)
        .map(|(problem, of)| of.iter().map(|judged| Seen::at(world, problem, &judged.completion)).collect())
        .collect();
    let sums = |count: &dyn Fn(&Seen) -> (f64, usize)| -> Vec<(f64, usize)> {
        let add = |(a, n): (f64, usize), (b, m): (f64, usize)| (a + b, n + m);
        seen.iter().map(|of| of.iter().map(count).fold((0.0, 0), add)).collect()
    };
    let share = |is: &dyn Fn(&Seen) -> bool| Figure::share(&sums(&|seen| (f64::from(is(seen)), 1)));
    let part = |of: &dyn Fn(&Look) -> (usize, usize)| {
        let count = |seen: &Seen| {
            let (part, of) = seen.look.map_or((0, 0), |look| of(&look));
            (part as f64, of)
        };
        Figure::share(&sums(&count))
    };
    let tokens: Vec<(f64, usize)> = answers
        .iter()
        .map(|of| (of.iter().map(|judged| judged.completion_tokens as f64).sum(), of.len()))
        .collect();
    let is_counter = world == Which::Counter;
    let all = [
        Some(Figure::accuracy(&right.collect::<Vec<_>>(), samples)),
        is_counter.then(|| Figure::share(&sums(&|seen| (seen.language, 1)))).flatten(),
        is_counter.then(|| share(&|seen| seen.language >= 1.0)).flatten(),
        is_counter.then(|| share(&|seen| seen.look.is_some_and(|look| look.formatted))).flatten(),
        Figure::mean(&tokens),
        share(&|seen| seen.way == "blurted"),
        share(&|seen| seen.way == "worked"),
        share(&|seen| seen.way == "checked"),
        part(&|look| (look.slips, look.lines)),
        part(&|look| (look.mended, look.checked_slips)),
        part(&|look| (look.waits, look.differ)),
        part(&|look| (look.false_waits, look.checks - look.differ)),
        liked(replies, |request, reply| Some(request.is_preferred(reply))),
        liked(replies, |request, reply| {
            let is_lock = request.kind == Kind::Lock;
            is_lock.then(|| Look::at(&request.question, reply).refuses)
        }),
    ];
    ROWS.iter().zip(all).filter_map(|(row, figure)| Some((row.key, figure?))).collect()
}

/// The share of replies of which something holds, among those that are asked about.
fn liked(replies: &[(Problem, Vec<String>)], is: impl Fn(&Request, &str) -> Option<bool>) -> Option<Figure> {
    let of = |(problem, texts): &(Problem, Vec<String>)| {
        let request = Request::of_row(problem)?;
        let asked: Vec<bool> = texts.iter().filter_map(|text| is(&request, text)).collect();
        Some((asked.iter().filter(|is| **is).count() as f64, asked.len()))
    };
    Figure::share(&replies.iter().filter_map(of).collect::<Vec<_>>())
}

/// What an answer did.
pub(super) struct Seen {
    pub(super) way: &'static str,
    /// The share of its reasoning's words in the question's language, as the reward `language` counts it.
    pub(super) language: f64,
    look: Option<Look>,
}

impl Seen {
    pub(super) fn at(world: Which, problem: &Problem, completion: &str) -> Self {
        match Question::of(problem).filter(|_| world == Which::Counter) {
            Some(question) => {
                let look = Look::at(&question, completion);
                let language = language::share(completion, Some(question.language.words().code));
                Self { way: look.way(), language, look: Some(look) }
            }
            None => Self { way: way_of_moves(completion), language: 1.0, look: None },
        }
    }
}

/// How an answer in the demo's world is given: with sums or without, with the mark of a check or without.
pub(super) fn way_of_moves(completion: &str) -> &'static str {
    match (completion.contains('='), completion.contains(" ok")) {
        (false, _) => "blurted",
        (true, false) => "worked",
        (true, true) => "checked",
    }
}
