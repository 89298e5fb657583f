//! `tojson` as transformers gives it to templates: Python's `json.dumps`.

use std::fmt::Write as _;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::{MAX_BYTES, too_large};

/// Characters by which a level may be indented.
const MAX_INDENT: usize = 16;

/// `json.dumps(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`
pub(super) fn tojson(
    state: &State,
    value: Value,
    ensure_ascii: Option<Value>,
    indent: Option<Value>,
    options: Kwargs,
) -> Result<String, Error> {
    let ensure_ascii = ensure_ascii.or(options.get("ensure_ascii")?);
    let indent = indent.or(options.get("indent")?);
    let separators: Option<Value> = options.get("separators")?;
    let sort_keys: Option<Value> = options.get("sort_keys")?;
    options.assert_all_used()?;
    let indent = indent.filter(|indent| !indent.is_none()).map(indentation).transpose()?;
    let (item, key) = match separators.filter(|separators| !separators.is_none()) {
        Some(given) => {
            let parts: Vec<String> = given.try_iter()?.map(|part| part.to_string()).collect();
            match <[String; 2]>::try_from(parts) {
                Ok([item, key]) if item.len() + key.len() <= MAX_INDENT => (item, key),
                _ => return Err(cannot("separators are two short texts")),
            }
        }
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let is_true = |option: Option<Value>| option.is_some_and(|option| option.is_true());
    let mut writer = Writer {
        out: String::new(),
        item,
        key,
        indent,
        ensure_ascii: is_true(ensure_ascii),
        sort_keys: is_true(sort_keys),
    };
    writer.value(&value, 0)?;
    state.consume_fuel(writer.out.len() as u64 / 4)?;
    Ok(writer.out)
}

fn indentation(indent: Value) -> Result<String, Error> {
    let text = match (indent.as_str(), i64::try_from(indent.clone())) {
        (Some(text), _) => text.to_owned(),
        (None, Ok(n)) => " ".repeat(usize::try_from(n).unwrap_or(0).min(MAX_INDENT + 1)),
        (None, Err(_)) => return Err(cannot("indent is a number or a text")),
    };
    if text.len() > MAX_INDENT { Err(cannot("indent is too large")) } else { Ok(text) }
}

fn cannot(why: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {why}"))
}

struct Writer {
    out: String,
    item: String,
    key: String,
    indent: Option<String>,
    ensure_ascii: bool,
    sort_keys: bool,
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if self.out.len() > MAX_BYTES {
            return Err(too_large());
        }
        match value.kind() {
            ValueKind::None => self.out += "null",
            ValueKind::Bool => self.out += if value.is_true() { "true" } else { "false" },
            ValueKind::Number => self.out += &number(value),
            ValueKind::String => self.text(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.list(['[', ']'], &items, depth, |writer, item| writer.value(item, depth + 1))?;
            }
            ValueKind::Map => {
                let mut entries = Vec::new();
                for key in value.try_iter()? {
                    entries.push((key_text(&key)?, value.get_item(&key)?));
                }
                if self.sort_keys {
                    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
                }
                self.list(['{', '}'], &entries, depth, |writer, (key, value)| {
                    writer.text(key);
                    writer.out += &writer.key.clone();
                    writer.value(value, depth + 1)
                })?;
            }
            kind => return Err(cannot(&format!("a value of type {kind} is not JSON"))),
        }
        Ok(())
    }

    fn list<T>(
        &mut self,
        [open, close]: [char; 2],
        items: &[T],
        depth: usize,
        mut each: impl FnMut(&mut Self, &T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.out += &self.item.clone();
            }
            self.line(depth + 1);
            each(self, item)?;
        }
        if !items.is_empty() {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    /// Begins a line, where there are lines.
    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            (0..depth).for_each(|_| self.out += indent);
        }
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out += "\\\"",
                '\\' => self.out += "\\\\",
                '\n' => self.out += "\\n",
                '\r' => self.out += "\\r",
                '\t' => self.out += "\\t",
                '\u{8}' => self.out += "\\b",
                '\u{c}' => self.out += "\\f",
                _ if c < ' ' || self.ensure_ascii && !(' '..='~').contains(&c) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                _ => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

/// A number as Python writes it.
pub(super) fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => float_text(float),
        _ => value.to_string(),
    }
}

/// A float as Python writes it into JSON; `repr` of a finite one.
fn float_text(float: f64) -> String {
    if float.is_nan() {
        return "NaN".to_owned();
    } else if float.is_infinite() {
        return if float > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let text = format!("{float:?}"); // exponents from the same powers of ten as Python's
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, size) = exponent.strip_prefix('-').map_or(('+', exponent), |size| ('-', size));
            format!("{digits}e{sign}{size:0>2}")
        }
        None => text,
    }
}

fn key_text(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().to_owned()),
        ValueKind::Number => Ok(number(key)),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::None => Ok("null".to_owned()),
        kind => Err(cannot(&format!("a value of type {kind} is not a key of JSON"))),
    }
}
