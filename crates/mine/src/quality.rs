//! Rules for what is no text to learn from: Gopher's, C4's and FineWeb's, without those that mathematics or Chinese break.
//!
//! What was left out, and why: a share of lines that end in punctuation (formulas stand on lines of their own), stop words
//! (English alone), a share of words with a letter and of symbols (formulas), curly braces (LaTeX), `#` (headings). Formulas count
//! as one word each, a Han or kana character as one word; repeated lines count where they have words, so that two equal formulas are
//! no repetition. Sources: Rae et al., arXiv:2112.11446, table A1; Raffel et al., arXiv:1910.10683, section 2.2; Penedo et al.,
//! arXiv:2406.17557, section 3.6.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::MineError;

/// Bounds of a text that is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quality {
    /// Whether the rules are asked.
    pub enabled: bool,
    /// The fewest words (Gopher has 50; a question with a formula may have fewer).
    pub min_words: usize,
    /// The most words.
    pub max_words: usize,
    /// The least mean length of words with letters, of scripts with spaces, in characters.
    pub min_mean_word: f64,
    /// The greatest.
    pub max_mean_word: f64,
    /// The greatest share of lines that begin with a bullet.
    pub max_bullet_lines: f64,
    /// The greatest share of lines that end with an ellipsis.
    pub max_ellipsis_lines: f64,
    /// The greatest share of characters in lines that stood before.
    pub max_repeated_lines: f64,
    /// The greatest share of words in 10-grams that stood before.
    pub max_repeated_ngrams: f64,
    /// The greatest share of characters that are the commonest 2-gram of words.
    pub max_top_bigram: f64,
    /// Phrases of pages that are no texts, in lower case; a text that holds one is dropped.
    pub banned: Vec<String>,
}

impl Default for Quality {
    fn default() -> Self {
        let banned = ["lorem ipsum", "enable javascript in your browser", "access denied", "404 not found"];
        Self {
            enabled: true,
            min_words: 30,
            max_words: 100_000,
            min_mean_word: 2.0,
            max_mean_word: 12.0,
            max_bullet_lines: 0.9,
            max_ellipsis_lines: 0.3,
            max_repeated_lines: 0.3,
            max_repeated_ngrams: 0.4,
            max_top_bigram: 0.25,
            banned: banned.map(str::to_owned).to_vec(),
        }
    }
}

impl Quality {
    /// # Errors
    /// A setting out of range.
    pub fn check(&self) -> Result<(), MineError> {
        let wrong = |key: &str, what: &str| {
            Err(MineError::Setting { key: format!("quality.{key}"), what: what.into() })
        };
        let shares = [
            ("max_bullet_lines", self.max_bullet_lines),
            ("max_ellipsis_lines", self.max_ellipsis_lines),
            ("max_repeated_lines", self.max_repeated_lines),
            ("max_repeated_ngrams", self.max_repeated_ngrams),
            ("max_top_bigram", self.max_top_bigram),
        ];
        for (key, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return wrong(key, "is a share, between 0 and 1");
            }
        }
        if self.min_words > self.max_words {
            return wrong("min_words", "must not be above max_words");
        }
        if self.min_mean_word.is_nan()
            || self.max_mean_word.is_nan()
            || self.min_mean_word > self.max_mean_word
        {
            return wrong("min_mean_word", "must not be above max_mean_word");
        }
        if self.banned.iter().any(|phrase| phrase.is_empty() || phrase.to_lowercase() != *phrase) {
            return wrong("banned", "has phrases in lower case, none of them empty");
        }
        Ok(())
    }
}

/// Which rule a text breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// `min_words`
    TooFewWords,
    /// `max_words`
    TooManyWords,
    /// `min_mean_word`, `max_mean_word`
    WordLength,
    /// `max_bullet_lines`
    Bullets,
    /// `max_ellipsis_lines`
    Ellipses,
    /// `max_repeated_lines`
    RepeatedLines,
    /// `max_repeated_ngrams`
    RepeatedNgrams,
    /// `max_top_bigram`
    TopBigram,
    /// `banned`
    Banned,
}

impl Reason {
    /// The name that reports have.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooFewWords => "too_few_words",
            Self::TooManyWords => "too_many_words",
            Self::WordLength => "word_length",
            Self::Bullets => "bullets",
            Self::Ellipses => "ellipses",
            Self::RepeatedLines => "repeated_lines",
            Self::RepeatedNgrams => "repeated_ngrams",
            Self::TopBigram => "top_bigram",
            Self::Banned => "banned",
        }
    }
}

type Hashes = HashSet<u64, BuildHasherDefault<Given>>;

/// Keys are hashes already.
#[derive(Default)]
struct Given(u64);

