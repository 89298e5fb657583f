//! The term `format`: the reasoning and the answer are where the prompt asks for them.
//!
//! Two shapes. `think-answer`, the default, is R1-Zero's (arXiv:2501.12948, §2.2.2): `<think>…</think>`, then
//! `<answer>…</answer>`; nothing but white space is allowed before, between or after the blocks. `think` is R1's:
//! `<think>…</think>`, then an answer in free text, which must not be empty. In both, each tag occurs exactly once
//! and in order; the content of the blocks does not matter, and neither does the reference answer.
//!
//! A completion of this shape scores 1 (`scores.correct`), any other 0 (`scores.wrong`). With `partial = p`
//! above 0, any other scores `p · (tags that occur exactly once) / (tags of the shape)`: each of the four tags of
//! `think-answer` is worth a quarter of p, as in Open-R1's tag count.
//!
//! `answer`, a regular expression, asks more of what follows the thinking, or stands in the answer's block: it must match all of it, without the
//! white space around it. The syntax is that of the crate `regex`: no look-arounds and no back-references, so the time is linear in the text.
//!
//! Where the prompt itself ends in `<think>`, as some chat templates have it, set `opened = true`: the completion
//! is then read as if that tag came before it.

use crate::verifier::{Configured, Context, Sample, Verifier};
use crate::{Outcome, Verdict};
use koan_data::Problem;
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Most memory that a compiled pattern may take, bytes.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// The shape that a completion should have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// `<think>…</think>`, then `<answer>…</answer>`.
    #[default]
    ThinkAnswer,
    /// `<think>…</think>`, then free text.
    Think,
}

impl Shape {
    /// The tags, in their order.
    fn tags(self) -> &'static [&'static str] {
        const TAGS: &[&str] = &["<think>", "</think>", "<answer>", "</answer>"];
        match self {
            Self::ThinkAnswer => TAGS,
            Self::Think => &TAGS[..2],
        }
    }
}

/// The options of `format`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The shape that a completion should have.
    pub shape: Shape,
    /// The score for the tags alone, 0 to 1.
    pub partial: f64,
    /// Whether the prompt ends in `<think>`.
    pub opened: bool,
    /// A regular expression that the whole answer must match; empty: any answer will do.
    pub answer: String,
}

/// Judges the format of completions.
#[derive(Clone, Debug)]
pub struct Format {
    options: Options,
    answer: Option<Regex>,
}

impl Configured for Format {
    type Options = Options;

    fn build(options: Options, _: &Context) -> Result<Self, String> {
        if !(0.0..=1.0).contains(&options.partial) {
            return Err(format!("`partial` is {}; write a number from 0 to 1", options.partial));
        }
        let whole = format!("^(?:{})$", options.answer);
        let pattern = RegexBuilder::new(&whole).size_limit(MAX_PATTERN_BYTES).build();
        let pattern = pattern
            .map_err(|error| format!("`answer` is no regular expression that can be used: {error}"))?;
        let answer = (!options.answer.is_empty()).then_some(pattern);
        Ok(Self { options, answer })
    }
}

impl Verifier for Format {
    fn judge(&self, sample: &Sample) -> Verdict {
        judged(sample.completion, &self.options, self.answer.as_ref())
    }

    fn check(&self, _: &Problem) -> Result<(), String> {
        Ok(())
    }
}

/// Judges the tags of `completion`, whatever the pattern of the answer. `parsed` is the answer.
pub fn judge(completion: &str, options: &Options) -> Verdict {
    judged(completion, options, None)
}

