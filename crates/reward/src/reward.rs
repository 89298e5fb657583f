//! What a run rewards: the weighted sum of verifiers that its `[[reward]]` tables ask for.

use crate::verifier::{Context, Judges, Kind, Options, Sample, Verifier};
use crate::{Outcome, RewardError, Scores, verdict};
use koan_data::Problem;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// A `[[reward]]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RewardConfig {
    /// The kind of verifier.
    pub kind: String,
    /// Its name in rollouts and problems; none: its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its weight in the sum.
    #[serde(default = "one")]
    pub weight: f32,
    /// The score of each outcome, before the weight.
    #[serde(default)]
    pub scores: Scores,
    /// The options of its kind.
    #[serde(flatten)]
    pub options: Options,
}

fn one() -> f32 {
    1.0
}

impl RewardConfig {
    /// The verifier of `kind`, with weight 1 and defaults for the rest.
    pub fn new(kind: &str) -> Self {
        let (scores, options) = (Scores::default(), Options::new());
        Self { kind: kind.to_owned(), name: None, weight: 1.0, scores, options }
    }

    /// The verifier of `kind`, with its options and other keys set by `KEY=VALUE`: `weight=0.5`, `scores.wrong=-1`. A value
    /// is JSON, or otherwise a string.
    ///
    /// # Errors
    /// A setting that is not of this form, or of the wrong type. [`Self::resolved`] checks the names of options.
    pub fn parse(kind: &str, sets: &[String]) -> Result<Self, RewardError> {
        let mut table = Options::from_iter([("kind".to_owned(), Value::from(kind))]);
        let wrong = |reason: String| RewardError::Options { kind: kind.to_owned(), reason };
        for set in sets {
            let (key, value) =
                set.split_once('=').ok_or_else(|| wrong(format!("`{set}` is not KEY=VALUE")))?;
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            match key.trim().split_once('.') {
                None => _ = table.insert(key.trim().to_owned(), value),
                Some((outer, key)) => {
                    let inner = table.entry(outer).or_insert_with(|| Value::Object(Options::new()));
                    let inner =
                        inner.as_object_mut().ok_or_else(|| wrong(format!("`{outer}` is no table")))?;
                    inner.insert(key.to_owned(), value);
                }
            }
        }
        serde_json::from_value(Value::Object(table)).map_err(|error| wrong(error.to_string()))
    }

    /// The same, every option with its value.
    ///
    /// # Errors
    /// A kind or option that does not exist, with the nearest that does; a value that is not allowed.
    pub fn resolved(&self) -> Result<Self, RewardError> {
        let wrong = |reason: String| RewardError::Options { kind: self.kind.clone(), reason };
        let options = Kind::by_name(&self.kind)?.resolve(&self.options).map_err(wrong)?;
        if !self.weight.is_finite() {
            return Err(wrong(format!("`weight` is {}; write a finite number", self.weight)));
        }
        if let Some(outcome) = self.scores.not_finite() {
            return Err(wrong(format!("`scores.{outcome}` is not finite; write a finite number")));
        }
        Ok(Self { options, ..self.clone() })
    }

    fn build(&self, context: &Context) -> Result<Reward, RewardError> {
        let Self { weight, scores, options, .. } = self.resolved()?;
        let kind = Kind::by_name(&self.kind)?;
        let wrong = |reason| RewardError::Options { kind: self.kind.clone(), reason };
        let verifier = kind.build(&options, context).map_err(wrong)?;
        let name = self.name.clone().unwrap_or_else(|| self.kind.clone());
        Ok(Reward { name, kind, weight, scores, verifier })
    }
}

/// A verifier with the scores of its verdicts.
pub(crate) struct Reward {
    name: String,
    kind: &'static Kind,
    weight: f32,
    scores: Scores,
    verifier: Box<dyn Verifier>,
}

impl Reward {
    /// Whether it judges by a problem's `tests`, and not by its `answer`.
    pub(crate) fn reads_tests(&self) -> bool {
        self.kind.name == "code"
    }

    fn judge(&self, sample: &Sample) -> Term {
        let verdict = self.verifier.judge(sample);
        Term {
            score: self.scores.of(&verdict),
            name: self.name.clone(),
            outcome: verdict.outcome,
            weight: self.weight,
            parsed: verdict.parsed,
            reason: verdict.reason,
        }
    }
}

/// What one reward says of a completion: a term of the sum.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Term {
    /// The reward's name.
    #[serde(rename = "kind")]
    pub name: String,
    /// The outcome.
    pub outcome: Outcome,
    /// Its score, before the weight; none: masked.
    pub score: Option<f32>,
    /// The reward's weight in the sum.
    pub weight: f32,
    /// The answer as it was found.
    pub parsed: Option<String>,
    /// Why, in a sentence.
    pub reason: String,
}

