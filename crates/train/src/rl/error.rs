//! What can be wrong with problems and rewards.

/// Why reinforcement learning could not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RlError {
    /// A problem's prompt is longer than the run allows for.
    #[error("the prompt of problem `{id}` has {tokens} tokens; rollout.max_prompt_tokens is {max}")]
    PromptTooLong {
        /// The problem.
        id: String,
        /// Its prompt's tokens.
        tokens: usize,
        /// The limit.
        max: usize,
    },
    /// A problem's prompt is empty.
    #[error("the prompt of problem `{id}` has no tokens: a first token has nothing to follow")]
    PromptEmpty {
        /// The problem.
        id: String,
    },
    /// The rewards do not work.
    #[error(
        "no completion of the last {steps} steps could be judged, so nothing is learned; checkpoints of earlier steps are kept; {reason}"
    )]
    NothingJudged {
        /// Steps in a row.
        steps: usize,
        /// What a reward says of the last.
        reason: String,
    },
}