impl Hasher for Given {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Words in a row of which repetitions are counted; twice as many where most are Han characters.
const NGRAM: usize = 10;

/// Whether a text keeps the rules.
///
/// # Errors
/// The first rule that it breaks.
pub fn judge(text: &str, rules: &Quality) -> Result<(), Reason> {
    if !rules.enabled {
        return Ok(());
    }
    let words = Words::of(text);
    let count = words.hashes.len();
    if count < rules.min_words {
        return Err(Reason::TooFewWords);
    }
    if count > rules.max_words {
        return Err(Reason::TooManyWords);
    }
    // Among Han or kana characters single letters are what is left: the names of answers, of points.
    if words.spelled > words.han {
        let mean = words.letters as f64 / words.spelled as f64;
        if mean < rules.min_mean_word || mean > rules.max_mean_word {
            return Err(Reason::WordLength);
        }
    }
    lines(text, rules)?;
    repetition(&words, rules)?;
    if rules.banned.iter().any(|phrase| holds(text, phrase)) {
        return Err(Reason::Banned);
    }
    Ok(())
}

fn lines(text: &str, rules: &Quality) -> Result<(), Reason> {
    let (mut lines, mut bullets, mut ellipses) = (0usize, 0usize, 0usize);
    let (mut bytes, mut repeated) = (0usize, 0usize);
    let mut seen = Hashes::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        lines += 1;
        bullets +=
            usize::from(line.starts_with(['•', '·', '*', '-', '–', '●', '▪']) && !line.starts_with("**"));
        ellipses += usize::from(line.ends_with('…') || line.ends_with("..."));
        // Formulas may stand twice, and so may rules and numbers.
        let has_words =
            !line.starts_with('$') && line.chars().filter(|c| c.is_alphabetic()).take(8).count() == 8;
        bytes += line.len();
        if has_words && !seen.insert(xxh3_64(line.as_bytes())) {
            repeated += line.len();
        }
    }
    let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    if share(bullets, lines) > rules.max_bullet_lines {
        return Err(Reason::Bullets);
    }
    if lines > 3 && share(ellipses, lines) > rules.max_ellipsis_lines {
        return Err(Reason::Ellipses);
    }
    if share(repeated, bytes) > rules.max_repeated_lines {
        return Err(Reason::RepeatedLines);
    }
    Ok(())
}

