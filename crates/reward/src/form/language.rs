//! The term `language`: how much of the reasoning is written in the target language, as in DeepSeek-R1
//! (arXiv:2501.12948, language consistency reward):
//!
//! ```text
//! words in the target language / words       of the reasoning, 0 to 1
//! ```
//!
//! The reasoning is the text before `</think>`, or the whole completion if there is no such tag. These are not words:
//! code (between backticks), formulas (between dollar signs, `\(…\)`, `\[…\]`, and TeX commands), tags, anything with a
//! digit in it, and single letters of alphabets, which are variables. Reasoning without words has nothing in another language
//! and scores 1.
//!
//! **The language of a word.** Its script decides where it can: Hangul is Korean, kana is Japanese, Cyrillic is
//! Russian, and so on for Arabic, Devanagari, Greek, Hebrew and Thai (Ukrainian counts as Russian here, Persian as
//! Arabic). Han is Chinese, but Japanese in a sentence that has kana, and each character is a word. Words in Latin
//! letters are judged sentence by sentence, with short sentences joined to at least [`MIN_PASSAGE_WORDS`] words (those at the end, to the passage before them), and the language of
//! each such passage is found by `whichlang`, among German, English, Spanish, French, Italian, Dutch, Portuguese,
//! Swedish, Turkish and Vietnamese.
//!
//! `part = "completion"` counts the words of the answer too.
//!
//! The target is one language for all problems, or the [problem's own](super::problem_language).

use super::{is_han, is_kana, is_word_alone, problem_language::language_of, reasoning};
use crate::verifier::{Configured, Context, Sample, Verifier};
use crate::{Outcome, Verdict};
use koan_data::Problem;
use serde::{Deserialize, Serialize};
use whichlang::Lang;

/// Latin words are judged in passages of at least this many: fewer do not determine a language.
pub const MIN_PASSAGE_WORDS: usize = 8;

/// The languages that can be distinguished, by their codes (ISO 639-1).
pub const LANGUAGES: [&str; 19] = [
    "ar", "de", "el", "en", "es", "fr", "he", "hi", "it", "ja", "ko", "nl", "pt", "ru", "sv", "th", "tr",
    "vi", "zh",
];

/// The target that is each problem's own language.
pub const PROBLEM: &str = "problem";

/// The options of `language`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The target language, such as `en`; or `problem`: that of each problem.
    pub language: String,
    /// Whose words are counted.
    pub part: Part,
}

/// The part of a completion whose words are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The reasoning.
    #[default]
    Reasoning,
    /// Reasoning and answer.
    Completion,
}

impl Default for Options {
    fn default() -> Self {
        Self { language: "en".to_owned(), part: Part::Reasoning }
    }
}

/// Judges the language of the reasoning.
#[derive(Clone, Copy, Debug)]
pub struct Language {
    /// None: the problem's own.
    target: Option<&'static str>,
    part: Part,
}

impl Language {
    fn target(&self, problem: &Problem) -> Result<&'static str, String> {
        self.target.map_or_else(|| language_of(problem), Ok)
    }
}

impl Configured for Language {
    type Options = Options;

    fn build(options: Options, _: &Context) -> Result<Self, String> {
        if options.language == PROBLEM {
            return Ok(Self { target: None, part: options.part });
        }
        let target = LANGUAGES.into_iter().find(|code| *code == options.language);
        let refuse = || {
            format!("`language` is `{}`; use one of: {PROBLEM}, {}", options.language, LANGUAGES.join(", "))
        };
        Ok(Self { target: Some(target.ok_or_else(refuse)?), part: options.part })
    }
}

impl Verifier for Language {
    fn judge(&self, sample: &Sample) -> Verdict {
        let language = match self.target(sample.problem) {
            Ok(language) => language,
            Err(reason) => return Verdict::without_answer(Outcome::BadReference, reason),
        };
        let counted = match self.part {
            Part::Reasoning => reasoning(sample.completion),
            Part::Completion => sample.completion,
        };
        let (target, all) = count_words(counted, language);
        let score = if all == 0 { 1.0 } else { target as f32 / all as f32 };
        Verdict::graded(score, 1.0, format!("{target} of {all} words are in `{language}`"))
    }

    fn check(&self, problem: &Problem) -> Result<(), String> {
        self.target(problem).map(|_| ())
    }
}

/// The share of the words of a completion's reasoning that are in `language`, or, if none is given, in the language that most
/// of them are in: 0 to 1, and 1 where there are no words.
pub fn share(completion: &str, language: Option<&str>) -> f64 {
    let counts = Counts::of(&without_code_and_formulas(reasoning(completion)));
    let words = match language {
        Some(language) => counts.of_language(language),
        None => counts.0.iter().map(|(_, count)| *count).max().unwrap_or(0),
    };
    if counts.all() == 0 { 1.0 } else { words as f64 / counts.all() as f64 }
}

