//! Answers of a server to the step that is being made: `answers.jsonl` in the run's directory, a line for each as it comes, so that a run
//! that goes on asks for none twice. It is removed when the step is made: its completions are in `rollouts/` then.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use koan_files::{
    FilesError,
    jsonl::{self, Lines},
    sha256,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Whose completion it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) step: u64,
    /// The problem's place in the data.
    pub(super) problem: usize,
    /// The completion's number.
    pub(super) sample: u64,
}

/// A completion that was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answered {
    pub(super) text: String,
    pub(super) tokens: usize,
    /// Whether it was cut.
    pub(super) truncated: bool,
}

/// A line.
#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    place: Place,
    request_sha256: String,
    #[serde(flatten)]
    answered: Answered,
}

/// The file.
pub(super) struct Journal {
    path: PathBuf,
    file: Option<File>,
    /// What was answered before, with the hash of its request.
    known: HashMap<Place, (String, Answered)>,
}

impl Journal {
    /// Reads what was answered before the run in directory `run` was interrupted; a line that a kill cut short is none.
    ///
    /// # Errors
    /// If it is there and can't be read.
    pub(super) fn open(run: &Path) -> Result<Self, FilesError> {
        let path = run.join("answers.jsonl");
        let mut known = HashMap::new();
        if path.exists() {
            let file = koan_files::open(&path).map_err(FilesError::io("read", &path))?;
            for line in Lines::new(BufReader::new(file)) {
                let (_, line) = line.map_err(FilesError::io("read", &path))?;
                if let Ok(Line { place, request_sha256, answered }) =
                    line.and_then(|line| jsonl::parse(&line))
                {
                    known.insert(place, (request_sha256, answered));
                }
            }
        }
        Ok(Self { path, file: None, known })
    }

    /// What was answered for `place`, if this was asked.
    pub(super) fn find(&mut self, place: Place, request: &Value) -> Option<Answered> {
        let (asked, answered) = self.known.remove(&place)?;
        (asked == sha256(request.to_string())).then_some(answered)
    }

    /// Keeps an answer.
    ///
    /// # Errors
    /// If it can't be written.
    pub(super) fn keep(
        &mut self,
        place: Place,
        request: &Value,
        answered: &Answered,
    ) -> Result<(), FilesError> {
        let line = Line { place, request_sha256: sha256(request.to_string()), answered: answered.clone() };
        let mut text = serde_json::to_vec(&line).expect("a line of plain values");
        text.push(b'\n');
        let failed = FilesError::io("write", &self.path);
        let written = match &mut self.file {
            Some(file) => file.write_all(&text),
            None => append(&self.path).and_then(|file| self.file.insert(file).write_all(&text)),
        };
        written.map_err(failed)
    }

    /// Removes it.
    ///
    /// # Errors
    /// If that is not possible.
    pub(super) fn forget(&mut self) -> Result<(), FilesError> {
        self.file = None;
        self.known.clear();
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(FilesError::io("remove", &self.path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// The file at `path`, to be written at its end, after a line's end.
fn append(path: &Path) -> std::io::Result<File> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_answered_is_found_again_after_a_kill() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = |sample| Place { step: 3, problem: 1, sample };
        let answered = |text: &str| Answered { text: text.to_owned(), tokens: 2, truncated: false };
        let open = || Journal::open(folder.path()).expect("opens");
        let mut journal = open();
        journal.keep(place(0), &json!({"seed": 0}), &answered("a\nb")).expect("written");
        journal.keep(place(1), &json!({"seed": 1}), &answered("c")).expect("written");
        let file = folder.path().join("answers.jsonl");
        let text = fs::read_to_string(&file).expect("text");
        fs::write(&file, &text[..text.len() - 5]).expect("cut short");

        let mut journal = open();
        assert_eq!(journal.find(place(0), &json!({"seed": 0})), Some(answered("a\nb")));
        assert_eq!(journal.find(place(1), &json!({"seed": 1})), None, "cut short");
        journal.keep(place(1), &json!({"seed": 1}), &answered("d")).expect("written");

        let mut journal = open();
        assert_eq!(journal.find(place(1), &json!({"seed": 1})), Some(answered("d")));
        assert_eq!(journal.find(place(0), &json!({"seed": 9})), None, "something else was asked");
        journal.forget().expect("removed");
        journal.forget().expect("nothing to remove");
        assert!(!file.exists());
    }
}
