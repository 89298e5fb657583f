//! A run directory: what is to be made in it, its lock, all stages or a shard of one.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use koan_files::FilesError;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::{
    Id, Ids, Report, Shard, Stage, alike,
    manifest::{Made, Manifest, joined, modified},
    pages, report, texts, urls, write,
};
use crate::{Config, Document, MineError, config::Classify, source};

/// Raised whenever the same inputs and settings give other files.
const VERSION: u32 = 2;

/// How far a stage is.
#[derive(Clone, Debug)]
pub enum Progress {
    /// `done` of `of`: bytes of the crawl while pages are read, units in other stages.
    At {
        /// Of which stage.
        stage: Stage,
        /// How much is done.
        done: u64,
        /// Of how much.
        of: u64,
        /// Pages so far, in the stage that reads them.
        pages: u64,
    },
    /// Something that a person should know.
    Note(String),
}

/// A listener to [`Progress`], on any thread.
pub(super) type Listener<'a> = &'a (dyn Fn(Progress) + Sync);

/// A run directory with its config.
#[derive(Debug)]
pub struct Run {
    pub(super) config: Config,
    pub(super) inputs: Vec<PathBuf>,
    pub(super) folder: PathBuf,
    pool: rayon::ThreadPool,
    /// The digests of the files that settings name: the classifier's and the test items'.
    named: [String; 2],
}

impl Run {
    /// Plans a run on `workers` threads, or on all cores. Nothing is made but the directory.
    ///
    /// # Errors
    /// Inputs that are not there, files that settings name and can't be read, a directory that can't be made.
    pub fn open(mut config: Config, workers: Option<usize>) -> Result<Self, MineError> {
        config.check()?;
        config.classifier.iter_mut().try_for_each(Classify::resolve)?;
        let inputs = source::files(&config.input)?;
        let folder = config.run_dir.clone();
        let names = Stage::ALL.map(Stage::name).into_iter().chain(["corpus"]);
        for name in names.filter(|name| *name != Stage::Report.name()) {
            let path = folder.join(name);
            fs::create_dir_all(&path).map_err(FilesError::io("create", &path))?;
        }
        let model: Vec<PathBuf> = config.classifier.iter().map(|classify| classify.model.clone()).collect();
        let tests = match &config.decontaminate.against {
            against if against.is_empty() => Vec::new(),
            against => source::files(against)?,
        };
        let named = [digests(&model)?, digests(&tests)?];
        let pool = rayon::ThreadPoolBuilder::new().num_threads(workers.unwrap_or(0)).build();
        let pool =
            pool.map_err(|error| MineError::Stage { what: format!("threads can't be started: {error}") })?;
        Ok(Self { config, inputs, folder, pool, named })
    }

    /// The config.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The files of the crawl, in their order.
    pub fn inputs(&self) -> &[PathBuf] {
        &self.inputs
    }

    /// The run directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Units of a stage: as many shards can share it.
    pub fn units(&self, stage: Stage) -> usize {
        match stage {
            Stage::Pages | Stage::Write => self.inputs.len(),
            Stage::Urls | Stage::Near => self.config.exchange.parts,
            Stage::Clusters | Stage::Report => 1,
        }
    }

    /// Runs all stages; what is made already is not made again.
    ///
    /// # Errors
    /// If another process works in the directory; those of the stages.
    pub fn all(&self, listener: Listener<'_>) -> Result<Report, MineError> {
        self.until(Stage::Report, listener)?;
        self.report()
    }

    /// Runs all stages up to `last`.
    ///
    /// # Errors
    /// As [`Run::all`].
    pub fn until(&self, last: Stage, listener: Listener<'_>) -> Result<(), MineError> {
        let _lock = self.lock(File::try_lock)?;
        Stage::ALL
            .into_iter()
            .filter(|stage| *stage <= last)
            .try_for_each(|stage| self.make(stage, Shard::WHOLE, listener))
    }

