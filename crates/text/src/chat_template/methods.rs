//! The methods of Python's strings, lists and dictionaries.

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Kwargs, Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::charge;

/// What `value.method(args)` gives, for methods that the engine does not know.
pub(super) fn method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let own = match (value.kind(), value.as_str()) {
        (_, Some(text)) => of_text(state, text, method, args)?,
        (ValueKind::Seq | ValueKind::Iterable, _) => of_list(state, value, method, args)?,
        (ValueKind::Map, _) if method == "copy" => Some(value.clone()),
        _ => None,
    };
    own.map_or_else(|| unknown_method_callback(state, value, method, args), Ok)
}

/// `None`: not one of those that are done here.
fn of_text(state: &State, text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let no_args = || from_args::<()>(args);
    let holds = |all: &dyn Fn(char) -> bool| {
        no_args().map(|()| Value::from(!text.is_empty() && text.chars().all(all)))
    };
    charge(state, text.len())?;
    Ok(Some(match method {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<Value>,) = from_args(args)?;
            Value::from(strip(text, chars.as_ref(), method != "rstrip", method != "lstrip")?)
        }
        "split" | "rsplit" => split(text, method == "rsplit", args)?,
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            if separator.is_empty() {
                return Err(invalid("empty separator"));
            }
            let found = if method == "partition" { text.find(separator) } else { text.rfind(separator) };
            Value::from(Tuple::from(match found {
                Some(at) => [&text[..at], separator, &text[at + separator.len()..]].map(Value::from),
                None if method == "partition" => [text, "", ""].map(Value::from),
                None => ["", "", text].map(Value::from),
            }))
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "splitlines" => {
            let (keep, options): (Option<bool>, Kwargs) = from_args(args)?;
            let keep = keep.or(options.get("keepends")?).unwrap_or(false);
            options.assert_all_used()?;
            Value::from(lines(text, keep).into_iter().map(Value::from).collect::<Vec<_>>())
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let (what, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
            let (before, part) = window(text, start, end);
            let found = if method.starts_with('r') { part.rfind(what) } else { part.find(what) };
            let place = found.map(|at| before + part[..at].chars().count());
            match (method, place) {
                ("count", _) if what.is_empty() => Value::from(part.chars().count() + 1),
                ("count", _) => Value::from(part.matches(what).count()),
                (_, Some(place)) => Value::from(place),
                ("index" | "rindex", None) => return Err(invalid("substring not found")),
                (_, None) => Value::from(-1),
            }
        }
        "startswith" | "endswith" => {
            let (what, start, end): (Value, Option<i64>, Option<i64>) = from_args(args)?;
            let (_, part) = window(text, start, end);
            let any: Vec<Value> =
                if what.as_str().is_some() { vec![what] } else { what.try_iter()?.collect() };
            let mut found = false;
            for one in &any {
                let one = one.as_str().ok_or_else(|| invalid("it takes a text, or a tuple of texts"))?;
                found |= if method == "startswith" { part.starts_with(one) } else { part.ends_with(one) };
            }
            Value::from(found)
        }
        "center" | "ljust" | "rjust" => {
            let (width, fill): (i64, Option<&str>) = from_args(args)?;
            Value::from(pad(state, text, method, width, fill.unwrap_or(" "))?)
        }
        "zfill" => {
            let (width,): (i64,) = from_args(args)?;
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+'])));
            let digits = pad(state, digits, "rjust", width.saturating_sub(sign.len() as i64), "0")?;
            Value::from(format!("{sign}{digits}"))
        }
        "expandtabs" => {
            let (size, options): (Option<i64>, Kwargs) = from_args(args)?;
            let size = usize::try_from(size.or(options.get("tabsize")?).unwrap_or(8)).unwrap_or(0);
            options.assert_all_used()?;
            charge(state, text.matches('\t').count().saturating_mul(size))?;
            Value::from(expand_tabs(text, size))
        }
        "title" => {
            no_args()?;
            Value::from(title(text))
        }
        "swapcase" => {
            no_args()?;
            let swapped = text.chars().flat_map(|c| -> Vec<char> {
                if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
            });
            Value::from(swapped.collect::<String>())
        }
        "istitle" => {
            no_args()?;
            Value::from(text.chars().any(char::is_alphabetic) && title(text) == text)
        }
        "isspace" => holds(&is_space)?,
        "isdecimal" => holds(&|c| c.is_ascii_digit() || c.is_numeric() && !c.is_ascii() && is_decimal(c))?,
        "isidentifier" => {
            let starts = text.starts_with(|c: char| c.is_alphabetic() || c == '_');
            Value::from(holds(&|c| c.is_alphanumeric() || c == '_')?.is_true() && starts)
        }
        "isprintable" => {
            no_args()?;
            Value::from(text.chars().all(|c| c == ' ' || !c.is_control() && !c.is_whitespace()))
        }
        "join" => {
            let (parts,): (Value,) = from_args(args)?;
            let mut joined = String::new();
            for (i, part) in parts.try_iter()?.enumerate() {
                let part = part.as_str().map(str::to_owned).ok_or_else(|| invalid("join takes texts"))?;
                charge(state, part.len() + text.len())?;
                if i > 0 {
                    joined += text;
                }
                joined += &part;
            }
            Value::from(joined)
        }
        "replace" => {
            let (old, new, count, options): (&str, &str, Option<i64>, Kwargs) = from_args(args)?;
            let count = usize::try_from(count.or(options.get("count")?).unwrap_or(-1)).ok();
            options.assert_all_used()?;
            let places = if old.is_empty() { text.chars().count() + 1 } else { text.matches(old).count() };
            charge(state, places.min(count.unwrap_or(places)).saturating_mul(new.len()))?;
            Value::from(count.map_or_else(|| text.replace(old, new), |n| text.replacen(old, new, n)))
        }
        "format" => {
            charge(state, widths(text))?;
            Value::from(format(FormatStyle::StrFormat, text, args)?)
        }
        "format_map" => {
            let (map,): (Value,) = from_args(args)?;
            let mut named = Vec::new();
            for key in map.try_iter()? {
                named.push((key.to_string(), map.get_item(&key)?));
            }
            charge(state, widths(text))?;
            let named = named.into_iter().collect::<Kwargs>();
            Value::from(format(FormatStyle::StrFormat, text, &[named.into()])?)
        }
        _ => return Ok(None),
    }))
}

