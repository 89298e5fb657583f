//! Which domains are mathematics, and which prefixes of their URLs.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    path::Path,
};

use koan_data::rows::Rows;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    pool::{self, Place, Pool},
    scores,
    settings::Iterate,
};
use crate::{MineError, address::Address};

/// Directories of a path that a prefix has, at most.
const MAX_DEPTH: usize = 4;
/// Prefixes of a domain that are counted, at most; deeper ones count for those above them.
const MAX_PREFIXES: usize = 1000;
/// What is listed, at most: memory does not grow with the crawl. See [`Bounds`].
const BOUNDS: Bounds = Bounds { domains: 100_000, prefixes: 1_000_000, shown: 20_000 };
/// Documents that are shown for a prefix: of those kept, and of those not kept.
const SAMPLES: usize = 3;
/// Characters of a document that are shown.
const SHOWN: usize = 240;

/// How many pages there are, and how many of them were kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) pages: u32,
    pub(super) kept: u32,
}

impl Count {
    fn add(&mut self, kept: bool) {
        self.pages += 1;
        self.kept += u32::from(kept);
    }

    pub(super) fn share(self) -> f64 {
        f64::from(self.kept) / f64::from(self.pages.max(1))
    }

    /// The lower end of Wilson's interval of the share, at `z` standard deviations.
    pub(super) fn at_least(self, z: f64) -> f64 {
        let n = f64::from(self.pages.max(1));
        let p = self.share();
        let middle = p + z * z / (2.0 * n);
        let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
        ((middle - half) / (1.0 + z * z / n)).max(0.0)
    }

    /// Its upper end.
    fn at_most(self, z: f64) -> f64 {
        1.0 - Self { pages: self.pages, kept: self.pages - self.kept }.at_least(z)
    }
}

/// What is listed, at most, so that a list takes some hundred MB at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Domains: those of which most pages were kept.
    domains: usize,
    /// Prefixes of all domains, some 150 bytes each; behind them only hosts are added.
    prefixes: usize,
    /// Prefixes that are shown with samples, some 3 kB each: those of which most pages were kept.
    shown: usize,
}

/// The domains that are mathematics, by their hashes, and whether they are listed.
#[derive(Debug, Default)]
pub(super) struct Domains {
    maths: HashMap<u64, bool>,
}

/// A document that is shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sample {
    hash: u64,
    pub(super) url: String,
    pub(super) text: String,
}

/// A prefix of URLs: `host/directory/`.
#[derive(Clone, Debug, Default)]
pub(super) struct Prefix {
    pub(super) domain: String,
    pub(super) name: String,
    pub(super) count: Count,
    /// Whether the rules choose it.
    pub(super) chosen: bool,
    pub(super) kept: Vec<Sample>,
    pub(super) left: Vec<Sample>,
}

impl Domains {
    /// Counts the domains of all scores. Memory is some 30 bytes a domain.
    pub(super) fn judge(folder: &Path, cut: f32, pool: &Pool, settings: &Iterate) -> Result<Self, MineError> {
        let mut counts: HashMap<u64, Count> = HashMap::new();
        for shard in 0..pool.files.len() {
            for score in scores::read(folder, shard)? {
                let score = score?;
                counts.entry(score.domain).or_default().add(score.share >= cut);
            }
        }
        let none = xxh3_64(b"");
        let is_maths = |(domain, count): &(u64, Count)| {
            *domain != none
                && count.pages >= settings.min_pages
                && count.at_least(settings.confidence) > settings.domain_share
        };
        let maths: Vec<(u64, Count)> = counts.into_iter().filter(is_maths).collect();
        Ok(Self::listing(maths, BOUNDS.domains))
    }

