//! What a verifier is, and the table of their kinds.

use crate::code::Judge;
use crate::external::External;
use crate::form::{format::Format, language::Language, length::Length, repetition::Repetition};
use crate::ifeval::IfEval;
use crate::judge::LanguageJudge;
use crate::math::Math;
use crate::puzzle::{assignment, countdown, words};
use crate::scorer::RewardModel;
use crate::settle::Asks;
use crate::{Outcome, RewardError, Verdict, number};
use koan_data::Problem;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{fmt, path::PathBuf};

/// A completion to judge, with the problem that it answers and everything that rewards may use.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The problem: its reference answer, and every other field (`meta`, and `tests`, `precision`, … in `other`).
    pub problem: &'a Problem,
    /// What the model wrote, without special tokens.
    pub completion: &'a str,
    /// Its length in tokens, if known.
    pub tokens: Option<usize>,
    /// Whether it was cut at the maximum length, if known.
    pub truncated: Option<bool>,
    /// What the run's first reward says of it; none for that reward itself.
    pub answered: Option<Outcome>,
    /// The training step that it was sampled in, from 1; none outside of training: then every reward is in force.
    pub step: Option<u64>,
}

impl<'a> Sample<'a> {
    /// A completion of which only the text is known.
    pub fn new(problem: &'a Problem, completion: &'a str) -> Self {
        Self { problem, completion, tokens: None, truncated: None, answered: None, step: None }
    }
}

/// Judges what a completion earned. Built once from its options, and used by many threads.
pub trait Verifier: Send + Sync {
    /// Judges a completion. Total: it returns for every text, within a bound of time that its module names.
    fn judge(&self, sample: &Sample) -> Verdict;

    /// Whether the problem's reference is one that this verifier can compare with; if not, why.
    ///
    /// # Errors
    /// A sentence for the author of the data.
    fn check(&self, problem: &Problem) -> Result<(), String>;

    /// Whether `a` and `b`, answers to `problem` as verdicts show them, are the same answer, whatever the reference. By
    /// default: whether they are the same text.
    fn same(&self, problem: &Problem, a: &str, b: &str) -> bool {
        let _ = problem;
        a == b
    }

    /// Itself, if it asks models: what [`judge`](Self::judge) says is then replaced by what they say.
    fn asks(&self) -> Option<&dyn Asks> {
        None
    }
}

/// The surroundings for which a verifier is built.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// Where programs' messages are kept; none: they are passed on to standard error.
    pub log_dir: Option<PathBuf>,
    /// The length, in tokens, at which completions are cut, if known.
    pub max_new_tokens: Option<usize>,
}

/// The options of a verifier in a config.
pub type Options = Map<String, Value>;

/// Every kind of verifier, in the order in which help lists them.
pub static KINDS: &[Kind] = &[
    Kind::plain("number", "the final answer is a number, compared exactly", |s| {
        number::judge(s.completion, &s.problem.answer)
    }),
    Kind::configured::<Math>("math", "the final answer is mathematics, compared by its meaning"),
    Kind::plain("countdown", "an expression of the given numbers that makes the target", |s| {
        countdown::judge(s.completion, &s.problem.answer)
    }),
    Kind::plain("assignment", "what each of several names is, in any order: `Ann: knight, Bo: knave`", |s| {
        assignment::judge(s.completion, &s.problem.answer)
    }),
    Kind::plain("words", "a list of words in the right order, or one word", |s| {
        words::judge(s.completion, &s.problem.answer)
    }),
    Kind::configured::<IfEval>("ifeval", "the reply keeps a constraint that its prompt states, as in IFEval"),
    Kind::configured::<Judge>("code", "a program passes the problem's tests, run in a sandbox"),
    Kind::configured::<External>("external", "a program or a server of your own says"),
    Kind::configured::<RewardModel>("model", "a reward model in this process scores the completion"),
    Kind::configured::<LanguageJudge>(
        "judge",
        "a language model grades it, compares it, or says whether it agrees",
    ),
    Kind::configured::<Format>("format", "the thinking and the answer stand in their tags").of_form(),
    Kind::configured::<Language>("language", "the reasoning is written in the target language").of_form(),
    Kind::configured::<Length>("length", "the completion is not too long").of_form(),
    Kind::configured::<Repetition>("repetition", "the completion does not repeat itself").of_form(),
];

/// What a verifier looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judges {
    /// The answer, by the problem's reference: whether the model was right.
    Answer,
    /// How the completion is written, whatever its answer.
    Form,
}

/// A kind of verifier: a row of [`KINDS`].
pub struct Kind {
    /// Its name in files and options.
    pub name: &'static str,
    /// What it checks, in one line for help.
    pub about: &'static str,
    /// What it looks at.
    pub judges: Judges,
    make: Make,
}

enum Make {
    Plain(fn(&Sample) -> Verdict),
    Configured { resolve: fn(&Options) -> Result<Options, String>, build: Build },
}

type Build = fn(&Options, &Context) -> Result<Box<dyn Verifier>, String>;

/// A verifier that is built from options of its own.
pub(crate) trait Configured: Verifier + Sized + 'static {
    /// Its options: every field has a default, and unknown ones are refused.
    type Options: Default + Serialize + DeserializeOwned;

    /// Builds it. An error is a sentence that says what to do.
    fn build(options: Self::Options, context: &Context) -> Result<Self, String>;
}

impl Kind {
    /// A verifier of answers that is a function without options. It looks at the reference first: that is how
    /// references are checked.
    const fn plain(name: &'static str, about: &'static str, judge: fn(&Sample) -> Verdict) -> Self {
        Self { name, about, judges: Judges::Answer, make: Make::Plain(judge) }
    }

