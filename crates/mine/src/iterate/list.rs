//! The list of domains and prefixes that a person chooses from: tab-separated, a page with samples, and what was chosen.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use koan_files::{replace, sha256};

use super::{
    domains::{Prefix, Sample, without_scheme},
    settings::Iterate,
};
use crate::MineError;

/// The list of a round, and what was chosen from it.
pub(super) const DOMAINS: &str = "domains.tsv";
pub(super) const CHOSEN: &str = "chosen.tsv";
const PAGE: &str = "domains.html";
/// The largest list that is read, bytes.
const MAX_BYTES: u64 = 256 << 20;

/// A round's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// The file of the list.
    pub path: PathBuf,
    /// The page that shows it, with samples.
    pub page: PathBuf,
    /// The round.
    pub round: usize,
    /// Prefixes on the list.
    pub prefixes: usize,
    /// The hash by which a choice says which list it is of.
    hash: String,
}

/// Prefixes that were chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Sorted; none is a prefix of another.
    prefixes: Vec<String>,
}

/// Writes the list and its page.
pub(super) fn write(
    folder: &Path,
    round: usize,
    prefixes: &[Prefix],
    settings: &Iterate,
) -> Result<(), MineError> {
    let mut rows = String::new();
    for prefix in prefixes {
        let Prefix { domain, name, count, chosen, .. } = prefix;
        let mark = if *chosen { "x" } else { "" };
        let (pages, kept, share) = (count.pages, count.kept, count.share());
        let least = count.at_least(settings.confidence);
        let _ = writeln!(rows, "{mark}\t{domain}\t{name}\t{pages}\t{kept}\t{share:.3}\t{least:.3}");
    }
    let hash = hash_of(&rows);
    let head = head(round, &hash);
    let text = format!(
        "{head}# Prefixes marked x give their pages that were not kept to the next round. Change the marks, or add rows of a mark and\n\
         # a prefix, then: koan mine domains FILE.toml --accept THIS_FILE\n\
         chosen\tdomain\tprefix\tpages\tkept\tshare\tat_least\n{rows}"
    );
    replace(&folder.join(PAGE), page(round, prefixes).as_bytes())?;
    Ok(replace(&folder.join(DOMAINS), text.as_bytes())?)
}

fn head(round: usize, hash: &str) -> String {
    format!("# koan mine domains, round {round}, list {hash}\n")
}

/// The hash of a list without its marks.
fn hash_of(rows: &str) -> String {
    let unmarked: Vec<&str> =
        rows.lines().filter_map(|row| row.split_once('\t')).map(|(_, rest)| rest).collect();
    sha256(unmarked.join("\n"))[..16].to_owned()
}

fn read(path: &Path) -> Result<String, MineError> {
    let wrong = |what: &str| MineError::Input { path: path.into(), what: what.into() };
    let bytes = koan_files::read_bounded(path, MAX_BYTES).map_err(MineError::read(path))?;
    let bytes = bytes.ok_or_else(|| wrong("is larger than a list of domains can be"))?;
    String::from_utf8(bytes).map_err(|_| wrong("is no UTF-8; save it as UTF-8 with tabs between columns"))
}

impl List {
    pub(super) fn open(folder: &Path, round: usize) -> Result<Self, MineError> {
        let path = folder.join(DOMAINS);
        let text = read(&path)?;
        let first = text.lines().next().unwrap_or_default();
        let Some((_, hash)) = first.rsplit_once(' ') else {
            return Err(MineError::Input { path, what: "is no list of domains".into() });
        };
        let prefixes = text.lines().filter(|line| !line.starts_with('#')).count().saturating_sub(1);
        Ok(Self { page: folder.join(PAGE), round, prefixes, hash: hash.to_owned(), path })
    }

