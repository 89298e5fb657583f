//! Whether one model is better than another: two measurements (`koan eval --out`), paired over the problems that both have.
//!
//! A problem is the same where its id and the hash of its prompt are. On each, the difference is B's share of right completions less
//! A's, as pass@1 counts them; [`Difference`] says how sure their mean is. **Better** is only said where the interval excludes 0 and
//! the test of [`sign_flip_p`] agrees.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use koan_files::read_bounded;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Difference, sign_flip_p};

/// The largest report that is read, bytes.
pub const MAX_REPORT_BYTES: u64 = 1 << 28;
/// The most completions of a problem.
const MAX_COMPLETIONS: usize = 1 << 24;
/// A chance of the test below which a difference is more than luck.
const ALPHA: f64 = 0.05;
/// Settings that belong to a model, or can't change what is measured.
const OF_THE_MODEL: [&str; 3] = ["model_sha256", "stop_ids", "device"];
/// Files of a model that decide how it is asked.
const TEMPLATES: [&str; 2] = ["chat_template.jinja", "tokenizer_config.json"];

/// Why two reports can't be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// A file that can't be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is too large.
    #[error("`{}` is larger than {MAX_REPORT_BYTES} bytes, and no report of `koan eval`", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is no report of a measurement.
    #[error("`{}` is no report of a measurement: {reason}", path.display())]
    NoReport {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// They have no problem in common.
    #[error(
        "`{}` ({a_problems} problems) and `{}` ({b_problems} problems) have no problem in common, by id and prompt: {reason}",
        a.display(),
        b.display()
    )]
    NothingShared {
        /// The first report.
        a: PathBuf,
        /// The second.
        b: PathBuf,
        /// Problems of the first.
        a_problems: usize,
        /// Problems of the second.
        b_problems: usize,
        /// What they share, and what to do.
        reason: &'static str,
    },
}

/// A measurement, read from its report.
#[derive(Clone, Debug)]
pub struct Measurement {
    path: PathBuf,
    model: String,
    settings: Map<String, Value>,
    problems: Vec<Row>,
}

/// What a report says of a problem.
#[derive(Clone, Debug, Deserialize)]
struct Row {
    id: String,
    prompt_sha256: String,
    judged: usize,
    correct: usize,
    completion_tokens: f64,
}

impl Row {
    fn share(&self) -> f64 {
        self.correct as f64 / self.judged as f64
    }

    fn key(&self) -> (&str, &str) {
        (&self.id, &self.prompt_sha256)
    }
}

/// What two reports say of one problem.
type Pair<'a> = (&'a Row, &'a Row);

/// What of a report is read.
#[derive(Deserialize)]
struct File {
    model: String,
    settings: Map<String, Value>,
    report: Scores,
}

#[derive(Deserialize)]
struct Scores {
    per_problem: Vec<Row>,
}

impl Measurement {
    /// Reads what `koan eval --out` wrote.
    ///
    /// # Errors
    /// A file that can't be read, or that is something else.
    pub fn read(path: &Path) -> Result<Self, CompareError> {
        let bytes = read_bounded(path, MAX_REPORT_BYTES)
            .map_err(|source| CompareError::Read { path: path.to_owned(), source })?
            .ok_or_else(|| CompareError::TooLarge { path: path.to_owned() })?;
        let no = |reason: String| CompareError::NoReport { path: path.to_owned(), reason };
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| no(error.to_string()))?;
        let has = |field: &str| value.get(field).is_some();
        if has("reward_model") {
            return Err(no("it measures a reward model; give two of `koan eval --model`".to_owned()));
        }
        if has("rows") && has("suite") {
            return Err(no(
                "it is of a whole suite; give those of its sets, in the folder of --completions".to_owned()
            ));
        }
        let first = value.pointer("/report/per_problem/0");
        if first.is_some_and(|row| row.get("id").is_some() && row.get("prompt_sha256").is_none()) {
            return Err(no(
                "an earlier version wrote it, without hashes of prompts; measure again".to_owned()
            ));
        }
        let File { model, settings, report } = serde_json::from_value(value)
            .map_err(|error| no(format!("{error}; give a file of `koan eval --out`")))?;
        let mut seen = BTreeSet::new();
        for row in &report.per_problem {
            if row.correct > row.judged
                || row.judged > MAX_COMPLETIONS
                || !(row.completion_tokens >= 0.0 && row.completion_tokens.is_finite())
            {
                return Err(no(format!("what it says of problem `{}` can't be", row.id)));
            }
            if !seen.insert(row.key()) {
                return Err(no(format!("problem `{}` occurs twice", row.id)));
            }
        }
        Ok(Self { path: path.to_owned(), model, settings, problems: report.per_problem })
    }

    /// What of the settings is compared: all but what belongs to the model, and its templates.
    fn setting(&self, name: &str) -> Option<&Value> {
        if TEMPLATES.contains(&name) {
            self.settings.get("model_sha256")?.get(name)
        } else {
            self.settings.get(name)
        }
    }

    fn weights(&self) -> [Option<&Value>; 2] {
        let of = |name| self.settings.get("model_sha256").and_then(|files| files.get(name));
        [of("weights"), of("adapter")]
    }
}

