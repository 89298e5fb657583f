//! What the hub says of a repository, and which of its files a model needs.

use serde::Deserialize;

/// Most files of a repository that are accepted.
pub(crate) const MAX_FILES: usize = 10_000;
/// Largest file that is fetched and has no weights, bytes.
pub(crate) const MAX_TEXT_BYTES: u64 = 256 << 20;

/// Files that are fetched, by name.
const NAMED: [&str; 14] = [
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
    "NOTICE",
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[&str]) -> Vec<String> {
        let file = |name: &&str| File { name: (*name).to_owned(), size: None, lfs: None };
        let files: Vec<File> = files.iter().map(file).collect();
        wanted(&files).into_iter().map(|file| file.name).collect()
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
