//! Filters, tests and functions of Jinja2 that the engine lacks or has otherwise.

use std::sync::{Arc, Mutex};

use minijinja::value::{Kwargs, Object, Rest, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::{charge, json, methods, source, time};

/// Levels of lists and dictionaries that a variable may hold: JSON has at most 128.
const MAX_DEPTH: usize = 200;

/// Adds them all.
pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.remove_global("debug");
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", time::strftime_now);
    environment.add_function("cycler", |items: Rest<Value>| -> Result<Value, Error> {
        if items.is_empty() {
            return Err(invalid("cycler: at least one item has to be provided"));
        }
        Ok(Value::from_object(Cycler { items: items.to_vec(), at: Mutex::new(0) }))
    });
    environment.add_function("joiner", |separator: Option<String>| {
        let separator = separator.unwrap_or_else(|| ", ".to_owned());
        Value::from_object(Joiner { separator, used: Mutex::new(false) })
    });
    environment.add_filter(source::MODULO, modulo);
    environment.add_filter(source::KEPT, |state: &State, value: Value| kept(state, &value, 0));
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("string", |value: Value| match value.kind() {
        ValueKind::Number => Value::from(json::number(&value)),
        ValueKind::String => value,
        _ => Value::from(value.to_string()),
    });
    environment.add_filter("trim", |value: &Value, chars: Option<Value>| -> Result<String, Error> {
        Ok(methods::strip(&text(value), chars.as_ref(), true, true)?.to_owned())
    });
    environment.add_filter("int", int);
    environment.add_filter("float", |value: &Value, default: Option<f64>| {
        let default = default.unwrap_or(0.0);
        match value.as_str() {
            Some(text) => number_of(text).unwrap_or(default),
            None => f64::try_from(value.clone()).unwrap_or(default),
        }
    });
    environment.add_filter("wordcount", |value: &Value| {
        text(value)
            .split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .filter(|word| !word.is_empty())
            .count()
    });
    environment.add_filter("center", |state: &State, value: &Value, width: Option<i64>| {
        methods::pad(state, &text(value), "center", width.unwrap_or(80), " ")
    });
    environment.add_filter("indent", indent);
    environment.add_filter("truncate", truncate);
    environment.add_filter("pprint", |value: &Value| {
        let listed = Value::from(vec![value.clone()]).to_string();
        let text = listed[1..listed.len() - 1].to_owned();
        // Python breaks longer ones into lines.
        if text.len() > 80 {
            Err(invalid("pprint: a value of more than one line is not written"))
        } else {
            Ok(text)
        }
    });
    for name in ["escape", "e", "forceescape"] {
        environment.add_filter(name, escape);
    }
    environment.add_test("iterable", |value: &Value| {
        !matches!(value.kind(), ValueKind::None | ValueKind::Number | ValueKind::Bool)
            && value.try_iter().is_ok()
    });
    environment.add_test("sequence", |value: &Value| {
        matches!(
            value.kind(),
            ValueKind::String | ValueKind::Seq | ValueKind::Iterable | ValueKind::Map | ValueKind::Undefined
        )
    });
    environment.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
}

fn invalid(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, why.into())
}

/// The value as text, as Python's `str` gives it.
fn text(value: &Value) -> String {
    match value.kind() {
        ValueKind::Number => json::number(value),
        _ => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
    }
}

/// Fails with the template's own message.
fn raise_exception(message: &Value) -> Result<Value, Error> {
    Err(invalid(text(message)))
}

/// A value that a variable keeps: lists that are made as they are read become lists, and nesting is bounded.
fn kept(state: &State, value: &Value, depth: usize) -> Result<Value, Error> {
    if depth > MAX_DEPTH {
        return Err(invalid(format!("a variable nests more than {MAX_DEPTH} lists or dictionaries")));
    }
    let is_plain =
        |item: &Value| !matches!(item.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map);
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let mut items = Vec::new();
            for item in value.try_iter()? {
                state.consume_fuel(1)?;
                items.push(item);
            }
            for item in items.iter().filter(|item| !is_plain(item)) {
                kept(state, item, depth + 1)?;
            }
            let is_lazy = value.downcast_object_ref::<Vec<Value>>().is_none() && !value.is_tuple();
            Ok(if is_lazy && depth == 0 { Value::from(items) } else { value.clone() })
        }
        ValueKind::Map => {
            for key in value.try_iter()? {
                state.consume_fuel(1)?;
                let item = value.get_item(&key)?;
                if !is_plain(&item) {
                    kept(state, &item, depth + 1)?;
                }
            }
            Ok(value.clone())
        }
        _ => Ok(value.clone()),
    }
}

