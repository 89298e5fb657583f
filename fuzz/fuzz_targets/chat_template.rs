//! A chat template may be anything, and so may what is said: rendering ends, with text or an error.
#![no_main]

use std::collections::BTreeMap;

use koan_text::{ChatTemplate, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, Vec<(String, String)>, bool)| {
    let (source, said, prompt) = input;
    let tokens = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
    if let Ok(template) = ChatTemplate::new(source, &tokens) {
        let messages: Vec<Message> = said.into_iter().map(|(role, content)| Message::new(role, content)).collect();
        let _ = template.render(&messages, prompt);
    }
});
