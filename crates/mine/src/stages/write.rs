//! The corpus: documents that stay, without the lines that hold test items.

use serde::Serialize;

use super::{
    Id, Stage,
    manifest::{Made, Manifest, Tally, joined},
    pages::{TEXTS, Tools, shown},
    run::{Listener, Run},
    table::Table,
    texts::{self, Texts},
};
use crate::{
    Contamination, Document, MineError, Source,
    contamination::{Cut, Hit},
    quality::judge,
};

/// Where the corpus is, below the run directory.
pub(super) const CORPUS: &str = "corpus";

/// Test items in a document.
#[derive(Serialize)]
struct Found<'a> {
    url: &'a str,
    source: &'a Source,
    hits: Vec<Hit>,
}

/// A file that is there only if it has rows.
struct Lazy<'a> {
    run: &'a Run,
    name: String,
    texts: Option<Texts>,
}

impl<'a> Lazy<'a> {
    fn new(run: &'a Run, name: String) -> Self {
        Self { run, name, texts: None }
    }

    fn push(&mut self, row: &impl Serialize) -> Result<(), MineError> {
        let texts = match &mut self.texts {
            Some(texts) => texts,
            none => none.insert(Texts::create(&self.run.folder, &self.name, self.run.config.write.level)?),
        };
        texts.push(row)
    }

    /// Finishes the file; without rows, removes what an earlier run left.
    fn finish(self) -> Result<Option<Made>, MineError> {
        if self.texts.is_none() {
            remove(&self.run.folder.join(&self.name))?;
        }
        self.texts.map(Texts::finish).transpose()
    }
}

/// Removes a file that may not be there.
pub(super) fn remove(path: &std::path::Path) -> Result<(), MineError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(koan_files::FilesError::io("remove", path)(error).into())
        }
        _ => Ok(()),
    }
}

/// Makes the files of the corpus that are not made.
pub(super) fn make(run: &Run, units: &[usize], listener: Listener<'_>) -> Result<(), MineError> {
    let pages = run.manifests(Stage::Pages)?;
    let [captured, alike] = run.gone()?;
    let common = joined(
        [Stage::Urls, Stage::Clusters]
            .into_iter()
            .map(|stage| run.manifests(stage).map(|manifests| joined(manifests.iter().map(Manifest::digest))))
            .collect::<Result<Vec<_>, _>>()?,
    );
    let inputs = |unit: usize| joined([&pages[unit].outputs[TEXTS].digest, &common]);
    let tools = std::sync::OnceLock::new();
    let ready = || -> Result<(Tools<'_>, Option<Contamination>), MineError> {
        let settings = &run.config.decontaminate;
        let tests = (!settings.against.is_empty()).then(|| Contamination::read(settings)).transpose()?;
        Ok((Tools::new(&run.config, true)?, tests))
    };
    run.make_units(Stage::Write, units, inputs, listener, |unit| {
        let (tools, tests) = match tools.get_or_init(ready) {
            Ok(ready) => ready,
            Err(error) => return Err(MineError::Stage { what: error.to_string() }),
        };
        let mut corpus = Lazy::new(run, format!("{CORPUS}/{unit:05}.jsonl.zst"));
        let mut found = Lazy::new(run, Run::name(Stage::Write, unit, "hits.jsonl.zst"));
        let table_name = format!("{CORPUS}/{unit:05}.parquet");
        let mut table = None;
        let mut tally = Tally::default();
        let mut scratch = Vec::new();
        texts::read(&run.folder, &pages[unit].outputs[TEXTS], |index, mut document: Document| {
            let id = Id { unit: unit as u32, index };
            let sample = |tally: &mut Tally, what: &str, document: &Document| {
                tally.add(what, 1);
                let Source { file, offset, .. } = &document.source;
                tally.sample(what, file, *offset, &document.url, || shown(&document.text));
            };
            if captured.has(id) {
                sample(&mut tally, "urls/removed", &document);
                return Ok(());
            }
            tally.add("urls/kept", 1);
            if alike.has(id) {
                sample(&mut tally, "near/removed", &document);
                return Ok(());
            }
            tally.add("near/kept", 1);
            match tools.score(&document.text) {
                Ok(None) => {}
                Ok(score) => {
                    document.score = score;
                    tally.add("classifier_late/kept", 1);
                }
                Err(_) => {
                    sample(&mut tally, "classifier_late/removed", &document);
                    return Ok(());
                }
            }
            let Cut { rest, hits, spared } =
                tests.as_ref().map(|tests| tests.cut(&document.text, &mut scratch)).unwrap_or_default();
            tally.add("contamination/spared", spared as u64);
            if let Some(rest) = rest {
                tally.add("contamination/hits", hits.len() as u64);
                let what = || {
                    hits.iter()
                        .map(|hit| format!("{}: {}", hit.item, hit.shared))
                        .collect::<Vec<_>>()
                        .join("\n")
                };
                let (file, offset) = (document.source.file.clone(), document.source.offset);
                tally.sample("contamination/cut", &file, offset, &document.url, what);
                found.push(&Found { url: &document.url, source: &document.source, hits })?;
                document.text = rest;
                if judge(&document.text, &run.config.quality).is_err() || document.text.is_empty() {
                    tally.add("contamination/removed", 1);
                    return Ok(());
                }
                tally.add("contamination/cut", 1);
            }
            tally.add("write/documents", 1);
            tally.add("write/text_bytes", document.text.len() as u64);
            tally.add("write/formulas", u64::from(document.formulas));
            tally.add(&format!("write/language/{}", document.language), 1);
            let Source { file, offset, .. } = &document.source;
            tally.sample("write/documents", file, *offset, &document.url, || shown(&document.text));
            corpus.push(&document)?;
            if run.config.write.parquet {
                let table = match &mut table {
                    Some(table) => table,
                    none => none.insert(Table::create(&run.folder, &table_name)?),
                };
                table.push(document)?;
            }
            Ok(())
        })?;
        let mut outputs = Vec::new();
        outputs.extend(corpus.finish()?);
        outputs.extend(found.finish()?);
        match table {
            Some(table) => outputs.push(table.finish()?),
            None => remove(&run.folder.join(&table_name))?,
        }
        Ok((outputs, tally))
    })
}
