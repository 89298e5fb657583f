//! The map: a file of the crawl to documents and their keys.

use std::{
    panic,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use rayon::prelude::*;

use super::{
    Id, Stage,
    manifest::{Made, Manifest, Tally, modified},
    parted::Parted,
    run::{Listener, Progress, Run, identity},
    texts::Texts,
};
use crate::{
    Classifier, Config, Document, MineError, Source,
    address::Address,
    config::PrefilterMode,
    extract::{Hints, extract},
    language::identify,
    near::{Record, Scratch, Signature, Signer},
    prefilter::looks_like_maths,
    quality::judge,
    source::{Form, Item, Page, Reader},
};

/// Places of a unit's files among its outputs.
pub(super) const TEXTS: usize = 0;
pub(super) const URLS: usize = 1;
pub(super) const BANDS: usize = 2;

/// Bytes of a key of an URL: its hash, and the document's number.
pub(super) const URL_BYTES: usize = 24;

/// Pages that threads share at a time, at most, and their bytes.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 4 << 20;
/// Batches that wait.
const WAITING: usize = 2;
/// Characters of a text that a sample shows.
const SHOWN: usize = 240;

/// What pages are judged by.
pub(super) struct Tools<'a> {
    config: &'a Config,
    classifier: Option<Classifier>,
    signer: Signer,
}

impl<'a> Tools<'a> {
    pub(super) fn new(config: &'a Config, is_late: bool) -> Result<Self, MineError> {
        let classify = config.classifier.as_ref().filter(|classify| classify.late == is_late);
        let classifier =
            classify.map(|classify| Classifier::load_label(&classify.model, &classify.label)).transpose()?;
        Ok(Self { config, classifier, signer: Signer::new(&config.near) })
    }

    /// A text's score, if there is a classifier; or that it is below the threshold.
    pub(super) fn score(&self, text: &str) -> Result<Option<f32>, f32> {
        let (Some(classifier), Some(classify)) = (&self.classifier, &self.config.classifier) else {
            return Ok(None);
        };
        let score = classifier.score(text);
        if score >= classify.threshold.unwrap_or(0.5) { Ok(Some(score)) } else { Err(score) }
    }
}

/// What became of a page.
struct Outcome {
    /// Steps that it passed, of those in [`STEPS`].
    passed: usize,
    /// Why it went at the next, if it did.
    removed: Option<String>,
    document: Document,
    key: u128,
    signature: Option<Signature>,
    has_marks: bool,
    is_cut: bool,
    bytes: usize,
}

/// What is asked of a page, one after the other.
pub(super) const STEPS: [&str; 5] = ["prefilter", "extract", "language", "classifier", "quality"];

/// Makes the units that are not made.
pub(super) fn make(run: &Run, units: &[usize], listener: Listener<'_>) -> Result<(), MineError> {
    let settings = run.settings(Stage::Pages);
    let size = |unit: usize| std::fs::metadata(&run.inputs[unit]).map_or(0, |metadata| metadata.len());
    let of = units.iter().map(|unit| size(*unit)).sum();
    let (mut tools, mut before) = (None, 0);
    let pages = AtomicU64::new(0);
    for &unit in units {
        let path = run.folder.join(Run::name(Stage::Pages, unit, "json"));
        let known = Manifest::read(&path)
            .filter(|manifest| manifest.settings == settings && manifest.is_whole(&run.folder));
        let is_made = known.map(|manifest| run.input_digest(unit, &manifest)).transpose()?.unwrap_or(false);
        if !is_made {
            if tools.is_none() {
                tools = Some(Tools::new(&run.config, false)?);
            }
            let at = |done| {
                listener(Progress::At {
                    stage: Stage::Pages,
                    done: before + done,
                    of,
                    pages: pages.load(Ordering::Relaxed),
                });
            };
            let Some(tools) = &tools else { unreachable!("made above") };
            let mut manifest = match one(run, unit, tools, &pages, &at) {
                Err(error @ MineError::Kind { .. }) if run.inputs.len() > 1 => {
                    listener(Progress::Note(format!("{error}; the file is left out")));
                    left_out(run, unit, &error)?
                }
                other => other?,
            };
            manifest.settings.clone_from(&settings);
            manifest.write(&path)?;
        }
        before += size(unit);
        listener(Progress::At {
            stage: Stage::Pages,
            done: before,
            of,
            pages: pages.load(Ordering::Relaxed),
        });
    }
    Ok(())
}

