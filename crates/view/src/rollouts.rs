//! The completions of a step: filtered, sorted, one part at a time.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ViewError,
    lines::each_line,
    run::{Run, open_file},
    server::wrong,
};

/// Most completions in one part.
const MAX_LIMIT: usize = 100;
/// Completions in a part by default.
const DEFAULT_LIMIT: usize = 20;
/// Most bytes of completions in one part, except that one completion is always given.
const MAX_PART_BYTES: usize = 2 << 20;
/// Most problems that are listed.
const MAX_PROBLEMS: usize = 2000;
/// Longest text that is searched for, characters.
const MAX_TEXT_CHARS: usize = 200;

/// How completions are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Problem by problem, in the order of sampling.
    #[default]
    Sampled,
    /// The highest reward first.
    RewardHigh,
    /// The lowest reward first.
    RewardLow,
    /// The longest first.
    Longest,
    /// The shortest first.
    Shortest,
}

impl Order {
    const NAMES: [(&'static str, Self); 5] = [
        ("sampled", Self::Sampled),
        ("reward_high", Self::RewardHigh),
        ("reward_low", Self::RewardLow),
        ("longest", Self::Longest),
        ("shortest", Self::Shortest),
    ];
}

/// Which completions are requested.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// The step in which they were sampled.
    pub step: u64,
    /// Only those of this outcome.
    pub outcome: Option<String>,
    /// Only those of this problem.
    pub problem: Option<String>,
    /// Only those with this text in their prompt or completion; upper and lower case are equal.
    pub text: Option<String>,
    /// In which order.
    pub order: Order,
    /// How many of them to skip.
    pub offset: usize,
    /// How many to return; 0: the default.
    pub limit: usize,
}

/// A problem of a step.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct ProblemCount {
    /// Its id.
    pub id: String,
    /// Its completions.
    pub completions: usize,
    /// How many of them are correct.
    pub correct: usize,
}

/// Completions of a step.
#[derive(Debug, Serialize)]
pub struct RolloutPart {
    /// The step.
    pub step: u64,
    /// All its completions.
    pub total: usize,
    /// How many match the query.
    pub matched: usize,
    /// Where the next part begins, if there is one.
    pub next: Option<usize>,
    /// How many completions of the step have each outcome.
    pub outcomes: BTreeMap<String, usize>,
    /// The problems of the step, in their order.
    pub problems: Vec<ProblemCount>,
    /// Lines that could not be read.
    pub unreadable: usize,
    /// The completions: lines of the file, unchanged.
    pub rollouts: Vec<Value>,
}

/// What is read of every line.
#[derive(Deserialize)]
struct Line {
    id: String,
    completion: String,
    #[serde(default)]
    prompt: Vec<Message>,
    #[serde(default)]
    rewards: Vec<Term>,
    #[serde(default)]
    reward: Option<f64>,
    #[serde(default)]
    completion_tokens: u64,
}

#[derive(Deserialize)]
struct Message {
    content: String,
}

#[derive(Deserialize)]
struct Term {
    outcome: String,
}

/// Where a matching line is, and what it is ordered by.
struct Found {
    at: u64,
    len: usize,
    key: f64,
}

impl Query {
    /// Reads the parameters of a request.
    ///
    /// # Errors
    /// A parameter that is unknown, or whose value is not valid; none is ignored.
    pub fn parse(parameters: &[(String, String)]) -> Result<Self, ViewError> {
        let mut query = Self::default();
        let mut has_step = false;
        for (key, value) in parameters {
            let wrong = |expected| wrong(key, value, expected);
            let number = || value.parse::<u64>().map_err(|_| wrong("expected a whole number"));
            let text = || Some(value.clone()).filter(|value| !value.is_empty());
            match &key[..] {
                "step" => (query.step, has_step) = (number()?, true),
                "offset" => query.offset = number()? as usize,
                "limit" => query.limit = number()? as usize,
                "outcome" => query.outcome = text(),
                "problem" => query.problem = text(),
                "text" if value.chars().count() <= MAX_TEXT_CHARS => {
                    query.text = text().map(|text| text.to_lowercase());
                }
                "text" => return Err(wrong("expected at most 200 characters")),
                "sort" => {
                    let known = Order::NAMES.iter().find(|(name, _)| name == value);
                    let expected = "expected sampled, reward_high, reward_low, longest or shortest";
                    query.order = known.ok_or_else(|| wrong(expected))?.1;
                }
                _ => {
                    let expected = "expected step, offset, limit, outcome, problem, text or sort";
                    return Err(wrong(expected));
                }
            }
        }
        if !has_step {
            return Err(wrong("step", "", "which step?"));
        }
        Ok(query)
    }