/// The words of `text` in `language`, and all of its words.
pub(crate) fn count_words(text: &str, language: &str) -> (usize, usize) {
    let counts = Counts::of(&without_code_and_formulas(text));
    (counts.of_language(language), counts.all())
}

/// The language that most words of `text` are in; none if it has no words. Of several, the one that comes first.
pub(super) fn most_words(text: &str) -> Option<&'static str> {
    let counts = Counts::of(&without_code_and_formulas(text)).0;
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(language, _)| language)
}

/// Words by language.
#[derive(Default)]
struct Counts(Vec<(&'static str, usize)>);

impl Counts {
    /// The words of `text` by language.
    fn of(text: &str) -> Self {
        let mut counts = Self::default();
        // The last whole passage waits for what is left at the end: a few words alone do not show their language.
        let (mut whole, mut passage) = (Passage::default(), Passage::default());
        for sentence in text.split_inclusive(|c: char| ".!?\n。！？".contains(c)) {
            let han = if sentence.contains(is_kana) { "ja" } else { "zh" };
            for word in words(sentence) {
                match word.chars().find_map(|c| script(c, han)) {
                    Some("latin") => passage.add(word),
                    Some(language) => counts.add(language, 1),
                    None => {}
                }
            }
            if passage.words >= MIN_PASSAGE_WORDS {
                counts.add_passage(std::mem::replace(&mut whole, std::mem::take(&mut passage)));
            }
        }
        whole.text += &passage.text;
        whole.words += passage.words;
        counts.add_passage(whole);
        counts
    }

    fn add_passage(&mut self, passage: Passage) {
        if passage.words > 0 {
            self.add(latin_language(&passage.text), passage.words);
        }
    }

    fn add(&mut self, language: &'static str, words: usize) {
        match self.0.iter_mut().find(|(known, _)| *known == language) {
            Some((_, count)) => *count += words,
            None => self.0.push((language, words)),
        }
    }

    fn of_language(&self, language: &str) -> usize {
        self.0.iter().filter(|(known, _)| *known == language).map(|(_, count)| count).sum()
    }

    fn all(&self) -> usize {
        self.0.iter().map(|(_, count)| count).sum()
    }
}

/// Words in Latin letters that are judged together.
#[derive(Default)]
struct Passage {
    text: String,
    words: usize,
}

impl Passage {
    fn add(&mut self, word: &str) {
        self.text.push_str(word);
        self.text.push(' ');
        self.words += 1;
    }
}

/// The language of words in Latin letters.
fn latin_language(text: &str) -> &'static str {
    match whichlang::detect_language(text) {
        Lang::Deu => "de",
        Lang::Spa => "es",
        Lang::Fra => "fr",
        Lang::Ita => "it",
        Lang::Nld => "nl",
        Lang::Por => "pt",
        Lang::Swe => "sv",
        Lang::Tur => "tr",
        Lang::Vie => "vi",
        _ => "en", // English, or a language that is not written in these letters
    }
}

/// The language of a character's script; `latin` where languages share letters; none if it is not a letter. `han` is the
/// language of Han.
fn script(c: char, han: &'static str) -> Option<&'static str> {
    Some(match c {
        'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}' => "latin",
        _ if is_han(c) => han,
        _ if is_kana(c) => "ja",
        '\u{ac00}'..='\u{d7a3}' | '\u{1100}'..='\u{11ff}' | '\u{3131}'..='\u{318e}' => "ko",
        '\u{400}'..='\u{52f}' => "ru",
        '\u{370}'..='\u{3ff}' | '\u{1f00}'..='\u{1fff}' => "el",
        '\u{590}'..='\u{5ff}' => "he",
        '\u{600}'..='\u{6ff}' | '\u{750}'..='\u{77f}' => "ar",
        '\u{900}'..='\u{97f}' => "hi",
        '\u{e00}'..='\u{e7f}' => "th",
        _ => return None,
    })
}

/// The words of `text`: runs of letters, and each Han or kana character by itself. Runs with a digit are not words,
/// nor are single letters.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let runs = text.split(|c: char| !(c.is_alphanumeric() || is_mark(c) || c == '_'));
    runs.flat_map(|run| {
        let ends = run.char_indices().flat_map(|(at, c)| {
            let alone = is_word_alone(c);
            [alone.then_some(at), alone.then_some(at + c.len_utf8())].into_iter().flatten()
        });
        let mut from = 0;
        let pieces = ends.chain([run.len()]).map(move |end| &run[std::mem::replace(&mut from, end)..end]);
        pieces.filter(|piece| {
            let mut chars = piece.chars();
            let single = chars.next().is_some_and(|c| !is_word_alone(c)) && chars.next().is_none();
            !(piece.is_empty() || single || piece.contains(|c: char| c.is_numeric() || c == '_'))
        })
    })
}

/// Marks that occur within words of Devanagari, Thai, Hebrew and Arabic.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{591}'..='\u{5c7}' | '\u{64b}'..='\u{65f}' | '\u{900}'..='\u{94f}'
        | '\u{e31}'..='\u{e3a}' | '\u{e47}'..='\u{e4e}')
}

