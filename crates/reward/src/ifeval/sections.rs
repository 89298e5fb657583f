//! Sections with numbered headings.

use super::arguments::Arguments;
use super::constraint::{Check, counted, finding};
use crate::verdict::shorten;

/// At least N headings: the splitter in any case, white space or none, and a number.
pub(super) fn headings(arguments: &Arguments) -> Result<Check, String> {
    let (n, splitter) = (arguments.count("N", 1)?, arguments.text("section_splitter")?);
    let lower = splitter.to_lowercase();
    Ok(Box::new(move |reply| {
        let is_numbered = |after: &str| {
            let after = after.strip_prefix(char::is_whitespace).unwrap_or(after);
            after.starts_with(char::is_numeric)
        };
        let count = reply.to_lowercase().split(&lower).skip(1).filter(|after| is_numbered(after)).count();
        let headings = counted(count, "heading");
        finding(count >= n, format!("{headings} `{} NUMBER`; at least {n} asked", shorten(&splitter)))
    }))
}

#[cfg(test)]
mod tests {
    use super::super::constraint::keeps;
    use serde_json::json;

    #[test]
    fn validate_sections_counts_numbered_headings() {
        let two = json!({"func_name": "validate_sections", "N": 2, "section_splitter": "Section"});
        for reply in
            ["Section 1\na\nSection 2\nb", "SECTION 1: a\n\n**Section2** b", "Section 1 Section 2 Section 3"]
        {
            assert!(keeps(&two, reply), "{reply}");
        }
        for reply in
            ["Section 1\na", "Section\na\nSection\nb", "Section A\nSection B", "Part 1\nPart 2", "1\n2"]
        {
            assert!(!keeps(&two, reply), "{reply}");
        }
    }
}
