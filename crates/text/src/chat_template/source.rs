//! A template's source, made ready for the engine: what it parses differently from Jinja2 is rewritten, and what is nested
//! too deeply is refused before its parser recurses.
//!
//! | written | becomes |
//! |---|---|
//! | `a % b` | `a \| koan_modulo(b)`: in Python `%` formats strings too |
//! | `+a` | `a` |
//! | `\U0001F600` in a string | the character |
//! | `{% generation %}`, which marks what the assistant says | `{% if true %}` |
//! | `{% set a = b %}` | `{% set a = (b) \| koan_kept %}`, which bounds how deeply values are nested |

use std::fmt::Write as _;

use minijinja::{Error, ErrorKind};

/// Operators, calls and brackets that an expression may nest, and as many that may follow one another.
const MAX_EXPRESSION_DEPTH: usize = 400;
/// Blocks that may be open at once; an `elif` counts as one.
const MAX_BLOCK_DEPTH: usize = 100;
/// The filter that stands for `%`.
pub(super) const MODULO: &str = "koan_modulo";
/// The filter that every assigned value passes.
pub(super) const KEPT: &str = "koan_kept";

/// The source that the engine is to compile.
pub(super) fn prepare(source: &str) -> Result<String, Error> {
    let mut out = String::new();
    let (mut at, mut blocks) = (0, Vec::new());
    while let Some(open) = next_tag(source, at) {
        out += &source[at..open];
        let refuse = |what: &str| {
            let line = source[..open].matches('\n').count() + 1;
            Err(Error::new(ErrorKind::SyntaxError, format!("{what}, in the tag of line {line}")))
        };
        if source[open..].starts_with("{#") {
            let end = source[open..].find("#}").map_or(source.len(), |n| open + n + 2);
            out += &source[open..end];
            at = end;
            continue;
        }
        let tag = Tag::read(source, open);
        at = tag.end;
        let Some(depth) = tag.depth() else {
            return refuse(&format!("an expression nests more than {MAX_EXPRESSION_DEPTH} operators"));
        };
        if depth > MAX_EXPRESSION_DEPTH {
            return refuse(&format!("an expression nests more than {MAX_EXPRESSION_DEPTH} operators"));
        }
        out += &tag.rewritten();
        if !tag.is_block() {
            continue;
        }
        let name = tag.tokens.first().map_or("", |token| token.text);
        match name {
            "raw" => {
                let end = end_of_raw(source, at);
                out += &source[at..end];
                at = end;
            }
            "if" | "for" | "macro" | "call" | "filter" | "with" | "block" | "autoescape" | "generation" => {
                blocks.push(1);
            }
            "set" if tag.assigned().is_none() => blocks.push(1),
            "elif" => {
                if let Some(last) = blocks.last_mut() {
                    *last += 1;
                }
            }
            _ if name.starts_with("end") => {
                blocks.pop();
            }
            _ => {}
        }
        if blocks.iter().sum::<usize>() > MAX_BLOCK_DEPTH {
            return refuse(&format!("more than {MAX_BLOCK_DEPTH} blocks are nested"));
        }
    }
    Ok(out + &source[at..])
}

/// Where the next tag or comment opens.
fn next_tag(source: &str, from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(n) = source[at..].find('{') {
        if matches!(source.as_bytes().get(at + n + 1), Some(b'{' | b'%' | b'#')) {
            return Some(at + n);
        }
        at += n + 1;
    }
    None
}

/// Where the tag that ends a raw block opens, or the end.
fn end_of_raw(source: &str, from: usize) -> usize {
    let mut at = from;
    while let Some(n) = source[at..].find("{%") {
        let inside = source[at + n + 2..].trim_start_matches(['-', '+']).trim_start();
        if inside.starts_with("endraw") {
            return at + n;
        }
        at += n + 2;
    }
    source.len()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Name,
    Operator,
    Open,
    Close,
}

/// A token of a tag, and where it lies in the source.
#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
    start: usize,
}

impl Token<'_> {
    fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Whether a value may end with it.
    fn ends_operand(&self) -> bool {
        const WORDS: [&str; 8] = ["and", "or", "not", "in", "is", "if", "else", "recursive"];
        match self.kind {
            Kind::Text | Kind::Number | Kind::Close => true,
            Kind::Name => !WORDS.contains(&self.text),
            Kind::Operator | Kind::Open => false,
        }
    }

    fn is(&self, text: &str) -> bool {
        self.text == text && matches!(self.kind, Kind::Operator | Kind::Name)
    }
}

/// `{{ … }}` or `{% … %}`.
struct Tag<'a> {
    source: &'a str,
    start: usize,
    end: usize,
    tokens: Vec<Token<'a>>,
}

