//! A request's body may be anything: it is read, or refused in words.
#![no_main]

use koan_serve::check_request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    for refusal in check_request(body).into_iter().filter_map(Result::err) {
        assert!(!refusal.is_empty() && refusal.len() < 10_000);
    }
});
