//! What the hub says of a repository, and which of its files a model needs, or are data.

use serde::Deserialize;

use crate::HubError;

/// Most files of a repository that are accepted.
pub(crate) const MAX_FILES: usize = 10_000;
/// Largest file that is fetched and has no weights, bytes.
pub(crate) const MAX_TEXT_BYTES: u64 = 256 << 20;

/// Files that are fetched, by name.
const NAMED: [&str; 18] = [
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "README.md",
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "COPYING",
    "NOTICE",
    "NOTICE.txt",
    "USE_POLICY.md",
];

/// The hub's description of a repository at a revision.
#[derive(Debug, Deserialize)]
pub(crate) struct Description {
    /// The commit.
    pub(crate) sha: String,
    /// Its files.
    pub(crate) siblings: Vec<File>,
}

/// A file of a repository.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct File {
    #[serde(rename = "rfilename")]
    pub(crate) name: String,
    /// Bytes, where stated.
    pub(crate) size: Option<u64>,
    pub(crate) lfs: Option<Lfs>,
}

/// What is stated of a large file.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Lfs {
    pub(crate) sha256: Option<String>,
    pub(crate) size: Option<u64>,
}

impl File {
    /// Bytes, where stated.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.lfs.as_ref().and_then(|lfs| lfs.size).or(self.size)
    }

    fn is_weights(&self) -> bool {
        self.name == "model.safetensors" || is_shard(&self.name)
    }

    /// The most bytes that it may have.
    pub(crate) fn limit(&self) -> u64 {
        self.bytes().unwrap_or(if self.is_weights() { u64::MAX } else { MAX_TEXT_BYTES })
    }
}

/// `model-00001-of-00002.safetensors`.
fn is_shard(name: &str) -> bool {
    let parts = name.strip_prefix("model-").and_then(|name| name.strip_suffix(".safetensors"));
    parts.and_then(|parts| parts.split_once("-of-")).is_some_and(|(i, n)| {
        let digits = |s: &str| s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit());
        digits(i) && digits(n)
    })
}

/// The files that a model needs: those at the top of the repository whose names are known, in one copy of the weights. So
/// no name that the hub gives reaches the file system unless it is one of these.
pub(crate) fn wanted(files: &[File]) -> Vec<File> {
    let whole = files.iter().any(|file| file.name == "model.safetensors");
    let is_wanted = |file: &&File| match &*file.name {
        "model.safetensors.index.json" => !whole,
        name if is_shard(name) => !whole,
        name => name == "model.safetensors" || NAMED.contains(&name),
    };
    files.iter().filter(is_wanted).cloned().collect()
}

/// The endings of data files.
const DATA: [&str; 4] = [".parquet", ".jsonl", ".json", ".txt"];
/// Files beside data that say what they are.
const ABOUT: [&str; 4] = ["README.md", "LICENSE", "LICENSE.txt", "NOTICE"];
/// Descriptions in JSON that are no data.
const NO_DATA: [&str; 3] = ["dataset_infos.json", "dataset_info.json", "state.json"];
/// Folders within one another in a data file's name, at most.
const MAX_FOLDERS: usize = 8;

/// Which files of a data set are wanted; of each that is given, one must fit.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Splits: `train`, `test`, …: parts of a name as hubs have them (`data/train-00000-of-00002.parquet`).
    pub splits: Vec<String>,
    /// Names, or patterns of them: `main/*.parquet`.
    pub files: Vec<String>,
}