fn repetition(words: &Words, rules: &Quality) -> Result<(), Reason> {
    let ngram = if 2 * words.han > words.hashes.len() { 2 * NGRAM } else { NGRAM };
    let words = &words.hashes;
    let of = |window: &[u64]| {
        window
            .iter()
            .fold(0u64, |hash, word| (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
    };
    let mut seen = Hashes::with_capacity_and_hasher(words.len(), BuildHasherDefault::default());
    let (mut repeated, mut until) = (0, 0);
    for (i, window) in words.windows(ngram).enumerate() {
        if !seen.insert(of(window)) {
            repeated += i + ngram - until.max(i);
            until = i + ngram;
        }
    }
    if repeated as f64 > rules.max_repeated_ngrams * words.len() as f64 {
        return Err(Reason::RepeatedNgrams);
    }
    let mut bigrams: HashMap<u64, usize, BuildHasherDefault<Given>> =
        HashMap::with_capacity_and_hasher(words.len(), BuildHasherDefault::default());
    words.windows(2).for_each(|window| *bigrams.entry(of(window)).or_default() += 1);
    let top = bigrams.values().copied().max().unwrap_or(0);
    if top > 5 && 2.0 * top as f64 > rules.max_top_bigram * words.len() as f64 {
        return Err(Reason::TopBigram);
    }
    Ok(())
}

/// The words of a text.
struct Words {
    /// A formula is a word.
    hashes: Vec<u64>,
    /// Words of letters in scripts with spaces, and their letters.
    spelled: usize,
    letters: usize,
    /// Han and kana characters.
    han: usize,
}

impl Words {
    fn of(text: &str) -> Self {
        let mut words = Self { hashes: Vec::with_capacity(text.len() / 5), spelled: 0, letters: 0, han: 0 };
        // What stands between two dollars is a formula or, if they are prices, less than a line: it counts as one word.
        let mut pieces = text.split('$');
        words.plain(pieces.next().unwrap_or_default());
        while let Some(inside) = pieces.next() {
            if inside.is_empty() || inside.len() > 2000 || inside.contains("\n\n") {
                words.plain(inside);
                continue;
            }
            let tight = !inside.starts_with(char::is_whitespace) && !inside.ends_with(char::is_whitespace);
            if tight {
                words.hashes.push(xxh3_64(inside.as_bytes()));
                words.plain(pieces.next().unwrap_or_default());
            } else {
                words.plain(inside);
            }
        }
        words
    }

    fn plain(&mut self, text: &str) {
        for piece in text.split_whitespace() {
            let mut start = 0;
            for (at, c) in piece.char_indices() {
                if is_han(c) {
                    self.word(&piece[start..at]);
                    self.hashes.push(u64::from(u32::from(c)));
                    self.han += 1;
                    start = at + c.len_utf8();
                }
            }
            self.word(&piece[start..]);
        }
    }

    fn word(&mut self, word: &str) {
        let letters = if word.is_ascii() {
            word.bytes().filter(u8::is_ascii_alphabetic).count()
        } else {
            word.chars().filter(|c| c.is_alphabetic()).count()
        };
        if letters > 0 {
            self.spelled += 1;
            self.letters += letters;
        }
        if !word.is_empty() {
            self.hashes.push(xxh3_64(word.as_bytes()));
        }
    }
}

fn is_han(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}')
}

/// Whether `text` holds `phrase`, which is lower-case, in any case of its ASCII letters.
fn holds(text: &str, phrase: &str) -> bool {
    let (text, phrase) = (text.as_bytes(), phrase.as_bytes());
    let first = [phrase[0], phrase[0].to_ascii_uppercase()];
    memchr::memchr2_iter(first[0], first[1], text)
        .any(|at| text[at..].get(..phrase.len()).is_some_and(|found| found.eq_ignore_ascii_case(phrase)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str) -> Result<(), Reason> {
        judge(text, &Quality::default())
    }

    /// Sentences that all differ.
    fn prose(sentences: usize) -> String {
        let verbs = ["shows", "bounds", "meets", "halves", "needs", "leaves", "turns"];
        let ends = [
            "chapter asks for",
            "reader may skip",
            "proof was about",
            "table leaves open",
            "exercise wants first",
        ];
        let sentence = |i: usize| {
            format!("The {i}th remainder {} what the {}, as {} says.", verbs[i % 7], ends[i % 5], i * 31)
        };
        (0..sentences).map(sentence).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn mathematics_and_chinese_are_kept() {
        assert_eq!(verdict(&prose(10)), Ok(()));
        let formula = |i: usize| {
            let sum = format!("$$\\frac{{a_{{{i}}}}}{{b}} = \\sum_{{k=0}}^{{{i}}} x^k$$");
            format!("Hence we get\n\n{sum}\n\nfor the index {i} of step {}.\n\n", i * 7)
        };
        let formulas = (0..12).map(formula).collect::<Vec<_>>().concat();
        assert_eq!(verdict(&formulas), Ok(()));
        let chinese = [
            "设函数在区间上连续，由中值定理可知存在一点使等式成立。",
            "由于判别式大于零，方程有两个不同的实根。",
            "对指数作归纳，只需检验初始情形。",
            "两个三角形相似，因此对应边成比例。",
            "若各次抽取独立，则期望满足线性关系。",
        ]
        .join("\n\n");
        assert_eq!(verdict(&chinese), Ok(()));
        assert_eq!(verdict(&format!("{chinese}\n\n(A) 10\n(B) 20\n(C) 30\n(D) 60")), Ok(()));
        let repeated_formula = format!("{}\n\n$$x=y$$\n\n$$x=y$$\n\n$$x=y$$\n\n$$x=y$$", prose(6));
        assert_eq!(verdict(&repeated_formula), Ok(()));
        let list = (0..8)
            .map(|i| format!("- the number {i} divides {} and leaves nothing", i * 12))
            .collect::<Vec<_>>();
        assert_eq!(verdict(&format!("Divisors:\n{}", list.join("\n"))), Ok(()));
    }

    #[test]
    fn each_rule_has_a_text_that_breaks_it() {
        let lines = |line: &str, n: usize| vec![line; n].join("\n");
        let differing = |before: &str, after: &str| {
            (0..20)
                .map(|i| format!("{before}word{i} number{} and so on{after}", i * 7))
                .collect::<Vec<_>>()
                .join("\n")
        };
        for (text, reason) in [
            ("Too short.".to_owned(), Reason::TooFewWords),
            (prose(20_000), Reason::TooManyWords),
            ((0..60).map(|i| format!("{i}a ")).collect::<Vec<_>>().concat(), Reason::WordLength),
            (differing("• ", ""), Reason::Bullets),
            (differing("", "..."), Reason::Ellipses),
            (
                format!("{}\n{}", prose(4), lines("Click here to subscribe to our letter", 12)),
                Reason::RepeatedLines,
            ),
            (
                ["one two three four five six seven eight nine ten eleven"; 8].join(" "),
                Reason::RepeatedNgrams,
            ),
            ((0..60).map(|i| format!("buy now number{i} ")).collect::<Vec<_>>().concat(), Reason::TopBigram),
            (format!("{}\nLorem Ipsum dolor", prose(10)), Reason::Banned),
        ] {
            assert_eq!(verdict(&text), Err(reason), "{}", reason.name());
            assert_eq!(judge(&text, &Quality { enabled: false, ..Quality::default() }), Ok(()));
            assert_eq!(serde_json::to_value(reason).expect("a name"), reason.name());
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let wrong = [
            Quality { max_top_bigram: 1.5, ..Quality::default() },
            Quality { min_words: 10, max_words: 5, ..Quality::default() },
            Quality { banned: vec!["Upper".into()], ..Quality::default() },
            Quality { min_mean_word: f64::NAN, ..Quality::default() },
        ];
        for quality in wrong {
            assert!(quality.check().expect_err("wrong").to_string().contains("quality."));
        }
        Quality::default().check().expect("the defaults are right");
    }

    proptest::proptest! {
        #[test]
        fn any_text_has_a_verdict(text in "\\PC{0,200}") {
            let _ = judge(&text, &Quality { min_words: 0, ..Quality::default() });
        }
    }
}
