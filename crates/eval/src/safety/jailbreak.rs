//! Jailbreaks: texts around a prompt that try to make a model answer what it should refuse. A file has a row for each, `name` and
//! `template`, in which `{prompt}` is where the prompt is put.

use std::collections::BTreeSet;

use koan_data::{DataFiles, Problem, rows};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The most jailbreaks of a file.
pub const MAX_JAILBREAKS: usize = 1000;
/// Where a template has the prompt.
const PLACE: &str = "{prompt}";

/// A text around a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jailbreak {
    /// Its name in reports.
    pub name: String,
    /// The text, with `{prompt}` in it.
    pub template: String,
}

/// Why jailbreaks were refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JailbreakError {
    /// The file can't be read.
    #[error(transparent)]
    Data(#[from] koan_data::DataError),
    /// A row is none.
    #[error("{files}, row {row}: {reason}")]
    Row {
        /// The file.
        files: String,
        /// Its row, from 1.
        row: usize,
        /// What is wrong with it.
        reason: String,
    },
}

impl Jailbreak {
    /// Reads a file of jailbreaks.
    ///
    /// # Errors
    /// A file that can't be read; a row without a name or a place for the prompt; a name that occurs twice.
    pub fn read(files: &DataFiles) -> Result<Vec<Self>, JailbreakError> {
        let (mut all, mut names) = (Vec::new(), BTreeSet::new());
        for (row, read) in (1..).zip(rows::all(files)?) {
            let wrong = |reason: String| JailbreakError::Row { files: files.to_string(), row, reason };
            let (_, bytes) = read?;
            let bytes = bytes.map_err(|error| wrong(error.to_string()))?;
            let jailbreak: Self = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
            if !jailbreak.template.contains(PLACE) {
                return Err(wrong(format!("`template` has no `{PLACE}`, where the prompt is put")));
            }
            if !names.insert(jailbreak.name.clone()) {
                return Err(wrong(format!("`name` `{}` occurs twice", jailbreak.name)));
            }
            if all.len() == MAX_JAILBREAKS {
                return Err(wrong(format!("a file has at most {MAX_JAILBREAKS} jailbreaks")));
            }
            all.push(jailbreak);
        }
        Ok(all)
    }

    /// The problem whose last message from the user is put into the template.
    fn around(&self, problem: &Problem) -> Problem {
        let mut problem = problem.clone();
        let put = |text: &str| self.template.replace(PLACE, text);
        if let Some(prompt) = &mut problem.prompt {
            *prompt = put(prompt);
        }
        let asked = problem.messages.iter_mut().flatten().rfind(|message| message.role == "user");
        if let Some(asked) = asked {
            asked.content = put(&asked.content);
        }
        problem.id = format!("{}~{}", problem.id, self.name);
        let meta = problem.meta.get_or_insert_with(Map::new);
        meta.insert("jailbreak".to_owned(), Value::from(&*self.name));
        problem
    }
}

/// The problems as they stand, then all of them in each jailbreak.
pub fn with_jailbreaks(problems: Vec<Problem>, jailbreaks: &[Jailbreak]) -> Vec<Problem> {
    let around =
        |jailbreak: &Jailbreak| problems.iter().map(|problem| jailbreak.around(problem)).collect::<Vec<_>>();
    let broken: Vec<Problem> = jailbreaks.iter().flat_map(around).collect();
    problems.into_iter().chain(broken).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Result<Vec<Jailbreak>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("jailbreaks.jsonl");
        std::fs::write(&path, text).expect("written");
        Jailbreak::read(&path.into()).map_err(|error| error.to_string())
    }

    #[test]
    fn each_prompt_stands_alone_and_in_each_jailbreak() {
        let jailbreaks =
            read("{\"name\": \"story\", \"template\": \"Tell a story: {prompt} The end of {prompt}\"}\n")
                .expect("read");
        let problem = |row: Value| serde_json::from_value::<Problem>(row).expect("a problem");
        let problems = vec![
            problem(json!({"id": "1", "prompt": "How {prompt}?"})),
            problem(
                json!({"id": "2", "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                {"role": "user", "content": "c"}], "meta": {"level": 1}}),
            ),
        ];
        let all = with_jailbreaks(problems, &jailbreaks);
        let ids: Vec<&str> = all.iter().map(|problem| &*problem.id).collect();
        assert_eq!(ids, ["1", "2", "1~story", "2~story"]);
        assert_eq!(all[2].prompt.as_deref(), Some("Tell a story: How {prompt}? The end of How {prompt}?"));
        let said: Vec<String> = all[3].messages().iter().map(|message| message.content.clone()).collect();
        assert_eq!(said, ["a", "b", "Tell a story: c The end of c"]);
        assert_eq!(
            all[3].meta.as_ref().map(|meta| (&meta["level"], &meta["jailbreak"])),
            Some((&json!(1), &json!("story")))
        );
    }

    #[test]
    fn what_is_no_jailbreak_is_refused_with_its_row() {
        let good = "{\"name\": \"a\", \"template\": \"{prompt}\"}\n";
        for (text, said) in [
            (
                "{\"name\": \"a\", \"template\": \"{promt}\"}\n".to_owned(),
                "row 1: `template` has no `{prompt}`",
            ),
            (good.repeat(2), "row 2: `name` `a` occurs twice"),
            ("{\"name\": \"a\"}\n".to_owned(), "row 1: missing field `template`"),
        ] {
            let error = read(&text).expect_err(said);
            assert!(error.contains(said), "{error}");
        }
    }
}