/// `a % b`: a formatted text, or the remainder of numbers with the sign of `b`.
fn modulo(state: &mut State, a: Value, b: Value) -> Result<Value, Error> {
    if let Some(format) = a.as_str() {
        if b.kind() == ValueKind::Map && format.contains("%(") {
            let mut named = Vec::new();
            for key in b.try_iter()? {
                named.push((key.to_string(), b.get_item(&key)?));
            }
            let named = named.into_iter().collect::<Kwargs>();
            return state.apply_filter("format", &[a.clone(), named.into()]);
        }
        let given = if b.is_tuple() { b.try_iter()?.collect() } else { vec![b.clone()] };
        let (format, mut args) = conversions(format, given)?;
        args.insert(0, Value::from(format));
        return state.apply_filter("format", &args);
    }
    let failed =
        || invalid(format!("tried to use % operator on unsupported types {} and {}", a.kind(), b.kind()));
    let is_whole = |value: &Value| value.is_integer() || value.kind() == ValueKind::Bool;
    if is_whole(&a) && is_whole(&b) {
        let [a, b] = [&a, &b].map(|value| {
            if value.kind() == ValueKind::Bool {
                Ok(i128::from(value.is_true()))
            } else {
                i128::try_from(value.clone())
            }
        });
        let (a, b) = (a?, b?);
        let rest = a.checked_rem(b).ok_or_else(|| invalid("modulo by zero"))?;
        return Ok(Value::from(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }));
    }
    match (f64::try_from(a.clone()), f64::try_from(b.clone())) {
        (Ok(x), Ok(y)) if a.is_number() && b.is_number() && y != 0.0 => {
            let rest = x % y;
            Ok(Value::from(if rest != 0.0 && (rest < 0.0) != (y < 0.0) { rest + y } else { rest }))
        }
        _ => Err(failed()),
    }
}

/// A format and its arguments, with what the engine's own formatting does not know done: `%r` and `%a` are `%s` of how a
/// value is written, `%d` cuts a float off.
fn conversions(format: &str, mut args: Vec<Value>) -> Result<(String, Vec<Value>), Error> {
    let (mut out, mut rest, mut n) = (String::new(), format, 0);
    while let Some(at) = rest.find('%') {
        let flags =
            rest[at + 1..].find(|c: char| !"0123456789+-# .".contains(c)).unwrap_or(rest.len() - at - 1);
        let (before, after) = rest.split_at(at + 1 + flags);
        out += before;
        let kind = after.chars().next();
        rest = &after[kind.map_or(0, char::len_utf8)..];
        if let (Some(arg), Some(kind)) = (args.get_mut(n), kind) {
            match kind {
                'r' | 'a' => {
                    let listed = Value::from(vec![arg.clone()]).to_string();
                    *arg = Value::from(&listed[1..listed.len() - 1]);
                }
                'd' | 'i' | 'u' if arg.is_number() && !arg.is_integer() => {
                    *arg = f64::try_from(arg.clone()).ok().and_then(whole).unwrap_or_else(|| arg.clone());
                }
                _ => {}
            }
        }
        n += usize::from(kind != Some('%'));
        out.extend(kind.map(|kind| if matches!(kind, 'r' | 'a') { 's' } else { kind }));
    }
    if n < args.len() {
        return Err(invalid("not all arguments converted during string formatting"));
    }
    Ok((out + rest, args))
}

/// A number as Python's `int` and `float` read it.
fn number_of(text: &str) -> Option<f64> {
    let text = text.trim().replace('_', "");
    text.parse().ok().filter(|_| !text.is_empty())
}

fn int(value: &Value, default: Option<Value>, base: Option<u32>, options: Kwargs) -> Result<Value, Error> {
    let default = default.or(options.get("default")?).unwrap_or_else(|| Value::from(0));
    let base = base.or(options.get("base")?).unwrap_or(10);
    options.assert_all_used()?;
    if !(2..=36).contains(&base) {
        return Err(invalid("int: the base is 2 to 36"));
    }
    let Some(text) = value.as_str() else {
        return Ok(match value.kind() {
            ValueKind::Bool => Value::from(i64::from(value.is_true())),
            ValueKind::Number if value.is_integer() => value.clone(),
            ValueKind::Number => whole(f64::try_from(value.clone())?).unwrap_or(default),
            _ => default,
        });
    };
    let text = text.trim().replace('_', "").to_lowercase();
    let prefix = match base {
        16 => "0x",
        8 => "0o",
        2 => "0b",
        _ => "",
    };
    let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+'])));
    let digits = digits.strip_prefix(prefix).unwrap_or(digits);
    match i128::from_str_radix(&format!("{sign}{digits}"), base) {
        Ok(number) => Ok(Value::from(number)),
        Err(_) => Ok(number_of(&text).and_then(whole).unwrap_or(default)),
    }
}