/// What opens and closes text that is not language.
const QUOTED: [(&str, &str); 6] =
    [("```", "```"), ("`", "`"), ("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")];

/// `text` without code, formulas, TeX commands and tags. What is opened and not closed counts as text, except a
/// block of code, which extends to the end.
fn without_code_and_formulas(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    // If a closing mark was not found once, it is not found later either: each search is made once.
    let mut closed = [true; QUOTED.len()];
    while let Some(at) = rest.find(['`', '$', '\\', '<']) {
        kept.push_str(&rest[..at]);
        rest = &rest[at..];
        rest = match quoted(rest, &mut closed) {
            Some(after) => after,
            None if rest.starts_with('\\') => rest[1..].trim_start_matches(|c: char| c.is_ascii_alphabetic()),
            None if rest.starts_with('<') => tag(rest).unwrap_or(&rest[1..]),
            None => &rest[1..],
        };
        kept.push(' ');
    }
    kept.push_str(rest);
    kept
}

/// What follows the quotation that `text` starts with.
fn quoted<'a>(text: &'a str, closed: &mut [bool]) -> Option<&'a str> {
    let starts = |(_, (open, _)): &(usize, &(&str, &str))| text.starts_with(open);
    let (i, (open, close)) = QUOTED.iter().enumerate().find(starts)?;
    if !closed[i] {
        return None;
    }
    let inside = &text[open.len()..];
    // A formula between single dollar signs does not span lines: those are prices.
    let end = inside.find(close).filter(|end| *open != "$" || !inside[..*end].contains('\n'));
    match end {
        Some(end) => Some(&inside[end + close.len()..]),
        None if *open == "```" => Some(""),
        None => {
            closed[i] = *open == "$" && inside.contains('$');
            None
        }
    }
}

