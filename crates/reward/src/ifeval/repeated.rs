//! A reply that repeats its prompt, and one that gives two responses.

use super::arguments::Arguments;
use super::constraint::{Check, Finding, counted};

/// The reply starts with the prompt, without change, and goes on: the prompt alone is no answer.
pub(super) fn prompt(arguments: &Arguments) -> Result<Check, String> {
    let prompt = arguments.text("original_prompt")?;
    Ok(Box::new(move |reply| match reply.strip_prefix(prompt.as_str()) {
        None => Err("the reply does not start with the request".to_owned()),
        Some(after) if after.trim().is_empty() => Err("nothing follows the request".to_owned()),
        Some(_) => Ok("the reply starts with the request, and goes on".to_owned()),
    }))
}

/// Six asterisks, once, between two different responses.
pub(super) fn two_responses(reply: &str) -> Finding {
    let responses: Vec<&str> = reply.split("******").map(str::trim).collect();
    match responses[..] {
        [first, second] if first.is_empty() || second.is_empty() => {
            Err("one of the two responses is empty".to_owned())
        }
        [first, second] if first == second => Err("the two responses are the same".to_owned()),
        [_, _] => Ok("there are two different responses".to_owned()),
        _ => Err(format!("{} between `******`; 2 asked", counted(responses.len(), "response"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::constraint::keeps;
    use serde_json::json;

    #[test]
    fn validate_repeat_prompt_wants_the_request_and_an_answer() {
        let repeat = json!({"func_name": "validate_repeat_prompt", "original_prompt": "Name a colour.\n"});
        assert!(keeps(&repeat, "Name a colour.\nRed"));
        assert!(keeps(&repeat, "Name a colour. Red"));
        for reply in ["Name a colour.", "name a colour. Red", "Sure! Name a colour. Red", "Red"] {
            assert!(!keeps(&repeat, reply), "{reply}");
        }
    }

    #[test]
    fn validate_two_responses_wants_two_that_differ() {
        let two = json!({"func_name": "validate_two_responses"});
        for reply in ["one\n******\ntwo", "yes****** no"] {
            assert!(keeps(&two, reply), "{reply}");
        }
        for reply in ["one", "one ****** one", "one ******", "****** two", "a******b******c", "one\n***\ntwo"]
        {
            assert!(!keeps(&two, reply), "{reply}");
        }
    }
}
