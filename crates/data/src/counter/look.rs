//! What an answer in the counter's world did, found by reading it: its way, its sums and checks, its closings. Nothing here looks for words of
//! reflection; a check is counted by the sum that it computes again.

use super::{
    Question,
    words::{LABELS, Language, THINK, Words},
};

/// What an answer did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "findings, each by itself")]
pub struct Look {
    /// The last answer line says where the counter ends.
    pub right: bool,
    /// Reasoning between tags, then an answer line in the question's language, and nothing else but closings.
    pub formatted: bool,
    /// Lines that make a move.
    pub lines: usize,
    /// First sums that are wrong.
    pub slips: usize,
    /// Lines whose sum is computed a second time.
    pub checks: usize,
    /// Of these, those whose first sum was wrong.
    pub checked_slips: usize,
    /// Of these, those whose second sum is right.
    pub mended: usize,
    /// Checks that differ from the first sum.
    pub differ: usize,
    /// Of these, those that say so.
    pub waits: usize,
    /// Checks that agree with the first sum, and say otherwise.
    pub false_waits: usize,
    /// Closings at its end.
    pub closings: usize,
    /// All of them are in the question's language.
    pub closes_in_language: bool,
    /// It has a refusal.
    pub refuses: bool,
    /// It is a refusal in the question's language, and nothing else.
    pub refuses_only: bool,
}

impl Look {
    /// At an answer to `question`.
    pub fn at(question: &Question, answer: &str) -> Self {
        let words = question.language.words();
        let both = Language::ALL.map(Language::words);
        let (reasoning, reply) = match answer.split_once(THINK[1]) {
            Some((reasoning, reply)) => (reasoning, reply),
            None => (answer, answer),
        };
        let mut look = Self { refuses_only: answer.trim() == words.sorry, ..Self::default() };
        let mut lines: Vec<&str> = reply.trim_end().split('\n').collect();
        look.refuses = lines.iter().any(|line| both.iter().any(|w| *line == w.sorry));
        look.closes_in_language = true;
        while let Some(closing) = lines.last().and_then(|line| both.iter().find(|w| *line == w.welcome)) {
            look.closings += 1;
            look.closes_in_language &= closing.code == words.code;
            lines.pop();
        }
        let said = lines.iter().rev().find_map(|line| both.iter().find_map(|w| line.strip_prefix(w.answer)));
        look.right = said.is_some_and(|said| said.parse() == Ok(question.end()));
        let is_tagged = answer.starts_with(THINK[0])
            && answer.matches(THINK[0]).count() == 1
            && reply.len() < answer.len();
        look.formatted = is_tagged
            && !reply.contains(THINK[1])
            && lines.len() == 1
            && number_after(lines[0], words.answer);
        look.read(question.start, reasoning.trim_start_matches(THINK[0]));
        look
    }

    /// The lines of the reasoning, the first of which goes on from `value`.
    fn read(&mut self, mut value: i64, reasoning: &str) {
        for line in reasoning.lines() {
            let Some(line) = Line::read(line) else { continue };
            let right = value + line.by;
            self.lines += 1;
            self.slips += usize::from(line.said != right);
            value = line.said;
            if let Some((checked, waits)) = line.check {
                let differs = checked != line.said;
                self.checks += 1;
                self.differ += usize::from(differs);
                self.waits += usize::from(waits && differs);
                self.false_waits += usize::from(waits && !differs);
                self.checked_slips += usize::from(line.said != right);
                self.mended += usize::from(line.said != right && checked == right);
                value = checked;
            }
        }
    }

    /// Blurted, worked or checked.
    pub fn way(&self) -> &'static str {
        match (self.lines, self.checks) {
            (0, _) => "blurted",
            (_, 0) => "worked",
            _ => "checked",
        }
    }
}

fn number_after(line: &str, prefix: &str) -> bool {
    line.strip_prefix(prefix)
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// A line that makes a move.
struct Line {
    by: i64,
    said: i64,
    /// The result of the second sum, and whether the verdict is that it differs.
    check: Option<(i64, bool)>,
}

impl Line {
    /// Reads `a plus 21 makes 64`, with or without ` check 3+1=4 4+2=6 so 64 ok`; each part in either language.
    fn read(line: &str) -> Option<Self> {
        let text = line.strip_prefix(|c| LABELS.contains(c))?;
        let (sign, text) = word(text, &[(1, |w| w.plus), (-1, |w| w.minus)])?;
        let (by, text) = number(text)?;
        let ((), text) = word(text, &[((), |w| w.makes)])?;
        let (said, text) = number(text)?;
        if text.is_empty() {
            return Some(Self { by: sign * by, said, check: None });
        }
        let ((), text) = word(text, &[((), |w| w.check)])?;
        let end = text.find(|c: char| !(c.is_ascii_digit() || "+-= ".contains(c))).unwrap_or(text.len());
        let sums = text[..end].trim_end();
        // A second computation, and not only the word for one.
        if !sums.contains('=') {
            return None;
        }
        let text = &text[sums.len()..];
        let ((), text) = word(text, &[((), |w| w.so)])?;
        let (checked, text) = number(text)?;
        let (waits, text) = word(text, &[(true, |w| w.wait), (false, |w| w.ok)])?;
        text.is_empty().then_some(Self { by: sign * by, said, check: Some((checked, waits)) })
    }
}

/// Which of a language's words.
type OfWords = fn(&Words) -> &'static str;

/// The first of `words`, in either language, that `text` begins with, and what follows it.
fn word<'a, T: Copy>(text: &'a str, words: &[(T, OfWords)]) -> Option<(T, &'a str)> {
    words.iter().find_map(|(value, of)| {
        let mut rests =
            Language::ALL.into_iter().filter_map(|language| text.strip_prefix(of(language.words())));
        rests.next().map(|rest| (*value, rest))
    })
}

fn number(text: &str) -> Option<(i64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    // Longer numbers are none of this world's.
    (1..=6).contains(&end).then(|| Some((text[..end].parse().ok()?, &text[end..])))?
}
