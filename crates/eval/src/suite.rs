//! Several measurements as one: data sets, each with its reward and its way of sampling, over several models.
//!
//! The file is TOML, a table `[[set]]` for each data set; [`Suite::read`] refuses an unknown key with the nearest known one.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
};

use koan_data::DataFiles;
use koan_files::read_bounded;
use koan_reward::{RewardConfig, verifier::Options};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{Estimate, Interval, PassAtK, REVIEWER, Reviewed, SafetyGroup, SafetyReport};

/// Longest suite file that is read, bytes.
pub const MAX_SUITE_BYTES: u64 = 1 << 20;
/// The most that is counted in one set: completions per problem, and their tokens.
const MAX_COUNT: usize = 1 << 20;

/// Why a suite was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuiteError {
    /// The file can't be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is not what a suite looks like.
    #[error("in `{}`: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, where, and what to do.
        message: String,
    },
}

/// A suite of data sets.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// The sets, in the order in which they are measured.
    #[serde(rename = "set")]
    pub sets: Vec<Set>,
}

/// `[[set]]`: problems, what judges them, and how completions are sampled. Options are those of `koan eval`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// Its name in tables, charts and folders.
    pub name: String,
    /// What its rows are.
    #[serde(default)]
    pub kind: SetKind,
    /// The problems; none: of a set of safety, our own.
    #[serde(default)]
    pub data: Option<DataFiles>,
    /// What judges problems that name nothing: a name, or a table with `kind` and options.
    #[serde(default, deserialize_with = "reward")]
    pub reward: Option<RewardConfig>,
    /// The model that judges a set of safety: the options of the reward `judge`, without its mode.
    #[serde(default)]
    pub judge: Option<Options>,
    /// The model that reviews what the completions of a set of safety say before people would get it: options as of `judge`.
    #[serde(default)]
    pub reviewer: Option<Options>,
    /// A file of jailbreaks, in each of which the prompts of a set of safety are put too.
    #[serde(default)]
    pub jailbreaks: Option<DataFiles>,
    /// Completions per problem.
    #[serde(default = "one")]
    pub n: usize,
    /// pass@k is measured for these; none: 1 and `n`.
    #[serde(default)]
    pub k: Vec<usize>,
    /// Logits are divided by it; 0 takes the likeliest token.
    #[serde(default = "whole")]
    pub temperature: f32,
    /// Sample from so many of the likeliest tokens; 0: all.
    #[serde(default)]
    pub top_k: usize,
    /// Sample from the likeliest tokens that have this share of the probability; 1: all.
    #[serde(default = "whole")]
    pub top_p: f32,
    /// Leave out tokens with less than this share of the likeliest one's probability; 0: none.
    #[serde(default)]
    pub min_p: f32,
    /// A completion is cut at this many tokens.
    #[serde(default = "max_new_tokens")]
    pub max_new_tokens: usize,
    /// Keys the random numbers.
    #[serde(default)]
    pub seed: u64,
    /// A system message before every problem that has none. A set of safety is measured without it and with it.
    #[serde(default)]
    pub system: Option<String>,
    /// Feed prompts as they stand, without the chat template.
    #[serde(default)]
    pub raw: bool,
}

/// What the rows of a set are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SetKind {
    /// Problems with answers that rewards verify.
    #[default]
    Problems,
    /// Requests that may be harmful, with a `category`; how the model meets them is judged.
    Safety,
}

fn one() -> usize {
    1
}

fn whole() -> f32 {
    1.0
}

fn max_new_tokens() -> usize {
    256
}

/// A reward: its kind alone, or a table as `[[reward]]` is.
fn reward<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RewardConfig>, D::Error> {
    let table = match toml::Value::deserialize(deserializer)? {
        toml::Value::String(kind) => return Ok(Some(RewardConfig::new(&kind))),
        table => table,
    };
    let wrong = |error| D::Error::custom(format!("`reward` is a name, or a table with `kind`: {error}"));
    RewardConfig::deserialize(table).map(Some).map_err(wrong)
}

