//! When what a program printed, or returned, is what a test expects.
//!
//! Printed text is compared line by line, white space at the ends of lines and empty lines at the end aside. Lines
//! that differ are compared word by word: words are equal as text, or as decimal numbers where one of them has a
//! point or an exponent (`2.50` and `2.5`, `3` and `3.0`; but not `011` and `11`, which may be no numbers).
//!
//! Returned values are compared as JSON: lists in order, objects by key, strings, booleans and null as they are.
//! Numbers are equal by value, whatever their notation: integers of any length digit by digit; floats as the
//! doubles that they are. A problem's `tolerance` widens comparison with expected numbers that have a point or an
//! exponent: |found - expected| <= tolerance · max(1, |expected|).

use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Values nested deeper are refused.
const MAX_DEPTH: usize = 128;

/// The first line (from 1) on which `found` differs from `expected`, with both lines.
pub(super) struct Difference<'a> {
    pub(super) line: usize,
    pub(super) found: Option<&'a str>,
    pub(super) expected: Option<&'a str>,
}

/// Compares printed text.
pub(super) fn printed<'a>(
    found: &'a str,
    expected: &'a str,
    tolerance: Option<f64>,
) -> Result<(), Difference<'a>> {
    let mut lines = [found, expected].map(|text| text.trim_end().split('\n').map(str::trim_end));
    let [found, expected] = &mut lines;
    for line in 1.. {
        match (found.next(), expected.next()) {
            (None, None) => break,
            (Some(found), Some(expected)) if same_words(found, expected, tolerance) => {}
            (found, expected) => return Err(Difference { line, found, expected }),
        }
    }
    Ok(())
}

fn same_words(found: &str, expected: &str, tolerance: Option<f64>) -> bool {
    if found == expected {
        return true;
    }
    let same_word = |found: &str, expected: &str| {
        found == expected
            || match (Number::parse(found), Number::parse(expected)) {
                (Some(found), Some(expected)) if found.is_float || expected.is_float => {
                    found.value == expected.value || found.is_near(&expected, tolerance)
                }
                _ => false,
            }
    };
    let (mut found, mut expected) = (found.split_whitespace(), expected.split_whitespace());
    loop {
        match (found.next(), expected.next()) {
            (None, None) => return true,
            (Some(found), Some(expected)) if same_word(found, expected) => {}
            _ => return false,
        }
    }
}

/// A JSON value, with every digit of its numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Data {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Data>),
    Object(BTreeMap<String, Data>),
}

impl Data {
    /// Reads `raw`; or says why it is not plain data.
    pub(super) fn read(raw: &RawValue) -> Result<Self, String> {
        Self::read_nested(raw, 0)
    }

    fn read_nested(raw: &RawValue, depth: usize) -> Result<Self, String> {
        if depth > MAX_DEPTH {
            return Err(format!("values are nested more than {MAX_DEPTH} deep"));
        }
        let text = raw.get().trim_ascii();
        let words = |error: serde_json::Error| error.to_string();
        Ok(match text.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't' | b'f') => Self::Bool(text == "true"),
            Some(b'"') => Self::Text(serde_json::from_str(text).map_err(words)?),
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(text).map_err(words)?;
                let read = items.into_iter().map(|item| Self::read_nested(item, depth + 1));
                Self::List(read.collect::<Result<_, _>>()?)
            }
            Some(b'{') => {
                let items: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(words)?;
                let read =
                    items.into_iter().map(|(key, item)| Ok((key, Self::read_nested(item, depth + 1)?)));
                Self::Object(read.collect::<Result<_, String>>()?)
            }
            _ => Self::Number(Number::parse(text).ok_or_else(|| format!("`{text}` is out of range"))?),
        })
    }

    /// How many bytes the contained interpreter writes for a value such as this.
    pub(super) fn n_bytes(&self) -> usize {
        let list = |items: usize, n: usize| 2 + items + 2 * n.saturating_sub(1);
        match self {
            Self::Null => 4,
            Self::Bool(value) => {
                if *value {
                    4
                } else {
                    5
                }
            }
            Self::Number(number) => number.n_bytes,
            Self::Text(text) => text_bytes(text),
            Self::List(items) => list(items.iter().map(Self::n_bytes).sum(), items.len()),
            Self::Object(items) => {
                list(items.iter().map(|(key, item)| text_bytes(key) + 2 + item.n_bytes()).sum(), items.len())
            }
        }
    }

    /// Whether a program that returned this returned what is expected.
    pub(super) fn is(&self, expected: &Self, tolerance: Option<f64>) -> bool {
        match (self, expected) {
            (Self::Number(found), Self::Number(expected)) => {
                let same_double = found.is_float && expected.is_float && found.double == expected.double;
                found.value == expected.value || same_double || found.is_near(expected, tolerance)
            }
            (Self::List(found), Self::List(expected)) => {
                found.len() == expected.len()
                    && found.iter().zip(expected).all(|(found, expected)| found.is(expected, tolerance))
            }
            (Self::Object(found), Self::Object(expected)) => {
                found.len() == expected.len()
                    && found.iter().zip(expected).all(|((found_key, found), (key, expected))| {
                        found_key == key && found.is(expected, tolerance)
                    })
            }
            _ => self == expected,
        }
    }
}

