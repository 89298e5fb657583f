//! A training set: a sample of documents of each label, in an order that a hash gives.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use koan_files::{FilesError, NewFile};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{MATHS, dictionary::LABEL, tokens, train::MAX_LINE_BYTES};
use crate::MineError;

/// Chooses documents as they come: of each label those whose hashes are smallest, so that neither the order nor the number of files
/// changes what is chosen. The words of what may be chosen go to a file; memory is 48 bytes a document that may be chosen.
#[derive(Debug)]
pub struct TrainingSet {
    seed: u64,
    most: usize,
    /// By label, and whether the lines are of the label's documents without their formulas.
    labels: BTreeMap<(String, bool), Chosen>,
    file: BufWriter<File>,
    path: PathBuf,
    written: u64,
}

#[derive(Debug, Default)]
struct Chosen {
    lines: Vec<Line>,
    /// No document from here on can be chosen any more.
    limit: Option<(u64, u64)>,
}

/// A document: its hashes, by which it is chosen and ordered; and where its line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    hash: (u64, u64),
    at: u64,
    bytes: u64,
}

impl TrainingSet {
    /// Up to `most` documents of each label. `seed` decides which; works in a file in `folder`, which must exist.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn new(folder: &Path, most: usize, seed: u64) -> Result<Self, MineError> {
        let path = folder.join("training-set.part");
        let file = File::create(&path).map_err(FilesError::io("write", &path))?;
        let file = BufWriter::with_capacity(1 << 20, file);
        Ok(Self { seed, most, labels: BTreeMap::new(), file, path, written: 0 })
    }

    /// Adds a document; one without words is left out, and so is the same text of the same label again.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn add(&mut self, label: &str, text: &str) -> Result<(), MineError> {
        let hash = (xxh3_64_with_seed(text.as_bytes(), self.seed), xxh3_64(text.as_bytes()));
        let chosen = self.labels.get(&(label.to_owned(), false));
        if chosen.and_then(|chosen| chosen.limit).is_some_and(|limit| hash >= limit) {
            return Ok(());
        }
        let (line, prose) = tokens::lines(text);
        self.push(label, false, hash, line)?;
        // A page of mathematics without its formulas is mathematics too: the words alone are learnt.
        if let Some(prose) = prose.filter(|_| label == MATHS) {
            self.push(label, true, (hash.1, hash.0), prose)?;
        }
        Ok(())
    }

    fn push(
        &mut self,
        label: &str,
        is_prose: bool,
        hash: (u64, u64),
        mut line: String,
    ) -> Result<(), MineError> {
        let chosen = self.labels.entry((label.to_owned(), is_prose)).or_default();
        if line.is_empty() || chosen.limit.is_some_and(|limit| hash >= limit) {
            return Ok(());
        }
        // Cut between words, with room for the label.
        let room = MAX_LINE_BYTES as usize - 256;
        if line.len() > room {
            line.truncate(line.as_bytes()[..room].iter().rposition(|&b| b == b' ').unwrap_or(0));
        }
        self.file.write_all(line.as_bytes()).map_err(FilesError::io("write", &self.path))?;
        chosen.lines.push(Line { hash, at: self.written, bytes: line.len() as u64 });
        self.written += line.len() as u64;
        if chosen.lines.len() >= 2 * self.most + 1000 {
            chosen.cut(self.most);
        }
        Ok(())
    }

    /// Writes the lines to `out`, as fastText reads them, and says how many documents each label has.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn finish(mut self, out: &Path) -> Result<BTreeMap<String, usize>, MineError> {
        self.file.flush().map_err(FilesError::io("write", &self.path))?;
        let mut counts = BTreeMap::new();
        let mut lines = Vec::new();
        let is_maths = |key: &(String, bool)| key.0 == MATHS;
        self.labels.values_mut().for_each(|chosen| chosen.cut(self.most));
        // As many lines of all else as of mathematics: where those are few, a classifier would say of every page that it is none.
        let maths: usize =
            self.labels.iter().filter(|(key, _)| is_maths(key)).map(|(_, chosen)| chosen.lines.len()).sum();
        for (_, chosen) in self.labels.iter_mut().filter(|(key, _)| maths > 0 && !is_maths(key)) {
            chosen.cut(maths);
        }
        for ((label, is_prose), chosen) in std::mem::take(&mut self.labels) {
            if !is_prose {
                counts.insert(label.clone(), chosen.lines.len());
            }
            lines.extend(chosen.lines.into_iter().map(|line| (line, label.clone())));
        }
        lines.sort_unstable();
        let mut to = NewFile::create(out)?;
        let mut copy = || -> io::Result<()> {
            let mut from = BufReader::new(koan_files::open(&self.path)?);
            let mut bytes = Vec::new();
            for (line, label) in &lines {
                from.seek(SeekFrom::Start(line.at))?;
                bytes.resize(line.bytes as usize, 0);
                from.read_exact(&mut bytes)?;
                to.write_all(LABEL)?;
                writeln!(to, "{label} {}", String::from_utf8_lossy(&bytes))?;
            }
            Ok(())
        };
        copy().map_err(FilesError::io("write", out))?;
        to.finish()?;
        Ok(counts)
    }
}

impl Chosen {
    fn cut(&mut self, most: usize) {
        self.lines.sort_unstable();
        self.lines.dedup_by_key(|line| line.hash);
        if self.lines.len() > most {
            self.limit = Some(self.lines[most].hash);
            self.lines.truncate(most);
        }
    }
}

impl Drop for TrainingSet {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path); // of no use to anyone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_chosen_depends_on_no_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("lines");
        let made = |order: &mut dyn Iterator<Item = usize>, seed| {
            let mut set = TrainingSet::new(folder.path(), 5, seed).expect("begun");
            for i in order {
                set.add(["maths", "other"][i % 2], &format!("Text {}", "x".repeat(i))).expect("added");
            }
            set.add("maths", " .").expect("left out");
            set.add("maths", "The Root of $x$").expect("added");
            let counts = set.finish(&out).expect("written");
            assert_eq!(counts, BTreeMap::from([("maths".into(), 5), ("other".into(), 5)]));
            std::fs::read_to_string(&out).expect("read")
        };
        let lines = made(&mut (0..3000).chain(0..10), 1);
        assert_eq!(lines, made(&mut (0..3000).rev(), 1));
        assert_ne!(lines, made(&mut (0..3000), 2));
        let labels: Vec<&str> =
            lines.lines().map(|line| line.split_once(" text ").expect("a label").0).collect();
        assert_eq!(labels.len(), 10);
        assert!(labels.windows(2).any(|pair| pair[0] != pair[1]) && labels.contains(&"__label__maths"));
        assert_eq!(std::fs::read_dir(&folder).expect("listed").count(), 1, "only the lines are left");
    }
}
