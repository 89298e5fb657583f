//! The lines of a file that is not trusted, and may still be being written.

use std::io::{self, BufRead};

use koan_files::jsonl::MAX_LINE_BYTES;

/// Calls `on` with each whole line, without its end, and the byte it starts at. A last line without an end is still being
/// written, and is skipped. Returns how many lines were too long; they are skipped too.
pub(crate) fn each_line(mut from: impl BufRead, mut on: impl FnMut(u64, &[u8])) -> io::Result<usize> {
    let (mut line, mut too_long, mut skipped) = (Vec::new(), false, 0);
    let (mut start, mut at) = (0, 0);
    loop {
        let part = from.fill_buf()?;
        if part.is_empty() {
            return Ok(skipped);
        }
        let end = part.iter().position(|&byte| byte == b'\n');
        let content = &part[..end.unwrap_or(part.len())];
        too_long |= line.len() + content.len() > MAX_LINE_BYTES;
        if !too_long {
            line.extend_from_slice(content);
        }
        let read = content.len() + usize::from(end.is_some());
        from.consume(read);
        at += read as u64;
        if end.is_some() {
            if too_long {
                skipped += 1;
            } else {
                on(start, &line);
            }
            (start, too_long) = (at, false);
            line.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_that_are_not_too_long_are_read() {
        let mut text = b"one\n\ntwo\n".to_vec();
        text.resize(text.len() + MAX_LINE_BYTES + 1, b'x');
        text.extend_from_slice(b"\nthree\nhalf");
        for capacity in [1 << 10, 1 << 16] {
            let mut lines = Vec::new();
            let from = io::BufReader::with_capacity(capacity, &text[..]);
            let skipped = each_line(from, |at, line| lines.push((at as usize, line.to_vec())));
            assert_eq!(skipped.expect("read"), 1);
            let words: Vec<&[u8]> = lines.iter().map(|(_, line)| &line[..]).collect();
            assert_eq!(words, [&b"one"[..], b"", b"two", b"three"]);
            assert!(lines.iter().all(|(at, line)| text[*at..].starts_with(line)));
        }
    }
}