    /// A verifier of answers that has options.
    const fn configured<V: Configured>(name: &'static str, about: &'static str) -> Self {
        let make = Make::Configured { resolve: resolve::<V::Options>, build: build::<V> };
        Self { name, about, judges: Judges::Answer, make }
    }

    /// The same, of the form of a completion.
    const fn of_form(self) -> Self {
        Self { judges: Judges::Form, ..self }
    }

    /// The kind called `name`.
    ///
    /// # Errors
    /// [`RewardError::UnknownVerifier`] if there is none; it lists the known ones, the nearest first.
    pub fn by_name(name: &str) -> Result<&'static Self, RewardError> {
        KINDS.iter().find(|kind| kind.name == name).ok_or_else(|| {
            let mut known: Vec<&'static str> = KINDS.iter().map(|kind| kind.name).collect();
            known.sort_by_cached_key(|known| strsim::damerau_levenshtein(known, name));
            RewardError::UnknownVerifier { name: name.to_owned(), known }
        })
    }

    /// `options`, completed with the defaults of those left out.
    ///
    /// # Errors
    /// An option that does not exist, or a value that it can't have: a sentence that says what to do.
    pub fn resolve(&self, options: &Options) -> Result<Options, String> {
        match self.make {
            Make::Plain(_) => resolve::<NoOptions>(options),
            Make::Configured { resolve, .. } => resolve(options),
        }
    }

    /// Builds a verifier of this kind.
    ///
    /// # Errors
    /// As [`Self::resolve`], or anything that the verifier needs and does not find: a sentence that says what to do.
    pub fn build(&self, options: &Options, context: &Context) -> Result<Box<dyn Verifier>, String> {
        let options = self.resolve(options)?;
        match self.make {
            Make::Plain(judge) => Ok(Box::new(Plain(judge))),
            Make::Configured { build, .. } => build(&options, context),
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kind({})", self.name)
    }
}

struct Plain(fn(&Sample) -> Verdict);

impl Verifier for Plain {
    fn judge(&self, sample: &Sample) -> Verdict {
        self.0(sample)
    }

    fn check(&self, problem: &Problem) -> Result<(), String> {
        match self.judge(&Sample::new(problem, "")) {
            Verdict { outcome: Outcome::BadReference, reason, .. } => Err(reason),
            _ => Ok(()),
        }
    }

    /// Whether `a` is right if `b` is the reference.
    fn same(&self, problem: &Problem, a: &str, b: &str) -> bool {
        let problem = Problem { answer: b.to_owned(), other: problem.other.clone(), ..Problem::default() };
        a == b || self.judge(&Sample::new(&problem, a)).outcome == Outcome::Correct
    }
}

#[derive(Default, Serialize, Deserialize)]
struct NoOptions {}

/// Options with defaults filled in, names and values checked.
fn resolve<O: Default + Serialize + DeserializeOwned>(options: &Options) -> Result<Options, String> {
    let known = fields(&O::default())?;
    if let Some(name) = options.keys().find(|name| !known.contains_key(*name)) {
        return Err(unknown_option(name, known.keys().map(String::as_str)));
    }
    let mut all = fields(&read::<O>(options)?)?;
    all.retain(|_, value| !value.is_null()); // TOML has no null: an option without a value is left out
    Ok(all)
}

fn build<V: Configured>(options: &Options, context: &Context) -> Result<Box<dyn Verifier>, String> {
    Ok(Box::new(V::build(read(options)?, context)?))
}

fn read<O: DeserializeOwned>(options: &Options) -> Result<O, String> {
    serde_json::from_value(Value::Object(options.clone())).map_err(|error| error.to_string())
}

fn fields(options: &impl Serialize) -> Result<Options, String> {
    match serde_json::to_value(options) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(format!("options are written as {other}")),
        Err(error) => Err(error.to_string()),
    }
}

/// What every `[[reward]]` may have in addition to the options of its kind.
const COMMON: [&str; 6] = ["kind", "name", "weight", "scores", "from_step", "until_step"];

fn unknown_option<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.chain(COMMON).collect();
    known.sort_by_cached_key(|known| strsim::damerau_levenshtein(known, name));
    format!("there is no option `{name}`; use one of: {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name_and_builds_or_says_what_it_needs() {
        for kind in KINDS {
            assert_eq!(Kind::by_name(kind.name).expect("in the table").name, kind.name);
            let resolved = kind.resolve(&Options::new()).expect(kind.name);
            assert_eq!(kind.resolve(&resolved), Ok(resolved), "{}: resolved options are options", kind.name);
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones_nearest_first() {
        let error = Kind::by_name("fromat").expect_err("not a name").to_string();
        assert!(error.starts_with("there is no verifier `fromat`; use one of: format, "), "{error}");
    }

    #[test]
    fn an_unknown_option_is_refused_with_the_nearest() {
        let options = Options::from_iter([("wieght".to_owned(), Value::from(1))]);
        let error = KINDS[0].resolve(&options).expect_err("unknown");
        assert!(error.starts_with("there is no option `wieght`; use one of: weight, "), "{error}");
    }

    #[test]
    fn a_bad_reference_is_found_without_a_completion() {
        let number = KINDS[0].build(&Options::new(), &Context::default()).expect("builds");
        let problem = |answer: &str| Problem { answer: answer.to_owned(), ..Problem::default() };
        assert_eq!(number.check(&problem("7")), Ok(()));
        assert_eq!(number.check(&problem("seven")), Err("the reference `seven` is not a number".to_owned()));
    }
}
