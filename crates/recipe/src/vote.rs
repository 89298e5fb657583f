//! The step `vote`: preferences by the stated rule of a world, with noise. It stands in for people, whom the step `label` asks; whoever reads
//! what it makes is told so by each row.

use std::path::Path;

use koan_data::{DataFiles, Problem, counter::request::Request, rows, stable_hash};
use koan_files::jsonl;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{own::OwnError, world::Which};

/// The settings of a step `vote`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vote {
    world: Which,
    seed: u64,
    /// What a step `generate` made of requests of the world: several completions of each.
    data: DataFiles,
    /// Share of votes that go to the other reply, as people's do.
    noise: f64,
    /// Pairs of a request: the best reply and the worst, then the next of both.
    #[serde(default = "one")]
    at_most: usize,
}

fn one() -> usize {
    1
}

/// The field of what `generate` makes that is read.
#[derive(Deserialize)]
struct Completion {
    text: String,
}

impl Vote {
    pub(crate) fn check(&self) -> Result<(), OwnError> {
        if self.world != Which::Counter {
            return Err(OwnError::Settings(
                "only the world `counter` has a rule of what people like".to_owned(),
            ));
        }
        if !(0.0..0.5).contains(&self.noise) {
            return Err(OwnError::Settings(format!("`noise` is {}: write 0 to below 0.5", self.noise)));
        }
        if self.at_most == 0 {
            return Err(OwnError::Settings("`at_most` is 0: write 1 or more pairs of a request".to_owned()));
        }
        Ok(())
    }

    pub(crate) fn make(&self, dir: &Path) -> Result<(), OwnError> {
        self.check()?;
        let mut pairs = Vec::new();
        rows::read(&self.data, |_, row: Map<String, Value>| {
            pairs.extend(self.pairs(&row));
            Ok(())
        })?;
        if pairs.is_empty() {
            let what = "no two replies to a request differ in what the rule likes: give more requests, or more completions of each";
            return Err(OwnError::Inputs(format!("{}: {what}", self.data)));
        }
        Ok(jsonl::write(&dir.join("data.jsonl"), &pairs)?)
    }

    /// The pairs of a row, if it is a request of the world.
    fn pairs(&self, row: &Map<String, Value>) -> Vec<Map<String, Value>> {
        let field = |name: &str| row.get(name).cloned().unwrap_or_default();
        let problem: Option<Problem> = serde_json::from_value(Value::Object(row.clone())).ok();
        let replies: Option<Vec<Completion>> = serde_json::from_value(field("completions")).ok();
        let Some((problem, request, replies)) = problem
            .and_then(|problem| Request::of_row(&problem).map(|request| (problem, request)))
            .zip(replies)
            .map(|((p, r), c)| (p, r, c))
        else {
            return Vec::new();
        };
        let mut liked: Vec<(f64, &str)> =
            replies.iter().map(|reply| (request.liking(&reply.text), &*reply.text)).collect();
        liked.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        let pairs = (0..liked.len() / 2).map(|i| (liked[i], liked[liked.len() - 1 - i]));
        let differ = pairs.filter(|(best, worst)| best.0 > worst.0).take(self.at_most);
        differ
            .enumerate()
            .map(|(number, ((_, mut chosen), (_, mut rejected)))| {
                if self.errs(&problem.id, number) {
                    std::mem::swap(&mut chosen, &mut rejected);
                }
                let origin = json!({"problem": problem.id, "completions": field("origin"),
                    "annotators": ["the rule of the world `counter`, which stands in for people"], "noise": self.noise});
                let fields = [
                    ("id", json!(format!("{}-{number}", problem.id))),
                    ("prompt", json!(problem.prompt)),
                    ("chosen", json!(chosen)),
                    ("rejected", json!(rejected)),
                    ("category", json!(request.kind.name())),
                    ("origin", origin),
                ];
                fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            })
            .collect()
    }

    /// Whether this vote goes to the reply that the rule likes less.
    fn errs(&self, id: &str, number: usize) -> bool {
        let words = [self.seed, number as u64].into_iter().chain(id.bytes().map(u64::from));
        (stable_hash(words) >> 11) as f64 / ((1u64 << 53) as f64) < self.noise
    }
}
