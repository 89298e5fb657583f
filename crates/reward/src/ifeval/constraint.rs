//! The constraints: a table of their names and arguments.
//!
//! | `func_name` | arguments | a reply keeps it if |
//! |---|---|---|
//! | `verify_keywords` | `keyword_list` | each occurs, in any case, within longer words too |
//! | `verify_keyword_frequency` | `word`, `N` | the word occurs N times, as whole words, in any case |
//! | `validate_forbidden_words` | `forbidden_words` | none occurs, in any case, not within longer words either |
//! | `verify_letter_frequency` | `letter`, `N` | the letter occurs N times, in this case |
//! | `validate_response_language` | `language` | at least four words in five are in the language |
//! | `verify_paragraph_count` | `N` | `* * *` cuts it into N paragraphs, none of them empty |
//! | `validate_word_constraint` | `N`, `quantifier` | the number of words between white space is at least, at most or around N |
//! | `verify_sentence_constraint` | `N`, `quantifier` | so is the number of sentences |
//! | `validate_paragraphs` | `N`, `first_word`, `i` | it has N paragraphs between blank lines, and the i-th starts with the word |
//! | `verify_postscript` | `postscript_marker` | the marker occurs, with text after it |
//! | `validate_placeholders` | `N` | it has at least N placeholders, `[name]` |
//! | `verify_bullet_points` | `N` | exactly N lines are points, `* text` or `- text` |
//! | `validate_title` | | it has a title, `<<title>>` |
//! | `validate_choice` | `options` | it names exactly one of the options |
//! | `validate_highlighted_sections` | `N` | at least N sections are highlighted, `*text*` or `**text**` |
//! | `validate_sections` | `N`, `section_splitter` | it has at least N headings: the splitter and a number |
//! | `validate_json_format` | | all of it is JSON |
//! | `validate_repeat_prompt` | `original_prompt` | it starts with the prompt, and goes on |
//! | `validate_two_responses` | | `******` cuts it into two different responses |
//! | `validate_uppercase` | | no letter is lower case |
//! | `validate_lowercase` | | no letter is a capital |
//! | `validate_frequency_capital_words` | `N`, `quantifier` | the number of words of A to Z alone is at least, at most or around N |
//! | `validate_end` | `end_phrase` | it ends with the phrase |
//! | `validate_quotation` | | it stands between double quotation marks, `"` |
//! | `validate_no_commas` | | it has no comma |
//!
//! An argument that a constraint does not have, or one that is missing or of another type, makes a bad reference.

use super::arguments::Arguments;
use super::{
    capitals, content, ends, format, json, keywords, language, length, paragraphs, repeated, sections,
};
use serde_json::{Map, Value};
use std::fmt;

/// How a reply keeps a constraint (`Ok`), or breaks it: a sentence for people.
pub type Finding = Result<String, String>;

/// Judges replies.
pub(super) type Check = Box<dyn Fn(&str) -> Finding>;

/// A function of the table.
pub struct Function {
    /// Its name in `func_name`.
    pub name: &'static str,
    /// The names of its arguments; it needs all of them.
    pub arguments: &'static [&'static str],
    make: Make,
}

enum Make {
    Bare(fn(&str) -> Finding),
    Of(fn(&Arguments) -> Result<Check, String>),
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name, self.arguments.join(", "))
    }
}

const fn function(
    name: &'static str,
    arguments: &'static [&'static str],
    make: fn(&Arguments) -> Result<Check, String>,
) -> Function {
    Function { name, arguments, make: Make::Of(make) }
}

/// A function without arguments.
const fn bare(name: &'static str, check: fn(&str) -> Finding) -> Function {
    Function { name, arguments: &[], make: Make::Bare(check) }
}