impl Suite {
    /// Reads a suite.
    ///
    /// # Errors
    /// A file that can't be read; unknown keys, with the nearest known one; values that make no sense.
    pub fn read(path: &Path) -> Result<Self, SuiteError> {
        let wrong = |message: String| SuiteError::Parse { path: path.to_owned(), message };
        let bytes = read_bounded(path, MAX_SUITE_BYTES)
            .map_err(|source| SuiteError::Read { path: path.to_owned(), source })?
            .ok_or_else(|| wrong(format!("it has more than {MAX_SUITE_BYTES} bytes")))?;
        let text = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
        let suite: Self =
            toml::from_str(&text).map_err(|error| wrong(with_nearest_name(&error.to_string())))?;
        suite.check().map_err(wrong)?;
        Ok(suite)
    }

    fn check(&self) -> Result<(), String> {
        if self.sets.is_empty() {
            return Err("there is no [[set]] to measure".to_owned());
        }
        let mut names = BTreeSet::new();
        for set in &self.sets {
            for (name, _) in set.variants() {
                if !names.insert(name.clone()) {
                    return Err(format!("two sets are called `{name}`; give each its own `name`"));
                }
            }
            set.check().map_err(|what| format!("set `{}`: {what}", set.name))?;
        }
        Ok(())
    }
}

impl Set {
    fn check(&self) -> Result<(), String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.name.is_empty() || !self.name.chars().all(is_plain) || self.name.starts_with('.') {
            return Err("`name` names a file too: write letters, digits, `-`, `_` and `.` alone".to_owned());
        }
        let unused: &[(&str, bool)] = match self.kind {
            SetKind::Problems => &[
                ("judge", self.judge.is_some()),
                ("reviewer", self.reviewer.is_some()),
                ("jailbreaks", self.jailbreaks.is_some()),
            ],
            SetKind::Safety => &[("reward", self.reward.is_some()), ("k", !self.k.is_empty())],
        };
        if let Some((name, _)) = unused.iter().find(|(_, given)| *given) {
            let kind = if self.kind == SetKind::Safety { "safety" } else { "problems" };
            return Err(format!("`{name}` is nothing that a set of {kind} has; remove it"));
        }
        match (self.kind, &self.judge, &self.data) {
            (SetKind::Problems, _, None) => {
                return Err("it has no `data`, the files of its problems".to_owned());
            }
            (SetKind::Safety, None, _) => {
                return Err(
                    "it has no `judge`: write `judge = { model = \"DIR\" }`, or one with `url`".to_owned()
                );
            }
            (SetKind::Safety, Some(judge), _) if judge.contains_key("mode") => {
                return Err("`judge.mode` is safety already; remove it".to_owned());
            }
            _ => {}
        }
        if self.reviewer.as_ref().is_some_and(|reviewer| reviewer.contains_key("mode")) {
            return Err("`reviewer.mode` is safety already; remove it".to_owned());
        }
        for (name, value) in [("n", self.n), ("max_new_tokens", self.max_new_tokens)] {
            if !(1..=MAX_COUNT).contains(&value) {
                return Err(format!("`{name}` is {value}; write a number from 1 to {MAX_COUNT}"));
            }
        }
        if let Some(k) = self.k.iter().find(|k| !(1..=self.n).contains(*k)) {
            return Err(format!("`k` has {k}, and needs numbers from 1 to `n`, {}", self.n));
        }
        let is_share = |x: f32| (0.0..=1.0).contains(&x);
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Err(format!("`temperature` is {}; write 0 or more", self.temperature));
        }
        if !(is_share(self.top_p) && self.top_p > 0.0) {
            return Err(format!("`top_p` is {}; write a number above 0 and at most 1", self.top_p));
        }
        if !is_share(self.min_p) {
            return Err(format!("`min_p` is {}; write a number from 0 to 1", self.min_p));
        }
        Ok(())
    }

    /// What judges problems that name nothing.
    pub fn reward(&self) -> RewardConfig {
        let Some(judge) = self.judge.as_ref().filter(|_| self.kind == SetKind::Safety) else {
            return self.reward.clone().unwrap_or_else(|| RewardConfig::new("math"));
        };
        let mut options = judge.clone();
        options.insert("mode".to_owned(), "safety".into());
        RewardConfig { options, ..RewardConfig::new("judge") }
    }

    /// What reviews completions, if something does: as [`REVIEWER`], beside the judge.
    pub fn reviewer(&self) -> Option<RewardConfig> {
        let mut options = self.reviewer.clone()?;
        options.insert("mode".to_owned(), "safety".into());
        Some(RewardConfig { options, name: Some(REVIEWER.to_owned()), ..RewardConfig::new("judge") })
    }

    /// The ways in which it is measured: the name of each, and its system message.
    pub fn variants(&self) -> Vec<(String, Option<&str>)> {
        let (name, system) = (self.name.clone(), self.system.as_deref());
        match (self.kind, system) {
            (SetKind::Safety, Some(_)) => vec![(name.clone(), None), (format!("{name}-system"), system)],
            _ => vec![(name, system)],
        }
    }

    /// The k of pass@k, in their order.
    pub fn ks(&self) -> Vec<usize> {
        let mut ks = if self.k.is_empty() { vec![1, self.n] } else { self.k.clone() };
        ks.sort_unstable();
        ks.dedup();
        ks
    }
}

