//! The labelling page: people compare two answers, or rate one, and preference rows come of their votes.
//!
//! - [`items`]: what people are shown, made of rows of data,
//! - [`votes`]: the file of raw votes, to which each is appended before it is acknowledged; nothing in it is ever changed,
//! - `desk`: who is shown what next, how far everybody is,
//! - [`mod@derive`]: rows for `koan prefer`, by majority,
//! - [`agreement`]: how far people agree, with each other and with themselves,
//! - `label_studio`: the same votes as Label Studio's JSON,
//! - `routes`: the page and its requests; `page/`: HTML, style, scripts.
//!
//! `PREFS.jsonl` can always be made again of the rows and of `PREFS.votes.jsonl` ([`Labelling::derive`]).

pub mod agreement;
pub mod derive;
mod desk;
mod error;
pub mod items;
mod label_studio;
mod routes;
mod seeded;
pub mod votes;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use axum::Router;
use koan_data::DataFiles;
use koan_files::jsonl;

use crate::Server;
use agreement::Agreement;
use derive::{Derived, Ties};
use desk::Desk;
pub use error::LabelError;
use items::{Items, LeftOut, Settings};
use votes::{Header, Vote, Votes};

/// How often `PREFS.jsonl` is made anew while people vote, at most. Making it takes at most a tenth of the time.
const DERIVE_EVERY: Duration = Duration::from_secs(2);

/// How work is shared out; it may change from one start to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sharing {
    /// People who vote on each pair or answer.
    pub votes_each: usize,
    /// Share of votes that a person is asked for a second time, 0 to 1.
    pub repeat: f64,
}

/// Rows, and the votes on them.
#[derive(Debug)]
pub struct Labelling {
    desk: Mutex<Desk>,
    out: PathBuf,
    ties: Ties,
    /// Whether a vote came since the rows were derived.
    changed: AtomicBool,
    left_out: LeftOut,
}

impl Labelling {
    /// Opens the rows `files` and the votes beside `out`, or begins these; nobody else can while it lives. A last vote that was
    /// not written whole is dropped: it was never acknowledged.
    ///
    /// # Errors
    /// Rows that can't be read or of which nothing can be made; votes that are damaged, of other settings, or that another
    /// process has open; a file `out` that was not made of votes.
    pub fn open(
        files: &DataFiles,
        out: &Path,
        wanted: Wanted,
        sharing: Sharing,
        ties: Ties,
    ) -> Result<Self, LabelError> {
        let path = votes_path(out)?;
        let begun = Header::read(&path)?;
        let same =
            |file: &PathBuf| matches!((file.canonicalize(), out.canonicalize()), (Ok(a), Ok(b)) if a == b);
        if files.paths()?.iter().any(same) {
            return Err(LabelError::Itself { out: out.into() });
        }
        if begun.is_none() && out.exists() {
            return Err(LabelError::NotOurs { out: out.into(), votes: path });
        }
        let settings = wanted.settle(begun.as_ref(), &path)?;
        let items = Items::read(files, &settings)?;
        let (log, votes) = Votes::open(&path, &settings, files.hash()?)?;
        Ok(Self::new(items, settings, sharing, (Some(log), votes), out, ties))
    }

    /// Reads the rows `files` and the votes beside `out` as they are, while people may be voting. No votes are taken.
    ///
    /// # Errors
    /// As [`Labelling::open`]; if there are no votes.
    pub fn read(files: &DataFiles, out: &Path, wanted: Wanted) -> Result<Self, LabelError> {
        let path = votes_path(out)?;
        let Some(begun) = Header::read(&path)? else { return Err(LabelError::NoVotes { path }) };
        let settings = wanted.settle(Some(&begun), &path)?;
        let (items, votes) = (Items::read(files, &settings)?, votes::read(&path)?);
        let sharing = Sharing { votes_each: 1, repeat: 0.0 };
        Ok(Self::new(items, settings, sharing, (None, votes), out, Ties::Drop))
    }

    fn new(
        Items { items, left_out }: Items,
        settings: Settings,
        sharing: Sharing,
        (log, votes): (Option<Votes>, Vec<Vote>),
        out: &Path,
        ties: Ties,
    ) -> Self {
        let desk = Mutex::new(Desk::new(items, settings, sharing, log, votes));
        Self { desk, out: out.into(), ties, changed: AtomicBool::new(true), left_out }
    }

    /// What people are asked to do.
    pub fn settings(&self) -> Settings {
        self.desk().settings()
    }

    /// How much work there is and how much is done.
    pub fn progress(&self) -> Progress {
        self.desk().progress()
    }

    /// The rows of which nothing was made, by reason.
    pub fn left_out(&self) -> LeftOut {
        self.left_out
    }