/// A problem whose reference no completion can be compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BadReference {
    /// The problem.
    pub id: String,
    /// What is wrong with its reference.
    pub reason: String,
}

/// What all rewards say of a completion.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// A term for each reward; the first is the one that counts as right or wrong. None where nothing was asked.
    pub terms: Vec<Term>,
    /// The weighted sum; none if a term was masked: the completion takes no part in learning.
    pub reward: Option<f32>,
}

impl Judgement {
    /// Whether the model was right: the outcome of the first term.
    pub fn outcome(&self) -> Outcome {
        self.terms[0].outcome
    }
}

/// All rewards of a run.
///
/// A problem that names its `reward` is judged by the reward of that name instead of all those that judge
/// answers; if the run has none of that name, by the kind of that name with its default options, and the
/// weight and scores of the run's first reward. Rewards of form (`format`, …) always apply.
pub struct Rewards {
    /// Those that judge answers come first. Never empty.
    all: Vec<Arc<Reward>>,
    /// Those that problems named and the run does not have.
    named: RwLock<HashMap<String, Arc<Reward>>>,
    context: Context,
}

impl Rewards {
    /// Builds the rewards of `configs`.
    ///
    /// # Errors
    /// No config at all, two of one name, unknown kinds or options, and anything that a verifier needs and does not find.
    pub fn build(configs: &[RewardConfig], context: Context) -> Result<Self, RewardError> {
        let build = |config: &RewardConfig| config.build(&context).map(Arc::new);
        let mut all: Vec<_> = configs.iter().map(build).collect::<Result<_, _>>()?;
        for (i, reward) in all.iter().enumerate() {
            if all[..i].iter().any(|earlier| earlier.name == reward.name) {
                return Err(RewardError::SameName { name: reward.name.clone() });
            }
        }
        if all.is_empty() {
            return Err(RewardError::NoRewards);
        }
        all.sort_by_key(|reward| reward.kind.judges == Judges::Form);
        Ok(Self { all, named: RwLock::default(), context })
    }

    /// The rewards of `kind` alone, with default options.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub fn of_kind(kind: &str) -> Result<Self, RewardError> {
        Self::build(&[RewardConfig::new(kind)], Context::default())
    }

    /// Whether the problem can be judged: the verifiers that it names exist, and can compare with its
    /// reference. `Ok(Some(reason))` is a bad reference.
    ///
    /// # Errors
    /// The problem names a reward that does not exist.
    pub fn check(&self, problem: &Problem) -> Result<Option<String>, RewardError> {
        let rewards = self.find(problem)?;
        Ok(rewards.iter().find_map(|reward| reward.verifier.check(problem).err()))
    }

    /// Checks all problems before any work, and splits off those whose reference is bad: they could only be masked.
    ///
    /// # Errors
    /// A problem names a reward that does not exist; or all references are bad.
    pub fn split_bad_references(
        &self,
        problems: Vec<Problem>,
    ) -> Result<(Vec<Problem>, Vec<BadReference>), RewardError> {
        let check = |problem: &Problem| {
            let id = || problem.id.clone();
            self.check(problem).map_err(|error| RewardError::Problem { id: id(), source: Box::new(error) })
        };
        let checked: Vec<_> = problems.par_iter().map(check).collect::<Result<_, _>>()?;
        let (all, mut good, mut bad) = (problems.len(), Vec::new(), Vec::new());
        for (problem, checked) in problems.into_iter().zip(checked) {
            match checked {
                None => good.push(problem),
                Some(reason) => bad.push(BadReference { id: problem.id, reason }),
            }
        }
        match bad.first() {
            Some(first) if good.is_empty() => {
                Err(RewardError::AllBad { problems: all, first: first.clone() })
            }
            _ => Ok((good, bad)),
        }
    }

    /// Judges a completion by every reward that applies to its problem. A name that [`Self::check`] refuses counts
    /// as a bad reference here.
    pub fn judge(&self, sample: &Sample) -> Judgement {
        let terms: Vec<Term> = match self.find(sample.problem) {
            Ok(rewards) => {
                let mut answered = None;
                let judge = |reward: &Arc<Reward>| {
                    let term = reward.judge(&Sample { answered, ..*sample });
                    answered = answered.or(Some(term.outcome));
                    term
                };
                rewards.iter().map(judge).collect()
            }
            Err(error) => vec![Term {
                name: sample.problem.reward.clone().unwrap_or_default(),
                outcome: Outcome::BadReference,
                score: None,
                weight: self.all[0].weight,
                parsed: None,
                reason: error.to_string(),
            }],
        };
        let reward = terms.iter().map(|term| term.score.map(|score| score * term.weight)).sum();
        Judgement { terms, reward }
    }

    /// Sorts answers to `problem`, as verdicts show them, into classes of answers that its verifier considers equal:
    /// the number of the class of each, in the order in which classes appear. An answer joins the first class whose first
    /// member it equals; one that is not shown whole equals none.
    pub fn classes(&self, problem: &Problem, answers: &[&str]) -> Vec<usize> {
        let rewards = self.find(problem).unwrap_or_default();
        let same = |a: &str, b: &str| match rewards.first() {
            Some(reward) => reward.verifier.same(problem, a, b),
            None => a == b,
        };
        let mut firsts: Vec<Option<&str>> = Vec::new();
        let mut known: HashMap<&str, usize> = HashMap::new(); // a text is compared once
        let mut class = |answer| {
            if verdict::is_cut(answer) {
                firsts.push(None);
                return firsts.len() - 1;
            }
            *known.entry(answer).or_insert_with(|| {
                firsts.iter().position(|first| first.is_some_and(|first| same(first, answer))).unwrap_or_else(
                    || {
                        firsts.push(Some(answer));
                        firsts.len() - 1
                    },
                )
            })
        };
        answers.iter().map(|&answer| class(answer)).collect()
    }

    /// The rewards that apply to `problem`, or why there is none with the name that it gives.
    pub(crate) fn find(&self, problem: &Problem) -> Result<Vec<Arc<Reward>>, RewardError> {
        let Some(name) = &problem.reward else { return Ok(self.all.clone()) };
        let named = match self.all.iter().find(|reward| reward.name == *name) {
            Some(reward) => Arc::clone(reward),
            None => self.named(name)?,
        };
        let form =
            self.all.iter().filter(|reward| reward.kind.judges == Judges::Form && reward.name != *name);
        Ok([named].into_iter().chain(form.cloned()).collect())
    }

    /// The reward of the kind `name` with default options.
    fn named(&self, name: &str) -> Result<Arc<Reward>, RewardError> {
        let known = self.named.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some(reward) = known {
            return Ok(reward);
        }
        let first = &self.all[0];
        let config = RewardConfig { weight: first.weight, scores: first.scores, ..RewardConfig::new(name) };
        let reward = Arc::new(config.build(&self.context)?);
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(named.entry(name.to_owned()).or_insert(reward)))
    }
}

