//! What a run rewards: the weighted sum of verifiers that its `[[reward]]` tables ask for.

use crate::verifier::{Context, Judges, Kind, Options, Sample, Verifier};
use crate::{Outcome, RewardError, Scores, Verdict, verdict};
use koan_data::Problem;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::RangeInclusive;
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
    /// The first training step in which it is in force, from 1; none: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_step: Option<u64>,
    /// The last one; none: the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_step: Option<u64>,
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
        Self {
            kind: kind.to_owned(),
            name: None,
            weight: 1.0,
            scores,
            from_step: None,
            until_step: None,
            options,
        }
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
        let (from, until) = (self.from_step.unwrap_or(1), self.until_step.unwrap_or(u64::MAX));
        if from == 0 || from > until {
            let reason = "`from_step` and `until_step` are the first and the last step in which it is in force, counted from 1";
            return Err(wrong(format!("{reason}; no step lies from {from} to {until}")));
        }
        if self.name.as_deref().is_some_and(|name| name.trim().is_empty() || name.contains(',')) {
            return Err(wrong(
                "`name` is empty or has a comma, which separates names in problems".to_owned(),
            ));
        }
        Ok(Self { options, ..self.clone() })
    }

    fn build(&self, context: &Context) -> Result<Reward, RewardError> {
        let Self { weight, scores, options, from_step, until_step, .. } = self.resolved()?;
        let kind = Kind::by_name(&self.kind)?;
        let wrong = |reason| RewardError::Options { kind: self.kind.clone(), reason };
        let verifier = kind.build(&options, context).map_err(wrong)?;
        let name = self.name.clone().unwrap_or_else(|| self.kind.clone());
        let steps = from_step.unwrap_or(1)..=until_step.unwrap_or(u64::MAX);
        Ok(Reward { name, kind, weight, scores, steps, verifier })
    }
}

/// A verifier with the scores of its verdicts.
pub(crate) struct Reward {
    pub(crate) name: String,
    pub(crate) kind: &'static Kind,
    weight: f32,
    scores: Scores,
    /// The training steps in which it is in force.
    steps: RangeInclusive<u64>,
    pub(crate) verifier: Box<dyn Verifier>,
}

impl Reward {
    /// Whether it judges by a problem's `tests`, and not by its `answer`.
    pub(crate) fn reads_tests(&self) -> bool {
        self.kind.name == "code"
    }

    /// Whether it is in force in training step `step`; outside of training it is.
    fn is_in_force(&self, step: Option<u64>) -> bool {
        step.is_none_or(|step| self.steps.contains(&step))
    }

    pub(crate) fn judge(&self, sample: &Sample) -> Term {
        self.term(self.verifier.judge(sample))
    }

