//! Expressions and statements give what they give in Python's Jinja2, set up as transformers sets it up, or fail where
//! they fail there. `expressions/golden.py` makes the expectations.

use std::{collections::BTreeMap, fs, path::Path};

use koan_text::{ChatTemplate, TemplateValue};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    variables: BTreeMap<String, TemplateValue>,
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
struct Case {
    source: String,
    /// None: it is refused.
    text: Option<String>,
    /// `!`: refused here alone; `~`: known to differ.
    #[serde(default)]
    mark: String,
}

#[test]
fn expressions_give_what_they_give_in_python() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expressions/golden.json");
    let golden: Golden = serde_json::from_str(&fs::read_to_string(path).expect("there")).expect("JSON");
    assert!(golden.cases.len() > 600);
    let mut variables = golden.variables;
    let messages = variables.remove("messages").expect("messages");
    let mut differ = Vec::new();
    for Case { source, text, mark } in &golden.cases {
        let got = ChatTemplate::new(source, &BTreeMap::new())
            .and_then(|template| template.render_with(&messages, false, &variables));
        match (&got, text, &**mark) {
            (Ok(got), Some(text), "") if got == text => {}
            (Err(_), None, "") | (Err(_), _, "!") | (_, _, "~") => {}
            _ => {
                let got = got.map_err(|error| {
                    std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string)
                });
                differ.push(format!("{source}\n    expected {text:?}\n    got      {got:?}"));
            }
        }
    }
    assert!(differ.is_empty(), "{} of {} differ:\n{}", differ.len(), golden.cases.len(), differ.join("\n"));
}