/// The files of a unit being written.
struct Files {
    texts: Texts,
    urls: Parted,
    bands: Parted,
    documents: u32,
}

impl Files {
    fn create(run: &Run, unit: usize) -> Result<Self, MineError> {
        let name = |what| Run::name(Stage::Pages, unit, what);
        let parts = run.config.exchange.parts;
        Ok(Self {
            texts: Texts::create(&run.folder, &name("jsonl.zst"), 1)?,
            urls: Parted::create(&run.folder, &name("urls"), parts)?,
            bands: Parted::create(&run.folder, &name("bands"), parts)?,
            documents: 0,
        })
    }

    fn push(&mut self, unit: usize, outcome: &Outcome, parts: usize) -> Result<(), MineError> {
        let number = Id { unit: unit as u32, index: self.documents }.number();
        self.documents += 1;
        let mut key = [0; URL_BYTES];
        key[..16].copy_from_slice(&outcome.key.to_be_bytes());
        key[16..].copy_from_slice(&number.to_be_bytes());
        // A page without an URL is captured once.
        if !outcome.document.url.is_empty() {
            self.urls.push((outcome.key % parts as u128) as usize, &key)?;
        }
        for record in outcome.signature.iter().flat_map(|signature| Record::of(number, signature)) {
            self.bands.push(record.part(parts), &record.0)?;
        }
        self.texts.push(&outcome.document)
    }

    fn finish(self) -> Result<Vec<Made>, MineError> {
        Ok(vec![self.texts.finish()?, self.urls.finish()?, self.bands.finish()?])
    }
}

/// Makes the unit of a file that is of no kind that is read.
fn left_out(run: &Run, unit: usize, error: &MineError) -> Result<Manifest, MineError> {
    let path = &run.inputs[unit];
    let digest = super::manifest::digest(path).map_err(MineError::read(path))?;
    let mut tally = Tally::default();
    tally.add("read/files_left_out", 1);
    tally.sample("read/files_left_out", &path.to_string_lossy(), 0, "", || error.to_string());
    let outputs = Files::create(run, unit)?.finish()?;
    Ok(Manifest {
        settings: String::new(),
        inputs: identity(path, &digest),
        modified: modified(path),
        outputs,
        tally,
    })
}

/// Makes a unit.
fn one(
    run: &Run,
    unit: usize,
    tools: &Tools<'_>,
    pages: &AtomicU64,
    at: &dyn Fn(u64),
) -> Result<Manifest, MineError> {
    let path = &run.inputs[unit];
    let file = path.to_string_lossy().into_owned();
    let modified = modified(path);
    let mut reader = Reader::open(path, &run.config.read)?;
    let mut files = Files::create(run, unit)?;
    let mut tally = Tally::default();
    let digest = thread::scope(|scope| {
        let (send, batches) = mpsc::sync_channel(WAITING);
        let reading = scope.spawn(move || {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while let Some(item) = reader.next()? {
                bytes += if let Item::Page(page) = &item { page.payload.len() } else { 0 };
                batch.push(item);
                if batch.len() >= BATCH || bytes >= BATCH_BYTES {
                    bytes = 0;
                    if send.send((std::mem::take(&mut batch), reader.place())).is_err() {
                        break; // nobody wants them any more: an error elsewhere
                    }
                }
            }
            let _ = send.send((batch, reader.place())); // the same
            Ok::<_, MineError>((reader.records(), reader.digest()?))
        });
        for (batch, place) in batches {
            let outcomes: Vec<Result<Outcome, Item>> = run.parallel(|| {
                let judged = batch.into_par_iter().map_init(Scratch::default, |scratch, item| match item {
                    Item::Page(page) => Ok(judged(tools, page, &file, scratch)),
                    item @ Item::Skipped(_) => Err(item),
                });
                judged.collect()
            });
            pages.fetch_add(outcomes.len() as u64, Ordering::Relaxed);
            for outcome in outcomes {
                count(&mut tally, &file, &outcome);
                if let Ok(outcome) = outcome
                    && outcome.removed.is_none()
                {
                    files.push(unit, &outcome, run.config.exchange.parts)?;
                }
            }
            at(place);
        }
        let (records, digest) = reading.join().expect("a reader does not panic")?;
        tally.add("read/records", records);
        Ok::<_, MineError>(digest)
    })?;
    let outputs = files.finish()?;
    Ok(Manifest { settings: String::new(), inputs: identity(path, &digest), modified, outputs, tally })
}

