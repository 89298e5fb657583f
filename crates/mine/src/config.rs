//! The TOML file of `koan mine`: what to read, where to work, and a table for each stage.

mod exchange;
mod read;
mod select;
mod write;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

pub use exchange::Exchange;
pub use read::{Conversions, Read};
pub use select::{Classify, Languages, Prefilter, PrefilterMode};
pub use write::Write;

use crate::{MineError, contamination::Decontaminate, extract::Limits, near::Near, quality::Quality};

/// The largest config, bytes.
const MAX_BYTES: u64 = 1 << 20;

/// What `koan mine` is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Files of the crawl, patterns of them (`crawl/*.warc.gz`), or `@FILE`: a list of both, one a line. Relative to the
    /// directory in which koan runs.
    pub input: Vec<String>,
    /// Where everything goes: what the stages leave, and the corpus in `corpus/`.
    pub run_dir: PathBuf,
    /// How input is read.
    #[serde(default)]
    pub read: Read,
    /// Which pages are parsed.
    #[serde(default)]
    pub prefilter: Prefilter,
    /// Bounds of what is done for a page.
    #[serde(default)]
    pub extract: Limits,
    /// Which languages are kept.
    #[serde(default)]
    pub language: Languages,
    /// The classifier; without one every page is kept.
    #[serde(default)]
    pub classifier: Option<Classify>,
    /// Rules for texts.
    #[serde(default)]
    pub quality: Quality,
    /// When two texts are near-duplicates.
    #[serde(default)]
    pub near: Near,
    /// Test items that must not be in the corpus.
    #[serde(default)]
    pub decontaminate: Decontaminate,
    /// How documents of all files meet.
    #[serde(default)]
    pub exchange: Exchange,
    /// How the corpus is written.
    #[serde(default)]
    pub write: Write,
}

impl Config {
    /// Reads the file `path` and checks it.
    ///
    /// # Errors
    /// If it can't be read, has other keys than ours, or values that can't be.
    pub fn read(path: &Path) -> Result<Self, MineError> {
        let wrong = |what: String| MineError::Config { path: path.into(), what };
        let size =
            koan_files::open(path).and_then(|file| file.metadata()).map_err(MineError::read(path))?.len();
        if size > MAX_BYTES {
            return Err(wrong(format!("{size} bytes; a config has at most {MAX_BYTES}")));
        }
        let text = fs::read_to_string(path).map_err(MineError::read(path))?;
        let config: Self =
            toml::from_str(&text).map_err(|error| wrong(error.to_string().trim_end().to_owned()))?;
        config.check().map_err(|error| wrong(error.to_string()))?;
        Ok(config)
    }

    /// Whether every setting has a value that it can have.
    ///
    /// # Errors
    /// [`MineError::Setting`] of the first that has not.
    pub fn check(&self) -> Result<(), MineError> {
        if self.input.is_empty() {
            return Err(setting(
                "input",
                "names no files; give files, patterns or lists, as in [\"crawl/*.warc.gz\"]",
            ));
        }
        if self.run_dir.as_os_str().is_empty() {
            return Err(setting("run_dir", "is empty; name the directory in which to work"));
        }
        self.read.check()?;
        self.language.check()?;
        self.classifier.iter().try_for_each(Classify::check)?;
        self.quality.check()?;
        self.near.check()?;
        self.exchange.check()?;
        self.write.check()
    }
}

/// That the setting `key` can't be as it is.
pub(crate) fn setting(key: &str, what: impl Into<String>) -> MineError {
    MineError::Setting { key: key.into(), what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_read_and_what_is_wrong_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mine.toml");
        let read = |text: &str| {
            fs::write(&path, text).expect("written");
            Config::read(&path)
        };
        let least = "input = [\"a.warc.gz\"]\nrun_dir = \"runs/mine\"\n";
        let config = read(least).expect("a config");
        assert_eq!((&config.read, &config.write), (&Read::default(), &Write::default()));
        for (text, wanted) in [
            ("run_dir = \"a\"\n".to_owned(), "missing field `input`"),
            ("input = []\nrun_dir = \"a\"\n".to_owned(), "names no files"),
            (format!("{least}[read]\nmax_page_byte = 1\n"), "unknown field `max_page_byte`"),
            (format!("{least}[read]\nmax_page_bytes = 0\n"), "`read.max_page_bytes`"),
            (format!("{least}[write]\nlevel = 99\n"), "`write.level`"),
        ] {
            let error = read(&text).expect_err("wrong").to_string();
            assert!(error.contains(wanted) && error.contains("mine.toml"), "{error}");
        }
    }
}