    pub(crate) fn term(&self, verdict: Verdict) -> Term {
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

impl Term {
    /// The weighted sum of `terms`; none if one was masked.
    pub(crate) fn sum(terms: &[Self]) -> Option<f32> {
        terms.iter().map(|term| term.score.map(|score| score * term.weight)).sum()
    }
}

/// Problems that name a reward which the run does not have, so that one of the run's own does not judge them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// What the problems name.
    pub named: String,
    /// How many problems.
    pub problems: usize,
    /// The rewards of the run that do not judge them.
    pub instead_of: Vec<String>,
}

impl fmt::Display for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { named, problems, instead_of } = self;
        let instead: Vec<String> = instead_of.iter().map(|name| format!("`{name}`")).collect();
        write!(
            f,
            "{problems} {} `reward` = `{named}`, which is no [[reward]] of this run: they are judged by that kind with its default options, and not \
             by {}",
            if *problems == 1 { "problem has" } else { "problems have" },
            instead.join(", ")
        )
    }
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
/// A problem that names its `reward`, one or several, is judged by the rewards of these names instead of all those that judge
/// answers; if the run has none of a name, by all of the kind of that name; if it has none of these either, by that kind with its
/// default options, and the weight and scores of the run's first reward. Rewards of form (`format`, …) always apply.
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

    /// The rewards of the run itself, those of answers first.
    pub(crate) fn all(&self) -> &[Arc<Reward>] {
        &self.all
    }

    /// The names of the run's rewards, those of answers first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|reward| &*reward.name)
    }

    /// Whether the problem can be judged: the verifiers that it names exist, and can compare with its
    /// reference. `Ok(Some(reason))` is a bad reference.
    ///
    /// # Errors
    /// The problem names a reward that does not exist.
    pub fn check(&self, problem: &Problem) -> Result<Option<String>, RewardError> {
        let rewards = self.find(problem, None)?;
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
        let terms: Vec<Term> = match self.find(sample.problem, sample.step) {
            Ok(rewards) if rewards.is_empty() => {
                let step = sample.step.unwrap_or_default();
                let reason = format!("no reward of this problem is in force in step {step}");
                vec![self.without_reward(sample, Outcome::Undecided, reason)]
            }
            Ok(rewards) => {
                let mut answered = None;
                let judge = |reward: &Arc<Reward>| {
                    let term = reward.judge(&Sample { answered, ..*sample });
                    answered = answered.or(Some(term.outcome));
                    term
                };
                rewards.iter().map(judge).collect()
            }
            Err(error) => vec![self.without_reward(sample, Outcome::BadReference, error.to_string())],
        };
        let reward = Term::sum(&terms);
        Judgement { terms, reward }
    }

    /// The term of a completion that no reward judges.
    fn without_reward(&self, sample: &Sample, outcome: Outcome, reason: String) -> Term {
        let name = sample.problem.reward.clone().unwrap_or_default();
        Term { name, outcome, score: None, weight: self.all[0].weight, parsed: None, reason }
    }

    /// Which of `problems` name a reward that the run does not have, where one that its author wrote (`external`, `model`, `judge`) would have judged
    /// them.
    pub fn replaced(&self, problems: &[Problem]) -> Vec<Replaced> {
        const OWN: [&str; 3] = ["external", "model", "judge"];
        let own = self.all.iter().filter(|reward| OWN.contains(&reward.kind.name));
        let instead_of: Vec<String> = own.map(|reward| reward.name.clone()).collect();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for name in problems.iter().filter_map(|problem| problem.reward.as_deref()).flat_map(names) {
            if !instead_of.is_empty() && self.of_run(name).is_empty() {
                *counts.entry(name).or_default() += 1;
            }
        }
        let replaced = |(named, problems): (&str, usize)| Replaced {
            named: named.to_owned(),
            problems,
            instead_of: instead_of.clone(),
        };
        counts.into_iter().map(replaced).collect()
    }

    /// Steps of the first `steps` in which no reward of some problems is in force, and how many these problems are; a sentence each.
    pub fn gaps(&self, problems: &[Problem], steps: u64) -> Vec<String> {
        let mut counts: BTreeMap<Option<&str>, usize> = BTreeMap::new();
        for problem in problems {
            *counts.entry(problem.reward.as_deref()).or_default() += 1;
        }
        let ends = self.all.iter().flat_map(|r| [*r.steps.start(), r.steps.end().saturating_add(1)]);
        let mut starts: Vec<u64> = ends.chain([1]).filter(|&step| step <= steps).collect();
        starts.sort_unstable();
        starts.dedup();
        let mut gaps = Vec::new();
        for (name, n) in counts {
            let problem = Problem { reward: name.map(str::to_owned), ..Problem::default() };
            for (i, &first) in starts.iter().enumerate() {
                let last = starts.get(i + 1).map_or(steps, |next| next - 1);
                if self.find(&problem, Some(first)).is_ok_and(|rewards| rewards.is_empty()) {
                    let of = name.map_or_else(String::new, |name| format!(" with `reward` = `{name}`"));
                    gaps.push(format!(
                        "in steps {first} to {last} no reward of {n} problems{of} is in force: their completions are masked"
                    ));
                }
            }
        }
        gaps
    }

    /// Sorts answers to `problem`, as verdicts show them, into classes of answers that its verifier considers equal:
    /// the number of the class of each, in the order in which classes appear. An answer joins the first class whose first
    /// member it equals; one that is not shown whole equals none.
    pub fn classes(&self, problem: &Problem, answers: &[&str]) -> Vec<usize> {
        let rewards = self.find(problem, None).unwrap_or_default();
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

    /// The rewards that apply to `problem` in training step `step`, those of answers first; none if it has some of answers, and none of
    /// these is in force. Or why there is none with a name that it gives.
    pub(crate) fn find(&self, problem: &Problem, step: Option<u64>) -> Result<Vec<Arc<Reward>>, RewardError> {
        let is_form = |reward: &Arc<Reward>| reward.kind.judges == Judges::Form;
        let mut chosen: Vec<Arc<Reward>> = Vec::new();
        match &problem.reward {
            None => chosen.clone_from(&self.all),
            Some(list) => {
                for name in names(list) {
                    let mut of_run = self.of_run(name);
                    if of_run.is_empty() {
                        of_run.push(self.named(name)?);
                    }
                    chosen.extend(of_run);
                }
                chosen.extend(self.all.iter().filter(|reward| is_form(reward)).cloned());
                let mut seen: Vec<*const Reward> = Vec::new();
                chosen.retain(|reward| {
                    let new = !seen.contains(&Arc::as_ptr(reward));
                    seen.push(Arc::as_ptr(reward));
                    new
                });
                chosen.sort_by_key(is_form);
            }
        }
        let judges_answers = |all: &[Arc<Reward>]| all.iter().any(|reward| !is_form(reward));
        let has_answers = judges_answers(&chosen);
        chosen.retain(|reward| reward.is_in_force(step));
        // An answer that nobody judges now must not be learned for its form alone.
        if has_answers && !judges_answers(&chosen) {
            chosen.clear();
        }
        Ok(chosen)
    }

    /// The run's rewards of this name or, if there is none, of the kind of this name.
    fn of_run(&self, name: &str) -> Vec<Arc<Reward>> {
        match self.all.iter().find(|reward| reward.name == name) {
            Some(reward) => vec![Arc::clone(reward)],
            None => self.all.iter().filter(|reward| reward.kind.name == name).cloned().collect(),
        }
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

/// The names in a problem's `reward`, with commas between them.
fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim)
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
        assert_eq!(of(Some("number")), of(None), "the run's own of that kind");
        assert_eq!(of(Some("words")).0, "words+format", "built on demand");
        assert_eq!(of(Some("format")), ("format".to_owned(), Some(1.0)));
        let unknown = problem("7", Some("numbr"));
        assert!(rewards.check(&unknown).expect_err("unknown").to_string().contains("number"));
        assert_eq!(rewards.judge(&Sample::new(&unknown, RIGHT)).outcome(), Outcome::BadReference);
    }

    #[test]
    fn a_problem_may_choose_several_by_name_or_kind() {
        let named =
            |name: &str, kind: &str| RewardConfig { name: Some(name.to_owned()), ..config(kind, 1.0) };
        let configs =
            [named("a", "number"), named("b", "number"), named("c", "words"), config("format", 1.0)];
        let rewards = Rewards::build(&configs, Context::default()).expect("builds");
        let of = |reward| {
            let judgement = rewards.judge(&Sample::new(&problem("7", reward), RIGHT));
            judgement.terms.iter().map(|term| term.name.clone()).collect::<Vec<_>>().join("+")
        };
        assert_eq!(of(None), "a+b+c+format");
        assert_eq!(of(Some("b")), "b+format");
        assert_eq!(of(Some("number")), "a+b+format");
        assert_eq!(of(Some("format, c,number")), "c+a+b+format");
        assert_eq!(of(Some("a,a")), "a+format");
        assert_eq!(of(Some("math,c")), "math+c+format");
        for unknown in ["", "a,", "a,numbr"] {
            assert!(rewards.check(&problem("7", Some(unknown))).is_err(), "{unknown}");
        }
        let listed: Problem =
            serde_json::from_str(r#"{"answer": "7", "reward": ["c", "a"]}"#).expect("a problem");
        assert_eq!(listed.reward.as_deref(), Some("c,a"));
    }

    #[test]
    fn a_reward_is_in_force_in_its_steps() {
        let early = RewardConfig { until_step: Some(3), ..config("number", 1.0) };
        let late = RewardConfig { from_step: Some(3), until_step: Some(5), ..config("words", 1.0) };
        let rewards = Rewards::build(&[early.clone(), late], Context::default()).expect("builds");
        let all = problem("7", None);
        let of = |step| {
            let judgement = rewards.judge(&Sample { step, ..Sample::new(&all, RIGHT) });
            let names: Vec<_> = judgement.terms.iter().map(|term| term.name.clone()).collect();
            (names.join("+"), judgement.outcome())
        };
        assert_eq!(of(Some(1)).0, "number");
        assert_eq!(of(Some(3)).0, "number+words");
        assert_eq!(of(Some(4)).0, "words");
        assert_eq!(of(Some(6)), (String::new(), Outcome::Undecided), "masked, with the reason");
        assert_eq!(of(None).0, "number+words", "outside of training all are");
        let gaps = rewards.gaps(&[all.clone(), problem("7", Some("number"))], 10);
        assert_eq!(gaps.len(), 3, "{gaps:?}");
        assert!(gaps[0].starts_with("in steps 6 to 10 no reward of 1 problems is in force"), "{gaps:?}");
        assert!(gaps[1].starts_with("in steps 4 to 5 ") && gaps[1].contains("`number`"), "{gaps:?}");
        for (from_step, until_step) in [(Some(0), None), (Some(4), Some(3)), (None, Some(0))] {
            let wrong = RewardConfig { from_step, until_step, ..early.clone() };
            assert!(wrong.resolved().expect_err("no step").to_string().contains("from_step"));
        }
    }

    #[test]
    fn a_reward_of_the_authors_own_is_not_replaced_in_silence() {
        let own = RewardConfig::parse(
            "external",
            &["url=http://localhost:1/judge".to_owned(), "name=mine".to_owned()],
        );
        let rewards = Rewards::build(&[own.expect("a config")], Context::default()).expect("builds");
        let problems = [
            problem("7", Some("math")),
            problem("7", Some("mine")),
            problem("7", Some("math")),
            problem("7", None),
        ];
        let replaced = rewards.replaced(&problems);
        let expected = Replaced { named: "math".into(), problems: 2, instead_of: vec!["mine".into()] };
        assert_eq!(replaced, [expected]);
        assert!(replaced[0].to_string().contains("not by `mine`"), "{}", replaced[0]);
        assert!(Rewards::of_kind("number").expect("builds").replaced(&problems).is_empty());
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
        let parsed = parse("format", &[r"answer=Answer: \d+", "shape=think"]).expect("good");
        assert_eq!(parsed.options["answer"], Value::from(r"Answer: \d+"));
        let parsed = parse("language", &["part=completion", "language=problem"]).expect("good");
        assert_eq!(parsed.options["part"], Value::from("completion"));
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
