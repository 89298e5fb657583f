//! Which domains are mathematics, and which prefixes of their URLs.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
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
}

/// The domains that are mathematics, by their hashes.
#[derive(Debug, Default)]
pub(super) struct Domains {
    maths: HashSet<u64>,
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
        Ok(Self { maths: counts.into_iter().filter(is_maths).map(|(domain, _)| domain).collect() })
    }

    pub(super) fn len(&self) -> usize {
        self.maths.len()
    }

    pub(super) fn hold(&self, domain: u64) -> bool {
        self.maths.contains(&domain)
    }

    /// The prefixes of these domains' URLs, by domain; those of too few pages are left out.
    pub(super) fn prefixes(
        &self,
        folder: &Path,
        cut: f32,
        pool: &Pool,
        settings: &Iterate,
    ) -> Result<Vec<Prefix>, MineError> {
        let mut domains: BTreeMap<String, BTreeMap<String, Prefix>> = BTreeMap::new();
        for (shard, path) in pool.files.iter().enumerate() {
            let mut scores = scores::read(folder, shard)?;
            for row in Rows::open(path)? {
                let score = scores.next_score()?;
                if self.hold(score.domain) {
                    let place: Place = pool::parse(row?)?;
                    add(domains.entry(place.domain()).or_default(), &place, score.share >= cut);
                } else {
                    let _passed = row?;
                }
            }
        }
        let mut listed = Vec::new();
        for (domain, mut prefixes) in domains {
            let whole = total(&prefixes);
            prefixes.retain(|_, prefix| prefix.count.pages >= settings.min_pages);
            let mut last_chosen: Option<String> = None;
            for (name, mut prefix) in prefixes {
                let inside = last_chosen.as_ref().is_some_and(|last| name.starts_with(last));
                if !inside && is_chosen(prefix.count, whole, settings) {
                    prefix.chosen = true;
                    last_chosen = Some(name.clone());
                }
                prefix.domain.clone_from(&domain);
                prefix.name = name;
                listed.push(prefix);
            }
        }
        Ok(listed)
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

/// The rules of `--auto`: most of a prefix was kept; or less of it, but nearly all that was kept of its domain, while a good part of
/// the domain lies elsewhere: there the classifier knows a part of what the prefix holds.
fn is_chosen(prefix: Count, domain: Count, settings: &Iterate) -> bool {
    let least = prefix.at_least(settings.confidence);
    let stands_out = 10 * prefix.kept >= 9 * domain.kept && 5 * prefix.pages <= 4 * domain.pages;
    least >= settings.prefix_share || stands_out && least > settings.domain_share
}

/// Counts a document for each prefix of its URL.
fn add(prefixes: &mut BTreeMap<String, Prefix>, place: &Place, kept: bool) {
    let url = without_scheme(&place.url);
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let ends = path.match_indices('/').map(|(at, _)| at + 1).take(MAX_DEPTH + 1);
    for end in ends {
        let name = &path[..end];
        if !prefixes.contains_key(name) && prefixes.len() >= MAX_PREFIXES {
            break;
        }
        let prefix = prefixes.entry(name.to_owned()).or_default();
        prefix.count.add(kept);
        let samples = if kept { &mut prefix.kept } else { &mut prefix.left };
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
}
