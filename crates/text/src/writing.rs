//! How a vocabulary writes bytes.

use tokenizers::DecoderWrapper;

/// How a vocabulary writes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// As GPT-2 does: each byte is a character, those that are printed stand for themselves.
    ByteLevel,
    /// As sentencepiece does: in text, with `▁` for a space, and `<0x0A>` for a byte that is no text.
    Pieces,
    /// In text.
    Plain,
}

impl Writing {
    /// That of a tokenizer.
    pub(crate) fn of(tokenizer: &tokenizers::Tokenizer) -> Self {
        tokenizer.get_decoder().map_or(Self::Plain, Self::of_decoder)
    }

    fn of_decoder(decoder: &DecoderWrapper) -> Self {
        match decoder {
            DecoderWrapper::ByteLevel(_) => Self::ByteLevel,
            DecoderWrapper::ByteFallback(_) | DecoderWrapper::Metaspace(_) => Self::Pieces,
            DecoderWrapper::Sequence(sequence) => {
                let of_parts = sequence.get_decoders().iter().map(Self::of_decoder);
                of_parts.reduce(|a, b| if a == Self::Plain { b } else { a }).unwrap_or(Self::Plain)
            }
            _ => Self::Plain,
        }
    }

    /// The bytes that `token` writes.
    pub(crate) fn bytes(self, token: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel => token.chars().flat_map(byte_level).collect(),
            Self::Pieces => {
                let hex = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
                match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                    Some(byte) => vec![byte],
                    None => token.replace('\u{2581}', " ").into_bytes(),
                }
            }
            Self::Plain => token.as_bytes().to_vec(),
        }
    }
}

/// The byte that a character stands for in GPT-2's vocabulary; of any other character its own bytes.
fn byte_level(c: char) -> Vec<u8> {
    let is_printed = |b: u32| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let code = u32::from(c);
    if is_printed(code) {
        return vec![code as u8];
    }
    // The others are the characters from 256 on, in their order.
    let others = (0..256u32).filter(|&b| !is_printed(b));
    match others.zip(256u32..).find(|&(_, other)| other == code) {
        Some((byte, _)) => vec![byte as u8],
        None => c.to_string().into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_writing_gives_its_bytes() {
        assert_eq!(Writing::ByteLevel.bytes("\u{120}caf\u{c3}\u{a9}\u{10a}"), " caf\u{e9}\n".as_bytes());
        assert_eq!(Writing::ByteLevel.bytes("\u{c2}"), [194]);
        assert_eq!(Writing::Pieces.bytes("\u{2581}a"), b" a");
        assert_eq!(Writing::Pieces.bytes("<0xC2>"), [0xc2]);
        assert_eq!(Writing::Plain.bytes("a\u{2581}"), "a\u{2581}".as_bytes());
    }
}
