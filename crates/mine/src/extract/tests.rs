//! Pages as sites of many kinds write them, and what must come of them.
use super::{Extracted, Hints, Limits, extract};

fn read(page: &str) -> Extracted {
    extract(page.as_bytes(), &Hints::default(), &Limits::default()).expect("the page has content")
}

#[test]
fn a_plain_page_is_its_text() {
    let page = read(
        "<title>T &amp; t</title><h1>Head</h1><p>One sentence with a formula \\(x^2\\) in it.<p>Another one, which is long enough.",
    );
    assert_eq!(page.title, "T & t");
    assert_eq!(
        page.text,
        "# Head\n\nOne sentence with a formula $x^2$ in it.\n\nAnother one, which is long enough."
    );
    assert_eq!(page.formulas, 1);
}

#[test]
fn a_backslash_before_code_or_a_formula_escapes_nothing() {
    for page in [
        "<p>A price of $5 \\<code>x = $y</code> and of $7, in a paragraph that is long enough.",
        "<p>It says $a^2 \\<script type='math/tex'>f(3) = 7</script> and so on, in a paragraph that is long enough.",
    ] {
        let text = read(page).text;
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        assert!(text.contains("= $y") || text.contains("$f(3) = 7$"), "{text}");
    }
}
