//! Settings as users write them: TOML files and `--set key=value`. What is wrong is said with its place, and an unknown
//! key with the nearest known one.

use std::path::PathBuf;

use toml::{Table, Value};

/// Why a config was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It does not parse.
    #[error("in `{}`: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and key.
        message: String,
    },
    /// A value makes no sense.
    #[error("`{key}` is {value}: {expected}")]
    Value {
        /// The key, with its table.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
}

/// Refuses a value that makes no sense.
pub(crate) fn check(
    ok: bool,
    key: &'static str,
    value: &dyn ToString,
    expected: &'static str,
) -> Result<(), ConfigError> {
    if ok { Ok(()) } else { Err(ConfigError::Value { key, value: value.to_string(), expected }) }
}

/// Refuses a number of steps that can't be meant, and by which counts of updates would overflow.
pub(crate) fn check_steps(steps: Option<u64>) -> Result<(), ConfigError> {
    let steps = steps.unwrap_or(1);
    check((1..=1_000_000_000).contains(&steps), "steps", &steps, "1 to 1000000000")
}

/// Whether a count is one that can be meant.
pub(crate) fn is_size(n: usize) -> bool {
    (1..=1 << 20).contains(&n)
}

/// Sets `a.b=value` in a table; the value is TOML, or a bare string.
pub(crate) fn override_key(table: &mut Table, set: &str) -> Result<(), String> {
    let (key, value) = set.split_once('=').ok_or("expected KEY=VALUE, as in optim.lr=1e-6")?;
    let value = value.trim();
    let parsed = toml::from_str::<Table>(&format!("v = {value}")).ok().and_then(|mut t| t.remove("v"));
    let value = parsed.unwrap_or_else(|| Value::String(value.into()));
    let mut parts: Vec<&str> = key.trim().split('.').collect();
    let last = parts.pop().filter(|k| !k.is_empty()).ok_or("expected KEY=VALUE, as in optim.lr=1e-6")?;
    let mut at = table;
    for part in parts {
        let next = at.entry(part).or_insert_with(|| Value::Table(Table::new()));
        at = next.as_table_mut().ok_or_else(|| format!("`{part}` is not a table"))?;
    }
    at.insert(last.into(), value);
    Ok(())
}

/// Adds the nearest known name to serde's "unknown field `x`, expected one of `a`, `b`".
pub(crate) fn with_nearest_name(message: &str) -> String {
    /// Similarity from which a name may have been meant: above what words that merely share a few letters have.
    const MEANT: f64 = 0.75;
    let message = message.trim_end();
    let names: Vec<&str> = match message.split_once("unknown field") {
        Some((_, rest)) => rest.split('`').skip(1).step_by(2).collect(),
        None => return message.into(),
    };
    let Some((unknown, known)) = names.split_first() else { return message.into() };
    let nearest = known
        .iter()
        .map(|name| (strsim::jaro_winkler(name, unknown), name))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .filter(|(similarity, _)| *similarity >= MEANT);
    match nearest {
        Some((_, nearest)) => format!("{message}\ndid you mean `{nearest}`?"),
        None => message.into(),
    }
}
