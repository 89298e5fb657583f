//! A reply as the API has it: its thinking, its content, and the calls of tools in it, while its text comes in pieces.

use serde_json::{Map, Value};

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";
const OPEN_CALL: &str = "<tool_call>";
const CLOSE_CALL: &str = "</tool_call>";

/// What a piece of text adds to a reply.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Parts {
    pub(crate) reasoning: String,
    pub(crate) content: String,
    pub(crate) calls: Vec<Call>,
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// A JSON object.
    pub(crate) arguments: String,
}

impl Parts {
    pub(crate) fn is_empty(&self) -> bool {
        self.reasoning.is_empty() && self.content.is_empty() && self.calls.is_empty()
    }

    /// Adds what comes after.
    pub(crate) fn add(&mut self, more: Self) {
        self.reasoning += &more.reasoning;
        self.content += &more.content;
        self.calls.extend(more.calls);
    }
}

/// Where a reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but white space was said, and the model may think.
    Start,
    /// In the thinking; at its very beginning if nothing of it was given out.
    Thinking { began: bool },
    /// In the answer; if it comes after thinking, line breaks before it are left out.
    Answer { began: bool },
    /// Within the tags of a call.
    Call,
}

/// Tells the parts of a reply from one another. Thinking is what a reply begins with; tags that come later are content.
#[derive(Clone, Debug)]
pub(crate) struct Splitter {
    state: State,
    reads_calls: bool,
    held: String,
}

impl Splitter {
    /// For a model that `thinks`, or not; `opened`: the prompt ends within the thinking. Calls are read where `reads_calls`.
    pub(crate) fn new(thinks: bool, opened: bool, reads_calls: bool) -> Self {
        let state = match (thinks, opened) {
            (true, true) => State::Thinking { began: false },
            (true, false) => State::Start,
            (false, _) => State::Answer { began: true },
        };
        Self { state, reads_calls, held: String::new() }
    }

    /// Whether the text so far ends within the thinking.
    pub(crate) fn is_thinking(&self) -> bool {
        matches!(self.state, State::Thinking { .. })
    }

    /// Takes text; gives what is certain of it and of what was held.
    pub(crate) fn push(&mut self, text: &str) -> Parts {
        self.held += text;
        let mut parts = Parts::default();
        while self.step(&mut parts) {}
        parts
    }

    /// What was held, when no more comes.
    pub(crate) fn finish(mut self) -> Parts {
        let mut parts = Parts::default();
        match self.state {
            State::Start | State::Answer { .. } => parts.content = std::mem::take(&mut self.held),
            State::Thinking { .. } => self.held.trim_end_matches('\n').clone_into(&mut parts.reasoning),
            // A call that was cut off, or whose end the model forgot.
            State::Call => match read_call(&self.held) {
                Some(call) => parts.calls.push(call),
                None => parts.content = format!("{OPEN_CALL}{}", self.held),
            },
        }
        parts
    }

    /// Moves on by one tag, or gives out what is certain; whether there is more to do.
    fn step(&mut self, parts: &mut Parts) -> bool {
        match self.state {
            State::Start => {
                let said = self.held.trim_start();
                if let Some(rest) = said.strip_prefix(OPEN) {
                    self.held = rest.to_owned();
                    self.state = State::Thinking { began: false };
                    true
                } else if OPEN.starts_with(said) {
                    false // it may yet become the tag
                } else {
                    self.state = State::Answer { began: true };
                    true
                }
            }
            State::Thinking { began } => {
                let began = began || !self.skip_line_breaks();
                if let Some(at) = self.held.find(CLOSE) {
                    parts.reasoning += self.held[..at].trim_end_matches('\n');
                    self.held.drain(..at + CLOSE.len());
                    self.state = State::Answer { began: false };
                    return true;
                }
                // Line breaks before the tag are no part of the thinking.
                let kept = without_beginning(&self.held, CLOSE).trim_end_matches('\n').len();
                parts.reasoning.extend(self.held.drain(..kept));
                self.state = State::Thinking { began };
                false
            }
            State::Answer { began } => {
                let began = began || !self.skip_line_breaks();
                self.state = State::Answer { began };
                if !self.reads_calls {
                    parts.content += &std::mem::take(&mut self.held);
                    return false;
                }
                if let Some(at) = self.held.find(OPEN_CALL) {
                    parts.content += self.held[..at].trim_end_matches('\n');
                    self.held.drain(..at + OPEN_CALL.len());
                    self.state = State::Call;
                    return true;
                }
                let kept = without_beginning(&self.held, OPEN_CALL).trim_end_matches('\n').len();
                parts.content.extend(self.held.drain(..kept));
                false
            }
            State::Call => {
                let Some(at) = self.held.find(CLOSE_CALL) else { return false };
                match read_call(&self.held[..at]) {
                    Some(call) => parts.calls.push(call),
                    None => parts.content.extend([OPEN_CALL, &self.held[..at], CLOSE_CALL]),
                }
                self.held.drain(..at + CLOSE_CALL.len());
                self.state = State::Answer { began: false };
                true
            }
        }
    }

