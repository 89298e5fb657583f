//! Files, patterns of files, and lists of both.

use std::path::{Path, PathBuf};

use koan_files::read_bounded;

use crate::MineError;

/// The largest list, bytes: some ten million names.
const MAX_LIST_BYTES: u64 = 1 << 30;

/// The files that `input` names, in its order, those of a pattern by name: files, patterns, and `@FILE`, a list of them, one a line, where
/// `#` begins a comment. A file that is named twice is read once.
///
/// # Errors
/// [`MineError::NoInput`], if a name or pattern has no file; if a list can't be read.
pub fn files(input: &[String]) -> Result<Vec<PathBuf>, MineError> {
    let mut found = Vec::new();
    for pattern in input {
        match pattern.strip_prefix('@') {
            Some(list) => {
                for line in lines(Path::new(list))? {
                    add(&line, &mut found)?;
                }
            }
            None => add(pattern, &mut found)?,
        }
    }
    let mut seen = std::collections::HashSet::new();
    found.retain(|path| seen.insert(path.clone()));
    if found.is_empty() {
        return Err(nothing("input", "names no files"));
    }
    Ok(found)
}

fn lines(list: &Path) -> Result<Vec<String>, MineError> {
    let bytes = read_bounded(list, MAX_LIST_BYTES).map_err(MineError::read(list))?;
    let name = list.display().to_string();
    let bytes = bytes.ok_or_else(|| nothing(&name, "a list has at most 1 GiB"))?;
    let text = String::from_utf8(bytes).map_err(|_| nothing(&name, "no list: it is not UTF-8"))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

fn add(pattern: &str, found: &mut Vec<PathBuf>) -> Result<(), MineError> {
    let path = Path::new(pattern);
    if path.is_file() {
        found.push(path.into());
        return Ok(());
    }
    if path.is_dir() {
        return Err(nothing(pattern, "is a directory; name its files, as in `DIR/*.warc.gz`"));
    }
    if !pattern.contains(['*', '?', '[']) {
        return Err(nothing(pattern, "there is no such file"));
    }
    let paths = glob::glob(pattern).map_err(|error| nothing(pattern, &format!("no pattern: {error}")))?;
    let before = found.len();
    for path in paths {
        let path = path.map_err(|error| {
            let path = error.path().to_owned();
            MineError::Read { path, source: error.into() }
        })?;
        if path.is_file() {
            found.push(path);
        }
    }
    if found.len() == before {
        return Err(nothing(pattern, "no file has such a name"));
    }
    Ok(())
}

fn nothing(pattern: &str, what: &str) -> MineError {
    MineError::NoInput { pattern: pattern.into(), what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn files_patterns_and_lists_name_each_file_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name).display().to_string();
        for name in ["b.warc", "a.warc", "c[1].warc", "d.txt"] {
            fs::write(at(name), "").expect("written");
        }
        fs::write(at("list"), format!("# all\n\n{}\n  {}  \n", at("b.warc"), at("*.warc"))).expect("written");
        let wanted: Vec<PathBuf> =
            ["b.warc", "a.warc", "c[1].warc"].iter().map(|name| at(name).into()).collect();
        assert_eq!(files(&[format!("@{}", at("list"))]).expect("files"), wanted);
        assert_eq!(files(&[at("c[1].warc")]).expect("a file whose name looks like a pattern").len(), 1);
        for (name, why) in [
            (at("none"), "no such file"),
            (at("*.gz"), "no file has"),
            (at(""), "a directory"),
            (format!("@{}", at("d.txt")), "names no files"),
        ] {
            let error = files(&[name]).expect_err(why).to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
