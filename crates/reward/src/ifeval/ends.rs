//! How a reply begins and ends.

use super::arguments::Arguments;
use super::constraint::{Check, Finding, finding};
use crate::verdict::shorten;

/// The reply ends with the phrase.
pub(super) fn phrase(arguments: &Arguments) -> Result<Check, String> {
    let phrase = arguments.text("end_phrase")?;
    Ok(Box::new(move |reply| {
        let ends = reply.ends_with(phrase.as_str());
        let does = if ends { "ends" } else { "does not end" };
        finding(ends, format!("the reply {does} with `{}`", shorten(&phrase)))
    }))
}

/// The reply begins and ends with a double quotation mark, not with one and the same.
pub(super) fn quotation(reply: &str) -> Finding {
    let quoted = reply.strip_prefix('"').is_some_and(|rest| rest.ends_with('"'));
    finding(
        quoted,
        format!("the reply {} between `\"` and `\"`", if quoted { "stands" } else { "does not stand" }),
    )
}

#[cfg(test)]
mod tests {
    use super::super::constraint::keeps;
    use serde_json::json;

    #[test]
    fn validate_end_asks_for_the_last_words() {
        let end = json!({"func_name": "validate_end", "end_phrase": " Any other questions?"});
        assert!(keeps(&end, "It is 7. Any other questions?"));
        for reply in
            ["Any other questions? No.", "It is 7.", "It is 7. any other questions?", "Any other questions"]
        {
            assert!(!keeps(&end, reply), "{reply}");
        }
    }

    #[test]
    fn validate_quotation_asks_for_two_marks() {
        let quotation = json!({"func_name": "validate_quotation"});
        for reply in ["\"It is 7.\"", "\"\""] {
            assert!(keeps(&quotation, reply), "{reply}");
        }
        for reply in ["\"", "It is \"7\"", "\"It\" is 7", "'It is 7.'", "“It is 7.”"] {
            assert!(!keeps(&quotation, reply), "{reply}");
        }
    }
}
