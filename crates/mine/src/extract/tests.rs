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
