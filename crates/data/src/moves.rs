//! The world of the demo: a counter, a list of moves, and a text in which people answer in several ways.
//!
//! ```text
//! a-2 b+9 c-4 d+8:7?      labelled moves of a counter that starts at 7: where does it end?
//! ```
//!
//! | way | answer | cost and benefit |
//! |---|---|---|
//! | [`Way::Blurt`] | `Answer: 18` | short; a guess, and mostly a little wrong |
//! | [`Way::Work`] | `a-2=5`, a line for each move, and the answer | a slip in any line makes the following lines wrong |
//! | [`Way::Check`] | the same, with each line checked: `a-2=5 ok`, or `a-2=6 wait` and the line again | longest; slips are corrected |
//!
//! The text has questions of every length up to that of the problems. It has slips, as real texts do; only the way that checks
//! corrects them. So after reading it a model's checked answers are right more often than worked ones, and those more often
//! than guesses: there is something better to find. But a model that imitates the text prefers what is common, not what is right.

use crate::random::Random;
use crate::split::stable_hash;
use crate::{Problem, Split};
use serde_json::json;

/// Most moves of a problem: each has a letter.
pub const MAX_MOVES: usize = 26;

/// Keys streams of this module apart from those of other generators.
const KEY: u64 = 0x006d_6f76_6573;

/// How an answer is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// At once.
    Blurt,
    /// A line for each move.
    Work,
    /// A line for each move, checked.
    Check,
}

/// A world of problems with `n_moves` moves each.
#[derive(Clone, Copy, Debug)]
pub struct Moves {
    /// Moves per problem, at most [`MAX_MOVES`].
    pub n_moves: usize,
    /// Keys all random numbers.
    pub seed: u64,
}

/// How the people in the text answer.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Share of answers that are blurted.
    pub blurt: f64,
    /// Share of answers that are worked out; the rest are checked too.
    pub work: f64,
    /// Share of lines in which the sum is wrong.
    pub slip: f64,
    /// The largest error of a blurted answer.
    pub miss: i64,
}

/// A counter and its moves.
struct Question {
    start: i64,
    /// Signed, one digit each.
    moves: Vec<i64>,
}

impl Moves {
    /// Problem `i` of `split`. Answers are in 0..=99, and so is every value on the way.
    pub fn problem(&self, split: Split, i: u64) -> Problem {
        let question = self.question(split, i);
        Problem {
            id: format!("moves-{split}-{}-{i:06}", self.seed),
            prompt: Some(question.prompt()),
            answer: question.values().last().unwrap_or(question.start).to_string(),
            reward: Some("number".to_owned()),
            meta: Some([("moves".to_owned(), json!(self.n_moves))].into_iter().collect()),
            ..Problem::default()
        }
    }

    /// Text `i`: a problem of the training split, with two to `n_moves` moves, and how somebody answered it.
    pub fn text(&self, habits: &Habits, i: u64) -> String {
        let mut random = Random::keyed([KEY, self.seed, 1, i]);
        let mut chance = |share: f64| (random.below(1 << 20) as f64) < share * f64::from(1 << 20);
        let way = if chance(habits.blurt) {
            Way::Blurt
        } else if chance(habits.work / (1.0 - habits.blurt)) {
            Way::Work
        } else {
            Way::Check
        };
        let n_moves = random.within(2..=self.n_moves.max(2) as i64) as usize;
        let question = Self { n_moves, ..*self }.question(Split::Train, TEXTS + i);
        question.prompt() + &question.answer(way, habits, &mut random)
    }

    /// Question `i` of a split: the first candidate of its own stream that is in it, so that no two splits share one.
    fn question(&self, split: Split, i: u64) -> Question {
        let side = u64::from(split == Split::Test);
        let mut random = Random::keyed([KEY, self.seed, 2 + side, i]);
        loop {
            let question = Question::draw(self.n_moves.min(MAX_MOVES), &mut random);
            let words = [question.start].into_iter().chain(question.moves.iter().copied());
            if split.holds(stable_hash(words.map(|word| word as u64))) {
                return question;
            }
        }
    }
}

/// Texts ask other questions of the training split than problems do.
const TEXTS: u64 = 1 << 32;

impl Question {
    fn draw(n_moves: usize, random: &mut Random) -> Self {
        let start = random.within(1..=9);
        let mut value = start;
        let mut moves = Vec::with_capacity(n_moves);
        while moves.len() < n_moves {
            let by = random.signed(9);
            if (0..=99).contains(&(value + by)) {
                value += by;
                moves.push(by);
            }
        }
        Self { start, moves }
    }

    /// The value of the counter after each move.
    fn values(&self) -> impl Iterator<Item = i64> {
        self.moves.iter().scan(self.start, |value, by| {
            *value += by;
            Some(*value)
        })
    }