fn of_list(state: &State, list: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "copy" => {
            from_args::<()>(args)?;
            list.clone()
        }
        "index" => {
            let (what,): (Value,) = from_args(args)?;
            state.consume_fuel(list.len().unwrap_or(0) as u64)?;
            let place = list.try_iter()?.position(|item| item == what);
            Value::from(place.ok_or_else(|| invalid("the value is not in the list"))?)
        }
        _ => return Ok(None),
    }))
}

fn invalid(why: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, why.to_owned())
}

/// Python's white space: the separators of ASCII too.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// Digits of decimal systems other than ASCII's: a digit of each lies at a place of ten that begins with its zero.
fn is_decimal(c: char) -> bool {
    // Zeros of the blocks in which digits lie in one row; superscripts, fractions and letters are elsewhere.
    const ZEROS: [u32; 22] = [
        0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50,
        0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0xa620, 0xff10,
    ];
    ZEROS.iter().any(|zero| (*zero..zero + 10).contains(&u32::from(c)))
}

/// `str.strip` and its kin.
pub(super) fn strip<'a>(
    text: &'a str,
    chars: Option<&Value>,
    left: bool,
    right: bool,
) -> Result<&'a str, Error> {
    let given = chars.filter(|chars| !chars.is_none() && !chars.is_undefined());
    let set: Option<Vec<char>> = match given {
        Some(chars) => {
            Some(chars.as_str().ok_or_else(|| invalid("it strips characters of a text"))?.chars().collect())
        }
        None => None,
    };
    let goes = |c: char| set.as_ref().map_or_else(|| is_space(c), |set| set.contains(&c));
    let text = if left { text.trim_start_matches(goes) } else { text };
    Ok(if right { text.trim_end_matches(goes) } else { text })
}

fn split(text: &str, from_right: bool, args: &[Value]) -> Result<Value, Error> {
    let (separator, most, options): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
    let separator = separator.or(options.get("sep")?).filter(|separator| !separator.is_none());
    let most = usize::try_from(most.or(options.get("maxsplit")?).unwrap_or(-1)).unwrap_or(usize::MAX);
    options.assert_all_used()?;
    let separator = separator.map(|separator| {
        let text = separator.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        text.ok_or_else(|| invalid("a separator is a text, and not empty"))
    });
    let mut parts: Vec<&str> = match separator.transpose()? {
        Some(separator) if from_right => text.rsplitn(most.saturating_add(1), &*separator).collect(),
        Some(separator) => text.splitn(most.saturating_add(1), &*separator).collect(),
        None => words(text, most, from_right),
    };
    if from_right {
        parts.reverse();
    }
    Ok(Value::from(parts.into_iter().map(Value::from).collect::<Vec<_>>()))
}