/// Counts what became of a page.
fn count(tally: &mut Tally, file: &str, outcome: &Result<Outcome, Item>) {
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(Item::Page(_)) => return,
        Err(Item::Skipped(skipped)) => {
            let reason = serde_json::to_value(skipped.reason).ok();
            let what = format!(
                "read/skipped/{}",
                reason.as_ref().and_then(|reason| reason.as_str()).unwrap_or_default()
            );
            tally.add(&what, 1);
            tally.sample(&what, file, skipped.offset, &skipped.url, String::new);
            return;
        }
    };
    let document = &outcome.document;
    tally.add("read/pages", 1);
    tally.add("read/bytes", outcome.bytes as u64);
    tally.add("read/cut", u64::from(outcome.is_cut));
    tally.add("prefilter/with_marks", u64::from(outcome.has_marks));
    for step in &STEPS[..outcome.passed] {
        tally.add(&format!("{step}/kept"), 1);
    }
    let what = if let Some(why) = &outcome.removed {
        format!("{}/removed{}{why}", STEPS[outcome.passed], if why.is_empty() { "" } else { "/" })
    } else {
        tally.add("formulas", u64::from(document.formulas));
        "quality/kept".to_owned()
    };
    if outcome.removed.is_some() {
        tally.add(&what, 1);
    }
    tally.sample(&what, file, document.source.offset, &document.url, || shown(&document.text));
}

/// The beginning of a text.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

/// What becomes of a page.
fn judged(tools: &Tools<'_>, page: Page, file: &str, scratch: &mut Scratch) -> Outcome {
    let config = tools.config;
    let has_marks = page.form == Form::Html && looks_like_maths(&page.payload);
    let mut outcome = Outcome {
        passed: 0,
        removed: None,
        document: Document {
            url: page.url,
            title: String::new(),
            text: String::new(),
            language: String::new(),
            score: None,
            domain: String::new(),
            formulas: 0,
            source: Source { file: file.to_owned(), offset: page.offset, digest: String::new() },
        },
        key: 0,
        signature: None,
        has_marks,
        is_cut: page.is_cut,
        bytes: page.payload.len(),
    };
    let document = &mut outcome.document;
    let removed: Result<(), (usize, String)> = (|| {
        if page.form == Form::Html && !has_marks && config.prefilter.mode == PrefilterMode::Drop {
            return Err((0, String::new()));
        }
        match page.form {
            Form::Html => {
                let hints = Hints { content_type: page.content_type.as_deref(), url: &document.url };
                // A fault of ours in one page of a billion must not end a run that comes to the same page whenever it goes on.
                let extracted = panic::catch_unwind(|| extract(&page.payload, &hints, &config.extract))
                    .map_err(|_| (1, "fault".to_owned()))?
                    .map_err(|skip| {
                        let reason = serde_json::to_value(skip).ok();
                        (1, reason.as_ref().and_then(|reason| reason.as_str()).unwrap_or_default().to_owned())
                    })?;
                outcome.is_cut |= extracted.truncated.is_some();
                (document.title, document.text, document.formulas) =
                    (extracted.title, extracted.text, extracted.formulas);
            }
            Form::Text => String::from_utf8_lossy(&page.payload).trim().clone_into(&mut document.text),
        }
        let language = identify(&document.text).code;
        language.clone_into(&mut document.language);
        if !config.language.keep.is_empty() && !config.language.keep.iter().any(|code| code == language) {
            return Err((2, language.to_owned()));
        }
        document.score = tools.score(&document.text).map_err(|score| {
            document.score = Some(score);
            (3, String::new())
        })?;
        judge(&document.text, &config.quality).map_err(|reason| (4, reason.name().to_owned()))
    })();
    if let Err((step, why)) = removed {
        (outcome.passed, outcome.removed) = (step, Some(why));
        return outcome;
    }
    outcome.passed = STEPS.len();
    let address = Address::of(&document.url);
    address.domain().clone_into(&mut document.domain);
    outcome.key = address.key();
    document.source.digest = format!("sha256:{}", koan_files::sha256(&page.payload));
    outcome.signature = tools.signer.sign(&document.text, scratch);
    outcome
}
