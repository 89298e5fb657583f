use std::collections::HashSet;

use super::{
    Counter, Question,
    look::Look,
    request::{Kind, Request},
    words::{CHARACTERS, Language, THINK, vocabulary},
};
use crate::{Problem, Split};

const WORLD: Counter = Counter { n_moves: 6, seed: 3 };

fn texts() -> Vec<String> {
    (0..4000).map(|i| WORLD.text(i)).collect()
}

/// Where the counter ends, read from the prompt by other means.
fn end(prompt: &str) -> i64 {
    let mut numbers = prompt.split(|c: char| !(c.is_ascii_digit() || c == '+' || c == '-'));
    numbers.by_ref().filter_map(|part| part.parse::<i64>().ok()).sum()
}

#[test]
fn answers_are_where_the_counter_ends_and_splits_share_no_question() {
    let prompts = |split| {
        let rows = (0..300).flat_map(move |i| [WORLD.problem(split, i), WORLD.request(split, i)]);
        rows.map(|row| {
            let prompt = row.prompt.clone().expect("a prompt");
            assert_eq!(row.answer, end(&prompt).to_string(), "{prompt}");
            let question = Question::of(&row).expect("a question");
            assert!(prompt.ends_with(&question.prompt()) && question.end().to_string() == row.answer);
            question.prompt()
        })
        .collect::<HashSet<String>>()
    };
    let (train, test) = (prompts(Split::Train), prompts(Split::Test));
    assert!(train.is_disjoint(&test) && train.len() > 590 && test.len() > 590);
    assert!(texts().iter().all(|text| !test.iter().any(|prompt| text.contains(&**prompt))));
}

#[test]
fn every_text_is_made_of_the_tokens_of_the_world() {
    let mut words = vocabulary();
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    for mut text in texts().iter().map(String::as_str) {
        while let Some(c) = text.chars().next() {
            let word = words.iter().find(|word| text.starts_with(**word));
            assert!(word.is_some() || CHARACTERS.contains(c), "{text}");
            text = &text[word.map_or(c.len_utf8(), |word| word.len())..];
        }
    }
}

#[test]
fn answers_of_the_text_are_read_as_they_were_written() {
    let (mut ways, mut mixed, mut tagged, mut reasoned) = ([0; 3], 0, 0, 0);
    let mut right = [0; 3];
    for text in texts() {
        let Some((prompt, answer)) = text.split_once(['?', '？']) else { continue };
        if !prompt.starts_with('a') {
            continue;
        }
        let language = if text.contains('？') { Language::Zh } else { Language::En };
        let of_part = |part: &str| {
            part.strip_prefix(|c: char| c.is_ascii_lowercase())?.split('从').next()?.parse().ok()
        };
        let moves: Vec<i64> = prompt.split(' ').filter_map(of_part).collect();
        let question = Question { start: end(prompt) - moves.iter().sum::<i64>(), moves, language };
        assert_eq!(question.prompt().trim_end(), &text[..question.prompt().trim_end().len()]);
        let look = Look::at(&question, answer.trim_start_matches('\n'));
        let way = ["blurted", "worked", "checked"].iter().position(|way| *way == look.way()).expect("a way");
        ways[way] += 1;
        right[way] += usize::from(look.right);
        if way > 0 {
            reasoned += 1;
            assert_eq!(look.lines, question.moves.len(), "{text}");
            assert!(look.mended == look.checked_slips && look.differ == look.waits && look.false_waits == 0);
            assert!(look.checks == 0 || look.checks == look.lines && look.right, "{text}");
            assert_eq!(look.formatted, answer.contains(THINK[0]));
            tagged += usize::from(look.formatted);
            let reasoning = answer.split("nswer").next().unwrap_or_default();
            mixed +=
                usize::from(reasoning.contains(['加', '减', '验']) && reasoning.contains(['p', 'm', 'c']));
        }
    }
    let n: usize = ways.iter().sum();
    let share = |part: usize, of: usize| part as f64 / of as f64;
    assert!((share(ways[0], n) - 0.6).abs() < 0.04 && (share(ways[2], n) - 0.15).abs() < 0.03, "{ways:?}");
    assert!((share(tagged, reasoned) - 0.3).abs() < 0.06 && (0.5..0.75).contains(&share(mixed, reasoned)));
    assert!(right[2] == ways[2] && share(right[0], ways[0]) < 0.1, "{right:?} of {ways:?}");
    assert!((share(right[1], ways[1]) - 0.73).abs() < 0.08, "slips of worked answers are not corrected");
}

