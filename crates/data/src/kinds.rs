//! Kinds of procedural problems: the table of them, and what they share.
//!
//! A [`Kind`] draws one problem of a level from a random stream. Everything else is here:
//!
//! - **Pure**: candidate `k` of a level depends on (kind, seed, level, k) alone. For each problem, a file takes
//!   the next candidate of the level whose turn it is; so a longer file starts with the shorter one.
//! - **Disjoint**: a fixed hash of what is asked, whatever the phrasing, puts one problem in ten into the test
//!   split, for every seed.
//! - **Distinct**: a file asks nothing twice. A level that gives no new problem in [`MAX_MISSES`] candidates
//!   is exhausted, which is an error.
//! - **Not given away**: a problem whose prompt ends in its own answer is left out.

mod bases;
mod calendar;
mod chain;
mod count;
mod countdown;
mod equations;
mod factors;
mod fractions;
mod gcd;
mod knights;
mod logic;
mod modular;
mod sequence;
mod sort;
mod term;
mod text;
mod units;
mod words;
mod zebra;

use crate::random::Random;
use crate::split::{check_levels, stable_hash};
use crate::{DataError, Problem, Split};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashSet};

/// A level that gives no new problem in this many candidates is exhausted.
pub const MAX_MISSES: usize = 20_000;

/// Every kind, in the order in which help lists them.
pub static KINDS: &[Kind] = &[
    chain::KIND,
    countdown::KIND,
    equations::KIND,
    fractions::KIND,
    modular::KIND,
    bases::KIND,
    gcd::KIND,
    factors::KIND,
    sequence::KIND,
    calendar::KIND,
    units::KIND,
    sort::KIND,
    count::KIND,
    knights::KIND,
    zebra::KIND,
    logic::KIND,
];

/// A family of problems.
pub struct Kind {
    /// Its name in the program.
    pub name: &'static str,
    /// What its problems are, in one line for help.
    pub about: &'static str,
    /// What each level holds, easiest first: level 1 is `levels[0]`.
    pub levels: &'static [&'static str],
    /// How often a guess of the right form is right: measured over 3,000 problems of a level, or all of them.
    pub chance: &'static str,
    /// The next candidate of a level, from 1; none if the draw led to no problem.
    draw: fn(usize, &mut Random) -> Option<Draft>,
}

impl Kind {
    /// The kind called `name`.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }
}

/// A problem as its kind draws it.
#[derive(Default)]
struct Draft {
    /// What is asked, in one fixed form: its hash decides the split and finds repetitions.
    key: String,
    /// What is asked, in words. It says how the answer is to be written.
    question: String,
    answer: String,
    /// The verifier, of those in `koan-reward`.
    reward: &'static str,
    /// The worked solution, up to the line that states the answer.
    steps: Vec<String>,
    /// Anything else that a program may need to know about the problem.
    meta: Vec<(&'static str, Value)>,
}

impl Draft {
    /// Whether the last number of the prompt is the answer, so that repeating the prompt would be rewarded.
    fn is_given_away(&self) -> bool {
        let last = self.question.rsplit(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty());
        self.reward == "number" && last == Some(self.answer.trim_start_matches('-'))
    }
}

/// What to generate.
#[derive(Clone)]
pub struct Generate {
    /// The family.
    pub kind: &'static Kind,
    /// How many problems.
    pub n: usize,
    /// Keys the random numbers of the problems.
    pub seed: u64,
    /// The levels, from 1, which take turns; see [`parse_levels`](crate::parse_levels).
    pub levels: Vec<usize>,
    /// Which side of the split to draw from.
    pub split: Split,
}

impl Generate {
    /// The problems. `reward` names the verifier; `meta` has `kind`, `level` and what the kind adds; the other
    /// field is `solution`, a worked solution with one step per line that ends in "The answer is …."
    ///
    /// # Errors
    /// Levels that do not exist or have too few problems.
    pub fn problems(&self) -> Result<Vec<Problem>, DataError> {
        check_levels(&self.levels, self.kind.levels.len())?;
        let turns = self.levels.len();
        let mut candidates = vec![0; turns];
        let mut seen = HashSet::new();
        (0..self.n)
            .map(|i| {
                let (turn, level) = (i % turns, self.levels[i % turns]);
                let draft = self.draw(level, &mut candidates[turn], &mut seen);
                let draft = draft.ok_or_else(|| DataError::Exhausted {
                    level,
                    split: self.split,
                    available: i / turns,
                    wanted: (self.n - turn).div_ceil(turns),
                })?;
                Ok(self.problem(i, level, draft))
            })
            .collect()
    }

    /// The next problem of `level` that is on this side of the split and was not `seen`, from `candidate` on.
    fn draw(&self, level: usize, candidate: &mut u64, seen: &mut HashSet<u64>) -> Option<Draft> {
        let kind = stable_hash(self.kind.name.bytes().map(u64::from));
        (0..MAX_MISSES).find_map(|_| {
            let mut random = Random::keyed([kind, self.seed, level as u64, *candidate]);
            *candidate += 1;
            let draft = (self.kind.draw)(level, &mut random)?;
            let hash = stable_hash(draft.key.bytes().map(u64::from));
            (self.split.holds(hash) && !draft.is_given_away() && seen.insert(hash)).then_some(draft)
        })
    }

    fn problem(&self, i: usize, level: usize, draft: Draft) -> Problem {
        let name = self.kind.name;
        let mut steps = draft.steps;
        steps.push(format!("The answer is {}.", draft.answer));
        // In the order of their names, so that files stay the same bytes whatever a kind adds.
        let meta: BTreeMap<&str, Value> =
            [("kind", json!(name)), ("level", json!(level))].into_iter().chain(draft.meta).collect();
        Problem {
            id: format!("{name}-{}-{}-{i:06}", self.split, self.seed),
            prompt: Some(draft.question),
            answer: draft.answer,
            reward: Some(draft.reward.to_owned()),
            meta: Some(meta.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
            other: Map::from_iter([("solution".to_owned(), json!(steps.join("\n")))]),
            ..Problem::default()
        }
    }
}

#[cfg(test)]
mod tests;
