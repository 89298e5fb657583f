//! The step `world`: a small world of questions whose answers a program can check. It writes a text for a base model to read, problems to learn from
//! and to measure by, and models of random weights that know the world's words.
//!
//! ```text
//! DIR/text.jsonl                                       @NAME.text
//! DIR/train.jsonl, held-out.jsonl                      @NAME.train, @NAME.held-out
//! DIR/requests.jsonl, held-out-requests.jsonl          @NAME.requests, …: what no answer alone decides    (counter)
//! DIR/demonstrations.jsonl                             @NAME.demonstrations: requests, answered with care (counter)
//! DIR/model, small                                     @NAME.model, @NAME.small
//! ```

mod fresh;

use std::path::Path;

use koan_data::{
    Problem, Split,
    counter::{self, Counter},
    moves::{self, Habits, Moves},
    write_problems,
};
use koan_files::jsonl;
use serde::{Deserialize, Serialize};
use toml::Table;

use self::fresh::Sizes;
use self::fresh::Words;
use crate::Offer;
use crate::kind::Artefact;
use crate::own::{self, OwnError};

/// Most texts, and most rows of any other kind.
const MOST: u64 = 10_000_000;
/// How people of the demo's text answer: most blurt, few check.
const HABITS: Habits = Habits { blurt: 0.7, work: 0.18, slip: 0.07, miss: 5 };

/// Which world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Which {
    /// A counter with moves of one digit ([`moves`]): the demo's.
    Moves,
    /// A counter with moves of two digits, in two languages ([`counter`]): that of `r1-tiny`.
    Counter,
}

/// The settings of a step `world`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct World {
    #[serde(rename = "world")]
    which: Which,
    seed: u64,
    /// Moves of a problem.
    moves: usize,
    texts: u64,
    train: u64,
    held_out: u64,
    #[serde(default)]
    requests: u64,
    #[serde(default)]
    held_out_requests: u64,
    #[serde(default)]
    demonstrations: u64,
    /// The base model's sizes.
    model: Sizes,
    /// Those of a smaller one.
    small: Option<Sizes>,
}

/// The parts that a step with these settings makes.
pub(crate) fn artefacts(settings: &Table) -> Vec<Artefact> {
    let data = [
        ("text", "text.jsonl"),
        ("train", "train.jsonl"),
        ("held-out", "held-out.jsonl"),
        ("requests", "requests.jsonl"),
        ("held-out-requests", "held-out-requests.jsonl"),
        ("demonstrations", "demonstrations.jsonl"),
    ];
    let has = |key: &str| settings.contains_key(key);
    let is_made = |part: &str| matches!(part, "text" | "train" | "held-out") || has(&part.replace('-', "_"));
    let of = |part, path, offer| Artefact { part: Some(part), offer, path };
    let mut all: Vec<Artefact> = data
        .into_iter()
        .filter(|(part, _)| is_made(part))
        .map(|(part, path)| of(part, path, Offer::Data))
        .collect();
    all.extend(
        ["model", "small"].into_iter().filter(|part| has(part)).map(|part| of(part, part, Offer::Model)),
    );
    all
}

#[derive(Serialize)]
struct Text {
    text: String,
}

impl World {
    pub(crate) fn check(&self) -> Result<(), OwnError> {
        let most_moves = match self.which {
            Which::Moves => moves::MAX_MOVES,
            Which::Counter => counter::MAX_MOVES,
        };
        if !(2..=most_moves).contains(&self.moves) {
            return Err(OwnError::Settings(format!("`moves` is {}: write 2 to {most_moves}", self.moves)));
        }
        let rows = [
            ("texts", self.texts, true),
            ("train", self.train, true),
            ("held_out", self.held_out, true),
            ("requests", self.requests, false),
            ("held_out_requests", self.held_out_requests, false),
            ("demonstrations", self.demonstrations, false),
        ];
        for (key, n, needed) in rows {
            if n > MOST || needed && n == 0 {
                return Err(OwnError::Settings(format!("`{key}` is {n}: write 1 to {MOST}")));
            }
            if self.which == Which::Moves && !needed && n > 0 {
                return Err(OwnError::Settings(format!("the world `moves` has no {key}; leave `{key}` out")));
            }
        }
        [Some(&self.model), self.small.as_ref()].into_iter().flatten().try_for_each(Sizes::check)
    }

    pub(crate) fn make(&self, dir: &Path) -> Result<(), OwnError> {
        self.check()?;
        let problems = |n: u64, problem: &dyn Fn(u64) -> Problem| (0..n).map(problem).collect::<Vec<_>>();
        let write = |name: &str, rows: Vec<Problem>| write_problems(&dir.join(name), &rows);
        match self.which {
            Which::Moves => {
                let world = Moves { n_moves: self.moves, seed: self.seed };
                write("train.jsonl", problems(self.train, &|i| world.problem(Split::Train, i)))?;
                write("held-out.jsonl", problems(self.held_out, &|i| world.problem(Split::Test, i)))?;
                let texts = (0..self.texts).map(|i| Text { text: world.text(&HABITS, i) });
                jsonl::write(&dir.join("text.jsonl"), texts)?;
            }
            Which::Counter => {
                let world = Counter { n_moves: self.moves, seed: self.seed };
                write("train.jsonl", problems(self.train, &|i| world.problem(Split::Train, i)))?;
                write("held-out.jsonl", problems(self.held_out, &|i| world.problem(Split::Test, i)))?;
                if self.requests > 0 {
                    write("requests.jsonl", problems(self.requests, &|i| world.request(Split::Train, i)))?;
                }
                if self.held_out_requests > 0 {
                    let requests = problems(self.held_out_requests, &|i| world.request(Split::Test, i));
                    write("held-out-requests.jsonl", requests)?;
                }
                if self.demonstrations > 0 {
                    let rows = (0..self.demonstrations).map(|i| world.demonstration(i));
                    jsonl::write(&dir.join("demonstrations.jsonl"), rows)?;
                }
                jsonl::write(&dir.join("text.jsonl"), (0..self.texts).map(|i| Text { text: world.text(i) }))?;
            }
        }
        ["model", "small"].iter().try_for_each(|part| self.write_fresh(part, &dir.join(part), dir))
    }

    /// Writes the fresh model `part` to `dir`, if there is one.
    fn write_fresh(&self, part: &str, dir: &Path, scratch: &Path) -> Result<(), OwnError> {
        let words = match self.which {
            Which::Moves => Words::of_moves(),
            Which::Counter => Words::of_counter(),
        };
        match [("model", Some(&self.model)), ("small", self.small.as_ref())]
            .into_iter()
            .find(|(name, _)| *name == part)
        {
            Some((_, Some(sizes))) => fresh::write(dir, &words, sizes, self.seed, scratch),
            _ => Ok(()),
        }
    }
}

/// Writes the fresh model `part` of the world that these `settings` of a step describe to directory `dir`: its sizes are known before the world is made.
///
/// # Errors
/// Settings that make no sense, and what can't be written.
pub fn fresh_model(settings: &Table, part: &str, dir: &Path) -> Result<(), OwnError> {
    let world: World = own::read(settings)?;
    world.check()?;
    world.write_fresh(part, dir, dir.parent().unwrap_or(dir))
}