/// The words of `text`; after `most` of them, the rest as it stands. From the right, the last comes first.
fn words(text: &str, most: usize, from_right: bool) -> Vec<&str> {
    let near = |text| {
        if from_right {
            str::trim_end_matches(text, is_space)
        } else {
            str::trim_start_matches(text, is_space)
        }
    };
    let (mut words, mut rest) = (Vec::new(), near(text));
    while !rest.is_empty() && words.len() < most {
        let word = if from_right {
            let word = rest.rsplit(is_space).next().unwrap_or(rest);
            rest = &rest[..rest.len() - word.len()];
            word
        } else {
            let word = rest.split(is_space).next().unwrap_or(rest);
            rest = &rest[word.len()..];
            word
        };
        words.push(word);
        rest = near(rest);
    }
    if !rest.is_empty() {
        words.push(rest);
    }
    words
}

/// `text.splitlines(keep)`
fn lines(text: &str, keep: bool) -> Vec<&str> {
    const BREAKS: [char; 10] =
        ['\n', '\r', '\x0b', '\x0c', '\x1c', '\x1d', '\x1e', '\u{85}', '\u{2028}', '\u{2029}'];
    let (mut lines, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let end = rest.find(BREAKS).unwrap_or(rest.len());
        let after = match rest[end..].chars().next() {
            Some('\r') if rest[end + 1..].starts_with('\n') => end + 2,
            Some(c) => end + c.len_utf8(),
            None => end,
        };
        lines.push(&rest[..if keep { after } else { end }]);
        rest = &rest[after..];
    }
    lines
}

/// `text[start:end]`, with the number of characters before it.
fn window(text: &str, start: Option<i64>, end: Option<i64>) -> (usize, &str) {
    if start.is_none() && end.is_none() {
        return (0, text);
    }
    let n = text.chars().count();
    let place = |at: i64| usize::try_from(if at < 0 { at + n as i64 } else { at }).unwrap_or(0).min(n);
    let (start, end) = (place(start.unwrap_or(0)), end.map_or(n, place));
    let byte = |at| text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte);
    if start >= end { (start, "") } else { (start, &text[byte(start)..byte(end)]) }
}

/// `text.center(width, fill)` and its kin.
pub(super) fn pad(state: &State, text: &str, how: &str, width: i64, fill: &str) -> Result<String, Error> {
    let mut fills = fill.chars();
    let (Some(_), None) = (fills.next(), fills.next()) else {
        return Err(invalid("the fill is one character"));
    };
    let width = usize::try_from(width).unwrap_or(0);
    let missing = width.saturating_sub(text.chars().count());
    charge(state, missing.saturating_mul(fill.len()))?;
    let left = match how {
        "center" => missing / 2 + (missing & width & 1),
        "rjust" => missing,
        _ => 0,
    };
    Ok(fill.repeat(left) + text + &fill.repeat(missing - left))
}

fn expand_tabs(text: &str, size: usize) -> String {
    let (mut out, mut column) = (String::new(), 0);
    for c in text.chars() {
        match c {
            '\t' => {
                let n = if size == 0 { 0 } else { size - column % size };
                (0..n).for_each(|_| out.push(' '));
                column += n;
            }
            '\n' | '\r' => {
                out.push(c);
                column = 0;
            }
            _ => {
                out.push(c);
                column += 1;
            }
        }
    }
    out
}

fn title(text: &str) -> String {
    let (mut out, mut in_word) = (String::new(), false);
    for c in text.chars() {
        if in_word {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        in_word = c.is_alphabetic();
    }
    out
}

/// The sum of all numbers in a format string: characters by which widths and precisions may pad.
fn widths(format: &str) -> usize {
    let numbers = format.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let width = |digits: &str| digits.parse().unwrap_or(usize::MAX / 8);
    numbers.fold(0, |sum: usize, digits| sum.saturating_add(width(digits)))
}
