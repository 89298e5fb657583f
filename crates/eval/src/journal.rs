//! Completions, judged or not, appended to a file as they come, from which a run that was killed goes on.
//!
//! JSON Lines. The first line holds the settings that the completions depend on; every other line is a completion with
//! the places of its problem and sample, and the seconds that the run had taken. A completion depends on nothing but
//! settings, problem and sample, so a run that goes on ends with the same completions as one that was never killed.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use koan_files::jsonl::MAX_LINE_BYTES;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::Judged;

/// Why a journal could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The system refused.
    #[error("cannot {what} `{}`", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another run writes it.
    #[error("`{}` is being written by another run; wait for it, or name another file", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// It holds completions of another measurement.
    #[error(
        "`{}` was begun with other settings: {}; give the same command to go on, or remove the file to start over",
        path.display(),
        differences.join(", ")
    )]
    OtherSettings {
        /// The file.
        path: PathBuf,
        /// `name was value, is value`.
        differences: Vec<String>,
    },
    /// A line that is no part of a journal, and not the last.
    #[error("{}:{line}: {reason}; remove the file to start over", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Header {
    settings: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct Line<T> {
    problem: usize,
    sample: usize,
    seconds: f64,
    #[serde(flatten)]
    completion: T,
}

/// Completions, by the places of their problem and sample.
pub type Completions<T = Judged> = BTreeMap<(usize, usize), T>;

/// A journal that is open.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    start: Instant,
    seconds_before: f64,
}

impl Journal {
    /// Opens the journal at `path`, or begins it with `settings`, for `problems` with `samples` completions each. Returns
    /// the completions that it holds. A last line that was not written whole is dropped.
    ///
    /// # Errors
    /// Other settings, a damaged file, one that another run has open, and what the system refuses.
    pub fn open<T: DeserializeOwned>(
        path: &Path,
        settings: &Map<String, Value>,
        [problems, samples]: [usize; 2],
    ) -> Result<(Self, Completions<T>), JournalError> {
        let io = |what| move |source| JournalError::Io { what, path: path.to_owned(), source };
        let mut options = File::options();
        let file =
            options.read(true).write(true).create(true).truncate(false).open(path).map_err(io("open"))?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => JournalError::Busy { path: path.to_owned() },
            TryLockError::Error(source) => io("lock")(source),
        })?;
        let mut journal = Self { file, path: path.to_owned(), start: Instant::now(), seconds_before: 0.0 };
        let mut held = Completions::<T>::new();
        let mut lines = Lines { file: BufReader::new(&journal.file), whole: 0, line: 0, path };
        let begun = match lines.next::<Header>()? {
            Some(header) => {
                let differences = differences(&header.settings, settings);
                if !differences.is_empty() {
                    return Err(JournalError::OtherSettings { path: path.to_owned(), differences });
                }
                true
            }
            None => false,
        };
        while begun && let Some(line) = lines.next::<Line<T>>()? {
            if line.problem >= problems || line.sample >= samples {
                return Err(lines.damaged("a completion that was not asked for"));
            }
            journal.seconds_before = line.seconds;
            held.insert((line.problem, line.sample), line.completion);
        }
        let whole = lines.whole;
        journal
            .file
            .set_len(whole)
            .and_then(|()| journal.file.seek(SeekFrom::End(0)))
            .map_err(io("write"))?;
        if !begun {
            journal.append(&Header { settings: settings.clone() })?;
        }
        Ok((journal, held))
    }

    /// Adds a completion.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn add<T: Serialize>(
        &mut self,
        problem: usize,
        sample: usize,
        completion: &T,
    ) -> Result<(), JournalError> {
        let seconds = self.seconds();
        self.append(&Line { problem, sample, seconds, completion })
    }

    /// Seconds that the measurement has taken: up to the last completion of every run that was killed, and since this one
    /// opened the journal.
    pub fn seconds(&self) -> f64 {
        self.seconds_before + self.start.elapsed().as_secs_f64()
    }

    /// Removes the file: the measurement is whole and lies elsewhere.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn remove(self) -> Result<(), JournalError> {
        fs::remove_file(&self.path).map_err(|source| JournalError::Io {
            what: "remove",
            path: self.path.clone(),
            source,
        })
    }

    fn append(&mut self, line: &impl Serialize) -> Result<(), JournalError> {
        // One write a line: a kill leaves at most the last one torn.
        let mut bytes = serde_json::to_vec(line).map_err(io::Error::from).map_err(|e| self.write_error(e))?;
        bytes.push(b'\n');
        self.file.write_all(&bytes).map_err(|e| self.write_error(e))
    }

    fn write_error(&self, source: io::Error) -> JournalError {
        JournalError::Io { what: "write", path: self.path.clone(), source }
    }
}

