//! A page: it gives text or a reason, whatever its bytes, and no more text than a few times its bytes.
#![no_main]

use koan_mine::extract::{Hints, Limits, extract};
use koan_mine::{language, prefilter};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The first byte chooses what the server said of the charset.
    let (choice, html) = data.split_first().map_or((0, data), |(first, rest)| (*first, rest));
    let declared = ["text/html", "text/html; charset=utf-8", "text/html; charset=gbk", "text/html; charset=shift_jis", "charset=koi8-r"];
    let content_type = declared.get(usize::from(choice)).copied();
    let hints = Hints { content_type, url: "http://a.example/" };
    let limits = Limits { nodes: 20_000, steps: 1_000_000, ..Limits::default() };
    prefilter::looks_like_maths(html);
    if let Ok(page) = extract(html, &hints, &limits) {
        assert!(!page.text.trim().is_empty());
        assert!(page.text.len() <= 64 + 16 * html.len());
        assert!(!page.text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')));
        language::identify(&page.text);
    }
});