/// One side of a comparison, over the problems that both have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// The report.
    pub report: PathBuf,
    /// The model it measures.
    pub model: String,
    /// pass@1.
    pub pass_at_1: f64,
    /// Mean tokens of a completion.
    pub completion_tokens: f64,
    /// Problems that the other report does not have.
    pub alone: usize,
}

/// A setting in which two measurements differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Differs {
    /// Its name.
    pub setting: String,
    /// In the first report.
    pub a: Value,
    /// In the second.
    pub b: Value,
}

/// Which model is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// The first.
    A,
    /// The second.
    B,
}

/// On how many problems B's share of right completions is larger, smaller, or the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// B's is larger.
    pub better: usize,
    /// B's is smaller.
    pub worse: usize,
    /// Both are the same.
    pub same: usize,
}

/// McNemar's table for one completion of each model: with several, how many problems of each kind are expected if one of
/// them is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct OneEach {
    /// Both are right.
    pub both: f64,
    /// A alone is.
    pub only_a: f64,
    /// B alone is.
    pub only_b: f64,
    /// Neither is.
    pub neither: f64,
}

/// Two measurements, compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The first.
    pub a: Side,
    /// The second.
    pub b: Side,
    /// Problems that both have, with judged completions of either.
    pub problems: usize,
    /// Problems that both have, and of which one has no judged completion.
    pub unjudged: usize,
    /// pass@1 of B less that of A, with its 95% interval.
    pub difference: Difference,
    /// The chance of such a difference, either way, if the models were equally good.
    pub p: f64,
    /// Which is better; none: that is not known.
    pub better: Option<Better>,
    /// Problems by which way they changed.
    pub changed: Changed,
    /// McNemar's table.
    pub one_each: OneEach,
    /// Mean tokens of a completion of B less that of A, with its 95% interval.
    pub completion_tokens: Difference,
    /// Settings in which the measurements differ: what is compared may be these, and not the models.
    pub differs: Vec<Differs>,
    /// Whether both measure the same weights.
    pub same_weights: bool,
}

