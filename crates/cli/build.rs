//! Names the commit that the program is built from, if it is built from a git checkout: read from git's files, without git.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Characters of a commit that are shown.
const SHOWN: usize = 10;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../..");
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let version = match git_dir(&root.join(".git")).and_then(|dir| commit(&dir)) {
        Some(commit) => format!("{version} ({})", &commit[..SHOWN]),
        None => version,
    };
    println!("cargo::rustc-env=KOAN_VERSION={version}");
}

/// Git's directory: `.git`, or where the file `.git` of a worktree or a submodule says.
fn git_dir(dot_git: &Path) -> Option<PathBuf> {
    if dot_git.is_dir() {
        return Some(dot_git.to_owned());
    }
    let file = fs::read_to_string(dot_git).ok()?;
    Some(dot_git.parent()?.join(file.strip_prefix("gitdir:")?.trim()))
}

/// The commit of HEAD. Cargo runs this again when a file that says so changes.
fn commit(git: &Path) -> Option<String> {
    let head = watched(&git.join("HEAD"))?;
    let Some(name) = head.strip_prefix("ref:").map(str::trim) else { return hash(&head) };
    // A worktree's branches are in the directory that all worktrees share.
    let common = fs::read_to_string(git.join("commondir")).map_or(git.to_owned(), |dir| git.join(dir.trim()));
    if let Some(loose) = watched(&common.join(name)) {
        return hash(&loose);
    }
    // The next commit writes the branch's own file, below a directory that may be missing so far.
    let nearest = Path::new(name).ancestors().map(|dir| common.join(dir)).find(|dir| dir.is_dir())?;
    println!("cargo::rerun-if-changed={}", nearest.display());
    let packed = watched(&common.join("packed-refs"))?;
    packed.lines().find_map(|line| hash(line.strip_suffix(name)?))
}

/// The text of a file, which is watched from now on if it is there: Cargo takes one that is missing for changed each time.
fn watched(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    println!("cargo::rerun-if-changed={}", path.display());
    Some(text)
}

fn hash(text: &str) -> Option<String> {
    let hash = text.trim();
    (hash.len() >= 40 && hash.bytes().all(|b| b.is_ascii_hexdigit())).then(|| hash.to_owned())
}
