//! The file of raw votes, `PREFS.votes.jsonl`: appended to, never changed.
//!
//! The first line says what people were asked ([`Header`]); every other line is a vote ([`Vote`]), in the order in which they came.
//! A vote is written and synced before it is acknowledged. Taking one back is a vote too, `undo`.

use std::{
    fs::{self, File, TryLockError},
    io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{LabelError, items::Settings};

/// The version of the file's format.
const VERSION: u32 = 1;
/// Longest line, bytes.
const MAX_VOTE_BYTES: u64 = 64 << 10;

/// The first line of a file of votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the format, 1.
    pub version: u32,
    /// What people were asked.
    #[serde(flatten)]
    pub settings: Settings,
}

impl Header {
    /// That of the votes at `path`, if there are any.
    ///
    /// # Errors
    /// If the file can't be read, or is none of votes.
    pub fn read(path: &Path) -> Result<Option<Self>, LabelError> {
        match koan_files::open(path) {
            Ok(file) => Lines::new(file, path).header(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", path)(error)),
        }
    }
}

/// What somebody said of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Choice {
    /// In a word.
    Word(Word),
    /// On a scale, from 1.
    Rating(u8),
}

/// A choice in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// The first answer of the item is better.
    A,
    /// The second is.
    B,
    /// Neither is better.
    Tie,
    /// Neither is any good.
    BothBad,
    /// A single answer is good.
    Good,
    /// It is not.
    Bad,
    /// Nothing is said, and the person is not asked again.
    Skip,
    /// An earlier vote is taken back.
    Undo,
}

impl Choice {
    /// Whether it says anything of the answers.
    pub fn counts(self) -> bool {
        !matches!(self, Self::Word(Word::Skip | Word::Undo))
    }

    /// Its name in files and tables.
    pub fn name(self) -> String {
        match self {
            Self::Word(word) => match word {
                Word::A => "a",
                Word::B => "b",
                Word::Tie => "tie",
                Word::BothBad => "both_bad",
                Word::Good => "good",
                Word::Bad => "bad",
                Word::Skip => "skip",
                Word::Undo => "undo",
            }
            .to_owned(),
            Self::Rating(rating) => rating.to_string(),
        }
    }
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vote {
    /// Its number, from 1.
    pub n: u64,
    /// When, in UTC.
    pub at: String,
    /// Who.
    pub annotator: String,
    /// The pair, or answer: a hash of its texts.
    pub item: String,
    /// The row it was made of.
    pub row: String,
    /// What was said.
    pub vote: Choice,
    /// Which answer was shown first, `a` or `b`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shown_first: Option<Word>,
    /// By how much the answer is better: 1 slightly, 2 clearly, 3 far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<u8>,
    /// In the person's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// How long it was looked at, seconds.
    pub seconds: f64,
    /// Whether the person had voted on it before: it says how far they agree with themselves, and does not count otherwise.
    #[serde(default, skip_serializing_if = "is_false")]
    pub repeat: bool,
    /// The number of the vote that an `undo` takes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub withdraws: Option<u64>,
    /// SHA-256 of the rows at that time.
    pub input: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(value: &bool) -> bool {
    !value
}

/// All votes at `path`, read while somebody may be adding to them; none if they were not begun.
///
/// # Errors
/// If the file can't be read, or a line is no vote.
pub fn read(path: &Path) -> Result<Vec<Vote>, LabelError> {
    let file = koan_files::open(path).map_err(io_error("read", path))?;
    let mut lines = Lines::new(file, path);
    let begun = lines.header()?.is_some();
    lines.votes(begun)
}

/// The file, open to be appended to. Nobody else can open it while this lives.
#[derive(Debug)]
pub struct Votes {
    file: File,
    path: PathBuf,
    /// Bytes of whole lines.
    length: u64,
    next: u64,
    input: String,
}

impl Votes {
    /// Opens the votes at `path`, or begins them; `input` is the hash of the rows. Returns the votes that it holds. A last line that was
    /// not written whole is cut off.
    ///
    /// # Errors
    /// If another process has it, a line is no vote, or the operating system refuses.
    pub fn open(path: &Path, settings: &Settings, input: String) -> Result<(Self, Vec<Vote>), LabelError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io_error("create", folder))?;
        }
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(io_error("open", path))?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => LabelError::Busy { path: path.into() },
            TryLockError::Error(source) => io_error("lock", path)(source),
        })?;
        let mut lines = Lines::new(&file, path);
        let begun = lines.header()?.is_some();
        let votes = lines.votes(begun)?;
        let length = lines.whole;
        let next = votes.iter().map(|vote| vote.n).max().unwrap_or(0) + 1;
        let mut log = Self { file, path: path.into(), length, next, input };
        log.file.set_len(length).map_err(io_error("write", path))?;
        if !begun {
            log.write(&Header { version: VERSION, settings: *settings })?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let synced = File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
            synced.map_err(io_error("write", path))?;
        }
        Ok((log, votes))
    }

    /// Writes a vote with its number, its time and the hash of the rows; it is on the disk when this returns.
    ///
    /// # Errors
    /// If the operating system refuses; the file is then as before.
    pub fn append(&mut self, vote: Vote) -> Result<Vote, LabelError> {
        let vote = Vote { n: self.next, at: now(), input: self.input.clone(), ..vote };
        self.write(&vote)?;
        self.next += 1;
        Ok(vote)
    }

    fn write(&mut self, line: &impl Serialize) -> Result<(), LabelError> {
        let written = serde_json::to_vec(line).map_err(io::Error::from).and_then(|mut bytes| {
            bytes.push(b'\n');
            self.file.seek(SeekFrom::Start(self.length))?;
            self.file.write_all(&bytes)?;
            self.file.sync_data()?;
            Ok(bytes.len() as u64)
        });
        match written {
            Ok(bytes) => {
                self.length += bytes;
                Ok(())
            }
            Err(source) => {
                // What is left of the line would be cut off at the next start, or is overwritten by the next vote.
                let _ = self.file.set_len(self.length);
                Err(io_error("write", &self.path)(source))
            }
        }
    }
}