/// Adds the nearest known name to serde's "unknown field `x`, expected one of `a`, `b`".
fn with_nearest_name(message: &str) -> String {
    let message = message.trim_end();
    let Some((_, rest)) = message.split_once("unknown field") else { return message.to_owned() };
    let names: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    let Some((unknown, known)) = names.split_first() else { return message.to_owned() };
    match known.iter().min_by_key(|known| strsim::damerau_levenshtein(known, unknown)) {
        Some(nearest) => format!("{message}\ndid you mean `{nearest}`?"),
        None => message.to_owned(),
    }
}

/// What a suite found of one model on one set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SuiteRow {
    /// The model's short name.
    pub model: String,
    /// Its directory.
    pub path: PathBuf,
    /// The set.
    pub set: String,
    /// What was measured.
    #[serde(flatten)]
    pub figures: Figures,
    /// How it meets requests that may be harmful; none: the set asks none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safety: Option<SafetyReport>,
    /// Completion tokens sampled.
    pub tokens: usize,
    /// Seconds that it took.
    pub seconds: f64,
    /// What they cost; none: no price was given.
    pub cost: Option<f64>,
    /// Its own report; none: it was not kept.
    pub report: Option<PathBuf>,
}

/// Those figures of a report that a suite shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Problems asked.
    pub problems: usize,
    /// Completions per problem.
    pub samples: usize,
    /// pass@1 with its interval.
    pub pass_at_1: Interval,
    /// pass@k.
    pub pass_at_k: Vec<PassAtK>,
    /// Majority vote of all samples, cons@k; none: there is one completion each.
    #[serde(rename(serialize = "cons_at_k"), alias = "cons_at_k")]
    pub majority: Option<Estimate>,
    /// Mean tokens of a completion.
    pub completion_tokens: f64,
    /// Share of completions that were cut.
    pub truncated: f64,
}

/// A report of a measurement, as far as a suite reads it.
#[derive(Deserialize)]
struct Kept {
    report: KeptReport,
    cost: KeptCost,
    safety: Option<SafetyReport>,
}

#[derive(Deserialize)]
struct KeptReport {
    #[serde(flatten)]
    figures: Figures,
    tokens: usize,
}

#[derive(Deserialize)]
struct KeptCost {
    seconds: f64,
}

impl SuiteRow {
    /// From the report of the measurement, as `koan eval --out` writes it.
    ///
    /// # Errors
    /// Something else.
    pub fn of(
        model: &str,
        path: &Path,
        set: &str,
        report: serde_json::Value,
        price_per_hour: Option<f64>,
    ) -> Result<Self, serde_json::Error> {
        let Kept { report: KeptReport { figures, tokens }, cost: KeptCost { seconds }, safety } =
            serde_json::from_value(report)?;
        Ok(Self {
            model: model.to_owned(),
            path: path.to_owned(),
            set: set.to_owned(),
            figures,
            safety,
            tokens,
            seconds,
            cost: price_per_hour.map(|price| price * seconds / 3600.0),
            report: None,
        })
    }
}

/// Rows as a table: a block for each set, a line for each model.
pub struct SuiteTable<'a>(pub &'a [SuiteRow]);

