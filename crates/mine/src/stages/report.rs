//! What every stage kept and removed, with samples of both: `report.json` in the run directory.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use koan_files::FilesError;
use serde::{Deserialize, Serialize};

use super::{
    Stage,
    manifest::{Sample, Tally},
    pages::STEPS,
    run::Run,
    write::CORPUS,
};
use crate::MineError;

/// Where it is, below the run directory.
const NAME: &str = "report.json";

/// What a step kept and removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Documents or pages that it kept.
    pub kept: u64,
    /// Those that it removed.
    pub removed: u64,
    /// Those, by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Some of both, by outcome.
    pub samples: BTreeMap<String, Vec<Sample>>,
}

/// A file of the corpus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorpusFile {
    /// Its path below the run directory.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
    /// 128 bits of xxh3, in hex.
    pub digest: String,
}

/// The report of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Files of the crawl.
    pub inputs: u64,
    /// Records and rows in them, of all kinds.
    pub records: u64,
    /// Pages in them.
    pub pages: u64,
    /// Bytes of those, unpacked.
    pub page_bytes: u64,
    /// Pages of which an end is missing.
    pub cut_pages: u64,
    /// Documents of the corpus.
    pub documents: u64,
    /// Bytes of their texts.
    pub text_bytes: u64,
    /// Formulas in them.
    pub formulas: u64,
    /// Documents by language.
    pub languages: BTreeMap<String, u64>,
    /// Clusters of near-duplicates.
    pub clusters: u64,
    /// Documents of which lines were cut because they hold test items, and that stayed.
    pub cut_documents: u64,
    /// Places of short test items that any text may have, and that stayed because they do not stand alone.
    #[serde(default)]
    pub spared_items: u64,
    /// The steps in their order.
    pub steps: Vec<Step>,
    /// The corpus.
    pub files: Vec<CorpusFile>,
}

/// Writes the report of what the stages' manifests say, and removes what an earlier plan left in the corpus.
pub(super) fn make(run: &Run) -> Result<(), MineError> {
    let (pages, clusters, written) =
        (run.manifests(Stage::Pages)?, run.manifests(Stage::Clusters)?, run.manifests(Stage::Write)?);
    let mut tally = Tally::default();
    for manifest in pages.iter().chain(&clusters).chain(&written) {
        tally.merge(&manifest.tally);
    }
    if tally.get("read/files_left_out") == run.inputs.len() as u64 {
        let what = "no file of `input` is of a kind that is read: WARC, WET or JSON Lines".to_owned();
        return Err(MineError::Stage { what });
    }
    let is_corpus = |name: &str| name.starts_with(&format!("{CORPUS}/"));
    let files: Vec<CorpusFile> = written
        .iter()
        .flat_map(|manifest| &manifest.outputs)
        .filter(|made| is_corpus(&made.name))
        .map(|made| CorpusFile { name: made.name.clone(), bytes: made.bytes, digest: made.digest.clone() })
        .collect();
    remove_others(run, &files)?;
    let under = |prefix: &str| -> BTreeMap<String, u64> {
        let counts =
            tally.counts.iter().filter_map(|(what, n)| Some((what.strip_prefix(prefix)?.to_owned(), *n)));
        counts.filter(|(_, n)| *n > 0).collect()
    };
    let step = |name: &str, title: &str| {
        let reasons = under(&format!("{name}/removed/"));
        let removed = reasons.values().sum::<u64>() + tally.get(&format!("{name}/removed"));
        let samples = tally.samples.iter().filter_map(|(what, samples)| {
            Some((what.strip_prefix(name)?.strip_prefix('/')?.to_owned(), samples.clone()))
        });
        Step {
            name: title.to_owned(),
            kept: tally.get(&format!("{name}/kept")),
            removed,
            reasons,
            samples: samples.collect(),
        }
    };
    let mut read = step("read", "read");
    read.reasons = under("read/skipped/");
    read.reasons.extend(
        Some(("files_left_out".to_owned(), tally.get("read/files_left_out"))).filter(|(_, n)| *n > 0),
    );
    (read.kept, read.removed) = (tally.get("read/pages"), read.reasons.values().sum());
    let mut steps = vec![read];
    steps.extend(STEPS.iter().map(|name| step(name, name)));
    steps.extend([step("urls", "urls"), step("near", "near-duplicates")]);
    if tally.get("classifier_late/kept") + tally.get("classifier_late/removed") > 0 {
        steps.push(step("classifier_late", "classifier"));
        steps.retain(|step| step.name != "classifier" || !step.samples.is_empty());
    }
    let mut contamination = step("contamination", "decontamination");
    contamination.kept = tally.get("write/documents");
    steps.push(contamination);
    steps.push(Step { kept: tally.get("write/documents"), ..step("write", "written") });
    let report = Report {
        inputs: run.inputs.len() as u64,
        records: tally.get("read/records"),
        pages: tally.get("read/pages"),
        page_bytes: tally.get("read/bytes"),
        cut_pages: tally.get("read/cut"),
        documents: tally.get("write/documents"),
        text_bytes: tally.get("write/text_bytes"),
        formulas: tally.get("write/formulas"),
        languages: under("write/language/"),
        clusters: tally.get("near/clusters"),
        cut_documents: tally.get("contamination/cut"),
        spared_items: tally.get("contamination/spared"),
        steps,
        files,
    };
    let bytes = serde_json::to_vec_pretty(&report).expect("maps of strings and numbers");
    Ok(koan_files::replace(&run.folder.join(NAME), &bytes)?)
}

