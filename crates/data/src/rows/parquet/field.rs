//! A record of a Parquet file as JSON. Nothing is rounded: decimals, dates, times and timestamps are text.
//!
//! | Parquet | JSON |
//! |---|---|
//! | integers | numbers, every digit |
//! | floats | the shortest decimal that reads back as the same float; NaN and infinities null |
//! | decimal | a string of its digits: "12.50" |
//! | date, time, timestamp | "2024-11-02", "13:05:00.250", "2024-11-02T13:05:00.250" |
//! | string, JSON, enum | a string |
//! | bytes | a string if they are UTF-8, else {"base64": …}; a UUID in its usual form |
//! | list, struct, map | a list; an object; an object, or a list of {"key", "value"} if keys are no strings |

use base64::{Engine as _, prelude::BASE64_STANDARD};
use parquet::basic::{ConvertedType, LogicalType, TimeUnit};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use std::fmt::Write as _;
use std::io::Write as _;

/// What pandas calls the numbers of rows, which are no data.
const INDEX: &str = "__index_level_";

/// Writes `row`, of the type `schema`.
pub(super) fn write_row(out: &mut Vec<u8>, row: &Row, schema: &Type) -> Result<(), String> {
    write_fields(out, row, schema, true)
}

fn write_fields(out: &mut Vec<u8>, row: &Row, schema: &Type, is_top: bool) -> Result<(), String> {
    out.push(b'{');
    let mut is_first = true;
    for (i, (name, field)) in row.get_column_iter().enumerate() {
        if is_top && name.starts_with(INDEX) {
            continue;
        }
        if !is_first {
            out.push(b',');
        }
        is_first = false;
        write_text(out, name);
        out.push(b':');
        let kind = schema.is_group().then(|| schema.get_fields().get(i)).flatten();
        write(out, field, kind.map(AsRef::as_ref)).map_err(|what| format!("column {name}: {what}"))?;
    }
    out.push(b'}');
    Ok(())
}

/// The type of a list's elements, by the rules of the format's LogicalTypes.md.
fn element(list: &Type) -> Option<&Type> {
    if list.is_primitive() || list.get_basic_info().converted_type() != ConvertedType::LIST {
        return Some(list); // a repeated field without a list around it
    }
    let repeated = list.get_fields().first()?;
    let is_element = repeated.is_primitive()
        || repeated.get_fields().len() > 1
        || repeated.name() == "array"
        || repeated.name().ends_with("_tuple");
    if is_element { Some(repeated) } else { repeated.get_fields().first().map(AsRef::as_ref) }
}

fn write(out: &mut Vec<u8>, field: &Field, kind: Option<&Type>) -> Result<(), String> {
    let logical = kind.and_then(|kind| kind.get_basic_info().logical_type_ref());
    match field {
        Field::Null => out.extend(b"null"),
        Field::Bool(value) => write_plain(out, value),
        Field::Byte(value) => write_plain(out, value),
        Field::Short(value) => write_plain(out, value),
        Field::Int(value) => write_plain(out, value),
        Field::UByte(value) => write_plain(out, value),
        Field::UShort(value) => write_plain(out, value),
        Field::UInt(value) => write_plain(out, value),
        Field::ULong(value) => write_plain(out, value),
        Field::Long(value) => match logical {
            Some(LogicalType::Timestamp(stamp)) if stamp.unit == TimeUnit::NANOS => {
                write_text(out, &timestamp(i128::from(*value), logical));
            }
            Some(LogicalType::Time(_)) => write_text(out, &time(i128::from(*value))),
            _ => write_plain(out, value),
        },
        Field::Float16(value) => write_float(out, f64::from(value.to_f32()), &value.to_f32()),
        Field::Float(value) => write_float(out, f64::from(*value), value),
        Field::Double(value) => write_float(out, *value, value),
        Field::Decimal(decimal) => write_text(out, &decimal_text(decimal.data(), decimal.scale())?),
        Field::Str(text) => write_text(out, text),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            _ if matches!(logical, Some(LogicalType::Uuid)) => write_text(out, &uuid(bytes.data())),
            Ok(text) => write_text(out, text),
            Err(_) => {
                out.extend(b"{\"base64\":");
                write_text(out, &BASE64_STANDARD.encode(bytes.data()));
                out.push(b'}');
            }
        },
        Field::Date(days) => write_text(out, &date(i64::from(*days))),
        Field::TimeMillis(value) => write_text(out, &time(i128::from(*value) * 1_000_000)),
        Field::TimeMicros(value) => write_text(out, &time(i128::from(*value) * 1000)),
        Field::TimestampMillis(value) => write_text(out, &timestamp(i128::from(*value) * 1_000_000, logical)),
        Field::TimestampMicros(value) => write_text(out, &timestamp(i128::from(*value) * 1000, logical)),
        Field::Group(row) => match kind.filter(|kind| kind.is_group()) {
            Some(kind) => write_fields(out, row, kind, false)?,
            None => return Err("its type does not fit its values".to_owned()),
        },
        Field::ListInternal(list) => {
            let kind = kind.and_then(element);
            out.push(b'[');
            for (i, field) in list.elements().iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(out, field, kind)?;
            }
            out.push(b']');
        }
        Field::MapInternal(map) => {
            let pair = kind.filter(|kind| kind.is_group()).and_then(|kind| kind.get_fields().first());
            let fields = pair.filter(|pair| pair.is_group()).map(|pair| pair.get_fields());
            let of = |i: usize| fields.and_then(|fields| fields.get(i)).map(AsRef::as_ref);
            let has_names = map.entries().iter().all(|(key, _)| matches!(key, Field::Str(_)));
            out.push(if has_names { b'{' } else { b'[' });
            for (i, (key, value)) in map.entries().iter().enumerate() {
                out.extend(if i > 0 { &b","[..] } else { b"" });
                out.extend(if has_names { &b""[..] } else { b"{\"key\":" });
                write(out, key, of(0))?;
                out.extend(if has_names { &b":"[..] } else { b",\"value\":" });
                write(out, value, of(1))?;
                out.extend(if has_names { &b""[..] } else { b"}" });
            }
            out.push(if has_names { b'}' } else { b']' });
        }
    }
    Ok(())
}

