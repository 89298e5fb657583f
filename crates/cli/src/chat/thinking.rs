//! Which part of a reply is thinking: from `<think>` to `</think>`, while the text comes in pieces.

/// What thinking begins with.
pub(super) const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// How a piece is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shade {
    Plain,
    Dim,
}

/// Tells thinking from the rest; the tags belong to the thinking.
pub(super) struct Thinking {
    inside: bool,
    /// Text that may be the beginning of a tag.
    held: String,
}

impl Thinking {
    /// At the beginning of a reply; `inside` if the prompt opened the thinking.
    pub(super) fn new(inside: bool) -> Self {
        Self { inside, held: String::new() }
    }

    fn shade(&self) -> Shade {
        if self.inside { Shade::Dim } else { Shade::Plain }
    }

    /// Takes text; gives what can be shown of it and of what was held.
    pub(super) fn push(&mut self, piece: &str) -> Vec<(Shade, String)> {
        self.held += piece;
        let mut out = Vec::new();
        loop {
            let tag = if self.inside { CLOSE } else { OPEN };
            let Some(at) = self.held.find(tag) else { break };
            let end = if self.inside { at + tag.len() } else { at };
            let rest = self.held.split_off(end);
            out.push((self.shade(), std::mem::replace(&mut self.held, rest)));
            self.inside = !self.inside;
            if self.inside {
                let rest = self.held.split_off(OPEN.len());
                out.push((Shade::Dim, std::mem::replace(&mut self.held, rest)));
            }
        }
        let tag = if self.inside { CLOSE } else { OPEN };
        let kept = (1..tag.len()).rev().find(|&n| self.held.ends_with(&tag[..n])).unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - kept);
        out.push((self.shade(), std::mem::replace(&mut self.held, rest)));
        out.retain(|(_, text)| !text.is_empty());
        out
    }

    /// What was held, when no more comes.
    pub(super) fn finish(self) -> Option<(Shade, String)> {
        let shade = self.shade();
        Some((shade, self.held)).filter(|(_, text)| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, piece: usize, inside: bool) -> (String, String) {
        let mut thinking = Thinking::new(inside);
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(piece).collect();
        let pieces = pieces.into_iter().map(|p| std::str::from_utf8(p).expect("ASCII"));
        let mut all: Vec<_> = pieces.flat_map(|piece| thinking.push(piece)).collect();
        all.extend(thinking.finish());
        let of = |shade| all.iter().filter(|(s, _)| *s == shade).map(|(_, text)| &**text).collect();
        (of(Shade::Plain), of(Shade::Dim))
    }

    #[test]
    fn thinking_is_told_from_the_answer_however_the_text_is_cut() {
        for piece in 1..30 {
            let whole = shown("a <think>b < c</think>d </think> <th", piece, false);
            assert_eq!(whole, ("a d </think> <th".to_owned(), "<think>b < c</think>".to_owned()));
            let opened = shown("b</think>\nc<think>", piece, true);
            assert_eq!(opened, ("\nc".to_owned(), "b</think><think>".to_owned()));
        }
    }
}