/// Removes files of the corpus that are none of this run's.
fn remove_others(run: &Run, files: &[CorpusFile]) -> Result<(), MineError> {
    let folder = run.folder.join(CORPUS);
    let entries = fs::read_dir(&folder).map_err(FilesError::io("read", &folder))?;
    for entry in entries {
        let name = entry.map_err(FilesError::io("read", &folder))?.file_name().to_string_lossy().into_owned();
        let (number, kind) = name.split_once('.').unwrap_or_default();
        let is_ours =
            number.bytes().all(|byte| byte.is_ascii_digit()) && matches!(kind, "jsonl.zst" | "parquet");
        if is_ours && !files.iter().any(|file| file.name == format!("{CORPUS}/{name}")) {
            super::write::remove(&folder.join(&name))?;
        }
    }
    Ok(())
}

/// Reads the report of a run directory.
pub(super) fn read(folder: &Path) -> Result<Report, MineError> {
    let path = folder.join(NAME);
    let bytes = fs::read(&path).map_err(MineError::read(&path))?;
    serde_json::from_slice(&bytes).map_err(|_| super::manifest::damaged(&path))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<18}{:>12}{:>12}  reasons", "step", "kept", "removed")?;
        for step in &self.steps {
            let mut reasons: Vec<(&String, &u64)> = step.reasons.iter().collect();
            reasons.sort_by_key(|(name, n)| (std::cmp::Reverse(**n), (*name).clone()));
            let reasons: Vec<String> = reasons.iter().map(|(name, n)| format!("{name} {n}")).collect();
            writeln!(f, "{:<18}{:>12}{:>12}  {}", step.name, step.kept, step.removed, reasons.join(", "))?;
        }
        let languages: Vec<String> = self.languages.iter().map(|(code, n)| format!("{code} {n}")).collect();
        writeln!(
            f,
            "\n{} documents, {:.1} MB of text, {} formulas, of {} pages in {} files; {}",
            self.documents,
            self.text_bytes as f64 / 1e6,
            self.formulas,
            self.pages,
            self.inputs,
            languages.join(", ")
        )?;
        write!(
            f,
            "{} clusters of near-duplicates; lines with test items cut out of {} documents; an end is missing of {} pages",
            self.clusters, self.cut_documents, self.cut_pages
        )
    }
}