/// How long a text is in JSON that is written in ASCII.
fn text_bytes(text: &str) -> usize {
    let n_bytes = |c: char| match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        ' '..='~' => 1,
        _ => 6 * c.len_utf16(),
    };
    2 + text.chars().map(n_bytes).sum::<usize>()
}

/// A number as it is written: sign, digits, a point, an exponent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Number {
    value: Decimal,
    double: f64,
    /// Whether it is written with a point or an exponent.
    is_float: bool,
    /// How long it is as it is written; of one with a point or an exponent, at least.
    n_bytes: usize,
}

/// ±digits · 10^exponent, without zeros at either end of the digits; zero has none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Decimal {
    is_negative: bool,
    digits: String,
    exponent: i64,
}

impl Number {
    /// Reads `[+-] digits [. digits] [e [+-] digits]`; none if `text` is anything else, or beyond the range of doubles.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Some(exponent)),
            None => (unsigned, None),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) || whole.len() + fraction.len() == 0 {
            return None;
        }
        let is_float = exponent.is_some() || mantissa.contains('.');
        let exponent = exponent.map_or(Some(0), |exponent| exponent.parse::<i32>().ok())?;
        let double: f64 = text.parse().ok()?;
        if is_float && !double.is_finite() {
            return None;
        }
        let all = format!("{whole}{fraction}");
        let significant = all.trim_start_matches('0').trim_end_matches('0');
        let n_zeros = all.len() - all.trim_end_matches('0').len();
        let value = Decimal {
            is_negative: text.starts_with('-') && !significant.is_empty(),
            digits: significant.to_owned(),
            exponent: match significant {
                "" => 0,
                _ => i64::from(exponent) - fraction.len() as i64 + n_zeros as i64,
            },
        };
        let n_bytes = if is_float { 3.min(text.len()) } else { text.len() };
        Some(Self { value, double, is_float, n_bytes })
    }

    fn is_near(&self, expected: &Self, tolerance: Option<f64>) -> bool {
        expected.is_float
            && tolerance.is_some_and(|tolerance| {
                (self.double - expected.double).abs() <= tolerance * expected.double.abs().max(1.0)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_printed(found: &str, expected: &str) -> bool {
        printed(found, expected, None).is_ok()
    }

    fn data(text: &str) -> Data {
        Data::read(&RawValue::from_string(text.to_owned()).expect("JSON")).expect("plain")
    }

    #[test]
    fn printed_text_is_compared_by_lines_then_by_words() {
        for (found, expected) in [
            ("1\n2\n", "1\n2"),
            ("1  \r\n2\n\n\n", "1\n2"),
            (" 1 2", "1  2"),
            ("2.50 x", "2.5 x"),
            ("3", "3.0"),
            ("1e3", "1000.0"),
            ("-0.0", "0"),
            ("+5.0", "5"),
            ("", "\n"),
        ] {
            assert!(is_printed(found, expected), "{found:?} {expected:?}");
        }
        for (found, expected) in [
            ("1", "1\n2"), // a first line that is right does not stand for all
            ("1\n2\n3", "1\n2"),
            ("1\n\n2", "1\n2"),
            ("", "0"),
            ("12", "1 2"),
            ("011", "11"),
            ("+5", "5"),
            ("1.0000001", "1.0"),
            ("100000000000000000000000000000000000001", "100000000000000000000000000000000000000"),
            ("0.0000001", "0.0000002"),
            ("nan", "NaN"),
            ("inf", "1e999"),
            ("Yes", "YES"),
            ("1_000", "1000.0"),
            ("٣", "3.0"),
        ] {
            assert!(!is_printed(found, expected), "{found:?} {expected:?}");
        }
        let difference = printed("1\n2", "1\n3", None).expect_err("differs");
        assert_eq!((difference.line, difference.found, difference.expected), (2, Some("2"), Some("3")));
    }

    #[test]
    fn a_tolerance_is_for_numbers_with_a_point() {
        assert!(printed("0.3333333333", "0.333333", Some(1e-6)).is_ok());
        assert!(printed("3333333.3", "3333333.4", Some(1e-6)).is_ok());
        assert!(printed("0.34", "0.333333", Some(1e-6)).is_err());
        assert!(printed("1000001", "1000000", Some(1e-3)).is_err());
        assert!(data("[0.1]").is(&data("[0.1000000001]"), Some(1e-6)));
        assert!(!data("1000001").is(&data("1000000"), Some(1e-3)));
    }

    #[test]
    fn returned_values_are_compared_by_value() {
        for (found, expected) in [
            ("1", "1.0"),
            ("0.1", "0.1000000000000000055511151231257827"),
            ("1e2", "100"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("[1, [2, {}], null]", "[1,[2,{}],null]"),
            (r#"{"a": 1, "b": "x"}"#, r#"{"b": "\u0078", "a": 1}"#),
        ] {
            assert!(data(found).is(&data(expected), None), "{found} {expected}");
        }
        for (found, expected) in [
            ("true", "1"),
            ("1", "true"),
            ("\"1\"", "1"),
            ("null", "0"),
            ("[1, 2]", "[2, 1]"),
            ("[1]", "[1, 1]"),
            ("0.30000000000000004", "0.3"),
            ("123456789012345678901234567891", "123456789012345678901234567890"),
            ("100000000000000000001", "1e20"),
            (r#"{"a": 1}"#, r#"{"b": 1}"#),
            (r#"{"a": 1}"#, r#"{"a": 1, "b": 1}"#),
        ] {
            assert!(!data(found).is(&data(expected), None), "{found} {expected}");
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = ["[".repeat(100_000), "]".repeat(100_000)].concat();
        let raw = serde_json::from_str::<Box<RawValue>>(&deep);
        assert!(raw.is_err() || raw.is_ok_and(|raw| Data::read(&raw).is_err()));
    }

    proptest! {
        #[test]
        fn a_number_is_itself_however_it_is_written(n in -1_000_000_000_i64..1_000_000_000, zeros in 0..5_usize, e in 0..5_u32) {
            let plain = format!("{n}");
            let scaled = n * 10_i64.pow(e);
            let fractional = format!("{n}.{}", "0".repeat(zeros + 1));
            prop_assert!(data(&plain).is(&data(&fractional), None));
            let scaled_matches = data(&format!("{n}e{e}")).is(&data(&scaled.to_string()), None);
            prop_assert!(scaled_matches);
            let next = (n + 1).to_string();
            prop_assert!(!data(&plain).is(&data(&next), None));
        }

        #[test]
        fn any_text_can_be_compared(a in "[-+.0-9eE \\n]{0,20}", b in "[-+.0-9eE \\n]{0,20}") {
            prop_assert!(is_printed(&a, &a));
            prop_assert_eq!(is_printed(&a, &b), is_printed(&b, &a));
        }
    }
}