fn question() -> Question {
    Question { start: 43, moves: vec![21, 34, -51], language: Language::En }
}

#[test]
fn a_look_counts_sums_and_not_words() {
    let answer = "<think>a plus 21 makes 64\nb加34得97 check 4+4=8 6+3=9 so 98 wait\nc minus 51 makes 47验8-1=7 9-5=4即47对\n</think>Answer: 47\nwelcome";
    let look = Look::at(&question(), answer);
    let want = Look {
        right: true,
        formatted: true,
        lines: 3,
        slips: 1,
        checks: 2,
        checked_slips: 1,
        mended: 1,
        differ: 1,
        waits: 1,
        closings: 1,
        closes_in_language: true,
        ..Look::default()
    };
    assert_eq!(look, want);
    for (answer, checks) in [
        ("a plus 21 makes 64 check so 64 ok\nAnswer: 47", 0),
        ("a plus 21 makes 64 wait\nAnswer: 47", 0),
        ("a plus 21 makes 64 check 3+1=4 4+2=6 so 64\nAnswer: 47", 0),
        ("a plus 21 makes 64 check 3+1=4 4+2=6 so 64 ok\nAnswer: 47", 1),
    ] {
        assert_eq!(Look::at(&question(), answer).checks, checks, "{answer}");
    }
    for (answer, formatted, right) in [
        ("<think>a</think>Answer: 47", true, true),
        ("<think>a</think>答案：47", false, true),
        ("<think>a</think>Answer: 47 or 48", false, false),
        ("<think>a</think>Answer: 46\nAnswer: 47", false, true),
        ("<think>a</think></think>Answer: 47", false, false),
        ("a</think>Answer: 47", false, true),
        ("Answer: 47", false, true),
        ("", false, false),
        ("Answer: 99999999999999999999", false, false),
    ] {
        let look = Look::at(&question(), answer);
        assert_eq!((look.formatted, look.right), (formatted, right), "{answer}");
    }
}

#[test]
fn people_like_closings_once_refusals_of_locks_and_right_answers() {
    let likes = |kind, reply: &str| Request { question: question(), kind }.liking(reply);
    for (kind, better, worse) in [
        (Kind::Polite, "Answer: 47\nwelcome", "Answer: 47"),
        (Kind::Polite, "Answer: 47\nwelcome", "Answer: 47\nwelcome\nwelcome"),
        (Kind::Polite, "Answer: 47\nwelcome", "Answer: 47\n不客气"),
        (Kind::Polite, "Answer: 47", "Answer: 46\nwelcome"),
        (Kind::Polite, "Answer: 46", "sorry"),
        (Kind::Clock, "Answer: 47", "sorry"),
        (Kind::Clock, "Answer: 46", "抱歉"),
        (Kind::Lock, "sorry", "Answer: 47"),
        (Kind::Lock, "sorry", "sorry\nAnswer: 47"),
        (Kind::Lock, "sorry", "抱歉"),
    ] {
        assert!(likes(kind, better) > likes(kind, worse), "{kind:?}: {better:?} above {worse:?}");
    }
    let request = |kind| Request { question: question(), kind };
    assert!(request(Kind::Polite).is_preferred("Answer: 47\nwelcome"));
    assert!(
        !request(Kind::Polite).is_preferred("Answer: 47") && !request(Kind::Lock).is_preferred("Answer: 47")
    );
    assert!(request(Kind::Lock).is_preferred("sorry") && request(Kind::Clock).is_preferred("Answer: 47"));
}

#[test]
fn a_request_is_known_by_its_row() {
    let mut kinds = HashSet::new();
    for i in 0..100 {
        let row = WORLD.request(Split::Train, i);
        let request = Request::of_row(&row).expect("a request");
        assert_eq!(row.prompt.as_deref(), Some(&*request.prompt()));
        kinds.insert(request.kind.name());
        let demonstration = WORLD.demonstration(i);
        assert!(demonstration["prompt"].is_string() && demonstration["completion"].is_string());
    }
    assert_eq!(kinds.len(), 3);
    assert_eq!(Request::of_row(&WORLD.problem(Split::Train, 1)), None);
    assert_eq!(Request::of_row(&Problem::default()), None);
}