    /// Takes the choice in the file `path`, which is this list with other marks, for this round. Gives what was chosen.
    ///
    /// # Errors
    /// A file that is of another list, or has rows that are none.
    pub fn accept(&self, path: &Path) -> Result<Chosen, MineError> {
        let text = read(path)?;
        let wrong = |line: usize, what: &str| MineError::Input {
            path: path.into(),
            what: format!("line {line}: {what}"),
        };
        let head = head(self.round, &self.hash);
        if text.lines().next().map(str::trim_end) != Some(head.trim_end()) {
            let what = format!(
                "its first line must be `{}`: this is another round's list, or another run's",
                head.trim_end()
            );
            return Err(wrong(1, &what));
        }
        let mut prefixes = Vec::new();
        for (line, number) in text.lines().zip(1..) {
            if line.starts_with('#') || line.trim().is_empty() || line.starts_with("chosen\t") {
                continue;
            }
            let columns: Vec<&str> = line.split('\t').map(str::trim).collect();
            let prefix = match columns[..] {
                [mark, prefix] | [mark, _, prefix, ..] if matches!(mark, "" | "x" | "X") => {
                    if mark.is_empty() {
                        continue;
                    }
                    if !prefix.contains(['.', '/']) {
                        return Err(wrong(number, "a prefix is a host and a path, as in example.org/maths/"));
                    }
                    without_scheme(prefix)
                }
                _ => {
                    return Err(wrong(
                        number,
                        "a row is a mark (x or nothing), a tab, and a prefix; or a row of the list",
                    ));
                }
            };
            prefixes.push(prefix);
        }
        let chosen = Chosen::of(prefixes);
        let rows: Vec<&str> = chosen.prefixes.iter().map(String::as_str).chain([""]).collect();
        let folder = self.path.parent().unwrap_or(Path::new(""));
        replace(&folder.join(CHOSEN), format!("{head}{}", rows.join("\n")).as_bytes())?;
        Ok(chosen)
    }
}

impl Chosen {
    fn of(mut prefixes: Vec<String>) -> Self {
        prefixes.sort();
        prefixes.dedup_by(|later, earlier| later.starts_with(earlier.as_str()));
        Self { prefixes }
    }

    /// What was chosen in a round.
    pub(super) fn read(folder: &Path, round: usize) -> Result<Self, MineError> {
        let path = folder.join(CHOSEN);
        let text = read(&path)?;
        if !text.starts_with(&format!("# koan mine domains, round {round}, ")) {
            return Err(MineError::Input {
                path,
                what: "is no choice of this round; remove it, and choose again".into(),
            });
        }
        Ok(Self::of(text.lines().skip(1).filter(|line| !line.is_empty()).map(str::to_owned).collect()))
    }

    /// Whether an URL begins with one of the prefixes.
    pub fn holds(&self, url: &str) -> bool {
        let url = without_scheme(url);
        let after = self.prefixes.partition_point(|prefix| prefix.as_str() <= url.as_str());
        self.prefixes[..after].last().is_some_and(|prefix| url.starts_with(prefix.as_str()))
    }

    /// Prefixes.
    pub fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// Whether nothing was chosen.
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em;color:#222;background:#fff}\
    summary{cursor:pointer}td,th{padding:.15em .6em;text-align:left;vertical-align:top}.n{text-align:right}\
    .yes{background:#e8f4e8}small{color:#666}blockquote{margin:.3em 0 .6em 1em;color:#444}\
    @media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}.yes{background:#223322}blockquote,small{color:#aaa}}";

fn page(round: usize, prefixes: &[Prefix]) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Domains of round {round}</title><style>{STYLE}</style><h1>Domains of round {round}</h1>\
         <p>Of these domains enough pages were kept to call them mathematics. Shaded prefixes are chosen by the rules; \
         choose others in <code>{DOMAINS}</code>. Open a prefix to see pages.</p><table><tr><th>prefix<th class=n>pages\
         <th class=n>kept<th class=n>share</tr>\n"
    );
    for prefix in prefixes {
        let class = if prefix.chosen { " class=yes" } else { "" };
        let _ = writeln!(
            page,
            "<tr{class}><td><details><summary>{}</summary>{}{}</details><td class=n>{}<td class=n>{}<td class=n>{:.3}</tr>",
            escaped(&prefix.name),
            samples("Kept", &prefix.kept),
            samples("Not kept", &prefix.left),
            prefix.count.pages,
            prefix.count.kept,
            prefix.count.share(),
        );
    }
    page + "</table></html>\n"
}

fn samples(title: &str, samples: &[Sample]) -> String {
    let mut html = String::new();
    for Sample { url, text, .. } in samples {
        let _ = write!(
            html,
            "<small>{title}: {}</small><blockquote>{}</blockquote>",
            escaped(url),
            escaped(text)
        );
    }
    html
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_url_is_held_by_its_prefixes_alone() {
        let chosen = Chosen::of(
            ["b.org/x/", "a.org/", "a.org/deep/", "b.org/x", "b.org/w/"].map(str::to_owned).to_vec(),
        );
        assert_eq!(chosen.prefixes, ["a.org/", "b.org/w/", "b.org/x"]);
        for url in ["http://a.org/1", "https://A.org/deep/1?x#y", "https://b.org/x/1", "http://b.org/xy"] {
            assert!(chosen.holds(url), "{url}");
        }
        for url in ["http://a.org.evil/1", "https://b.org/", "http://b.org/wx", "http://c.org/", ""] {
            assert!(!chosen.holds(url), "{url}");
        }
    }
}