impl fmt::Debug for Rewards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all.iter().map(|reward| &reward.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(kind: &str, weight: f32) -> RewardConfig {
        RewardConfig { weight, ..RewardConfig::new(kind) }
    }

    fn problem(answer: &str, reward: Option<&str>) -> Problem {
        Problem { answer: answer.to_owned(), reward: reward.map(str::to_owned), ..Problem::default() }
    }

    const RIGHT: &str = "<think>3 + 4</think><answer>7</answer>";

    #[test]
    fn the_reward_is_the_weighted_sum_and_answers_come_first() {
        let rewards = Rewards::build(&[config("format", 0.25), config("number", 2.0)], Context::default());
        let rewards = rewards.expect("builds");
        let problem = problem("7", None);
        let of = |text| rewards.judge(&Sample::new(&problem, text));
        assert_eq!((of(RIGHT).reward, of(RIGHT).outcome()), (Some(2.25), Outcome::Correct));
        assert_eq!((of("7").reward, of("7").outcome()), (Some(2.0), Outcome::Correct));
        assert_eq!(of("<think></think><answer>8</answer>").reward, Some(0.25));
    }

    #[test]
    fn one_masked_term_masks_the_completion() {
        let rewards = Rewards::build(&[config("number", 1.0), config("format", 1.0)], Context::default());
        let rewards = rewards.expect("builds");
        let bad = problem("seven", None);
        let judgement = rewards.judge(&Sample::new(&bad, RIGHT));
        assert_eq!((judgement.reward, judgement.outcome()), (None, Outcome::BadReference));
        assert!(rewards.check(&bad).expect("known names").is_some_and(|reason| reason.contains("`seven`")));
        assert_eq!(rewards.check(&problem("7", None)).expect("known names"), None);
    }

    #[test]
    fn a_problem_chooses_who_judges_its_answer() {
        let scores = Scores { correct: 3.0, ..Scores::default() };
        let named = RewardConfig { name: Some("mine".to_owned()), scores, ..config("number", 0.5) };
        let rewards = Rewards::build(&[named, config("format", 1.0)], Context::default()).expect("builds");
        let of = |reward| {
            let problem = problem("7", reward);
            let judgement = rewards.judge(&Sample::new(&problem, RIGHT));
            let names: Vec<_> = judgement.terms.iter().map(|term| term.name.clone()).collect();
            (names.join("+"), judgement.reward)
        };
        assert_eq!(of(None), ("mine+format".to_owned(), Some(2.5)));
        assert_eq!(of(Some("mine")), of(None));
        assert_eq!(of(Some("number")), ("number+format".to_owned(), Some(2.5)), "built on demand");
        assert_eq!(of(Some("format")), ("format".to_owned(), Some(1.0)));
        let unknown = problem("7", Some("numbr"));
        assert!(rewards.check(&unknown).expect_err("unknown").to_string().contains("number"));
        assert_eq!(rewards.judge(&Sample::new(&unknown, RIGHT)).outcome(), Outcome::BadReference);
    }

    #[test]
    fn answers_fall_into_the_classes_of_their_verifier() {
        let classes = |kind: &str, answers: &[&str]| {
            Rewards::of_kind(kind).expect("in the table").classes(&problem("7", None), answers)
        };
        let numbers = ["1/2", "3", "0.5", "3.0", "50%", "1/2"];
        assert_eq!(classes("number", &numbers), [0, 1, 0, 1, 0, 0]);
        let maths = ["\\frac{1}{2}", "x^2 + 1", "0.5", "1 + x^2", "0.51", "(1, 2)"];
        assert_eq!(classes("math", &maths), [0, 1, 0, 1, 2, 3]);
        assert_eq!(classes("words", &["apple, pear", "Apple, Pear", "pear, apple"]), [0, 0, 1]);
        assert_eq!(classes("countdown", &["(25 - 5) * 3", "3 * (25 - 5)", "25 - 5"]), [0, 0, 1]);
        assert_eq!(classes("format", &["a", "b", "a"]), [0, 1, 0]);
        let long = verdict::shorten(&"7".repeat(100));
        assert_eq!(classes("number", &[&long, "7", &long]), [0, 1, 2], "their ends may differ");
    }

    #[test]
    fn problems_with_bad_references_are_taken_out() {
        let rewards = Rewards::of_kind("number").expect("in the table");
        let problem = |(id, answer): (&str, &str)| Problem { id: id.to_owned(), ..problem(answer, None) };
        let split = |problems: &[(&str, &str)]| {
            rewards.split_bad_references(problems.iter().copied().map(problem).collect())
        };
        let (good, bad) = split(&[("a", "7"), ("b", "seven"), ("c", "8"), ("d", "")]).expect("some are good");
        assert_eq!(good.iter().map(|problem| &*problem.id).collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(bad.iter().map(|bad| &*bad.id).collect::<Vec<_>>(), ["b", "d"]);
        assert_eq!(bad[0].reason, "the reference `seven` is not a number");
        let error = split(&[("b", "seven")]).expect_err("all are bad").to_string();
        assert!(error.contains("all 1 problems") && error.contains("`seven`"), "{error}");
        let unknown = Problem { reward: Some("numbr".to_owned()), ..problem(("e", "7")) };
        let error = rewards.split_bad_references(vec![unknown]).expect_err("unknown").to_string();
        assert!(error.starts_with("`reward` of problem `e`: there is no verifier `numbr`"), "{error}");
        assert!(split(&[]).expect("nothing to check").0.is_empty());
    }

    #[test]
    fn a_config_is_parsed_from_words() {
        let parse = |kind, sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
            RewardConfig::parse(kind, &sets).and_then(|config| config.resolved())
        };
        let parsed =
            parse("format", &["weight=0.5", "scores.wrong=-1", "shape=think", "partial=0"]).expect("good");
        assert_eq!((parsed.weight, parsed.scores.wrong), (0.5, -1.0));
        assert_eq!(
            (&parsed.options["shape"], &parsed.options["opened"]),
            (&Value::from("think"), &Value::from(false))
        );
        for (set, expected) in [
            ("weight", "not KEY=VALUE"),
            ("weight=heavy", "invalid type"),
            ("scores.worng=1", "unknown field `worng`"),
            ("kind.a=1", "`kind` is no table"),
            ("shpae=think", "there is no option `shpae`; use one of: shape"),
            ("shape=thinking", "unknown variant `thinking`"),
        ] {
            let error = parse("format", &[set]).expect_err(set).to_string();
            assert!(error.contains(expected), "{set}: {error}");
        }
    }

    #[test]
    fn configs_are_checked() {
        let build = |configs: &[RewardConfig]| Rewards::build(configs, Context::default()).map(|_| ());
        let error = |configs: &[RewardConfig]| build(configs).expect_err("refused").to_string();
        assert!(error(&[]).contains("[[reward]]"));
        assert!(error(&[config("number", 1.0), config("number", 2.0)]).contains("`number`"));
        assert!(error(&[config("number", f32::NAN)]).contains("weight"));
        let scores = Scores { wrong: f32::INFINITY, ..Scores::default() };
        assert!(error(&[RewardConfig { scores, ..config("number", 1.0) }]).contains("scores.wrong"));
        assert!(error(&[config("numbr", 1.0)]).contains("use one of: number"));
    }
}
