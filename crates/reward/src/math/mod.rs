//! The verifier `math`: the final answer is found in the completion, read as mathematics, and compared with
//! the reference. Model text is parsed, never evaluated, and every pair of texts gets a verdict within a
//! budget of steps that is the same on every machine.
//!
//! ```text
//! completion ─ find ─► candidate ─ token, parse ─► Expr ─┐
//!                                                        ├ compare ─► correct | wrong | undecided
//! reference ── find ─► candidate ─ token, parse ─► Expr ─┘
//! ```
//!
//! # Where the answer is looked for
//!
//! In what follows the last `</think>` (nothing after a `<think>` that is not closed again), up to a token of a
//! chat template such as `<|im_end|>`:
//!
//! | | place | option |
//! |---|---|---|
//! | 1 | the last `\boxed{…}` or `\fbox{…}`; boxes joined by "and", "or", commas or nothing are one list | [`Options::boxed`], [`Options::join_boxes`] |
//! | 1 | the last `<answer>…</answer>` | [`Options::answer_tag`] |
//! | 1 | behind the last "final answer", to the end of the sentence | [`Options::final_answer`] |
//! | 2 | behind the last "answer is", "answer:", "solution is" and the like | [`Options::answer_phrase`] |
//! | 3 | the line after the last `####` (GSM8K) | [`Options::hash_line`] |
//! | 4 | all of the text, if it holds nothing but a formula | [`Options::whole_text`] |
//! | 5 | the last formula between `$`, `$$`, `\(…\)` or `\[…\]` | [`Options::last_formula`] |
//! | 6 | the last number or formula in plain text | [`Options::last_number`] |
//!
//! Of the places marked 1 the last in the text counts first. A box and a tag are final: if one cannot be
//! read, the completion is unparsable, whatever else it says. The same holds if one is not closed, except that a last box
//! counts if the text ends in it and its content is complete except for the brace. Of the other places, the first that can
//! be read counts. A number after the last formula takes precedence over it if words like "is" lead to it: "the volume
//! of $ABCD$ is 120".
//!
//! # How two answers are compared
//!
//! | | both are | method |
//! |---|---|---|
//! | 1 | read as the same | the same tree |
//! | 2 | rational numbers | exact arithmetic |
//! | 3 | rational functions of variables, π, e, i, square roots and function values | their values modulo two 61-bit primes at a seeded point |
//! | 4 | constants | interval arithmetic at 64, 192 and 512 bits |
//! | 5 | functions | their values at 8 seeded points, by interval arithmetic |
//!
//! Values occur in tuples (in order), sets and lists (in any order), matrices, intervals and their unions (as
//! subsets of the real line), equations and inequalities (one a constant multiple of the other), ratios, units
//! (converted; ignored where only one side has one), letters of multiple choice, and words.
//!
//! # What is no answer
//!
//! An operation on rational numbers whose result is one, `19 + 74`, is no value (`plain`); an expression that the question
//! asks about is no answer where the reference is written in another way (`echo`); [`Options::unevaluated`] accepts both.
//! An answer that names two values is wrong, whatever joins them: of a chain of equalities the last counts, and the chain
//! must be true. What is denied or bounded, "not 3", "at most 3", is not stated. An answer that cannot be decided by its own
//! oddity (it is undefined, unevaluated or too large, and the reference is not) is wrong, not undecided.
//!
//! A decimal may be rounded: it equals any value that rounds to it at [`Options::precision`] places, and to at least
//! three significant digits. Whole numbers are exact, and so is everything not written as a decimal.
//!
//! | module | holds |
//! |---|---|
//! | `find`, `prose` | places of the answer; words distinguished from formulas |
//! | `token`, `commands`, `numeral`, `units` | LaTeX and plain text to tokens |
//! | `clock` | times of day |
//! | `parse`, `expr` | tokens to a typed expression |
//! | `compare`, `region` | two answers of any type; subsets of the real line |
//! | `plain`, `echo` | whether an answer is a value, and not the question |
//! | `values`, `exact`, `identity` | two values: the ladder above |
//! | `evaluate`, `ball`, `float` | interval arithmetic |
//! | `verifier` | its place among the verifiers, and the options that a problem sets |
//! | `budget` | steps, and why a computation stops |

mod ball;
mod budget;
mod clock;
mod commands;
mod compare;
mod echo;
mod evaluate;
mod exact;
mod expr;
mod find;
mod float;
mod identity;
mod numeral;
mod parse;
mod plain;
mod prose;
mod region;
mod token;
mod units;
mod values;
mod verifier;

pub(crate) use verifier::Math;

