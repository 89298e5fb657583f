//! JSON as Python writes it: NaN and infinities, and half characters. None of them is JSON; they are read as null and U+FFFD.

/// `json` without them, if it has any.
pub(super) fn repaired(json: &[u8]) -> Option<Vec<u8>> {
    let mut out: Option<Vec<u8>> = None;
    let (mut at, mut in_text) = (0, false);
    // What was repaired is `out`, up to `at`.
    let mut replace = |from: usize, to: usize, with: &[u8], done: &mut usize| {
        let out = out.get_or_insert_with(Vec::new);
        out.extend_from_slice(&json[*done..from]);
        out.extend_from_slice(with);
        *done = to;
    };
    let mut done = 0;
    while at < json.len() {
        let rest = &json[at..];
        match json[at] {
            b'"' => {
                in_text = !in_text;
                at += 1;
            }
            b'\\' if in_text => {
                let Some(unit) = unit(rest) else {
                    at += 2;
                    continue;
                };
                let is_low = |unit: u16| (0xdc00..0xe000).contains(&unit);
                if (0xd800..0xdc00).contains(&unit) && self::unit(&rest[6..]).is_some_and(is_low) {
                    at += 12;
                    continue;
                }
                if (0xd800..0xe000).contains(&unit) {
                    replace(at, at + 6, b"\\ufffd", &mut done);
                }
                at += 6;
            }
            _ if in_text => at += 1,
            b'N' if rest.starts_with(b"NaN") => {
                replace(at, at + 3, b"null", &mut done);
                at += 3;
            }
            b'I' if rest.starts_with(b"Infinity") => {
                replace(at, at + 8, b"null", &mut done);
                at += 8;
            }
            b'-' if rest.starts_with(b"-Infinity") => {
                replace(at, at + 9, b"null", &mut done);
                at += 9;
            }
            _ => at += 1,
        }
    }
    let mut out = out?;
    out.extend_from_slice(&json[done..]);
    Some(out)
}

/// The code unit that `\uXXXX` at the beginning of `text` is.
fn unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_writes_is_read() {
        for (json, expected) in [
            (
                r#"{"a": NaN, "b": [-Infinity, Infinity, 1], "c": "NaN \" Infinity"}"#,
                r#"{"a": null, "b": [null, null, 1], "c": "NaN \" Infinity"}"#,
            ),
            (
                r#"["\ud83d\ude00", "\ud83d", "\ude00x", "\\ud83d", "\u00e9"]"#,
                r#"["\ud83d\ude00", "\ufffd", "\ufffdx", "\\ud83d", "\u00e9"]"#,
            ),
        ] {
            let repaired = repaired(json.as_bytes()).expect("repaired");
            assert_eq!(String::from_utf8(repaired).expect("UTF-8"), expected);
        }
        for whole in ["{\"a\": \"\\ud83d\\ude00\"}", "[1, \"N\\\\\"]", "\"\\u", "\\"] {
            assert_eq!(repaired(whole.as_bytes()), None);
        }
    }
}