impl<'a> Tag<'a> {
    /// The tag that opens at `start`, up to its end or, if it has none, the source's.
    fn read(source: &'a str, start: usize) -> Self {
        let close = if source[start..].starts_with("{{") { "}}" } else { "%}" };
        let (mut tokens, mut open) = (Vec::new(), 0_usize);
        let mut at = start + 2;
        if matches!(source.as_bytes().get(at), Some(b'-' | b'+')) {
            at += 1;
        }
        while let Some(c) = source[at..].chars().next() {
            let rest = &source[at..];
            let is_end = |text: &str| text.starts_with(close);
            if open == 0 && (is_end(rest) || matches!(c, '-' | '+') && is_end(&rest[1..])) {
                let end = at + rest.find(close).unwrap_or(0) + 2;
                return Self { source, start, end, tokens };
            }
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let length = |holds: &dyn Fn(char) -> bool| rest.find(|c| !holds(c)).unwrap_or(rest.len());
            let (kind, n) = match c {
                _ if c.is_whitespace() => {
                    at += c.len_utf8();
                    continue;
                }
                '"' | '\'' => (Kind::Text, text_length(rest)),
                '0'..='9' => (Kind::Number, number_length(rest)),
                _ if is_word(c) => (Kind::Name, length(&is_word)),
                '(' | '[' | '{' => (Kind::Open, 1),
                ')' | ']' | '}' => (Kind::Close, 1),
                '/' | '*' if rest[1..].starts_with(c) => (Kind::Operator, 2),
                '=' | '!' | '<' | '>' if rest[1..].starts_with('=') => (Kind::Operator, 2),
                _ => (Kind::Operator, c.len_utf8()),
            };
            match kind {
                Kind::Open => open += 1,
                Kind::Close => open = open.saturating_sub(1),
                _ => {}
            }
            tokens.push(Token { kind, text: &rest[..n], start: at });
            at += n;
        }
        Self { source, start, end: source.len(), tokens }
    }

    fn is_block(&self) -> bool {
        self.source[self.start..].starts_with("{%")
    }

    /// How deeply what the tag says is nested, at most: a chain of operators nests as a bracket does. None: beyond all limits.
    fn depth(&self) -> Option<usize> {
        /// Operators since the last comma, the deepest bracket among them, and the deepest element before.
        #[derive(Default)]
        struct Level(usize, usize, usize);
        let mut levels = vec![Level::default()];
        let mut before: Option<&Token> = None;
        for token in &self.tokens {
            let after_value = before.is_some_and(Token::ends_operand);
            before = Some(token);
            let bracketed = levels.len() > 1;
            let level = levels.last_mut()?;
            match token.kind {
                Kind::Open => {
                    level.0 += usize::from(after_value);
                    levels.push(Level::default());
                    if levels.len() > MAX_EXPRESSION_DEPTH {
                        return None;
                    }
                }
                Kind::Close if bracketed => {
                    let Level(chain, inner, most) = levels.pop()?;
                    let level = levels.last_mut()?;
                    level.1 = level.1.max(most.max(chain + inner) + 1);
                }
                Kind::Operator if token.text == "," => {
                    *level = Level(0, 0, level.2.max(level.0 + level.1));
                }
                Kind::Operator => level.0 += 1,
                Kind::Name if !token.ends_operand() => level.0 += 1,
                _ => {}
            }
        }
        Some(levels.iter().map(|Level(chain, inner, most)| (*most).max(chain + inner)).sum())
    }

    /// Where the value that a `{% set %}` assigns begins, and where it ends.
    fn assigned(&self) -> Option<(usize, usize)> {
        let first = self.tokens.first().filter(|first| self.is_block() && first.is("set"))?;
        let equals = self.tokens.iter().find(|token| token.is("="))?;
        // `{% set a | filter(b=1) %}` opens a block.
        let target = self.tokens.iter().skip(1).take_while(|token| token.start < equals.start);
        let plain = |token: &Token| !token.is("|");
        (equals.start > first.start && target.into_iter().all(plain))
            .then(|| (equals.end(), self.tokens[self.tokens.len() - 1].end().max(equals.end())))
    }

    /// Its text as the engine is to read it.
    fn rewritten(&self) -> String {
        // What replaces which bytes, in their order.
        let mut edits: Vec<(usize, usize, String)> = Vec::new();
        if let (true, Some(first)) = (self.is_block(), self.tokens.first()) {
            match first.text {
                "generation" => edits.push((first.start, first.end(), "if true".into())),
                "endgeneration" => edits.push((first.start, first.end(), "endif".into())),
                _ => {}
            }
        }
        let assigned = self.assigned();
        if let Some((from, to)) = assigned {
            edits.push((from, from, " (".into()));
            edits.push((to, to, format!(") | {KEPT}")));
        }
        for (i, token) in self.tokens.iter().enumerate() {
            let after_value = i > 0 && self.tokens[i - 1].ends_operand();
            if token.kind == Kind::Text && token.text.contains("\\U") {
                edits.push((token.start, token.end(), long_escapes(token.text)));
            } else if token.is("+") && !after_value {
                edits.push((token.start, token.end(), String::new()));
            } else if token.is("%") && after_value && self.takes_one_operand(i) {
                edits.push((token.start, token.end(), format!("| {MODULO}(")));
                let end = self.end_of_operand(i + 1);
                edits.push((end, end, ")".into()));
            }
        }
        // Of edits at one place, those of a `set` are outermost.
        let outer = assigned.map(|(_, to)| to);
        edits.sort_by_key(|(start, _, text)| (*start, outer == Some(*start) && text.starts_with(") |")));
        let (mut out, mut at) = (String::new(), self.start);
        for (start, end, text) in edits {
            out += &self.source[at..start];
            out += &text;
            at = end;
        }
        out + &self.source[at..self.end]
    }

