//! Chat templates in the shapes that models come with are rendered as transformers renders them, to the byte.
//! `chat_templates/golden.py` makes the expectations.

use std::{collections::BTreeMap, fs, path::Path};

use koan_text::{ChatTemplate, TemplateValue, TextError, Turn, name_thinking};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    tokens: BTreeMap<String, String>,
    tools: TemplateValue,
    conversations: BTreeMap<String, Vec<Turn>>,
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
struct Case {
    template: String,
    conversation: String,
    tools: bool,
    add_generation_prompt: bool,
    variables: BTreeMap<String, TemplateValue>,
    /// None: the template refuses.
    text: Option<String>,
}

#[test]
fn conversations_are_written_as_transformers_writes_them() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chat_templates");
    let read = |name: &str| fs::read_to_string(dir.join(name)).expect(name);
    let golden: Golden = serde_json::from_str(&read("golden.json")).expect("JSON");
    assert!(golden.cases.len() > 100);
    let mut differ = Vec::new();
    for case in golden.cases {
        let source = read(&format!("{}.jinja", case.template));
        let template = ChatTemplate::new(&source, &golden.tokens).expect("valid");
        let mut variables = case.variables.clone();
        if case.tools {
            variables.insert("tools".into(), golden.tools.clone());
        }
        let mut messages = golden.conversations[&case.conversation].clone();
        messages.iter_mut().for_each(name_thinking);
        match (template.render_with(&messages, case.add_generation_prompt, &variables), &case.text) {
            (Ok(text), Some(expected)) if text == *expected => {}
            (Err(TextError::Render { .. }), None) => {}
            (got, _) => differ.push((case, got)),
        }
    }
    assert!(differ.is_empty(), "{} differ, the first: {:#?}", differ.len(), differ[0]);
}
