//! What every generator shares: the split into training and test problems, and lists of levels.

use crate::DataError;
use std::fmt;
use std::str::FromStr;

/// Which problems to generate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// Nine in ten, by a fixed hash of what the problem asks.
    #[default]
    Train,
    /// The others.
    Test,
    /// All of them.
    All,
}

impl Split {
    /// Whether a problem of this [`stable_hash`] is on this side.
    pub(crate) fn holds(self, hash: u64) -> bool {
        let is_test = hash.is_multiple_of(10);
        match self {
            Self::Train => !is_test,
            Self::Test => is_test,
            Self::All => true,
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Test => "test",
            Self::All => "all",
        })
    }
}

impl FromStr for Split {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        [Self::Train, Self::Test, Self::All]
            .into_iter()
            .find(|split| split.to_string() == text)
            .ok_or_else(|| DataError::Split { split: text.to_owned() })
    }
}

/// A hash that is the same in every version of this program and on every machine. Each word goes through the
/// finalizer of SplitMix64 (Steele et al. 2014).
pub fn stable_hash(words: impl IntoIterator<Item = u64>) -> u64 {
    words.into_iter().fold(0, |hash, word| {
        let mut x = (hash ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    })
}

/// Reads levels such as `3`, `1-4` or `1-3,6`, of which there are `n_levels`.
///
/// # Errors
/// Levels that do not exist, or are not written like this.
pub fn parse_levels(text: &str, n_levels: usize) -> Result<Vec<usize>, DataError> {
    let error = || DataError::Levels { levels: text.to_owned(), n_levels };
    let level = |text: &str| {
        text.trim().parse().ok().filter(|level| (1..=n_levels).contains(level)).ok_or_else(error)
    };
    let mut levels = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        levels.extend(level(first)?..=level(last)?);
    }
    check_levels(&levels, n_levels).map_err(|_| error())?;
    Ok(levels)
}

/// Checks that there are levels, that each exists, and that none is named twice.
pub(crate) fn check_levels(levels: &[usize], n_levels: usize) -> Result<(), DataError> {
    let is_new = |(turn, level)| (1..=n_levels).contains(level) && !levels[..turn].contains(level);
    if !levels.is_empty() && levels.iter().enumerate().all(is_new) {
        return Ok(());
    }
    let levels = levels.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    Err(DataError::Levels { levels, n_levels })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_a_list() {
        assert_eq!(parse_levels("1-3, 6", 12).expect("levels"), [1, 2, 3, 6]);
        for bad in ["", "0", "13", "1-", "3-1", "a", "1,1", "1-3,2", "1-99999999999999999999"] {
            let error = parse_levels(bad, 12).expect_err(bad).to_string();
            assert_eq!(
                error,
                format!("levels `{bad}`: use numbers from 1 to 12, such as `1-3,6`, each once")
            );
        }
    }

    #[test]
    fn splits_have_names() {
        for split in [Split::Train, Split::Test, Split::All] {
            assert_eq!(split.to_string().parse::<Split>().expect("its name"), split);
        }
        assert!("tset".parse::<Split>().is_err());
    }
}
