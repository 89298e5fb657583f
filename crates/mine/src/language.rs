//! The language of a text.

/// A language of [`identify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Language {
    /// Its code of two letters in ISO 639-1; `und` where the text says too little.
    pub code: &'static str,
}

/// The language that most of `text` is in.
pub fn identify(text: &str) -> Language {
    if !text.chars().any(char::is_alphabetic) {
        return Language { code: "und" };
    }
    Language { code: two_letters(whichlang::detect_language(text)) }
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
