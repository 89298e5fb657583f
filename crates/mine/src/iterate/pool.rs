//! The documents that are chosen from, file by file.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use koan_data::{
    DataFiles,
    rows::{Row, Rows},
};
use koan_files::{FilesError, NewFile};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use xxhash_rust::xxh3::xxh3_64;

use super::scores::Scores;
use crate::{MineError, address::Address};

/// The files of the pool; their numbers name the files that rounds write.
pub(super) struct Pool {
    pub(super) files: Vec<PathBuf>,
}

/// A document as far as the loop needs it.
#[derive(Deserialize)]
pub(super) struct Place {
    pub(super) url: String,
    pub(super) text: String,
    #[serde(default)]
    domain: Option<String>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
}

impl Pool {
    pub(super) fn open(files: &DataFiles) -> Result<Self, MineError> {
        Ok(Self { files: files.paths()? })
    }

    /// Of each file its hash.
    pub(super) fn hashes(&self) -> Result<Vec<String>, MineError> {
        use rayon::prelude::*;
        self.files.par_iter().map(|path| Ok(koan_files::hash_file(path)?)).collect()
    }
}

impl Place {
    /// The registered domain of the host.
    pub(super) fn domain(&self) -> String {
        match &self.domain {
            Some(domain) if !domain.is_empty() => domain.clone(),
            _ => Address::of(&self.url).domain().to_owned(),
        }
    }

    /// By which scores name it.
    pub(super) fn domain_hash(&self) -> u64 {
        xxh3_64(self.domain().as_bytes())
    }
}

/// The value of a row.
pub(super) fn parse<T: DeserializeOwned>((place, json): Row) -> Result<T, MineError> {
    let wrong = |what: String| MineError::Stage { what: format!("{place}: {what}") };
    let json = json.map_err(|error| wrong(error.to_string()))?;
    serde_json::from_slice(&json)
        .map_err(|error| wrong(format!("{error}; a row of documents has `url` and `text`")))
}

/// Hands `each` the texts of rows.
pub(super) fn each_text(
    files: &DataFiles,
    mut each: impl FnMut(&str) -> Result<(), MineError>,
) -> Result<(), MineError> {
    for path in files.paths()? {
        for row in Rows::open(&path)? {
            let text: Text = parse(row?)?;
            each(&text.text)?;
        }
    }
    Ok(())
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, MineError> {
    let bytes = std::fs::read(path).map_err(MineError::read(path))?;
    serde_json::from_slice(&bytes).map_err(|error| MineError::Input {
        path: path.into(),
        what: format!("is damaged: {error}; remove it, and it is made again"),
    })
}

/// Writes the rows of the file `path` that have a score from `cut` on, with it.
pub(super) fn copy(path: &Path, scores: &mut Scores, cut: f32, out: &Path) -> Result<(), MineError> {
    let failed = || FilesError::io("write", out);
    let mut zst = zstd::Encoder::new(NewFile::create(out)?, 3).map_err(failed())?;
    for row in Rows::open(path)? {
        let score = scores.next_score()?;
        if score.share < cut {
            continue;
        }
        let mut row: Map<String, Value> = parse(row?)?;
        row.insert("score".into(), score.share.into());
        let json = serde_json::to_vec(&row).map_err(|error| failed()(error.into()))?;
        zst.write_all(&json).and_then(|()| zst.write_all(b"\n")).map_err(failed())?;
    }
    Ok(zst.finish().map_err(failed())?.finish()?)
}
