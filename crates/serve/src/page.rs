//! The chat page: one document, which asks nothing but this server.

use koan_view::Page;

const HTML: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// The page, with the policy that lets nothing else run.
pub(crate) fn page() -> Page {
    Page::new(HTML, &[STYLE], &[SCRIPT])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_nobody_else_and_makes_no_html_of_text() {
        for outside in ["http://", "https://", "src=", "@import", "url(", " onclick", "style=\""] {
            assert!(![HTML, STYLE, SCRIPT].iter().any(|part| part.contains(outside)), "{outside}");
        }
        for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser"] {
            assert!(!SCRIPT.contains(sink), "{sink}");
        }
    }
}