impl Wanted {
    /// Of `files`, those that are wanted, and what says what they are.
    pub(crate) fn of(&self, files: &[File]) -> Result<Vec<File>, HubError> {
        let pattern = |text: &String| {
            let wrong = |error: glob::PatternError| HubError::Pattern {
                pattern: text.clone(),
                what: error.to_string(),
            };
            glob::Pattern::new(text).map_err(wrong)
        };
        let patterns: Vec<glob::Pattern> = self.files.iter().map(pattern).collect::<Result<_, _>>()?;
        let is_wanted = |file: &&File| {
            is_data(&file.name)
                && (self.splits.is_empty() || self.splits.iter().any(|split| has_split(&file.name, split)))
                && (patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(&file.name)))
        };
        let mut wanted: Vec<File> = files.iter().filter(is_wanted).cloned().collect();
        if !wanted.is_empty() {
            wanted.extend(files.iter().filter(|file| ABOUT.contains(&&*file.name)).cloned());
        }
        Ok(wanted)
    }
}

/// Whether this is the name of a data file, whose folders and name reach no other place.
pub(crate) fn is_data(name: &str) -> bool {
    let plain = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(name);
    let allowed = |c: char| c.is_alphanumeric() || " ._-+=,()".contains(c);
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(allowed);
    name.len() <= 512
        && name.split('/').count() <= MAX_FOLDERS
        && name.split('/').all(is_part)
        && DATA.iter().any(|ending| plain.ends_with(ending))
        && !NO_DATA.iter().any(|no| name.rsplit('/').next() == Some(*no))
}

/// Whether a split's name is a part of a file's name: between other characters than letters and digits.
fn has_split(name: &str, split: &str) -> bool {
    name.split(['/', '-', '.', '_']).any(|part| part == split)
        || name.match_indices(split).any(|(at, _)| {
            let is_end = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
            is_end(name[..at].chars().next_back()) && is_end(name[at + split.len()..].chars().next())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[&str]) -> Vec<String> {
        let file = |name: &&str| File { name: (*name).to_owned(), size: None, lfs: None };
        let files: Vec<File> = files.iter().map(file).collect();
        wanted(&files).into_iter().map(|file| file.name).collect()
    }

    #[test]
    fn only_data_is_wanted_by_split_and_pattern() {
        let all = [
            "data/train-00000-of-00002.parquet",
            "data/test-00000-of-00001.parquet",
            "main/train_sft.jsonl.gz",
            "README.md",
            "dataset_infos.json",
            "gsm8k.py",
            "../train.parquet",
            "/train.parquet",
            "a//train.jsonl",
            ".train.jsonl",
            "a/../train.jsonl",
            "a\\train.jsonl",
            "train.jsonl\0",
        ];
        let files = all.map(|name| File { name: name.to_owned(), size: None, lfs: None });
        let of = |splits: &[&str], patterns: &[&str]| -> Vec<String> {
            let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
            let wanted =
                Wanted { splits: texts(splits), files: texts(patterns) }.of(&files).expect("patterns");
            wanted.into_iter().map(|file| file.name).collect()
        };
        assert_eq!(of(&[], &[]), all[..4]);
        assert_eq!(of(&["train"], &[]), [all[0], all[2], all[3]]);
        assert_eq!(of(&["train_sft"], &[]), [all[2], all[3]]);
        assert_eq!(of(&["train"], &["data/*"]), [all[0], all[3]]);
        assert!(of(&["trai"], &[]).is_empty() && of(&[], &["*.py"]).is_empty());
        let bad = Wanted { files: vec!["a***".to_owned()], ..Wanted::default() };
        assert!(bad.of(&files).is_err());
    }

    #[test]
    fn only_what_a_model_needs_is_wanted() {
        let all = ["config.json", "pytorch_model.bin", "model.gguf", "onnx/model.onnx", "model.safetensors"];
        assert_eq!(names(&all), ["config.json", "model.safetensors"]);
        let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        assert_eq!(names(&shards), shards);
        assert_eq!(names(&[shards[0], "model.safetensors"]), ["model.safetensors"]);
        let tricks = [
            "../config.json",
            "/config.json",
            "a/../config.json",
            "config.json/",
            "CON",
            "model-0000/-of-00002.safetensors",
            "model-../../-of-00002.safetensors",
            "config.json\0",
            "..",
            "",
        ];
        assert!(names(&tricks).is_empty());
    }
}
