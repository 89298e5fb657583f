//! What can go wrong between ranks.

/// Why ranks could not begin a run together, or why it ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommError {
    /// Another rank has ended.
    #[error("rank {rank} has ended: {why}")]
    Ended {
        /// Its number.
        rank: usize,
        /// What it said.
        why: String,
    },
    /// Ranks would not compute the same run.
    #[error("rank {rank} has another {what} than rank 0: {theirs}, and not {first}; all ranks need the same")]
    Differs {
        /// The first that differs.
        rank: usize,
        /// In what.
        what: String,
        /// What it has.
        theirs: String,
        /// What rank 0 has.
        first: String,
    },
    /// Ranks have computed something else, though they should not.
    #[error(
        "rank {rank} has computed other weights than rank 0 in step {step}: their machines or programs differ, or one of them fails"
    )]
    Diverged {
        /// The first that differs.
        rank: usize,
        /// The step.
        step: u64,
    },
    /// No binary tree has so many leaves.
    #[error("{ranks} ranks: their number must be a power of two")]
    Number {
        /// How many there are.
        ranks: usize,
    },
    /// There are not enough shards.
    #[error(
        "{ranks} ranks need at least as many shards, and `shards` is {shards}: set it to {ranks} or more in the config"
    )]
    Shards {
        /// How many ranks there are.
        ranks: usize,
        /// How many shards.
        shards: usize,
    },
    /// Something that one rank alone can do.
    #[error("{what} on one rank alone, and there are {ranks}")]
    OneRankOnly {
        /// What, in words.
        what: &'static str,
        /// How many ranks there are.
        ranks: usize,
    },
    /// The transport failed.
    #[error("ranks do not reach each other: {0}")]
    Transport(String),
}