    /// Leaves line breaks out at the beginning; whether that was all there is.
    fn skip_line_breaks(&mut self) -> bool {
        let said = self.held.trim_start_matches('\n').len();
        self.held.drain(..self.held.len() - said);
        self.held.is_empty()
    }
}

/// `text` without what may be the beginning of `tag` at its end.
fn without_beginning<'t>(text: &'t str, tag: &str) -> &'t str {
    let kept = (1..tag.len()).rev().find(|&n| text.ends_with(&tag[..n])).unwrap_or(0);
    &text[..text.len() - kept]
}

/// Reads `{"name": …, "arguments": {…}}`.
fn read_call(text: &str) -> Option<Call> {
    let mut call: Map<String, Value> = serde_json::from_str(text.trim()).ok()?;
    let name = call.get("name")?.as_str()?.to_owned();
    let arguments = match call.remove("arguments").or_else(|| call.remove("parameters")) {
        None => "{}".to_owned(),
        Some(Value::String(text)) => text,
        Some(arguments @ Value::Object(_)) => arguments.to_string(),
        Some(_) => return None,
    };
    Some(Call { name, arguments })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(splitter: &Splitter, text: &str, size: usize) -> Parts {
        let mut splitter = splitter.clone();
        let mut all = Parts::default();
        let chars: Vec<char> = text.chars().collect();
        for piece in chars.chunks(size) {
            all.add(splitter.push(&piece.iter().collect::<String>()));
        }
        all.add(splitter.finish());
        all
    }

    fn parts(reasoning: &str, content: &str, calls: &[(&str, &str)]) -> Parts {
        let call =
            |(name, arguments): &(&str, &str)| Call { name: (*name).into(), arguments: (*arguments).into() };
        Parts {
            reasoning: reasoning.into(),
            content: content.into(),
            calls: calls.iter().map(call).collect(),
        }
    }

    #[test]
    fn parts_are_told_apart_however_the_text_is_cut() {
        let cases = [
            (
                true,
                false,
                "<think>\na < b\n\nc\n</think>\n\nd <think>e</think>",
                parts("a < b\n\nc", "d <think>e</think>", &[]),
            ),
            (true, true, "\na</think>b\n", parts("a", "b\n", &[])),
            (true, false, " \nplain <thin", parts("", " \nplain <thin", &[])),
            (true, false, "<think>cut\n</thi", parts("cut\n</thi", "", &[])),
            (true, false, "<thin", parts("", "<thin", &[])),
            (false, false, "<think>a</think>\n", parts("", "<think>a</think>\n", &[])),
        ];
        for (thinks, opened, text, wanted) in cases {
            for size in 1..20 {
                assert_eq!(
                    split(&Splitter::new(thinks, opened, false), text, size),
                    wanted,
                    "{text} by {size}"
                );
            }
        }
    }

    #[test]
    fn calls_are_read_and_what_is_none_stays_text() {
        let cases = [
            (
                "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>\n<tool_call>{\"name\": \"g\"}</tool_call>",
                parts("", "Let me see.", &[("f", "{\"a\":1}"), ("g", "{}")]),
            ),
            ("<tool_call>not JSON</tool_call>", parts("", "<tool_call>not JSON</tool_call>", &[])),
            ("<tool_call>{\"name\": \"f\", \"arguments\": {}}", parts("", "", &[("f", "{}")])),
            ("<tool_call>{\"name\": 1}", parts("", "<tool_call>{\"name\": 1}", &[])),
            ("a < b <tool", parts("", "a < b <tool", &[])),
        ];
        for (text, wanted) in cases {
            for size in 1..20 {
                assert_eq!(split(&Splitter::new(false, false, true), text, size), wanted, "{text} by {size}");
            }
        }
    }
}
