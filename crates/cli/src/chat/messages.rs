//! Where the messages of a conversation come from: an editor of lines on a terminal, plain lines elsewhere.

use std::{
    env, fs,
    io::{self, BufRead, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use koan_files::jsonl::MAX_LINE_BYTES;
use rustyline::{Config, DefaultEditor, error::ReadlineError};

/// Messages that the history keeps.
const HISTORY_ENTRIES: usize = 1000;
/// Longest message that it keeps, bytes: it is for recalling what was typed, not for files that were pasted.
const HISTORY_ENTRY_BYTES: usize = 4096;
/// Largest history that is read, bytes.
const HISTORY_BYTES: u64 = 2 * (HISTORY_ENTRIES * HISTORY_ENTRY_BYTES) as u64;

/// Messages of whoever talks.
pub(super) enum Messages {
    /// Typed on a terminal.
    Typed { editor: Box<DefaultEditor>, history: Option<PathBuf> },
    /// A message per line of standard input.
    Piped(io::StdinLock<'static>),
}

impl Messages {
    /// From a terminal, with the history of earlier conversations; or from standard input as it comes.
    pub(super) fn open(terminal: bool) -> anyhow::Result<Self> {
        if !terminal {
            return Ok(Self::Piped(io::stdin().lock()));
        }
        let config = Config::builder().max_history_size(HISTORY_ENTRIES)?.auto_add_history(false);
        let mut editor = Box::new(DefaultEditor::with_config(config.build())?);
        let history = history_file();
        if let Some(file) = &history
            && fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.len() <= HISTORY_BYTES)
        {
            let _ = editor.load_history(file); // talking matters more
        }
        Ok(Self::Typed { editor, history })
    }

    /// The next message, which may have several lines if it was pasted; none at the end.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<String>> {
        let (editor, history) = match self {
            Self::Typed { editor, history } => (editor, history),
            Self::Piped(input) => return line(input),
        };
        loop {
            match editor.readline("> ") {
                Ok(message) => {
                    if message.len() <= HISTORY_ENTRY_BYTES
                        && editor.add_history_entry(message.trim_end()).is_ok_and(|added| added)
                        && let Some(file) = history
                    {
                        let _ = editor.append_history(file);
                    }
                    return Ok(Some(message));
                }
                Err(ReadlineError::Interrupted) => note!("(/quit or Ctrl-D ends)"),
                Err(ReadlineError::Eof) => return Ok(None),
                Err(error) => return Err(error).context("cannot read from the terminal"),
            }
        }
    }
}

fn line(input: &mut impl BufRead) -> anyhow::Result<Option<String>> {
    let mut line = Vec::new();
    let limit = MAX_LINE_BYTES as u64 + 1;
    input.take(limit).read_until(b'\n', &mut line).context("cannot read standard input")?;
    ensure!(line.len() <= MAX_LINE_BYTES, "a line of standard input is longer than {MAX_LINE_BYTES} bytes");
    match String::from_utf8(line) {
        Ok(line) => Ok((!line.is_empty()).then_some(line)),
        Err(_) => bail!("a line of standard input is not UTF-8"),
    }
}

/// Where the history is kept: below `XDG_STATE_HOME`, in a folder that nobody else can read. None where that can't be made.
fn history_file() -> Option<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let folder = state.join("koan");
    private_folder(&folder).ok()?;
    let file = folder.join("chat_history");
    keep_private(&file).ok()?;
    Some(file)
}

#[cfg(unix)]
fn private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
fn private_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Takes from everybody else what they may do with an existing history; the editor makes a new one so.
#[cfg(unix)]
fn keep_private(file: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    if file.exists() { fs::set_permissions(file, fs::Permissions::from_mode(0o600)) } else { Ok(()) }
}

#[cfg(not(unix))]
fn keep_private(_: &Path) -> io::Result<()> {
    Ok(())
}
