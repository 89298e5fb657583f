//! open-r1/codeforces: official tests; where a checker judges, comparing text would be wrong.

use super::Shape;
use super::row::{Made, Out, Row};
use super::tests_of::Cases;
use serde_json::json;

pub(super) const SHAPE: Shape = Shape {
    name: "codeforces",
    about: "open-r1/codeforces: description, official_tests, time_limit, memory_limit",
    is: |fields| fields.has_all(&["description", "official_tests"]),
    make: |row| problem(row),
    ..Shape::MADE
};

fn problem(row: &Row) -> Made {
    if row.text("generated_checker").is_some() {
        return Err("judged by a checker: several outputs are right".to_owned());
    }
    if row.text("interaction_format").is_some() {
        return Err("interactive".to_owned());
    }
    if row.text("input_mode").is_some_and(|mode| mode == "file") {
        return Err("reads or writes a file".to_owned());
    }
    if row.value("official_tests_complete") == false {
        return Err("its official tests are cut".to_owned());
    }
    let mut prompt = row.need("description")?;
    for (field, title) in [("input_format", "Input"), ("output_format", "Output"), ("note", "Note")] {
        if let Some(text) = row.text(field) {
            prompt.extend(["\n\n", title, "\n\n", &text]);
        }
    }
    for example in row.list("examples") {
        let text =
            |name: &str| example.get(name).and_then(|text| text.as_str()).unwrap_or_default().to_owned();
        let (input, output) = (text("input"), text("output"));
        prompt.extend(["\n\nExample input:\n", &input, "\nExample output:\n", &output]);
    }
    let tests = row.json("official_tests").ok_or("no tests")?;
    let number = |field: &str| row.value(field).as_f64().filter(|&number| number > 0.0);
    let mut out = Out::asking(prompt).id(row.id(&["id"])).meta([("rating", row.value("rating"))]);
    out.time_limit_s = number("time_limit").map(|seconds| json!(seconds));
    out.memory_limit_mb = number("memory_limit").map(|mb| mb as u64);
    out.tests(Cases::read(&tests, None)?, row.limits)?.one()
}
