//! Chat templates: a conversation as the text that a model was trained on.
//!
//! Templates are Jinja, rendered as Hugging Face transformers renders them: `trim_blocks`, `lstrip_blocks`,
//! Python's string methods, `break` and `continue`, `raise_exception`, `tojson` with Python's spacing, `{%
//! generation %}`. `strftime_now` gives a fixed day, 26 July 2024, the one that Llama 3's template falls back on: a
//! prompt does not depend on the day it is written.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value, context, escape_formatter};
use serde::{Deserialize, Serialize};
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use crate::TextError;

/// Instructions that rendering may take. A message takes some 50.
const MAX_INSTRUCTIONS: u64 = 10_000_000;
/// Bytes that rendering may write, and that a variable may hold: this stops a template that doubles a text again and
/// again. What one expression builds before it is stored or written is not bounded.
const MAX_BYTES: usize = 16 << 20;
/// Items that a variable may hold.
const MAX_ITEMS: usize = 1 << 20;
/// The filter that is added to each `{% set %}`, to hold variables to these bounds.
const BOUNDED: &str = "koan_bounded";
/// Spaces by which `tojson` may indent.
const MAX_INDENT: usize = 16;
/// The template's name in error messages.
const NAME: &str = "chat_template";

/// A value of a template's variable. It can be read from JSON, and keeps the order of an object's keys, which models see.
pub use minijinja::Value as TemplateValue;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: usually `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// How a conversation is written for a model.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Arc<Environment<'static>>,
}

impl ChatTemplate {
    /// Compiles a template. `special_tokens` are its variables, such as `bos_token`.
    ///
    /// # Errors
    ///
    /// When `source` is not valid Jinja.
    pub fn new(source: &str, special_tokens: &BTreeMap<String, String>) -> Result<Self, TextError> {
        let invalid = |source| TextError::Template { source };
        let mut environment = Environment::new();
        environment.set_syntax(
            SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(invalid)?,
        );
        environment.set_fuel(Some(MAX_INSTRUCTIONS));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", tojson);
        environment.add_filter(BOUNDED, bounded);
        environment.set_formatter(|out, state, value| {
            let length = value.as_str().map_or(0, str::len);
            let written = state.get_temp(WRITTEN).and_then(|n| n.as_usize()).unwrap_or(0) + length;
            state.set_temp(WRITTEN, Value::from(written));
            if written > MAX_BYTES { Err(too_large()) } else { escape_formatter(out, state, value) }
        });
        for (name, token) in special_tokens {
            environment.add_global(name.clone(), token.clone());
        }
        let source = rewrite_tags(&source.replace("\r\n", "\n"));
        environment.add_template_owned(NAME, source).map_err(invalid)?;
        Ok(Self { environment: Arc::new(environment) })
    }

    /// Writes a conversation; with `add_generation_prompt`, it ends where the assistant begins to speak.
    ///
    /// # Errors
    ///
    /// When the template refuses the messages (`raise_exception`), does something invalid, takes too long, or writes or
    /// keeps too much.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, TextError> {
        self.render_with(messages, add_generation_prompt, &BTreeMap::new())
    }

    /// As [`render`](Self::render), for messages with more than a role and a content (`tool_calls`,
    /// `reasoning_content`), and with further variables: `tools`, `enable_thinking`, `date_string`, whatever the
    /// template asks for.
    ///
    /// # Errors
    ///
    /// As [`render`](Self::render).
    pub fn render_with(
        &self,
        messages: &(impl Serialize + ?Sized),
        add_generation_prompt: bool,
        variables: &BTreeMap<String, TemplateValue>,
    ) -> Result<String, TextError> {
        let messages = Value::from(Serde(messages));
        let n_messages = messages.len().unwrap_or(0);
        let mut text = Text(Vec::new());
        self.environment
            .get_template(NAME)
            .and_then(|template| {
                let context = context! {
                    messages,
                    add_generation_prompt,
                    ..context! { ..Value::from(Serde(variables)), ..context! { tools => (), documents => () } }
                };
                template.render_captured_to(context, &mut text).map(drop)
            })
            .map_err(|source| TextError::Render { n_messages, source })?;
        Ok(String::from_utf8(text.0).expect("templates write UTF-8"))
    }
}

/// What is written, up to [`MAX_BYTES`].
struct Text(Vec<u8>);

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_BYTES {
            return Err(io::Error::other(too_large()));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The name under which a rendering counts the bytes it has written, into variables too.
const WRITTEN: &str = "koan_written";

fn too_large() -> Error {
    let reason = format!(
        "the template makes a text of more than {MAX_BYTES} bytes, or a list of more than {MAX_ITEMS} items"
    );
    Error::new(ErrorKind::InvalidOperation, reason)
}

/// `value`, if it is not too large for a variable.
fn bounded(value: Value) -> Result<Value, Error> {
    let is_small = |value: &Value| value.as_str().is_none_or(|text| text.len() <= MAX_BYTES);
    // What is assigned to several names is a short tuple.
    let parts_are_small = || match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => match value.len() {
            Some(n) if n > MAX_ITEMS => false,
            Some(n) if n <= 8 => value.try_iter().is_ok_and(|mut parts| parts.all(|part| is_small(&part))),
            _ => true,
        },
        _ => true,
    };
    if is_small(&value) && parts_are_small() { Ok(value) } else { Err(too_large()) }
}

/// Fails with the template's own message.
fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// Friday, 26 July 2024, 00:00, in the format of Python's `strftime`.
fn strftime_now(format: &str) -> Result<String, Error> {
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        text += match rest.next() {
            Some('d') => "26",
            Some('m') => "07",
            Some('b') => "Jul",
            Some('B') => "July",
            Some('y') => "24",
            Some('Y') => "2024",
            Some('a') => "Fri",
            Some('A') => "Friday",
            Some('j') => "208",
            Some('H' | 'M' | 'S') => "00",
            Some('%') => "%",
            other => {
                let what = other.map(String::from).unwrap_or_default();
                return Err(Error::new(ErrorKind::InvalidOperation, format!("strftime_now: no `%{what}`")));
            }
        };
    }
    Ok(text)
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`; `ensure_ascii=False` may be given.
fn tojson(value: Value, options: Kwargs) -> Result<String, Error> {
    let indent = options.get::<Option<usize>>("indent")?;
    if options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false) {
        return Err(Error::new(ErrorKind::InvalidOperation, "tojson: ensure_ascii=True is not known"));
    }
    options.assert_all_used()?;
    match indent {
        None => serialize(&value, PythonFormatter),
        Some(n) if n <= MAX_INDENT => {
            serialize(&value, PrettyFormatter::with_indent(&[b' '; MAX_INDENT][..n]))
        }
        Some(_) => Err(Error::new(ErrorKind::InvalidOperation, "tojson: indent is too large")),
    }
}

