//! The page, as one document.

use base64::{Engine, engine::general_purpose::STANDARD};
use koan_files::digest;

const HTML: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPTS: [&str; 4] = [
    include_str!("page/series.js"),
    include_str!("page/chart.js"),
    include_str!("page/rollouts.js"),
    include_str!("page/page.js"),
];

/// The document, and the security policy that is sent with it.
pub(crate) struct Page {
    pub(crate) html: String,
    /// Content-Security-Policy: the browser runs this one script, recognised by its hash, and nothing that a completion may
    /// contain; it sends requests only to this server; and the script can't turn text into HTML even by mistake.
    pub(crate) policy: String,
}

impl Page {
    pub(crate) fn new() -> Self {
        let script = SCRIPTS.concat();
        let html = HTML.replacen("{{style}}", STYLE, 1).replacen("{{script}}", &script, 1);
        let hash = |text: &str| STANDARD.encode(digest(text));
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
            hash(&script),
            hash(STYLE)
        );
        Self { html, policy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_asks_for_nothing_else() {
        let page = Page::new();
        assert!(!page.html.contains("{{") && page.html.matches("</script>").count() == 1);
        for outside in ["http://", "https://", "src=", "@import", "url(", " onclick", "style=\""] {
            let known = page.html.replace("http://www.w3.org/2000/svg", "");
            assert!(!known.contains(outside), "{outside}");
        }
    }

    #[test]
    fn the_script_makes_no_html_of_text() {
        for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser"] {
            assert!(SCRIPTS.iter().all(|script| !script.contains(sink)), "{sink}");
        }
    }
}
