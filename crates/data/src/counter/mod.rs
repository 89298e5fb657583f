//! The world of the recipe `r1-tiny`: a counter, moves of two digits, two languages, and a text in which people answer in several ways.
//!
//! ```text
//! a+21 b+34 c-51 from 43?           a加21 … : the same may be asked in Chinese
//! a plus 21 makes 64                 worked: a line for each move; the value it starts from is the result of the line before
//! b加34得98                          lines draw their languages by themselves: the text mixes
//! c minus 51 makes 46 check 8-1=7 9-5=4 so 47 wait      checked: the sum again, digit by digit
//! Answer: 47
//! ```
//!
//! | way | cost and benefit |
//! |---|---|
//! | blurted: the answer line alone | short; a guess, and mostly a little wrong |
//! | worked: a line for each move | a wrong sum in any line makes the following lines wrong |
//! | checked: each line computed again | longest. A quick sum needs the carry before it is computed, some 6,000 facts, and slips now and then however long a model trains; the check needs some 400 easy ones, and later lines go on from it |
//!
//! So there is something to find that the text does not say: checked answers are right more often, and blurted ones are the most common. A
//! model that imitates the text answers as people do; one that is rewarded for right answers finds out.
//!
//! Some reasoning is enclosed in `<think>` and `</think>`, most is not. Beside questions there are exercises ([`Counter::text`] has their shares) and requests
//! ([`request`]), which no program can judge by their answer alone.

pub mod look;
pub mod request;
mod text;
pub mod words;

use serde_json::json;

use self::words::{LABELS, Language};
use crate::{Problem, Split, random::Random, split::stable_hash};

/// Most moves of a question.
pub const MAX_MOVES: usize = LABELS.len();
/// The least and the largest of starts, moves, and values on the way.
const VALUES: std::ops::RangeInclusive<i64> = 10..=99;
/// Keys streams of this module apart from those of other generators.
const KEY: u64 = 0x636f_756e_7465_7200;

/// What a stream of random choices is for.
#[derive(Clone, Copy)]
enum Stream {
    Text,
    Train,
    Test,
    Request,
    RequestTest,
    Demonstration,
}

/// A world of questions with `n_moves` moves each.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    /// Moves of a problem, at most [`MAX_MOVES`]; texts have fewer too.
    pub n_moves: usize,
    /// Keys all random choices.
    pub seed: u64,
}

/// A counter, its moves, and the language in which somebody asks where it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Where the counter starts.
    pub start: i64,
    /// Signed.
    pub moves: Vec<i64>,
    /// Of the question.
    pub language: Language,
}

impl Counter {
    /// Problem `i` of `split`, which is [`Split::Train`] or [`Split::Test`].
    pub fn problem(&self, split: Split, i: u64) -> Problem {
        let stream = if split == Split::Test { Stream::Test } else { Stream::Train };
        let question = Self::question(split, self.n_moves, &mut self.random(stream, i));
        Problem {
            id: format!("counter-{split}-{}-{i:06}", self.seed),
            prompt: Some(question.prompt()),
            answer: question.end().to_string(),
            reward: Some("number".to_owned()),
            meta: Some(question.meta("question")),
            ..Problem::default()
        }
    }

    fn random(&self, stream: Stream, i: u64) -> Random {
        Random::keyed([KEY, self.seed, stream as u64, i])
    }

    /// The first question of a stream that is on this side of the split, so that no two splits share one.
    fn question(split: Split, n_moves: usize, random: &mut Random) -> Question {
        loop {
            let question = Question::draw(n_moves.min(MAX_MOVES), random);
            let words = [question.start].into_iter().chain(question.moves.iter().copied());
            if split.holds(stable_hash(words.map(|word| word as u64))) {
                return question;
            }
        }
    }
}

impl Question {
    fn draw(n_moves: usize, random: &mut Random) -> Self {
        let start = random.within(VALUES);
        let (mut value, mut moves) = (start, Vec::with_capacity(n_moves));
        while moves.len() < n_moves {
            let by = random.within(VALUES) * if random.coin() { 1 } else { -1 };
            if VALUES.contains(&(value + by)) {
                value += by;
                moves.push(by);
            }
        }
        Self { start, moves, language: *random.pick(&Language::ALL) }
    }

    /// Where the counter ends.
    pub fn end(&self) -> i64 {
        self.start + self.moves.iter().sum::<i64>()
    }

    /// The question as it is asked. The start stands last, next to the first line of an answer.
    pub fn prompt(&self) -> String {
        self.header() + self.language.words().question_mark
    }

    fn header(&self) -> String {
        let moves: Vec<String> =
            LABELS.chars().zip(&self.moves).map(|(label, by)| format!("{label}{by:+}")).collect();
        format!("{}{}{}", moves.join(" "), self.language.words().from, self.start)
    }

    /// What a program may want to know: kind, language, start, moves.
    fn meta(&self, kind: &str) -> serde_json::Map<String, serde_json::Value> {
        let fields = [
            ("kind", json!(kind)),
            ("language", json!(self.language.words().code)),
            ("start", json!(self.start)),
            ("moves", json!(self.moves)),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The question of a problem or request of this world; none if it is of another.
    pub fn of(problem: &Problem) -> Option<Self> {
        let meta = problem.meta.as_ref()?;
        let language = Language::by_code(meta.get("language")?.as_str()?)?;
        let moves =
            meta.get("moves")?.as_array()?.iter().map(serde_json::Value::as_i64).collect::<Option<_>>()?;
        Some(Self { start: meta.get("start")?.as_i64()?, moves, language })
    }
}

#[cfg(test)]
mod tests;
