//! Sorting of more records than memory holds: sorted runs on disk, merged.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use koan_files::FilesError;
use rayon::slice::ParallelSliceMut as _;

use crate::MineError;

/// Runs that are merged at a time.
const FAN_IN: usize = 64;
/// Bytes that are read of a run at a time.
const READ_BYTES: usize = 1 << 17;

/// Collects records of `N` bytes and hands them out sorted as bytes: a number comes first if it is written big-endian.
#[derive(Debug)]
pub struct Sorter<const N: usize> {
    folder: PathBuf,
    limit: usize,
    records: Vec<[u8; N]>,
    /// Runs on disk, by how often their records were merged.
    levels: Vec<Vec<Run>>,
    made: usize,
}

/// A file that is removed when it is dropped.
#[derive(Debug)]
struct Run(PathBuf);

impl Drop for Run {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // of no use, and found by its name if it stays
    }
}

impl<const N: usize> Sorter<N> {
    /// Holds up to `memory` bytes of records; more go to files in `folder`, which must exist and where nothing else is called
    /// `sort-*.run`.
    pub fn new(folder: &Path, memory: usize) -> Self {
        let limit = (memory / N).max(2);
        Self { folder: folder.into(), limit, records: Vec::new(), levels: Vec::new(), made: 0 }
    }

    /// Adds a record.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn push(&mut self, record: [u8; N]) -> Result<(), MineError> {
        self.records.push(record);
        if self.records.len() >= self.limit {
            self.spill()?;
        }
        Ok(())
    }

    fn spill(&mut self) -> Result<(), MineError> {
        self.records.par_sort_unstable();
        let records = std::mem::take(&mut self.records);
        let run = self.write(records.iter().map(|record| Ok(*record)))?;
        self.records = records;
        self.records.clear();
        self.keep(run, 0)
    }

    /// Adds a run, and merges those of a level when they are many.
    fn keep(&mut self, run: Run, level: usize) -> Result<(), MineError> {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        self.levels[level].push(run);
        if self.levels[level].len() < FAN_IN {
            return Ok(());
        }
        let merged = Merged::open(std::mem::take(&mut self.levels[level]))?;
        let run = self.write(merged)?;
        self.keep(run, level + 1)
    }

    fn write(&mut self, records: impl Iterator<Item = Result<[u8; N], MineError>>) -> Result<Run, MineError> {
        let path = self.folder.join(format!("sort-{:06}.run", self.made));
        self.made += 1;
        let failed = || FilesError::io("write", &path);
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&path).map_err(failed())?);
        let run = Run(path.clone());
        for record in records {
            out.write_all(&record?).map_err(failed())?;
        }
        out.flush().map_err(failed())?;
        Ok(run)
    }

    /// The records in order.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn finish(mut self) -> Result<Merged<N>, MineError> {
        self.records.par_sort_unstable();
        let mut runs: Vec<Run> = std::mem::take(&mut self.levels).into_iter().flatten().collect();
        while runs.len() > FAN_IN {
            let rest = runs.split_off(FAN_IN);
            let run = self.write(Merged::open(std::mem::replace(&mut runs, rest))?)?;
            runs.push(run);
        }
        let mut merged = Merged::open(runs)?;
        merged.add(Part::Memory(std::mem::take(&mut self.records).into_iter()))?;
        Ok(merged)
    }
}

enum Part<const N: usize> {
    Memory(std::vec::IntoIter<[u8; N]>),
    File(BufReader<File>, Run),
}

/// Sorted records.
pub struct Merged<const N: usize> {
    heads: BinaryHeap<Reverse<([u8; N], usize)>>,
    parts: Vec<Part<N>>,
}

impl<const N: usize> Merged<N> {
    fn open(runs: Vec<Run>) -> Result<Self, MineError> {
        let mut merged = Self { heads: BinaryHeap::new(), parts: Vec::new() };
        for run in runs {
            let file = File::open(&run.0).map_err(MineError::read(&run.0))?;
            merged.add(Part::File(BufReader::with_capacity(READ_BYTES, file), run))?;
        }
        Ok(merged)
    }

    fn add(&mut self, part: Part<N>) -> Result<(), MineError> {
        self.parts.push(part);
        self.advance(self.parts.len() - 1)
    }

    fn advance(&mut self, part: usize) -> Result<(), MineError> {
        let record = match &mut self.parts[part] {
            Part::Memory(records) => records.next(),
            Part::File(file, run) => {
                let mut record = [0; N];
                match file.read_exact(&mut record) {
                    Ok(()) => Some(record),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
                    Err(error) => return Err(MineError::read(&run.0)(error)),
                }
            }
        };
        self.heads.extend(record.map(|record| Reverse((record, part))));
        Ok(())
    }
}

impl<const N: usize> Iterator for Merged<N> {
    type Item = Result<[u8; N], MineError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((record, part)) = self.heads.pop()?;
        Some(self.advance(part).map(|()| record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn records_come_sorted_however_little_memory_there_is(numbers in proptest::collection::vec(proptest::num::u16::ANY, 0..600), memory in 1usize..4000) {
            let folder = tempfile::tempdir().expect("a folder");
            let mut sorter = Sorter::<2>::new(folder.path(), memory);
            for number in &numbers {
                sorter.push(number.to_be_bytes()).expect("pushed");
            }
            let sorted: Vec<u16> = sorter.finish().expect("sorted").map(|r| u16::from_be_bytes(r.expect("read"))).collect();
            let mut wanted = numbers;
            wanted.sort_unstable();
            proptest::prop_assert_eq!(sorted, wanted);
            proptest::prop_assert_eq!(std::fs::read_dir(&folder).expect("listed").count(), 0);
        }
    }
}
