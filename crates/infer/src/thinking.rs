//! Which part of a reply is thinking: from `<think>` to `</think>`, while the text comes in pieces.

/// What thinking begins with.
const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// A piece of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Whether it belongs to the thinking, as the tags do.
    pub thinking: bool,
    /// Its text.
    pub text: String,
}

/// Tells thinking from the answer.
#[derive(Clone, Debug)]
pub struct Thinking {
    inside: bool,
    /// Text that may be the beginning of a tag.
    held: String,
}

impl Thinking {
    /// At the beginning of the reply to `prompt`: some templates open the thinking themselves.
    pub fn after(prompt: &str) -> Self {
        Self { inside: prompt.trim_end().ends_with(OPEN), held: String::new() }
    }

    /// Takes text; gives what is certain of it and of what was held.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held += text;
        let mut pieces = Vec::new();
        loop {
            let tag = if self.inside { CLOSE } else { OPEN };
            let Some(at) = self.held.find(tag) else { break };
            let end = if self.inside { at + tag.len() } else { at };
            pieces.push(self.take(end));
            self.inside = !self.inside;
            if self.inside {
                pieces.push(self.take(OPEN.len()));
            }
        }
        let tag = if self.inside { CLOSE } else { OPEN };
        let kept = (1..tag.len()).rev().find(|&n| self.held.ends_with(&tag[..n])).unwrap_or(0);
        pieces.push(self.take(self.held.len() - kept));
        pieces.retain(|piece| !piece.text.is_empty());
        pieces
    }

    /// What was held, when no more comes.
    pub fn finish(mut self) -> Option<Piece> {
        Some(self.take(self.held.len())).filter(|piece| !piece.text.is_empty())
    }

    /// The first `n` bytes held, as a piece.
    fn take(&mut self, n: usize) -> Piece {
        let rest = self.held.split_off(n);
        Piece { thinking: self.inside, text: std::mem::replace(&mut self.held, rest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(prompt: &str, text: &str, size: usize) -> (String, String) {
        let mut thinking = Thinking::after(prompt);
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
        let pieces = pieces.into_iter().map(|p| std::str::from_utf8(p).expect("ASCII"));
        let mut all: Vec<_> = pieces.flat_map(|piece| thinking.push(piece)).collect();
        all.extend(thinking.finish());
        let of = |thinking| all.iter().filter(|p| p.thinking == thinking).map(|piece| &*piece.text).collect();
        (of(false), of(true))
    }

    #[test]
    fn thinking_is_kept_apart_from_the_answer_however_the_text_is_cut() {
        for size in 1..30 {
            let whole = shown("", "a <think>b < c</think>d </think> <th", size);
            assert_eq!(whole, ("a d </think> <th".to_owned(), "<think>b < c</think>".to_owned()));
            let opened = shown("Assistant: <think>\n", "b</think>\nc<think>", size);
            assert_eq!(opened, ("\nc".to_owned(), "b</think><think>".to_owned()));
        }
    }
}