    fn wants(&self, line: &Line, outcome: &str) -> bool {
        let has = |text: &str, part: &str| text.to_lowercase().contains(part);
        let says = |part: &String| {
            has(&line.completion, part) || line.prompt.iter().any(|message| has(&message.content, part))
        };
        self.outcome.as_ref().is_none_or(|wanted| wanted == outcome)
            && self.problem.as_ref().is_none_or(|wanted| *wanted == line.id)
            && self.text.as_ref().is_none_or(says)
    }

    /// What orders a line: the least comes first. Those without a reward come last.
    fn key(&self, line: &Line) -> f64 {
        match self.order {
            Order::Sampled => 0.0,
            Order::RewardHigh => line.reward.map_or(f64::INFINITY, |reward| -reward),
            Order::RewardLow => line.reward.unwrap_or(f64::INFINITY),
            Order::Longest => -(line.completion_tokens as f64),
            Order::Shortest => line.completion_tokens as f64,
        }
    }
}

impl Run {
    /// The completions that `query` asks for. Memory is that of the part, and of a few words per completion.
    ///
    /// # Errors
    /// If the step has none, or its file can't be read.
    pub fn rollouts(&self, query: &Query) -> Result<RolloutPart, ViewError> {
        let path = self.rollout_path(query.step);
        let file = open_file(&path).map_err(ViewError::read(&path))?;
        let mut file = file.ok_or(ViewError::NoStep { step: query.step })?;
        let mut part = RolloutPart {
            step: query.step,
            total: 0,
            matched: 0,
            next: None,
            outcomes: BTreeMap::new(),
            problems: Vec::new(),
            unreadable: 0,
            rollouts: Vec::new(),
        };
        let mut found: Vec<Found> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        let too_long = each_line(BufReader::new(&mut file), |at, bytes| {
            let Ok(line) = serde_json::from_slice::<Line>(bytes) else {
                part.unreadable += 1;
                return;
            };
            part.total += 1;
            let outcome = line.rewards.first().map_or("none", |term| &term.outcome);
            if part.outcomes.len() < 16 || part.outcomes.contains_key(outcome) {
                *part.outcomes.entry(outcome.to_owned()).or_default() += 1;
            }
            if query.wants(&line, outcome) {
                found.push(Found { at, len: bytes.len(), key: query.key(&line) });
            }
            let correct = usize::from(outcome == "correct");
            if let Some(&place) = places.get(&line.id) {
                part.problems[place].completions += 1;
                part.problems[place].correct += correct;
            } else if places.len() < MAX_PROBLEMS {
                places.insert(line.id.clone(), part.problems.len());
                part.problems.push(ProblemCount { id: line.id, completions: 1, correct });
            }
        });
        part.unreadable += too_long.map_err(ViewError::read(&path))?;
        part.matched = found.len();
        found.sort_by(|a, b| a.key.total_cmp(&b.key));

        let limit = if query.limit == 0 { DEFAULT_LIMIT } else { query.limit.min(MAX_LIMIT) };
        let mut bytes = 0;
        for line in found.iter().skip(query.offset).take(limit) {
            bytes += line.len;
            if bytes > MAX_PART_BYTES && !part.rollouts.is_empty() {
                break;
            }
            let text = read_exactly(&mut file, line).map_err(ViewError::read(&path))?;
            // The line was whole a moment ago: if it no longer is, the run was resumed and writes the step again.
            part.rollouts.push(serde_json::from_slice(&text).unwrap_or(Value::Null));
        }
        let end = query.offset.saturating_add(part.rollouts.len());
        part.next = (end < part.matched).then_some(end);
        part.rollouts.retain(Value::is_object);
        Ok(part)
    }
}

