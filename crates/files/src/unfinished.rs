//! What is being written and is not yet whole: a program that is asked to end at once removes it first.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file or directory that is being written beside its place; dropped, it is no longer on the list.
#[derive(Debug)]
pub(crate) struct Unfinished(PathBuf);

impl Unfinished {
    pub(crate) fn new(part: &Path) -> Self {
        unfinished().push(part.into());
        Self(part.into())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut all = unfinished();
        if let Some(place) = all.iter().position(|part| *part == self.0) {
            all.swap_remove(place);
        }
    }
}

/// Removes whatever is being written beside its place. For a program that ends at once: nothing new is begun afterwards,
/// and nothing is finished.
pub fn remove_unfinished() {
    let all = unfinished();
    for part in &*all {
        if part.is_dir() {
            // A thread that still writes into it may make a file meanwhile.
            let _ = fs::remove_dir_all(part).or_else(|_| fs::remove_dir_all(part));
        } else {
            let _ = fs::remove_file(part);
        }
    }
    std::mem::forget(all); // whoever would begin or finish something waits for the end
}
