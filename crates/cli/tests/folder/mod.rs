//! A folder with a tiny model, in which `koan` runs: what several of these test files share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use koan_model::testkit;

pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        testkit::write_model(&folder.at("model"), 4).expect("a model");
        folder
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).expect(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).expect("written");
    }

    pub(crate) fn koan(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_koan"));
        command.args(words.split_whitespace()).current_dir(self.0.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs to a good end: what is said on standard output, and on standard error.
    pub(crate) fn done(&self, words: &str) -> (String, String) {
        let output = self.koan(words).output().expect("started");
        assert!(output.status.success(), "koan {words}: {}", error(&output));
        (String::from_utf8_lossy(&output.stdout).into_owned(), error(&output))
    }

    pub(crate) fn refused(&self, words: &str) -> String {
        let output = self.koan(words).output().expect("started");
        assert!(!output.status.success(), "koan {words}");
        error(&output)
    }
}

pub(crate) fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