fn write_plain(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    let _ = write!(out, "{value}"); // a Vec takes all
}

fn write_float(out: &mut Vec<u8>, value: f64, float: &impl serde::Serialize) {
    if value.is_finite() {
        serde_json::to_writer(out, float).expect("a Vec takes all, and a float is JSON");
    } else {
        out.extend(b"null");
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a Vec takes all, and text is JSON");
}

/// A decimal of which `bytes` are the digits, a big-endian integer, `scale` of them after the point.
fn decimal_text(bytes: &[u8], scale: i32) -> Result<String, String> {
    const MAX_DIGITS: usize = 80;
    let mut magnitude = bytes.to_vec();
    let is_negative = bytes.first().is_some_and(|&byte| byte >= 0x80);
    if is_negative {
        for byte in &mut magnitude {
            *byte = !*byte;
        }
        for byte in magnitude.iter_mut().rev() {
            let (sum, carry) = byte.overflowing_add(1);
            *byte = sum;
            if !carry {
                break;
            }
        }
    }
    let scale = usize::try_from(scale).ok().filter(|&scale| scale < MAX_DIGITS && bytes.len() <= 32);
    let scale = scale.ok_or("a decimal of more than 32 bytes")?;
    let mut digits = Vec::new();
    while magnitude.iter().any(|&byte| byte != 0) || digits.len() <= scale {
        let mut rest = 0u32;
        for byte in &mut magnitude {
            let value = rest * 256 + u32::from(*byte);
            *byte = (value / 10) as u8;
            rest = value % 10;
        }
        digits.push(b'0' + rest as u8);
    }
    let mut text = if is_negative { "-".to_owned() } else { String::new() };
    for (i, &digit) in digits.iter().enumerate().rev() {
        text.push(char::from(digit));
        if i == scale && scale > 0 {
            text.push('.');
        }
    }
    Ok(text)
}

fn uuid(bytes: &[u8]) -> String {
    bytes.iter().enumerate().fold(String::new(), |mut text, (i, byte)| {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}"); // a String takes all
        text
    })
}

/// The date of a day counted from 1970-01-01 in the Gregorian calendar (Hinnant, days_from_civil).
fn date(days: i64) -> String {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

const SECOND: i128 = 1_000_000_000;

/// The time of so many nanoseconds after midnight.
fn time(nanoseconds: i128) -> String {
    let (seconds, rest) = (nanoseconds.div_euclid(SECOND), nanoseconds.rem_euclid(SECOND));
    let mut text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if rest > 0 {
        let digits = format!("{rest:09}");
        let digits = digits.trim_end_matches('0');
        let _ = write!(text, ".{digits:0<3}"); // a String takes all
    }
    text
}

/// The time of so many nanoseconds after 1970; with a Z if its type says that it is in UTC.
fn timestamp(nanoseconds: i128, logical: Option<&LogicalType>) -> String {
    const DAY: i128 = 86_400 * SECOND;
    let days = nanoseconds.div_euclid(DAY) as i64;
    let is_utc = matches!(logical, Some(LogicalType::Timestamp(stamp)) if stamp.is_adjusted_to_u_t_c);
    format!("{}T{}{}", date(days), time(nanoseconds.rem_euclid(DAY)), if is_utc { "Z" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_times_and_decimals_are_exact() {
        assert_eq!(
            [-1, 0, 59, 11_016, 19_787].map(date),
            ["1969-12-31", "1970-01-01", "1970-03-01", "2000-02-29", "2024-03-05"]
        );
        assert_eq!(timestamp(1_730_552_700_250_000_000, None), "2024-11-02T13:05:00.250");
        assert_eq!(timestamp(-1, None), "1969-12-31T23:59:59.999999999");
        for (bytes, scale, text) in [
            (&1250i32.to_be_bytes()[..], 2, "12.50"),
            (&(-5i32).to_be_bytes(), 2, "-0.05"),
            (&0i32.to_be_bytes(), 2, "0.00"),
            (&[0x80], 0, "-128"),
            (&u128::MAX.to_be_bytes(), 0, "-1"),
            (&i128::MAX.to_be_bytes(), 3, "170141183460469231731687303715884105.727"),
            (&[], 0, "0"),
        ] {
            assert_eq!(decimal_text(bytes, scale).expect("short"), text);
        }
        assert!(decimal_text(&[1; 40], 0).is_err() && decimal_text(&[1], -1).is_err());
    }
}
