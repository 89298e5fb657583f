//! CodeContests (arXiv:2203.07814): public, private and generated tests as structs of lists.

use super::Shape;
use super::row::{Made, Out, Row};
use super::tests_of::Cases;
use serde_json::{Value, json};

pub(super) const SHAPE: Shape = Shape {
    name: "code-contests",
    about: "CodeContests: description, public_tests, private_tests, generated_tests",
    is: |fields| {
        fields.has("description") && fields.has_any(&["public_tests", "private_tests", "generated_tests"])
    },
    make: |row| problem(row),
    ..Shape::MADE
};

fn problem(row: &Row) -> Made {
    if row.text("input_file").is_some() || row.text("output_file").is_some() {
        return Err("reads or writes a file".to_owned());
    }
    let mut streams = Vec::new();
    for field in ["public_tests", "private_tests", "generated_tests"] {
        let tests = row.value(field);
        let texts = |name: &str| -> Vec<String> {
            let list = tests.get(name).and_then(Value::as_array);
            list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let (input, output) = (texts("input"), texts("output"));
        if input.len() != output.len() {
            return Err(format!("`{field}` has not as many inputs as outputs"));
        }
        streams.extend(input.into_iter().zip(output));
    }
    let tags = row.list("cf_tags");
    let tags: Vec<Value> =
        tags.into_iter().filter(|tag| tag.as_str().is_some_and(|tag| !tag.is_empty())).collect();
    let rating = Some(row.value("cf_rating")).filter(|rating| rating.as_i64() != Some(0)).unwrap_or_default();
    let limit = row.value("time_limit");
    let part = |name: &str| limit.get(name).and_then(Value::as_f64).unwrap_or_default();
    let seconds = part("seconds") + part("nanos") / 1e9;
    let bytes = row.value("memory_limit_bytes").as_u64().unwrap_or_default();
    let mut out = Out::asking(row.need("description")?).id(row.id(&["name"])).meta([
        ("rating", rating),
        ("kind", tags.first().cloned().unwrap_or_default()),
        ("tags", if tags.len() > 1 { json!(tags) } else { Value::Null }),
    ]);
    out.time_limit_s = (seconds > 0.0).then(|| json!(seconds));
    out.memory_limit_mb = Some(bytes >> 20).filter(|&mb| mb > 0);
    out.tests(Cases::Streams(streams), row.limits)?.one()
}
