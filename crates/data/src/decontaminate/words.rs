//! The words that texts are compared by.
//!
//! Digits and operators are words, so that `2x+3=7` and `2x+3=9` differ; where words are counted, an operator counts with what follows. LaTeX and plain notation of one formula have the same
//! words: `$\frac{3}{8}\times x^2$` and `3/8 · x²` are both `3 / 8 * x ^ 2`. Case, white space, brackets, punctuation and
//! delimiters of formulas are none. A number with a decimal point, or with commas before each three digits, is one word; so is
//! each Han or kana character, for their scripts have no spaces.

use std::ops::Range;

/// LaTeX commands that only say how something looks.
const LOOKS: [&str; 31] = [
    "left",
    "right",
    "big",
    "bigg",
    "Big",
    "Bigg",
    "displaystyle",
    "textstyle",
    "limits",
    "text",
    "textbf",
    "textit",
    "mathrm",
    "mathbf",
    "mathit",
    "mathsf",
    "mathbb",
    "mathcal",
    "operatorname",
    "mbox",
    "rm",
    "bf",
    "quad",
    "qquad",
    "begin",
    "end",
    "phantom",
    "hspace",
    "vspace",
    "boxed",
    "ensuremath",
];
/// LaTeX commands that other characters stand for too.
const NAMED: [(&str, char); 14] = [
    ("times", '*'),
    ("cdot", '*'),
    ("ast", '*'),
    ("div", '/'),
    ("le", '≤'),
    ("leq", '≤'),
    ("leqslant", '≤'),
    ("ge", '≥'),
    ("geq", '≥'),
    ("geqslant", '≥'),
    ("ne", '≠'),
    ("neq", '≠'),
    ("pm", '±'),
    ("infty", '∞'),
];
/// Greek letters and signs that have a name in LaTeX, which is the word for both.
const SIGNS: [(char, &str); 26] = [
    ('α', "alpha"),
    ('β', "beta"),
    ('γ', "gamma"),
    ('δ', "delta"),
    ('ε', "epsilon"),
    ('θ', "theta"),
    ('λ', "lambda"),
    ('μ', "mu"),
    ('π', "pi"),
    ('ρ', "rho"),
    ('σ', "sigma"),
    ('τ', "tau"),
    ('φ', "phi"),
    ('ω', "omega"),
    ('√', "sqrt"),
    ('∑', "sum"),
    ('∏', "prod"),
    ('∫', "int"),
    ('∠', "angle"),
    ('△', "triangle"),
    ('∈', "in"),
    ('∪', "cup"),
    ('∩', "cap"),
    ('⊂', "subset"),
    ('→', "to"),
    ('°', "circ"),
];

/// A word: its hash, and where it stands in the text, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Of its characters.
    pub hash: u64,
    /// The first byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
    /// Whether it is an operator of a formula.
    pub is_operator: bool,
}

/// Appends the words of `text`, which has less than 4 GiB, to `words`.
pub fn words(text: &str, words: &mut Vec<Word>) {
    Reader { text, at: 0, words, groups: Vec::new(), numerator: false, last: Kind::Other }.read();
}

/// Bytes between an operator and what it is joined to, at most: brackets, spaces and commands of LaTeX's looks.
const JOINED_WITHIN: usize = 24;

/// Makes one word of an operator and what follows it in its formula, or what stands before a percent sign or a factorial: so that
/// a formula has as many words as it has numbers and names, and `x = 7` is two. An operator that nothing follows stays one.
pub(super) fn join_operators(text: &str, words: &mut Vec<Word>) {
    let postfix = [of_char('%'), of_char('!')];
    let gap = |before: &Word, after: &Word| {
        let gap = text.get(before.end as usize..after.start as usize).unwrap_or_default();
        // Texts are wrapped anywhere, so a line's end is a space; an empty line is not.
        gap.len() <= JOINED_WITHIN
            && gap.bytes().all(|b| b.is_ascii() && !b"?.,;:_".contains(&b))
            && gap.bytes().filter(|b| *b == b'\n').count() < 2
    };
    let mut kept = 0usize;
    for i in 0..words.len() {
        let mut word = words[i];
        if let Some(before) = kept.checked_sub(1).map(|i| words[i])
            && gap(&before, &word)
            && (before.is_operator || word.is_operator && postfix.contains(&word.hash))
        {
            kept -= 1;
            word.hash = add(before.hash.rotate_left(7), word.hash as u32 ^ (word.hash >> 32) as u32);
            word.start = before.start;
            word.is_operator &= before.is_operator;
        }
        words[kept] = word;
        kept += 1;
    }
    words.truncate(kept);
}