    /// Of these domains those are listed of which most was kept.
    fn listing(mut maths: Vec<(u64, Count)>, most: usize) -> Self {
        maths.sort_unstable_by_key(|(domain, count)| (Reverse(count.kept), *domain));
        let listed = (0..).map(|place| place < most);
        Self { maths: maths.into_iter().map(|(domain, _)| domain).zip(listed).collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.maths.len()
    }

    pub(super) fn hold(&self, domain: u64) -> bool {
        self.maths.contains_key(&domain)
    }

    /// Domains that are not listed, because too many are.
    pub(super) fn unlisted(&self) -> usize {
        self.maths.values().filter(|listed| !**listed).count()
    }

    /// The prefixes of these domains' URLs, by domain; those of too few pages are left out. The documents are read twice: to count, and for
    /// the samples.
    pub(super) fn prefixes(
        &self,
        folder: &Path,
        cut: f32,
        pool: &Pool,
        settings: &Iterate,
    ) -> Result<Vec<Prefix>, MineError> {
        self.bounded_prefixes(folder, cut, pool, settings, BOUNDS)
    }

    fn bounded_prefixes(
        &self,
        folder: &Path,
        cut: f32,
        pool: &Pool,
        settings: &Iterate,
        bounds: Bounds,
    ) -> Result<Vec<Prefix>, MineError> {
        let mut domains: BTreeMap<String, BTreeMap<String, Prefix>> = BTreeMap::new();
        let mut room = bounds.prefixes;
        self.each(folder, cut, pool, |place, kept| {
            count(domains.entry(place.domain()).or_default(), &place, kept, &mut room);
        })?;
        let mut listed = Vec::new();
        for (domain, mut prefixes) in domains {
            let whole = total(&prefixes);
            prefixes.retain(|_, prefix| prefix.count.pages >= settings.min_pages);
            let none: Vec<String> = prefixes
                .iter()
                .filter(|(_, prefix)| prefix.count.at_most(settings.confidence) < settings.domain_share)
                .map(|(name, _)| name.clone())
                .collect();
            let mut last_chosen: Option<String> = None;
            for (name, mut prefix) in prefixes {
                let inside = last_chosen.as_ref().is_some_and(|last| name.starts_with(last));
                // Where a part is no mathematics, the parts are chosen from instead.
                let is_mixed = none.iter().any(|part| part.starts_with(&name));
                if !inside && !is_mixed && is_chosen(prefix.count, whole, settings) {
                    prefix.chosen = true;
                    last_chosen = Some(name.clone());
                }
                prefix.domain.clone_from(&domain);
                prefix.name = name;
                listed.push(prefix);
            }
        }
        let mut most: Vec<usize> = (0..listed.len()).collect();
        most.sort_by_key(|place| Reverse(listed[*place].count.kept));
        let shown: HashMap<String, usize> =
            most.into_iter().take(bounds.shown).map(|place| (listed[place].name.clone(), place)).collect();
        self.each(folder, cut, pool, |place, kept| {
            for name in names(path(&place.url).as_str()) {
                if let Some(shown) = shown.get(name) {
                    listed[*shown].show(&place, kept);
                }
            }
        })?;
        Ok(listed)
    }

    /// Hands `each` the documents of the domains that are listed, and whether each was kept.
    fn each(
        &self,
        folder: &Path,
        cut: f32,
        pool: &Pool,
        mut each: impl FnMut(Place, bool),
    ) -> Result<(), MineError> {
        for (shard, path) in pool.files.iter().enumerate() {
            let mut scores = scores::read(folder, shard)?;
            for row in Rows::open(path)? {
                let (row, score) = (row?, scores.next_score()?);
                if self.maths.get(&score.domain) == Some(&true) {
                    each(pool::parse(row)?, score.share >= cut);
                }
            }
        }
        Ok(())
    }
}

impl Prefix {
    /// Shows a document, if its hash is one of the smallest.
    fn show(&mut self, place: &Place, kept: bool) {
        let samples = if kept { &mut self.kept } else { &mut self.left };
        let hash = xxh3_64(place.url.as_bytes());
        if samples.len() < SAMPLES || samples.last().is_some_and(|last| hash < last.hash) {
            samples.push(Sample {
                hash,
                url: place.url.clone(),
                text: place.text.chars().take(SHOWN).collect(),
            });
            samples.sort();
            samples.truncate(SAMPLES);
        }
    }
}

/// The pages of all hosts.
fn total(prefixes: &BTreeMap<String, Prefix>) -> Count {
    let hosts = prefixes.iter().filter(|(name, _)| name.find('/') == Some(name.len() - 1));
    hosts.fold(Count::default(), |sum, (_, prefix)| Count {
        pages: sum.pages + prefix.count.pages,
        kept: sum.kept + prefix.count.kept,
    })
}

/// The rules of `--auto`, for a prefix of which no part is surely no mathematics: most of it was kept; or less of it, but nearly all
/// that was kept of its domain, while a good part of the domain lies elsewhere: there the classifier knows a part of what the prefix
/// holds.
fn is_chosen(prefix: Count, domain: Count, settings: &Iterate) -> bool {
    let least = prefix.at_least(settings.confidence);
    let stands_out = 10 * prefix.kept >= 9 * domain.kept && 5 * prefix.pages <= 4 * domain.pages;
    least >= settings.prefix_share || stands_out && least > settings.domain_share
}

/// Counts a document for each prefix of its URL. `room` is how many prefixes may be added that are no hosts.
fn count(prefixes: &mut BTreeMap<String, Prefix>, place: &Place, kept: bool, room: &mut usize) {
    for (depth, name) in names(path(&place.url).as_str()).enumerate() {
        if !prefixes.contains_key(name) {
            if prefixes.len() >= MAX_PREFIXES || depth > 0 && *room == 0 {
                break;
            }
            *room = room.saturating_sub(1);
        }
        prefixes.entry(name.to_owned()).or_default().count.add(kept);
    }
}

/// The host and path of an URL.
fn path(url: &str) -> String {
    let mut url = without_scheme(url);
    url.truncate(url.find(['?', '#']).unwrap_or(url.len()));
    url
}

/// The prefixes of a host and path.
fn names(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..=at]).take(MAX_DEPTH + 1)
}

