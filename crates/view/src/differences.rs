//! In which settings runs differ.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use toml::Value;

use crate::{ViewError, runs::NamedRun};

/// Most settings that are listed.
const MAX_DIFFERENCES: usize = 200;
/// Most characters of a value.
const MAX_VALUE_CHARS: usize = 200;
/// Settings that differ by their nature.
const LEFT_OUT: [&str; 1] = ["run_dir"];

/// A setting in which runs differ.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its name in config.toml: `optim.lr`; `reward.1.kind` is that of the first `[[reward]]`.
    pub key: String,
    /// Its value in each run, in their order; none where a run does not have it.
    pub values: Vec<Option<String>>,
}

/// The settings in which these runs differ, by name.
///
/// # Errors
/// If a config can't be read. One that is not valid counts as empty.
pub fn differences(runs: &[NamedRun]) -> Result<Vec<Difference>, ViewError> {
    let mut configs = Vec::new();
    for named in runs {
        let mut settings = BTreeMap::new();
        flatten("", &Value::Table(named.run.config()?), &mut settings);
        configs.push(settings);
    }
    let keys: BTreeSet<&String> = configs.iter().flat_map(BTreeMap::keys).collect();
    let all = keys.into_iter().filter(|key| !LEFT_OUT.contains(&key.as_str())).map(|key| Difference {
        key: key.clone(),
        values: configs.iter().map(|settings| settings.get(key).cloned()).collect(),
    });
    Ok(all
        .filter(|row| row.values.iter().any(|value| *value != row.values[0]))
        .take(MAX_DIFFERENCES)
        .collect())
}

fn flatten(name: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    let inner = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    match value {
        Value::Table(table) => table.iter().for_each(|(key, value)| flatten(&inner(key), value, into)),
        Value::Array(items) if items.iter().any(Value::is_table) => {
            items.iter().enumerate().for_each(|(i, item)| flatten(&inner(&(i + 1).to_string()), item, into));
        }
        value => {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Float(number) => format!("{number:?}"),
                other => other.to_string(),
            };
            into.insert(name.to_owned(), text.chars().take(MAX_VALUE_CHARS).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::run::Run;

    #[test]
    fn only_what_differs_is_listed() {
        let folder = tempfile::tempdir().expect("a folder");
        let named = |name: &str, config: &str| {
            let path = folder.path().join(name);
            fs::create_dir(&path).expect("a folder");
            fs::write(path.join("config.toml"), config).expect("written");
            NamedRun { name: name.into(), run: Run::open(&path).expect("a run") }
        };
        let runs = [
            named(
                "a",
                "run_dir = \"a\"\nseed = 1\n[optim]\nlr = 1e-5\nbeta = 0.9\n[[reward]]\nkind = \"math\"\n",
            ),
            named(
                "b",
                "run_dir = \"b\"\nseed = 1\n[optim]\nlr = 1e-6\nbeta = 0.9\n[[reward]]\nkind = \"math\"\n[[reward]]\nkind = \"format\"\n",
            ),
            named("c", "seed = 2\nnot valid"),
        ];
        let rows = differences(&runs[..2]).expect("differences");
        let row = |key: &str, values: [Option<&str>; 2]| Difference {
            key: key.into(),
            values: values.map(|value| value.map(ToOwned::to_owned)).to_vec(),
        };
        let expected =
            [row("optim.lr", [Some("1e-5"), Some("1e-6")]), row("reward.2.kind", [None, Some("format")])];
        assert_eq!(rows, expected);
        assert!(differences(&runs[..1]).expect("none").is_empty());
        assert_eq!(differences(&runs).expect("differences").len(), 5, "an invalid config is an empty one");
    }
}