    /// Writes the rows that the votes come to.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn derive(&self) -> Result<Derived, LabelError> {
        self.changed.store(false, Ordering::Relaxed);
        let (items, votes) = self.desk().snapshot();
        let (rows, derived) = derive::rows(&items, &votes, self.ties);
        match jsonl::write(&self.out, rows) {
            Ok(()) => Ok(derived),
            Err(error) => {
                self.changed.store(true, Ordering::Relaxed);
                Err(error.into())
            }
        }
    }

    /// How far people agree.
    pub fn agreement(&self) -> Agreement {
        let desk = self.desk();
        let (items, votes) = desk.snapshot();
        Agreement::of(&items, &votes, desk.settings())
    }

    /// Writes the tasks and all votes in force as Label Studio's JSON.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn export_label_studio(&self, path: &Path) -> Result<usize, LabelError> {
        let (items, votes) = self.desk().snapshot();
        label_studio::export(path, &items, &votes)
    }

    /// Its page.
    pub fn routes(self: &Arc<Self>) -> Router {
        routes::routes(Arc::clone(self))
    }

    /// Serves the page until `stop`, and writes the rows that the votes come to as they change and at the end.
    ///
    /// # Errors
    /// If the rows can't be written at the end; the votes are kept all the same.
    pub fn serve(self: &Arc<Self>, server: Server, stop: &AtomicBool) -> Result<Derived, LabelError> {
        thread::scope(|scope| {
            scope.spawn(|| self.keep_derived(stop));
            server.run_until(self.routes(), stop);
        });
        self.derive()
    }

    /// Derives the rows after changes. An error is said by the last time, when the page has ended.
    fn keep_derived(&self, stop: &AtomicBool) {
        let mut due = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(100));
            if Instant::now() < due || !self.changed.load(Ordering::Relaxed) {
                continue;
            }
            let start = Instant::now();
            let _ = self.derive();
            due = Instant::now() + DERIVE_EVERY.max(10 * start.elapsed());
        }
    }

    fn desk(&self) -> std::sync::MutexGuard<'_, Desk> {
        // A panic leaves the desk as the last whole vote did: the vote is written first, then noted.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a command asks for; what it leaves open is as the votes were begun, or the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Points of the scale on which single answers are rated (2: good or bad), if they are.
    pub rate: Option<u8>,
    /// Pairs of the completions of one prompt.
    pub pairs_per_prompt: Option<usize>,
    /// What orders are drawn from.
    pub seed: Option<u64>,
}

impl Wanted {
    /// The settings of the votes at `path`, if they were begun with `begun`.
    fn settle(self, begun: Option<&Header>, path: &Path) -> Result<Settings, LabelError> {
        let Some(Header { settings, .. }) = begun else {
            return Ok(Settings {
                rate: self.rate,
                pairs_per_prompt: self.pairs_per_prompt.unwrap_or(1),
                seed: self.seed.unwrap_or(0),
            });
        };
        let differs =
            |name: &'static str, was: String| Err(LabelError::OtherSettings { path: path.into(), name, was });
        match self {
            Self { rate: Some(rate), .. } if settings.rate != Some(rate) => {
                let was = settings.rate.map_or("not given".to_owned(), |scale| scale.to_string());
                differs("--rate", was)
            }
            Self { pairs_per_prompt: Some(n), .. } if n != settings.pairs_per_prompt => {
                differs("--pairs-per-prompt", settings.pairs_per_prompt.to_string())
            }
            Self { seed: Some(seed), .. } if seed != settings.seed => {
                differs("--seed", settings.seed.to_string())
            }
            _ => Ok(*settings),
        }
    }
}

/// How far the labelling is, of all people together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Progress {
    /// Pairs, or answers.
    pub items: usize,
    /// Those on which somebody voted.
    pub voted: usize,
    /// Votes that count.
    pub votes: usize,
    /// Votes that are asked for.
    pub wanted: usize,
    /// Votes on what the rows no longer have: they are kept, and nothing is derived of them.
    pub elsewhere: usize,
}

/// Where the votes of `out` are: `PREFS.votes.jsonl` for `PREFS.jsonl`.
///
/// # Errors
/// If `out` names no file.
pub fn votes_path(out: &Path) -> Result<PathBuf, LabelError> {
    match out.file_name().and_then(|name| name.to_str()) {
        Some(name) => {
            let stem = name.strip_suffix(".jsonl").unwrap_or(name);
            Ok(out.with_file_name(format!("{stem}.votes.jsonl")))
        }
        None => Err(LabelError::NoFile { out: out.into() }),
    }
}

/// A vote that was not withdrawn, with the place of its item.
#[derive(Clone, Debug)]
pub(crate) struct InForce {
    pub(crate) item: usize,
    pub(crate) vote: Vote,
}