    fn prompt(&self) -> String {
        let moves: Vec<String> =
            LABELS.chars().zip(&self.moves).map(|(label, by)| format!("{label}{by:+}")).collect();
        format!("{}:{}?\n", moves.join(" "), self.start)
    }

    /// An answer in `way`, with the slips and misses of `habits`.
    fn answer(&self, way: Way, habits: &Habits, random: &mut Random) -> String {
        let mut text = String::new();
        let mut value = self.start;
        if way == Way::Blurt {
            let right = self.values().last().unwrap_or(value);
            value = (right + random.within(-habits.miss..=habits.miss)).clamp(0, 99);
        } else {
            for (label, by) in LABELS.chars().zip(&self.moves) {
                let right = value + by;
                let slips = (random.below(1 << 20) as f64) < habits.slip * f64::from(1 << 20);
                let written = if slips { (right + random.signed(2)).clamp(0, 99) } else { right };
                let line = |result: i64| format!("{label}{by:+}={result}");
                text += &line(written);
                value = match way {
                    Way::Check if written != right => {
                        text += &[" wait\n", &line(right), " ok\n"].concat();
                        right
                    }
                    Way::Check => {
                        text += " ok\n";
                        right
                    }
                    _ => {
                        text += "\n";
                        written
                    }
                };
            }
        }
        text + &format!("Answer: {value}")
    }
}

const LABELS: &str = "abcdefghijklmnopqrstuvwxyz";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const WORLD: Moves = Moves { n_moves: 6, seed: 3 };

    /// The end of the counter, read from the prompt by other means.
    fn end(prompt: &str) -> i64 {
        let (moves, start) = prompt.trim_end().trim_end_matches('?').split_once(':').expect("a start");
        let by = |part: &str| part[1..].parse::<i64>().expect("a signed digit");
        start.parse::<i64>().expect("a digit") + moves.split(' ').map(by).sum::<i64>()
    }

    #[test]
    fn answers_are_where_the_counter_ends_and_splits_share_no_question() {
        let prompts = |split| {
            (0..300).map(move |i| WORLD.problem(split, i)).inspect(|problem| {
                let prompt = problem.prompt.as_deref().expect("a prompt");
                assert_eq!(problem.answer, end(prompt).to_string(), "{prompt}");
            })
        };
        let texts = |split| prompts(split).filter_map(|p| p.prompt).collect::<HashSet<String>>();
        let (train, test) = (texts(Split::Train), texts(Split::Test));
        assert!(train.is_disjoint(&test) && train.len() > 295 && test.len() > 290);
    }

    #[test]
    fn each_way_is_as_common_as_its_habit_and_only_checkers_mend_slips() {
        let habits = Habits { blurt: 0.5, work: 0.3, slip: 0.1, miss: 2 };
        let (mut ways, mut right) = ([0; 3], [0; 3]);
        for i in 0..4000 {
            let text = WORLD.text(&habits, i);
            let (prompt, answer) = text.split_once('\n').expect("a prompt");
            let way = if !answer.contains('=') {
                0
            } else if !answer.contains(" ok") {
                1
            } else {
                2
            };
            ways[way] += 1;
            right[way] += usize::from(answer.ends_with(&format!("Answer: {}", end(prompt))));
        }
        let share = |way: usize| f64::from(ways[way]) / 4000.0;
        assert!((share(0) - 0.5).abs() < 0.03 && (share(1) - 0.3).abs() < 0.03, "{ways:?}");
        let accuracy = |way: usize| right[way] as f64 / f64::from(ways[way]);
        assert!(accuracy(2) == 1.0 && (accuracy(0) - 0.2).abs() < 0.06, "{}", accuracy(0));
        let want = (2..=6).map(|n| 0.9f64.powi(n)).sum::<f64>() / 5.0;
        assert!((accuracy(1) - want).abs() < 0.06, "{}", accuracy(1));
    }

    #[test]
    fn a_text_reads_as_described() {
        let question = Question { start: 7, moves: vec![-2, 9] };
        let mut random = Random::keyed([0; 4]);
        assert_eq!(question.prompt(), "a-2 b+9:7?\n");
        let habits = |slip| Habits { blurt: 0.0, work: 0.0, slip, miss: 0 };
        assert_eq!(question.answer(Way::Blurt, &habits(0.0), &mut random), "Answer: 14");
        assert_eq!(question.answer(Way::Work, &habits(0.0), &mut random), "a-2=5\nb+9=14\nAnswer: 14");
        let checked = question.answer(Way::Check, &habits(1.0), &mut random);
        assert!(checked.contains("a-2=") && checked.contains(" wait\na-2=5 ok\n"), "{checked}");
    }
}
