//! The language of a text: by its letters where they say enough, else by `whichlang`'s trigrams.

/// A language of [`identify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Language {
    /// Its code of two letters in ISO 639-1; `und` where the text says too little.
    pub code: &'static str,
}

/// Bytes of words that are looked at; more say nothing new.
const MOST_WORDS: usize = 6000;

/// The language that most of `text` is in. Formulas and code are left out: `$...$` and fences.
///
/// Known are the sixteen languages of `whichlang` and those that have a script or letters of their own; a text in any other is
/// taken for the nearest of them.
pub fn identify(text: &str) -> Language {
    let words = words(text);
    let letters = Letters::of(&words);
    if letters.all == 0 {
        return Language { code: "und" };
    }
    Language { code: letters.language().unwrap_or_else(|| two_letters(whichlang::detect_language(&words))) }
}

/// The beginning of a text without formulas and code.
fn words(text: &str) -> String {
    let mut words = String::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            // Every other part of a line is a formula; where dollars are prices, half of the text is enough.
            for part in line.split('$').step_by(2) {
                words.push_str(part);
                words.push(' ');
            }
            words.push('\n');
        }
        if words.len() > MOST_WORDS {
            break;
        }
    }
    words
}

/// Letters, by the script or the language that alone has them.
#[derive(Default)]
struct Letters {
    all: u32,
    han: u32,
    kana: u32,
    hangul: u32,
    cyrillic: u32,
    ukrainian: u32,
    greek: u32,
    hebrew: u32,
    thai: u32,
    polish: u32,
    czech: u32,
    hungarian: u32,
    romanian: u32,
}

impl Letters {
    fn of(text: &str) -> Self {
        let mut letters = Self::default();
        for character in text.chars().filter(|c| c.is_alphabetic()) {
            letters.all += 1;
            if character.is_ascii() {
                continue;
            }
            let count = match character {
                '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' => &mut letters.han,
                '\u{3040}'..='\u{30ff}' => &mut letters.kana,
                '\u{ac00}'..='\u{d7af}' | '\u{1100}'..='\u{11ff}' => &mut letters.hangul,
                'і' | 'ї' | 'є' | 'ґ' | 'І' | 'Ї' | 'Є' | 'Ґ' => &mut letters.ukrainian,
                '\u{400}'..='\u{4ff}' => &mut letters.cyrillic,
                '\u{370}'..='\u{3ff}' | '\u{1f00}'..='\u{1fff}' => &mut letters.greek,
                '\u{590}'..='\u{5ff}' => &mut letters.hebrew,
                '\u{e00}'..='\u{e7f}' => &mut letters.thai,
                'ł' | 'ż' | 'ą' | 'ę' | 'ś' | 'ź' | 'ń' | 'Ł' | 'Ż' => &mut letters.polish,
                'ř' | 'ě' | 'ů' | 'Ř' | 'Ě' => &mut letters.czech,
                'ő' | 'ű' | 'Ő' | 'Ű' => &mut letters.hungarian,
                'ț' | 'ș' | 'Ț' | 'Ș' | 'ţ' => &mut letters.romanian,
                _ => continue,
            };
            *count += 1;
        }
        letters
    }

    /// The language, where letters alone tell it.
    fn language(&self) -> Option<&'static str> {
        let much = |count: u32| count * 10 > self.all * 3;
        // One in a hundred is more than names make.
        let some = |count: u32| count * 100 > self.all;
        // A character of Chinese is a word: beside Latin letters it weighs more than one of them.
        let east = self.han + self.kana;
        if east * 5 > self.all {
            return Some(if self.kana * 10 > east { "ja" } else { "zh" });
        }
        if much(self.cyrillic + self.ukrainian) {
            return Some(if self.ukrainian * 50 > self.all { "uk" } else { "ru" });
        }
        let scripts = [(self.hangul, "ko"), (self.greek, "el"), (self.hebrew, "he"), (self.thai, "th")];
        let own = [(self.polish, "pl"), (self.czech, "cs"), (self.hungarian, "hu"), (self.romanian, "ro")];
        let script = scripts.into_iter().find(|(count, _)| much(*count));
        script.or_else(|| own.into_iter().find(|(count, _)| some(*count))).map(|(_, code)| code)
    }
}

/// ISO 639-1 for the languages of `whichlang`.
fn two_letters(language: whichlang::Lang) -> &'static str {
    use whichlang::Lang;
    match language {
        Lang::Ara => "ar",
        Lang::Cmn => "zh",
        Lang::Deu => "de",
        Lang::Eng => "en",
        Lang::Fra => "fr",
        Lang::Hin => "hi",
        Lang::Ita => "it",
        Lang::Jpn => "ja",
        Lang::Kor => "ko",
        Lang::Nld => "nl",
        Lang::Por => "pt",
        Lang::Rus => "ru",
        Lang::Spa => "es",
        Lang::Swe => "sv",
        Lang::Tur => "tr",
        Lang::Vie => "vi",
    }
}

#[cfg(test)]
mod tests {
    use super::identify;

    #[test]
    fn languages_are_told_beside_formulas() {
        for (code, text) in [
            (
                "en",
                "Let $f$ be a function that is continuous on a closed interval; then it is bounded there.",
            ),
            ("zh", "设函数 $f(x)$ 在闭区间上连续，则它有界。LaTeX 公式 $\\int_a^b f(x)dx$ 可积。"),
            ("ja", "関数が閉区間で連続ならば、そこで有界である。"),
            (
                "de",
                "Jede stetige Funktion ist auf einem abgeschlossenen Intervall beschränkt, wie man leicht zeigt.",
            ),
            ("fr", "Toute fonction continue sur un segment est bornée, et elle y atteint ses bornes."),
            ("ru", "Всякая непрерывная функция на отрезке ограничена."),
            ("uk", "Кожна неперервна функція на відрізку є обмеженою і досягає своїх меж."),
            ("pl", "Każda funkcja ciągła na przedziale domkniętym jest ograniczona i osiąga swoje kresy."),
            ("el", "Κάθε συνεχής συνάρτηση σε κλειστό διάστημα είναι φραγμένη."),
            ("ko", "닫힌 구간에서 연속인 함수는 유계이다."),
            ("es", "Toda función continua en un intervalo cerrado está acotada y alcanza sus extremos."),
            ("und", "$x^2$ 12 = 34"),
        ] {
            assert_eq!(identify(text).code, code, "{text}");
        }
    }
}
