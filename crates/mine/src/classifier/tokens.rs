//! The words that the classifier sees.
//!
//! Letters are lower-case words, and each Han or kana character is a word. Words that sentences of any subject are made of ("the",
//! "which", "的") are left out: how often each occurs is the style of a site, and what is left generalises to others. A formula,
//! `$…$` or `$$…$$`, begins with `<formula>`; its commands are words as LaTeX spells them (`\frac`), its operators are words, and
//! numbers are `<num>`. Outside of formulas a command is a word too, and numbers and punctuation are none. So prices and shell
//! variables are no formulas.

use std::sync::LazyLock;

use super::dictionary::hash;

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
    read(text, word, |token, _| each(token));
}

/// The same, and whether each word is of a formula, its beginning or a command.
fn read(text: &str, word: &mut Vec<u8>, mut each: impl FnMut(&[u8], bool)) {
    let bytes = text.as_bytes();
    let (mut at, mut formula_end) = (0, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | 0x80.. => {
                let inside = at < formula_end;
                at = letters(text, at, word, &mut |token| {
                    if inside || !is_function_word(token) {
                        each(token, inside);
                    }
                });
            }
            b'0'..=b'9' => {
                let digit = |b: &&u8| matches!(b, b'0'..=b'9' | b'.' | b',');
                let start = at;
                at += bytes[at..].iter().take_while(digit).count();
                if start < formula_end {
                    each(NUMBER.as_bytes(), true);
                }
            }
            b'\\' => {
                let length = bytes[at + 1..].iter().take_while(|b| b.is_ascii_alphabetic()).count();
                if length > 0 {
                    each(&bytes[at..at + 1 + length.min(MAX_WORD_BYTES - 1)], true);
                }
                // `\\` and `\,` are spaces.
                at += if length == 0 && bytes.get(at + 1).is_some_and(u8::is_ascii) { 2 } else { 1 + length };
            }
            b'$' if at >= formula_end => {
                let (end, width) = formula(bytes, at);
                if let Some(end) = end {
                    each(FORMULA.as_bytes(), true);
                    formula_end = end;
                }
                at += width;
            }
            b'=' | b'+' | b'-' | b'*' | b'/' | b'^' | b'_' | b'<' | b'>' | b'|' | b'!'
                if at < formula_end =>
            {
                each(&bytes[at..=at], true);
                at += 1;
            }
            _ => at += 1,
        }
    }
}

/// The text as a line of fastText's: its words, a space between each two.
pub fn line(text: &str) -> String {
    lines(text).0
}

/// The same, and the line without formulas if the text has any: what its prose alone would be.
pub(super) fn lines(text: &str) -> (String, Option<String>) {
    let [mut line, mut prose] = [Vec::with_capacity(text.len()), Vec::new()];
    let mut has_formula = false;
    let push = |line: &mut Vec<u8>, token: &[u8]| {
        if !line.is_empty() {
            line.push(b' ');
        }
        line.extend_from_slice(token);
    };
    read(text, &mut Vec::new(), |token, of_formula| {
        push(&mut line, token);
        has_formula |= of_formula;
        if !of_formula && (token.len() > 1 || !token.is_ascii()) {
            push(&mut prose, token);
        }
    });
    let [line, prose] =
        [line, prose].map(|l| String::from_utf8(l).expect("words are cut between characters"));
    (line, (has_formula && !prose.is_empty()).then_some(prose))
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

/// Words of any subject, in the languages in which most mathematics on the web is written.
const FUNCTION_WORDS: &str = "\
    a an the of to in on at by for from with as is are was were be been being am it its this that these those there here he she \
    they we i you him her them us me my your his their our who whom which what when where why how and or but if then than so not \
    no nor do does did done has have had having will would shall should can could may might must about into over under after \
    before between during through up down out off again further once all any both each few more most other some such only own \
    same too very just also until while because since upon among per via \
    le la les de des du un une et est en que qui dans pour sur au aux par pas plus ce cette ces se sa son ses il elle nous vous \
    ils ne où si car donc ont avec dès comme qu \
    der die das und ist den dem ein eine einer eines zu mit von für auf sich nicht auch als bei nach aus wird wurde dass daß es \
    wir sie ich el los las del por con para su al lo como más \
    и в во не что на с со как то все она так его но да ты к у же вы за бы по ее мне есть для мы их из \
    的 了 是 在 和 有 我 他 她 它 这 那 们 不 就 也 都 而 与 及 或 之 于 以 为 被 把 个 上 下 来 去 到 从 着 过 吗 呢 吧 很 还 又 再 人 会 \
    说 要";
/// Slots of the table of these words, a power of two.
const SLOTS: usize = 4096;

fn is_function_word(word: &[u8]) -> bool {
    static TABLE: LazyLock<Vec<Vec<&'static [u8]>>> = LazyLock::new(|| {
        let mut table = vec![Vec::new(); SLOTS];
        for word in FUNCTION_WORDS.split_whitespace().map(str::as_bytes) {
            table[hash(word) as usize % SLOTS].push(word);
        }
        table
    });
    word.len() <= 12 && TABLE[hash(word) as usize % SLOTS].contains(&word)
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
        assert_eq!(line("The Roots of 2,500.5 equations; don't!"), "roots equations dont");
        assert_eq!(line("设函数f(x)连续"), "设 函 数 f x 连 续");
        assert_eq!(line("Größe ÉTÉ наука"), "größe été наука");
        assert_eq!(line("x to the n, 数的根"), "x n 数 根");
        assert_eq!(line(r"\Delta\delta \\ \, x"), r"\Delta \delta x");
        assert_eq!(line(""), "");
        assert_eq!(line("\\"), "");
    }

    #[test]
    fn formulas_are_marked_and_prices_are_not() {
        assert_eq!(line(r"so $x^2=\frac{1}{2}$."), r"<formula> x ^ <num> = \frac <num> <num>");
        assert_eq!(line("$$a-b$$ and a-b"), "<formula> a - b b");
        assert_eq!(line("is $n$ even"), "<formula> n even");
        assert_eq!(lines(r"Roots of $x^2$ and \beta, n of them").1.as_deref(), Some("roots"));
        assert_eq!((lines("no formula").1, lines("$x$").1), (None, None));
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