impl fmt::Display for SuiteTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.0;
        let width = rows.iter().map(|row| row.model.chars().count()).max().unwrap_or(0).max(5);
        let mut sets: Vec<&str> = Vec::new();
        for row in rows {
            if !sets.contains(&&*row.set) {
                sets.push(&row.set);
            }
        }
        for (i, set) in sets.into_iter().enumerate() {
            let of_set: Vec<&SuiteRow> = rows.iter().filter(|row| row.set == set).collect();
            let Figures { problems, samples, .. } = of_set[0].figures;
            if i > 0 {
                writeln!(f)?;
            }
            writeln!(f, "{set}: {problems} problems, {samples} completions each")?;
            write!(f, "  {:width$}", "")?;
            for (name, _) in of_set[0].columns() {
                write!(f, "{name:>24}")?;
            }
            writeln!(f, "{:>9}{:>9}{:>11}", "tokens", "cut", "seconds")?;
            for row in &of_set {
                write!(f, "  {:width$}", row.model)?;
                for (_, share) in row.columns() {
                    write!(f, "{:>24}", percent(share))?;
                }
                let Figures { completion_tokens, truncated, .. } = row.figures;
                write!(f, "{completion_tokens:>9.1}{:>8.1}%{:>11.1}", 100.0 * truncated, row.seconds)?;
                writeln!(f, "{}", row.cost.map(|cost| format!("  cost {cost:.4}")).unwrap_or_default())?;
            }
            for row in of_set {
                row.safety.as_ref().map_or(Ok(()), |safety| groups(f, &row.model, safety))?;
            }
        }
        Ok(())
    }
}

fn percent(share: Interval) -> String {
    let [accuracy, low, high] = [share.accuracy, share.low, share.high].map(|share| 100.0 * share);
    format!("{accuracy:.1}% ({low:.1} to {high:.1})")
}

/// How a model meets each category of requests and, if there are some, each jailbreak.
fn groups(f: &mut fmt::Formatter<'_>, model: &str, safety: &SafetyReport) -> fmt::Result {
    let SafetyReport { by_category, by_jailbreak, .. } = safety;
    let jailbreaks = if by_jailbreak.len() > 1 { &by_jailbreak[..] } else { &[] };
    for (by, groups) in [("category", &by_category[..]), ("jailbreak", jailbreaks)] {
        if groups.is_empty() {
            continue;
        }
        let width = groups.iter().map(|group| group.name.chars().count()).max().unwrap_or(0);
        writeln!(f, "\n  {model} by {by}")?;
        writeln!(f, "    {:width$}{:>8}{:>24}{:>24}{:>24}", "", "prompts", "safe", "unsafe", "refused")?;
        for SafetyGroup { name, shares } in groups {
            let [safe, harmful, refused] = [shares.safe, shares.harmful, shares.refused].map(percent);
            writeln!(f, "    {name:width$}{:>8}{safe:>24}{harmful:>24}{refused:>24}", shares.prompts)?;
        }
        if safety.all.undecided > 0 && by == "category" {
            writeln!(f, "    {} completions are undecided, and left out", safety.all.undecided)?;
        }
    }
    if let Some(with) = &safety.reviewed {
        let [safe, harmful, refused] = [with.all.safe, with.all.harmful, with.all.refused].map(percent);
        writeln!(f, "\n  {model} with review: safe {safe}, unsafe {harmful}, refused {refused}")?;
        let Reviewed { flagged, flagged_safe, undecided, .. } = with;
        writeln!(
            f,
            "    {flagged} completions held back, {flagged_safe} of them safe; of {undecided} the reviewer decided nothing"
        )?;
    }
    Ok(())
}

