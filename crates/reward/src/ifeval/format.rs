//! Markdown in a reply: bullet points and highlighted sections.

use super::arguments::Arguments;
use super::constraint::{Check, counted, finding};

/// Exactly N bullet points: lines of `*` or `-`, white space and text.
pub(super) fn bullet_points(arguments: &Arguments) -> Result<Check, String> {
    let n = arguments.count("N", 0)?;
    Ok(Box::new(move |reply| {
        let count = reply.lines().filter(|line| is_bullet(line.trim())).count();
        finding(count == n, format!("{}; {n} asked", counted(count, "bullet point")))
    }))
}

/// At least N highlighted sections: text between stars on one line.
pub(super) fn highlighted(arguments: &Arguments) -> Result<Check, String> {
    let n = arguments.count("N", 1)?;
    Ok(Box::new(move |reply| {
        let count: usize = reply.lines().map(count_highlighted).sum();
        finding(count >= n, format!("{}; at least {n} asked", counted(count, "highlighted section")))
    }))
}

/// Whether a line is a bullet point, and not a divider (`* * *`, `- - -`) or text that starts with a star.
fn is_bullet(line: &str) -> bool {
    let text = line.strip_prefix(['*', '-']).filter(|text| text.starts_with(char::is_whitespace));
    text.is_some_and(|text| !text.chars().all(|c| c.is_whitespace() || c == '*' || c == '-'))
}

/// How many sections of a line are highlighted: `*text*`, `**text**`, `***text***`, each once. White space beside the
/// text means that a star is no mark: `* a *` is a bullet point.
fn count_highlighted(line: &str) -> usize {
    let (mut count, mut rest) = (0, line);
    while let Some(at) = rest.find('*') {
        let inside = rest[at..].trim_start_matches('*');
        rest = inside;
        if inside.starts_with(char::is_whitespace) {
            continue;
        }
        let closes = |(end, _): &(usize, &str)| !inside[..*end].ends_with(char::is_whitespace);
        let Some((end, _)) = inside.match_indices('*').find(closes) else { break };
        count += 1;
        rest = inside[end..].trim_start_matches('*');
    }
    count
}

#[cfg(test)]
mod tests {
    use super::super::constraint::keeps;
    use super::*;
    use serde_json::json;

    #[test]
    fn verify_bullet_points_counts_lines_that_are_points() {
        let two = json!({"func_name": "verify_bullet_points", "N": 2});
        for reply in [
            "* one\n* two",
            "List:\n\n  - one\n- two\n\n---\nend",
            "* *one*\n- **two**\n**bold** text",
            "* a\n* * *\n* b",
        ] {
            assert!(keeps(&two, reply), "{reply}");
        }
        for reply in
            ["* one", "- one\n- two\n- three", "*one*\n*two*", "one\ntwo", "-1\n-2", "*\n*", "• one\n• two"]
        {
            assert!(!keeps(&two, reply), "{reply}");
        }
    }

    #[test]
    fn validate_highlighted_sections_counts_each_section_once() {
        for (line, sections) in [
            ("*one* and *two words*", 2),
            ("**bold** once", 1),
            ("***both*** once, *a*", 2),
            ("* a point with *one*", 1),
            ("* a point", 0),
            ("** **", 0),
            ("****", 0),
            ("2 * 3 * 4", 0),
            ("*open", 0),
            ("*a *b*", 1),
        ] {
            assert_eq!(count_highlighted(line), sections, "{line}");
        }
        let two = json!({"func_name": "validate_highlighted_sections", "N": 2});
        assert!(keeps(&two, "*one*\n**two**"));
        assert!(keeps(&two, "*one* *two* *three*"));
        for reply in ["**one**", "*one\ntwo*", "one two", "* one\n* two"] {
            assert!(!keeps(&two, reply), "{reply}");
        }
    }
}
