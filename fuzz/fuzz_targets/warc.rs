//! A file of a crawl may be anything: reading it ends, with pages and what was skipped, or with an error that says what it is.
#![no_main]

use koan_fuzz::scratch;
use koan_mine::{config::Read, source::Reader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = scratch("warc").join("crawl");
    std::fs::write(&path, bytes).expect("written");
    let options = Read { max_page_bytes: 1 << 16, ..Read::default() };
    if let Ok(mut reader) = Reader::open(&path, &options) {
        // Each item takes at least a byte of what is unpacked, which a small file bounds.
        while reader.next().expect("a file of ours").is_some() {}
        reader.digest().expect("a file of ours");
    }
});
