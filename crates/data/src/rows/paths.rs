//! Which files hold the data: names and patterns.

use crate::DataError;
use koan_files::{FilesError, hash_file, sha256};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

/// Names of data files, or patterns of them (`part-*.parquet`); in a config a string or a list of strings. Files are read in the
/// order of the names, those that a pattern matches in alphabetical order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a file, or a list of files")]
pub enum DataFiles {
    /// One name or pattern.
    One(PathBuf),
    /// Several.
    Many(Vec<PathBuf>),
}

impl DataFiles {
    /// The names and patterns as they were given.
    pub fn names(&self) -> &[PathBuf] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        }
    }

    /// The files.
    ///
    /// # Errors
    /// If there are none, a pattern matches none or can't be read, or a file is named twice.
    pub fn paths(&self) -> Result<Vec<PathBuf>, DataError> {
        let mut paths = Vec::new();
        for name in self.names() {
            let Some(pattern) = name.to_str().filter(|text| is_pattern(text) && !name.exists()) else {
                paths.push(name.clone());
                continue;
            };
            let wrong = |what: String| DataError::Pattern { pattern: pattern.to_owned(), what };
            let matches = glob::glob(pattern).map_err(|error| wrong(error.to_string()))?;
            let matches: Vec<PathBuf> =
                matches.collect::<Result<_, _>>().map_err(|error| wrong(error.to_string()))?;
            let before = paths.len();
            paths.extend(matches.into_iter().filter(|path| !path.is_dir()));
            if paths.len() == before {
                return Err(wrong("matches no file".to_owned()));
            }
        }
        if paths.is_empty() {
            return Err(DataError::NoFiles);
        }
        let mut seen = HashSet::new();
        match paths.iter().find(|path| !seen.insert(path.as_path())) {
            Some(path) => Err(DataError::Twice { path: path.clone() }),
            None => Ok(paths),
        }
    }

    /// SHA-256 of the file, or of the files' hashes, joined by line ends in their order; in hex.
    ///
    /// # Errors
    /// If a file can't be read.
    pub fn hash(&self) -> Result<String, DataError> {
        let hash = |path: &PathBuf| hash_file(path);
        let hashes: Result<Vec<String>, FilesError> = self.paths()?.iter().map(hash).collect();
        Ok(match &hashes?[..] {
            [one] => one.clone(),
            many => sha256(many.join("\n")),
        })
    }
}

fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

impl From<&Path> for DataFiles {
    fn from(path: &Path) -> Self {
        Self::One(path.to_owned())
    }
}

impl From<PathBuf> for DataFiles {
    fn from(path: PathBuf) -> Self {
        Self::One(path)
    }
}

impl From<Vec<PathBuf>> for DataFiles {
    fn from(mut paths: Vec<PathBuf>) -> Self {
        if paths.len() == 1 { Self::One(paths.remove(0)) } else { Self::Many(paths) }
    }
}

impl fmt::Display for DataFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.names().iter().enumerate() {
            write!(f, "{}{}", if i > 0 { ", " } else { "" }, name.display())?;
        }
        Ok(())
    }
}