/// An URL in its normal form, without its scheme: what prefixes are prefixes of.
pub(super) fn without_scheme(url: &str) -> String {
    let url = Address::of(url).normal;
    url.split_once("://").map_or(url.clone(), |(_, rest)| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_wilsons() {
        let bound = |kept, pages| Count { pages, kept }.at_least(1.96);
        // Wilson (1927): 10 of 100 lie between .0552 and .1744.
        assert!((bound(10, 100) - 0.0552).abs() < 1e-4);
        assert!((bound(0, 10)).abs() < 1e-9 && bound(10, 10) < 0.75 && bound(1000, 1000) > 0.99);
        assert!((Count { pages: 50, kept: 20 }.at_least(0.0) - 0.4).abs() < 1e-9);
    }

    /// A pool of a file with pages of two domains, all kept, and its scores.
    fn pool(folder: &Path) -> Pool {
        let row = |i: usize| {
            let host = ["a.org", "b.org", "b.org"][i % 3];
            serde_json::json!({"url": format!("http://{host}/p{}/{i}", i % 5), "text": format!("page {i}"), "domain": host})
        };
        let rows: Vec<serde_json::Value> = (0..90).map(row).collect();
        let path = folder.join("pool.jsonl");
        koan_files::jsonl::write(&path, &rows).expect("written");
        let scores: Vec<u8> = rows
            .iter()
            .flat_map(|row| {
                let domain = xxh3_64(row["domain"].as_str().expect("a domain").as_bytes());
                [&1f32.to_le_bytes()[..], &4u32.to_le_bytes(), &domain.to_le_bytes()].concat()
            })
            .collect();
        std::fs::write(folder.join("00000.bin"), scores).expect("written");
        Pool { files: vec![path] }
    }

    #[test]
    fn where_a_part_of_a_site_is_no_mathematics_the_other_parts_are_chosen() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pool.jsonl");
        // Of three parts of a site the first is kept, the second is not, of the third a half is.
        let pages: Vec<(usize, usize)> = (0..90).map(|i| (i % 3, i)).collect();
        let row = |(part, i): &(usize, usize)| serde_json::json!({"url": format!("http://a.org/p{part}/{i}"), "text": "page", "domain": "a.org"});
        koan_files::jsonl::write(&path, pages.iter().map(row)).expect("written");
        let score = |(part, i): &(usize, usize)| {
            let kept = *part == 0 || *part == 2 && i % 2 == 0;
            [
                &f32::from(u8::from(kept)).to_le_bytes()[..],
                &4u32.to_le_bytes(),
                &xxh3_64(b"a.org").to_le_bytes(),
            ]
            .concat()
        };
        std::fs::write(folder.path().join("00000.bin"), pages.iter().flat_map(score).collect::<Vec<u8>>())
            .expect("written");
        let settings: Iterate = toml::from_str("documents = \"pool\"\nprefix_share = 0.4").expect("a config");
        let pool = Pool { files: vec![path] };
        let found = Domains::judge(folder.path(), 0.5, &pool, &settings).expect("judged");
        let listed = found.prefixes(folder.path(), 0.5, &pool, &settings).expect("listed");
        let marks: Vec<(&str, bool)> =
            listed.iter().map(|prefix| (prefix.name.as_str(), prefix.chosen)).collect();
        assert_eq!(
            marks,
            [("a.org/", false), ("a.org/p0/", true), ("a.org/p1/", false), ("a.org/p2/", true)]
        );
    }

    #[test]
    fn a_list_is_bounded_and_shows_what_most_was_kept_of() {
        let folder = tempfile::tempdir().expect("a folder");
        let pool = pool(folder.path());
        let settings: Iterate = toml::from_str("documents = \"pool\"").expect("a config");
        let hash = |domain: &str| xxh3_64(domain.as_bytes());
        let count = |n| Count { pages: n, kept: n };
        let maths = vec![(hash("a.org"), count(30)), (hash("b.org"), count(60))];
        let list = |domains: usize, prefixes: usize, shown: usize| {
            let found = Domains::listing(maths.clone(), domains);
            let bounds = Bounds { domains, prefixes, shown };
            let listed =
                found.bounded_prefixes(folder.path(), 0.5, &pool, &settings, bounds).expect("listed");
            let row = |prefix: &Prefix| (prefix.name.clone(), prefix.count.pages, prefix.kept.len());
            (found.unlisted(), listed.iter().map(row).collect::<Vec<_>>())
        };
        let (unlisted, all) = list(10, 100, 100);
        assert_eq!(
            (unlisted, all.len()),
            (0, 7),
            "two hosts, and the paths of b.org, which have twelve pages each: {all:?}"
        );
        assert!(all.iter().all(|(_, _, shown)| *shown == 3));
        let (unlisted, fewer) = list(1, 100, 2);
        assert_eq!((unlisted, fewer.len()), (1, 6), "only b.org: {fewer:?}");
        assert_eq!(fewer.iter().filter(|(_, _, shown)| *shown > 0).count(), 2);
        assert_eq!(fewer[0], ("b.org/".into(), 60, 3));
        let (_, hosts) = list(10, 0, 100);
        assert_eq!(hosts, [("a.org/".into(), 30, 3), ("b.org/".into(), 60, 3)]);
    }
}