use crate::separators::ascii_digits;
use crate::verdict::shorten;
use crate::{Outcome, Verdict};
use budget::Budget;
use compare::Comparer;
use echo::Asked;
use expr::Expr;
use find::Candidate;
use serde::{Deserialize, Serialize};
use values::Decision;

/// What the verifier reads and accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch that a user sets by name")]
pub struct Options {
    /// Decimal places to which a decimal must agree with a number that it rounds. Default 6.
    pub precision: u32,
    /// Whether names of variables matter: f(x) is not f(y). Default true.
    pub strict: bool,
    /// Whether an inequality answers a reference that is a set: -2 ≤ x ≤ 7 for [-2, 7]. By default it does not,
    /// since a question that asks to solve an inequality holds one that could be copied. The reverse is always
    /// accepted. Default false.
    pub allow_set_relation_comp: bool,
    /// Whether a percentage equals its bare number too: 28% is 28 as well as 0.28. Default true.
    pub bare_percent: bool,
    /// Whether an operation on numbers answers where the reference is a value, as 19 + 74 does 93, and an expression or
    /// equation that the question asks about. Default false: a reward must not pay for the question.
    pub unevaluated: bool,
    /// Look into `\boxed{…}`. Default true.
    pub boxed: bool,
    /// Take boxes joined by "and", "or", commas or nothing as one list; otherwise the last counts. Default true.
    pub join_boxes: bool,
    /// Look into `<answer>…</answer>`. Default true.
    pub answer_tag: bool,
    /// Look behind "final answer". Default true.
    pub final_answer: bool,
    /// Look behind "answer is", "answer:" and the like. Default true.
    pub answer_phrase: bool,
    /// Look behind `####`. Default true.
    pub hash_line: bool,
    /// Take all of a text that is nothing but an answer. Default true.
    pub whole_text: bool,
    /// Take the last formula. Default true.
    pub last_formula: bool,
    /// Take the last number in plain text. Default true.
    pub last_number: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            precision: 6,
            strict: true,
            allow_set_relation_comp: false,
            bare_percent: true,
            unevaluated: false,
            boxed: true,
            join_boxes: true,
            answer_tag: true,
            final_answer: true,
            answer_phrase: true,
            hash_line: true,
            whole_text: true,
            last_formula: true,
            last_number: true,
        }
    }
}

/// Judges the final answer of `completion` by `answer`. Total: returns for every pair of strings, within a
/// budget of steps.
pub fn judge(completion: &str, answer: &str, options: &Options) -> Verdict {
    judge_asked(completion, answer, None, options)
}

/// Judges the final answer of `completion` to the question `prompt` by `answer`: an expression that the question asks
/// about is no answer, unless the reference is written like it.
pub fn judge_asked(completion: &str, answer: &str, prompt: Option<&str>, options: &Options) -> Verdict {
    let (completion, answer) = (ascii_digits(completion), ascii_digits(answer));
    let (completion, answer) = (completion.as_ref(), answer.as_ref());
    let references = match reference(answer) {
        Ok(references) => references,
        Err(reason) => return Verdict::without_answer(Outcome::BadReference, reason),
    };
    // Several values asked for may stand in a box each, behind their names.
    let is_list = |reference: &Expr| matches!(reference, Expr::List(items) if items.len() > 1);
    let named =
        if options.boxed && references.iter().any(is_list) { find::named_boxes(completion) } else { None };
    let named = named.and_then(|text| readings(&text).ok().map(|readings| (text, readings)));
    let (found, readings) = match named.map_or_else(|| answer_of(completion, options), Ok) {
        Ok(found) => found,
        Err(reason) => return Verdict::without_answer(Outcome::Unparsable, reason),
    };
    let asked = prompt.filter(|_| !options.unevaluated).map(|prompt| Asked::new(prompt, completion));
    let budget = Budget::new();
    let comparer = Comparer { options, budget: &budget, prompt };
    let mut undecided = None;
    let mut wrong = None;
    for reference in &references {
        for reading in &readings {
            match comparer.answers(reference, reading) {
                Decision::Equal(_) if !options.unevaluated && is_left(reference, reading, &budget) => {
                    wrong.get_or_insert("it is left to be computed".to_owned());
                }
                Decision::Equal(_)
                    if asked.as_ref().is_some_and(|asked| asked.is_echo(reference, reading)) =>
                {
                    wrong.get_or_insert("it repeats the question".to_owned());
                }
                Decision::Equal(method) => {
                    return Verdict::new(Outcome::Correct, &found, format!("equals the reference: {method}"));
                }
                Decision::Differ(why) => {
                    wrong.get_or_insert(why);
                }
                Decision::Undecided(why) if is_odd(reference, reading) => {
                    let oddity = plain::oddity(reading, &Budget::small());
                    wrong.get_or_insert(oddity.map_or(why, str::to_owned));
                }
                Decision::Undecided(why) => {
                    undecided.get_or_insert(why);
                }
            }
        }
    }
    match (undecided, wrong) {
        (Some(why), _) => Verdict::new(Outcome::Undecided, &found, format!("not decided: {why}")),
        (None, why) => {
            let why = why.unwrap_or_default();
            let reason = format!("`{}` is not `{}`: {why}", shorten(found.trim()), shorten(answer.trim()));
            Verdict::new(Outcome::Wrong, &found, reason)
        }
    }
}

