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
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error, ErrorKind, Value, context};
use serde::{Deserialize, Serialize};
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use crate::TextError;

/// Instructions that rendering may take. A message takes some 50. This bounds time, not memory: a template
/// can still double a string until the machine is full.
const MAX_INSTRUCTIONS: u64 = 10_000_000;
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

/// How a model wants a conversation written.
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
        for (name, token) in special_tokens {
            environment.add_global(name.clone(), token.clone());
        }
        let source = without_generation_tags(&source.replace("\r\n", "\n"));
        environment.add_template_owned(NAME, source).map_err(invalid)?;
        Ok(Self { environment: Arc::new(environment) })
    }

    /// Writes a conversation; with `add_generation_prompt`, up to where the assistant is to speak.
    ///
    /// # Errors
    ///
    /// When the template refuses the messages (`raise_exception`), does something invalid, or takes too long.
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
        self.environment
            .get_template(NAME)
            .and_then(|template| {
                template.render(context! {
                    messages,
                    add_generation_prompt,
                    ..context! { ..Value::from(Serde(variables)), ..context! { tools => (), documents => () } }
                })
            })
            .map_err(|source| TextError::Render { n_messages, source })
    }
}

/// Fails with the template's own message.
fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// Friday, 26 July 2024, 00:00, in the words of Python's `strftime`.
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

/// `json.dumps(value, ensure_ascii=False, indent=indent)`; `ensure_ascii=False` may be said.
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

/// Makes `{% generation %}` and `{% endgeneration %}`, with which templates mark what the assistant says,
/// into tags that do nothing.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::new();
    let mut rest = source;
    while let Some((before, after)) = rest.split_once("{%") {
        out += before;
        out += "{%";
        rest = after;
        let Some((tag, after)) = after.split_once("%}") else { break };
        let neutral = match tag.trim_matches(['-', '+']).trim() {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => continue,
        };
        let (open, close) = (tag.starts_with('-'), tag.ends_with('-'));
        out += if open { "- " } else { " " };
        out += neutral;
        out += if close { " -%}" } else { " %}" };
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests;
