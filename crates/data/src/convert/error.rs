//! Why a file could not be converted.

use super::{Report, SHAPES};
use crate::DataError;
use std::path::PathBuf;

/// Why a file could not be converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// A file could not be read or written.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A name that no shape has.
    #[error("there is no shape `{name}`; use one of: {}", SHAPES.iter().map(|shape| shape.name).collect::<Vec<_>>().join(", "))]
    NoShape {
        /// The name asked for.
        name: String,
    },
    /// A file that fits several shapes.
    #[error("{} can be one of: {}; name one with --from", path.display(), names.join(", "))]
    Ambiguous {
        /// The file.
        path: PathBuf,
        /// The shapes.
        names: Vec<&'static str>,
    },
    /// A file that fits no shape.
    #[error("{} is of no known shape: {fields}; {}", path.display(), remedy(questions, answers))]
    Unknown {
        /// The file.
        path: PathBuf,
        /// Its fields with their types.
        fields: String,
        /// Fields that may be the question.
        questions: Vec<&'static str>,
        /// Fields that may be the answer.
        answers: Vec<&'static str>,
    },
    /// A file whose rows are in a list of its only object.
    #[error("{} is one object; its rows are in {}: take them out first, as in jq -c '.{}[]' FILE > ROWS.jsonl", path.display(), lists.join(", "), lists[0])]
    Lists {
        /// The file.
        path: PathBuf,
        /// The lists.
        lists: Vec<String>,
    },
    /// Files of two shapes.
    #[error(
        "{} is {}, {} is {}; convert files of one shape at a time, or name it with --from",
        files[0].display(), shapes[0], files[1].display(), shapes[1]
    )]
    TwoShapes {
        /// The shapes.
        shapes: [&'static str; 2],
        /// A file of each.
        files: [PathBuf; 2],
    },
    /// A mapping that can't be used.
    #[error("--map {mapping}: {what}; write it as prompt=problem,answer=solution")]
    Mapping {
        /// The mapping.
        mapping: String,
        /// What is wrong.
        what: String,
    },
    /// The result would replace its source.
    #[error("{} would be replaced by what is made of it; write to another file", path.display())]
    Itself {
        /// The file.
        path: PathBuf,
    },
    /// No row could be carried over.
    #[error("nothing can be made of it as {}:\n{report}", report.shape)]
    Nothing {
        /// Why not.
        report: Box<Report>,
    },
}

fn remedy(questions: &[&str], answers: &[&str]) -> String {
    let either =
        |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
    let may_be = match (questions, answers) {
        ([_, _, ..], _) => format!("the question can be {}; ", either(questions)),
        (_, [_, _, ..]) => format!("the answer can be {}; ", either(answers)),
        _ => String::new(),
    };
    format!(
        "{may_be}say which field is which, as in --map prompt=FIELD,answer=FIELD, or name a shape with --from"
    )
}