    /// Whether what the operator `i` takes on its left is one operand with its filters, and no product or negative.
    fn takes_one_operand(&self, i: usize) -> bool {
        let mut at = i - 1;
        loop {
            if self.tokens[at].kind == Kind::Close {
                at = self.opening_bracket(at);
                if at > 0 && self.tokens[at - 1].ends_operand() {
                    at -= 1; // a call, or an element
                    continue;
                }
            }
            if at < 2 || !(self.tokens[at - 1].is(".") || self.tokens[at - 1].is("|")) {
                break;
            }
            at -= 2;
        }
        let Some(before) = at.checked_sub(1).map(|j| &self.tokens[j]) else { return true };
        let is_sign = || before.is("-") && !at.checked_sub(2).is_some_and(|j| self.tokens[j].ends_operand());
        !["*", "/", "//", "**"].contains(&before.text) && !is_sign()
    }

    /// Where the operand that begins with the token `i` ends, with its filters and tests.
    fn end_of_operand(&self, mut i: usize) -> usize {
        let token = |i: usize| self.tokens.get(i);
        let is = |i: usize, text: &str| token(i).is_some_and(|token| token.is(text));
        let has_kind = |i: usize, kind| token(i).is_some_and(|token| token.kind == kind);
        loop {
            while is(i, "-") || is(i, "+") {
                i += 1;
            }
            i = if has_kind(i, Kind::Open) { self.after_bracket(i) } else { i + 1 };
            while has_kind(i, Kind::Text) && has_kind(i - 1, Kind::Text) {
                i += 1;
            }
            loop {
                i = match token(i) {
                    Some(token) if token.kind == Kind::Open => self.after_bracket(i),
                    Some(token) if token.is(".") || token.is("|") => i + 2,
                    Some(token) if token.is("is") => i + 2 + usize::from(is(i + 1, "not")),
                    _ => break,
                };
            }
            if !is(i, "**") {
                break;
            }
            i += 1;
        }
        self.tokens[i.min(self.tokens.len()) - 1].end()
    }

    /// The token after the bracket that closes the one at `i`.
    fn after_bracket(&self, i: usize) -> usize {
        let mut open = 0_usize;
        for (n, token) in self.tokens.iter().enumerate().skip(i) {
            match token.kind {
                Kind::Open => open += 1,
                Kind::Close => open = open.saturating_sub(1),
                _ => {}
            }
            if open == 0 {
                return n + 1;
            }
        }
        self.tokens.len()
    }

    /// The bracket that opens what the one at `i` closes.
    fn opening_bracket(&self, i: usize) -> usize {
        let mut open = 0_usize;
        for (n, token) in self.tokens.iter().enumerate().take(i + 1).rev() {
            match token.kind {
                Kind::Close => open += 1,
                Kind::Open => open = open.saturating_sub(1),
                _ => {}
            }
            if open == 0 {
                return n;
            }
        }
        0
    }
}

/// Bytes of the string literal that `rest` begins with.
fn text_length(rest: &str) -> usize {
    let quote = rest.as_bytes()[0];
    let mut bytes = rest.bytes().enumerate().skip(1);
    while let Some((i, byte)) = bytes.next() {
        match byte {
            b'\\' => _ = bytes.next(),
            _ if byte == quote => return i + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Bytes of the number that `rest` begins with: digits, a fraction, an exponent.
fn number_length(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut n = 0;
    while let Some(&byte) = bytes.get(n) {
        let is_fraction = byte == b'.' && bytes.get(n + 1).is_some_and(u8::is_ascii_digit);
        let is_sign = matches!(byte, b'+' | b'-')
            && matches!(bytes[n - 1], b'e' | b'E')
            && !rest.starts_with("0x")
            && bytes.get(n + 1).is_some_and(u8::is_ascii_digit);
        if !(byte.is_ascii_alphanumeric() || byte == b'_' || is_fraction || is_sign) {
            break;
        }
        n += 1;
    }
    n
}

/// A string literal without escapes of eight digits.
fn long_escapes(literal: &str) -> String {
    let (mut out, mut rest) = (String::new(), literal);
    while let Some(at) = rest.find('\\') {
        out += &rest[..at];
        let escape = &rest[at..];
        let long = escape.strip_prefix("\\U").and_then(|digits| digits.get(..8));
        let long = long.and_then(|digits| u32::from_str_radix(digits, 16).ok()).and_then(char::from_u32);
        if let Some(c) = long {
            match u16::try_from(u32::from(c)) {
                Ok(unit) => _ = write!(out, "\\u{unit:04x}"), // to a string, which cannot fail
                Err(_) => out.push(c),
            }
            rest = &escape[10..];
        } else {
            let n = escape.chars().take(2).map(char::len_utf8).sum();
            out += &escape[..n];
            rest = &escape[n..];
        }
    }
    out + rest
}
