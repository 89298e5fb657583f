//! A page as one document: HTML, style and script in one, with the security policy that lets nothing else run.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use koan_files::digest;

/// The document, and the security policy that is sent with it.
#[derive(Clone, Debug)]
pub struct Page {
    html: String,
    /// Content-Security-Policy: the browser runs this one script, recognised by its hash, and nothing that a completion may
    /// contain; it sends requests only to this server; and the script can't turn text into HTML even by mistake.
    policy: String,
}

impl Page {
    /// `html` with the styles in place of `{{style}}`, and the scripts in place of `{{script}}`.
    pub fn new(html: &str, styles: &[&str], scripts: &[&str]) -> Self {
        let (style, script) = (styles.concat(), scripts.concat());
        let html = html.replacen("{{style}}", &style, 1).replacen("{{script}}", &script, 1);
        let hash = |text: &str| STANDARD.encode(digest(text));
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
            hash(&script),
            hash(&style)
        );
        Self { html, policy }
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
            (header::CONTENT_SECURITY_POLICY, self.policy),
        ];
        (headers, self.html).into_response()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Holds a page to what every page must keep.
    pub(crate) fn check(page: &Page, scripts: &[&str]) {
        assert!(!page.html.contains("{{") && page.html.matches("</script>").count() == 1);
        for outside in ["http://", "https://", "src=", "@import", "url(", " onclick", "style=\""] {
            let known = page.html.replace("http://www.w3.org/2000/svg", "");
            let known = known.replace("http://www.w3.org/1998/Math/MathML", "");
            assert!(!known.contains(outside), "{outside}");
        }
        // The script makes no HTML of text.
        for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser"] {
            assert!(scripts.iter().all(|script| !script.contains(sink)), "{sink}");
        }
    }
}
