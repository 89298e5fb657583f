//! Drafts: guesses of the tokens that follow, which the model checks in one pass (arXiv:2211.17192).
//!
//! A sequence feeds the token that it sampled last, and after it the tokens of a draft. The row of each gives what the model
//! samples after it; a draft's token is right exactly if it is the token that was sampled at its place, and everything after
//! the first that is wrong is thrown away. Since a row's bits depend on no neighbour, and a random number on the place of its
//! token alone ([`uniform`](crate::uniform)), what is sampled has the same bits as without drafts, whatever the guesses:
//! nothing is accepted with a probability, and drafts decide about speed alone.
//!
//! - `lookup.rs`: drafts from the text itself,
//! - `schedule.rs`: how many tokens are drafted.
//!
//! A source of drafts is a variant of [`Source`], which [`Drafter::draft`] asks before each pass. What it keeps of a
//! request is in [`State`].

mod lookup;
mod schedule;
#[cfg(test)]
mod tests;

use self::{lookup::Lookup, schedule::Schedule};

pub(crate) use self::schedule::{Expected, overhead};

/// Tokens drafted for a sequence in one pass, at most.
pub(crate) const MOST: usize = 15;

/// Where drafts come from: guesses of the next tokens, which the model checks in one pass. What is sampled is the same bits
/// with any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drafts {
    /// There are none.
    #[default]
    Off,
    /// From the prompt and what was sampled: where the last tokens stood before, what followed them there.
    Text,
}

impl Drafts {
    /// Bytes of the host that the drafts of a sequence of up to `tokens` tokens take.
    pub(crate) fn bytes(self, tokens: usize) -> usize {
        match self {
            Self::Off => 0,
            Self::Text => Lookup::bytes(tokens),
        }
    }
}

/// The tokens of a sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    /// Those it was given.
    pub(crate) prompt: &'a [u32],
    /// Those it sampled.
    pub(crate) completion: &'a [u32],
}

impl Text<'_> {
    fn len(&self) -> usize {
        self.prompt.len() + self.completion.len()
    }

    fn token(&self, i: usize) -> u32 {
        self.prompt.get(i).copied().unwrap_or_else(|| self.completion[i - self.prompt.len()])
    }
}

/// What a source keeps of a request.
#[derive(Debug, Default)]
pub(crate) struct State {
    lookup: Option<Lookup>,
}

/// Makes the drafts of all requests.
pub(crate) struct Drafter {
    source: Source,
    schedule: Schedule,
}

pub(crate) enum Source {
    Off,
    Text,
    /// What a test says, as many tokens as it likes.
    #[cfg(test)]
    Script(Script),
}

#[cfg(test)]
pub(crate) type Script = Box<dyn FnMut(Text<'_>, usize) -> Vec<u32>>;

impl Drafter {
    pub(crate) fn new(drafts: Drafts) -> Self {
        Self::of(match drafts {
            Drafts::Off => Source::Off,
            Drafts::Text => Source::Text,
        })
    }

    pub(crate) fn of(source: Source) -> Self {
        Self { source, schedule: Schedule::default() }
    }

    /// Forgets how good its guesses were.
    pub(crate) fn forget(&mut self) {
        self.schedule = Schedule::default();
    }

    /// A draft of up to `most` tokens that follow `text`, which never has more than `longest`; none where none pays in a
    /// pass of which so much is `expected`.
    pub(crate) fn draft(
        &mut self,
        text: Text<'_>,
        longest: usize,
        state: &mut State,
        most: usize,
        expected: &mut Expected,
    ) -> Vec<u32> {
        match &mut self.source {
            Source::Off => Vec::new(),
            Source::Text => {
                let lookup = state.lookup.get_or_insert_with(|| Lookup::new(longest));
                lookup.read(text, &mut self.schedule);
                let Some(class) = lookup.class() else { return Vec::new() };
                lookup.draft(text, self.schedule.length(class, most, expected))
            }
            #[cfg(test)]
            Source::Script(script) => {
                let mut draft = script(text, most);
                draft.truncate(most);
                draft
            }
        }
    }
}
