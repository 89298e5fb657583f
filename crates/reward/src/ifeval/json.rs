//! A reply that is JSON.

use super::constraint::Finding;
use serde::de::IgnoredAny;

/// All of the reply is one JSON value; a fence around it is not JSON.
pub(super) fn whole(reply: &str) -> Finding {
    match serde_json::from_str::<IgnoredAny>(reply) {
        Ok(_) => Ok("the reply is JSON".to_owned()),
        Err(error) => Err(format!("the reply is not JSON: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::constraint::keeps;
    use serde_json::json;

    #[test]
    fn validate_json_format_reads_the_whole_reply() {
        let json = json!({"func_name": "validate_json_format"});
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for reply in ["{\"a\": [1, null]}", " [1.5e3, \"x\"] ", "\"text\"", "7", &deep] {
            assert!(keeps(&json, reply), "{reply:.20}");
        }
        for reply in
            ["{a: 1}", "{\"a\": 1,}", "{\"a\": 1} done", "```json\n{}\n```", "{'a': 1}", "text", "[NaN]"]
        {
            assert!(!keeps(&json, reply), "{reply}");
        }
    }
}
