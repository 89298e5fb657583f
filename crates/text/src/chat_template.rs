//! Chat templates: a conversation as the text that a model was trained on.
//!
//! Templates are Jinja, rendered as Hugging Face transformers renders them: `trim_blocks`, `lstrip_blocks`,
//! Python's `%` and methods of strings, `break` and `continue`, `raise_exception`, `tojson` as `json.dumps` writes, `{%
//! generation %}`. `strftime_now` gives a fixed day, 26 July 2024, the one that Llama 3's template falls back on: a
//! prompt does not depend on the day it is written.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, context, escape_formatter};
use serde::{Deserialize, Serialize};

use crate::TextError;

mod filters;
mod json;
mod methods;
mod source;
mod time;

/// Work that rendering may do: instructions (a message takes some 50), and 64 bytes of text or two items of a list, which are
/// paid for before they are made. So it builds no more than 128 MB in all.
pub(crate) const MAX_WORK: u64 = 2_000_000;
/// Bytes that rendering may write.
const MAX_BYTES: usize = 16 << 20;
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
    source: Arc<str>,
}

impl ChatTemplate {
    /// Compiles a template. `special_tokens` are its variables, such as `bos_token`.
    ///
    /// # Errors
    ///
    /// When `source` is not valid Jinja.
    pub fn new(source: &str, special_tokens: &BTreeMap<String, String>) -> Result<Self, TextError> {
        let invalid = |source| TextError::Template { source };
        let mut environment = environment().map_err(invalid)?;
        for (name, token) in special_tokens {
            environment.add_global(name.clone(), token.clone());
        }
        let given = source;
        let source = source::prepare(&source.replace("\r\n", "\n")).map_err(invalid)?;
        environment.add_template_owned(NAME, source).map_err(invalid)?;
        Ok(Self { environment: Arc::new(environment), source: given.into() })
    }

    /// The template as it was given.
    pub fn source(&self) -> &str {
        &self.source
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
        let mut text = Text::default();
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
            .map_err(|source| match source.kind() {
                ErrorKind::OutOfFuel => TextError::TemplateWork { n_messages, limit: MAX_WORK },
                _ => TextError::Render { n_messages, source },
            })?;
        Ok(text.into_string())
    }
}

/// An environment that renders as transformers does, within [`MAX_WORK`].
pub(crate) fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_fuel(Some(MAX_WORK));
    environment.set_unknown_method_callback(methods::method);
    filters::add_to(&mut environment);
    environment.set_formatter(|out, state, value| match value.kind() {
        ValueKind::Number => escape_formatter(out, state, &Value::from(json::number(value))),
        _ => escape_formatter(out, state, value),
    });
    Ok(environment)
}

/// What is written, up to [`MAX_BYTES`].
#[derive(Default)]
pub(crate) struct Text(Vec<u8>);

impl Text {
    /// What was written.
    pub(crate) fn into_string(self) -> String {
        String::from_utf8(self.0).expect("templates write UTF-8")
    }
}

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

fn too_large() -> Error {
    let reason = format!("the template makes a text of more than {MAX_BYTES} bytes");
    Error::new(ErrorKind::InvalidOperation, reason)
}

/// Pays for making or reading `bytes`, before it is done.
fn charge(state: &State, bytes: usize) -> Result<(), Error> {
    state.consume_fuel(bytes as u64 / 64)
}

#[cfg(test)]
mod tests;