/// What stood before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Letters,
    Other,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    words: &'a mut Vec<Word>,
    /// For each open brace, whether it holds a numerator.
    groups: Vec<bool>,
    /// Whether a numerator begins here.
    numerator: bool,
    last: Kind,
}

/// Deeper braces are text like any other.
const MAX_GROUPS: usize = 64;

impl Reader<'_> {
    fn read(mut self) {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' => self.letters(),
                b'0'..=b'9' => self.number(),
                b'\\' => self.command(),
                b'{' => {
                    if self.groups.len() < MAX_GROUPS {
                        self.groups.push(std::mem::take(&mut self.numerator));
                    }
                    self.at += 1;
                }
                b'}' => {
                    let at = self.at;
                    self.at += 1;
                    if self.groups.pop() == Some(true) {
                        self.operator('/', at..at + 1);
                    }
                }
                b'+' | b'*' | b'/' | b'=' | b'<' | b'>' | b'^' | b'%' => {
                    self.at += 1;
                    if !self.is_bullet(self.at - 1..self.at) {
                        self.operator(char::from(byte), self.at - 1..self.at);
                    }
                }
                b'-' => self.hyphen(),
                b'!' => {
                    self.at += 1;
                    // A factorial follows what it is of.
                    if self.last == Kind::Number || bytes.get(self.at.wrapping_sub(2)) == Some(&b')') {
                        self.operator('!', self.at - 1..self.at);
                    }
                }
                0..0x80 => {
                    self.at += 1;
                    if byte != b' ' {
                        self.last = Kind::Other;
                    }
                }
                _ => self.other(),
            }
        }
    }

    fn push(&mut self, hash: u64, range: Range<usize>, kind: Kind) {
        self.words.push(Word { hash, start: range.start as u32, end: range.end as u32, is_operator: false });
        self.last = kind;
    }

    fn operator(&mut self, sign: char, range: Range<usize>) {
        self.push(of_char(sign), range, Kind::Other);
        if let Some(word) = self.words.last_mut() {
            word.is_operator = true;
        }
    }

    /// Letters of any script that spells words, without the marks that may stand between them.
    fn letters(&mut self) {
        let (start, mut hash) = (self.at, SEED);
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' => hash = add(hash, u32::from(byte | 0x20)),
                b'\'' if bytes.get(self.at + 1).is_some_and(u8::is_ascii_alphabetic) => {}
                0..0x80 => break,
                _ => {
                    let Some(c) = self.char() else { break };
                    if !c.is_alphabetic() || stands_alone(c) || is_sign(c) || is_wide(c) {
                        break;
                    }
                    hash = c.to_lowercase().fold(hash, |hash, c| add(hash, u32::from(c)));
                    self.at += c.len_utf8() - 1;
                }
            }
            self.at += 1;
        }
        self.numerator_ends(hash, start, Kind::Letters);
    }

    fn number(&mut self) {
        let (start, mut hash) = (self.at, SEED);
        let bytes = self.text.as_bytes();
        let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'0'..=b'9' => hash = add(hash, u32::from(byte)),
                b'.' if digit(self.at + 1) => hash = add(hash, u32::from(byte)),
                b',' if (1..=3).all(|i| digit(self.at + i)) && !digit(self.at + 4) => {}
                _ => break,
            }
            self.at += 1;
            if self.numerator {
                break; // \frac12 is a half
            }
        }
        self.numerator_ends(hash, start, Kind::Number);
    }

    fn numerator_ends(&mut self, hash: u64, start: usize, kind: Kind) {
        self.push(hash, start..self.at, kind);
        if std::mem::take(&mut self.numerator) {
            self.operator('/', start..self.at);
        }
    }

    /// A command of LaTeX, or an escaped character.
    fn command(&mut self) {
        let start = self.at;
        self.at += 1;
        let rest = &self.text[self.at..];
        let length = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        if length == 0 {
            // `\(`, `\[`, `\,` and their like say nothing; `\%` is a percent sign, which is read next; and what an escaped
            // character of another script is, is read next too.
            let next = rest.bytes().next();
            self.at += usize::from(next.is_some_and(|byte| byte.is_ascii() && byte != b'%'));
            return;
        }
        let name = &rest[..length];
        self.at += length;
        if matches!(name, "frac" | "dfrac" | "tfrac" | "cfrac") {
            self.numerator = true;
        } else if let Some((_, sign)) = NAMED.iter().find(|(named, _)| *named == name) {
            self.operator(*sign, start..self.at);
        } else if !LOOKS.contains(&name) {
            self.push(of_name(name), start..self.at, Kind::Letters);
        }
    }

    /// A minus sign, unless it joins two words.
    fn hyphen(&mut self) {
        let bytes = self.text.as_bytes();
        let letter = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_alphabetic);
        let at = self.at;
        self.at += 1;
        let joins = at > 0 && letter(at - 1) && letter(at + 1);
        let long = at > 1 && letter(at - 2) || letter(at + 2);
        if !(joins && long || self.is_bullet(at..at + 1)) {
            self.operator('-', at..at + 1);
        }
    }

    /// Whether a sign is no operator: before an item of a list, which begins with a word or a formula, or between spaces before a sentence.
    /// Before a number or a letter it is one, for texts are wrapped anywhere.
    fn is_bullet(&mut self, sign: Range<usize>) -> bool {
        let before = self.text[..sign.start].trim_end_matches([' ', '\t']);
        let Some(behind) = self.text[sign.end..].strip_prefix(' ') else { return false };
        let begins_line = before.is_empty() || before.ends_with('\n');
        let letters = behind.bytes().take(3).take_while(u8::is_ascii_alphabetic).count();
        let is_item = letters == 3
            || behind.starts_with('$')
            || behind.starts_with("\\(")
            || behind.chars().next().is_some_and(stands_alone);
        let is_sentence = letters == 3
            && matches!(&self.text[sign.clone()], "-" | "–")
            && before.len() < sign.start
            && matches!(behind.as_bytes(), [a, b, ..] if a.is_ascii_uppercase() && b.is_ascii_lowercase());
        let is = begins_line && is_item || is_sentence;
        if is {
            self.last = Kind::Other;
        }
        is
    }

    fn char(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    /// A character outside of ASCII.
    fn other(&mut self) {
        let Some(c) = self.char() else { return };
        let range = self.at..self.at + c.len_utf8();
        let plain = narrow(c);
        if let Some(sign) = plain_sign(c) {
            self.at = range.end;
            if !self.is_bullet(range.clone()) {
                self.operator(sign, range);
            }
        } else if let Some(power) = superscript(c) {
            self.at = range.end;
            self.operator('^', range.clone());
            self.push(of_char(power), range, Kind::Number);
        } else if let Some((_, name)) = SIGNS.iter().find(|(sign, _)| *sign == c) {
            self.at = range.end;
            self.push(of_name(name), range, Kind::Letters);
        } else if plain != c && plain.is_ascii_alphanumeric() {
            self.wide();
        } else if stands_alone(c) {
            self.at = range.end;
            self.push(of_char(c), range, Kind::Letters);
        } else if c.is_alphabetic() {
            self.letters();
        } else {
            self.at = range.end;
            match plain {
                '+' | '*' | '/' | '=' | '<' | '>' | '^' | '%' | '-' => self.operator(plain, range),
                _ => self.last = Kind::Other,
            }
        }
    }

    /// Letters or digits of full width.
    fn wide(&mut self) {
        let (start, mut hash, mut digits) = (self.at, SEED, None);
        while let Some(c) = self.char().filter(|&c| is_wide(c)) {
            let plain = narrow(c).to_ascii_lowercase();
            if !plain.is_ascii_alphanumeric()
                || *digits.get_or_insert(plain.is_ascii_digit()) != plain.is_ascii_digit()
            {
                break;
            }
            hash = add(hash, u32::from(plain));
            self.at += c.len_utf8();
        }
        self.push(hash, start..self.at, if digits == Some(true) { Kind::Number } else { Kind::Letters });
    }
}

