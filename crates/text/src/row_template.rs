//! A prompt made of the fields of a row: Jinja, as chat templates are, with the same bounds. A field that the row does not have is
//! an error, not an empty text.

use std::collections::BTreeSet;

use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value, value::Serde};
use serde_json::{Map, Value as Json};

use crate::{
    TextError,
    chat_template::{self, MAX_WORK, Text},
};

/// The template's name in error messages.
const NAME: &str = "prompt_template";

/// How a prompt is made of a row: `Improve this answer to "{{ prompt }}": {{ draft }}`.
#[derive(Clone, Debug)]
pub struct RowTemplate {
    environment: Environment<'static>,
}

impl RowTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// When `source` is not valid Jinja.
    pub fn new(source: &str) -> Result<Self, TextError> {
        let invalid = |source| TextError::RowTemplate { source };
        let mut environment = chat_template::environment().map_err(invalid)?;
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_template_owned(NAME, source.replace("\r\n", "\n")).map_err(invalid)?;
        Ok(Self { environment })
    }

    /// The text that it makes of a row: the row's fields are its variables.
    ///
    /// # Errors
    /// A field that the row does not have, by its name; or when the template does something invalid, takes too long, or writes
    /// too much.
    pub fn render(&self, row: &Map<String, Json>) -> Result<String, TextError> {
        let mut text = Text::default();
        let template = self.environment.get_template(NAME).expect("added when it was compiled");
        let rendered = template.render_captured_to(Value::from(Serde(row)), &mut text).map(drop);
        match rendered {
            Ok(()) => Ok(text.into_string()),
            Err(source) if source.kind() == ErrorKind::OutOfFuel => {
                Err(TextError::RowTemplateWork { limit: MAX_WORK })
            }
            Err(source) => match self.missing(row) {
                Some(field) if source.kind() == ErrorKind::UndefinedError => {
                    let fields: Vec<&str> = row.keys().map(String::as_str).collect();
                    Err(TextError::NoField { field, fields: fields.join(", ") })
                }
                _ => Err(TextError::RowRender { source }),
            },
        }
    }

    /// The first field, by its name, that the template reads and the row does not have.
    fn missing(&self, row: &Map<String, Json>) -> Option<String> {
        let template = self.environment.get_template(NAME).ok()?;
        let globals: BTreeSet<&str> = self.environment.globals().map(|(name, _)| name).collect();
        let read: BTreeSet<String> = template.undeclared_variables(true).into_iter().collect();
        let is_missing = |path: &String| {
            let mut parts = path.split('.');
            let first = parts.next().unwrap_or_default();
            if globals.contains(first) {
                return false;
            }
            let found = parts.try_fold(row.get(first), |value, part| match value {
                Some(Json::Object(fields)) => Some(fields.get(part)),
                Some(_) => None, // a method, or an item of a list
                None => Some(None),
            });
            found == Some(None)
        };
        read.into_iter().find(is_missing)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(source: &str, row: Json) -> Result<String, String> {
        let Json::Object(row) = row else { panic!("an object") };
        let in_words = |error: TextError| {
            let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
            causes.map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        RowTemplate::new(source).map_err(in_words)?.render(&row).map_err(in_words)
    }

    #[test]
    fn fields_of_any_depth_are_put_where_the_template_names_them() {
        let row = json!({"prompt": "1 + 1?", "draft": "<b>2</b>\n", "completions": [{"text": "It is 2."}],
            "origin": {"seed": 7}, "messages": [{"role": "user", "content": "hi"}], "share": 0.5, "tags": ["a", "b"]});
        for (source, want) in [
            ("{{ prompt }} {{ draft }}\n", "1 + 1? <b>2</b>\n"),
            ("{{ draft | trim }}|{{ draft.strip() }}", "<b>2</b>|<b>2</b>"),
            ("{{ completions[0].text }} {{ origin.seed }} {{ share }}", "It is 2. 7 0.5"),
            ("{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}", "user: hi"),
            ("{% if note is defined %}{{ note }}{% else %}none{% endif %}", "none"),
            ("{{ note | default('-') }} {{ tags | join('+') }}", "- a+b"),
            ("{{ tags | tojson }}", "[\"a\", \"b\"]"),
            ("no fields", "no fields"),
        ] {
            assert_eq!(render(source, row.clone()).as_deref(), Ok(want), "{source}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let row = || json!({"prompt": "1 + 1?", "origin": {"seed": 7}, "list": [1]});
        for (source, expected) in [
            ("{{ darft }}", "`darft` is not in the row, which has: prompt, origin, list"),
            ("{{ prompt }} {{ origin.sed }}", "`origin.sed` is not in the row"),
            ("{{ list[3] }}", "the prompt template failed"),
            ("{% if darft %}{% endif %}", "`darft`"),
            ("{{ prompt", "the prompt template is invalid"),
            ("{% include 'other' %}", "the prompt template failed"),
            (
                "{% for i in range(10000) %}{% for j in range(10000) %}{% endfor %}{% endfor %}",
                "does not end",
            ),
        ] {
            let error = render(source, row()).expect_err(source);
            assert!(error.contains(expected), "{source}: {error}");
        }
        let large = json!({"text": "a".repeat(1 << 20)});
        let error = render("{% for i in range(100) %}{{ text }}{% endfor %}", large).expect_err("too large");
        assert!(error.contains("more than"), "{error}");
    }
}
