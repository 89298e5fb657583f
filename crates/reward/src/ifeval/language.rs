//! The language of a whole reply.

use super::arguments::Arguments;
use super::constraint::{Check, finding};
use crate::form::language::{LANGUAGES, count_words};

/// The share of words that must be in the language, in words of five: names and quotations may be in another.
const WORDS_OF_FIVE: usize = 4;

/// The reply is in the language. `zh-cn` and `zh-tw`, as langdetect names them, are Chinese.
pub(super) fn whole(arguments: &Arguments) -> Result<Check, String> {
    let code = arguments.text("language")?;
    let base = code.split_once('-').map_or(code.as_str(), |(base, _)| base);
    let Some(language) = LANGUAGES.into_iter().find(|known| *known == base) else {
        return Err(format!("`language` is `{code}`; the languages known are {}", LANGUAGES.join(", ")));
    };
    Ok(Box::new(move |reply| {
        let (words, all) = count_words(reply, language);
        let kept = all > 0 && words * 5 >= all * WORDS_OF_FIVE;
        finding(kept, format!("{words} of {all} words are in `{language}`"))
    }))
}

#[cfg(test)]
mod tests {
    use super::super::constraint::{Constraint, keeps};
    use serde_json::json;

    #[test]
    fn validate_response_language_asks_for_the_whole_reply() {
        let of = |language: &str| json!({"func_name": "validate_response_language", "language": language});
        let english = "The two numbers are added, and then we look at the result again with great care.";
        let german =
            "Die beiden Zahlen werden addiert, und dann sehen wir uns das Ergebnis noch einmal genau an.";
        let russian = "Сначала сложим два числа, а потом проверим.";
        for (language, reply) in
            [("en", english), ("de", german), ("ru", russian), ("zh-cn", "我们先把两个数相加。")]
        {
            assert!(keeps(&of(language), reply), "{language}");
        }
        for (language, reply) in [("de", english), ("en", german), ("en", russian), ("en", "42")] {
            assert!(!keeps(&of(language), reply), "{language}: {reply}");
        }
        assert!(!keeps(&of("de"), &format!("{english} {german}")), "half of it is English");
        assert!(!keeps(&of("en"), &format!("{english} {german}")), "half of it is German");
        let unknown = of("xx").as_object().expect("an object").clone();
        let error = Constraint::read(unknown).expect_err("unknown");
        assert!(error.starts_with("`language` is `xx`; the languages known are ar, de, "), "{error}");
    }
}
