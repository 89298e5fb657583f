//! Test items in pages: lines that hold a part of one are cut out, and named with the item.
//!
//! What a part is, says [`koan_data::decontaminate`]: ten words one after another, or an item of 3 to 9 words whole (alone in its line, if
//! any text may have it), in one notation for formulas, and with numbers as they are.

use std::{ops::Range, path::PathBuf};

use koan_data::decontaminate::{NGRAM, Tests, Word};
use serde::{Deserialize, Serialize};

use crate::MineError;

/// What documents are held against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Decontaminate {
    /// Files of test items, or patterns of them.
    pub against: Vec<String>,
    /// Words one after another that make a match.
    pub ngram: usize,
    /// The items' fields, instead of those that hold texts in data files of all kinds.
    pub fields: Vec<String>,
}

impl Default for Decontaminate {
    fn default() -> Self {
        Self { against: Vec::new(), ngram: NGRAM, fields: Vec::new() }
    }
}

/// A test item that a page holds a part of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hit {
    /// The item: its file and line.
    pub item: String,
    /// Its `id`, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<serde_json::Value>,
    /// What page and item share, up to 200 characters, as the page has it.
    pub shared: String,
}

/// What a page shares with test items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// The text without the lines that hold a part of an item; none if no line does.
    pub rest: Option<String>,
    /// The items, each once.
    pub hits: Vec<Hit>,
    /// Places of short items that any text may have, and that do not stand alone there: they stay.
    pub spared: usize,
}

/// The test items; threads may share it.
#[derive(Debug)]
pub struct Contamination {
    tests: Tests,
}

impl Contamination {
    /// Reads the test items.
    ///
    /// # Errors
    /// Files that can't be read, or rows without texts.
    pub fn read(settings: &Decontaminate) -> Result<Self, MineError> {
        if !(4..=1000).contains(&settings.ngram) {
            return Err(MineError::Setting {
                key: "decontaminate.ngram".into(),
                what: "must lie between 4 and 1000".into(),
            });
        }
        let files = settings.against.iter().map(PathBuf::from).collect::<Vec<_>>().into();
        Ok(Self { tests: Tests::read(&files, settings.ngram, &settings.fields)? })
    }

    /// Items.
    pub fn len(&self) -> usize {
        self.tests.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.tests.is_empty()
    }

    /// What a text shares with the items. `scratch` is memory to work in.
    pub fn cut(&self, text: &str, scratch: &mut Vec<Word>) -> Cut {
        let mut lines: Vec<Range<usize>> = Vec::new();
        let mut found: Vec<(usize, Range<usize>)> = Vec::new();
        let spared = self.tests.index().find(text, scratch, |hit| {
            if !found.iter().any(|(item, _)| *item == hit.item) {
                found.push((hit.item, hit.range.clone()));
            }
            lines.push(hit.range);
            true
        });
        let hits = found.into_iter().map(|(item, range)| {
            let (item, id) = self.tests.item(item);
            Hit { item, id, shared: text[range].chars().take(200).collect() }
        });
        let rest =
            (!lines.is_empty()).then(|| koan_data::decontaminate::without(text, &lines).trim().to_owned());
        Cut { rest, hits: hits.collect(), spared }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_and_the_rest_of_the_page_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("test.jsonl");
        let items = "{\"id\": \"a\", \"text\": \"Natalia sold clips to 48 of her friends in April, and then half as many.\"}\n{\"text\": \"Solve 2x+3=7.\"}\n{\"text\": \"√ ( 21 ) ^ 2\"}\n";
        std::fs::write(&path, items).expect("written");
        let settings =
            Decontaminate { against: vec![path.display().to_string()], ..Decontaminate::default() };
        let tests = Contamination::read(&settings).expect("read");
        let mut scratch = Vec::new();
        assert_eq!(tests.len(), 3);
        assert_eq!(
            tests.cut("She sold clips to 49 of her friends in April, and then half.\n\n2x+3=9", &mut scratch),
            Cut::default()
        );
        let common = tests.cut("As $(\\sqrt{21})^2$ is 21, so is all.", &mut scratch);
        assert_eq!(common, Cut { spared: 1, ..Cut::default() });
        let page = "On clips.\n\nHe SOLD  clips to 48 of her friends in April, and left.\n\nSolve $2x + 3 = 7$.\n\nThe end.";
        let Cut { rest, hits, .. } = tests.cut(page, &mut scratch);
        assert_eq!(rest.as_deref(), Some("On clips.\n\n\n\nThe end."));
        assert_eq!(hits.len(), 2);
        assert!(hits[0].item.ends_with("test.jsonl:1") && hits[0].id == Some("a".into()));
        assert_eq!(hits[1].shared, "Solve $2x + 3 = 7");
        let none = Decontaminate { ngram: 2, ..settings };
        assert!(Contamination::read(&none).expect_err("too few").to_string().contains("decontaminate.ngram"));
    }
}
