//! The language of a problem, which `language = "problem"` asks its reasoning to be written in.
//!
//! It is what the problem itself says, in its field `language`, or in `language` or `lang` of its `meta`: a code of [`LANGUAGES`], also with a
//! region (`zh-CN`), or a language's name (`Chinese`). A problem that says nothing has the language that most words of its last
//! user message are in, found as those of reasoning are. One without words has no language, and its reference is bad.

use super::language::{LANGUAGES, most_words};
use koan_data::Problem;

/// The English name of each of [`LANGUAGES`].
const NAMES: [&str; LANGUAGES.len()] = [
    "Arabic",
    "German",
    "Greek",
    "English",
    "Spanish",
    "French",
    "Hebrew",
    "Hindi",
    "Italian",
    "Japanese",
    "Korean",
    "Dutch",
    "Portuguese",
    "Russian",
    "Swedish",
    "Thai",
    "Turkish",
    "Vietnamese",
    "Chinese",
];

/// The language of `problem`, a code of [`LANGUAGES`].
///
/// # Errors
/// It names a language that is not known, or names none and its prompt has no words: a sentence for the author of the data.
pub fn language_of(problem: &Problem) -> Result<&'static str, String> {
    let meta = |name| problem.meta.as_ref().and_then(|meta| meta.get(name));
    let fields = [
        ("language", problem.other.get("language")),
        ("meta.language", meta("language")),
        ("meta.lang", meta("lang")),
    ];
    let given =
        fields.into_iter().find_map(|(name, value)| Some((name, value.filter(|value| !value.is_null())?)));
    if let Some((name, value)) = given {
        return value.as_str().and_then(known).ok_or_else(|| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("the problem's `{name}` is `{value}`; use one of: {}", LANGUAGES.join(", "))
        });
    }
    let messages = problem.messages();
    let asked =
        messages.iter().rfind(|message| message.role == "user").map_or("", |message| &message.content);
    most_words(asked).ok_or_else(|| {
        "the prompt has no words to find its language by; give the problem a field `language`, such as `en`".to_owned()
    })
}

/// The language that a field names.
fn known(name: &str) -> Option<&'static str> {
    let name = name.trim();
    let code = name.split(['-', '_']).next().unwrap_or(name);
    let is = |i: &usize| LANGUAGES[*i].eq_ignore_ascii_case(code) || NAMES[*i].eq_ignore_ascii_case(name);
    (0..LANGUAGES.len()).find(is).map(|i| LANGUAGES[i])
}

#[cfg(test)]
mod tests {
    use super::*;
    use koan_data::Message;
    use serde_json::{Value, json};

    fn problem(row: Value) -> Problem {
        serde_json::from_value(row).expect("a problem")
    }

    #[test]
    fn a_field_says_the_language() {
        for (row, language) in [
            (json!({"prompt": "What is the sum?", "language": "zh"}), "zh"),
            (json!({"prompt": "What is the sum?", "language": "zh-CN"}), "zh"),
            (json!({"prompt": "What is the sum?", "meta": {"language": "EN_us"}}), "en"),
            (json!({"prompt": "求和", "meta": {"lang": "german"}}), "de"),
            (json!({"prompt": "求和", "language": "fr", "meta": {"lang": "de", "language": "it"}}), "fr"),
            (json!({"prompt": "求和", "language": null, "meta": {"lang": "de"}}), "de"),
        ] {
            assert_eq!(language_of(&problem(row.clone())), Ok(language), "{row}");
        }
        for (row, said) in [
            (
                json!({"prompt": "a b", "language": "klingon"}),
                "the problem's `language` is `klingon`; use one of: ar, ",
            ),
            (json!({"prompt": "a b", "meta": {"lang": 7}}), "the problem's `meta.lang` is `7`; use one of"),
            (json!({"prompt": "a b", "language": ""}), "the problem's `language` is ``; use one of"),
        ] {
            let error = language_of(&problem(row)).expect_err("refused");
            assert!(error.starts_with(said), "{error}");
        }
    }

    #[test]
    fn a_prompt_shows_its_language() {
        for (prompt, language) in [
            ("What is 17 times 4?", "en"),
            ("How many apples are left?", "en"),
            ("计算 17 乘以 4。", "zh"),
            ("17 と 4 を足すといくつですか。", "ja"),
            ("Сколько будет семь плюс девять?", "ru"),
            ("Wie viele Äpfel sind am Ende noch im Korb, wenn drei gegessen wurden?", "de"),
            ("求 `x = wenn und` 的值。", "zh"),
        ] {
            assert_eq!(language_of(&problem(json!({"prompt": prompt}))), Ok(language), "{prompt}");
        }
        let messages = json!([{"role": "system", "content": "Answer in one short sentence, please."},
            {"role": "user", "content": "What is the sum of these numbers?"}, {"role": "assistant", "content": "Which ones?"},
            {"role": "user", "content": "三和四。"}]);
        let conversation = Problem {
            messages: Some(serde_json::from_value::<Vec<Message>>(messages).expect("messages")),
            ..Problem::default()
        };
        assert_eq!(language_of(&conversation), Ok("zh"), "the last question counts");
        let error = language_of(&problem(json!({"prompt": "$3 + 4$ ="}))).expect_err("no words");
        assert!(error.contains("give the problem a field `language`"), "{error}");
    }
}
