//! `strftime_now`, on a fixed day.

use minijinja::{Error, ErrorKind};

/// Friday, 26 July 2024, 00:00, in the format of Python's `strftime` (locale C).
pub(super) fn strftime_now(format: &str) -> Result<String, Error> {
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let unknown = |what: String| {
            Err(Error::new(ErrorKind::InvalidOperation, format!("strftime_now: `%{what}` is not known")))
        };
        text += match rest.next() {
            // Without padding.
            Some('-') => match rest.next() {
                Some('d' | 'e') => "26",
                Some('m') => "7",
                Some('y') => "24",
                Some('j') => "208",
                Some('H' | 'M' | 'S' | 'k') => "0",
                Some('I' | 'l') => "12",
                other => return unknown(format!("-{}", other.map(String::from).unwrap_or_default())),
            },
            Some('a') => "Fri",
            Some('A') => "Friday",
            Some('b' | 'h') => "Jul",
            Some('B') => "July",
            Some('c') => "Fri Jul 26 00:00:00 2024",
            Some('C') => "20",
            Some('d' | 'e') => "26",
            Some('D' | 'x') => "07/26/24",
            Some('f') => "000000",
            Some('F') => "2024-07-26",
            Some('g' | 'y') => "24",
            Some('G' | 'Y') => "2024",
            Some('H' | 'M' | 'S') => "00",
            Some('I' | 'l') => "12",
            Some('j') => "208",
            Some('k') => " 0",
            Some('m') => "07",
            Some('n') => "\n",
            Some('p') => "AM",
            Some('P') => "am",
            Some('r') => "12:00:00 AM",
            Some('R') => "00:00",
            Some('s') => "1721952000",
            Some('t') => "\t",
            Some('T' | 'X') => "00:00:00",
            Some('u' | 'w') => "5",
            Some('U') => "29",
            Some('V' | 'W') => "30",
            Some('z' | 'Z') => "",
            Some('%') => "%",
            other => return unknown(other.map(String::from).unwrap_or_default()),
        };
    }
    Ok(text)
}