/// Whether an answer leaves a computation to the reader that the reference does not.
fn is_left(reference: &Expr, found: &Expr, budget: &Budget) -> bool {
    plain::is_unevaluated(found, budget) && !plain::is_unevaluated(reference, budget)
}

/// Whether what was not decided is so by the answer's own oddity: it is unevaluated, undefined or too large where the
/// reference is not.
fn is_odd(reference: &Expr, found: &Expr) -> bool {
    !plain::is_sound(found, &Budget::small()) && plain::is_sound(reference, &Budget::small())
}

/// Whether `answer` can be read as a reference.
///
/// # Errors
/// Why not, in a sentence.
pub fn check_reference(answer: &str, _options: &Options) -> Result<(), String> {
    reference(answer).map(|_| ())
}

/// Whether two answers, as verdicts show them, say the same: whether either is right where the other is the
/// reference. What the budget of one verdict does not decide is not the same.
pub(crate) fn same(a: &str, b: &str, options: &Options) -> bool {
    let (Ok(left), Ok(right)) = (readings(a), readings(b)) else { return a == b };
    let budget = Budget::new();
    let comparer = Comparer { options, budget: &budget, prompt: None };
    let equal = |a: &Expr, b: &Expr| comparer.answers(a, b).is_equal() || comparer.answers(b, a).is_equal();
    a == b || left.iter().any(|a| right.iter().any(|b| equal(a, b)))
}

/// The readings of a reference.
fn reference(answer: &str) -> Result<Vec<Expr>, String> {
    let bad = |why: &str| format!("the reference `{}` cannot be read: {why}", shorten(answer.trim()));
    let candidates = find::in_reference(answer).map_err(|why| bad(&why))?;
    let mut first = None;
    for Candidate { text, .. } in candidates {
        match readings(&text) {
            Ok(readings) if readings.iter().all(plain::is_undefined) => {
                return Err(format!("the reference `{}` has no value", shorten(answer.trim())));
            }
            Ok(readings) => return Ok(readings),
            Err(why) => {
                first.get_or_insert(why);
            }
        }
    }
    Err(bad(&first.unwrap_or_else(|| "it is empty".to_owned())))
}

/// The final answer of a completion as it stands there, and its readings.
fn answer_of(completion: &str, options: &Options) -> Result<(String, Vec<Expr>), String> {
    let mut first = None;
    for Candidate { text, commits } in find::candidates(completion, options)? {
        match readings(&text) {
            Ok(readings) => return Ok((text.trim().to_owned(), readings)),
            Err(why) => {
                let why = match text.trim() {
                    "" => "the final answer is empty".to_owned(),
                    text => format!("the final answer `{}` cannot be read: {why}", shorten(text)),
                };
                if commits {
                    return Err(why);
                }
                first.get_or_insert(why);
            }
        }
    }
    Err(first.unwrap_or_else(|| "the completion has no answer where one is looked for".to_owned()))
}

/// What `text` can mean: its expression and, where a comma may be a decimal point, the number.
fn readings(text: &str) -> Result<Vec<Expr>, String> {
    let time = clock::time_of_day(text);
    if let Some(time) = &time
        && text.contains(':')
    {
        return Ok(vec![time.clone()]);
    }
    if let Some((letter, rest)) = prose::choice_with_text(text) {
        return Ok(vec![Expr::Choice(letter, Some(Box::new(Expr::Text(rest.to_owned()))))]);
    }
    if prose::is_sentence(text) || prose::is_denial(text) {
        return Ok(vec![Expr::Text(text.trim().to_owned())]);
    }
    let parsed = parse::parse(text);
    if let Some(time) = time {
        return Ok(std::iter::once(time).chain(parsed).collect());
    }
    let Some(decimal) = numeral::decimal_comma(text) else { return Ok(vec![parsed?]) };
    let mut readings = vec![parse::parse(&decimal)?];
    readings.extend(parsed);
    Ok(readings)
}