fn judged(completion: &str, options: &Options, pattern: Option<&Regex>) -> Verdict {
    let text =
        if options.opened { Cow::Owned(format!("<think>{completion}")) } else { Cow::Borrowed(completion) };
    let answer = answer(&text, options.shape).map(str::trim);
    let matched = answer.and_then(|answer| match pattern {
        Some(pattern) if !pattern.is_match(answer) => {
            Err("the answer is not as `answer` asks for".to_owned())
        }
        _ => Ok(answer),
    });
    match matched {
        Ok(answer) => Verdict::new(Outcome::Correct, answer, "the format is as asked for"),
        Err(reason) if options.partial > 0.0 => {
            let tags = options.shape.tags();
            let once = tags.iter().filter(|tag| text.matches(**tag).count() == 1).count();
            let score = (options.partial * once as f64 / tags.len() as f64) as f32;
            Verdict { score: Some(score), ..Verdict::without_answer(Outcome::Wrong, reason) }
        }
        Err(reason) => Verdict::without_answer(Outcome::Wrong, reason),
    }
}

/// The answer, or what is wrong with the format.
fn answer(text: &str, shape: Shape) -> Result<&str, String> {
    let mut parts = [""; 4]; // what stands before each tag
    let mut rest = text;
    for (part, tag) in parts.iter_mut().zip(shape.tags()) {
        match text.matches(tag).count() {
            1 => {}
            0 => return Err(format!("`{tag}` is missing")),
            n => return Err(format!("`{tag}` stands {n} times")),
        }
        (*part, rest) = rest.split_once(tag).ok_or_else(|| format!("`{tag}` is out of order"))?;
    }
    let [before, _thinking, between, answer] = parts;
    let (answer, after) = match shape {
        Shape::ThinkAnswer => (answer, rest),
        Shape::Think if rest.trim().is_empty() => return Err("there is no answer after the thinking".into()),
        Shape::Think => (rest, ""),
    };
    for (text, place) in [(before, "before"), (between, "between"), (after, "after")] {
        if !text.trim().is_empty() {
            return Err(format!("there is text {place} the blocks"));
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const THINK: Options =
        Options { shape: Shape::Think, partial: 0.0, opened: false, answer: String::new() };

    #[test]
    fn accepts_two_blocks_and_white_space() {
        for good in [
            "<think>2 + 3 = 5</think><answer>5</answer>",
            "\n<think>\na\nb\n</think>\n\n<answer>\n5\n</answer>\n",
            "<think></think><answer>5</answer>",
        ] {
            let verdict = judge(good, &Options::default());
            assert_eq!((verdict.outcome, verdict.parsed.as_deref()), (Outcome::Correct, Some("5")), "{good}");
        }
    }

    #[test]
    fn refuses_all_else_and_says_why() {
        for (bad, reason) in [
            ("", "`<think>` is missing"),
            ("<think>a</think>5", "`<answer>` is missing"),
            ("<think>a</think><answer>5", "`</answer>` is missing"),
            ("<think>a<think>b</think><answer>5</answer>", "`<think>` stands 2 times"),
            ("<answer>5</answer><think>a</think>", "`<answer>` is out of order"),
            ("so <think>a</think><answer>5</answer>", "there is text before the blocks"),
            ("<think>a</think> so <answer>5</answer>", "there is text between the blocks"),
            ("<think>a</think><answer>5</answer>.", "there is text after the blocks"),
        ] {
            let verdict = judge(bad, &Options::default());
            assert_eq!((verdict.outcome, verdict.reason.as_str()), (Outcome::Wrong, reason), "{bad}");
        }
    }

    #[test]
    fn the_shape_think_has_a_free_answer() {
        for (text, expected) in [
            ("<think>a</think>It is 5.", Ok("It is 5.")),
            ("<think>a</think><answer>5</answer>", Ok("<answer>5</answer>")),
            ("<think>a</think> \n", Err("there is no answer after the thinking")),
            ("a</think>5", Err("`<think>` is missing")),
            ("Well, <think>a</think>5", Err("there is text before the blocks")),
            ("<think>a</think>5</think>", Err("`</think>` stands 2 times")),
        ] {
            let verdict = judge(text, &THINK);
            let found = verdict.parsed.as_deref().ok_or(verdict.reason.as_str());
            assert_eq!(found, expected, "{text}");
        }
        let opened = Options { opened: true, ..THINK };
        assert_eq!(judge("a</think>5", &opened).outcome, Outcome::Correct);
        assert_eq!(judge("<think>a</think>5", &opened).reason, "`<think>` stands 2 times");
    }

    #[test]
    fn tags_alone_are_worth_a_part() {
        let (four, two) = (Options { partial: 1.0, ..Options::default() }, Options { partial: 0.5, ..THINK });
        let plain = Options::default();
        for (text, options, expected) in [
            ("", &four, Some(0.0)),
            ("<think>a</think>5", &four, Some(0.5)),
            ("<think>a<think>b</think><answer>5</answer>", &four, Some(0.75)),
            ("<answer>5</answer><think>a</think>", &four, Some(1.0)),
            ("a</think>5", &two, Some(0.25)), // one tag of two, of a half
            ("<think>a</think><answer>5</answer>", &four, None), // right: what `scores.correct` says
            ("5", &plain, None),              // wrong: what `scores.wrong` says
        ] {
            assert_eq!(judge(text, options).score, expected, "{text}");
        }
    }

    #[test]
    fn options_are_checked() {
        let build = |partial| Format::build(Options { partial, ..THINK }, &Context::default());
        assert!(build(1.0).is_ok());
        for partial in [-0.1, 1.1, f64::NAN] {
            assert!(build(partial).expect_err("refused").contains("0 to 1"));
        }
    }

    #[test]
    fn the_answer_may_have_to_match_a_pattern() {
        let build = |answer: &str, shape| {
            let options = Options { shape, answer: answer.to_owned(), ..Options::default() };
            Format::build(options, &Context::default())
        };
        let judges = |answer, shape, text: &str| {
            let format = build(answer, shape).expect("a pattern");
            format.judge(&Sample::new(&Problem::default(), text)).outcome == Outcome::Correct
        };
        let line = r"Answer: \d+(\nwelcome)*|答案：\d+";
        for (text, is_right) in [
            ("<think>a</think>Answer: 47", true),
            ("<think>a</think>\nAnswer: 47\nwelcome\nwelcome\n", true),
            ("<think>a</think>答案：47", true),
            ("<think>a</think>Answer: 47 ok", false),
            ("<think>a</think>So: Answer: 47", false),
            ("<think>a</think>答案：47\nwelcome", false),
            ("Answer: 47", false),
        ] {
            assert_eq!(judges(line, Shape::Think, text), is_right, "{text}");
        }
        assert!(judges(r"\\boxed\{.+\}", Shape::ThinkAnswer, r"<think>a</think><answer>\boxed{5}</answer>"));
        assert!(!judges(r"\\boxed\{.+\}", Shape::ThinkAnswer, "<think>a</think><answer>5</answer>"));
        for bad in ["(", "(?=a)", r"(a)\1", "a{1000}{1000}{1000}"] {
            let error = build(bad, Shape::Think).expect_err("refused");
            assert!(error.starts_with("`answer` is no regular expression that can be used: "), "{error}");
        }
        // With a part for the tags, an answer in another form has that part.
        let options = Options { partial: 0.5, answer: "5".to_owned(), ..THINK };
        let format = Format::build(options, &Context::default()).expect("a pattern");
        let score = |text| format.judge(&Sample::new(&Problem::default(), text)).score;
        assert_eq!([score("<think>a</think>6"), score("<think>a</think>5")], [Some(0.5), None]);
    }

    proptest! {
        #[test]
        fn is_total(choices in prop::collection::vec(0..=4_usize, 0..9), partial in 0f64..=1.0, opened: bool) {
            let pieces = choices.into_iter().map(|choice| Shape::ThinkAnswer.tags().get(choice).unwrap_or(&"é "));
            let text = pieces.copied().collect::<String>();
            for shape in [Shape::ThinkAnswer, Shape::Think] {
                let score = judge(&text, &Options { shape, partial, opened, ..Options::default() }).score.unwrap_or(0.0);
                prop_assert!((0.0..=partial as f32).contains(&score));
            }
        }
    }
}