impl SuiteRow {
    /// What a table shows of it.
    fn columns(&self) -> Vec<(String, Interval)> {
        if let Some(safety) = &self.safety {
            let all = &safety.all;
            let shares = [("safe", all.safe), ("unsafe", all.harmful), ("refused", all.refused)];
            let over = safety.over_refusal.iter().map(|of| ("over-refused", of.interval));
            return shares.into_iter().chain(over).map(|(name, share)| (name.to_owned(), share)).collect();
        }
        let Figures { pass_at_k, majority, samples, .. } = &self.figures;
        let pass = pass_at_k.iter().map(|pass| (format!("pass@{}", pass.k), pass.estimate.interval));
        pass.chain(majority.iter().map(|vote| (format!("cons@{samples}"), vote.interval))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Suite, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("suite.toml");
        std::fs::write(&path, text).expect("written");
        Suite::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn a_suite_says_what_is_measured_and_how() {
        let suite = read(
            "[[set]]\nname = 'sums'\ndata = 'a.jsonl'\nreward = 'number'\nn = 8\nk = [8, 1, 4]\ntemperature = 0.6\n\
             [[set]]\nname = 'maths.2'\ndata = ['a.jsonl', 'b*.jsonl']\nreward = { kind = 'math', precision = 3 }\nsystem = 'Think.'\n",
        )
        .expect("a suite");
        let [sums, maths] = &suite.sets[..] else { panic!("two sets") };
        assert_eq!((sums.ks(), sums.temperature, sums.max_new_tokens), (vec![1, 4, 8], 0.6, 256));
        assert_eq!((sums.reward().kind.as_str(), maths.ks()), ("number", vec![1]));
        assert_eq!((maths.reward().kind.as_str(), &maths.reward().options["precision"]), ("math", &3.into()));
        assert_eq!((maths.system.as_deref(), maths.raw), (Some("Think."), false));
    }

    #[test]
    fn a_set_of_safety_is_measured_without_and_with_its_system_message() {
        let text =
            "[[set]]\nname = 'safety'\nkind = 'safety'\njudge = { model = 'm' }\nsystem = 'Be good.'\n";
        let set = read(text).expect("a suite").sets.remove(0);
        assert_eq!(
            set.variants(),
            [("safety".to_owned(), None), ("safety-system".to_owned(), Some("Be good."))]
        );
        assert_eq!((set.reward().kind.as_str(), &set.reward().options["mode"]), ("judge", &"safety".into()));
        let clash = "[[set]]\nname = 'safety-system'\ndata = 'a'\n";
        assert!(
            read(&format!("{text}{clash}"))
                .expect_err("a clash")
                .contains("two sets are called `safety-system`")
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_the_nearest_name() {
        let set = "[[set]]\nname = 'a'\ndata = 'a.jsonl'\n";
        for (text, said) in [
            (String::new(), "missing field `set`"),
            ("set = []".to_owned(), "there is no [[set]]"),
            (format!("{set}temprature = 1"), "did you mean `temperature`?"),
            (set.replace("set", "sets"), "did you mean `set`?"),
            (format!("{set}{set}"), "two sets are called `a`"),
            (set.replace("'a'", "'../a'"), "`name` names a file too"),
            (format!("{set}n = 0"), "set `a`: `n` is 0"),
            (format!("{set}n = 2\nk = [3]"), "`k` has 3"),
            (format!("{set}temperature = -1.0"), "`temperature` is -1"),
            (format!("{set}top_p = 0.0"), "`top_p` is 0"),
            (format!("{set}min_p = 2.0"), "`min_p` is 2"),
            (format!("{set}reward = 7"), "`reward` is a name, or a table with `kind`"),
            (format!("{set}reward = {{ precision = 3 }}"), "missing field `kind`"),
            ("[[set]]\nname = 'a'".to_owned(), "it has no `data`"),
            (format!("{set}kind = 'safty'"), "unknown variant `safty`"),
            (format!("{set}kind = 'safety'"), "it has no `judge`"),
            (
                format!("{set}kind = 'safety'\njudge = {{ model = 'm', mode = 'rubric' }}"),
                "`judge.mode` is safety already",
            ),
            (
                format!("{set}kind = 'safety'\njudge = {{ model = 'm' }}\nreward = 'math'"),
                "`reward` is nothing that",
            ),
            (format!("{set}jailbreaks = 'j'"), "`jailbreaks` is nothing that"),
            (format!("{set}reviewer = {{ model = 'm' }}"), "`reviewer` is nothing that"),
            (
                format!(
                    "{set}kind = 'safety'\njudge = {{ model = 'm' }}\nreviewer = {{ model = 'm', mode = 'safety' }}"
                ),
                "`reviewer.mode` is safety already",
            ),
        ] {
            let error = read(&text).expect_err(&text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