/// The lines of a journal that is read.
struct Lines<'a> {
    file: BufReader<&'a File>,
    /// Bytes of the lines that are whole.
    whole: u64,
    line: usize,
    path: &'a Path,
}

impl Lines<'_> {
    /// The next line; none at the end, and for a last line that was not written whole.
    fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, JournalError> {
        let mut bytes = Vec::new();
        self.line += 1;
        let limit = MAX_LINE_BYTES as u64;
        (&mut self.file).take(limit).read_until(b'\n', &mut bytes).map_err(|source| JournalError::Io {
            what: "read",
            path: self.path.to_owned(),
            source,
        })?;
        if bytes.len() == MAX_LINE_BYTES {
            return Err(self.damaged("a line that is too long"));
        }
        if !bytes.ends_with(b"\n") {
            return Ok(None);
        }
        let value = serde_json::from_slice(&bytes).map_err(|error| self.damaged(&error.to_string()))?;
        self.whole += bytes.len() as u64;
        Ok(Some(value))
    }

    fn damaged(&self, reason: &str) -> JournalError {
        JournalError::Damaged { path: self.path.to_owned(), line: self.line, reason: reason.to_owned() }
    }
}

/// What differs between two tables of settings: `name was value, is value`.
pub fn differences(old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<String> {
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let show = |value: Option<&Value>| value.map_or("absent".to_owned(), Value::to_string);
    names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name))
        .map(|name| format!("{name} was {}, is {}", show(old.get(name)), show(new.get(name))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use koan_reward::Outcome;
    use serde_json::json;

    fn settings(seed: u64) -> Map<String, Value> {
        json!({"seed": seed, "temperature": 0.1_f32}).as_object().cloned().expect("an object")
    }

    fn judged(text: &str) -> Judged {
        let (completion, reason, finish_reason) = (text.to_owned(), String::new(), "stop".to_owned());
        Judged {
            completion,
            outcome: Outcome::Wrong,
            parsed: None,
            reason,
            completion_tokens: 1,
            finish_reason,
            review: None,
        }
    }

    fn open(path: &Path) -> Result<(Journal, Completions), JournalError> {
        Journal::open(path, &settings(1), [3, 2])
    }

    #[test]
    fn what_was_added_is_held_whatever_the_last_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let (mut journal, held) = open(&path).expect("begun");
        assert!(held.is_empty());
        journal.add(2, 1, &judged("\n\u{2028}")).expect("added");
        journal.add(0, 0, &judged("b")).expect("added");
        drop(journal);
        let whole = fs::read(&path).expect("read");
        let (header, first) = (whole.iter().position(|&b| b == b'\n').expect("a line") + 1, whole.len());
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).expect("written");
            let (mut journal, held) = open(&path).expect("goes on");
            let n_whole = whole[..cut].split(|&b| b == b'\n').count() - 1;
            assert_eq!(held.len(), n_whole.saturating_sub(1), "cut at {cut} of {header}..{first}");
            assert!(
                held.iter()
                    .all(|(key, j)| *j == if *key == (2, 1) { judged("\n\u{2028}") } else { judged("b") })
            );
            journal.add(1, 1, &judged("c")).expect("added");
            drop(journal);
            assert_eq!(open(&path).expect("goes on").1.len(), held.len() + 1);
        }
        let (journal, _) = open(&path).expect("goes on");
        journal.remove().expect("removed");
        assert!(!path.exists());
    }

    #[test]
    fn what_does_not_belong_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let (mut journal, _) = open(&path).expect("begun");
        let busy = open(&path).expect_err("locked").to_string();
        assert!(busy.contains("another run"), "{busy}");
        journal.add(2, 1, &judged("a")).expect("added");
        drop(journal);
        let error = Journal::open::<Judged>(&path, &settings(2), [3, 2]).expect_err("other").to_string();
        assert!(error.contains("seed was 1, is 2") && !error.contains("temperature"), "{error}");
        let error = Journal::open::<Judged>(&path, &settings(1), [2, 2]).expect_err("too few").to_string();
        assert!(error.contains("journal:2: a completion that was not asked for"), "{error}");
        let mut text = fs::read_to_string(&path).expect("read");
        text.push_str("{\"problem\": 0}\n");
        fs::write(&path, text).expect("written");
        let error = open(&path).expect_err("damaged").to_string();
        assert!(error.contains("journal:3: missing field") && error.contains("remove the file"), "{error}");
    }
}
