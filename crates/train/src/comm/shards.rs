//! The parts of an update, and whose they are.

use std::ops::Range;

use super::{CommError, Ranks};

/// Into how many parts updates are cut, and for how many ranks: what memory and time depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Shards, a power of two.
    pub shards: usize,
    /// Ranks, a power of two that is not larger.
    pub ranks: usize,
}

impl Parts {
    /// One shard, on one rank.
    pub const ONE: Self = Self { shards: 1, ranks: 1 };

    /// Shards that each rank computes.
    pub fn of_each_rank(self) -> usize {
        (self.shards / self.ranks).max(1)
    }

    /// The most of `n` that a rank gets, where things are dealt in turn.
    pub fn most_of(self, n: usize) -> usize {
        n.min(n.div_ceil(self.shards) * self.of_each_rank())
    }
}

/// The shards of updates, and the ranks that compute them: each a run of them, one after another.
#[derive(Clone)]
pub struct Shards {
    n: usize,
    ranks: Ranks,
}

impl Shards {
    /// Of `n` shards, a power of two.
    ///
    /// # Errors
    /// If there are more ranks than shards.
    pub fn new(n: usize, ranks: Ranks) -> Result<Self, CommError> {
        if ranks.ranks() > n {
            return Err(CommError::Shards { ranks: ranks.ranks(), shards: n });
        }
        Ok(Self { n, ranks })
    }

    /// So many shards, a power of two, computed by one rank.
    pub fn of_one_rank(n: usize) -> Self {
        Self { n, ranks: Ranks::alone() }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.n
    }

    /// The ranks that compute them.
    pub fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// How many, for how many ranks.
    pub fn parts(&self) -> Parts {
        Parts { shards: self.n, ranks: self.ranks.ranks() }
    }

    /// Those that this rank computes.
    pub fn own(&self) -> Range<usize> {
        let n = self.parts().of_each_rank();
        self.ranks.rank() * n..(self.ranks.rank() + 1) * n
    }

    /// The shard of what comes at `place`, where things are dealt in turn.
    pub fn in_turn(&self, place: usize) -> usize {
        place % self.n
    }

    /// Whether this rank computes what comes at `place`, where things are dealt in turn.
    pub fn owns(&self, place: usize) -> bool {
        self.own().contains(&self.in_turn(place))
    }
}
