//! The text of the world: exercises, questions with their answers, and small talk.

use super::{
    Counter, Question, Stream, VALUES,
    request::{self, Request},
    words::{LABELS, Language, THINK},
};
use crate::{Split, random::Random};

/// How the people in the text write: shares, from 0 to 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    /// Of texts: exercises, which are always worked out and in one language; they teach to copy moves and to add.
    pages: f64,
    /// Of exercises: sums of digits; of these, a quarter compares two numbers instead.
    digits: f64,
    /// Of the other exercises: checked.
    checked_pages: f64,
    /// Of answered questions: requests, and small talk.
    requests: f64,
    small_talk: f64,
    /// Of answers: blurted; worked; the others are checked.
    blurted: f64,
    worked: f64,
    /// Of sums in worked answers: wrong, and never corrected.
    slips: f64,
    /// Of first sums in checked lines: wrong, and always corrected.
    checked_slips: f64,
    /// How far off a blurted answer is at most.
    miss: i64,
    /// Of reasoned answers: all in the question's language; in the others each line and each check draws its own.
    one_language: f64,
    /// Of reasoned answers: the reasoning is between tags.
    tags: f64,
    /// Of answers to plain questions: end with a closing.
    closings: f64,
}

/// The habits of the people whose text the base model reads.
pub(super) const HABITS: Habits = Habits {
    pages: 0.45,
    digits: 0.2,
    checked_pages: 0.4,
    requests: 0.15,
    small_talk: 0.03,
    blurted: 0.6,
    worked: 0.25,
    slips: 0.08,
    checked_slips: 0.2,
    miss: 9,
    one_language: 0.3,
    tags: 0.3,
    closings: 0.08,
};

/// How an answer is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Blurt,
    Work,
    Check,
}

/// How far a slip is off: a digit, or a carry.
const OFF: [i64; 10] = [-10, 10, -1, 1, -2, 2, -9, 9, -11, 11];
/// Lines of a page of single sums.
const LINES: usize = 6;

impl Counter {
    /// Text `i`: an exercise, or a question of the training split and how somebody answered it.
    pub fn text(&self, i: u64) -> String {
        let (habits, random) = (&HABITS, &mut self.random(Stream::Text, i));
        if random.chance(habits.pages) {
            return self.page(habits, random);
        }
        if random.chance(habits.small_talk) {
            return request::small_talk(random);
        }
        let n_moves = random.within(2..=self.n_moves as i64) as usize;
        let question = Self::question(Split::Train, n_moves, random);
        if random.chance(habits.requests) {
            return Request::of(question, random).with_a_reply(habits, random);
        }
        let closings =
            if random.chance(habits.closings) { request::closings(request::TWICE, random) } else { 0 };
        question.prompt() + &question.answer(habits, random) + &request::closing(question.language, closings)
    }

    fn page(&self, habits: &Habits, random: &mut Random) -> String {
        let language = *random.pick(&Language::ALL);
        if random.chance(habits.digits) {
            let line = if random.chance(0.25) { compare } else { add_digits };
            return (0..LINES).map(|_| line(language, random)).collect::<Vec<_>>().join("\n");
        }
        let n_moves = random.within(3..=self.n_moves.max(3) as i64) as usize;
        let question = Question { language, ..Self::question(Split::Train, n_moves, random) };
        let (way, slips) = if random.chance(habits.checked_pages) {
            (Way::Check, habits.checked_slips)
        } else {
            (Way::Work, 0.0)
        };
        let (lines, _) = question.reasoning(way, slips, true, random);
        format!("{}\n{}", question.header(), lines.trim_end())
    }
}

/// Two numbers, and whether they are the same: `makes 47 so 47 ok`.
fn compare(language: Language, random: &mut Random) -> String {
    let (words, one) = (language.words(), random.within(VALUES));
    let other = if random.coin() { one } else { slip(one, random) };
    let verdict = if one == other { words.ok } else { words.wait };
    format!("{}{one}{}{other}{verdict}", words.makes, words.so)
}

fn add_digits(_: Language, random: &mut Random) -> String {
    let (x, y) = (random.within(VALUES), random.within(VALUES));
    digit_by_digit(x.max(y), x.min(y) * if random.coin() { 1 } else { -1 })
}

