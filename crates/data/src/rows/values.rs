//! JSON values one after another: the elements of one array, or objects that span lines. Each is found by its brackets and
//! handed on as it stands, so that an array of any length needs the memory of one element.

use koan_files::jsonl::{LineError, Numbered};
use std::io::{self, BufRead};

/// Why there are no more values.
pub(super) enum Wrong {
    Read(io::Error),
    Json(String),
}

/// The values of a text.
pub(super) struct Values<R> {
    input: R,
    limit: usize,
    is_array: bool,
    /// Bytes read.
    at: u64,
    number: usize,
    is_over: bool,
}

impl<R: BufRead> Values<R> {
    /// The elements of the array that `input` is.
    pub(super) fn array(input: R, limit: usize) -> Self {
        Self { input, limit, is_array: true, at: 0, number: 0, is_over: false }
    }

    /// The objects of which `input` is a sequence.
    pub(super) fn objects(input: R, limit: usize) -> Self {
        Self { is_array: false, ..Self::array(input, limit) }
    }

    /// The next byte that is not blank; it is not read.
    fn peek(&mut self) -> Result<Option<u8>, Wrong> {
        loop {
            let buffer = self.input.fill_buf().map_err(Wrong::Read)?;
            if buffer.is_empty() {
                return Ok(None);
            }
            let blank = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let found = buffer.get(blank).copied();
            self.consume(blank);
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.input.consume(bytes);
        self.at += bytes as u64;
    }

    fn wrong(&self, what: &str) -> Wrong {
        Wrong::Json(format!("at byte {}, {what}", self.at))
    }

    fn read(&mut self) -> Result<Option<Numbered>, Wrong> {
        const CUT: &str = "the file ends before its array does";
        if self.is_over {
            return Ok(None);
        }
        if self.is_array {
            if self.number == 0 {
                self.peek()?;
                self.consume(1); // the bracket by which it was found to be an array
            }
            match self.peek()?.ok_or_else(|| self.wrong(CUT))? {
                b']' => {
                    self.consume(1);
                    return match self.peek()? {
                        None => Ok(None),
                        Some(_) => Err(self
                            .wrong("something follows the array; write one object per line, or one array")),
                    };
                }
                b',' if self.number > 0 => self.consume(1),
                _ if self.number > 0 => return Err(self.wrong("there is no comma after a row")),
                _ => {}
            }
        }
        match (self.peek()?, self.is_array) {
            (None, false) => return Ok(None),
            (None, true) => return Err(self.wrong(CUT)),
            (Some(b',' | b']' | b'}' | b':'), _) => return Err(self.wrong("a row is missing")),
            (Some(_), _) => {}
        }
        self.number += 1;
        Ok(Some((self.number, self.value()?)))
    }

    /// Reads a value.
    fn value(&mut self) -> Result<Result<Vec<u8>, LineError>, Wrong> {
        let (mut scan, mut value, mut is_long) = (Scan::default(), Vec::new(), false);
        loop {
            let buffer = self.input.fill_buf().map_err(Wrong::Read)?;
            if buffer.is_empty() {
                if scan.is_open() {
                    return Err(self.wrong("the file ends within a row: it is cut"));
                }
                break;
            }
            let (n, ended) = scan.run(buffer);
            is_long |= value.len() + n > self.limit;
            if !is_long {
                value.extend_from_slice(&buffer[..n]);
            }
            self.consume(n);
            if ended {
                break;
            }
        }
        Ok(if is_long { Err(LineError::TooLong) } else { Ok(value) })
    }
}

impl<R: BufRead> Iterator for Values<R> {
    type Item = Result<Numbered, Wrong>;

    fn next(&mut self) -> Option<Self::Item> {
        let value = self.read().transpose();
        self.is_over = !matches!(value, Some(Ok(_)));
        value
    }
}

/// Whether `text` is a value with all its brackets closed, and nothing more but blanks.
pub(super) fn is_whole(text: &[u8]) -> bool {
    let mut scan = Scan::default();
    let (n, ended) = scan.run(text.trim_ascii_start());
    let rest = text.trim_ascii_start().len() - n;
    ended && !scan.is_open() && text[text.len() - rest..].trim_ascii().is_empty()
}

/// Where a value ends: after its last bracket, or its closing quote; a number or word before what can't be part of it.
#[derive(Default)]
struct Scan {
    depth: usize,
    in_text: bool,
    escaped: bool,
    in_word: bool,
}

impl Scan {
    fn is_open(&self) -> bool {
        self.depth > 0 || self.in_text
    }

    /// How many bytes of `bytes` belong to the value, and whether it ends there.
    fn run(&mut self, bytes: &[u8]) -> (usize, bool) {
        for (i, &byte) in bytes.iter().enumerate() {
            if self.in_text {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => {
                        self.in_text = false;
                        if self.depth == 0 {
                            return (i + 1, true);
                        }
                    }
                    _ => {}
                }
                continue;
            }
            match byte {
                b',' | b']' | b'}' | b'{' | b'[' | b'"' | b' ' | b'\t' | b'\r' | b'\n'
                    if self.in_word && self.depth == 0 =>
                {
                    return (i, true);
                }
                b'"' => self.in_text = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return (i + 1, true);
                    }
                }
                _ => self.in_word = self.depth == 0,
            }
        }
        (bytes.len(), false)
    }
}
