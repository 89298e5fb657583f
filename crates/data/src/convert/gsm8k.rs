//! GSM8K (arXiv:2110.14168): a solution whose last line is `#### NUMBER`, with calculations in `<<…>>`.

use super::Shape;
use super::row::{Made, Out, Row};

pub(super) const SHAPE: Shape = Shape {
    name: "gsm8k",
    about: "GSM8K: question, answer that ends in #### NUMBER",
    is: |fields| {
        fields.has_all(&["question", "answer"]) && fields.every("answer", |text| text.contains("####"))
    },
    make: |row| problem(row),
    ..Shape::MADE
};

fn problem(row: &Row) -> Made {
    let text = row.need("answer")?;
    let (solution, answer) = text.rsplit_once("####").ok_or("`answer` has no ####")?;
    if answer.trim().is_empty() {
        return Err("`answer` has nothing after ####".to_owned());
    }
    let solution = without_calculations(solution.trim());
    let solution = Some(solution).filter(|text| !text.is_empty());
    Out { solution, ..Out::asking(row.need("question")?) }.answer(answer.trim()).one()
}

/// `text` without `<<…>>`: calculator annotations, which repeat the text beside them.
fn without_calculations(text: &str) -> String {
    let mut parts = text.split("<<");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once(">>").map_or(part, |(_, after)| after))
}
