//! `--drafts`, and how good they were.

use koan_generate::{Counters, Drafts};

/// Where guesses of the next tokens come from.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct DraftsArg {
    /// Guess the next tokens, and check several in one pass, where that is likely to pay: `text`: they go on as they did where the last
    /// ones stood before; `multi-token`: by the model's module that predicts the token after the next; `off`: don't. What comes out is the
    /// same to the bit
    #[arg(long, value_enum, default_value_t = Source::Text, value_name = "SOURCE", hide_possible_values = true)]
    drafts: Source,
}

/// The names of [`Drafts`].
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Source {
    Off,
    Text,
    MultiToken,
}

impl DraftsArg {
    pub(crate) fn drafts(self) -> Drafts {
        match self.drafts {
            Source::Off => Drafts::Off,
            Source::Text => Drafts::Text,
            Source::MultiToken => Drafts::MultiToken,
        }
    }
}

/// How good the guesses were, after a comma; nothing where there were none.
pub(crate) fn in_words(counters: Counters) -> String {
    match (counters.draft_acceptance(), counters.tokens_per_pass()) {
        (Some(right), Some(tokens)) => {
            format!(
                ", {tokens:.2} tokens a pass: {:.0}% of {} drafted were right",
                100.0 * right,
                counters.drafted
            )
        }
        _ => String::new(),
    }
}