/// A float cut off to an integer, if it is one that can be held.
fn whole(float: f64) -> Option<Value> {
    (float.abs() < 1e18).then(|| Value::from(float as i64))
}

/// `indent(width=4, first=False, blank=False)`; the width is a number of spaces or a text.
fn indent(state: &State, value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let args = args.into_values();
    let (width, first, blank, options): (Option<Value>, Option<bool>, Option<bool>, Kwargs) =
        from_args(&args)?;
    let width: Option<Value> = width.or(options.get("width")?);
    let first = first.or(options.get("first")?);
    let blank = blank.or(options.get("blank")?);
    options.assert_all_used()?;
    let width = width.unwrap_or_else(|| Value::from(4));
    let text = text(value);
    let lines = text.matches('\n').count() + 1;
    let by = if let Some(by) = width.as_str() {
        by.to_owned()
    } else {
        let n = usize::try_from(width)?;
        charge(state, n.saturating_mul(lines))?;
        " ".repeat(n)
    };
    charge(state, by.len().saturating_mul(lines))?;
    let mut out = String::new();
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        let wanted = if i == 0 { first.unwrap_or(false) } else { !line.is_empty() || blank.unwrap_or(false) };
        if wanted {
            out += &by;
        }
        out += line;
    }
    Ok(out)
}

/// `truncate(length=255, killwords=False, end='...', leeway=5)`
fn truncate(
    value: &Value,
    length: Option<usize>,
    cut_words: Option<bool>,
    end: Option<String>,
    options: Kwargs,
) -> Result<String, Error> {
    let length = length.or(options.get("length")?).unwrap_or(255);
    let cut_words = cut_words.or(options.get("killwords")?).unwrap_or(false);
    let end = end.or(options.get("end")?).unwrap_or_else(|| "...".to_owned());
    let leeway = options.get::<Option<usize>>("leeway")?.unwrap_or(5);
    options.assert_all_used()?;
    let text = text(value);
    let room = length.checked_sub(end.chars().count());
    let room = room.ok_or_else(|| invalid("truncate: the length is less than the end's"))?;
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text);
    }
    let cut: String = text.chars().take(room).collect();
    let kept = if cut_words { &*cut } else { cut.rsplit_once(' ').map_or(&*cut, |(kept, _)| kept) };
    Ok(format!("{kept}{end}"))
}

/// As MarkupSafe escapes.
fn escape(state: &State, value: &Value) -> Result<String, Error> {
    let text = text(value);
    charge(state, text.len().saturating_mul(5))?;
    let escaped = text.replace('&', "&amp;").replace('>', "&gt;").replace('<', "&lt;");
    Ok(escaped.replace('\'', "&#39;").replace('"', "&#34;"))
}

/// `cycler(…)`: its items in turn.
#[derive(Debug)]
struct Cycler {
    items: Vec<Value>,
    at: Mutex<usize>,
}

impl Object for Cycler {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let at = *self.at.lock().ok()?;
        (key.as_str() == Some("current")).then(|| self.items[at].clone())
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        method: &str,
        _: &[Value],
    ) -> Result<Value, Error> {
        let mut at = self.at.lock().map_err(|_| invalid("cycler: it is in use"))?;
        match method {
            "next" => {
                let item = self.items[*at].clone();
                *at = (*at + 1) % self.items.len();
                Ok(item)
            }
            "reset" => {
                *at = 0;
                Ok(Value::from(()))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// `joiner(…)`: nothing when it is called first, then its separator.
#[derive(Debug)]
struct Joiner {
    separator: String,
    used: Mutex<bool>,
}

impl Object for Joiner {
    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, _: &[Value]) -> Result<Value, Error> {
        let mut used = self.used.lock().map_err(|_| invalid("joiner: it is in use"))?;
        let separator = if *used { &*self.separator } else { "" };
        *used = true;
        Ok(Value::from(separator))
    }
}