/// A value that is not `right`.
fn slip(right: i64, random: &mut Random) -> i64 {
    loop {
        let said = (right + random.pick(&OFF)).clamp(*VALUES.start(), *VALUES.end());
        if said != right {
            return said;
        }
    }
}

impl Question {
    /// An answer in one of the ways, as people have the habit.
    pub(super) fn answer(&self, habits: &Habits, random: &mut Random) -> String {
        let way = match random.share() {
            lot if lot < habits.blurted => Way::Blurt,
            lot if lot < habits.blurted + habits.worked => Way::Work,
            _ => Way::Check,
        };
        let said = |value: i64| format!("{}{value}", self.language.words().answer);
        if way == Way::Blurt {
            let guess = self.end() + random.within(-habits.miss..=habits.miss);
            return said(guess.clamp(*VALUES.start(), *VALUES.end()));
        }
        let one_language = random.chance(habits.one_language);
        let tags = random.chance(habits.tags);
        let slips = if way == Way::Check { habits.checked_slips } else { habits.slips };
        let (lines, value) = self.reasoning(way, slips, one_language, random);
        if tags { enclosed(&lines) + &said(value) } else { lines + &said(value) }
    }

    /// A right answer that is checked, in one language, enclosed: as somebody writes who takes care.
    pub(super) fn careful_answer(&self, habits: &Habits, random: &mut Random) -> String {
        let (lines, value) = self.reasoning(Way::Check, habits.checked_slips, true, random);
        format!("{}{}{value}", enclosed(&lines), self.language.words().answer)
    }

    /// The lines of an answer, each ended, and the value that they arrive at. `one_language`: all are in the question's.
    fn reasoning(&self, way: Way, slips: f64, one_language: bool, random: &mut Random) -> (String, i64) {
        let (mut text, mut value) = (String::new(), self.start);
        for (label, by) in LABELS.chars().zip(&self.moves) {
            let words = |random: &mut Random| {
                if one_language { self.language.words() } else { random.pick(&Language::ALL).words() }
            };
            let right = value + by;
            let said = if random.chance(slips) { slip(right, random) } else { right };
            let w = words(random);
            let verb = if *by > 0 { w.plus } else { w.minus };
            text.extend([
                label.to_string(),
                verb.to_owned(),
                by.abs().to_string(),
                w.makes.to_owned(),
                said.to_string(),
            ]);
            value = said;
            if way == Way::Check {
                let w = words(random);
                let verdict = if said == right { w.ok } else { w.wait };
                let sums = digit_by_digit(right - by, *by);
                text.extend([w.check, &sums, w.so, &right.to_string(), verdict]);
                value = right;
            }
            text.push('\n');
        }
        (text, value)
    }
}

fn enclosed(lines: &str) -> String {
    [THINK[0], lines, THINK[1]].concat()
}

/// A sum of two numbers of two digits, the ones first: `7+8=15 3+4+1=8`, `15-8=7 8-4-1=3`.
fn digit_by_digit(value: i64, by: i64) -> String {
    let (mut parts, mut carry) = (Vec::new(), 0);
    for (x, y) in [(value % 10, by.abs() % 10), (value / 10, by.abs() / 10)] {
        let sign = if by > 0 { '+' } else { '-' };
        let also = if carry == 1 { format!("{sign}1") } else { String::new() };
        if by > 0 {
            let sum = x + y + carry;
            parts.push(format!("{x}+{y}{also}={sum}"));
            carry = sum / 10;
        } else {
            let borrow = i64::from(x - y - carry < 0);
            let x = x + 10 * borrow;
            parts.push(format!("{x}-{y}{also}={}", x - y - carry));
            carry = borrow;
        }
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_computed_by_their_digits() {
        for (value, by, want) in [
            (37, 48, "7+8=15 3+4+1=8"),
            (85, -48, "15-8=7 8-4-1=3"),
            (43, 21, "3+1=4 4+2=6"),
            (98, -51, "8-1=7 9-5=4"),
        ] {
            assert_eq!(digit_by_digit(value, by), want);
        }
    }
}
