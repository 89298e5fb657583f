//! A page cut into tags and text, in one pass over its bytes: each byte is looked at a bounded number of times, whatever the page.

use memchr::{memchr, memchr_iter, memmem};

use super::tags::Tag;

/// A tag or a run of text, as it stands in the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A start tag; its attributes are in [`Tokens::attributes`] until the next one.
    Start {
        tag: Tag,
        self_closing: bool,
    },
    End(Tag),
    /// Text with character references.
    Text(&'a str),
    /// Text without: the content of `script` and the like, CDATA.
    Raw(&'a str),
}

/// An attribute as it stands in the page: its name in any case, its value with character references.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attribute<'a> {
    pub(super) name: &'a str,
    pub(super) value: &'a str,
}

/// The tokens of a page.
pub(super) struct Tokens<'a> {
    page: &'a str,
    at: usize,
    /// The element whose raw content comes next.
    raw: Option<(Tag, &'a str)>,
    /// Of the last start tag, as many as are kept.
    pub(super) attributes: Vec<Attribute<'a>>,
    max_attributes: usize,
    /// Whether `<![CDATA[` starts text: in MathML and SVG.
    pub(super) cdata: bool,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(page: &'a str, max_attributes: usize) -> Self {
        Self { page, at: 0, raw: None, attributes: Vec::new(), max_attributes, cdata: false }
    }

    /// The next token.
    pub(super) fn next(&mut self) -> Option<Token<'a>> {
        if let Some((tag, name)) = self.raw.take() {
            let content = self.raw_content(name);
            if !content.is_empty() {
                return Some(if tag == Tag::Title || tag == Tag::Textarea {
                    Token::Text(content)
                } else {
                    Token::Raw(content)
                });
            }
        }
        loop {
            let rest = &self.page[self.at..];
            let bytes = rest.as_bytes();
            if bytes.is_empty() {
                return None;
            }
            if bytes[0] != b'<' || !starts_markup(bytes) {
                let next = memchr_iter(b'<', &bytes[1..]).find(|next| starts_markup(&bytes[1 + next..]));
                let length = next.map_or(bytes.len(), |next| 1 + next);
                self.at += length;
                return Some(Token::Text(&rest[..length]));
            }
            match bytes[1] {
                b'!' if bytes.starts_with(b"<!--") => self.at += comment(bytes),
                b'!' if self.cdata && bytes.starts_with(b"<![CDATA[") => {
                    let end = memmem::find(bytes, b"]]>").unwrap_or(bytes.len());
                    self.at += (end + 3).min(bytes.len());
                    return Some(Token::Raw(&rest[9.min(end)..end]));
                }
                b'/' if bytes[2].is_ascii_alphabetic() => return Some(self.end_tag()),
                b'!' | b'?' | b'/' => self.at += memchr(b'>', bytes).map_or(bytes.len(), |end| end + 1),
                _ => return Some(self.start_tag()),
            }
        }
    }

    fn end_tag(&mut self) -> Token<'a> {
        let start = self.at + 2;
        let name = self.name(start);
        let bytes = &self.page.as_bytes()[self.at..];
        self.at += memchr(b'>', bytes).map_or(bytes.len(), |end| end + 1);
        Token::End(Tag::of(name))
    }

    fn start_tag(&mut self) -> Token<'a> {
        let name = self.name(self.at + 1);
        let tag = Tag::of(name);
        self.at += 1 + name.len();
        let self_closing = self.read_attributes();
        if tag.is_raw() && !(self_closing && self.cdata) {
            self.raw = Some((tag, name));
        } else if tag == Tag::Plaintext {
            self.raw = Some((tag, "plaintext"));
        }
        Token::Start { tag, self_closing }
    }

    /// Reads the attributes behind a tag's name and the `>`; whether there was a `/` before it.
    fn read_attributes(&mut self) -> bool {
        self.attributes.clear();
        let bytes = self.page.as_bytes();
        let mut at = self.at;
        let mut slash = false;
        loop {
            match bytes.get(at) {
                None => break,
                Some(b'>') => {
                    at += 1;
                    break;
                }
                Some(b'/') => {
                    slash = true;
                    at += 1;
                    continue;
                }
                Some(b) if b.is_ascii_whitespace() => {
                    at += 1;
                    continue;
                }
                Some(_) => slash = false,
            }
            let start = at;
            at += 1; // An attribute's name may begin with `=`.
            while bytes.get(at).is_some_and(|b| !matches!(b, b'=' | b'>' | b'/') && !b.is_ascii_whitespace())
            {
                at += 1;
            }
            let name = start..at;
            let mut value = at..at;
            let mut ahead = at;
            while bytes.get(ahead).is_some_and(u8::is_ascii_whitespace) {
                ahead += 1;
            }
            if bytes.get(ahead) == Some(&b'=') {
                at = ahead + 1;
                while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
                    at += 1;
                }
                if let Some(&quote @ (b'"' | b'\'')) = bytes.get(at) {
                    let end = memchr(quote, &bytes[at + 1..]).map_or(bytes.len(), |end| at + 1 + end);
                    value = at + 1..end;
                    at = (end + 1).min(bytes.len());
                } else {
                    let start = at;
                    while bytes.get(at).is_some_and(|b| *b != b'>' && !b.is_ascii_whitespace()) {
                        at += 1;
                    }
                    value = start..at;
                }
            } else {
                at = ahead;
            }
            if self.attributes.len() < self.max_attributes {
                // The ends are beside ASCII, so they cut no character.
                if let (Some(name), Some(value)) = (self.page.get(name), self.page.get(value)) {
                    self.attributes.push(Attribute { name, value });
                }
            }
        }
        self.at = at;
        slash
    }

    /// The name that begins at `start`.
    fn name(&self, start: usize) -> &'a str {
        let rest = &self.page[start..];
        let end = rest
            .bytes()
            .position(|b| b.is_ascii_whitespace() || b == b'/' || b == b'>')
            .unwrap_or(rest.len());
        &rest[..end]
    }

    /// The text up to the end tag of `name`.
    fn raw_content(&mut self, name: &str) -> &'a str {
        let rest = &self.page[self.at..];
        let bytes = rest.as_bytes();
        let mut from = 0;
        let end = loop {
            let Some(open) = memmem::find(&bytes[from..], b"</") else { break bytes.len() };
            from += open + 2;
            let Some(candidate) = bytes.get(from..from + name.len()) else { break bytes.len() };
            let after = bytes.get(from + name.len());
            if candidate.eq_ignore_ascii_case(name.as_bytes())
                && after.is_none_or(|b| b.is_ascii_whitespace() || matches!(b, b'/' | b'>'))
            {
                break from - 2;
            }
        };
        self.at += end;
        &rest[..end]
    }
}

