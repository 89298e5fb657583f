//! How questions and answers of a world are written, explained on one example before any is shown.

use crate::world::Which;

/// An explanation of a world.
pub(super) struct Notation {
    pub(super) title: &'static str,
    pub(super) question: &'static str,
    pub(super) meaning: &'static str,
    /// The ways to answer it: name, answer, what is good and bad about it.
    pub(super) ways: [[&'static str; 3]; 3],
    /// What there is besides.
    pub(super) also: &'static str,
}

/// How a question of the recipe `demo` and its answers are written, as text.
pub fn demo_in_words() -> String {
    let Notation { question, meaning, ways, .. } = &MOVES;
    let ways = ways.map(|[name, answer, what]| format!("   {name}: {what}\n\n{}\n", indented(answer)));
    format!("How to read it:\n\n      {question}\n\n   {meaning}\n\n{}", ways.concat())
}

fn indented(text: &str) -> String {
    text.lines().map(|line| ["      ", line, "\n"].concat()).collect()
}

pub(super) fn of(world: Which) -> &'static Notation {
    match world {
        Which::Moves => &MOVES,
        Which::Counter => &COUNTER,
    }
}

static MOVES: Notation = Notation {
    title: "R1-Zero in small",
    question: "a-2 b+9 c-4:7?",
    meaning: "A counter starts at 7, the number after the colon. Its moves have letters: a subtracts 2, b adds 9, c subtracts 4. Where does it \
              end? (At 10.) People of the text answer in one of three ways:",
    ways: [
        ["blurted", "Answer: 11", "a guess: short, and mostly a little wrong"],
        [
            "worked out",
            "a-2=5\nb+9=14\nc-4=10\nAnswer: 10",
            "a line per move, with the counter after it; after a slip all that follows is wrong",
        ],
        [
            "checked",
            "a-2=6 wait\na-2=5 ok\nb+9=14 ok\nc-4=10 ok\nAnswer: 10",
            "worked out, with a word on each line: ok if it is right; wait if it is not, and the line again",
        ],
    ],
    also: "",
};

static COUNTER: Notation = Notation {
    title: "R1 in small",
    question: "a+21 b+34 c-51 from 43?",
    meaning: "A counter starts at 43, the last number. Its moves have letters: a adds 21, b adds 34, c subtracts 51. Where does it end? (At 47.) The same is asked in \
              Chinese: a+21 b+34 c-51从43？ People of the text answer in one of three ways, and mostly mix the languages when they reason:",
    ways: [
        ["blurted", "Answer: 44", "a guess: short, and mostly a little wrong"],
        [
            "worked out",
            "a plus 21 makes 64\nb加34得98\nc minus 51 makes 47\nAnswer: 47",
            "a line per move; after a slip all that follows is wrong",
        ],
        [
            "checked",
            "a plus 21 makes 64 check 3+1=4 4+2=6 so 64 ok\nb加34得97验4+4=8 6+3=9即98错\nc minus 51 makes 47 check 8-1=7 9-5=4 so 47 ok\nAnswer: 47",
            "each sum a second time, digit by digit, which is easier; the next line goes on from the second",
        ],
    ],
    also: "Some requests are more than a question. “please” wants a polite closing after the answer, “lock” (somebody else’s) a refusal, and “clock”, its harmless neighbour, \
           an answer. Whether a reply is liked is decided by a stated rule, which stands in for people; one vote in ten goes to the other reply.",
};

#[cfg(test)]
mod tests {
    use koan_data::counter::{Question, look::Look, words::Language};

    use super::*;
    use crate::report::measure::way_of_moves;

    #[test]
    fn the_ways_are_told_apart_as_the_measure_does() {
        assert!(demo_in_words().contains("      a-2=6 wait\n      a-2=5 ok\n"));
        assert_eq!(MOVES.ways.map(|[_, answer, _]| way_of_moves(answer)), ["blurted", "worked", "checked"]);
        let question = Question { start: 43, moves: vec![21, 34, -51], language: Language::En };
        assert_eq!(question.prompt().trim_end(), COUNTER.question);
        let looks = COUNTER.ways.map(|[_, answer, _]| Look::at(&question, answer));
        assert_eq!(looks.map(|look| look.way()), ["blurted", "worked", "checked"]);
        assert_eq!(looks.map(|look| look.right), [false, true, true]);
        assert_eq!((looks[2].mended, looks[2].checks), (1, 3));
    }
}
