//! What a unit of a stage was made of, and what it became: written last, so that where it is, all is.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader, Read, Write},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use koan_files::NewFile;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::MineError;

/// Samples of each outcome that are kept.
const SAMPLES: usize = 4;

/// A file with its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Made {
    /// Its path below the run directory.
    pub(super) name: String,
    pub(super) bytes: u64,
    /// 128 bits of xxh3, in hex.
    pub(super) digest: String,
}

/// A document of some outcome, to look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sample {
    /// By which the smallest are kept: a hash of file and place, so that any cut of the input gives the same.
    pub hash: u64,
    /// Its URL.
    pub url: String,
    /// Its file.
    pub file: String,
    /// Where it begins there.
    pub offset: u64,
    /// The beginning of its text, or what there is to say.
    pub text: String,
}

/// How many had each outcome, with samples of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) counts: BTreeMap<String, u64>,
    pub(super) samples: BTreeMap<String, Vec<Sample>>,
}

impl Tally {
    pub(super) fn add(&mut self, what: &str, n: u64) {
        match self.counts.get_mut(what) {
            Some(count) => *count += n,
            None => drop(self.counts.insert(what.to_owned(), n)),
        }
    }

    pub(super) fn get(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// Keeps the sample if it is among those of the smallest hashes. `make` makes its text.
    pub(super) fn sample(
        &mut self,
        what: &str,
        file: &str,
        offset: u64,
        url: &str,
        make: impl FnOnce() -> String,
    ) {
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(file.as_bytes(), offset);
        let kept = match self.samples.get_mut(what) {
            Some(kept) => kept,
            None => self.samples.entry(what.to_owned()).or_default(),
        };
        if kept.len() == SAMPLES && kept.last().is_some_and(|last| last.hash <= hash) {
            return;
        }
        let text = make();
        let sample = Sample { hash, url: url.to_owned(), file: file.to_owned(), offset, text };
        let at = kept.binary_search(&sample).unwrap_or_else(|at| at);
        kept.insert(at, sample);
        kept.truncate(SAMPLES);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (what, n) in &other.counts {
            self.add(what, *n);
        }
        for (what, samples) in &other.samples {
            let kept = self.samples.entry(what.clone()).or_default();
            kept.extend_from_slice(samples);
            kept.sort();
            kept.truncate(SAMPLES);
        }
    }
}

/// What a unit was made of, and what it became.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The hash of the settings that matter.
    pub(super) settings: String,
    /// The digest of all inputs.
    pub(super) inputs: String,
    /// When a file of the crawl was last changed, nanoseconds: while it is the same, the file is not read to compare it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) modified: Option<u64>,
    pub(super) outputs: Vec<Made>,
    pub(super) tally: Tally,
}

impl Manifest {
    /// The manifest in the file `path`, if there is one; one that can't be read is none.
    pub(super) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Writes it to `path`.
    pub(super) fn write(&self, path: &Path) -> Result<(), MineError> {
        let bytes = serde_json::to_vec_pretty(self).expect("maps of strings and numbers");
        Ok(koan_files::replace(path, &bytes)?)
    }

    /// Whether all outputs are in `folder` as they were made.
    pub(super) fn is_whole(&self, folder: &Path) -> bool {
        self.outputs.iter().all(|made| {
            let path = folder.join(&made.name);
            fs::metadata(&path).is_ok_and(|metadata| metadata.len() == made.bytes)
                && digest(&path).is_ok_and(|digest| digest == made.digest)
        })
    }

    /// One digest of all outputs.
    pub(super) fn digest(&self) -> String {
        let digests: Vec<&str> = self.outputs.iter().map(|made| made.digest.as_str()).collect();
        joined(digests)
    }
}

/// One digest of many.
pub(super) fn joined(digests: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut hash = Xxh3::new();
    for digest in digests {
        hash.update(digest.as_ref().as_bytes());
        hash.update(b"\n");
    }
    format!("{:032x}", hash.digest128())
}

/// 128 bits of xxh3 of a file, in hex.
pub(super) fn digest(path: &Path) -> io::Result<String> {
    let mut file = Digesting::new(koan_files::open(path)?);
    io::copy(&mut file, &mut io::sink())?;
    Ok(file.finish().1)
}

/// When a file was last changed, nanoseconds since 1970.
pub(super) fn modified(path: &Path) -> Option<u64> {
    let time = fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_nanos() as u64)
}

/// A reader or writer that hashes what goes through it.
pub(super) struct Digesting<F> {
    inner: F,
    hash: Box<Xxh3>,
    bytes: u64,
}

impl<F> Digesting<F> {
    pub(super) fn new(inner: F) -> Self {
        Self { inner, hash: Box::new(Xxh3::new()), bytes: 0 }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn finish(self) -> (F, String) {
        (self.inner, format!("{:032x}", self.hash.digest128()))
    }
}

impl<F: Read> Read for Digesting<F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        self.hash.update(&out[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
}

impl<F: Write> Write for Digesting<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A file of a unit being written: beside its place, hashed.
pub(super) struct Output {
    file: Digesting<NewFile>,
    path: PathBuf,
    name: String,
}

impl Output {
    /// Begins the file `name` below `folder`.
    pub(super) fn create(folder: &Path, name: &str) -> Result<Self, MineError> {
        let path = folder.join(name);
        Ok(Self { file: Digesting::new(NewFile::create(&path)?), path, name: name.to_owned() })
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> Result<(), MineError> {
        self.file
            .write_all(bytes)
            .map_err(|error| koan_files::FilesError::io("write", &self.path)(error).into())
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.file.bytes()
    }

    /// Makes the file appear.
    pub(super) fn finish(self) -> Result<Made, MineError> {
        let bytes = self.file.bytes();
        let (file, digest) = self.file.finish();
        file.finish()?;
        Ok(Made { name: self.name, bytes, digest })
    }
}

/// A file that a stage made, to be read by another; [`Input::finish`] notices damage.
pub(super) struct Input {
    file: Digesting<BufReader<File>>,
    path: PathBuf,
    digest: String,
}

impl Input {
    pub(super) fn open(folder: &Path, made: &Made) -> Result<Self, MineError> {
        let path = folder.join(&made.name);
        let file = koan_files::open(&path).map_err(MineError::read(&path))?;
        let file = Digesting::new(BufReader::with_capacity(1 << 18, file));
        Ok(Self { file, path, digest: made.digest.clone() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what is left, and fails if the file is not what was written.
    pub(super) fn finish(mut self) -> Result<(), MineError> {
        io::copy(&mut self.file, &mut io::sink()).map_err(MineError::read(&self.path))?;
        if self.file.finish().1 == self.digest { Ok(()) } else { Err(damaged(&self.path)) }
    }
}

impl Read for Input {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.file.read(out)
    }
}

/// That a file is not what its stage wrote.
pub(super) fn damaged(path: &Path) -> MineError {
    let name = path.display();
    let what = format!(
        "`{name}` is not what its stage wrote; remove it, and run the stages again from the one that makes it"
    );
    MineError::Stage { what }
}
