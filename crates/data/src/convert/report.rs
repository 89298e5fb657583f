//! What a conversion did: rows written, and rows left out by reason.

use super::row::{Out, shorten};
use crate::DataError;
use crate::rows::Place;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};

/// Reasons that are counted by name; the rest are counted together.
const MAX_REASONS: usize = 100;

/// What a conversion did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The shape of the files.
    pub shape: &'static str,
    /// Rows read.
    pub read: usize,
    /// Rows written.
    pub written: usize,
    /// Rows left out, by reason.
    pub skipped: BTreeMap<String, Skipped>,
    /// Rows with NaN, infinities or half characters, which were read as null and U+FFFD.
    pub repaired: usize,
    /// Ids that an earlier row has, which were left out.
    pub ids_left_out: usize,
    /// Problems of which tests were left out for the limits, and those tests.
    pub tests_left_out: (usize, usize),
}

/// Rows that were left out for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// How many.
    pub rows: usize,
    /// Where the first is.
    pub place: String,
    /// How it begins.
    pub example: String,
}

impl Report {
    pub(super) fn new(shape: &'static str) -> Self {
        Self { shape, ..Self::default() }
    }

    /// Counts a row that becomes none.
    pub(super) fn skip(&mut self, reason: String, place: &Place, json: &[u8]) {
        let is_known = self.skipped.len() < MAX_REASONS || self.skipped.contains_key(&reason);
        let reason = if is_known { reason } else { "other reasons".to_owned() };
        let skipped = self.skipped.entry(reason).or_insert_with(|| Skipped {
            rows: 0,
            place: place.to_string(),
            example: shorten(&String::from_utf8_lossy(&json[..json.len().min(400)])),
        });
        skipped.rows += 1;
    }

    /// Writes a row, unless an earlier one is its equal.
    pub(super) fn add(
        &mut self,
        mut made: Out,
        seen: &mut Seen,
        place: &Place,
        json: &[u8],
        write: &mut dyn FnMut(&Out) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        if let Some(reason) = seen.why_not(&made) {
            self.skip(reason.to_owned(), place, json);
            return Ok(());
        }
        if made.id.as_ref().is_some_and(|id| !seen.is_new_id(&id.to_string())) {
            made.id = None;
            self.ids_left_out += 1;
        }
        if let Some(left_out) = made.meta.get("tests_left_out").and_then(serde_json::Value::as_u64) {
            self.tests_left_out.0 += 1;
            self.tests_left_out.1 += left_out as usize;
        }
        self.written += 1;
        write(&made)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows read, {} written", self.read, self.written)?;
        let mut skipped: Vec<_> = self.skipped.iter().collect();
        skipped.sort_by_key(|(reason, skipped)| (std::cmp::Reverse(skipped.rows), reason.as_str()));
        for (reason, Skipped { rows, place, example }) in skipped {
            write!(f, "\n  {rows} left out: {reason}\n    first {place}")?;
            if !example.is_empty() {
                write!(f, ": {example}")?;
            }
        }
        if self.repaired > 0 {
            write!(
                f,
                "\n  {} rows had NaN, infinities or half characters: read as null and U+FFFD",
                self.repaired
            )?;
        }
        if self.ids_left_out > 0 {
            write!(f, "\n  {} ids were left out: an earlier row has the same", self.ids_left_out)?;
        }
        if let (problems @ 1.., tests) = self.tests_left_out {
            write!(
                f,
                "\n  {tests} tests of {problems} problems were left out: --max-tests, --max-test-bytes"
            )?;
        }
        Ok(())
    }
}

/// The questions and ids that were written.
#[derive(Default)]
pub(super) struct Seen {
    /// The hash of what judges a question, by the hash of the question.
    judged: HashMap<u64, u64>,
    ids: HashSet<u64>,
    /// Questions with two answers, of earlier passes and of this one.
    contradicted: HashSet<u64>,
    found: HashSet<u64>,
}

fn hash(value: impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Seen {
    /// Why a problem is not written, if it is not.
    fn why_not(&mut self, made: &Out) -> Option<&'static str> {
        let tests = made.tests.as_ref().map(|tests| tests.0.get());
        // A question may have several demonstrations.
        let is_reply = |message: &crate::Message| message.role == "assistant";
        let shows = made.other.contains_key("completion")
            || made.messages.as_ref().and_then(|all| all.last()).is_some_and(is_reply);
        if shows || (made.answer.is_none() && tests.is_none()) {
            return None;
        }
        let messages: Option<Vec<_>> = made
            .messages
            .as_ref()
            .map(|messages| messages.iter().map(|message| (&message.role, &message.content)).collect());
        let question = hash((&made.prompt, messages));
        if self.contradicted.contains(&question) {
            return Some("the same question has several answers");
        }
        let judge = hash((made.answer.as_deref().map(str::trim), tests, &made.reward));
        match self.judged.get(&question) {
            None => {
                self.judged.insert(question, judge);
                None
            }
            Some(&before) if before == judge => Some("repeats an earlier problem"),
            Some(_) if tests.is_some() => Some("repeats an earlier problem, with other tests"),
            Some(_) => {
                self.found.insert(question);
                Some("the same question has several answers")
            }
        }
    }

    fn is_new_id(&mut self, id: &str) -> bool {
        self.ids.insert(hash(id))
    }

    /// Whether another pass is needed, for contradictions that were found in this one; and begins it.
    pub(super) fn next_pass(&mut self) -> bool {
        let is_needed = !self.found.is_empty();
        self.contradicted.extend(self.found.drain());
        self.judged.clear();
        self.ids.clear();
        is_needed
    }
}
