//! The words that the classifier sees.
//!
//! Letters are lower-case words, each Han or kana character is a word, digits are `<num>` however many. A formula, `$…$` or
//! `$$…$$`, begins with `<formula>`; its commands are words as LaTeX spells them (`\frac`), and so are its operators. Outside of
//! formulas a command is a word too, and punctuation is none. So prices and shell variables are no formulas, and a page in another
//! notation has the same words.

/// What any number is to the classifier.
pub const NUMBER: &str = "<num>";
/// What begins a formula.
pub const FORMULA: &str = "<formula>";
/// Bytes of a formula, at most: a dollar that is closed later is a price.
const MAX_FORMULA_BYTES: usize = 2000;
/// Bytes of a word, at most; the rest of a longer one is left out.
pub const MAX_WORD_BYTES: usize = 64;

/// Hands `each` the words of `text` in their order. `word` is memory to work in.
pub fn tokens(text: &str, word: &mut Vec<u8>, mut each: impl FnMut(&[u8])) {
    let bytes = text.as_bytes();
    let (mut at, mut formula_end) = (0, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | 0x80.. => at = letters(text, at, word, &mut each),
            b'0'..=b'9' => {
                let digit = |b: &&u8| matches!(b, b'0'..=b'9' | b'.' | b',');
                at += bytes[at..].iter().take_while(digit).count();
                each(NUMBER.as_bytes());
            }
            b'\\' => {
                let length = bytes[at + 1..].iter().take_while(|b| b.is_ascii_alphabetic()).count();
                if length > 0 {
                    each(&bytes[at..at + 1 + length.min(MAX_WORD_BYTES - 1)]);
                }
                // `\\` and `\,` are spaces.
                at += if length == 0 && bytes.get(at + 1).is_some_and(u8::is_ascii) { 2 } else { 1 + length };
            }
            b'$' if at >= formula_end => {
                let (end, width) = formula(bytes, at);
                if let Some(end) = end {
                    each(FORMULA.as_bytes());
                    formula_end = end;
                }
                at += width;
            }
            b'=' | b'+' | b'-' | b'*' | b'/' | b'^' | b'_' | b'<' | b'>' | b'|' | b'!'
                if at < formula_end =>
            {
                each(&bytes[at..=at]);
                at += 1;
            }
            _ => at += 1,
        }
    }
}

/// The text as a line of fastText's: its words, a space between each two.
pub fn line(text: &str) -> String {
    let mut line = Vec::with_capacity(text.len());
    tokens(text, &mut Vec::new(), |token| {
        if !line.is_empty() {
            line.push(b' ');
        }
        line.extend_from_slice(token);
    });
    String::from_utf8(line).expect("words are cut between characters")
}

/// A word of letters, or a character that is one; where it ends.
fn letters(text: &str, start: usize, word: &mut Vec<u8>, each: &mut impl FnMut(&[u8])) -> usize {
    let bytes = text.as_bytes();
    let mut at = start;
    word.clear();
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {
                if word.len() < MAX_WORD_BYTES {
                    word.push(byte | 0x20);
                }
                at += 1;
            }
            b'\'' if !word.is_empty() && bytes.get(at + 1).is_some_and(u8::is_ascii_alphabetic) => at += 1,
            0..0x80 => break,
            _ => {
                let Some(c) = text[at..].chars().next() else { break };
                if stands_alone(c) || !c.is_alphabetic() {
                    if word.is_empty() {
                        if stands_alone(c) {
                            each(&bytes[at..at + c.len_utf8()]);
                        }
                        return at + c.len_utf8();
                    }
                    break;
                }
                at += c.len_utf8();
                for lower in c.to_lowercase() {
                    if word.len() + lower.len_utf8() <= MAX_WORD_BYTES {
                        word.extend_from_slice(lower.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                }
            }
        }
    }
    each(word);
    at
}

/// Where the formula ends, with its last dollar, that the dollar at `start` begins, if it begins one; and how many dollars there
/// are.
fn formula(bytes: &[u8], start: usize) -> (Option<usize>, usize) {
    let rest = &bytes[start..bytes.len().min(start + MAX_FORMULA_BYTES)];
    if rest.starts_with(b"$$") {
        let end = rest[2..].windows(2).position(|pair| pair == b"$$");
        return (end.filter(|&length| length > 0).map(|length| start + 4 + length), 2);
    }
    let Some(length) = rest[1..].iter().position(|&b| b == b'$' || b == b'\n') else { return (None, 1) };
    let inside = &rest[1..=length];
    let closed = rest[1 + length] == b'$' && !rest.get(2 + length).is_some_and(u8::is_ascii_alphanumeric);
    let tight = !inside.first().is_none_or(u8::is_ascii_whitespace)
        && !inside.last().is_none_or(u8::is_ascii_whitespace);
    let short = inside.len() <= 3;
    let marked = inside.iter().any(|b| b"\\^_=<>+".contains(b));
    ((closed && tight && (short || marked)).then_some(start + 2 + length), 1)
}

/// Whether a character is a word: scripts without spaces.
fn stands_alone(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_of_letters_numbers_commands_and_han() {
        assert_eq!(line("The Roots of 2,500.5 equations; don't!"), "the roots of <num> equations dont");
        assert_eq!(line("设函数f(x)连续"), "设 函 数 f x 连 续");
        assert_eq!(line("Größe ÉTÉ наука"), "größe été наука");
        assert_eq!(line(r"\Delta\delta \\ \, x"), r"\Delta \delta x");
        assert_eq!(line(""), "");
        assert_eq!(line("\\"), "");
    }

    #[test]
    fn formulas_are_marked_and_prices_are_not() {
        assert_eq!(line(r"so $x^2=\frac{1}{2}$."), r"so <formula> x ^ <num> = \frac <num> <num>");
        assert_eq!(line("$$a-b$$ and a-b"), "<formula> a - b and a b");
        assert_eq!(line("is $n$ even"), "is <formula> n even");
        for price in
            ["from $5 to $20 now", "$HOME/bin:$PATH", "cost $5, or $6", "$ 5 and $ 6", "a $", "$$", "$$$$"]
        {
            assert!(!line(price).contains(FORMULA), "{price}: {}", line(price));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_has_words_without_spaces(text in "[ -~\\n$\\\\é数]{0,60}") {
            for token in line(&text).split(' ') {
                proptest::prop_assert!(token.len() <= MAX_WORD_BYTES && !token.chars().any(char::is_whitespace));
            }
        }
    }
}