fn read_exactly(file: &mut File, line: &Found) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(line.len);
    file.seek(SeekFrom::Start(line.at))?;
    file.take(line.len as u64).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn line(id: &str, outcome: &str, reward: Option<f64>, tokens: usize, text: &str) -> String {
        let line = serde_json::json!({
            "step": 1, "id": id, "prompt": [{"role": "user", "content": format!("Ask {id}")}],
            "completion": text, "completion_tokens": tokens, "reward": reward,
            "rewards": [{"kind": "number", "outcome": outcome}],
        });
        format!("{line}\n")
    }

    fn run() -> (tempfile::TempDir, Run) {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("metrics.jsonl"), "").expect("written");
        fs::create_dir(folder.path().join("rollouts")).expect("a folder");
        let lines = [
            line("a", "correct", Some(1.0), 5, "Five"),
            line("a", "wrong", Some(0.0), 9, "nine ÄRGER"),
            line("b", "undecided", None, 2, "two"),
            line("b", "correct", Some(0.5), 7, "seven"),
            "not JSON\n".into(),
            "{\"id\": \"half".into(),
        ];
        fs::write(folder.path().join("rollouts/step-000001.jsonl"), lines.concat()).expect("written");
        let run = Run::open(folder.path()).expect("a run");
        (folder, run)
    }

    fn tokens(run: &Run, query: &Query) -> Vec<u64> {
        let part = run.rollouts(&Query { step: 1, ..query.clone() }).expect("rollouts");
        part.rollouts.iter().filter_map(|line| line["completion_tokens"].as_u64()).collect()
    }

    #[test]
    fn completions_are_counted_filtered_and_sorted() {
        let (_folder, run) = run();
        let all = run.rollouts(&Query { step: 1, ..Query::default() }).expect("rollouts");
        assert_eq!((all.total, all.matched, all.next, all.unreadable), (4, 4, None, 1));
        let outcomes: Vec<(&str, usize)> = all.outcomes.iter().map(|(name, &n)| (&name[..], n)).collect();
        assert_eq!(outcomes, [("correct", 2), ("undecided", 1), ("wrong", 1)]);
        let problem = |id: &str| ProblemCount { id: id.into(), completions: 2, correct: 1 };
        assert_eq!(all.problems, [problem("a"), problem("b")]);

        let some = |text: &str| Some(text.to_owned());
        let wanted = |query: Query| tokens(&run, &query);
        assert_eq!(wanted(Query { outcome: some("correct"), ..Query::default() }), [5, 7]);
        assert_eq!(wanted(Query { problem: some("b"), ..Query::default() }), [2, 7]);
        assert_eq!(wanted(Query { text: some("ärger"), ..Query::default() }), [9]);
        assert_eq!(wanted(Query { text: some("ask b"), ..Query::default() }), [2, 7]);
        for (order, expected) in [
            (Order::RewardHigh, [5, 7, 9, 2]),
            (Order::RewardLow, [9, 7, 5, 2]),
            (Order::Longest, [9, 7, 5, 2]),
            (Order::Shortest, [2, 5, 7, 9]),
        ] {
            assert_eq!(wanted(Query { order, ..Query::default() }), expected, "{order:?}");
        }
    }

    #[test]
    fn completions_come_in_parts() {
        let (_folder, run) = run();
        let part = |offset, limit| {
            let query = Query { step: 1, offset, limit, order: Order::Shortest, ..Query::default() };
            let part = run.rollouts(&query).expect("rollouts");
            (part.rollouts.len(), part.next)
        };
        assert_eq!([part(0, 3), part(3, 3), part(9, 3)], [(3, Some(3)), (1, None), (0, None)]);
        assert_eq!(part(usize::MAX, usize::MAX), (0, None));
        assert!(matches!(run.rollouts(&Query::default()), Err(ViewError::NoStep { step: 0 })));
    }

    #[test]
    fn queries_are_parsed_whole_or_refused() {
        let parse = |text: &str| {
            let pairs: Vec<(String, String)> = text
                .split('&')
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(key, value)| (key.into(), value.into()))
                .collect();
            Query::parse(&pairs)
        };
        let query = parse("step=12&outcome=wrong&problem=&text=Wait&sort=longest&offset=20&limit=5");
        let expected = Query {
            step: 12,
            outcome: Some("wrong".into()),
            problem: None,
            text: Some("wait".into()),
            order: Order::Longest,
            offset: 20,
            limit: 5,
        };
        assert_eq!(query.expect("a query"), expected);
        let long = format!("step=1&text={}", "x".repeat(201));
        for bad in ["", "offset=1", "step=-1", "step=../../etc", "step=1&sort=up", "step=1&path=x", &long] {
            let error = parse(bad).expect_err(bad).to_string();
            assert!(error.len() < 200, "{error}");
        }
    }
}
