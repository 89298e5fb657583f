//! One string out of a Python pickle, as LiveCodeBench's private tests are kept: base64 of zlib of a pickle of a string of JSON.
//!
//! A pickle is a program. Of its operations only those are known that push one string; any other is refused, nothing is run.

use super::row::Skip;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use std::io::Read as _;

/// Largest string, bytes.
const MAX_BYTES: u64 = 512 << 20;

/// The string in `text`.
pub(super) fn unpack(text: &str) -> Result<String, Skip> {
    let wrong = |what: &str| format!("private tests that can't be read ({what})");
    let packed = BASE64_STANDARD.decode(text.trim()).map_err(|_| wrong("no base64"))?;
    let mut pickle = Vec::new();
    let mut inflate = flate2::read::ZlibDecoder::new(&packed[..]).take(MAX_BYTES + 1);
    inflate.read_to_end(&mut pickle).map_err(|_| wrong("no zlib"))?;
    if pickle.len() as u64 > MAX_BYTES {
        return Err(wrong("they are too large"));
    }
    string(&pickle).ok_or_else(|| wrong("a pickle of something else than one string"))
}

/// The string that `pickle` is: protocol, frame, string, memo, stop.
fn string(mut pickle: &[u8]) -> Option<String> {
    let mut found = None;
    loop {
        let operation = *pickle.split_off_first()?;
        let length = match operation {
            0x80 | b'q' => 1,                // PROTO, BINPUT
            b'r' => 4,                       // LONG_BINPUT
            0x95 => 8,                       // FRAME
            0x94 => 0,                       // MEMOIZE
            0x8c => number(&mut pickle, 1)?, // SHORT_BINUNICODE
            b'X' => number(&mut pickle, 4)?, // BINUNICODE
            0x8d => number(&mut pickle, 8)?, // BINUNICODE8
            b'.' if pickle.is_empty() => return found,
            _ => return None,
        };
        let bytes = pickle.split_off(..length)?;
        if matches!(operation, 0x8c | b'X' | 0x8d)
            && found.replace(String::from_utf8(bytes.to_vec()).ok()?).is_some()
        {
            return None;
        }
    }
}

/// A little-endian number of so many bytes.
fn number(pickle: &mut &[u8], bytes: usize) -> Option<usize> {
    let bytes = pickle.split_off(..bytes)?;
    usize::try_from(bytes.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn packed(pickle: &[u8]) -> String {
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(pickle).expect("a Vec takes all");
        BASE64_STANDARD.encode(zlib.finish().expect("a Vec takes all"))
    }

    #[test]
    fn one_string_is_read_in_every_protocol() {
        let four = b"\x80\x04\x95\x09\0\0\0\0\0\0\0\x8c\x05\"\xc3\xa9\"x\x94.";
        let two = b"\x80\x02X\x05\0\0\0\"\xc3\xa9\"xq\0.";
        let long = b"\x80\x04\x8d\x05\0\0\0\0\0\0\0\"\xc3\xa9\"x\x94.";
        for pickle in [&four[..], two, long] {
            assert_eq!(unpack(&packed(pickle)), Ok("\"é\"x".to_owned()));
        }
    }

    #[test]
    fn whatever_else_a_pickle_says_is_refused() {
        let system = b"cos\nsystem\n(S'true'\ntR.";
        let reduce = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94.";
        let two_strings = b"\x80\x04\x8c\x01a\x94\x8c\x01b\x94.";
        for pickle in [
            &system[..],
            reduce,
            two_strings,
            b"\x80\x04]\x94.",
            b"\x80\x04\x8c\x05ab",
            b".",
            b"",
            b"\x8c\x01a..",
        ] {
            let error = unpack(&packed(pickle)).expect_err("refused");
            assert!(error.contains("one string"), "{error}");
        }
        assert!(unpack("no base64!").is_err() && unpack("AAAA").is_err());
    }
}