/// Whether a character is a word: scripts without spaces.
fn stands_alone(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}')
}

fn is_sign(c: char) -> bool {
    SIGNS.iter().any(|(sign, _)| *sign == c)
}

fn is_wide(c: char) -> bool {
    narrow(c) != c
}

/// The ASCII form of a character of full width.
fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        _ => c,
    }
}

fn plain_sign(c: char) -> Option<char> {
    Some(match c {
        '×' | '·' | '⋅' | '∗' => '*',
        '÷' | '∕' => '/',
        '−' | '–' => '-',
        '≤' | '⩽' => '≤',
        '≥' | '⩾' => '≥',
        '≠' => '≠',
        '±' => '±',
        '∞' => '∞',
        _ => return None,
    })
}

fn superscript(c: char) -> Option<char> {
    Some(match c {
        '¹' => '1',
        '²' => '2',
        '³' => '3',
        '⁰' => '0',
        '⁴'..='⁹' => char::from_digit(u32::from(c) - 0x2070, 10)?,
        _ => return None,
    })
}

const SEED: u64 = 0xcbf2_9ce4_8422_2325;

fn add(hash: u64, c: u32) -> u64 {
    (hash ^ u64::from(c)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

fn of_char(c: char) -> u64 {
    add(SEED, u32::from(c))
}

fn of_name(name: &str) -> u64 {
    name.bytes().fold(SEED, |hash, byte| add(hash, u32::from(byte.to_ascii_lowercase())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(text: &str) -> Vec<u64> {
        let mut found = Vec::new();
        words(text, &mut found);
        for word in &found {
            assert!(text.get(word.start as usize..word.end as usize).is_some(), "{text:?}: {word:?}");
        }
        found.iter().map(|w| w.hash).collect()
    }

    #[test]
    fn one_formula_has_the_same_words_however_it_is_written() {
        for (a, b) in [
            (r"$\frac{3}{8}\times x^2$", "3/8 · x²"),
            (r"\(\dfrac12 + \frac{x}{y+1}\)", "1/2 + x/(y+1)"),
            (r"\left( a \cdot b \right) \le 4", "(a*b) ≤ 4"),
            (r"\sqrt{72}", "√72"),
            ("Find the value of  X.", "find the value of x"),
            ("1,000 apples", "1000 apples"),
            ("don't", "dont"),
            (r"35\% of 640", "35% of 640"),
            ("计算 125×88。", "计算125 × 88"),
            ("ＡＢ ３４", "ab 34"),
            (r"\pi r^{2}", "π r²"),
            (r"\text{cm}", "cm"),
            ("well-known", "well known"),
            ("x−5", "x-5"),
            ("- Solve 2x+3=7", "Solve 2x+3=7"),
            ("a\n * 求解\n – $x$", "a\n求解\n$x$"),
            ("Exercise 5 - Solve it", "Exercise 5: Solve it"),
        ] {
            assert_eq!(hashes(a), hashes(b), "{a} {b}");
        }
    }

    #[test]
    fn what_differs_has_other_words() {
        for (a, b) in [
            ("2x+3=7", "2x+3=9"),
            ("2x+3=7", "2x-3=7"),
            ("-5x", "5x"),
            ("3 - sin x", "3 sin x"),
            ("(x + y\n- 6)", "(x + y\n6)"),
            ("x=7", "x=71"),
            ("3.5", "35"),
            ("12, 345, 6", "12345 6"),
            ("13!", "13"),
            ("x^2", "x2"),
            (r"\frac{1}{2}", r"\frac{2}{1}"),
            ("求解", "求"),
            ("café", "cafe"),
        ] {
            assert_ne!(hashes(a), hashes(b), "{a} {b}");
        }
        assert_eq!(hashes("Stop! (now), \"please\"...").len(), 3, "punctuation is no word");
    }

    proptest::proptest! {
        #[test]
        fn any_text_has_words_in_their_order(text in "\\PC*|(\\\\frac|\\{|\\}|[0-9]|\\\\|é|求|²|-|!| )*") {
            let mut found = Vec::new();
            words(&text, &mut found);
            for pair in found.windows(2) {
                proptest::prop_assert!(pair[0].start <= pair[1].start);
            }
            for word in &found {
                proptest::prop_assert!(text.get(word.start as usize..word.end as usize).is_some());
            }
        }
    }
}