/// Every function, in the order of IFEval's table.
pub static ALL: &[Function] = &[
    function("verify_keywords", &["keyword_list"], keywords::all),
    function("verify_keyword_frequency", &["word", "N"], keywords::frequency),
    function("validate_forbidden_words", &["forbidden_words"], keywords::forbidden),
    function("verify_letter_frequency", &["letter", "N"], keywords::letter),
    function("validate_response_language", &["language"], language::whole),
    function("verify_paragraph_count", &["N"], paragraphs::between_dividers),
    function("validate_word_constraint", &["N", "quantifier"], length::words),
    function("verify_sentence_constraint", &["N", "quantifier"], length::sentences),
    function("validate_paragraphs", &["N", "first_word", "i"], paragraphs::first_word),
    function("verify_postscript", &["postscript_marker"], content::postscript),
    function("validate_placeholders", &["N"], content::placeholders),
    function("verify_bullet_points", &["N"], format::bullet_points),
    bare("validate_title", content::title),
    function("validate_choice", &["options"], content::choice),
    function("validate_highlighted_sections", &["N"], format::highlighted),
    function("validate_sections", &["N", "section_splitter"], sections::headings),
    bare("validate_json_format", json::whole),
    function("validate_repeat_prompt", &["original_prompt"], repeated::prompt),
    bare("validate_two_responses", repeated::two_responses),
    bare("validate_uppercase", capitals::upper),
    bare("validate_lowercase", capitals::lower),
    function("validate_frequency_capital_words", &["N", "quantifier"], capitals::words),
    function("validate_end", &["end_phrase"], ends::phrase),
    bare("validate_quotation", ends::quotation),
    bare("validate_no_commas", content::no_commas),
];

/// A constraint with its arguments.
pub struct Constraint {
    check: Check,
}

impl Constraint {
    /// Reads `{"func_name": …, argument: value, …}`.
    ///
    /// # Errors
    /// An unknown function, or arguments that are not those it has: a sentence for the author of the data.
    pub fn read(mut fields: Map<String, Value>) -> Result<Self, String> {
        let name = match fields.remove("func_name") {
            Some(Value::String(name)) => name,
            Some(Value::Null) | None if fields.contains_key("instruction_id") => {
                return Err(
                    "the constraint has `instruction_id`, as of IF_multi_constraints; only the functions of \
                            RLVR-IFeval, with `func_name`, are known"
                        .to_owned(),
                );
            }
            Some(Value::Null) | None => return Err("the constraint has no `func_name`".to_owned()),
            Some(other) => return Err(format!("`func_name` is {other}; write a text")),
        };
        let Some(function) = ALL.iter().find(|function| function.name == name) else {
            let mut known: Vec<&str> = ALL.iter().map(|function| function.name).collect();
            known.sort_by_cached_key(|known| strsim::damerau_levenshtein(known, &name));
            let name = crate::verdict::shorten(&name);
            return Err(format!("there is no constraint `{name}`; use one of: {}", known.join(", ")));
        };
        let arguments = Arguments::new(function.name, function.arguments, fields)?;
        let check = match function.make {
            Make::Bare(check) => Box::new(check),
            Make::Of(make) => make(&arguments)?,
        };
        Ok(Self { check })
    }

    /// Whether `reply`, which is not empty, keeps it.
    ///
    /// # Errors
    /// How it breaks it, in a sentence.
    pub fn check(&self, reply: &str) -> Finding {
        (self.check)(reply)
    }
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Constraint")
    }
}

/// `kept` as a finding that says `sentence`.
pub(super) fn finding(kept: bool, sentence: String) -> Finding {
    if kept { Ok(sentence) } else { Err(sentence) }
}

/// `n` with `what`, which has an `s` where there is more than one.
pub(super) fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// What a test says of `reply` by the constraint `reference`: whether it is kept.
#[cfg(test)]
pub(super) fn keeps(reference: &Value, reply: &str) -> bool {
    let Value::Object(fields) = reference else { panic!("{reference} is no object") };
    Constraint::read(fields.clone()).unwrap_or_else(|error| panic!("{error}")).check(reply).is_ok()
}