fn serialize(value: &Value, formatter: impl Formatter) -> Result<String, Error> {
    let mut json = Vec::new();
    let cannot = |error| Error::new(ErrorKind::BadSerialization, "cannot write as JSON").with_source(error);
    value.serialize(&mut Serializer::with_formatter(&mut json, formatter)).map_err(cannot)?;
    Ok(String::from_utf8(json).expect("serde_json writes UTF-8"))
}

/// Spaces after `,` and `:`, as Python's `json` has them.
struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// Makes `{% generation %}` and `{% endgeneration %}`, with which templates mark what the assistant says, into tags that
/// do nothing; and gives what `{% set %}` stores the filter [`BOUNDED`].
fn rewrite_tags(source: &str) -> String {
    let mut out = String::new();
    let mut rest = source;
    while let Some((before, after)) = rest.split_once("{%") {
        out += before;
        out += "{%";
        rest = after;
        let Some((tag, after)) = after.split_once("%}") else { break };
        let (open, close) = (tag.starts_with('-'), tag.ends_with('-'));
        let rewritten = match tag.trim_matches(['-', '+']).trim() {
            "generation" => "if true".to_owned(),
            "endgeneration" => "endif".to_owned(),
            tag => match assignment(tag) {
                Some((target, value)) => format!("{target}= ({value}) | {BOUNDED}"),
                None => continue,
            },
        };
        out += if open { "- " } else { " " };
        out += &rewritten;
        out += if close { " -%}" } else { " %}" };
        rest = after;
    }
    out + rest
}

/// The two sides of `set TARGET = VALUE`; none for any other tag, and for one that ends within quotes, which contain `%}`.
fn assignment(tag: &str) -> Option<(&str, &str)> {
    let (target, value) = tag.split_once('=').filter(|_| tag.starts_with("set"))?;
    let is_target = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_.,()".contains(c);
    let mut quote = None;
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match quote {
            Some(_) if c == '\\' => _ = chars.next(),
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            _ => {}
        }
    }
    (target.chars().all(is_target) && quote.is_none()).then_some((target, value))
}

#[cfg(test)]
mod tests;
