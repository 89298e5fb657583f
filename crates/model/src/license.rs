//! What a model's files say of its licence.

use std::path::Path;

use koan_files::read_bounded;
use serde_json::Value;

use crate::Config;

/// Bytes read of a file that may name a licence.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The licence of the model in directory `dir`, as its files state it: the front matter of README.md, the config, or the
/// first line of a LICENSE file.
pub fn license(dir: &Path, config: &Config) -> Option<String> {
    let read = |name: &str| {
        let bytes = read_bounded(&dir.join(name), MAX_FILE_BYTES).ok().flatten()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let first_line = |name: &str| {
        let text = read(name)?;
        text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
    };
    read("README.md")
        .and_then(|text| front_matter_license(&text))
        .or_else(|| config.raw.get("license").and_then(Value::as_str).map(str::to_owned))
        .or_else(|| TERMS.iter().take(4).find_map(|name| first_line(name)))
}

/// Files that state terms; they go wherever the weights go, and those of models that were made from them.
pub(crate) const TERMS: [&str; 7] =
    ["LICENSE", "LICENSE.txt", "LICENSE.md", "COPYING", "NOTICE", "NOTICE.txt", "USE_POLICY.md"];

/// What the model card in directory `dir` states of the licence.
fn of_card(dir: &Path) -> Vec<(&'static str, String)> {
    let card = read_bounded(&dir.join("README.md"), MAX_FILE_BYTES).ok().flatten();
    let card = card.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let matter = card.as_deref().and_then(front_matter).unwrap_or_default();
    KEYS.iter().filter_map(|(key, _)| Some((*key, value(matter, key)?))).collect()
}

/// The keys of a model card's front matter that state the licence, and those of a GGUF file.
pub(crate) const KEYS: [(&str, &str); 3] = [
    ("license", "general.license"),
    ("license_name", "general.license.name"),
    ("license_link", "general.license.link"),
];

/// What the files of `dir` state of the licence apart from [`TERMS`]: keys of [`KEYS`] with their values.
pub(crate) fn stated(dir: &Path, config: &Config) -> Vec<(&'static str, String)> {
    let of_card = of_card(dir);
    if !of_card.is_empty() {
        return of_card;
    }
    let of_config = config.raw.get("license").and_then(Value::as_str);
    of_config.map(|license| ("license", license.to_owned())).into_iter().collect()
}

/// The keys of a model card's front matter that state the licence of the model or adapter in directory `dir` (`license`, `license_name`,
/// `license_link`), with their values as its card or its config has them.
pub fn license_keys(dir: &Path) -> Vec<(&'static str, String)> {
    Config::load(dir).map_or_else(|_| of_card(dir), |config| stated(dir, &config))
}

/// Whether `card` states the licence, and on which model an adapter is, and nothing else: so are those that come with weights which Koan
/// writes.
pub fn is_license_card(card: &str) -> bool {
    let known = |line: &str| {
        let key = line.split_once(':').map(|(key, _)| key);
        key.is_some_and(|key| {
            ["base_model", "library_name"].contains(&key) || KEYS.iter().any(|(k, _)| *k == key)
        })
    };
    let matter = card.strip_prefix("---\n").and_then(|card| card.strip_suffix("---\n"));
    matter.is_some_and(|matter| matter.lines().all(known))
}

/// A model card that states the licence and nothing else; none if nothing is `stated`.
pub(crate) fn card(stated: &[(&str, String)]) -> Option<String> {
    let line = |(key, value): &(&str, String)| format!("{key}: {}\n", Value::from(value.as_str()));
    (!stated.is_empty()).then(|| format!("---\n{}---\n", stated.iter().map(line).collect::<String>()))
}

/// The card of an adapter on the model in `base`, which states that model's licence.
pub(crate) fn adapter_card(stated: &[(&str, String)], base: &Path) -> String {
    let base = [("base_model", base.to_string_lossy().into_owned()), ("library_name", "peft".to_owned())];
    card(&[&base, stated].concat()).unwrap_or_default()
}

/// The text between the two lines of dashes that a model card begins with.
fn front_matter(card: &str) -> Option<&str> {
    card.trim_start_matches('\u{feff}').strip_prefix("---")?.split_once("\n---").map(|(matter, _)| matter)
}

/// The value of a key of front matter.
fn value(matter: &str, key: &str) -> Option<String> {
    let lines = matter.lines().filter_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(':'));
    let mut values = lines.map(|value| value.trim().trim_matches(['"', '\'']).to_owned());
    values.find(|value| !value.is_empty())
}

/// `license` between the two lines of dashes that a model card begins with; `license_name` where that says `other`.
fn front_matter_license(text: &str) -> Option<String> {
    let matter = front_matter(text)?;
    let license = value(matter, "license")?;
    if license == "other" { value(matter, "license_name").or(Some(license)) } else { Some(license) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_card_speaks_first() {
        let dir = tempfile::tempdir().expect("a folder");
        let config = crate::testkit::config(8, true);
        let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("written");
        assert_eq!(license(dir.path(), &config), None);
        put("LICENSE", "\n  Apache License\nVersion 2.0");
        assert_eq!(license(dir.path(), &config).as_deref(), Some("Apache License"));
        put("README.md", "---\nlibrary_name: transformers\nlicense: \"mit\"\n---\n# Model\nlicense: gpl");
        assert_eq!(license(dir.path(), &config).as_deref(), Some("mit"));
        put("README.md", "---\nlicense: other\nlicense_name: llama3.1\n---\n");
        assert_eq!(license(dir.path(), &config).as_deref(), Some("llama3.1"));
        assert_eq!(
            license_keys(dir.path()),
            [("license", "other".into()), ("license_name", "llama3.1".into())]
        );
        put("README.md", "no front matter\n---\nlicense: gpl\n---\n");
        assert_eq!(license(dir.path(), &config).as_deref(), Some("Apache License"));
    }

    #[test]
    fn a_card_of_the_licence_alone_is_known() {
        assert!(is_license_card(&card(&[("license", "mit".to_owned())]).expect("a card")));
        assert!(is_license_card(&adapter_card(&[("license", "mit".to_owned())], Path::new("models/m"))));
        for other in ["", "# Mine", "---\nlicense: mit\n---\n# Mine\n", "---\nlicense: mit\ntags: [x]\n---\n"]
        {
            assert!(!is_license_card(other), "{other}");
        }
    }
}