/// Whether `<` at the beginning of `bytes` starts a tag or a comment.
fn starts_markup(bytes: &[u8]) -> bool {
    match bytes.get(1) {
        Some(b'!' | b'?') => true,
        Some(b'/') => bytes.get(2).is_some(),
        Some(b) => b.is_ascii_alphabetic(),
        None => false,
    }
}

/// The bytes of the comment that begins `bytes`.
fn comment(bytes: &[u8]) -> usize {
    if bytes[4..].starts_with(b">") {
        return 5;
    }
    if bytes[4..].starts_with(b"->") {
        return 6;
    }
    let mut from = 4;
    while let Some(dashes) = memmem::find(&bytes[from..], b"--") {
        from += dashes + 2;
        match bytes[from..] {
            [b'>', ..] => return from + 1,
            [b'!', b'>', ..] => return from + 2,
            _ => from -= 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::{Tag, Token, Tokens};

    fn tokens(page: &str) -> Vec<Token<'_>> {
        let mut tokens = Tokens::new(page, 8);
        std::iter::from_fn(|| tokens.next()).collect()
    }

    #[test]
    fn tags_text_and_comments() {
        assert_eq!(
            tokens("a<!-- <b> --->b<P class=x>c</p >1 < 2<br/><!doctype html>"),
            [
                Token::Text("a"),
                Token::Text("b"),
                Token::Start { tag: Tag::P, self_closing: false },
                Token::Text("c"),
                Token::End(Tag::P),
                Token::Text("1 < 2"),
                Token::Start { tag: Tag::Br, self_closing: true },
            ]
        );
        assert_eq!(tokens("<!-->x<!--->y<!--"), [Token::Text("x"), Token::Text("y")]);
        assert_eq!(tokens("x<"), [Token::Text("x<")]);
        assert_eq!(tokens("x</"), [Token::Text("x</")]);
        assert_eq!(tokens("</>x<3"), [Token::Text("x<3")]);
    }

    #[test]
    fn scripts_end_at_their_own_end_tag() {
        assert_eq!(
            tokens("<script>if (a</b>c) '</scripty>'</SCRIPT x>d<title>&lt;<b></title>"),
            [
                Token::Start { tag: Tag::Script, self_closing: false },
                Token::Raw("if (a</b>c) '</scripty>'"),
                Token::End(Tag::Script),
                Token::Text("d"),
                Token::Start { tag: Tag::Title, self_closing: false },
                Token::Text("&lt;<b>"),
                Token::End(Tag::Title),
            ]
        );
        assert_eq!(tokens("<style>never ends").len(), 2);
    }

    #[test]
    fn attributes_of_every_form() {
        let mut tokens = Tokens::new(r#"<img a b=1 c = "2 >" d='é' =e="f"/><p x>"#, 8);
        assert_eq!(tokens.next(), Some(Token::Start { tag: Tag::Img, self_closing: true }));
        let read: Vec<_> = tokens.attributes.iter().map(|a| (a.name, a.value)).collect();
        assert_eq!(read, [("a", ""), ("b", "1"), ("c", "2 >"), ("d", "é"), ("=e", "f")]);
        assert_eq!(tokens.next(), Some(Token::Start { tag: Tag::P, self_closing: false }));
        assert_eq!(tokens.attributes.len(), 1);
        assert_eq!(Tokens::new("<p a='", 8).next(), Some(Token::Start { tag: Tag::P, self_closing: false }));
    }
}
