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

/// Passes without a draft after which a module is asked no more: each of its passes costs a layer and a head.
const VAIN_PASSES: usize = 64;

/// Tokens that a module drafts for a sequence, at most.
pub(crate) const MOST_OF_MODULE: usize = 4;

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
    /// From the model's first module that predicts further tokens (DeepSeek-V3's).
    MultiToken,
}

impl Drafts {
    /// Bytes of the host that the drafts of a sequence of up to `tokens` tokens take.
    pub(crate) fn bytes(self, tokens: usize) -> usize {
        match self {
            Self::Text => Lookup::bytes(tokens),
            Self::Off | Self::MultiToken => 0,
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
    /// What a module guesses of the next tokens.
    pub(crate) guesses: Vec<u32>,
}

/// Makes the drafts of all requests.
pub(crate) struct Drafter {
    source: Source,
    schedule: Schedule,
    /// Passes, one after another, in which nothing paid.
    in_vain: usize,
}

pub(crate) enum Source {
    Off,
    Text,
    MultiToken,
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
            Drafts::MultiToken => Source::MultiToken,
        })
    }

    pub(crate) fn of(source: Source) -> Self {
        Self { source, schedule: Schedule::default(), in_vain: 0 }
    }

    /// Whether a module drafts.
    pub(crate) fn is_of_module(&self) -> bool {
        matches!(self.source, Source::MultiToken)
    }

    /// Whether a module drafts, and its guesses were not found to be worth nothing for long.
    pub(crate) fn asks_module(&self) -> bool {
        self.is_of_module() && self.in_vain < VAIN_PASSES
    }

    /// How many tokens a module is to draft for a sequence, of up to `most`.
    pub(crate) fn length_of_module(&self, most: usize, expected: &mut Expected) -> usize {
        self.schedule.length(0, most, expected)
    }

    /// Compares a module's guesses with what was sampled, and forgets them.
    pub(crate) fn compare(&mut self, state: &mut State, sampled: &[u32]) {
        for (class, (guess, token)) in state.guesses.drain(..).zip(sampled).enumerate() {
            self.schedule.observe(class, guess == *token);
            if guess != *token {
                break;
            }
        }
    }

    /// Takes note of a pass, and whether anything was drafted in it.
    pub(crate) fn count_pass(&mut self, drafted: bool) {
        self.in_vain = if drafted { 0 } else { self.in_vain + 1 };
    }

    /// Forgets how good its guesses were.
    pub(crate) fn forget(&mut self) {
        (self.schedule, self.in_vain) = (Schedule::default(), 0);
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
            Source::MultiToken => {
                let n = self.schedule.length(0, most.min(state.guesses.len()), expected);
                state.guesses[..n].to_vec()
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