    /// Runs a shard of a stage. Shards of one stage may run at once, in other processes and on other machines; those of the next, when
    /// all of this are made.
    ///
    /// # Errors
    /// If the directory is worked in by [`Run::all`]; if what the stage needs is not made; those of the stage.
    pub fn stage(&self, stage: Stage, shard: Shard, listener: Listener<'_>) -> Result<(), MineError> {
        let _lock = self.lock(File::try_lock_shared)?;
        self.make(stage, shard, listener)
    }

    /// What every stage kept and removed.
    ///
    /// # Errors
    /// If the report is not made.
    pub fn report(&self) -> Result<Report, MineError> {
        report::read(&self.folder)
    }

    /// Hands `each` the documents that are neither captured before nor near-duplicates, in the order of the input.
    ///
    /// # Errors
    /// If the stages up to `clusters` are not made; those of the files and of `each`.
    pub fn documents(
        &self,
        mut each: impl FnMut(Id, Document) -> Result<(), MineError>,
    ) -> Result<(), MineError> {
        let gone = self.gone()?;
        for (unit, manifest) in self.manifests(Stage::Pages)?.iter().enumerate() {
            texts::read(&self.folder, &manifest.outputs[pages::TEXTS], |index, document| {
                let id = Id { unit: unit as u32, index };
                if gone.iter().any(|gone| gone.has(id)) { Ok(()) } else { each(id, document) }
            })?;
        }
        Ok(())
    }

    /// Those captured before, and near-duplicates.
    pub(super) fn gone(&self) -> Result<[Ids; 2], MineError> {
        Ok([urls::removed(self)?, alike::removed(self)?])
    }

