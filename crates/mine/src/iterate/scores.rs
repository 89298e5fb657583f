//! What a round's classifier says of each document, in a file for each of the pool's; and the cut above which documents are kept.

use std::{
    fs,
    fs::File,
    io::{self, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
};

use koan_data::rows::Rows;
use koan_files::{FilesError, NewFile};

use super::{
    pool::{self, Place, Pool},
    settings::Iterate,
};
use crate::{Classifier, MineError};

/// Bytes of text that count as a token.
pub(super) const BYTES_A_TOKEN: u64 = 4;
const RECORD: usize = 16;
/// Steps of a score at which a budget may cut.
const STEPS: usize = 1 << 16;

/// A document's score, in the order of the rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Score {
    /// The share of the label `maths`.
    pub(super) share: f32,
    /// Of its text.
    pub(super) bytes: u32,
    /// The hash of its domain.
    pub(super) domain: u64,
}

/// The scores of a file.
pub(super) struct Scores {
    file: BufReader<File>,
    path: PathBuf,
    left: u64,
}

pub(super) fn folder_name(round: &Path) -> PathBuf {
    round.join("scores")
}

pub(super) fn folder(round: &Path) -> Result<PathBuf, MineError> {
    let folder = folder_name(round);
    fs::create_dir_all(&folder).map_err(FilesError::io("create", &folder))?;
    Ok(folder)
}

fn name(folder: &Path, shard: usize) -> PathBuf {
    folder.join(format!("{shard:05}.bin"))
}

/// Scores the documents of the pool's file `path`, unless that was done.
pub(super) fn score(
    classifier: &Classifier,
    path: &Path,
    folder: &Path,
    shard: usize,
) -> Result<(), MineError> {
    let out = name(folder, shard);
    if out.exists() {
        return Ok(());
    }
    let mut file = NewFile::create(&out)?;
    for row in Rows::open(path)? {
        let place: Place = pool::parse(row?)?;
        let mut record = [0; RECORD];
        record[..4].copy_from_slice(&classifier.score(&place.text).to_le_bytes());
        record[4..8].copy_from_slice(&u32::try_from(place.text.len()).unwrap_or(u32::MAX).to_le_bytes());
        record[8..].copy_from_slice(&place.domain_hash().to_le_bytes());
        file.write_all(&record).map_err(FilesError::io("write", &out))?;
    }
    Ok(file.finish()?)
}

pub(super) fn read(folder: &Path, shard: usize) -> Result<Scores, MineError> {
    let path = name(folder, shard);
    let open = || -> io::Result<_> {
        let file = koan_files::open(&path)?;
        let left = file.metadata()?.len() / RECORD as u64;
        Ok((BufReader::with_capacity(1 << 16, file), left))
    };
    let (file, left) = open().map_err(MineError::read(&path))?;
    Ok(Scores { file, path, left })
}

impl Scores {
    /// The score of the next row.
    ///
    /// # Errors
    /// If there is none, for then the file is of other rows.
    pub(super) fn next_score(&mut self) -> Result<Score, MineError> {
        let mut record = [0; RECORD];
        self.file.read_exact(&mut record).map_err(MineError::read(&self.path))?;
        self.left -= 1;
        let [share, bytes] = [0, 4].map(|at| <[u8; 4]>::try_from(&record[at..at + 4]).expect("four bytes"));
        let domain = record[8..].try_into().expect("eight bytes");
        Ok(Score {
            share: f32::from_le_bytes(share),
            bytes: u32::from_le_bytes(bytes),
            domain: u64::from_le_bytes(domain),
        })
    }
}

impl Iterator for Scores {
    type Item = Result<Score, MineError>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.left > 0).then(|| self.next_score())
    }
}

/// The least score that is kept: `least`, or above it where the documents fill `keep_tokens`.
pub(super) fn cut(folder: &Path, pool: &Pool, settings: &Iterate, least: f32) -> Result<f32, MineError> {
    let Some(tokens) = settings.keep_tokens else { return Ok(least) };
    let mut bytes = vec![0u64; STEPS + 1];
    for shard in 0..pool.files.len() {
        for score in read(folder, shard)? {
            let score = score?;
            bytes[(score.share.clamp(0.0, 1.0) * STEPS as f32) as usize] += u64::from(score.bytes);
        }
    }
    let (mut step, mut kept) = (STEPS + 1, 0);
    while step > 0 && kept + bytes[step - 1] <= tokens.saturating_mul(BYTES_A_TOKEN) {
        step -= 1;
        kept += bytes[step];
    }
    Ok((step as f32 / STEPS as f32).max(least))
}

/// What a round keeps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    /// Documents that were scored.
    pub(super) scored: u64,
    /// Documents that are kept.
    pub(super) documents: u64,
    /// Of their texts.
    pub(super) bytes: u64,
    /// Those that the round before did not keep.
    pub(super) new: u64,
}

/// Counts what is kept, and what of it the round before, with its cut, did not keep.
pub(super) fn compare(
    folder: &Path,
    cut: f32,
    before: Option<(&Path, f32)>,
    pool: &Pool,
) -> Result<Kept, MineError> {
    let mut kept = Kept::default();
    for shard in 0..pool.files.len() {
        let mut earlier =
            before.map(|(folder, cut)| Ok::<_, MineError>((read(folder, shard)?, cut))).transpose()?;
        for score in read(folder, shard)? {
            let score = score?;
            let was_kept = match &mut earlier {
                Some((scores, cut)) => scores.next_score()?.share >= *cut,
                None => false,
            };
            kept.scored += 1;
            if score.share >= cut {
                kept.documents += 1;
                kept.bytes += u64::from(score.bytes);
                kept.new += u64::from(!was_kept);
            }
        }
    }
    Ok(kept)
}