/// The lines of a file of votes.
struct Lines<'a, R> {
    file: BufReader<R>,
    path: &'a Path,
    /// Bytes of the lines that are whole.
    whole: u64,
    line: usize,
}

impl<'a, R: io::Read> Lines<'a, R> {
    fn new(file: R, path: &'a Path) -> Self {
        Self { file: BufReader::new(file), path, whole: 0, line: 0 }
    }

    fn header(&mut self) -> Result<Option<Header>, LabelError> {
        let header: Option<Header> = self.next()?;
        match header {
            Some(Header { version, .. }) if version != VERSION => {
                let reason = format!("votes of version {version}; this program reads version {VERSION}");
                Err(LabelError::Damaged { path: self.path.into(), line: 1, reason })
            }
            header => Ok(header),
        }
    }

    fn votes(&mut self, begun: bool) -> Result<Vec<Vote>, LabelError> {
        let mut votes = Vec::new();
        while begun && let Some(vote) = self.next()? {
            votes.push(vote);
        }
        Ok(votes)
    }

    /// The next line; none at the end, and for a last line that was not written whole.
    fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, LabelError> {
        let mut bytes = Vec::new();
        self.line += 1;
        let read = (&mut self.file).take(MAX_VOTE_BYTES).read_until(b'\n', &mut bytes);
        read.map_err(io_error("read", self.path))?;
        let damaged =
            |reason: String| LabelError::Damaged { path: self.path.into(), line: self.line, reason };
        if bytes.len() as u64 == MAX_VOTE_BYTES {
            return Err(damaged("a line that is too long".to_owned()));
        }
        if !bytes.ends_with(b"\n") {
            return Ok(None);
        }
        let value = koan_files::jsonl::parse(&bytes).map_err(|error| damaged(error.to_string()))?;
        self.whole += bytes.len() as u64;
        Ok(Some(value))
    }
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LabelError {
    move |source| LabelError::Io { what, path: path.into(), source }
}

/// The time now in UTC, to the second, as RFC 3339 writes it.
fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    utc(seconds)
}

/// A time of so many seconds since 1970. The date by H. Hinnant's `civil_from_days`.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468; // days since 0000-03-01
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153; // from March, 0
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