/// What follows the tag that `text` starts with: `<word>` or `</word>`.
fn tag(text: &str) -> Option<&str> {
    let name = text[1..].strip_prefix('/').unwrap_or(&text[1..]);
    let after = name.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
    (after.len() < name.len()).then(|| after.strip_prefix('>')).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ENGLISH: &str = "Let us look at the two numbers again, and then add them with care.";
    const GERMAN: &str = "Wir müssen die beiden Zahlen noch einmal ansehen und dann zusammenzählen.";

    fn judge(language: &str, completion: &str) -> Verdict {
        let language = Options { language: language.to_owned(), ..Options::default() };
        let language = Language::build(language, &Context::default()).expect("known");
        language.judge(&Sample::new(&Problem::default(), completion))
    }

    fn reason(language: &str, completion: &str) -> String {
        judge(language, completion).reason
    }

    #[test]
    fn the_score_is_the_share_of_words_in_the_target_language() {
        // 14 English words, then eleven German ones; a Chinese sentence has as many words as characters.
        assert_eq!(reason("en", ENGLISH), "14 of 14 words are in `en`");
        assert_eq!(reason("de", GERMAN), "11 of 11 words are in `de`");
        let mixed = format!("<think>{ENGLISH} {GERMAN}</think>{GERMAN}");
        assert_eq!(judge("en", &mixed).score, Some(14.0 / 25.0));
        assert_eq!(judge("de", &mixed).score, Some(11.0 / 25.0));
        let mixed = format!("{ENGLISH} 所以答案是七。");
        assert_eq!(reason("zh", &mixed), "6 of 20 words are in `zh`");
        assert_eq!(judge("en", &mixed).score, Some(14.0 / 20.0));
    }

    #[test]
    fn scripts_tell_languages() {
        for (language, text, words) in [
            ("zh", "我们先把两个数相加。", 9),
            ("ja", "まず二つの数を足します。", 11),
            ("ko", "먼저 두 수를 더합니다.", 3), // of four, one is a single letter
            ("ru", "Сначала сложим два числа.", 4),
            ("el", "Πρώτα προσθέτουμε τους αριθμούς.", 4),
            ("he", "קודם נחבר את המספרים.", 4),
            ("ar", "نجمع العددين معا.", 3),
            ("hi", "पहले दो संख्याएँ जोड़ें।", 4),
        ] {
            assert_eq!(
                reason(language, text),
                format!("{words} of {words} words are in `{language}`"),
                "{text}"
            );
            assert_eq!(judge("en", text).score, Some(0.0), "{text}");
        }
        for (language, text) in [
            ("fr", "Nous devons d'abord additionner les deux nombres, puis vérifier le résultat obtenu."),
            ("es", "Primero tenemos que sumar los dos números y después comprobar el resultado."),
            ("it", "Prima dobbiamo sommare i due numeri e poi controllare il risultato ottenuto."),
            ("nl", "Eerst moeten we de twee getallen bij elkaar optellen en daarna controleren."),
            ("pt", "Primeiro precisamos somar os dois números e depois verificar o resultado."),
        ] {
            assert_eq!(judge(language, text).score, Some(1.0), "{text}");
        }
    }

    #[test]
    fn short_sentences_are_judged_together() {
        let text = "So 3 + 4. That is 7. Check it. Yes, it holds. Then we add one to it.";
        assert_eq!(judge("en", text).score, Some(1.0), "{}", reason("en", text));
    }

    #[test]
    fn code_formulas_and_tags_are_no_words() {
        for (text, words) in [
            ("", 0),
            ("3 + 4 = 7, x = y, a1 b_2 3rd", 0),
            ("`für alle` $ eine Zahl $ und", 1),
            ("```python\nfür = wenn\n```", 0),
            ("```\nnie geschlossen", 0),
            ("\\(zahl\\) \\[wert\\] \\frac \\text{und}", 1),
            ("$$ \\text{wenn} $$", 0),
            ("costs $5 and then\n$6 more", 4),
            ("<b>und</b> <think> a < wenn", 2),
            ("`offen und", 2),
        ] {
            let kept = without_code_and_formulas(text);
            assert_eq!(Counts::of(&kept).all(), words, "{text}: {kept}");
        }
        assert_eq!(judge("en", "<think>7</think>7").score, Some(1.0), "nothing is in another language");
    }

    #[test]
    fn only_the_reasoning_counts() {
        let text = format!("<think>\n{ENGLISH}\n</think>\n{GERMAN}");
        assert_eq!(judge("en", &text).score, Some(1.0));
        assert_eq!(
            judge("en", &format!("{ENGLISH}</think>{GERMAN}")).score,
            Some(1.0),
            "opened by the prompt"
        );
    }

    #[test]
    fn the_answers_words_count_where_the_whole_completion_does() {
        let score = |part, completion: &str| {
            let options = Options { language: "en".to_owned(), part };
            let language = Language::build(options, &Context::default()).expect("known");
            language.judge(&Sample::new(&Problem::default(), completion)).score
        };
        let mixed = format!("<think>{ENGLISH}</think>答案：七");
        assert_eq!(score(Part::Reasoning, &mixed), Some(1.0));
        assert_eq!(score(Part::Completion, &mixed), Some(14.0 / 17.0));
        let whole = format!("<think>{ENGLISH}</think>Answer: 7");
        assert_eq!(score(Part::Completion, &whole), Some(1.0));
    }

    #[test]
    fn an_unknown_language_is_refused() {
        let options = Options { language: "klingon".to_owned(), ..Options::default() };
        let error = Language::build(options, &Context::default()).expect_err("unknown");
        assert!(error.starts_with("`language` is `klingon`; use one of: problem, ar, de, "), "{error}");
    }

    #[test]
    fn the_target_may_be_the_problems_own() {
        let options = Options { language: PROBLEM.to_owned(), ..Options::default() };
        let judge = Language::build(options, &Context::default()).expect("known");
        let problem = |prompt: &str| Problem { prompt: Some(prompt.to_owned()), ..Problem::default() };
        let (chinese, english) = (problem("三加四是多少？"), problem("How much is three and four?"));
        let mixed = format!("{ENGLISH} 所以答案是七。");
        assert_eq!(judge.judge(&Sample::new(&chinese, &mixed)).score, Some(6.0 / 20.0));
        assert_eq!(judge.judge(&Sample::new(&english, &mixed)).score, Some(14.0 / 20.0));
        let none = problem("3 + 4 =");
        assert!(judge.check(&none).expect_err("no language").contains("field `language`"));
        assert_eq!(judge.judge(&Sample::new(&none, ENGLISH)).outcome, Outcome::BadReference);
    }

    proptest! {
        #[test]
        fn is_total(text in "(?s).{0,60}|([a是かж` $<>/\\\\(){}.\n]|und|```|</think>){0,40}") {
            for language in ["en", "zh"] {
                let score = judge(language, &text).score.expect("always");
                prop_assert!((0.0..=1.0).contains(&score), "{score}");
            }
        }
    }

    #[test]
    fn open_marks_cost_no_more_than_one_search_each() {
        for mark in ["`", "$\n", "\\(", "\\[", "<a", "$$"] {
            let text = mark.repeat(200_000);
            _ = without_code_and_formulas(&text); // quadratic would take minutes
        }
    }
}