    pub(super) fn parallel<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.pool.install(work)
    }

    pub(super) fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// The name of a file of a unit below the run directory.
    pub(super) fn name(stage: Stage, unit: usize, what: &str) -> String {
        format!("{stage}/{unit:05}.{what}")
    }

    /// The manifests of all units of a stage.
    pub(super) fn manifests(&self, stage: Stage) -> Result<Vec<Manifest>, MineError> {
        let settings = self.settings(stage);
        let read = |unit| {
            Manifest::read(&self.folder.join(Self::name(stage, unit, "json")))
                .filter(|manifest| manifest.settings == settings)
                .ok_or(unit)
        };
        let (made, missing): (Vec<_>, Vec<_>) = (0..self.units(stage)).map(read).partition(Result::is_ok);
        if let Some(Err(first)) = missing.first() {
            let what = match stage {
                Stage::Pages | Stage::Write => format!("file {first}, `{}`", self.inputs[*first].display()),
                _ => format!("part {first}"),
            };
            return Err(MineError::Stage {
                what: format!(
                    "{} of {} units of the stage `{stage}` are not made with these settings, the first of them for {what}; run that \
                     stage first",
                    missing.len(),
                    self.units(stage)
                ),
            });
        }
        Ok(made.into_iter().filter_map(Result::ok).collect())
    }

    /// The hash of the settings that matter to a stage.
    pub(super) fn settings(&self, stage: Stage) -> String {
        let Config {
            read,
            prefilter,
            extract,
            language,
            classifier,
            quality,
            near,
            decontaminate,
            exchange,
            write,
            ..
        } = &self.config;
        let [model, tests] = &self.named;
        let classifier = classifier.as_ref().map(|classify| json!([classify, model]));
        let is_late = self.config.classifier.as_ref().is_some_and(|classify| classify.late);
        let signed = (near.ngram, near.bands, near.rows, near.seed);
        let settings: Value = match stage {
            Stage::Pages => {
                let classifier = classifier.filter(|_| !is_late);
                json!([read, prefilter, extract, language, classifier, quality, signed, exchange.parts])
            }
            Stage::Urls => json!([exchange.parts]),
            Stage::Near => json!([near, exchange.parts]),
            Stage::Clusters | Stage::Report => json!([]),
            Stage::Write => json!([write, decontaminate, tests, classifier.filter(|_| is_late), quality]),
        };
        koan_files::sha256(json!([VERSION, stage.name(), settings]).to_string())
    }

    /// Makes the units of a shard of a stage that are not made.
    fn make(&self, stage: Stage, shard: Shard, listener: Listener<'_>) -> Result<(), MineError> {
        let units: Vec<usize> = (0..self.units(stage)).filter(|unit| shard.has(*unit)).collect();
        match stage {
            Stage::Pages => pages::make(self, &units, listener),
            Stage::Urls => urls::make(self, &units, listener),
            Stage::Near => alike::make_pairs(self, &units, listener),
            Stage::Clusters | Stage::Report if units.is_empty() => Ok(()),
            Stage::Clusters => alike::make_clusters(self),
            Stage::Write => write::make(self, &units, listener),
            Stage::Report => report::make(self),
        }
    }

    /// Makes units at once that are not yet made of inputs with the digest `inputs`.
    pub(super) fn make_units(
        &self,
        stage: Stage,
        units: &[usize],
        inputs: impl Fn(usize) -> String + Sync,
        listener: Listener<'_>,
        make: impl Fn(usize) -> Result<(Vec<Made>, super::manifest::Tally), MineError> + Sync,
    ) -> Result<(), MineError> {
        let settings = self.settings(stage);
        let done = std::sync::atomic::AtomicU64::new(0);
        let one = |unit: usize| {
            let path = self.folder.join(Self::name(stage, unit, "json"));
            let inputs = inputs(unit);
            let is_made = Manifest::read(&path).is_some_and(|manifest| {
                manifest.settings == settings && manifest.inputs == inputs && manifest.is_whole(&self.folder)
            });
            if !is_made {
                let (outputs, tally) = make(unit)?;
                Manifest { settings: settings.clone(), inputs, modified: None, outputs, tally }
                    .write(&path)?;
            }
            let done = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            listener(Progress::At { stage, done, of: units.len() as u64, pages: 0 });
            Ok(())
        };
        self.parallel(|| units.par_iter().try_for_each(|unit| one(*unit)))
    }

    /// A folder for what does not outlive its unit.
    pub(super) fn scratch(&self, stage: Stage, unit: usize) -> Result<Scratch, MineError> {
        let path = self.folder.join(format!("{stage}/.{unit:05}.scratch"));
        if path.exists() {
            fs::remove_dir_all(&path).map_err(FilesError::io("remove", &path))?;
        }
        fs::create_dir_all(&path).map_err(FilesError::io("create", &path))?;
        Ok(Scratch(path))
    }

    fn lock(&self, lock: fn(&File) -> Result<(), TryLockError>) -> Result<File, MineError> {
        let path = self.folder.join("lock");
        let options = || File::options().write(true).create(true).truncate(false).open(&path);
        let file = options().map_err(FilesError::io("write", &path))?;
        match lock(&file) {
            Err(TryLockError::WouldBlock) => Err(MineError::Stage {
                what: format!(
                    "another `koan mine` works in `{}`; wait for it or end it",
                    self.folder.display()
                ),
            }),
            // Where the file system has no locks, two processes that make one unit still notice each other.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
        }
    }

    /// What is on record of a file of the crawl: its digest with its name, if it was read and has not changed since.
    pub(super) fn input_digest(&self, unit: usize, manifest: &Manifest) -> Result<bool, MineError> {
        let path = &self.inputs[unit];
        if manifest.modified.is_some() && manifest.modified == modified(path) {
            return Ok(manifest.inputs.starts_with(&name_digest(path)));
        }
        let digest = super::manifest::digest(path).map_err(MineError::read(path))?;
        Ok(manifest.inputs == identity(path, &digest))
    }
}

/// A file of the crawl by name and digest.
pub(super) fn identity(path: &Path, digest: &str) -> String {
    format!("{}{digest}", name_digest(path))
}

fn name_digest(path: &Path) -> String {
    joined([path.to_string_lossy()])
}

/// One digest of files that settings name.
fn digests(paths: &[PathBuf]) -> Result<String, MineError> {
    let digests: Result<Vec<String>, MineError> =
        paths.iter().map(|path| super::manifest::digest(path).map_err(MineError::read(path))).collect();
    Ok(joined(digests?))
}

/// A folder that is removed when it is dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // of no use, and removed when its unit is made again
    }
}