impl Comparison {
    /// Compares B with A; `seed` keys the resamples.
    ///
    /// # Errors
    /// If they have no problem in common.
    pub fn of(a: &Measurement, b: &Measurement, seed: u64) -> Result<Self, CompareError> {
        let of_b: HashMap<_, &Row> = b.problems.iter().map(|row| (row.key(), row)).collect();
        let shared: Vec<Pair> =
            a.problems.iter().filter_map(|row| Some((row, *of_b.get(&row.key())?))).collect();
        let pairs: Vec<Pair> = shared.iter().copied().filter(|(a, b)| a.judged > 0 && b.judged > 0).collect();
        if pairs.is_empty() {
            return Err(nothing_shared(a, b, !shared.is_empty()));
        }
        let n = pairs.len();
        let differences: Vec<f64> = pairs.iter().map(|(a, b)| b.share() - a.share()).collect();
        let tokens: Vec<f64> = pairs.iter().map(|(a, b)| b.completion_tokens - a.completion_tokens).collect();
        let (mut changed, mut one_each) = (Changed::default(), OneEach::default());
        for (a, b) in &pairs {
            // Shares of different numbers of completions, compared without rounding.
            match (b.correct * a.judged).cmp(&(a.correct * b.judged)) {
                std::cmp::Ordering::Greater => changed.better += 1,
                std::cmp::Ordering::Less => changed.worse += 1,
                std::cmp::Ordering::Equal => changed.same += 1,
            }
            let (a, b) = (a.share(), b.share());
            one_each.both += a * b;
            one_each.only_a += a * (1.0 - b);
            one_each.only_b += (1.0 - a) * b;
            one_each.neither += (1.0 - a) * (1.0 - b);
        }
        let difference = Difference::of(&differences, seed);
        let p = sign_flip_p(&differences, seed);
        let is_sure = difference.excludes_zero() && p < ALPHA;
        let better = is_sure.then_some(if difference.value > 0.0 { Better::B } else { Better::A });
        let side = |of: &Measurement, row: &dyn Fn(&Pair) -> (f64, f64)| {
            let (right, tokens) =
                pairs.iter().map(row).fold((0.0, 0.0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
            Side {
                report: of.path.clone(),
                model: of.model.clone(),
                pass_at_1: right / n as f64,
                completion_tokens: tokens / n as f64,
                alone: of.problems.len() - shared.len(),
            }
        };
        Ok(Self {
            a: side(a, &|(a, _)| (a.share(), a.completion_tokens)),
            b: side(b, &|(_, b)| (b.share(), b.completion_tokens)),
            problems: n,
            unjudged: shared.len() - n,
            difference,
            p,
            better,
            changed,
            one_each,
            completion_tokens: Difference::of(&tokens, seed),
            differs: differs(a, b),
            same_weights: a.weights() == b.weights() && a.weights()[0].is_some(),
        })
    }
}

fn differs(a: &Measurement, b: &Measurement) -> Vec<Differs> {
    let names = a.settings.keys().chain(b.settings.keys()).map(String::as_str);
    let mut names: Vec<&str> = names.filter(|name| !OF_THE_MODEL.contains(name)).chain(TEMPLATES).collect();
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    let value = |of: &Measurement, name: &str| of.setting(name).cloned().unwrap_or(Value::Null);
    let differs = names.into_iter().map(|name| Differs {
        setting: name.to_owned(),
        a: value(a, name),
        b: value(b, name),
    });
    differs.filter(|differs| differs.a != differs.b).collect()
}

fn nothing_shared(a: &Measurement, b: &Measurement, unjudged: bool) -> CompareError {
    let same = |field: fn(&Row) -> &str| {
        let of_a: BTreeSet<&str> = a.problems.iter().map(field).collect();
        b.problems.iter().any(|row| of_a.contains(field(row)))
    };
    let reason = if unjudged {
        "those that they share have no judged completion"
    } else if same(|row| &row.prompt_sha256) {
        "the same prompts have other ids; give problems an `id`, and measure again"
    } else if same(|row| &row.id) {
        "the same ids have other prompts: these are other problems"
    } else {
        "measure both models on the same data"
    };
    let (a_problems, b_problems) = (a.problems.len(), b.problems.len());
    CompareError::NothingShared { a: a.path.clone(), b: b.path.clone(), a_problems, b_problems, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A report of problems `(id, prompt, right of 4)`.
    fn report(folder: &Path, name: &str, temperature: f64, rows: &[(&str, &str, usize)]) -> PathBuf {
        let row = |(id, prompt, correct): &(&str, &str, usize)| {
            json!({"id": id, "prompt_sha256": prompt, "judged": 4, "decided": 4, "correct": correct, "majority": null,
                "completion_tokens": 10.0 + *correct as f64})
        };
        let model = json!({"weights": name, "chat_template.jinja": "same"});
        let report = json!({"model": name, "data": "d.jsonl", "report": {"per_problem": rows.iter().map(row).collect::<Vec<_>>()},
            "settings": {"temperature": temperature, "model_sha256": model, "device": name, "n": 4}});
        let path = folder.join(format!("{name}.json"));
        std::fs::write(&path, report.to_string()).expect("written");
        path
    }

    fn compare(a: &Path, b: &Path) -> Result<Comparison, CompareError> {
        Comparison::of(&Measurement::read(a)?, &Measurement::read(b)?, 0)
    }

    #[test]
    fn problems_are_paired_and_counted_each_way() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let a = report(
            folder,
            "a",
            1.0,
            &[("1", "p", 1), ("2", "q", 2), ("3", "r", 4), ("4", "s", 0), ("5", "t", 0)],
        );
        let b = report(
            folder,
            "b",
            0.5,
            &[("3", "r", 4), ("2", "q", 1), ("1", "p", 3), ("6", "u", 0), ("5", "other", 0)],
        );
        let got = compare(&a, &b).expect("comparable");
        assert_eq!((got.problems, got.a.alone, got.b.alone, got.unjudged), (3, 2, 2, 0));
        assert_eq!(got.changed, Changed { better: 1, worse: 1, same: 1 });
        assert!((got.difference.value - 1.0 / 12.0).abs() < 1e-9 && got.better.is_none(), "{got:?}");
        let one = got.one_each;
        assert_eq!(
            (one.both, one.only_a, one.only_b, one.neither),
            (0.1875 + 0.125 + 1.0, 0.0625 + 0.375, 0.5625 + 0.125, 0.1875 + 0.375)
        );
        assert!(
            (got.a.pass_at_1 - 7.0 / 12.0).abs() < 1e-9
                && (got.b.completion_tokens - (13.0 + 11.0 + 14.0) / 3.0).abs() < 1e-9
        );
        assert!((got.completion_tokens.value - 1.0 / 3.0).abs() < 1e-6);
        let differs: Vec<&str> = got.differs.iter().map(|differs| &*differs.setting).collect();
        assert_eq!((differs, got.same_weights), (vec!["temperature"], false));
        let back = compare(&b, &a).expect("comparable");
        assert_eq!(back.difference.low, -got.difference.high);
        assert_eq!(back.p, got.p);
    }

    #[test]
    fn better_is_said_where_it_is_and_not_of_a_few_problems() {
        let folder = tempfile::tempdir().expect("a folder");
        let ids: Vec<String> = (0..60).map(|i| i.to_string()).collect();
        let rows = |of: &dyn Fn(usize) -> usize, n: usize| -> Vec<(&str, &str, usize)> {
            ids.iter().take(n).enumerate().map(|(i, id)| (&**id, "p", of(i))).collect()
        };
        let report = |name: &str, rows: &[(&str, &str, usize)]| report(folder.path(), name, 1.0, rows);
        let better = |n: usize, of: &dyn Fn(usize) -> usize| {
            let (low, high) = (report("low", &rows(&|i| i % 3, n)), report("high", &rows(of, n)));
            (compare(&low, &high).expect("shared").better, compare(&high, &low).expect("shared").better)
        };
        assert_eq!(better(60, &|i| i % 3 + usize::from(i % 2 == 0)), (Some(Better::B), Some(Better::A)));
        assert_eq!(better(60, &|i| i % 3), (None, None));
        // The bootstrap alone would be sure of these, whatever little they say.
        assert_eq!(better(1, &|_| 4), (None, None));
        assert_eq!(better(4, &|i| i % 3 + 1), (None, None));
        assert_eq!(better(60, &|i| i % 3 + usize::from(i < 4)), (None, None));
    }

    #[test]
    fn what_cannot_be_compared_is_refused_with_a_remedy() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let a = report(folder, "a", 1.0, &[("1", "p", 1)]);
        let put = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        for (b, said) in [
            (report(folder, "ids", 1.0, &[("2", "p", 1)]), "the same prompts have other ids"),
            (report(folder, "prompts", 1.0, &[("1", "q", 1)]), "the same ids have other prompts"),
            (report(folder, "others", 1.0, &[("2", "q", 1)]), "measure both models on the same data"),
            (report(folder, "twice", 1.0, &[("1", "p", 1), ("1", "p", 1)]), "problem `1` occurs twice"),
            (report(folder, "more", 1.0, &[("1", "p", 5)]), "what it says of problem `1` can't be"),
            (put("rm", r#"{"reward_model": "m"}"#), "it measures a reward model"),
            (put("suite", r#"{"suite": "s", "rows": []}"#), "it is of a whole suite"),
            (
                put("old", r#"{"report": {"per_problem": [{"id": "1", "correct": 1}]}}"#),
                "an earlier version wrote it",
            ),
            (put("text", "hello"), "is no report of a measurement: expected value"),
            (put("other", "{}"), "give a file of `koan eval --out`"),
            (folder.join("none"), "cannot read"),
        ] {
            let error = compare(&a, &b).expect_err(said).to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
