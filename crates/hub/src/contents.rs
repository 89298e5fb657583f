//! What a model's directory has to send: its files, by size and content.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use koan_files::{FilesError, hash_file};
use sha1::{Digest, Sha1};

use crate::{HubError, files::MAX_FILES, hub::ORIGIN};

/// The first bytes of a file, by which a hub tells text from other files.
const SAMPLE: usize = 512;
/// Bytes read at a time.
const PIECE: usize = 1 << 18;
/// What lies beside weights and is no part of a model: the state of its training, and where a copy came from.
const NOT_SENT: [&str; 4] = ["optimizer.safetensors", "trainer.json", "SHA256SUMS", ORIGIN];

/// A file that is to be in a repository.
#[derive(Debug)]
pub(crate) struct Item {
    /// Its name there.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) sample: Vec<u8>,
    /// What large files are known by.
    pub(crate) sha256: String,
    /// What git knows small ones by.
    pub(crate) blob: String,
}

/// The files of the model in `dir`, by name, and the names of what is left out.
pub(crate) fn of(dir: &Path) -> Result<(Vec<Item>, Vec<String>), HubError> {
    let entries: Result<Vec<PathBuf>, _> =
        fs::read_dir(dir).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let (mut items, mut left_out) = (Vec::new(), Vec::new());
    for path in entries.map_err(FilesError::io("read", dir))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
        let is_sent = path.is_file()
            && !name.starts_with('.')
            && name.chars().all(allowed)
            && !NOT_SENT.contains(&&*name)
            && path.extension().is_none_or(|extension| extension != "part");
        if is_sent && items.len() < MAX_FILES {
            items.push(Item::of(name, path)?);
        } else {
            left_out.push(name);
        }
    }
    items.sort_by(|a: &Item, b| a.name.cmp(&b.name));
    left_out.sort();
    let lacks = |what| HubError::NoModel { path: dir.into(), what };
    if !items.iter().any(|item| ["config.json", "adapter_config.json"].contains(&&*item.name)) {
        return Err(lacks("config.json"));
    }
    if !items.iter().any(|item| item.name.ends_with(".safetensors")) {
        return Err(lacks("weights in safetensors"));
    }
    Ok((items, left_out))
}

impl Item {
    fn of(name: String, path: PathBuf) -> Result<Self, FilesError> {
        let sha256 = hash_file(&path)?;
        let io = |source| FilesError::io("read", &path)(source);
        let mut file = File::open(&path).map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        let mut hash = Sha1::new_with_prefix(format!("blob {bytes}\0"));
        let (mut sample, mut piece) = (Vec::new(), vec![0; PIECE]);
        loop {
            match file.read(&mut piece).map_err(io)? {
                0 => break,
                n => {
                    hash.update(&piece[..n]);
                    sample.extend(piece[..n].iter().take(SAMPLE - sample.len()));
                }
            }
        }
        let blob = koan_files::hex(&hash.finalize());
        Ok(Self { name, path, bytes, sample, sha256, blob })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_sent_without_the_state_of_its_training() {
        let dir = tempfile::tempdir().expect("a folder");
        let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("written");
        put("model.safetensors", "weights");
        assert!(matches!(of(dir.path()), Err(HubError::NoModel { what: "config.json", .. })));
        for name in
            ["config.json", "optimizer.safetensors", "trainer.json", "origin.toml", ".env", "a.part", "b c"]
        {
            put(name, "hello\n");
        }
        fs::create_dir(dir.path().join("reference")).expect("made");
        let (items, left_out) = of(dir.path()).expect("a model");
        let names: Vec<&str> = items.iter().map(|item| &*item.name).collect();
        assert_eq!(names, ["config.json", "model.safetensors"]);
        let expected =
            [".env", "a.part", "b c", "optimizer.safetensors", "origin.toml", "reference", "trainer.json"];
        assert_eq!(left_out, expected);
        // As `git hash-object` says.
        assert_eq!(items[0].blob, "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!((items[0].bytes, &items[0].sample[..]), (6, &b"hello\n"[..]));
    }
}
