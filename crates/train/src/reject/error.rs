//! Why rejection sampling could not go on.

/// Why rejection sampling ended without data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RejectError {
    /// The rewards do not work.
    #[error(
        "no completion of the last {steps} steps could be judged, so none can be kept; what was sampled before is kept, and \
         --resume goes on from there; {reason}"
    )]
    NothingJudged {
        /// Steps in a row.
        steps: usize,
        /// What a reward says of one.
        reason: String,
    },
    /// A server gave no answer.
    #[error(
        "no completion {sample} of problem `{problem}` came: {reason}; those that did are kept, and --resume asks for the others"
    )]
    Unanswered {
        /// The problem's id.
        problem: String,
        /// The completion's number.
        sample: u64,
        /// Why.
        reason: String,
    },
    /// A server can't be asked.
    #[error("[server]: {0}")]
    Server(
        /// Why.
        String,
    ),
    /// All was refused.
    #[error(
        "none of {completions} completions was kept: {why}; ask less of them ([filter], [keep]), sample more of each problem \
         (rollout.group_size), or give them more room (rollout.max_new_tokens)"
    )]
    NothingKept {
        /// Completions sampled.
        completions: u64,
        /// How many by what.
        why: String,
    },
}
