//! What a judge said before, on the disk: a file per answer, named after the hash of all that the answer depends on. A run that goes on, or a
//! second one, asks nothing twice.

use koan_files::{FilesError, sha256};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;

/// A larger file is no answer, bytes.
const MAX_ENTRY_BYTES: u64 = 16 << 20;

/// A folder of answers; none: nothing is kept.
#[derive(Clone, Debug)]
pub(super) struct Cache(pub(super) Option<PathBuf>);

/// An answer as it is kept.
#[derive(Deserialize)]
struct Entry {
    request: Value,
    said: String,
}

impl Cache {
    /// The answer to `request`, if it is there and whole.
    pub(super) fn find(&self, request: &Value) -> Option<String> {
        let bytes = koan_files::read_bounded(&self.path(request)?, MAX_ENTRY_BYTES).ok()??;
        let entry: Entry = serde_json::from_slice(&bytes).ok()?;
        (entry.request == *request).then_some(entry.said)
    }

    /// Keeps the answer to `request`.
    ///
    /// # Errors
    /// If it can't be written.
    pub(super) fn keep(&self, request: &Value, said: &str) -> Result<(), FilesError> {
        let Some(path) = self.path(request) else { return Ok(()) };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(FilesError::io("create", folder))?;
        }
        let text = json!({ "request": request, "said": said }).to_string() + "\n";
        koan_files::replace(&path, text.as_bytes())
    }

    fn path(&self, request: &Value) -> Option<PathBuf> {
        let name = hash(request);
        Some(self.0.as_ref()?.join(&name[..2]).join(format!("{name}.json")))
    }
}

/// SHA-256 of a request: of all that its answer depends on.
pub(super) fn hash(request: &impl Serialize) -> String {
    sha256(serde_json::to_vec(request).expect("a request is plain values"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_by_all_that_it_depends_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache(Some(folder.path().join("new")));
        let request = json!({"model": "m", "messages": [{"role": "user", "content": "q"}], "seed": 1});
        let other = json!({"model": "m", "messages": [{"role": "user", "content": "q"}], "seed": 2});
        assert_eq!(cache.find(&request), None);
        cache.keep(&request, "[[7]]\n").expect("written");
        assert_eq!((cache.find(&request).as_deref(), cache.find(&other)), (Some("[[7]]\n"), None));
        std::fs::write(cache.path(&request).expect("a path"), "{\"req").expect("damaged");
        assert_eq!(cache.find(&request), None, "a damaged answer is asked for again");
        Cache(None).keep(&request, "x").expect("nothing to write");
    }
}
